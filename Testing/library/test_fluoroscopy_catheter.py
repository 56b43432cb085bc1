"""Catheters in X-ray frames that the test paints by attenuation and photons."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fluoroscopy_cases import clutter, painted, random_course
from IRAILib.fluoroscopy.catheter import find_catheter
from IRAILib.geometry import InputError, NeedleStatus

SHAPE = (256, 256)


def frame(seed: int, dose: float = 1.0, **options) -> tuple[np.ndarray, np.ndarray]:
    """8-bit frame and the course that was painted."""
    rng = np.random.default_rng(seed)
    course = random_course(SHAPE, rng)
    return painted(clutter(SHAPE, seed), course, dose=dose, rng=rng, **options), course


@pytest.mark.parametrize(("seed", "dose"), [(1, 1.0), (2, 1.0), (3, 0.1), (4, 0.1)])
def test_tip_and_course(seed, dose):
    image, course = frame(seed, dose)
    found = find_catheter(image)
    assert found.status is NeedleStatus.SEEN
    assert (found.modality, found.frame, found.units) == ("XA", "Detector", "px")
    assert np.linalg.norm(found.tip[:2] - course[-1]) < 4.0
    gap = np.linalg.norm(found.curve[:, None, :2] - course[None, ::10], axis=2).min(axis=1)
    assert np.percentile(gap, 90) < 2.0
    heading = course[-1] - course[-60]
    assert found.direction[:2] @ heading / np.linalg.norm(heading) > 0.9
    assert 0.5 < found.sigma < 8.0
    json.dumps(found.to_dict())


def test_millimetres_only_with_a_scale():
    image, _ = frame(1)
    pixels, mm = find_catheter(image), find_catheter(image, mm_per_px=0.3)
    assert mm.units == "mm"
    np.testing.assert_allclose(mm.tip, 0.3 * pixels.tip)
    np.testing.assert_allclose(mm.covariance, 0.09 * pixels.covariance)


@pytest.mark.parametrize("dose", [1.0, 0.1, 0.03])
def test_nothing_in_bare_frames(dose):
    rng = np.random.default_rng(5)
    for seed in range(3):
        found = find_catheter(rng.poisson(clutter(SHAPE, seed) * dose))
        assert found.status is NeedleStatus.ABSENT
        assert found.tip is None


def test_a_line_across_the_whole_field_has_no_tip():
    course = np.stack([np.linspace(-10, 266, 1200), np.linspace(60, 190, 1200)], axis=1)
    image = painted(clutter(SHAPE, 3), course, rng=np.random.default_rng(0))
    assert not find_catheter(image).found


def test_a_stack_and_the_last_estimate_are_used():
    rng = np.random.default_rng(8)
    course = random_course(SHAPE, rng)
    ground = clutter(SHAPE, 8)
    stack = np.stack([painted(ground, course[:-cut or None], dose=0.2, rng=rng) for cut in (90, 60, 30, 0)])
    before = find_catheter(stack[:3])
    after = find_catheter(stack, previous=before, time_s=2.5)
    assert np.linalg.norm(after.tip[:2] - course[-1]) < 4.0
    assert after.time_s == 2.5


def test_what_is_refused():
    for wrong in (np.zeros((4, 4)), np.zeros((128, 128)), np.full((1, 128, 128), np.nan), np.zeros((2, 2, 128, 128))):
        with pytest.raises(InputError):
            find_catheter(wrong)
    with pytest.raises(InputError, match="mm_per_px"):
        find_catheter(frame(1)[0], mm_per_px=0.0)
