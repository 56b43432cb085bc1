"""What the navigation makes of each message of the robot. Every function returns what must be sent because of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from IRAILib.geometry import InputError

from .protocol import (
    DIFFERENT_TARGET,
    INVALID_TARGET,
    Code,
    Phase,
    RobotMessage,
    checked_pose,
    phase_named,
    pose_difference,
    same_pose,
)

if TYPE_CHECKING:
    from .machine import Outgoing, Pending, RobotMachine

WITHOUT_RESULT = frozenset({Phase.PLANNING, Phase.CALIBRATION})
SAME_TARGET_MM, SAME_TARGET_DEG = 0.05, 0.1  # a reachable target this near is the target
_CODES = {0: "invalid", 2: "unknown error", 3: "panic", 4: "not found", 5: "access denied", 6: "busy", 7: "time-out",
          8: "can't be reached", 9: "checksum", 10: "configuration", 11: "resources", 12: "unknown instruction",
          13: "not ready", 14: "manual mode", 15: "disabled", 16: "not present", 17: "unknown version",
          18: "hardware failure", 19: "shutting down"}


def handle(machine: RobotMachine, message: RobotMessage, now: float) -> list[Outgoing]:
    """Sort one message by kind and device name; unknown ones are reported and change nothing."""
    device = message.device
    if message.kind == "TRANSFORM":
        if device == "CURRENT_POSITION":
            return _position(machine, message, now)
        if device.startswith("ACK_"):
            return _pose_echo(machine, message, now)
        if device in ("TARGET", "REACHABLE_TARGET"):
            return _reachable(machine, message, now)
    elif message.kind == "STRING":
        if device.startswith("ACK_"):
            return _acknowledged(machine, message, now)
    elif message.kind == "STATUS":
        return _status(machine, message, now)
    machine.report(f"{message} isn't part of the protocol: ignored")
    return []


def words(message: RobotMessage) -> str:
    """A STATUS in words: `13 (not ready): no target`."""
    name = _CODES.get(message.code, "unknown code")
    detail = message.text or (f"sub-code {message.subcode}" if message.subcode else "")
    return f"{message.code} ({name}){': ' + detail if detail else ''}"


# ---------------------------------------------------------------------------------------------------------- phases
def _acknowledged(machine: RobotMachine, message: RobotMessage, now: float) -> list[Outgoing]:
    id_, named = message.device[4:], phase_named(message.text)
    if machine.emergency and id_ == machine.emergency_id:
        if named is Phase.EMERGENCY:
            machine.emergency_acknowledged = True
            return []
        return machine.fail(f"EMERGENCY: acknowledged as '{message.text[:40]}'", now)
    pending = machine.pending
    if pending is None or pending.kind != "CMD" or pending.id != id_:
        machine.report(f"{message} answers nothing that is waiting: ignored")
        return []
    if named is not pending.phase:
        return machine.fail(f"{pending.name}: acknowledged as '{message.text[:40]}'", now, pending)
    if pending.stage == "ack":
        pending.stage, pending.deadline_s = "status", now + machine.timeouts.status_s
    return []


def _status(machine: RobotMachine, message: RobotMessage, now: float) -> list[Outgoing]:
    if message.device == "CURRENT_STATUS":
        return _current_phase(machine, message, now)
    if message.code == Code.HARDWARE:
        return _hardware(machine, message, now)
    if message.device == "CALIBRATION":
        return _calibration_result(machine, message, now)
    if message.device == "TARGET":
        return _target_result(machine, message, now)
    if message.device in ("RETRACT_NEEDLE", "ACK_RETRACT_NEEDLE"):
        return _retraction(machine, message, now)
    phase = phase_named(message.device)
    if phase is not None:
        return _phase_result(machine, phase, message, now)
    if message.code != Code.OK:
        machine.last_error = f"{message.device or 'robot'}: {words(message)}"
        machine.report(machine.last_error)
    return []


def _current_phase(machine: RobotMachine, message: RobotMessage, now: float) -> list[Outgoing]:
    """CURRENT_STATUS: the robot tells its phase in the error name (or, some, in the text)."""
    if message.code == Code.HARDWARE:
        return _hardware(machine, message, now)
    phase = phase_named(message.error_name) or phase_named(message.text)
    pending = machine.pending
    if phase is None or message.code != Code.OK:
        return machine.fail(f"CURRENT_STATUS without a phase: {words(message)}", now,
                            pending if pending and pending.kind == "CMD" else None)
    before = machine.phase
    if phase is not before:
        machine.phase, machine.ready = phase, None
        machine.report(f"{before.value} to {phase.value}")
    if machine.emergency:
        return _emergency_phase(machine, phase, now)
    out: list[Outgoing] = []
    if pending is not None and pending.kind == "CMD" and phase is pending.phase:
        if pending.stage == "ack":
            return machine.fail(f"{pending.name}: the phase came before its acknowledgement", now, pending)
        pending.stage, pending.deadline_s = "result", now + machine.timeouts.result_s
        if phase in WITHOUT_RESULT:
            machine.pending, machine.ready, machine.last_error = None, True, ""
    elif pending is not None and pending.kind == "CMD" and pending.stage == "status":
        reason = f"{pending.name}: refused by the robot, which is in {phase.value}"
        if pending.phase is Phase.MOVE_TO_TARGET and phase is not Phase.MOVE_TO_TARGET:
            machine.motion_refused()
        return machine.fail(reason, now, pending, unsure=False)
    elif phase is not before and (pending is None or pending.kind != "CMD"):
        out = _left_without_us(machine, before, phase, now)
    if phase is not Phase.MOVE_TO_TARGET and not (pending and pending.phase is Phase.MOVE_TO_TARGET):
        machine.may_be_moving = False
    return out


def _left_without_us(machine: RobotMachine, before: Phase, phase: Phase, now: float) -> list[Outgoing]:
    """The robot changed its phase without being asked. If it moves now, that is a fault."""
    moving = phase is Phase.MOVE_TO_TARGET
    if before is Phase.UNDEFINED and not moving:
        return []  # after a connection or a time-out: it tells where it is
    machine.may_be_moving = moving or machine.may_be_moving
    reason = f"the robot went from {before.value} to {phase.value} without being asked"
    return machine.fail(reason, now, machine.pending, unsure=moving)


def _emergency_phase(machine: RobotMachine, phase: Phase, now: float) -> list[Outgoing]:
    if phase is Phase.EMERGENCY:
        machine.emergency_acknowledged = machine.emergency_confirmed = True
        machine.may_be_moving = False
    elif phase is Phase.MOVE_TO_TARGET and machine.emergency_confirmed:
        return machine.emergency_stop(now)
    return []


def _phase_result(machine: RobotMachine, phase: Phase, message: RobotMessage, now: float) -> list[Outgoing]:
    """STATUS(<phase>): the phase's own result."""
    ok, pending = message.code == Code.OK, machine.pending
    if pending is not None and pending.kind == "CMD" and pending.phase is phase:
        if pending.stage == "ack":
            return machine.fail(f"{pending.name}: the result came before its acknowledgement", now, pending)
        if not ok and phase is Phase.MOVE_TO_TARGET:
            machine.motion_refused()
        if not ok:
            if phase is machine.phase:
                machine.ready = False
            return machine.fail(f"{phase.value}: {words(message)}", now, pending, unsure=False)
        if pending.stage == "status":
            return machine.fail(f"{pending.name}: the result came before the phase", now, pending)
        machine.pending, machine.ready, machine.last_error = None, True, ""
        if phase is Phase.START_UP:
            machine.needle_home, machine.position_fault = True, ""
        return []
    if phase is Phase.MOVE_TO_TARGET and machine.pending_position is not None and ok:
        return []
    if phase is Phase.EMERGENCY and machine.emergency_confirmed:
        return []  # "EMERGENCY to EMERGENCY is forbidden" is no news
    if phase is machine.phase:
        machine.ready = ok
        return [] if ok else machine.fail(f"{phase.value}: {words(message)}", now)
    if not ok and machine.last_error.startswith(f"{phase.value}: refused"):
        machine.last_error = f"{phase.value}: refused by the robot in {machine.phase.value}: {words(message)}"
    return []


