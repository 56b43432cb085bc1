"""The border to ITK: RAS (k, j, i) arrays here, LPS SimpleITK images there."""

from __future__ import annotations

import numpy as np

from .volume import Grid, Mask, Volume

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def lps_matrix(matrix_ras: np.ndarray) -> np.ndarray:
    """(4, 4) point map in RAS to the same map in LPS (the conversion is its own inverse)."""
    return LPS_FROM_RAS @ matrix_ras @ LPS_FROM_RAS


def set_sitk_grid(image, grid: Grid):
    """Give a SimpleITK image the place of `grid`. The axes must be orthogonal, as ITK requires."""
    matrix = LPS_FROM_RAS @ grid.ras_from_ijk
    directions = matrix[:3, :3] / grid.spacing_mm
    image.SetSpacing([float(s) for s in grid.spacing_mm])
    image.SetOrigin([float(o) for o in matrix[:3, 3]])
    image.SetDirection([float(d) for d in directions.ravel()])
    return image


def to_sitk(volume: Volume, dtype=None):
    """Volume to SimpleITK.Image (LPS). Masks become uint8."""
    import SimpleITK as sitk

    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    if dtype is not None:
        array = array.astype(dtype, copy=False)
    if array.dtype in (np.float16, np.int64, np.uint64) and dtype is None:
        array = array.astype(np.float32)
    return set_sitk_grid(sitk.GetImageFromArray(np.ascontiguousarray(array)), volume.grid)


def grid_from_sitk(image) -> Grid:
    """Grid of a 3D SimpleITK image, in RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return Grid(image.GetSize()[::-1], LPS_FROM_RAS @ matrix)


def from_sitk(image, name: str = "", frame_of_reference: str | None = None, metadata=None) -> Volume:
    """SimpleITK.Image (LPS) to Volume (RAS); shares no memory."""
    import SimpleITK as sitk

    return Volume(sitk.GetArrayFromImage(image), grid_from_sitk(image), name, frame_of_reference, metadata or {})


def mask_from_sitk(image, name: str = "") -> Mask:
    """SimpleITK.Image to Mask: every voxel that is not 0."""
    volume = from_sitk(image, name)
    return Mask(volume.array != 0, volume.grid, name)
