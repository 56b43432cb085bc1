"""A patient of balls in a cylinder: its CT on a grid, its X-ray frames by formula (chords), so that no ray marcher is
judged by another of its kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from IRAILib.geometry import CArmGeometry, Grid, Volume, geometry_from_angles
from IRAILib.registration.xray.pose import apply

WATER, PER_HU = 0.0206, (0.0604 - 0.0206) / 1660.0
VOXEL_MM, SHAPE = 2.5, (84, 92, 92)
BODY_MM, LEVEL_MM, LEVELS = 100.0, 28.0, range(-5, 6)


@dataclass(frozen=True, eq=False)
class Phantom:
    """centres (n, 3) mm, radii (n,), HU above water (n,), in RAS; a cylinder of water along S through the origin."""

    centres: np.ndarray
    radii: np.ndarray
    extra_hu: np.ndarray

    def ct(self) -> Volume:
        """HU; the cylinder runs out of both ends."""
        matrix = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
        matrix[:3, 3] = -VOXEL_MM * (np.array(SHAPE[::-1]) - 1) / 2
        grid = Grid(SHAPE, matrix)
        points = grid.all_points_ras()
        inside = np.clip((BODY_MM - np.linalg.norm(points[..., :2], axis=-1)) / VOXEL_MM + 0.5, 0, 1)
        hu = 1000.0 * (inside - 1)
        for centre, radius, extra in zip(self.centres, self.radii, self.extra_hu, strict=True):
            middle = grid.indices_kji(centre[None])[0]
            reach = radius / VOXEL_MM + 2
            box = tuple(slice(max(0, int(m - reach)), max(0, int(m + reach) + 2)) for m in middle)
            hu[box] += extra * np.clip((radius - np.linalg.norm(points[box] - centre, axis=-1)) / VOXEL_MM + 0.5, 0, 1)
        return Volume(hu.astype(np.float32), grid, "phantom")

    def lines(self, geometry: CArmGeometry, table_from_ras: np.ndarray) -> np.ndarray:
        """(rows, columns) line integrals, exact."""
        pixels = np.column_stack([a.ravel() for a in np.meshgrid(*(np.arange(n) for n in geometry.size))])
        back = np.linalg.inv(table_from_ras)
        source = apply(back, geometry.source_mm[None])[0]
        rays = geometry.rays(pixels) @ back[:3, :3].T
        flat = np.linalg.norm(rays[:, :2], axis=1)
        across = np.abs(rays[:, 0] * source[1] - rays[:, 1] * source[0]) / flat
        out = WATER * 2 * np.sqrt(np.maximum(BODY_MM**2 - across**2, 0)) / flat
        for centre, radius, extra in zip(self.centres, self.radii, self.extra_hu, strict=True):
            gap = np.linalg.norm(np.cross(rays, centre - source), axis=1)
            out += extra * PER_HU * 2 * np.sqrt(np.maximum(radius**2 - gap**2, 0))
        return out.reshape(geometry.size[::-1])


def phantom(ribs: bool = True, seed: int = 3) -> Phantom:
    """A spine of equal vertebrae; with `ribs` also bones that no two levels share."""
    rng = np.random.default_rng(seed)
    balls = []
    for level in LEVELS:
        z = level * LEVEL_MM
        balls += [(0, -50, z, 13, 500), (0, -50, z + 9, 7, 500), (22, -62, z, 6, 500), (-22, -62, z, 6, 500),
                  (0, -78, z - 6, 6, 500), (9, -38, z + 4, 5, 400)]
    if ribs:
        for _ in range(100):
            angle, r = rng.uniform(0, 2 * np.pi), rng.uniform(55, 85)
            balls.append((r * np.cos(angle), r * np.sin(angle), rng.uniform(-130, 130), rng.uniform(5, 10),
                          rng.uniform(300, 700)))
    table = np.array(balls, float)
    return Phantom(table[:, :3], table[:, 3], table[:, 4])


def view(primary: float = 4.0, secondary: float = 3.0, pixels: int = 150, mm: float = 1.8) -> CArmGeometry:
    return geometry_from_angles(primary, secondary, 1100.0, 750.0, mm, (pixels, pixels))
