"""Kernels in closed form: mean, Laplacian of Gaussian, Laws, Gabor (IBSI-2 reference manual, arXiv:2006.05470)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .convolve import convolve_axes, convolve_planes, pool, turned, unless_cancelled

LAWS = {
    "L3": np.array([1, 2, 1]) / np.sqrt(6), "E3": np.array([-1, 0, 1]) / np.sqrt(2),
    "S3": np.array([-1, 2, -1]) / np.sqrt(6), "L5": np.array([1, 4, 6, 4, 1]) / np.sqrt(70),
    "E5": np.array([-1, -2, 0, 2, 1]) / np.sqrt(10), "S5": np.array([-1, 0, 2, 0, -1]) / np.sqrt(6),
    "W5": np.array([-1, 2, 0, -2, 1]) / np.sqrt(10), "R5": np.array([1, -4, 6, -4, 1]) / np.sqrt(70),
}
"""Level, edge, spot, wave, ripple, each of unit energy."""
GABOR_TRUNCATE = 6.0
"""A Gabor kernel ends where its Gaussian has fallen to exp(-18)."""
Cancelled = Callable[[], bool] | None


def kji(kernels_xyz: Sequence[np.ndarray]) -> list[np.ndarray | None]:
    """Kernels in x, y[, z] order for the array's axes; two leave k alone."""
    return [None] * (3 - len(kernels_xyz)) + list(kernels_xyz[::-1])


def mean(array: np.ndarray, full: dict[str, Any]) -> np.ndarray:
    """Average over `support` voxels along every axis (2D: within the slice)."""
    kernel = np.full(full["support"], 1.0 / full["support"])
    return convolve_axes(array, [None if full["by_slice"] else kernel, kernel, kernel], full["boundary"])


def log_radius(full: dict[str, Any], spacing_mm: np.ndarray) -> np.ndarray:
    """(n,) voxels from the kernel's middle to its end, along each axis."""
    return np.floor(full["truncate"] * full["sigma_mm"] / np.asarray(spacing_mm, float) + 0.5).astype(int)


def laplacian_of_gaussian(array: np.ndarray, full: dict[str, Any], spacing_kji_mm: np.ndarray) -> np.ndarray:
    """The sampled Laplacian of a Gaussian, in units of intensity per squared voxel.

    The kernel is sampled where the voxels are, in mm, so that voxels need not be isotropic: a voxel's size is then
    the geometric mean of its edges. It is a sum of products of one-dimensional kernels, hence exact and fast.
    """
    axes = [1, 2] if full["by_slice"] else [0, 1, 2]
    spacing = np.asarray(spacing_kji_mm, float)[axes]
    voxel_mm = float(np.prod(spacing) ** (1.0 / len(axes)))
    sigma = full["sigma_mm"]
    gauss, second = [], []
    for step, radius in zip(spacing, log_radius(full, spacing), strict=True):
        x = np.arange(-radius, radius + 1) * step
        value = np.exp(-0.5 * (x / sigma) ** 2) * step / (np.sqrt(2 * np.pi) * sigma)
        gauss.append(value)
        second.append(value * ((x / sigma) ** 2 - 1.0) * (voxel_mm / sigma) ** 2)
    out = np.zeros(array.shape)
    for here in range(len(axes)):
        kernels: list[np.ndarray | None] = [None, None, None]
        for n, axis in enumerate(axes):
            kernels[axis] = second[n] if n == here else gauss[n]
        out += convolve_axes(array, kernels, full["boundary"])
    return out


def laws(array: np.ndarray, full: dict[str, Any], cancelled: Cancelled = None) -> np.ndarray:
    """Laws' texture filter; with `energy_distance` d, the mean of its magnitude over 2 d + 1 voxels an axis."""
    names = full["kernels"]
    kernels = tuple(LAWS[names[n:n + 2]] for n in range(0, len(names), 2))
    sets = turned([kernels]) if full["rotation_invariance"] else [(kernels,)]
    response = pool((convolve_axes(array, kji(one), full["boundary"]) for one, in unless_cancelled(sets, cancelled)),
                    full["pooling"])
    if full["energy_distance"] is None:
        return response
    return mean(np.abs(response), {**full, "support": 2 * full["energy_distance"] + 1})


def gabor_kernel(full: dict[str, Any], angle_deg: float, pixel_mm: float, largest: int | None = None) -> np.ndarray:
    """(rows, columns) complex: a plane wave of `wavelength_mm` under a Gaussian, not normalised.

    The wave runs along the direction `angle_deg` clockwise from the columns' axis as the image is shown
    (rows downward). `largest` caps the radius in pixels.
    """
    sigma, wavelength = full["sigma_mm"] / pixel_mm, full["wavelength_mm"] / pixel_mm
    radius = int(np.ceil(GABOR_TRUNCATE * sigma * max(1.0, 1.0 / full["aspect"])))
    radius = max(1, radius if largest is None else min(radius, largest))
    angle = np.deg2rad(angle_deg)
    rows, columns = np.mgrid[-radius:radius + 1, -radius:radius + 1].astype(float)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    across = np.cos(angle) * rows - np.sin(angle) * columns
    return np.exp(-(along ** 2 + (full["aspect"] * across) ** 2) / (2 * sigma ** 2) + 2j * np.pi * along / wavelength)


def gabor_angles(full: dict[str, Any]) -> list[float]:
    """Directions of the wave in degrees. A modulus doesn't change by half a turn, so half of them will do."""
    step = full["rotation_step_deg"]
    if step is None:
        return [full["angle_deg"]]
    count = round(360.0 / step)
    if full["response"] == "modulus" and count % 2 == 0:
        count //= 2
    return [full["angle_deg"] + n * step for n in range(count)]


def gabor(array: np.ndarray, full: dict[str, Any], spacing_kji_mm: np.ndarray,
          cancelled: Cancelled = None) -> np.ndarray:
    """Gabor response by slice, or pooled over the slices of the three orthogonal planes, and over directions."""
    pick = {"modulus": np.abs, "real": np.real, "imaginary": np.imag}[full["response"]]

    def planes():
        for axis in (0, 1, 2) if full["orthogonal_planes"] else (0,):
            inside = [n for n in range(3) if n != axis]
            pixel_mm = float(np.asarray(spacing_kji_mm)[inside].max())
            largest = max(array.shape[n] for n in inside) // 2
            kernels = [gabor_kernel(full, angle, pixel_mm, largest) for angle in gabor_angles(full)]
            yield convolve_planes(array, kernels, axis, full["boundary"], pick, full["pooling"], cancelled)

    return pool(planes(), full["pooling"])
