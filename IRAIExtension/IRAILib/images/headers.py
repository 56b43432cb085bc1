"""What the headers of NIfTI, NRRD and MetaImage files say, and whether all their voxels are there.

ITK fills a truncated .nii.gz with other values, and takes .nrrd and .mha whose compressed part is damaged,
without an error; so every byte is checked here first (gzip's CRC, zlib's Adler sum, the length).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..geometry import InputError
from .checks import check_matrix, check_shape

MAX_IMAGE_BYTES = 16 * 2**30
FORMS_AGREE_MM = 0.1
"""sform and qform may differ by this much at the corners (float32 rounding is a hundred times less)."""
_CHUNK = 2**22
_GZIP_ODD_FLAGS = 0xE2
"""Reserved bits and the header's checksum: Python passes over them, zlib stops there, and ITK doesn't notice."""
_NRRD_BYTES = {"char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "double": 8,
               "longlong": 8, "ulonglong": 8}
_NRRD_SAME = {"signed char": "char", "int8": "char", "int8_t": "char", "unsigned char": "uchar", "uint8": "uchar",
              "uint8_t": "uchar", "short int": "short", "signed short": "short", "int16": "short", "int16_t": "short",
              "unsigned short": "ushort", "uint16": "ushort", "uint16_t": "ushort", "signed int": "int",
              "int32": "int", "int32_t": "int", "unsigned int": "uint", "uint32": "uint", "uint32_t": "uint",
              "long long": "longlong", "int64": "longlong", "int64_t": "longlong", "unsigned long long": "ulonglong",
              "uint64": "ulonglong", "uint64_t": "ulonglong"}
_MET_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4,
              "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
_NRRD_SPACES = {"left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las"}


@dataclass(frozen=True)
class NiftiHeader:
    """The fields that decide where a NIfTI's voxels are.

    Attributes:
        shape: (i, j, k, ...) as stored.
        ras_from_ijk: (4, 4), from the sform where it is set, else the qform.
        end: number of bytes the uncompressed file must have.
    """

    shape: tuple[int, ...]
    ras_from_ijk: np.ndarray
    end: int


def check_nifti(path: Path) -> NiftiHeader:
    """Read a NIfTI header and every byte behind it. Raises InputError: truncated, damaged, no or two orientations."""
    with path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        zipped = magic[:2] == b"\x1f\x8b"
        if zipped and len(magic) == 4 and magic[3] & _GZIP_ODD_FLAGS:
            raise InputError(f"{path}: the compressed data is damaged (gzip flags); copy or export it again")
        stream: BinaryIO = gzip.GzipFile(fileobj=raw) if zipped else raw  # type: ignore[assignment]
        try:
            start = stream.read(348)
            header = _nifti_header(start, str(path))
            length = len(start) + _count(stream, header.end)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _truncated(path, error) from error
    if length < header.end:
        raise InputError(f"{path}: truncated: {length} of {header.end} bytes are there; copy or export it again")
    return header


def _truncated(path: Path, error: Exception) -> InputError:
    kind = "truncated" if isinstance(error, EOFError) or "incomplete" in str(error) else "damaged"
    return InputError(f"{path}: the compressed data is {kind} ({error}); copy or export it again")


def _count(stream: BinaryIO, limit: int) -> int:
    """Bytes left in a stream, read to its end, so that a checksum there is verified; stops far beyond `limit`."""
    total = 0
    while chunk := stream.read(_CHUNK):
        total += len(chunk)
        if total > limit + 2**30:
            break
    return total


def _nifti_header(start: bytes, where: str) -> NiftiHeader:
    sizes = {order: struct.unpack_from(order + "i", start)[0] if len(start) >= 4 else 0 for order in "<>"}
    if 540 in sizes.values():
        raise InputError(f"{where}: is a NIfTI-2 file; convert it to NIfTI-1 (.nii.gz)")
    if 348 not in sizes.values():
        raise InputError(f"{where}: not a NIfTI file; its header is missing or damaged")
    if len(start) < 348:
        raise InputError(f"{where}: truncated inside its header; copy or export it again")
    if start[344:348] != b"n+1\0":
        raise InputError(f"{where}: an Analyze or two-file NIfTI image, whose orientation is ambiguous; "
                         "convert it to a single .nii.gz")
    order = "<" if sizes["<"] == 348 else ">"
    dims = struct.unpack_from(order + "8h", start, 40)
    bits, = struct.unpack_from(order + "h", start, 72)
    pixdim = struct.unpack_from(order + "8f", start, 76)
    offset, slope, inter = struct.unpack_from(order + "3f", start, 108)
    units = start[123]
    codes = struct.unpack_from(order + "2h", start, 252)
    form = struct.unpack_from(order + "18f", start, 256)
    if not 1 <= dims[0] <= 7 or min(dims[1:dims[0] + 1]) < 1 or bits <= 0 or not math.isfinite(offset):
        raise InputError(f"{where}: the NIfTI header is damaged (dimensions {list(dims)})")
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise InputError(f"{where}: the NIfTI header has a slope or intercept that is not a number")
    if units & 7 not in (0, 2):
        raise InputError(f"{where}: the NIfTI header says that lengths are not in millimetres; convert it first")
    shape = tuple(int(n) for n in dims[1:dims[0] + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    check_shape(shape[::-1], where)
    end = int(offset) + math.prod(shape) * bits // 8
    if end > MAX_IMAGE_BYTES:
        raise InputError(f"{where}: the header asks for {end / 2**30:.0f} GiB of voxels; it is damaged")
    return NiftiHeader(shape, _nifti_matrix(codes, pixdim, form, shape, where), end)


def _nifti_matrix(codes, pixdim, form, shape, where: str) -> np.ndarray:
    """sform or qform; both must agree where both are set."""
    found = []
    if codes[1] > 0:
        found.append(np.vstack([np.reshape(form[6:18], (3, 4)), [0, 0, 0, 1]]).astype(float))
    if codes[0] > 0:
        found.append(_qform(pixdim, form))
    if not found:
        raise InputError(f"{where}: neither sform nor qform is set, so its place and left-right side are unknown; "
                         "export it again with an orientation")
    for matrix in found:
        check_matrix(matrix, shape[::-1], where)
    if len(found) == 2:
        upper = np.array(shape) - 1.0
        corners = np.array([[a, b, c, 1.0] for a in (0, upper[0]) for b in (0, upper[1]) for c in (0, upper[2])])
        apart = np.abs((found[0] - found[1]) @ corners.T).max()
        if apart > FORMS_AGREE_MM:
            raise InputError(f"{where}: sform and qform disagree by up to {apart:.1f} mm; "
                             "decide which is right and write it to both")
    return found[0]


def _qform(pixdim, form) -> np.ndarray:
    b, c, d, x, y, z = (float(v) for v in form[:6])
    a = math.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
    scale = np.array(pixdim[1:4], float) * [1, 1, -1 if pixdim[0] < 0 else 1]
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c]]) * scale
    matrix[:3, 3] = x, y, z
    return matrix


def read_nrrd_header(path: Path) -> tuple[dict[str, str], int]:
    """Fields (lower case) and key:=value pairs of a NRRD file, and where its data starts. Raises InputError."""
    with path.open("rb") as file:
        start = file.read(2**20)
    if not start.startswith(b"NRRD"):
        raise InputError(f"{path}: not a NRRD file; its header is missing or damaged")
    ends = [(start.find(mark), len(mark)) for mark in (b"\n\n", b"\r\n\r\n") if mark in start]
    if not ends and path.suffix.lower() != ".nhdr":
        raise InputError(f"{path}: truncated inside its header; copy or export it again")
    end, width = min(ends) if ends else (len(start), 0)
    fields: dict[str, str] = {}
    for line in start[:end].decode("utf-8", "replace").splitlines()[1:]:
        if line.startswith("#"):
            continue
        key, mark, value = line.partition(":=")
        if not mark:
            key, _, value = line.partition(":")
            key = key.strip().lower()
        fields[key.strip()] = value.strip()
    return fields, end + width


def check_nrrd(path: Path) -> dict[str, str]:
    """Read a NRRD header and every byte of its data. Raises InputError: truncated, damaged, no orientation."""
    fields, start = read_nrrd_header(path)
    kind = fields.get("type", "").lower()
    bytes_each = _NRRD_BYTES.get(_NRRD_SAME.get(kind, kind), 0)
    try:
        sizes = [int(n) for n in fields["sizes"].split()]
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: the NRRD header is damaged (no sizes)") from error
    if not bytes_each or not sizes or min(sizes) < 1:
        raise InputError(f"{path}: the NRRD header is damaged or of a type that is no image ({kind!r}, sizes {sizes})")
    if len(sizes) < 3:
        raise InputError(f"{path}: is a {len(sizes)}D image; a single 3D volume is needed")
    if fields.get("space", "").lower() not in _NRRD_SPACES:
        raise InputError(f"{path}: the NRRD header gives no patient space (left-posterior-superior...), so its "
                         "orientation is unknown; export it again from the program that made it")
    if "space directions" not in fields or "space origin" not in fields:
        raise InputError(f"{path}: the NRRD header lacks space directions or space origin, so its place is unknown")
    expected = math.prod(sizes) * bytes_each
    name = fields.get("data file", fields.get("datafile"))
    if name is None:
        _check_payload(path, start, expected, fields.get("encoding", "").lower() in ("gzip", "gz"),
                       fields.get("encoding", "").lower() == "raw", path)
    elif name.upper() != "LIST" and "%" not in name:
        data = path.parent / name
        if not data.is_file():
            raise InputError(f"{path}: its data file {name} is missing; keep both files together")
        _check_payload(data, 0, expected, fields.get("encoding", "").lower() in ("gzip", "gz"),
                       fields.get("encoding", "").lower() == "raw", path)
    return fields


def check_meta(path: Path) -> dict[str, str]:
    """Read a MetaImage header and every byte of its data. Raises InputError: truncated, damaged, no spacing."""
    with path.open("rb") as file:
        head = file.read(2**16)
    fields: dict[str, str] = {}
    start = 0
    for line in head.split(b"\n"):
        start += len(line) + 1
        key, mark, value = line.decode("latin-1").partition("=")
        if not mark:
            break
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            break
    if "ElementDataFile" not in fields:
        raise InputError(f"{path}: not a MetaImage file, or truncated inside its header")
    kind = fields.get("ElementType", "").removeprefix("MET_").removesuffix("_ARRAY")
    try:
        sizes = [int(n) for n in fields["DimSize"].split()]
        channels = int(fields.get("ElementNumberOfChannels", "1"))
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: the MetaImage header is damaged (no size)") from error
    if kind not in _MET_BYTES or not sizes or min(sizes) < 1:
        raise InputError(f"{path}: the MetaImage header is damaged (type {kind!r}, size {sizes})")
    if not {"ElementSpacing", "ElementSize"} & set(fields):
        raise InputError(f"{path}: the MetaImage header gives no ElementSpacing, so its scale is unknown")
    name = fields["ElementDataFile"]
    packed = fields.get("CompressedData", "False").lower() == "true"
    expected = math.prod(sizes) * channels * _MET_BYTES[kind]
    if name.upper() == "LOCAL":
        _check_payload(path, start, expected, packed, not packed, path)
    elif name.upper() != "LIST" and "%" not in name:
        data = path.parent / name
        if not data.is_file():
            raise InputError(f"{path}: its data file {name} is missing; keep both files together")
        _check_payload(data, 0, expected, packed, not packed, path)
    return fields


def _check_payload(data: Path, start: int, expected: int, packed: bool, raw: bool, shown: Path) -> None:
    """Raise InputError unless `expected` bytes can be had from the file behind `start`."""
    if expected > MAX_IMAGE_BYTES:
        raise InputError(f"{shown}: the header asks for {expected / 2**30:.0f} GiB of voxels; it is damaged")
    if raw:
        length = data.stat().st_size - start
    elif packed:
        length = _inflated_length(data, start, expected, shown)
    else:
        return
    if length < expected:
        raise InputError(f"{shown}: truncated: {length} of {expected} bytes of voxels are there; "
                         "copy or export it again")


def _inflated_length(data: Path, start: int, expected: int, shown: Path) -> int:
    """Length of a gzip or zlib stream; zlib verifies its checksum at the end."""
    engine, length = zlib.decompressobj(wbits=47), 0
    with data.open("rb") as file:
        file.seek(start)
        try:
            while not engine.eof and length <= expected + _CHUNK:
                chunk = engine.unconsumed_tail or file.read(_CHUNK)
                if not chunk:
                    length += len(engine.flush())
                    break
                length += len(engine.decompress(chunk, _CHUNK))
        except zlib.error as error:
            raise _truncated(shown, error) from error
    if not engine.eof and length <= expected + _CHUNK:
        raise InputError(f"{shown}: truncated: its compressed data ends early; copy or export it again")
    return length
