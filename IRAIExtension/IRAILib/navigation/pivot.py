"""Where the tip of a tracked tool is: it was held in a dimple while the tool was tilted round it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import RefusedError
from .poses import check_poses, inflation, least_moved, plain, swing_deg

MIN_POSES = 10
MIN_SPREAD_DEG = 15.0  # PLUS asks for as much; a cone of 1 degree leaves the tip unknown by centimetres
MAX_RMS_MM = 2.0
MAX_OUTLIER_SHARE = 0.4
OUTLIER_SIGMAS = 3.0
FLOOR_MM = 1e-6
TRIALS, TRIAL_POSES, MOST_POSES_TRIED = 100, 6, 2000
RIDGE = 1e-9
VALIDATED_ON = "simulated poses with known tip, noise and wild poses; no recorded tool with a known tip"


@dataclass(frozen=True)
class PivotCalibration:
    """Result of a pivot calibration.

    tip_mm: (3,) tip in the tool's (marker's) frame. pivot_mm: (3,) dimple in the frame that the poses map to.
    covariance_mm2: (3, 3) of the tip, residuals' correlation in time taken into account; it holds for random error,
        not for a bent tool or a distorted field.
    rms_mm: root mean square distance of the carried tip from the dimple over the poses used.
    outliers: numbers (in the input) of poses left out. spread_deg: full angle by which the tool was tilted.
    condition: condition number of the least-squares system.
    """

    tip_mm: np.ndarray
    pivot_mm: np.ndarray
    covariance_mm2: np.ndarray
    rms_mm: float
    poses_used: int
    outliers: tuple[int, ...]
    spread_deg: float
    condition: float
    tool: str = "Tool"
    reference: str = "Tracker"
    validated_on: str = VALIDATED_ON

    @property
    def sigma_mm(self) -> float:
        """Standard deviation of the tip, root of the trace."""
        return float(np.sqrt(np.trace(self.covariance_mm2)))

    @property
    def tool_from_tip(self) -> np.ndarray:
        """(4, 4) like PLUS's StylusTipToStylus: origin in the tip, x from the marker to the tip; no rotation if they
        coincide."""
        return tip_frame(self.tip_mm, self.tip_mm)

    def to_dict(self) -> dict[str, Any]:
        return plain({
            "kind": "pivot", "units": "mm", "frame": self.tool, "tip_mm": self.tip_mm,
            "pivot_mm": self.pivot_mm, "pivot_frame": self.reference,
            f"{self.tool}TipTo{self.tool}": self.tool_from_tip,
            "uncertainty": {"sigma_mm": self.sigma_mm, "covariance_mm2": self.covariance_mm2, "rms_mm": self.rms_mm},
            "poses_used": self.poses_used, "outliers": self.outliers, "spread_deg": self.spread_deg,
            "condition": self.condition, "validated_on": self.validated_on})


def calibrate_pivot(poses: object, valid: object = None, *, tool: str = "Tool", reference: str = "Tracker",
                    max_rms_mm: float = MAX_RMS_MM) -> PivotCalibration:
    """The tip that stays where it is while the tool turns about it.

    Args:
        poses: (n, 4, 4) rigid, reference_from_tool, mm. valid: (n,) bool, where the tracker saw the tool.
    Least squares of R tip + t = pivot on the poses that a least-median fit agrees with, then 3 sd rejection.
    Raises: InputError (not rigid, not finite); RefusedError: fewer than 10 poses, tilted by less than 15 degrees
    or about one axis only, poses that don't share one tip.
    Source: Yaniv 2015 (algebraic two-step); Rousseeuw 1984 (least median of squares).
    """
    kept, numbers = check_poses(poses, valid, what=f"poses of {tool}")
    if len(kept) < MIN_POSES:
        raise RefusedError(f"{len(kept)} usable poses of {tool}; a pivot calibration needs at least {MIN_POSES}: keep "
                           "the marker in view while you tilt the tool")
    _check_spread(kept[:, :3, :3], tool)
    inside = _consensus(kept)
    solution, residuals, system = _solve(kept[inside])
    for _ in range(20):
        distance = np.linalg.norm(_residuals(kept, solution), axis=1)
        limit = max(OUTLIER_SIGMAS * np.sqrt((residuals**2).sum() / max(len(residuals) - 2, 1)), FLOOR_MM)
        wanted = distance <= limit
        if wanted.sum() < MIN_POSES or np.array_equal(wanted, inside):
            break
        inside = wanted
        solution, residuals, system = _solve(kept[inside])
    used = int(inside.sum())
    if used < (1 - MAX_OUTLIER_SHARE) * len(kept) or used < MIN_POSES:
        raise RefusedError(f"only {used} of {len(kept)} poses of {tool} turn about one point; hold the tip in a dimple "
                           "and record again")
    spread = _check_spread(kept[inside][:, :3, :3], tool)
    rms = float(np.sqrt((residuals**2).sum(axis=1).mean()))
    if rms > max_rms_mm:
        raise RefusedError(f"the tip moved by {rms:.1f} mm (at most {max_rms_mm:g}); hold it in a dimple, tighten the "
                           "marker, and record again")
    variance = (residuals**2).sum() / (residuals.size - 6) * inflation(residuals)
    covariance = np.linalg.inv(system.T @ system)[:3, :3] * variance
    return PivotCalibration(solution[:3], solution[3:], covariance, rms, used,
                            tuple(int(n) for n in numbers[~inside]), spread, float(np.linalg.cond(system)), tool,
                            reference)


def tip_frame(tip_mm: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(4, 4) tool_from_tip: origin in the tip, x along `direction` (tool frame, any length), the rest turned least."""
    matrix = np.eye(4)
    length = np.linalg.norm(direction)
    if length > 1e-9:
        x = np.asarray(direction, float) / length
        helper = np.eye(3)[1] if abs(x[1]) < 0.9 else np.eye(3)[2]
        z = np.cross(x, helper)
        z /= np.linalg.norm(z)
        matrix[:3, :3] = np.column_stack([x, np.cross(z, x), z])
    matrix[:3, 3] = tip_mm
    return matrix


