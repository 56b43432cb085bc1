"""The server: several clients, each with a thread and queues of its own, so that none can hold up another."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections import deque
from itertools import count
from typing import Any

from ..geometry import InputError
from .buffers import BufferPool
from .lives import began, ended
from .options import LinkOptions, LinkState
from .peer import JOIN_S, Encoded, Peer, in_order
from .slots import Bell, Inbox
from .sockets import Waker, enlarge
from .watchdog import LinkStatus

REMEMBERED = 16  # clients that are gone, whose last words and errors are kept

log = logging.getLogger("IRAI.link")


class LinkServer:
    """An OpenIGTLink server. Only this machine can reach it unless `host` says otherwise.

    Args:
        port: 0 lets the system choose; then `port` says which.
        host: address to listen on; "0.0.0.0" or "::" for every interface.
        name: shown in status and log.
        options: see `LinkOptions`.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1", *, name: str | None = None, **options: Any):
        if not 0 <= int(port) < 65536:
            raise InputError(f"OpenIGTLink: the port must be 0 to 65535, not {port}")
        if not host:  # the system would take it for every interface
            raise InputError("OpenIGTLink: the address to listen on is empty; 127.0.0.1 is this machine alone, 0.0.0.0 "
                             "lets others in")
        self.host, self._asked_port = host, int(port)
        self.options = LinkOptions.of(options)
        self._name = name
        self._bell, self._pool = Bell(), BufferPool()
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._peers: dict[int, Peer] = {}
        self._threads: dict[int, threading.Thread] = {}
        self._gone: deque[Peer] = deque(maxlen=REMEMBERED)
        self._listener: socket.socket | None = None
        self._waker: Waker | None = None
        self._thread: threading.Thread | None = None
        self._closing = False
        self._connects = self._refused_clients = 0
        self.last_error = self.error_type = ""

    def start(self) -> LinkServer:
        """Listen; returns itself.

        Raises: InputError when the port is taken or the address isn't one of this machine.
        """
        if self._closing:
            raise InputError("OpenIGTLink: the server was closed; make a new one")
        if self._listener is None:
            self._listener = self._bound()
            self._waker = Waker()
            self._thread = threading.Thread(target=self._accept_all, name=f"IRAI link server {self.port}", daemon=True)
            began(self)
            self._thread.start()
        return self

    def closing(self) -> None:
        """The server is going to be closed: it takes nobody in any more."""
        with self._lock:
            self._closing = True

    def close(self) -> None:
        """End all connections (what is queued is sent for 0.2 s at most); no thread and no socket is left."""
        with self._lock:
            self._closing = True
        if self._waker is not None:
            self._waker.wake()
        if self._thread is not None:
            self._thread.join(JOIN_S)
        with self._lock:
            peers, threads = list(self._peers.values()), list(self._threads.values())
        for peer in peers:
            if peer.connection is not None:
                peer.connection.stop()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(JOIN_S)
        self._pool.clear()
        ended(self)

    def __enter__(self) -> LinkServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port it listens on; before `start` the one asked for."""
        listener = self._listener
        if listener is None:
            return self._asked_port
        self._asked_port = listener.getsockname()[1] if listener.fileno() >= 0 else self._asked_port
        return self._asked_port

    @property
    def name(self) -> str:
        return self._name or f"{self.host}:{self.port}"

    @property
    def state(self) -> LinkState:
        if self._closing:
            return LinkState.CLOSED
        if self._listener is None:
            return LinkState.DISCONNECTED
        return LinkState.CONNECTED if self._peers else LinkState.LISTENING

    def clients(self) -> list[int]:
        """Numbers of the clients connected now, in the order they came; a number is never used again."""
        with self._lock:
            return list(self._peers)

    def peer_v2(self, client: int) -> bool:
        """The client has sent a message of version 2."""
        with self._lock:
            peer = self._peers.get(client)
        return peer is not None and peer.connection is not None and peer.connection.peer_v2

    def send(self, message: Any, *, client: int | None = None, priority: bool = False,
             when_v2: bool | None = None) -> int:
        """Send to all clients or to one; each gets version 2 when it has shown that it speaks it.

        Args:
            message: of `link.messages`. Its arrays may be changed as soon as this returns.
            client: a number of `clients()`; None is all.
            priority: for commands; overtakes everything that is not on the wire yet.
            when_v2: True only to clients that have shown version 2, False only to the others, None to both.

        Returns: to how many clients it went; a client whose queue is full is not counted.
        Raises: InputError for a message that can't be put on the wire.
        """
        with self._lock:
            peers = [peer for number, peer in self._peers.items() if client in (None, number)]
        encoded = Encoded(message)
        ways = [peer.prepared(encoded, priority=priority) for peer in peers
                if when_v2 in (None, peer.connection is not None and peer.connection.peer_v2)]
        return sum(way() for way in ways if way is not None)

    def latest(self, kind: str, device: str, *, client: int | None = None) -> Any:
        """The newest of a stream from one client, or from all; None when there is none any more."""
        with self._lock:
            peers = [peer for number, peer in self._peers.items() if client in (None, number)]
        found = [message for peer in peers if (message := peer.inbox.latest(kind, device)) is not None]
        return max(found, key=lambda message: message.received_s, default=None)

    def drain(self) -> list[Any]:
        """What came since the last call, of all clients: queued messages in order, then the newest of each stream.

        Each message has `client`, `received_s` (monotonic) and `received_time_s` (since 1970). Texts of a client that
        has gone are still given, its poses and images are not; ask `clients()` whether it is still there.
        """
        self._bell.heard()
        with self._lock:
            boxes: list[Inbox] = [peer.inbox for peer in (*self._gone, *self._peers.values())]
        return in_order(boxes)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for something new since the last `wait` or `drain`; False after the time-out."""
        return self._bell.wait(timeout_s)

    def status(self) -> LinkStatus:
        """Sums over the clients that are connected, and each of them in `clients`; the newest error of any."""
        with self._lock:
            peers = list(self._peers.values())
        parts = [peer.status(LinkState.CONNECTED, self.name) for peer in peers]

        def total(name: str) -> int:
            return sum(getattr(part, name) for part in parts)

        silent = [part.silent_s for part in parts if part.silent_s is not None]
        return LinkStatus(
            state=self.state, peer=", ".join(part.peer for part in parts), name=self.name, connects=self._connects,
            last_error=self.last_error, error_type=self.error_type,
            connected_s=max((part.connected_s for part in parts), default=0.0),
            silent_s=min(silent, default=None), peer_v2=any(part.peer_v2 for part in parts),
            received=total("received"), sent=total("sent"), bytes_received=total("bytes_received"),
            bytes_sent=total("bytes_sent"), dropped=total("dropped"), skipped=total("skipped"),
            overwritten=total("overwritten"),
            refused=total("refused") + self._refused_clients, unsent=total("unsent"), errors=total("errors"),
            devices=[device for part in parts for device in part.devices], clients=parts)

    def abandon(self) -> None:
        """In a forked child: close the copies of the sockets and say nothing to the peers."""
        self._closing = True
        if self._listener is not None:
            self._listener.close()
        if self._waker is not None:
            self._waker.abandon()
        for peer in self._peers.values():
            if peer.connection is not None:
                peer.connection.abandon()
        self._lock, self._peers, self._threads = threading.Lock(), {}, {}
        self._thread = self._waker = None

    # ------------------------------------------------------------------------------------------- threads
    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows: its SO_REUSEADDR would share the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            enlarge(listener)
            listener.bind((self.host, self._asked_port))
            listener.listen(self.options.max_clients)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise InputError(f"OpenIGTLink: can't listen on {self.host}:{self._asked_port} "
                             f"({error.strerror or error}); choose another port") from error
        return listener

    def _accept_all(self) -> None:
        assert self._listener is not None
        assert self._waker is not None
        with self._listener, selectors.DefaultSelector() as selector:
            selector.register(self._waker.receiver, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._closing:
                selector.select()
                if self._closing:
                    break
                try:
                    sock, address = self._listener.accept()
                except OSError as error:
                    if not isinstance(error, BlockingIOError):
                        self.last_error = f"OpenIGTLink: a client could not be accepted ({error.strerror or error})"
                        time.sleep(0.05)  # out of file descriptors, perhaps: do not spin
                    continue
                self._accept(sock, f"{address[0]}:{address[1]}")
        self._waker.close()

    def _accept(self, sock: socket.socket, address: str) -> None:
        with self._lock:
            full = len(self._peers) >= self.options.max_clients
        if full:
            self._refused_clients += 1
            self.last_error = f"OpenIGTLink: {address} was refused, {self.options.max_clients} clients are connected"
            log.warning(self.last_error)
            sock.close()
            return
        number = next(self._numbers)
        peer = Peer(self.options, self._bell, self._pool, number)
        try:
            connection = peer.connect(sock, address)
        except OSError as error:  # gone again
            sock.close()
            self.last_error = f"{address}: {error.strerror or error}"
            return
        thread = threading.Thread(target=self._serve, args=(number, peer, connection), daemon=True,
                                  name=f"IRAI link server {address}")
        with self._lock:
            self._connects += 1
            self._peers[number], self._threads[number] = peer, thread
        thread.start()

    def _serve(self, number: int, peer: Peer, connection: Any) -> None:
        log.info("OpenIGTLink: client %d from %s", number, peer.address)
        peer.serve(connection)
        with self._lock:
            del self._peers[number], self._threads[number]
            self._gone.append(peer)
        if peer.last_error:
            self.error_type = peer.error_type
            self.last_error = f"client {number} ({peer.address}): {peer.last_error}"
            log.info("OpenIGTLink: %s", self.last_error)
