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
        check: called between transforms; may raise CancelledError.
    The means come from Fourier transforms: three of the box, whatever the voxels' size.
    """
    mean = sphere_means(region.image, region.spacing_mm, check)[region.intensity]
    values = region.image[region.intensity]
    return {"loc_peak_loc": float(mean[values == values.max()].max()), "loc_peak_glob": float(mean.max())}


def sphere_means(image: np.ndarray, spacing_mm: tuple[float, float, float],
                 check: Callable[[], None] = lambda: None) -> np.ndarray:
    """(k, j, i) mean of the voxels within `PEAK_RADIUS_MM` of each voxel."""
    from scipy.fft import irfftn, next_fast_len, rfftn

    middle = float(image.mean())
    ball = _ball(spacing_mm, image.shape)
    size = [next_fast_len(n + b // 2, real=True) or n + b // 2 for n, b in zip(image.shape, ball.shape, strict=True)]
    shifted = np.zeros(size)
    shifted[:ball.shape[0], :ball.shape[1], :ball.shape[2]] = ball
    spectrum = np.asarray(rfftn(np.roll(shifted, [-(b // 2) for b in ball.shape], (0, 1, 2))))
    inside = tuple(slice(n) for n in image.shape)
    sums = []
    for values in (image - middle, np.ones(image.shape)):
        check()
        sums.append(np.asarray(irfftn(np.asarray(rfftn(values, size)) * spectrum, size))[inside])
    return sums[0] / np.rint(sums[1]) + middle


def _ball(spacing_mm: tuple[float, float, float], shape: tuple[int, ...]) -> np.ndarray:
    """(2a + 1, 2b + 1, 2c + 1) 1 where a voxel's centre lies in the sphere around the middle one, else 0."""
    radius = PEAK_RADIUS_MM * (1.0 + 1e-9)
    square = np.zeros(())
    for axis, (spacing, n) in enumerate(zip(spacing_mm, shape, strict=True)):
        reach = min(math.floor(radius / spacing), n - 1)
        line = (np.arange(-reach, reach + 1) * spacing) ** 2
        square = square + line.reshape([-1 if a == axis else 1 for a in range(3)])
    return (square <= radius**2).astype(np.float64)
