"""The scan as the search sees it: about 2 mm cubes, each value in parts of the tissue round it, and the skin.

Fits are done on the scan's own voxels in "grid mm", (i, j, k) times the spacing; nothing outside this room sees that
frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...geometry import InputError, Volume

CELL_MM = 2.0
GROUND_MM = 12.0
"""Sigma of the neighbourhood whose signal is 1."""
COARSE = 3
"""Cells along each side of a coarse cell, on which the ground and the skin are found."""


@dataclass(frozen=True)
class Work:
    """A volume prepared for the search.

    Attributes:
        volume: the scan. relative: (k, j, i) float32, signal over the ground, on the scan's voxels.
        spacing: (3,) mm along i, j, k.
        cells: (K, J, I) float32, the same on cells of `cell_mm` (i, j, k), between the mean and the least of their
            voxels, so that thin voids show. least: (K, J, I) float32, the least of their voxels.
        cell_mm: (3,) mm along i, j, k, about CELL_MM. depth: (k, j, i) mm under the skin on coarse cells.
        has_skin: whether air round the body is in view.
    """

    volume: Volume
    relative: np.ndarray
    spacing: np.ndarray
    cells: np.ndarray
    least: np.ndarray
    cell_mm: np.ndarray
    depth: np.ndarray
    has_skin: bool

    @property
    def flat(self) -> bool:
        """One slice: nothing is known across it."""
        return self.relative.shape[0] == 1

    def ras(self, grid_mm: np.ndarray) -> np.ndarray:
        """(n, 3) grid mm to (n, 3) RAS mm."""
        matrix = self.volume.grid.ras_from_ijk
        return np.asarray(grid_mm) / self.spacing @ matrix[:3, :3].T + matrix[:3, 3]

    def grid_mm(self, ras: np.ndarray) -> np.ndarray:
        """(n, 3) RAS mm to (n, 3) grid mm."""
        return self.volume.grid.indices_kji(ras)[:, ::-1] * self.spacing

    def directions_ras(self, vectors: np.ndarray) -> np.ndarray:
        """(..., 3) vectors in grid mm to RAS (lengths kept)."""
        return np.asarray(vectors) @ self.volume.grid.directions.T

    def values(self, grid_mm: np.ndarray, outside: float = 1.0) -> np.ndarray:
        """Relative signal at (n, 3) grid mm, linear; `outside` beyond the volume."""
        indices = (np.asarray(grid_mm) / self.spacing)[:, ::-1].T
        if self.flat:
            indices[0] = np.where(np.abs(indices[0]) <= 0.5, 0.0, indices[0])
        return ndimage.map_coordinates(self.relative, indices, output=np.float32, order=1, mode="constant",
                                       cval=outside)

    def cell_points(self, index_kji: np.ndarray) -> np.ndarray:
        """(n, 3) indices of cells to grid mm of their centres."""
        return (np.asarray(index_kji, float)[:, ::-1] + 0.5) * self.cell_mm - 0.5 * self.spacing

    def cell_index(self, grid_mm: np.ndarray) -> np.ndarray:
        """(n, 3) grid mm to the (n, 3) indices (k, j, i) of the cells that hold them, or of the nearest ones."""
        index = np.floor((np.asarray(grid_mm) + 0.5 * self.spacing) / self.cell_mm).astype(int)[:, ::-1]
        return np.clip(index, 0, np.array(self.cells.shape) - 1)

    def depth_mm(self, grid_mm: np.ndarray) -> np.ndarray:
        """(n,) depth under the skin, nearest coarse cell; 0 outside the body, large where no skin is in view."""
        index = np.floor((np.asarray(grid_mm) + 0.5 * self.spacing) / (self.cell_mm * COARSE)).astype(int)
        index = np.clip(index[:, ::-1], 0, np.array(self.depth.shape) - 1)
        return self.depth[tuple(index.T)]

    def leaves_volume(self, point: np.ndarray, outward: np.ndarray, most_mm: float = 0.0) -> bool:
        """Whether a line that goes on past `point` (grid mm) is out of the volume soon."""
        step = max(1.5 * float(np.abs(outward) @ self.spacing), most_mm)
        index = (point + outward * step) / self.spacing
        return bool(((index < -0.5) | (index > np.array(self.relative.shape[::-1]) - 0.5)).any())


def make_work(volume: Volume) -> Work:
    """Check the volume, find body and ground. Raises InputError for what can't be searched."""
    name = volume.name or "MR"
    if min(volume.array.shape[1:]) < 16:
        raise InputError(f"{name}: slices of {volume.array.shape[2]}x{volume.array.shape[1]} pixels are too small")
    array = volume.array.astype(np.float32)
    if not np.isfinite([array.min(), array.max()]).all():
        raise InputError(f"{name}: holds values that aren't finite; export the magnitude image again")
    if array.min() < -500.0:
        raise InputError(f"{name}: values down to {array.min():.0f} are no MR magnitude image (a CT? choose CT)")
    if array.max() <= array.min():
        raise InputError(f"{name}: every voxel has the value {array.max():.0f}; there is no image")
    array = np.maximum(array, 0.0)
    spacing = np.asarray(volume.spacing_mm, float)
    cells, least, cell_mm = _cells(array, spacing)
    body, air = _body(cells)
    ground = _ground(cells, body, cell_mm)
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(body, 1, mode="edge"), sampling=(cell_mm * COARSE)[::-1]))
    inner = depth[1:-1, 1:-1, 1:-1].astype(np.float32) if air else np.full(body.shape, 1e3, np.float32)
    index = [(np.arange(n) + 0.5) * s / (c * COARSE) - 0.5
             for n, s, c in zip(array.shape, spacing[::-1], cell_mm[::-1], strict=True)]
    relative = np.minimum(array / _stretched(ground, index), 3.0)
    index = [(np.arange(n) + 0.5) / COARSE - 0.5 for n in cells.shape]
    fine = _stretched(ground, index)
    darker = np.minimum(0.5 * (cells + least) / fine, 3.0)
    return Work(volume, relative, spacing, darker, np.minimum(least / fine, 3.0), cell_mm, inner, air)


