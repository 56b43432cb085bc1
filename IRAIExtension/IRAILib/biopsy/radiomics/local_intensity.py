"""Local and global intensity peak: the mean in a sphere of 1 cm3 (IBSI manual, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .region import PEAK_RADIUS_MM, Region


def local_intensity(region: Region, *, check: Callable[[], None] = lambda: None) -> dict[str, float | str]:
    """Both peaks.

    The sphere takes every voxel of the image whose centre lies within 6.2 mm, inside the mask or not; at the
    image's border only the voxels that exist count. Local: around the brightest voxel of the intensity mask (the
    highest of them where several are equally bright); global: the highest of all voxels of the mask.

    Args:
        region: with `PEAK_RADIUS_MM` of image around the mask.
        check: called between slices; may raise CancelledError.
    The work is sums along rows, a few passes over the box for each row of the sphere; the memory is three boxes.
    """
    mean = sphere_means(region.image, region.spacing_mm, check)[region.intensity]
    values = region.image[region.intensity]
    return {"loc_peak_loc": float(mean[values == values.max()].max()), "loc_peak_glob": float(mean.max())}


def sphere_means(image: np.ndarray, spacing_mm: tuple[float, float, float],
                 check: Callable[[], None] = lambda: None) -> np.ndarray:
    """(k, j, i) mean of the voxels within `PEAK_RADIUS_MM` of each voxel."""
    nk, nj, ni = image.shape
    rows = _rows(spacing_mm, image.shape)
    middle = float(image.mean())
    sums = np.zeros((nk, nj, ni + 1))
    np.cumsum(image - middle, axis=2, out=sums[:, :, 1:])
    total, count = np.zeros(image.shape), np.zeros(image.shape)
    columns = np.arange(ni)
    for dk, dj, half in rows:
        check()
        to_k, from_k = _shifted(nk, dk)
        to_j, from_j = _shifted(nj, dj)
        low, high = np.maximum(columns - half, 0), np.minimum(columns + half + 1, ni)
        line = sums[from_k, from_j]
        total[to_k, to_j] += line[:, :, high] - line[:, :, low]
        count[to_k, to_j] += (high - low).astype(np.float64)
    return total / count + middle


def _rows(spacing_mm: tuple[float, float, float], shape: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(dk, dj, half length along i) of the sphere's rows."""
    radius = PEAK_RADIUS_MM * (1.0 + 1e-9)
    reach = [min(math.floor(radius / s), n - 1) for s, n in zip(spacing_mm, shape, strict=True)]
    rows = []
    for dk in range(-reach[0], reach[0] + 1):
        for dj in range(-reach[1], reach[1] + 1):
            left = radius**2 - (dk * spacing_mm[0]) ** 2 - (dj * spacing_mm[1]) ** 2
            if left >= 0.0:
                rows.append((dk, dj, math.floor(math.sqrt(left) / spacing_mm[2])))
    return rows


def _shifted(n: int, by: int) -> tuple[slice, slice]:
    """Where a shifted axis goes to and comes from."""
    return slice(max(0, -by), n - max(0, by)), slice(max(0, by), n + min(0, by))
