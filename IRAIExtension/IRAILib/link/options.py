"""What a link may be told: limits, times, and which messages are a stream and which a queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from ..geometry import InputError

STREAM_TYPES = frozenset({"IMAGE", "TRANSFORM", "TDATA", "QTDATA", "POSITION", "QTRANS", "VIDEO", "SENSOR",
                          "NDARRAY", "POLYDATA"})
POSE_TYPES = STREAM_TYPES | {"POINT", "TRAJ", "BIND"}  # what a lost connection takes with it
ORDERED_PREFIXES = ("ACK_", "CLB_", "TGT_", "NPOS_", "CMD_")  # TRANSFORMs of the robot protocol that answer each other
SMALL_TYPES = frozenset({
    "TRANSFORM", "POSITION", "QTRANS", "STATUS", "STRING", "TDATA", "QTDATA", "SENSOR", "COMMAND", "RTS_COMMAND",
    "CAPABILITY", "POINT", "TRAJ", "IMGMETA", "LBMETA", "COLORT", "COLORTABLE"})
SMALL_PREFIXES = ("GET_", "STT_", "STP_", "RTS_")


class LinkState(StrEnum):
    """Where a link stands. LISTENING is a server without a client."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    LISTENING = "listening"
    CONNECTED = "connected"
    CLOSED = "closed"


@dataclass(frozen=True)
class LinkOptions:
    """Limits and times of a client or server; keyword arguments of both.

    Attributes:
        max_body: bytes; a header that announces more ends the connection.
        max_small_body: bytes; the same for the types of SMALL_TYPES, whose bodies grow when they are
            decoded (a POINT message of 256 MB would be gigabytes of Python objects).
        max_held: bytes held of what one peer sent (lists of tools and points count for what they are in memory, a
            multiple of what they are on the wire); more ends the connection.
        max_devices: stream slots of one peer; more ends the connection. Also the most streams sent to one peer.
        fifo_length, fifo_bytes: the most messages and bytes (as in max_held) in a queue. Received: the oldest is
            dropped, counted and told in the status, because the newest says what is true now. Sent: `send` answers
            False.
        fifo_types: further message types, or (type, device) pairs, whose order matters.
        keep_queued: after a loss, poses and images of `fifo_types` that were received and not fetched yet are still
            given: for a recorder, to which they are no less true than those before. Never for a display.
        stall_s: a message that began must go on within so many seconds (a header must be whole by then).
        send_stall_s: a peer that takes no byte for so long, while bytes wait for it, is cut off.
        silence_s: a peer that says nothing for so long is cut off; None never (a lost tool is silence).
        stale_s: a stream older than this is stale.
        backoff_s: (first, longest) pause before connecting again; it doubles, with a random part.
        connect_timeout_s: for name look-up, and for each address.
        announce_v2: send one empty GET_STATUS of version 2 at the start, so that PLUS answers in version 2. Off,
            because OpenIGTLink's C++ library before version 2 loses step for good when it reads one.
        max_clients: of a server; further ones are closed at once.
        clock: seconds that only go forward.
    """

    max_body: int = 256 << 20
    max_small_body: int = 4 << 20
    max_held: int = 1 << 30
    max_devices: int = 256
    fifo_length: int = 1024
    fifo_bytes: int = 64 << 20
    fifo_types: frozenset[str | tuple[str, str]] = frozenset()
    keep_queued: bool = False
    stall_s: float = 2.0
    send_stall_s: float = 5.0
    silence_s: float | None = None
    stale_s: float = 0.5
    backoff_s: tuple[float, float] = (0.1, 3.0)
    connect_timeout_s: float = 3.0
    announce_v2: bool = False
    max_clients: int = 16
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def __post_init__(self) -> None:
        for name in ("max_body", "max_small_body", "max_held", "max_devices", "fifo_length", "fifo_bytes",
                     "max_clients", "stall_s", "send_stall_s", "stale_s", "connect_timeout_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"OpenIGTLink: the option {name} must be greater than 0, not {getattr(self, name)}")
        first, longest = self.backoff_s
        if not 0 < first <= longest:
            raise InputError(f"OpenIGTLink: backoff_s is (first, longest) in seconds, not {self.backoff_s}")
        object.__setattr__(self, "fifo_types", frozenset(self.fifo_types or ()))

    @classmethod
    def of(cls, given: dict[str, Any]) -> LinkOptions:
        """Options from keyword arguments; an unknown name raises InputError."""
        known = {entry.name for entry in fields(cls)}
        for name in given:
            if name not in known:
                raise InputError(f"OpenIGTLink: there is no option '{name}'; choose from {', '.join(sorted(known))}")
        return cls(**{name: value for name, value in given.items() if not (name == "fifo_types" and value is None)})

    def is_stream(self, kind: str, device: str) -> bool:
        """Only the newest matters (True), or all of them in order (False)."""
        if kind not in STREAM_TYPES or kind in self.fifo_types or (kind, device) in self.fifo_types:
            return False
        return not (kind == "TRANSFORM" and device.startswith(ORDERED_PREFIXES))

    def body_limit(self, kind: str) -> int:
        """Bytes that a body of this type may have."""
        small = kind in SMALL_TYPES or kind.startswith(SMALL_PREFIXES)
        return min(self.max_small_body, self.max_body) if small else self.max_body
