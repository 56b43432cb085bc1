"""Pictures: IMAGE, and VIDEO, whose compressed frames are passed on as they are.

Source: the OpenIGTLink protocol specification, chapters "IMAGE" and "VIDEO" (version 3). The wire gives the position of
the image's centre, (n - 1) / 2 along each axis; here `ras_from_ijk` has its origin in voxel (0, 0, 0) as everywhere in
the library. Positions are taken as RAS whatever the coordinate byte says, as Slicer does; `coordinate` keeps the byte.
"""

from __future__ import annotations

import functools
import logging
import struct
from dataclasses import dataclass, field

import numpy as np

from ..framing import BytesLike
from . import base
from .base import ContentError, InputError, Message, wire_types

log = logging.getLogger("IRAI.link")

_IMAGE = struct.Struct(">HBBBBHHH12f6H")
_VIDEO = struct.Struct(">HB4sHBHHH12f6H")
_COORDINATES = {1: "RAS", 2: "LPS"}
BIG, LITTLE = 1, 2
Size = tuple[int, ...]  # (i, j, k)


def _shift(size_ijk: Size) -> np.ndarray:
    return (np.asarray(size_ijk, dtype=np.float64) - 1.0) / 2.0


@dataclass
class _Placement:
    """The wire's matrix as received, so that an image passed on unchanged keeps its exact 48 bytes."""

    wire: bytes
    matrix: bytes
    size_ijk: Size


def _origin_based(numbers: tuple[float, ...], size_ijk: Size, what: str) -> tuple[np.ndarray, _Placement]:
    """(ras_from_ijk, placement) of the wire's 12 numbers, whose translation is the centre."""
    matrix = base.matrix_of(numbers, f"the matrix of {what}")
    matrix[:3, 3] -= matrix[:3, :3] @ _shift(size_ijk)
    return matrix, _Placement(struct.pack(">12f", *numbers), matrix.tobytes(), size_ijk)


def _centre_based(ras_from_ijk: np.ndarray, size_ijk: Size, placement: _Placement | None, what: str) -> bytes:
    matrix = np.array(ras_from_ijk, dtype=np.float64)
    if placement and placement.size_ijk == size_ijk and placement.matrix == matrix.tobytes():
        return placement.wire
    if matrix.shape == (4, 4):
        matrix[:3, 3] += matrix[:3, :3] @ _shift(size_ijk)
    return base.matrix_bytes(matrix, f"ras_from_ijk of {what}")


@functools.cache
def _warn_of_lps(coordinate: int, what: str) -> None:
    """Said once a process: an image stream would fill the log otherwise."""
    if coordinate == 2:
        log.warning("OpenIGTLink: %s is labelled LPS; it is taken as RAS, as Slicer does", what)


def _coordinate_code(name: str, what: str) -> int:
    for code, known in _COORDINATES.items():
        if known == name:
            return code
    raise InputError(f"OpenIGTLink: the coordinate system of {what} is RAS or LPS, not {name!r}")


def _check_part(size: Size, offset: Size, part: Size, what: str) -> None:
    if 0 in part or any(start + length > whole for start, length, whole in zip(offset, part, size, strict=True)):
        raise ContentError(f"OpenIGTLink: {what}: the part {part} at {offset} is empty or leaves the image {size}")


