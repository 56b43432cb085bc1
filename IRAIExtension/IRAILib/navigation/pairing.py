"""Images and poses of one instant: poses interpolated at the times of the images, never across a gap."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError
from .poses import check_poses, plain

MAX_GAP_S = 0.2
SAME_TIME_S = 1e-6
LONGEST_MEMORY_S = 60.0
MAX_HELD = 20000
WAITING, TOO_OLD, GAP, NOT_SEEN, NO_POSES = "waiting", "too old", "gap", "not seen", "no poses"


def interpolate_poses(pose_time_s: object, poses: object, image_time_s: object, valid: object = None, *,
                      lag_s: float = 0.0, max_gap_s: float = MAX_GAP_S) -> tuple[np.ndarray, np.ndarray]:
    """The pose of a tool at the times of images: rotation along the shortest arc, translation along a line.

    Args:
        pose_time_s: (n,) s, any order; of poses with one time stamp the first counts. poses: (n, 4, 4) rigid, mm.
        image_time_s: (m,) s. valid: (n,) bool, False where the tracker didn't see the tool.
        lag_s: tracker time stamp less image time stamp of one instant, as `temporal` measures it.
        max_gap_s: poses further apart are not interpolated between.
    Returns: (m, 4, 4), NaN where there is none, and (m,) bool. An image before the first or after the last pose, in a
    gap, or beside a pose that isn't valid has none; nothing is extrapolated. No poses: all invalid; no images: empty.
    Raises InputError: shapes, a valid pose that isn't rigid and finite, a time that isn't finite.
    Source: Shoemake 1985 (slerp).
    """
    from scipy.spatial.transform import Rotation

    images = _times(image_time_s, "images")
    stamps, matrices, good = _sorted_poses(pose_time_s, poses, valid, lag_s, max_gap_s)
    out, known = np.full((len(images), 4, 4), np.nan), np.zeros(len(images), bool)
    if len(stamps) == 0 or len(images) == 0:
        return out, known
    after = np.clip(np.searchsorted(stamps, images - SAME_TIME_S), 0, len(stamps) - 1)
    exact = np.abs(stamps[after] - images) <= SAME_TIME_S
    before = np.where(exact, after, after - 1)
    inside = (before >= 0) & (stamps[after] >= images - SAME_TIME_S)
    before = np.maximum(before, 0)
    width = stamps[after] - stamps[before]
    known[:] = inside & good[before] & good[after] & (width <= max_gap_s + SAME_TIME_S)
    if not known.any():
        return out, known
    a, b = matrices[before[known]], matrices[after[known]]
    share = np.clip((images - stamps[before])[known] / np.maximum(width[known], SAME_TIME_S), 0.0, 1.0)
    start = Rotation.from_matrix(a[:, :3, :3])
    way = (start.inv() * Rotation.from_matrix(b[:, :3, :3])).as_rotvec()
    result = np.broadcast_to(np.eye(4), a.shape).copy()
    result[:, :3, :3] = (start * Rotation.from_rotvec(share[:, None] * way)).as_matrix()
    result[:, :3, 3] = a[:, :3, 3] + share[:, None] * (b[:, :3, 3] - a[:, :3, 3])
    out[known] = result
    return out, known


def _times(values: object, what: str) -> np.ndarray:
    times = np.asarray(values, float)
    if times.ndim != 1:
        raise InputError(f"times of the {what}: one number each is needed, not an array of shape {times.shape}")
    if not np.isfinite(times).all():
        raise InputError(f"times of the {what}: number {int(np.nonzero(~np.isfinite(times))[0][0])} is not finite")
    return times


def _sorted_poses(pose_time_s, poses, valid, lag_s: float, max_gap_s: float
                  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """((n,) times on the images' clock, growing; (n, 4, 4) with identities where not valid; (n,) valid)."""
    check_pairing(lag_s, max_gap_s)
    stamps, array = _times(pose_time_s, "poses"), np.asarray(poses, float)
    good = np.ones(len(stamps), bool) if valid is None else np.asarray(valid, bool)
    if array.size == 0 and len(stamps) == 0:
        array = np.empty((0, 4, 4))
    if array.shape != (len(stamps), 4, 4) or good.shape != stamps.shape:
        raise InputError(f"{len(stamps)} times need as many 4x4 poses and marks of validity, not {array.shape} and "
                         f"{good.shape}")
    matrices = np.broadcast_to(np.eye(4), array.shape).copy()
    if good.any():
        matrices[good] = check_poses(array, good)[0]
    order = np.argsort(stamps, kind="stable")
    order = order[np.concatenate([[True], np.diff(stamps[order]) > 0])] if len(order) else order
    return stamps[order] - lag_s, matrices[order], good[order]


def check_pairing(lag_s: float, max_gap_s: float) -> None:
    """Raises InputError for a lag or a gap that is no finite number, or a gap that isn't positive."""
    if not (np.isfinite(lag_s) and np.isfinite(max_gap_s) and max_gap_s > 0):
        raise InputError(f"a lag of {lag_s} s and a gap of {max_gap_s} s can't be used to pair images and poses")


@dataclass(frozen=True)
class Paired:
    """An image's pose, or why it has none.

    pose: (4, 4) mm or None. reason: "" with a pose; else "waiting" (no pose after the image yet: ask again), "gap",
    "not seen" (the tracker lost the tool), "too old" (before what is remembered), "no poses".
    gap_s: between the two poses used. age_s: of the newer of the two before the newest pose that has arrived.
    """

    pose: np.ndarray | None
    reason: str
    image_time_s: float
    gap_s: float = float("nan")
    age_s: float = float("nan")

    @property
    def final(self) -> bool:
        """Whether asking later can't change the answer."""
        return self.reason != WAITING and self.reason != NO_POSES

    def to_dict(self) -> dict[str, Any]:
        return plain({"frame": "as the poses", "pose": self.pose, "reason": self.reason, "units": "mm, s",
                      "image_time_s": self.image_time_s, "gap_s": self.gap_s, "age_s": self.age_s})


class PosePairer:
    """Live pairing: poses come in by one thread, images ask from another; remembers the last seconds only.

    Args: lag_s, max_gap_s: as `interpolate_poses`. memory_s: how long a pose is kept. Raises InputError.
    """

    def __init__(self, *, lag_s: float = 0.0, max_gap_s: float = MAX_GAP_S, memory_s: float = 5.0) -> None:
        check_pairing(lag_s, max_gap_s)
        if not max_gap_s <= memory_s <= LONGEST_MEMORY_S:
            raise InputError(f"a memory of {memory_s} s can't be used: from the largest gap ({max_gap_s:g} s) to "
                             f"{LONGEST_MEMORY_S:g} s")
        self.lag_s, self.max_gap_s, self.memory_s = float(lag_s), float(max_gap_s), float(memory_s)
        self._lock = threading.Lock()
        self._held: deque[tuple[float, np.ndarray | None]] = deque(maxlen=MAX_HELD)
        self.out_of_order = 0

    def __len__(self) -> int:
        return len(self._held)

    def add_pose(self, time_s: float, pose: object, valid: bool = True) -> bool:
        """A pose as the tracker stamped it; a lost tool is a pose that isn't valid.

        Returns False for one that isn't newer than the newest (counted in `out_of_order`, dropped). A pose that is
        not finite or not rigid counts as not valid. Raises InputError for a time that isn't finite.
        """
        time = float(time_s) - self.lag_s
        if not np.isfinite(time):
            raise InputError(f"a pose's time stamp of {time_s} can't be used")
        kept = None
        if valid:
            try:
                kept = check_poses(np.asarray(pose, float)[None])[0][0]
            except InputError:
                kept = None
        with self._lock:
            if self._held and time <= self._held[-1][0]:
                self.out_of_order += 1
                return False
            self._held.append((time, kept))
            while self._held[0][0] < time - self.memory_s:
                self._held.popleft()
        return True

    def pose_at(self, image_time_s: float) -> Paired:
        """The pose at an image's time stamp, or the reason why there is none. Raises InputError: time not finite."""
        time = float(image_time_s)
        if not np.isfinite(time):
            raise InputError(f"an image's time stamp of {image_time_s} can't be used")
        with self._lock:
            if not self._held:
                return Paired(None, NO_POSES, time)
            newest = self._held[-1][0]
            if time > newest + SAME_TIME_S:
                return Paired(None, WAITING, time)
            if time < self._held[0][0] - SAME_TIME_S:
                return Paired(None, TOO_OLD, time)
            place = min(bisect_left(self._held, time - SAME_TIME_S, key=lambda held: held[0]), len(self._held) - 1)
            first = self._held[place if abs(self._held[place][0] - time) <= SAME_TIME_S else max(place - 1, 0)]
            second = self._held[place]
        gap, age = second[0] - first[0], newest - second[0]
        if first[1] is None or second[1] is None:
            return Paired(None, NOT_SEEN, time, gap, age)
        if gap > self.max_gap_s + SAME_TIME_S:
            return Paired(None, GAP, time, gap, age)
        poses, known = interpolate_poses([first[0], second[0]], np.stack([first[1], second[1]]), [time],
                                         max_gap_s=self.max_gap_s)
        return Paired(poses[0], "", time, gap, age) if known[0] else Paired(None, GAP, time, gap, age)
