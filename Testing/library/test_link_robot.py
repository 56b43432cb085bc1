"""The robot protocol without a socket: transitions as written in the protocol's table, time-outs by a clock of ours.

The tables here were written from the protocol document, not from the code.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from IRAILib.geometry import InputError, RefusedError
from IRAILib.link.robot.controller import RobotController
from IRAILib.link.robot.kinematics import Motion, NeedleGuide, Obstacle
from IRAILib.link.robot.machine import RobotMachine
from IRAILib.link.robot.protocol import (
    DIALECT_2013,
    DIALECT_2024,
    Phase,
    Timeouts,
    pose_difference,
    status,
    string,
    transform,
)
from scipy.spatial.transform import Rotation

# rows: where the robot is; columns: where it may be sent. y yes, . no (ProstateBRP, 2024)
#            START PLAN CALIB TARGET MOVE MANUAL STOP EMERG
ALLOWED = {
    "UNDEFINED":      "y . . . . . y y",
    "START_UP":       ". . y . . y y y",
    "PLANNING":       "y . y y . y y y",
    "CALIBRATION":    "y y . . . y y y",
    "TARGETING":      "y y y . y y y y",
    "MANUAL":         "y . . . . . y y",
    "STOP":           "y y y . . y . y",
    "EMERGENCY":      "y y y . . y y .",
    "MOVE_TO_TARGET": ". . . . . . y y",  # the needle isn't home
}
COLUMNS = ("START_UP", "PLANNING", "CALIBRATION", "TARGETING", "MOVE_TO_TARGET", "MANUAL", "STOP", "EMERGENCY")
CASES = [(a, b, ALLOWED[a].split()[i] == "y") for a in ALLOWED for i, b in enumerate(COLUMNS)]
HAS_RESULT = {"START_UP", "TARGETING", "MOVE_TO_TARGET", "MANUAL", "STOP", "EMERGENCY"}


def pose(*shift, rotvec=(0, 0, 0)) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = Rotation.from_rotvec(rotvec).as_matrix()
    out[:3, 3] = shift or (0, 0, 0)
    return out


def machine_in(phase: str, **values) -> RobotMachine:
    machine = RobotMachine(connected=True, phase=Phase(phase), ready=True, calibrated=True)
    from IRAILib.link.robot.machine import ReachableTarget

    machine.reachable = ReachableTarget(pose(1, 2, 3), pose_difference(pose(), pose()), True)
    for name, value in values.items():
        setattr(machine, name, value)
    return machine


def robot_in(phase: str, depth=50.0, **values) -> RobotController:
    guide = NeedleGuide()
    joints = guide.home()
    joints[4] = depth
    robot = RobotController(guide, Motion(guide, joints, 20.0), phase=Phase(phase), **values)
    robot.ras_from_base = np.eye(4)
    return robot


def texts(messages) -> list[str]:
    return [str(getattr(m, "message", m)) for m in messages]


# ------------------------------------------------------------------------------------------------------ transitions
@pytest.mark.parametrize(("here", "there", "allowed"), CASES)
def test_navigation_sends_a_phase_only_when_the_table_allows_it(here, there, allowed):
    machine = machine_in(here, needle_home=False)
    if there == "EMERGENCY":  # the emergency stop is above the table
        assert texts(machine.request(Phase(there), 0.0)) == ["STRING(CMD_0001, EMERGENCY)"]
    elif allowed:
        assert texts(machine.request(Phase(there), 0.0)) == [f"STRING(CMD_0001, {there})"]
    else:
        with pytest.raises(RefusedError, match=there):
            machine.request(Phase(there), 0.0)
        assert machine.pending is None
        assert not machine.may_be_moving


@pytest.mark.parametrize(("here", "there", "allowed"), CASES)
def test_robot_refuses_by_itself_what_the_table_forbids(here, there, allowed):
    robot = robot_in(here)
    before = robot.motion.joints.copy()
    answers = robot.receive(string("CMD_17", there))
    assert str(answers[0]) == f"STRING(ACK_17, {there})"
    if allowed:
        assert robot.phase.value == there
        assert str(answers[1]) == f"STATUS(CURRENT_STATUS, 1:0:{there})"
    else:
        assert robot.phase.value == here
        assert texts(answers[1:]) == [f"STATUS(CURRENT_STATUS, 1:0:{here})", f"STATUS({there}, 13:0)"]
    for t in np.arange(0, 2, 0.1):
        robot.tick(t)
    assert np.array_equal(robot.motion.joints, before)  # no target was given: nothing moves


@pytest.mark.parametrize("there", COLUMNS)
def test_a_robot_with_the_needle_home_may_leave_the_motion(there):
    robot = robot_in("MOVE_TO_TARGET", depth=0.0)
    robot.receive(string("CMD_1", there))
    assert robot.phase.value == there
    machine_in("MOVE_TO_TARGET", needle_home=True).request(Phase(there), 0.0)


def test_unknown_home_counts_as_not_home():
    with pytest.raises(RefusedError, match="home"):
        machine_in("MOVE_TO_TARGET", needle_home=None).request(Phase.PLANNING, 0.0)


@pytest.mark.parametrize("text", ["", "move_to_target", "UNDEFINED", "FLY", "STOP!"])
def test_a_robot_does_not_do_what_is_no_phase(text):
    robot = robot_in("PLANNING")
    answers = robot.receive(string("CMD_1", text))
    assert robot.phase is Phase.PLANNING
    assert not any(str(a).startswith("STATUS(CURRENT_STATUS, 1:0:UNDEFINED") for a in answers)


def test_ids_fit_the_wire():
    machine = machine_in("PLANNING")
    for _ in range(12000):
        machine.emergency_stop(0.0)
    out = machine.emergency_stop(0.0)[0].message
    assert len(out.device) <= 20
    assert len(out.device[4:]) <= 16
    robot = robot_in("PLANNING")
    assert str(robot.receive(string("CMD_" + "1" * 16, "STOP"))[0]) == f"STRING(ACK_{'1' * 16}, STOP)"
    robot = robot_in("PLANNING")
    robot.receive(string("CMD_" + "1" * 17, "STOP"))
    assert robot.phase is Phase.PLANNING


# ---------------------------------------------------------------------------------------------------------- answers
def answered(machine: RobotMachine, phase: str, now: float) -> None:
    """The robot's answers as the protocol's table has them."""
    machine.receive(string(f"ACK_{machine.pending.id}", phase), now)
    machine.receive(status("CURRENT_STATUS", 1, 0, phase), now)
    if phase in HAS_RESULT:
        machine.receive(status(phase, 1), now)


@pytest.mark.parametrize("dialect", [DIALECT_2013, DIALECT_2024])
def test_a_whole_run_by_the_table(dialect):
    machine = RobotMachine(dialect=dialect)
    machine.connect(0.0)
    calibration, target = pose(5, 6, 7, rotvec=(0.1, 0.2, 0.3)), pose(1, 2, 90)
    for phase in ("START_UP", "CALIBRATION"):
        machine.request(Phase(phase), 0.0)
        answered(machine, phase, 0.1)
        assert (machine.phase.value, machine.ready, machine.pending) == (phase, True, None)
    out = machine.send_calibration(calibration, 0.2)
    assert out[0].message.device == "CLB_0003"
    machine.receive(transform("ACK_0003", calibration.astype(np.float32)), 0.3)
    assert not machine.calibrated
    machine.receive(status("CALIBRATION", 1), 0.4)
    assert machine.calibrated
    for phase in ("PLANNING", "TARGETING"):
        machine.request(Phase(phase), 0.5)
        answered(machine, phase, 0.5)
    machine.send_target(target, 0.6)
    machine.receive(transform("ACK_0006", target), 0.6)
    machine.receive(status("TARGET", 1), 0.6)
    assert machine.why_not(Phase.MOVE_TO_TARGET)
    machine.receive(transform(dialect.reachable_device, target), 0.6)
    assert machine.reachable.accepted
    machine.request(Phase.MOVE_TO_TARGET, 0.7)
    machine.receive(string("ACK_0007", "MOVE_TO_TARGET"), 0.7)
    machine.receive(status("CURRENT_STATUS", 1, 0, "MOVE_TO_TARGET"), 0.7)
    for t in np.arange(1, 21):  # twenty seconds of travel: each position renews the patience
        assert machine.receive(transform("CURRENT_POSITION", pose(0, 0, t)), float(t)) == []
        assert machine.tick(t + 0.5) == []
    machine.receive(status("MOVE_TO_TARGET", 1), 20.5)
    assert machine.pending is None
    assert machine.last_error == ""
    assert machine.position_age_s(20.2) == pytest.approx(0.2)
    assert not machine.position_stale(20.2)
    assert machine.position_stale(20.6)


@pytest.mark.parametrize("name", ["dialect 2013: 13", "dialect 2024: 5"])
def test_targeting_without_calibration_is_refused_by_the_robot(name):
    dialect = DIALECT_2013 if "2013" in name else DIALECT_2024
    robot = robot_in("PLANNING", dialect=dialect)
    robot.ras_from_base = None
    answers = robot.receive(string("CMD_1", "TARGETING"))
    assert str(answers[2]) == f"STATUS(TARGETING, {name.split()[-1]}:0)"
    machine = machine_in("PLANNING", dialect=dialect)
    machine.request(Phase.TARGETING, 0.0)
    for answer in answers:
        machine.receive(answer if answer.kind != "STRING" else string("ACK_0001", "TARGETING"), 0.1)
    assert machine.phase is Phase.TARGETING
    assert machine.ready is False
    with pytest.raises(RefusedError, match="ready"):
        machine.send_target(pose(), 0.2)


# ---------------------------------------------------------------------------------------------------------- time-outs
STAGES = [("ack", 0.5), ("status", 1.0), ("result", 5.0)]


@pytest.mark.parametrize(("stage", "limit"), STAGES)
@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_each_time_out_of_a_motion_and_the_stop_that_follows(stage, limit, factor):
    machine = machine_in("TARGETING", timeouts=Timeouts(0.5 * factor, 1.0 * factor, 5.0 * factor))
    limit *= factor
    now = 100.0
    machine.request(Phase.MOVE_TO_TARGET, now)
    answers = [string("ACK_0001", "MOVE_TO_TARGET"), status("CURRENT_STATUS", 1, 0, "MOVE_TO_TARGET")]
    for answer in answers[:[s for s, _ in STAGES].index(stage)]:
        machine.receive(answer, now)
    assert machine.tick(now + limit * 0.999) == []
    assert machine.pending is not None
    out = machine.tick(now + limit * 1.001)
    assert texts(out) == ["STRING(CMD_0002, STOP)"]
    assert out[0].priority
    assert "MOVE_TO_TARGET: no " in machine.last_error
    assert machine.phase is (Phase.MOVE_TO_TARGET if stage == "result" else Phase.UNDEFINED)
    again = machine.tick(now + limit * 1.001 + 0.5001 * factor + 1e-6)  # nobody answers the STOP either
    assert texts(again) == ["STRING(CMD_0003, EMERGENCY)"]
    assert machine.emergency


@pytest.mark.parametrize(("kind", "phase", "stage", "limit"), [
    ("CLB", "CALIBRATION", "ack", 0.5), ("CLB", "CALIBRATION", "result", 5.0),
    ("TGT", "TARGETING", "ack", 0.5), ("TGT", "TARGETING", "result", 5.0), ("TGT", "TARGETING", "pose", 1.0)])
def test_time_outs_of_poses(kind, phase, stage, limit):
    machine = machine_in(phase)
    (machine.send_calibration if kind == "CLB" else machine.send_target)(pose(1, 1, 1), 0.0)
    if stage != "ack":
        machine.receive(transform("ACK_0001", pose(1, 1, 1)), 0.0)
    if stage == "pose":
        machine.receive(status("TARGET", 1), 0.0)
    assert machine.tick(limit * 0.999) == []
    assert machine.pending is not None
    machine.tick(limit * 1.001)
    assert machine.pending is None
    assert "in time" in machine.last_error
    if kind == "CLB":
        assert not machine.calibrated
    machine.phase = Phase.TARGETING
    assert machine.why_not(Phase.MOVE_TO_TARGET)


def test_a_late_acknowledgement_is_no_success():
    machine = machine_in("PLANNING")
    machine.request(Phase.TARGETING, 0.0)
    machine.tick(0.6)
    machine.receive(string("ACK_0001", "TARGETING"), 0.7)
    assert machine.phase is Phase.UNDEFINED
    machine.receive(status("CURRENT_STATUS", 1, 0, "TARGETING"), 0.8)  # but where the robot is, only it knows
    assert machine.phase is Phase.TARGETING
    assert machine.ready is None


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan, math.inf])
def test_time_outs_are_positive(limit):
    with pytest.raises(InputError, match="positive"):
        Timeouts(ack_s=limit)


# --------------------------------------------------------------------------------------------------------- wrong answers
@pytest.mark.parametrize("wrong", [pose(1, 2, 3.02), pose(1, 2, 3, rotvec=(0.01, 0, 0)), np.full((4, 4), np.nan)])
@pytest.mark.parametrize("kind", ["CLB", "TGT"])
def test_an_echo_of_another_pose_is_an_error_and_stays_one(kind, wrong):
    machine = machine_in("CALIBRATION" if kind == "CLB" else "TARGETING", calibrated=kind == "TGT")
    sent = pose(1, 2, 3)
    (machine.send_calibration if kind == "CLB" else machine.send_target)(sent, 0.0)
    machine.receive(transform("ACK_0001", wrong), 0.1)
    machine.receive(status("CALIBRATION" if kind == "CLB" else "TARGET", 1), 0.2)
    machine.receive(transform("REACHABLE_TARGET", sent), 0.2)
    assert "another pose" in machine.last_error
    assert machine.pending is None
    assert machine.calibrated is (kind == "TGT")
    assert machine.reachable is None


def test_a_wrong_acknowledgement_of_a_motion_stops_it():
    machine = machine_in("TARGETING")
    machine.request(Phase.MOVE_TO_TARGET, 0.0)
    assert texts(machine.receive(string("ACK_0001", "PLANNING"), 0.1)) == ["STRING(CMD_0002, STOP)"]


@pytest.mark.parametrize("answer", [status("CURRENT_STATUS", 1, 0, "MOVE_TO_TARGET"), status("MOVE_TO_TARGET", 1)])
def test_answers_in_the_wrong_order_stop_the_motion(answer):
    machine = machine_in("TARGETING")
    machine.request(Phase.MOVE_TO_TARGET, 0.0)
    assert texts(machine.receive(answer, 0.1)) == ["STRING(CMD_0002, STOP)"]


def test_a_robot_that_moves_unasked_is_stopped():
    machine = machine_in("PLANNING")
    out = machine.receive(status("CURRENT_STATUS", 1, 0, "MOVE_TO_TARGET"), 0.0)
    assert texts(out) == ["STRING(CMD_0001, STOP)"]
    assert "without being asked" in machine.last_error


@pytest.mark.parametrize(("bad", "words"), [
    (pose(40, 0, 0), "jumped by 40"), (np.full((4, 4), np.nan), "rigid"), (np.diag([2, 2, 2, 1.0]), "rigid")])
def test_a_position_that_can_not_be_is_no_position(bad, words):
    machine = machine_in("MOVE_TO_TARGET", may_be_moving=True)
    machine.receive(transform("CURRENT_POSITION", pose()), 0.0)
    out = machine.receive(transform("CURRENT_POSITION", bad), 0.04)
    assert texts(out) == ["STRING(CMD_0001, STOP)"]
    assert machine.position is None
    assert words in machine.position_fault
    machine.receive(transform("CURRENT_POSITION", pose()), 0.08)
    assert machine.position is None  # not trusted again before a start-up


def test_hardware_failure_stops_the_motion():
    machine = machine_in("TARGETING")
    machine.request(Phase.MOVE_TO_TARGET, 0.0)
    machine.receive(string("ACK_0001", "MOVE_TO_TARGET"), 0.0)
    machine.receive(status("CURRENT_STATUS", 1, 0, "MOVE_TO_TARGET"), 0.0)
    assert texts(machine.receive(status("MOVE_TO_TARGET", 18), 0.1)) == ["STRING(CMD_0002, STOP)"]
    assert "hardware failure" in machine.last_error


@pytest.mark.parametrize(("message", "reason"), [
    (status("TARGET", 10, 1), "invalid"), (status("TARGET", 10, 0), "configuration"), (status("TARGET", 13), "ready")])
def test_a_refused_target_leaves_no_target(message, reason):
    machine = machine_in("TARGETING")
    machine.send_target(pose(1, 2, 3), 0.0)
    machine.receive(transform("ACK_0001", pose(1, 2, 3)), 0.0)
    machine.receive(message, 0.0)
    assert reason in machine.last_error
    assert machine.reachable is None
    assert machine.target is None
    assert machine.why_not(Phase.MOVE_TO_TARGET)


@pytest.mark.parametrize("code", [status("TARGET", 10, 3), status("TARGET", 1)])
@pytest.mark.parametrize("device", ["TARGET", "REACHABLE_TARGET"])
def test_a_reachable_target_that_differs_is_told_and_waits_for_a_person(code, device):
    machine = machine_in("TARGETING")
    machine.send_target(pose(10, 0, 0), 0.0)
    machine.receive(transform("ACK_0001", pose(10, 0, 0)), 0.0)
    machine.receive(code, 0.0)
    machine.receive(transform(device, pose(10, 3, 4, rotvec=(0, math.radians(20), 0))), 0.0)
    assert machine.reachable.difference.distance_mm == pytest.approx(5.0)
    assert machine.reachable.difference.angle_deg == pytest.approx(20.0)
    assert machine.reachable.difference.axis_deg == pytest.approx(20.0)
    with pytest.raises(RefusedError, match=r"5.00 mm and 20.00 degrees"):
        machine.request(Phase.MOVE_TO_TARGET, 0.0)
    machine.accept_reachable()
    assert len(machine.request(Phase.MOVE_TO_TARGET, 0.0)) == 1


@pytest.mark.parametrize("bad", [np.eye(3), np.full((4, 4), np.nan), np.diag([1, 1, -1, 1.0]), np.diag([2, 2, 2, 1.0])])
def test_only_rigid_poses_are_sent(bad):
    with pytest.raises(InputError):
        machine_in("TARGETING").send_target(bad, 0.0)
    with pytest.raises(InputError):
        machine_in("CALIBRATION").send_calibration(bad, 0.0)


# --------------------------------------------------------------------------------------------------- emergency, loss
@pytest.mark.parametrize("here", [p.value for p in Phase])
@pytest.mark.parametrize("busy", [False, True])
def test_emergency_leaves_at_once_from_any_state(here, busy):
    machine = machine_in(here)
    if busy:
        machine._command(Phase.STOP, 0.0)
    out = machine.emergency_stop(0.0)
    assert [str(o.message).split(", ")[1] for o in out] == ["EMERGENCY)"]
    assert out[0].priority
    assert machine.pending is None
    for phase in set(Phase) - {Phase.EMERGENCY}:
        with pytest.raises(RefusedError):
            machine.request(phase, 0.0)


def test_emergency_repeats_until_the_robot_is_in_emergency():
    machine = machine_in("MOVE_TO_TARGET")
    first = texts(machine.emergency_stop(0.0))
    sent = [machine.tick(t) for t in np.arange(0.01, 1.0, 0.01)]
    assert 9 <= sum(map(len, sent)) <= 10
    assert set(itertools.chain(*map(texts, sent))) == set(first)  # the same id: a repetition, not a new command
    machine.receive(string("ACK_0001", "EMERGENCY"), 1.0)
    assert machine.emergency_acknowledged
    assert not machine.emergency_confirmed
    with pytest.raises(RefusedError, match="still"):
        machine.reset_emergency()
    machine.receive(status("CURRENT_STATUS", 1, 0, "EMERGENCY"), 1.0)
    assert machine.emergency_confirmed
    assert all(machine.tick(t) == [] for t in np.arange(1.0, 3.0, 0.1))
    machine.reset_emergency()
    assert not machine.emergency
    assert machine.why_not(Phase.MOVE_TO_TARGET)  # the table holds as before
    assert machine.why_not(Phase.START_UP) is None


def test_emergency_without_connection_is_sent_first_when_there_is_one():
    machine = RobotMachine()
    assert machine.emergency_stop(0.0) == []
    assert texts(machine.connect(5.0)) == ["STRING(CMD_0002, EMERGENCY)"]
    with pytest.raises(RefusedError, match="locked"):
        machine.request(Phase.START_UP, 5.0)


@pytest.mark.parametrize("here", [p.value for p in Phase])
def test_loss_forgets_everything_and_nothing_is_sent_again(here):
    machine = machine_in(here, target=pose(), position=pose(), position_s=0.0)
    machine._command(Phase.STOP, 0.0)
    machine.disconnect("plug pulled")
    state = machine.to_dict(1.0)
    assert state["phase"] == "UNDEFINED"
    assert state["position"] is None
    assert state["position_stale"]
    assert state["pending"] is None
    assert not state["calibrated"]
    assert state["target"] is None
    assert "plug pulled" in state["last_error"]
    assert machine.tick(100.0) == []
    assert machine.connect(101.0) == []
    assert machine.tick(102.0) == []
    assert machine.why_not(Phase.MOVE_TO_TARGET)


# ---------------------------------------------------------------------------------------------------------- kinematics
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