@wire_types()
@dataclass
class Image(Message):
    """IMAGE: voxels with their place.

    Attributes:
        array: (k, j, i) or, with several components, (k, j, i, c). A received one is a view of the received buffer in
            the wire's byte order (its dtype says which), so that nothing is copied. To be sent: (j, i) becomes one
            slice; int8, uint8, int16, uint16, int32, uint32, float32 or float64; contiguous arrays are not copied.
        ras_from_ijk: (4, 4) float64, mm, of the whole image; its origin is the centre of voxel (0, 0, 0).
        coordinate: "RAS" or "LPS": the label on the wire, which changes nothing.
        size_ijk: (i, j, k) of the whole image; None is the array's own size.
        offset_ijk: (i, j, k) where the array begins in the whole image; not (0, 0, 0) for a sub-volume.
        endian: byte order that a one-byte image claims, 1 big or 2 little; wider ones follow their dtype.
        format_version: the image header's own version, 1 (some write 2).
    """

    TYPE = "IMAGE"

    array: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 1), np.uint8))
    ras_from_ijk: np.ndarray = field(default_factory=lambda: np.eye(4))
    coordinate: str = "RAS"
    size_ijk: Size | None = None
    offset_ijk: Size = (0, 0, 0)
    endian: int = LITTLE
    format_version: int = 1
    _placement: _Placement | None = field(default=None, repr=False, compare=False)

    @property
    def array_ras_from_ijk(self) -> np.ndarray:
        """(4, 4) of the array's own voxels: `ras_from_ijk` moved to `offset_ijk`."""
        matrix = np.array(self.ras_from_ijk, dtype=np.float64)
        matrix[:3, 3] += matrix[:3, :3] @ np.asarray(self.offset_ijk, dtype=np.float64)
        return matrix

    @property
    def is_whole(self) -> bool:
        """Whether the array is all of the image and no sub-volume."""
        shape = self.array.shape if self.array.ndim > 2 else (1, *self.array.shape)
        return self.size_ijk is None or tuple(self.size_ijk) == (shape[2], shape[1], shape[0])

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Image:
        version, components, scalar, endian, coordinate, *rest = _IMAGE.unpack_from(
            base.at_least(content, _IMAGE.size, "IMAGE"))
        size, numbers, offset, part = tuple(rest[:3]), tuple(rest[3:15]), tuple(rest[15:18]), tuple(rest[18:21])
        if version not in (1, 2) or components < 1 or endian not in (BIG, LITTLE) or coordinate not in _COORDINATES:
            raise ContentError(f"OpenIGTLink: IMAGE with version {version}, {components} components, byte order "
                               f"{endian}, coordinate system {coordinate} is none of the protocol's")
        dtype = base.scalar_dtype(scalar, "IMAGE").newbyteorder(">" if endian == BIG else "<")
        _check_part(size, offset, part, "IMAGE")
        pixels = base.exactly(content[_IMAGE.size:], part[0] * part[1] * part[2] * components * dtype.itemsize,
                              f"the pixels of IMAGE {part}")
        shape = (part[2], part[1], part[0]) + ((components,) if components > 1 else ())
        _warn_of_lps(coordinate, "IMAGE")
        matrix, placement = _origin_based(numbers, size, "IMAGE")
        return cls(np.frombuffer(pixels, dtype=dtype).reshape(shape), matrix, _COORDINATES[coordinate], size, offset,
                   endian, version, placement)

    def parts(self) -> list[BytesLike]:
        array = np.asarray(self.array)
        array = array[np.newaxis] if array.ndim == 2 else array
        if array.ndim not in (3, 4) or array.size == 0:
            raise InputError(f"OpenIGTLink: IMAGE needs an array (k, j, i) or (k, j, i, component), not {array.shape}")
        part = (array.shape[2], array.shape[1], array.shape[0])
        size = part if self.size_ijk is None else tuple(self.size_ijk)
        try:
            _check_part(size, self.offset_ijk, part, "IMAGE")
        except ContentError as error:
            raise InputError(str(error)) from None
        scalar = base.scalar_code(array, "IMAGE")
        endian = self.endian if array.dtype.itemsize == 1 else (BIG if array.dtype.str[0] == ">" else LITTLE)
        head = base.packed(_IMAGE_HEAD, f"IMAGE {array.shape}", self.format_version,
                           array.shape[3] if array.ndim == 4 else 1, scalar, endian,
                           _coordinate_code(self.coordinate, "IMAGE"), *size)
        tail = base.packed(_SIX, f"IMAGE {array.shape}", *self.offset_ijk, *part)
        return [head + _centre_based(self.ras_from_ijk, size, self._placement, "IMAGE") + tail,
                np.ascontiguousarray(array)]


_IMAGE_HEAD, _VIDEO_HEAD, _SIX = struct.Struct(">HBBBBHHH"), struct.Struct(">HB4sHBHHH"), struct.Struct(">6H")


@wire_types()
@dataclass
class Video(Message):
    """VIDEO: one frame of a video stream; its data are not decompressed here.

    Attributes:
        data: the frame as its codec wrote it (a view of the received buffer).
        codec: four characters: "I420" (not compressed), "H264", "VP90", "X265", "O265", "AV10".
        frame_type: what the codec calls it: 1 key frame, 2 not a key frame ... (the codec's own number).
        size_ijk, offset_ijk, part_ijk: the whole image, where this frame begins, its size (None: all of it).
        ras_from_ijk, coordinate, endian: as in Image.
    """

    TYPE = "VIDEO"

    data: BytesLike = field(default=b"", repr=False)
    codec: str = "I420"
    frame_type: int = 1
    size_ijk: Size = (1, 1, 1)
    ras_from_ijk: np.ndarray = field(default_factory=lambda: np.eye(4))
    coordinate: str = "RAS"
    offset_ijk: Size = (0, 0, 0)
    part_ijk: Size | None = None
    endian: int = LITTLE
    format_version: int = 1
    _placement: _Placement | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Video:
        version, endian, codec, frame_type, coordinate, *rest = _VIDEO.unpack_from(
            base.at_least(content, _VIDEO.size, "VIDEO"))
        size, numbers, offset, part = tuple(rest[:3]), tuple(rest[3:15]), tuple(rest[15:18]), tuple(rest[18:21])
        if version not in (1, 2, 3) or endian not in (BIG, LITTLE) or coordinate not in _COORDINATES:
            raise ContentError(f"OpenIGTLink: VIDEO with version {version}, byte order {endian}, coordinate system "
                               f"{coordinate} is none of the protocol's")
        _check_part(size, offset, part, "VIDEO")
        _warn_of_lps(coordinate, "VIDEO")
        matrix, placement = _origin_based(numbers, size, "VIDEO")
        return cls(content[_VIDEO.size:], base.text_field(codec, "the codec of VIDEO"), frame_type, size, matrix,
                   _COORDINATES[coordinate], offset, part, endian, version, placement)

    def parts(self) -> list[BytesLike]:
        size = tuple(self.size_ijk)
        head = base.packed(_VIDEO_HEAD, "VIDEO", self.format_version, self.endian,
                           base.fixed(self.codec, 4, "the codec"), self.frame_type,
                           _coordinate_code(self.coordinate, "VIDEO"), *size)
        tail = base.packed(_SIX, "VIDEO", *self.offset_ijk, *(self.part_ijk or size))
        return [head + _centre_based(self.ras_from_ijk, size, self._placement, "VIDEO") + tail, self.data]
