"""TRE at landmarks the registration never saw: analytic errors, its interval, age, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.geometry import InputError, LinearTransform, RefusedError
from IRAILib.navigation.live_tre import LiveTre


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def shifted(x: float) -> LinearTransform:
    matrix = np.eye(4)
    matrix[0, 3] = x
    return LinearTransform(matrix, "RAS", "Reference")


def test_nothing_held_out_says_so_and_is_never_zero(clock):
    live = LiveTre(clock)
    for registration in (None, shifted(0.0)):
        live.set_registration(registration)
        now = live.now()
        assert now.tre_mm is None
        assert now.count == 0
        assert "none held out" in now.text
        assert json.loads(json.dumps(now.to_dict()))["tre_mm"] is None


def test_a_known_shift_is_the_error_with_its_age_and_worst_point(clock):
    live = LiveTre(clock)
    live.set_registration(shifted(3.0))
    live.hold_out("a", (0, 0, 0), (0, 0, 0))
    clock.now = 130.0
    live.hold_out("b", (13.0, 5, 5), (10, 5, 5))
    now = live.now()
    assert now.tre_mm == pytest.approx(3.0 / np.sqrt(2))
    assert now.each[0] == ("a", pytest.approx(3.0))
    assert now.age_s == pytest.approx(30.0)
    assert not now.old
    assert now.low_mm < now.tre_mm < now.high_mm
    assert now.frame == "RAS"
    assert "30 s old" in now.text
    live.set_registration(shifted(0.0), renewed=False)
    assert live.now().each[0] == ("b", pytest.approx(3.0))
    assert not live.now().old


def test_landmarks_from_before_the_registration_or_long_ago_are_old(clock):
    live = LiveTre(clock)
    live.hold_out("a", (0, 0, 0), (0, 0, 0))
    clock.now = 110.0
    live.set_registration(shifted(1.0))
    assert live.now().old
    assert "point at them again" in live.now().text
    live.renew("a", (0, 0, 0))
    assert not live.now().old
    clock.now = 5000.0
    assert live.now().old


def test_the_registrations_own_landmarks_are_refused_and_dropped(clock):
    live = LiveTre(clock)
    fixed, moving = np.array([[0.0, 0, 0], [50, 0, 0], [0, 50, 0]]), np.array([[1.0, 0, 0], [51, 0, 0], [1, 50, 0]])
    live.set_registration(shifted(-1.0), fixed, moving)
    for a, b in (((50, 0, 0), (52, 3, 0)), ((30, 30, 30), (1.2, 0, 0))):
        with pytest.raises(RefusedError, match="made from it"):
            live.hold_out("p", a, b)
    live.hold_out("free", (30, 30, 30), (31, 30, 30))
    assert live.set_registration(shifted(-1.0), [[30.0, 30, 30]], [[31.0, 30, 30]]) == ("free",)
    assert "none held out" in live.now().text


def test_the_interval_covers_the_registrations_error():
    """Errors drawn per point from a registration's spread and pointing: 95 % intervals hold it about as often."""
    rng, hits = np.random.default_rng(4), 0
    for _ in range(300):
        live = LiveTre(lambda: 0.0)
        live.set_registration(shifted(0.0))
        for n in range(4):
            error = rng.normal(size=3) * np.sqrt((2.0**2 + 0.5**2) / 3)
            live.hold_out(str(n), (10.0 * n, 0, 0), (10.0 * n, 0, 0) + error, sigma_mm=0.5)
        now = live.now()
        hits += now.low_mm <= 2.0 <= now.high_mm
    assert 0.9 < hits / 300 < 0.99


def test_pixels_of_a_tracked_image(clock):
    live = LiveTre(clock)
    live.set_registration(shifted(0.0))
    tracked_from_pixel = np.eye(4)
    tracked_from_pixel[:3, :3] = [[0, 0, 1], [0.5, 0, 0], [0, 0.5, 0]]
    tracked_from_pixel[:3, 3] = (7, 0, 0)
    mark = live.hold_out_pixel("v", (7, 10, 22), (20, 40), tracked_from_pixel)
    assert mark.moving_mm == (7.0, 10.0, 20.0)
    assert live.now().tre_mm == pytest.approx(2.0)


def test_hostile_input(clock):
    live = LiveTre(clock)
    for fixed, moving, options in (((0, 0), (0, 0, 0), {}), ((np.nan, 0, 0), (0, 0, 0), {}),
                                   ((0, 0, 0), (0, 0, 0), {"sigma_mm": 0.0}),
                                   ((0, 0, 0), (0, 0, 0), {"sigma_mm": float("nan")})):
        with pytest.raises(InputError):
            live.hold_out("x", fixed, moving, **options)
    with pytest.raises(InputError):
        live.hold_out("", (0, 0, 0), (0, 0, 0))
    for work in (lambda: live.drop("q"), lambda: live.renew("q", (0, 0, 0)),
                 lambda: live.hold_out_pixel("q", (0, 0, 0), (1, 2, 3), np.eye(4)),
                 lambda: live.set_registration(None, [[1, 2]])):
        with pytest.raises(InputError):
            work()
