"""NRRD sequences: PLUS's .igs.nrrd (frames last), Slicer's .seq.nrrd (frames first), plain .nrrd; gzip or raw.

Slicer keeps the time stamps in `axis N index values`, separated by blanks and URL-encoded; PLUS in its frame pairs.
A .seq.nrrd written here carries both, so that Slicer shows the frames and nothing of the tracking is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

import numpy as np

from ..geometry import InputError
from .headers import _NRRD_SAME
from .sequences_fields import MAX_LINE, FrameFields, frame_pairs
from .sequences_payload import GZIP, RAW, read_pixels, write_pixels

_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "longlong": "i8",
          "ulonglong": "u8", "float": "f4", "double": "f8"}
_NAMES = {np.dtype(code): name for name, code in _TYPES.items()}
_FIELDS = {"type", "dimension", "space", "space dimension", "sizes", "space directions", "space origin", "kinds",
           "endian", "encoding", "labels", "units", "spacings", "data file", "datafile", "line skip", "lineskip",
           "byte skip", "byteskip", "measurement frame", "thicknesses", "centers", "centerings", "space units"}
_LIST, _COLOR = {"list", "time"}, {"vector", "rgb-color", "rgba-color", "3-color", "4-color", "2-vector", "3-vector"}
_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6}
_ALIASES = {"ultrasound image orientation": "UltrasoundImageOrientation", "ultrasound image type":
            "UltrasoundImageType"}


def read_nrrd(path: Path, *, mapped: bool) -> tuple[np.ndarray | None, int, FrameFields, dict[str, str]]:
    """(frames (n, h, w[, c]) or None, n, the frames' fields, the header's pairs). Raises InputError.

    Kinds tell the axes apart; without them the last of three axes is the frames'.
    """
    header, fields, start = _read_header(path)
    try:
        sizes = [int(text) for text in header["sizes"].split()]
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: the NRRD header is damaged (no sizes)") from error
    axes = _axes(header, sizes, path)
    count = sizes[axes["list"]]
    columns, rows = (sizes[axis] for axis in axes["domain"][:2])
    _slicer_times(header, axes["list"], count, fields)
    fields.check_count(count, pixels=columns > 0 and rows > 0)
    _note_spacing(header, axes["domain"], len(sizes))
    if columns == 0 and rows == 0:
        return None, count, fields, header
    kind = header.get("type", "").lower()
    code = _TYPES.get(_NRRD_SAME.get(kind, kind))
    if code is None or min(sizes) < 1:
        raise InputError(f"{path}: the NRRD header is damaged or of an unreadable type ({kind!r}, sizes {sizes})")
    encoding = {"raw": RAW, "gzip": GZIP, "gz": GZIP}.get(header.get("encoding", "").lower())
    skips = {header.get(key, "0") for key in ("line skip", "lineskip", "byte skip", "byteskip")}
    if encoding is None or skips != {"0"}:
        raise InputError(f"{path}: encoding {header.get('encoding')!r} (or its skips) can't be read; export it again "
                         "as raw or gzip")
    data, start = _data_file(path, header, start)
    dtype = np.dtype((">" if header.get("endian", "little").lower() == "big" else "<") + code)
    array = read_pixels(data, start, tuple(reversed(sizes)), dtype, encoding, shown=path, mapped=mapped)
    return _frame_first(array, axes), count, fields, header


def _read_header(path: Path) -> tuple[dict[str, str], FrameFields, int]:
    header: dict[str, str] = {}
    fields = FrameFields(path)
    with path.open("rb") as file:
        if not file.readline(64).startswith(b"NRRD"):
            raise InputError(f"{path}: not a NRRD file; its header is missing or damaged")
        while line := file.readline(MAX_LINE):
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if not text:
                return header, fields, file.tell()
            if text.startswith("#"):
                continue
            key, mark, value = text.partition(":=")
            if not mark or key.lower() in _FIELDS:
                key, mark, value = text.partition(":")
                key = key.lower()
            if not mark:
                break
            key, value = key.strip(), value.removeprefix("=").strip()
            if not fields.take(key, value):
                header[_ALIASES.get(key.lower(), key)] = value
        else:
            if {"data file", "datafile"} & set(header):
                return header, fields, file.tell()
    raise InputError(f"{path}: damaged or truncated inside its NRRD header; copy or export it again")


def _axes(header: dict[str, str], sizes: list[int], path: Path) -> dict:
    """Which axis (fastest first) is what: {"list": axis, "domain": [columns, rows, ...], "color": axis or None}."""
    kinds = header.get("kinds", "").lower().split()
    if len(kinds) != len(sizes):
        kinds = ["domain"] * (len(sizes) - 1) + ["list"]
    lists = [axis for axis, kind in enumerate(kinds) if kind in _LIST]
    colors = [axis for axis, kind in enumerate(kinds) if kind in _COLOR]
    if not lists and len(sizes) - len(colors) == 3:
        lists = [axis for axis in range(len(sizes)) if axis not in colors][-1:]
    domain = [axis for axis in range(len(sizes)) if axis not in lists + colors]
    if len(lists) != 1 or len(colors) > 1 or not 2 <= len(domain) <= 3 or any(sizes[axis] > 1 for axis in domain[2:]):
        raise InputError(f"{path}: its axes are {header.get('kinds', 'without kinds')!r} of sizes {sizes}; a sequence "
                         "of 2D frames (kinds like 'domain domain list') is needed")
    return {"list": lists[0], "domain": domain, "color": colors[0] if colors else None}


def _frame_first(array: np.ndarray, axes: dict) -> np.ndarray:
    """(n, h, w[, c]) from an array whose axes are those of the file in reverse order."""
    last = array.ndim - 1
    columns, rows, *flat = axes["domain"]
    order = [axes["list"], rows, columns, *flat, *([] if axes["color"] is None else [axes["color"]])]
    turned = array.transpose([last - axis for axis in order])
    turned = turned[:, :, :, 0] if flat else turned
    if axes["color"] is not None and turned.shape[-1] == 1:
        turned = turned[..., 0]
    return turned if isinstance(turned, np.memmap) else np.ascontiguousarray(turned)


def _slicer_times(header: dict[str, str], axis: int, count: int, fields: FrameFields) -> None:
    """Index values of Slicer become the frames' time stamps where PLUS's are missing."""
    texts = header.get(f"axis {axis} index values", "").split()
    if len(texts) != count or any("Timestamp" in frame for frame in fields.frames.values()):
        return
    unit, label = (header.get(key, "").replace('"', " ").strip().lower() for key in ("units", "labels"))
    scale = 1.0 if unit == "" and label == "time" else _SECONDS.get(unit)
    if header.get(f"axis {axis} index type", "numeric") != "numeric" or scale is None:
        return
    for number, text in enumerate(texts):
        text = unquote(text)
        with suppress(ValueError):  # times_of() names the frame whose value is no number
            text = text if scale == 1.0 else repr(float(text) * scale)
        fields.take(f"Seq_Frame{number:04d}_Timestamp", text)


def _note_spacing(header: dict[str, str], domain: list[int], count: int) -> None:
    """Give the header an `ElementSpacing` from the space directions or spacings, as MetaImage has it."""
    texts = header.get("space directions", "").replace("none", "()").split(")")[:count]
    try:
        if len(texts) == count:
            rows = [[float(number) for number in text.replace("(", " ").split(",") if number.strip()]
                    for text in texts]
            lengths = [float(np.linalg.norm(rows[axis])) if rows[axis] else 0.0 for axis in domain[:2]]
        else:
            numbers = [float(number) for number in header["spacings"].split()]
            lengths = [numbers[axis] for axis in domain[:2]]
    except (KeyError, ValueError, IndexError):
        return
    if all(np.isfinite(length) and length > 0 for length in lengths):
        header["ElementSpacing"] = f"{lengths[0]!r} {lengths[1]!r} 1"


def _data_file(path: Path, header: dict[str, str], start: int) -> tuple[Path, int]:
    name = header.get("data file", header.get("datafile"))
    if name is None:
        return path, start
    if not name or Path(name).name != name or name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"{path}: its pixels lie in {name!r}; a single file beside it is needed")
    data = path.parent / name
    if not data.is_file():
        raise InputError(f"{path}: its data file {name} is missing; keep both files together")
    return data, 0


def write_nrrd(sequence: Any, file: BinaryIO, *, compress: bool, slicer: bool) -> None:
    """A whole NRRD sequence into `file`; `slicer`: with the axes and index values that Slicer's Sequences reads."""
    frames = sequence.frames
    if slicer and frames is None:
        raise InputError("a .seq.nrrd holds images; write a tracker-only sequence as .igs.mha or .igs.nrrd")
    packed = compress and frames is not None
    file.write(b"NRRD0005\n")
    for key, value in (_slicer_head if slicer else _plus_head)(sequence, packed).items():
        file.write(f"{key}: {value}\n".encode())
    for key, value in _pairs(sequence, slicer):
        if "\n" in key + value or "\r" in key + value or ":" in key:
            raise InputError(f"the field {key!r} can't be written: it holds a line break or a colon")
        file.write(f"{key}:={value}\n".encode())
    file.write(b"\n")
    if frames is not None:
        write_pixels(file, np.moveaxis(frames, 0, -1) if slicer else frames, GZIP if packed else RAW)


