"""What the headers of NRRD and MetaImage files say, and whether all their voxels are there.

ITK takes .nrrd and .mha whose compressed part is damaged without an error; so every byte is checked here
first (gzip's CRC, zlib's Adler sum, the length).
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

from ..geometry import InputError

MAX_IMAGE_BYTES = 16 * 2**30
CHUNK = 2**22
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


def damaged(path: Path, error: Exception) -> InputError:
    kind = "truncated" if isinstance(error, EOFError) or "incomplete" in str(error) else "damaged"
    return InputError(f"{path}: the compressed data is {kind} ({error}); copy or export it again")


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
            while not engine.eof and length <= expected + CHUNK:
                chunk = engine.unconsumed_tail or file.read(CHUNK)
                if not chunk:
                    length += len(engine.flush())
                    break
                length += len(engine.decompress(chunk, CHUNK))
        except zlib.error as error:
            raise damaged(shown, error) from error
    if not engine.eof and length <= expected + CHUNK:
        raise InputError(f"{shown}: truncated: its compressed data ends early; copy or export it again")
    return length
