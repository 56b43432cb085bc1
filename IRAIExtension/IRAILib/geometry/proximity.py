"""Exact distance from points to a triangle surface."""

from __future__ import annotations

import numpy as np

from .surface import Surface

CANDIDATES = 5
"""Triangles tried per point. Marching-cubes triangles are alike in size, so the nearest by centre are enough."""


def distance_to_surface_mm(points: np.ndarray, surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """(n,) unsigned distance in mm from (n, 3) points to a surface, and the (n, 3) nearest points on it.

    Exact for the triangles tried (see `CANDIDATES`). Raises ValueError for a surface without triangles.
    Source: Ericson, Real-Time Collision Detection, 2005, section 5.1.5 (regions of a triangle).
    """
    from scipy.spatial import cKDTree

    if not len(surface.triangles):
        raise ValueError("the surface has no triangles")
    points = np.asarray(points, float).reshape(-1, 3)
    if not len(points):
        return np.zeros(0), points
    corners = surface.points[surface.triangles]
    tree = cKDTree(corners.mean(axis=1))
    _, index = tree.query(points, k=min(CANDIDATES, len(corners)))
    index = index.reshape(len(points), -1)
    nearest = _nearest_on_triangles(points[:, None, :], corners[index])
    distance = np.linalg.norm(points[:, None, :] - nearest, axis=2)
    best = distance.argmin(axis=1)
    row = np.arange(len(points))
    return distance[row, best], nearest[row, best]


def within_mm(points: np.ndarray, surface: Surface, limit_mm: float) -> np.ndarray:
    """(n,) bool: which of (n, 3) points are nearer than `limit_mm` to a surface, on either side of it.

    The exact distance is taken only where the nearest vertex leaves it open.
    """
    from scipy.spatial import cKDTree

    points = np.asarray(points, float).reshape(-1, 3)
    corners = surface.points[surface.triangles]
    longest_edge = float(np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max())
    near, _ = cKDTree(surface.points).query(points, distance_upper_bound=limit_mm + longest_edge)
    inside = near <= limit_mm
    open_ = ~inside & np.isfinite(near)
    inside[open_] = distance_to_surface_mm(points[open_], surface)[0] <= limit_mm
    return inside


def _nearest_on_triangles(p: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(n, m, 3) nearest point of each triangle (n, m, 3 corners, 3) to (n, 1, 3) points."""
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    ab, ac = b - a, c - a

    def dot(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return (u * v).sum(axis=-1)

    d1, d2 = dot(ab, p - a), dot(ac, p - a)
    d3, d4 = dot(ab, p - b), dot(ac, p - b)
    d5, d6 = dot(ab, p - c), dot(ac, p - c)
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2

    def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        return np.clip(top / np.where(np.abs(bottom) < 1e-30, 1.0, bottom), 0.0, 1.0)[..., None]

    total = va + vb + vc
    out = a + ab * ratio(vb, total) + ac * ratio(vc, total)
    for region, place in (
        ((va <= 0) & (d4 >= d3) & (d5 >= d6), b + (c - b) * ratio(d4 - d3, (d4 - d3) + (d5 - d6))),
        ((vb <= 0) & (d2 >= 0) & (d6 <= 0), a + ac * ratio(d2, d2 - d6)),
        ((vc <= 0) & (d1 >= 0) & (d3 <= 0), a + ab * ratio(d1, d1 - d3)),
        ((d6 >= 0) & (d5 <= d6), c),
        ((d3 >= 0) & (d4 <= d3), b),
        ((d1 <= 0) & (d2 <= 0), a),
    ):
        out = np.where(region[..., None], place, out)
    return out
