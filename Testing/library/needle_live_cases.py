"""A body in an MR scanner with a needle in it, sampled along any plane; the library's painter has no part in it."""

from __future__ import annotations

import numpy as np

SIDE, THICK_MM = 160, 5.0
ENTRY, WAY = np.array([10.0, 95.0, 3.0]), np.array([-0.30, -0.94, 0.16]) / np.linalg.norm([-0.30, -0.94, 0.16])


def mr_values(points: np.ndarray, tip: np.ndarray) -> np.ndarray:
    """Signal of a body in air, with a dark cylinder of 2 mm radius from ENTRY to `tip`; RAS mm."""
    radius = np.hypot(points[..., 0] / 85.0, points[..., 1] / 78.0)
    values = np.where(radius < 1.0, 600.0 + 1.2 * points[..., 0], 0.0)
    values[np.hypot(points[..., 0] - 30.0, points[..., 1] + 30.0) < 9.0] = 80.0
    along = (points - tip) @ WAY
    off = np.linalg.norm(points - tip - along[..., None] * WAY, axis=-1)
    return np.where((along < 0.0) & (off < 2.0), 50.0, values)


def mr_slice(plane: np.ndarray, tip: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(1, h, w) int16 and its (4, 4) ras_from_ijk: 1 mm pixels, 5 mm thick, round the centre of `plane`."""
    matrix = np.eye(4)
    matrix[:3, :3] = plane[:3, :3] @ np.diag([1.0, 1.0, THICK_MM])
    matrix[:3, 3] = plane[:3, 3] - plane[:3, :3] @ [(SIDE - 1) / 2, (SIDE - 1) / 2, 0.0]
    j, i = np.mgrid[0:SIDE, 0:SIDE]
    total = np.zeros((SIDE, SIDE))
    for z in (np.arange(5) - 2) / 5:
        for shift in (-0.25, 0.25):
            index = np.stack([i + shift, j + shift, np.full_like(i, z, float), np.ones_like(i)], -1)
            total += mr_values((index @ matrix.T)[..., :3], tip) / 10
    noisy = np.hypot(total + rng.normal(0, 15, total.shape), rng.normal(0, 15, total.shape))
    return noisy.astype(np.int16)[None], matrix


def first_plane() -> np.ndarray:
    """Roughly along the needle: as planned, but 4 degrees off and 1.5 mm beside it."""
    across = np.cross(WAY, [1.0, 0.0, 0.0])
    across /= np.linalg.norm(across)
    off = np.radians(4.0)
    x = np.cos(off) * WAY + np.sin(off) * across
    z = np.cos(off) * across - np.sin(off) * WAY
    plane = np.eye(4)
    plane[:3, :3] = np.column_stack([x, np.cross(z, x), z])
    plane[:3, 3] = ENTRY + 70.0 * WAY + 1.5 * z
    return plane
