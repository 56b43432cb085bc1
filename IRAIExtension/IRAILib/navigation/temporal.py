"""By how much the clock of the tracker differs from the clock of the images: both watched one motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, RefusedError
from .poses import check_points, plain

MAX_LAG_S = 0.5
LARGEST_RANGE_S = 2.0
GRID_S = 0.001
PEAK_HALF_WIDTH_S = 0.02
MIN_SAMPLES = 30
MIN_MOTION_MM = 3.0
MIN_MOTION_PX = 5.0
MIN_CORRELATION = 0.8
AMBIGUOUS_SHARE = 0.95
PROMINENCE = 0.02
BLOCKS = 10
MAX_SIGMA_S = 0.02
VALIDATED_ON = "simulated motions with known lag; the water tank recording of the PLUS test data and its published lag"


@dataclass(frozen=True)
class TemporalCalibration:
    """Result of a temporal calibration.

    lag_s: time stamp of the tracker less time stamp of the image, for one and the same instant; take it off the
        tracker's time stamps (`tracker_time_s - lag_s`) to pair poses with images.
    sigma_s: standard deviation, jackknife over stretches of the recording.
    correlation: of the two signals at the lag (absolute value). rival: the next peak's, and where it is.
    """

    lag_s: float
    sigma_s: float
    correlation: float
    rival: tuple[float, float] | None
    samples: int
    motion_mm: float
    motion_px: float
    max_lag_s: float
    validated_on: str = VALIDATED_ON

    def corrected(self, tracker_time_s: object) -> np.ndarray:
        """(n,) tracker time stamps on the clock of the images."""
        return np.asarray(tracker_time_s, float) - self.lag_s

    def to_dict(self) -> dict[str, Any]:
        return plain({
            "kind": "temporal", "units": "s", "frame": "time stamps as recorded",
            "lag_s": self.lag_s, "meaning": "tracker time stamp less image time stamp of one instant; subtract it from "
                                            "the tracker's time stamps",
            "uncertainty": {"sigma_s": self.sigma_s, "correlation": self.correlation,
                            "next_peak": None if self.rival is None else
                            {"lag_s": self.rival[0], "correlation": self.rival[1]}},
            "samples": self.samples, "motion_mm": self.motion_mm, "motion_px": self.motion_px,
            "max_lag_s": self.max_lag_s, "validated_on": self.validated_on})


def calibrate_lag(image_time_s: object, image_signal_px: object, tracker_time_s: object, tracker_positions_mm: object,
                  *, max_lag_s: float = MAX_LAG_S) -> TemporalCalibration:
    """The shift of time at which the image's motion and the tracker's agree best.

    Args:
        image_time_s, image_signal_px: (n,) when, and where something in the image was (a line's row); NaN left out.
        tracker_time_s: (m,). tracker_positions_mm: (m, 3) of the probe; its main direction of motion is compared.
        max_lag_s: how far apart the clocks may be.
    Raises: InputError: shapes, times that don't grow; RefusedError: too few common samples, no motion, signals that
    don't agree, a best lag at the limit, two lags that agree alike (too regular a motion).
    Source: normalised correlation of position signals as in PLUS's temporal calibration; parabola through the peak.
    """
    if not 2 * PEAK_HALF_WIDTH_S < max_lag_s <= LARGEST_RANGE_S:
        raise InputError(f"a largest lag of {max_lag_s:g} s can't be searched; {2 * PEAK_HALF_WIDTH_S:g} to "
                         f"{LARGEST_RANGE_S:g} s can")
    image_t, signal, tracker_t, positions = _check(image_time_s, image_signal_px, tracker_time_s, tracker_positions_mm)
    use = (image_t - max_lag_s >= tracker_t[0]) & (image_t + max_lag_s <= tracker_t[-1])
    if use.sum() < MIN_SAMPLES:
        raise RefusedError(f"{use.sum()} images fall into the tracker's recording with {max_lag_s:g} s to spare at "
                           f"both ends; at least {MIN_SAMPLES} are needed: record both for 10 s or more, on one clock")
    image_t, signal = image_t[use], signal[use]
    inside = (tracker_t >= image_t[0] - max_lag_s) & (tracker_t <= image_t[-1] + max_lag_s)
    centred = positions - positions[inside].mean(axis=0)
    way = centred @ np.linalg.svd(centred[inside], full_matrices=False)[2][0]
    motion_mm, motion_px = (float(np.ptp(np.quantile(s, (0.02, 0.98)))) for s in (way[inside], signal))
    if motion_mm < MIN_MOTION_MM or motion_px < MIN_MOTION_PX:
        raise RefusedError(f"hardly any motion ({motion_mm:.1f} mm tracked, {motion_px:.1f} px in the image); move the "
                           "probe up and down by some centimetres while recording")
    lags = np.arange(-round(max_lag_s / GRID_S), round(max_lag_s / GRID_S) + 1) * GRID_S
    shifted = np.stack([np.interp(image_t + lag, tracker_t, way) for lag in lags])
    curve = _correlation(shifted, signal)
    best = int(np.abs(curve).argmax())
    strength = float(abs(curve[best]))
    if strength < MIN_CORRELATION:
        raise RefusedError(f"image and tracker don't show the same motion (correlation {strength:.2f}); check the "
                           "transform and the line, or allow a larger lag")
    if best in (0, len(lags) - 1):
        raise RefusedError(f"the best lag lies at the limit of {max_lag_s:g} s; allow a larger one")
    rival = _rival(np.abs(curve), lags, best)
    if rival is not None and rival[1] > AMBIGUOUS_SHARE * strength:
        raise RefusedError(f"lags of {lags[best]:.3f} and {rival[0]:.3f} s fit alike; move the probe less regularly, "
                           "or search a smaller range")
    parts = np.array_split(np.arange(len(signal)), BLOCKS)
    left_out = np.array([_peak(lags, _correlation(np.delete(shifted, part, axis=1), np.delete(signal, part)), best)
                         for part in parts])
    sigma = float(np.sqrt((BLOCKS - 1) / BLOCKS * ((left_out - left_out.mean()) ** 2).sum()))
    if sigma > MAX_SIGMA_S:
        raise RefusedError(f"the lag is known to {1000 * sigma:.0f} ms only (stretches of the recording disagree); "
                           "record a longer and livelier motion")
    return TemporalCalibration(_peak(lags, curve, best), sigma, strength, rival, len(signal), motion_mm, motion_px,
                               float(max_lag_s))


def _check(image_time_s, image_signal_px, tracker_time_s, positions) -> tuple[np.ndarray, ...]:
    image_t, signal, tracker_t = (np.asarray(a, float) for a in (image_time_s, image_signal_px, tracker_time_s))
    points = check_points(positions, 3, "positions of the tracker")
    if image_t.shape != signal.shape or image_t.ndim != 1 or tracker_t.shape != (len(points),):
        raise InputError("as many times as signals are needed, from the images and from the tracker")
    seen = np.isfinite(signal)
    image_t, signal = image_t[seen], signal[seen]
    if len(image_t) < 2 or len(tracker_t) < 2:
        raise RefusedError("too few images or poses for a temporal calibration; record 10 s or more")
    order = np.argsort(tracker_t, kind="stable")
    tracker_t, points = tracker_t[order], points[order]
    for name, times in (("images", np.sort(image_t)), ("tracker", tracker_t)):
        if not np.isfinite(times).all():
            raise InputError(f"a time stamp of the {name} is not finite")
    keep = np.concatenate([[True], np.diff(tracker_t) > 0])
    order = np.argsort(image_t, kind="stable")
    return image_t[order], signal[order], tracker_t[keep], points[keep]


def _correlation(shifted: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """(lags,) Pearson correlation of every row with the signal."""
    rows = shifted - shifted.mean(axis=1, keepdims=True)
    own = signal - signal.mean()
    return rows @ own / np.maximum(np.linalg.norm(rows, axis=1) * np.linalg.norm(own), 1e-300)


def _peak(lags: np.ndarray, curve: np.ndarray, near: int) -> float:
    """Top of a parabola through the curve round its largest value within 0.1 s of `near`."""
    reach, half = round(0.1 / GRID_S), round(PEAK_HALF_WIDTH_S / GRID_S)
    low = max(near - reach, 0)
    best = low + int(np.abs(curve[low:near + reach + 1]).argmax())
    span = slice(max(best - half, 0), min(best + half + 1, len(lags)))
    a, b, _ = np.polyfit(lags[span] - lags[best], np.abs(curve[span]), 2)
    shift = -b / (2 * a) if a < 0 else 0.0
    return float(lags[best] + np.clip(shift, -PEAK_HALF_WIDTH_S, PEAK_HALF_WIDTH_S))


def _rival(strength: np.ndarray, lags: np.ndarray, best: int) -> tuple[float, float] | None:
    """(lag, value) of the highest other peak; an end that rises again counts as one."""
    from scipy.signal import find_peaks

    padded = np.concatenate([[-1.0], strength, [-1.0]])
    peaks = find_peaks(padded, prominence=PROMINENCE)[0] - 1
    others = [peak for peak in peaks if peak != best and abs(lags[peak] - lags[best]) > 2 * GRID_S]
    if not others:
        return None
    highest = max(others, key=lambda peak: strength[peak])
    return float(lags[highest]), float(strength[highest])
