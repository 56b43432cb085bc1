"""The robot protocol without a socket: transitions as written in the protocol's table, time-outs by a clock of ours.

The tables here were written from the protocol document, not from the code.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from IRAILib.geometry import InputError, RefusedError
from IRAILib.link.robot.machine import RobotMachine
from IRAILib.link.robot.protocol import DIALECT_2013, DIALECT_2024, Phase, Timeouts, status, string, transform
from robot_cases import machine_in, pose, robot_in, texts

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
