"""The robot's side of the protocol as a pure state machine around a needle guide: messages and time in, messages out.

It checks every transition itself, whatever the navigation checked before, and moves only in MOVE_TO_TARGET.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from IRAILib.geometry import InputError

from .kinematics import Motion, NeedleGuide, Reach
from .protocol import (
    DIALECT_2024,
    DIFFERENT_TARGET,
    INVALID_TARGET,
    SAFE_PHASES,
    Code,
    Dialect,
    Phase,
    RobotMessage,
    checked_id,
    checked_pose,
    phase_named,
    status,
    string,
    transform,
    why_forbidden,
)

FARTHEST_MM = 50.0  # a target farther than this from anything reachable is an error, not a wish
POSITION_HZ = 25.0


@dataclass(eq=False)
class RobotController:
    """A robot that is told messages (`receive`) and the time (`tick`), and answers with messages.

    Attributes:
        motion: the joints. Nothing but `tick` in MOVE_TO_TARGET moves them.
        ras_from_base: the calibration; None before.
        self_test_ok: False makes START_UP answer "not ready".
        hardware_ok: False once a failure happened; every phase but STOP and EMERGENCY is then refused.
    """

    guide: NeedleGuide
    motion: Motion
    dialect: Dialect = DIALECT_2024
    position_hz: float = POSITION_HZ
    self_test_ok: bool = True
    hardware_ok: bool = True
    phase: Phase = Phase.UNDEFINED
    ras_from_base: np.ndarray | None = None
    target: Reach | None = None
    seen_needle: np.ndarray | None = None
    on_event: Callable[[str], None] | None = None
    _commanded: str = ""
    _roll_deg: float = 0.0
    _arrival_told: bool = True
    _retracting: bool = False
    _last_s: float | None = None
    _next_position_s: float = 0.0

    # -------------------------------------------------------------------------------------------------- events
    def peer_lost(self) -> None:
        """The navigation is gone: the robot halts where it is, and forgets target, calibration and phase."""
        moving = self.motion.moving
        self.motion.halt()
        self.phase, self.target, self.ras_from_base, self._commanded = Phase.UNDEFINED, None, None, ""
        self._retracting, self._arrival_told = False, True
        self._say(f"navigation lost{', halted' if moving else ''}")

    def receive(self, message: RobotMessage) -> list[RobotMessage]:
        """Answers to one message of the navigation; what isn't understood is refused by STATUS 12 or ignored."""
        device = message.device
        if message.kind == "STRING" and device.startswith("CMD_"):
            return self._command(device[4:], message.text)
        if message.kind == "STRING" and device == "RETRACT_NEEDLE":
            return self._retract()
        if message.kind == "STRING" and device == "CURRENT_POSITION":
            return [self.position()]
        if message.kind == "STRING" and device == "CURRENT_STATUS":
            return [self._current()]
        if message.kind == "TRANSFORM" and message.matrix is not None:
            for prefix, handler in (("CLB_", self._calibrate), ("TGT_", self._aim), ("NPOS_", self._needle_seen)):
                if device.startswith(prefix):
                    return handler(device[len(prefix):], message.matrix)
        self._say(f"{message} not understood")
        return [status(f"ACK_{device}"[:20], Code.UNKNOWN_INSTRUCTION)] if message.kind == "STRING" else []

    def tick(self, now: float) -> list[RobotMessage]:
        """Let time pass: move, stream the position, tell the arrival."""
        dt = 0.0 if self._last_s is None else max(now - self._last_s, 0.0)
        self._last_s = now
        out: list[RobotMessage] = []
        if self.phase is not Phase.MOVE_TO_TARGET:
            self.motion.halt()
            return out
        self.motion.step(dt)
        if now >= self._next_position_s:
            self._next_position_s = now + 1.0 / self.position_hz
            out.append(self.position())
        if not self.motion.moving and not self._arrival_told:
            self._arrival_told = True
            device = "RETRACT_NEEDLE" if self._retracting else Phase.MOVE_TO_TARGET.value
            self._say("needle home" if self._retracting else "arrived")
            self._retracting = False
            out += [status(device, Code.OK), self.position()]
        return out

    def fail_hardware(self, text: str = "actuator failed") -> list[RobotMessage]:
        """A part broke: halt, tell it, and leave for STOP."""
        self.motion.halt()
        self.hardware_ok, self._arrival_told = False, True
        failed, self.phase = self.phase, Phase.STOP
        self._say(f"hardware failure: {text}")
        return [status(failed.value, Code.HARDWARE, text=text), self._current()]

    def position(self) -> RobotMessage:
        """TRANSFORM(CURRENT_POSITION): the needle's pose in RAS, or in the base frame before calibration."""
        return transform("CURRENT_POSITION", self.needle_pose())

    def needle_pose(self) -> np.ndarray:
        """(4, 4) pose of the needle tip, RAS mm (base frame before calibration)."""
        base_from_tip = self.guide.pose(self.motion.joints, self._roll_deg)
        return base_from_tip if self.ras_from_base is None else self.ras_from_base @ base_from_tip

    # -------------------------------------------------------------------------------------------------- phases
    def _command(self, id_: str, text: str) -> list[RobotMessage]:
        wanted = phase_named(text)
        try:
            checked_id(id_)
        except InputError:
            wanted = None
        if wanted is None:
            self._say(f"CMD_{id_} {text[:40]!r} isn't a phase")
            return [status(f"ACK_{id_}"[:20], Code.UNKNOWN_INSTRUCTION, text=f"no phase {text[:40]}")]
        acknowledged = string(f"ACK_{id_}", wanted.value)
        if id_ == self._commanded and wanted is self.phase:  # sent again, because our answer was lost
            return [acknowledged, self._current(), status(wanted.value, Code.OK)]
        reason = why_forbidden(self.phase, wanted, needle_home=self.motion.home and not self._retracting,
                               dialect=self.dialect)
        if reason is None and not self.hardware_ok and wanted not in SAFE_PHASES:
            reason = "hardware failure"
        if reason:
            self._say(f"{wanted.value} refused: {reason}")
            return [acknowledged, self._current(), status(wanted.value, Code.NOT_READY, text=reason)]
        return [acknowledged, *self._enter(wanted, id_)]

    def _enter(self, wanted: Phase, id_: str) -> list[RobotMessage]:
        before, self.phase, self._commanded = self.phase, wanted, id_
        self.motion.halt()
        self._retracting, self._arrival_told = False, True
        self._say(f"{before.value} to {wanted.value}")
        out = [self._current()]
        if wanted is Phase.START_UP:
            self.ras_from_base = self.target = None
            out.append(status(wanted.value, Code.OK if self.self_test_ok else Code.NOT_READY))
        elif wanted is Phase.TARGETING:
            ready = self.ras_from_base is not None
            out.append(status(wanted.value, Code.OK if ready else self.dialect.not_calibrated_code))
        elif wanted is Phase.MOVE_TO_TARGET:
            out += self._start_moving(before)
        elif wanted in (Phase.MANUAL, Phase.STOP, Phase.EMERGENCY):
            out.append(status(wanted.value, Code.OK))
        return out

    def _start_moving(self, before: Phase) -> list[RobotMessage]:
        reason = "no target" if self.target is None else "in manual mode" if before is Phase.MANUAL else ""
        if reason or self.target is None:
            self._say(f"does not move: {reason}")
            return [status(Phase.MOVE_TO_TARGET.value, Code.NOT_READY, text=reason), self.position()]
        self.motion.go(self.target.joints)
        self._arrival_told = False
        return []

    def _retract(self) -> list[RobotMessage]:
        if self.phase is not Phase.MOVE_TO_TARGET or not self.dialect.strict:
            return [status("ACK_RETRACT_NEEDLE", Code.NOT_READY, text=f"in {self.phase.value}")]
        self.motion.retract()
        self._retracting, self._arrival_told = True, False
        self._say("retracting")
        return [status("ACK_RETRACT_NEEDLE", Code.OK)]

    # --------------------------------------------------------------------------------------------------- poses
    def _calibrate(self, id_: str, matrix: np.ndarray) -> list[RobotMessage]:
        if self.phase is not Phase.CALIBRATION:
            return self._unexpected("CALIBRATION", "a calibration")
        echo = transform(f"ACK_{id_}", matrix)
        try:
            self.ras_from_base, self.target = checked_pose(matrix, "calibration"), None
        except InputError as error:
            self.ras_from_base = None
            self._say(str(error))
            return [echo, status("CALIBRATION", Code.CONFIGURATION, text=str(error))]
        self._say("calibrated")
        return [echo, status("CALIBRATION", Code.OK)]

    def _aim(self, id_: str, matrix: np.ndarray) -> list[RobotMessage]:
        if self.phase is not Phase.TARGETING or self.ras_from_base is None:
            return self._unexpected("TARGET", "a target")
        echo, self.target = transform(f"ACK_{id_}", matrix), None
        try:
            pose = checked_pose(matrix, "target")
        except InputError as error:
            return [echo, status("TARGET", Code.CONFIGURATION, INVALID_TARGET, text=str(error))]
        base_from_target = np.linalg.inv(self.ras_from_base) @ pose
        reach = self.guide.reach(base_from_target)
        if reach.blocked or reach.distance_mm > FARTHEST_MM:
            reason = reach.blocked or f"{reach.distance_mm:.0f} mm out of reach"
            self._say(f"target refused: {reason}")
            return [echo, status("TARGET", Code.CONFIGURATION, INVALID_TARGET, text=reason)]
        self.target, self._roll_deg = reach, self.guide.roll_towards(reach.joints, base_from_target)
        self._say(f"target {'reachable' if reach.exact else f'off by {reach.distance_mm:.2f} mm'}")
        code = status("TARGET", Code.OK) if reach.exact else status("TARGET", Code.CONFIGURATION, DIFFERENT_TARGET)
        pose = pose if reach.exact else self.ras_from_base @ reach.pose
        return [echo, code, transform(self.dialect.reachable_device, pose)]

    def _needle_seen(self, id_: str, matrix: np.ndarray) -> list[RobotMessage]:
        if self.phase is not Phase.MOVE_TO_TARGET or not self.dialect.strict:
            return self._unexpected("MOVE_TO_TARGET", "a needle position")
        self.seen_needle = np.array(matrix, float)
        return [transform(f"ACK_{id_}", matrix)]

    # ------------------------------------------------------------------------------------------------- private
    def _unexpected(self, device: str, what: str) -> list[RobotMessage]:
        self._say(f"{what} in {self.phase.value}: refused")
        return [status(device, Code.NOT_READY, text=f"{what} in {self.phase.value}")]

    def _current(self) -> RobotMessage:
        return status("CURRENT_STATUS", Code.OK, 0, self.phase.value)

    def _say(self, text: str) -> None:
        if self.on_event is not None:
            self.on_event(text)