def _check_spread(rotations: np.ndarray, tool: str) -> float:
    """Full angle through which the direction that moved least was tilted. Raises RefusedError below the least."""
    _, directions = least_moved(rotations)
    spread = min(swing_deg(rotations, direction) for direction in directions.T)
    if spread < MIN_SPREAD_DEG:
        raise RefusedError(f"{tool} was tilted by {spread:.1f} degrees about some axis, at least {MIN_SPREAD_DEG:g} "
                           "are needed: keep the tip in place and lean the tool to all sides, in a cone of 30 degrees "
                           "or more")
    return spread


def _solve(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """((6,) tip and pivot, (n, 3) residuals, (3n, 6) system)."""
    system = np.concatenate([poses[:, :3, :3], np.broadcast_to(-np.eye(3), (len(poses), 3, 3))], axis=2).reshape(-1, 6)
    solution = np.linalg.lstsq(system, -poses[:, :3, 3].ravel(), rcond=None)[0]
    return solution, _residuals(poses, solution), system


def _residuals(poses: np.ndarray, solution: np.ndarray) -> np.ndarray:
    return poses[:, :3, :3] @ solution[:3] + poses[:, :3, 3] - solution[3:]


def _consensus(poses: np.ndarray) -> np.ndarray:
    """(n,) bool: poses that the fit with the least median distance, of many small ones and the full one,
    agrees with.
    """
    every = poses[:: max(1, len(poses) // MOST_POSES_TRIED)]
    rotations, shifts = every[:, :3, :3], every[:, :3, 3]
    turned = np.swapaxes(rotations, 1, 2)
    squares = np.tile(np.eye(6), (len(every), 1, 1))  # of every pose's three equations, summed up below
    squares[:, :3, 3:], squares[:, 3:, :3] = -turned, -rotations
    right = np.concatenate([-(turned @ shifts[:, :, None])[:, :, 0], shifts], axis=1)
    random = np.random.default_rng(1)
    chosen = random.random((TRIALS, len(every))).argpartition(TRIAL_POSES - 1, axis=1)[:, :TRIAL_POSES]
    systems = np.concatenate([squares[chosen].sum(axis=1), squares.sum(axis=0)[None]])
    sums = np.concatenate([right[chosen].sum(axis=1), right.sum(axis=0)[None]])
    found = np.linalg.solve(systems + RIDGE * np.eye(6), sums[:, :, None])[:, :, 0]
    misses = np.einsum("nij,tj->tni", rotations, found[:, :3]) + shifts - found[:, None, 3:]
    distance = np.linalg.norm(misses, axis=2)
    medians = np.median(distance, axis=1)
    best = int(medians.argmin())
    distance = np.linalg.norm(_residuals(poses, found[best]), axis=1)
    inside = distance <= OUTLIER_SIGMAS * max(1.4826 * medians[best], FLOOR_MM)
    return inside if inside.sum() >= MIN_POSES else np.ones(len(poses), bool)
