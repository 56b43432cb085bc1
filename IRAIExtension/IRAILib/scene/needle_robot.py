"""The robot's side of the module: a session with its own connection and thread, and the dead-man switch."""

from __future__ import annotations

from typing import Any

from ..geometry import NeedleEstimate
from ..link.client import LinkClient
from ..link.robot import Phase, RobotSession, TipForwarder

MAX_EVENTS = 200


class RobotLink:
    """A robot behind a connection of its own, polled by a thread: a busy window can't hold up its stop.

    Args: host, port: of the robot. Raises InputError for a bad port.
    """

    def __init__(self, host: str, port: int) -> None:
        self.events: list[str] = []
        self.client = LinkClient(host, port, name="robot").start()
        self.session = RobotSession(self.client, on_event=self._event).start()
        self.forwarder = TipForwarder(session=self.session)

    def _event(self, text: str) -> None:
        self.events.append(text)
        del self.events[:-MAX_EVENTS]

    @property
    def connected(self) -> bool:
        """Whether the robot is there now."""
        return self.client.state.name == "CONNECTED"

    def state(self) -> dict[str, Any]:
        """What a panel shows: the machine's state, the switch, and what became of the last tip."""
        state = self.session.to_dict()
        state.update(connected=self.connected, phase=self.session.phase.value, held=self.forwarder.held,
                     forwarded=self.forwarder.last.to_dict(), emergency=self.session.emergency,
                     emergency_confirmed=self.session.emergency_confirmed)
        return state

    def request(self, phase: str | Phase) -> None:
        """Ask for a phase. Raises RefusedError with the reason when it isn't allowed now."""
        self.session.request(Phase(phase))

    def why_not(self, phase: str | Phase) -> str:
        """Why a phase can't be asked for now; empty when it can."""
        if not self.connected:
            return "the robot is not connected"
        return self.session.why_not(Phase(phase)) or ""

    def emergency_stop(self) -> bool:
        """Stop now and stay locked. Returns whether it left; without a connection it is sent when there is one."""
        self.forwarder.release()
        return self.session.emergency_stop()

    def unlock(self) -> None:
        """Unlock motion after an emergency stop that the robot confirmed. Raises RefusedError before that."""
        self.session.reset_emergency()

    def hold(self) -> None:
        """The dead-man switch is pressed, or still is."""
        self.forwarder.hold()

    def release(self) -> None:
        """The dead-man switch is let go."""
        self.forwarder.release()

    def forward(self, estimate: NeedleEstimate | None) -> None:
        """Hand a tip on while the switch is held. None: there is no tip that may be handed on."""
        if estimate is not None and self.forwarder.held:
            self.forwarder.forward(estimate)

    def close(self) -> None:
        """Let go, tell a robot that may be moving to stop, end the connection."""
        self.forwarder.release()
        if self.connected and self.session.machine.may_be_moving:
            self.session.request(Phase.STOP)
        self.session.close()
        self.client.close()
