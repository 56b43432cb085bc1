"""Millimetres per pixel: from the message, DICOM, a recording or the user; never guessed.

Without a scale everything stays in pixels, and asking for millimetres is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...geometry import InputError, RefusedError

SOURCES = ("message", "dicom", "user", "recording")
AGREEMENT = 0.02  # two sources agree within 2 % (a 5 cm ruler read to 1 mm on the screen)
MAX_SHEAR = 0.08  # cosine between rows and columns; published PLUS calibrations of N-wire phantoms reach 0.048
MIN_MM_PER_PX, MAX_MM_PER_PX = 0.005, 5.0  # 50 MHz skin probe .. a thumbnail of a deep abdomen
NO_SCALE = ("no scale is known, so nothing can be given in mm: give --mm-per-px, or --depth-mm for the depth that "
            "the image shows")
_CM, _TWO_DIMENSIONAL, _TISSUE = 3, 1, 1  # DICOM C.8.5.5.1: units, spatial format, data type


@dataclass(frozen=True)
class PixelScale:
    """Size of one pixel in mm along x (columns) and y (rows), and where that is known from.

    Raises: InputError for sizes that no ultrasound image has, or an unknown source.
    """

    mm_per_px_x: float
    mm_per_px_y: float
    source: str

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise InputError(f"a scale comes from one of {', '.join(SOURCES)}, not from '{self.source}'")
        for name, value in (("x", self.mm_per_px_x), ("y", self.mm_per_px_y)):
            if not (math.isfinite(value) and MIN_MM_PER_PX <= value <= MAX_MM_PER_PX):
                raise InputError(f"{value} mm per pixel along {name} (from the {self.source}) is no ultrasound image: "
                                 f"{MIN_MM_PER_PX} to {MAX_MM_PER_PX} are accepted")

    @property
    def mm_per_px(self) -> tuple[float, float]:
        """(x, y), as a detector takes it."""
        return self.mm_per_px_x, self.mm_per_px_y

    def points_mm(self, points_px: np.ndarray) -> np.ndarray:
        """(..., 2) pixels (x, y) to mm; pixel (0, 0) is the origin."""
        return np.asarray(points_px, float) * np.array(self.mm_per_px)

    def direction_mm(self, direction_px: np.ndarray) -> np.ndarray:
        """(2,) unit vector in the picture to a unit vector in mm."""
        vector = np.asarray(direction_px, float) * np.array(self.mm_per_px)
        return vector / np.linalg.norm(vector)

    def covariance_mm(self, covariance_px: np.ndarray) -> np.ndarray:
        """(2, 2) pixels squared to mm squared."""
        return np.asarray(covariance_px, float) * np.outer(self.mm_per_px, self.mm_per_px)

    def to_dict(self) -> dict[str, Any]:
        return {"mm_per_px_x": self.mm_per_px_x, "mm_per_px_y": self.mm_per_px_y, "source": self.source}


def scale_from_matrix(matrix: np.ndarray, source: str = "message") -> PixelScale | None:
    """The scale that an image's (4, 4) index-to-space matrix carries (OpenIGTLink IMAGE, NRRD, PLUS ImageToProbe).

    None when both columns have length 1 exactly: senders that know no scale (PLUS among them) leave 1 mm there.
    Raises: InputError when the two image axes are not at right angles, or lengths are not those of ultrasound.
    """
    array = np.asarray(matrix, float)
    if array.shape != (4, 4) or not np.isfinite(array).all():
        raise InputError("an image matrix must be 4x4 finite numbers")
    x, y = array[:3, 0], array[:3, 1]
    length_x, length_y = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    scale = scale_from_spacing(length_x, length_y, source)
    if scale is not None and abs(float(x @ y)) > MAX_SHEAR * length_x * length_y:
        raise InputError("the image matrix is sheared: its rows and columns are not at right angles")
    return scale


def scale_from_spacing(x_mm: float, y_mm: float, source: str = "recording") -> PixelScale | None:
    """The scale of a stated pixel spacing; None for exactly 1 x 1, which stands for 'not known' (see above)."""
    if abs(x_mm - 1.0) < 1e-6 and abs(y_mm - 1.0) < 1e-6:
        return None
    return PixelScale(float(x_mm), float(y_mm), source)


def _region_scale(region: Any) -> PixelScale | None:
    if (getattr(region, "RegionSpatialFormat", 0) != _TWO_DIMENSIONAL
            or getattr(region, "RegionDataType", 0) != _TISSUE):
        return None  # Doppler, M-mode, ECG trace
    x, y = getattr(region, "PhysicalDeltaX", None), getattr(region, "PhysicalDeltaY", None)
    if x is None or y is None:
        return None
    units = (getattr(region, "PhysicalUnitsXDirection", 0), getattr(region, "PhysicalUnitsYDirection", 0))
    if units != (_CM, _CM):
        raise InputError(f"the DICOM ultrasound region is measured in units {units}, not in cm (3, 3): no scale in mm")
    return PixelScale(10.0 * abs(float(x)), 10.0 * abs(float(y)), "dicom")


def scale_from_dicom(dataset: Any) -> PixelScale | None:
    """The scale of a DICOM ultrasound image (pydicom dataset): calibrated 2D tissue regions, then PixelSpacing.

    None when it carries neither. Raises: InputError for other units than cm, RefusedError when its regions, or
    regions and PixelSpacing, contradict each other. Source: DICOM PS3.3 C.8.5.5, C.7.6.3.1.1.
    """
    regions = getattr(dataset, "SequenceOfUltrasoundRegions", None) or []
    scales = [scale for scale in map(_region_scale, regions) if scale is not None]
    spacing = getattr(dataset, "PixelSpacing", None)
    if spacing is not None and len(spacing) == 2:
        scales.append(PixelScale(float(spacing[1]), float(spacing[0]), "dicom"))  # DICOM: row distance first
    return agreed_scale(scales)


def scale_from_user(*, mm_per_px: float | tuple[float, float] | None = None, depth_mm: float | None = None,
                    height_px: float | None = None) -> PixelScale | None:
    """What the user said: mm per pixel (one number, or x and y), or the depth that `height_px` rows show.

    None when nothing was said. Raises: InputError for numbers that make no sense; RefusedError when the two
    contradict each other.
    """
    scales = []
    if mm_per_px is not None:
        x, y = mm_per_px if isinstance(mm_per_px, tuple) else (mm_per_px, mm_per_px)
        scales.append(PixelScale(float(x), float(y), "user"))
    if depth_mm is not None:
        if height_px is None or not height_px > 0:
            raise InputError("--depth-mm needs the height of the ultrasound region in pixels: none was found in the "
                             "picture; give --mm-per-px instead")
        if not (math.isfinite(depth_mm) and depth_mm > 0):
            raise InputError(f"--depth-mm must be a positive number of mm, not {depth_mm}")
        scales.append(PixelScale(depth_mm / height_px, depth_mm / height_px, "user"))
    return agreed_scale(scales)


def agreed_scale(scales: Iterable[PixelScale | None]) -> PixelScale | None:
    """The first of several known scales, after all of them were seen to agree within `AGREEMENT`; None if none.

    Raises: RefusedError naming both when two differ: one of them is wrong, and nobody here can know which.
    """
    known = [scale for scale in scales if scale is not None]
    for other in known[1:]:
        first = known[0]
        for axis, a, b in zip("xy", first.mm_per_px, other.mm_per_px, strict=True):
            if abs(a - b) > AGREEMENT * min(a, b):
                raise RefusedError(f"the scale along {axis} is {a:.5g} mm per pixel by the {first.source} and {b:.5g} "
                                   f"by the {other.source}: give only the right one")
    return known[0] if known else None


def required_scale(scale: PixelScale | None) -> PixelScale:
    """The scale, or RefusedError with the one line that says how to give it."""
    if scale is None:
        raise RefusedError(NO_SCALE)
    return scale
