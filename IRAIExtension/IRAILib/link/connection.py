"""One connection: a loop that reads and writes at once, in a thread of its caller's choice.

What is sent leaves at once, in the thread that sends, when the wire is free: a command waits for no other thread.
Otherwise the loop sends it: commands first, then the queue, then streams. A message on the wire is never interrupted,
so no more than that one stands before a command.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from . import messages
from .buffers import BufferPool
from .framing import Frame, ProtocolError, StallError
from .options import LinkOptions
from .receive import PeerClosed, Receiver
from .slots import Inbox, Outbox, Outgoing, weight
from .sockets import Poll, Waker, gathered_send, prepare

READ_BURST = 16  # reads before the wire is served
SEND_BURST_S = 0.005
LINGER_S = 0.2
LONGEST_WAIT_S = 1.0

log = logging.getLogger("IRAI.link")


class Connection:
    """Full duplex on a connected socket, which it owns from now on.

    Args:
        inbox: where received messages go.
        stamp: called in the loop's thread with each frame and its message before the message goes there.
    """

    def __init__(self, sock: socket.socket, options: LinkOptions, inbox: Inbox, pool: BufferPool,
                 stamp: Callable[[Frame, Any], None]):
        prepare(sock)
        self.inbox = inbox
        self.sent = self.bytes_sent = 0
        self.peer_v2 = False
        self.heard_s: float | None = None
        self.began_s = options.clock()
        self._options, self._sock, self._stamp = options, sock, stamp
        self._pool = pool
        self._receiver = Receiver(options, pool, self._deliver)
        self._outbox = Outbox(options)
        self._lock = threading.Lock()  # the sending half: flight, socket open or not
        self._flight: list[memoryview] = []
        self._open, self._stopping = True, False
        self._moved_s = self.began_s
        self._failure: BaseException | None = None
        self._waker = Waker()

    # ------------------------------------------------------------------------------------------- for any thread
    @property
    def open(self) -> bool:
        return self._open and not self._stopping

    @property
    def received(self) -> int:
        return self._receiver.messages

    @property
    def bytes_received(self) -> int:
        return self._receiver.octets

    @property
    def skipped(self) -> int:
        return self._outbox.skipped

    @property
    def refused(self) -> int:
        return self._outbox.refused

    @property
    def unsent(self) -> int:
        """Messages that wait, the one on the wire included."""
        return len(self._outbox) + bool(self._flight)

    def send(self, outgoing: Outgoing, stream: tuple[str, str] | None, urgent: bool) -> bool:
        """Send now or leave it to the loop; False when the connection is over or its queue is full."""
        if not self.open:
            return False
        taken = self._send_at_once(outgoing)
        if taken is None:
            outgoing.settle(self._pool)
            taken = self._outbox.put(outgoing, stream, urgent)
        if self._outbox or self._flight or self._failure is not None:
            self._waker.wake()
        return taken and self._open and self._failure is None

    def stop(self) -> None:
        """End the loop soon: what is on the wire, commands and the queue are still sent, for LINGER_S at most."""
        self._stopping = True
        self._waker.wake()

    def abandon(self) -> None:
        """In a forked child: forget the socket without a word to the peer."""
        self._open, self._stopping = False, True
        self._sock.close()
        self._waker.abandon()

    # ------------------------------------------------------------------------------------------- the loop
    def run(self) -> Exception | None:
        """Serve the connection until it ends, then close it.

        Returns: why it ended (ProtocolError, PeerClosed, OSError ...); None when `stop` was called.
        """
        try:
            self._loop(Poll(self._sock, self._waker))
        except (PeerClosed, ProtocolError, OSError) as error:
            return None if self._stopping else error  # the goodbye came too late for the peer
        except Exception as error:
            log.exception("OpenIGTLink: a received message could not be handled; the connection is dropped")
            return error
        finally:
            self._close()
        return None

    def _loop(self, poll: Poll) -> None:
        while not self._stopping:
            readable, writable = poll.wait(self._wait_s())
            emptied = self._read() if readable else True
            if self._flight or self._outbox:
                with self._lock:
                    self._pump(self._options.clock() + SEND_BURST_S)
            if self._failure is not None:
                raise self._failure
            if emptied:
                self._check(writable)
            poll.writing(bool(self._flight or self._outbox))
        self._linger()

    def _read(self) -> bool:
        """True when everything that had come was read."""
        for _ in range(READ_BURST):
            try:
                if self._receiver.read(self._sock):
                    return True
            except (BlockingIOError, InterruptedError):
                return True
        return False

    def _deliver(self, frame: Frame, size: int) -> None:
        message = messages.decode(frame)
        self.heard_s = self._options.clock()
        if frame.version >= 2:
            self.peer_v2 = True
        self._stamp(frame, message)
        self.inbox.put(frame.type, frame.device, message, weight(frame.type, size, len(frame.metadata)))

    def _wait_s(self) -> float:
        now, options = self._options.clock(), self._options
        ends = [now + LONGEST_WAIT_S]
        deadline = self._receiver.deadline()
        if deadline is not None:
            ends.append(deadline)
        if self._flight:
            ends.append(self._moved_s + options.send_stall_s)
        if options.silence_s is not None:
            ends.append((self.heard_s or self.began_s) + options.silence_s)
        return max(min(ends) - now, 0.0) + 0.001

    def _check(self, writable: bool) -> None:
        now, options = self._options.clock(), self._options
        self._receiver.check(now)
        if self._flight and not writable and now - self._moved_s > options.send_stall_s:
            raise StallError(f"OpenIGTLink: the peer has taken nothing for {options.send_stall_s:g} s while "
                             f"{self.unsent} message(s) wait for it")
        if options.silence_s is not None and now - (self.heard_s or self.began_s) > options.silence_s:
            raise StallError(f"OpenIGTLink: the peer has been silent for {options.silence_s:g} s")

    # ------------------------------------------------------------------------------------------- sending
    def _send_at_once(self, outgoing: Outgoing) -> bool | None:
        """None when others are on the wire or wait; otherwise what doesn't leave now stays on the wire, as a copy."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._flight or self._outbox:
                return None
            if not self.open:
                return False
            self._launch(outgoing)
            self._pump(self._options.clock() + SEND_BURST_S)
            if self._flight:
                self._flight = [self._pool.copy(part) for part in self._flight]
            return True
        finally:
            self._lock.release()

    def _launch(self, outgoing: Outgoing) -> None:
        self._flight = list(outgoing.parts)
        self._moved_s = self._options.clock()

    def _pump(self, until_s: float) -> None:
        """Send what may leave now; the lock is held. A failure is kept for the loop, which ends by it."""
        while self._open and self._failure is None:
            if not self._flight:
                outgoing = self._outbox.next()
                if outgoing is None:
                    return
                self._launch(outgoing)
            try:
                count = gathered_send(self._sock, self._flight)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if not (isinstance(error, TimeoutError) and error.errno is None):  # that one is from `_linger`
                    self._failure = error
                return
            now = self._options.clock()
            self._moved_s = now
            self.bytes_sent += count
            if not self._flight:
                self.sent += 1
            if now > until_s:
                return

    def _linger(self) -> None:
        """Send the rest, say goodbye, and read until the peer has closed: a socket closed over unread bytes would
        take the last command with it. All within LINGER_S."""
        end = time.monotonic() + LINGER_S
        self._outbox.drop_streams()
        with self._lock:
            self._sock.settimeout(0.01)
            while (self._flight or self._outbox) and self._failure is None and time.monotonic() < end:
                self._pump(0.0)
        if self._failure is not None:
            return
        self._sock.shutdown(socket.SHUT_WR)
        scrap = bytearray(1 << 16)
        while time.monotonic() < end:
            try:
                if not self._sock.recv_into(scrap):
                    return
            except TimeoutError:
                continue

    def _close(self) -> None:
        with self._lock:
            self._open = False
            self._flight = []
            self._sock.close()
        self._waker.close()
