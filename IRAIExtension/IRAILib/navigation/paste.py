"""The pixels of one frame into the voxels of a volume: the inner loops of the freehand reconstruction.

Everything here is in voxels of the target and pixels of the frame; frames of reference don't occur. A target has one
layer of voxels more than the grid at its far ends, so that a pixel exactly on the last layer has eight neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

TILE_ROWS, TILE_COLUMNS = 128, 128
STRIP_ROWS = 32
EDGE = 1e-6  # voxels; a corner pixel that rounding puts outside belongs to the outermost voxel
LEAST_WEIGHT = 0.125  # max and latest: a pixel in the middle of its cell reaches all eight voxels


@dataclass
class Target:
    """What the pixels go into, (k + 1, j + 1, i + 1): levels (sums for the mean), and weights in pixels."""

    levels: np.ndarray
    weights: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> Target:
        padded = tuple(n + 1 for n in shape)
        return cls(np.zeros(padded, np.float32), np.zeros(padded, np.float32))

    @property
    def size(self) -> tuple[int, int, int]:
        """(i, j, k) voxels of the grid, without the extra layer."""
        k, j, i = self.levels.shape
        return i - 1, j - 1, k - 1

    def value(self) -> np.ndarray:
        """(k, j, i) levels, without the extra layer."""
        return self.levels[:-1, :-1, :-1]

    def weight(self) -> np.ndarray:
        """(k, j, i) weights, without the extra layer."""
        return self.weights[:-1, :-1, :-1]


@dataclass
class Tile:
    """Some pixels as seen from a box of voxels.

    first, shape: (i, j, k) of the box. base: (n,) flat index in the box of the lowest of a pixel's eight voxels.
    share: three (n,) arrays, how far beyond it, 0 to 1. values: (n,) float64.
    """

    first: tuple[int, int, int]
    shape: tuple[int, int, int]
    base: np.ndarray
    share: list[np.ndarray]
    values: np.ndarray

    def window(self) -> tuple[slice, slice, slice]:
        i, j, k = (slice(a, a + n) for a, n in zip(self.first, self.shape, strict=True))
        return k, j, i

    def offset(self, i: int, j: int, k: int) -> int:
        return i + self.shape[0] * (j + self.shape[1] * k)


def tiles(frame: np.ndarray, keep: np.ndarray | None, ijk_from_pixel: np.ndarray, size: tuple[int, int, int],
          region: tuple[int, int, int, int], *, rows: int = TILE_ROWS, columns: int = TILE_COLUMNS) -> Iterator[Tile]:
    """The frame's pixels tile by tile, those outside the grid or not kept left out.

    Args: frame: (rows, columns). keep: bool of the same shape or None. ijk_from_pixel: (3 or 4, 4), pixel (x, y, 0, 1).
        region: x0, y0, x1, y1, end not included.
    """
    x0, y0, x1, y1 = region
    for y in range(y0, y1, rows):
        for x in range(x0, x1, columns):
            tile = _tile(frame, keep, ijk_from_pixel, size, (x, y, min(x + columns, x1), min(y + rows, y1)))
            if tile is not None:
                yield tile


def _tile(frame, keep, matrix, size, part) -> Tile | None:
    x0, y0, x1, y1 = part
    across, along = np.arange(x0, x1, dtype=float), np.arange(y0, y1, dtype=float)
    used = None if keep is None else keep[y0:y1, x0:x1].ravel()
    if used is not None and not used.any():
        return None
    first, shape, floors, shares = [], [], [], []
    for axis in range(3):
        u, v = matrix[axis, 0] * across, matrix[axis, 1] * along + matrix[axis, 3]
        low, high, last = u.min() + v.min(), u.max() + v.max(), size[axis] - 1
        start, stop = max(int(np.floor(low)), 0), min(int(np.floor(high)), last) + 2
        if low > last + EDGE or high < -EDGE:
            return None
        place = np.add(u[None], (v - start)[:, None]).ravel()
        if low < 0 or high > last:
            inside = (place >= -start - EDGE) & (place <= last - start + EDGE)
            used = inside if used is None else used & inside
            np.clip(place, -start, last - start, out=place)
        whole = np.floor(place)
        place -= whole
        first.append(start)
        shape.append(stop - start)
        floors.append(whole)
        shares.append(place)
    base = floors[2]
    for axis in (1, 0):
        base *= shape[axis]
        base += floors[axis]
    values = frame[y0:y1, x0:x1].astype(np.float64).ravel()
    if used is not None and not used.all():
        base, values, shares = base[used], values[used], [share[used] for share in shares]
    return Tile(tuple(first), tuple(shape), base.astype(np.intp), shares, values) if len(base) else None


def corner_weights(tile: Tile) -> Iterator[tuple[np.ndarray, int]]:
    """((n,) weight, offset in the box) of each of the eight voxels round a pixel; the arrays may be changed."""
    x, y, z = tile.share
    both = y * z
    only_y, only_z = y - both, z - both
    none = (1.0 - y) - only_z
    for weight, (j, k) in ((none, (0, 0)), (only_z, (0, 1)), (only_y, (1, 0)), (both, (1, 1))):
        far = weight * x
        weight -= far
        yield weight, tile.offset(0, j, k)
        yield far, tile.offset(1, j, k)


def nearest_voxel(tile: Tile) -> np.ndarray:
    """(n,) flat index in the box of the voxel nearest to each pixel."""
    flat = tile.base.copy()
    for axis, step in enumerate((1, tile.shape[0], tile.shape[0] * tile.shape[1])):
        flat += step * (tile.share[axis] >= 0.5)
    return flat


def paste_mean(target: Target, tile: Tile, *, linear: bool) -> int:
    """Sums of values and weights of a tile's pixels. Returns how many there were."""
    count = int(np.prod(tile.shape))
    sums = np.zeros((2, count))
    if linear:
        for weight, offset in corner_weights(tile):
            sums[1, offset:] += np.bincount(tile.base, weight, count)[:count - offset]
            weight *= tile.values
            sums[0, offset:] += np.bincount(tile.base, weight, count)[:count - offset]
    else:
        flat = nearest_voxel(tile)
        sums[0] += np.bincount(flat, tile.values, count)
        sums[1] += np.bincount(flat, minlength=count)
    window, shape = tile.window(), tile.shape[::-1]
    target.levels[window] += sums[0].reshape(shape)
    target.weights[window] += sums[1].reshape(shape)
    return len(tile.base)


def paste_one(target: Target, tile: Tile, *, linear: bool, latest: bool) -> int:
    """The largest or the latest of the pixels of a voxel (and of its neighbours, where `linear`)."""
    window, count = tile.window(), int(np.prod(tile.shape))
    value = np.ascontiguousarray(target.levels[window]).ravel()
    weight = np.ascontiguousarray(target.weights[window]).ravel()
    values = tile.values.astype(np.float32)
    if linear:
        corners = list(corner_weights(tile))
        near = np.stack([part for part, _ in corners], axis=1) >= LEAST_WEIGHT
        pixel, corner = np.nonzero(near)
        flat = tile.base[pixel] + np.array([offset for _, offset in corners])[corner]
        values = values[pixel]
    else:
        flat = nearest_voxel(tile)
    if latest:
        value[flat] = values  # pixels come in the order of the image; the last one of a voxel stays
    else:
        value[weight == 0] = -np.inf
        np.maximum.at(value, flat, values)
    weight += np.bincount(flat, minlength=count).astype(np.float32)
    value[weight == 0] = 0.0
    shape = tile.shape[::-1]
    target.levels[window], target.weights[window] = value.reshape(shape), weight.reshape(shape)
    return len(tile.base)
