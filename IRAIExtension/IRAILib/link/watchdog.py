"""Which stream is alive, how old it is, how fast it comes: the link tells the truth about its data."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import asdict, dataclass, field
from typing import Any

from .options import LinkOptions, LinkState

RATE_WINDOW = 64


@dataclass
class DeviceStatus:
    """One (type, device) as received.

    Attributes:
        rate_hz: messages a second over the last 64 (at most); 0 once they stopped.
        latency_s: receipt minus time stamp, of the newest; None without a stamp. Clocks of two machines may differ.
        age_s: since the newest was received; `stale`: a stream older than the limit, or whose connection is gone.
        overwritten: newest-only messages that nobody fetched in time; dropped: lost from a full queue.
    """

    type: str
    device: str
    stream: bool
    count: int
    rate_hz: float
    latency_s: float | None
    age_s: float
    stale: bool
    overwritten: int
    dropped: int

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)


@dataclass
class LinkStatus:
    """Everything about a link at one moment; of a server, `clients` has one for each peer.

    Attributes:
        peer: address of the other side. connects: connections made since the start.
        last_error, error_type: the newest, in words and by class ("ChecksumError"); they stay after a reconnect.
        connected_s: age of the connection; silent_s: since the last message, None before the first.
        dropped: received and lost from a full queue; overwritten: stream messages that nobody fetched in time.
        skipped: stream messages of ours that gave way to newer ones; refused: ours that a full queue didn't take
            (of a server also clients beyond `max_clients`); unsent: ours that wait now.
        errors: connections that ended or failed otherwise than by a goodbye.
    """


    state: LinkState
    peer: str
    name: str
    connects: int
    last_error: str
    error_type: str
    connected_s: float
    silent_s: float | None
    peer_v2: bool
    received: int
    sent: int
    bytes_received: int
    bytes_sent: int
    dropped: int
    overwritten: int
    skipped: int
    refused: int
    unsent: int
    errors: int
    devices: list[DeviceStatus] = field(default_factory=list)
    clients: list[LinkStatus] = field(default_factory=list)
    client: int | None = None

    @property
    def alive(self) -> bool:
        """Connected now."""
        return self.state is LinkState.CONNECTED

    def device(self, kind: str, device: str) -> DeviceStatus | None:
        """The entry of one (type, device), or None when it was never received."""
        return next((entry for entry in self.devices if (entry.type, entry.device) == (kind, device)), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and lists, for JSON."""
        out = asdict(self)
        out["state"] = self.state.value
        out["clients"] = [client.to_dict() for client in self.clients]
        return out


class _Watch:
    __slots__ = ("count", "current", "dropped", "latency_s", "overwritten", "stream", "times")

    def __init__(self, stream: bool):
        self.stream, self.current = stream, True
        self.count = self.overwritten = self.dropped = 0
        self.latency_s: float | None = None
        self.times: deque[float] = deque(maxlen=RATE_WINDOW)


class Watchdog:
    """Ages and rates of what was received. Bounded: the device unheard for longest is forgotten first."""

    def __init__(self, options: LinkOptions):
        self._options = options
        self._lock = threading.Lock()
        self._watches: OrderedDict[tuple[str, str], _Watch] = OrderedDict()
        self._limits: dict[tuple[str, str], float] = {}
        self._connected = False

    def set_stale(self, kind: str, device: str, stale_s: float) -> None:
        """A limit of its own for one stream (MR images come once a second)."""
        with self._lock:
            self._limits[kind, device] = stale_s

    def connection(self, connected: bool) -> None:
        """Without a connection every stream is stale, however young."""
        with self._lock:
            self._connected = connected
            if connected:
                for watch in self._watches.values():
                    watch.current = False
                    watch.times = deque(list(watch.times)[-1:], RATE_WINDOW)

    def received(self, kind: str, device: str, stream: bool, now_s: float, latency_s: float | None) -> None:
        with self._lock:
            watch = self._watches.get((kind, device))
            if watch is None:
                watch = self._watches[kind, device] = _Watch(stream)
                if len(self._watches) > 2 * self._options.max_devices:
                    self._watches.popitem(last=False)
            else:
                self._watches.move_to_end((kind, device))
            watch.current = True
            watch.count += 1
            watch.times.append(now_s)
            watch.latency_s = latency_s

    def overwritten(self, kind: str, device: str) -> None:
        self._count(kind, device, "overwritten")

    def dropped(self, kind: str, device: str) -> None:
        self._count(kind, device, "dropped")

    def is_stale(self, kind: str, device: str) -> bool:
        """True as well for a device that was never heard."""
        with self._lock:
            watch = self._watches.get((kind, device))
            return watch is None or self._stale((kind, device), watch, self._options.clock())

    def devices(self) -> list[DeviceStatus]:
        """Sorted by type and device."""
        with self._lock:
            now = self._options.clock()
            return [DeviceStatus(kind, device, watch.stream, watch.count, self._rate(watch, now), watch.latency_s,
                                 now - watch.times[-1], self._stale((kind, device), watch, now), watch.overwritten,
                                 watch.dropped)
                    for (kind, device), watch in sorted(self._watches.items())]

    def _count(self, kind: str, device: str, what: str) -> None:
        with self._lock:
            watch = self._watches.get((kind, device))
            if watch is not None:
                setattr(watch, what, getattr(watch, what) + 1)

    def _stale(self, key: tuple[str, str], watch: _Watch, now_s: float) -> bool:
        limit = self._limits.get(key, self._options.stale_s)
        return watch.stream and (not self._connected or not watch.current or now_s - watch.times[-1] > limit)

    def _rate(self, watch: _Watch, now_s: float) -> float:
        if len(watch.times) < 2 or not self._connected:
            return 0.0
        period = (watch.times[-1] - watch.times[0]) / (len(watch.times) - 1)
        if now_s - watch.times[-1] > max(3 * period, self._options.stale_s):
            return 0.0
        return 1.0 / max(period, 1e-6)
