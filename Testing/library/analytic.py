"""Spheres and ellipsoids whose margin is known without any image: the truth for tests and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from IRAILib.geometry import Grid, Mask
from scipy.spatial.transform import Rotation

TRUTH_POINTS = 20_000


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """centre (3,) RAS mm, semi-axes (3,) mm, rotation (3, 3) with the axes as columns."""

    centre: np.ndarray
    semi_axes: np.ndarray
    rotation: np.ndarray

    def local(self, points: np.ndarray) -> np.ndarray:
        return (np.asarray(points) - self.centre) @ self.rotation

    def inside(self, points: np.ndarray) -> np.ndarray:
        return ((self.local(points) / self.semi_axes) ** 2).sum(axis=-1) <= 1.0

    def surface_points(self, count: int = TRUTH_POINTS) -> np.ndarray:
        """Points spread over the surface by the golden angle."""
        n = np.arange(count) + 0.5
        z, angle = 1.0 - 2.0 * n / count, np.pi * (1.0 + 5.0**0.5) * n
        r = np.sqrt(1.0 - z * z)
        unit = np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)
        return (unit * self.semi_axes) @ self.rotation.T + self.centre

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        """Exact distance, negative inside, by bisection for the foot point's multiplier (Eberly's method)."""
        y = np.maximum(np.abs(self.local(points)), 1e-9)
        squared = self.semi_axes**2
        low = np.full(len(y), -squared.min() + 1e-9)
        high = np.full(len(y), 1e4)
        for _ in range(80):
            middle = 0.5 * (low + high)
            value = ((self.semi_axes * y / (squared + middle[:, None])) ** 2).sum(axis=1) - 1.0
            high, low = np.where(value < 0.0, middle, high), np.where(value >= 0.0, middle, low)
        foot = squared * y / (squared + (0.5 * (low + high))[:, None])
        distance = np.linalg.norm(foot - y, axis=1)
        return np.where(((y / self.semi_axes) ** 2).sum(axis=1) <= 1.0, -distance, distance)


def rotation(rng: np.random.Generator) -> np.ndarray:
    return Rotation.random(rng=rng).as_matrix() if _takes_rng() else Rotation.random(random_state=rng).as_matrix()


def _takes_rng() -> bool:
    import inspect

    return "rng" in inspect.signature(Rotation.random).parameters


def sphere(centre, radius: float) -> Ellipsoid:
    return Ellipsoid(np.asarray(centre, float), np.full(3, float(radius)), np.eye(3))


def rasterised(shape: Ellipsoid, spacing_kji_mm, rng: np.random.Generator, pad_mm: float = 10.0,
               directions: np.ndarray | None = None) -> Mask:
    """The shape on a grid of its own: random rotation (or `directions`) and random sub-voxel offset."""
    directions = rotation(rng) if directions is None else directions
    half = np.sqrt(((directions.T @ shape.rotation * shape.semi_axes) ** 2).sum(axis=1)) + pad_mm
    spacing = np.asarray(spacing_kji_mm, float)[::-1]
    count = np.ceil(2.0 * half / spacing).astype(int)
    matrix = np.eye(4)
    matrix[:3, :3] = directions * spacing
    offset = rng.uniform(-0.5, 0.5, 3) * spacing
    matrix[:3, 3] = shape.centre - directions @ ((count - 1) / 2.0 * spacing + offset)
    grid = Grid(tuple(int(n) for n in count[::-1]), matrix)
    return Mask(shape.inside(grid.all_points_ras()), grid)


def random_pair(rng: np.random.Generator, kind: str) -> tuple[Ellipsoid, Ellipsoid, float]:
    """Tumour, ablation and the true minimal margin in mm; kind "sphere" or "ellipsoid".

    Tumour radii of 5 to 14 mm (axes vary by 30 %), margins from about -4 to +10 mm.
    """
    radius, wanted = rng.uniform(5.0, 14.0), rng.uniform(-2.0, 8.0)
    offset = rng.standard_normal(3)
    offset *= rng.uniform(0.0, 4.0) / np.linalg.norm(offset)
    centre = rng.uniform(-5.0, 5.0, 3)
    if kind == "sphere":
        tumor = sphere(centre, radius)
        ablation = sphere(centre + offset, radius + wanted + np.linalg.norm(offset))
    else:
        tumor = Ellipsoid(centre, radius * rng.uniform(0.7, 1.3, 3), rotation(rng))
        ablation = Ellipsoid(centre + offset, (radius + abs(wanted) + 2.0) * rng.uniform(0.85, 1.35, 3), rotation(rng))
    return tumor, ablation, float(-ablation.signed_distance(tumor.surface_points()).max())
