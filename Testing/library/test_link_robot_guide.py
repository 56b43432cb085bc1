"""The simulated needle guide: kinematics against scipy's rotations and a search, motion against arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from IRAILib.geometry import InputError
from IRAILib.link.robot.kinematics import Motion, NeedleGuide, Obstacle
from IRAILib.link.robot.protocol import transform
from robot_cases import pose, robot_in, texts
from scipy.spatial.transform import Rotation


def test_reachable_poses_are_reached_exactly_against_scipy_rotations():
    guide, random = NeedleGuide(), np.random.default_rng(3)
    for _ in range(50):
        joints = random.uniform(guide.low, guide.high)
        turn = Rotation.from_euler("YX", joints[2:4], degrees=True)  # independent of the guide's own matrices
        target = np.eye(4)
        target[:3, :3] = (turn * Rotation.from_euler("Z", random.uniform(-180, 180), degrees=True)).as_matrix()
        target[:3, 3] = [joints[0], joints[1], 0] + joints[4] * turn.as_matrix()[:, 2]
        reach = guide.reach(target)
        assert reach.exact
        assert np.allclose(reach.joints, joints, atol=1e-6)
        assert np.allclose(guide.pose(reach.joints, guide.roll_towards(reach.joints, target)), target, atol=1e-6)


def test_the_nearest_reachable_tip_beats_a_search():
    guide = NeedleGuide()
    target = pose(70, -60, 200, rotvec=(0.1, 0.2, 0))
    reach = guide.reach(target)
    assert not reach.exact
    assert (reach.joints >= guide.low - 1e-9).all()
    assert (reach.joints <= guide.high + 1e-9).all()
    x, y, z = np.meshgrid(*(np.linspace(guide.low[i], guide.high[i], 40) for i in (0, 1, 4)))
    direction = reach.pose[:3, 2]
    tips = np.stack([x + z * direction[0], y + z * direction[1], z * direction[2]], -1)
    assert reach.distance_mm <= np.linalg.norm(tips - target[:3, 3], axis=-1).min() + 1e-6


def test_motion_keeps_its_speed_and_never_moves_the_stage_with_the_needle_in():
    guide = NeedleGuide()
    motion = Motion(guide, np.array([0, 0, 0, 0, 30.0]), 10.0)
    motion.go(np.array([20.0, 0, 10, 0, 40]))
    before, time_s = motion.joints.copy(), 0.0
    while not motion.step(0.02):
        time_s += 0.02
        assert np.linalg.norm(motion.joints[[0, 1]] - before[[0, 1]]) <= 10 * 0.02 + 1e-9
        assert abs(motion.joints[4] - before[4]) <= 10 * 0.02 + 1e-9
        if not np.array_equal(motion.joints[:4], before[:4]):
            assert min(motion.joints[4], before[4]) <= 0.05
        before = motion.joints.copy()
    assert np.allclose(motion.joints, [20, 0, 10, 0, 40])
    assert time_s == pytest.approx((30 + 20 + 40) / 10 + 10 / 20, abs=0.1)  # out, stage, in; and 10 degrees at 20/s


def test_obstacles_and_far_targets_are_invalid():
    robot = robot_in("TARGETING", depth=0.0)
    robot.guide.obstacles = (Obstacle((0, 0, 50), 5.0),)
    for target in (pose(0, 0, 52), pose(0, 0, 5000)):
        assert texts(robot.receive(transform("TGT_1", target)))[1] == "STATUS(TARGET, 10:1)"
    assert robot.target is None
    assert texts(robot.receive(transform("TGT_2", pose(0, 0, 60))))[1] == "STATUS(TARGET, 1:0)"


@pytest.mark.parametrize("limits", [{"z": (0, 1)}, {"x": (1, -1)}, {"x": (0, math.nan)}, {"yaw": (-90, 90)},
                                    {"depth": (5, 10)}])
def test_impossible_limits_are_refused(limits):
    with pytest.raises(InputError):
        NeedleGuide(limits)
