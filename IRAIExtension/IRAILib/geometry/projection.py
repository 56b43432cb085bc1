"""X-ray projection: a pinhole of a source and a detector plane, and which way a C-arm's angles point.

Angles as DICOM: primary positive towards the patient's left (LAO), secondary positive towards the head (CRA).
Pixels are (column, row), centres at integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InputError


@dataclass(frozen=True, eq=False)
class CArmGeometry:
    """A pinhole: the source, and a detector plane given by its first pixel and the steps between pixels.

    Attributes:
        source_mm: (3,). pixel0_mm: (3,) centre of pixel (column 0, row 0). column_mm, row_mm: (3,) from one pixel to
            the next along a row, and down a column. frame: "Table" or "CArm". size: (columns, rows).
    """

    source_mm: np.ndarray
    pixel0_mm: np.ndarray
    column_mm: np.ndarray
    row_mm: np.ndarray
    size: tuple[int, int]
    frame: str = "Table"

    @property
    def normal(self) -> np.ndarray:
        """(3,) unit normal of the detector, from the source towards it."""
        normal = np.cross(self.column_mm, self.row_mm)
        normal /= np.linalg.norm(normal)
        return normal if normal @ (self.pixel0_mm - self.source_mm) > 0 else -normal

    @property
    def source_to_detector_mm(self) -> float:
        """Perpendicular distance."""
        return float(self.normal @ (self.pixel0_mm - self.source_mm))

    @property
    def center_mm(self) -> np.ndarray:
        """(3,) centre of the image."""
        return (self.pixel0_mm + (self.size[0] - 1) / 2 * self.column_mm + (self.size[1] - 1) / 2 * self.row_mm)

    def matrix(self) -> np.ndarray:
        """(3, 4) projection: matrix @ (x, y, z, 1) = w * (column, row, 1), w > 0 in front of the source."""
        system = np.column_stack([self.column_mm, self.row_mm, self.pixel0_mm - self.source_mm])
        inverse = np.linalg.inv(system)
        return np.hstack([inverse, -(inverse @ self.source_mm)[:, None]])

    def project(self, points_mm: np.ndarray) -> np.ndarray:
        """(n, 3) mm to (n, 2) pixels (column, row); NaN at or behind the source."""
        points = np.asarray(points_mm, float).reshape(-1, 3)
        homogeneous = points @ self.matrix()[:, :3].T + self.matrix()[:, 3]
        weight = np.where(homogeneous[:, 2:] > 1e-12, homogeneous[:, 2:], np.nan)
        return homogeneous[:, :2] / weight

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 2) pixels to (n, 3) unit directions from the source."""
        pixels = np.asarray(pixels, float).reshape(-1, 2)
        away = self.pixel0_mm - self.source_mm + pixels[:, :1] * self.column_mm + pixels[:, 1:] * self.row_mm
        return away / np.linalg.norm(away, axis=1, keepdims=True)

    def to_dict(self) -> dict[str, Any]:
        return {"source_mm": self.source_mm.tolist(), "pixel0_mm": self.pixel0_mm.tolist(),
                "column_mm": self.column_mm.tolist(), "row_mm": self.row_mm.tolist(), "size": list(self.size),
                "frame": self.frame, "source_to_detector_mm": self.source_to_detector_mm}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CArmGeometry:
        """What `to_dict` gave; raises InputError, naming the key, when something is missing or no number."""
        try:
            vectors = [np.asarray(values[key], float).reshape(3)
                       for key in ("source_mm", "pixel0_mm", "column_mm", "row_mm")]
            columns, rows = (int(n) for n in values["size"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"X-ray geometry: it needs source_mm, pixel0_mm, column_mm, row_mm (3 numbers each) and "
                             f"size (columns, rows); {type(error).__name__}: {error}") from None
        area = np.linalg.norm(np.cross(vectors[2], vectors[3]))
        if not np.isfinite(np.concatenate(vectors)).all() or area < 1e-8 or min(columns, rows) < 1:
            raise InputError("X-ray geometry: the detector has no area, or a number isn't finite")
        return cls(vectors[0], vectors[1], vectors[2], vectors[3], (columns, rows), str(values.get("frame", "Table")))


def beam_direction(primary_deg: float, secondary_deg: float) -> np.ndarray:
    """(3,) unit vector from the source to the detector in the table frame (RAS); (0, 0) is straight up, anterior."""
    a, b = math.radians(primary_deg), math.radians(secondary_deg)
    return np.array([-math.sin(a) * math.cos(b), math.cos(a) * math.cos(b), math.sin(b)])


def angles_of(direction: np.ndarray) -> tuple[float, float]:
    """(primary, secondary) degrees of a beam (3,), source to detector, in the table frame: `beam_direction` inverted.

    Primary in (-180, 180], secondary in [-90, 90]; straight along the patient's axis primary is 0. Raises InputError
    for a direction that is zero or no number.
    """
    beam = np.asarray(direction, float).reshape(-1)
    length = float(np.linalg.norm(beam)) if beam.size == 3 else 0.0
    if not math.isfinite(length) or length < 1e-12:
        raise InputError("beam: a direction needs three finite numbers that aren't all zero")
    x, y, z = beam / length
    across = math.hypot(x, y)
    return (math.degrees(math.atan2(-x, y)) if across > 1e-9 else 0.0), math.degrees(math.atan2(z, across))


def geometry_from_angles(primary_deg: float, secondary_deg: float, source_to_detector_mm: float,
                         source_to_isocentre_mm: float, mm_per_px: float | tuple[float, float],
                         size: tuple[int, int], *, detector_rotation_deg: float = 0.0,
                         principal_px: tuple[float, float] | None = None) -> CArmGeometry:
    """Geometry of an isocentric C-arm, in the table frame (RAS of a patient head first, supine), isocentre as origin.

    The picture is the one DICOM stores and stations show: seen from the detector towards the source, as one faces the
    patient. At (0, 0), tube below and detector above, columns go to the patient's left (-R) and rows to the feet (-S).
    At other angles columns go where growing primary angle (LAO) moves the detector, rows where falling secondary
    angle (towards CAU) does, so the head stays up. Angles as PS3.3 C.8.7.5: the arm turns about the patient's axis
    first (primary), then along it (secondary).

    Args:
        source_to_isocentre_mm: DICOM's Distance Source to Isocenter, for which the older Distance Source to Patient
            stands.
        mm_per_px: on the detector, one number or (along a row, down a column); DICOM's Imager Pixel Spacing is
            (down a column, along a row). size: (columns, rows).
        detector_rotation_deg: turn of the detector about the beam, clockwise in the picture seen by the viewer.
        principal_px: (column, row) where the beam's axis meets the detector; the image's centre if None.

    Raises InputError for what isn't finite, no positive distance or size, or an isocentre behind the detector.
    """
    spacing = np.broadcast_to(np.asarray(mm_per_px, float), (2,))
    columns, rows = int(size[0]), int(size[1])
    center = np.asarray(principal_px if principal_px is not None else ((columns - 1) / 2, (rows - 1) / 2), float)
    numbers = [primary_deg, secondary_deg, source_to_detector_mm, source_to_isocentre_mm, detector_rotation_deg,
               *spacing, *center]
    if not np.isfinite(numbers).all() or min(columns, rows) < 1 or spacing.min() <= 0:
        raise InputError("X-ray geometry: angles and distances must be finite, pixels and their spacing positive")
    if not 0 < source_to_isocentre_mm < source_to_detector_mm:
        raise InputError(f"X-ray geometry: the isocentre ({source_to_isocentre_mm:g} mm from the source) isn't between "
                         f"source and detector ({source_to_detector_mm:g} mm)")
    a, b = math.radians(primary_deg), math.radians(secondary_deg)
    beam = beam_direction(primary_deg, secondary_deg)
    across = np.array([-math.cos(a), -math.sin(a), 0.0])
    down = np.array([-math.sin(a) * math.sin(b), math.cos(a) * math.sin(b), -math.cos(b)])
    turn = math.radians(detector_rotation_deg)
    column = (math.cos(turn) * across + math.sin(turn) * down) * spacing[0]
    row = (math.cos(turn) * down - math.sin(turn) * across) * spacing[1]
    source = -source_to_isocentre_mm * beam
    pixel0 = source + source_to_detector_mm * beam - center[0] * column - center[1] * row
    return CArmGeometry(source, pixel0, column, row, (columns, rows))
