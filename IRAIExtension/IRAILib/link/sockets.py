"""What the link asks of sockets: large buffers, no delay, a connect that can be cancelled, a way to wake a loop."""

from __future__ import annotations

import errno
import ipaddress
import os
import queue
import select
import selectors
import socket
import sys
import threading
import time

from ..geometry import InputError

BUFFER_BYTES = 4 << 20
SLICE_BYTES = 1 << 20  # of one send: reading goes on in between
MOST_PARTS = 64  # of one send; systems allow 1024
KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
UNSENT_BYTES = 256 << 10  # that the system may hold before it says it is full: a command waits behind no more


def prepare(sock: socket.socket) -> None:
    """Non-blocking, without delay, large buffers, and a dead peer is noticed after about ten seconds."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (*KEEPALIVE, ("TCP_NOTSENT_LOWAT", UNSENT_BYTES)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    enlarge(sock)


def enlarge(sock: socket.socket) -> None:
    """Ask for large buffers; of a listening socket, for those of its connections.

    Linux grows them by itself, further than it lets anyone ask for, and stops doing so once it was asked.
    """
    if sys.platform == "linux":
        return
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        if sock.getsockopt(socket.SOL_SOCKET, option) < BUFFER_BYTES:
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)


def gathered_send(sock: socket.socket, parts: list[memoryview]) -> int:
    """Send a slice of `parts` and take it off them; the number of bytes. Raises what the socket raises."""
    if len(parts) <= MOST_PARTS and sum(part.nbytes for part in parts) <= SLICE_BYTES:
        batch = parts
    else:
        batch = _slice(parts)
    if hasattr(sock, "sendmsg"):
        count = sock.sendmsg(batch)
    else:  # Windows
        count = sock.send(batch[0] if len(batch) == 1 else b"".join(batch))
    left = count
    while parts and left >= parts[0].nbytes:
        left -= parts.pop(0).nbytes
    if left:
        parts[0] = parts[0][left:]
    return count


def _slice(parts: list[memoryview]) -> list[memoryview]:
    batch: list[memoryview] = []
    size = 0
    for part in parts[:MOST_PARTS]:
        batch.append(part[:SLICE_BYTES - size])
        size += batch[-1].nbytes
        if size >= SLICE_BYTES:
            break
    return batch


class Waker:
    """Ends another thread's `select` on `receiver`."""

    def __init__(self) -> None:
        self.receiver, self._sender = socket.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)
        self._lock = threading.Lock()
        self._rung = self._closed = False

    def wake(self) -> None:
        with self._lock:
            if not (self._rung or self._closed):
                self._rung = True
                self._sender.send(b"\0")

    def clear(self) -> None:
        with self._lock:
            if self._rung and not self._closed:
                self.receiver.recv(16)
            self._rung = False

    def close(self) -> None:
        with self._lock:
            self.abandon()

    def abandon(self) -> None:
        """Close without the lock, which a forked child may find held by a thread that it doesn't have."""
        self._closed = True
        self.receiver.close()
        self._sender.close()


class Poll:
    """Waits for one connection and the ring of its waker; `selectors` would cost more than the message itself."""

    def __init__(self, sock: socket.socket, waker: Waker):
        self._sock, self._waker = sock, waker
        self._writing = False
        self._ring = waker.receiver.fileno()
        self._poll = select.poll() if hasattr(select, "poll") else None  # Windows has none
        if self._poll is not None:
            self._poll.register(sock, select.POLLIN)
            self._poll.register(waker.receiver, select.POLLIN)

    def writing(self, wanted: bool) -> None:
        """Whether to wait for room to write, too."""
        if wanted != self._writing and self._poll is not None:
            self._poll.modify(self._sock, select.POLLIN | (select.POLLOUT if wanted else 0))
        self._writing = wanted

    def wait(self, timeout_s: float) -> tuple[bool, bool]:
        """(something to read or the end, room to write)."""
        if self._poll is None:
            ready, room, failed = select.select([self._sock, self._waker.receiver], [self._sock] * self._writing,
                                                [self._sock], timeout_s)
            if self._waker.receiver in ready:
                self._waker.clear()
            return self._sock in ready or bool(failed), bool(room)
        readable = writable = False
        for number, events in self._poll.poll(1000 * timeout_s):
            if number == self._ring:
                self._waker.clear()
            else:
                readable, writable = bool(events & ~select.POLLOUT), bool(events & select.POLLOUT)
        return readable, writable


def resolved(host: str, port: int, timeout_s: float, closing: threading.Event) -> list[tuple[int, tuple]]:
    """(family, address) of a host; waits for the name service no longer than `timeout_s`, or until `closing`.

    Raises:
        InputError: no such name, or no answer in time.
    """
    try:
        address = ipaddress.ip_address(host)
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        return [(family, (host, port))]
    except ValueError:
        answer: queue.Queue = queue.Queue()
    threading.Thread(target=_look_up, args=(host, port, answer), daemon=True, name="IRAI link name").start()
    end = time.monotonic() + timeout_s
    while answer.empty() and time.monotonic() < end and not closing.wait(0.01):
        pass
    if answer.empty():
        raise InputError(f"OpenIGTLink: no answer about the host '{host}' in {timeout_s:g} s; give its IP address")
    found = answer.get()
    if isinstance(found, Exception):
        raise InputError(f"OpenIGTLink: the host '{host}' is not known ({found}); check the name") from None
    return found


def _look_up(host: str, port: int, answer: queue.Queue) -> None:
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        answer.put([(entry[0], entry[4]) for entry in entries])
    except (OSError, UnicodeError) as error:
        answer.put(error)


def connected(addresses: list[tuple[int, tuple]], timeout_s: float, waker: Waker) -> socket.socket | None:
    """A socket connected to the first address that answers; None when `waker` rang first.

    Raises:
        OSError: none answered.
    """
    problem: OSError = OSError("no address")
    for family, address in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            enlarge(sock)
            done = _connect(sock, address, timeout_s, waker)
        except OSError as error:
            problem = error
            sock.close()
            continue
        if done:
            return sock
        sock.close()
        return None
    raise problem


def _connect(sock: socket.socket, address: tuple, timeout_s: float, waker: Waker) -> bool:
    try:
        sock.connect(address)
    except (BlockingIOError, InterruptedError):
        end = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(waker.receiver, selectors.EVENT_READ)
            selector.register(sock, selectors.EVENT_WRITE)
            ready = []
            while not ready and time.monotonic() < end:
                ready = [key.fileobj for key, _ in selector.select(end - time.monotonic())]
        if not ready:
            raise TimeoutError(errno.ETIMEDOUT, f"no answer in {timeout_s:g} s") from None
        if waker.receiver in ready:
            return False
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code)) from None
    if sock.getsockname() == sock.getpeername():  # on one machine a port without a server may meet itself
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    return True
