"""Images on a grid in patient space: RAS millimetres, arrays in (k, j, i) order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import EmptyMaskError, InputError

SAME_GRID_TOLERANCE_MM = 1e-3
"""Corners of two grids closer than this are the same grid (NIfTI stores float32 headers)."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice in patient space.

    Attributes:
        shape: (k, j, i), number of voxels.
        ras_from_ijk: (4, 4) float64, voxel index (i, j, k) to RAS mm; may be oblique, must be invertible.
    """

    shape: tuple[int, int, int]
    ras_from_ijk: np.ndarray

    def __post_init__(self) -> None:
        matrix = np.array(self.ras_from_ijk, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise InputError("ras_from_ijk must be a finite 4x4 matrix")
        if abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise InputError("the voxel axes are degenerate (zero spacing or parallel directions)")
        matrix.setflags(write=False)
        object.__setattr__(self, "ras_from_ijk", matrix)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def ijk_from_ras(self) -> np.ndarray:
        """(4, 4) RAS mm to voxel index (i, j, k)."""
        return np.linalg.inv(self.ras_from_ijk)

    @property
    def spacing_mm(self) -> np.ndarray:
        """(3,) voxel size along i, j, k, in mm (Slicer's order)."""
        return np.linalg.norm(self.ras_from_ijk[:3, :3], axis=0)

    @property
    def spacing_kji_mm(self) -> np.ndarray:
        """(3,) voxel size in the order of the array's axes."""
        return self.spacing_mm[::-1]

    @property
    def directions(self) -> np.ndarray:
        """(3, 3) unit vectors of the i, j, k axes as columns, in RAS."""
        return self.ras_from_ijk[:3, :3] / self.spacing_mm

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.ras_from_ijk[:3, :3]))) / 1000.0

    @property
    def centre_ras(self) -> np.ndarray:
        """(3,) RAS mm of the middle of the grid."""
        return self.points_ras((np.array(self.shape, float) - 1.0)[None] / 2.0)[0]

    def points_ras(self, indices_kji: np.ndarray) -> np.ndarray:
        """(n, 3) array indices (k, j, i), may be fractional, to (n, 3) RAS mm."""
        ijk = np.asarray(indices_kji, float).reshape(-1, 3)[:, ::-1]
        return ijk @ self.ras_from_ijk[:3, :3].T + self.ras_from_ijk[:3, 3]

    def indices_kji(self, points_ras: np.ndarray) -> np.ndarray:
        """(n, 3) RAS mm to (n, 3) fractional array indices (k, j, i)."""
        matrix = self.ijk_from_ras
        rows = matrix[2::-1]
        return np.asarray(points_ras, float).reshape(-1, 3) @ rows[:, :3].T + rows[:, 3]

    def all_points_ras(self) -> np.ndarray:
        """(k, j, i, 3) RAS mm of every voxel centre."""
        k, j, i = (np.arange(n, dtype=np.float64) for n in self.shape)
        m = self.ras_from_ijk
        out = (m[:3, 2] * k[:, None, None, None] + m[:3, 1] * j[None, :, None, None]
               + m[:3, 0] * i[None, None, :, None])
        return out + m[:3, 3]

    def corners_ras(self) -> np.ndarray:
        """(8, 3) RAS mm of the outermost voxel centres."""
        hi = np.array(self.shape, float) - 1.0
        bits = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)], float)
        return self.points_ras(bits * hi)

    def same_grid(self, other: Grid) -> bool:
        """Whether both grids have the same voxels, within `SAME_GRID_TOLERANCE_MM`."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(self.corners_ras() - other.corners_ras()).max() < SAME_GRID_TOLERANCE_MM)

    def cropped_grid(self, start_kji: tuple[int, int, int], shape: tuple[int, int, int]) -> Grid:
        """The sub-grid of `shape` voxels that starts at array index `start_kji` (may lie outside)."""
        matrix = self.ras_from_ijk.copy()
        matrix[:3, 3] = self.points_ras(np.array(start_kji, float)[None])[0]
        return Grid(shape, matrix)

    def resampled_grid(self, spacing_mm: float | np.ndarray) -> Grid:
        """The grid over the same box, same directions, with voxels of `spacing_mm` (i, j, k)."""
        new = np.broadcast_to(np.asarray(spacing_mm, float), (3,))
        extent = self.spacing_mm * np.array(self.shape[::-1])
        count = np.maximum(1, np.round(extent / new).astype(int))
        matrix = np.eye(4)
        matrix[:3, :3] = self.directions * new
        first = -0.5 + 0.5 * new / self.spacing_mm
        matrix[:3, 3] = self.ras_from_ijk[:3, :3] @ first + self.ras_from_ijk[:3, 3]
        return Grid(tuple(count[::-1]), matrix)


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar image.

    Attributes:
        array: (k, j, i) numbers.
        grid: where the voxels are, RAS mm.
        name: file or node it came from, for messages.
        frame_of_reference: DICOM frame of reference UID, or None when unknown.
        metadata: what the file said (modality, phase, acquisition time...), plain values.
    """

    array: np.ndarray
    grid: Grid
    name: str = ""
    frame_of_reference: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.shape != self.grid.shape:
            raise InputError(f"{self.name or 'volume'}: array of shape {self.array.shape} on a grid of "
                             f"{self.grid.shape}; a single 3D image is needed")

    @property
    def ras_from_ijk(self) -> np.ndarray:
        return self.grid.ras_from_ijk

    @property
    def spacing_mm(self) -> np.ndarray:
        return self.grid.spacing_mm

    def with_array(self, array: np.ndarray) -> Volume:
        """Same place, other values."""
        return Volume(array, self.grid, self.name, self.frame_of_reference, self.metadata)

    def crop(self, start_kji: tuple[int, int, int], shape: tuple[int, int, int]):
        """Sub-volume (a view) that starts at array index `start_kji`; must lie inside."""
        window = tuple(slice(a, a + n) for a, n in zip(start_kji, shape, strict=True))
        return type(self)(self.array[window], self.grid.cropped_grid(start_kji, shape), self.name,
                          self.frame_of_reference, self.metadata)

    def sample(self, points_ras: np.ndarray, order: int = 1, outside: float = 0.0) -> np.ndarray:
        """Values at (n, 3) RAS mm, spline order 0, 1 or 3; `outside` beyond the grid. Returns (n,)."""
        from scipy import ndimage

        return ndimage.map_coordinates(self.array.astype(np.float32, copy=False),
                                       self.grid.indices_kji(points_ras).T, order=order,
                                       mode="constant", cval=outside)