def _plus_head(sequence: Any, packed: bool) -> dict[str, str]:
    frames = sequence.frames
    rows, columns = (0, 0) if frames is None else frames.shape[1:3]
    channels = [frames.shape[3]] if frames is not None and frames.ndim == 4 else []
    x, y = (repr(float(value)) for value in sequence.spacing)
    return {"type": _type_name(frames), "dimension": str(3 + len(channels)), "space dimension": "2",
            "sizes": " ".join(map(str, [*channels, columns, rows, len(sequence)])),
            "space directions": " ".join([*["none"] * len(channels), f"({x},0)", f"(0,{y})", "none"]),
            "space origin": "(0,0)", "kinds": " ".join([*["vector"] * len(channels), "domain", "domain", "list"]),
            "endian": "little", "encoding": "gzip" if packed else "raw"}


def _slicer_head(sequence: Any, packed: bool) -> dict[str, str]:
    frames = sequence.frames
    channels = [frames.shape[3]] if frames.ndim == 4 else []
    x, y = (repr(float(value)) for value in sequence.spacing)
    others = 3 + len(channels)
    return {"type": _type_name(frames), "dimension": str(1 + others), "space": "right-anterior-superior",
            "sizes": " ".join(map(str, [len(sequence), *channels, frames.shape[2], frames.shape[1], 1])),
            "space directions": " ".join(["none"] * (1 + len(channels)) + [f"({x},0,0)", f"(0,{y},0)", "(0,0,1)"]),
            "kinds": " ".join(["list", *["vector"] * len(channels), "domain", "domain", "domain"]),
            "labels": " ".join(['"time"'] + ['""'] * others), "units": " ".join(['"s"'] + ['""'] * others),
            "endian": "little", "encoding": "gzip" if packed else "raw", "space origin": "(0,0,0)"}


def _type_name(frames: np.ndarray | None) -> str:
    name = "uchar" if frames is None else _NAMES.get(frames.dtype.newbyteorder("="))
    if name is None:
        raise InputError("pixels of this type can't be written; convert them to uint8, int16 or float32")
    return name


def _pairs(sequence: Any, slicer: bool) -> Iterator[tuple[str, str]]:
    if slicer:
        color = sequence.frames.ndim == 4
        yield "DataNodeClassName", "vtkMRMLVectorVolumeNode" if color else "vtkMRMLScalarVolumeNode"
        yield "axis 0 index type", "numeric"
        yield "axis 0 index values", " ".join(quote(repr(float(time))) for time in sequence.time_s)
    names: dict[str, str] = {ours: theirs for theirs, ours in _ALIASES.items()}
    yield names["UltrasoundImageOrientation"], sequence.orientation
    for key, value in sequence.header.items():
        if not key.lower().startswith(("axis ", "datanodeclassname")):
            yield str(names.get(key, key)), value
    yield from frame_pairs(sequence, "Status")
