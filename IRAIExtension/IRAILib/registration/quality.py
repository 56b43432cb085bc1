"""What a finished map is like: folding, tumour, organ, similarity, landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import Grid, InputError, Mask, Transform, Volume, resample
from ..geometry.distance import euclidean_distance_mm
from .fields import derivative_at
from .inputs import Pair, Work, signed_distance_on

TUMOR_POINTS = 4000
SURFACE_REACH_MM = 30.0
BINS = 32


@dataclass(frozen=True)
class TumorChange:
    """Of the tumour in the fixed frame against the moving one: volume in percent; mean Jacobian of the map there;
    largest length change in any direction (1.1: 10 % longer or shorter)."""

    volume_percent: float
    jacobian: float
    stretch: float


def tumor_change(transform: Transform, tumor: Mask) -> TumorChange | None:
    """How the map changes the tumour, or None where it folds inside.

    Every tumour point is brought back into the fixed frame; the volume there is the integral of 1 / Jacobian, so
    that no voxel has to be counted.
    """
    indices = np.argwhere(tumor.array)
    points = tumor.grid.points_ras(indices[:: max(1, len(indices) // TUMOR_POINTS)])
    try:
        home = transform.inverse_apply(points)
    except InputError:
        return None
    slope = derivative_at(transform, home)
    determinant = np.linalg.det(slope)
    if determinant.min() <= 0.0:
        return None
    singular = np.linalg.svd(slope, compute_uv=False).mean(axis=0)
    stretch = float(max(singular.max(), 1.0 / singular.min()))
    return TumorChange(100.0 * (float(np.mean(1.0 / determinant)) - 1.0), float(determinant.mean()), stretch)


def brought_home_mm(mask: Mask, grid: Grid, transform: Transform) -> np.ndarray:
    """(k, j, i) float32 signed distance, in the fixed frame, to a mask of the moving frame (nearly mm)."""
    distance = signed_distance_on(mask, grid, transform)
    inside = distance < 0.0
    if not inside.any():
        return distance
    spacing = grid.spacing_kji_mm
    clean = euclidean_distance_mm(~inside, spacing) - euclidean_distance_mm(inside, spacing)
    return np.where(np.abs(distance) < 3.0, distance, clean).astype(np.float32)


def organ_agreement(pair: Pair, grid: Grid, transform: Transform) -> tuple[float, float] | tuple[None, None]:
    """Dice of the organs and mean distance (mm) between their surfaces, in the fixed frame."""
    if pair.fixed_organ is None or pair.moving_organ is None:
        return None, None
    fixed = signed_distance_on(pair.fixed_organ, grid)
    moving = signed_distance_on(pair.moving_organ, grid, transform)
    seen = resample(Volume(np.ones(pair.moving.grid.shape, np.float32), pair.moving.grid), grid, transform).array > 0.5
    a, b = (fixed < 0.0) & seen, (moving < 0.0) & seen
    total = np.count_nonzero(a) + np.count_nonzero(b)
    if not a.any() or not b.any():
        return 0.0, SURFACE_REACH_MM
    dice = 2.0 * np.count_nonzero(a & b) / total
    width = 0.5 * float(grid.spacing_mm.max()) + 0.01
    distances = np.concatenate([np.abs(moving[(np.abs(fixed) < width) & seen]),
                                np.abs(fixed[(np.abs(moving) < width) & seen])])
    return float(dice), float(np.minimum(distances, SURFACE_REACH_MM).mean()) if len(distances) else 0.0


def similarity(work: Work, moving: np.ndarray, weight: np.ndarray) -> float:
    """Mutual information over the mean entropy, 0 to 1, of the fixed and a given moving image where both count."""
    both = (work.fixed_weight > 0.5) & (weight > 0.5)
    if work.fixed_organ_mm is not None:
        both &= work.fixed_organ_mm < 0.0
    if np.count_nonzero(both) < 100:
        return 0.0
    joint, _, _ = np.histogram2d(work.fixed[both], moving[both], bins=BINS, range=[[0, 1], [0, 1]])
    joint /= joint.sum()

    def entropy(p: np.ndarray) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    ha, hb = entropy(joint.sum(1)), entropy(joint.sum(0))
    return 0.0 if ha + hb < 1e-9 else 2.0 * (ha + hb - entropy(joint.ravel())) / (ha + hb)
