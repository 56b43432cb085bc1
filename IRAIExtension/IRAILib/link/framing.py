"""The frame around every OpenIGTLink message: header, checksum, and since version 2 extended header and metadata.

Source: the OpenIGTLink protocol specification, versions 1 to 3 (openigtlink.org, "Message Header" and "Meta Data").
All numbers on the wire are big endian. A body is never copied here: what is packed are the caller's own buffers, what
is unpacked is a view of the buffer that was received. Whatever bytes arrive, the only errors raised are sub-classes of
`ProtocolError`; `InputError` is for a message of ours that can't be put on the wire.
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from IRAILib.geometry import InputError, IRAIError

log = logging.getLogger("IRAI.link")

BytesLike = bytes | bytearray | memoryview | np.ndarray

HEADER_SIZE = 58
NAME_SIZE, TYPE_SIZE = 20, 12
DEVICE_NAME_KEY = "IGTL_DEVICE_NAME"  # metadata that carries a device name longer than the header's 20 bytes
ASCII, LATIN1, UTF8 = 3, 4, 106  # IANA MIBenum numbers, which the protocol uses to name an encoding
CODECS = {ASCII: "utf-8", LATIN1: "latin-1", UTF8: "utf-8"}  # peers say ASCII and send UTF-8, its superset
_HEADER = struct.Struct(">H12s20sQQQ")  # version, type, device, time stamp (32.32), body size, CRC
_EXTENDED = struct.Struct(">HHII")  # own size, metadata header size, metadata size, message id
_ENTRY = struct.Struct(">HHI")  # key size, encoding of the value, value size
_VERSIONS = (1, 2, 3)
_POLYNOMIAL = 0x42F0E1EBA9EA3693  # CRC-64 of ECMA-182: not reflected, starts at 0, nothing is XORed at the end
_MASK64 = 0xFFFFFFFFFFFFFFFF


class ProtocolError(IRAIError):
    """A peer sent bytes that are no OpenIGTLink message. The connection they came from can't be trusted any more."""


class HeaderError(ProtocolError):
    """A header is too short or implausible: version, type name or device name."""


class BodyLimitError(ProtocolError):
    """A header announces a larger body than is allowed."""


class ChecksumError(ProtocolError):
    """The CRC-64 of a body is not what its header says."""


class ContentError(ProtocolError):
    """A body contradicts itself or its message type: lengths, counts, scalar types, poses that are no numbers."""


class StallError(ProtocolError):
    """A message began and its remainder did not arrive in time."""


class WireTime(float):
    """Seconds since 1970 (UTC) that remember the wire's exact 64 bits in `raw` (32.32 fixed point)."""

    raw: int

    def __new__(cls, raw: int) -> WireTime:
        self = super().__new__(cls, raw / 4294967296.0)
        self.raw = raw
        return self

    def __getnewargs__(self) -> tuple[int]:  # type: ignore[override]
        return (self.raw,)

    @classmethod
    def of(cls, time_s: float | None) -> WireTime:
        """The stamp for `time_s` (None: now); raises InputError for what 32 bits of seconds can't hold."""
        if isinstance(time_s, WireTime):
            return time_s
        value = time.time() if time_s is None else float(time_s)
        if not (math.isfinite(value) and 0 <= value < 4294967295.0):
            raise InputError(f"OpenIGTLink: the time stamp {value} s can't be sent; give seconds since 1970")
        return cls(round(value * 4294967296.0))


@dataclass(frozen=True)
class Header:
    """The 58 bytes in front of a body. `device` may be cut to 20 bytes; see `Frame.device`."""

    version: int
    type: str
    device: str
    time_s: float
    body_size: int
    crc: int


@dataclass(frozen=True)
class Frame:
    """One checked message: `content` is a view of the received body without extended header and metadata."""

    type: str
    device: str
    time_s: float
    version: int
    content: memoryview
    metadata: dict[str, str] = field(default_factory=dict)
    message_id: int = 0


# ------------------------------------------------------------------------------------------------- checksum
@functools.cache
def _table() -> np.ndarray:
    """(256,) uint64: the CRC of each byte."""
    table = np.zeros(256, dtype=np.uint64)
    for byte in range(256):
        crc = byte << 56
        for _ in range(8):
            crc = ((crc << 1) ^ (_POLYNOMIAL if crc >> 63 else 0)) & _MASK64
        table[byte] = crc
    return table


