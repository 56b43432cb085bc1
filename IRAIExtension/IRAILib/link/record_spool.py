"""What a recording has received so far, on disk: pixels and poses are appended, memory holds only their times."""

from __future__ import annotations

import shutil
import struct
import uuid
from array import array
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..geometry import InputError

_POSE = struct.Struct("<16d")
BATCH = 64 * _POSE.size
MAX_TOOLS = 256
MAX_WORDS = 4096  # different status words of a whole recording


class Spool:
    """Temporary files beside the recording to come; removed by `remove`.

    Raises InputError when the place can't be written to.
    """

    def __init__(self, target: Path) -> None:
        self.folder = target.with_name(f".recording-{uuid.uuid4().hex[:8]}-{target.name}")
        self.time_s = array("d")
        self.fields: list[dict[str, str]] = []
        self.shape: tuple[int, ...] | None = None
        self.dtype: np.dtype | None = None
        self.poses: dict[str, PoseSpool] = {}
        self._made = [folder for folder in self.folder.parents if not folder.exists()]
        try:
            self.folder.mkdir(parents=True)
            self._pixels = (self.folder / "pixels").open("wb", buffering=0)
        except OSError as error:
            self.remove()
            raise InputError(f"{target}: can't be recorded to ({error.strerror or error}); choose another "
                             "place") from error

    def fits(self, frame: np.ndarray) -> bool:
        """Whether a frame (h, w[, c]) has the size and type of those before; the first one sets them."""
        plain = frame.dtype.newbyteorder("=")
        if self.shape is None:
            self.shape, self.dtype = frame.shape, plain
        return (self.shape, self.dtype) == (frame.shape, plain)

    def add_frame(self, frame: np.ndarray, time_s: float, fields: dict[str, str]) -> None:
        """Append a frame that fits. Raises OSError (the disk is full): then the frame isn't there."""
        assert self.dtype is not None
        place, left = self._pixels.tell(), np.ascontiguousarray(frame, self.dtype).data.cast("B")
        try:
            while len(left):
                left = left[self._pixels.write(left):]
        except OSError:
            self._pixels.seek(place)
            raise
        self.time_s.append(time_s)
        self.fields.append(fields)

    def add_pose(self, name: str, matrix: np.ndarray, status: str, time_s: float) -> bool:
        """Append a pose; False when there are too many names already."""
        pose = self.poses.get(name)
        if pose is None:
            if len(self.poses) >= MAX_TOOLS:
                return False
            pose = self.poses[name] = PoseSpool(self.folder / f"poses{len(self.poses)}")
        pose.add(matrix, status, time_s)
        return True

    def frames(self) -> np.ndarray | None:
        """All frames, as a read-only memory map; None without any."""
        if self.shape is None or self.dtype is None or not self.time_s:
            return None
        return np.memmap(self.folder / "pixels", self.dtype, "r", shape=(len(self.time_s), *self.shape))

    def remove(self) -> None:
        """Close and delete the temporary files."""
        for file in [getattr(self, "_pixels", None), *(pose.file for pose in self.poses.values())]:
            if file is not None:
                with suppress(OSError):
                    file.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in self._made:  # those that a recording lies in now are not empty and stay
            with suppress(OSError):
                folder.rmdir()


class PoseSpool:
    """The poses of one tool in the order of receipt; matrices on disk, the newest few in memory.

    Those are written by hand: on a full disk a buffered file loses what it holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("wb", buffering=0)
        self._unwritten = bytearray()
        self.time_s = array("d")
        self._words = array("H")
        self._known: dict[str, int] = {}

    def add(self, matrix: np.ndarray, status: str, time_s: float) -> None:
        if status not in self._known and len(self._known) >= MAX_WORDS:
            status = "UNKNOWN"
        self._unwritten += _POSE.pack(*np.asarray(matrix, dtype=np.float64).reshape(-1))
        self.time_s.append(time_s)
        self._words.append(self._known.setdefault(status, len(self._known)))
        if len(self._unwritten) >= BATCH:
            del self._unwritten[:self.file.write(self._unwritten)]

    def read(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """((n,) times, (n, 4, 4) matrices, statuses), sorted by time."""
        octets = self.path.read_bytes() + bytes(self._unwritten)
        matrices = np.frombuffer(octets, np.float64).reshape(-1, 4, 4)
        times = np.array(self.time_s)
        order = np.argsort(times, kind="stable")
        words = list(self._known)
        return times[order], matrices[order], [words[self._words[place]] for place in order]
