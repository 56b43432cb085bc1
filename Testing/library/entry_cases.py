"""Scenes for entry plans, and referees that share no code with the planner."""

from __future__ import annotations

import numpy as np
from IRAILib.geometry import Grid, Mask, Volume

SPACING = np.array([3.0, 3.0, 4.0])


def oblique_grid(shape=(40, 60, 70), spacing=SPACING, turn_deg: float = 20.0) -> Grid:
    """Voxels about the origin, turned about two axes, i and j flipped as scanners have them."""
    a, b = np.radians([turn_deg, 0.5 * turn_deg])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])
    turn = turn @ np.array([[1.0, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([-1.0, 1.0, 1.0]) @ np.diag(spacing)
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2.0)
    return Grid(shape, matrix)


def body_ct(grid: Grid, radii_mm=(85.0, 70.0)) -> Volume:
    """A patient of water: an ellipse in every slice, in air; a table under it that touches it."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    local = (index - (np.array(grid.shape) - 1) / 2.0) * grid.spacing_kji_mm
    inside = (local[..., 2] / radii_mm[0]) ** 2 + (local[..., 1] / radii_mm[1]) ** 2 <= 1.0
    table = np.abs(local[..., 1] + radii_mm[1] + 3.0) < 3.0
    return Volume(np.where(inside | table, 30.0, -1000.0).astype(np.float32), grid, "water")


def ball(grid: Grid, centre_ras, radius_mm: float, name: str = "ball") -> Mask:
    return Mask(np.linalg.norm(grid.all_points_ras() - np.asarray(centre_ras, float), axis=-1) <= radius_mm, grid, name)


def crosses(mask: Mask, start_ras: np.ndarray, end_ras: np.ndarray) -> bool:
    """Whether a segment goes through a voxel of the mask: walked from face to face (Amanatides and Woo 1987)."""
    start, end = (np.linalg.solve(mask.grid.ras_from_ijk, np.append(p, 1.0))[:3] for p in (start_ras, end_ras))
    voxel = np.floor(start + 0.5).astype(int)
    last = np.floor(end + 0.5).astype(int)
    along = end - start
    step = np.where(along >= 0, 1, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        until = np.where(along != 0, (voxel + 0.5 * step - start) / along, np.inf)
        each = np.where(along != 0, 1.0 / np.abs(along), np.inf)
    size = np.array(mask.array.shape[::-1])
    while True:
        if ((voxel >= 0) & (voxel < size)).all() and mask.array[voxel[2], voxel[1], voxel[0]]:
            return True
        if (voxel == last).all() or until.min() > 1.0:
            return False
        axis = int(until.argmin())
        voxel[axis] += step[axis]
        until[axis] += each[axis]


def brute_distance(mask: Mask, start_ras: np.ndarray, end_ras: np.ndarray, step_mm: float = 0.1) -> float:
    """Distance of a segment to the voxels as boxes: every sample against every voxel. At most step_mm / 2 too large."""
    inverse = np.linalg.inv(mask.grid.ras_from_ijk)
    count = max(2, int(np.ceil(np.linalg.norm(np.subtract(end_ras, start_ras)) / step_mm)))
    points = np.linspace(start_ras, end_ras, count) @ inverse[:3, :3].T + inverse[:3, 3]
    voxels = np.argwhere(mask.array)[:, ::-1]
    best = np.inf
    for point in points:
        gap = np.maximum(np.abs(voxels - point) - 0.5, 0.0) * mask.grid.spacing_mm
        best = min(best, float((gap**2).sum(axis=1).min()))
    return float(np.sqrt(best))
