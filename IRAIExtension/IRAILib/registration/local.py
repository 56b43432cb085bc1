"""Inside the zone there is nothing to match: what surrounds it says where it went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import Grid

BLEND_MM = (1.0, 8.0)
FEWEST_SHELL_VOXELS = 60


@dataclass(frozen=True, eq=False)
class LocalAffine:
    """Least-squares affine of the field over a shell.

    Attributes:
        centre_ras: (3,) of the shell. matrix: (4, 3), rows (x - centre, 1) to displacement in mm.
        residual_mm: root mean square of what it leaves, as a length in 3D.
        count: voxels it was fitted to.
    """

    centre_ras: np.ndarray
    matrix: np.ndarray
    residual_mm: float
    count: int

    def displacement(self, points_ras: np.ndarray) -> np.ndarray:
        """(n, 3) mm at (n, 3) RAS points."""
        away = np.asarray(points_ras) - self.centre_ras
        return away @ self.matrix[:3] + self.matrix[3]


def fit_affine(field: np.ndarray, grid: Grid, zone_mm: np.ndarray, usable: np.ndarray,
               shell_mm: tuple[float, float]) -> LocalAffine | None:
    """The local affine over usable voxels of the shell; nearer ones count more. None when too few are usable.

    Args:
        field: (k, j, i, 3) displacement, mm. zone_mm: (k, j, i) signed distance to the zone.
        usable: (k, j, i) bool, where the field rests on image content.
    """
    near, far = shell_mm
    shell = (zone_mm > near) & (zone_mm < far) & usable
    count = int(np.count_nonzero(shell))
    if count < FEWEST_SHELL_VOXELS:
        return None
    points = grid.points_ras(np.argwhere(shell))
    values = field[shell].astype(np.float64)
    distance = zone_mm[shell]
    weight = np.sqrt(np.exp(-((distance - near) / (0.5 * (far - near))) ** 2))
    centre = points.mean(axis=0)
    system = np.column_stack([points - centre, np.ones(count)])
    matrix, *_ = np.linalg.lstsq(system * weight[:, None], values * weight[:, None], rcond=None)
    residual = ((values - system @ matrix) ** 2).sum(axis=1)
    return LocalAffine(centre, matrix, float(np.sqrt(np.average(residual, weights=weight**2))), count)


def blend(field: np.ndarray, grid: Grid, zone_mm: np.ndarray, affine: LocalAffine,
          over_mm: tuple[float, float] = BLEND_MM) -> np.ndarray:
    """The field with the affine inside the zone, passing smoothly into the field over `over_mm` outside it."""
    start, end = over_mm
    share = np.clip((end - zone_mm) / (end - start), 0.0, 1.0)
    share = share**3 * (share * (6.0 * share - 15.0) + 10.0)
    touched = share > 0.0
    out = field.copy()
    inside = affine.displacement(grid.points_ras(np.argwhere(touched))).astype(np.float32)
    weight = share[touched][:, None].astype(np.float32)
    out[touched] = weight * inside + (1.0 - weight) * field[touched]
    return out
