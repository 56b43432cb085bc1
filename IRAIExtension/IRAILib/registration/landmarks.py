"""Points that a reader placed in both images: they judge the result, and may improve it."""

from __future__ import annotations

import numpy as np

from ..geometry import Grid, InputError, LinearTransform, Transform

REACH_MM = 30.0
PLACING_SD_MM = 1.5
FEWEST_TO_CORRECT = 5
LEAST_GAIN = 0.9
"""A correction is kept when it brings the error of landmarks it has not seen below this share."""


def check_landmarks(fixed, moving) -> tuple[np.ndarray, np.ndarray] | None:
    """(n, 3) twice, or None without landmarks. Raises InputError when they don't pair."""
    if fixed is None and moving is None:
        return None
    if fixed is None or moving is None:
        raise InputError("landmarks are needed in both images, in the same order")
    fixed, moving = (np.asarray(points, float).reshape(-1, 3) for points in (fixed, moving))
    if len(fixed) != len(moving):
        raise InputError(f"{len(fixed)} landmarks in the fixed and {len(moving)} in the moving image; place the same "
                         "points in the same order in both")
    if not (np.isfinite(fixed).all() and np.isfinite(moving).all()):
        raise InputError("a landmark has a coordinate that is not a number; remove it from both images")
    return (fixed, moving) if len(fixed) else None


def errors(transform: Transform, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """(n,) distance in mm between mapped fixed landmarks and their moving partners."""
    return np.linalg.norm(transform.apply(fixed) - moving, axis=1)


def rigid_fit(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """(4, 4) least-squares rigid map of (n, 3) fixed to moving points (n >= 3); a shift for fewer. Kabsch 1976."""
    matrix = np.eye(4)
    a, b = fixed.mean(axis=0), moving.mean(axis=0)
    if len(fixed) >= 3:
        u, _, vt = np.linalg.svd((fixed - a).T @ (moving - b))
        flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
        matrix[:3, :3] = vt.T @ flip @ u.T
    matrix[:3, 3] = b - matrix[:3, :3] @ a
    return matrix


def correct(field: np.ndarray, grid: Grid, placed: Transform, rigid: LinearTransform, fixed: np.ndarray,
            moving: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """The field, bent smoothly towards the landmarks where that helps those it has not seen.

    Args:
        placed: the whole map so far.
    Returns: field; (n,) error in mm of every landmark, each held out of its own correction; whether it was corrected.
    Gaussian process with a reach of `REACH_MM`; every landmark is trusted to `PLACING_SD_MM`.
    """
    back = rigid.inverse()
    residual = back.apply(moving) - back.apply(placed.apply(fixed))
    plain = np.linalg.norm(residual, axis=1)
    if len(fixed) < FEWEST_TO_CORRECT:
        return field, plain, False
    held_out = np.empty(len(fixed))
    for n in range(len(fixed)):
        others = np.arange(len(fixed)) != n
        weights = _solve(fixed[others], residual[others])
        held_out[n] = np.linalg.norm(residual[n] - (_kernel(fixed[n:n + 1], fixed[others]) @ weights)[0])
    if np.mean(held_out) > LEAST_GAIN * np.mean(plain):
        return field, plain, False
    weights = _solve(fixed, residual)
    out = field.copy()
    for k in range(grid.shape[0]):
        points = grid.cropped_grid((k, 0, 0), (1, *grid.shape[1:])).all_points_ras().reshape(-1, 3)
        out[k] += (_kernel(points, fixed) @ weights).reshape(*grid.shape[1:], 3).astype(np.float32)
    return out, held_out, True


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=-1)
    return np.exp(-0.5 * squared / REACH_MM**2)


def _solve(points: np.ndarray, residual: np.ndarray) -> np.ndarray:
    signal = max(float((residual**2).mean()), 0.25)
    return np.linalg.solve(_kernel(points, points) + np.eye(len(points)) * PLACING_SD_MM**2 / signal, residual)
