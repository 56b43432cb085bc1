"""The needle over time: confirmed before it is shown, coasting when unseen, and lost when unseen for too long.

A detection becomes a needle only when `confirm_hits` of `confirm_window` frames agree. An unseen needle is
predicted with growing covariance for `max_coast_s`, then it is LOST: the last pose is never shown as a live one.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from ..geometry import InputError, NeedleEstimate, NeedleStatus
from .motion import DirectionState, MotionFilter, TipState, direction_updated, turned
from .ultrasound.detection import FrameDetection
from .ultrasound.scale import PixelScale

VALIDATED_ON = "simulated ultrasound, an independent simulator and single real frames; not validated clinically"


@dataclass(frozen=True)
class TrackOptions:
    """What the tracker may assume. Times in seconds, lengths in mm.

    Attributes:
        confirm_hits, confirm_window: so many of the last so many frames must agree before a needle is shown.
        max_coast_s: longest time an unseen tip is predicted; after it the needle is lost.
        gate_probability: share of true measurements that the gate lets through.
        min_confidence: detections below are as good as none.
        out_of_plane_below: `in_plane` under which a tip isn't taken for the needle's tip.
        max_gap_s: a longer pause between frames ends the track. backwards_s: time that goes back further starts anew.
        fresh_s: a tip measured so recently still counts as seen when predicted to display time.
        extra_sigma_mm: added to every measurement's covariance (speckle that the detector can't know of).
        px_per_mm: what is assumed for the motion, and for nothing else, where no scale is known.
    """

    confirm_hits: int = 3
    confirm_window: int = 5
    max_coast_s: float = 0.6
    gate_probability: float = 0.997
    min_confidence: float = 0.5
    out_of_plane_below: float = 0.5
    max_gap_s: float = 1.0
    backwards_s: float = 1.0
    fresh_s: float = 0.2
    extra_sigma_mm: float = 0.15
    px_per_mm: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.confirm_hits <= self.confirm_window:
            raise InputError(f"confirm_hits must lie in 1..confirm_window, not {self.confirm_hits} of "
                             f"{self.confirm_window}")
        if not (0 < self.gate_probability < 1 and self.max_coast_s > 0 and self.max_gap_s > 0 and self.px_per_mm > 0):
            raise InputError("the tracker's times and lengths must be positive, its gate between 0 and 1")


@dataclass(frozen=True)
class _Measured:
    """One frame as the filter takes it; `tip` is None when there is no needle, or its tip is out of the plane."""

    time_s: float
    units: str
    frame: str
    modality: str
    method: str
    confidence: float
    dimension: int
    validated_on: str
    tip: np.ndarray | None = None
    covariance: np.ndarray | None = None
    direction: np.ndarray | None = None
    direction_sigma_deg: float = 2.0
    entry: np.ndarray | None = None
    visible: float | None = None
    in_plane: float | None = None
    out_of_plane: bool = False


@dataclass(frozen=True)
class _Track:
    """One hypothesis: state at `time_s`, last measured at `measured_s`, which of its frames agreed."""

    state: TipState
    heading: DirectionState
    time_s: float
    measured_s: float
    hits: tuple[bool, ...]
    last: _Measured


class NeedleTracker:
    """Feed it every frame's detection, found or not; it says where the needle is, and what that is worth.

    Not thread-safe: one thread updates; `predict` may be called by that thread at any later time.
    """

    def __init__(self, options: TrackOptions | None = None) -> None:
        self.options = options or TrackOptions()
        self.dropped = 0  # frames that came late and were not used
        self.reset()

    def reset(self) -> None:
        """Forget the needle: another probe, patient or scale."""
        self._shown: _Track | None = None
        self._tentative: _Track | None = None
        self._lost = False
        self._out: deque[bool] = deque(maxlen=self.options.confirm_window)
        self._now: _Measured | None = None
        self._filter = MotionFilter()

    def update(self, detection: FrameDetection, time_s: float, scale: PixelScale | None = None) -> NeedleEstimate:
        """The needle after one more ultrasound frame.

        Args:
            detection: in pixels. time_s: when the frame was acquired. scale: None keeps everything in pixels.
        Returns: tip (x, y, 0) in mm or px of frame "Image".
        Raises: InputError for a time that is no number.
        """
        return self._advance(_from_detection(detection, time_s, scale, self.options))

    def update_estimate(self, estimate: NeedleEstimate) -> NeedleEstimate:
        """The same for an estimate of any modality, in 2D or 3D; its own `time_s` counts."""
        return self._advance(_from_estimate(estimate, self.options))

    def _advance(self, measured: _Measured) -> NeedleEstimate:
        if not math.isfinite(measured.time_s):
            raise InputError(f"a frame's time must be a number of seconds, not {measured.time_s}")
        before = self._now
        if before is not None:
            dt = measured.time_s - before.time_s
            same = (measured.units, measured.frame, measured.dimension) == (
                before.units, before.frame, before.dimension)
            if not same or dt < -self.options.backwards_s:
                self.reset()
            elif dt <= 0:
                self.dropped += 1
                return self.predict(before.time_s)
            elif dt > self.options.max_gap_s:
                had = self._shown is not None or self._lost
                self.reset()
                self._lost = had
        self._now = measured
        self._filter.unit = 1.0 if measured.units == "mm" else self.options.px_per_mm
        self._out.append(measured.out_of_plane)
        self._shown = self._continued(self._shown, measured, always=True)
        if self._shown is not None and measured.time_s - self._shown.measured_s > self.options.max_coast_s:
            self._shown, self._lost = None, True
        taken = self._shown is not None and self._shown.hits[-1]
        self._tentative = None if taken else self._confirmed_or_tried(measured)
        return self.predict(measured.time_s)

    def _continued(self, track: _Track | None, measured: _Measured, *, always: bool) -> _Track | None:
        """The track one frame on, with the measurement if it lies in the gate; None when it may end and has to."""
        if track is None:
            return None
        dt = measured.time_s - track.time_s
        state = self._filter.predicted(track.state, dt, track.heading.direction)
        heading = turned(track.heading, dt)
        hit = False
        if measured.tip is not None and measured.covariance is not None and measured.direction is not None:
            gate = float(stats.chi2.ppf(self.options.gate_probability, measured.dimension))
            hit = self._filter.distance(state, measured.tip, measured.covariance) <= gate
            hit = hit and float(heading.direction @ measured.direction) > 0.7
            if hit:
                state = self._filter.updated(state, measured.tip, measured.covariance)
                heading = direction_updated(heading, measured.direction, measured.direction_sigma_deg)
        hits = (*track.hits, hit)[-self.options.confirm_window:]
        misses = len(hits) - sum(hits)
        if not always and misses > self.options.confirm_window - self.options.confirm_hits:
            return None
        return _Track(state, heading, measured.time_s, measured.time_s if hit else track.measured_s, hits,
                      measured if hit else track.last)

    def _confirmed_or_tried(self, measured: _Measured) -> _Track | None:
        """The tentative track one frame on; it becomes the shown one when enough frames agree."""
        track = self._continued(self._tentative, measured, always=False)
        if track is None and measured.tip is not None and measured.covariance is not None:
            assert measured.direction is not None
            sigma = math.radians(max(measured.direction_sigma_deg, 0.05))
            track = _Track(self._filter.start(measured.tip, measured.covariance, measured.direction),
                           DirectionState(measured.direction, sigma**2), measured.time_s, measured.time_s, (True,),
                           measured)
        if track is not None and track.hits[-1] and sum(track.hits) >= self.options.confirm_hits:
            self._shown, self._lost = track, False
            return None
        return track

    def predict(self, time_s: float) -> NeedleEstimate:
        """The needle at `time_s` (display time), with its covariance; a time before the last frame counts as that.

        Nothing changes by asking. A tip older than `max_coast_s` is LOST, whoever asks.
        Raises: InputError for a time that is no number.
        """
        if not math.isfinite(time_s):
            raise InputError(f"the time to predict to must be a number of seconds, not {time_s}")
        now = self._now
        if now is None:
            return NeedleEstimate(NeedleStatus.ABSENT, time_s, "Image", "px", "", "track", VALIDATED_ON)
        time_s = max(time_s, now.time_s)
        empty = NeedleEstimate(
            NeedleStatus.LOST if self._lost else NeedleStatus.ABSENT, time_s, now.frame, now.units, now.modality,
            now.method, now.validated_on, confidence=now.confidence, in_plane=now.in_plane,
            visible_fraction=now.visible)
        if sum(self._out) >= self.options.confirm_hits and now.out_of_plane:
            return replace(empty, status=NeedleStatus.OUT_OF_PLANE, direction=_in_space(now.direction))
        track = self._shown
        if track is None:
            return empty
        age = time_s - track.measured_s
        if age > self.options.max_coast_s:
            return replace(empty, status=NeedleStatus.LOST, age_s=age)
        seen = track.hits[-1] and age <= self.options.fresh_s
        return self._estimate(track, time_s, age, seen, empty)

    def _estimate(self, track: _Track, time_s: float, age: float, seen: bool, empty: NeedleEstimate) -> NeedleEstimate:
        state = self._filter.predicted(track.state, time_s - track.time_s, track.heading.direction)
        heading = turned(track.heading, time_s - track.time_s)
        d = state.dimension
        tip, covariance = np.zeros(3), np.zeros((3, 3))
        tip[:d], covariance[:d, :d] = state.mean[:d], state.covariance[:d, :d]
        last = track.last
        curve = None
        if last.entry is not None:
            entry = np.zeros(3)
            entry[: len(last.entry)] = last.entry
            curve = np.stack([entry, tip])
        return replace(
            empty, status=NeedleStatus.SEEN if seen else NeedleStatus.COASTING, tip=tip, covariance=covariance,
            direction=_in_space(heading.direction), direction_sigma_deg=math.degrees(math.sqrt(heading.variance)),
            curve=curve, age_s=age, method=last.method,
            confidence=last.confidence * (1.0 if seen else math.exp(-age / self.options.max_coast_s)),
            in_plane=last.in_plane, visible_fraction=last.visible)


def _in_space(vector: np.ndarray | None) -> np.ndarray | None:
    if vector is None or len(vector) == 3:
        return vector
    return np.array([vector[0], vector[1], 0.0])


def _from_detection(detection: FrameDetection, time_s: float, scale: PixelScale | None,
                    options: TrackOptions) -> _Measured:
    """A frame's detection in mm (or in pixels without a scale)."""
    units, unit = ("px", options.px_per_mm) if scale is None else ("mm", 1.0)
    base = _Measured(float(time_s), units, "Image", "US", detection.method, detection.confidence, 2, VALIDATED_ON,
                     in_plane=detection.in_plane, visible=detection.visible_fraction)
    if not detection.found or detection.confidence < options.min_confidence:
        return base
    assert detection.tip_px is not None
    assert detection.direction is not None
    assert detection.covariance_px is not None
    tip, direction, covariance, entry = (detection.tip_px, detection.direction, detection.covariance_px,
                                         detection.entry_px)
    if scale is not None:
        tip, direction, covariance = (scale.points_mm(tip), scale.direction_mm(direction),
                                      scale.covariance_mm(covariance))
        entry = None if entry is None else scale.points_mm(entry)
    out = detection.in_plane is not None and detection.in_plane < options.out_of_plane_below
    sigma = detection.direction_sigma_deg
    base = replace(base, direction=direction, direction_sigma_deg=2.0 if sigma is None else sigma, out_of_plane=out)
    if out:
        return base
    return replace(base, tip=tip, covariance=covariance + np.eye(2) * (options.extra_sigma_mm * unit) ** 2, entry=entry)


