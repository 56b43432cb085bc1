"""A C-arm made metric: its projection from balls of known place, and its pose in a tracker's frame.

Resection: direct linear transform, then least squares with the detector's pixel size known (Hartley, Zisserman,
Multiple View Geometry, 2nd ed., 7.1 to 7.3). Hand-eye: Park, Martin, IEEE Trans Rob Autom 10 (1994) 717.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from ..geometry import CArmGeometry, InputError, RefusedError
from .landmarks_fit import linear_fit
from .poses import check_poses

VALIDATED_ON = "computed phantoms and poses with known truth and noise; OpenCV's resection and hand-eye"
LEAST_BALLS = 7
LEAST_DEPTH = 0.05
"""Thickness of the phantom over its width below which a projection isn't fixed."""
LEAST_AXES_DEG = 10.0
MAX_RESIDUAL_PX = 5.0


@dataclass(frozen=True, eq=False)
class Resection:
    """A projection found from balls.

    residual_px: (n,) of the fit. held_out_px: (n,) of each ball by the fit without it. frame: as the balls'.
    """

    geometry: CArmGeometry
    residual_px: np.ndarray
    held_out_px: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        return {"geometry": self.geometry.to_dict(), "residual_rms_px": _rms(self.residual_px),
                "held_out_rms_px": _rms(self.held_out_px), "frame": self.geometry.frame, "validated_on": VALIDATED_ON}


@dataclass(frozen=True, eq=False)
class CArmToTracker:
    """tracker_from_table (4, 4), mm, and its errors.

    residual_mm: (views,) RMS of source and detector between both frames. held_out_mm: the same for each view by the
    others. held_out_target_mm: largest error at the isocentre of a held-out fit.
    """

    tracker_from_table: np.ndarray
    residual_mm: np.ndarray
    held_out_mm: np.ndarray
    held_out_target_mm: float

    def to_dict(self) -> dict[str, Any]:
        return {"tracker_from_table": self.tracker_from_table.tolist(), "residual_mm": self.residual_mm.tolist(),
                "held_out_mm": self.held_out_mm.tolist(), "held_out_target_mm": self.held_out_target_mm,
                "frame": "Tracker from Table, mm", "validated_on": VALIDATED_ON}


@dataclass(frozen=True, eq=False)
class HandEye:
    """a_from_b (4, 4) and world_a_from_world_b (4, 4), mm, of poses with world_a_from_a x a_from_b =
    world_a_from_world_b x world_b_from_b.

    residual_mm, residual_deg: (n,). held_out_mm: (n,) of each pose by the others.
    """

    a_from_b: np.ndarray
    world_a_from_world_b: np.ndarray
    residual_mm: np.ndarray
    residual_deg: np.ndarray
    held_out_mm: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        return {"a_from_b": self.a_from_b.tolist(), "world_a_from_world_b": self.world_a_from_world_b.tolist(),
                "residual_rms_mm": _rms(self.residual_mm), "residual_rms_deg": _rms(self.residual_deg),
                "held_out_rms_mm": _rms(self.held_out_mm), "units": "mm, degrees",
                "frame": "b to a, and the world of b to the world of a", "validated_on": VALIDATED_ON}


