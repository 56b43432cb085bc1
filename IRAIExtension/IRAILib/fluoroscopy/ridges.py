"""Dark lines in an X-ray frame: long oriented filters on the logarithm, in units of the frame's own clutter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft, ndimage

ORIENTATIONS = 16
LENGTH_PX = 9.0
"""Sigma of the filter along the line: long enough for low dose, short enough for a catheter's bend."""
WIDTHS_PX = (1.3, 2.2)
"""Sigma across: devices of about 3 to 8 pixels."""
MARGIN_PX = 7
"""The edge of the collimator is a line too: so far from it nothing is looked for."""


@dataclass(frozen=True)
class Ridges:
    """Dark lines of a frame.

    Attributes:
        strength: (h, w) float32 response over the clutter's spread; 0 outside the field.
        contrast: (h, w) the response itself: grows with the logarithm of what the line takes from the beam.
        angle: (h, w) direction of the line at its best, radians, x to y.
        field: (h, w) bool, what the beam reaches, less a margin.
    """

    strength: np.ndarray
    contrast: np.ndarray
    angle: np.ndarray
    field: np.ndarray


def beam_field(frame: np.ndarray) -> np.ndarray:
    """(h, w) bool: what lies inside the collimator. All of it when there is none in view."""
    low, high = np.percentile(frame, [2.0, 90.0])
    if low > 0.3 * high:  # a collimator's shadow is far darker than any anatomy beside it
        return ndimage.binary_erosion(np.pad(np.ones(frame.shape, bool), 1), iterations=MARGIN_PX)[1:-1, 1:-1]
    dark = ndimage.gaussian_filter(frame.astype(np.float32), 2.0) < low + 0.06 * (high - low)
    labels, count = ndimage.label(dark)  # type: ignore[misc]
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    outside = [n for n in np.unique(rim) if n and sizes[n] > 0.005 * frame.size]
    field = ~np.isin(labels, outside)
    return ndimage.binary_erosion(np.pad(field, 1), iterations=MARGIN_PX)[1:-1, 1:-1]


def dark_ridges(frames: np.ndarray) -> Ridges:
    """Dark lines of the newest of (t, h, w) frames; what moved against the stack's brightest counts for more.

    The logarithm makes of an absorber the same contrast on bright and on dark ground.
    """
    newest = frames[-1].astype(np.float32)
    field = beam_field(newest)
    scale = max(float(np.percentile(newest, 99)), 1e-6)
    log = np.log(newest / scale + 0.02)
    ground = ndimage.gaussian_filter(log, 12.0)
    image = np.where(field, log - ground, 0.0).astype(np.float32)
    best, angle = _oriented(image)
    if len(frames) >= 3:
        earlier = np.log(frames[:-1].astype(np.float32).max(axis=0) / scale + 0.02)
        change = np.where(field, log - earlier, 0.0).astype(np.float32)
        moved, _ = _oriented(change - ndimage.gaussian_filter(change, 12.0))
        best = best + 0.3 * np.maximum(moved / _spread(moved, field), 0.0) * _spread(best, field)
    coarse = ndimage.uniform_filter(np.where(field, np.square(np.clip(best, -3 * _spread(best, field),
                                                                       3 * _spread(best, field))), 0.0), 81)
    share = np.maximum(ndimage.uniform_filter(field.astype(np.float32), 81), 0.05)
    local = np.sqrt(np.maximum(coarse, 0.0) / share)
    clutter = np.maximum(local, 0.6 * _spread(best, field)) + 1e-9
    return Ridges(np.where(field, best / clutter, 0.0).astype(np.float32), best, angle, field)


def _spread(response: np.ndarray, field: np.ndarray) -> float:
    values = response[field]
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) + 1e-9 if values.size else 1.0


def _oriented(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) strongest response over orientations and widths, and its angle."""
    shape = tuple(fft.next_fast_len(n + 40, real=True) for n in image.shape)
    kernels, angles = _kernels(shape)
    spectrum = fft.rfft2(image.astype(np.float32), shape)
    best = np.full(image.shape, -np.inf, np.float32)
    angle = np.zeros(image.shape, np.float32)
    for kernel, theta in zip(kernels, angles, strict=True):
        response = np.asarray(fft.irfft2(spectrum * kernel, shape))[:image.shape[0], :image.shape[1]].astype(np.float32)
        better = response > best
        best[better], angle[better] = response[better], theta
    return best, angle


@lru_cache(maxsize=4)
def _kernels(shape: tuple[int, int]) -> tuple[list[np.ndarray], list[float]]:
    """Transforms of second derivatives across a line times a Gaussian along it, of equal response to white noise."""
    y, x = (np.fft.fftfreq(n, 1.0 / n).astype(np.float32) for n in shape)
    kernels, angles = [], []
    for theta in np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS:
        along = x[None] * np.cos(theta) + y[:, None] * np.sin(theta)
        across = -x[None] * np.sin(theta) + y[:, None] * np.cos(theta)
        for width in WIDTHS_PX:
            square = (across / width) ** 2
            kernel = (square - 1.0) * np.exp(-0.5 * square - 0.5 * (along / LENGTH_PX) ** 2)
            kernel /= np.sqrt(np.square(kernel).sum())
            kernels.append(np.conj(np.asarray(fft.rfft2(kernel.astype(np.float32)))))
            angles.append(float(theta))
    return kernels, angles
