"""Bytes of a socket to checked messages: however they are split; nonsense gives a typed error."""

from __future__ import annotations

import socket
from collections.abc import Callable

from .buffers import BufferPool
from .framing import (
    HEADER_SIZE,
    BodyLimitError,
    Frame,
    Header,
    ProtocolError,
    StallError,
    parse_header,
    unpack_body,
)
from .options import LinkOptions

CHUNK = 1 << 14
DIRECT = CHUNK // 2  # a body larger than this is received where it will stay
SLOWEST_BYTES_S = 64 << 10  # a body that comes slower than this, on the whole, is a stall


class TruncatedError(ProtocolError):
    """The peer closed the connection inside a message."""


class PeerClosed(Exception):
    """The peer closed the connection between two messages."""


class Receiver:
    """Reads one connection. `deliver(frame, size)` is called for each message, in order, from `read`."""

    def __init__(self, options: LinkOptions, pool: BufferPool, deliver: Callable[[Frame, int], None]):
        self._options, self._pool, self._deliver = options, pool, deliver
        self._chunk = memoryview(bytearray(CHUNK))
        self._start = self._end = 0
        self._header: Header | None = None
        self._body: memoryview | None = None
        self._have = 0
        self._began_s: float | None = None
        self._progress_s = 0.0
        self.messages = self.octets = 0

    def read(self, sock: socket.socket) -> bool:
        """One read of what has come; True when there was less than room for, so that nothing is left for now.

        Raises:
            ProtocolError: the bytes are no OpenIGTLink, or end too soon. PeerClosed: they ended well.
            BlockingIOError: nothing there. OSError: the connection broke.
        """
        target = self._chunk[self._end:] if self._body is None else self._body[self._have:]
        room, count = target.nbytes, sock.recv_into(target)
        if count == 0:
            raise self._ended()
        self.octets += count
        self._progress_s = self._options.clock()
        if self._began_s is None:
            self._began_s = self._progress_s
        if self._body is None:
            self._end += count
            self._parse()
        else:
            self._have += count
            if self._have == self._body.nbytes:
                self._finish(self._body)
        return count < room

    def deadline(self) -> float | None:
        """When the message that has begun must have gone on; None between messages."""
        if self._began_s is None:
            return None
        if self._header is None:
            return self._began_s + self._options.stall_s
        whole = self._began_s + self._options.stall_s + self._header.body_size / SLOWEST_BYTES_S
        return min(self._progress_s + self._options.stall_s, whole)

    def check(self, now_s: float) -> None:
        """To be asked when nothing more can be read; raises StallError after the deadline."""
        deadline = self.deadline()
        if deadline is not None and now_s > deadline:
            raise StallError(f"OpenIGTLink: the peer began a message and stalled ({self._progress()})")

    def _progress(self) -> str:
        if self._header is None:
            return f"{self._end - self._start} of {HEADER_SIZE} bytes of its header"
        have = self._have if self._body is not None else self._end - self._start
        return f"{have} of {self._header.body_size} bytes of {self._header.type} {self._header.device!r}"

    def _ended(self) -> Exception:
        if self._began_s is None:
            return PeerClosed("the peer closed the connection")
        return TruncatedError(f"OpenIGTLink: the peer closed the connection inside a message ({self._progress()})")

    def _parse(self) -> None:
        """Every whole message in the chunk; the rest waits at its front, or has moved into a body of its own."""
        while self._body is None:
            have = self._end - self._start
            if self._header is None:
                if have < HEADER_SIZE:
                    break
                self._header = self._parsed(self._chunk[self._start:self._start + HEADER_SIZE])
                self._start += HEADER_SIZE
                continue
            size = self._header.body_size
            if have >= size:
                body = bytes(self._chunk[self._start:self._start + size])
                self._start += size
                self._finish(body)
            elif size > DIRECT:
                self._body = self._pool.lend(size)
                self._body[:have] = self._chunk[self._start:self._end]
                self._have, self._start = have, self._end
            else:
                break
        self._compact()

    def _parsed(self, octets: memoryview) -> Header:
        header = parse_header(octets, max_body=self._options.max_body)
        limit = self._options.body_limit(header.type)
        if header.body_size > limit:
            raise BodyLimitError(f"OpenIGTLink: {header.type} announces {header.body_size} bytes, the limit for this "
                                 f"type is {limit}")
        return header

    def _finish(self, body: bytes | memoryview) -> None:
        header, self._header, self._body, self._have = self._header, None, None, 0
        self._began_s = self._progress_s if self._end > self._start else None
        assert header is not None
        self._deliver(unpack_body(header, body), header.body_size)
        self.messages += 1

    def _compact(self) -> None:
        rest = self._end - self._start
        if rest and self._start:
            self._chunk[:rest] = bytes(self._chunk[self._start:self._end])
        self._start, self._end = 0, rest
