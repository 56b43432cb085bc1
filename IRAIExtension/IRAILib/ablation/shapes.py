"""Exact shapes: star-shaped lesions and zones with dense surface points, and the margin between them.

Nothing here knows a voxel: this is the truth that a margin computed from masks is judged by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

TUMOR_POINTS = 20_000
ZONE_POINTS = 60_000
SLOPE_STEP_MM = 0.02
CLIP_GRID_MM = 0.6
BESIDE_MM = 0.25
"""A surface point nearer than this to the foot of the perpendicular stands for the plane through it."""


def sphere_directions(count: int) -> np.ndarray:
    """(count, 3) unit vectors spread evenly (Fibonacci lattice)."""
    n = np.arange(count) + 0.5
    z = 1.0 - 2.0 * n / count
    turn = np.pi * (1.0 + np.sqrt(5.0)) * n
    flat = np.sqrt(1.0 - z * z)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)


@dataclass(frozen=True, eq=False)
class StarShape:
    """A closed surface that every ray from its centre meets once: an ellipsoid with smooth bumps.

    Attributes:
        centre_ras: (3,) mm.
        axes: (3, 3) unit vectors as columns.
        radii_mm: (3,) half-lengths along the axes before bumps.
        bump_directions: (m, 3) unit vectors; bump_sizes: (m,) share of the radius; bump_sharpness: (m,).
    """

    centre_ras: np.ndarray
    axes: np.ndarray
    radii_mm: np.ndarray
    bump_directions: np.ndarray
    bump_sizes: np.ndarray
    bump_sharpness: np.ndarray

    def radius_mm(self, directions: np.ndarray) -> np.ndarray:
        """(n,) distance from the centre to the surface along (n, 3) unit vectors."""
        base = 1.0 / np.linalg.norm(directions @ self.axes / self.radii_mm, axis=1)
        factor = np.ones(len(directions))
        for towards, size, sharpness in zip(self.bump_directions, self.bump_sizes, self.bump_sharpness, strict=True):
            factor += size * np.exp(sharpness * (directions @ towards - 1.0))
        return base * factor

    def level(self, points_ras: np.ndarray) -> np.ndarray:
        """(n,) negative inside, zero on the surface; along a ray it is in mm."""
        away = points_ras - self.centre_ras
        length = np.linalg.norm(away, axis=1)
        return length - self.radius_mm(away / np.maximum(length, 1e-9)[:, None])

    def surface_points(self, count: int) -> np.ndarray:
        """(count, 3) points on the surface, RAS mm."""
        directions = sphere_directions(count)
        return self.centre_ras + directions * self.radius_mm(directions)[:, None]

    def scaled(self, factor: float) -> StarShape:
        """The same shape, `factor` times as large about its centre."""
        return replace(self, radii_mm=self.radii_mm * factor)

    @property
    def reach_mm(self) -> float:
        """Largest distance from the centre to the surface."""
        return float(self.radius_mm(sphere_directions(4000)).max())

    @property
    def mean_radius_mm(self) -> float:
        """Radius of the ball of the same volume."""
        return float((self.radius_mm(sphere_directions(4000)) ** 3).mean() ** (1.0 / 3.0))


def star_shape(rng: np.random.Generator, centre_ras: np.ndarray, radius_mm: float, *, elongation: float = 0.0,
               roughness: float = 0.0, bumps: int = 9, axis: np.ndarray | None = None) -> StarShape:
    """A sphere (no elongation, no roughness), an ellipsoid or a lobulated shape of mean radius about `radius_mm`.

    `elongation` 0.2 makes the axis 20 % longer than the others; `roughness` is the largest bump's share of the
    radius.
    """
    frame = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    if axis is not None:
        first = axis / np.linalg.norm(axis)
        second = np.cross(first, frame[:, 0])
        second /= np.linalg.norm(second)
        frame = np.stack([first, second, np.cross(first, second)], axis=1)
    radii = radius_mm * np.array([1.0 + elongation, 1.0 - elongation / 4.0, 1.0 - elongation / 4.0])
    towards = rng.standard_normal((bumps, 3))
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    return StarShape(np.asarray(centre_ras, float), frame, radii, towards,
                     roughness * rng.uniform(-1.0, 1.0, bumps), rng.uniform(3.0, 8.0, bumps))


@dataclass(frozen=True, eq=False)
class Zone:
    """An ablation zone: a star shape, cut where the organ ends.

    Attributes:
        star: the zone without the cut, post frame.
        outside_organ_mm: (n, 3) post-frame points to (n,) distance, negative inside the organ; None for no cut.
    """

    star: StarShape
    outside_organ_mm: Callable[[np.ndarray], np.ndarray] | None = None

    def level(self, points_ras: np.ndarray) -> np.ndarray:
        """(n,) negative inside."""
        level = self.star.level(points_ras)
        return level if self.outside_organ_mm is None else np.maximum(level, self.outside_organ_mm(points_ras))

    def surface(self, count: int = ZONE_POINTS) -> tuple[np.ndarray, np.ndarray]:
        """Dense (n, 3) points on the surface and (n, 3) outward unit normals, RAS mm."""
        points = self.star.surface_points(count)
        normals = _normals(self.star.level, points)
        if self.outside_organ_mm is None:
            return points, normals
        kept = self.outside_organ_mm(points) <= 0.0
        capsule = self._capsule_points()
        if not len(capsule):
            return points[kept], normals[kept]
        return (np.vstack([points[kept], capsule]),
                np.vstack([normals[kept], _normals(self.outside_organ_mm, capsule)]))

    def _capsule_points(self) -> np.ndarray:
        """(n, 3) points of the organ's surface inside the star, by marching cubes and two Newton steps."""
        from skimage import measure

        outside = self.outside_organ_mm
        assert outside is not None
        reach = self.star.reach_mm + 2.0
        axis = np.arange(-reach, reach + CLIP_GRID_MM, CLIP_GRID_MM)
        box = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3) + self.star.centre_ras
        values = outside(box).reshape((len(axis),) * 3)
        if values.max() <= 0.0 or values.min() >= 0.0:
            return np.empty((0, 3))
        vertices, faces = measure.marching_cubes(values, 0.0, spacing=(CLIP_GRID_MM,) * 3)[:2]
        points = np.vstack([vertices, vertices[faces].mean(axis=1)]) - reach + self.star.centre_ras
        for _ in range(2):
            slope = _slopes(outside, points)
            points = points - slope * (outside(points) / np.maximum((slope**2).sum(axis=1), 1e-6))[:, None]
        return points[self.star.level(points) <= 0.0]


