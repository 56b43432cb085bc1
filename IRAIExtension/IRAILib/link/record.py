"""Records what a server sends as a sequence file: images with the poses of their time, lost tools as lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError
from ..images.sequences import TrackedSequence, write_sequence
from .client import LinkClient
from .messages import Image, Position, QTData, TData, Transform, pose_from_quaternion
from .options import LinkState
from .record_pairing import MISSING, OK, pair
from .record_spool import Spool
from .replay_frames import checked_matrix, split_name

log = logging.getLogger("IRAI.link")

RECORDED = frozenset({"IMAGE", "TRANSFORM", "TDATA", "QTDATA", "POSITION", "QTRANS"})
LOOK_S = 0.1
NOT_ENDS = ("Transform", "TransformStatus")  # a pose comes as a pose
NOT_FIELDS = {"TransformStatus", "TransformValid", "Timestamp", "IGTL_DEVICE_NAME"}


def record_options() -> dict[str, Any]:
    """Options of the LinkClient that a Recorder listens to: every message counts, none gives way to a newer one."""
    return {"fifo_types": RECORDED, "fifo_length": 16384, "fifo_bytes": 512 << 20, "keep_queued": True}


@dataclass
class Recording:
    """What became of a recording. `skipped`: images of another size or device, by reason; `losses`: of the peer."""

    path: str
    frames: int
    duration_s: float
    size: list[int] | None
    tools: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    losses: int = 0
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Recorder:
    """Takes every IMAGE and pose that a client receives; `stop` writes them as one file, whole or not at all.

    Pixels and poses lie on disk meanwhile (a hidden folder beside the file); memory holds time stamps and texts.
    Without images each time stamp of a pose becomes a frame of a tracker-only sequence. When the peer is lost,
    what was received stays, and recording goes on if it comes back.

    Args:
        client: made with `record_options()`. The recorder fetches its messages; nobody else may `drain` it.
            None: the caller hands over messages with `take`.
        path: .igs.mha, .igs.mhd, .igs.nrrd or .seq.nrrd.
        max_gap_s: poses further apart than this are not interpolated.
        max_bytes: recording ends by itself when the pixels reach it; None: no limit.
        listen: also called with the messages taken (a live display).

    Raises: InputError: a place that can't be written, a suffix that is no sequence's.
    """

    def __init__(self, client: LinkClient | None, path: str | Path, *, max_gap_s: float = 0.2,
                 max_bytes: int | None = None, compress: bool = True, listen: Any = None) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in (".mha", ".mhd", ".nrrd"):
            raise InputError(f"{path}: can't be recorded to; use .igs.mha, .igs.mhd, .igs.nrrd or .seq.nrrd")
        self.client, self.max_gap_s, self.max_bytes, self.compress = client, max_gap_s, max_bytes, compress
        self._listen = listen
        self._spool = Spool(self.path)
        self._device = ""
        self._names: dict[str, str] = {}  # in the file, by device
        self._pixel_bytes = 0
        self._spacing = (1.0, 1.0)
        self._lock = threading.Lock()
        self._leaving, self._full = threading.Event(), threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.skipped: dict[str, int] = {}
        self.losses = 0
        self.note = ""
        self._done: Recording | None = None

    # ------------------------------------------------------------------------------------------- the caller's side
    def start(self) -> Recorder:
        """Begin to fetch; returns itself. What the client has and nobody fetched yet is recorded too."""
        if self.client is not None and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="IRAI recorder", daemon=True)
            self._thread.start()
        return self

    @property
    def frames(self) -> int:
        """Images so far."""
        return len(self._spool.time_s)

    @property
    def poses(self) -> int:
        """Poses so far, of all tools."""
        return sum(len(pose.time_s) for pose in list(self._spool.poses.values()))

    @property
    def ended(self) -> bool:
        """It ended by itself: `max_bytes`, or the disk is full (see `note`)."""
        return self._full.is_set()

    def take(self, messages: Iterable[Any]) -> None:
        """Record these messages; others than images and poses are ignored. Any thread."""
        with self._lock:
            for message in messages:
                if self._closed or self._full.is_set():
                    return
                try:
                    self._take_one(message)
                except OSError as error:
                    self.note = f"the disk took no more ({error.strerror or error}); recording ended there"
                    log.error("OpenIGTLink: %s: %s", self.path, self.note)
                    self._full.set()

    def cancel(self) -> None:
        """Forget it; nothing is written, nothing is left."""
        self._end()
        self._spool.remove()

    def stop(self, path: str | Path | None = None) -> Recording:
        """Write the file (to another `path` if one is given); after it nothing temporary is left.

        Raises InputError: nothing was received, or the place can't be written to. What was received is then still
        there: call it again with another path, or `cancel`.
        """
        if self._done is not None:
            return self._done
        self._end()
        self.path = self.path if path is None else Path(path)
        with self._lock:
            sequence = self._sequence()
            dropped = 0 if self.client is None else self.client.status().dropped
            write_sequence(self.path, sequence, compress=self.compress)
            said = sequence.to_dict()
            self._done = Recording(str(self.path), len(sequence), said["duration_s"], said["size"], said["tools"],
                                   dict(self.skipped), dropped, self.losses, self.note)
            del sequence  # the memory map of the pixels
            self._spool.remove()
        return self._done

    # ------------------------------------------------------------------------------------------- the thread
    def _end(self) -> None:
        self._leaving.set()
        if self._thread is not None:
            self._thread.join(5.0)
        with self._lock:
            self._closed = True

    def _run(self) -> None:
        assert self.client is not None
        looked_s = 0.0
        while True:
            leaving = self._leaving.is_set() or self._full.is_set()
            if not leaving:
                self.client.wait(LOOK_S)
            messages = self.client.drain()
            self.take(messages)
            if self._listen is not None and messages:
                self._listen(messages)
            if leaving or time.monotonic() - looked_s > LOOK_S / 2:
                looked_s = time.monotonic()
                self._look_for_losses(self.client)
            if leaving:
                return

    def _look_for_losses(self, client: LinkClient) -> None:
        status = client.status()
        losses = status.connects - (status.state is LinkState.CONNECTED)
        if losses > self.losses:
            late = client.drain()  # it came before the end, and the note counts it
            self.take(late)
            if self._listen is not None and late:
                self._listen(late)
            self.note = f"the peer was lost after {self.frames} images: {status.last_error or 'it closed the link'}"
            self.losses = losses

    def _take_one(self, message: Any) -> None:
        time_s = message.time_s or message.received_time_s
        if time_s is None:
            return
        if isinstance(message, Image):
            self._take_image(message, float(time_s))
        elif isinstance(message, Transform):
            status = message.metadata.get("TransformStatus", "")
            valid = message.metadata.get("TransformValid", "true").lower() not in ("false", "0")
            self._pose(message.device, message.matrix, status or (OK if valid else "INVALID"), float(time_s))
        elif isinstance(message, TData):
            for tool in message.tools:
                self._pose(_of_tracker(tool.name), tool.matrix, OK, float(time_s))
        elif isinstance(message, QTData):
            for tool in message.tools:
                self._pose(_of_tracker(tool.name), pose_from_quaternion(tool.position, tool.quaternion), OK,
                           float(time_s))
        elif isinstance(message, Position):
            self._pose(_of_tracker(message.device), pose_from_quaternion(message.position, message.quaternion), OK,
                       float(time_s))

    def _pose(self, device: str, matrix: np.ndarray, status: str, time_s: float) -> None:
        name = self._names.get(device) or self._new_name(device)
        matrix, status = np.asarray(matrix, dtype=np.float64), " ".join(status.split()) or "UNKNOWN"
        try:
            checked_matrix(matrix, name)
        except InputError:  # nobody may take it for a pose, whatever its sender says
            status = "INVALID" if status == OK else status
            matrix = matrix if np.isfinite(matrix).all() else np.eye(4)
        if self._spool.add_pose(name, matrix, status, time_s):
            self._names[device] = name
        else:
            self._skip("poses of too many tools")

    def _new_name(self, device: str) -> str:
        """A name that a field of the file can have; two devices never share one."""
        plain = "".join(letter for letter in device if letter.isalnum() or letter == "_") or "Tool"
        taken = set(self._names.values())
        return next(name for name in (plain, *(f"{plain}_{number}" for number in range(2, len(taken) + 3)))
                    if name not in taken)

    def _take_image(self, message: Image, time_s: float) -> None:
        base, _, frame = message.device.partition("_")
        self._device = self._device or base
        if base != self._device:
            return self._skip(f"images of {base}, another device than {self._device}")
        if len(message.array) != 1 or not message.is_whole:
            return self._skip("images of several slices, or parts of images")
        picture = message.array[0]
        if not self._spool.fits(picture):
            return self._skip("images of another size or type than the first")
        if self.max_bytes is not None and self._pixel_bytes + picture.nbytes > self.max_bytes:
            self.note = f"ended at the limit of {self.max_bytes} bytes"
            self._full.set()
            return None
        fields = {key: " ".join(value.split()) for key, value in message.metadata.items()
                  if key not in NOT_FIELDS and key.isidentifier() and not key.endswith(NOT_ENDS)}
        if "Timestamp" in message.metadata:
            fields["OriginalTimestamp"] = " ".join(message.metadata["Timestamp"].split())
        fields.setdefault("ImageStatus", OK)
        self._spool.add_frame(picture, time_s, fields)
        self._pixel_bytes += picture.nbytes
        matrix = np.asarray(message.ras_from_ijk)
        sizes = np.linalg.norm(matrix[:3, :3], axis=0)
        if frame:
            self._pose(f"ImageTo{frame}", matrix, message.metadata.get("TransformStatus", OK), time_s)
        elif not np.allclose(matrix, np.diag([*sizes, 1.0]), atol=1e-4):  # a place, in a frame that isn't named
            self._pose("ImageToRAS", matrix, OK, time_s)
        elif sizes.min() > 0:
            self._spacing = (float(sizes[0]), float(sizes[1]))
        return None

    def _skip(self, why: str) -> None:
        self.skipped[why] = self.skipped.get(why, 0) + 1

    # ------------------------------------------------------------------------------------------- the file
    def _sequence(self) -> TrackedSequence:
        poses = {name: pose.read() for name, pose in self._spool.poses.items()}
        frames = self._spool.frames()
        fields = self._spool.fields
        if frames is not None:
            times = np.array(self._spool.time_s)
        else:
            stamps = np.unique(np.concatenate([times for times, _, _ in poses.values()])) if poses else np.zeros(0)
            times = stamps[np.concatenate([[True], np.diff(stamps) > 1e-6])] if len(stamps) else stamps
            fields = [{"ImageStatus": "INVALID"}] * len(times)
        backwards = int((np.diff(times) < 0).sum())
        if backwards:
            self.note = "; ".join(filter(None, (self.note, f"the sender's time stamps run backwards in {backwards} "
                                                "place(s): its clock was set, or some messages carry no time")))
        if not len(times):
            why = f" ({self.client.status().last_error})" if self.client and self.client.status().last_error else ""
            raise InputError(f"{self.path}: nothing was recorded: no image and no pose arrived{why}")
        transforms, status = {}, {}
        for name, (pose_times, matrices, words) in poses.items():
            found, said = pair(times, pose_times, matrices, words, max_gap_s=self.max_gap_s)
            if frames is not None or any(word != MISSING for word in said):
                transforms[name], status[name] = found, said
        began = datetime.fromtimestamp(float(times[0]), UTC).isoformat() if 0 < times[0] < 2**33 else "unknown"
        return TrackedSequence(frames, times - times[0], transforms, status, "XX" if frames is None else "MFA", fields,
                               {"UltrasoundImageType": "XX" if frames is None else "BRIGHTNESS",
                                "RecordingStartTime": began}, self._spacing)


def _of_tracker(tool: str) -> str:
    """PLUS's name of a tool's pose: "Probe" and "ProbeToTracker" are both "ProbeToTracker"."""
    return tool if split_name(tool) else f"{tool}ToTracker"
