"""Messages that wait: received ones for the application, ours for the wire. Bounded, and never lost in silence."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Any

from .buffers import BufferPool
from .framing import ProtocolError
from .options import POSE_TYPES, LinkOptions
from .watchdog import Watchdog

log = logging.getLogger("IRAI.link")
_order = count()  # of receipt, over all connections


# what a byte on the wire becomes at most when it is decoded into Python's objects (measured), and a metadata entry
GROWTH = {"TDATA": 8, "QTDATA": 12, "POINT": 6, "TRAJ": 6, "CAPABILITY": 6, "IMGMETA": 4, "LBMETA": 8, "VIDEOMETA": 4}
ENTRY_BYTES = 150


def weight(kind: str, size: int, entries: int) -> int:
    """Bytes of memory that a message of `size` bytes with `entries` of metadata is taken for; never less."""
    return size * GROWTH.get(kind, 1) + entries * ENTRY_BYTES


class DeviceLimitError(ProtocolError):
    """A peer sends more streams than `max_devices`."""


class HeldLimitError(ProtocolError):
    """What a peer sent and nobody fetched is larger than `max_held`."""


class Bell:
    """Rings when something was received; any number of threads may wait for it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rung = self._heard = 0

    def ring(self) -> None:
        with self._condition:
            self._rung += 1
            self._condition.notify_all()

    def heard(self) -> None:
        with self._condition:
            self._heard = self._rung

    def wait(self, timeout_s: float | None) -> bool:
        """True when it rang since somebody last waited or fetched."""
        with self._condition:
            if self._rung == self._heard:
                self._condition.wait(timeout_s)  # nothing wakes it but `ring`, or the end of the time
            rang = self._rung != self._heard
            self._heard = self._rung
            return rang


class Inbox:
    """What one peer sent: a slot for each stream, one queue for the rest, in the order of receipt."""

    def __init__(self, options: LinkOptions, watchdog: Watchdog, bell: Bell):
        self._options, self._watchdog, self._bell = options, watchdog, bell
        self._lock = threading.Lock()
        self._slots: dict[tuple[str, str], tuple[Any, int]] = {}
        self._fresh: dict[tuple[str, str], int] = {}  # not fetched yet; in the order of receipt
        self._queue: deque[tuple[int, str, str, Any, int]] = deque()
        self._queue_bytes = self._slot_bytes = 0
        self.dropped = self.overwritten = 0
        self.last_drop = ""

    def put(self, kind: str, device: str, message: Any, size: int) -> None:
        """Keep a decoded message of `size` bytes (see `weight`).

        Raises:
            DeviceLimitError, HeldLimitError: the peer sends more than may be held.
        """
        if self._options.is_stream(kind, device):
            self._put_slot((kind, device), message, size)
        else:
            self._put_queue(kind, device, message, size)
        self._bell.ring()

    def latest(self, kind: str, device: str) -> Any:
        """The newest of a stream, fetched before or not; None when there is none, or its connection is gone."""
        with self._lock:
            entry = self._slots.get((kind, device))
            return None if entry is None else entry[0]

    def fetch(self) -> tuple[list[tuple[int, Any]], list[tuple[int, Any]]]:
        """(queued, newest of each stream), each with its number of receipt; only what was not fetched before."""
        with self._lock:
            queued = [(order, message) for order, _, _, message, _ in self._queue]
            streams = [(order, self._slots[key][0]) for key, order in self._fresh.items()]
            self._queue.clear()
            self._fresh.clear()
            self._queue_bytes = 0
        return queued, streams

    def forget_poses(self) -> None:
        """The connection is gone: no pose and no image of it is given any more. Texts (STATUS, STRING, COMMAND ...)
        stay to be fetched, so that the last word of a peer, an emergency perhaps, is heard; of a recorder all that
        is queued (`keep_queued`)."""
        with self._lock:
            self._slots.clear()
            self._fresh.clear()
            self._slot_bytes = 0
            if self._options.keep_queued:
                return
            self._queue = deque(entry for entry in self._queue if entry[1] not in POSE_TYPES)
            self._queue_bytes = sum(entry[4] for entry in self._queue)

    def _put_slot(self, key: tuple[str, str], message: Any, size: int) -> None:
        with self._lock:
            old = self._slots.get(key)
            if old is None and len(self._slots) >= self._options.max_devices:
                raise DeviceLimitError(f"OpenIGTLink: the peer sends more than {self._options.max_devices} streams; "
                                       "raise max_devices if it may")
            held = self._slot_bytes + size - (0 if old is None else old[1])
            if held > self._options.max_held:
                raise HeldLimitError(f"OpenIGTLink: the newest of each stream are {held} bytes together, the limit is "
                                     f"{self._options.max_held}")
            self._slots[key] = message, size
            self._slot_bytes = held
            missed = self._fresh.pop(key, None) is not None
            self._fresh[key] = next(_order)
            self.overwritten += missed
        if missed:
            self._watchdog.overwritten(*key)

    def _put_queue(self, kind: str, device: str, message: Any, size: int) -> None:
        dropped = []
        with self._lock:
            self._queue.append((next(_order), kind, device, message, size))
            self._queue_bytes += size
            while len(self._queue) > self._options.fifo_length or (
                    self._queue_bytes > self._options.fifo_bytes and len(self._queue) > 1):
                gone = self._queue.popleft()
                self._queue_bytes -= gone[4]
                dropped.append(gone)
            if dropped:
                first = not self.dropped
                self.dropped += len(dropped)
                self.last_drop = (f"OpenIGTLink: {self.dropped} received message(s) were dropped unread, last "
                                  f"{dropped[-1][1]} of {dropped[-1][2]!r}; fetch them more often")
                if first:
                    log.error(self.last_drop)
        for entry in dropped:
            self._watchdog.dropped(entry[1], entry[2])


