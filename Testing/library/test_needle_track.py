"""The needle's track: against filterpy, against its own promise (NEES), and against the clock."""

from __future__ import annotations

import math

import numpy as np
import pytest
from IRAILib.geometry import InputError, NeedleEstimate, NeedleStatus
from IRAILib.needle.motion import ADVANCING, HELD, MotionFilter, process_noise, shaft_axes, transition
from IRAILib.needle.track import NeedleTracker, TrackOptions
from IRAILib.needle.ultrasound import FrameDetection, PixelScale
from scipy import stats

SCALE = PixelScale(0.1, 0.1, "user")
AXIS = np.array([math.cos(math.radians(35)), math.sin(math.radians(35))])
FRAME_S = 0.04
NOTHING = FrameDetection(found=False)


def seen(tip_mm, sigma_mm=0.3, direction=AXIS, in_plane=None, confidence=0.9) -> FrameDetection:
    return FrameDetection(found=True, tip_px=np.asarray(tip_mm) / 0.1, direction=direction,
                          covariance_px=np.eye(2) * (sigma_mm / 0.1) ** 2, direction_sigma_deg=1.0,
                          entry_px=np.zeros(2), confidence=confidence, in_plane=in_plane, method="test")


def advanced(tracker: NeedleTracker, frames: int, speed_mm_s: float = 10.0, start: float = 100.0) -> NeedleEstimate:
    """A needle without noise along AXIS, one frame every FRAME_S."""
    estimate = None
    for k in range(frames):
        estimate = tracker.update(seen(10 + AXIS * speed_mm_s * k * FRAME_S), start + k * FRAME_S, SCALE)
    assert estimate is not None
    return estimate


