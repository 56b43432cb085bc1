"""Recordings of tracked ultrasound: PLUS sequences, plain image sequences and Slicer's, in and out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError
from .atomic import replacing
from .sequences_fields import MISSING, OK, FrameFields, check_transform, matrix_from_text, times_of, transforms_of
from .sequences_meta import read_meta, write_meta
from .sequences_nrrd import read_nrrd, write_nrrd

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
_STRUCTURE = {"ObjectType", "NDims", "BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData",
              "CompressedDataSize", "DimSize", "Kinds", "ElementNumberOfChannels", "ElementSpacing", "ElementType",
              "UltrasoundImageOrientation", "ElementDataFile", "HeaderSize", "DataNodeClassName",
              # NRRD's own
              "type", "dimension", "space", "space dimension", "sizes", "space directions", "space origin", "kinds",
              "endian", "encoding", "labels", "units", "spacings", "data file", "datafile", "measurement frame",
              "thicknesses", "centers", "centerings", "space units", "line skip", "lineskip", "byte skip", "byteskip"}
_LETTERS = ("MU", "FN")


@dataclass
class TrackedSequence:
    """Frames with the transforms of the tools at their times.

    frames: (n, h, w) or (n, h, w, c), any pixel type; None for a tracker-only recording.
    time_s: (n,) seconds as recorded (PLUS: since its start); 0, 1, 2... when `timed` is False (plain files).
    transforms: {"ProbeToTracker": (n, 4, 4)}, `to_from`: maps points of the first named frame to the second, mm.
        Always finite, but only true where `status` says OK: a missing one holds the identity and is MISSING.
        Ask `pose()` or `valid()`; never use a matrix without its status.
    status: {"ProbeToTracker": n words}: OK, MISSING, OUT_OF_VIEW, INVALID, ... (PLUS's words).
    orientation: PLUS's letters: M or U (x grows to the marked or unmarked side), F or N (y grows away from or towards
        the transducer), then A or D; "XX" without images.
    fields: what else the frames carry (FrameNumber, UnfilteredTimestamp, ImageStatus, ...), one dict a frame.
    header: what else the file carries (UltrasoundImageType, ImageToProbeTransform, ...).
    spacing: (x, y) a pixel as the file has it; PLUS writes 1 1 for pixels, so it is mm only if it isn't (1, 1).
    """

    frames: np.ndarray | None
    time_s: np.ndarray
    transforms: dict[str, np.ndarray] = field(default_factory=dict)
    status: dict[str, list[str]] = field(default_factory=dict)
    orientation: str = "MFA"
    fields: list[dict[str, str]] = field(default_factory=list)
    header: dict[str, str] = field(default_factory=dict)
    spacing: tuple[float, float] = (1.0, 1.0)
    timed: bool = True

    def __len__(self) -> int:
        return len(self.time_s)

    def valid(self, name: str) -> np.ndarray:
        """(n,) bool: where the transform is OK. All False for a name that the recording hasn't."""
        return np.array([word == OK for word in self.status.get(name, [MISSING] * len(self))], dtype=bool)

    def pose(self, name: str, number: int) -> np.ndarray | None:
        """(4, 4) of a frame, or None unless its status is OK."""
        return self.transforms[name][number] if self.status.get(name, [MISSING] * len(self))[number] == OK else None

    def image_valid(self) -> np.ndarray:
        """(n,) bool: where the file doesn't say that the image is bad. All False without images."""
        said = [frame.get("ImageStatus", OK) for frame in self.fields] or [OK] * len(self)
        return np.array([self.frames is not None and word == OK for word in said], dtype=bool)

    def header_transform(self, name: str) -> np.ndarray | None:
        """(4, 4) of a transform that holds for the whole file ("ImageToProbe"), or None. Raises InputError."""
        text = self.header.get(f"{name}Transform")
        return None if text is None else matrix_from_text(text, f"{name}Transform of the header")

    def oriented(self, letters: str = "MF") -> TrackedSequence:
        """The same recording with its frames flipped to "MF", "MN", "UF" or "UN" (a view where it can be).

        PLUS's ImageTo... transforms hold for MF. Raises InputError for other letters.
        """
        letters = letters.upper()
        if self.frames is None or self.orientation[:2] == letters[:2]:
            return self
        for said in (self.orientation, letters):
            if len(said) < 2 or said[0] not in _LETTERS[0] or said[1] not in _LETTERS[1]:
                raise InputError(f"image orientation {said!r} can't be turned; MF, MN, UF or UN is needed")
        across, along = (a != b for a, b in zip(self.orientation[:2], letters[:2], strict=True))
        frames = self.frames[:, ::-1 if along else 1, ::-1 if across else 1]
        return TrackedSequence(frames, self.time_s, self.transforms, self.status, letters[:2] + self.orientation[2:],
                               self.fields, self.header, self.spacing, self.timed)

    def to_dict(self) -> dict[str, Any]:
        """A summary for JSON: sizes, duration, tools and in how many frames each was seen."""
        return {"frames": len(self), "size": None if self.frames is None else list(self.frames.shape[1:]),
                "type": None if self.frames is None else str(self.frames.dtype), "orientation": self.orientation,
                "timed": self.timed, "duration_s": float(np.ptp(self.time_s)) if self.timed and len(self) else None,
                "tools": {name: int(self.valid(name).sum()) for name in sorted(self.transforms)},
                "images_ok": int(self.image_valid().sum())}


