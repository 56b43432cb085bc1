"""Rigid registration from matched planes, with points where the planes leave something open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, LinearTransform, RefusedError
from .surface_icp import observability

LEAST_SPAN = 0.05
LARGEST_ANGLE_DEG = 10.0
LARGEST_DISTANCE_MM = 5.0
LEAST_NOISE = 1e-3
ROUNDS = 20
VALIDATED_ON = "planes and points with known truth and noise"


@dataclass(frozen=True, eq=False)
class PlaneRegistration:
    """A rigid map from matched planes.

    fixed_from_moving: RAS mm. angle_deg: (n,) between each pair of normals after the map. distance_mm: (n,) of each
    mapped moving plane's point from the fixed plane. point_mm: (m,) of each point pair. sigma_mm: expected standard
    deviation (3D) at the planes' points, from what is left over; NaN without surplus.
    """

    fixed_from_moving: LinearTransform
    accepted: bool
    reason: str
    angle_deg: np.ndarray
    distance_mm: np.ndarray
    point_mm: np.ndarray
    sigma_mm: float
    validated_on: str = VALIDATED_ON

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "planes", "frame": self.fixed_from_moving.to_frame,
                "from_frame": self.fixed_from_moving.from_frame, "units": "mm",
                "fixed_from_moving": self.fixed_from_moving.matrix.tolist(), "accepted": self.accepted,
                "reason": self.reason, "angle_deg": self.angle_deg.round(4).tolist(),
                "distance_mm": self.distance_mm.round(4).tolist(), "point_mm": self.point_mm.round(4).tolist(),
                "uncertainty": {"sigma_mm": round(self.sigma_mm, 4) if np.isfinite(self.sigma_mm) else None},
                "validated_on": self.validated_on}


def register_planes(moving_points: object, moving_normals: object, fixed_points: object, fixed_normals: object, *,
                    moving_marks: object = None, fixed_marks: object = None, fixed: str = "fixed",
                    moving: str = "moving") -> PlaneRegistration:
    """The map that lays each moving plane on its fixed partner.

    Args:
        moving_points, fixed_points: (n, 3) a point of each plane, mm. moving_normals, fixed_normals: (n, 3), same sense
            in both. moving_marks, fixed_marks: (m, 3) matched points besides, for what planes leave open.
    Raises: InputError (lists that don't pair, not finite); RefusedError when planes and points don't fix all six
    degrees of freedom: it names what is open.
    """
    p, q = _table(moving_points, "moving points"), _table(fixed_points, "fixed points")
    n, m = _unit(moving_normals, "moving normals"), _unit(fixed_normals, "fixed normals")
    if not len(p) == len(q) == len(n) == len(m):
        raise InputError(f"planes: {len(p)} and {len(q)} points, {len(n)} and {len(m)} normals don't pair")
    if (moving_marks is None) != (fixed_marks is None):
        raise InputError("marks: points in both frames are needed")
    a = _table(() if moving_marks is None else moving_marks, "moving marks")
    b = _table(() if fixed_marks is None else fixed_marks, "fixed marks")
    if len(a) != len(b):
        raise InputError(f"marks: {len(a)} and {len(b)} points don't pair")
    _check_span(q, m, b)
    matrix = _solve(p, n, q, m, a, b)
    turned = n @ matrix[:3, :3].T
    angle = np.degrees(np.arccos(np.clip((turned * m).sum(axis=1), -1.0, 1.0)))
    distance = np.abs(((p @ matrix[:3, :3].T + matrix[:3, 3] - q) * m).sum(axis=1))
    marks = np.linalg.norm(a @ matrix[:3, :3].T + matrix[:3, 3] - b, axis=1)
    reason = _reason(angle, distance, marks)
    good = f"{len(p)} planes meet within {angle.max(initial=0):.1f} degrees and {distance.max(initial=0):.1f} mm"
    return PlaneRegistration(LinearTransform(matrix, fixed, moving), reason is None, reason or good, angle, distance,
                             marks, _sigma(q, m, b, angle, distance, marks))


def _table(values: object, name: str) -> np.ndarray:
    array = np.asarray(values, float)
    if array.size == 0:
        return np.empty((0, 3))
    if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
        raise InputError(f"{name}: a finite (n, 3) table is needed, not {array.shape}")
    return array


def _unit(values: object, name: str) -> np.ndarray:
    array = _table(values, name)
    length = np.linalg.norm(array, axis=1, keepdims=True)
    if (length < 1e-9).any():
        raise InputError(f"{name}: a normal has no length")
    return array / length


def _rows(q: np.ndarray, m: np.ndarray, b: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """(rows, 6) slopes: distances of planes and points in mm, tilts of normals as mm at the radius."""
    zero = np.zeros((len(m), 3))
    parts = [np.hstack([m, np.cross(q - centre, m)])]
    for axis in np.eye(3):
        parts.append(np.hstack([zero, radius * np.cross(m, axis)]))
        parts.append(np.hstack([np.tile(axis, (len(b), 1)), np.cross(b - centre, axis)]))
    return np.concatenate(parts)


def _middle(q: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    both = np.concatenate([q, b])
    centre = both.mean(axis=0) if len(both) else np.zeros(3)
    return centre, max(float(np.sqrt(((both - centre) ** 2).sum(axis=1).mean())) if len(both) else 0.0, 20.0)


def _check_span(q: np.ndarray, m: np.ndarray, b: np.ndarray) -> None:
    if len(q) + len(b) == 0:
        raise InputError("planes: none were given")
    centre, radius = _middle(q, b)
    rows = _rows(q, m, b, centre, radius)
    free, _, _ = observability(rows, centre, radius, 1.0)
    narrow = len(b) == 0 and (np.linalg.svd(m, compute_uv=False)[-1:].min() / np.sqrt(len(m)) < LEAST_SPAN
                              or len(m) < 3)
    if free or narrow:
        what = "; ".join(free) or f"shift along {np.round(np.linalg.svd(m)[2][-1], 2).tolist()}"
        raise RefusedError(f"these planes leave open: {what}; add a plane that faces another way, or matched points")


def _solve(p: np.ndarray, n: np.ndarray, q: np.ndarray, m: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Turn from normals and point pairs, then Gauss-Newton on tilts, plane and point distances together."""
    from .rigid_search import rotation_from_vector

    lever = np.concatenate([a - a.mean(axis=0), b - b.mean(axis=0)], axis=1) if len(a) > 1 else np.empty((0, 6))
    scale = max(float(np.abs(lever).max(initial=0.0)), 1.0)
    u, _, vt = np.linalg.svd(n.T @ m + lever[:, :3].T @ lever[:, 3:] / scale**2)
    turn = vt.T @ np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))]) @ u.T
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    rows = np.concatenate([m, np.tile(np.eye(3), (len(b), 1))])
    right = np.concatenate([((q - p @ turn.T) * m).sum(axis=1), (b - a @ turn.T).ravel()])
    matrix[:3, 3] = np.linalg.lstsq(rows, right, rcond=None)[0]
    centre, radius = _middle(q, b)
    slopes = _rows(q, m, b, centre, radius)
    for _ in range(ROUNDS):
        moved, turned, marks = (p @ matrix[:3, :3].T + matrix[:3, 3], n @ matrix[:3, :3].T,
                                a @ matrix[:3, :3].T + matrix[:3, 3])
        parts = [((moved - q) * m).sum(axis=1)]
        for axis in range(3):
            parts += [radius * (turned - m)[:, axis], (marks - b)[:, axis]]
        # Tilts enter as turned - m = turn x m, whose component along an axis is turn . (m x axis).
        step = np.linalg.lstsq(slopes, -np.concatenate(parts), rcond=None)[0]
        move = np.eye(4)
        move[:3, :3] = rotation_from_vector(step[3:])
        move[:3, 3] = centre - move[:3, :3] @ centre + step[:3]
        matrix = move @ matrix
        if np.abs(step).max() < 1e-9:
            break
    return matrix


