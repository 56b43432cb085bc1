"""NDARRAY, COLORTABLE (COLORT) and BIND. Source: the OpenIGTLink protocol specification, chapters of the same names."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..framing import TYPE_SIZE, BytesLike, bytes_view, encoded_text
from . import base
from .base import ContentError, InputError, Message, wire_types

MAX_DIMENSIONS = 32
_TWO_BYTES = struct.Struct(">BB")
_CHILD = struct.Struct(">12sQ")
_COUNT = struct.Struct(">H")


@wire_types()
@dataclass
class NDArray(Message):
    """NDARRAY: `array` of 1 to 32 dimensions, each 1..65535, last index fastest.

    Types: int8, uint8, int16, uint16, int32, uint32, float32, float64, complex128. A received array is a view of the
    received buffer in big-endian byte order. It may hold NaN.
    """

    TYPE = "NDARRAY"

    array: np.ndarray = field(default_factory=lambda: np.zeros(1))

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> NDArray:
        scalar, dimensions = _TWO_BYTES.unpack_from(base.at_least(content, _TWO_BYTES.size, "NDARRAY"))
        dtype = base.scalar_dtype(scalar, "NDARRAY", complex_allowed=True).newbyteorder(">")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise ContentError(f"OpenIGTLink: NDARRAY has {dimensions} dimensions; 1 to {MAX_DIMENSIONS} are possible")
        begin = _TWO_BYTES.size + 2 * dimensions
        shape = struct.unpack(f">{dimensions}H", base.at_least(content, begin, "NDARRAY")[_TWO_BYTES.size:begin])
        if 0 in shape:
            raise ContentError(f"OpenIGTLink: NDARRAY of the shape {shape} is empty")
        raw = base.exactly(content[begin:], math.prod(shape) * dtype.itemsize, f"NDARRAY of the shape {shape}")
        return cls(np.frombuffer(raw, dtype=dtype).reshape(shape))

    def parts(self) -> list[BytesLike]:
        array = np.asarray(self.array)
        if not 1 <= array.ndim <= MAX_DIMENSIONS or array.size == 0:
            raise InputError(f"OpenIGTLink: NDARRAY needs 1 to {MAX_DIMENSIONS} dimensions that are not empty, not "
                             f"{array.shape}")
        head = base.packed(_TWO_BYTES, "NDARRAY", base.scalar_code(array, "NDARRAY", complex_allowed=True), array.ndim)
        sizes = base.packed(struct.Struct(f">{array.ndim}H"), f"NDARRAY of the shape {array.shape}", *array.shape)
        return [head + sizes, array.astype(array.dtype.newbyteorder(">"), copy=False)]


_COLOR_TYPES = {3: np.dtype("u1"), 5: np.dtype(">u2"), 19: np.dtype("u1")}


@wire_types("COLORTABLE", "COLORT")
@dataclass
class ColorTable(Message):
    """COLORTABLE or COLORT: what each grey value looks like.

    Attributes:
        colors: (256,) or (65536,) uint8 or uint16 grey values, or (256, 3) / (65536, 3) uint8 red, green, blue. The
            number of rows says whether the index is of 8 or 16 bits.
        name: "COLORT" (the C++ library's) or "COLORTABLE".
    """

    TYPE = "COLORT"

    colors: np.ndarray = field(default_factory=lambda: np.arange(256, dtype=np.uint8))
    name: str = "COLORT"

    @property
    def wire_type(self) -> str:
        return self.name

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> ColorTable:
        index, mapping = _TWO_BYTES.unpack_from(base.at_least(content, _TWO_BYTES.size, "COLORTABLE"))
        if index not in (3, 5) or mapping not in _COLOR_TYPES:
            raise ContentError(f"OpenIGTLink: COLORTABLE with index type {index} and map type {mapping} is unknown")
        rows, dtype, columns = (256 if index == 3 else 65536), _COLOR_TYPES[mapping], (3 if mapping == 19 else 1)
        raw = base.exactly(content[_TWO_BYTES.size:], rows * columns * dtype.itemsize, f"COLORTABLE of {rows} colours")
        colors = np.frombuffer(raw, dtype=dtype).astype(dtype.newbyteorder("="))
        return cls(colors.reshape(rows, 3) if mapping == 19 else colors, wire_type)

    def parts(self) -> list[BytesLike]:
        colors = np.asarray(self.colors)
        good = colors.shape[:1] in ((256,), (65536,)) and (
            (colors.ndim == 1 and colors.dtype in (np.uint8, np.uint16))
            or (colors.shape[1:] == (3,) and colors.dtype == np.uint8))
        if not good or self.name not in ("COLORT", "COLORTABLE"):
            raise InputError("OpenIGTLink: a colour table has 256 or 65536 rows of uint8, uint16 or three uint8 and is "
                             f"named COLORT or COLORTABLE, not {self.name!r} {colors.shape} {colors.dtype}")
        mapping = 19 if colors.ndim == 2 else (3 if colors.dtype == np.uint8 else 5)
        head = _TWO_BYTES.pack(3 if len(colors) == 256 else 5, mapping)
        return [head, colors.astype(_COLOR_TYPES[mapping], copy=False)]


@dataclass
class BindChild:
    """One message inside a BIND: its type name, its device name, its content (without a header)."""

    type: str = ""
    device: str = ""
    content: BytesLike = field(default=b"", repr=False)

    def message(self) -> Message | None:
        """The child decoded on demand; None for a type that has no class. Raises ContentError."""
        kind = base.REGISTRY.get(self.type)
        if kind is None:
            return None
        found = kind.from_content(bytes_view(self.content), self.type)
        found.device = self.device
        return found


@wire_types()
@dataclass
class Bind(Message):
    """BIND: several messages with one time stamp; `children` are not decoded before `BindChild.message` is called."""

    TYPE = "BIND"

    children: list[BindChild] = field(default_factory=list)

    @classmethod
    def of(cls, messages: Sequence[Message], **common: object) -> Bind:
        """A BIND of these messages; `common` are its own device, time_s and so on."""
        children = [BindChild(message.wire_type, message.device,
                              b"".join(bytes_view(part) for part in message.parts())) for message in messages]
        return cls(children, **common)  # type: ignore[arg-type]

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Bind:
        count = _COUNT.unpack_from(base.at_least(content, 2, "BIND"))[0]
        at = 2 + count * _CHILD.size
        base.at_least(content, at + 2, f"BIND of {count} messages")
        heads = list(_CHILD.iter_unpack(content[2:at]))
        table_size = _COUNT.unpack_from(content, at)[0]
        begin, at = at + 2, at + 2 + table_size
        names = bytes(base.at_least(content, at, "the names of BIND")[begin:at]).split(b"\0")
        if len(names) <= count or any(names[count:]):
            raise ContentError(f"OpenIGTLink: the table of names of BIND does not hold {count} names")
        children = []
        for name, (kind, size) in zip(names, heads, strict=False):
            body = base.at_least(content, at + size, f"BIND with a message of {size} bytes")[at:at + size]
            child = BindChild(base.text_field(kind, "a type in BIND"), base.text_field(name, "a name in BIND"), body)
            if not child.type:
                raise ContentError(f"OpenIGTLink: the message {child.device!r} in BIND has no type")
            children.append(child)
            at += size
            at += size % 2 if at < content.nbytes else 0  # bodies begin at even places; the last one may lack its pad
        base.exactly(content, at, f"BIND of {count} messages")
        return cls(children)

    def parts(self) -> list[BytesLike]:
        heads, names, bodies = [base.packed(_COUNT, "BIND", len(self.children))], b"", []
        for child in self.children:
            view = bytes_view(child.content)
            if not child.device.isprintable() or not child.type:
                raise InputError(f"OpenIGTLink: a message in BIND needs a type and a printable name, not "
                                 f"{child.type!r} {child.device!r}")
            heads.append(_CHILD.pack(base.fixed(child.type, TYPE_SIZE, "the type"), view.nbytes))
            names += encoded_text(child.device)[1] + b"\0"
            bodies += [view, b"\0" * (view.nbytes % 2)]
        names += b"\0" * (len(names) % 2)
        return [b"".join(heads) + base.packed(_COUNT, "the names of BIND", len(names)) + names, *bodies]
