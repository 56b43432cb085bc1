"""MetaImage sequences (.igs.mha, .igs.mhd + .raw or .zraw, plain .mha): header lines up to `ElementDataFile`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..geometry import InputError
from .sequences_fields import MAX_LINE, FrameFields, frame_pairs
from .sequences_payload import RAW, ZLIB, read_pixels, write_pixels

_TYPES = {"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
          "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
          "MET_FLOAT": "f4", "MET_DOUBLE": "f8"}
_NAMES = {np.dtype(code): name for name, code in reversed(_TYPES.items())}
_OURS = {"ObjectType", "NDims", "BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData",
         "CompressedDataSize", "DimSize", "Kinds", "ElementNumberOfChannels", "ElementSpacing", "ElementType",
         "UltrasoundImageOrientation", "ElementDataFile", "HeaderSize"}
_DEFAULTS = {"AnatomicalOrientation": "RAI", "CenterOfRotation": "0 0 0", "Offset": "0 0 0",
             "TransformMatrix": "1 0 0 0 1 0 0 0 1"}
_PADDED = 20  # room for a size that is known only when the pixels are written; PLUS pads it with blanks too


def read_meta(path: Path, *, mapped: bool) -> tuple[np.ndarray | None, int, FrameFields, dict[str, str]]:
    """(frames (n, h, w[, c]) or None, n, the frames' fields, the header's pairs). Raises InputError."""
    header, fields, start = _read_header(path)
    try:
        size = [int(text) for text in header["DimSize"].split()]
        channels = int(header.get("ElementNumberOfChannels", "1"))
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: the MetaImage header is damaged (no usable DimSize)") from error
    if len(size) == 4 and size[2] in (0, 1):
        del size[2]
    if len(size) != 3:
        raise InputError(f"{path}: DimSize is {header['DimSize']!r}; a sequence of 2D frames (width height frames) "
                         "is needed")
    columns, rows, count = size
    fields.check_count(count, pixels=columns > 0 and rows > 0)
    if columns == 0 and rows == 0:
        return None, count, fields, header
    kind = _TYPES.get(header.get("ElementType", "").removesuffix("_ARRAY"))
    if kind is None or columns < 1 or rows < 1 or not 1 <= channels <= 16:
        raise InputError(f"{path}: the MetaImage header is damaged or of a kind that can't be read (type "
                         f"{header.get('ElementType')!r}, size {size}, {channels} channels)")
    if header.get("BinaryData", "True").lower() != "true":
        raise InputError(f"{path}: its pixels are written as text; export it again as binary data")
    swapped = "true" in (header.get(key, "").lower() for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    shape = (count, rows, columns, *([channels] if channels > 1 else []))
    data, start = _data_file(path, header, start)
    encoding = ZLIB if header.get("CompressedData", "False").lower() == "true" else RAW
    dtype = np.dtype((">" if swapped else "<") + kind)
    if header.get("HeaderSize", "0") not in ("", "0"):
        start = _header_size(header["HeaderSize"], data, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, path)
    return read_pixels(data, start, shape, dtype, encoding, shown=path, mapped=mapped), count, fields, header


def _read_header(path: Path) -> tuple[dict[str, str], FrameFields, int]:
    header: dict[str, str] = {}
    fields = FrameFields(path)
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE):
            key, mark, value = line.decode("utf-8", "replace").partition("=")
            key, value = key.strip(), value.strip()
            if not mark and not key:
                continue
            if not mark or (not header and key not in ("ObjectType", "NDims", "Comment", "ObjectSubType")):
                break
            if not fields.take(key, value):
                header[key] = value
            if key == "ElementDataFile":
                return header, fields, file.tell()
    raise InputError(f"{path}: not a MetaImage file, or damaged or truncated inside its header")


def _data_file(path: Path, header: dict[str, str], start: int) -> tuple[Path, int]:
    name = header["ElementDataFile"]
    if name.upper() == "LOCAL":
        return path, start
    if not name or Path(name).name != name or name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"{path}: its pixels lie in {name!r}; a single file beside it is needed")
    data = path.parent / name
    if not data.is_file():
        raise InputError(f"{path}: its data file {name} is missing; keep both files together")
    return data, 0


def _header_size(text: str, data: Path, expected: int, path: Path) -> int:
    try:
        size = int(text)
    except ValueError as error:
        raise InputError(f"{path}: HeaderSize {text!r} is no number") from error
    start = data.stat().st_size - expected if size == -1 else size
    if start < 0:
        raise InputError(f"{path}: truncated: its data file is shorter than its header says")
    return start


def write_meta(sequence: Any, file: BinaryIO, *, compress: bool, data_name: str = "",
               data: BinaryIO | None = None) -> None:
    """A whole MetaImage sequence into `file`; its pixels into `data` (named `data_name`) if that is given."""
    frames = sequence.frames
    packed = compress and frames is not None
    head = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
            "CompressedData": str(packed)}
    if packed:
        head["CompressedDataSize"] = ""
    rows, columns = (0, 0) if frames is None else frames.shape[1:3]
    head |= {"DimSize": f"{columns} {rows} {len(sequence)}", "Kinds": "domain domain list",
             "ElementSpacing": " ".join(repr(float(value)) for value in (*sequence.spacing, 1.0)),
             "ElementType": "MET_UCHAR" if frames is None else element_type(frames.dtype)}
    if frames is not None and frames.ndim == 4:
        head["ElementNumberOfChannels"] = str(frames.shape[3])
    head["UltrasoundImageOrientation"] = sequence.orientation
    head |= {key: sequence.header.get(key, value) for key, value in _DEFAULTS.items()}
    head |= {key: value for key, value in sequence.header.items() if key not in _OURS}
    place = 0
    for key, value in head.items():
        if key == "CompressedDataSize":
            place = file.tell() + len(key) + 3
            value = " " * _PADDED
        _line(file, key, value)
    for key, value in frame_pairs(sequence):
        _line(file, key, value)
    _line(file, "ElementDataFile", data_name or "LOCAL")
    length = 0 if frames is None else write_pixels(data or file, frames, ZLIB if packed else RAW)
    if packed:
        file.seek(place)
        file.write(f"{length:<{_PADDED}d}".encode())
        file.seek(0, os.SEEK_END)


def element_type(dtype: np.dtype) -> str:
    """MetaImage's name of a pixel type. Raises InputError for one that it hasn't."""
    name = _NAMES.get(dtype.newbyteorder("="))
    if name is None:
        raise InputError(f"pixels of type {dtype} can't be written; convert them to uint8, int16 or float32")
    return name


def _line(file: BinaryIO, key: str, value: str) -> None:
    if "\n" in key + value or "\r" in key + value or "=" in key:
        raise InputError(f"the field {key!r} can't be written: it holds a line break or an equals sign")
    file.write(f"{key} = {value}\n".encode())
