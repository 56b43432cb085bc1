"""What all messages share: their common fields, the table of types, fixed-width fields, checked numbers.

Source: the OpenIGTLink protocol specification (openigtlink.org). Lengths are mm, arrays (k, j, i), numbers on the wire
big endian. A decoder raises `ContentError` and nothing else, and allocates at most a small multiple of the content; an
encoder raises `InputError` for what the wire can't hold.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from IRAILib.geometry import InputError

from ..framing import TYPE_SIZE, BytesLike, ContentError, decoded_text, name_bytes


@dataclass
class Message:
    """The fields that every message has.

    Attributes:
        device: device name, in full (metadata carries what the header's 20 bytes can't).
        time_s: seconds since 1970; None means "now" when the message is sent. Of a received message it is a
            `WireTime`, which keeps the stamp's exact 64 bits.
        metadata: texts by name (version 2 only; version 1 drops them).
        message_id: number of 32 bits (version 2 only).
        received_s: `time.monotonic()` at receipt, set by client and server; None for a message of one's own.
        received_time_s: `time.time()` at receipt, likewise.
        client: which of a server's clients sent it; None elsewhere.
    """

    TYPE: ClassVar[str] = ""

    device: str = field(default="", kw_only=True)
    time_s: float | None = field(default=None, kw_only=True)
    metadata: dict[str, str] = field(default_factory=dict, kw_only=True)
    message_id: int = field(default=0, kw_only=True)
    received_s: float | None = field(default=None, kw_only=True, compare=False)
    received_time_s: float | None = field(default=None, kw_only=True, compare=False)
    client: Any = field(default=None, kw_only=True, compare=False, repr=False)

    @property
    def wire_type(self) -> str:
        """The type name as it stands on the wire, at most 12 characters."""
        return self.TYPE[:TYPE_SIZE]

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Message:
        """The message in `content`, without the common fields; raises ContentError."""
        raise NotImplementedError

    def parts(self) -> list[BytesLike]:
        """The content's buffers in order; raises InputError for what doesn't fit."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts, lists and dicts (JSON). Arrays of more than 64 numbers become their shape and type."""
        return {"type": self.wire_type} | _plain(self)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.size > 64 or value.dtype.kind == "c":
            return {"shape": list(value.shape), "dtype": value.dtype.name}
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": len(value)}
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)
                if item.repr and not item.name.startswith("_")}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return float(value) if isinstance(value, float) else value


REGISTRY: dict[str, type[Message]] = {}
AnyMessage = TypeVar("AnyMessage", bound=type[Message])


def wire_types(*names: str) -> Callable[[AnyMessage], AnyMessage]:
    """Class decorator: this class decodes these type names (cut to 12 characters, as on the wire)."""
    def register(cls: AnyMessage) -> AnyMessage:
        for name in names or (cls.TYPE,):
            REGISTRY[name[:TYPE_SIZE]] = cls
        return cls
    return register


# ---------------------------------------------------------------------------------------------- fixed-width fields
def text_field(octets: BytesLike, what: str) -> str:
    """The text of a zero-padded field; raises ContentError when it isn't UTF-8 or holds control characters."""
    raw = bytes(octets).split(b"\0", 1)[0]
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if not (len(raw) == len(octets) and error.reason == "unexpected end of data"):
            raise ContentError(f"OpenIGTLink: {what} {raw[:40]!r} is not UTF-8") from None
        text = raw[:error.start].decode("utf-8")  # the peer cut a long name inside its last character
    if not text.isprintable():
        raise ContentError(f"OpenIGTLink: {what} {text[:40]!r} holds control characters")
    return text


def counted_text(octets: memoryview, size: int, encoding: int, what: str) -> str:
    """Text that must fill `octets` exactly, as its `size` says; raises ContentError."""
    if size != octets.nbytes:
        raise ContentError(f"OpenIGTLink: {what} says {size} bytes of text, {octets.nbytes} came")
    return decoded_text(octets, encoding, what)


def elements(content: memoryview, layout: struct.Struct, what: str) -> list[tuple[Any, ...]]:
    """The content as elements of one size; raises ContentError when it is no whole number of them."""
    if content.nbytes % layout.size:
        raise ContentError(f"OpenIGTLink: {what} of {content.nbytes} bytes is no multiple of {layout.size}")
    return list(layout.iter_unpack(content))


def exactly(content: memoryview, size: int, what: str) -> memoryview:
    """The content, when it has that size; raises ContentError otherwise."""
    if content.nbytes != size:
        raise ContentError(f"OpenIGTLink: {what} has {content.nbytes} bytes, the protocol says {size}")
    return content


def at_least(content: memoryview, size: int, what: str) -> memoryview:
    """The content, when it is that long or longer; raises ContentError otherwise."""
    if content.nbytes < size:
        raise ContentError(f"OpenIGTLink: {what} has {content.nbytes} bytes, at least {size} are needed")
    return content


def packed(layout: struct.Struct, what: str, *values: Any) -> bytes:
    """`layout.pack(*values)`, with InputError instead of struct's own complaint."""
    try:
        return layout.pack(*values)
    except (struct.error, OverflowError) as error:
        raise InputError(f"OpenIGTLink: {what} can't be packed: {error}") from None


def fixed(text: str, size: int, what: str) -> bytes:
    """`text` as a zero-padded field; raises InputError when it is too long."""
    return name_bytes(text, size, what)


# ---------------------------------------------------------------------------------------------- poses
def finite_floats(values: Any, what: str) -> np.ndarray:
    """(n,) float64 of received numbers; raises ContentError on NaN and infinity."""
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ContentError(f"OpenIGTLink: {what} holds numbers that are not finite")
    return array


