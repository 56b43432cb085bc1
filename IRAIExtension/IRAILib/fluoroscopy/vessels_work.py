"""An angiogram made ready for the vessel finders: dark vessels on a level ground, at the size they were tuned for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..geometry import InputError

LEAST_PX, MOST_PX = 32, 8192
WORK_PX = 300
"""Shorter side of a frame at work: there the network's training frames have their vessels of 2 to 15 pixels."""
EDGE_PX = 3
"""Of the working frame, inside the collimator's edge."""
LOG_OFFSET = 0.1
FINE, LOCAL, WIDE = 1.2, 10.0, 30.0
POLARITIES = ("dark", "bright")


@dataclass(frozen=True)
class Work:
    """A frame at work.

    Attributes:
        log: (h, w) float32 logarithm of the frame, vessels dark, outside of the field the nearest value inside.
        level: (h, w) float32 the same less its local mean, over its local spread.
        field: (h, w) bool, what the beam reaches.
        scale: pixels at work over pixels of the frame, at most 1.
        shape: (rows, columns) of the frame.
        polarity: "dark" or "bright", the vessels in the frame.
    """

    log: np.ndarray
    level: np.ndarray
    field: np.ndarray
    scale: float
    shape: tuple[int, int]
    polarity: str

    def to_frame(self, values: np.ndarray) -> np.ndarray:
        """(rows, columns) float32 of the frame from (h, w) at work, linear in between."""
        if values.shape == self.shape:
            return values.astype(np.float32, copy=False)
        return _resized(values.astype(np.float32), self.shape)


def checked_frame(frame: Any) -> np.ndarray:
    """(rows, columns) float32. Raises InputError for what isn't one finite grey frame that shows something."""
    array = np.asarray(frame)
    if array.ndim != 2:
        raise InputError(f"vessels are looked for in one grey frame (rows, columns); this array is {array.shape}")
    if array.dtype.kind not in "buif":
        raise InputError(f"the frame holds {array.dtype} values; give grey values")
    if min(array.shape) < LEAST_PX or max(array.shape) > MOST_PX:
        raise InputError(f"a frame of {array.shape[1]} x {array.shape[0]} pixels: vessels are looked for in frames of "
                         f"{LEAST_PX} to {MOST_PX} pixels a side")
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{int((~np.isfinite(values)).sum())} pixels of the frame are not finite numbers; repair them")
    if is_uniform(values):
        raise InputError("the frame is uniform: it shows no vessels")
    return values


def is_uniform(values: np.ndarray) -> bool:
    """All grey values are one, as in the mask frame of a subtracted run; also where they are too far apart."""
    low, high = float(values.min()), float(values.max())
    return not np.isfinite(high - low) or high - low <= 1e-6 * max(abs(high), abs(low), 1e-30)


def make_work(frame: Any, *, polarity: str = "dark", work_px: int | None = WORK_PX) -> Work:
    """The frame at work.

    Args: frame (rows, columns) grey, any type; polarity of its vessels, "dark" or "bright"; work_px, shorter side at
    work (a smaller frame stays as it is; None: every frame stays).
    A frame with negative values is taken as a logarithm already (a subtraction).
    Raises: InputError, see `checked_frame`.
    """
    values = checked_frame(frame)
    if polarity not in POLARITIES:
        raise InputError(f"vessels can be {' or '.join(POLARITIES)}; not '{polarity}'")
    low, high = float(values.min()), float(values.max())
    signed = low < 0.0
    scale = 1.0 if work_px is None else min(1.0, work_px / min(values.shape))
    if scale < 1.0:
        size = tuple(max(LEAST_PX, round(n * scale)) for n in values.shape)
        small = _resized(ndimage.gaussian_filter(values, 0.45 * (1.0 / scale - 0.8) if scale < 0.8 else 0.0), size)
    else:
        small = values
    field = np.ones(small.shape, bool) if signed else beam_field(small)
    if polarity == "bright":
        small = (-small if signed else high + low - small).astype(np.float32)
    inside = small[field]
    if signed:
        log = small - np.float32(np.median(inside))
        log /= np.float32(max(float(np.percentile(np.abs(log[field]), 95)), 1e-12))
    else:
        top = max(float(np.percentile(inside, 99)), 1e-30)
        log = np.log(np.maximum(small, 0.0) / np.float32(top) + np.float32(LOG_OFFSET))
    log = _filled(log.astype(np.float32), field)
    return Work(log, _levelled(log), field, scale, (values.shape[0], values.shape[1]), polarity)


def channels(work: Work, ridges: np.ndarray) -> np.ndarray:
    """(3, h, w) float32 the network sees: the level picture, the ridges (`vessels_frangi.ridges`), the coarse one."""
    log, inside = work.log, work.log[work.field]
    middle = float(np.median(inside))
    spread = 1.4826 * float(np.median(np.abs(inside - middle))) + 1e-3
    coarse = np.clip((log - middle) / spread, -3.0, 3.0)
    out = np.stack([np.clip(work.level, -5.0, 5.0) / 2.0, 2.0 * ridges, coarse / 2.0])
    return np.where(work.field, out, 0.0).astype(np.float32)


def beam_field(frame: np.ndarray) -> np.ndarray:
    """(h, w) bool: inside the collimator, less EDGE_PX; all of the frame where no collimator is in view."""
    high = float(np.percentile(frame, 95))
    dark = ndimage.gaussian_filter(frame.astype(np.float32), 1.0) < 0.13 * high
    labels, count = ndimage.label(dark)  # type: ignore[misc]
    if not count:
        return np.ones(frame.shape, bool)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    outside = [n for n in rim if n and sizes[n] > 0.002 * frame.size]
    if not outside:
        return np.ones(frame.shape, bool)
    shade = ndimage.binary_dilation(np.isin(labels, outside), iterations=EDGE_PX)
    return np.logical_not(shade) if shade.mean() < 0.8 else np.ones(frame.shape, bool)


def curvatures(values: np.ndarray, sigma_px: float) -> tuple[np.ndarray, np.ndarray]:
    """((h, w) least, (h, w) greatest) principal curvature of a picture seen through a Gaussian, times sigma squared."""
    rr, cc, rc = (sigma_px**2 * ndimage.gaussian_filter(values, sigma_px, order=order)  # type: ignore[arg-type]
                  for order in ((2, 0), (0, 2), (1, 1)))
    half, root = 0.5 * (rr + cc), np.sqrt(0.25 * np.square(rr - cc) + np.square(rc))
    return half - root, half + root


def _filled(values: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Outside of the field the nearest value inside."""
    if field.all():
        return values
    nearest: np.ndarray = ndimage.distance_transform_edt(  # type: ignore[assignment]
        np.logical_not(field), return_distances=False, return_indices=True)
    smooth = ndimage.gaussian_filter(values[nearest[0], nearest[1]], 4.0)
    return np.where(field, values, smooth).astype(np.float32)


def _levelled(log: np.ndarray) -> np.ndarray:
    rest = log - ndimage.gaussian_filter(log, LOCAL)
    local = ndimage.gaussian_filter(np.square(rest), WIDE)
    return (rest / np.sqrt(local + 0.1 * float(local.mean()) + 1e-8)).astype(np.float32)


def _resized(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Linear, pixel areas kept: the first pixel's outer edge stays the outer edge."""
    axes = [np.clip((np.arange(n) + 0.5) * (m / n) - 0.5, 0, m - 1) for n, m in zip(shape, values.shape, strict=True)]
    rows, columns = np.meshgrid(*axes, indexing="ij")
    return ndimage.map_coordinates(values, [rows, columns], order=1, mode="nearest").astype(np.float32)
