"""What PLUS writes beside the pixels: `Seq_FrameNNNN_...` pairs, in and out.

Source: the IGSIO sequence files of PLUS (MetaImage and NRRD hold the same pairs under the same names).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError

MISSING, OK = "MISSING", "OK"
MAX_TOOLS = 256
MAX_FRAMES = 10_000_000
MAX_LINE = 2**20
_FRAME_KEY = re.compile(r"Seq_Frame(\d{1,9})_(.+)")
_TRANSFORM, _STATUS = "Transform", "TransformStatus"


class FrameFields:
    """The pairs of every frame as they stand in the file, before anything is believed."""

    def __init__(self, shown: Path) -> None:
        self.shown = shown
        self.frames: dict[int, dict[str, str]] = {}

    def take(self, key: str, value: str) -> bool:
        """Keep the pair if it belongs to a frame."""
        match = _FRAME_KEY.fullmatch(key)
        if match is None:
            return False
        name = "ImageStatus" if match[2] == "Status" else match[2]
        self.frames.setdefault(int(match[1]), {})[name] = value
        return True

    def check_count(self, count: int, *, pixels: bool) -> None:
        """Raises InputError unless the frames fit a file of `count` frames."""
        where = f"{self.shown}: the header announces {count} frames"
        if not 1 <= count <= MAX_FRAMES:
            raise InputError(f"{where}; a sequence of 1 to {MAX_FRAMES} is needed")
        if self.frames and max(self.frames) >= count:
            raise InputError(f"{where}, but fields of frame {max(self.frames)} follow; it is damaged, export it again")
        if not pixels and len(self.frames) != count:
            raise InputError(f"{where} and no pixels, but only {len(self.frames)} of them have fields (time stamps, "
                             "transforms); it is damaged, export it again")


def times_of(raw: FrameFields, count: int) -> np.ndarray | None:
    """Time stamps (count,) in seconds; None when no frame has one. Takes them out of `raw`."""
    texts = [raw.frames.get(number, {}).pop("Timestamp", None) for number in range(count)]
    if all(text is None for text in texts):
        return None
    times = np.empty(count)
    for number, text in enumerate(texts):
        if text is None:
            raise InputError(f"{raw.shown}: frame {number} has no Timestamp, though others have; it is damaged, "
                             "export it again")
        times[number] = _numbers(text, 1, f"{raw.shown}: Timestamp of frame {number}")[0]
    if not np.isfinite(times).all():
        raise InputError(f"{raw.shown}: the Timestamp of frame {int(np.argmin(np.isfinite(times)))} is not finite")
    return times


def transforms_of(raw: FrameFields, count: int) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """({name: (count, 4, 4)}, {name: [status]}): "ProbeToTracker" from `ProbeToTrackerTransform`. Taken out of `raw`.

    A frame without the transform is MISSING and gets the identity; so is a matrix that is not finite while its
    status says that it doesn't hold. A transform without a status (older files) is OK.
    Raises InputError: not 16 numbers, or a matrix that is no transform though its status is OK.
    """
    transforms: dict[str, np.ndarray] = {}
    status: dict[str, list[str]] = {}
    for number in sorted(raw.frames):
        fields = raw.frames[number]
        for key in [key for key in fields if key.endswith((_TRANSFORM, _STATUS))]:
            name = key.removesuffix("Status").removesuffix(_TRANSFORM)
            if name in transforms or not name:
                continue
            if len(transforms) == MAX_TOOLS:
                raise InputError(f"{raw.shown}: names more than {MAX_TOOLS} transforms; it is damaged")
            transforms[name] = np.tile(np.eye(4), (count, 1, 1))
            status[name] = [MISSING] * count
        for name in transforms:
            text, said = fields.pop(name + _TRANSFORM, None), fields.pop(name + _STATUS, None)
            if text is None:
                status[name][number] = said if said and said != OK else MISSING
                continue
            where = f"{raw.shown}: {name}{_TRANSFORM} of frame {number}"
            matrix = _numbers(text, 16, where).reshape(4, 4)
            status[name][number] = said or OK
            if status[name][number] == OK:
                check_transform(matrix, where)
            if np.isfinite(matrix).all():
                transforms[name][number] = matrix
    return transforms, status


def check_transform(matrix: np.ndarray, where: str) -> None:
    """Raises InputError unless a (4, 4) is finite, affine and invertible."""
    if not np.isfinite(matrix).all():
        raise InputError(f"{where} is not finite; its status must not be OK")
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise InputError(f"{where} is no transform: its last row isn't 0 0 0 1")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if lengths.min() == 0 or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-6:
        raise InputError(f"{where} is singular; its status must not be OK")


def matrix_from_text(text: str, where: str) -> np.ndarray:
    """(4, 4) from 16 numbers, row by row. Raises InputError: not 16 numbers, or no transform."""
    matrix = _numbers(text, 16, where).reshape(4, 4)
    check_transform(matrix, where)
    return matrix


def _numbers(text: str, count: int, where: str) -> np.ndarray:
    try:
        values = np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{where} isn't made of numbers: {text[:60]!r}") from error
    if values.size != count:
        raise InputError(f"{where} has {values.size} instead of {count} numbers")
    return values


def frame_pairs(sequence: Any, image_status: str = "ImageStatus") -> Iterator[tuple[str, str]]:
    """(key, value) of every frame in PLUS's order; numbers in the fewest digits that give the same float64."""
    for number in range(len(sequence)):
        prefix = f"Seq_Frame{number:04d}_"
        own = dict(sequence.fields[number]) if sequence.fields else {}
        status = own.pop("ImageStatus", OK if sequence.frames is not None else "INVALID")
        for name in sorted(sequence.transforms):
            matrix = sequence.transforms[name][number]
            yield f"{prefix}{name}{_TRANSFORM}", " ".join(repr(float(value)) for value in matrix.reshape(-1))
            yield f"{prefix}{name}{_STATUS}", sequence.status[name][number]
        if sequence.timed:
            yield f"{prefix}Timestamp", repr(float(sequence.time_s[number]))
        for key, value in own.items():
            yield prefix + key, value
        yield prefix + image_status, status