def resect(balls_mm: np.ndarray, pixels: np.ndarray, mm_per_px: float | tuple[float, float], size: tuple[int, int], *,
           frame: str = "Phantom") -> Resection:
    """Projection from balls of a phantom and where the picture shows them.

    Args:
        balls_mm: (n, 3), n >= 7 and not in one plane. pixels: (n, 2) (column, row), same order. mm_per_px: on the
            detector, one number or (along a row, down a column). size: (columns, rows).

    Raises: InputError for shapes and numbers; RefusedError when the balls are too few or too flat, or don't fit.
    """
    balls, seen = np.asarray(balls_mm, float), np.asarray(pixels, float)
    spacing = np.broadcast_to(np.asarray(mm_per_px, float), (2,))
    if balls.ndim != 2 or balls.shape[1] != 3 or seen.shape != (len(balls), 2):
        raise InputError(f"resection: (n, 3) balls and (n, 2) pixels are needed, not {balls.shape} and {seen.shape}")
    if not (np.isfinite(balls).all() and np.isfinite(seen).all() and np.isfinite(spacing).all() and min(spacing) > 0):
        raise InputError("resection: balls, pixels and pixel size must be finite, the size positive")
    if len(balls) < LEAST_BALLS:
        raise RefusedError(f"resection: {len(balls)} balls; {LEAST_BALLS} or more are needed to fix and check it")
    spread = np.linalg.svd(balls - balls.mean(0), compute_uv=False)
    if spread[2] < LEAST_DEPTH * spread[0]:
        raise RefusedError("resection: the balls lie in one plane, which doesn't fix source and detector; use a "
                           "phantom with balls at several depths")
    parameters = _fit(balls, seen, spacing, _start(balls, seen, spacing))
    geometry = _geometry(parameters, spacing, size, frame)
    residual = np.linalg.norm(geometry.project(balls) - seen, axis=1)
    if not _rms(residual) <= MAX_RESIDUAL_PX:
        raise RefusedError(f"resection: the balls fit to {_rms(residual):.1f} px only (limit {MAX_RESIDUAL_PX:g}); two "
                           "are swapped, or the picture is distorted (an image intensifier needs unwarping)")
    held = []
    for n in range(len(balls)):
        rest = np.arange(len(balls)) != n
        part = _geometry(_fit(balls[rest], seen[rest], spacing, parameters), spacing, size, frame)
        held.append(float(np.linalg.norm(part.project(balls[n:n + 1])[0] - seen[n])))
    return Resection(geometry, residual, np.array(held))


def moved(geometry: CArmGeometry, to_from: np.ndarray, frame: str) -> CArmGeometry:
    """The same projection in another frame; `to_from` (4, 4) maps points of the old to the new one."""
    matrix = check_poses(np.asarray(to_from, float)[None], what="transform")[0][0]
    rotation, shift = matrix[:3, :3], matrix[:3, 3]
    return CArmGeometry(rotation @ geometry.source_mm + shift, rotation @ geometry.pixel0_mm + shift,
                        rotation @ geometry.column_mm, rotation @ geometry.row_mm, geometry.size, frame)


def carm_to_tracker(table: Sequence[CArmGeometry], tracker: Sequence[CArmGeometry]) -> CArmToTracker:
    """Where the C-arm's table frame lies in the tracker's, from the same views in both.

    Args:
        table: by the arm's angles (`geometry.geometry_from_angles`). tracker: by resection of a tracked phantom,
            brought into the tracker's frame with `moved`.

    Raises: InputError; RefusedError below three views, or when all look the same way (10 degrees or less apart).
    """
    if len(table) != len(tracker) or not table:
        raise InputError(f"C-arm to tracker: {len(table)} views by angles and {len(tracker)} by the phantom; "
                         "pairs are needed")
    if len(table) < 3:
        raise RefusedError(f"C-arm to tracker: {len(table)} views; three or more are needed, one to be held out")
    beams = np.array([g.normal for g in table])
    widest = np.degrees(np.arccos(np.clip(beams @ beams.T, -1, 1))).max()
    if widest < LEAST_AXES_DEG:
        raise RefusedError(f"C-arm to tracker: all views lie within {widest:.0f} degrees; turn the arm by 30 or more")
    a, b = (np.array([_marks(g) for g in views]) for views in (table, tracker))
    fit = linear_fit(a.reshape(-1, 3), b.reshape(-1, 3), scaled=False)
    held, targets = [], []
    for n in range(len(a)):
        rest = np.arange(len(a)) != n
        part = linear_fit(a[rest].reshape(-1, 3), b[rest].reshape(-1, 3), scaled=False)
        held.append(_miss(part, a[n], b[n]))
        targets.append(float(np.linalg.norm(_apply(part, np.zeros((1, 3))) - _apply(fit, np.zeros((1, 3))))))
    return CArmToTracker(fit, np.array([_miss(fit, p, q) for p, q in zip(a, b, strict=True)]), np.array(held),
                         max(targets))


