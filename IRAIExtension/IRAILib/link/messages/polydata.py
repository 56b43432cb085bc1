"""POLYDATA: a surface or a curve. Source: the OpenIGTLink protocol specification, chapter "POLYDATA".

Cells are kept as the wire has them, which is also VTK's legacy layout: one row of uint32 numbers, each cell as its
count of points and then the indices of these points.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..framing import BytesLike, encoded_text
from . import base
from .base import ContentError, InputError, Message, wire_types

_HEADER = struct.Struct(">10I")
_ATTRIBUTE = struct.Struct(">BBI")
_KINDS = ("vertices", "lines", "polygons", "triangle_strips")
POINT_SCALARS, POINT_VECTORS, POINT_NORMALS, POINT_TENSORS, POINT_RGBA = 0, 1, 2, 3, 4
MAX_ATTRIBUTES = 1024  # each costs far more memory here than its 7 bytes on the wire
CELL_DATA = 0x10  # added to the kinds above


def _no_cells() -> np.ndarray:
    return np.zeros(0, dtype=np.uint32)


def cell_starts(cells: np.ndarray, count: int, what: str) -> np.ndarray:
    """(count,) int64: where each cell begins in the row `cells`.

    Raises:
        ContentError: `count` cells don't fill the row exactly, or a cell has no point.
    """
    size = cells.size
    if count > size // 2 or (count == 0) != (size == 0):
        raise ContentError(f"OpenIGTLink: {what}: {count} cells can't lie in {size} numbers")
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    width = size // count
    if width * count == size and bool((cells[::width] == width - 1).all()):
        return np.arange(count, dtype=np.int64) * width
    starts, at, row = np.empty(count, dtype=np.int64), 0, cells.astype(np.uint32, copy=False).data
    for index in range(count):
        length = row[at] if at < size else 0
        if length == 0:
            raise ContentError(f"OpenIGTLink: {what}: cell {index} of {count} lies outside or has no point")
        starts[index] = at
        at += length + 1
    if at != size:
        raise ContentError(f"OpenIGTLink: {what}: {count} cells end at number {at} of {size}")
    return starts


def _checked_cells(cells: np.ndarray, count: int, points: int, what: str) -> None:
    """Raises ContentError when the cells don't fill their row or use a point that isn't there."""
    starts = cell_starts(cells, count, what)
    if not starts.size:
        return
    indices = cells.copy()
    indices[starts] = 0
    if points == 0 or int(indices.max()) >= points:
        raise ContentError(f"OpenIGTLink: {what} use point {int(indices.max())} of {points}")


@dataclass
class Attribute:
    """Numbers on points or cells: name, kind (POINT_SCALARS ..., + CELL_DATA for cells), values (n, components)."""

    name: str = ""
    kind: int = POINT_SCALARS
    values: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), np.float32))


@wire_types()
@dataclass
class PolyData(Message):
    """POLYDATA.

    Attributes:
        points: (n, 3) float32, mm, finite.
        vertices, lines, polygons, triangle_strips: (m,) uint32 rows as the module says; `cells` gives them one by one.
        attributes: numbers on points or cells.
    """

    TYPE = "POLYDATA"

    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    vertices: np.ndarray = field(default_factory=_no_cells)
    lines: np.ndarray = field(default_factory=_no_cells)
    polygons: np.ndarray = field(default_factory=_no_cells)
    triangle_strips: np.ndarray = field(default_factory=_no_cells)
    attributes: list[Attribute] = field(default_factory=list)

    def cells(self, kind: str) -> list[np.ndarray]:
        """Index rows of the "vertices", "lines", "polygons" or "triangle_strips", each (points of the cell,) int."""
        row, found, at = np.asarray(getattr(self, kind)), [], 0
        while at < row.size:
            end = at + 1 + int(row[at])
            found.append(row[at + 1:end].astype(np.int64))
            at = end
        return found

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> PolyData:
        count, *sizes, attribute_count = _HEADER.unpack_from(base.at_least(content, _HEADER.size, "POLYDATA"))
        at = _HEADER.size + 12 * count
        points = base.at_least(content, at, f"POLYDATA with {count} points")[_HEADER.size:at]
        array = np.frombuffer(points, dtype=">f4").reshape(count, 3).astype(np.float32)
        if not np.isfinite(array).all():
            raise ContentError("OpenIGTLink: POLYDATA has points that are not finite")
        rows = []
        for index, name in enumerate(_KINDS):
            number, size = sizes[2 * index:2 * index + 2]
            if size % 4:
                raise ContentError(f"OpenIGTLink: the {name} of POLYDATA have {size} bytes, which is no multiple of 4")
            raw = base.at_least(content, at + size, f"POLYDATA with {size} bytes of {name}")[at:at + size]
            row = np.frombuffer(raw, dtype=">u4").astype(np.uint32)
            _checked_cells(row, number, count, f"the {name} of POLYDATA")
            rows.append(row)
            at += size
        return cls(array, *rows, attributes=_attributes(content[at:], attribute_count))

    def parts(self) -> list[BytesLike]:
        points = np.asarray(self.points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise InputError(f"OpenIGTLink: POLYDATA needs points (n, 3), not {points.shape}")
        rows = [_outgoing_row(getattr(self, name), len(points), name) for name in _KINDS]
        sizes = [number for count, row in rows for number in (count, row.nbytes)]
        head = base.packed(_HEADER, "POLYDATA", len(points), *sizes, len(self.attributes))
        return [head, base.outgoing_floats(points, points.shape, "the points of POLYDATA"), *(row for _, row in rows),
                *_attribute_parts(self.attributes)]


def _outgoing_row(cells: Any, points: int, name: str) -> tuple[int, np.ndarray]:
    """(number of cells, row as big-endian uint32); raises InputError for what a receiver would refuse."""
    row = np.asarray(cells)
    if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
        raise InputError(f"OpenIGTLink: the {name} of POLYDATA must be one row of whole numbers")
    if row.size and (row.min() < 0 or row.max() > 0xFFFFFFFF):
        raise InputError(f"OpenIGTLink: the {name} of POLYDATA hold indices that don't fit into 32 bits")
    count, at = 0, 0
    while at < row.size:
        at, count = at + 1 + int(row[at]), count + 1
    try:
        _checked_cells(row.astype(np.uint32), count, points, f"the {name} of POLYDATA")
    except ContentError as error:
        raise InputError(str(error)) from None
    return count, row.astype(">u4")


def _attributes(content: memoryview, count: int) -> list[Attribute]:
    """Headers of 6 bytes, then the zero-closed names, padded to an even number of bytes, then all float32 values."""
    if count > MAX_ATTRIBUTES:
        raise ContentError(f"OpenIGTLink: POLYDATA with {count} attributes; at most {MAX_ATTRIBUTES} are accepted")
    at = _ATTRIBUTE.size * count
    heads = list(_ATTRIBUTE.iter_unpack(base.at_least(content, at, f"POLYDATA with {count} attributes")[:at]))
    raw_names, begin = bytes(content[at:at + 256 * count]), at  # a name has at most 255 bytes and its closing zero
    names, used = [], 0
    for _ in heads:
        end = raw_names.find(b"\0", used)
        if end < 0:
            raise ContentError("OpenIGTLink: the name of an attribute of POLYDATA does not end")
        names.append(base.text_field(raw_names[used:end], "the name of an attribute of POLYDATA"))
        used = end + 1
    at = begin + used + used % 2
    found = []
    for name, (kind, components, number) in zip(names, heads, strict=True):
        end = at + 4 * components * number
        if components == 0 or kind & ~CELL_DATA > POINT_RGBA:
            raise ContentError(f"OpenIGTLink: the attribute {name!r} has the kind {kind} and {components} components")
        raw = base.at_least(content, end, f"the attribute {name!r} of POLYDATA")[at:end]
        values = np.frombuffer(raw, dtype=">f4").reshape(number, components).astype(np.float32)
        found.append(Attribute(name, kind, values))
        at = end
    if at != content.nbytes:
        raise ContentError(f"OpenIGTLink: POLYDATA has {content.nbytes - at} bytes too many")
    return found


def _attribute_parts(attributes: Sequence[Attribute]) -> list[BytesLike]:
    heads, names, values = [], b"", []
    if len(attributes) > MAX_ATTRIBUTES:
        raise InputError(f"OpenIGTLink: POLYDATA carries at most {MAX_ATTRIBUTES} attributes, not {len(attributes)}")
    for item in attributes:
        array = np.asarray(item.values, dtype=np.float32)
        name = encoded_text(item.name)[1]
        if array.ndim != 2 or not 1 <= array.shape[1] <= 255 or len(name) > 255 or not item.name.isprintable():
            raise InputError(f"OpenIGTLink: the attribute {item.name[:40]!r} needs a printable name of at most 255 "
                             f"bytes and values (n, 1..255), not {array.shape}")
        if not 0 <= item.kind & ~CELL_DATA <= POINT_RGBA:
            raise InputError(f"OpenIGTLink: the attribute {item.name!r} has the unknown kind {item.kind}")
        heads.append(base.packed(_ATTRIBUTE, "an attribute", item.kind, array.shape[1], array.shape[0]))
        names += name + b"\0"
        values.append(array.astype(">f4"))
    return [b"".join(heads) + names + b"\0" * (len(names) % 2), *values]
