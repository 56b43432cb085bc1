"""Undecimated wavelets: separable (coefficients by PyWavelets) and Simoncelli's isotropic one (IBSI-2 manual)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import fft

from ....geometry import InputError, MissingPackageError
from .convolve import NUMPY_MODE, convolve_axes, odd, pool, turned, unless_cancelled
from .kernels import Cancelled, kji


def coefficients(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Low-pass and high-pass decomposition filters of an orthogonal wavelet. Raises MissingPackageError, InputError."""
    try:
        import pywt
    except ImportError:
        raise MissingPackageError("wavelet filters need PyWavelets; install it with: pip install PyWavelets") from None
    if name not in pywt.wavelist(kind="discrete"):
        raise InputError(f"wavelet {name!r} is not known to PyWavelets; examples: haar, db3, sym4, coif1")
    wavelet = pywt.Wavelet(name)
    return np.array(wavelet.dec_lo), np.array(wavelet.dec_hi)


def with_holes(kernel: np.ndarray, level: int) -> np.ndarray:
    """The kernel of a level of the stationary transform: 2^(level - 1) - 1 zeros between the coefficients."""
    kernel = odd(kernel)
    step = 2 ** (level - 1)
    out = np.zeros((kernel.size - 1) * step + 1)
    out[::step] = kernel
    return out


def separable_radius(full: dict[str, Any]) -> int:
    """Voxels that a response looks away, over all levels."""
    low, _ = coefficients(full["wavelet"])
    return sum(with_holes(low, level).size // 2 for level in range(1, full["level"] + 1))


def separable(array: np.ndarray, full: dict[str, Any], cancelled: Cancelled = None) -> np.ndarray:
    """Stationary separable wavelet: low-pass along every axis down to the level, there the `filters` asked for.

    With rotation invariance the whole cascade is turned, and the responses are pooled.
    """
    low, high = coefficients(full["wavelet"])
    last = tuple({"L": low, "H": high}[letter] for letter in full["filters"])
    cascade = [last, tuple(low for _ in last)]
    sets = turned(cascade) if full["rotation_invariance"] else [tuple(cascade)]

    def responses():
        for kernels, before in unless_cancelled(sets, cancelled):
            out = array
            for level in range(1, full["level"] + 1):
                stage = kernels if level == full["level"] else before
                out = convolve_axes(out, kji([with_holes(kernel, level) for kernel in stage]), full["boundary"])
            yield out

    return pool(responses(), full["pooling"])


def simoncelli(array: np.ndarray, full: dict[str, Any]) -> np.ndarray:
    """Isotropic band-pass in the Fourier domain: cos(pi/2 log2(2 w / w0)) for w0/4 < w < w0.

    w0 is Nyquist / 2^(level - 1). The gain is laid out as in the IBSI-2 reference maps: over the image's own size,
    from -Nyquist to Nyquist with both ends included, so that an even size has no sample at zero; the real part of
    the response counts.
    With a periodic boundary the transform is of the image itself; otherwise the image is continued by half its
    size on every side first.
    """
    axes = (1, 2) if full["by_slice"] else (0, 1, 2)
    pad = [(0, 0) if full["boundary"] == "periodic" or n not in axes else (size // 2,) * 2
           for n, size in enumerate(array.shape)]
    padded = np.pad(np.asarray(array, np.float64), pad, mode=NUMPY_MODE[full["boundary"]])  # type: ignore[call-overload]
    squared = np.zeros([1, 1, 1])
    for axis in axes:
        shape = [1, 1, 1]
        shape[axis] = -1
        size = padded.shape[axis]
        along = np.linspace(-1.0, 1.0, size) if size > 1 else np.zeros(1)
        squared = squared + np.square(fft.ifftshift(along)).reshape(shape)
    ratio = np.sqrt(squared) * 2.0 ** (full["level"] - 1)
    band = (ratio > 0.25) & (ratio < 1.0)
    gain = np.where(band, np.cos(0.5 * np.pi * np.log2(2.0 * np.where(band, ratio, 1.0))), 0.0)
    out = fft.ifftn(fft.fftn(padded, axes=axes) * gain, axes=axes).real
    return out[tuple(slice(before, before + size) for (before, _), size in zip(pad, array.shape, strict=True))]