def read_sequence(path: str | Path, *, mapped: bool = False) -> TrackedSequence:
    """A PLUS sequence (.igs.mha, .igs.mhd, .igs.nrrd), a plain .mha or .nrrd, or a Slicer .seq.nrrd of 2D frames.

    Values are kept as written, also matrices whose status isn't OK. `mapped` leaves uncompressed pixels on disk.
    Memory: the pixels once. Raises InputError with one line for everything that is wrong with the file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: is a folder; give one recording" if path.is_dir() else f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: not a sequence; one of {' '.join(SUFFIXES)} is needed")
    try:
        read = read_meta if suffix in (".mha", ".mhd") else read_nrrd
        frames, count, raw, header = read(path, mapped=mapped)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror or error})") from error
    return _build(path, frames, count, raw, header)


def _build(path: Path, frames, count: int, raw: FrameFields, header: dict[str, str]) -> TrackedSequence:
    times = times_of(raw, count)
    transforms, status = transforms_of(raw, count)
    fields = [raw.frames.get(number, {}) for number in range(count)]
    if times is None and frames is None:
        raise InputError(f"{path}: has neither pixels nor time stamps; nothing can be replayed or measured from it")
    try:
        x, y = (float(text) for text in header.get("ElementSpacing", "1 1").split()[:2])
    except ValueError as error:
        raise InputError(f"{path}: its ElementSpacing {header.get('ElementSpacing')!r} isn't two numbers") from error
    if not (np.isfinite([x, y]).all() and min(x, y) > 0):
        raise InputError(f"{path}: its ElementSpacing {header.get('ElementSpacing')!r} isn't positive")
    orientation = header.get("UltrasoundImageOrientation", "XX" if frames is None else "MFA").upper()
    kept = {key: value for key, value in header.items()
            if key not in _STRUCTURE and not key.lower().startswith("axis ")}
    return TrackedSequence(frames, np.arange(count, dtype=float) if times is None else times, transforms, status,
                           orientation, fields, kept, (x, y), times is not None)


def write_sequence(path: str | Path, sequence: TrackedSequence, *, compress: bool = True) -> None:
    """A sequence to .igs.mha/.mha, .igs.mhd (+ .raw or .zraw), .igs.nrrd/.nrrd or .seq.nrrd (Slicer), by the name.

    The file appears whole or not at all; reading it gives the same pixels, numbers and words. Frames may be a memory
    map: they are written one at a time. Raises InputError: a contradiction in the sequence, an unknown suffix, a
    place that can't be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".mha", ".mhd", ".nrrd"):
        raise InputError(f"{path}: can't be written as a sequence; use .igs.mha, .igs.mhd, .igs.nrrd or .seq.nrrd")
    _check(sequence, path)
    with replacing(path) as temporary:
        if suffix == ".mhd" and sequence.frames is not None:
            data = path.with_suffix(".zraw" if compress else ".raw")
            with replacing(data) as temporary_data, temporary.open("wb") as file, temporary_data.open("wb") as pixels:
                write_meta(sequence, file, compress=compress, data_name=data.name, data=pixels)
            return
        with temporary.open("wb") as file:
            if suffix == ".nrrd":
                write_nrrd(sequence, file, compress=compress, slicer=path.name.lower().endswith(".seq.nrrd"))
            else:
                write_meta(sequence, file, compress=compress)


def _check(sequence: TrackedSequence, path: Path) -> None:
    """Raises InputError if what would be written can't be read again."""
    count = len(sequence)
    frames = sequence.frames
    if count == 0 or not np.isfinite(sequence.time_s).all():
        raise InputError(f"{path}: nothing to write, or a time stamp that is not finite")
    if frames is None and not sequence.timed:
        raise InputError(f"{path}: a sequence without pixels needs time stamps")
    if frames is not None and (frames.ndim not in (3, 4) or len(frames) != count or frames.size == 0):
        raise InputError(f"{path}: {count} frames (n, height, width[, channels]) are needed, not {frames.shape}")
    if sequence.fields and len(sequence.fields) != count:
        raise InputError(f"{path}: fields of {len(sequence.fields)} frames for {count} frames")
    for name, matrices in sequence.transforms.items():
        words = sequence.status.get(name, [])
        if matrices.shape != (count, 4, 4) or len(words) != count:
            raise InputError(f"{path}: {name} needs {count} matrices and as many statuses")
        for number, word in enumerate(words):
            if word == OK:
                check_transform(matrices[number], f"{path}: {name} of frame {number}")
        if not np.isfinite(matrices).all():
            raise InputError(f"{path}: {name} holds numbers that are not finite; give missing poses the identity")
