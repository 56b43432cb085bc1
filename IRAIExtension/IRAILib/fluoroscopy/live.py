"""Catheter and guide-wire in live X-ray: `SliceFinder("XA", METHOD, catheter_in, STACK)` of needle.live_slices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..geometry import InputError, NeedleEstimate
from .wire import find_device

__all__ = ["METHOD", "STACK", "catheter_in", "mean_mm_per_px"]

METHOD = "catheter and guide-wire"
"""Of the stream; each estimate says whether the network or the classical tracer found it."""
STACK = 8
"""Frames of which the finders make use: what moves stands out of what stands still. The network looks at four."""


def mean_mm_per_px(mm_per_px: tuple[float, float] | None) -> float | None:
    """One number for square pixels, None without. Raises InputError when they aren't square within 2 %."""
    if mm_per_px is None:
        return None
    x, y = float(mm_per_px[0]), float(mm_per_px[1])
    if abs(x - y) > 0.02 * min(x, y):
        raise InputError(f"X-ray pixels of {x:g} x {y:g} mm: the catheter tracer needs square ones; resample first")
    return 0.5 * (x + y)


def catheter_in(live: Any) -> NeedleEstimate:
    """The device in a needle.live_slices.LiveSlice, in its frame "Image"; mm where the user gave a scale."""
    frames = np.asarray(live.stack)[:, 0]
    scale = mean_mm_per_px(None if live.spacing_mm is None else live.spacing_mm[:2])
    previous = None if live.previous is None else replace(live.previous, frame="Detector")
    if previous is not None and previous.units != ("px" if scale is None else "mm"):
        previous = None
    return replace(find_device(frames, mm_per_px=scale, previous=previous, time_s=live.time_s), frame="Image")