class Outgoing:
    """One encoded message on its way to one peer or several."""

    def __init__(self, parts: Sequence[memoryview]):
        self.parts = list(parts)
        self.size = sum(part.nbytes for part in self.parts)
        self._settled = False

    def settle(self, pool: BufferPool) -> None:
        """Make it independent of the caller's arrays, which may change once `send` has returned."""
        if not self._settled:
            self.parts, self._settled = [pool.copy(part) for part in self.parts], True


class Outbox:
    """What waits for one peer: commands before all else, then the queue, then the newest of each stream in turn."""

    def __init__(self, options: LinkOptions):
        self._options = options
        self._lock = threading.Lock()
        self._urgent: deque[Outgoing] = deque()
        self._queue: deque[Outgoing] = deque()
        self._slots: dict[tuple[str, str], Outgoing] = {}
        self._queue_bytes = 0
        self.skipped = self.refused = 0

    def put(self, outgoing: Outgoing, stream: tuple[str, str] | None, urgent: bool) -> bool:
        """False when the queue is full; a stream's message that was not sent yet gives way to the newer one."""
        with self._lock:
            if urgent:
                taken = len(self._urgent) < self._options.fifo_length
                if taken:
                    self._urgent.append(outgoing)
            elif stream is not None:
                taken = stream in self._slots or len(self._slots) < self._options.max_devices
                if taken:
                    self.skipped += stream in self._slots
                    self._slots[stream] = outgoing  # keeps its turn
            else:
                taken = (len(self._queue) < self._options.fifo_length
                         and (not self._queue or self._queue_bytes + outgoing.size <= self._options.fifo_bytes))
                if taken:
                    self._queue.append(outgoing)
                    self._queue_bytes += outgoing.size
            self.refused += not taken
            return taken

    def next(self) -> Outgoing | None:
        with self._lock:
            if self._urgent:
                return self._urgent.popleft()
            if self._queue:
                outgoing = self._queue.popleft()
                self._queue_bytes -= outgoing.size
                return outgoing
            if self._slots:
                return self._slots.pop(next(iter(self._slots)))
            return None

    def drop_streams(self) -> None:
        with self._lock:
            self._slots.clear()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._queue) + len(self._slots)
