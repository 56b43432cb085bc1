"""Cells that may lie in a dark tube, and which way it runs: second derivatives at two widths.

Across a dark tube the signal curves up in two directions and stays flat along the third (Frangi et al. 1998 use the
same eigenvalues). Second differences are taken only where the smoothed signal is a local low.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .work import COARSE, Work

SIGMAS_CELLS = (0.8, 1.5)
"""Smoothing before the differences: voids of about 2 to 5 and 5 to 9 mm."""
LEAST_CURVATURE = 0.07
"""Of the weaker curvature across, in relative signal (scaled by sigma squared)."""
MOST_ALONG = 0.45
"""Curvature along the tube over the weaker one across."""
MOST_SIGNAL = 0.8
NEIGHBOURHOOD_MM, LEAST_AROUND = 9.0, 0.45
"""Mean signal within so many mm: beside air and in large cavities there is nothing to be dark against."""
MOST_CELLS, MOST_CELLS_FLAT = 9000, 1500
LEAST_MARKED, MARKED_SIGMA_CELLS = 0.2, 1.2
"""Probability from which the network's cells are taken up, and their smoothing."""


@dataclass(frozen=True)
class Tubes:
    """Points that may lie in tubes: (n, 3) grid mm, (n,) strength, (n, 3) unit direction in grid mm (sign free)."""

    points: np.ndarray
    strength: np.ndarray
    direction: np.ndarray

    def part(self, which: np.ndarray) -> Tubes:
        """Those that `which` (mask or indices) names."""
        return Tubes(self.points[which], self.strength[which], self.direction[which])


def find_tubes(work: Work, inside: np.ndarray | None = None) -> Tubes:
    """The strongest tube cells in the body; `inside` is bool on the scan's voxels, or None for everywhere."""
    flat = work.flat
    lift = np.array([0.0, 1.0, 1.0]) if flat else np.ones(3)
    around = work.cells
    for axis in np.flatnonzero(lift):
        reach = max(1, round(2.0 * NEIGHBOURHOOD_MM / float(work.cell_mm[2 - axis])))
        around = ndimage.uniform_filter1d(around, reach, axis=int(axis), mode="nearest")
    body = _fine_body(work) & (around > LEAST_AROUND)
    best = Tubes(np.empty((0, 3)), np.empty(0), np.empty((0, 3)))
    parts = []
    for sigma in SIGMAS_CELLS:
        smooth = ndimage.gaussian_filter(work.cells, sigma * lift, mode="nearest", truncate=2.5)
        low = (smooth < MOST_SIGNAL) & body
        index = np.argwhere(low)
        if len(index):
            parts.append(_at(work, smooth, index, sigma, flat))
    if parts:
        best = Tubes(*(np.concatenate([getattr(p, name) for p in parts])
                       for name in ("points", "strength", "direction")))
    best = _within(work, best, inside)
    if len(best.points):
        best = Tubes(best.points, best.strength * (0.2 + _continued(work, best)), best.direction)
    most = MOST_CELLS_FLAT if flat else MOST_CELLS
    if len(best.points) > most:
        best = best.part(np.argpartition(-best.strength, most)[:most])
    return best


def tubes_of(work: Work, shaft: np.ndarray, inside: np.ndarray | None = None) -> Tubes:
    """The cells that the network marks (`shaft`, (K, J, I) probability), with the way that the marked tube runs."""
    smooth = 1.0 - ndimage.gaussian_filter(shaft, MARKED_SIGMA_CELLS, truncate=2.5)
    index = np.argwhere(shaft > LEAST_MARKED)
    if not len(index):
        return Tubes(np.empty((0, 3)), np.empty(0), np.empty((0, 3)))
    tubes = _at(work, smooth, index, MARKED_SIGMA_CELLS, False)
    at = work.cell_index(tubes.points)
    return _within(work, Tubes(tubes.points, shaft[tuple(at.T)].astype(float), tubes.direction), inside)


def _within(work: Work, tubes: Tubes, inside: np.ndarray | None) -> Tubes:
    if inside is None or not len(tubes.points):
        return tubes
    index = np.rint(tubes.points / work.spacing).astype(int)[:, ::-1]
    return tubes.part(inside[tuple(np.clip(index, 0, np.array(inside.shape) - 1).T)])


def _continued(work: Work, tubes: Tubes) -> np.ndarray:
    """(n,) part of the places up to 14 mm before and behind each cell, along its direction, where tube cells that run
    the same way lie: high on a line, low in texture."""
    shape = np.array(work.cells.shape)
    number = np.full(int(np.prod(shape)), -1, np.int32)
    order = np.argsort(tubes.strength)
    number[_cell_number(work, tubes.points[order], shape)] = order
    part = np.zeros(len(tubes.points), np.float32)
    direction = tubes.direction.astype(np.float32)
    steps = (-14.0, -10.5, -7.0, -3.5, 3.5, 7.0, 10.5, 14.0)
    for step in steps:
        there = number[_cell_number(work, tubes.points + step * tubes.direction, shape)]
        aligned = np.abs(np.einsum("na,na->n", direction, direction[there])) > 0.9
        part += (there >= 0) & aligned
    return part / len(steps)


def _cell_number(work: Work, points: np.ndarray, shape: np.ndarray) -> np.ndarray:
    index = work.cell_index(points)
    return (index[:, 0] * shape[1] + index[:, 1]) * shape[2] + index[:, 2]


def _fine_body(work: Work) -> np.ndarray:
    fine = (work.depth > 0.0)
    for axis in range(3):
        fine = fine.repeat(COARSE, axis=axis)
    return fine[:work.cells.shape[0], :work.cells.shape[1], :work.cells.shape[2]]


def _at(work: Work, smooth: np.ndarray, index: np.ndarray, sigma: float, flat: bool) -> Tubes:
    """Eigenvalues of the second differences at the cells of `index`; those that are no tube fall out."""
    axes = (1, 2) if flat else (0, 1, 2)
    padded = np.pad(smooth, 1, mode="edge")
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    values = padded.reshape(-1)
    here = (index + 1) @ strides
    n = len(axes)
    scale = sigma**2
    centre = values[here]
    diagonal = [values[here + strides[a]] + values[here - strides[a]] - 2.0 * centre for a in axes]
    keep = np.sum(diagonal, axis=0) * scale > LEAST_CURVATURE * (1.0 if flat else 1.6)
    here, index = here[keep], index[keep]
    matrix = np.zeros((len(here), n, n), np.float32)
    for row, a in enumerate(axes):
        matrix[:, row, row] = diagonal[row][keep]
        for column in range(row):
            s, t = strides[a], strides[axes[column]]
            mixed = 0.25 * (values[here + s + t] + values[here - s - t] - values[here + s - t] - values[here - s + t])
            matrix[:, row, column] = matrix[:, column, row] = mixed
    spacing = work.cell_mm[::-1][list(axes)]
    matrix *= (np.outer(1.0 / spacing, 1.0 / spacing) * float(np.mean(spacing)) ** 2 * scale).astype(np.float32)
    value, vector = np.linalg.eigh(matrix)
    across, along = value[:, 1], value[:, 0]
    good = (across > LEAST_CURVATURE) & (np.abs(along) < MOST_ALONG * across)
    direction = np.zeros((int(good.sum()), 3))
    direction[:, [2 - a for a in axes]] = vector[good][:, :, 0]
    dark = np.clip((MOST_SIGNAL - values[here][good]) / 0.4, 0.1, 1.0)
    return Tubes(work.cell_points(index[good]), (across[good] * dark).astype(float), direction)