@dataclass(frozen=True, eq=False)
class Mask(Volume):
    """A binary image: array is bool."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.array.dtype != bool:
            object.__setattr__(self, "array", np.asarray(self.array) != 0)

    def with_array(self, array: np.ndarray) -> Mask:
        return Mask(array, self.grid, self.name, self.frame_of_reference, self.metadata)

    @property
    def volume_ml(self) -> float:
        """Voxel count times voxel volume, in millilitres."""
        return float(np.count_nonzero(self.array)) * self.grid.voxel_volume_ml

    def require_not_empty(self) -> Mask:
        """Itself, or EmptyMaskError."""
        if not self.array.any():
            raise EmptyMaskError(f"{self.name or 'mask'}: the mask is empty; "
                                 "segment the structure or choose another label")
        return self

    def bounding_box_kji(self, margin_mm: float = 0.0) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Start (k, j, i) and shape of the smallest box around the mask, grown and cut at the grid.

        Raises EmptyMaskError.
        """
        self.require_not_empty()
        start, shape = [], []
        for axis, spacing in enumerate(self.grid.spacing_kji_mm):
            others = tuple(a for a in range(3) if a != axis)
            hit = np.flatnonzero(self.array.any(axis=others))
            grow = int(np.ceil(margin_mm / spacing))
            low, high = max(0, hit[0] - grow), min(self.array.shape[axis], hit[-1] + grow + 1)
            start.append(int(low))
            shape.append(int(high - low))
        return tuple(start), tuple(shape)  # type: ignore[return-value]

    def crop_to_content(self, margin_mm: float = 0.0) -> Mask:
        """The mask cut to its bounding box plus `margin_mm`."""
        return self.crop(*self.bounding_box_kji(margin_mm))

    def touches_border(self) -> bool:
        """Whether the mask reaches the outermost voxels, so that it may be cut off."""
        a = self.array
        return any(a.take(end, axis=axis).any() for axis in range(3) for end in (0, -1) if a.shape[axis] > 1)