def _sigma(q: np.ndarray, m: np.ndarray, b: np.ndarray, angle: np.ndarray, distance: np.ndarray, marks: np.ndarray
           ) -> float:
    centre, radius = _middle(q, b)
    surplus = 3 * len(q) + 3 * len(b) - 6
    if surplus < 1:
        return float("nan")
    left = float((distance**2).sum() + ((radius * np.radians(angle)) ** 2).sum() + (marks**2).sum())
    return observability(_rows(q, m, b, centre, radius), centre, radius, max(np.sqrt(left / surplus), LEAST_NOISE))[2]


def _reason(angle: np.ndarray, distance: np.ndarray, marks: np.ndarray) -> str | None:
    if len(angle) and angle.max() > LARGEST_ANGLE_DEG:
        return (f"plane {int(angle.argmax()) + 1} is tilted {angle.max():.0f} degrees from its partner (at most "
                f"{LARGEST_ANGLE_DEG:g} is accepted); check the pairing and the sense of its normal")
    far = max(distance.max(initial=0.0), marks.max(initial=0.0))
    if far > LARGEST_DISTANCE_MM:
        return (f"planes or points lie {far:.1f} mm apart after the map (at most {LARGEST_DISTANCE_MM:g} mm is "
                "accepted); check the pairing")
    return None
