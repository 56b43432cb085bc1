"""The lag between two clocks: simulated motions with known lag, drawn lines, and what must be refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.geometry import InputError, RefusedError
from IRAILib.navigation.line_signal import line_rows
from IRAILib.navigation.temporal import calibrate_lag


def depth_mm(time_s: np.ndarray) -> np.ndarray:
    """A hand's motion: several slow waves that don't repeat within the search range."""
    return (12 * np.sin(2 * np.pi * 0.41 * time_s) + 5 * np.sin(2 * np.pi * 0.73 * time_s + 1.1)
            + 2 * np.sin(2 * np.pi * 1.27 * time_s + 0.3))


def recorded(lag_s: float, seed: int = 1, *, noise_px: float = 1.0, noise_mm: float = 0.1, seconds: float = 15.0):
    random = np.random.default_rng(seed)
    image_t = np.cumsum(random.uniform(0.07, 0.1, int(seconds / 0.085))) + 100
    signal = 300 - 11.0 * depth_mm(image_t) + random.normal(0, noise_px, len(image_t))
    tracker_true = np.arange(98.5, 100 + seconds + 2.5, 0.025)
    way = depth_mm(tracker_true)[:, None] * np.array([[0.3, -0.5, 0.81]]) + random.normal(0, noise_mm, (1, 3))
    positions = way + random.normal(0, noise_mm, way.shape) + [100, -40, 900]
    return image_t, signal, tracker_true + lag_s, positions


@pytest.mark.parametrize("lag_s", [-0.2137, -0.0648, 0.0, 0.0031, 0.1559])
def test_a_known_lag_is_found_to_two_milliseconds(lag_s: float) -> None:
    image_t, signal, tracker_t, positions = recorded(lag_s)
    result = calibrate_lag(image_t, signal, tracker_t, positions)
    assert result.lag_s == pytest.approx(lag_s, abs=0.002)
    assert result.sigma_s < 0.002
    assert result.correlation > 0.99
    assert np.allclose(result.corrected(tracker_t), tracker_t - result.lag_s)


def test_the_stated_error_is_that_of_many_recordings() -> None:
    off, said = [], []
    for seed in range(25):
        result = calibrate_lag(*recorded(0.05, seed, noise_px=20.0, noise_mm=0.5))
        off.append(result.lag_s - 0.05)
        said.append(result.sigma_s)
    assert 0.4 < np.std(off) / np.median(said) < 2.0
    assert abs(np.mean(off)) < 0.003


def test_frames_without_a_line_are_passed_over() -> None:
    image_t, signal, tracker_t, positions = recorded(0.08)
    signal[::7] = np.nan
    assert calibrate_lag(image_t, signal, tracker_t, positions).lag_s == pytest.approx(0.08, abs=0.003)


def test_no_motion_is_refused() -> None:
    image_t, signal, tracker_t, positions = recorded(0.0)
    with pytest.raises(RefusedError, match="hardly any motion"):
        calibrate_lag(image_t, 300 + 0.01 * (signal - 300), tracker_t, positions)
    with pytest.raises(RefusedError, match="hardly any motion"):
        calibrate_lag(image_t, signal, tracker_t, positions.mean(axis=0) + 0.01 * (positions - positions.mean(axis=0)))


def test_a_motion_too_regular_for_the_search_range_is_refused() -> None:
    image_t, _, tracker_t, _ = recorded(0.0)
    fast = [10 * np.sin(2 * np.pi * 2.0 * t) for t in (image_t, tracker_t)]
    with pytest.raises(RefusedError, match="fit alike"):
        calibrate_lag(image_t, 10 * fast[0], tracker_t, fast[1][:, None] * np.array([[0, 0, 1.0]]))
    narrow = calibrate_lag(image_t, 10 * fast[0], tracker_t, fast[1][:, None] * np.array([[0, 0, 1.0]]), max_lag_s=0.1)
    assert narrow.lag_s == pytest.approx(0.0, abs=0.003)


def test_two_different_motions_are_refused() -> None:
    image_t, signal, tracker_t, _ = recorded(0.0)
    random = np.random.default_rng(3)
    other = np.cumsum(random.normal(0, 1, (len(tracker_t), 3)), axis=0)
    with pytest.raises(RefusedError, match=r"same motion|at the limit|to \d+ ms only"):
        calibrate_lag(image_t, signal, tracker_t, other)


def test_a_lag_beyond_the_range_is_refused() -> None:
    image_t, signal, tracker_t, positions = recorded(0.35)
    with pytest.raises(RefusedError, match="larger"):
        calibrate_lag(image_t, signal, tracker_t, positions, max_lag_s=0.25)


def test_recordings_that_hardly_overlap_are_refused() -> None:
    image_t, signal, tracker_t, positions = recorded(0.0)
    with pytest.raises(RefusedError, match="on one clock"):
        calibrate_lag(image_t + 1e9, signal, tracker_t, positions)
    with pytest.raises(InputError, match="as many times"):
        calibrate_lag(image_t[:-1], signal, tracker_t, positions)


def film(rows: np.ndarray, slope: float, seed: int = 2, size=(240, 320)) -> np.ndarray:
    """A line of width 3 px under a bright band that stays, speckle, and a bright spot that moves."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size[0], :size[1]].astype(float)
    out = np.empty((len(rows), *size), np.uint8)
    for n, row in enumerate(rows):
        line = row + slope * (x - (size[1] - 1) / 2)
        picture = 180 * np.exp(-0.5 * ((y - line) / 2.0) ** 2) + 30 * random.rayleigh(0.6, size)
        picture += 200 * np.exp(-0.5 * ((y - 30) / 4.0) ** 2)
        picture += 160 * np.exp(-0.5 * (((y - 60 - 3 * (n % 9)) / 6) ** 2 + ((x - 40 - 5 * (n % 13)) / 6) ** 2))
        out[n] = np.clip(picture, 0, 255)
    return out


def test_a_drawn_line_is_followed_to_a_third_of_a_pixel() -> None:
    rows = 140 + 60 * np.sin(np.linspace(0, 9, 40))
    found, tilt = line_rows(film(rows, 0.12))
    assert np.abs(found - rows).max() < 0.35
    assert np.abs(tilt - np.degrees(np.arctan(0.12))).max() < 0.5
    part, _ = line_rows(film(rows, 0.12), region=(100, 50, 320, 240))
    assert np.abs(part - (rows + 0.12 * (209.5 - 159.5))).max() < 0.5


def test_a_film_without_a_line_is_refused() -> None:
    speckle = np.random.default_rng(1).integers(0, 60, (20, 120, 160)).astype(np.uint8)
    with pytest.raises(RefusedError, match="water tank"):
        line_rows(speckle)
    with pytest.raises(InputError, match="doesn't lie"):
        line_rows(speckle, region=(0, 0, 500, 500))


def test_json_says_what_the_lag_means() -> None:
    values = json.loads(json.dumps(calibrate_lag(*recorded(0.02)).to_dict(), allow_nan=False))
    assert values["units"] == "s"
    assert "tracker time stamp less image time stamp" in values["meaning"]
    assert values["uncertainty"]["sigma_s"] > 0
