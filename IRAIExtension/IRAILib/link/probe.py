"""Tracked tools as PLUS sends them: poses, compositions of frames, and lost tools that are shown as lost.

PLUS names a transform `ProbeToTracker`; over 20 characters the full name stands in the metadata, where
`Message.device` has it already. By default PLUS sends valid transforms only, so a lost tool is silence: whatever isn't
renewed within `LOST_S` is lost. A lost tool has no pose here, not even its last one.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from IRAILib.geometry import InputError, LinearTransform

from .messages import Image, Message, TData, Transform

LOST_S = 0.5
HISTORY_S = 5.0
HISTORY_LENGTH = 1000
MAX_GAP_S = 0.15
_TO = re.compile(r"To(?=[A-Z0-9_])")
_FRAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def frames_of(name: str) -> tuple[str, str]:
    """(from, to) of a PLUS transform name: `ProbeToTracker` is ("Probe", "Tracker").

    Raises InputError for a name that isn't one, or that can be read in two ways.
    """
    found = [(name[:m.start()], name[m.end():]) for m in _TO.finditer(name)]
    found = [(a, b) for a, b in found if _FRAME.fullmatch(a) and _FRAME.fullmatch(b) and a[0].isupper()]
    if len(found) != 1:
        problem = "can be read in several ways" if found else "isn't <From>To<To>"
        raise InputError(f"'{name[:60]}' {problem}; name transforms as PLUS does, for example ProbeToTracker")
    return found[0]


def image_frames(device: str) -> tuple[str, str]:
    """(image frame, frame of its matrix) of a PLUS image device: `Image_Reference` is ("Image", "Reference").

    Raises InputError for a device name without an embedded frame.
    """
    name, _, frame = device.rpartition("_")
    if not (name and frame):
        raise InputError(f"image device '{device[:60]}' names no frame; PLUS sends <Image>_<Frame>")
    return name, frame


def slerp(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """(4, 4) pose between two rigid poses: positions linear, rotations along the shortest arc; share 0 is `a`."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).as_rotvec()
    out = np.eye(4)
    out[:3, :3] = a[:3, :3] @ Rotation.from_rotvec(share * turn).as_matrix()
    out[:3, 3] = (1 - share) * a[:3, 3] + share * b[:3, 3]
    return out


@dataclass(frozen=True, eq=False)
class _Entry:
    time_s: float  # of acquisition
    matrix: np.ndarray | None  # None: the tracker said that the tool isn't seen


@dataclass(frozen=True)
class ToolState:
    """What a tool is worth now: `status` is OK, LOST (silence), or what the tracker said (MISSING, OUT_OF_VIEW ...)."""

    name: str
    status: str
    age_s: float | None

    @property
    def lost(self) -> bool:
        return self.status != "OK"

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "status": self.status, "lost": self.lost, "age_s": self.age_s}


class _Tool:
    """History of one transform; only new acquisition times count as news."""

    def __init__(self) -> None:
        self.entries: deque[_Entry] = deque(maxlen=HISTORY_LENGTH)
        self.renewed_s = -math.inf
        self.status = "LOST"

    def add(self, entry: _Entry, status: str, now: float) -> None:
        if self.entries and entry.time_s <= self.entries[-1].time_s:
            if self.entries[-1].time_s - entry.time_s < HISTORY_S:
                return  # said again, or late: not seen anew
            self.entries.clear()  # the tracker's clock was set back
        self.entries.append(entry)
        while self.entries[-1].time_s - self.entries[0].time_s > HISTORY_S:
            self.entries.popleft()
        self.status, self.renewed_s = status, now

    def at(self, time_s: float, max_gap_s: float) -> np.ndarray | None:
        """Pose at an acquisition time, between two neighbours not farther apart than `max_gap_s`; None otherwise."""
        after = next((i for i, e in enumerate(self.entries) if e.time_s >= time_s), None)
        if after is None:
            return None
        b = self.entries[after]
        if b.time_s == time_s:
            return b.matrix
        if after == 0:
            return None
        a = self.entries[after - 1]
        if a.matrix is None or b.matrix is None or b.time_s - a.time_s > max_gap_s:
            return None
        return slerp(a.matrix, b.matrix, (time_s - a.time_s) / (b.time_s - a.time_s))


