"""MR and CT slices and X-ray frames, live: a finder of single pictures, then the track filter of the ultrasound.

It is used as a LivePipeline is. Results lie in frame "Image" of the newest picture: mm (or pixels) from the centre of
its first pixel, x along columns, y along rows, z along the slice's normal; the sender's matrix places them. The filter
itself works in the sender's space: a scanner's plane moves from picture to picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..geometry import Grid, InputError, NeedleEstimate, NeedleStatus, RefusedError, Volume
from .live import LatencyBudget, LiveResult
from .track import NeedleTracker, TrackOptions
from .ultrasound.detection import FrameDetection
from .ultrasound.scale import PixelScale, agreed_scale

OPTIONS = TrackOptions(confirm_hits=2, confirm_window=3, max_coast_s=1.5, fresh_s=0.5, max_gap_s=5.0,
                       min_confidence=0.0)
"""Slices come a few times a second: two of three that agree are a needle, and an unseen tip coasts for longer. Whether
there is a needle the finder has decided."""
MOST_SLICES = 8
SPACE = "Space"  # of the filter: the sender's, in three dimensions, as the scanner's plane moves


@dataclass(frozen=True)
class LiveSlice:
    """What a finder gets: `stack` (t, k, h, w), newest last; `spacing_mm` (column, row, slice) or None; the last
    estimate of this stream, before the filter, or None."""

    stack: np.ndarray
    spacing_mm: tuple[float, float, float] | None
    time_s: float
    previous: NeedleEstimate | None

    def volume(self) -> Volume:
        """The newest picture as a Volume whose RAS is frame "Image". Raises RefusedError without a spacing."""
        if self.spacing_mm is None:
            raise RefusedError("the pictures carry no scale: needles in MR and CT are found in mm only; send a matrix")
        newest = np.ascontiguousarray(self.stack[-1])
        return Volume(newest, Grid(newest.shape, np.diag([*self.spacing_mm, 1.0])), "live")


@dataclass(frozen=True)
class SliceFinder:
    """A finder of one needle in one picture: `find` gives it in frame "Image"; `method` names it."""

    modality: str
    method: str
    find: Callable[[LiveSlice], NeedleEstimate]
    stack_length: int = 1
    most_slices: int = 1
    options: TrackOptions = OPTIONS


def slice_finder(modality: str) -> SliceFinder:
    """The finder for live MR or CT slices. Raises InputError for another modality."""
    if modality == "MR":
        from .mr import find_needle_mr_slice

        def find_mr(live: LiveSlice) -> NeedleEstimate:
            return find_needle_mr_slice(live.volume(), previous=live.previous, time_s=live.time_s)

        return SliceFinder("MR", "void model, slice", find_mr)
    if modality == "CT":
        from .ct import find_needle_ct_slice

        def find_ct(live: LiveSlice) -> NeedleEstimate:
            return find_needle_ct_slice(live.volume(), time_s=live.time_s)

        return SliceFinder("CT", "metal line, slice", find_ct, most_slices=MOST_SLICES)
    raise InputError(f"no finder for live {modality} slices; MR and CT have one")


class SlicePipeline:
    """Slices in, needles out; one instance a stream, not shared between threads.

    Args:
        finder: see `slice_finder`, or IRAILib.fluoroscopy.live. scale: mm per pixel as the user knows
        it; the message's own must agree.
    """

    def __init__(self, finder: SliceFinder, tracker: NeedleTracker | None = None, *,
                 scale: PixelScale | None = None) -> None:
        self.detector = finder
        self.tracker = tracker or NeedleTracker(finder.options)
        self.scale = self.given = scale
        self._stack: list[np.ndarray] = []
        self._spacing: tuple[float, float, float] | None = None
        self._previous: NeedleEstimate | None = None
        self._space = np.eye(4)
        self._time_s: float | None = None
        self._gone = False

    def reset(self) -> None:
        """Forget pictures and track."""
        self._stack.clear()
        self._previous = self._time_s = None
        self._gone = False
        self.tracker.reset()

    def lose(self) -> None:
        """The connection is gone: whatever was seen is lost, at once, until new pictures come."""
        had = self._time_s is not None
        self.reset()
        self._gone = had

    def accept(self, array: np.ndarray) -> np.ndarray:
        """(k, h, w) of a message, colour made grey. Raises InputError for more slices than the finder takes."""
        from ..images.frames import grey

        image = np.asarray(array)
        image = image[None] if image.ndim == 2 else image
        if image.ndim == 4 and image.shape[3] in (3, 4):
            image = np.stack([grey(part) for part in image])
        elif image.ndim == 4 and image.shape[3] == 1:
            image = image[..., 0]
        if image.ndim != 3 or image.dtype.kind not in "iuf" or not 1 <= image.shape[0] <= self.detector.most_slices:
            raise InputError(f"the stream sends {image.dtype} pictures of {np.shape(array)}; live "
                             f"{self.detector.modality} takes 1 to {self.detector.most_slices} slices of grey values")
        return image

    def process(self, image: np.ndarray, time_s: float, received_time_s: float | None = None, *,
                matrix: np.ndarray | None = None) -> LiveResult:
        """The needle in the newest picture.

        Args: image: (k, h, w) or (h, w). matrix: (4, 4) index to space of the message; its columns are the spacing.
        Raises: InputError for a picture that the finder can't read, or a time that is no number; RefusedError for MR
            and CT without any spacing.
        """
        began = time.perf_counter()
        image = self.accept(image)
        if not np.isfinite(time_s):
            raise InputError("the picture's time is no number")
        spacing, scale, problem = self._spaced(matrix)
        if spacing != self._spacing or (self._stack and self._stack[-1].shape != image.shape):
            self.reset()
        self._spacing, self.scale = spacing, scale
        if self._time_s is not None and not 0.0 < time_s - self._time_s <= self.tracker.options.max_gap_s:
            self._stack.clear()
            self._previous = None
        self._time_s, self._gone = float(time_s), False
        self._stack.append(image)
        del self._stack[:-self.detector.stack_length]
        if matrix is not None and self.detector.modality != "XA":
            self._space = space_from_image(matrix, scale)
        previous = None if self._previous is None else self._in_image(self._previous)
        found = self.detector.find(LiveSlice(np.stack(self._stack), spacing, float(time_s), previous))
        placed = replace(found.mapped(self._space, SPACE, found.units), time_s=float(time_s))
        self._previous = placed if found.found else None
        inferred = time.perf_counter()
        estimate = self._in_image(self.tracker.update_estimate(placed))
        receive = None if received_time_s is None else 1e3 * (received_time_s - time_s)
        budget = LatencyBudget(receive, 1e3 * (inferred - began), 1e3 * (time.perf_counter() - inferred))
        return LiveResult(estimate, as_detection(found, scale), budget, scale, problem)

    def predict(self, time_s: float) -> NeedleEstimate:
        """The needle at display time: moved on by the latency, coasting or lost when pictures stay away."""
        estimate = self._in_image(self.tracker.predict(time_s))
        return replace(estimate, status=NeedleStatus.LOST, tip=None, curve=None, covariance=None) if self._gone \
            else estimate

    def _in_image(self, estimate: NeedleEstimate) -> NeedleEstimate:
        """From the filter's space into the newest picture."""
        return estimate.mapped(np.linalg.inv(self._space), "Image", estimate.units)

    def _spaced(self, matrix: np.ndarray | None) -> tuple[tuple[float, float, float] | None, PixelScale | None, str]:
        """Spacing, scale and what is wrong with them. MR and CT senders state it; 1 mm is 1 mm there. X-ray detectors
        don't know the size at the device, so only the user's counts."""
        if self.detector.modality == "XA" or matrix is None:
            scale = self.given
            return None if scale is None else (*scale.mm_per_px, 1.0), scale, ""
        lengths = [round(float(np.linalg.norm(column)), 4) for column in np.asarray(matrix, float)[:3, :3].T]  # as told
        told = PixelScale(lengths[0], lengths[1], "message")
        try:
            scale = agreed_scale([told, self.given])
        except RefusedError as error:
            raise InputError(str(error)) from None
        return (lengths[0], lengths[1], lengths[2] if lengths[2] > 0 else 1.0), scale, ""


