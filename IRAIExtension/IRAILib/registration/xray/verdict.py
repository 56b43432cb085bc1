"""Is this the right level? A slipped vertebra looks nearly right: the result must beat its rivals, not only a bar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import pose as poses
from .result import Rival

LOWEST_SIMILARITY = 0.62
SMALLEST_LEAD = 0.04
SMALLEST_COVERAGE = 0.3
LARGEST_IN_PLANE_MM = 0.5
LARGEST_DEPTH_MM = 1.5
"""Two of these are 1 mm in the plane and 3 mm in depth, what an accepted result promises."""
FARTHEST_MM, FARTHEST_DEG = 60.0, 25.0
MODEL_FACTOR, MODEL_MM = 1.5, (0.06, 0.5)
"""What the residuals don't tell: the radiograph differs from the frame also where it fits. A factor on the covariance's
SD, and mm in the plane and in depth added in squares; from the errors of tuning cases (seeds 2000 to 2016), whose
depth was off by 0.58 mm (root mean square) where the covariance alone said 0.25 mm."""
LEVER_MM = 50.0


def judge(similarities: Sequence[float], rivals: Sequence[Rival], coverage: Sequence[float],
          agreement: float, uncertainty_mm: tuple[float, float], moved: tuple[float, float]) -> tuple[bool, str]:
    """(accepted, one line why)."""
    lead = min((rival.lead for rival in rivals if not rival.fell_back), default=np.inf)
    if min(coverage) < SMALLEST_COVERAGE:
        return False, (f"only {min(coverage):.0%} of the frame shows what the CT holds; centre on the scanned region "
                       "or open the collimator")
    if min(similarities) < LOWEST_SIMILARITY:
        return False, (f"the radiograph doesn't resemble the frame (similarity {min(similarities):.2f}, at least "
                       f"{LOWEST_SIMILARITY} needed); check the geometry, the patient and the start")
    if lead < SMALLEST_LEAD:
        rival = min((r for r in rivals if not r.fell_back), key=lambda r: r.lead)
        return False, (f"may have slipped: {abs(rival.shift_mm):.0f} mm {'up' if rival.shift_mm > 0 else 'down'} the "
                       f"spine fits nearly as well (similarity {rival.lead:.3f} lower); take a "
                       "second view or a frame with ribs or an end vertebra")
    if moved[0] > FARTHEST_MM or moved[1] > FARTHEST_DEG:
        return False, (f"ended {moved[0]:.0f} mm and {moved[1]:.0f} degrees from the start, farther than was searched; "
                       "start again from a better guess")
    if uncertainty_mm[0] > LARGEST_IN_PLANE_MM or uncertainty_mm[1] > LARGEST_DEPTH_MM:
        return False, (f"the frame holds too little detail: {uncertainty_mm[0]:.1f} mm in the plane, "
                       f"{uncertainty_mm[1]:.1f} mm in depth (1 SD); add a second view or more dose")
    against = f"{lead:.2f} ahead of the best rival level" if np.isfinite(lead) else "every rival start fell back to it"
    return True, f"similarity {min(similarities):.2f}, {against}, {agreement:.0%} of the starts agree"


def uncertainty(covariance: np.ndarray, normal: np.ndarray) -> tuple[float, float]:
    """(in-plane, depth) mm, one SD, mean over points `LEVER_MM` off the pivot; inf where nothing was measured.

    covariance: (6, 6) of mm along and rad about the table's axes through the pivot. normal: (3,) beam.
    """
    covariance = np.asarray(covariance, float)
    if not np.isfinite(covariance).all():
        return float("inf"), float("inf")
    across, along = [], []
    for offset in np.vstack([np.eye(3), -np.eye(3)]) * LEVER_MM:
        x, y, z = offset
        moves = np.hstack([np.eye(3), -np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])])
        spread = moves @ covariance @ moves.T
        depth = float(normal @ spread @ normal)
        along.append(depth)
        across.append(float(np.trace(spread)) - depth)
    values = [MODEL_FACTOR**2 * max(float(np.mean(part)), 0.0) + model**2
              for part, model in zip((across, along), MODEL_MM, strict=True)]
    return float(np.sqrt(values[0])), float(np.sqrt(values[1]))


def moved_from(start: np.ndarray, found: np.ndarray, point_ras: np.ndarray) -> tuple[float, float]:
    """(mm at a point of the CT, degrees) between two poses."""
    gap = poses.apply(found, point_ras[None]) - poses.apply(start, point_ras[None])
    return float(np.linalg.norm(gap)), poses.angle_deg(start, found)
