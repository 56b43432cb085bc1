"""The navigation side of the robot protocol as a pure state machine: events in, messages out, time handed in.

Nothing is sent here and no clock is read. What the robot said last is the truth; what it was asked is only pending.
Any doubt about a robot that may be moving (a time-out, a wrong echo, a jumping encoder) sends STOP at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from IRAILib.geometry import RefusedError

from . import replies
from .protocol import (
    DIALECT_2024,
    SAFE_PHASES,
    Dialect,
    Phase,
    PoseDifference,
    RobotMessage,
    Timeouts,
    checked_id,
    checked_pose,
    string,
    transform,
    why_forbidden,
)

log = logging.getLogger("IRAI.link.robot")

EMERGENCY_REPEAT_S = 0.1
POSITION_STALE_S = 0.5
JUMP_SPEED_MM_S, JUMP_SLACK_MM = 100.0, 5.0  # a needle guide is slower; a larger step is a broken encoder


@dataclass(frozen=True, eq=False)
class Outgoing:
    """A message to send now; `priority` ones overtake everything."""

    message: RobotMessage
    priority: bool = False


@dataclass(eq=False)
class Pending:
    """A command that isn't answered yet: `kind` CMD, CLB, TGT, NPOS or RETRACT; `stage` ack, status, result, pose."""

    kind: str
    id: str
    phase: Phase
    stage: str
    deadline_s: float
    sent_s: float
    matrix: np.ndarray | None = None

    @property
    def name(self) -> str:
        return self.phase.value if self.kind == "CMD" else {
            "CLB": "calibration", "TGT": "target", "NPOS": "needle position", "RETRACT": "RETRACT_NEEDLE"}[self.kind]

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}_{self.id}), waiting for its {self.stage}"


@dataclass(frozen=True, eq=False)
class ReachableTarget:
    """What the robot says it can reach, and how far that is from what was asked. `accepted` by it or by a person."""

    matrix: np.ndarray
    difference: PoseDifference
    accepted: bool


