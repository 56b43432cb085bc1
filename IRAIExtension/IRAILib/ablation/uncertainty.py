"""How sure a margin is: registration, outline and voxel error carried through to the MAM.

Three independent errors, each along the surface normal:
- registration: a common displacement, 1-sigma TRE / sqrt(3) along each axis;
- outlines: each of the two readers' masks may be shifted and may be too large or too small; half of the variance
  goes to each;
- voxels: what the grids leave open at the thinnest place.
The MAM is a minimum, so its error isn't that of one point: whole surfaces are drawn again and again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry.threads import single_blas_thread

DRAWS = 600
MAX_VERTICES = 1500
"""Vertices drawn with: the thinnest ones decide the minimum, so only those are kept."""
KEEP_SIGMAS = 6.0


@dataclass(frozen=True)
class MarginUncertainty:
    """1-sigma errors along the normal in mm, and what they do to the MAM.

    Attributes:
        registration_mm: root mean square 3D error of the transform round the zone.
        segmentation_mm: 1-sigma error of one outline; there are two.
        voxel_mm: 1-sigma error of both surfaces at the thinnest place that the voxel sizes cause.
        normal_sigma_mm: all of it along the normal at one point of the surface.
        mam_ci95_mm: 95 % interval of the MAM.
        probability_mam_below: probability that the true MAM is under the threshold.
    """

    registration_mm: float
    segmentation_mm: float
    voxel_mm: float
    normal_sigma_mm: float
    mam_ci95_mm: tuple[float, float]
    probability_mam_below: float

    def probability_below(self, margin_mm: np.ndarray, threshold_mm: float) -> np.ndarray:
        """(n,) probability at each point that its true margin is under the threshold."""
        from scipy.stats import norm

        return norm.cdf((threshold_mm - np.asarray(margin_mm)) / max(self.normal_sigma_mm, 1e-6))

    def to_dict(self) -> dict[str, Any]:
        return {"registration_tre_mm": self.registration_mm, "segmentation_sigma_mm": self.segmentation_mm,
                "voxel_sigma_mm": self.voxel_mm, "normal_sigma_mm": self.normal_sigma_mm,
                "probability_mam_below_threshold": self.probability_mam_below}


def margin_uncertainty(margin_mm: np.ndarray, normals: np.ndarray, evaluated: np.ndarray, threshold_mm: float, *,
                       registration_mm: float, segmentation_mm: float, voxel_mm: float) -> MarginUncertainty:
    """95 % interval of the MAM by redrawing the surface (seeded: the same input gives the same interval).

    Args:
        margin_mm: (n,) margin at every vertex.
        normals: (n, 3) outward unit normals of the tumour's surface.
        evaluated: (n,) bool, the vertices that count; at least one.
        threshold_mm: for the probability.
    Returns: MarginUncertainty. The interval spans both the redrawn minima and their mirror image about the
        estimate: the minimum of a noisy surface is too low, and the truth may lie on either side.
    """
    rng = np.random.default_rng(20240607)
    per_axis = registration_mm / np.sqrt(3.0)
    part = segmentation_mm / np.sqrt(2.0)
    normal_sigma = float(np.sqrt(per_axis**2 + 2.0 * segmentation_mm**2 + voxel_mm**2))
    values, directions = margin_mm[evaluated], normals[evaluated]
    near = np.flatnonzero(values < values.min() + KEEP_SIGMAS * max(normal_sigma, 0.1))
    near = near[np.argsort(values[near])]
    near = np.concatenate([near[:MAX_VERTICES // 2], near[MAX_VERTICES // 2:][::max(1, len(near) // MAX_VERTICES)]])
    shift = rng.standard_normal((DRAWS, 3)) * np.sqrt(per_axis**2 + 2.0 * part**2)
    size = rng.standard_normal(DRAWS) * np.sqrt(2.0 * part**2 + voxel_mm**2)
    with single_blas_thread():
        drawn = (values[near][None] + shift @ directions[near].T).min(axis=1) + size
    estimate = float(values.min())
    low, high = np.percentile(drawn, [2.5, 97.5])
    mirrored = 2.0 * estimate - drawn
    interval = (float(min(low, 2.0 * estimate - high)), float(max(high, 2.0 * estimate - low)))
    below = 0.5 * float(np.mean(drawn < threshold_mm) + np.mean(mirrored < threshold_mm))
    return MarginUncertainty(registration_mm, segmentation_mm, voxel_mm, normal_sigma, interval, below)
