"""What client and server do alike for each peer: its messages, its counters, its status over several connections."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from . import messages
from .buffers import BufferPool
from .connection import Connection
from .framing import Frame
from .options import LinkOptions, LinkState
from .receive import PeerClosed
from .slots import Bell, Inbox, Outgoing
from .watchdog import LinkStatus, Watchdog

COUNTERS = ("received", "sent", "bytes_received", "bytes_sent", "skipped", "refused")
JOIN_S = 5.0


@dataclass
class Encoded:
    """One message of ours, encoded once for each version that is asked for."""

    message: Any

    def __post_init__(self) -> None:
        self.kind, self.device = self.message.wire_type, self.message.device
        self._versions: dict[int, Outgoing] = {}

    def version(self, version: int) -> Outgoing:
        if version not in self._versions:
            self._versions[version] = Outgoing(messages.encode(self.message, version=version))
        return self._versions[version]


class Peer:
    """One peer: of a client the only one, over all its connections; of a server one for each connection."""

    def __init__(self, options: LinkOptions, bell: Bell, pool: BufferPool, client: int | None = None):
        self.options, self.client = options, client
        self.watchdog = Watchdog(options)
        self.inbox = Inbox(options, self.watchdog, bell)
        self.connection: Connection | None = None
        self.connects = self.errors = 0
        self.last_error = self.error_type = ""
        self.address = ""
        self._pool = pool
        self._before = dict.fromkeys(COUNTERS, 0)

    def connect(self, sock: socket.socket, address: str) -> Connection:
        """Take over a connected socket."""
        self.connects += 1
        self.address = address
        connection = Connection(sock, self.options, self.inbox, self._pool, self._stamp)
        self.watchdog.connection(True)
        self.connection = connection
        return connection

    def serve(self, connection: Connection) -> None:
        """Run the connection to its end; after it no pose of it is known, and the reason stands in the status."""
        error = connection.run()
        self.connection = None
        self.watchdog.connection(False)
        self.inbox.forget_poses()
        for name in COUNTERS:
            self._before[name] += getattr(connection, name)
        if error is not None:
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Keep what went wrong; a peer that says goodbye between two messages is no error."""
        self.errors += not isinstance(error, PeerClosed)
        self.error_type = type(error).__name__
        self.last_error = str(error)
        if isinstance(error, OSError):
            self.last_error = f"OpenIGTLink: the connection to {self.address} broke ({error.strerror or error})"

    def prepared(self, encoded: Encoded, *, priority: bool) -> Callable[[], bool] | None:
        """What sends the message, encoded as this peer wants it; None without a connection.

        Raises: InputError for a message that can't be put on the wire.
        """
        connection = self.connection
        if connection is None or not connection.open:
            return None
        stream = None
        if self.options.is_stream(encoded.kind, encoded.device):
            stream = encoded.kind, encoded.device
        outgoing = encoded.version(2 if connection.peer_v2 else 1)
        return lambda: connection.send(outgoing, stream, priority)

    def status(self, state: LinkState, name: str) -> LinkStatus:
        connection, counters = self.connection, dict(self._before)
        if connection is not None:
            for counter in COUNTERS:
                counters[counter] += getattr(connection, counter)
        now = self.options.clock()
        heard = None if connection is None else connection.heard_s
        return LinkStatus(
            state=state, peer=self.address, name=name, connects=self.connects,
            last_error=self.last_error or self.inbox.last_drop, error_type=self.error_type,
            connected_s=0.0 if connection is None else now - connection.began_s,
            silent_s=None if heard is None else now - heard,
            peer_v2=connection is not None and connection.peer_v2,
            dropped=self.inbox.dropped, overwritten=self.inbox.overwritten,
            unsent=0 if connection is None else connection.unsent, errors=self.errors,
            devices=self.watchdog.devices(), client=self.client, **counters)

    def _stamp(self, frame: Frame, message: Any) -> None:
        now, now_time = self.options.clock(), time.time()
        for name, value in (("received_s", now), ("received_time_s", now_time), ("client", self.client),
                            ("connection", self.connects)):
            object.__setattr__(message, name, value)
        stream = self.options.is_stream(frame.type, frame.device)
        self.watchdog.received(frame.type, frame.device, stream, now,
                               now_time - frame.time_s if frame.time_s else None)


def in_order(boxes: Iterable[Inbox]) -> list[Any]:
    """Fetch all: queued messages in the order of receipt, then the newest of each stream in the order of receipt."""
    queued, streams = [], []
    for box in boxes:
        some_queued, some_streams = box.fetch()
        queued += some_queued
        streams += some_streams
    queued.sort(key=lambda entry: entry[0])
    streams.sort(key=lambda entry: entry[0])
    return [message for _, message in queued + streams]
