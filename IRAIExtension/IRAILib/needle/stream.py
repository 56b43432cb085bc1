"""A needle followed in a live OpenIGTLink image stream, in a thread: newest frame first, the truth when it stops."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, NeedleEstimate, RefusedError
from .live import LivePipeline, LiveResult
from .live_slices import SlicePipeline, space_from_image

LOGGER = logging.getLogger("IRAI.needle")
POLL_S = 0.005  # another reader of the same link may have answered the bell first
MAX_CLOCK_OFFSET_S = 5.0  # a sender whose clock is further off than this gives no latency, only times


@dataclass(frozen=True)
class StreamResult:
    """A LiveResult with the image it belongs to: `ras_from_image` maps (column, row, 0) to `frame`, mm."""

    result: LiveResult
    device: str
    ras_from_image: np.ndarray
    frame: str
    received_s: float

    @property
    def estimate(self) -> NeedleEstimate:
        return self.result.estimate

    def tracked(self) -> NeedleEstimate:
        """The needle in mm of the sender's frame, through the image's own matrix.

        Raises InputError without a scale: the matrix of such an image holds no millimetres.
        """
        return tracked_estimate(self.result.estimate, self.result, self.ras_from_image, self.frame)


def tracked_estimate(estimate: NeedleEstimate, result: LiveResult, ras_from_image: np.ndarray,
                     frame: str) -> NeedleEstimate:
    """`estimate` (frame "Image") through an image's (4, 4) index-to-space matrix into `frame`, mm."""
    if result.scale is None:
        raise InputError("the image stream carries no scale: a tip in pixels can't be placed in space; "
                         "give mm per pixel, or send calibrated images")
    return estimate.mapped(space_from_image(ras_from_image, result.scale), frame)


def frame_of_device(device: str) -> str:
    """The frame that a PLUS image device names: Image_Reference is an image in Reference; else "RAS"."""
    _, mark, frame = device.partition("_")
    return frame if mark and frame else "RAS"


class NeedleStream:
    """Takes the newest image of a LinkClient or LinkServer, finds the needle, hands the result over.

    A frame that comes while another is worked on replaces the one that waits: the answer is about now. When images
    stop or the connection is lost, `estimate_at` coasts and then says LOST: no old tip is ever live.

    Args:
        link: started LinkClient or LinkServer. pipeline: LivePipeline or SlicePipeline, used by this thread alone.
        device: name of the image device; None takes the first that sends.
        on_result: called in the thread with each StreamResult.
    """

    def __init__(self, link: Any, pipeline: LivePipeline | SlicePipeline, device: str | None = None,
                 on_result: Callable[[StreamResult], None] | None = None) -> None:
        self.link, self.pipeline, self.device, self.on_result = link, pipeline, device, on_result
        self.frames = self.refused = 0  # worked on, and of no use
        self.problem = self.last_refusal = ""
        self._latest: StreamResult | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: Any = None
        self._offset_s: float | None = None
        self._broken = False

    def start(self) -> NeedleStream:
        """Begin; a second call does nothing. Returns itself."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="IRAI needle", daemon=True)
            self._thread.start()
        return self

    def close(self) -> None:
        """End the thread; the link stays as it is."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5.0)

    def __enter__(self) -> NeedleStream:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def busy(self) -> bool:
        """Whether a frame is being worked on now; the track can't be asked without waiting then."""
        return self._lock.locked()

    @property
    def failed(self) -> bool:
        """Whether the thread ended by itself: the detector raised what it must not."""
        return self._broken

    @property
    def latest(self) -> StreamResult | None:
        """The newest result, or None: nothing came yet, or the connection is gone."""
        with self._lock:
            return self._latest

    def estimate_at(self, time_s: float | None = None) -> NeedleEstimate:
        """The needle at display time (default now, on the sender's clock): predicted, coasting or lost."""
        with self._lock:
            offset = self._offset_s or 0.0
            return self.pipeline.predict((time.time() - offset) if time_s is None else time_s)

    def step(self) -> StreamResult | None:
        """Work on the newest image, if there is one that wasn't seen; for callers without the thread, and tests."""
        message = self._newest()
        if message is None:
            return None
        frame = self.pipeline.accept(message.array)
        received = float(message.received_time_s)
        sent = float(message.time_s or received)
        if self._offset_s is None or abs(received - sent - self._offset_s) > MAX_CLOCK_OFFSET_S:
            offset = received - sent
            self._offset_s = 0.0 if 0 <= offset < MAX_CLOCK_OFFSET_S else offset
        clock = received if self._offset_s == 0.0 else None
        with self._lock:
            result = self.pipeline.process(frame, sent, clock, matrix=message.ras_from_ijk)
            self.problem = result.problem
            found = StreamResult(result, message.device, np.asarray(message.ras_from_ijk, float),
                                 frame_of_device(message.device), float(message.received_s))
            self._latest = found
        self.frames += 1
        return found

    def _newest(self) -> Any:
        if self.device is None:
            images = [entry.device for entry in self.link.status().devices if entry.type == "IMAGE"]
            self.device = images[0] if images else None
            if self.device is None:
                return None
        message = self.link.latest("IMAGE", self.device)
        if message is None:
            if self._last is not None:
                self._forget()
            return None
        if message is self._last:
            return None
        self._last = message
        return message

    def _forget(self) -> None:
        """The connection is gone: what was seen before it is no longer live."""
        with self._lock:
            self._last = self._latest = None
            self.pipeline.lose()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                found = self.step()
            except (InputError, RefusedError) as error:  # one bad frame; the stream goes on and says why
                self.problem = self.last_refusal = str(error)
                self.refused += 1
                LOGGER.warning("needle stream: %s", error)
                continue
            except Exception:  # a detector that is broken; whoever shows the needle asks `failed`
                LOGGER.exception("needle stream: the detector failed")
                self._broken = True
                self._forget()
                return
            if found is None:
                self.link.wait(POLL_S)
            elif self.on_result is not None:
                self.on_result(found)
