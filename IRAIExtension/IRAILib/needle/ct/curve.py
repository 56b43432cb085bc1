"""A needle as a polynomial across its own chord, fitted to the voxels round it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .space import Space

TUBE_MM = 3.0
"""Voxels farther than this from the axis (or more than `SLICES` above it) say nothing about it."""
SLICES = 1.8
GROUND_HU = 200.0
"""Soft tissue and enhanced blood stay below: what lies above pulls the axis towards itself."""
CEILING_HU = 3071.0
"""Where most scanners clip; brighter values would let single voxels rule the fit."""
MOST_DEGREE = 4
BIN_MM = 4.0
STAIR = 0.2
"""Of a slice: how far a piece's centre may lie off a straight needle that stays within few slices."""
NOISE_FLOOR_MM = 0.06
"""A bin's centre isn't better than this: a finer fit of the polynomial would follow streaks."""


@dataclass(frozen=True)
class Curve:
    """Axis of a needle in grid mm.

    Attributes:
        origin: (3,) middle of the chord.
        axes: (3, 3) rows: along the chord, and two across.
        across: (MOST_DEGREE + 1, 2) offsets across as polynomials of t / scale.
        scale: mm.
        ends: smallest and largest t, mm along the chord.
    """

    origin: np.ndarray
    axes: np.ndarray
    across: np.ndarray
    scale: float
    ends: tuple[float, float]

    def points(self, t: float | np.ndarray) -> np.ndarray:
        """(n, 3) grid mm at t."""
        t = np.atleast_1d(np.asarray(t, float))
        return self.origin + np.outer(t, self.axes[0]) + self._offset(t) @ self.axes[1:]

    def tangent(self, t: float) -> np.ndarray:
        """Unit vector towards larger t."""
        powers = np.arange(1, len(self.across))
        slope = (powers * (t / self.scale) ** (powers - 1) / self.scale) @ self.across[1:]
        vector = self.axes[0] + slope @ self.axes[1:]
        return vector / np.linalg.norm(vector)

    def local(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) t and (n, 3) vector from the axis at the same t, for (n, 3) grid mm."""
        relative = np.asarray(points) - self.origin
        t = relative @ self.axes[0]
        return t, (relative @ self.axes[1:].T - self._offset(t)) @ self.axes[1:]

    def _offset(self, t: np.ndarray) -> np.ndarray:
        return np.vander(t / self.scale, len(self.across), increasing=True) @ self.across

    @property
    def degree(self) -> int:
        """Highest power that is used."""
        return int(np.flatnonzero(np.abs(self.across).max(axis=1) > 0.0).max(initial=1))

    @property
    def length_mm(self) -> float:
        """Arc length."""
        points = self.points(np.linspace(*self.ends, 60))
        return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())

    @property
    def bow_mm(self) -> float:
        """Largest distance from the chord between the ends."""
        points = self.points(np.linspace(*self.ends, 60))
        chord = points[-1] - points[0]
        chord /= np.linalg.norm(chord)
        relative = points - points[0]
        return float(np.linalg.norm(relative - np.outer(relative @ chord, chord), axis=1).max())


def chord_axes(direction: np.ndarray) -> np.ndarray:
    """(3, 3) rows: the unit direction, a unit vector across it in the slice's plane, and the third, which holds what
    lies across slices."""
    d = direction / np.linalg.norm(direction)
    helper = np.eye(3)[2 if abs(d[2]) < 0.95 else int(np.argmin(np.abs(d)))]
    u = np.cross(d, helper)
    u /= np.linalg.norm(u)
    return np.stack([d, u, np.cross(d, u)])


def stretched(offset: np.ndarray, spacing: np.ndarray, tube_mm: float = TUBE_MM) -> np.ndarray:
    """(n,) distance from the axis in tube radii, where a thick slice widens the tube along that axis of the scan."""
    return np.linalg.norm(offset / np.maximum(tube_mm, SLICES * spacing), axis=1)


def fit_points(points: np.ndarray, weights: np.ndarray, degrees: tuple[int, int]) -> Curve:
    """A curve through (n, 3) weighted points, its chord by their main axis."""
    mean = np.average(points, axis=0, weights=weights)
    relative = points - mean
    _, vectors = np.linalg.eigh((relative * weights[:, None]).T @ relative)
    axes = chord_axes(vectors[:, -1])
    t = relative @ axes[0]
    scale = max(float(np.abs(t).max()), 1.0)
    columns = [_polynomial(t / scale, relative @ axis, weights, degree)
               for axis, degree in zip(axes[1:], degrees, strict=True)]
    return Curve(mean, axes, np.stack(columns, axis=1), scale, (float(t.min()), float(t.max())))


def _polynomial(x: np.ndarray, offset: np.ndarray, weights: np.ndarray, degree: int) -> np.ndarray:
    """(MOST_DEGREE + 1,) coefficients, the highest zero."""
    root = np.sqrt(weights)
    matrix = np.vander(x, degree + 1, increasing=True)
    found = np.linalg.lstsq(matrix * root[:, None], offset * root, rcond=None)[0]
    return np.pad(found, (0, MOST_DEGREE - degree))


def tube_voxels(space: Space, curve: Curve, margin_mm: float, tube_mm: float = TUBE_MM,
                others: tuple[Curve, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Voxels round the curve, from `margin_mm` before its first to after its last point.

    Voxels nearer to one of `others` than to the curve are left out.
    Returns: (n, 3) grid mm, (n,) HU.
    """
    low, high = curve.ends
    path = curve.points(np.linspace(low - margin_mm, high + margin_mm, 2 + int((high - low + 2 * margin_mm) / 2.0)))
    index, value = _near_path(space, path, tube_mm)
    points = index * space.spacing
    t, offset = curve.local(points)
    radius = stretched(offset, space.spacing, tube_mm)
    keep = (radius <= 1.0) & (t >= low - margin_mm) & (t <= high + margin_mm)
    points, value, radius = points[keep], value[keep], radius[keep]
    for other in others:
        t, offset = other.local(points)
        beside = (t >= other.ends[0] - 2.0) & (t <= other.ends[1] + 2.0)
        nearer = beside & (stretched(offset, space.spacing, tube_mm) < radius)
        points, value, radius = points[~nearer], value[~nearer], radius[~nearer]
    return points, value


