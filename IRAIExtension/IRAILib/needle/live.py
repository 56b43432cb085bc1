"""From an ultrasound frame to a needle on the screen: detector, track filter, scale, and where the time went."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..geometry import InputError, MissingPackageError, NeedleEstimate, NeedleStatus, RefusedError
from .track import NeedleTracker
from .ultrasound.detection import Detector, FrameDetection
from .ultrasound.region import Region
from .ultrasound.scale import PixelScale, agreed_scale, scale_from_matrix

LOGGER = logging.getLogger("IRAI.needle")
MAX_GAP_S = 1.0  # frames further apart are no film: the stack begins anew
DETECTORS = ("auto", "network", "classical", "both")


@dataclass(frozen=True)
class LatencyBudget:
    """Where the time between the transducer and the screen goes, in ms.

    `receive_ms` is None where sender and receiver share no clock (a file); `render_ms` is filled by who renders.
    """

    receive_ms: float | None
    infer_ms: float
    filter_ms: float
    render_ms: float | None = None

    @property
    def total_ms(self) -> float:
        """Sum of the parts that are known."""
        parts = (self.receive_ms, self.infer_ms, self.filter_ms, self.render_ms)
        return sum(part for part in parts if part is not None)

    def to_dict(self) -> dict[str, float | None]:
        return {"receive_ms": self.receive_ms, "infer_ms": self.infer_ms, "filter_ms": self.filter_ms,
                "render_ms": self.render_ms, "total_ms": self.total_ms}


@dataclass(frozen=True)
class LiveResult:
    """One frame's answer: the filtered needle, what the detector saw (full picture pixels), and the budget."""

    estimate: NeedleEstimate
    detection: FrameDetection
    budget: LatencyBudget
    scale: PixelScale | None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"estimate": self.estimate.to_dict(), "detection": self.detection.to_dict(),
                "budget": self.budget.to_dict(), "scale": None if self.scale is None else self.scale.to_dict(),
                "problem": self.problem}


def make_detector(name: str = "auto") -> Detector:
    """The detector by name. "auto" is the network, or the classical one where the network can't run; "both" has the
    doubts of the network settled by the classical one, which is too slow for live pictures.

    Raises: InputError for an unknown name; MissingPackageError for "network" and "both" without the runtime.
    """
    from .ultrasound.classical import ClassicalDetector

    if name not in DETECTORS:
        raise InputError(f"no detector '{name}'; choose from {', '.join(DETECTORS)}")
    if name == "classical":
        return ClassicalDetector()
    try:
        from .ultrasound.agreed import AgreedDetector
        from .ultrasound.network import NetworkDetector

        return AgreedDetector() if name == "both" else NetworkDetector()
    except MissingPackageError as error:
        if name != "auto":
            raise
        LOGGER.warning("the needle network can't run (%s): the classical detector is used", error)
        return ClassicalDetector()


