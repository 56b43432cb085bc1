"""A simulated needle-guide robot behind an OpenIGTLink server: controller, kinematics, faults, and a transcript."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..messages import Transform, encode
from ..server import LinkServer
from ..slots import Outgoing
from .controller import POSITION_HZ, RobotController
from .faults import LATE_S, Fault, falsified
from .kinematics import Motion, NeedleGuide
from .protocol import DIALECT_2024, SAFE_PHASES, Dialect, Phase, RobotMessage, phase_named
from .wire import from_link, to_link

log = logging.getLogger("IRAI.link.robot")

STEP_S = 0.005
SPEED_MM_S = 20.0


class _NotANumber(Transform):
    """A TRANSFORM whose numbers are none; the codec would refuse to send it."""

    def parts(self) -> list[Any]:
        return [np.full(12, np.nan, ">f4").tobytes()]


@dataclass(frozen=True)
class TranscriptLine:
    """What was sent or received: seconds since the start, client number, True for received."""

    time_s: float
    client: int | None
    received: bool
    message: RobotMessage

    def __str__(self) -> str:
        return f"{self.time_s:8.3f} {'<' if self.received else '>'} {self.message}"


class RobotSimulator:
    """A robot on `port` (0: any free one, see `port`), loopback only unless `host` says otherwise.

    One client commands: the first that is connected. STOP and EMERGENCY are taken from any; all hear all answers. When
    the commanding client is lost the robot halts.

    Args:
        guide: limits and obstacles; speed_mm_s: of stage and needle; position_hz: of CURRENT_POSITION.
        faults: see `faults.KINDS`.
        on_event: called with one line of text for each event, in the simulator's thread.

    Raises: InputError for impossible limits, speeds or ports.
    """

    def __init__(self, *, port: int = 0, host: str = "127.0.0.1", guide: NeedleGuide | None = None,
                 speed_mm_s: float = SPEED_MM_S, position_hz: float = POSITION_HZ, dialect: Dialect = DIALECT_2024,
                 faults: Sequence[Fault] = (), on_event: Callable[[str], None] | None = None) -> None:
        guide = guide or NeedleGuide()
        self.controller = RobotController(guide, Motion(guide, guide.home(), speed_mm_s), dialect=dialect,
                                          position_hz=position_hz, on_event=self._event)
        self.server = LinkServer(port, host)
        self.faults = list(faults)
        self.transcript: list[TranscriptLine] = []
        self._on_event = on_event
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._commander: int | None = None
        self._known: list[int] = []
        self._late: list[tuple[float, RobotMessage]] = []
        self._phases: set[Phase] = set()
        self._began_s = 0.0

    def start(self) -> RobotSimulator:
        """Listen and run in a thread of its own; returns itself. Raises InputError when the port is taken."""
        self.server.start()
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="IRAI robot simulator", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join(2.0)
        self.server.close()

    def __enter__(self) -> RobotSimulator:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def phase(self) -> Phase:
        return self.controller.phase

    def joints(self) -> np.ndarray:
        """(5,) copy of the joints as they are: the truth that a test compares with."""
        return self.controller.motion.joints.copy()

    # ------------------------------------------------------------------------------------------------ private
    def _run(self) -> None:
        while not self._closing.is_set():
            self.server.wait(STEP_S)
            try:
                self._step(time.monotonic())
            except Exception:
                log.exception("robot simulator: halted")
                self.controller.motion.halt()
                self._closing.wait(0.1)

    def _step(self, now: float) -> None:
        self._phases = set()
        self._follow_clients()
        for message in self.server.drain():
            robot_message = from_link(message)
            if robot_message is not None and message.client in self._known:
                self._received(robot_message, message.client, now)
        self._update_faults(now)
        self._send(self.controller.tick(now), now)
        due = [item for item in self._late if item[0] <= now]
        self._late = [item for item in self._late if item[0] > now]
        for _, message in due:
            self._deliver(message, now)

    def _follow_clients(self) -> None:
        clients = self.server.clients()
        for number in clients:
            if number not in self._known:
                self._event(f"client {number} connected")
        for number in self._known:
            if number not in clients:
                self._event(f"client {number} gone")
        self._known = clients
        if self._commander is not None and self._commander not in clients:
            self.controller.peer_lost()
            self._late, self._commander = [], None
        if self._commander is None and clients:
            self._commander = clients[0]

    def _received(self, message: RobotMessage, client: int, now: float) -> None:
        self.transcript.append(TranscriptLine(now - self._began_s, client, True, message))
        asked = phase_named(message.text) if message.device.startswith("CMD_") else None
        if client != self._commander and asked not in SAFE_PHASES:
            self._event(f"client {client} doesn't command: {message} ignored")
            return
        if asked is not None:
            self._phases.add(asked)
        self._update_faults(now)
        self._send(self.controller.receive(message), now)

    def _update_faults(self, now: float) -> None:
        self.controller.self_test_ok = True
        for fault in self.faults:
            if fault.update(now - self._began_s, self._phases):
                self._event(f"fault: {fault.kind}")
            if not fault.active:
                continue
            if fault.kind == "not-ready":
                self.controller.self_test_ok = False
            elif fault.kind == "hardware" and not fault.done and self.controller.phase is not Phase.UNDEFINED \
                    and fault.phase in (None, self.controller.phase):
                fault.done = True
                self._send(self.controller.fail_hardware(), now)
            elif fault.kind == "drop" and not fault.done and self._known \
                    and fault.phase in (None, self.controller.phase):
                fault.done = True
                self._drop()

    def _active(self, kind: str) -> Fault | None:
        return next((f for f in self.faults if f.kind == kind and f.active and not f.done), None)

    def _send(self, messages: Sequence[RobotMessage], now: float) -> None:
        for message in messages:
            acknowledgement = message.device.startswith("ACK_")
            if acknowledgement and self._active("no-ack"):
                return  # nor what follows it
            if acknowledgement and self._active("late-ack"):
                self._late += [(now + LATE_S, item) for item in messages]
                return
            if message.device == "CURRENT_POSITION" and self._active("freeze"):
                continue
            self._deliver(message, now)

    def _deliver(self, message: RobotMessage, now: float) -> None:
        for kind in ("wrong-ack", "jump"):
            if self._active(kind):
                message = falsified(message, kind)
        self.transcript.append(TranscriptLine(now - self._began_s, None, False, message))
        bad_crc = self._active("bad-crc")
        if bad_crc:
            bad_crc.done = True
            self._send_corrupt(message)
        elif message.device == "CURRENT_POSITION" and self._active("nan"):
            self.server.send(_NotANumber(device=message.device))
        else:
            self.server.send(to_link(message))

    def _send_corrupt(self, message: RobotMessage) -> None:
        """One message whose checksum is wrong, past the codec, which can't make one."""
        octets = bytearray(b"".join(encode(to_link(message))))
        octets[50] ^= 0xFF
        for peer in list(self.server._peers.values()):
            if peer.connection is not None:
                peer.connection.send(Outgoing([memoryview(bytes(octets))]), None, True)

    def _drop(self) -> None:
        for peer in list(self.server._peers.values()):
            if peer.connection is not None:
                peer.connection.stop()

    def _event(self, text: str) -> None:
        log.info("robot simulator: %s", text)
        if self._on_event is not None:
            self._on_event(text)
