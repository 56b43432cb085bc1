"""The grid a network wants to see: the image's own axes, permuted and flipped to named directions, resampled."""

from __future__ import annotations

import numpy as np

from ..geometry import Grid, InputError, Volume, resample

_AXIS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def oriented_grid(grid: Grid, axcodes: str) -> Grid:
    """The same voxels with axes i, j, k as near as possible to `axcodes`, e.g. "RAS" or "LPS".

    An oblique grid stays oblique: axes are only permuted and flipped. Raises InputError for bad codes.
    """
    codes = axcodes.upper()
    if len(codes) != 3 or any(c not in _AXIS for c in codes) or len({_AXIS[c][0] for c in codes}) != 3:
        raise InputError(f"orientation {axcodes!r} is not three of R/L, A/P, S/I")
    source = _nearest_axes(grid.directions)
    matrix, size = np.eye(4), grid.shape[::-1]
    new_size, corner = [], np.zeros(3)
    for column, code in enumerate(codes):
        patient_axis, sign = _AXIS[code]
        own = source.index(patient_axis)
        along = grid.ras_from_ijk[:3, own]
        if along[patient_axis] * sign < 0:
            corner[own] = size[own] - 1
            along = -along
        matrix[:3, column] = along
        new_size.append(size[own])
    matrix[:3, 3] = grid.ras_from_ijk[:3, :3] @ corner + grid.ras_from_ijk[:3, 3]
    return Grid((new_size[2], new_size[1], new_size[0]), matrix)


def _nearest_axes(directions: np.ndarray) -> list[int]:
    """For each voxel axis the patient axis it is nearest to, each patient axis once (best total match)."""
    from scipy.optimize import linear_sum_assignment

    _, columns = linear_sum_assignment(-np.abs(directions).T)
    return [int(c) for c in columns]


def network_grid(grid: Grid, axcodes: str | None, spacing_mm: tuple[float, float, float] | None) -> Grid:
    """`oriented_grid`, then voxels of `spacing_mm` along its axes (0 or less keeps that axis as it is)."""
    out = oriented_grid(grid, axcodes) if axcodes else grid
    if spacing_mm is None:
        return out
    wanted = np.array(spacing_mm, float)
    if not np.isfinite(wanted).all() or (wanted > 50.0).any():
        raise InputError(f"the model's spacing {tuple(spacing_mm)} mm is absurd; the model's files are damaged")
    return out.resampled_grid(np.where(wanted > 0, wanted, out.spacing_mm))


def resample_to_the_edge(volume: Volume, grid: Grid) -> Volume:
    """Linear, with the outermost voxels repeated outwards: two grids over one box end up to half a voxel apart."""
    low = np.floor(volume.grid.indices_kji(grid.corners_ras()).min(axis=0))
    high = np.ceil(volume.grid.indices_kji(grid.corners_ras()).max(axis=0))
    before = np.maximum(0, -low).astype(int) + 1
    after = np.maximum(0, high - np.array(volume.array.shape) + 1).astype(int) + 1
    array = np.pad(volume.array, list(zip(before, after, strict=True)), mode="edge")
    start = (-int(before[0]), -int(before[1]), -int(before[2]))
    return resample(Volume(array, volume.grid.cropped_grid(start, array.shape), volume.name), grid)
