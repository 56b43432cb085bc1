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
        return cls(*vectors, (columns, rows), str(values.get("frame", "Table")))


def beam_direction(primary_deg: float, secondary_deg: float) -> np.ndarray:
    """(3,) unit vector from the source to the detector in the table frame (RAS); (0, 0) is straight up, anterior."""
    a, b = math.radians(primary_deg), math.radians(secondary_deg)
    return np.array([-math.sin(a) * math.cos(b), math.cos(a) * math.cos(b), math.sin(b)])
