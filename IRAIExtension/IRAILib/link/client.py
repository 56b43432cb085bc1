"""The client: keeps one connection to a server, makes it anew when it is lost, and never pretends."""

from __future__ import annotations

import logging
import random
import threading
from typing import Any

from ..geometry import InputError, IRAIError
from .buffers import BufferPool
from .framing import pack
from .lives import began, ended
from .options import LinkOptions, LinkState
from .peer import JOIN_S, Encoded, Peer, in_order
from .slots import Bell, Outgoing
from .sockets import Waker, connected, resolved
from .watchdog import LinkStatus

log = logging.getLogger("IRAI.link")


class NoServerError(IRAIError):
    """Nobody answers at the address."""


class Backoff:
    """Pauses that double from `first_s` to `longest_s`, each a quarter longer or shorter by chance, so that many
    clients of a server that comes back do not all knock at once."""

    def __init__(self, first_s: float, longest_s: float):
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def pause_s(self) -> float:
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, self._longest_s)
        return pause_s * random.uniform(0.75, 1.25)

    def reset(self) -> None:
        self._next_s = self._first_s


class LinkClient:
    """An OpenIGTLink client in a thread of its own.

    A loss of any kind (peer closed, wrong checksum, stalled message, nonsense) clears every pose and image, and the
    client connects again, with pauses that double up to a limit. Nothing is queued for a later connection.

    Args:
        host, port: of the server.
        name: shown in status and log.
        options: see `LinkOptions`.

    Raises:
        InputError: an option or the port is out of range.
    """

    def __init__(self, host: str, port: int, *, name: str | None = None, **options: Any):
        if not 0 < int(port) < 65536:
            raise InputError(f"OpenIGTLink: the port must be 1 to 65535, not {port}")
        self.host, self.port, self.name = host, int(port), name or f"{host}:{port}"
        self.options = LinkOptions.of(options)
        self._bell = Bell()
        self._pool = BufferPool()
        self._peer = Peer(self.options, self._bell, self._pool)
        self._state = LinkState.DISCONNECTED
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._waker: Waker | None = None

    def start(self) -> LinkClient:
        """Connect, and stay connected, in the background; a second call does nothing. Returns itself."""
        if self._closing.is_set():
            raise InputError(f"OpenIGTLink: the link {self.name} was closed; make a new one")
        if self._thread is None:
            self._waker = Waker()
            self._state = LinkState.CONNECTING
            self._thread = threading.Thread(target=self._run, name=f"IRAI link {self.name}", daemon=True)
            began(self)
            self._thread.start()
        return self

    def closing(self) -> None:
        """The link is going to be closed: a peer that goes first is no loss any more."""
        self._closing.set()

    def close(self) -> None:
        """End the link: what waits in the queues is sent for 0.2 s at most; then no thread and no socket is left."""
        self._closing.set()
        thread, waker, connection = self._thread, self._waker, self._peer.connection
        if waker is not None:
            waker.wake()
        if connection is not None:
            connection.stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_S + self.options.connect_timeout_s)
        if thread is None:
            self._state = LinkState.CLOSED
        ended(self)

    def __enter__(self) -> LinkClient:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def state(self) -> LinkState:
        return self._state

    @property
    def peer_v2(self) -> bool:
        """The peer has sent a message of version 2 in this connection."""
        connection = self._peer.connection
        return connection is not None and connection.peer_v2

    def send(self, message: Any, *, priority: bool = False) -> bool:
        """Send one message, in version 2 when the peer has shown that it speaks it.

        Args:
            message: of `link.messages`. Its arrays may be changed as soon as this returns.
            priority: for commands; overtakes everything that is not on the wire yet.

        Returns: False when there is no connection, or its queue is full: then the message is forgotten.
        Raises: InputError for a message that can't be put on the wire.
        """
        send = self._peer.prepared(Encoded(message), priority=priority)
        return send is not None and send()

    def latest(self, kind: str, device: str) -> Any:
        """The newest message of a stream, or None: none came, or its connection is gone."""
        return self._peer.inbox.latest(kind, device)

    def drain(self) -> list[Any]:
        """What came since the last call: queued messages in order, then the newest of each stream; or nothing.

        After a loss it gives the texts (STATUS, STRING, COMMAND ...) that came before it, and no pose or image. Each
        message has `received_s` (monotonic), `received_time_s` (since 1970) and `connection` (1 for the first).
        """
        self._bell.heard()
        return in_order([self._peer.inbox])

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for something new since the last `wait` or `drain`; False after the time-out."""
        return self._bell.wait(timeout_s)

    def set_stale(self, kind: str, device: str, stale_s: float) -> None:
        """A stale limit of its own for one stream."""
        self._peer.watchdog.set_stale(kind, device, stale_s)

    def is_stale(self, kind: str, device: str) -> bool:
        """True when the stream is older than its limit, was never heard, or the connection is gone."""
        return self._peer.watchdog.is_stale(kind, device)

    def status(self) -> LinkStatus:
        """State, counters, and every device with rate, latency and age."""
        return self._peer.status(self._state, self.name)

    def abandon(self) -> None:
        """In a forked child: close the copies of the sockets and say nothing to the peer."""
        self._closing.set()
        self._state = LinkState.CLOSED
        if self._peer.connection is not None:
            self._peer.connection.abandon()
        if self._waker is not None:
            self._waker.abandon()
        self._peer.connection = self._waker = self._thread = None

    # ------------------------------------------------------------------------------------------- the thread
    def _run(self) -> None:
        backoff = Backoff(*self.options.backoff_s)
        try:
            while not self._closing.is_set():
                if self._once():
                    backoff.reset()
                if self._closing.is_set():
                    break
                self._state = LinkState.DISCONNECTED
                self._closing.wait(backoff.pause_s())
        finally:
            self._state = LinkState.CLOSED
            self._pool.clear()
            if self._waker is not None:
                self._waker.close()

    def _once(self) -> bool:
        """Connect and serve; True when the peer had shown itself good, so that the next try may be soon."""
        self._state = LinkState.CONNECTING
        assert self._waker is not None
        timeout_s = self.options.connect_timeout_s
        try:
            sock = connected(resolved(self.host, self.port, timeout_s, self._closing), timeout_s, self._waker)
        except InputError as error:
            self._peer.failed(error)
            return False
        except OSError as error:
            self._peer.failed(NoServerError(f"OpenIGTLink: no connection to {self.host}:{self.port} "
                                            f"({error.strerror or error}); is the server running?"))
            return False
        if sock is None:
            return False
        connection = self._peer.connect(sock, f"{self.host}:{self.port}")
        self._state = LinkState.CONNECTED
        log.info("OpenIGTLink: %s is connected", self.name)
        if self._closing.is_set():
            connection.stop()
        if self.options.announce_v2:
            connection.send(Outgoing(pack("GET_STATUS", "", [], version=2)), None, True)
        self._peer.serve(connection)
        if not self._closing.is_set():
            self._state = LinkState.DISCONNECTED
            log.warning("OpenIGTLink: %s lost its connection: %s", self.name, self._peer.last_error)
        lasted_s = self.options.clock() - connection.began_s
        return connection.received > 0 or lasted_s > self.options.backoff_s[1]
