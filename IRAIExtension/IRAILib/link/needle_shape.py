"""Needle-shape sensors (SmartNeedle): STRING `NeedleShapeHeader`, then POINT `NeedleShapeZ`; back POINT `PlanningZ`.

The header says `timestamp;package;npoints;frame`. Order matters, so both come through the link's FIFO: points belong
to the header just before them, and are refused when their number isn't the one that the header gave.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass

import numpy as np

from IRAILib.geometry import InputError, NeedleEstimate, NeedleStatus

from .messages import Message, Point, String
from .messages.lists import PointItem

log = logging.getLogger("IRAI.link")

HEADER_DEVICE, SHAPE_DEVICE, PLANNING_DEVICE = "NeedleShapeHeader", "NeedleShapeZ", "PlanningZ"
MIN_POINTS, MAX_POINTS = 2, 10_000
FRAME = "zFrame"
VALIDATED_ON = "not validated here: the sensor's own accuracy applies"


@dataclass(frozen=True)
class ShapeHeader:
    """`time_s`: since 1970 where the sensor gives it so (None otherwise); `package`: running number."""

    time_s: float | None
    package: int
    points: int
    frame: str

    @classmethod
    def parse(cls, text: str) -> ShapeHeader:
        """Of `timestamp;package;npoints;frame`; raises InputError that says what is wrong."""
        parts = [part.strip() for part in text.split(";")]
        if len(parts) != 4:
            raise InputError(f"needle shape: the header '{text[:60]}' isn't timestamp;package;npoints;frame")
        try:
            package, points = int(parts[1]), int(parts[2])
        except ValueError:
            raise InputError(f"needle shape: the header '{text[:60]}' has no whole package and point numbers") from None
        if not MIN_POINTS <= points <= MAX_POINTS:
            raise InputError(f"needle shape: {points} points; {MIN_POINTS} to {MAX_POINTS} are possible")
        try:
            stamp = float(parts[0])
        except ValueError:
            stamp = math.nan
        return cls(stamp if math.isfinite(stamp) and stamp > 1e8 else None, package, points, parts[3])


class NeedleShapeReceiver:
    """Makes a NeedleEstimate of each shape, fed with messages in order of receipt.

    Args:
        frame: frame of the points, mm; the header's `frame` (a name or a number of the sensor) goes into `method`.
        sigma_mm: standard deviation of the tip that the sensor's maker states; None: the estimate has no covariance,
            and nothing that needs one (a robot) will take it.
        confidence: what the estimate says; a shape sensor doesn't see whether its needle is there.
    """

    def __init__(self, *, frame: str = FRAME, sigma_mm: float | None = None, confidence: float = 1.0) -> None:
        self._frame, self._sigma, self._confidence = frame, sigma_mm, confidence
        self._header: ShapeHeader | None = None
        self._last_package: int | None = None
        self.missed = 0  # packages that never came
        self.last_error = ""

    def update(self, message: Message) -> NeedleEstimate | None:
        """The needle, when this message completes a shape; None otherwise. A bad message is told in `last_error`."""
        try:
            if isinstance(message, String) and message.device == HEADER_DEVICE:
                self._header = None
                self._header = ShapeHeader.parse(message.text)
            elif isinstance(message, Point) and message.device == SHAPE_DEVICE:
                return self._shape(message)
        except InputError as error:
            self.last_error = str(error)
            log.warning(self.last_error)
        return None

    def disconnect(self) -> None:
        """The connection is gone: a header that waits for its points is forgotten."""
        self._header = self._last_package = None

    def _shape(self, message: Point) -> NeedleEstimate:
        header, self._header = self._header, None
        if header is None:
            raise InputError("needle shape: points without a header before them")
        if len(message.points) != header.points:
            raise InputError(f"needle shape: {len(message.points)} points came, the header says {header.points}")
        curve = np.array([item.xyz for item in message.points], float)
        if not np.isfinite(curve).all():
            raise InputError("needle shape: points that aren't numbers")
        last = curve[-1] - curve[:-1]
        apart = np.flatnonzero(np.linalg.norm(last, axis=1) > 1e-3)
        if not len(apart):
            raise InputError("needle shape: all points lie in one place")
        if self._last_package is not None and header.package > self._last_package + 1:
            self.missed += header.package - self._last_package - 1
        self._last_package = header.package
        direction = last[apart[-1]]
        stamp = header.time_s or message.time_s or time.time()
        return NeedleEstimate(
            status=NeedleStatus.SEEN, time_s=float(stamp), frame=self._frame, units="mm", modality="shape sensor",
            method=f"needle shape sensor, frame {header.frame}", validated_on=VALIDATED_ON, tip=curve[-1],
            direction=direction / np.linalg.norm(direction), curve=curve, confidence=self._confidence,
            covariance=None if self._sigma is None else np.eye(3) * self._sigma**2)


def shape_messages(curve_mm: np.ndarray, *, package: int, time_s: float, frame: str = FRAME) -> list[Message]:
    """Header and points of an (n, 3) curve from base to tip, as the sensor sends them. Raises InputError."""
    curve = np.asarray(curve_mm, float)
    if curve.ndim != 2 or curve.shape[1] != 3 or not MIN_POINTS <= len(curve) <= MAX_POINTS:
        raise InputError(f"needle shape: a curve is (n, 3) with {MIN_POINTS} to {MAX_POINTS} points")
    header = f"{time_s:.6f};{package};{len(curve)};{frame}"
    points = [PointItem(name=f"S{i}", group="Shape", xyz=xyz) for i, xyz in enumerate(curve)]
    return [String(header, device=HEADER_DEVICE, time_s=time_s), Point(points, device=SHAPE_DEVICE, time_s=time_s)]


def planning_message(target_mm: np.ndarray, entry_mm: np.ndarray, *, time_s: float | None = None) -> Point:
    """POINT `PlanningZ` with TARGET and ENTRY, (3,) mm in the sensor's frame. Raises InputError."""
    for name, value in (("target", target_mm), ("entry", entry_mm)):
        if np.asarray(value).shape != (3,) or not np.isfinite(np.asarray(value, float)).all():
            raise InputError(f"needle shape: the {name} must be three finite numbers")
    items = [PointItem(name="TARGET", group="Planning", xyz=np.asarray(target_mm, float)),
             PointItem(name="ENTRY", group="Planning", xyz=np.asarray(entry_mm, float))]
    return Point(items, device=PLANNING_DEVICE, time_s=time_s)
