"""One robot behind a LinkClient: the state machine of `machine.py` fed by a connection, from a timer or a thread.

    with LinkClient("127.0.0.1", 18944) as client, RobotSession(client) as robot:
        robot.request(Phase.START_UP)
        robot.wait_answered(6.0)
        robot.emergency_stop()      # from any thread, at any moment
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from IRAILib.geometry import InputError

from ..client import LinkClient
from ..options import LinkState
from .machine import Outgoing, Pending, ReachableTarget, RobotMachine
from .protocol import DIALECT_2024, Dialect, Phase, Timeouts
from .wire import from_link, to_link

log = logging.getLogger("IRAI.link.robot")

POLL_S = 0.02


class RobotSession:
    """Navigation side of the robot protocol over `client`, which the session drains: give it a client of its own.

    Either call `poll()` at 20 Hz or more (a Qt timer), or `start()` a thread that does. All methods may be called from
    any thread. Nothing that was refused or unsent is kept for later.

    Args:
        client: a started LinkClient. Time is read from `clock`, which must be the client's own (monotonic).
        on_event: called with one line of text for each thing that happens, in the thread that noticed it.
    """

    def __init__(self, client: LinkClient, *, dialect: Dialect = DIALECT_2024, timeouts: Timeouts | None = None,
                 clock: Callable[[], float] = time.monotonic, on_event: Callable[[str], None] | None = None) -> None:
        self.client = client
        self.machine = RobotMachine(dialect=dialect, timeouts=timeouts or Timeouts(), on_event=on_event)
        self._clock = clock
        self._lock = threading.RLock()
        self._connects = 0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------------------------------------ life
    def start(self) -> RobotSession:
        """Poll in a thread of its own; returns itself."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="IRAI robot session", daemon=True)
            self._thread.start()
        return self

    def close(self) -> None:
        """End the thread. A robot that may be moving is sent STOP; close the client after it, so that it leaves."""
        self._closing.set()
        with self._lock:
            if self.machine.may_be_moving and self.machine.why_not(Phase.STOP) is None and self._alive():
                self._send(self.machine.request(Phase.STOP, self._clock()))
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(2.0)

    def __enter__(self) -> RobotSession:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def poll(self) -> None:
        """Take in what came, let time pass, send what follows."""
        with self._lock:
            self._follow_connection()
            for message in self.client.drain():
                robot_message = from_link(message)
                if robot_message is None or getattr(message, "connection", self._connects) != self._connects:
                    continue
                self._send(self.machine.receive(robot_message, message.received_s or self._clock()))
            self._follow_connection()
            self._send(self.machine.tick(self._clock()))

    # ------------------------------------------------------------------------------------------------ commands
    def request(self, phase: Phase) -> None:
        """Ask for a phase; raises RefusedError, with the reason and before anything is sent, when forbidden now."""
        self._do(lambda now: self.machine.request(phase, now))

    def why_not(self, phase: Phase) -> str | None:
        """Reason why `request(phase)` would be refused now, for a greyed button's tooltip; None when it's allowed."""
        with self._lock:
            return self.machine.why_not(phase)

    def send_calibration(self, ras_from_zframe: np.ndarray) -> None:
        """(4, 4) rigid, mm; in CALIBRATION only. Raises InputError or RefusedError."""
        self._do(lambda now: self.machine.send_calibration(ras_from_zframe, now))

    def send_target(self, ras_from_target: np.ndarray) -> None:
        """(4, 4) rigid, mm; in TARGETING only. Raises InputError or RefusedError."""
        self._do(lambda now: self.machine.send_target(ras_from_target, now))

    def send_needle_position(self, ras_from_needle: np.ndarray) -> None:
        """(4, 4) rigid, mm; NPOS_, in MOVE_TO_TARGET only. Raises InputError or RefusedError."""
        self._do(lambda now: self.machine.send_needle_position(ras_from_needle, now))

    def retract_needle(self) -> None:
        """Pull the needle home; in MOVE_TO_TARGET only. Raises RefusedError."""
        self._do(self.machine.retract_needle)

    def accept_reachable(self) -> None:
        """A person accepts the reachable target instead of the one that was sent. Raises RefusedError."""
        with self._lock:
            self.machine.accept_reachable()

    def emergency_stop(self) -> bool:
        """EMERGENCY now, by the priority lane, from any state and thread; motion stays locked until the reset.

        Returns: True when it left; False without a connection: then it is sent as soon as there is one.
        """
        with self._lock:
            self._follow_connection()
            outgoing = self.machine.emergency_stop(self._clock())
            return bool(outgoing) and self._send(outgoing)

    def reset_emergency(self, *, force: bool = False) -> None:
        """Unlock motion; refused (RefusedError) until the robot confirmed EMERGENCY, unless `force`."""
        with self._lock:
            self.machine.reset_emergency(force=force)

    # ------------------------------------------------------------------------------------------------ reading
    @property
    def phase(self) -> Phase:
        """What the robot confirmed last; UNDEFINED without a connection, at once and not at the next poll."""
        with self._lock:
            return self.machine.phase if self._alive() else Phase.UNDEFINED

    @property
    def last_error(self) -> str:
        with self._lock:
            return self.machine.last_error

    @property
    def pending(self) -> Pending | None:
        with self._lock:
            return self.machine.pending

    @property
    def reachable(self) -> ReachableTarget | None:
        with self._lock:
            return self.machine.reachable if self._alive() else None

    @property
    def emergency(self) -> bool:
        with self._lock:
            return self.machine.emergency

    @property
    def emergency_confirmed(self) -> bool:
        with self._lock:
            return self.machine.emergency_confirmed and self._alive()

    def position(self) -> tuple[np.ndarray, float, bool] | None:
        """(pose (4, 4) RAS mm, age in s, stale) of the needle as the robot says; None when it isn't known."""
        with self._lock:
            age = self.machine.position_age_s(self._clock())
            if age is None or self.machine.position is None or not self._alive():
                return None
            return self.machine.position.copy(), age, self.machine.position_stale(self._clock())

    def wait(self, condition: Callable[[RobotSession], bool], timeout_s: float) -> bool:
        """Wait until `condition(session)` holds; False after the time-out. Polls itself where no thread does."""
        end = time.monotonic() + timeout_s
        while not condition(self):
            if time.monotonic() > end:
                return False
            if self._thread is None:
                self.client.wait(POLL_S)
                self.poll()
            else:
                self._closing.wait(POLL_S / 4)
        return True

    def wait_answered(self, timeout_s: float = 10.0) -> bool:
        """Wait until nothing is pending; look at `last_error` for how it went. False after the time-out."""
        return self.wait(lambda session: session.pending is None, timeout_s)

    def to_dict(self) -> dict[str, Any]:
        """The whole state in plain values."""
        with self._lock:
            if not self._alive():
                self._follow_connection()
            return self.machine.to_dict(self._clock())

    # ------------------------------------------------------------------------------------------------ private
    def _alive(self) -> bool:
        return (self.machine.connected and self.client.state is LinkState.CONNECTED
                and self.client.status().connects == self._connects)

    def _follow_connection(self) -> None:
        """Notice a loss even when the client is connected again already."""
        status = self.client.status()
        connected = status.state is LinkState.CONNECTED
        if self.machine.connected and (not connected or status.connects != self._connects):
            self.machine.disconnect(f"connection lost ({status.last_error or 'the robot closed it'})")
        if connected and not self.machine.connected:
            self._connects = status.connects
            self._send(self.machine.connect(self._clock()))

    def _do(self, command: Callable[[float], list[Outgoing]]) -> None:
        with self._lock:
            self._follow_connection()
            self._send(command(self._clock()))

    def _send(self, outgoing: list[Outgoing]) -> bool:
        sent = True
        for item in outgoing:
            try:
                left = self.client.send(to_link(item.message), priority=item.priority)
            except InputError as error:
                log.error("robot: %s", error)
                left = False
            if left:
                log.debug("robot < %s", item.message)
                continue
            sent = False
            if self.machine.connected:
                self.machine.disconnect(f"{item.message} could not be sent")
        return sent

    def _run(self) -> None:
        while not self._closing.is_set():
            self.client.wait(POLL_S)
            try:
                self.poll()
            except Exception:
                log.exception("robot: the session failed; emergency stop")
                self.emergency_stop()
