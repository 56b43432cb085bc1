"""What a grid and its values must fulfil before anything is measured on them."""

from __future__ import annotations

import numpy as np

from ..geometry import Grid, InputError

MIN_SPACING_MM, MAX_SPACING_MM = 0.02, 25.0
"""Outside of this no CT, MR or 3D ultrasound of a patient lies; a file that says so is damaged or in other units."""
MAX_EXTENT_MM = 3000.0
ORTHOGONAL_TOLERANCE = 1e-3
"""Largest cosine between two voxel axes: 0.06 degrees, 0.5 mm over 500 mm; float32 headers stay below 1e-6."""
MAX_ORIGIN_MM = 1e5


def check_matrix(matrix: np.ndarray, shape_kji: tuple[int, ...], where: str) -> None:
    """Raise InputError for a (4, 4) voxel-to-space matrix that can't be a patient's image."""
    if not np.isfinite(matrix).all():
        raise InputError(f"{where}: spacing, origin or direction is not a finite number; export the image again")
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if (spacing < 1e-9).any():
        raise InputError(f"{where}: a voxel spacing is zero; the header is damaged, export the image again")
    shown = " x ".join(f"{s:.4g}" for s in spacing)
    if (spacing < MIN_SPACING_MM).any() or (spacing > MAX_SPACING_MM).any():
        raise InputError(f"{where}: absurd voxel spacing of {shown} mm (allowed {MIN_SPACING_MM} to "
                         f"{MAX_SPACING_MM}); the header is damaged or not in millimetres")
    extent = spacing * np.array(shape_kji[::-1])
    if (extent > MAX_EXTENT_MM).any() or (np.abs(matrix[:3, 3]) > MAX_ORIGIN_MM).any():
        raise InputError(f"{where}: absurd size or place ({' x '.join(f'{e:.0f}' for e in extent)} mm); "
                         "the header is damaged or not in millimetres")
    axes = matrix[:3, :3] / spacing
    cosines = np.abs(axes.T @ axes - np.eye(3))
    if cosines.max() > ORTHOGONAL_TOLERANCE:
        angle = 90.0 - np.degrees(np.arccos(min(1.0, cosines.max())))
        raise InputError(f"{where}: voxel axes are not orthogonal (sheared by {abs(angle):.1f} degrees, as by a tilted "
                         "gantry); resample the image to an orthogonal grid first")


def check_shape(shape: tuple[int, ...], where: str) -> None:
    """Raise InputError for anything but a 3D image of at least two slices along every axis."""
    if len(shape) != 3:
        raise InputError(f"{where}: is a {len(shape)}D image; a single 3D volume is needed")
    if min(shape) < 1:
        raise InputError(f"{where}: the image is empty")
    if min(shape) < 2:
        raise InputError(f"{where}: is a single slice ({' x '.join(map(str, shape[::-1]))}); a 3D volume is needed")


def check_values(array: np.ndarray, where: str) -> None:
    """Raise InputError for values that are not finite numbers."""
    if array.dtype.kind == "c":
        raise InputError(f"{where}: holds complex numbers; export the magnitude image")
    if array.dtype.kind == "f":
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise InputError(f"{where}: {bad} voxels are not numbers (NaN or infinite); replace them and try again")


def check_writable(grid: Grid, where: str) -> None:
    """Raise InputError for a grid that image files (ITK) can't hold."""
    check_matrix(grid.ras_from_ijk, grid.shape, where)