def _hardware(machine: RobotMachine, message: RobotMessage, now: float) -> list[Outgoing]:
    machine.ready = False
    return machine.fail(f"hardware failure reported by the robot ({message.device}): {words(message)}", now,
                        machine.pending)


# ----------------------------------------------------------------------------------------------------------- poses
def _pose_echo(machine: RobotMachine, message: RobotMessage, now: float) -> list[Outgoing]:
    """TRANSFORM(ACK_id): the echo of a calibration, a target or a needle position."""
    for pending in (machine.pending, machine.pending_position):
        if pending is not None and pending.matrix is not None and pending.id == message.device[4:]:
            return _checked_echo(machine, pending, message, now)
    machine.report(f"{message} answers nothing that is waiting: ignored")
    return []


def _checked_echo(machine: RobotMachine, pending: Pending, message: RobotMessage, now: float) -> list[Outgoing]:
    if pending.matrix is None or message.matrix is None:
        return []
    if not same_pose(pending.matrix, message.matrix):
        difference = pose_difference(pending.matrix, message.matrix)
        return machine.fail(f"{pending.name}: the robot acknowledged another pose, off by {difference}", now, pending)
    if pending.kind == "NPOS":
        machine.pending_position = None
    elif pending.stage == "ack":
        pending.stage, pending.deadline_s = "result", now + machine.timeouts.result_s
    return []


def _answers(machine: RobotMachine, kind: str, stage: str) -> Pending | None:
    pending = machine.pending
    return pending if pending is not None and pending.kind == kind and pending.stage == stage else None


def _calibration_result(machine: RobotMachine, message: RobotMessage, now: float) -> list[Outgoing]:
    pending = _answers(machine, "CLB", "result")
    if pending is None:
        early = _answers(machine, "CLB", "ack")
        if early is not None:
            return machine.fail("calibration: a result without the echo of the pose", now, early)
        machine.report(f"{message} answers nothing that is waiting: ignored")
        return []
    if message.code != Code.OK:
        return machine.fail(f"calibration: {words(message)}", now, pending, unsure=False)
    machine.pending, machine.calibrated, machine.last_error = None, True, ""
    return []


