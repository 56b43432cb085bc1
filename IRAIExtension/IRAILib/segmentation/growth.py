"""From a star-shaped surface to voxels, and on to the bumps and satellites that hang on it."""

from __future__ import annotations

import numpy as np

from ..geometry.distance import euclidean_distance_mm
from .rays import boundary_radii, cast_rays, distance_to_surface
from .tissue import BEYOND_THE_IMAGE

BAND_SHARE = 0.15
"""Width of the band round the surface in which voxels decide for themselves, as a share of the radius."""
MOST_SATELLITES = 8
SURROUNDED = 0.5
"""A satellite joins when at least this share of its rim is the lesion's own surrounding tissue."""
SMALLEST_CORE_VOXELS = 1.8


def voxel_evidence(raw: np.ndarray, spacing_kji_mm: np.ndarray, centre_mm: np.ndarray,
                   radii_mm: np.ndarray) -> np.ndarray:
    """(k, j, i) float32 log-odds: what the voxel says, plus what its distance to the surface says."""
    band = max(1.2 * float(spacing_kji_mm.min()), BAND_SHARE * float(np.median(radii_mm)))
    distance = distance_to_surface(raw.shape, spacing_kji_mm, centre_mm, radii_mm)
    return raw - np.clip(distance / band, -4.0, 8.0)


def components(inside: np.ndarray) -> np.ndarray:
    """(k, j, i) int: face-connected parts of a bool array, numbered from 1."""
    from scipy import ndimage

    return np.asarray(ndimage.label(inside)[0])  # type: ignore[index]


def add_satellites(evidence: np.ndarray, raw: np.ndarray, surrounding: np.ndarray, spacing_kji_mm: np.ndarray,
                   radius_mm: float, forbidden: np.ndarray) -> np.ndarray:
    """Evidence with the blobs that touch the main one and lie in the same tissue.

    Each gets a surface of its own, so a satellite can't leak either; one whose rim isn't mostly `surrounding`
    (muscle behind the capsule, a neighbouring organ), or that is larger than what it hangs on, is left out.

    Args: evidence: of the main blob. raw: of the voxels alone. surrounding: bool, voxels of the outside tissue.
        forbidden: (n, 3) index of the outside seeds; a blob that holds one is left out.
    """
    finest = float(spacing_kji_mm.min())
    depth = euclidean_distance_mm(np.pad(raw > 0, 1), spacing_kji_mm)[1:-1, 1:-1, 1:-1]
    cores = depth > finest
    tried = evidence > 0
    for _ in range(MOST_SATELLITES):
        main = evidence > 0
        away = euclidean_distance_mm(~main, spacing_kji_mm)
        label = components(cores & ~tried & (away < 0.5 * radius_mm + 12.0))
        reachable = np.unique(label[(away <= 3.0 * finest) & (label > 0)])
        candidate = np.isin(label, reachable[reachable > 0]) & (away > finest)
        if not candidate.any():
            break
        score = np.where(candidate, depth - 0.15 * away, -np.inf)
        at = np.unravel_index(score.argmax(), score.shape)
        if depth[at] < SMALLEST_CORE_VOXELS * finest:
            break
        own, distance = _own_evidence(raw, spacing_kji_mm, np.array(at) * spacing_kji_mm, float(depth[at]))
        tried |= distance < finest
        rim = (distance > 0.7 * finest) & (distance < 3.0 * finest) & (away > finest)
        touches = bool(((own > 0) & ~main & (away <= 1.5 * finest)).any())
        smaller = np.count_nonzero(own > 0) <= np.count_nonzero(main)
        allowed = not (distance[tuple(forbidden.T)] < 0).any()
        if touches and smaller and allowed and rim.any() and surrounding[rim].mean() >= SURROUNDED:
            evidence = np.maximum(evidence, own)
    return evidence


def _own_evidence(raw: np.ndarray, spacing_kji_mm: np.ndarray, centre_mm: np.ndarray, depth_mm: float):
    rays = cast_rays(raw, spacing_kji_mm, centre_mm, 8.0 * depth_mm + 6.0)
    evidence = np.nan_to_num(rays.values, nan=BEYOND_THE_IMAGE)
    radii = boundary_radii(evidence, rays.distances_mm, max(1.0, float(spacing_kji_mm.min())), soft=True)
    distance = distance_to_surface(raw.shape, spacing_kji_mm, centre_mm, radii)
    return voxel_evidence(raw, spacing_kji_mm, centre_mm, radii), distance