def test_filter_agrees_with_filterpy() -> None:
    kalman = pytest.importorskip("filterpy.kalman")
    own = MotionFilter()
    generator = np.random.default_rng(3)
    noise = np.diag([0.2, 0.1])
    state = own.start(np.array([5.0, 7.0]), noise, AXIS)
    filters = []
    for motion in (HELD, ADVANCING):
        peer = kalman.KalmanFilter(dim_x=4, dim_z=2)
        peer.x, peer.P = state.means[0].copy(), state.covariances[0].copy()
        peer.F = transition(motion, FRAME_S, 2)
        peer.Q = process_noise(motion, FRAME_S, shaft_axes(AXIS))
        peer.H, peer.R = np.eye(2, 4), noise
        filters.append(peer)
    peer = kalman.IMMEstimator(filters, np.array([0.5, 0.5]), own.change_matrix(FRAME_S))
    for k in range(60):
        tip = np.array([5.0, 7.0]) + AXIS * max(0, k - 20) * 0.6 + generator.multivariate_normal([0, 0], noise)
        state = own.updated(own.predicted(state, FRAME_S, AXIS), tip, noise)
        peer.predict()
        peer.update(tip)
        np.testing.assert_allclose(state.mean, peer.x, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(state.covariance, peer.P, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(state.probabilities, peer.mu, atol=1e-6)


def test_motions_are_exact_in_one_step_and_in_many() -> None:
    for motion in (HELD, ADVANCING):
        many = np.linalg.matrix_power(transition(motion, 0.01, 2), 10)
        np.testing.assert_allclose(many, transition(motion, 0.1, 2), atol=1e-12)
    steps, total = transition(ADVANCING, 0.01, 2), np.zeros((4, 4))
    for _ in range(10):
        total = steps @ total @ steps.T + process_noise(ADVANCING, 0.01, shaft_axes(AXIS))
    np.testing.assert_allclose(total, process_noise(ADVANCING, 0.1, shaft_axes(AXIS)), rtol=1e-9)


def test_shaft_axes_are_a_rotation_with_the_shaft_first() -> None:
    for direction in (AXIS, np.array([0.0, -1.0]), np.array([1.0, 2.0, -2.0])):
        axes = shaft_axes(direction)
        np.testing.assert_allclose(axes.T @ axes, np.eye(len(direction)), atol=1e-12)
        np.testing.assert_allclose(axes[:, 0], direction / np.linalg.norm(direction), atol=1e-12)
    with pytest.raises(InputError):
        shaft_axes(np.zeros(2))


def _path(generator, frames: int) -> np.ndarray:
    """A tip that follows the filter's own two motions: (frames, 2) mm."""
    axes, state, mode = shaft_axes(AXIS), np.zeros(4), 0
    tips = []
    for _ in range(frames):
        motion = (HELD, ADVANCING)[mode]
        if generator.random() > math.exp(-FRAME_S / motion.stay_s):
            mode = 1 - mode
            motion = (HELD, ADVANCING)[mode]
        state = transition(motion, FRAME_S, 2) @ state + generator.multivariate_normal(
            np.zeros(4), process_noise(motion, FRAME_S, axes))
        tips.append(state[:2].copy())
    return np.array(tips) + 50.0


def test_uncertainty_holds_what_it_promises() -> None:
    """NEES of the tip over Monte Carlo: mean 2 (two dimensions); its 95 % ellipse holds 95 % of the tips."""
    generator = np.random.default_rng(11)
    sigma, nees, coasting = 0.4, [], []
    for _ in range(60):
        tracker = NeedleTracker(TrackOptions(extra_sigma_mm=0.0, gate_probability=0.99999))
        path = _path(generator, 40)
        for k, tip in enumerate(path):
            blind = 30 <= k < 36
            detection = NOTHING if blind else seen(tip + generator.normal(0, sigma, 2), sigma)
            estimate = tracker.update(detection, k * FRAME_S, SCALE)
            if k < 8 or estimate.tip is None or estimate.covariance is None:
                continue
            apart = estimate.tip[:2] - tip
            value = apart @ np.linalg.solve(estimate.covariance[:2, :2], apart)
            (coasting if blind else nees).append(value)
    assert len(nees) > 1500
    assert len(coasting) > 300
    assert 1.7 < np.mean(nees) < 2.4
    assert 0.92 < np.mean(np.array(nees) < stats.chi2.ppf(0.95, 2)) < 0.98
    assert 0.88 < np.mean(np.array(coasting) < stats.chi2.ppf(0.95, 2)) <= 1.0


def test_tracking_is_nearer_than_measuring() -> None:
    generator = np.random.default_rng(5)
    tracker, raw, filtered = NeedleTracker(), [], []
    for k in range(120):
        tip = 10 + AXIS * 8.0 * k * FRAME_S
        measured = tip + generator.normal(0, 0.6, 2)
        estimate = tracker.update(seen(measured, 0.6), k * FRAME_S, SCALE)
        if k > 20 and estimate.tip is not None:
            raw.append(np.linalg.norm(measured - tip))
            filtered.append(np.linalg.norm(estimate.tip[:2] - tip))
    assert np.mean(filtered) < 0.8 * np.mean(raw)


def test_prediction_to_display_time_takes_the_latency_away() -> None:
    tracker = NeedleTracker()
    now = advanced(tracker, 60, speed_mm_s=20.0)
    later = tracker.predict(now.time_s + 0.08)
    truth = 10 + AXIS * 20.0 * (59 * FRAME_S + 0.08)
    assert np.linalg.norm(later.tip[:2] - truth) < 0.4
    assert np.linalg.norm(now.tip[:2] - truth) > 1.2
    assert later.status is NeedleStatus.SEEN
    assert later.age_s == pytest.approx(0.08)
    assert np.trace(later.covariance) > np.trace(now.covariance)
    again = tracker.predict(now.time_s)
    np.testing.assert_allclose(again.tip, now.tip)


def test_single_false_alarms_are_never_shown() -> None:
    generator = np.random.default_rng(0)
    tracker = NeedleTracker()
    for k in range(400):
        alarm = generator.random() < 0.3
        detection = seen(generator.uniform(0, 60, 2)) if alarm else NOTHING
        assert tracker.update(detection, k * FRAME_S, SCALE).status is NeedleStatus.ABSENT


def test_confirmation_needs_k_of_n() -> None:
    tracker = NeedleTracker(TrackOptions(confirm_hits=3, confirm_window=5))
    pattern = [True, False, True, False, True, True]
    states = [tracker.update(seen((10, 10)) if hit else NOTHING, k * FRAME_S, SCALE).status
              for k, hit in enumerate(pattern)]
    assert states[:4] == [NeedleStatus.ABSENT] * 4
    assert states[4:] == [NeedleStatus.SEEN] * 2


def test_coasting_grows_unsure_and_then_loses() -> None:
    tracker = NeedleTracker(TrackOptions(max_coast_s=0.5))
    estimate = advanced(tracker, 20, start=0.0)
    last, sigmas = estimate.time_s, [estimate.sigma]
    for k in range(1, 13):
        estimate = tracker.update(NOTHING, last + k * FRAME_S, SCALE)
        assert estimate.status is NeedleStatus.COASTING
        assert estimate.age_s == pytest.approx(k * FRAME_S)
        sigmas.append(estimate.sigma)
    assert np.all(np.diff(sigmas) > 0)
    estimate = tracker.update(NOTHING, last + 0.501, SCALE)
    assert estimate.status is NeedleStatus.LOST
    assert estimate.tip is None
    for k in range(2):
        assert tracker.update(seen((20, 20)), last + 0.54 + k * FRAME_S, SCALE).status is NeedleStatus.LOST
    assert tracker.update(seen((20, 20)), last + 0.62, SCALE).status is NeedleStatus.SEEN


def test_a_sender_that_stops_is_lost_by_the_clock_alone() -> None:
    tracker = NeedleTracker(TrackOptions(max_coast_s=0.5, fresh_s=0.1))
    last = advanced(tracker, 20).time_s
    assert tracker.predict(last + 0.09).status is NeedleStatus.SEEN
    assert tracker.predict(last + 0.3).status is NeedleStatus.COASTING
    assert tracker.predict(last + 0.51).status is NeedleStatus.LOST
    assert tracker.predict(last + 0.51).tip is None


def test_an_outlier_is_left_out_and_a_new_place_is_taken_after_confirmation() -> None:
    tracker = NeedleTracker()
    last = advanced(tracker, 30, speed_mm_s=0.0).time_s
    jumped = [tracker.update(seen((40.0, 15.0)), last + (k + 1) * FRAME_S, SCALE) for k in range(3)]
    assert [e.status for e in jumped] == [NeedleStatus.COASTING, NeedleStatus.COASTING, NeedleStatus.SEEN]
    assert np.linalg.norm(jumped[1].tip[:2] - 10.0) < 1.0
    assert np.linalg.norm(jumped[2].tip[:2] - (40.0, 15.0)) < 0.5


def test_a_turned_line_is_not_the_same_needle() -> None:
    tracker = NeedleTracker()
    last = advanced(tracker, 30, speed_mm_s=0.0).time_s
    across = np.array([-AXIS[1], AXIS[0]])
    assert tracker.update(seen((10, 10), direction=across), last + FRAME_S, SCALE).status is NeedleStatus.COASTING


def test_out_of_plane_gives_no_tip() -> None:
    tracker = NeedleTracker()
    last = advanced(tracker, 10).time_s
    states = [tracker.update(seen((14, 13), in_plane=0.1), last + (k + 1) * FRAME_S, SCALE) for k in range(3)]
    assert states[0].status is NeedleStatus.COASTING
    assert states[2].status is NeedleStatus.OUT_OF_PLANE
    assert states[2].tip is None
    np.testing.assert_allclose(states[2].direction[:2], AXIS)


def test_time_that_is_wrong() -> None:
    tracker = NeedleTracker()
    last = advanced(tracker, 20, speed_mm_s=0.0).time_s
    for bad in (math.nan, math.inf):
        with pytest.raises(InputError):
            tracker.update(seen((10, 10)), bad, SCALE)
        with pytest.raises(InputError):
            tracker.predict(bad)
    late = tracker.update(seen((30, 30)), last - 0.1, SCALE)  # late: not used
    assert late.status is NeedleStatus.SEEN
    assert late.time_s == last
    assert tracker.dropped == 1
    gap = tracker.update(seen((10, 10)), last + 5.0, SCALE)
    assert gap.status is NeedleStatus.LOST
    looped = tracker.update(seen((10, 10)), last - 50.0, SCALE)  # a recording began anew
    assert looped.status is NeedleStatus.ABSENT


def test_without_scale_pixels_and_a_scale_that_changes_starts_anew() -> None:
    tracker = NeedleTracker()
    for k in range(4):
        estimate = tracker.update(seen((10, 10)), k * FRAME_S, None)
    assert estimate.units == "px"
    np.testing.assert_allclose(estimate.tip, [100, 100, 0], atol=1e-6)
    assert tracker.update(seen((10, 10)), 4 * FRAME_S, SCALE).status is NeedleStatus.ABSENT


def test_estimates_in_space_are_tracked_too() -> None:
    tracker, axis = NeedleTracker(), np.array([0.6, 0.0, 0.8])
    for k in range(40):
        tip = axis * 10.0 * k * FRAME_S
        estimate = tracker.update_estimate(NeedleEstimate(
            NeedleStatus.SEEN, k * FRAME_S, "RAS", "mm", "MR", "test", "test", tip=tip, direction=axis,
            covariance=np.eye(3) * 0.04, direction_sigma_deg=1.0, confidence=1.0))
    assert estimate.frame == "RAS"
    later = tracker.predict(40 * FRAME_S)
    assert np.linalg.norm(later.tip - axis * 10.0 * 40 * FRAME_S) < 0.35
    absent = NeedleEstimate(NeedleStatus.ABSENT, 40 * FRAME_S, "RAS", "mm", "MR", "test", "test")
    assert tracker.update_estimate(absent).status is NeedleStatus.COASTING


def test_options_that_make_no_sense_are_refused() -> None:
    for wrong in ({"confirm_hits": 6}, {"max_coast_s": 0.0}, {"gate_probability": 1.0}):
        with pytest.raises(InputError):
            TrackOptions(**wrong)