def as_detection(found: NeedleEstimate, scale: PixelScale | None) -> FrameDetection:
    """What a finder saw, in pixels of the picture; nothing found, without a tip."""
    if not found.found or found.tip is None or found.direction is None or found.covariance is None:
        return FrameDetection(False, confidence=found.confidence, in_plane=found.in_plane, method=found.method)
    unit = np.ones(2) if scale is None or found.units == "px" else np.array(scale.mm_per_px)
    entry = None if found.curve is None else np.asarray(found.curve, float)[0, :2] / unit
    return FrameDetection(True, found.tip[:2] / unit, found.direction[:2] / unit, entry,
                          found.covariance[:2, :2] / np.outer(unit, unit), found.direction_sigma_deg,
                          found.confidence, found.visible_fraction, found.in_plane, found.method)


def space_from_image(ras_from_image: np.ndarray, scale: PixelScale | None) -> np.ndarray:
    """(4, 4) from frame "Image" (mm with a scale, else pixels) to the space of the picture's matrix.

    The third axis is a unit normal: a distance across the picture is mm whatever thickness the sender states.
    """
    matrix = np.array(ras_from_image, float)
    if scale is not None:
        matrix[:3, 0] /= scale.mm_per_px_x
        matrix[:3, 1] /= scale.mm_per_px_y
    normal = matrix[:3, 2]
    length = float(np.linalg.norm(normal))
    if length < 1e-9:
        normal = np.cross(matrix[:3, 0], matrix[:3, 1])
        length = max(float(np.linalg.norm(normal)), 1e-12)
    matrix[:3, 2] = normal / length
    return matrix
