"""Scan planes for an MR scanner's OpenIGTLink bridge: PLANE_0..2 from a needle, start and stop, image times.

A plane's (4, 4) matrix is ras_from_plane: x and y span the plane, z is its normal, the origin its centre, RAS mm.
The scanner's own images come as IMAGE, with the time of acquisition in a STRING `IMAGE_TIMESTAMP`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from IRAILib.geometry import InputError, NeedleEstimate, RefusedError

from .messages import Image, Message, String, TData, Transform

PLANE_DEVICES = ("PLANE_0", "PLANE_1", "PLANE_2")
START, STOP = "START_SEQUENCE", "STOP_SEQUENCE"
TIMESTAMP_DEVICE, TRACKING_DEVICE = "IMAGE_TIMESTAMP", "MRTracking"
SAME_TIME_S = 0.002
MAX_SIGMA_MM = 10.0


def planes_along(tip_ras: np.ndarray, direction_ras: np.ndarray, *,
                 beside_ras: np.ndarray | None = None) -> list[np.ndarray]:
    """Three orthogonal planes through the tip: two that hold the needle, one across it.

    Args:
        tip_ras: (3,) mm. direction_ras: (3,) from the entry towards the tip, any length.
        beside_ras: (3,) roughly the normal wanted for PLANE_0 (None: anterior, or superior for a needle along it).

    Returns: [(4, 4)] * 3 for PLANE_0 (x along the needle), PLANE_1 (x along the needle, turned by 90 degrees about
        it) and PLANE_2 (normal along the needle), right-handed.
    Raises: InputError for numbers that aren't finite, or a direction of no length.
    """
    tip, along = np.asarray(tip_ras, float), np.asarray(direction_ras, float)
    length = float(np.linalg.norm(along)) if along.shape == (3,) else math.nan
    if tip.shape != (3,) or not np.isfinite(tip).all() or not math.isfinite(length) or length < 1e-9:
        raise InputError("scan planes need a finite tip and a direction")
    along = along / length
    hint = np.array([0.0, 1.0, 0.0]) if beside_ras is None else np.asarray(beside_ras, float)
    if not (hint.shape == (3,) and np.isfinite(hint).all() and np.linalg.norm(hint) > 1e-9):
        raise InputError("scan planes: the wanted normal must be a finite vector")
    hint = hint / np.linalg.norm(hint)
    if abs(hint @ along) > 0.9:
        hint = np.array([0.0, 0.0, 1.0]) if abs(along[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    normal = hint - (hint @ along) * along
    normal /= np.linalg.norm(normal)
    third = np.cross(normal, along)
    planes = []
    for x, z in ((along, normal), (along, third), (normal, along)):
        matrix = np.eye(4)
        matrix[:3, :3] = np.column_stack([x, np.cross(z, x), z])
        matrix[:3, 3] = tip
        planes.append(matrix)
    return planes


def plane_messages(needle: NeedleEstimate, *, beside_ras: np.ndarray | None = None,
                   max_sigma_mm: float = MAX_SIGMA_MM) -> list[Transform]:
    """PLANE_0..2 for a needle, ready to send.

    Raises RefusedError for a needle without tip and direction, not in RAS mm, or more unsure than `max_sigma_mm`: a
    scan plane at a wrong place shows no needle.
    """
    if needle.tip is None or needle.direction is None:
        raise RefusedError(f"scan planes: the needle is {needle.status.value}; it gives no tip and direction")
    if needle.units != "mm" or needle.frame != "RAS":
        raise RefusedError(f"scan planes: the needle is in {needle.units}, frame '{needle.frame}'; RAS mm is needed")
    if needle.sigma is None or not needle.sigma <= max_sigma_mm:
        raise RefusedError("scan planes: the needle's uncertainty is unknown or too large")
    planes = planes_along(needle.tip, needle.direction, beside_ras=beside_ras)
    return [Transform(plane, device=device, time_s=needle.time_s)
            for plane, device in zip(planes, PLANE_DEVICES, strict=True)]


def sequence_command(start: bool) -> String:
    """STRING that starts or stops the scanner's sequence; the bridge reads the text."""
    text = START if start else STOP
    return String(text, device=text)


@dataclass(frozen=True, eq=False)
class TimedImage:
    """An image with its time of acquisition, seconds since 1970; None where the scanner hasn't said it."""

    image: Image
    acquired_s: float | None


class ImageTimes:
    """Pairs each image with the IMAGE_TIMESTAMP that carries the same header time; either may come first.

    An image that has none after `max_images` further ones is given without a time, never with another's.
    """

    def __init__(self, *, max_images: int = 4) -> None:
        self._images: deque[Image] = deque()
        self._times: deque[tuple[float, float]] = deque(maxlen=64)
        self._max_images = max_images

    def update(self, message: Message) -> list[TimedImage]:
        """Take in an IMAGE or STRING; returns the images that are ready, in order."""
        if isinstance(message, Image):
            self._images.append(message)
        elif isinstance(message, String) and message.device == TIMESTAMP_DEVICE:
            acquired = acquired_s(message.text)
            if acquired is not None and message.time_s is not None:
                self._times.append((float(message.time_s), acquired))
        return self._ready()

    def clear(self) -> None:
        """The connection is gone."""
        self._images.clear()
        self._times.clear()

    def _ready(self) -> list[TimedImage]:
        out = []
        while self._images:
            found = next((acquired for stamp, acquired in self._times if self._images[0].time_s is not None
                          and abs(stamp - float(self._images[0].time_s)) <= SAME_TIME_S), None)
            if found is None and len(self._images) <= self._max_images:
                break
            out.append(TimedImage(self._images.popleft(), found))
        return out


def acquired_s(text: str) -> float | None:
    """Seconds since 1970 of an IMAGE_TIMESTAMP: a number, or ISO 8601 (UTC unless it says otherwise); None if neither.
    """
    text = text.strip()
    try:
        value = float(text)
    except ValueError:
        value = None
    if value is not None:
        return value if math.isfinite(value) and value > 0 else None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def tracked_coils(message: TData) -> dict[str, np.ndarray]:
    """{coil: (3,) RAS mm} of a TDATA `MRTracking`; empty for another device or no coils."""
    if message.device != TRACKING_DEVICE:
        return {}
    return {tool.name: np.array(tool.matrix[:3, 3], float) for tool in message.tools}
