"""When contrast medium arrives at each pixel of a subtracted run, when it peaks, and how much there is.

Time-density curves and their usual parameters: Strother et al., AJNR 31 (2010) 1339 ("parametric colour coding").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from ..geometry import InputError

VALIDATED_ON = "painted curves with known arrival and peak; relative times within one run, no blood flow in ml/min"
ROWS_AT_ONCE = 64
LIVE_VARIANCE, TIME_VARIANCE = 0.5, 0.375
"""Of the noise: the live frame's share (the mask moves a whole curve up or down), and what 1:2:1 in time leaves."""


@dataclass
class PerfusionMaps:
    """Maps of a run, (rows, columns) float32; NaN where contrast never stood out from the noise.

    Attributes:
        arrival_s: first time at `fraction` of the pixel's own peak. peak_s: time to peak. Both from the first frame.
        peak: largest opacification. area: time integral, opacification times s. unit: of opacification.
        time_error_s: half the frame interval, the least error of a time; `errors_s` has noise in it too. noise: SD of
            opacification.
    """

    arrival_s: np.ndarray
    peak_s: np.ndarray
    peak: np.ndarray
    area: np.ndarray
    noise: float
    fraction: float
    time_error_s: float
    unit: str = "natural logarithm of intensity, or the file's own logarithm"
    notes: list[str] = field(default_factory=list)

    def errors_s(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, columns) one standard deviation of arrival_s and of peak_s, NaN where these are.

        Of the frame interval, and of noise on a bell curve as wide as area over peak says: it blurs the arrival by the
        slope at half the peak, and hides the peak where the curve is flat. Faint or slow contrast has no sharp peak.
        """
        noise = self.noise * np.sqrt(LIVE_VARIANCE * TIME_VARIANCE)
        frame = (2 * self.time_error_s) ** 2 / 12
        arrival = noise * self.area / (np.sqrt(np.pi * np.log(2)) * self.peak**2)
        return np.sqrt(frame + arrival**2), np.sqrt(frame + noise * self.area**2 / (3 * np.pi * self.peak**3))

    def to_dict(self) -> dict[str, Any]:
        found = np.isfinite(self.peak_s)
        arrival_error, peak_error = self.errors_s()

        def middle(values: np.ndarray) -> float | None:
            return float(np.median(values[found])) if found.any() else None

        return {"pixels_with_contrast": int(found.sum()), "median_arrival_s": middle(self.arrival_s),
                "median_peak_s": middle(self.peak_s), "noise": self.noise, "arrival_fraction": self.fraction,
                "time_error_s": self.time_error_s, "median_arrival_error_s": middle(arrival_error),
                "median_peak_error_s": middle(peak_error), "unit": self.unit, "frame": "image (column, row)",
                "notes": list(self.notes), "validated_on": VALIDATED_ON}


def perfusion_maps(frames: np.ndarray, time_s: np.ndarray, *, fraction: float = 0.5, stands_out: float = 5.0,
                   smooth_px: float = 1.0) -> PerfusionMaps:
    """Arrival, time to peak, peak and area of a subtracted run.

    Args:
        frames: (n, rows, columns), contrast negative. time_s: (n,), rising.
        fraction: of the peak that counts as arrival. stands_out: the peak must exceed so many times the noise.
        smooth_px: SD of the smoothing in space; in time the frames are weighted 1:2:1.

    Raises: InputError for fewer than 4 frames, times that don't rise, values that aren't finite.
    A peak in the last frame may not be the true one; the notes say for how many pixels.
    """
    frames, time_s = np.asarray(frames), np.asarray(time_s, float)
    if frames.ndim != 3 or len(frames) < 4 or time_s.shape != (len(frames),):
        raise InputError(f"perfusion: 4 frames or more with a time each are needed, not {frames.shape} and "
                         f"{time_s.shape}")
    if not np.isfinite(time_s).all() or (np.diff(time_s) <= 0).any() or not 0 < fraction < 1:
        raise InputError("perfusion: times must rise, and the arrival's fraction lie between 0 and 1")
    signal = np.empty(frames.shape, np.float32)
    for n, frame in enumerate(frames):
        if not np.isfinite(frame).all():
            raise InputError(f"perfusion: frame {n} holds values that are no numbers")
        signal[n] = ndimage.gaussian_filter(-np.asarray(frame, np.float32), smooth_px)
    noise = _noise(signal)
    padded = np.concatenate([signal[:1], signal, signal[-1:]])
    signal = 0.25 * (padded[:-2] + padded[2:]) + 0.5 * padded[1:-1]
    shape = frames.shape[1:]
    out = arrival, peak_s, peak, area = tuple(np.full(shape, np.nan, np.float32) for _ in range(4))
    late = 0
    for row in range(0, shape[0], ROWS_AT_ONCE):
        rows = slice(row, row + ROWS_AT_ONCE)
        found, values, at_end = _curves(signal[:, rows], time_s, fraction, stands_out * noise)
        late += at_end
        for target, value in zip(out, values, strict=True):
            target[rows][found] = value
    note = [f"{late} pixels still fill in the last frame; their peak may come later"] if late else []
    step_s = float(np.median(np.diff(time_s)))
    return PerfusionMaps(arrival, peak_s, peak, area, noise, fraction, step_s / 2, notes=note)


def _noise(signal: np.ndarray) -> float:
    """SD of opacification, from neighbouring frames: live noise, and as much again in the mask."""
    bends = np.abs(np.diff(signal[:, :, ::3], n=2, axis=0))  # a curve's own rise is no noise
    quiet = [float(np.median(bend[bend > 0])) for bend in bends if (bend > 0).any()]  # 0: outside, or its own mask
    return float(1.4826 * np.percentile(quiet, 20) / np.sqrt(6.0) * np.sqrt(2.0)) if quiet else 0.0


def _curves(signal: np.ndarray, time_s: np.ndarray, fraction: float,
            least: float) -> tuple[np.ndarray, tuple[np.ndarray, ...], int]:
    """Which pixels (rows, columns) have contrast, and their (arrival, time of peak, peak, area)."""
    top = signal.max(axis=0)
    found = top > max(least, 1e-6)
    curves = signal[:, found]
    n, pixels = curves.shape
    if not pixels:
        return found, tuple(np.empty(0, np.float32) for _ in range(4)), 0
    each = np.arange(pixels)
    at = np.argmax(curves, axis=0)
    inner = np.clip(at, 1, n - 2)
    before, middle, after = curves[inner - 1, each], curves[inner, each], curves[inner + 1, each]
    bend = before - 2 * middle + after
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = np.where((at == inner) & (bend < 0), 0.5 * (before - after) / bend, 0.0)
    offset = np.clip(offset, -0.5, 0.5)
    peak_s = np.interp(at + offset, np.arange(n), time_s)
    wanted = fraction * curves[at, each]
    reached = (curves >= wanted) & (np.arange(n)[:, None] <= at)
    # the last rise to the peak, so that noise long before it doesn't count
    below = ~reached & (np.arange(n)[:, None] <= at)
    last_below = np.where(below.any(axis=0), n - 1 - np.argmax(below[::-1], axis=0), -1)
    first = np.minimum(last_below + 1, at)
    low, high = curves[np.maximum(first - 1, 0), each], curves[first, each]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where((first > 0) & (high > low), (wanted - low) / (high - low), 1.0)
    arrival_s = np.interp(np.maximum(first - 1, 0) + np.where(first > 0, np.clip(share, 0, 1), 0.0), np.arange(n),
                          time_s)
    area = np.trapezoid(np.maximum(curves, 0), time_s, axis=0)
    return found, (arrival_s, peak_s, curves[at, each], area), int((at == n - 1).sum())
