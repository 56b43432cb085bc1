"""Words and numbers: STRING, STATUS, COMMAND and its reply, CAPABILITY, SENSOR, the queries.

Source: the OpenIGTLink protocol specification, chapters of the same names, and "Querying Mechanism".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from ..framing import ASCII, CODECS, TYPE_SIZE, UTF8, BytesLike, decoded_text, encoded_text
from . import base
from .base import ContentError, InputError, Message, wire_types

STATUS_NAMES = (
    "invalid", "OK", "unknown error", "panic", "not found", "access denied", "busy", "time-out",
    "overflow or can't be reached", "checksum error", "configuration error", "not enough resources",
    "unknown instruction", "not ready", "manual mode", "disabled", "not present", "unknown version", "hardware failure",
    "shutting down",
)
STATUS_OK = 1
_STRING = struct.Struct(">HH")
_STATUS = struct.Struct(">Hq20s")
_COMMAND = struct.Struct(">I128sHI")
_SENSOR = struct.Struct(">BBQ")
_STT_TRACKING = struct.Struct(">I32s")
_STT_VIDEO = struct.Struct(">4sI")


def _text_bytes(text: str, encoding: int | None, what: str) -> tuple[int, bytes]:
    """(encoding, bytes) of a text to be sent; the encoding is chosen where None is given."""
    if encoding is None:
        return encoded_text(text)
    codec = CODECS.get(encoding)
    if codec is None:
        raise InputError(f"OpenIGTLink: {what}: the encoding {encoding} is unknown; use {ASCII} or {UTF8}")
    try:
        return encoding, text.encode(codec)
    except UnicodeEncodeError:
        raise InputError(f"OpenIGTLink: {what}: {text[:40]!r} is not {codec}; use encoding {UTF8}") from None


@wire_types()
@dataclass
class String(Message):
    """STRING: `text` of at most 65535 bytes; `encoding` is the wire's MIBenum (3, 4, 106), None chooses 3 or 106."""

    TYPE = "STRING"

    text: str = ""
    encoding: int | None = None

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> String:
        encoding, size = _STRING.unpack_from(base.at_least(content, _STRING.size, "STRING"))
        return cls(base.counted_text(content[_STRING.size:], size, encoding, "STRING"), encoding)

    def parts(self) -> list[BytesLike]:
        encoding, octets = _text_bytes(self.text, self.encoding, "STRING")
        if len(octets) > 0xFFFF:
            raise InputError(f"OpenIGTLink: STRING carries at most 65535 bytes, {len(octets)} were given")
        return [base.packed(_STRING, "STRING", encoding, len(octets)) + octets]


@wire_types()
@dataclass
class Status(Message):
    """STATUS: `code` (0..65535, see STATUS_NAMES; 1 is OK), `subcode` (64 bits), `error_name` (20 bytes), `text`."""

    TYPE = "STATUS"

    code: int = STATUS_OK
    subcode: int = 0
    error_name: str = ""
    text: str = ""
    terminated: bool = field(default=True, kw_only=True, repr=False)  # the wire's text ends in a zero byte

    @property
    def meaning(self) -> str:
        """The protocol's word for `code`."""
        return STATUS_NAMES[self.code] if self.code < len(STATUS_NAMES) else f"code {self.code}"

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Status:
        code, subcode, name = _STATUS.unpack_from(base.at_least(content, _STATUS.size, "STATUS"))
        octets = bytes(content[_STATUS.size:])
        terminated = octets.endswith(b"\0")
        text = decoded_text(octets[:-1] if terminated else octets, UTF8, "the text of STATUS")
        return cls(code, subcode, base.text_field(name, "the error name of STATUS"), text, terminated=terminated)

    def parts(self) -> list[BytesLike]:
        name = base.fixed(self.error_name, 20, "the error name")
        return [base.packed(_STATUS, "STATUS", self.code, self.subcode, name), encoded_text(self.text)[1],
                b"\0" if self.terminated else b""]


@wire_types()
@dataclass
class Command(Message):
    """COMMAND: `command_id` (32 bits), `name` (128 bytes), `text` (XML as a rule), `encoding` as in String."""

    TYPE = "COMMAND"

    command_id: int = 0
    name: str = ""
    text: str = ""
    encoding: int | None = None

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Command:
        number, name, encoding, size = _COMMAND.unpack_from(base.at_least(content, _COMMAND.size, wire_type))
        text = base.counted_text(content[_COMMAND.size:], size, encoding, wire_type)
        return cls(number, base.text_field(name, f"the name of {wire_type}"), text, encoding)

    def parts(self) -> list[BytesLike]:
        encoding, octets = _text_bytes(self.text, self.encoding, self.TYPE)
        return [base.packed(_COMMAND, self.TYPE, self.command_id, base.fixed(self.name, 128, "the command's name"),
                            encoding, len(octets)) + octets]


@wire_types()
@dataclass
class CommandReply(Command):
    """RTS_COMMAND: the answer, laid out as the command and with its `command_id`."""

    TYPE = "RTS_COMMAND"


