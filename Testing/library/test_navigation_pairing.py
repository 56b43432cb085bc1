"""Poses at the times of images: analytic motions, gaps, lost tools, clocks that differ."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import InputError
from IRAILib.navigation.pairing import interpolate_poses

AXIS = np.array([0.48, -0.6, 0.64])
RATE_DEG_S, SPEED_MM_S = 40.0, np.array([12.0, -7.0, 3.0])


def screw(time_s: float) -> np.ndarray:
    """A steady screw motion, by Rodrigues' formula."""
    angle = np.radians(RATE_DEG_S * time_s)
    k = np.array([[0, -AXIS[2], AXIS[1]], [AXIS[2], 0, -AXIS[0]], [-AXIS[1], AXIS[0], 0]])
    pose = np.eye(4)
    pose[:3, :3] = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    pose[:3, 3] = (5, 6, 7) + SPEED_MM_S * time_s
    return pose


def film(times) -> np.ndarray:
    return np.array([screw(t) for t in times])


def test_steady_motion_is_interpolated_exactly():
    pose_times = np.arange(0, 2, 0.05) + np.random.default_rng(3).uniform(-0.02, 0.02, 40)
    image_times = np.linspace(0.1, 1.8, 77)
    order = np.random.default_rng(4).permutation(len(pose_times))
    poses, valid = interpolate_poses(pose_times[order], film(pose_times)[order], image_times)
    assert valid.all()
    np.testing.assert_allclose(poses, film(image_times), atol=1e-9)


@pytest.mark.parametrize("lag_s", [-0.0648, 0.12])
def test_lag_is_tracker_less_image_time(lag_s):
    """The tracker stamps the instant t as t + lag."""
    times = np.arange(0, 3, 0.03)
    images = np.linspace(0.5, 2.4, 40)
    poses, valid = interpolate_poses(times + lag_s, film(times), images, lag_s=lag_s)
    assert valid.all()
    np.testing.assert_allclose(poses, film(images), atol=1e-9)
    wrong, _ = interpolate_poses(times + lag_s, film(times), images, lag_s=-lag_s)
    assert np.abs(wrong - film(images)).max() > 1.0


def test_nothing_is_extrapolated_and_no_gap_is_bridged():
    times = np.array([0.0, 0.1, 0.2, 0.6, 0.7])
    images = np.array([-0.001, 0.0, 0.15, 0.2, 0.21, 0.4, 0.59, 0.6, 0.7, 0.701])
    poses, valid = interpolate_poses(times, film(times), images, max_gap_s=0.2)
    assert valid.tolist() == [False, True, True, True, False, False, False, True, True, False]
    assert np.isnan(poses[~valid]).all()
    assert np.isfinite(poses[valid]).all()


def test_a_lost_tool_is_no_pose_even_if_its_matrix_looks_good():
    times = np.arange(0, 1, 0.1)
    seen = np.ones(10, bool)
    seen[4] = False
    poses = film(times)
    poses[4] = np.nan
    images = np.array([0.3, 0.35, 0.4, 0.45, 0.5, 0.55])
    _, valid = interpolate_poses(times, poses, images, seen)
    assert valid.tolist() == [True, False, False, False, True, True]


def test_rotation_takes_the_short_way_round():
    a, b = np.eye(4), np.eye(4)
    for matrix, degrees in ((a, 170.0), (b, -170.0)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        matrix[:2, :2] = [[c, -s], [s, c]]
    pose, _ = interpolate_poses([0, 0.1], np.stack([a, b]), [0.05])
    np.testing.assert_allclose(pose[0, :2, :2], [[-1, 0], [0, -1]], atol=1e-9)


def test_empty_and_hostile():
    none, valid = interpolate_poses([], np.empty((0, 4, 4)), [1.0, 2.0])
    assert not valid.any()
    assert np.isnan(none).all()
    assert interpolate_poses([0, 1], film([0, 1]), [])[0].shape == (0, 4, 4)
    doubled = interpolate_poses([0, 0, 0.1], np.stack([screw(0), screw(9), screw(0.1)]), [0.05])[0]
    np.testing.assert_allclose(doubled[0], screw(0.05), atol=1e-9)
    for bad in ({"pose_time_s": [0, np.nan]}, {"poses": np.ones((2, 4, 4))}, {"poses": film([0, 1])[:1]},
                {"image_time_s": [np.inf]}, {"valid": [True]}, {"lag_s": np.nan}, {"max_gap_s": 0.0}):
        arguments = {"pose_time_s": [0, 1], "poses": film([0, 1]), "image_time_s": [0.5], **bad}
        with pytest.raises(InputError):
            interpolate_poses(**arguments)
