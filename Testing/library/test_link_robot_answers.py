"""Robot protocol without a socket: wrong answers, emergency stop, lost connections. Whoever may move is stopped."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from IRAILib.geometry import InputError, RefusedError
from IRAILib.link.robot.machine import RobotMachine
from IRAILib.link.robot.protocol import Phase, status, string, transform
from robot_cases import machine_in, pose, texts


# ------------------------------------------------------------------------------------------------------ wrong answers
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


@pytest.mark.parametrize("bad", [np.eye(3), np.full((4, 4), np.nan), np.diag([1, 1, -1, 1.0]), np.diag([2, 2, 2, 1])])
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