def _target_result(machine: RobotMachine, message: RobotMessage, now: float) -> list[Outgoing]:
    pending = _answers(machine, "TGT", "result")
    if pending is None:
        early = _answers(machine, "TGT", "ack")
        if early is not None:
            machine.target = None
            return machine.fail("target: a result without the echo of the pose", now, early)
        machine.report(f"{message} answers nothing that is waiting: ignored")
        return []
    differs = message.code == Code.CONFIGURATION and message.subcode == DIFFERENT_TARGET
    if message.code != Code.OK and not differs:
        machine.target = None
        invalid = message.code == Code.CONFIGURATION and message.subcode == INVALID_TARGET
        return machine.fail(f"target: {'invalid or out of reach, ' if invalid else ''}{words(message)}", now, pending,
                            unsure=False)
    pending.stage, pending.deadline_s = "pose", now + machine.timeouts.status_s
    return []


def _reachable(machine: RobotMachine, message: RobotMessage, now: float) -> list[Outgoing]:
    """TRANSFORM(TARGET) or (REACHABLE_TARGET): the pose that the robot can reach."""
    from .machine import ReachableTarget

    pending = _answers(machine, "TGT", "pose")
    if pending is None or pending.matrix is None or message.matrix is None:
        machine.report(f"{message} answers nothing that is waiting: ignored")
        return []
    if message.device != machine.dialect.reachable_device:
        machine.report(f"reachable target came as {message.device}: the robot speaks another dialect")
    difference = pose_difference(pending.matrix, message.matrix)
    if not _rigid(message.matrix):
        machine.target = None
        return machine.fail("target: the reachable target isn't a rigid pose", now, pending)
    accepted = difference.distance_mm <= SAME_TARGET_MM and difference.angle_deg <= SAME_TARGET_DEG
    machine.reachable = ReachableTarget(message.matrix, difference, accepted)
    machine.pending, machine.last_error = None, ""
    if not accepted:
        machine.last_error = f"the reachable target differs by {difference}"
        machine.report(machine.last_error)
    return []


def _rigid(matrix: np.ndarray) -> bool:
    """False for NaN, and for memory that was never set: the reference robot simulator sends such positions."""
    try:
        checked_pose(matrix, "pose")
    except InputError:
        return False
    return True


def _position(machine: RobotMachine, message: RobotMessage, now: float) -> list[Outgoing]:
    """TRANSFORM(CURRENT_POSITION): where the needle is; a jump or a pose that is none is a fault of the robot."""
    from .machine import JUMP_SLACK_MM, JUMP_SPEED_MM_S

    matrix = message.matrix
    if machine.position_fault:
        return []
    if matrix is None or not _rigid(matrix):
        return _position_fault(machine, "the needle position isn't a rigid pose", now)
    if machine.position is not None and machine.position_s is not None:
        step = float(np.linalg.norm(matrix[:3, 3] - machine.position[:3, 3]))
        if step > JUMP_SLACK_MM + JUMP_SPEED_MM_S * _between_s(machine, message, now):
            return _position_fault(machine, f"the needle position jumped by {step:.1f} mm", now)
    machine.position, machine.position_s, machine.position_stamp_s = np.array(matrix, float), now, message.time_s
    pending = machine.pending
    if pending is not None and pending.kind in ("CMD", "RETRACT") and pending.stage == "result" \
            and pending.phase is Phase.MOVE_TO_TARGET:
        pending.deadline_s = now + machine.timeouts.result_s
    return []


def _between_s(machine: RobotMachine, message: RobotMessage, now: float) -> float:
    """Time between two positions: of arrival, or of their stamps where the network bunched them, 1 s of it at most."""
    arrived = 0.0 if machine.position_s is None else max(now - machine.position_s, 0.0)
    if message.time_s is None or machine.position_stamp_s is None:
        return arrived
    return max(arrived, min(float(message.time_s) - float(machine.position_stamp_s), 1.0))


def _position_fault(machine: RobotMachine, reason: str, now: float) -> list[Outgoing]:
    machine.position = machine.position_s = None
    machine.position_fault = f"{reason}; start the robot up again"
    moving = machine.pending is not None and machine.pending.phase is Phase.MOVE_TO_TARGET
    return machine.fail(machine.position_fault, now, machine.pending if moving else None)


def _retraction(machine: RobotMachine, message: RobotMessage, now: float) -> list[Outgoing]:
    pending = machine.pending
    if pending is None or pending.kind != "RETRACT":
        machine.report(f"{message} answers nothing that is waiting: ignored")
        return []
    if message.code != Code.OK:
        return machine.fail(f"RETRACT_NEEDLE: {words(message)}", now, pending, unsure=False)
    if message.device.startswith("ACK_"):
        pending.stage, pending.deadline_s = "result", now + machine.timeouts.result_s
    elif pending.stage == "ack":
        return machine.fail("RETRACT_NEEDLE: a result without its acknowledgement", now, pending)
    else:
        machine.pending, machine.needle_home, machine.last_error = None, True, ""
    return []
