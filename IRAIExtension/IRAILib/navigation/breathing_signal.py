"""Surrogates of breathing: what can be watched all the time, its rate, its cycles, a signal from ultrasound frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import InputError, RefusedError

WINDOW_S = 0.5
LEAST_SAMPLES = 4
SHORTEST_CYCLE_S, LONGEST_CYCLE_S = 1.5, 15.0
IMAGE_PX = 48
MIN_IMAGE_SHARE = 0.1


def check_signal(time_s: object, values: object, what: str) -> tuple[np.ndarray, np.ndarray]:
    """((n,) growing times, (n, ...) values), those that aren't finite left out. Raises InputError."""
    times, signal = np.asarray(time_s, float), np.asarray(values, float)
    if times.ndim != 1 or signal.shape[:1] != times.shape:
        raise InputError(f"{what}: as many values as times are needed, not {signal.shape} and {times.shape}")
    good = np.isfinite(times) & np.isfinite(signal.reshape(len(times), -1)).all(axis=1) if len(times) else times > 0
    times, signal = times[good], signal[good]
    order = np.argsort(times, kind="stable")
    times, signal = times[order], signal[order]
    new = np.concatenate([[True], np.diff(times) > 0]) if len(times) else np.empty(0, bool)
    return times[new], signal[new]


def states(time_s: np.ndarray, signal: np.ndarray, at_s: np.ndarray, *, window_s: float = WINDOW_S) -> np.ndarray:
    """(m, 2) level and rate per second of a signal at given times, from what came before them only.

    A parabola through the last `window_s`; NaN where fewer than four samples, or none in the last third of it, are
    there. Args: time_s: (n,) growing. signal: (n,). at_s: (m,).
    """
    out = np.full((len(at_s), 2), np.nan)
    ends = np.searchsorted(time_s, at_s + 1e-9)
    starts = np.searchsorted(time_s, at_s - window_s)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if end - start < LEAST_SAMPLES or at_s[number] - time_s[end - 1] > window_s / 3:
            continue
        t = time_s[start:end] - at_s[number]
        basis = np.stack([np.ones_like(t), t, t * t], axis=1)
        found = np.linalg.lstsq(basis, signal[start:end], rcond=1e-8)[0]
        out[number] = found[:2]
    return out


def cycle_starts(time_s: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """Times at which a breath ends and the next begins: the troughs of the signal, at least 1.5 s apart.

    Source: peaks by prominence (a quarter of the spread). Nothing periodic: an empty array.
    """
    from scipy.signal import find_peaks

    if len(time_s) < 8:
        return np.empty(0)
    step = float(np.median(np.diff(time_s)))
    grid = np.arange(time_s[0], time_s[-1], step)
    level = np.interp(grid, time_s, signal)
    width = max(round(0.4 / step), 1)
    level = np.convolve(np.pad(level, width, mode="edge"), np.ones(2 * width + 1) / (2 * width + 1), "valid")
    spread = float(np.subtract(*np.quantile(level, (0.9, 0.1))))
    found = find_peaks(-level, distance=max(int(SHORTEST_CYCLE_S / step), 1), prominence=0.25 * spread + 1e-12)[0]
    return grid[found]


@dataclass(frozen=True, eq=False)
class ImageSurrogate:
    """The way an image changes most, learnt from a film: one number a frame, in standard deviations.

    Its sign is arbitrary. share: of the film's variance that it explains.
    """

    mean: np.ndarray
    component: np.ndarray
    scale: float
    share: float
    size_px: tuple[int, int]

    def of(self, frame: object) -> float:
        """The signal of a frame (rows, columns). Raises InputError: another size."""
        image = np.asarray(frame)
        if image.shape != self.size_px[::-1]:
            raise InputError(f"a frame of {image.shape} pixels; the surrogate was learnt from {self.size_px[::-1]}")
        return float((_small(image[None])[0] - self.mean) @ self.component / self.scale)


def image_surrogate(frames: object) -> tuple[ImageSurrogate, np.ndarray]:
    """A breathing signal from ultrasound frames of a probe held still: the first principal component.

    Args: frames: (n, rows, columns) grey, ten or more. Returns: the surrogate, and (n,) the signal of these frames.
    Raises InputError: no film; RefusedError: nothing moves, or no component stands out.
    """
    from scipy.linalg import eigh

    film = np.asarray(frames)
    if film.ndim != 3 or len(film) < 10 or min(film.shape[1:]) < 8:
        raise InputError(f"a film of ten or more grey frames is needed, not an array of shape {film.shape}")
    small = _small(film)
    if not np.isfinite(small).all():
        raise InputError("a frame holds values that are not finite")
    mean = small.mean(axis=0)
    centred = small - mean
    power = float((centred**2).sum())
    values, vectors = eigh(centred @ centred.T, subset_by_index=[len(film) - 1, len(film) - 1])
    if power <= 1e-12 * small.size or values[0] < MIN_IMAGE_SHARE * power:
        raise RefusedError("no breathing shows in these frames; hold the probe still where a vessel or the diaphragm "
                           "moves, or use another surrogate")
    component = vectors[:, 0] @ centred / np.sqrt(values[0])
    signal = centred @ component
    scale = float(signal.std())
    result = ImageSurrogate(mean, component, scale, float(values[0] / power), (film.shape[2], film.shape[1]))
    return result, signal / scale


def _small(film: np.ndarray) -> np.ndarray:
    """(n, pixels) float64 of frames averaged in blocks to at most 48 x 48."""
    step_y, step_x = (max(-(-n // IMAGE_PX), 1) for n in film.shape[1:])
    rows, columns = film.shape[1] // step_y, film.shape[2] // step_x
    cut = film[:, :rows * step_y, :columns * step_x].astype(np.float64)
    return cut.reshape(len(film), rows, step_y, columns, step_x).mean(axis=(2, 4)).reshape(len(film), -1)
