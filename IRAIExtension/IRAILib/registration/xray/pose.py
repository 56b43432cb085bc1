"""Rigid poses: small steps (se(3)) about a pivot, checks, distances."""

from __future__ import annotations

import numpy as np

from ...geometry import InputError


def rigid(matrix: object, what: str) -> np.ndarray:
    """(4, 4) float64 rotation and translation. Raises InputError when it is none."""
    try:
        out = np.array(matrix, float)
    except (TypeError, ValueError):
        raise InputError(f"{what}: a 4x4 matrix of numbers is needed") from None
    if out.shape != (4, 4) or not np.isfinite(out).all() or np.abs(out[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise InputError(f"{what}: a finite 4x4 matrix with the last row 0 0 0 1 is needed")
    turn = out[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > 1e-3 or np.linalg.det(turn) < 0:
        raise InputError(f"{what}: isn't rigid (its axes aren't perpendicular unit vectors of a right-handed frame)")
    return out


def rotation(vector_rad: np.ndarray) -> np.ndarray:
    """(3, 3) of a rotation vector (axis times angle, radians), Rodrigues' formula."""
    x, y, z = np.asarray(vector_rad, float)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = float(np.linalg.norm(vector_rad))
    if angle < 1e-8:
        return np.eye(3) + cross + cross @ cross / 2
    return np.eye(3) + np.sin(angle) / angle * cross + (1 - np.cos(angle)) / angle**2 * cross @ cross


def step(values: np.ndarray, pivot_mm: np.ndarray) -> np.ndarray:
    """(4, 4): turn by values[3:] (rad) about `pivot_mm`, then move by values[:3] (mm)."""
    out = np.eye(4)
    out[:3, :3] = rotation(values[3:])
    out[:3, 3] = pivot_mm - out[:3, :3] @ pivot_mm + values[:3]
    return out


def align(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(3, 3) the smallest rotation that takes one direction to another (not opposite ones)."""
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    axis = np.cross(first, second)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-12:
        return np.eye(3)
    return rotation(axis / sine * np.arctan2(sine, float(first @ second)))


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(4, 4) to (n, 3) points."""
    return np.asarray(points, float) @ matrix[:3, :3].T + matrix[:3, 3]


def angle_deg(first: np.ndarray, second: np.ndarray) -> float:
    """Angle between two poses' rotations."""
    turn = first[:3, :3].T @ second[:3, :3]
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