def _from_estimate(estimate: NeedleEstimate, options: TrackOptions) -> _Measured:
    """An estimate of any modality; those of a picture (frame "Image") are filtered in two dimensions."""
    unit = 1.0 if estimate.units == "mm" else options.px_per_mm
    flat = estimate.frame == "Image"
    d = 2 if flat else 3
    base = _Measured(float(estimate.time_s), estimate.units, estimate.frame, estimate.modality, estimate.method,
                     estimate.confidence, d, estimate.validated_on, in_plane=estimate.in_plane,
                     visible=estimate.visible_fraction)
    direction = None if estimate.direction is None else np.asarray(estimate.direction)[:d]
    if estimate.status is NeedleStatus.OUT_OF_PLANE:
        return replace(base, direction=direction, out_of_plane=True)
    if estimate.status is not NeedleStatus.SEEN or direction is None or estimate.confidence < options.min_confidence:
        return base
    assert estimate.tip is not None
    extra = np.eye(d) * (options.extra_sigma_mm * unit) ** 2
    covariance = extra if estimate.covariance is None else np.asarray(estimate.covariance)[:d, :d] + extra
    entry = None if estimate.curve is None else np.asarray(estimate.curve, float)[0][:d]
    sigma = 2.0 if estimate.direction_sigma_deg is None else estimate.direction_sigma_deg
    return replace(base, tip=np.asarray(estimate.tip)[:d], covariance=covariance, direction=direction, entry=entry,
                   direction_sigma_deg=sigma)
