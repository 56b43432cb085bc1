"""Angiograms drawn here, with known centrelines and diameters; nothing of the library is used.

A lumen is drawn by its chord, 2 sqrt(r^2 - d^2), on a grid six times finer; the beam falls by Beer and Lambert, is
blurred, averaged over each pixel, and counted as photons.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

FINE = 6


@dataclass(frozen=True)
class Lumen:
    """A vessel: `points` (n, 2) x, y px of its middle, closely spaced; `radius_px` (n,)."""

    points: np.ndarray
    radius_px: np.ndarray


@dataclass(frozen=True)
class Drawing:
    """`frame` (rows, columns) photons; `truth` bool; the lumens."""

    frame: np.ndarray
    truth: np.ndarray
    lumens: list[Lumen] = field(default_factory=list)


def narrowed(length_px: float, diameter_px: float, *, percent: float = 0.0, at: float = 0.5, width_px: float = 6.0,
             taper: float = 0.0, step: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """((n,) arc length, (n,) radius): a vessel that tapers by a part `taper`, with one cosine-shaped narrowing."""
    s = np.arange(0.0, length_px, step)
    radius = 0.5 * diameter_px * (1.0 - taper * s / length_px)
    off = (s - at * length_px) / width_px
    return s, radius * (1.0 - 0.01 * percent * np.where(np.abs(off) < 1, 0.5 * (1 + np.cos(np.pi * off)), 0.0))


def course(s: np.ndarray, start: tuple[float, float], angle_deg: float, bend_px: float = 0.0) -> np.ndarray:
    """(n, 2) x, y: a line from `start` at an angle, bowed by `bend_px` in its middle."""
    along = np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
    across = np.array([-along[1], along[0]])
    bow = bend_px * np.sin(np.pi * s / max(float(s[-1]), 1e-9))
    return np.asarray(start) + s[:, None] * along + bow[:, None] * across


def draw(shape: tuple[int, int], lumens: list[Lumen], *, mu: float = 0.12, blur_px: float = 0.9,
         photons: float = 4000.0, seed: int | None = 0, ground: np.ndarray | float = 1.0) -> Drawing:
    """`mu` per px of lumen; `photons` per pixel without a vessel; seed None: no noise; ground: a factor."""
    rows, columns = shape
    y, x = (np.arange(n * FINE) / FINE + (0.5 / FINE - 0.5) for n in (rows, columns))
    depth, truth = np.zeros((rows * FINE, columns * FINE)), np.zeros(shape, bool)
    for lumen in lumens:
        reach = float(lumen.radius_px.max()) + 1.0
        low, high = lumen.points.min(0) - reach, lumen.points.max(0) + reach
        window = (slice(*np.searchsorted(y, (low[1], high[1]))), slice(*np.searchsorted(x, (low[0], high[0]))))
        grid = np.stack(np.meshgrid(x[window[1]], y[window[0]]), -1)
        distance, index = cKDTree(lumen.points).query(grid.reshape(-1, 2), distance_upper_bound=reach)
        radius = np.append(lumen.radius_px, 0.0)[index].reshape(grid.shape[:2])
        distance = np.where(np.isfinite(distance), distance, 1e6).reshape(grid.shape[:2])
        chord = 2.0 * np.sqrt(np.maximum(radius**2 - distance**2, 0.0))
        depth[window] = np.maximum(depth[window], chord)  # where lumens meet they are one
    truth = (depth > 0).reshape(rows, FINE, columns, FINE).mean((1, 3)) >= 0.5
    beam = ndimage.gaussian_filter(np.exp(-mu * depth), blur_px * FINE)
    beam = beam.reshape(rows, FINE, columns, FINE).mean((1, 3)) * photons * ground
    frame = beam if seed is None else np.random.default_rng(seed).poisson(beam).astype(float)
    return Drawing(frame, truth, lumens)
