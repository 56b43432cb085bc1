"""What a detector says about one ultrasound frame, and what a detector is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ...geometry import InputError


@dataclass(frozen=True)
class FrameDetection:
    """The needle of one frame, in pixels (x = column, y = row; centres at integers) of the full picture.

    Attributes:
        found: a needle is there. A found needle has a tip, a direction and a covariance.
        tip_px: (2,) or None.
        direction: (2,) unit vector in pixel space from the entry towards the tip, or None.
        entry_px: (2,) where the visible shaft begins (often the image's edge), or None.
        covariance_px: (2, 2) of the tip, pixels squared, or None.
        direction_sigma_deg: standard deviation of the direction in the picture, degrees, or None.
        confidence: 0..1 that a needle is there; also given when `found` is False.
        visible_fraction: 0..1, part of the shaft between entry and tip that was seen, or None.
        in_plane: 0..1 that the tip lies in the image plane, or None where the detector can't say.
        method: name of the detector.
    """

    found: bool
    tip_px: np.ndarray | None = None
    direction: np.ndarray | None = None
    entry_px: np.ndarray | None = None
    covariance_px: np.ndarray | None = None
    direction_sigma_deg: float | None = None
    confidence: float = 0.0
    visible_fraction: float | None = None
    in_plane: float | None = None
    method: str = ""

    def __post_init__(self) -> None:
        for name, shape in (("tip_px", (2,)), ("direction", (2,)), ("entry_px", (2,)), ("covariance_px", (2, 2))):
            value = getattr(self, name)
            if value is None:
                if self.found and name != "entry_px":
                    raise InputError(f"a needle that was found must carry {name}")
                continue
            array = np.asarray(value, float)
            if array.shape != shape or not np.isfinite(array).all():
                raise InputError(f"a detection's {name} must be {shape} finite numbers")
            object.__setattr__(self, name, array)
        if self.direction is not None:
            length = float(np.linalg.norm(self.direction))
            if length < 1e-9:
                raise InputError("a detection's direction has no length")
            object.__setattr__(self, "direction", self.direction / length)
        if not 0.0 <= self.confidence <= 1.0:
            raise InputError(f"a detection's confidence must lie in 0..1, not {self.confidence}")

    @property
    def sigma_px(self) -> float | None:
        """Standard deviation of the tip along its worst axis, pixels; None without a tip."""
        if self.covariance_px is None:
            return None
        return math.sqrt(max(float(np.linalg.eigvalsh(self.covariance_px)[-1]), 0.0))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""

        def plain(value):
            return None if value is None else np.asarray(value, float).round(4).tolist()

        return {"found": self.found, "tip_px": plain(self.tip_px), "direction": plain(self.direction),
                "entry_px": plain(self.entry_px), "covariance_px": plain(self.covariance_px),
                "sigma_px": self.sigma_px, "direction_sigma_deg": self.direction_sigma_deg,
                "confidence": self.confidence, "visible_fraction": self.visible_fraction,
                "in_plane": self.in_plane, "method": self.method}


NOT_FOUND = FrameDetection(found=False)


@runtime_checkable
class Detector(Protocol):
    """Finds the needle in the newest frame of a short stack."""

    stack_length: int  # frames that it makes use of; fewer are accepted
    method: str

    def detect(self, frames: np.ndarray, *, mm_per_px: tuple[float, float] | None = None) -> FrameDetection:
        """The needle in `frames[-1]`.

        Args:
            frames: (t, h, w) uint8, newest last, t >= 1.
            mm_per_px: (x, y) if known; a detector may work without it, in pixels.
        Returns: `found` is False (never an exception) when no needle can be told from the background.
        Raises: InputError for an array of another shape or type.
        """
        ...


MIN_SIDE_PX = 32


def checked_frames(frames: np.ndarray) -> np.ndarray:
    """(t, h, w) uint8 as it is; (h, w) gets a first axis. Raises InputError for anything else."""
    array = np.asarray(frames)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] < 1:
        raise InputError(f"ultrasound frames must be (t, h, w), not {array.shape}; colour is made grey before")
    if array.dtype != np.uint8:
        raise InputError(f"ultrasound frames must be 8-bit grey (uint8), not {array.dtype}")
    if min(array.shape[1:]) < MIN_SIDE_PX:
        raise InputError(f"a frame of {array.shape[2]}x{array.shape[1]} pixels is too small to look for a needle "
                         f"(at least {MIN_SIDE_PX} a side)")
    return array
