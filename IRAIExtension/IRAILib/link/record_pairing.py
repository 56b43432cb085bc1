"""Poses at the time of an image: the one of the same time stamp, else between two that hold, else MISSING."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

OK, MISSING = "OK", "MISSING"
SAME_S = 1e-6  # time stamps of the wire have 2^-32 s, those of float64 seconds since 1970 2.4e-7 s
RIGID = 1e-3


def pair(times_s: np.ndarray, pose_times_s: np.ndarray, matrices: np.ndarray, statuses: list[str], *,
         max_gap_s: float) -> tuple[np.ndarray, list[str]]:
    """((n, 4, 4), n statuses) of one tool at n times, from its m poses sorted by time.

    A sender that stamps the poses of a frame like its image (PLUS does) leaves no doubt: where the pose of that
    stamp is missing, the tool was lost, and nothing is interpolated. Otherwise two OK poses at most `max_gap_s`
    apart (and at most three usual intervals) are interpolated: rotation along the shortest arc, the rest linearly.
    Never is a pose used beyond its time. What isn't known is the identity, MISSING.
    """
    found, words = np.tile(np.eye(4), (len(times_s), 1, 1)), [MISSING] * len(times_s)
    if len(pose_times_s) == 0:
        return found, words
    after = np.searchsorted(pose_times_s, times_s - SAME_S)  # the first pose not before the image
    inside = after < len(pose_times_s)
    same = inside & (np.abs(pose_times_s[np.minimum(after, len(pose_times_s) - 1)] - times_s) <= SAME_S)
    steps = np.diff(pose_times_s)
    gap_s = min(max_gap_s, 3 * float(np.median(steps))) if len(steps) else 0.0
    for number in range(len(times_s)):
        place = int(after[number])
        if same[number]:
            while place + 1 < len(pose_times_s) and pose_times_s[place + 1] - times_s[number] <= SAME_S:
                place += 1  # of several with one stamp the last
            found[number], words[number] = matrices[place], statuses[place]
        elif not same.any() and inside[number] and place > 0:
            before_s, after_s = pose_times_s[place - 1], pose_times_s[place]
            if after_s - before_s > gap_s:
                continue
            bad = next((word for word in (statuses[place - 1], statuses[place]) if word != OK), OK)
            words[number] = bad
            if bad == OK:
                share = (times_s[number] - before_s) / (after_s - before_s)
                found[number] = between(matrices[place - 1], matrices[place], float(share))
    return found, words


def between(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """(4, 4) at `share` (0 to 1) of the way. Rigid matrices stay rigid; others (with pixel sizes) are blended."""
    matrix = (1 - share) * first + share * second
    parts = np.stack([first[:3, :3], second[:3, :3]])
    rigid = np.abs(parts @ parts.transpose(0, 2, 1) - np.eye(3)).max() < RIGID and np.linalg.det(parts).min() > 0
    if rigid:
        start, end = Rotation.from_matrix(parts[0]), Rotation.from_matrix(parts[1])
        matrix[:3, :3] = (start * Rotation.from_rotvec(share * (start.inv() * end).as_rotvec())).as_matrix()
    matrix[3] = 0, 0, 0, 1
    return matrix