@functools.cache
def _table_as_list() -> list[int]:
    return _table().tolist()


def _applied(columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A 64x64 matrix over GF(2), given by its (64,) uint64 columns, times each of (n,) uint64 vectors."""
    total = np.zeros_like(values)
    for bit in range(64):
        total ^= columns[bit] * ((values >> np.uint64(bit)) & np.uint64(1))
    return total


@functools.lru_cache(maxsize=256)
def _advance(count: int) -> np.ndarray:
    """(64,) uint64 columns of the operator that feeds `count` zero bytes into a CRC."""
    unit = np.uint64(1) << np.arange(64, dtype=np.uint64)
    if count == 0:
        return unit
    if count == 1:
        return _table()[(unit >> np.uint64(56)).astype(np.intp)] ^ (unit << np.uint64(8))
    half = _advance(count // 2)
    whole = _applied(half, half)
    return _applied(_advance(1), whole) if count % 2 else whole


def _crc64_own(data: BytesLike, start: int = 0) -> int:
    """CRC-64 without `fastcrc`: lanes side by side in numpy, joined pairwise (a CRC is linear over GF(2))."""
    octets = np.frombuffer(data, dtype=np.uint8)
    if octets.size < 1024:
        table, crc = _table_as_list(), start
        for byte in octets.tolist():
            crc = table[(crc >> 56) ^ byte] ^ ((crc << 8) & _MASK64)
        return crc
    lanes = 1 << max(3, (octets.size.bit_length() - 1) // 2 + 2)
    length = -(-octets.size // lanes)
    padded = np.zeros(lanes * length, dtype=np.uint8)  # zeros in front leave a CRC that starts at 0 as it is
    padded[padded.size - octets.size:] = octets
    first = padded.size - octets.size
    padded[first:first + 8] ^= np.frombuffer(start.to_bytes(8, "big"), dtype=np.uint8)
    columns = np.ascontiguousarray(padded.reshape(lanes, length).T)
    crc, table = np.zeros(lanes, dtype=np.uint64), _table()
    for column in columns:
        crc = table[(crc >> np.uint64(56)).astype(np.uint8) ^ column] ^ (crc << np.uint64(8))
    while crc.size > 1:
        crc = _applied(_advance(length), crc[0::2]) ^ crc[1::2]
        length *= 2
    return int(crc[0])


@functools.cache
def _crc64_function() -> Callable[[BytesLike, int], int]:
    try:
        return importlib.import_module("fastcrc").crc64.ecma_182
    except ImportError:
        log.warning("OpenIGTLink: the package fastcrc is not installed; checksums are some 100 times slower. "
                    "Install it with: pip install fastcrc")
        return _crc64_own


def crc64(data: BytesLike, start: int = 0) -> int:
    """CRC-64 ECMA-182 of contiguous bytes, as the protocol asks; of nothing: `start`.

    It chains: `crc64(a + b) == crc64(b, crc64(a))`.
    """
    return _crc64_function()(data, start)


# ------------------------------------------------------------------------------------------------- pack
def bytes_view(part: BytesLike) -> memoryview:
    """A flat view of the part's bytes, without a copy when it is contiguous."""
    if isinstance(part, np.ndarray):
        part = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data if part.size else b""
    view = memoryview(part)
    return view if view.format == "B" and view.ndim == 1 and view.contiguous else memoryview(view.tobytes())


def name_bytes(text: str, size: int, what: str) -> bytes:
    """`text` in UTF-8, padded to `size` bytes; raises InputError when it is longer or holds control characters."""
    octets = text.encode("utf-8", "replace")
    if len(octets) > size or not text.isprintable():
        raise InputError(f"OpenIGTLink: {what} {text[:80]!r} must be printable and at most {size} bytes long")
    return octets.ljust(size, b"\0")


def cut_name(text: str) -> str:
    """The beginning of a device name that fits into the header: 20 bytes of UTF-8, no character cut in two."""
    return text.encode("utf-8")[:NAME_SIZE].decode("utf-8", "ignore")


def encoded_text(text: str) -> tuple[int, bytes]:
    """(encoding number, bytes): ASCII where that is enough, otherwise UTF-8; raises InputError for half characters."""
    try:
        return (ASCII if text.isascii() else UTF8), text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"OpenIGTLink: {text[:80]!r} holds half a character (a surrogate) and can't be sent") from None