def _cells(array: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over whole voxels up to about CELL_MM, their minima, and the cells' size: linear
    between them where voxels are coarser."""
    joined = np.maximum(1, np.floor(CELL_MM / spacing + 0.25)).astype(int)[::-1]
    shape = np.array(array.shape) // joined
    mean: np.ndarray = array[tuple(slice(0, n * m) for n, m in zip(shape, joined, strict=True))]
    least = mean
    for axis, m in enumerate(joined):
        if m > 1:
            steps = np.arange(0, mean.shape[axis], m)
            mean = np.add.reduceat(mean, steps, axis=axis).astype(np.float32) / m
            least = np.minimum.reduceat(least, steps, axis=axis)
    size = spacing[::-1] * joined
    count = np.maximum(1, np.rint(np.array(mean.shape) * size / CELL_MM)).astype(int)
    count = np.where((size > 1.3 * CELL_MM) & (np.array(mean.shape) > 1), count, mean.shape)
    index = [(np.arange(c) + 0.5) * n / c - 0.5 for c, n in zip(count, mean.shape, strict=True)]
    size = (size * np.array(mean.shape) / count)[::-1]
    return _stretched(mean, index), _stretched(least, index), size


def _stretched(array: np.ndarray, index: list[np.ndarray]) -> np.ndarray:
    """Linear interpolation at fractional indices, one axis after the other; the borders go on."""
    for axis, at in enumerate(index):
        if len(at) == array.shape[axis] and np.allclose(at, np.arange(len(at))):
            continue
        at = np.clip(at, 0, array.shape[axis] - 1)
        low = np.minimum(np.floor(at).astype(int), max(array.shape[axis] - 2, 0))
        high = np.minimum(low + 1, array.shape[axis] - 1)
        part = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(array.ndim)])
        array = np.take(array, low, axis) * (1 - part) + np.take(array, high, axis) * part
    return array


def _coarse(cells: np.ndarray) -> np.ndarray:
    pad = [(0, -n % COARSE) for n in cells.shape]
    padded = np.pad(cells, pad, mode="edge")
    shape = np.array(padded.shape) // COARSE
    return padded.reshape(shape[0], COARSE, shape[1], COARSE, shape[2], COARSE).mean(axis=(1, 3, 5))


def _body(cells: np.ndarray) -> tuple[np.ndarray, bool]:
    """(coarse cells inside the body, whether air round it is in view)."""
    coarse = _coarse(cells)
    bright = coarse > 0.15 * np.percentile(coarse, 97)
    labels = _parts(~bright)
    faces = np.concatenate([labels[:, 0].ravel(), labels[:, -1].ravel(), labels[:, :, 0].ravel(),
                            labels[:, :, -1].ravel()])
    counts = np.bincount(faces[faces > 0]) if (faces > 0).any() else np.zeros(1)
    outside = np.isin(labels, np.flatnonzero(counts > 0.02 * len(faces)))
    closed = np.asarray(ndimage.binary_closing(np.pad(~outside, 3, mode="edge"), iterations=2))
    body = np.logical_or(closed[3:-3, 3:-3, 3:-3], ~outside)
    parts = _parts(body)
    if parts.max() > 1:
        body = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return (np.ones_like(body), False) if body.mean() > 0.97 or not body.any() else (body, True)


def _parts(mask: np.ndarray) -> np.ndarray:
    """Connected parts of a mask, numbered from 1; 0 outside."""
    labels = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, output=labels)
    return labels


def _ground(cells: np.ndarray, body: np.ndarray, cell_mm: np.ndarray) -> np.ndarray:
    """Mean signal of the tissue round each coarse cell, without its dark parts."""
    coarse = _coarse(cells)
    level = float(np.median(coarse[body]))
    weight = (body & (coarse > 0.5 * level)).astype(np.float32)
    sigma = (GROUND_MM / (cell_mm * COARSE))[::-1]
    total = ndimage.gaussian_filter(coarse * weight, sigma, mode="nearest")
    norm = ndimage.gaussian_filter(weight, sigma, mode="nearest")
    far = 0.02
    return np.maximum((total + far * level) / (norm + far), 1e-3 * max(level, 1e-6)).astype(np.float32)
