"""A path as a robot's target: analytic frames, what must be refused, and the way through the simulated robot."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import Grid, InputError, Mask, RefusedError
from IRAILib.link.robot.kinematics import NeedleGuide
from IRAILib.navigation.robot_plan import (
    Link,
    compare_achieved,
    confirm,
    plan_for_robot,
    reachable_by_robot,
    require_confirmed,
    target_pose,
)
from robot_pair import Pair

ENTRY, TARGET = np.array([0.0, 0.0, -5.0]), np.array([12.0, -8.0, 60.0])
CHAIN = (Link("ZFrameToRAS", None, 0.4), Link("RobotToZFrame", 0.1, 0.3))


def body(half=40) -> Mask:
    """A block: x, y from -40 to 40 and z from -5 to 90 mm."""
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = (-50, -50, -31)
    grid = Grid((70, 51, 51), matrix)
    points = grid.all_points_ras()
    return Mask((np.abs(points[..., :2]) <= half).all(axis=-1) & (points[..., 2] >= -5) & (points[..., 2] <= 90), grid)


def ball(centre, radius_mm) -> Mask:
    grid = body().grid
    return Mask(np.linalg.norm(grid.all_points_ras() - centre, axis=-1) <= radius_mm, grid)


def plan(**change):
    values = {"entry_mm": ENTRY, "target_mm": TARGET, "body": body(), "chain": CHAIN,
              "chosen": (ENTRY, TARGET), **change}
    return plan_for_robot(**values)


def failed(made) -> list[str]:
    return [check.name for check in made.checks if check.passed is not True]


def test_the_needles_frame():
    pose = target_pose((10, 20, 30), (10, 20, -30))
    np.testing.assert_allclose(pose, [[0, 1, 0, 10], [1, 0, 0, 20], [0, 0, -1, -30], [0, 0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 2], (0, 0, -1))  # along the needle, downwards
    np.testing.assert_allclose(pose[:3, 0], (0, 1, 0))  # anterior
    np.testing.assert_allclose(pose[:3, 3], (10, 20, -30))
    random = np.random.default_rng(0)
    for _ in range(50):
        entry, target = random.normal(0, 50, (2, 3))
        pose = target_pose(entry, target)
        np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
        np.testing.assert_allclose(pose @ (0, 0, -np.linalg.norm(target - entry), 1), [*entry, 1], atol=1e-9)
    straight = target_pose((0, -50, 0), (0, 50, 0))  # along the reference direction
    assert np.isfinite(straight).all()
    assert np.linalg.det(straight[:3, :3]) == pytest.approx(1.0)


def test_a_sound_plan_is_ready_and_says_how_sure_it_is():
    made = plan(obstacles={"vessel": ball((40, 30, 20), 6)}, clearance_mm=5.0, reachable=lambda pose: True)
    assert failed(made) == []
    assert made.ready
    assert made.sigma_mm == pytest.approx(0.5)
    assert made.depth_mm == pytest.approx(np.linalg.norm(TARGET - ENTRY))
    document = made.to_dict()
    assert document["frame"] == "RAS"
    assert document["ready"] is True
    assert "secret" not in document
    assert np.isnan(plan(chain=(Link("RobotToRAS"),)).sigma_mm)


@pytest.mark.parametrize(("change", "names"), [
    ({"target_mm": (12, -8, 140), "chosen": (ENTRY, (12, -8, 140))}, ["target in body"]),
    ({"entry_mm": (6, -4, 27.5), "chosen": ((6, -4, 27.5), TARGET)}, ["entry on skin"]),
    ({"entry_mm": (-6, 4, -37), "chosen": ((-6, 4, -37), TARGET)}, ["entry on skin"]),
    ({"body": None}, ["body"]),
    ({"body": Mask(np.zeros((2, 2, 2), bool), Grid((2, 2, 2), np.eye(4)))}, ["body"]),
    ({"chosen": None}, ["near plan"]),
    ({"chosen": (ENTRY, TARGET + (0, 0, 3))}, ["near plan"]),
    ({"chain": ()}, ["frames"]),
    ({"chain": (Link("RobotToRAS", 4.0, 0.3),)}, ["frame RobotToRAS"]),
    ({"chain": (Link("RobotToRAS", float("nan"), 0.3),)}, ["frame RobotToRAS"]),
    ({"chain": (Link("RobotToRAS", -3.0, 0.3),)}, ["frame RobotToRAS"]),
    ({"chain": (Link("RobotToRAS", None, 0.3, known=False),)}, ["frame RobotToRAS"]),
    ({"obstacles": {"vessel": ball((6, -4, 27.5), 5)}}, ["misses vessel"]),
    ({"obstacles": {"vessel": ball((6, 10, 27.5), 9)}, "clearance_mm": 10.0}, ["misses vessel"]),
    ({"depth_range_mm": (10.0, 50.0)}, ["depth"]),
    ({"pose": target_pose(ENTRY, TARGET + (0, 2, 0))}, ["pose"]),
    ({"pose": target_pose(TARGET + TARGET - ENTRY, TARGET)}, ["pose"]),
    ({"reachable": lambda pose: False}, ["reach"]),
    ({"reachable": lambda pose: "joint yaw at its limit"}, ["reach"]),
])
def test_what_is_wrong_is_named_and_can_not_be_confirmed(change, names):
    made = plan(**change)
    assert failed(made) == names
    with pytest.raises(RefusedError, match="not sent"):
        confirm(made, True)
    with pytest.raises(RefusedError, match="not sent"):
        require_confirmed(made, made.token(), made.ras_from_needle, CHAIN)


def test_the_distance_to_an_obstacle_is_right():
    """A ball of 9 mm whose middle is 16 mm from the path: 7 mm lie between."""
    way = (TARGET - ENTRY) / np.linalg.norm(TARGET - ENTRY)
    side = np.cross(way, (1, 0, 0))
    centre = 0.5 * (ENTRY + TARGET) + 16.0 * side / np.linalg.norm(side)
    for clearance, good in ((5.0, True), (6.0, True), (7.8, False)):
        made = plan(obstacles={"bowel": ball(centre, 9)}, clearance_mm=clearance)
        assert made.ready == good, clearance


def test_thick_slices_come_nearer_than_their_middles():
    grid = Grid((20, 60, 60), np.array([[0.7, 0, 0, -20], [0, 0.7, 0, -20], [0, 0, 5.0, -10], [0, 0, 0, 1]]))
    vessel = np.zeros(grid.shape, bool)
    vessel[6, 20:40, 20:40] = True  # its voxels reach from z = 17.5 to 22.5
    path = {"entry_mm": (-30.0, 0, 23.0), "target_mm": (30.0, 0, 23.0)}
    for clearance, good in ((0.4, True), (0.6, False), (2.0, False)):
        made = plan(**path, obstacles={"vessel": Mask(vessel, grid)}, clearance_mm=clearance)
        check = next(c for c in made.checks if c.name == "misses vessel")
        assert check.passed is good, clearance
        assert "0.5 +/- 1.4 mm" in check.text  # 5 mm over the root of 12
    sheared = Mask(vessel, Grid(grid.shape, grid.ras_from_ijk @ np.array(
        [[1, 0, 0.8, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])))
    with pytest.raises(InputError, match="right angles"):
        plan(obstacles={"vessel": sheared})


def test_the_confirmation_is_of_this_pose_only():
    made = plan()
    with pytest.raises(RefusedError, match="not confirmed"):
        confirm(made, False)
    with pytest.raises(RefusedError, match="not confirmed"):
        confirm(made, 1)  # type: ignore[arg-type]
    token = confirm(made, True)
    np.testing.assert_array_equal(require_confirmed(made, token, made.ras_from_needle, CHAIN), made.ras_from_needle)
    other = plan(entry_mm=ENTRY + (0.1, 0, 0))
    with pytest.raises(RefusedError, match="another plan"):
        require_confirmed(other, token, other.ras_from_needle, CHAIN)
    again = plan()  # the same numbers, but a new plan: the user is asked again
    with pytest.raises(RefusedError, match="another plan"):
        require_confirmed(again, token, again.ras_from_needle, CHAIN)
    moved = made.ras_from_needle.copy()
    moved[0, 3] += 1e-9
    with pytest.raises(RefusedError, match="changed"):
        require_confirmed(made, token, moved, CHAIN)
    with pytest.raises(RefusedError, match="old"):
        require_confirmed(made, token, made.ras_from_needle, (CHAIN[0], Link("RobotToZFrame", 30.0)))
    with pytest.raises(RefusedError, match="other transforms"):
        require_confirmed(made, token, made.ras_from_needle, CHAIN[:1])
    with pytest.raises(RefusedError, match="other transforms"):
        require_confirmed(made, token, made.ras_from_needle, (Link("RobotToRAS", 0.1),))
    with pytest.raises(RefusedError):
        require_confirmed(made, token, made.ras_from_needle, ())
    with pytest.raises(RefusedError):
        require_confirmed(made, "", made.ras_from_needle, CHAIN)
    with pytest.raises(RefusedError):
        require_confirmed(made, "é" * 32, made.ras_from_needle, CHAIN)
    made.ras_from_needle[2, 3] += 1.0  # changed behind its back
    with pytest.raises(RefusedError, match="another plan"):
        require_confirmed(made, token, made.ras_from_needle, CHAIN)


def test_achieved_against_planned():
    made = plan()
    axis = made.ras_from_needle[:3, 2]
    side = made.ras_from_needle[:3, 0]
    pose = target_pose(ENTRY + 2 * axis + 1.5 * side, TARGET + 2 * axis + 1.5 * side)
    result = compare_achieved(made, pose)
    assert result.tip_mm == pytest.approx(2.5)
    assert result.lateral_mm == pytest.approx(1.5)
    assert result.depth_mm == pytest.approx(2.0)
    assert result.angle_deg == pytest.approx(0.0, abs=1e-6)
    assert result.verdict == "unsure"  # 2.5 +/- 2 x 0.5 mm against 3 mm
    assert compare_achieved(made, pose, max_tip_mm=4.0).verdict == "within"
    assert compare_achieved(made, pose, max_tip_mm=1.0).verdict == "outside"
    rolled = made.ras_from_needle.copy()
    rolled[:3, :2] = np.stack([made.ras_from_needle[:3, 1], -made.ras_from_needle[:3, 0]], axis=1)
    assert compare_achieved(made, rolled).angle_deg == pytest.approx(0.0, abs=1e-6)  # rolling about itself is no error
    tilted = target_pose(TARGET - 60 * (axis + np.tan(np.radians(5)) * side), TARGET)
    found = compare_achieved(made, tilted)
    assert found.angle_deg == pytest.approx(5.0, abs=1e-6)
    assert found.verdict == "outside"
    unknown = plan(chain=(Link("RobotToRAS"),))
    assert compare_achieved(unknown, unknown.ras_from_needle).verdict == "unsure"
    assert compare_achieved(unknown, unknown.ras_from_needle).to_dict()["uncertainty"]["sigma_mm"] is None
    shallow = compare_achieved(made, target_pose(ENTRY, TARGET - 1.0 * axis))
    assert shallow.depth_mm == pytest.approx(-1.0)
    assert "shallow" in shallow.text


def test_hostile_input():
    for bad in ((np.nan, 0, 0), (1, 2), TARGET):
        with pytest.raises(InputError):
            target_pose(bad, TARGET)
    for pose in (np.full((4, 4), np.nan), np.eye(3), np.diag([2.0, 1, 1, 1]), np.diag([-1.0, 1, 1, 1])):
        with pytest.raises(InputError):
            plan(pose=pose)
        with pytest.raises(InputError):
            compare_achieved(plan(), pose)
    with pytest.raises(InputError):
        plan(chosen=((np.nan, 0, 0), TARGET))
    with pytest.raises(InputError):
        compare_achieved(plan(), plan().ras_from_needle, max_tip_mm=0)


def test_through_the_simulated_robot():
    """Plan, ask the guide, confirm, send over the socket, and compare what the robot says it can reach."""
    guide = NeedleGuide()

    def reach(pose):
        found = guide.reach(pose)
        return True if found.exact and not found.blocked else f"{found.distance_mm:.1f} mm short"

    made = plan(reachable=reach)
    assert made.ready, made.problems
    far = plan(target_mm=(39, -39, 80), chosen=(ENTRY, (39, -39, 80)), reachable=reach,
               depth_range_mm=(10, 300))
    assert "reach" in failed(far)
    token = confirm(made, True)
    with Pair(guide=guide) as pair:
        for phase in ("START_UP", "CALIBRATION"):
            assert pair.ask(phase) == ""
        pair.robot.send_calibration(np.eye(4))
        assert pair.robot.wait_answered(20.0)
        for phase in ("PLANNING", "TARGETING"):
            assert pair.ask(phase) == ""
        pair.robot.send_target(require_confirmed(made, token, made.ras_from_needle, CHAIN))
        assert pair.robot.wait_answered(20.0)
        answered = pair.robot.reachable.matrix
    assert reachable_by_robot(made, answered).passed
    assert compare_achieved(made, answered).tip_mm < 0.01
    other = answered.copy()
    other[:3, 3] += (0, 0, 4)
    check = reachable_by_robot(made, other)
    assert check.passed is False
    assert "4.0 mm" in check.text
