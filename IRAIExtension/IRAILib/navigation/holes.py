"""Voxels that no pixel reached, filled from what lies on both sides of them."""

from __future__ import annotations

import numpy as np

REACH = 8
DIRECTIONS = np.array([(k, j, i) for k in (-1, 0, 1) for j in (-1, 0, 1) for i in (-1, 0, 1) if (k, j, i) > (0, 0, 0)])
"""(13, 3) one of each pair of opposite directions, in (k, j, i)."""


def fill_holes(values: np.ndarray, known: np.ndarray, *, reach: int = REACH, whole: bool = False
               ) -> tuple[np.ndarray, np.ndarray]:
    """The values with holes filled along the shortest line through each that ends in known voxels on both sides.

    Args:
        values: (k, j, i). known: the same shape, bool. reach: most voxels from end to end of a line, less one.
        whole: as PLUS fills: values cut to whole numbers, and its weights of the two ends, (b + 1) : a of a + b + 1
            where a and b are the distances to them, instead of b : a of a + b.
    Returns: (k, j, i) float32 values, unchanged where known, 0 where still unknown; bool of what was filled. Lines
    run along the 13 directions of a voxel's neighbours; of several shortest ones the mean is taken. Nothing known:
    nothing filled.
    Source: the stick method of PLUS's hole filler.
    """
    out = np.where(known, values, 0).astype(np.float32)
    filled = np.zeros(known.shape, bool)
    holes = np.flatnonzero(_candidates(known, reach))
    if len(holes) == 0:
        return out, filled
    pad = reach + 1
    shape = tuple(n + 2 * pad for n in known.shape)
    steps = DIRECTIONS @ np.array([shape[1] * shape[2], shape[2], 1])
    place = np.ravel_multi_index(tuple(a + pad for a in np.unravel_index(holes, known.shape)), shape)
    there, level = np.pad(known, pad).ravel(), np.pad(out, pad).ravel()
    best = np.full(len(holes), np.inf)
    total, number = np.zeros(len(holes)), np.zeros(len(holes))
    for step, length in zip(steps, np.linalg.norm(DIRECTIONS, axis=1), strict=True):
        ahead = _walk(there, place, step, np.full(len(place), reach))
        behind = _walk(there, place, -step, np.where(ahead > 0, reach - ahead, 0))
        used = np.flatnonzero(behind > 0)
        a, b = ahead[used], behind[used]
        one, other = level[place[used] + a * step], level[place[used] - b * step]
        value = ((b + 1) * one + a * other) / (a + b + 1) if whole else (b * one + a * other) / (a + b)
        span = (a + b + 1) * length
        shorter = span < best[used] - 1e-9
        total[used[shorter]], number[used[shorter]] = 0.0, 0.0
        best[used[shorter]] = span[shorter]
        same = np.abs(span - best[used]) <= 1e-9
        total[used[same]] += value[same]
        number[used[same]] += 1
    done = number > 0
    mean = total[done] / number[done]
    out.ravel()[holes[done]] = np.floor(mean + 1e-6) if whole else mean
    filled.ravel()[holes[done]] = True
    return out, filled


def _candidates(known: np.ndarray, reach: int) -> np.ndarray:
    from scipy import ndimage

    return ndimage.maximum_filter(known, size=2 * reach + 1, mode="constant", cval=0) & ~known


def _walk(there: np.ndarray, place: np.ndarray, step: int, limit: np.ndarray) -> np.ndarray:
    """(n,) steps to the first known voxel, 0 where there is none within `limit` steps."""
    found = np.zeros(len(place), np.intp)
    active = np.flatnonzero(limit > 0)
    for count in range(1, int(limit.max(initial=0)) + 1):
        active = active[limit[active] >= count]
        hit = there[place[active] + count * step]
        found[active[hit]] = count
        active = active[~hit]
    return found
