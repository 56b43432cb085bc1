"""A closed surface round a point, found as one radius for every direction.

A lesion or an ablation zone is a blob with a few bumps: seen from inside, each ray leaves it once. The best
radius of every ray together, with neighbours that prefer the same radius, is a Markov random field on a
sphere. It can't leak through a thin gap, which a region grown voxel by voxel does at every liver capsule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

DIRECTIONS = 400
RADII = 56
STEP_MM = 0.5
TABLE = (49, 97)
SAMPLE_LENGTH_MM = 2.0
"""Noise of a reconstructed CT is correlated over about this length, so evidence adds up per 2 mm of ray."""
RELUCTANCE = 6.0
"""Evidence against the lesion (in log-likelihood) after which what lies behind it hardly counts any more."""
JUMP_COST, JUMP_CAP = 1.5, 60.0
"""Price of a neighbour one radius step away, and the most that any difference costs."""
REFINE_STEPS, REFINE_JUMP_COST, FORBIDDEN = 5, 0.5, 1e4
"""The stiff surface rounds off the ends of a long lesion: near it (5 steps are a third) a softer one may follow."""


@lru_cache(maxsize=1)
def sphere() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, 3) unit vectors spread evenly, and the (e,) source and target of every directed neighbour pair.

    The second half of the pairs is the first half reversed.
    """
    from scipy.spatial import cKDTree

    n = np.arange(DIRECTIONS) + 0.5
    polar, turn = np.arccos(1.0 - 2.0 * n / DIRECTIONS), np.pi * (1.0 + 5.0**0.5) * n
    vectors = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)
    near = cKDTree(vectors).query(vectors, 7)[1][:, 1:]
    pairs = np.unique(np.sort(np.stack([np.repeat(np.arange(DIRECTIONS), 6), near.ravel()], axis=1), axis=1), axis=0)
    return vectors, np.concatenate([pairs[:, 0], pairs[:, 1]]), np.concatenate([pairs[:, 1], pairs[:, 0]])


def smoothest_choice(cost: np.ndarray, jump_cost: float = JUMP_COST, iterations: int = 20) -> np.ndarray:
    """The label of every direction that minimises its cost plus the price of differing from its neighbours.

    Min-sum belief propagation, messages damped by half; the price is linear and capped.
    Args: cost: (DIRECTIONS, labels). Returns: (DIRECTIONS,) int.
    """
    from scipy.sparse import csr_matrix

    _, source, target = sphere()
    half, labels = len(source) // 2, cost.shape[1]
    reverse = np.concatenate([np.arange(half) + half, np.arange(half)])
    collect = csr_matrix((np.ones(len(target), np.float32), (target, np.arange(len(target)))))
    cost_by_label = np.ascontiguousarray(cost.T, np.float32)
    message = np.zeros((labels, len(source)), np.float32)
    for _ in range(iterations):
        belief = cost_by_label + (collect @ message.T).T
        sent = belief[:, source] - message[:, reverse]
        lowest = sent.min(axis=0)
        for k in range(1, labels):
            np.minimum(sent[k], sent[k - 1] + jump_cost, out=sent[k])
        for k in range(labels - 2, -1, -1):
            np.minimum(sent[k], sent[k + 1] + jump_cost, out=sent[k])
        sent = np.minimum(sent, lowest + JUMP_CAP) - lowest
        message += 0.5 * (sent - message)
    return (cost_by_label + (collect @ message.T).T).argmin(axis=0)


@dataclass(frozen=True, eq=False)
class Rays:
    """Samples of an image along rays from a point.

    Attributes:
        centre_mm: (3,) in the millimetre axes of the array (index times spacing, k j i).
        distances_mm: (t,) along every ray.
        values: (DIRECTIONS, t); nan outside the image.
    """

    centre_mm: np.ndarray
    distances_mm: np.ndarray
    values: np.ndarray

    @property
    def points_mm(self) -> np.ndarray:
        """(DIRECTIONS, t, 3) k j i millimetres of the samples."""
        return self.centre_mm + sphere()[0][:, None, :] * self.distances_mm[:, None]


