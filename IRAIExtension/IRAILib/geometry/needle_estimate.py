"""One result type for every needle and catheter: ultrasound, MR, CT, X-ray, tracker, shape sensor.

It lies on the lowest floor because `needle`, `fluoroscopy`, `navigation` and `scene` all speak of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from .errors import InputError


class NeedleStatus(StrEnum):
    """What the number on the screen is worth."""

    SEEN = "seen"  # measured in this frame
    COASTING = "coasting"  # not seen now; predicted from what was seen `age_s` ago
    LOST = "lost"  # was seen, coasted too long: no tip is given
    ABSENT = "absent"  # no needle found
    OUT_OF_PLANE = "out_of_plane"  # the shaft leaves the plane before its tip: no tip is given


@dataclass(frozen=True)
class NeedleEstimate:
    """Where a needle is, how sure that is, and in which frame and unit.

    Attributes:
        status: see NeedleStatus; only SEEN and COASTING carry a tip.
        tip: (3,) or None; in `units`, in `frame`. A 2D image has z = 0 and (x, y) = (column, row).
        direction: (3,) unit vector from the entry towards the tip, or None.
        curve: (n, 3) points from the entry (or the image's edge) to the tip, or None; straight: two points.
        covariance: (3, 3) of the tip in `units`**2, or None when there is no tip.
        direction_sigma_deg: standard deviation of the direction, degrees.
        time_s: acquisition time, seconds since 1970 for live data, since the first frame for recordings.
        frame: name of the coordinate frame: "RAS", "Image", "Reference", "Tracker" ...
        units: "mm", or "px" where no scale is known (then nothing is in mm).
        confidence: probability (0..1) that a needle is there.
        in_plane: probability (0..1) that the tip lies in the image plane; None where it has no meaning.
        visible_fraction: part of the shaft that was seen, 0..1; None where it has no meaning.
        age_s: seconds since the tip was last measured; 0 when seen now.
        method: what found it ("network", "classical", "void model" ...), `modality`: "US", "CT", "MR", "XA", ...
        validated_on: what the uncertainty was checked on; the text goes wherever the number goes.
    """

    status: NeedleStatus
    time_s: float
    frame: str
    units: str
    modality: str
    method: str
    validated_on: str
    tip: np.ndarray | None = None
    direction: np.ndarray | None = None
    curve: np.ndarray | None = None
    covariance: np.ndarray | None = None
    direction_sigma_deg: float | None = None
    confidence: float = 0.0
    in_plane: float | None = None
    visible_fraction: float | None = None
    age_s: float = 0.0

    def __post_init__(self) -> None:
        if self.units not in ("mm", "px"):
            raise InputError(f"a needle is given in mm or px, not in '{self.units}'")
        has_tip = self.status in (NeedleStatus.SEEN, NeedleStatus.COASTING)
        if has_tip != (self.tip is not None):
            raise InputError(f"a needle that is {self.status.value} must {'' if has_tip else 'not '}carry a tip")
        for name, shape in (("tip", (3,)), ("direction", (3,)), ("covariance", (3, 3))):
            value = getattr(self, name)
            if value is not None:
                array = np.asarray(value, float)
                if array.shape != shape or not np.isfinite(array).all():
                    raise InputError(f"the needle's {name} must be {shape} finite numbers")
                object.__setattr__(self, name, array)

    @property
    def found(self) -> bool:
        """A tip is given: measured now, or predicted from one measured `age_s` ago."""
        return self.tip is not None

    @property
    def sigma(self) -> float | None:
        """Standard deviation of the tip along its worst axis, in `units`; None without a tip."""
        if self.covariance is None:
            return None
        return float(math.sqrt(max(np.linalg.eigvalsh(self.covariance)[-1], 0.0)))

    def mapped(self, matrix: np.ndarray, frame: str, units: str = "mm") -> NeedleEstimate:
        """The same needle through a (4, 4) affine matrix into `frame`; the covariance goes with it."""
        linear, shift = np.asarray(matrix, float)[:3, :3], np.asarray(matrix, float)[:3, 3]
        direction = None if self.direction is None else linear @ self.direction
        return replace(
            self, frame=frame, units=units,
            tip=None if self.tip is None else linear @ self.tip + shift,
            direction=None if direction is None else direction / np.linalg.norm(direction),
            curve=None if self.curve is None else np.asarray(self.curve, float) @ linear.T + shift,
            covariance=None if self.covariance is None else linear @ self.covariance @ linear.T)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""

        def plain(value):
            return None if value is None else np.asarray(value, float).round(6).tolist()

        return {"found": self.found, "status": self.status.value, "tip": plain(self.tip),
                "direction": plain(self.direction), "curve": plain(self.curve), "units": self.units,
                "frame": self.frame, "sigma": self.sigma, "covariance": plain(self.covariance),
                "direction_sigma_deg": self.direction_sigma_deg, "confidence": self.confidence,
                "in_plane": self.in_plane, "visible_fraction": self.visible_fraction, "time_s": self.time_s,
                "age_s": self.age_s, "modality": self.modality, "method": self.method,
                "validated_on": self.validated_on}