def hand_eye(world_a_from_a: np.ndarray, world_b_from_b: np.ndarray) -> HandEye:
    """What is rigidly fixed between two bodies whose poses were taken together in two worlds (AX = XB).

    For example a tracked marker on the detector (tracker_from_marker) and the detector by its angles or a resection
    (table_from_detector): a_from_b is marker_from_detector, world_a_from_world_b is tracker_from_table.

    Args:
        both (n, 4, 4), n >= 4, taken at the same moments.

    Raises: InputError; RefusedError when the poses turn too little or all about one axis.
    """
    a, b = (check_poses(p, what=w)[0] for p, w in ((world_a_from_a, "first poses"), (world_b_from_b, "second poses")))
    if len(a) != len(b):
        raise InputError(f"hand-eye: {len(a)} and {len(b)} poses; pairs are needed")
    if len(a) < 4:
        raise RefusedError(f"hand-eye: {len(a)} pairs of poses; four or more are needed")
    x, y = _solve(a, b)
    held = []
    for n in range(len(a)):
        rest = np.arange(len(a)) != n
        part_x, part_y = _solve(a[rest], b[rest])
        held.append(float(np.linalg.norm((a[n] @ part_x)[:3, 3] - (part_y @ b[n])[:3, 3])))
    gaps = [np.linalg.inv(y @ q) @ p @ x for p, q in zip(a, b, strict=True)]
    turns = [float(np.degrees(Rotation.from_matrix(g[:3, :3]).magnitude())) for g in gaps]
    return HandEye(x, y, np.array([float(np.linalg.norm(g[:3, 3])) for g in gaps]), np.array(turns), np.array(held))


def _solve(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(np.linalg.inv(a[i]) @ a[j], np.linalg.inv(b[i]) @ b[j]) for i in range(len(a)) for j in range(i)]
    turns = [(Rotation.from_matrix(p[:3, :3]).as_rotvec(), Rotation.from_matrix(q[:3, :3]).as_rotvec())
             for p, q in pairs]
    first, second = (np.array(v) for v in zip(*turns, strict=True))
    spread = np.linalg.svd(first, compute_uv=False) / np.sqrt(len(first))
    if np.degrees(spread[0]) < LEAST_AXES_DEG or spread[1] < np.sin(np.radians(LEAST_AXES_DEG)) * spread[0]:
        raise RefusedError("hand-eye: the poses turn too little, or all about one axis; add views with other primary "
                           "and secondary angles (30 degrees or more in both)")
    u, _, vt = np.linalg.svd(first.T @ second)
    x = np.eye(4)
    x[:3, :3] = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    system = np.vstack([p[:3, :3] - np.eye(3) for p, _ in pairs])
    right = np.concatenate([x[:3, :3] @ q[:3, 3] - p[:3, 3] for p, q in pairs])
    x[:3, 3] = np.linalg.lstsq(system, right, rcond=None)[0]
    all_y = np.array([p @ x @ np.linalg.inv(q) for p, q in zip(a, b, strict=True)])
    y = np.eye(4)
    y[:3, :3] = Rotation.from_matrix(all_y[:, :3, :3]).mean().as_matrix()
    y[:3, 3] = np.mean([(p @ x)[:3, 3] - y[:3, :3] @ q[:3, 3] for p, q in zip(a, b, strict=True)], axis=0)
    return x, y


