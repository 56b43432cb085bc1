"""Convolution at the image's border, along axes or in planes, and pooling over turned filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import permutations, product
from typing import Any

import numpy as np
from scipy import fft, ndimage

from ....geometry import CancelledError

SCIPY_MODE = {"mirror": "reflect", "constant": "constant", "nearest": "nearest", "periodic": "wrap"}
NUMPY_MODE = {"mirror": "symmetric", "constant": "constant", "nearest": "edge", "periodic": "wrap"}


def odd(kernel: np.ndarray) -> np.ndarray:
    """A kernel with a middle: one of even length gets a zero at its end, as IBSI-2 asks."""
    kernel = np.asarray(kernel, float)
    return kernel if kernel.size % 2 else np.append(kernel, 0.0)


def convolve_axes(array: np.ndarray, kernels: Sequence[np.ndarray | None], boundary: str) -> np.ndarray:
    """Convolution of (k, j, i) with one kernel an axis, in (k, j, i) order; None leaves an axis alone.

    One-dimensional passes equal the full convolution for each of the boundary conditions.
    """
    out = np.asarray(array, np.float64)
    for axis, kernel in enumerate(kernels):
        if kernel is not None:
            out = ndimage.convolve1d(out, odd(kernel), axis=axis, mode=SCIPY_MODE[boundary], cval=0.0)
    return out


def orientations(axes: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Right-handed turns of the axes onto themselves, as (source of each axis, sign): 24 for three axes, 4 for two."""
    out = []
    for order in permutations(range(axes)):
        parity = np.linalg.det(np.eye(axes)[list(order)])
        out += [(order, signs) for signs in product((1, -1), repeat=axes) if parity * np.prod(signs) > 0]
    return out


def turned(kernels_xyz: Sequence[Sequence[np.ndarray]]) -> list[tuple[tuple[np.ndarray, ...], ...]]:
    """Filters of a cascade, turned together into every right-handed orientation; repeats removed.

    Every distinct orientation repeats equally often, so the pooled response doesn't change.

    Args:
        kernels_xyz: one filter a stage, each with one kernel an axis.
    """
    stages = [[odd(kernel) for kernel in stage] for stage in kernels_xyz]
    found: dict[bytes, tuple[tuple[np.ndarray, ...], ...]] = {}
    for order, signs in orientations(len(stages[0])):
        one = tuple(tuple(stage[source][::sign] for source, sign in zip(order, signs, strict=True))
                    for stage in stages)
        found.setdefault(b"|".join(kernel.tobytes() for stage in one for kernel in stage), one)
    return list(found.values())


def unless_cancelled(items: Iterable[Any], cancelled: Callable[[], bool] | None) -> Iterator[Any]:
    """The items, as long as `cancelled()` isn't true; then CancelledError."""
    for item in items:
        if cancelled is not None and cancelled():
            raise CancelledError("cancelled while filtering; nothing was written")
        yield item


def pool(responses: Iterable[np.ndarray], how: str) -> np.ndarray:
    """Mean, maximum or minimum over responses, voxel by voxel; one is held at a time."""
    out, count = None, 0
    for response in responses:
        count += 1
        if out is None:
            out = np.array(response, np.float64)
        elif how == "mean":
            out += response
        else:
            (np.maximum if how == "max" else np.minimum)(out, response, out=out)
    if out is None:
        raise ValueError("nothing to pool")
    return out / count if how == "mean" else out


def convolve_planes(array: np.ndarray, kernels: Sequence[np.ndarray], axis: int, boundary: str,
                    pick: Callable[[np.ndarray], np.ndarray], how: str,
                    cancelled: Callable[[], bool] | None = None) -> np.ndarray:
    """Every plane across `axis` convolved with planar complex kernels, the responses pooled.

    Args:
        array: (k, j, i).
        kernels: (rows, columns) complex, all of one odd shape, in the order of the two remaining axes.
        axis: the axis across which the planes lie.
        pick: complex response to real (np.abs...).
        how: pooling.
    """
    half = np.array(kernels[0].shape) // 2
    planes = np.moveaxis(np.asarray(array, np.float64), axis, 0)
    size = [fft.next_fast_len(int(n + 2 * h)) for n, h in zip(planes.shape[1:], half, strict=True)]
    window = tuple(slice(2 * h, 2 * h + n) for h, n in zip(half, planes.shape[1:], strict=True))
    transforms = [np.asarray(fft.fft2(kernel, size)) for kernel in kernels]
    out = np.empty(planes.shape)
    for plane, target in unless_cancelled(zip(planes, out, strict=True), cancelled):
        padded = np.pad(plane, [(int(h), int(h)) for h in half], mode=NUMPY_MODE[boundary])  # type: ignore[call-overload]
        spectrum = np.asarray(fft.fft2(padded, size))
        target[...] = pool((pick(np.asarray(fft.ifft2(spectrum * one))[window]) for one in transforms), how)
    return np.moveaxis(out, 0, axis)
