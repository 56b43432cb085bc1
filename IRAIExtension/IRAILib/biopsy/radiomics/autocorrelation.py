"""Moran's I and Geary's C of a region: how alike near voxels are (IBSI manual, section 3.1).

Both are sums over every pair of voxels, weighted by the inverse of their distance: 10^10 terms for a liver. The sum
depends on the offset of the pair only, so that it is a correlation, exact through the Fourier transform: four
transforms of the box's double. A box above `ONE_GO` voxels is cut into blocks and the pairs of blocks are summed in
single precision (both measures are then right to about 1e-6), so that the memory stays below about 1 GB whatever the
region.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from .statistics import FLAT

ONE_GO = 2_000_000
"""Voxels of the box that are transformed at once; doubled along each axis that is 16 million."""
BLOCK = 160
_ALONE = "a single voxel has no neighbour"


def moran_geary(image: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float],
                check: Callable[[], None] = lambda: None) -> tuple[float | str, float | str]:
    """Moran's I and Geary's C, or why there are none.

    Args:
        image: (k, j, i). mask: (k, j, i) bool, not empty. spacing_mm: (k, j, i).
        check: called between transforms; may raise CancelledError.
    """
    values = image[mask]
    n = values.size
    if n < 2:
        return _ALONE, _ALONE
    spread = float(values.std())
    if values.min() == values.max() or spread == 0.0:
        return FLAT, FLAT
    z = np.zeros(mask.shape, np.float64 if mask.size <= ONE_GO else np.float32)
    z[mask] = (values - values.mean()) / spread
    weights, products, squares = _sums(z, mask, spacing_mm, check)
    moran = products / weights
    geary = (n - 1) / n * (squares - products) / weights
    return float(moran), float(geary)


def _sums(z: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float],
          check: Callable[[], None]) -> tuple[float, float, float]:
    """Sums over pairs i, j of w, w z_i z_j and w z_i^2, each ordered pair once."""
    edges = mask.shape if mask.size <= ONE_GO else tuple(
        math.ceil(n / math.ceil(n / BLOCK)) for n in mask.shape)
    doubled = _doubled(edges)
    starts = [s for s in _starts(mask.shape, edges) if mask[_window(s, edges)].any()]
    total = np.zeros(3)
    for number, first in enumerate(starts):
        one = _spectra(z, mask, first, edges, check)
        for second in starts[number:]:
            other = one if second == first else _spectra(z, mask, second, edges, check)
            offset = tuple(a - b for a, b in zip(first, second, strict=True))
            kernel = _kernel(offset, edges, spacing_mm).astype(one[0].dtype)
            pairs = [_total(kernel, one[a], other[b], doubled) for a, b in ((0, 0), (1, 1), (2, 0))]
            total += pairs
            if second != first:
                total += [pairs[0], pairs[1], _total(kernel, one[0], other[2], doubled)]
            check()
    return float(total[0]), float(total[1]), float(total[2])


def _starts(shape: tuple[int, ...], edges: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    ranges = [range(0, n, e) for n, e in zip(shape, edges, strict=True)]
    return ((k, j, i) for k in ranges[0] for j in ranges[1] for i in ranges[2])


def _window(start: tuple[int, ...], edges: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(s, s + e) for s, e in zip(start, edges, strict=True))


def _doubled(edges: tuple[int, ...]) -> tuple[int, ...]:
    from scipy.fft import next_fast_len

    return tuple(next_fast_len(2 * e - 1, real=True) or 2 * e - 1 for e in edges)


def _spectra(z: np.ndarray, mask: np.ndarray, start: tuple[int, ...], edges: tuple[int, ...],
             check: Callable[[], None]) -> tuple[np.ndarray, ...]:
    """Transforms of the mask, z and z^2 of a block."""
    from scipy.fft import rfftn

    window, size = _window(start, edges), _doubled(edges)
    out = []
    for block in (mask[window].astype(z.dtype), z[window], z[window] ** 2):
        out.append(np.asarray(rfftn(block, size)))
        check()
    return tuple(out)


def _kernel(offset: tuple[int, ...], edges: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Transform of one over the distance of voxels whose blocks lie `offset` apart; the voxel itself weighs nothing."""
    from scipy.fft import rfftn

    square = np.zeros(())
    for axis, (n, edge, spacing, away) in enumerate(zip(_doubled(edges), edges, spacing_mm, offset, strict=True)):
        index = np.arange(n)
        index = np.where(index < edge, index, index - n) + away
        square = square + ((index * spacing) ** 2).reshape([-1 if a == axis else 1 for a in range(3)])
    with np.errstate(divide="ignore"):
        weight = 1.0 / np.sqrt(square)
    weight[~np.isfinite(weight)] = 0.0
    return np.asarray(rfftn(weight))


def _total(kernel: np.ndarray, one: np.ndarray, other: np.ndarray, doubled: tuple[int, ...]) -> float:
    """Sum over pairs by Parseval's theorem; the half spectrum's missing half is the mirrored one."""
    product = np.zeros(kernel.shape[2])
    for layer, first, second in zip(kernel, one, other, strict=True):
        product += (layer.conj() * first * second.conj()).real.sum(axis=0, dtype=np.float64)
    total = 2.0 * float(product.sum()) - float(product[0])
    if doubled[2] % 2 == 0:
        total -= float(product[-1])
    return total / math.prod(doubled)
