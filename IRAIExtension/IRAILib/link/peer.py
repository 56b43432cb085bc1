"""What client and server do alike for each peer: its messages, its counters, its status over several connections."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from . import messages
from .buffers import BufferPool
from .connection import Connection
from .options import LinkOptions, LinkState
from .slots import Bell, Inbox, Outgoing
from .watchdog import LinkStatus, Watchdog

COUNTERS = ("received", "sent", "bytes_received", "bytes_sent", "overwritten", "refused")
JOIN_S = 5.0


@dataclass
class Encoded:
    """One message of ours, encoded once for each version that is asked for."""

    message: Any

    def __post_init__(self) -> None:
        self.kind = type_of(self.message)
        self.device = str(getattr(self.message, "device", "") or "")
        self._versions: dict[int, Outgoing] = {}

    def version(self, version: int) -> Outgoing:
        if version not in self._versions:
            self._versions[version] = Outgoing(messages.encode(self.message, version=version))
        return self._versions[version]


def type_of(message: Any) -> str:
    """The type name on the wire: the class's, or of a query or an unknown message its own."""
    return str(getattr(message, "type", None) or message.TYPE)


class Peer:
    """One peer: of a client the only one, over all its connections; of a server one for each connection."""

    def __init__(self, options: LinkOptions, bell: Bell, pool: BufferPool, client: int | None = None):
        self.options, self.client = options, client
        self.watchdog = Watchdog(options)
        self.inbox = Inbox(options, self.watchdog, bell)
        self.connection: Connection | None = None
        self.connects = self.errors = 0
        self.last_error = ""
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
        reason = connection.run()
        self.connection = None
        self.watchdog.connection(False)
        self.inbox.forget_poses()
        for name in COUNTERS:
            self._before[name] += getattr(connection, name)
        if reason:
            self.failed(reason)

    def failed(self, reason: str) -> None:
        self.errors += 1
        self.last_error = reason

    def send(self, encoded: Encoded, *, priority: bool) -> bool:
        """False without a connection, or when its queue is full."""
        connection = self.connection
        if connection is None or not connection.open:
            return False
        stream = None
        if self.options.is_stream(encoded.kind, encoded.device):
            stream = encoded.kind, encoded.device
        return connection.send(encoded.version(2 if connection.peer_v2 else 1), stream, priority)

    def status(self, state: LinkState, name: str) -> LinkStatus:
        connection, counters = self.connection, dict(self._before)
        if connection is not None:
            for counter in COUNTERS:
                counters[counter] += getattr(connection, counter)
        now = self.options.clock()
        heard = None if connection is None else connection.heard_s
        counters["overwritten"] += self.inbox.overwritten
        return LinkStatus(
            state=state, peer=self.address, name=name, connects=self.connects,
            last_error=self.last_error or self.inbox.last_drop,
            connected_s=0.0 if connection is None else now - connection.began_s,
            silent_s=None if heard is None else now - heard,
            peer_v2=connection is not None and connection.peer_v2,
            dropped=self.inbox.dropped, unsent=0 if connection is None else connection.unsent, errors=self.errors,
            devices=self.watchdog.devices(), client=self.client, **counters)

    def _stamp(self, message: Any) -> None:
        now, now_time = self.options.clock(), time.time()
        for name, value in (("received_s", now), ("received_time_s", now_time), ("client", self.client),
                            ("connection", self.connects)):
            object.__setattr__(message, name, value)
        sent_s = message.time_s
        self.watchdog.received(type_of(message), message.device,
                               self.options.is_stream(type_of(message), message.device), now,
                               now_time - sent_s if sent_s else None)


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
