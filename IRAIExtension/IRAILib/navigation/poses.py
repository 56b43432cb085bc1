"""What every calibration asks of its poses and points, and how sure a mean of correlated samples is."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import InputError

ORTHOGONAL_TOLERANCE = 0.02
"""Entries of R^T R - I that a written-out rotation may show; PLUS writes six digits, trackers float32."""
LONGEST_MEMORY = 1000


def check_poses(poses: object, valid: object = None, *, what: str = "poses") -> tuple[np.ndarray, np.ndarray]:
    """(m, 4, 4) rigid poses, rotations made exactly orthogonal, and the (m,) numbers they had in the input.

    Args:
        poses: (n, 4, 4), mm. valid: (n,) bool, False where the tracker didn't see the tool; those are left out.
    Nothing in gives nothing out. Raises InputError: wrong shape, a number that isn't finite, no rigid pose.
    """
    matrices = np.asarray(poses, np.float64)
    if matrices.size == 0:
        return np.empty((0, 4, 4)), np.empty(0, int)
    if matrices.ndim != 3 or matrices.shape[1:] != (4, 4):
        raise InputError(f"{what}: 4x4 matrices are needed, not an array of shape {matrices.shape}")
    keep = np.ones(len(matrices), bool) if valid is None else np.asarray(valid, bool)
    if keep.shape != (len(matrices),):
        raise InputError(f"{what}: {len(matrices)} matrices need as many marks of validity, not {keep.shape}")
    numbers = np.nonzero(keep)[0]
    kept = matrices[numbers].copy()
    bad = ~np.isfinite(kept).all(axis=(1, 2))
    if bad.any():
        raise InputError(f"{what}: number {numbers[bad][0]} holds a value that is not finite; leave it out or mark it "
                         "as missing")
    rotations = kept[:, :3, :3]
    off = np.abs(np.swapaxes(rotations, 1, 2) @ rotations - np.eye(3)).max(axis=(1, 2), initial=0.0)
    bad = (off > ORTHOGONAL_TOLERANCE) | (np.linalg.det(rotations) < 0)
    bad |= np.abs(kept[:, 3] - (0, 0, 0, 1)).max(axis=1, initial=0.0) > 1e-6
    if bad.any():
        raise InputError(f"{what}: number {numbers[bad][0]} is no rigid pose (scaled, sheared, mirrored, or its last "
                         "row isn't 0 0 0 1)")
    u, _, vt = np.linalg.svd(rotations)
    kept[:, :3, :3] = u @ vt
    return kept, numbers


def check_points(points: object, dimension: int, what: str) -> np.ndarray:
    """(n, dimension) float64. Raises InputError: another shape, or a number that isn't finite."""
    array = np.asarray(points, np.float64)
    if array.size == 0:
        return np.empty((0, dimension))
    if array.ndim != 2 or array.shape[1] != dimension:
        raise InputError(f"{what}: points of {dimension} coordinates are needed, not an array of shape {array.shape}")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise InputError(f"{what}: point {int(np.nonzero(bad)[0][0]) + 1} has a coordinate that is not a number")
    return array


def least_moved(rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((3,) ascending mean square movement, (3, 3) columns): directions of the tool by how far rotations carry them.

    The columns are unit vectors of the tool's frame; the first is carried least: the axis of a spin, or the shaft of
    a tool that was tilted too little. Movement is the mean square distance of the unit vectors from their mean.
    """
    centred = rotations - rotations.mean(axis=0)
    values, vectors = np.linalg.eigh(np.einsum("nij,nik->jk", centred, centred) / len(rotations))
    return np.maximum(values, 0.0), vectors


def swing_deg(rotations: np.ndarray, direction: np.ndarray, *, share: float = 0.95) -> float:
    """Full angle of the cone round the mean direction that holds `share` of the carried directions."""
    carried = rotations @ direction
    mean = carried.mean(axis=0)
    length = np.linalg.norm(mean)
    if length < 1e-9:
        return 360.0
    angles = np.degrees(np.arccos(np.clip(carried @ (mean / length), -1.0, 1.0)))
    return float(2.0 * np.quantile(angles, share))


def inflation(residuals: np.ndarray) -> float:
    """By how much neighbouring samples that err alike raise the variance of a fit (1 for independent ones).

    Args: residuals: (n, d) in the order of acquisition.
    Sum of the autocorrelation up to its first negative value; at most n. Source: Geyer 1992, initial positive
    sequence, on the pooled components.
    """
    count = len(residuals)
    power = float((residuals**2).sum())
    if count < 4 or power <= 0:
        return 1.0
    total = 1.0
    for lag in range(1, min(count // 2, LONGEST_MEMORY)):
        correlation = float((residuals[lag:] * residuals[:-lag]).sum()) / power
        if correlation <= 0:
            break
        total += 2.0 * correlation
    return float(min(total, count))


def plain(value: Any) -> Any:
    """numpy to what JSON writes: lists, numbers, None for what is not finite."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
