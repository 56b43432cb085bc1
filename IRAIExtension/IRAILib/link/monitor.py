"""Watches a link: how fast each device comes, how late, how old it is, and which tools are lost."""

from __future__ import annotations

import time
import unicodedata
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .client import LinkClient
from .messages import Image, Position, QTData, TData, Transform
from .options import STREAM_TYPES, LinkState

# every one is counted; of images and large arrays the newest are enough
MONITORED = frozenset({"TRANSFORM", "POSITION", "QTRANS", "TDATA", "QTDATA", "SENSOR"})
SAMPLES = 512
WINDOW_S = 2.0
MAX_DEVICES = 512


def monitor_options() -> dict[str, Any]:
    """Options of the LinkClient that a LinkMonitor listens to."""
    return {"fifo_types": MONITORED, "fifo_length": 16384}


@dataclass
class DeviceReport:
    """One (type, device) at one moment.

    Attributes:
        state: "ok"; "lost": a pose or image older than the limit, or the connection is gone; "OUT_OF_VIEW" and other
            words of the sender: its newest pose doesn't hold; "idle": no stream, and nothing came for a while.
        rate_hz: over the last two seconds. latency_p50_ms, latency_p95_ms: receipt minus time stamp (None without
            stamps); over two machines it holds the difference of their clocks.
        age_s: since the newest came. lost_s: for how long it has been lost, 0 when it isn't. losses: how often it was.
    """

    type: str
    device: str
    state: str
    count: int
    rate_hz: float
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    age_s: float
    lost_s: float
    losses: int
    detail: str = ""


@dataclass
class MonitorReport:
    """All of a link at one moment."""

    peer: str
    state: str
    connected_s: float
    reconnects: int
    errors: int
    dropped: int
    megabytes: float
    last_error: str
    version2: bool
    devices: list[DeviceReport] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lost(self) -> list[str]:
        """Names of the devices that are lost or whose newest pose doesn't hold."""
        return [device.device for device in self.devices if device.state not in ("ok", "idle")]


@dataclass
class _Watch:
    stream: bool
    count: int = 0
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    status: str = "OK"
    bad_since_s: float = 0.0
    losses: int = 0
    was_lost: bool = False
    detail: str = ""


class LinkMonitor:
    """Collects from a client's messages; call `look` often (ten times a second or more), `report` when shown.

    Args:
        client: made with `monitor_options()`. The monitor fetches its messages, unless they are handed to `take`.
        stale_s: a pose or image older than this is lost.
    """

    def __init__(self, client: LinkClient, *, stale_s: float = 0.5) -> None:
        self.client, self.stale_s = client, stale_s
        self._watches: dict[tuple[str, str], _Watch] = {}

    def look(self, timeout_s: float = 0.05) -> int:
        """Wait for something new, fetch it; returns how many messages came."""
        self.client.wait(timeout_s)
        messages = self.client.drain()
        self.take(messages)
        self._watch_losses(time.monotonic())
        return len(messages)

    def take(self, messages: Iterable[Any]) -> None:
        """Count these messages."""
        for message in messages:
            self._count(message, message.device, _status_of(message), _detail(message))
            if isinstance(message, TData | QTData):  # a tool that is lost is missing there while the others go on
                for tool in message.tools:
                    self._count(message, f"{message.device}/{tool.name}", "OK", _place(tool.matrix[:3, 3]))

    def _count(self, message: Any, device: str, status: str, detail: str) -> None:
        key = message.wire_type, device
        watch = self._watches.get(key)
        if watch is None:
            if len(self._watches) >= MAX_DEVICES:
                return
            watch = self._watches[key] = _Watch(key[0] in STREAM_TYPES)
        arrived_s = message.received_s if message.received_s is not None else time.monotonic()
        gap_s = arrived_s - watch.arrivals[-1] if watch.arrivals else 0.0
        silent = watch.stream and gap_s > self.stale_s
        watch.losses += (silent and not watch.was_lost) + (status != "OK" and watch.status == "OK")
        if status != "OK" and watch.status == "OK":
            watch.bad_since_s = arrived_s
        watch.status, watch.was_lost = status, False
        watch.count += 1
        watch.arrivals.append(arrived_s)
        if message.time_s and message.received_time_s:
            watch.latencies.append(message.received_time_s - message.time_s)
        watch.detail = detail

    def report(self) -> MonitorReport:
        """The state now."""
        now, link = time.monotonic(), self.client.status()
        self._watch_losses(now)
        devices = [self._device(key, watch, now) for key, watch in sorted(self._watches.items())]
        return MonitorReport(link.peer or f"{self.client.host}:{self.client.port}", str(link.state), link.connected_s,
                             max(link.connects - 1, 0), link.errors, link.dropped, link.bytes_received / 1e6,
                             link.last_error, link.peer_v2, devices)

    # ------------------------------------------------------------------------------------------- one device
    def _watch_losses(self, now_s: float) -> None:
        for watch in self._watches.values():
            if self._lost(watch, now_s) and not watch.was_lost:
                watch.was_lost = True
                watch.losses += 1

    def _lost(self, watch: _Watch, now_s: float) -> bool:
        gone = self.client.state is not LinkState.CONNECTED
        return watch.stream and bool(watch.arrivals) and (gone or now_s - watch.arrivals[-1] > self.stale_s)

    def _device(self, key: tuple[str, str], watch: _Watch, now_s: float) -> DeviceReport:
        age_s = now_s - watch.arrivals[-1]
        recent = [arrived for arrived in watch.arrivals if now_s - arrived <= WINDOW_S]
        span_s = min(WINDOW_S, now_s - watch.arrivals[0])
        rate_hz = len(recent) / max(span_s, 1e-3) if len(recent) > 1 else 0.0
        p50, p95 = (1e3 * np.percentile(watch.latencies, (50, 95))) if watch.latencies else (None, None)
        state, lost_s = "ok", 0.0
        if self._lost(watch, now_s):
            state, lost_s = "lost", age_s
        elif watch.status != "OK":
            state, lost_s = watch.status, now_s - watch.bad_since_s
        elif not watch.stream and age_s > 5.0:
            state = "idle"
        return DeviceReport(*key, state, watch.count, rate_hz, None if p50 is None else float(p50),
                            None if p95 is None else float(p95), age_s, lost_s, watch.losses, watch.detail)


