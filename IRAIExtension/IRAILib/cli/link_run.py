"""What `irai link replay`, `record` and `monitor` do."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..geometry import InputError

if TYPE_CHECKING:
    from ..link.client import LinkClient
    from ..link.monitor import LinkMonitor, MonitorReport
    from ..link.record import Recorder, Recording

ONCE_S = 2.0
LINE_S = 1.0
REDRAW_S = 0.25
WIDE = 140  # columns of a table that goes into a file or pipe
CLEAR, HOME = "\x1b[2J\x1b[H", "\x1b[H"


@contextmanager
def printing() -> Iterator[None]:
    """Names in any script can be printed, whatever the terminal; a reader who has seen enough (`| head`) ends it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except BrokenPipeError:
        forget_reader()


def forget_reader() -> None:
    """Nobody reads what is printed any more: print into nothing from now on."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


def replay(arguments: argparse.Namespace) -> int:
    """`irai link replay`: says the port first, so that a script that asked for port 0 can read it."""
    from ..images.sequences import read_sequence
    from ..link.replay import ReplayServer
    from ..link.replay_frames import read_plus_config

    end_s = _end(arguments.seconds)
    sequence = read_sequence(arguments.file)
    calibration = read_plus_config(arguments.config) if arguments.config else {}
    with ReplayServer(sequence, arguments.port, arguments.host, speed=arguments.speed, loop=arguments.loop,
                      fps=arguments.fps, calibration=calibration, transforms=arguments.transform,
                      valid_only=not arguments.send_invalid, wait_client=not arguments.now) as server:
        devices = ", ".join([*server.devices, *([server.image_device] if server.image_device else [])])
        print(f"{arguments.file}: {len(sequence)} frames on {arguments.host}:{server.port}: {devices}", flush=True)
        try:
            while time.monotonic() < end_s and not server.wait(0.1):
                pass
            time.sleep(0.2 if server.clients() else 0.0)  # the last frame is on its way
        except KeyboardInterrupt:
            print(f"stopped at frame {server.frame_number + 1} of {len(sequence)}")
            return 130
        skipped = server.status()["link"]["skipped"]
        if server.error:
            raise InputError(server.error)
        print(f"played {server.frames_played} frames, {server.rounds} whole rounds")
    if skipped:
        print(f"Check: {skipped} messages were left out because a client took them too slowly; newer ones came instead")
    return 0


def record(arguments: argparse.Namespace, host: str, port: int) -> int:
    """`irai link record`: whatever ends it, what was received is in the file, and the last line says so."""
    from ..link.client import LinkClient
    from ..link.record import Recorder, record_options

    end_s = _end(arguments.seconds)
    limit = None if arguments.max_gb is None else int(_above_0("--max-gb", arguments.max_gb) * 1e9)
    status = 0
    with _terminable(), LinkClient(host, port, announce_v2=arguments.v2, **record_options()) as client:
        recorder = Recorder(client, arguments.out, max_bytes=limit, compress=not arguments.uncompressed).start()
        try:
            _wait_connected(client, arguments.wait)
            _record_until(recorder, end_s, reconnect=arguments.reconnect)
        except KeyboardInterrupt:
            status = 130
            if not recorder.frames and not recorder.poses:
                recorder.cancel()
                raise
        except BaseException:
            recorder.cancel()
            raise
        recording = _stored(recorder)
    _say_recording(recording)
    return status


def _record_until(recorder: Recorder, end_s: float, *, reconnect: bool) -> None:
    shown_s = 0.0
    while time.monotonic() < end_s and not recorder.ended and (reconnect or not recorder.losses):
        time.sleep(0.05)
        if time.monotonic() - shown_s > LINE_S and sys.stderr.isatty():
            shown_s = time.monotonic()
            print(f"\r{recorder.frames} images, {recorder.poses} poses ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _stored(recorder: Recorder) -> Recording:
    """Write the recording; impatience (a second Ctrl-C) doesn't lose it, and a full disk sends it elsewhere."""
    waiting = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if waiting else ()
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in numbers]
    try:
        return recorder.stop()
    except InputError:
        elsewhere = Path(tempfile.gettempdir()) / f"{uuid.uuid4().hex[:8]}-{recorder.path.name}"
        if not recorder.frames and not recorder.poses:
            raise
        return recorder.stop(elsewhere)
    finally:
        recorder.cancel()
        for number, handler in before:
            signal.signal(number, handler)