def _packed_metadata(metadata: Mapping[str, str]) -> tuple[bytes, bytes]:
    if len(metadata) > 0xFFFF:
        raise InputError(f"OpenIGTLink: {len(metadata)} metadata entries; at most 65535 fit into a message")
    entries, payload = [struct.pack(">H", len(metadata))], []
    for key, value in metadata.items():
        name = encoded_text(key)[1]
        encoding, octets = encoded_text(value)
        if not 0 < len(name) <= 0xFFFF:
            raise InputError(f"OpenIGTLink: the metadata key {key[:40]!r} is empty or longer than 65535 bytes")
        entries.append(_ENTRY.pack(len(name), encoding, len(octets)))
        payload += [name, octets]
    return b"".join(entries), b"".join(payload)


def pack(type: str, device: str, parts: Sequence[BytesLike], *, time_s: float | None = None, version: int = 1,
         metadata: Mapping[str, str] | None = None, message_id: int = 0) -> list[memoryview]:
    """The buffers of one message in the order of the wire, ready for `socket.sendmsg`.

    Args:
        type: message type; cut to 12 characters, as every peer does (GET_TRANSFOR).
        device: device name. One of more than 20 bytes needs version 2, where metadata carries it in full.
        parts: the content's buffers, possibly none; they are viewed and not copied.
        time_s: seconds since 1970; None is now. A `WireTime` keeps its 64 bits.
        version: 1, or 2 and 3 with extended header and metadata (left out in version 1).
        metadata: texts by name.
        message_id: any number of 32 bits that the answer may repeat.

    Raises:
        InputError: a name, time or number that doesn't fit into the protocol's fields.
    """
    if version not in _VERSIONS:
        raise InputError(f"OpenIGTLink: header version {version} is unknown; use 1, 2 or 3")
    kind = type[:TYPE_SIZE]
    if not kind or not all("!" <= letter <= "~" for letter in kind):
        raise InputError(f"OpenIGTLink: the message type {type[:80]!r} must be ASCII without blanks and not empty")
    if not device.isprintable():
        raise InputError(f"OpenIGTLink: the device name {device[:80]!r} holds characters that can't be printed")
    views = [view for view in map(bytes_view, parts) if view.nbytes]
    front, long = b"", len(device.encode("utf-8")) > NAME_SIZE
    if version == 1 and long:
        raise InputError(f"OpenIGTLink: the device name {device[:80]!r} is longer than the {NAME_SIZE} bytes of "
                         "version 1; shorten it or send version 2")
    if version > 1:
        if not 0 <= message_id <= 0xFFFFFFFF:
            raise InputError(f"OpenIGTLink: the message id {message_id} does not fit into 32 bits")
        entries = dict(metadata or {})
        if long or DEVICE_NAME_KEY in entries:
            entries[DEVICE_NAME_KEY] = device
        index, payload = _packed_metadata(entries)
        if len(index) > 0xFFFF:
            raise InputError(f"OpenIGTLink: {len(entries)} metadata entries; at most 8191 fit into a message")
        front = _EXTENDED.pack(_EXTENDED.size, len(index), len(payload), message_id)
        views.append(memoryview(index + payload))
    crc, size = crc64(front), len(front)
    for view in views:
        crc, size = crc64(view, crc), size + view.nbytes
    header = _HEADER.pack(version, name_bytes(kind, TYPE_SIZE, "the message type"),
                          name_bytes(cut_name(device) if long else device, NAME_SIZE, "the device name"),
                          WireTime.of(time_s).raw, size, crc)
    return [memoryview(header + front), *views]


# ------------------------------------------------------------------------------------------------- unpack
def _device(field_bytes: bytes) -> str:
    octets = field_bytes.split(b"\0", 1)[0]
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        if not (len(octets) == NAME_SIZE and error.reason == "unexpected end of data"):
            raise HeaderError(f"OpenIGTLink: the device name {octets!r} is not UTF-8") from None
        text = octets[:error.start].decode("utf-8")  # a peer cut a long name inside its last character
    if not text.isprintable():
        raise HeaderError(f"OpenIGTLink: the device name {text!r} holds control characters")
    return text


