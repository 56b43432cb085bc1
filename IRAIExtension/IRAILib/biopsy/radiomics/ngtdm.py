"""Neighbourhood grey tone difference matrix (Amadasun and King 1989; IBSI reference manual 3.10)."""

from __future__ import annotations

import numpy as np

from .neighbours import Neighbourhood
from .texture_cells import Array, LevelRegion, tally

NAMES = ("coarseness", "contrast", "busyness", "complexity", "strength")
MOST_COARSE = 1e6  # IBSI's value where every voxel equals its neighbours' mean
BLOCK = 1 << 20


def tone_features(region: LevelRegion, around: Neighbourhood, by_slice: bool) -> dict[str, float]:
    """The five features, averaged over slices with `by_slice`; voxels without a neighbour do not count.

    A slice without any voxel that has a neighbour is left out; all nan where there is none at all. IBSI's conventions:
    coarseness 1e6 where nothing differs, contrast and busyness 0 with one level, strength 0 where nothing differs.
    """
    used = np.flatnonzero(around.number)
    if not len(used):
        return dict.fromkeys(NAMES, float("nan"))
    level = region.level[used]
    differs = np.abs(level - around.total[used] / around.number[used])
    wide = region.n_levels + 1
    key = (region.slice_of[used] * wide if by_slice else 0) + level
    found, count = tally(key)
    tone = np.bincount(np.searchsorted(found, key), weights=differs)
    owner = found // wide
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    ends = np.append(starts[1:], len(found))
    rows = [_matrix_features((found[a:b] % wide).astype(float), count[a:b], tone[a:b])
            for a, b in zip(starts, ends, strict=True)]
    return dict(zip(NAMES, np.mean(rows, axis=0).tolist(), strict=True))


def _matrix_features(level: Array, count: Array, tone: Array) -> tuple[float, float, float, float, float]:
    """Of one matrix: its present levels, how often each occurs (n_i) and its summed differences (s_i)."""
    voxels, held = count.sum(), len(level)
    share = count / voxels
    weighted, all_tone = float(share @ tone), float(tone.sum())
    coarseness = 1.0 / weighted if weighted > 1.0 / MOST_COARSE else MOST_COARSE
    if held == 1:
        return coarseness, 0.0, 0.0, 0.0, 0.0
    squares, apart, complexity, strength = 0.0, 0.0, 0.0, 0.0
    for rows in np.array_split(np.arange(held), -(-held * held // BLOCK)):
        i, p, s = level[rows, None], share[rows, None], tone[rows, None]
        gap = np.abs(i - level)
        both = p + share
        apart += np.abs(i * p - level * share).sum()
        complexity += (gap * (p * s + share * tone) / both).sum()
        gap *= gap
        squares += (p * share * gap).sum()
        strength += (both * gap).sum()
    contrast = squares / (held * (held - 1)) * all_tone / voxels
    return (coarseness, float(contrast), weighted / float(apart) if apart > 0 else 0.0, float(complexity / voxels),
            float(strength / all_tone) if all_tone > 0 else 0.0)