def _near_path(space: Space, path: np.ndarray, tube_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) indices (i, j, k) of the voxels in boxes along the path, once each, and their HU."""
    shape = np.array(space.array.shape[::-1])
    reach = np.ceil((np.maximum(tube_mm, SLICES * space.spacing) + 1.5) / space.spacing).astype(int)
    box = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    centres = np.unique(np.rint(path / space.spacing).astype(int), axis=0)
    index = (centres[:, None] + box).reshape(-1, 3)
    index = index[((index >= 0) & (index < shape)).all(axis=1)]
    flat = np.unique((index[:, 2] * shape[1] + index[:, 1]) * shape[0] + index[:, 0])
    k, rest = np.divmod(flat, shape[0] * shape[1])
    j, i = np.divmod(rest, shape[0])
    return np.stack([i, j, k], axis=1), space.array[k, j, i].astype(float)


def refine(space: Space, curve: Curve, others: tuple[Curve, ...] = (), rounds: int = 4,
           most_degree: int = MOST_DEGREE) -> tuple[Curve, float]:
    """The curve through the brightness of the voxels round it; the degree is as high as the data ask for.

    Returns: the curve with the same ends, and the spread of 4 mm pieces about it (mm, one direction across).
    """
    spread = float("nan")
    for _ in range(rounds):
        points, value = tube_voxels(space, curve, 0.0, others=others)
        weight = np.clip(value, GROUND_HU, CEILING_HU) - GROUND_HU
        _, offset = curve.local(points)
        weight = weight / (1.0 + (2.0 * stretched(offset, space.spacing)) ** 4)
        use = weight > 0.0
        if use.sum() < 8:
            return curve, spread
        new, spread = _best_degree(points[use], weight[use], curve, most_degree, float(space.spacing[2]))
        moved = np.abs(new.points(np.linspace(*new.ends, 9)) - curve.points(np.linspace(*curve.ends, 9))).max()
        curve = new
        if moved < 0.02:
            break
    return curve, spread


def _best_degree(points, weight, curve: Curve, most_degree: int, slice_mm: float) -> tuple[Curve, float]:
    """Smallest Bayesian information over the degrees, for each direction across, judged on pieces of `BIN_MM`.

    A needle that climbs through few thick slices is a stair in the image: what a stair may add is no bend.
    """
    t, offset = (points - curve.origin) @ curve.axes[0], (points - curve.origin) @ curve.axes[1:].T
    low, high = curve.ends
    count = max(2, int((high - low) / BIN_MM))
    piece = np.clip(((t - low) / (high - low) * count).astype(int), 0, count - 1)
    total = np.bincount(piece, weight, count)
    filled = total > 0.15 * np.median(total[total > 0])
    scale = max(abs(low), abs(high))
    climb = max(0.0, 1.0 - BIN_MM * abs(curve.axes[0, 2]) / slice_mm)
    columns, spreads = [], []
    for axis in (0, 1):
        across_slices = abs(curve.axes[axis + 1, 2])
        floor = np.hypot(NOISE_FLOOR_MM, STAIR * slice_mm * across_slices * climb)
        stairs = slice_mm > 3.0 and across_slices > 0.5 and np.ptp(points[:, 2]) < 8.0 * slice_mm
        best_score = np.inf
        for degree in range(1, max(1, min(1 if stairs else most_degree, int(filled.sum()) // 3)) + 1):
            column = _polynomial(t / scale, offset[:, axis], weight, degree)
            rest = offset[:, axis] - np.vander(t / scale, MOST_DEGREE + 1, increasing=True) @ column
            mean = (np.bincount(piece, weight * rest, count)[filled] / total[filled])
            variance = 0.5 * float(np.median(mean**2) / 0.455 + np.mean(mean**2)) + floor**2
            score = filled.sum() * np.log(variance) + (degree + 1) * np.log(filled.sum())
            if score < best_score - 3.0:
                best, best_score, spread = column, score, np.sqrt(max(variance - floor**2, NOISE_FLOOR_MM**2))
        columns.append(best)
        spreads.append(spread)
    return Curve(curve.origin, curve.axes, np.stack(columns, axis=1), scale, curve.ends), float(max(spreads))
