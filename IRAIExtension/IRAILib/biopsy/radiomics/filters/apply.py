"""One image and one specification in, the response map out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ....geometry import FrameMismatchError, InputError, Mask, Volume
from . import kernels, wavelets
from .spec import check_spec, filter_prefix

ISOTROPIC_WITHIN = 0.01
"""Voxel edges that differ by less than this share count as equal."""


def apply_filter(image: Volume, spec: Mapping[str, Any], *, within: Mask | None = None,
                 cancelled: Callable[[], bool] | None = None) -> Volume:
    """The response map of an IBSI-2 filter (IBSI reference manual, arXiv:2006.05470; Whybra, Radiology 2024).

    Args:
        image: finite numbers, RAS mm. Mean, Laws, Gabor and wavelets need isotropic voxels (by slice: square
            pixels) and refuse others; the Laplacian of Gaussian is sampled in mm and takes any.
        spec: see `check_spec`; lengths in mm, angles in degrees. x, y, z are the image's i, j, k axes.
        within: on the image's grid; only there (and as far around as the filter reaches, so that nothing
            changes) the response is computed. NaN elsewhere.
        cancelled: asked now and then; True raises CancelledError.
    Returns: float64 Volume on the image's grid, `metadata["filter"]` the full specification, name with the prefix.
    Raises: InputError for a specification, voxels or numbers that can't be used; EmptyMaskError for an empty
        `within`; FrameMismatchError when it is on another grid; MissingPackageError for wavelets without PyWavelets.
    """
    full = check_spec(spec)
    _check_image(image, full)
    name = f"{image.name or 'image'} {filter_prefix(full)}"
    metadata = {**image.metadata, "filter": full}
    if within is None:
        array = _response(np.asarray(image.array), full, image.grid.spacing_kji_mm, cancelled)
        return Volume(array, image.grid, name, image.frame_of_reference, metadata)
    if not within.grid.same_grid(image.grid):
        raise FrameMismatchError(f"{within.name or 'mask'} is not on the grid of {image.name or 'the image'}; "
                                 "resample it first")
    start, shape = within.bounding_box_kji()
    reach = filter_reach_kji(full, image.grid.spacing_kji_mm, image.grid.shape)
    low = np.maximum(0, np.array(start) - reach)
    high = np.minimum(image.grid.shape, np.array(start) + shape + reach)
    if full["boundary"] == "periodic":
        low, high = np.zeros(3, int), np.array(image.grid.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    part = _response(np.asarray(image.array[box]), full, image.grid.spacing_kji_mm, cancelled)
    array = np.full(image.grid.shape, np.nan)
    inner = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    array[inner] = part[tuple(slice(s - int(a), s - int(a) + n) for s, a, n in zip(start, low, shape, strict=True))]
    return Volume(array, image.grid, name, image.frame_of_reference, metadata)


def filter_reach_kji(spec: Mapping[str, Any], spacing_kji_mm: np.ndarray, shape_kji: tuple[int, ...]) -> np.ndarray:
    """(3,) voxels along k, j, i that a response looks away from its own voxel (the whole image for Simoncelli)."""
    full = check_spec(spec)
    spacing = np.asarray(spacing_kji_mm, float)
    kind = full["type"]
    if kind == "mean":
        reach = np.full(3, full["support"] // 2)
    elif kind == "log":
        reach = kernels.log_radius(full, spacing)
    elif kind == "laws":
        reach = np.full(3, 2 + (full["energy_distance"] or 0))
    elif kind == "gabor":
        sigma_mm = full["sigma_mm"] * max(1.0, 1.0 / full["aspect"])
        reach = np.ceil(kernels.GABOR_TRUNCATE * sigma_mm / spacing).astype(int)
    elif kind == "wavelet":
        reach = np.full(3, wavelets.separable_radius(full))
    else:
        reach = np.array(shape_kji)
    if full["by_slice"]:
        reach[0] = 0
    return reach


def _check_image(image: Volume, full: dict[str, Any]) -> None:
    what = image.name or "image"
    array = np.asarray(image.array)
    if array.size == 0 or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise InputError(f"{what}: a filter needs an image of real numbers with at least one voxel")
    if not np.isfinite(array).all():
        raise InputError(f"{what}: holds NaN or infinite voxels, which a filter would spread; fill them first")
    if full["type"] == "log":
        return
    spacing = image.grid.spacing_kji_mm
    used = spacing[1:] if full["by_slice"] else spacing
    if used.max() > used.min() * (1 + ISOTROPIC_WITHIN):
        sizes = " x ".join(f"{size:.4g}" for size in spacing[::-1])
        wanted = "square pixels" if full["by_slice"] else "cubic voxels"
        raise InputError(f"{what}: a {full['type']} filter needs {wanted}, these are {sizes} mm; "
                         "set spacing_mm to resample"
                         + ("" if full["by_slice"] else ", or filter by_slice"))


def _response(array: np.ndarray, full: dict[str, Any], spacing_kji_mm: np.ndarray,
              cancelled: Callable[[], bool] | None) -> np.ndarray:
    kind = full["type"]
    if kind == "mean":
        return kernels.mean(array, full)
    if kind == "log":
        return kernels.laplacian_of_gaussian(array, full, spacing_kji_mm)
    if kind == "laws":
        return kernels.laws(array, full, cancelled)
    if kind == "gabor":
        return kernels.gabor(array, full, spacing_kji_mm, cancelled)
    if kind == "wavelet":
        return wavelets.separable(array, full, cancelled)
    return wavelets.simoncelli(array, full)
