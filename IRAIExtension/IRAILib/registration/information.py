"""Mutual information of two images at points drawn from both sides, fast enough to try hundreds of poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import Mask, Volume
from .inputs import distance_at, smoothed_onto

BINS = 24
BODY_RIM_MM = 10.0
DEEP_MM = 7.0
QUANTILES = 65
RANK_SHARE = 0.6
FEWEST_PAIRS = 200


@dataclass(frozen=True, eq=False)
class Side:
    """One image at one resolution, its values as fractional bins.

    bins: (k, j, i) float32 volume, 0 to BINS - 1. seen: (k, j, i) bool, False in padding. drawn: (n, 3) points, RAS
    mm, in and near the body. blocks: (n,) number of the block of tissue each point lies in. deep: (n,) bool, DEEP_MM
    and more below the body's outline. whole: all is seen.
    """

    bins: Volume
    seen: np.ndarray
    drawn: np.ndarray
    blocks: np.ndarray
    deep: np.ndarray
    whole: bool = False

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """((n,) bins, (n,) bool inside the field of view) at RAS points."""
        from scipy import ndimage

        shape = self.bins.grid.shape
        index = np.ascontiguousarray(self.bins.grid.indices_kji(points).T)
        near = np.rint(index).astype(np.int32)
        inside = np.ones(len(points), bool)
        for axis, size in enumerate(shape):
            inside &= (index[axis] >= -0.01) & (index[axis] <= size - 0.99)
            np.clip(near[axis], 0, size - 1, out=near[axis])
        if not self.whole:
            inside &= self.seen.reshape(-1)[(near[0] * shape[1] + near[1]) * shape[2] + near[2]]
        values = ndimage.map_coordinates(self.bins.array, index, order=1, mode="nearest")
        return values, inside


def padding(volume: Volume) -> np.ndarray:
    """(k, j, i) bool: voxels that a resampling or a scanner filled with one value, connected to the border.

    Air of a CT or PET is no padding: it has its own value and noise next to it. What counts is a constant region of
    the lowest value, with hardly a voxel of that value elsewhere.
    """
    from scipy import ndimage

    array = volume.array
    low = array.min()
    same = array == low
    if not 0.01 < same.mean() < 0.9 or -1100 <= low < -500:
        return np.zeros(array.shape, bool)
    solid = np.asarray(ndimage.binary_opening(same, np.ones((1, 3, 3))), bool)
    edge = np.zeros(array.shape, bool)
    for axis in range(3):
        edge[tuple(slice(None) if a != axis else [0, -1] for a in range(3))] = True
    region = np.asarray(ndimage.binary_propagation(solid & edge, mask=solid), bool)
    rest = np.logical_not(region)
    outside = np.logical_not(ndimage.binary_dilation(region, iterations=2))
    stray = np.count_nonzero(same & outside) / max(1, np.count_nonzero(rest))
    return ndimage.binary_dilation(region) if stray < 0.002 else np.zeros(array.shape, bool)


def level(volume: Volume, pad: np.ndarray, spacing_mm: float, mask: Mask | None, count: int, seed: int) -> Side:
    """An image at a resolution, with `count` points drawn in its body (of it, near `mask` where one is given)."""
    spacing = np.maximum(volume.grid.spacing_mm, spacing_mm)
    grid = volume.grid.resampled_grid(spacing)
    values = np.where(pad, np.nan, volume.array)
    filled = np.where(np.isfinite(values), values, np.nanmin(values)).astype(np.float32)
    array = smoothed_onto(Volume(filled, volume.grid), grid)
    seen = Volume((~pad).astype(np.float32), volume.grid).sample(grid.all_points_ras().reshape(-1, 3), outside=1.0)
    seen = seen.reshape(grid.shape) > 0.5
    depth = depth_mm(array, seen, grid.spacing_kji_mm)
    near = seen & (depth >= -BODY_RIM_MM)
    if mask is not None:
        near &= distance_at(mask, grid.all_points_ras().reshape(-1, 3)).reshape(grid.shape) < BODY_RIM_MM
    if np.count_nonzero(near) < FEWEST_PAIRS:
        near = seen
    rng = np.random.default_rng(seed)
    voxels = np.argwhere(near)
    whole = voxels[rng.integers(len(voxels), size=count)]
    chosen = whole + rng.uniform(-0.5, 0.5, (count, 3))
    points = grid.points_ras(np.clip(chosen, 0, np.array(grid.shape) - 1))
    block = np.floor((points - points.min(axis=0)) / 20.0).astype(int)
    return Side(Volume(_binned(array, near), grid), seen, points, block @ np.array([1, 101, 10201]),
                depth[tuple(whole.T)] >= DEEP_MM, bool(seen.all()))


def body(array: np.ndarray, seen: np.ndarray, spacing_kji_mm: np.ndarray) -> np.ndarray:
    """(k, j, i) bool: everything brighter than air, with a rim of BODY_RIM_MM."""
    return seen & (depth_mm(array, seen, spacing_kji_mm) >= -BODY_RIM_MM)


def depth_mm(array: np.ndarray, seen: np.ndarray, spacing_kji_mm: np.ndarray) -> np.ndarray:
    """(k, j, i) mm below the outline of everything brighter than air, negative outside; 0 where nothing is.

    Holes count as tissue, and so does what isn't seen: the edge of the picture is no outline.
    """
    from scipy import ndimage

    values = array[seen]
    low, high = np.percentile(values, [1.0, 99.0])
    bright = np.sqrt(np.clip((array - low) / max(high - low, 1e-6), 0.0, 1.0))
    inside = np.asarray(ndimage.binary_opening(bright > _threshold(bright[seen])), bool)
    if not inside.any():
        return np.zeros(array.shape)
    out = -np.asarray(ndimage.distance_transform_edt(np.logical_not(inside), sampling=spacing_kji_mm))
    filled = np.stack([np.asarray(ndimage.binary_fill_holes(plane), bool) for plane in inside | ~seen])
    within = np.asarray(ndimage.distance_transform_edt(filled, sampling=spacing_kji_mm))
    return np.where(inside, within, np.where(filled, np.maximum(out, -0.5 * BODY_RIM_MM), out))


def _threshold(values: np.ndarray) -> float:
    """Between dark and bright so that the two vary least in themselves (Otsu)."""
    counts, edges = np.histogram(values, 64, (0.0, 1.0))
    middle = 0.5 * (edges[1:] + edges[:-1])
    share = np.cumsum(counts) / max(1, counts.sum())
    mean = np.cumsum(counts * middle) / max(1, counts.sum())
    between = (mean[-1] * share - mean) ** 2 / np.maximum(share * (1 - share), 1e-9)
    return float(edges[1 + int(np.argmax(between[:-1]))])


def _binned(array: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Values to fractional bins: half by value, half by rank, so that neither bone nor a hot tumour takes them all."""
    values = array[near]
    knots = np.quantile(values, np.linspace(0.005, 0.995, QUANTILES))
    knots = np.maximum.accumulate(knots + 1e-9 * max(1.0, float(np.ptp(knots))) * np.arange(QUANTILES))
    rank = np.interp(array, knots, np.linspace(0.0, 1.0, QUANTILES))
    linear = np.clip((array - knots[0]) / max(float(knots[-1] - knots[0]), 1e-9), 0.0, 1.0)
    return ((RANK_SHARE * rank + (1.0 - RANK_SHARE) * linear) * (BINS - 1)).astype(np.float32)


