"""The simulated fluoroscopy against formulas: a ball of water, a cylinder's chord, distances by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.fluoroscopy.wire_courses import TIPS, nearest, random_course, random_tree
from IRAILib.fluoroscopy.wire_ground import WATER_PER_MM, attenuation, random_grounds
from IRAILib.fluoroscopy.wire_simulator import DEVICES, STACK, simulate_wire
from IRAILib.geometry import CancelledError, Grid, InputError, Volume


def ball_ct(radius=60.0, spacing=3.0) -> Volume:
    """Water in air, off the origin, axes turned over."""
    count = 52
    matrix = np.diag([-spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = (100.0, -60.0, 30.0)
    grid = Grid((count, count, count), matrix)
    distance = np.linalg.norm(grid.all_points_ras() - grid.centre_ras, axis=-1)
    return Volume(np.where(distance < radius, 0.0, -1000.0).astype(np.float32), grid, "ball")


def test_line_integrals_of_a_ball_of_water_are_its_chords():
    ct = ball_ct()
    assert attenuation(ct).max() == pytest.approx(WATER_PER_MM)
    grounds = random_grounds(ct, 3, seed=2, size_px=256)
    for ground in grounds:
        assert ground.shape == (256, 256)
        assert ground.max() < 1.03 * WATER_PER_MM * 120.0
        assert ground.min() > -0.05
    assert max(ground.max() for ground in grounds) > 0.9 * WATER_PER_MM * 120.0
    again = random_grounds(ct, 1, seed=2, size_px=256)
    np.testing.assert_array_equal(again[0], grounds[0])


def test_no_tissue_and_a_cancelled_run_are_refused():
    air = ball_ct()
    with pytest.raises(InputError, match="no tissue"):
        random_grounds(Volume(np.full_like(air.array, -1000.0), air.grid, "air"), 1)
    with pytest.raises(CancelledError):
        random_grounds(air, 1, cancelled=lambda: True)


def test_distances_to_a_course_are_those_of_brute_force():
    course = random_course(np.random.default_rng(3), 128)
    distance, number = nearest(course, (128, 128), 6.0)
    y, x = np.mgrid[:128, :128]
    segments = np.stack([np.interp(np.arange(0, len(course) - 0.9, 0.1), np.arange(len(course)), course[:, a])
                         for a in (0, 1)], axis=1)
    near = distance < np.inf
    true = np.linalg.norm(np.stack([x[near], y[near]], axis=1)[:, None] - segments[None], axis=2).min(axis=1)
    assert np.all(distance[near] > true - 0.01)
    assert np.all(distance[near] < np.hypot(true, 0.26) + 0.01)  # places half a pixel apart
    own = np.linalg.norm(np.stack([x[near], y[near]], axis=1) - course[number[near]], axis=1)
    assert (own - true < 0.6).all()


@pytest.mark.parametrize("tip", TIPS)
def test_courses_enter_from_outside_and_end_well_inside(tip):
    for seed in range(6):
        course = random_course(np.random.default_rng(seed), 300, tip=tip)
        assert (course[0] < 0).any() or (course[0] > 300).any()
        assert (course[-1] > 25).all()
        assert (course[-1] < 275).all()
        np.testing.assert_allclose(np.linalg.norm(np.diff(course, axis=0), axis=1), 1.0, atol=1e-9)


def test_vessel_trees_taper_and_are_no_more_than_twelve_branches():
    for seed in range(10):
        tree = random_tree(np.random.default_rng(seed), np.array([50.0, 50.0]), 0.3, 512, 10.0)
        assert len(tree) <= 12
        for course, widths in tree:
            assert len(course) == len(widths)
            assert np.all(np.diff(widths) <= 1e-9)


@pytest.mark.parametrize("device", DEVICES)
def test_the_device_is_dark_along_its_course_and_ends_at_its_tip(device):
    flat = np.full((320, 320), 2.0, np.float32)
    inside, ahead = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        sample = simulate_wire(flat, rng, size_px=320, device=device, vessels=False, dose=2000.0)
        assert sample.frames.shape == (STACK, 320, 320)
        assert sample.frames.dtype == np.uint8
        log = np.log(sample.frames[-1].astype(float) + 1.0)
        course = sample.course
        heading = course[-1] - course[-6]
        heading /= np.linalg.norm(heading)
        normal = np.array([-heading[1], heading[0]])

        def contrast(places, normal=normal, log=log):
            at = np.rint(places).astype(int)
            sides = [np.rint(places + offset * normal).astype(int) for offset in (-14, 14)]
            value = [log[np.clip(a[:, 1], 0, 319), np.clip(a[:, 0], 0, 319)].mean() for a in (at, *sides)]
            return 0.5 * (value[1] + value[2]) - value[0]

        inside.append(contrast(course[-9:-2]))
        ahead.append(contrast(course[-1] + np.arange(6.0, 14.0)[:, None] * heading))
    assert np.median(inside) > 0.02
    assert np.median(inside) > 4.0 * abs(np.median(ahead))


def test_a_crop_is_a_window_of_a_frame_and_truth_goes_with_it():
    flat = np.full((512, 512), 2.0, np.float32)
    for seed in range(4):
        sample = simulate_wire(flat, np.random.default_rng(seed), device="catheter", crop_px=128)
        assert sample.frames.shape == (STACK, 128, 128)
        assert sample.tip is not None
        np.testing.assert_array_equal(sample.tip, sample.course[-1])


def test_without_a_device_there_is_no_truth_and_seeds_repeat():
    flat = np.full((300, 300), 2.0, np.float32)
    one, two = (simulate_wire(flat, np.random.default_rng(5), size_px=256, device="") for _ in range(2))
    assert one.tip is None
    assert one.course.shape == (0, 2)
    np.testing.assert_array_equal(one.frames, two.frames)
