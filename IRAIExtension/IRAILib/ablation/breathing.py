"""Known motion between two scans: table, breathing and tissue contraction, exact at every point.

`pre_from_post` is a chain: rigid (how the patient lies), then breathing (a sum of Gaussian lumps, so smooth and
free of sliding), then contraction of the treated tissue. Each has a closed form and an analytic Jacobian; a
displacement grid is only made where a file or an image needs one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..geometry import Grid, GridTransform, InputError, Mask, Transform

JACOBIAN_RANGE = (0.8, 1.25)
"""Local volume change of breathing tissue that a simulated motion may have; contraction is stated apart."""
LARGEST_BREATHING_MM = 20.0
LOCAL_LUMPS = 12
DIAPHRAGM_MM = 115.0
INCOMPRESSIBLE = 0.5
"""Share of the volume change by squeezing that flow to the sides makes good: liver tissue hardly compresses."""
DAMPING = 0.85
JACOBIAN_RESERVE = 0.002
"""Kept free within the range for what lies between the points of the lattice."""
INVERSE_ROUNDS = 60
INVERSE_TOLERANCE_MM = 1e-6


@dataclass(frozen=True, eq=False)
class Contraction:
    """Shrinkage of the ablated tissue towards `centre_ras`, seen from the contracted state.

    Inside the radius every length was 1 / (1 - fraction) longer; outside the pull falls as 1 / distance^2, which
    keeps the volume of the tissue around.

    Attributes:
        centre_ras: (3,) mm, in the breathed frame.
        radius_mm: where the inside ends (the zone's mean radius).
        fraction: 0.1 means 10 % shorter in each direction.
    """

    centre_ras: np.ndarray
    radius_mm: float
    fraction: float

    def undo(self, points_ras: np.ndarray) -> np.ndarray:
        """(n, 3) contracted positions to where the tissue lay before, RAS mm."""
        away = points_ras - self.centre_ras
        share = np.linalg.norm(away, axis=1, keepdims=True) / self.radius_mm
        return points_ras + away * (self.fraction / (1.0 - self.fraction) / np.sqrt(1.0 + share**6))


@dataclass(frozen=True, eq=False)
class Motion:
    """Point map from the post-ablation scan to the pre-ablation scan, and back.

    Attributes:
        lying: (4, 4) rigid, breathed-frame from post-frame.
        centres_ras, pulls_mm: (m, 3), widths_mm: (m,), Gaussian lumps of breathing; lump 0 is the diaphragm's push.
        contraction: or None.
    """

    lying: np.ndarray
    centres_ras: np.ndarray
    widths_mm: np.ndarray
    pulls_mm: np.ndarray
    contraction: Contraction | None = None

    def breathing_mm(self, points_ras: np.ndarray) -> np.ndarray:
        """(n, 3) displacement by breathing alone."""
        out = np.zeros_like(points_ras)
        for away, weight, width, pull in self._lumps(points_ras):
            out += weight[:, None] * _swirl(away, width, pull)
        return out

    def breathing_jacobian(self, points_ras: np.ndarray) -> np.ndarray:
        """(n,) determinant of the breathing map's derivative, exact."""
        points = np.asarray(points_ras, float).reshape(-1, 3)
        slope = np.broadcast_to(np.eye(3), (len(points), 3, 3)).copy()
        for away, weight, width, pull in self._lumps(points):
            flow, along = _swirl(away, width, pull), away @ pull
            part = -flow[:, :, None] * away[:, None, :]
            part += INCOMPRESSIBLE * (0.5 * along[:, None, None] * np.eye(3) + 0.5 * away[:, :, None] * pull
                                      - pull[None, :, None] * away[:, None, :])
            slope += part * (weight / width**2)[:, None, None]
        return np.linalg.det(slope)

    def _lumps(self, points: np.ndarray):
        for centre, width, pull in zip(self.centres_ras, self.widths_mm, self.pulls_mm, strict=True):
            away = points - centre
            yield away, np.exp(-0.5 * (away**2).sum(axis=1) / width**2), width, pull

    def breathed_from_post(self, points_ras: np.ndarray) -> np.ndarray:
        """(n, 3) post-scan points to the frame in which only the contraction is left to undo."""
        points = np.asarray(points_ras, float).reshape(-1, 3) @ self.lying[:3, :3].T + self.lying[:3, 3]
        return points + self.breathing_mm(points)

    def pre_from_post(self, points_ras: np.ndarray) -> np.ndarray:
        """(n, 3) RAS mm in the post scan to the same tissue in the pre scan."""
        points = self.breathed_from_post(points_ras)
        return points if self.contraction is None else self.contraction.undo(points)

    def post_from_pre(self, points_ras: np.ndarray) -> np.ndarray:
        """(n, 3) RAS mm in the pre scan to the same tissue in the post scan, to a nanometre."""
        points = np.asarray(points_ras, float).reshape(-1, 3)
        if self.contraction is not None:
            points = _inverse(self.contraction.undo, points)
        points = _inverse(lambda p: p + self.breathing_mm(p), points)
        back = np.linalg.inv(self.lying)
        return points @ back[:3, :3].T + back[:3, 3]

    def volume_ratio(self, points_ras: np.ndarray) -> np.ndarray:
        """(n,) volume after over volume before of the tissue at pre-scan points, contraction included."""
        points = np.asarray(points_ras, float).reshape(-1, 3)
        step = 0.05
        columns = [(self.post_from_pre(points + step * e) - self.post_from_pre(points - step * e)) / (2.0 * step)
                   for e in np.eye(3)]
        return np.linalg.det(np.stack(columns, axis=2))

    def grid_transform(self, grid: Grid) -> GridTransform:
        """The map as displacements on a grid of the post frame; linear between voxels, so slightly inexact."""
        points = grid.all_points_ras().reshape(-1, 3)
        moved = self.pre_from_post(points) - points
        return GridTransform(grid, moved.reshape(*grid.shape, 3).astype(np.float32), "pre", "post")


class MotionTransform(Transform):
    """A `Motion` as a transform of the library, exact in both directions.

    Args:
        motion: the map.
        forward: True for post_from_pre, False for pre_from_post.
        grid: over which `to_sitk` samples the map (post frame).
    """

    def __init__(self, motion: Motion, grid: Grid, *, forward: bool) -> None:
        super().__init__(*(("post", "pre") if forward else ("pre", "post")))
        self.motion, self.grid, self.forward = motion, grid, forward

    def apply(self, points_ras: np.ndarray) -> np.ndarray:
        return self.motion.post_from_pre(points_ras) if self.forward else self.motion.pre_from_post(points_ras)

    def inverse_apply(self, points_ras: np.ndarray) -> np.ndarray:
        return self.motion.pre_from_post(points_ras) if self.forward else self.motion.post_from_pre(points_ras)

    def to_sitk(self):
        points = self.grid.all_points_ras().reshape(-1, 3)
        moved = (self.apply(points) - points).reshape(*self.grid.shape, 3)
        return GridTransform(self.grid, moved, self.to_frame, self.from_frame).to_sitk()


def _swirl(away: np.ndarray, width: float, pull: np.ndarray) -> np.ndarray:
    """(n, 3) flow of a lump before its weight: the pull, of which `INCOMPRESSIBLE` turns aside to keep the volume.

    With all of it turned, weight * flow is the curl of weight * (pull x away) / 2 and has no divergence.
    """
    turned = away * (away @ pull)[:, None] - pull * (away**2).sum(axis=1)[:, None]
    return pull + INCOMPRESSIBLE * turned / (2.0 * width**2)


def _inverse(function: Callable[[np.ndarray], np.ndarray], target: np.ndarray) -> np.ndarray:
    guess = target.copy()
    for _ in range(INVERSE_ROUNDS):
        residual = target - function(guess)
        guess += residual
        if np.abs(residual).max(initial=0.0) < INVERSE_TOLERANCE_MM:
            return guess
    raise InputError("the simulated motion can't be inverted; ask for less breathing or contraction")


def rigid_about(centre_ras: np.ndarray, angles_deg: np.ndarray, shift_mm: np.ndarray) -> np.ndarray:
    """(4, 4) rotation about a point by Euler angles (R, A, S axes) and a shift."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = centre_ras - matrix[:3, :3] @ centre_ras + shift_mm
    return matrix


def breathing_motion(organ: Mask, rng: np.random.Generator, breathing_mm: float, *, rotation_deg: float = 2.0,
                     shift_mm: float = 10.0) -> Motion:
    """A breath whose largest displacement inside the organ is `breathing_mm`.

    Mostly cranio-caudal with an anterior part, strongest under the diaphragm and wide, so that a liver is carried more
    than strained, with local lumps on top (damped
    until the Jacobian keeps within `JACOBIAN_RANGE` on a 6 mm lattice), and a patient who lies a little
    differently: up to `rotation_deg` about each axis and `shift_mm` along it.

    Raises InputError for a breath above `LARGEST_BREATHING_MM` or one that can't keep the range.
    """
    if not 0.0 <= breathing_mm <= LARGEST_BREATHING_MM:
        raise InputError(f"breathing of {breathing_mm} mm: choose 0 to {LARGEST_BREATHING_MM:g} mm")
    points = organ.grid.points_ras(np.argwhere(organ.require_not_empty().array)[::29])
    middle, top = points.mean(axis=0), np.percentile(points[:, 2], 95.0)
    lying = rigid_about(middle, rng.uniform(-1.0, 1.0, 3) * rotation_deg, rng.uniform(-1.0, 1.0, 3) * shift_mm)
    sense = rng.choice([-1.0, 1.0])
    push = sense * np.array([rng.uniform(-0.1, 0.1), -rng.uniform(0.2, 0.4), 1.0])
    dome = np.array([middle[0], middle[1] + 15.0, 0.6 * top + 0.4 * middle[2]])
    around = points[rng.choice(len(points), LOCAL_LUMPS)]
    local = rng.standard_normal((LOCAL_LUMPS, 3)) * 0.12
    widths = np.concatenate([[DIAPHRAGM_MM], rng.uniform(25.0, 45.0, LOCAL_LUMPS)])
    shape = Motion(lying, np.vstack([dome, around]), widths, np.vstack([push, local]))
    lattice = _lattice(points)
    lowest, highest = JACOBIAN_RANGE[0] + JACOBIAN_RESERVE, JACOBIAN_RANGE[1] - JACOBIAN_RESERVE
    motion = shape
    for attempt in range(60):
        largest = np.linalg.norm(motion.breathing_mm(points), axis=1).max()
        motion = replace(motion, pulls_mm=motion.pulls_mm * (breathing_mm / max(largest, 1e-9)))
        jacobian = motion.breathing_jacobian(lattice)
        if lowest < jacobian.min() and jacobian.max() < highest:
            return motion
        pulls = shape.pulls_mm.copy()
        pulls[1:] *= DAMPING ** (attempt + 1)
        motion = replace(shape, pulls_mm=pulls)
    raise InputError(f"no smooth breath of {breathing_mm} mm keeps the Jacobian within {JACOBIAN_RANGE}")


def _lattice(points: np.ndarray, step_mm: float = 6.0, beyond_mm: float = 60.0) -> np.ndarray:
    """(n, 3) points every 6 mm over the organ's box and 60 mm beyond, where all of the motion's slope lies."""
    axes = [np.arange(points[:, a].min() - beyond_mm, points[:, a].max() + beyond_mm, step_mm) for a in range(3)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