class Information:
    """Normalised mutual information of two sides under a rigid map, points drawn from both.

    fixed, moving: the sides. base: (4, 4) moving_from_fixed that says which points can meet at all. reach_mm: how far
    from it the search goes. use: whose drawn points count, the fixed side's, the moving side's or both.
    """

    def __init__(self, fixed: Side, moving: Side, base: np.ndarray, reach_mm: float, least_share: float = 0.6,
                 use: tuple[bool, bool] = (True, True)) -> None:
        self.sides = (fixed, moving)
        back = np.linalg.inv(base)
        kept = (_reachable(fixed, moving, base, reach_mm) & use[0], _reachable(moving, fixed, back, reach_mm) & use[1])
        self.fixed_points, self.moving_points = fixed.drawn[kept[0]], moving.drawn[kept[1]]
        self.fixed_blocks, self.moving_blocks = fixed.blocks[kept[0]], moving.blocks[kept[1]]
        self.deep = np.flatnonzero(fixed.deep[kept[0]]), np.flatnonzero(moving.deep[kept[1]])
        self.fixed_bins = fixed.at(self.fixed_points)[0]
        self.moving_bins = moving.at(self.moving_points)[0]
        self.least_share = least_share

    def pairs(self, matrix: np.ndarray, chosen: tuple[np.ndarray, np.ndarray] | None = None
              ) -> tuple[np.ndarray, np.ndarray, float]:
        """(n,) bins of the fixed image, (n,) bins of the moving one, share of the drawn points that meet."""
        fixed_points, fixed_bins = self.fixed_points, self.fixed_bins
        moving_points, moving_bins = self.moving_points, self.moving_bins
        if chosen is not None:
            fixed_points, fixed_bins = fixed_points[chosen[0]], fixed_bins[chosen[0]]
            moving_points, moving_bins = moving_points[chosen[1]], moving_bins[chosen[1]]
        back = np.linalg.inv(matrix)
        there, met = self.sides[1].at(fixed_points @ matrix[:3, :3].T + matrix[:3, 3])
        home, met_back = self.sides[0].at(moving_points @ back[:3, :3].T + back[:3, 3])
        share = max(float(met.mean()) if len(met) else 0.0, float(met_back.mean()) if len(met_back) else 0.0)
        return (np.concatenate([fixed_bins[met], home[met_back]]), np.concatenate([there[met], moving_bins[met_back]]),
                share)

    def score(self, matrix: np.ndarray, chosen: tuple[np.ndarray, np.ndarray] | None = None) -> float:
        """Normalised mutual information, 0 to 1, less where too little of the smaller image is met."""
        a, b, share = self.pairs(matrix, chosen)
        if len(a) < FEWEST_PAIRS:
            return 0.0
        return normalised_information(a, b) * min(1.0, share / self.least_share)

    def share(self, matrix: np.ndarray) -> float:
        """Share of the drawn points of the image that fits better into the other that meet it."""
        return self.pairs(matrix)[2]

    def some_blocks(self, rng: np.random.Generator, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Points of a random choice of blocks of tissue: what a registration without the rest would see."""
        chosen = []
        for blocks in (self.fixed_blocks, self.moving_blocks):
            names = np.unique(blocks)
            kept = names[rng.random(len(names)) < share]
            chosen.append(np.flatnonzero(np.isin(blocks, kept)))
        return chosen[0], chosen[1]


def _reachable(side: Side, other: Side, matrix: np.ndarray, reach_mm: float) -> np.ndarray:
    """(n,) bool of the side's drawn points."""
    grid = other.bins.grid
    index = grid.indices_kji(side.drawn @ matrix[:3, :3].T + matrix[:3, 3])
    grow = reach_mm / grid.spacing_kji_mm
    return np.asarray(((index > -grow) & (index < np.array(grid.shape) - 1 + grow)).all(axis=1))


def joint_histogram(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(BINS, BINS) counts of pairs of fractional bins, each shared among the four nearest cells."""
    low_a, low_b = np.minimum(a.astype(np.int32), BINS - 2), np.minimum(b.astype(np.int32), BINS - 2)
    part_a, part_b = a - low_a, b - low_b
    cell = low_a * BINS + low_b
    index = np.concatenate([cell, cell + 1, cell + BINS, cell + BINS + 1])
    rest_a, rest_b = 1.0 - part_a, 1.0 - part_b
    weight = np.concatenate([rest_a * rest_b, rest_a * part_b, part_a * rest_b, part_a * part_b])
    return np.bincount(index, weight, BINS * BINS).reshape(BINS, BINS)


def normalised_information(a: np.ndarray, b: np.ndarray) -> float:
    """Mutual information over the mean entropy of two (n,) arrays of fractional bins; 0 for constant ones."""
    joint = joint_histogram(a, b)
    joint /= max(joint.sum(), 1e-12)

    def entropy(p: np.ndarray) -> float:
        p = p[p > 1e-12]
        return float(-(p * np.log(p)).sum())

    one, two = entropy(joint.sum(1)), entropy(joint.sum(0))
    return 0.0 if one + two < 1e-9 else 2.0 * (one + two - entropy(joint.ravel())) / (one + two)
