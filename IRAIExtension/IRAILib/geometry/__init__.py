"""Floor 0: grids, volumes, transforms, surfaces, signed distances. RAS mm, arrays (k, j, i)."""

from .distance import SignedDistance, signed_distance
from .errors import (
    CancelledError,
    EmptyMaskError,
    FrameMismatchError,
    InputError,
    IRAIError,
    MissingPackageError,
    RefusedError,
)
from .needle_estimate import NeedleEstimate, NeedleStatus
from .projection import CArmGeometry, angles_of, beam_direction, geometry_from_angles
from .resample import resample, resample_mask
from .surface import Surface
from .transform import CompositeTransform, GridTransform, LinearTransform, Transform, transform_from_sitk
from .volume import Grid, Mask, Volume

__all__ = [
    "CArmGeometry", "CancelledError", "CompositeTransform", "EmptyMaskError", "FrameMismatchError", "Grid",
    "GridTransform", "IRAIError", "InputError", "LinearTransform", "Mask", "MissingPackageError", "NeedleEstimate",
    "NeedleStatus", "RefusedError", "SignedDistance", "Surface", "Transform", "Volume", "angles_of", "beam_direction",
    "geometry_from_angles", "resample", "resample_mask", "signed_distance", "transform_from_sitk",
]
