"""Displacement fields on a grid: composition, derivative, inverse, and their place in patient space.

A field is (k, j, i, 3) float32, RAS mm: `x -> x + d(x)`.
"""

from __future__ import annotations

import numpy as np

from ..geometry import CompositeTransform, Grid, GridTransform, LinearTransform, Transform

FIELD_SPACING_MM = 3.0
BEYOND_MM = 45.0


def sample(field: np.ndarray, grid: Grid, points_ras: np.ndarray) -> np.ndarray:
    """(n, c) values of a (k, j, i, c) array at RAS points, linear, the border's beyond the grid."""
    from scipy import ndimage

    index = grid.indices_kji(points_ras).T
    return np.stack([ndimage.map_coordinates(field[..., c], index, order=1, mode="nearest")
                     for c in range(field.shape[-1])], axis=-1)


def warp(array: np.ndarray, field: np.ndarray, grid: Grid) -> np.ndarray:
    """(k, j, i) float32: the array at `x + d(x)`, linear, the border's value beyond."""
    from scipy import ndimage

    return ndimage.map_coordinates(array, moved_index(field, grid), order=1, mode="nearest")


def moved_index(field: np.ndarray, grid: Grid) -> np.ndarray:
    """(3, k, j, i) array index of `x + d(x)`."""
    ijk = field @ grid.ijk_from_ras[:3, :3].T.astype(np.float32)
    base = np.indices(grid.shape, dtype=np.float32)
    return base + np.moveaxis(ijk[..., ::-1], -1, 0)


def compose(outer: np.ndarray, inner: np.ndarray, grid: Grid) -> np.ndarray:
    """Field of `x -> y + outer(y)` with `y = x + inner(x)`."""
    from scipy import ndimage

    index = moved_index(inner, grid)
    carried = [ndimage.map_coordinates(outer[..., c], index, order=1, mode="nearest") for c in range(3)]
    return (inner + np.stack(carried, axis=-1)).astype(np.float32)


def derivative(field: np.ndarray, grid: Grid) -> np.ndarray:
    """(k, j, i, 3, 3) float32 derivative of `x + d(x)` by RAS, central differences."""
    by_index = np.stack(list(np.gradient(field.astype(np.float32), axis=(2, 1, 0))), axis=-1)
    slope = by_index @ grid.ijk_from_ras[:3, :3].astype(np.float32)
    return slope + np.eye(3, dtype=np.float32)


def jacobian(field: np.ndarray, grid: Grid) -> np.ndarray:
    """(k, j, i) float32 determinant of the derivative."""
    return np.linalg.det(derivative(field, grid))


def derivative_at(transform: Transform, points_ras: np.ndarray, step_mm: float = 1.5) -> np.ndarray:
    """(n, 3, 3) derivative of any point map by central differences."""
    columns = []
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = step_mm
        columns.append((transform.apply(points_ras + step) - transform.apply(points_ras - step)) / (2.0 * step_mm))
    return np.stack(columns, axis=-1)


def placed(field: np.ndarray, grid: Grid, rigid: LinearTransform) -> CompositeTransform:
    """The field, then the rigid map. Beyond the working grid the field fades out, without a step and slowly enough
    not to fold, so that far from the organ the rigid map alone applies."""
    strongest = float(np.linalg.norm(field, axis=-1).max(initial=0.0))
    reach = max(BEYOND_MM, 3.0 * strongest)
    box = grid.resampled_grid(FIELD_SPACING_MM)
    more = int(np.ceil(reach / FIELD_SPACING_MM)) + 1
    k, j, i = (n + 2 * more for n in box.shape)
    wide = box.cropped_grid((-more, -more, -more), (k, j, i))
    points = wide.all_points_ras().reshape(-1, 3)
    values = sample(field, grid, points)
    index = grid.indices_kji(points)
    over = np.maximum(np.maximum(-index, index - (np.array(grid.shape) - 1.0)), 0.0) * grid.spacing_kji_mm
    away = np.clip(np.linalg.norm(over, axis=1) / reach, 0.0, 1.0)
    values *= (1.0 - away**2 * (3.0 - 2.0 * away))[:, None]
    shaped = values.reshape(*wide.shape, 3).astype(np.float32)
    return CompositeTransform([LinearTransform(rigid.matrix, "moving", "aligned"),
                               GridTransform(wide, shaped, "aligned", "fixed")])
