"""A small body with an organ, vessels, a tumour and an ablation zone, and a motion that is known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from IRAILib.geometry import Grid, Mask, Volume
from scipy import ndimage


@dataclass(frozen=True)
class Case:
    fixed: Volume
    moving: Volume
    fixed_organ: Mask
    moving_organ: Mask
    zone: Mask
    tumor: Mask
    centre: np.ndarray

    @staticmethod
    def moving_from_fixed(points: np.ndarray, amount: float = 1.0) -> np.ndarray:
        """The truth: a shift, a small turn, and a smooth bend of about 6 mm."""
        angle = 0.05 * amount
        turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0, 0, 1.0]])
        away = points - CENTRE
        bend = np.exp(-0.5 * (np.linalg.norm(away - [-18.0, 10.0, 22.0], axis=1) / 35.0) ** 2)
        return away @ turn.T + CENTRE + amount * (np.array([9.0, -6.0, 12.0]) + bend[:, None] * [2.0, -3.0, 6.0])

    def masks(self) -> dict:
        return {"fixed_organ": self.fixed_organ, "moving_organ": self.moving_organ, "exclude_fixed": self.zone,
                "exclude_moving": self.tumor}


CENTRE = np.array([20.0, -15.0, 40.0])
RADII = np.array([52.0, 44.0, 46.0])
TUMOR = np.array([4.0, -4.0, 6.0])


def _vessels(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray, float]]:
    out = []
    for _ in range(40):
        middle, along = rng.uniform(-0.75, 0.75, 3) * RADII, rng.standard_normal(3)
        out.append((middle, along / np.linalg.norm(along), rng.uniform(2.5, 4.5)))
    return out


def scene(points: np.ndarray, inverted: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(values, inside the organ) of the tissue at (n, 3) points of the moving frame, without the tumour."""
    away = points - CENTRE
    depth = np.linalg.norm(away / RADII, axis=1)
    body = np.linalg.norm(away / [95.0, 80.0, 300.0], axis=1)
    organ = 1.0 / (1.0 + np.exp((depth - 1.0) * 40.0))
    values = -1000.0 + 950.0 / (1.0 + np.exp((body - 1.0) * 60.0)) + 110.0 * organ
    for middle, along, radius in _vessels(np.random.default_rng(5)):
        offset = away - middle
        reach = np.abs(offset @ along)
        distance = np.linalg.norm(offset - (offset @ along)[:, None] * along, axis=1)
        vessel = 1.0 / (1.0 + np.exp((distance - radius) * 1.6)) / (1.0 + np.exp((reach - 18.0) * 0.6))
        values = values + (-45.0 if inverted else 90.0) * vessel * organ
    return values, depth < 1.0


def _image(grid: Grid, points: np.ndarray, rng: np.random.Generator, inverted: bool, paint) -> tuple[Volume, Mask]:
    values, inside = scene(points, inverted)
    values = paint(values).reshape(grid.shape) + ndimage.gaussian_filter(rng.normal(0.0, 18.0, grid.shape), 0.6)
    return Volume(values.astype(np.float32), grid, "scan"), Mask(inside.reshape(grid.shape), grid, "organ")


def grid_about(centre: np.ndarray, spacing: tuple[float, float, float], shape: tuple[int, int, int],
               tilt: float = 0.0) -> Grid:
    """A grid whose middle is `centre`; `tilt` (radians) makes it oblique. Spacing is (i, j, k)."""
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([-spacing[0], -spacing[1], spacing[2]])
    matrix[:3, 3] = centre - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1.0) / 2.0)
    return Grid(shape, matrix)


def make_case(*, inverted: bool = False, amount: float = 1.0, tumor_mm: float = 9.0, zone_mm: float = 14.0,
              tilt: float = 0.2, seed: int = 3) -> Case:
    """Fixed: after, with the zone. Moving: before, with the tumour. They share no noise, grid or spacing."""
    rng = np.random.default_rng(seed)
    truth = lambda points: Case.moving_from_fixed(points, amount)  # noqa: E731
    fixed_grid = grid_about(CENTRE - amount * np.array([9.0, -6.0, 12.0]), (2.2, 2.2, 2.5), (52, 58, 64), tilt)
    moving_grid = grid_about(CENTRE, (2.0, 2.0, 3.0), (44, 64, 70))
    home = truth(fixed_grid.all_points_ras().reshape(-1, 3))
    own = moving_grid.all_points_ras().reshape(-1, 3)
    centre = CENTRE + TUMOR

    def ball(points: np.ndarray, radius: float) -> np.ndarray:
        return np.linalg.norm(points - centre, axis=1) - radius

    def zone_paint(values):
        share = 1.0 / (1.0 + np.exp(ball(home - [1.0, 0.5, -1.0], zone_mm) / 0.8))
        return values * (1.0 - share) + share * 10.0

    def tumor_paint(values):
        share = 1.0 / (1.0 + np.exp(ball(own, tumor_mm) / 0.8))
        return values * (1.0 - share) + share * 5.0

    fixed, fixed_organ = _image(fixed_grid, home, rng, inverted, zone_paint)
    moving, moving_organ = _image(moving_grid, own, rng, False, tumor_paint)
    zone = Mask((ball(home - [1.0, 0.5, -1.0], zone_mm) < 0).reshape(fixed_grid.shape), fixed_grid, "zone")
    tumor = Mask((ball(own, tumor_mm) < 0).reshape(moving_grid.shape), moving_grid, "tumor")
    return Case(fixed, moving, fixed_organ, moving_organ, zone, tumor, centre)
