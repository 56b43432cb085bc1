"""Which way the shaft of a tracked tool points: it was rolled between the fingers about its own axis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..geometry import InputError, RefusedError
from .pivot import tip_frame
from .poses import check_poses, least_moved, plain

MIN_POSES = 10
MIN_ROLL_DEG = 60.0
MAX_LEAN_SHARE = 0.35  # how far the shaft may lean, against how far it was rolled (root mean square)
OUTLIER_SIGMAS = 4.0
FLOOR_DEG = 1e-5
VALIDATED_ON = "simulated rolls with known axis, noise and wobble; no recorded roll was at hand"


@dataclass(frozen=True)
class SpinCalibration:
    """Result of a spin calibration.

    axis: (3,) unit vector of the shaft in the tool's frame. signed: whether its sense is known (towards the tip).
    sigma_deg: standard deviation of its direction. lean_deg: root mean square angle by which the shaft leaned.
    rolled_deg: angle through which the tool was rolled. outliers: numbers of poses left out.
    """

    axis: np.ndarray
    signed: bool
    sigma_deg: float
    lean_deg: float
    rolled_deg: float
    poses_used: int
    outliers: tuple[int, ...]
    tool: str = "Tool"
    validated_on: str = VALIDATED_ON

    def towards(self, tip_mm: object) -> SpinCalibration:
        """The same axis, turned towards a tip in the tool's frame. Raises InputError: a tip beside the marker."""
        along = float(np.dot(self.axis, np.asarray(tip_mm, float)))
        if abs(along) < 1.0:
            raise InputError("the tip lies beside the marker, not along the shaft; the sense of the axis stays unknown")
        return replace(self, axis=self.axis * np.sign(along), signed=True)

    def tool_from_tip(self, tip_mm: object) -> np.ndarray:
        """(4, 4): origin in the tip, x along the shaft (PLUS's StylusTip looks along x)."""
        return tip_frame(np.asarray(tip_mm, float), self.axis)

    def to_dict(self) -> dict[str, Any]:
        return plain({
            "kind": "spin", "units": "unit vector", "frame": self.tool, "axis": self.axis, "signed": self.signed,
            "uncertainty": {"sigma_deg": self.sigma_deg, "lean_deg": self.lean_deg}, "rolled_deg": self.rolled_deg,
            "poses_used": self.poses_used, "outliers": self.outliers, "validated_on": self.validated_on})


def calibrate_spin(poses: object, valid: object = None, *, tool: str = "Tool", tip_mm: object = None
                   ) -> SpinCalibration:
    """The direction of the tool that rolling it doesn't move.

    Args:
        poses: (n, 4, 4) rigid, reference_from_tool; only their rotations count. valid: (n,) bool.
        tip_mm: (3,) tip in the tool's frame (of a pivot calibration), which gives the axis its sense.
    Raises: InputError; RefusedError: fewer than 10 poses, rolled by less than 60 degrees, or tumbled, not rolled.
    Source: eigenvector of the scatter of the rotations, as PLUS's spin calibration; 4 sd rejection.
    """
    kept, numbers = check_poses(poses, valid, what=f"poses of {tool}")
    if len(kept) < MIN_POSES:
        raise RefusedError(f"{len(kept)} usable poses of {tool}; a spin calibration needs at least {MIN_POSES}: roll "
                           "it slowly and keep the marker in view")
    rotations = kept[:, :3, :3]
    inside = np.ones(len(rotations), bool)
    for _ in range(20):
        movement, directions = least_moved(rotations[inside])
        leans = _leans_deg(rotations, directions[:, 0], inside)
        scale = 1.4826 * np.median(np.abs(leans[inside])) / 1.1774  # median of a Rayleigh in sd of one component
        wanted = leans <= max(OUTLIER_SIGMAS * np.sqrt(2) * scale, FLOOR_DEG)
        if wanted.sum() < MIN_POSES or np.array_equal(wanted, inside):
            break
        inside = wanted
    axis = directions[:, 0]
    rolled = _rolled_deg(rotations[inside], axis)
    if rolled < MIN_ROLL_DEG:
        raise RefusedError(f"{tool} was rolled by {rolled:.0f} degrees, at least {MIN_ROLL_DEG:g} are needed: roll it "
                           "about its own shaft")
    if np.sqrt(movement[0]) > MAX_LEAN_SHARE * np.sqrt(movement[1]):
        raise RefusedError(f"{tool} was tumbled, not rolled about one axis; lay its shaft in a groove and roll it "
                           "there")
    leans = _leans_deg(rotations, axis, inside)[inside]
    lean = float(np.sqrt((leans**2).mean()))
    used = int(inside.sum())
    sigma = float(np.sqrt(movement[0] / max(movement[1], 1e-12) / max(used - 2, 1)))
    result = SpinCalibration(axis, False, float(np.degrees(sigma)), lean, rolled, used,
                             tuple(int(n) for n in numbers[~inside]), tool)
    return result if tip_mm is None else result.towards(tip_mm)


def _leans_deg(rotations: np.ndarray, axis: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(n,) angle between the carried axis and its mean over the poses inside."""
    carried = rotations @ axis
    mean = carried[inside].mean(axis=0)
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(carried, mean), axis=1), carried @ mean))


def _rolled_deg(rotations: np.ndarray, axis: np.ndarray) -> float:
    """Angle of roll about the axis: full circle less the widest gap between the rolls seen."""
    frame = tip_frame(np.zeros(3), axis)[:3, :3]
    relative = frame.T @ rotations[0].T @ rotations @ frame
    sine, cosine = relative[:, 2, 1] - relative[:, 1, 2], relative[:, 1, 1] + relative[:, 2, 2]
    angles = np.sort(np.degrees(np.arctan2(sine, cosine)))
    gaps = np.diff(np.concatenate([angles, [angles[0] + 360.0]]))
    return float(360.0 - gaps.max())