class TrackedTools:
    """Every tool of one tracker, fed with messages; gives transforms between any two frames, or None.

    Args:
        fixed: calibrations that don't change, for example `probe_from_image`, as LinearTransforms.
        lost_s: silence after which a tool is lost; clock: the monotonic seconds of `Message.received_s`.
    """

    def __init__(self, fixed: list[LinearTransform] | None = None, *, lost_s: float = LOST_S,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._tools: dict[str, _Tool] = {}
        self._fixed = {f"{t.from_frame}To{t.to_frame}": t for t in fixed or []}
        self._lost_s, self._clock = lost_s, clock

    def update(self, message: Message) -> bool:
        """Take in a TRANSFORM or TDATA; other messages are ignored. True when a tool was renewed.

        Names that aren't <From>To<To> are kept out: they are no tools of PLUS.
        """
        if isinstance(message, Transform):
            return self._add(message.device, message.matrix, _status(message), message)
        if isinstance(message, TData):
            renewed = [self._add(tool.name, tool.matrix, "OK", message) for tool in message.tools]
            return any(renewed)
        return False

    def disconnect(self) -> None:
        """The connection is gone: every live tool is lost, and its past is forgotten."""
        self._tools.clear()

    def tools(self) -> list[ToolState]:
        """State of every tool that was ever heard, by name."""
        return [self.state(name) for name in sorted(self._tools)]

    def state(self, name: str) -> ToolState:
        """State of one tool; LOST when it was never heard."""
        tool = self._tools.get(name)
        if tool is None:
            return ToolState(name, "LOST", None)
        age = max(self._clock() - tool.renewed_s, 0.0)
        silent = age > self._lost_s
        return ToolState(name, "LOST" if silent and tool.status == "OK" else tool.status, age)

    def transform(self, to_frame: str, from_frame: str) -> LinearTransform | None:
        """`to_from` as it is now, through as many tools and calibrations as it takes; None when one of them is lost.

        Raises InputError where no chain of known names connects the frames.
        """
        return self._chain(to_frame, from_frame, lambda name: self._now(name))

    def transform_at(self, time_s: float, to_frame: str, from_frame: str, *,
                     max_gap_s: float = MAX_GAP_S) -> LinearTransform | None:
        """`to_from` at an acquisition time (an image's), interpolated; None where a tool wasn't seen around it.

        Raises InputError where no chain of known names connects the frames.
        """
        return self._chain(to_frame, from_frame, lambda name: self._tools[name].at(time_s, max_gap_s))

    def newest_s(self) -> float:
        """Acquisition time up to which every tool that isn't lost has been heard; -inf without any."""
        times = [tool.entries[-1].time_s for name, tool in self._tools.items() if not self.state(name).lost]
        return min(times, default=-math.inf)

    # ------------------------------------------------------------------------------------------------ private
    def _add(self, name: str, matrix: np.ndarray, status: str, message: Message) -> bool:
        try:
            frames_of(name)
        except InputError:
            return False
        now = self._clock() if message.received_s is None else message.received_s
        time_s = now if message.time_s is None else float(message.time_s)
        tool = self._tools.setdefault(name, _Tool())
        before = tool.renewed_s
        good = status == "OK" and _rigid(matrix)
        if status == "OK" and not good:
            status = "INVALID"
        tool.add(_Entry(time_s, np.array(matrix, float) if good else None), status, now)
        return tool.renewed_s != before

    def _now(self, name: str) -> np.ndarray | None:
        return None if self.state(name).lost else self._tools[name].entries[-1].matrix

    def _chain(self, to_frame: str, from_frame: str,
               live: Callable[[str], np.ndarray | None]) -> LinearTransform | None:
        out = LinearTransform.identity(from_frame, from_frame)
        for name, forwards in self._path(from_frame, to_frame):
            step = self._fixed.get(name)
            if step is None:
                matrix = live(name)
                if matrix is None:
                    return None
                source, goal = frames_of(name)
                step = LinearTransform(matrix, goal, source)
            step = step if forwards else step.inverse()
            out = LinearTransform(step.matrix @ out.matrix, step.to_frame, from_frame)
        return out

    def _path(self, start: str, goal: str) -> list[tuple[str, bool]]:
        """Shortest chain of names, breadth first: (name, True when from -> to)."""
        edges: dict[str, list[tuple[str, str, bool]]] = {}
        for name in (*self._fixed, *self._tools):
            fixed = self._fixed.get(name)
            a, b = frames_of(name) if fixed is None else (fixed.from_frame, fixed.to_frame)
            edges.setdefault(a, []).append((b, name, True))
            edges.setdefault(b, []).append((a, name, False))
        paths: dict[str, list[tuple[str, bool]]] = {start: []}
        queue = deque([start])
        while queue:
            here = queue.popleft()
            if here == goal:
                return paths[here]
            for there, name, forwards in edges.get(here, []):
                if there not in paths:
                    paths[there] = [*paths[here], (name, forwards)]
                    queue.append(there)
        raise InputError(f"no transforms lead from {start} to {goal}; known: {', '.join(sorted(edges)) or 'none'}")


@dataclass(frozen=True, eq=False)
class PairedImage:
    """An image and where it lay when it was taken; `transform` None with a `reason` when that isn't known."""

    image: Image
    transform: LinearTransform | None
    reason: str = ""


class ImagePairing:
    """Waits, for `max_wait_s` at most, until a pose on each side of an image's acquisition time is there.

    Args:
        to_frame, from_frame: which transform is wanted, for example "Reference" and "Image".
        image_lag_s: how much later than the tracker the image's clock runs (temporal calibration).
    """

    def __init__(self, tools: TrackedTools, to_frame: str, from_frame: str, *, max_wait_s: float = 0.2,
                 max_gap_s: float = MAX_GAP_S, image_lag_s: float = 0.0, max_images: int = 32,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._tools, self._to, self._from = tools, to_frame, from_frame
        self._wait_s, self._gap_s, self._lag_s, self._clock = max_wait_s, max_gap_s, image_lag_s, clock
        self._waiting: deque[Image] = deque(maxlen=max_images)

    def push(self, image: Image) -> None:
        """Add an image, in the order of receipt."""
        self._waiting.append(image)

    def pop(self) -> list[PairedImage]:
        """Images that are paired now, or have waited long enough, in order."""
        out = []
        while self._waiting:
            image = self._waiting[0]
            received_s = self._clock() if image.received_s is None else image.received_s
            late = self._clock() - received_s > self._wait_s
            transform, reason = None, "the image carries no time"
            if image.time_s is not None:
                try:
                    transform = self._tools.transform_at(float(image.time_s) - self._lag_s, self._to, self._from,
                                                         max_gap_s=self._gap_s)
                    reason = "" if transform else "a tool wasn't seen when the image was taken"
                except InputError as error:
                    reason = str(error)
            if transform is None and not late and image.time_s is not None:
                break
            self._waiting.popleft()
            out.append(PairedImage(image, transform, reason))
        return out


def _status(message: Transform) -> str:
    """The tracker's word on this pose, from PLUS's metadata; OK where it says nothing."""
    status = message.metadata.get("TransformStatus", "OK").strip().upper() or "OK"
    valid = message.metadata.get("TransformValid", "1").strip().lower()
    if status == "OK" and valid in ("0", "false", "no"):
        return "INVALID"
    return status


def _rigid(matrix: np.ndarray) -> bool:
    rotation = np.asarray(matrix, float)[:3, :3]
    return bool(np.isfinite(matrix).all() and np.abs(rotation.T @ rotation - np.eye(3)).max() < 1e-2
                and np.linalg.det(rotation) > 0)
