"""A peer made of plain sockets and struct: its bytes owe nothing to the code under test."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable

PATIENCE_S = 15.0
_POLYNOMIAL = 0x42F0E1EBA9EA3693


def _table() -> list[int]:
    out = []
    for byte in range(256):
        crc = byte << 56
        for _ in range(8):
            crc = ((crc << 1) ^ _POLYNOMIAL if crc >> 63 else crc << 1) & 0xFFFFFFFFFFFFFFFF
        out.append(crc)
    return out


TABLE = _table()


def crc64(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = TABLE[(crc >> 56) ^ byte] ^ (crc << 8) & 0xFFFFFFFFFFFFFFFF
    return crc


assert crc64(b"123456789") == 0x6C40DF5F0B497347  # the published check value of CRC-64/ECMA-182


def header(kind: bytes, device: bytes, size: int, crc: int = 0, *, version: int = 1) -> bytes:
    return struct.pack(">H12s20sIIQQ", version, kind, device, 1_700_000_000, 0, size, crc)


def wire(kind: str, device: str, content: bytes, *, version: int = 1, metadata: dict[str, str] | None = None) -> bytes:
    """A whole, right message."""
    body = content
    if version > 1:
        entries = [(key.encode(), value.encode()) for key, value in (metadata or {}).items()]
        index = struct.pack(">H", len(entries)) + b"".join(struct.pack(">HHI", len(k), 3, len(v)) for k, v in entries)
        payload = b"".join(k + v for k, v in entries)
        body = struct.pack(">HHII", 12, len(index), len(payload), 7) + content + index + payload
    return header(kind.encode(), device.encode(), len(body), crc64(body), version=version) + body


def string(device: str, text: str) -> bytes:
    return wire("STRING", device, struct.pack(">HH", 3, len(text)) + text.encode())


def transform(device: str, x: float = 0.0) -> bytes:
    return wire("TRANSFORM", device, struct.pack(">12f", 1, 0, 0, 0, 1, 0, 0, 0, 1, x, 2, 3))


def image(device: str, pixels: bytes, size: tuple[int, int, int], *, scalar: int = 3) -> bytes:
    head = struct.pack(">HBBBBHHH12f6H", 1, 1, scalar, 2, 1, *size, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, *size)
    return wire("IMAGE", device, head + pixels)


def until(what: Callable[[], object], seconds: float = PATIENCE_S) -> bool:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError(f"{len(data)} of {size} bytes")
        data += piece
    return data


def read_message(sock: socket.socket) -> tuple[int, str, str, bytes]:
    """(version, type, device, body), with its checksum checked by this file's own sum when it is short."""
    version, kind, device, _, _, size, crc = struct.unpack(">H12s20sIIQQ", read_exactly(sock, 58))
    pieces, left = [], size
    while left:
        piece = sock.recv(min(left, 1 << 20))
        if not piece:
            raise EOFError(f"{left} bytes are missing")
        pieces.append(piece)
        left -= len(piece)
    body = b"".join(pieces)
    if size <= 100_000:
        assert crc64(body) == crc
    return version, kind.rstrip(b"\0").decode(), device.rstrip(b"\0").decode(), body


class RawServer:
    """Listens on this machine; `accept` gives the next connection."""

    def __init__(self, receive_bytes: int | None = None):
        self.listener = socket.socket()
        if receive_bytes:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(8)
        self.listener.settimeout(PATIENCE_S)
        self.port = self.listener.getsockname()[1]
        self.accepted: list[socket.socket] = []

    def accept(self) -> socket.socket:
        sock, _ = self.listener.accept()
        sock.settimeout(PATIENCE_S)
        self.accepted.append(sock)
        return sock

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (*self.accepted, self.listener):
            sock.close()


def raw_client(port: int, receive_bytes: int | None = None) -> socket.socket:
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(PATIENCE_S)
    sock.connect(("127.0.0.1", port))
    return sock


def send_all(sock: socket.socket, data: bytes) -> None:
    """Send to a peer that may have hung up in the middle, which is its right when the bytes are nonsense."""
    with contextlib.suppress(ConnectionError):
        sock.sendall(data)


def reset(sock: socket.socket) -> None:
    """Close as a crashed machine does: at once, and what waits in its buffers is lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def resident_bytes() -> int:
    """Memory of this process, now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
