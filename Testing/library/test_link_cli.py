"""`irai link` as a user calls it: exit status, one line for what is wrong, files that are whole whatever ends them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from IRAILib.cli.main import main
from IRAILib.images.sequences import TrackedSequence, read_sequence, write_sequence
from IRAILib.link.replay import ReplayServer
from link_raw_peer import raw_client

COMMAND = [sys.executable, "-m", "IRAILib.cli.main"]
LIBRARY = Path(__file__).resolve().parents[2] / "IRAIExtension"
DEADLINE_S = 120
XML = ('<P><CoordinateDefinitions><Transform From="Image" To="Probe" Matrix="0.1 0 0 5 0 0.1 0 6 0 0 0.1 7 0 0 0 1"/>'
       "</CoordinateDefinitions></P>")


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(LIBRARY), os.environ.get("PYTHONPATH", "")])}


def irai(*arguments, **more):
    return subprocess.run([*COMMAND, "link", *map(str, arguments)], capture_output=True, text=True, check=False,
                          timeout=DEADLINE_S, env=environment(), **more)


def started(*arguments):
    return subprocess.Popen([*COMMAND, "link", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=environment())


def ended(process):
    try:
        out, err = process.communicate(timeout=DEADLINE_S)
    finally:
        if process.poll() is None:
            process.kill()
    return process.returncode, out, err


def recording(n=15, step_s=0.04) -> TrackedSequence:
    rng = np.random.default_rng(2)
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, 0, 3] = np.arange(n)
    status = {"ProbeToTracker": ["OK"] * n, "StylusToTracker": ["OUT_OF_VIEW"] * n}
    return TrackedSequence(rng.integers(0, 256, (n, 20, 30), dtype=np.uint8), np.arange(n) * step_s,
                           {"ProbeToTracker": poses, "StylusToTracker": poses + 0}, status)


@pytest.fixture
def file(tmp_path):
    write_sequence(tmp_path / "in.igs.mha", recording())
    return tmp_path / "in.igs.mha"


def port_of(process) -> int:
    line = process.stdout.readline()
    found = re.search(r" on 127\.0\.0\.1:(\d+): (.*)", line)
    assert found, line
    return int(found[1])


def test_replay_into_record(tmp_path, file):
    (tmp_path / "c.xml").write_text(XML)
    player = started("replay", file, "--port", 0, "--config", tmp_path / "c.xml")
    done = irai("record", f"127.0.0.1:{port_of(player)}", "--out", tmp_path / "out.igs.nrrd", "--v2")
    code, out, err = ended(player)
    assert (done.returncode, code) == (0, 0), done.stderr + err
    assert "15 frames" in out
    found, first = read_sequence(tmp_path / "out.igs.nrrd"), recording()
    np.testing.assert_array_equal(found.frames, first.frames)
    np.testing.assert_allclose(found.time_s, first.time_s, atol=2e-6)
    np.testing.assert_array_equal(found.transforms["ProbeToTracker"], first.transforms["ProbeToTracker"])
    np.testing.assert_allclose(found.transforms["ImageToTracker"][:, 0, 3], 5 + np.arange(15), atol=1e-5)
    assert "StylusToTracker" not in found.transforms or not found.valid("StylusToTracker").any()
    assert "15 frames" in done.stdout
    assert len(list(tmp_path.iterdir())) == 3


def test_a_client_too_slow_for_all_frames_is_said(tmp_path):
    frames = np.zeros((12, 1000, 1000), np.uint8)
    write_sequence(tmp_path / "large.igs.mha", TrackedSequence(frames, np.arange(12) * 0.02))
    player = started("replay", tmp_path / "large.igs.mha", "--port", 0)
    with raw_client(port_of(player), 4096):
        code, out, err = ended(player)
    assert code == 0, err
    assert re.search(r"Check: \d+ messages were left out", out), out
    with started("replay", tmp_path / "large.igs.mha", "--port", 0, "--now") as alone:
        assert "Check" not in ended(alone)[1]


def test_a_killed_player_leaves_a_readable_recording(tmp_path):
    write_sequence(tmp_path / "in.igs.mha", recording(n=400))
    player = started("replay", tmp_path / "in.igs.mha", "--port", 0)
    recorder = started("record", f"127.0.0.1:{port_of(player)}", "--out", tmp_path / "out.igs.mha")
    wait_for_pixels(tmp_path, 10 * 600)
    player.send_signal(signal.SIGKILL)
    code, out, err = ended(recorder)
    ended(player)
    found = read_sequence(tmp_path / "out.igs.mha")
    assert code == 0, err
    assert "lost" in out
    assert 10 <= len(found) < 400
    first = recording(n=400)
    offset = next(k for k in range(400) if np.array_equal(first.frames[k], found.frames[0]))
    np.testing.assert_array_equal(found.frames[:10], first.frames[offset:offset + 10])


@pytest.mark.parametrize(("how", "background"), [(signal.SIGINT, False), (signal.SIGTERM, False),
                                                 pytest.param(signal.SIGTERM, True, marks=pytest.mark.skipif(
                                                     os.name != "posix", reason="a habit of POSIX shells"))])
def test_a_stopped_recorder_writes_what_it_has(tmp_path, how, background):
    """A shell has `irai link record ... &` of a script ignore SIGINT; SIGTERM must end it all the same."""
    with ReplayServer(recording(), loop=True) as server:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.default_int_handler)
        try:
            recorder = started("record", f"127.0.0.1:{server.port}", "--out", tmp_path / "out.igs.mha")
        finally:
            signal.signal(signal.SIGINT, before)
        wait_for_pixels(tmp_path, 5 * 600)
        recorder.send_signal(how)
        code, out, err = ended(recorder)
    assert code == 130, err
    assert len(read_sequence(tmp_path / "out.igs.mha")) >= 5
    assert "frames" in out
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.igs.mha"]


def wait_for_pixels(folder, count):
    """Until the recorder's hidden folder holds so many bytes of pixels."""
    end = time.monotonic() + DEADLINE_S
    while not any(spool.stat().st_size >= count for spool in folder.glob(".recording-*/pixels")):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_monitor_once_as_json_and_as_table():
    with ReplayServer(recording(n=40), loop=True, valid_only=False) as server:
        peer = f"127.0.0.1:{server.port}"
        said = irai("monitor", peer, "--once", "--json", "--v2", "--stale", 5)
        table = irai("monitor", peer, "--once", "--seconds", 1)
    assert said.returncode == table.returncode == 0, said.stderr + table.stderr
    report = json.loads(said.stdout)
    devices = {device["device"]: device for device in report["devices"]}
    assert devices["ProbeToTracker"]["state"] == "ok"
    assert devices["StylusToTracker"]["state"] == "OUT_OF_VIEW"
    assert devices["ProbeToTracker"]["rate_hz"] > 0
    assert devices["ProbeToTracker"]["latency_p50_ms"] is not None
    assert {line.split()[1] for line in table.stdout.splitlines()[2:]} >= {"ProbeToTracker", "Image"}
    assert "\x1b" not in table.stdout