def outgoing_floats(values: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """Big-endian float32 of that shape to be sent; raises InputError on another shape, NaN, infinity, overflow."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"OpenIGTLink: {what} is not numeric") from None
    if array.shape != shape:
        raise InputError(f"OpenIGTLink: {what} has the shape {array.shape}, {shape} is needed")
    with np.errstate(over="ignore"):
        single = array.astype(">f4")
    if not np.isfinite(single).all():
        raise InputError(f"OpenIGTLink: {what} holds numbers that are not finite in float32 and can't be sent")
    return single


def matrix_of(values: Any, what: str) -> np.ndarray:
    """(4, 4) float64 from the wire's 12 numbers, three columns of the rotation and then the translation.

    Any finite matrix is accepted, scaled and sheared ones too: peers send calibrations and image-to-world matrices.
    """
    matrix = np.eye(4)
    matrix[:3, :] = finite_floats(values, what).reshape(4, 3).T
    return matrix


def matrix_bytes(matrix: Any, what: str) -> bytes:
    """The 48 bytes of a (4, 4) matrix whose last row is 0 0 0 1."""
    array = np.asarray(matrix)
    if array.dtype.kind not in "fiu":
        raise InputError(f"OpenIGTLink: {what} is not numeric")
    rows = array.tolist() if array.shape == (4, 4) else []  # plain numbers: a third of numpy's time for so few
    if not rows or not max(abs(rows[3][0]), abs(rows[3][1]), abs(rows[3][2]), abs(rows[3][3] - 1)) <= 1e-9:
        raise InputError(f"OpenIGTLink: {what} must be a 4x4 matrix whose last row is 0 0 0 1")
    numbers = [rows[i][j] for j in range(4) for i in range(3)]
    try:
        octets = _TWELVE.pack(*numbers)
    except OverflowError:
        octets = b""
    if not octets or not all(map(math.isfinite, numbers)):
        raise InputError(f"OpenIGTLink: {what} holds numbers that are not finite in float32 and can't be sent")
    return octets


_TWELVE = struct.Struct(">12f")
QUATERNION_NORM = (0.5, 2.0)  # senders round to float32 and some forget to normalise; further off is no rotation


def quaternion_of(values: Any, what: str) -> np.ndarray:
    """(4,) float64 qx qy qz qw as received; ContentError when not finite or its norm is outside 0.5 .. 2."""
    quaternion = finite_floats(values, what)
    norm = float(np.linalg.norm(quaternion))
    if not QUATERNION_NORM[0] <= norm <= QUATERNION_NORM[1]:
        raise ContentError(f"OpenIGTLink: the quaternion of {what} has the norm {norm:.3g}, which is no rotation")
    return quaternion


def outgoing_quaternion(quaternion: Any, what: str) -> np.ndarray:
    """Four big-endian float32 to be sent; raises InputError for what the receiver would refuse."""
    single = outgoing_floats(quaternion, (4,), f"the quaternion of {what}")
    norm = float(np.linalg.norm(single.astype(np.float64)))
    if not QUATERNION_NORM[0] <= norm <= QUATERNION_NORM[1]:
        raise InputError(f"OpenIGTLink: the quaternion of {what} has the norm {norm:.3g}; normalise it")
    return single


def pose_from_quaternion(position: Any, quaternion: Any) -> np.ndarray:
    """(4, 4) rigid matrix of a position in mm and a quaternion qx qy qz qw, which is normalised first."""
    x, y, z, w = np.asarray(quaternion, dtype=np.float64) / np.linalg.norm(quaternion)
    matrix = np.eye(4)
    matrix[:3, :3] = [[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                      [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                      [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]
    matrix[:3, 3] = position
    return matrix


def quaternion_from_pose(matrix: Any) -> np.ndarray:
    """(4,) qx qy qz qw with qw >= 0 of the rotation of a (4, 4) rigid matrix; InputError when it is not rigid."""
    rotation = np.asarray(matrix, dtype=np.float64)[:3, :3]
    if not (np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) and np.linalg.det(rotation) > 0):
        raise InputError("OpenIGTLink: a quaternion needs a rotation without scale, shear or mirror")
    (a, b, c), (d, e, f), (g, h, i) = rotation
    products = np.array([[a - e - i, b + d, c + g, h - f], [b + d, e - a - i, f + h, c - g],
                         [c + g, f + h, i - a - e, d - b], [h - f, c - g, d - b, a + e + i]]) / 3.0
    values, vectors = np.linalg.eigh(products)
    best = vectors[:, int(np.argmax(values))]
    return -best if best[3] < 0 else best


# ---------------------------------------------------------------------------------------------- scalars
SCALAR_TYPES: dict[int, str] = {2: "i1", 3: "u1", 4: "i2", 5: "u2", 6: "i4", 7: "u4", 10: "f4", 11: "f8", 13: "c16"}
SCALAR_CODES = {np.dtype(name): code for code, name in SCALAR_TYPES.items()}


def scalar_dtype(code: int, what: str, *, complex_allowed: bool = False) -> np.dtype:
    """Native dtype of a scalar type number; raises ContentError for an unknown one."""
    name = SCALAR_TYPES.get(code)
    if name is None or (name == "c16" and not complex_allowed):
        raise ContentError(f"OpenIGTLink: {what} has the unknown scalar type {code}")
    return np.dtype(name)


def scalar_code(array: np.ndarray, what: str, *, complex_allowed: bool = False) -> int:
    """Scalar type number of an array to be sent; raises InputError for a dtype the protocol lacks."""
    code = SCALAR_CODES.get(array.dtype.newbyteorder("="))
    if code is None or (code == 13 and not complex_allowed):
        raise InputError(f"OpenIGTLink: {what} of the type {array.dtype} can't be sent; convert it first, for example "
                         "to float32")
    return code