def _start(balls: np.ndarray, seen: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Direct linear transform, made a detector of that pixel size."""
    shift, scale = balls.mean(0), np.abs(balls - balls.mean(0)).max()
    x, y = (balls - shift) / scale, seen - seen.mean(0)
    size = np.abs(y).max() or 1.0
    y = y / size
    rows = []
    for (px, py), p in zip(y, np.column_stack([x, np.ones(len(x))]), strict=True):
        rows.append(np.concatenate([p, np.zeros(4), -px * p]))
        rows.append(np.concatenate([np.zeros(4), p, -py * p]))
    flat = np.linalg.svd(np.array(rows))[2][-1].reshape(3, 4)
    back = np.diag([size, size, 1.0])
    back[:2, 2] = seen.mean(0)
    unit = np.eye(4) / scale
    unit[3, 3], unit[:3, 3] = 1.0, -shift / scale
    matrix = back @ flat @ unit
    depth = np.column_stack([balls, np.ones(len(balls))]) @ matrix[2]
    matrix *= np.sign(depth.mean()) or 1.0
    if abs(np.linalg.det(matrix[:, :3])) < 1e-15 * np.abs(matrix[:, :3]).max() ** 3:
        raise RefusedError("resection: balls and pixels fix no source; they are in another order, or lie in a line")
    inverse = np.linalg.inv(matrix[:, :3])
    source = -inverse @ matrix[:, 3]
    inverse *= spacing[0] / np.linalg.norm(inverse[:, 0])
    across = inverse[:, 0] / np.linalg.norm(inverse[:, 0])
    down = inverse[:, 1] - (inverse[:, 1] @ across) * across
    down /= np.linalg.norm(down)
    normal = np.cross(across, down)
    toward = inverse[:, 2]
    distance = float(toward @ normal)
    if distance < 0:  # columns, rows and beam are left-handed in a picture seen from the detector
        normal, distance = -normal, -distance
    principal = -np.array([toward @ across / spacing[0], toward @ down / spacing[1]])
    side = float(np.sign(np.cross(across, down) @ normal))
    rotation = Rotation.from_matrix(np.column_stack([across, down, np.cross(across, down)])).as_rotvec()
    return np.concatenate([source, rotation, principal, [side * distance]])


def _geometry(p: np.ndarray, spacing: np.ndarray, size: tuple[int, int], frame: str) -> CArmGeometry:
    axes = Rotation.from_rotvec(p[3:6]).as_matrix()
    column, row = axes[:, 0] * spacing[0], axes[:, 1] * spacing[1]
    pixel0 = p[:3] + p[8] * axes[:, 2] - p[6] * column - p[7] * row
    return CArmGeometry(p[:3].copy(), pixel0, column, row, (int(size[0]), int(size[1])), frame)


def _fit(balls: np.ndarray, seen: np.ndarray, spacing: np.ndarray, start: np.ndarray) -> np.ndarray:
    def rest(p: np.ndarray) -> np.ndarray:
        axes = Rotation.from_rotvec(p[3:6]).as_matrix()
        inside = (balls - p[:3]) @ axes
        depth = inside[:, 2] / p[8]
        depth = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
        return np.ravel(inside[:, :2] / depth[:, None] / spacing + p[6:8] - seen)

    scale = np.concatenate([np.full(3, 100.0), np.full(3, 0.1), np.full(2, 100.0), [100.0]])
    return np.asarray(least_squares(rest, start, x_scale=scale, max_nfev=200).x)


def _marks(geometry: CArmGeometry) -> np.ndarray:
    """(4, 3): the source, and three marks on the detector a tenth of its distance apart."""
    reach = geometry.source_to_detector_mm
    across, down = (v / np.linalg.norm(v) for v in (geometry.column_mm, geometry.row_mm))
    return np.stack([geometry.source_mm, geometry.center_mm, geometry.center_mm + 0.1 * reach * across,
                     geometry.center_mm + 0.1 * reach * down])


def _apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _miss(matrix: np.ndarray, points: np.ndarray, there: np.ndarray) -> float:
    return _rms(np.linalg.norm(_apply(matrix, points) - there, axis=1))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
