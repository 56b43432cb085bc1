"""Images onto another grid, through a transform."""

from __future__ import annotations

import numpy as np

from .itk import to_sitk
from .transform import Transform
from .volume import Grid, Mask, Volume


def resample(moving: Volume, grid: Grid, moving_from_fixed: Transform | None = None, *,
             interpolation: str = "linear", outside: float = 0.0) -> Volume:
    """The moving image on a grid of the fixed frame.

    Args:
        moving: image in the moving frame.
        grid: where the result lives, in the fixed frame.
        moving_from_fixed: point map from fixed to moving; None when both share a frame.
        interpolation: "nearest", "linear" or "cubic".
        outside: value where the moving image has none.
    Returns: float32 volume (the input's type for "nearest").
    """
    import SimpleITK as sitk

    kinds = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}
    exact = interpolation == "nearest"
    image = to_sitk(moving, None if exact else np.float32)
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.ras_from_ijk
    filter_ = sitk.ResampleImageFilter()
    filter_.SetSize([int(n) for n in grid.shape[::-1]])
    filter_.SetOutputOrigin(matrix[:3, 3].tolist())
    filter_.SetOutputSpacing(grid.spacing_mm.tolist())
    filter_.SetOutputDirection((matrix[:3, :3] / grid.spacing_mm).ravel().tolist())
    filter_.SetInterpolator(kinds[interpolation])
    filter_.SetDefaultPixelValue(outside)
    if moving_from_fixed is not None:
        filter_.SetTransform(moving_from_fixed.to_sitk())
    array = sitk.GetArrayFromImage(filter_.Execute(image))
    return Volume(array, grid, moving.name, None if moving_from_fixed else moving.frame_of_reference,
                  moving.metadata)


def resample_mask(moving: Mask, grid: Grid, moving_from_fixed: Transform | None = None) -> Mask:
    """A mask on another grid by its signed distance, so that thin slices don't turn into stairs.

    An empty mask gives an empty mask. The result's boundary is within about half a voxel of the finer grid.
    """
    from .distance import signed_distance

    if not moving.array.any():
        return Mask(np.zeros(grid.shape, bool), grid, moving.name)
    distance = signed_distance(moving)
    far = float(np.abs(distance.array).max()) + 1.0
    sampled = resample(Volume(distance.array, distance.grid, moving.name), grid, moving_from_fixed, outside=far)
    return Mask(sampled.array <= 0.0, grid, moving.name)
