"""`irai link monitor` against plain sockets: tools that vanish, words meant for the terminal, small windows."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from IRAILib.cli.main import main
from IRAILib.link.client import LinkClient
from IRAILib.link.monitor import DeviceReport, LinkMonitor, MonitorReport, monitor_options, render_table
from link_raw_peer import RawServer, string, transform, until, wire

MONITOR = [sys.executable, "-m", "IRAILib.cli.main", "link", "monitor"]
LIBRARY = Path(__file__).resolve().parents[2] / "IRAIExtension"
DEADLINE_S = 60


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(LIBRARY), os.environ.get("PYTHONPATH", "")]), **more}


def tracking_data(*tools: str) -> bytes:
    content = b"".join(struct.pack(">20sBB12f", tool.encode(), 2, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 5, 6, 7)
                       for tool in tools)
    return wire("TDATA", "Tracker", content)


def device(name: str, state: str = "ok") -> DeviceReport:
    return DeviceReport("TRANSFORM", name, state, 5, 30.0, 1.0, 2.0, 0.01, 0.0, 0, "at 1.0 2.0 3.0 mm")


def report(*devices: DeviceReport) -> MonitorReport:
    return MonitorReport("127.0.0.1:18944", "connected", 1.0, 0, 0, 0, 1.5, "", False, list(devices))


def test_a_tool_that_leaves_tracking_data_is_lost_while_the_others_go_on():
    with RawServer() as server, LinkClient("127.0.0.1", server.port, **monitor_options()) as client:
        peer, monitor = server.accept(), LinkMonitor(client, stale_s=0.3)

        def states(*tools: str) -> dict[str, str]:
            peer.sendall(tracking_data(*tools))
            monitor.look(0.02)
            return {entry.device: entry.state for entry in monitor.report().devices}

        assert until(lambda: states("Probe", "Needle") == {
            "Tracker": "ok", "Tracker/Probe": "ok", "Tracker/Needle": "ok"})
        assert until(lambda: states("Probe") == {"Tracker": "ok", "Tracker/Probe": "ok", "Tracker/Needle": "lost"})
        assert monitor.report().lost() == ["Tracker/Needle"]


def test_every_message_of_a_fast_tracker_counts():
    """The newest alone would say how often the monitor looks, and not how often the tracker sends."""
    with RawServer() as server, LinkClient("127.0.0.1", server.port, **monitor_options()) as client:
        peer, monitor = server.accept(), LinkMonitor(client)
        peer.sendall(tracking_data("Probe") * 300 + string("End", "x"))
        assert until(lambda: monitor.look(0.02) is not None and len(monitor.report().devices) == 3)
        assert {entry.device: entry.count for entry in monitor.report().devices} == {
            "Tracker": 300, "Tracker/Probe": 300, "End": 1}


def test_a_peer_can_not_command_the_terminal():
    evil = "\x1b]0;mine\x07\x1b[2Jall is well"
    with RawServer() as server, LinkClient("127.0.0.1", server.port, **monitor_options()) as client:
        monitor = LinkMonitor(client)
        server.accept().sendall(string("Words", evil) + wire(
            "TRANSFORM", "Tool", struct.pack(">12f", 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0), version=2,
            metadata={"TransformStatus": "\x1b[41mBAD"}) + wire("STATUS", "S", struct.pack(">Hq20s", 13, 0, b"") + (
                b"\x1b[5mnot ready")))
        assert until(lambda: monitor.look(0.02) is not None and len(monitor.report().devices) == 3)
        table = render_table(monitor.report())
    assert all(line.isprintable() for line in table.splitlines()), table
    for word in ("all is well", "BAD", "not ready"):
        assert word in table


@pytest.mark.parametrize("columns", [60, 79, 100, 140])
def test_no_line_is_wider_than_the_window(columns):
    wide = report(device("ReferenceToTrackerOfTheSecondRoom"), device("针" * 20), device("P", "OUT_OF_VIEW"))
    lines = render_table(wide, columns).splitlines()
    assert len(lines) == 5
    for line in lines:
        assert len(line) + line.count("针") <= columns
    assert lines[4].split()[1:3] == ["P", "OUT_OF_VIEW"]


def test_what_is_lost_stays_in_sight_of_a_low_window():
    many = report(*(device(f"Tool{number:02d}", "lost" if number in (20, 29) else "ok") for number in range(30)))
    lines = render_table(many, 80, 10).splitlines()
    assert len(lines) == 10
    assert [line.split()[1] for line in lines[2:5]] == ["Tool20", "Tool29", "Tool00"]
    assert lines[-1].startswith("(23 more, 0 of them lost")
    assert len(render_table(many, 80, 32).splitlines()) == 32
    assert "more" not in render_table(many, 80, 32)


class _Streaming:
    """A server that sends 40 tools, one with a name that isn't ASCII, to whoever connects, until it ends."""

    def __enter__(self) -> int:
        self.server, self.over = RawServer(), threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self.server.port

    def _serve(self) -> None:
        with suppress(OSError):
            peer = self.server.accept()
            while not self.over.is_set():
                peer.sendall(transform("针ToTracker") + b"".join(transform(f"Tool{k:02d}") for k in range(40)))
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.server.__exit__()
        self.thread.join(DEADLINE_S)


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_the_live_table_fits_its_window():
    import fcntl
    import pty
    import termios

    with _Streaming() as port:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 80, 0, 0))
        more = {key: value for key, value in environment().items() if key not in ("COLUMNS", "LINES")}
        process = subprocess.Popen([*MONITOR, f"127.0.0.1:{port}", "--seconds", "1.5"], stdout=theirs,
                                   stderr=subprocess.PIPE, env=more)
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # Linux: the other side has closed
            while chunk := os.read(ours, 4096):
                shown += chunk
        os.close(ours)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    frames = shown.decode().split("\x1b[H")[1:]
    drawn = [frame.split("\x1b[J")[0].replace("\x1b[K", "").split("\r\n") for frame in frames]
    assert len(drawn) > 2
    for lines in drawn:
        assert len(lines) <= 11
        assert max(len(line) + line.count("针") for line in lines) < 80


def test_a_reader_that_has_seen_enough_ends_the_monitor_in_silence():
    with _Streaming() as port:
        process = subprocess.Popen([*MONITOR, f"127.0.0.1:{port}", "--seconds", "30"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=environment())
        assert "connected" in process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert (process.wait(DEADLINE_S), err) == (0, "")


def test_names_in_any_script_are_printed_whatever_the_terminal_can_show():
    with _Streaming() as port:
        done = subprocess.run([*MONITOR, f"127.0.0.1:{port}", "--once"], capture_output=True, text=True, check=False,
                              env=environment(PYTHONIOENCODING="ascii"), timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    assert "\\u9488ToTracker" in done.stdout


@pytest.mark.parametrize("arguments", [
    ("monitor", "h", "--wait", "nan"), ("monitor", "h", "--stale", "inf"), ("monitor", "[::1:5"), ("monitor", "[::1]5"),
    ("record", "h", "--out", "a.igs.mha", "--max-gb", "nan"), ("record", "h", "--out", "a.igs.mha", "--max-gb", "inf"),
    ("record", "h", "--out", "a.igs.mha", "--max-gb", "-1"), ("robot-sim", "--unreachable", "0,0,nan,1"),
    ("robot-sim", "--unreachable", "0,0,0,inf"), ("robot-sim", "--host", ""),
])
def test_numbers_that_are_none_are_refused_in_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["link", *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1, said
    assert said[0].startswith("irai: ")
    assert not list(tmp_path.iterdir())