@wire_types()
@dataclass
class Capability(Message):
    """CAPABILITY: `types` that a peer knows, each of at most 12 characters."""

    TYPE = "CAPABILITY"

    types: list[str] = field(default_factory=list)

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Capability:
        if content.nbytes % TYPE_SIZE:
            raise ContentError(f"OpenIGTLink: CAPABILITY of {content.nbytes} bytes is no multiple of {TYPE_SIZE}")
        return cls([base.text_field(content[at:at + TYPE_SIZE], "a type name in CAPABILITY")
                    for at in range(0, content.nbytes, TYPE_SIZE)])

    def parts(self) -> list[BytesLike]:
        return [b"".join(base.fixed(name, TYPE_SIZE, "the type name") for name in self.types)]


@wire_types()
@dataclass
class Sensor(Message):
    """SENSOR: `values` (n,) float64, n at most 255, in `unit` (the protocol's 64-bit unit code); `status` is reserved.

    Values may be NaN: a sensor is no pose.
    """

    TYPE = "SENSOR"

    values: np.ndarray = field(default_factory=lambda: np.zeros(0))
    unit: int = 0
    status: int = 0

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Sensor:
        count, status, unit = _SENSOR.unpack_from(base.at_least(content, _SENSOR.size, "SENSOR"))
        values = base.exactly(content[_SENSOR.size:], 8 * count, f"SENSOR with {count} values")
        return cls(np.frombuffer(values, dtype=">f8").astype(np.float64), unit, status)

    def parts(self) -> list[BytesLike]:
        values = np.asarray(self.values, dtype=np.float64)
        if values.ndim != 1 or values.size > 255:
            raise InputError(f"OpenIGTLink: SENSOR carries a row of at most 255 numbers, not {values.shape}")
        return [base.packed(_SENSOR, "SENSOR", values.size, self.status, self.unit) + values.astype(">f8").tobytes()]


QUERY_PREFIXES = ("GET_", "STT_", "STP_", "RTS_")
_SHORT = {"GET_CAPABILITY": "GET_CAPABIL"}  # the C++ library's own spelling, 11 characters
_TRACKING = ("STT_TDATA", "STT_QTDATA")


@dataclass
class Query(Message):
    """GET_x, STT_x (start), STP_x (stop) and RTS_x (answer), for any x.

    Attributes:
        name: the type name, such as "GET_TRANSFORM"; cut to 12 characters on the wire and when received.
        interval_ms: of STT_TDATA, STT_QTDATA and STT_VIDEO: the shortest time between two messages; 0 is no limit.
        coordinate_system: of STT_TDATA and STT_QTDATA: name of the frame that is asked for (32 bytes).
        codec: of STT_VIDEO: four characters.
        status: of an RTS_x of one byte: 0 is success.
        content: whatever else a message carries (and the ninth byte of an older STT_VIDEO), as it is.
    """

    name: str = ""
    interval_ms: int = 0
    coordinate_system: str = ""
    codec: str = ""
    status: int | None = None
    content: bytes = b""

    @property
    def wire_type(self) -> str:
        return _SHORT.get(self.name, self.name)[:TYPE_SIZE]

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Query:
        if wire_type in _TRACKING:
            interval, frame = _STT_TRACKING.unpack(base.exactly(content, _STT_TRACKING.size, wire_type))
            return cls(wire_type, interval, base.text_field(frame, f"the coordinate system of {wire_type}"))
        if wire_type == "STT_VIDEO" and content.nbytes in (8, 9) and content[0]:
            codec, interval = _STT_VIDEO.unpack_from(content)
            return cls(wire_type, interval, codec=base.text_field(codec, "the codec of STT_VIDEO"),
                       content=bytes(content[8:]))
        if wire_type.startswith("RTS_") and content.nbytes == 1:
            return cls(wire_type, status=content[0])
        return cls(wire_type, content=bytes(content))

    def parts(self) -> list[BytesLike]:
        kind = self.wire_type
        if not kind.startswith(QUERY_PREFIXES) or len(kind) <= 4:
            raise InputError(f"OpenIGTLink: {self.name!r} is no query ({' '.join(QUERY_PREFIXES)})")
        if kind in _TRACKING:
            frame = base.fixed(self.coordinate_system, 32, "the coordinate system")
            return [base.packed(_STT_TRACKING, kind, self.interval_ms, frame)]
        if kind == "STT_VIDEO" and self.codec:
            return [base.packed(_STT_VIDEO, kind, base.fixed(self.codec, 4, "the codec"), self.interval_ms),
                    self.content]
        if self.status is not None:
            return [base.packed(struct.Struct(">B"), kind, self.status)]
        return [self.content]


@dataclass
class Unknown(Message):
    """A message of a type that this program doesn't know: its name and its content, as they came."""

    name: str = ""
    content: bytes = b""

    @property
    def wire_type(self) -> str:
        return self.name

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Unknown:
        return cls(wire_type, bytes(content))

    def parts(self) -> list[BytesLike]:
        return [self.content]
