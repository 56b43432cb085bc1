"""What comes over the link as frames and links of the chain: tools, pictures, calibration, the clocks' lag."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..geometry import InputError, LinearTransform, RefusedError
from ..link.messages import Image
from ..link.probe import ImagePairing, TrackedTools, frames_of, image_frames
from ..navigation.probe import ProbeCalibration
from .fusion_chain import CALIBRATION, LIVE, LOST, STALE, ChainLink, against

IMAGE = "Image"
FRESH_S = 0.5
"""A picture that is older is stale: nothing is measured in it."""
DEPTH_FIELDS, PRESET_FIELDS = ("DepthMm", "Depth", "UsDepth"), ("Preset", "UsPreset")
KEPT, KEEP_EVERY_S = 24, 0.2
"""So many pictures, so far apart, are kept for a refinement of the registration."""
CARM = "Fluoro"
SENDER = "as the sender says; its error is not known here"


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """A picture with where it lay when it was taken. reference_from_pixel (4, 4), None with a `reason` where unknown.

    pixels: (rows, columns) uint8 or float. time_s: of acquisition, as its sender's clock has it. received_s: monotonic.
    """

    pixels: np.ndarray
    reference_from_pixel: np.ndarray | None
    reason: str
    time_s: float
    received_s: float
    device: str

    @property
    def size_px(self) -> tuple[int, int]:
        """(columns, rows)."""
        return self.pixels.shape[1], self.pixels.shape[0]


class LiveInput:
    """Feeds on a bridge's messages: gives the newest paired picture, and the live links of the chain.

    Args: clock: seconds that go forward, the one of the messages' `received_s`. lost_s: silence that loses a tool.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, lost_s: float = 0.5) -> None:
        self.clock, self.lost_s = clock, lost_s
        self.calibration: ProbeCalibration | None = None
        self.calibration_problem = ""
        self.not_compared: tuple[str, ...] = ()
        self.lag_s, self.lag_sigma_s = 0.0, None
        self.tracker_error_mm: float | None = None
        self.frame: LiveFrame | None = None
        self.kept: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=KEPT)
        self._kept_s = float("-inf")
        self.images = 0
        self.known: dict[str, None] = {}
        self._arrivals: list[float] = []
        self._sender_frame = ""
        self._begin()

    def _begin(self) -> None:
        """Anew, with the calibration as it is now: what came before was paired with another one."""
        fixed = []
        if self.calibration is not None:
            fixed.append(LinearTransform(self.calibration.probe_from_image, self.calibration.probe, IMAGE))
        self.tools = TrackedTools(fixed, lost_s=self.lost_s, clock=self.clock)
        self.pairing: ImagePairing | None = None

    def clear(self) -> None:
        """The connection is gone: nothing of it is believed any more."""
        self.frame, self._sender_frame, self.calibration_problem = None, "", ""
        self.kept.clear()
        self._arrivals.clear()
        self._begin()

    # ---- what the user gives

    def set_calibration(self, calibration: ProbeCalibration | None, *, check: bool = True) -> None:
        """Use a probe's calibration, or the sender's own (None).

        Raises RefusedError when it doesn't hold for the picture that comes now; then the one of before stays.
        """
        if calibration is not None and check and self._last is not None:
            self._compare(calibration, self._last)
        self.calibration, self.calibration_problem = calibration, ""
        self._begin()

    def set_lag(self, lag_s: float, sigma_s: float | None = None) -> None:
        """Tracker time stamp less image time stamp of one instant, seconds. Raises InputError over 2 s."""
        if not abs(lag_s) <= 2.0:
            raise InputError(f"a lag of {lag_s:g} s between tracker and images can't be; 2 s at most")
        self.lag_s, self.lag_sigma_s = float(lag_s), sigma_s
        self.pairing = None

    # ---- what comes

    _last: Image | None = None

    def take(self, message: Any) -> None:
        """A listener of the bridge."""
        if isinstance(message, Image):
            self._image(message)
        elif self.tools.update(message):
            self.known.update(dict.fromkeys(state.name for state in self.tools.tools()))

    def _image(self, message: Image) -> None:
        if message.array.ndim not in (3, 4) or message.array.shape[0] != 1:
            return  # a volume is no live picture
        if message.device.startswith(CARM):
            return  # a C-arm's frame is for step 6
        self._last = message
        self.images += 1
        now = self.clock()
        self._arrivals = [t for t in self._arrivals if now - t <= 2.0] + [now]
        if self.calibration is None:
            self._from_sender(message)
            return
        try:
            self.not_compared = self._compare(self.calibration, message)
            self.calibration_problem = ""
        except RefusedError as refusal:
            self.calibration_problem = str(refusal)
        if self.pairing is None:
            self.pairing = ImagePairing(self.tools, self.reference, IMAGE, image_lag_s=-self.lag_s, clock=self.clock)
        self.pairing.push(message)

    def _from_sender(self, message: Image) -> None:
        """No calibration here: the picture lies where its sender says, if he says."""
        try:
            frame = image_frames(message.device)[1]
        except InputError:
            self._keep(message, None, "the picture's pose is not known: load the probe's calibration in step 2")
            return
        self._sender_frame = frame
        self._keep(message, np.array(message.ras_from_ijk, float), "")

    def _compare(self, calibration: ProbeCalibration, message: Image) -> tuple[str, ...]:
        """What could not be compared. Raises RefusedError."""
        rows, columns = message.array.shape[1:3]
        lengths = np.linalg.norm(np.asarray(message.ras_from_ijk, float)[:3, :2], axis=0)
        scaled = not np.allclose(lengths, 1.0, atol=1e-6)
        return calibration.check_image(
            size_px=(columns, rows), mm_per_px=(float(lengths[0]), float(lengths[1])) if scaled else None,
            depth_mm=_number(message.metadata, DEPTH_FIELDS), preset=_text(message.metadata, PRESET_FIELDS),
            orientation=message.metadata.get("UltrasoundImageOrientation"))

    def _keep(self, message: Image, matrix: np.ndarray | None, reason: str) -> None:
        pixels = np.array(message.array[0])
        if pixels.ndim == 3:
            pixels = pixels[..., :3].mean(axis=2).astype(np.uint8)
        received = self.clock() if message.received_s is None else message.received_s
        self.frame = LiveFrame(pixels.astype(pixels.dtype.newbyteorder("="), copy=False), matrix, reason,
                               float(message.time_s or 0.0), received, message.device)
        if matrix is not None and received - self._kept_s >= KEEP_EVERY_S and not self.calibration_problem:
            self._kept_s = received
            self.kept.append((self.frame.pixels, matrix))

    def pair(self) -> bool:
        """Pair what can be paired now. Returns whether a new picture is there."""
        before = self.frame
        for paired in self.pairing.pop() if self.pairing is not None else []:
            matrix = None if paired.transform is None else paired.transform.matrix
            self._keep(paired.image, matrix, paired.reason)
        return self.frame is not before

    # ---- what it is worth

    @property
    def reference(self) -> str:
        """The frame that poses are given in: Reference where the tracker has one, else Tracker, else the first's."""
        frames = [frame for state in self.tools.tools() for frame in frames_of(state.name)]
        frames += [self._sender_frame] if self._sender_frame else []
        for wanted in ("Reference", "Tracker"):
            if wanted in frames:
                return wanted
        targets = [frames_of(state.name)[1] for state in self.tools.tools()]
        return targets[0] if targets else self._sender_frame or "Reference"

    def age_s(self) -> float | None:
        """Since the newest picture came; None before any."""
        return None if self.frame is None else max(self.clock() - self.frame.received_s, 0.0)

    def rate_hz(self) -> float:
        """Pictures a second over the last two; 0 without."""
        now = self.clock()
        recent = [t for t in self._arrivals if now - t <= 2.0]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 2 and recent[-1] > recent[0] else 0.0

    def tool_names(self) -> list[str]:
        """Every transform heard of."""
        return [state.name for state in self.tools.tools()]

    def links(self) -> list[ChainLink]:
        """Live tools, and the picture's link: the calibration, or the sender's word. A tool that was heard of over this
        connection stays in the list, LOST, when the connection is gone."""
        heard = [state.name for state in self.tools.tools()]
        out = [self._tool(state) for state in self.tools.tools()]
        out += [ChainLink(*frames_of(name), None, LOST, LIVE, why="the connection is gone") for name in self.known
                if name not in heard]
        out = sorted((link for link in out if link.source != link.target), key=lambda link: link.name)
        if self.calibration is not None:
            given = self._calibration_link(self.calibration)
            said = next((link for link in out if link.name == given.name), None)
            out = [against(given, said), *(link for link in out if link is not said)]
        elif self.frame is not None and self.frame.reference_from_pixel is not None:
            age = self.age_s() or 0.0
            link = ChainLink(IMAGE, self._sender_frame, self.frame.reference_from_pixel, age_s=age,
                             validated_on=SENDER)
            out.insert(0, link if age <= FRESH_S else replace(link, status=STALE, why=f"no picture for {age:.1f} s"))
        return out

    def _tool(self, state) -> ChainLink:
        source, target = frames_of(state.name)
        own = None if state.lost else self.tools._now(state.name)  # its own word, so that contradictions are seen
        return ChainLink(source, target, own, LOST if state.lost else "OK", LIVE,
                         state.age_s, self.tracker_error_mm, "" if not state.lost else state.status.lower(),
                         "assumed by the user")

    def _calibration_link(self, calibration: ProbeCalibration) -> ChainLink:
        corner = calibration.sigma_mm.get("corner", float("nan"))
        errors = [value for value in (corner, calibration.held_out_rms_mm, calibration.rms_mm) if np.isfinite(value)]
        error = max(errors, default=None)
        link = ChainLink(IMAGE, calibration.probe, calibration.probe_from_image, origin=CALIBRATION, error_mm=error,
                         validated_on=calibration.validated_on)
        return replace(link, status=STALE, why=self.calibration_problem) if self.calibration_problem else link


def _number(fields: dict[str, str], names: tuple[str, ...]) -> float | None:
    for name in names:
        try:
            value = float(fields[name])
        except (KeyError, TypeError, ValueError):
            continue
        if np.isfinite(value) and value > 0:
            return value
    return None


def _text(fields: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((fields[name] for name in names if fields.get(name)), None)