class LivePipeline:
    """Frames in, needles out; one instance a stream, not shared between threads.

    Args:
        detector: see `make_detector`; default "auto".
        tracker: a NeedleTracker; default options when None.
        scale: mm per pixel where it is known beforehand; a message may bring it later, and must agree.
        region: the ultrasound's part of the picture, for screens with writing on them; None is the whole picture.
    """

    def __init__(self, detector: Detector | None = None, tracker: NeedleTracker | None = None, *,
                 scale: PixelScale | None = None, region: Region | None = None) -> None:
        self.detector = detector or make_detector()
        self.tracker = tracker or NeedleTracker()
        self.scale, self.region = scale, region
        self._stack: list[np.ndarray] = []
        self._time_s: float | None = None
        self._gone = False

    def reset(self) -> None:
        """Forget frames and track: another stream, another depth, a lost connection."""
        self._stack.clear()
        self._time_s = None
        self._gone = False
        self.tracker.reset()

    def lose(self) -> None:
        """The connection is gone: whatever was seen before is lost, at once, until new frames come."""
        had = self._time_s is not None
        self.reset()
        self._gone = had

    def process(self, image: np.ndarray, time_s: float, received_time_s: float | None = None, *,
                matrix: np.ndarray | None = None) -> LiveResult:
        """The needle in the newest frame.

        Args:
            image: (h, w) or (h, w, 3), uint8.
            time_s: acquisition time, s; a frame that isn't newer than the last one starts a new film.
            received_time_s: when it arrived, on the same clock, for the budget.
            matrix: (4, 4) of the message's image, which may carry the scale.
        Raises: InputError for another shape or type of image, or a time that is no number.
        """
        began = time.perf_counter()
        frame = self._grey(image)
        if not np.isfinite(time_s):
            raise InputError("the frame's time is no number")
        scale, problem = self._scale_with(matrix)
        if scale != self.scale:
            self.reset()  # another depth: nothing of the old track has the same mm
            self.scale = scale
        self._remember(frame, time_s)
        detection = self.detect(np.stack(self._stack))
        inferred = time.perf_counter()
        estimate = self.tracker.update(detection, time_s, self.scale)
        done = time.perf_counter()
        receive = None if received_time_s is None else 1e3 * (received_time_s - time_s)
        budget = LatencyBudget(receive, 1e3 * (inferred - began), 1e3 * (done - inferred))
        return LiveResult(estimate, detection, budget, self.scale, problem)

    def predict(self, time_s: float) -> NeedleEstimate:
        """The needle at display time: moved on by the latency, coasting or lost when frames stay away."""
        estimate = self.tracker.predict(time_s)
        return replace(estimate, status=NeedleStatus.LOST) if self._gone else estimate

    def accept(self, array: np.ndarray) -> np.ndarray:
        """(1, h, w[, c]) of a message to (h, w[, 3]) uint8. Raises InputError for a volume, or other than 8 bits."""
        image = np.asarray(array)
        if image.ndim >= 3 and image.shape[0] == 1:
            image = image[0]
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[..., 0]
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
            raise InputError(f"the stream sends a volume of {array.shape}; a needle is followed in 2D frames")
        if image.dtype != np.uint8:
            raise InputError(f"the stream sends {image.dtype} pixels; ultrasound frames have 8 bits")
        return image

    def _grey(self, image: np.ndarray) -> np.ndarray:
        from ..images.frames import grey

        array = np.asarray(image)
        if array.ndim == 3 and array.shape[2] in (3, 4):
            array = grey(array)
        if array.ndim != 2 or array.dtype != np.uint8:
            raise InputError("an ultrasound frame must be (h, w) or (h, w, 3) of 8 bits, "
                             f"not {array.shape} {array.dtype}")
        return array

    def _scale_with(self, matrix: np.ndarray | None) -> tuple[PixelScale | None, str]:
        if matrix is None:
            return self.scale, ""
        try:
            told = scale_from_matrix(matrix, "message")
        except InputError as error:
            return self.scale, str(error)
        if told is None or self.scale is None or self.scale.source == "message":
            return (told or self.scale), ""  # the sender's own change of depth is followed
        try:
            return agreed_scale([self.scale, told]), ""
        except RefusedError as error:
            return None, f"{error}; tips are given in pixels until then"

    def _remember(self, frame: np.ndarray, time_s: float) -> None:
        gap = None if self._time_s is None else time_s - self._time_s
        if (gap is not None and not 0 < gap <= MAX_GAP_S) or (self._stack and self._stack[-1].shape != frame.shape):
            self._stack.clear()
        self._time_s = time_s
        self._gone = False
        self._stack.append(frame)
        del self._stack[:-max(self.detector.stack_length, 1)]

    def detect(self, stack: np.ndarray) -> FrameDetection:
        """The needle in the last of (t, h, w) uint8 frames, in pixels of the full picture; the track is untouched."""
        mm_per_px = None if self.scale is None else self.scale.mm_per_px
        if self.region is None or self.region.mask.shape != stack.shape[1:]:
            return self.detector.detect(stack, mm_per_px=mm_per_px)
        x0, y0, x1, y1 = self.region.box
        part = stack[:, y0:y1 + 1, x0:x1 + 1] * self.region.mask[y0:y1 + 1, x0:x1 + 1]
        return _moved(self.detector.detect(part, mm_per_px=mm_per_px), np.array([x0, y0], float))


def _moved(detection: FrameDetection, offset_px: np.ndarray) -> FrameDetection:
    return replace(detection,
                   tip_px=None if detection.tip_px is None else detection.tip_px + offset_px,
                   entry_px=None if detection.entry_px is None else detection.entry_px + offset_px)