def _say_recording(recording: Recording) -> None:
    tools = ", ".join(f"{name} {seen}" for name, seen in recording.tools.items()) or "none"
    print(f"{recording.path}: {recording.frames} frames, {recording.duration_s:.2f} s; tools seen in: {tools}")
    for why, count in recording.skipped.items():
        print(f"left out {count}: {why}")
    if recording.dropped:
        print(f"Check: {recording.dropped} messages came faster than they could be stored and are missing")
    if recording.note:
        print(f"Check: {recording.note}")


def monitor(arguments: argparse.Namespace, host: str, port: int) -> int:
    """`irai link monitor`: redraws on a terminal, prints lines elsewhere. Ctrl-C is its usual end (130)."""
    from ..link.client import LinkClient
    from ..link.monitor import LinkMonitor, monitor_options

    _above_0("--stale", arguments.stale)
    _above_0("--wait", arguments.wait)
    end_s = _end(ONCE_S + arguments.wait if arguments.once and arguments.seconds is None else arguments.seconds)
    live = sys.stdout.isatty() and not arguments.json and not arguments.once
    with LinkClient(host, port, announce_v2=arguments.v2, **monitor_options()) as client:
        watch = LinkMonitor(client, stale_s=arguments.stale)
        _wait_connected(client, arguments.wait)
        if arguments.once and arguments.seconds is None:
            end_s = time.monotonic() + ONCE_S
        try:
            _watch_until(watch, end_s, live=live, once=arguments.once, as_json=arguments.json)
        finally:
            print("\n" if live else "", end="", flush=True)
        if arguments.once or live:
            _print_report(watch.report(), as_json=arguments.json)
    return 0


def _watch_until(watch: LinkMonitor, end_s: float, *, live: bool, once: bool, as_json: bool) -> None:
    every_s, first = (REDRAW_S if live else LINE_S), True
    show_s = time.monotonic() + every_s
    while time.monotonic() < end_s:
        watch.look(0.02)
        if once or time.monotonic() < show_s:
            continue
        show_s = time.monotonic() + every_s
        if live:
            _redraw(watch.report(), first=first)
            first = False
        else:
            _print_report(watch.report(), as_json=as_json)


def _redraw(report: MonitorReport, *, first: bool) -> None:
    """In place, and never larger than the terminal: what wraps or scrolls can't be drawn over."""
    from ..link.monitor import render_table

    columns, rows = shutil.get_terminal_size()
    table = "\x1b[K\n".join(render_table(report, columns - 1, rows - 2).splitlines())
    print(f"{CLEAR if first else HOME}{table}\x1b[J", end="", flush=True)


def _print_report(report: MonitorReport, *, as_json: bool) -> None:
    from ..link.monitor import render_table

    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE
    print(json.dumps(report.to_dict()) if as_json else render_table(report, columns), flush=True)


def _wait_connected(client: LinkClient, wait_s: float) -> None:
    """Raises InputError when nothing can be connected to within `wait_s`."""
    until_s = time.monotonic() + _above_0("--wait", wait_s)
    while client.status().connects == 0:
        if time.monotonic() > until_s:
            raise InputError(client.status().last_error
                             or f"nothing answers at {client.host}:{client.port} within {wait_s:g} s")
        time.sleep(0.02)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt  # and not SIGINT, which a shell has its background processes ignore


@contextmanager
def _terminable() -> Iterator[None]:
    """Being ended by another program is like Ctrl-C: what was received is written first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(seconds: float | None) -> float:
    return math.inf if seconds is None else time.monotonic() + _above_0("--seconds", seconds)


def _above_0(option: str, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{option} must be a number above 0, not {value:g}")
    return value
