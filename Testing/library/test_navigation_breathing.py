"""Breathing models against analytic breaths: held-out cycles with drift, deep breaths, surrogates that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from breathing_cases import recording
from IRAILib.geometry import InputError, RefusedError
from IRAILib.navigation.breathing import (
    BreathingFollower,
    displacements_of_poses,
    fit_breathing,
)
from IRAILib.navigation.breathing_gate import gating_window, judge_gate
from IRAILib.navigation.breathing_signal import cycle_starts, image_surrogate, states


def predictions(model, times, belt, at):
    found = [model.predict(times, belt, t) for t in at]
    return found, np.array([p.displacement_mm if p.valid else np.full((2, 3), np.nan) for p in found])


def rms(vectors) -> float:
    return float(np.sqrt((np.asarray(vectors) ** 2).sum(axis=-1).mean()))


@pytest.mark.parametrize("latency_s", [0.0, 0.2])
def test_breaths_that_were_not_seen_are_predicted(latency_s):
    times, belt, motion = recording(seed=1)
    model = fit_breathing(times, belt, times, motion, latency_s=latency_s)
    new_t, new_belt, new_motion = recording(seed=2, drift=0.05)  # other breaths, and the belt slips a little
    at = new_t[100:-20:7]
    found, guess = predictions(model, new_t, new_belt, at)
    truth = np.stack([np.interp(at + latency_s, new_t, new_motion[:, p, a]) for p in range(2) for a in range(3)],
                     axis=1).reshape(-1, 2, 3)
    valid = np.array([p.valid for p in found])
    assert valid.mean() > 0.8
    still = rms(truth[valid] - motion.mean(axis=0))
    error = rms((guess - truth)[valid])
    assert error < 0.25 * still
    assert error < 1.5 * model.held_out_rms_mm + 0.3
    sigma = np.array([p.sigma_mm for p in found if p.valid])
    ratio = np.sqrt((((guess - truth)[valid] ** 2).sum(axis=2)).mean() / (sigma**2).mean())
    assert 0.5 < ratio < 1.6
    assert found[50].time_s == pytest.approx(at[50] + latency_s)


def test_prediction_beats_taking_the_last_place():
    """Over 0.3 s of latency, against the motion as it is when the image is taken."""
    times, belt, motion = recording(seed=1)
    model = fit_breathing(times, belt, times, motion, latency_s=0.3)
    new_t, new_belt, new_motion = recording(seed=3)
    at = new_t[100:-20:7]
    found, guess = predictions(model, new_t, new_belt, at)
    valid = np.array([p.valid for p in found])
    place = [np.stack([np.interp(t, new_t, new_motion[:, p, a]) for p in range(2) for a in range(3)],
                      axis=1).reshape(-1, 2, 3) for t in (at, at + 0.3)]
    assert rms((guess - place[1])[valid]) < 0.75 * rms((place[0] - place[1])[valid])


def test_the_rate_carries_the_hysteresis():
    times, belt, motion = recording(seed=1, hysteresis_mm=4.0)
    model = fit_breathing(times, belt, times, motion)
    middle = 0.5 * (model.low[0] + model.high[0])
    up, down = (model.displacement_mm(np.array([[middle, rate]]))[0] for rate in (1.0, -1.0))
    assert np.linalg.norm(up - down, axis=1).max() > 2.0


def test_a_deep_breath_is_told_and_not_extrapolated():
    times, belt, motion = recording(seed=1)
    model = fit_breathing(times, belt, times, motion)
    deep_t, deep_belt, _ = recording(seed=4, depth=2.0)
    found = [model.predict(deep_t, deep_belt, t) for t in deep_t[60:400:5]]
    top = [p for p in found if "range" in p.reason]
    assert len(top) > 5
    assert all(p.displacement_mm is None and "above" in p.reason for p in top)
    drifted = model.predict(times, belt - 2.0, times[200])
    assert not drifted.valid
    assert "below" in drifted.reason
    assert drifted.to_dict()["displacement_mm"] is None
    assert not model.predict([], []).valid
    assert not model.predict(times[:100], belt[:100], times[100] + 5.0).valid  # the surrogate stopped 5 s ago


def test_a_surrogate_that_does_not_explain_the_motion_is_refused():
    times, belt, motion = recording(seed=1)
    other_t, other_belt, _ = recording(seed=9)
    length = min(len(times), len(other_t))
    with pytest.raises(RefusedError, match="explains"):
        fit_breathing(times[:length], other_belt[:length], times[:length], motion[:length])
    with pytest.raises(RefusedError, match="explains"):  # a clock that goes 5 % fast
        fit_breathing(times * 1.05, belt, times, motion)
    with pytest.raises(RefusedError):
        fit_breathing(times, np.random.default_rng(0).normal(size=len(times)), times, motion)
    with pytest.raises(RefusedError, match="hardly"):
        fit_breathing(times, belt, times, motion * 0.01)
    with pytest.raises(RefusedError, match="breaths"):
        fit_breathing(times[:200], belt[:200], times[:200], motion[:200])


def test_hostile_input():
    times, belt, motion = recording(seed=1)
    for change in ({"latency_s": -0.1}, {"latency_s": np.nan}, {"latency_s": 9.0}, {"surrogate": belt[:-1]},
                   {"motion_mm": motion[:, :, :2]}, {"motion_mm": motion[:5]}):
        with pytest.raises(InputError):
            fit_breathing(**{"surrogate_time_s": times, "surrogate": belt, "motion_time_s": times,
                             "motion_mm": motion, **change})
    with pytest.raises(RefusedError):
        fit_breathing([], [], times, motion)
    holes = belt.copy()
    holes[::9] = np.nan
    order = np.random.default_rng(0).permutation(len(times))
    a = fit_breathing(times[order], holes[order], times, motion)
    assert a.explained > 0.9
    with pytest.raises(RefusedError, match=r"explains|breaths"):
        fit_breathing(times, np.full(len(times), 4.0), times, motion)


def test_live_is_the_same_and_remembers_little():
    times, belt, motion = recording(seed=1)
    model = fit_breathing(times, belt, times, motion, latency_s=0.1)
    follower = BreathingFollower(model)
    for n, (t, value) in enumerate(zip(times, belt, strict=True)):
        follower.add(t, value)
        if n % 60 == 50:
            np.testing.assert_allclose(follower.predict().displacement_mm,
                                       model.predict(times[:n + 1], belt[:n + 1]).displacement_mm, atol=1e-9)
    assert len(follower._held) < 60
    follower.add(np.nan, 1.0)
    follower.add(0.0, 1.0)
    assert follower.predict().valid


def test_states_and_cycles_of_a_known_wave():
    t = np.arange(0, 40, 0.05)
    wave = np.sin(2 * np.pi * t / 4)
    found = states(t, wave, t[100:700:10])
    np.testing.assert_allclose(found[:, 0], wave[100:700:10], atol=0.02)
    np.testing.assert_allclose(found[:, 1], np.pi / 2 * np.cos(2 * np.pi * t[100:700:10] / 4), atol=0.12)
    assert np.isnan(states(t, wave, np.array([-1.0, 60.0]))).all()
    np.testing.assert_allclose(cycle_starts(t, wave)[:5], 3 + 4 * np.arange(5), atol=0.06)
    future = wave.copy()
    future[400:] += 5  # what comes later must not change what is said now
    np.testing.assert_array_equal(states(t, future, t[300:390:10]), states(t, wave, t[300:390:10]))


def test_gate_keeps_what_it_promises_in_other_breaths():
    times, belt, motion = recording(seed=1)
    target = motion[:, 0]
    window = gating_window(times, belt, times, target, most_residual_mm=2.0, latency_s=0.15)
    assert window.residual_mm <= 2.0 < window.whole_mm
    assert 0.1 < window.duty < 0.9
    assert window.mean_open_s > 0.3
    new_t, new_belt, new_motion = recording(seed=2)
    judged = judge_gate(window, new_t, new_belt, new_t, new_motion[:, 0])
    assert judged["residual_p95_mm"] < 2.8
    assert judged["residual_p95_mm"] < 0.5 * judged["ungated_p95_mm"]
    assert judged["duty_cycle"] == pytest.approx(window.duty, abs=0.15)
    slipped_t, slipped, slipped_motion = recording(seed=2, drift=0.1)  # the belt slips by 5 % of a breath a minute
    assert judge_gate(window, slipped_t, slipped, slipped_t, slipped_motion[:, 0])["residual_p95_mm"] < 3.2
    strict, loose = (gating_window(times, belt, times, target, most_residual_mm=m).duty for m in (1.0, 4.0))
    assert strict < window.duty < loose
    with pytest.raises(RefusedError):
        gating_window(times, belt, times, target + np.random.default_rng(0).normal(0, 20, target.shape))
    with pytest.raises(InputError):
        gating_window(times, belt, times, target, most_residual_mm=0.0)
    assert np.isnan(judge_gate(window, new_t, new_belt + 50, new_t, new_motion[:, 0])["residual_p95_mm"])


def test_a_signal_from_images():
    """A bright line that moves with the breath, under speckle."""
    times, _, motion = recording(12, seed=5)
    level = motion[:, 0, 2]
    rows = np.arange(60)[:, None]
    random = np.random.default_rng(0)
    film = np.array([150 * np.exp(-((rows - 25 - shift) / 9.0) ** 2) * np.ones((1, 80))
                     + random.rayleigh(10, (60, 80)) for shift in level])
    surrogate, signal = image_surrogate(film)
    assert abs(np.corrcoef(signal, level)[0, 1]) > 0.95
    assert surrogate.of(film[7]) == pytest.approx(signal[7], abs=1e-6)
    model = fit_breathing(times, signal, times, motion)
    assert model.explained > 0.8
    with pytest.raises(RefusedError):
        image_surrogate(random.normal(100, 5, (80, 64, 64)))
    with pytest.raises(RefusedError):
        image_surrogate(np.full((20, 30, 30), 9))
    with pytest.raises(InputError):
        surrogate.of(film[7][:-1])
    with pytest.raises(InputError):
        image_surrogate(film[0])


def test_poses_become_displacements():
    points = np.array([[10.0, 0, 0], [0, 0, 30.0]])
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 2, 3] = [0, 1, 2, 3, np.nan]
    moved, numbers = displacements_of_poses(poses, points, [True] * 4 + [False])
    assert numbers.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(moved[:, 1, 2], [-1.5, -0.5, 0.5, 1.5])
    assert fit_breathing(*recording(seed=1)[:2], recording(seed=1)[0], recording(seed=1)[2]).to_dict()["frame"] == "RAS"
