"""Grey level co-occurrence matrix (Haralick 1973; IBSI reference manual 3.6)."""

from __future__ import annotations

import numpy as np

from .texture_cells import Array, Cells, LevelRegion, count_cells, half_directions, stack_cells, tally

NAMES = ("joint_max", "joint_avg", "joint_var", "joint_entr", "diff_avg", "diff_var", "diff_entr", "sum_avg", "sum_var",
         "sum_entr", "energy", "contrast", "dissimilarity", "inv_diff", "inv_diff_norm", "inv_diff_mom",
         "inv_diff_mom_norm", "inv_var", "corr", "auto_corr", "clust_tend", "clust_shade", "clust_prom", "info_corr1",
         "info_corr2")


def cooccurrence_cells(region: LevelRegion, distance: int = 1, flat_only: bool = False, by_slice: bool = True) -> Cells:
    """Cells (lower level, higher level) of the pairs of every direction; groups as glrlm.run_length_cells.

    The matrix is symmetric: a pair is counted once here, with its levels in order.
    """
    size = region.n_slices if by_slice else 1
    parts = []
    for step in half_directions():
        if flat_only and step[0]:
            break
        other = region.flat[region.index + distance * region.offset(step)]
        both = np.flatnonzero(other)
        one, two = region.level[both], other[both].astype(np.int64)
        group = region.slice_of[both] if by_slice and not step[0] else 0
        parts.append(count_cells(group, np.minimum(one, two), np.maximum(one, two), np.zeros(size)))
    return stack_cells(parts, size)


def cooccurrence_features(cells: Cells, n_levels: int) -> dict[str, float]:
    """The 25 features, averaged over the matrices that hold a pair; nan for all where none does.

    A matrix of one level, where IBSI says nothing: correlation 1 (mirp and pyradiomics agree); second information
    correlation and inverse variance 0, as their formulas give; the first information correlation is 0 / 0 (mirp says
    1, pyradiomics 0): left out of an average, and nan where nothing else is there.
    """
    if not len(cells.count):
        return dict.fromkeys(NAMES, float("nan"))
    starts = cells.present()[1]
    n = len(starts)
    rank = np.repeat(np.arange(n), np.diff(starts, append=len(cells.count)))
    weight = cells.count / np.add.reduceat(cells.count, starts)[rank]
    low, high = cells.i.astype(float), cells.j.astype(float)
    gap = high - low
    single = np.where(gap == 0, weight, 0.5 * weight)  # one cell of the symmetric matrix; weight holds both
    entropy_x, mean, variance = _marginal(cells, rank, weight, n)
    differ = _spread(rank, cells.j - cells.i, weight, n)
    total = _spread(rank, cells.j + cells.i, weight, n)
    centred = low + high - 2.0 * mean[rank]
    near = np.divide(weight, gap * gap, out=np.zeros_like(weight), where=gap > 0)
    reach = low - mean[rank], high - mean[rank]
    rows = (lambda: -weight * np.log2(single), lambda: weight * single, lambda: weight * gap * gap,
            lambda: weight * gap, lambda: weight / (1 + gap), lambda: weight / (1 + gap / n_levels),
            lambda: weight / (1 + gap * gap), lambda: weight / (1 + (gap / n_levels) ** 2), lambda: near,
            lambda: weight * reach[0] * reach[1], lambda: weight * low * high, lambda: weight * centred**2,
            lambda: weight * centred**3, lambda: weight * centred**4)
    (entropy, energy, contrast, dissimilarity, inverse, inverse_norm, moment, moment_norm, inverse_var, covariance,
     auto, tendency, shade, prominence) = (np.add.reduceat(row(), starts) for row in rows)
    flat = entropy_x <= 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.where(variance > 0, covariance / variance, 1.0)
        shared = np.maximum(2.0 * entropy_x - entropy, 0.0)  # H(x) + H(y) - H(x, y): x and y have the same marginal
        information_1 = np.where(flat, np.nan, -shared / entropy_x)
        information_2 = np.sqrt(1.0 - np.exp(-2.0 * shared))
    values = [np.maximum.reduceat(single, starts), mean, variance, entropy, dissimilarity, differ[0], differ[1],
              2.0 * mean, tendency, total[1], energy, contrast, dissimilarity, inverse, inverse_norm, moment,
              moment_norm, inverse_var, correlation, auto, tendency, shade, prominence, information_1, information_2]
    return {name: _mean(value) for name, value in zip(NAMES, values, strict=True)}


def _marginal(cells: Cells, rank: Array, weight: Array, n: int) -> tuple[Array, Array, Array]:
    """(entropy in bits, mean, variance) of the level of one partner, by matrix."""
    wide = int(cells.j.max()) + 1
    key = np.concatenate([rank * wide + cells.i, rank * wide + cells.j])
    key, share = tally(key, 0.5 * np.concatenate([weight, weight]))
    owner, level = np.divmod(key, wide)
    mean = np.bincount(owner, share * level, n)
    variance = np.bincount(owner, share * (level - mean[owner]) ** 2, n)
    alone = np.bincount(owner, minlength=n) == 1  # one level: exactly none, whatever the rounding
    entropy = np.bincount(owner, -share * np.log2(share), n)
    return np.where(alone, 0.0, entropy), mean, np.where(alone, 0.0, variance)


def _spread(rank: Array, value: Array, weight: Array, n: int) -> tuple[Array, Array]:
    """(variance, entropy in bits) of an integer's distribution, by matrix."""
    wide = int(value.max()) + 1
    key, share = tally(rank * wide + value, weight)
    owner, at = np.divmod(key, wide)
    mean = np.bincount(owner, share * at, n)
    return np.bincount(owner, share * (at - mean[owner]) ** 2, n), np.bincount(owner, -share * np.log2(share), n)


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
