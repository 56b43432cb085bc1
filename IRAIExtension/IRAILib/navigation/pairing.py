"""Poses of a recording interpolated at the times of its images, never across a gap.

Live images are paired as they come by `link.probe.ImagePairing`.
"""

from __future__ import annotations

import numpy as np

from ..geometry import InputError
from .poses import check_poses

MAX_GAP_S = 0.2
SAME_TIME_S = 1e-6


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