def test_monitor_lines_and_the_end_of_the_server():
    server = ReplayServer(recording(n=40), loop=True).start()
    watching = started("monitor", f"127.0.0.1:{server.port}", "--seconds", 4, "--json", "--stale", 5)
    first = json.loads(watching.stdout.readline())
    server.close()
    code, out, err = ended(watching)
    assert code == 0, err
    last = json.loads(out.splitlines()[-1])
    assert {device["state"] for device in first["devices"] if device["type"] == "IMAGE"} == {"ok"}
    assert {device["state"] for device in last["devices"] if device["type"] in ("IMAGE", "TRANSFORM")} == {"lost"}
    assert last["state"] != "connected"


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_monitor_redraws_on_a_terminal():
    import pty

    with ReplayServer(recording(n=40), loop=True) as server:
        ours, theirs = pty.openpty()
        process = subprocess.Popen([*COMMAND, "link", "monitor", f"127.0.0.1:{server.port}", "--seconds", "1.2"],
                                   stdout=theirs, stderr=subprocess.PIPE, env=environment())
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # Linux: the other side has closed
            while chunk := os.read(ours, 4096):
                shown += chunk
        os.close(ours)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert b"\x1b[2J" in shown
    assert b"ProbeToTracker" in shown


def test_what_is_wrong_is_one_line_and_status_2(tmp_path, file, capsys):
    (tmp_path / "bad.xml").write_text("<a/>")
    free = ReplayServer(recording()).start()
    closed = free.port
    free.close()
    with ReplayServer(recording()) as taken:
        cases = [
            (("replay", tmp_path / "none.mha"), "no such file"), (("replay", file, "--speed", "0"), "speed"),
            (("replay", file, "--config", tmp_path / "bad.xml"), "CoordinateDefinitions"),
            (("replay", file, "--port", taken.port), "port"), (("replay", file, "--seconds", "0"), "--seconds"),
            (("record", "localhost:x", "--out", tmp_path / "a.igs.mha"), "HOST"),
            (("record", f"127.0.0.1:{taken.port}", "--out", tmp_path / "a.avi"), ".igs.mha"),
            (("record", f"127.0.0.1:{closed}", "--out", tmp_path / "a.igs.mha", "--wait", "0.3"), str(closed)),
            (("monitor", f"127.0.0.1:{closed}", "--wait", "0.3"), str(closed)),
            (("monitor", "127.0.0.1:70000"), "port"),
        ]
        for arguments, word in cases:
            code = main(["link", *map(str, arguments)])
            lines = capsys.readouterr().err.strip().splitlines()
            assert code == 2, (arguments, lines)
            assert len(lines) == 1, lines
            assert lines[0].startswith("irai: ")
            assert word in lines[0], (word, lines[0])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bad.xml", "in.igs.mha"]


@pytest.mark.parametrize("kind", ["replay", "record", "monitor", "robot-sim"])
def test_help_has_an_example(kind, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["link", kind, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "example" in said.lower()
    assert f"irai link {kind}" in " ".join(said.split())