def parse_header(data: BytesLike, *, max_body: int) -> Header:
    """The header at the beginning of `data`.

    Raises:
        HeaderError: fewer than 58 bytes, a version other than 1..3, a type or device name that can't be one.
        BodyLimitError: the body would be larger than `max_body` bytes.
    """
    view = bytes_view(data)
    if view.nbytes < HEADER_SIZE:
        raise HeaderError(f"OpenIGTLink: a header has {HEADER_SIZE} bytes, only {view.nbytes} came")
    version, kind, device, stamp, size, crc = _HEADER.unpack_from(view)
    if version not in _VERSIONS:
        raise HeaderError(f"OpenIGTLink: header version {version} is unknown; the peer speaks another protocol")
    name = kind.rstrip(b"\0")
    if not name or not all(0x20 < byte < 0x7F for byte in name):
        raise HeaderError(f"OpenIGTLink: {kind!r} is no message type")
    if size > max_body:
        raise BodyLimitError(f"OpenIGTLink: {name.decode()} announces {size} bytes, the limit is {max_body}")
    return Header(version, name.decode("ascii"), _device(device), WireTime(stamp), size, crc)


def decoded_text(octets: BytesLike, encoding: int, what: str) -> str:
    """Text in one of the protocol's encodings (3 ASCII, 4 Latin-1, 106 UTF-8); raises ContentError."""
    codec = CODECS.get(encoding)
    if codec is None:
        raise ContentError(f"OpenIGTLink: {what} uses the character encoding {encoding}; known are {sorted(CODECS)}")
    try:
        return bytes(octets).decode(codec)
    except UnicodeDecodeError as error:
        raise ContentError(f"OpenIGTLink: {what} is not {codec} text (byte {error.start})") from None


def _metadata(index: memoryview, payload: memoryview) -> dict[str, str]:
    """Keys and values; the sizes in the index must fill the payload exactly."""
    if not index.nbytes:
        return {}
    count = int.from_bytes(index[:2], "big")
    if index.nbytes != 2 + count * _ENTRY.size:
        raise ContentError(f"OpenIGTLink: {count} metadata entries don't fit a metadata header of {index.nbytes} bytes")
    entries, at, found = list(_ENTRY.iter_unpack(index[2:])), 0, {}
    if sum(entry[0] + entry[2] for entry in entries) != payload.nbytes:
        raise ContentError("OpenIGTLink: the sizes of the metadata entries don't add up to the metadata's size")
    for key_size, encoding, value_size in entries:
        key = decoded_text(payload[at:at + key_size], UTF8, "a metadata key")
        value = decoded_text(payload[at + key_size:at + key_size + value_size], encoding, f"the metadata {key[:80]!r}")
        found[key] = value
        at += key_size + value_size
    return found


def unpack_body(header: Header, body: BytesLike) -> Frame:
    """Check a body and take extended header and metadata off it; the content stays a view of `body`.

    Raises:
        ChecksumError: the CRC is wrong. It is always checked.
        ContentError: the body's size, its extended header or its metadata contradict each other.
    """
    view = bytes_view(body)
    if view.nbytes != header.body_size:
        raise ContentError(f"OpenIGTLink: {header.type} has {view.nbytes} bytes, its header says {header.body_size}")
    crc = crc64(view)
    if crc != header.crc:
        raise ChecksumError(f"OpenIGTLink: {header.type} of {header.device!r}: wrong checksum "
                            f"({crc:016x}, header {header.crc:016x})")
    if header.version == 1:
        return Frame(header.type, header.device, header.time_s, 1, view)
    if view.nbytes < _EXTENDED.size:
        raise ContentError(f"OpenIGTLink: {header.type} is too short for an extended header ({view.nbytes} bytes)")
    own, index, payload, message_id = _EXTENDED.unpack_from(view)
    end = view.nbytes - index - payload
    if own < _EXTENDED.size or end < own or index == 1:
        raise ContentError(f"OpenIGTLink: {header.type}: extended header ({own} bytes) and metadata ({index} + "
                           f"{payload} bytes) don't fit a body of {view.nbytes} bytes")
    metadata = _metadata(view[end:end + index], view[end + index:])
    device = metadata.get(DEVICE_NAME_KEY) or header.device
    if not device.isprintable():
        raise ContentError("OpenIGTLink: the device name in the metadata holds control characters")
    return Frame(header.type, device, header.time_s, header.version, view[own:end], metadata, message_id)
