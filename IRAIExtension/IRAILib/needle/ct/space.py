"""The place where the search happens: millimetres along the scan's own axes, the skin, and the metal's level.

A scanner blurs along its axes, so every fit is done in "grid mm": (i, j, k) times the spacing. Nothing outside
this room sees that frame; results are RAS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...geometry import InputError, Volume

AIR_HU = -300.0
"""Between air and everything else."""
BODY_CELL_MM = 3.5
"""The skin is found on cells of about this size; it only decides which end is inside."""
LOWEST_METAL_HU, HIGHEST_METAL_HU = 700.0, 1400.0
"""Limits of the adaptive level: thick slices dilute a needle to about 1000 HU, cortical bone reaches 1500."""


@dataclass(frozen=True)
class Space:
    """A volume as the search sees it.

    Attributes:
        array: (k, j, i) HU.
        spacing: (3,) mm along i, j, k.
        volume: where it came from.
        depth: (k, j, i) mm under the skin on cells of `cell` voxels; 0 outside the body.
        cell: (3,) voxels (k, j, i) of one cell.
        has_skin: whether any air outside the body is in view.
    """

    array: np.ndarray
    spacing: np.ndarray
    volume: Volume
    depth: np.ndarray
    cell: np.ndarray
    has_skin: bool

    def ras(self, grid_mm: np.ndarray) -> np.ndarray:
        """(n, 3) grid mm to (n, 3) RAS mm."""
        matrix = self.volume.grid.ras_from_ijk
        return np.asarray(grid_mm) / self.spacing @ matrix[:3, :3].T + matrix[:3, 3]

    def directions_ras(self, vectors: np.ndarray) -> np.ndarray:
        """(..., 3) vectors in grid mm to RAS (lengths kept)."""
        return np.asarray(vectors) @ self.volume.grid.directions.T

    def values(self, grid_mm: np.ndarray, outside: float = -1000.0) -> np.ndarray:
        """HU at (n, 3) grid mm, linear."""
        indices = (np.asarray(grid_mm) / self.spacing)[:, ::-1].T
        return ndimage.map_coordinates(self.array, indices, output=np.float32, order=1, mode="constant", cval=outside)

    def depth_mm(self, grid_mm: np.ndarray) -> np.ndarray:
        """Depth under the skin at (n, 3) grid mm; the nearest cell, 0 outside the body."""
        cells = np.rint((np.asarray(grid_mm) / self.spacing)[:, ::-1] / self.cell - 0.5 + 0.5 / self.cell).astype(int)
        cells = np.clip(cells, 0, np.array(self.depth.shape) - 1)
        return self.depth[tuple(cells.T)]

    def leaves_volume(self, point: np.ndarray, outward: np.ndarray) -> bool:
        """Whether a line that goes on past `point` is out of the volume within about a voxel and a half."""
        ahead = point + outward * 1.5 * float(np.abs(outward) @ self.spacing)
        index = ahead / self.spacing
        return bool(((index < -0.5) | (index > np.array(self.array.shape[::-1]) - 0.5)).any())


def make_space(volume: Volume) -> Space:
    """Check the volume and find the skin. Raises InputError for what is no CT."""
    array = volume.array
    if min(array.shape[1:]) < 16:
        raise InputError(f"{volume.name or 'CT'}: slices of {array.shape[2]}x{array.shape[1]} pixels are too small")
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise InputError(f"{volume.name or 'CT'}: holds values that aren't finite; export it again in HU")
    if low > AIR_HU and low >= 0.0:
        raise InputError(f"{volume.name or 'CT'}: the lowest value is {low:.0f}, so these are not Hounsfield units; "
                         "export the CT with its rescale intercept")
    depth, cell, has_skin = _depth(array, np.asarray(volume.grid.spacing_kji_mm))
    return Space(array, np.asarray(volume.spacing_mm, float), volume, depth, cell, has_skin)


def _depth(array: np.ndarray, spacing_kji: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """(cells of depth mm, voxels a cell, whether the skin is in view)."""
    cell = np.maximum(1, np.rint(BODY_CELL_MM / spacing_kji)).astype(int)
    middle = tuple(slice(c // 2 if n > c else 0, None, c) for c, n in zip(cell, array.shape, strict=True))
    air = array[middle] < AIR_HU
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    labels, _ = ndimage.label(air, in_plane)  # type: ignore[misc]
    border = np.unique(np.concatenate([labels[:, 0].ravel(), labels[:, -1].ravel(), labels[:, :, 0].ravel(),
                                       labels[:, :, -1].ravel()]))
    outside = np.isin(labels, border[border > 0])
    disk = np.asarray(ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), 2))[None]
    padded = np.pad(~outside, ((0, 0), (4, 4), (4, 4)), mode="edge")
    body = np.asarray(ndimage.binary_opening(padded, disk))[:, 4:-4, 4:-4]
    parts, count = ndimage.label(body)  # type: ignore[misc]
    if count > 1:
        body = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    if body.all() or not body.any():
        return np.full(body.shape, np.inf if body.any() else 0.0, np.float32), cell, not body.any()
    depth = np.asarray(ndimage.distance_transform_edt(body, sampling=spacing_kji * cell))
    return depth.astype(np.float32), cell, True


def metal_level(space: Space) -> float:
    """HU above which a voxel may be a needle: well over this scan's bone, within what dilution by the slice allows."""
    sample = space.array[:, ::3, ::3]
    dense = sample[sample > 200.0]
    if dense.size < 50:
        return LOWEST_METAL_HU
    return float(np.clip(1.15 * np.percentile(dense, 93), LOWEST_METAL_HU, HIGHEST_METAL_HU))
