"""How a bright line (the bottom of a water tank) moves through a film: one number a frame."""

from __future__ import annotations

import numpy as np

from ..geometry import InputError, RefusedError

BACKGROUND_FRAMES = 40
BACKGROUND_SHARE = 0.3  # a line may rest in one place for two thirds of the film
SMOOTHING_PX = 2.0
COLUMNS = 120
LINE_PX = 4.0
MIN_INLIERS = 0.3
TRIALS = 60
MIN_SEEN_SHARE = 0.6


def line_rows(frames: object, *, region: tuple[int, int, int, int] | None = None, progress=None
              ) -> tuple[np.ndarray, np.ndarray]:
    """Row (px) at which a moving bright line crosses the middle column of the region, and the line's tilt.

    Args:
        frames: (n, h, w) or (n, h, w, c); what stays the same in all of them is taken off first.
        region: (x0, y0, x1, y1) px to look in (end not included); default: all but a tenth at each border.
        progress: called with (share, text).
    Returns: (n,) rows, sub-pixel, NaN in frames without a line; (n,) tilt in degrees, positive when rows grow with x.
    Raises: InputError: no film, region outside; RefusedError: a line in too few frames.
    """
    film = np.asarray(frames)
    if film.ndim not in (3, 4) or len(film) == 0 or min(film.shape[1:3]) < 16:
        raise InputError("a film of at least 16 x 16 pixels is needed to follow a line")
    height, width = film.shape[1:3]
    x0, y0, x1, y1 = region or (width // 10, height // 10, width - width // 10, height - height // 10)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height and x1 - x0 >= 16 and y1 - y0 >= 16):
        raise InputError(f"the region {x0},{y0},{x1},{y1} doesn't lie in an image of {width} x {height}")
    columns = np.unique(np.linspace(x0, x1 - 1, COLUMNS).astype(int))
    chosen = np.unique(np.linspace(0, len(film) - 1, BACKGROUND_FRAMES).astype(int))
    background = np.quantile(np.stack([_grey(film[n])[y0:y1, columns] for n in chosen]), BACKGROUND_SHARE, axis=0)
    rows, tilts = np.full(len(film), np.nan), np.full(len(film), np.nan)
    random = np.random.default_rng(1)
    pairs = random.integers(0, len(columns), (TRIALS, 2))
    for number in range(len(film)):
        line = _line(_grey(film[number])[y0:y1, columns] - background, columns.astype(float), pairs)
        if line is not None:
            rows[number] = line[0] * (x0 + x1 - 1) / 2 + line[1] + y0
            tilts[number] = np.degrees(np.arctan(line[0]))
        if progress is not None and number % 20 == 0:
            progress(number / len(film), "looking for the line")
    seen = np.isfinite(rows).mean()
    if seen < MIN_SEEN_SHARE:
        raise RefusedError(f"a moving bright line was found in {100 * seen:.0f} % of the frames only; image the flat "
                           "bottom of a water tank, and give the region it moves in")
    return rows, tilts


def _grey(frame: np.ndarray) -> np.ndarray:
    return frame.astype(np.float32) if frame.ndim == 2 else frame[..., :3].astype(np.float32).mean(axis=-1)


def _line(picture: np.ndarray, x: np.ndarray, pairs: np.ndarray) -> tuple[float, float] | None:
    """(slope, intercept) of the row as a function of x, by consensus of the brightest spots of the columns."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter1d(picture, SMOOTHING_PX, axis=0, mode="nearest")
    peak = smooth.argmax(axis=0)
    strength = smooth.max(axis=0)
    usable = (peak > 0) & (peak < len(smooth) - 1) & (strength > 0)
    if usable.sum() < 8:
        return None
    usable &= strength > 0.25 * np.quantile(strength[usable], 0.9)
    at = np.clip(peak, 1, len(smooth) - 2)
    across = np.arange(len(x))
    before, here, after = smooth[at - 1, across], smooth[at, across], smooth[at + 1, across]
    curve = before - 2 * here + after
    rows = at + np.where(curve < 0, 0.5 * (before - after) / np.where(curve < 0, curve, 1.0), 0.0)
    good = pairs[usable[pairs].all(axis=1) & (np.abs(x[pairs[:, 0]] - x[pairs[:, 1]]) > 1)]
    first, second = good[:, 0], good[:, 1]
    if len(first) == 0:
        return None
    slopes = (rows[second] - rows[first]) / (x[second] - x[first])
    misses = np.abs(rows[None] - rows[first][:, None] - slopes[:, None] * (x[None] - x[first][:, None]))
    votes = ((misses < LINE_PX) & usable[None]).sum(axis=1)
    best = int(votes.argmax())
    inside = (misses[best] < LINE_PX) & usable
    if inside.sum() < max(MIN_INLIERS * len(x), 6):
        return None
    slope, intercept = np.polyfit(x[inside], rows[inside], 1)
    return float(slope), float(intercept)
