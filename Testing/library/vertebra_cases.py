"""A painted vertebra whose pedicles are cylinders of known radius and place, and a spine of them."""

from __future__ import annotations

import numpy as np
from IRAILib.geometry import Grid, Mask, Volume

STEP_MM = 27.0
PEDICLE_X_MM, PEDICLE_Z_MM = 12.5, 6.0
CANAL_RADIUS_MM, BODY_RADIUS_MM, BODY_AHEAD_MM = 8.5, 19.0, 27.0


def spine_grid(levels: int, spacing=(0.8, 0.8, 1.25), turn_deg: float = 0.0) -> Grid:
    size = np.ceil(np.array([110.0, 110.0, STEP_MM * (levels + 1)]) / spacing).astype(int)
    angle = np.radians(turn_deg)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix[:3, :3] = matrix[:3, :3] @ np.diag(np.array([-1.0, 1.0, 1.0]) * spacing)
    matrix[:3, 3] = -matrix[:3, :3] @ ((size - 1) / 2.0)
    return Grid(tuple(int(n) for n in size[::-1]), matrix)


def vertebra_at(points: np.ndarray, centre, radii_mm=(4.5, 4.5)) -> np.ndarray:
    """Whether (..., 3) RAS lie in the vertebra whose canal's centre is `centre`; radii of the left and right pedicle.

    Upright: body, a cylinder 24 mm high in front; canal 8.5 mm; an arch behind; pedicles run straight to the front.
    """
    x, y, z = np.moveaxis(np.asarray(points, float) - np.asarray(centre, float), -1, 0)
    body = (np.hypot(x, y - BODY_AHEAD_MM) <= BODY_RADIUS_MM) & (np.abs(z) <= 12.0)
    out = body
    for side, radius in ((-1.0, radii_mm[0]), (1.0, radii_mm[1])):  # -R is left
        beam = np.hypot(x - side * PEDICLE_X_MM, z - PEDICLE_Z_MM) <= radius
        out = out | (beam & (y >= -14.0) & (y <= 18.0))
    ring = (np.hypot(x, y) <= 15.0) & (y <= -2.0) & (np.abs(z - 2.0) <= 9.0) & (np.abs(x) <= 11.0)
    spinous = (np.abs(x) <= 2.5) & (y <= -8.0) & (y >= -35.0) & (np.abs(z) <= 7.0)
    return (out | ring | spinous) & ~((np.hypot(x, y) <= CANAL_RADIUS_MM) & ~body)


def paint_spine(names: list[str], radii_mm=(4.5, 4.5), grid: Grid | None = None,
                places: list[float] | None = None) -> tuple[Volume, dict[str, Mask], dict[str, np.ndarray]]:
    """CT (bone 300 to 700 HU, discs 80, flesh 40), masks and canal centres; the first name on top."""
    grid = grid or spine_grid(len(names))
    points = grid.all_points_ras()
    top = STEP_MM * (len(names) - 1) / 2.0
    places = places or [top - STEP_MM * n for n in range(len(names))]
    array = np.where(np.hypot(points[..., 0], points[..., 1] - 5.0) < 52.0, 40.0, -1000.0).astype(np.float32)
    column = np.hypot(points[..., 0], points[..., 1] - BODY_AHEAD_MM) <= BODY_RADIUS_MM
    array[column] = 80.0
    masks, centres = {}, {}
    for name, z in zip(names, places, strict=True):
        centre = np.array([0.0, 0.0, z])
        inside = vertebra_at(points, centre, radii_mm)
        array[inside] = 300.0
        shell = inside & (np.abs(np.abs(points[..., 2] - z) - 11.0) < 1.5) & column
        array[shell] = 600.0
        masks[name], centres[name] = Mask(inside, grid, name), centre
    return Volume(array, grid, "painted spine"), masks, centres
