"""Emergency stop, several clients and tips over a real socket, and the command line of the simulated robot."""

from __future__ import annotations

import argparse
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import IRAILib
import numpy as np
import pytest
from IRAILib.cli.link_robot import add_robot_sim_parser
from IRAILib.geometry import InputError, RefusedError
from IRAILib.link.client import LinkClient
from IRAILib.link.framing import Header, parse_header, unpack_body
from IRAILib.link.messages import Status, String, Transform, decode, encode
from IRAILib.link.robot import Phase, RobotSession, TipForwarder
from IRAILib.link.robot.faults import Fault
from robot_cases import needle, pose
from robot_pair import EVERY_PHASE, Pair, wait_for


class Flooder:
    """A robot that streams positions as fast as the socket takes them, and notes when EMERGENCY arrives."""

    def __init__(self, rate_hz: float) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.heard: queue.Queue = queue.Queue()
        self.closing = threading.Event()
        self.sent = 0
        self._period_s = 1 / rate_hz
        self.threads = [threading.Thread(target=self._serve, daemon=True)]
        self.threads[0].start()

    def _serve(self) -> None:
        sock, _ = self.listener.accept()
        reader = threading.Thread(target=self._read, args=(sock,), daemon=True)
        self.threads.append(reader)
        reader.start()
        packet = b"".join(encode(Transform(pose(0, 0, 1), device="CURRENT_POSITION")))
        while not self.closing.is_set():
            try:
                sock.sendall(packet)
            except OSError:
                return
            self.sent += 1
            time.sleep(self._period_s)

    def _read(self, sock: socket.socket) -> None:
        def exactly(size):
            data = b""
            while len(data) < size:
                part = sock.recv(size - len(data))
                if not part:
                    raise OSError("closed")
                data += part
            return data

        try:
            while True:
                header: Header = parse_header(exactly(58), max_body=1 << 20)
                self.heard.put((decode(unpack_body(header, exactly(header.body_size))), time.monotonic()))
        except OSError:
            return

    def close(self) -> None:
        self.closing.set()
        self.listener.close()
        for thread in self.threads:
            thread.join(2.0)


def test_the_emergency_stop_leaves_while_positions_pour_in():
    flood = Flooder(1000)
    client = LinkClient("127.0.0.1", flood.port).start()
    try:
        with RobotSession(client) as robot:
            assert robot.wait(lambda r: r.position() is not None, 15.0)
            assert wait_for(lambda: flood.sent > 50)
            assert robot.emergency_stop()
            messages = [flood.heard.get(timeout=15.0)[0] for _ in range(3)]  # it isn't answered: it comes again
            assert all(isinstance(m, String) and m.text == "EMERGENCY" for m in messages)
            assert len({m.device for m in messages}) == 1
            with pytest.raises(RefusedError, match="locked"):
                robot.request(Phase.START_UP)
    finally:
        client.close()
        flood.close()


@pytest.mark.parametrize("phase", EVERY_PHASE[:-1])
def test_the_emergency_stop_works_in_every_phase(phase):
    with Pair(speed_mm_s=10) as pair:
        pair.go(phase)
        assert pair.robot.emergency_stop()
        assert pair.robot.wait(lambda r: r.emergency_confirmed, 15.0)
        assert pair.sim.phase is Phase.EMERGENCY
        assert pair.halted()
        pair.robot.reset_emergency()
        with pytest.raises(RefusedError):
            pair.robot.request(Phase.MOVE_TO_TARGET)


def test_an_unanswered_emergency_stop_survives_a_reconnection():
    with Pair(faults=[Fault.parse("no-ack")], speed_mm_s=10) as pair:
        pair.robot.emergency_stop()
        assert wait_for(lambda: pair.sim.phase is Phase.EMERGENCY)
        assert not pair.robot.emergency_confirmed
        pair.sim.faults = [Fault.parse("drop")]
        assert pair.robot.wait(lambda r: r.emergency_confirmed and pair.client.status().connects == 2, 15.0)
        assert pair.sim.phase is Phase.EMERGENCY
        assert pair.robot.emergency


def test_closing_the_session_stops_a_moving_robot():
    with Pair(speed_mm_s=5) as pair:
        pair.go("MOVE_TO_TARGET")
        pair.robot.close()
        assert wait_for(lambda: pair.sim.phase is Phase.STOP)
        assert pair.halted()


def test_only_one_client_commands_but_any_may_stop():
    with Pair(speed_mm_s=10) as pair, LinkClient("127.0.0.1", pair.sim.port) as second:
        pair.go("MOVE_TO_TARGET")
        assert wait_for(lambda: second.send(String("MANUAL", device="CMD_x")))
        assert wait_for(lambda: any(line.client == 2 for line in pair.sim.transcript))
        assert pair.sim.phase is Phase.MOVE_TO_TARGET
        second.send(String("EMERGENCY", device="CMD_y"))
        assert wait_for(lambda: pair.sim.phase is Phase.EMERGENCY)
        assert pair.halted()
        assert wait_for(lambda: any(isinstance(m, Status) and m.error_name == "EMERGENCY" for m in second.drain()))


def test_forwarded_tips_arrive_as_acknowledged_positions():
    with Pair(speed_mm_s=5) as pair:
        pair.go("MOVE_TO_TARGET")
        forwarder = TipForwarder(session=pair.robot)
        assert not forwarder.forward(needle()).sent
        forwarder.hold()
        assert forwarder.forward(needle(tip=(1, 2, 3))).sent
        assert wait_for(lambda: pair.sim.controller.seen_needle is not None)
        assert np.allclose(pair.sim.controller.seen_needle[:3, 3], (1, 2, 3))
        assert pair.robot.wait(lambda r: r.machine.pending_position is None, 15.0)
        pair.robot.emergency_stop()
        assert "emergency" in forwarder.forward(needle(tip=(1, 2, 3.1))).reason
        assert not forwarder.held


def arguments_of(*arguments):
    parser = argparse.ArgumentParser()
    add_robot_sim_parser(parser.add_subparsers())
    return parser.parse_args(["robot-sim", "--port", "0", "--seconds", "0.2", *arguments])


def test_the_command_line_prints_its_port_and_its_events(capsys):
    arguments = arguments_of("--joint-limits", "depth=0:80", "--unreachable", "0,0,40,5", "--fault", "freeze")
    assert arguments.run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert int(lines[0].split()[-1]) > 0
    assert any("fault: freeze" in line for line in lines)


@pytest.mark.parametrize("bad", [("--speed", "0"), ("--fault", "x"), ("--joint-limits", "x"), ("--unreachable", "1,2"),
                                 ("--rate", "0"), ("--seconds", "-1"), ("--port", "99999")])
def test_the_command_line_refuses_nonsense(bad):
    arguments = arguments_of(*bad)
    with pytest.raises(InputError):
        arguments.run(arguments)


def test_ctrl_c_ends_the_simulator_with_130():
    code = ("import argparse, sys; from IRAILib.cli.link_robot import add_robot_sim_parser as add\n"
            "parser = argparse.ArgumentParser(); add(parser.add_subparsers())\n"
            "arguments = parser.parse_args(['robot-sim', '--port', '0']); sys.exit(arguments.run(arguments))")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests run in the background ignore it
    try:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                                   cwd=Path(IRAILib.__path__[0]).parent)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        assert "port" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.stdout.close()