def cast_rays(image: np.ndarray, spacing_kji_mm: np.ndarray, centre_mm: np.ndarray, reach_mm: float) -> Rays:
    """Linear samples of `image` (k, j, i) every `STEP_MM`, out to `reach_mm`."""
    from scipy import ndimage

    distances = np.arange(STEP_MM, reach_mm + STEP_MM, STEP_MM)
    points = centre_mm + sphere()[0][:, None, :] * distances[:, None]
    values = ndimage.map_coordinates(image, (points / spacing_kji_mm).reshape(-1, 3).T, order=1,
                                     mode="constant", cval=np.nan)
    return Rays(np.asarray(centre_mm, float), distances, values.reshape(len(points), -1))


def boundary_radii(evidence: np.ndarray, distances_mm: np.ndarray, smallest_mm: float, *,
                   soft: bool = False) -> np.ndarray:
    """(DIRECTIONS,) radius in mm of the closed surface that the evidence speaks for.

    Args:
        evidence: (DIRECTIONS, t) log-likelihood ratio inside : outside of every sample, clipped by the caller.
        distances_mm: (t,) of the samples.
        smallest_mm: radius below which the surface may not go.
        soft: let the surface follow long ends in a second, less stiff pass.
    """
    weight = evidence * (STEP_MM / SAMPLE_LENGTH_MM)
    against = np.cumsum(np.maximum(-weight, 0.0), axis=1)
    gain = np.cumsum(np.where(weight > 0, weight * np.exp(-against / RELUCTANCE), weight), axis=1)
    radii = np.geomspace(smallest_mm, max(distances_mm[-1], 1.5 * smallest_mm), RADII)
    cost = -np.stack([np.interp(radii, distances_mm, row) for row in gain])
    first = smoothest_choice(cost)
    if not soft:
        return radii[first]
    too_far = np.abs(np.arange(RADII) - first[:, None]) > REFINE_STEPS
    return radii[smoothest_choice(np.where(too_far, FORBIDDEN, cost), REFINE_JUMP_COST, 10)]


@lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray, np.ndarray]:
    """Which rays, and with what weight, give the radius at every node of a polar : azimuth table; (h, w, 4) each."""
    from scipy.spatial import cKDTree

    polar, turn = np.meshgrid(np.linspace(0.0, np.pi, TABLE[0]), np.linspace(-np.pi, np.pi, TABLE[1]), indexing="ij")
    unit = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=-1)
    gap, which = cKDTree(sphere()[0]).query(unit, 4)
    weight = 1.0 / (gap + 0.03) ** 2
    return which, weight / weight.sum(axis=-1, keepdims=True)


def distance_to_surface(shape: tuple[int, ...], spacing_kji_mm: np.ndarray, centre_mm: np.ndarray,
                        radii_mm: np.ndarray) -> np.ndarray:
    """(k, j, i) float32: radial distance of every voxel to the surface in mm, negative inside.

    Beyond 1.3 times the largest radius the value is only a lower bound (the radial distance to a sphere).
    """
    from scipy import ndimage

    axes = [(np.arange(n) * s - c).astype(np.float32) for n, s, c in zip(shape, spacing_kji_mm, centre_mm, strict=True)]
    k, j, i = np.meshgrid(*axes, indexing="ij", sparse=True)
    radius = np.sqrt(k * k + j * j + i * i)
    largest = float(radii_mm.max())
    out = radius - np.float32(largest)
    near = np.nonzero(radius <= 1.3 * largest + 4.0)
    x, y, z = (a[n] for a, n in zip(axes, near, strict=True))
    which, weight = _table()
    polar = np.arccos(np.clip(z / np.maximum(radius[near], 1e-6), -1.0, 1.0)) * ((TABLE[0] - 1) / np.pi)
    turn = (np.arctan2(y, x) + np.pi) * ((TABLE[1] - 1) / (2.0 * np.pi))
    surface = (radii_mm[which] * weight).sum(axis=-1)
    out[near] = radius[near] - ndimage.map_coordinates(surface, np.stack([polar, turn]), order=1, mode="nearest")
    return out