@dataclass(eq=False)
class RobotMachine:
    """State of one robot as seen by the navigation. All times in seconds on one monotonic clock; poses RAS mm.

    Attributes:
        may_be_moving: MOVE_TO_TARGET was sent, and no other phase was confirmed since.
        phase: the last phase that the robot itself confirmed; UNDEFINED without connection or after an unanswered
            command. `ready`: the robot said OK to that phase; None while it hasn't said.
        needle_home: None where unknown, which counts as not home.
        emergency: motion is locked since `emergency_stop()`; only `reset_emergency()` unlocks it.
        position: (4, 4) last needle pose; None when never told, lost, or not to be trusted.
    """

    dialect: Dialect = DIALECT_2024
    timeouts: Timeouts = field(default_factory=Timeouts)
    connected: bool = False
    phase: Phase = Phase.UNDEFINED
    ready: bool | None = None
    calibrated: bool = False
    target: np.ndarray | None = None
    reachable: ReachableTarget | None = None
    needle_home: bool | None = None
    may_be_moving: bool = False
    pending: Pending | None = None
    pending_position: Pending | None = None
    last_error: str = ""
    emergency: bool = False
    emergency_acknowledged: bool = False
    emergency_confirmed: bool = False
    position: np.ndarray | None = None
    position_s: float | None = None
    position_stamp_s: float | None = None
    position_fault: str = ""
    on_event: Callable[[str], None] | None = None
    _count: int = 0
    _home_before: bool | None = None
    _emergency_id: str = ""
    _emergency_next_s: float = 0.0

    # ------------------------------------------------------------------------------------------------ commands
    def request(self, phase: Phase, now: float) -> list[Outgoing]:
        """Ask for a phase. Raises RefusedError, and nothing changes, when it isn't allowed now."""
        reason = self.why_not(phase)
        if reason:
            raise RefusedError(f"robot: {phase.value} refused: {reason}")
        if phase is Phase.EMERGENCY:
            return self.emergency_stop(now)
        return self._command(phase, now)

    def why_not(self, phase: Phase) -> str | None:
        """Reason why `request(phase)` would be refused now; None when it would be sent."""
        if phase is Phase.EMERGENCY:
            return None if self.connected else "there is no connection"
        if not self.connected:
            return "there is no connection"
        if self.emergency:
            return "locked by the emergency stop; reset it first"
        reason = why_forbidden(self.phase, phase, needle_home=self.needle_home, dialect=self.dialect)
        if reason:
            return reason
        if self.pending is not None and phase is not Phase.STOP:
            return f"still busy with {self.pending}"
        if phase is Phase.MOVE_TO_TARGET:
            return self._why_no_motion()
        return None

    def _why_no_motion(self) -> str | None:
        if not self.calibrated:
            return "the robot isn't calibrated"
        if self.reachable is None:
            return "the robot has confirmed no target"
        if not self.reachable.accepted:
            return f"the reachable target differs by {self.reachable.difference}; accept it first"
        return self.position_fault or None

    def send_calibration(self, ras_from_zframe: np.ndarray, now: float) -> list[Outgoing]:
        """Send the Z-frame's pose; in CALIBRATION only. Raises InputError (no rigid pose) or RefusedError."""
        pose = checked_pose(ras_from_zframe, "calibration")
        self._needs(Phase.CALIBRATION, "a calibration")
        self.calibrated, self.target, self.reachable = False, None, None
        return self._send_pose("CLB", pose, now)

    def send_target(self, ras_from_target: np.ndarray, now: float) -> list[Outgoing]:
        """Send the wanted pose of the needle tip; in TARGETING only. Raises InputError or RefusedError."""
        pose = checked_pose(ras_from_target, "target")
        self._needs(Phase.TARGETING, "a target")
        if not self.ready:
            raise RefusedError("robot: target refused: the robot isn't ready for targets")
        self.target, self.reachable = pose, None
        return self._send_pose("TGT", pose, now)

    def send_needle_position(self, ras_from_needle: np.ndarray, now: float) -> list[Outgoing]:
        """Tell a moving robot where the needle was seen (NPOS_, 2024). Raises InputError or RefusedError."""
        pose = checked_pose(ras_from_needle, "needle position")
        if not self.dialect.strict:
            raise RefusedError("robot: needle position refused: robots of 2013 don't know NPOS_")
        self._needs(Phase.MOVE_TO_TARGET, "a needle position", busy=False)
        if self.pending_position is not None:
            raise RefusedError("robot: needle position refused: the one before isn't acknowledged yet")
        id_ = self._new_id()
        self.pending_position = Pending("NPOS", id_, self.phase, "ack", now + self.timeouts.ack_s, now, pose)
        return [Outgoing(transform(f"NPOS_{id_}", pose))]

    def retract_needle(self, now: float) -> list[Outgoing]:
        """Ask a robot in MOVE_TO_TARGET to pull the needle home (2024). Raises RefusedError."""
        if not self.dialect.strict:
            raise RefusedError("robot: retraction refused: robots of 2013 don't know RETRACT_NEEDLE")
        self._needs(Phase.MOVE_TO_TARGET, "a retraction")
        self.pending = Pending("RETRACT", "RETRACT_NEEDLE", self.phase, "ack", now + self.timeouts.ack_s, now)
        return [Outgoing(string("RETRACT_NEEDLE", "RETRACT_NEEDLE"))]

    def accept_reachable(self) -> None:
        """A person accepts that the robot goes to `reachable` instead of the target. Raises RefusedError."""
        if self.reachable is None:
            raise RefusedError("robot: there is no reachable target to accept")
        self.reachable = ReachableTarget(self.reachable.matrix, self.reachable.difference, True)

    def emergency_stop(self, now: float) -> list[Outgoing]:
        """EMERGENCY at once, from any state, waiting for nothing; motion is locked until `reset_emergency()`."""
        if not self.emergency:
            self._say("EMERGENCY STOP")
        self.emergency, self.emergency_acknowledged, self.emergency_confirmed = True, False, False
        self.pending = self.pending_position = None
        self._emergency_id = self._new_id()
        return self._emergency(now) if self.connected else []

    def reset_emergency(self, *, force: bool = False) -> None:
        """Unlock motion, deliberately. Refused until the robot confirmed EMERGENCY, unless `force`."""
        if not self.emergency:
            return
        if not self.emergency_confirmed and not force:
            raise RefusedError("robot: the emergency stop isn't confirmed by the robot; make sure that it stands "
                               "still before you force the reset")
        self.emergency = self.emergency_acknowledged = self.emergency_confirmed = False
        self._say("emergency stop reset")

    # -------------------------------------------------------------------------------------------------- events
    def connect(self, now: float) -> list[Outgoing]:
        """The connection stands. Nothing from an earlier one is sent again, but a standing EMERGENCY is."""
        self._forget()
        self.connected = True
        self._say("connected")
        if not self.emergency:
            return []
        self._emergency_id = self._new_id()
        return self._emergency(now)

    def disconnect(self, reason: str = "connection lost") -> None:
        """The connection is gone: the phase is unknown, there is no position, nothing is pending."""
        lost = self.pending
        self._forget()
        self.connected = False
        self.last_error = f"{reason}; unanswered: {lost}" if lost else reason
        self._say(self.last_error)

    def receive(self, message: RobotMessage, now: float) -> list[Outgoing]:
        """One message of the robot; returns what must be sent because of it (a STOP, where something is wrong)."""
        if not self.connected:
            return []
        return replies.handle(self, message, now)

    def tick(self, now: float) -> list[Outgoing]:
        """Let time pass: time-outs, and the repetition of an unconfirmed emergency stop."""
        if not self.connected:
            return []
        out: list[Outgoing] = []
        if self.emergency and not self.emergency_confirmed and now >= self._emergency_next_s:
            out += self._emergency(now)
        for pending in (self.pending_position, self.pending):
            if pending is not None and now > pending.deadline_s:
                out += self.fail(f"{pending.name}: no {_WAITED_FOR[pending.stage]} in time", now, pending)
        return out

    # ------------------------------------------------------------------------------------------------- reading
    def position_age_s(self, now: float) -> float | None:
        """Seconds since the needle position arrived; None without one."""
        return None if self.position is None or self.position_s is None else max(now - self.position_s, 0.0)

    def position_stale(self, now: float) -> bool:
        """True when there is no position, or it is older than `POSITION_STALE_S`: show it grey, never as current."""
        age = self.position_age_s(now)
        return age is None or age > POSITION_STALE_S

    def to_dict(self, now: float) -> dict[str, Any]:
        """Plain numbers and texts of everything a display needs."""
        return {"connected": self.connected, "phase": self.phase.value, "ready": self.ready,
                "calibrated": self.calibrated, "needle_home": self.needle_home, "last_error": self.last_error,
                "pending": str(self.pending) if self.pending else None, "emergency": self.emergency,
                "emergency_acknowledged": self.emergency_acknowledged,
                "emergency_confirmed": self.emergency_confirmed,
                "target": None if self.target is None else self.target.tolist(),
                "reachable": None if self.reachable is None else self.reachable.matrix.tolist(),
                "reachable_difference": None if self.reachable is None else self.reachable.difference.to_dict(),
                "reachable_accepted": None if self.reachable is None else self.reachable.accepted,
                "position": None if self.position is None else self.position.tolist(),
                "position_age_s": self.position_age_s(now), "position_stale": self.position_stale(now),
                "position_fault": self.position_fault}

    # ------------------------------------------------------------------------------------------ for replies.py
    def fail(self, reason: str, now: float, pending: Pending | None = None, *, unsure: bool = True) -> list[Outgoing]:
        """Something went wrong: an unanswered phase command leaves UNDEFINED, and a robot that may be moving is
        sent STOP, or EMERGENCY when it was STOP that failed.

        `unsure`: False where the robot itself answered "no", so that its phase is known.
        """
        self.last_error = reason
        self._say(reason)
        stop_failed = pending is not None and pending is self.pending and pending.phase is Phase.STOP
        if pending is not None and pending is self.pending_position:
            self.pending_position = None
        elif pending is not None and pending is self.pending:
            self.pending = None
        if pending is not None and unsure and pending.kind == "CMD" and pending.stage in ("ack", "status"):
            self.phase, self.ready = Phase.UNDEFINED, None
        stopping = self.pending is not None and self.pending.phase in SAFE_PHASES
        if not (self.may_be_moving and unsure) or self.emergency or stopping:
            return []
        return self.emergency_stop(now) if stop_failed else self._command(Phase.STOP, now)

    def motion_refused(self) -> None:
        """The robot itself says that the motion it was asked for doesn't happen."""
        self.may_be_moving, self.needle_home = False, self._home_before

    def report(self, text: str) -> None:
        """For the log of events; no state changes."""
        self._say(text)

    # ------------------------------------------------------------------------------------------------- private
    def _needs(self, phase: Phase, what: str, *, busy: bool = True) -> None:
        reason = None
        if not self.connected:
            reason = "there is no connection"
        elif self.emergency:
            reason = "locked by the emergency stop; reset it first"
        elif self.phase is not phase:
            reason = f"the robot is in {self.phase.value}, not in {phase.value}"
        elif busy and self.pending is not None:
            reason = f"still busy with {self.pending}"
        if reason:
            raise RefusedError(f"robot: {what} refused: {reason}")

    def _command(self, phase: Phase, now: float) -> list[Outgoing]:
        id_ = self._new_id()
        if self.pending is not None:
            self._say(f"{self.pending.name} given up for {phase.value}")
        if phase is Phase.MOVE_TO_TARGET:
            self._home_before = self.needle_home
            self.may_be_moving, self.needle_home = True, False
        else:
            self.pending_position = None
        self.pending = Pending("CMD", id_, phase, "ack", now + self.timeouts.ack_s, now)
        return [Outgoing(string(f"CMD_{id_}", phase.value), priority=phase in SAFE_PHASES)]

    def _send_pose(self, kind: str, pose: np.ndarray, now: float) -> list[Outgoing]:
        id_ = self._new_id()
        self.pending = Pending(kind, id_, self.phase, "ack", now + self.timeouts.ack_s, now, pose)
        return [Outgoing(transform(f"{kind}_{id_}", pose))]

    def _emergency(self, now: float) -> list[Outgoing]:
        self._emergency_next_s = now + EMERGENCY_REPEAT_S
        return [Outgoing(string(f"CMD_{self._emergency_id}", Phase.EMERGENCY.value), priority=True)]

    @property
    def emergency_id(self) -> str:
        """Id of the standing emergency stop; repetitions carry the same."""
        return self._emergency_id

    def _new_id(self) -> str:
        self._count += 1
        return checked_id(f"{self._count:04d}")

    def _forget(self) -> None:
        self.phase, self.ready, self.calibrated, self.needle_home = Phase.UNDEFINED, None, False, None
        self.may_be_moving = False
        self.target = self.reachable = self.pending = self.pending_position = None
        self.position = self.position_s = None
        self.position_fault, self.emergency_acknowledged, self.emergency_confirmed = "", False, False

    def _say(self, text: str) -> None:
        log.info("robot: %s", text)
        if self.on_event is not None:
            self.on_event(text)


_WAITED_FOR = {"ack": "acknowledgement", "status": "phase status", "result": "result", "pose": "reachable target"}
