"""What the texture families share: the region as flat arrays, sparse counts by group, features of counted matrices.

A texture matrix is kept as its non-empty cells (group, grey level, second coordinate, count). A group is one matrix:
a direction in a slice at the finest; merging matrices is adding cells after their groups were renamed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


def half_directions(distance: int = 1) -> list[tuple[int, int, int]]:
    """Half of the neighbourhood of Chebyshev radius `distance`, one of each opposite pair, as (k, j, i) steps.

    The in-plane steps (k = 0) come first; radius 1 gives 4 of them, 13 in all.
    """
    reach = range(-distance, distance + 1)
    steps = [(k, j, i) for k in range(distance + 1) for j in reach for i in reach]
    return [step for step in steps if step > (0, 0, 0)]


@dataclass(frozen=True)
class LevelRegion:
    """A region's grey levels with a border of zeros, so that a step to a neighbour is one addition.

    flat: levels of the padded box, raveled, 0 outside; index (n,): places of the n voxels in it, ascending;
    level (n,): their grey levels, 1 .. n_levels; slice_of (n,): consecutive numbers 0 .. n_slices - 1 of the slices
    that hold voxels; shape: of the padded box (k, j, i); corner, margin: where the
    box without its margin starts in the caller's array, and how wide the margin is.
    """

    flat: Array
    index: Array
    level: Array
    slice_of: Array
    slice_voxels: Array
    shape: tuple[int, int, int]
    n_levels: int
    corner: tuple[int, int, int]
    margin: int

    def offset(self, step: tuple[int, int, int]) -> int:
        """What to add to an index to go one (k, j, i) step."""
        return (step[0] * self.shape[1] + step[1]) * self.shape[2] + step[2]

    @property
    def n_slices(self) -> int:
        return len(self.slice_voxels)


def level_region(levels: Array, n_levels: int, margin: int) -> LevelRegion:
    """Crops (k, j, i) levels to their box and pads them by `margin` voxels; see LevelRegion."""
    inside = levels > 0
    spans = []
    for axis in range(3):
        held = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        spans.append(slice(int(held[0]), int(held[-1]) + 1))
    small = np.uint16 if n_levels < 65536 else np.int32
    padded = np.pad(levels[tuple(spans)].astype(small), margin)
    flat = padded.ravel()
    index = np.flatnonzero(flat)
    per_slice = np.count_nonzero(padded.reshape(padded.shape[0], -1), axis=1)
    per_slice = per_slice[per_slice > 0]
    return LevelRegion(flat, index, flat[index].astype(np.int64), np.repeat(np.arange(len(per_slice)), per_slice),
                       per_slice, padded.shape, n_levels, (spans[0].start, spans[1].start, spans[2].start), margin)


def tally(key: Array, weight: Array | None = None) -> tuple[Array, Array]:
    """(distinct keys ascending, how often or how heavy) of non-negative integer keys; counts by table or by sorting."""
    if not len(key):
        return key.astype(np.int64), np.zeros(0)
    top = int(key.max()) + 1
    if top <= 65536 + 16 * len(key):
        table = np.bincount(key, weights=weight, minlength=top)
        found = np.flatnonzero(table)
        return found, table[found].astype(float)
    found, inverse = np.unique(key, return_inverse=True)
    return found, np.bincount(inverse, weights=weight).astype(float)


@dataclass(frozen=True)
class Cells:
    """Non-empty cells of several matrices, ordered by group: group, i and j (all (m,) int), count (m,) float.

    voxels (n_groups,): how many voxels stand behind each matrix (for percentages), by group number.
    """

    group: Array
    i: Array
    j: Array
    count: Array
    voxels: Array

    def regroup(self, new_group: Array) -> Cells:
        """Matrices merged: group g becomes new_group[g] (negative: left out); counts and voxels add up."""
        to = new_group[self.group]
        kept = np.ones(len(to), bool) if (new_group >= 0).all() else to >= 0
        used = new_group >= 0
        voxels = np.bincount(new_group[used], weights=self.voxels[used])
        return count_cells(to[kept], self.i[kept], self.j[kept], voxels, self.count[kept])

    def present(self) -> tuple[Array, Array]:
        """(numbers of the groups with any cell, where each starts among the cells)."""
        starts = np.flatnonzero(np.diff(self.group, prepend=-1))
        return self.group[starts], starts


def count_cells(group: Array | int, i: Array, j: Array, voxels: Array, weight: Array | None = None) -> Cells:
    """Cells of occurrences (group, i, j), the last two non-negative."""
    if not len(i):
        empty = np.zeros(0, np.int64)
        return Cells(empty, empty, empty, np.zeros(0), voxels)
    wide, deep = int(j.max()) + 1, int(i.max()) + 1
    key, count = tally((np.asarray(group, dtype=np.int64) * deep + i) * wide + j, weight)
    rest, second = np.divmod(key, wide)
    first, third = np.divmod(rest, deep)
    return Cells(first, third, second, count, voxels)


def stack_cells(parts: list[Cells], size: int) -> Cells:
    """Cells of several matrices sets as one, the groups of part n numbered from n * size."""
    group = np.concatenate([part.group + n * size for n, part in enumerate(parts)])
    return Cells(group, np.concatenate([p.i for p in parts]), np.concatenate([p.j for p in parts]),
                 np.concatenate([p.count for p in parts]), np.concatenate([p.voxels for p in parts]))


# What each of the sixteen features of a (grey level, size) matrix is called, family by family.
EMPHASES = {
    "rlm": ("sre", "lre", "lgre", "hgre", "srlge", "srhge", "lrlge", "lrhge", "glnu", "glnu_norm", "rlnu", "rlnu_norm",
            "r_perc", "gl_var", "rl_var", "rl_entr"),
    "szm": ("sze", "lze", "lgze", "hgze", "szlge", "szhge", "lzlge", "lzhge", "glnu", "glnu_norm", "zsnu", "zsnu_norm",
            "z_perc", "gl_var", "zs_var", "zs_entr"),
    "dzm": ("sde", "lde", "lgze", "hgze", "sdlge", "sdhge", "ldlge", "ldhge", "glnu", "glnu_norm", "zdnu", "zdnu_norm",
            "z_perc", "gl_var", "zd_var", "zd_entr"),
    "ngl": ("lde", "hde", "lgce", "hgce", "ldlge", "ldhge", "hdlge", "hdhge", "glnu", "glnu_norm", "dcnu", "dcnu_norm",
            "dc_perc", "gl_var", "dc_var", "dc_entr", "dc_energy"),
}


def emphasis_features(cells: Cells, family: str) -> dict[str, float]:
    """The features of run length, zone and dependence matrices, averaged over the matrices that hold anything.

    family: a key of EMPHASES. IBSI reference manual 3.7 to 3.9 and 3.11: with s_ij the count of level i and size j,
    N_s their sum and N_v the voxels. No cell at all gives nan for every name.
    """
    names = EMPHASES[family]
    if not len(cells.count):
        return dict.fromkeys(names, float("nan"))
    groups, starts = cells.present()
    rank = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(cells.count)))
    total = np.add.reduceat(cells.count, starts)
    share = cells.count / total[rank]
    i, j = cells.i.astype(float), cells.j.astype(float)
    i2, j2 = i * i, j * j
    by_i, by_j = share / i2, share / j2
    rows = np.stack([by_j, share * j2, by_i, share * i2, by_j / i2, by_j * i2, by_i * j2, share * i2 * j2,
                     share * i, share * j, -share * np.log2(share), share * share])
    sums = np.add.reduceat(rows, starts, axis=1)
    mean_i, mean_j = sums[8][rank], sums[9][rank]
    spread = np.add.reduceat(np.stack([share * (i - mean_i) ** 2, share * (j - mean_j) ** 2]), starts, axis=1)
    even_i, even_j = (_sum_of_squares(rank, level, share, len(starts)) for level in (cells.i, cells.j))
    values = [*sums[:8], even_i * total, even_i, even_j * total, even_j, total / cells.voxels[groups], *spread,
              sums[10], sums[11]]
    return {name: float(np.mean(value)) for name, value in zip(names, values, strict=False)}


def _sum_of_squares(rank: Array, at: Array, share: Array, n_groups: int) -> Array:
    """(n_groups,) sum over the marginal of `share` along `at` of its squares."""
    wide = int(at.max()) + 1
    key, marginal = tally(rank * wide + at, share)
    return np.bincount(key // wide, weights=marginal * marginal, minlength=n_groups)