def _status_of(message: Any) -> str:
    """OK, or the word with which the sender says that this pose doesn't hold."""
    status = message.metadata.get("TransformStatus", "")
    if status and status != "OK" and isinstance(message, Transform):
        return shown(status)[:20] or "INVALID"
    if isinstance(message, Transform) and message.metadata.get("TransformValid", "true").lower() in ("false", "0"):
        return "INVALID"
    return "OK"


def _detail(message: Any) -> str:
    if isinstance(message, Image):
        shape = message.array.shape
        return f"{shape[2]}x{shape[1]}x{shape[0]} {message.array.dtype.name}"
    if isinstance(message, Transform):
        return _place(message.matrix[:3, 3])
    if isinstance(message, Position):
        return _place(message.position)
    if isinstance(message, TData | QTData):
        return shown(" ".join(tool.name for tool in message.tools))[:40]
    text = getattr(message, "text", "")
    return shown(text)[:40] if isinstance(text, str) else ""


def _place(position: np.ndarray) -> str:
    x, y, z = position
    return f"at {x:.1f} {y:.1f} {z:.1f} mm"


def shown(text: str) -> str:
    """A peer's words in one line for a terminal, which must not obey them: nothing but printable characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def _fit(text: str, width: int, *, fill: bool = True) -> str:
    """`text` cut (and filled with blanks) to the columns of a terminal; Chinese characters and the like take two."""
    out, used = "", 0
    for letter in text:
        size = 0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        if used + size > width:
            break
        out, used = out + letter, used + size
    return out + " " * (width - used) if fill else out


def render_table(report: MonitorReport, columns: int = 140, rows: int | None = None) -> str:
    """Plain text, one line a device, no line wider than `columns`.

    Of more devices than fit into `rows` those that are lost come first, and a line says how many are not shown.
    """
    head = (f"{shown(report.peer)}  {report.state}  {report.connected_s:.1f} s  reconnects {report.reconnects}  "
            f"errors {report.errors}  dropped {report.dropped}  {report.megabytes:.1f} MB"
            f"  v{2 if report.version2 else 1}")
    name = max(min(columns - 66, 30), 8)
    lines = [head, f"{'TYPE':<10} {_fit('DEVICE', name)} {'STATE':<12} {'RATE Hz':>7} {'LATENCY p50/p95 ms':>18} "
                   f"{'AGE s':>7} {'LOST':>4}"]
    end = [f"last error: {shown(report.last_error)}"] if report.last_error else []
    devices = report.devices
    room = len(devices) if rows is None else rows - len(lines) - len(end)
    if room < len(devices):
        devices = sorted(devices, key=lambda device: device.state in ("ok", "idle"))[:max(room - 1, 1)]
        lost = len(report.lost()) - sum(device.state not in ("ok", "idle") for device in devices)
        end = [f"({len(report.devices) - len(devices)} more, {lost} of them lost: the window is too small)", *end]
    for device in devices:
        late = "-" if device.latency_p50_ms is None else f"{device.latency_p50_ms:.1f} / {device.latency_p95_ms:.1f}"
        # the last pose of a lost tool is no pose any more, so it is not shown
        detail = device.detail if device.state in ("ok", "idle") else f"lost for {device.lost_s:.1f} s"
        lines.append(f"{_fit(device.type, 10)} {_fit(device.device, name)} {_fit(device.state, 12)} "
                     f"{device.rate_hz:>7.1f} {late:>18} {device.age_s:>7.2f} {device.losses:>4}  {detail}")
    if not report.devices:
        lines.append("(nothing received)")
    return "\n".join(_fit(line, columns, fill=False).rstrip() for line in [*lines, *end])
