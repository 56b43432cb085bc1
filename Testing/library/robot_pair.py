"""A simulated robot and a session that talk over a loopback socket, for tests."""

from __future__ import annotations

import time

import numpy as np
from IRAILib.link.client import LinkClient
from IRAILib.link.robot import Phase, RobotSession, Timeouts
from IRAILib.link.robot.simulator import RobotSimulator
from robot_cases import pose

PATH = ("START_UP", "CALIBRATION", "PLANNING", "TARGETING", "MOVE_TO_TARGET")  # allowed by the table of 2024
EVERY_PHASE = (*PATH, "MANUAL", "STOP", "EMERGENCY")
TARGET = pose(5, -5, 60)

PATIENT = Timeouts(4.0, 4.0, 8.0)  # for busy machines; what tests a time-out gives its own


class Pair:
    """A simulator, a client and a session that polls when it waits; closed together."""

    def __init__(self, *, timeouts=PATIENT, **options):
        self.events: list[str] = []
        self.sim = RobotSimulator(**options).start()
        self.client = LinkClient("127.0.0.1", self.sim.port, backoff_s=(0.05, 0.1)).start()
        self.robot = RobotSession(self.client, timeouts=timeouts, on_event=self.events.append)
        assert self.robot.wait(lambda r: r.machine.connected, 15.0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.robot.close()
        self.client.close()
        self.sim.close()

    def ask(self, phase: str) -> str:
        """Ask for a phase and wait for what becomes of it; returns the error, if any."""
        if phase == "EMERGENCY":
            self.robot.emergency_stop()
            self.robot.wait(lambda r: r.emergency_confirmed, 15.0)
        else:
            self.robot.request(Phase(phase))
            self.robot.wait_answered(20.0)
        return self.robot.last_error

    def go(self, phase: str, target=TARGET) -> None:
        """Along the protocol to a phase; MOVE_TO_TARGET is left moving."""
        for step in PATH:
            if phase not in PATH and step == "CALIBRATION":
                break
            if step == "MOVE_TO_TARGET":
                self.robot.send_target(target)
                assert self.robot.wait_answered(20.0)
                if not self.robot.reachable.accepted:
                    self.robot.accept_reachable()
                self.robot.request(Phase.MOVE_TO_TARGET)
                assert self.robot.wait(lambda r: r.phase is Phase.MOVE_TO_TARGET, 15.0)
                return
            assert self.ask(step) == ""
            if step == "CALIBRATION":
                self.robot.send_calibration(np.eye(4))
                assert self.robot.wait_answered(20.0)
                assert self.robot.machine.calibrated
            if step == phase:
                return
        assert self.ask(phase) == ""

    def halted(self) -> bool:
        """The simulator's true joints stand still over 0.1 s."""
        before = self.sim.joints()
        time.sleep(0.1)
        return np.array_equal(before, self.sim.joints())


def wait_for(condition, timeout_s=15.0) -> bool:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