def _slopes(function: Callable[[np.ndarray], np.ndarray], points: np.ndarray) -> np.ndarray:
    out = np.empty_like(points)
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = SLOPE_STEP_MM
        out[:, axis] = (function(points + step) - function(points - step)) / (2.0 * SLOPE_STEP_MM)
    return out


def _normals(function: Callable[[np.ndarray], np.ndarray], points: np.ndarray) -> np.ndarray:
    slope = _slopes(function, points)
    return slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-12)


def margins_mm(points_ras: np.ndarray, zone: Zone, surface: tuple[np.ndarray, np.ndarray] | None = None
               ) -> np.ndarray:
    """(n,) signed distance from points to the zone's surface; positive inside (ablated beyond the point).

    The nearest of the dense surface points is found, and the distance taken to the plane through it, so that the
    points' spacing (0.2 to 0.3 mm) costs a few micrometres only.
    """
    from scipy.spatial import cKDTree

    at, normals = zone.surface() if surface is None else surface
    index = cKDTree(at).query(points_ras)[1]
    away = points_ras - at[index]
    across = (away * normals[index]).sum(axis=1)
    aside = np.linalg.norm(away - across[:, None] * normals[index], axis=1)
    distance = np.where(aside < BESIDE_MM, np.abs(across), np.linalg.norm(away, axis=1))
    return np.where(zone.level(points_ras) <= 0.0, distance, -distance)
