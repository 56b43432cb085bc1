"""The live image and a slice of the plan in one picture; where the plan has no data is hatched, never black."""

from __future__ import annotations

import numpy as np

from ..geometry import InputError

HATCH_PX = 8
HATCH = np.array([(70, 40, 40), (40, 25, 25)], np.uint8)
KERNEL = np.array([1, 4, 6, 4, 1], np.float32) / 16


def shown(values: object, window: tuple[float, float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """((rows, columns) uint8 grey, (rows, columns) bool where there is data) of a slice with NaN outside.

    window: (black, white); default: 0 to 255 for bytes, else the 1st and 99th percentile of what is there.
    Raises InputError: no 2D picture, a window that isn't growing.
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "uifb":
        raise InputError(f"a grey picture (rows, columns) is needed, not an array of shape {array.shape}")
    there = np.isfinite(array) if array.dtype.kind == "f" else np.ones(array.shape, bool)
    if window is None:
        found = array[there][::7] if there.sum() > 70 else array[there]
        low, high = ((0.0, 255.0) if array.dtype == np.uint8 else
                     tuple(np.percentile(found, (1, 99))) if len(found) else (0.0, 1.0))
        high = high if high > low else low + 1.0
    else:
        low, high = (float(v) for v in window)
        if not (np.isfinite([low, high]).all() and high > low):
            raise InputError(f"a window from {low} to {high} shows nothing; white must be above black")
    grey = np.where(there, array, low).astype(np.float32)
    grey -= low
    grey *= 255.0 / (high - low)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8), there


def side_by_side(live: object, *others: object, windows: tuple | None = None, gap_px: int = 4) -> np.ndarray:
    """(rows, columns of all and gaps, 3) uint8: the live image, then the slices, all of one size. Raises InputError."""
    pictures = [live, *others]
    windows = (None,) * len(pictures) if windows is None else windows
    if len(windows) != len(pictures):
        raise InputError(f"{len(windows)} windows for {len(pictures)} pictures")
    drawn = [_coloured(*shown(picture, window)) for picture, window in zip(pictures, windows, strict=True)]
    if len({picture.shape for picture in drawn}) != 1:
        raise InputError("pictures of different sizes can't stand side by side; reslice to the live image's size")
    gap = np.full((drawn[0].shape[0], gap_px, 3), 255, np.uint8)
    return np.concatenate([part for picture in drawn for part in (gap, picture)][1:], axis=1)


def blend(live: object, other: object, alpha: float = 0.5, *, live_window: tuple[float, float] | None = None,
          window: tuple[float, float] | None = None) -> np.ndarray:
    """(rows, columns, 3) uint8: `alpha` (0 to 1) of the slice over the live image. Outside the slice's data the live
    image shows, under a hatch. Raises InputError."""
    if not 0.0 <= alpha <= 1.0:
        raise InputError(f"a share of {alpha} can't be blended; 0 (live only) to 1 (plan only) can")
    a, b, there = _pair(live, other, live_window, window)
    mixed = _grey_rgb(np.rint(a * (1 - alpha) + b * alpha).astype(np.uint8))
    return _marked(mixed, a, there)


def checkerboard(live: object, other: object, *, field_px: int = 32, live_window: tuple[float, float] | None = None,
                 window: tuple[float, float] | None = None) -> np.ndarray:
    """(rows, columns, 3) uint8: squares of the live image (the one at the top left is) and of the slice by turns."""
    if field_px < 1:
        raise InputError(f"fields of {field_px} pixels can't be drawn")
    a, b, there = _pair(live, other, live_window, window)
    y, x = np.ogrid[:a.shape[0], :a.shape[1]]
    plan = (x // field_px + y // field_px) % 2 == 1
    picture = _grey_rgb(np.where(plan, b, a).astype(np.uint8))
    picture[plan & ~there] = _hatch(a.shape)[plan & ~there]
    return picture


def pyramid_blend(live: object, other: object, share: object = None, *, levels: int = 5,
                  live_window: tuple[float, float] | None = None, window: tuple[float, float] | None = None
                  ) -> np.ndarray:
    """(rows, columns, 3) uint8: both images without a visible seam: coarse structure mixes widely, fine one sharply.

    Args: share: (rows, columns) 0 (live) to 1 (plan); default: the plan's right half. levels: of the pyramid.
    Raises InputError. Source: Burt and Adelson 1983.
    """
    a, b, there = _pair(live, other, live_window, window)
    if share is None:
        mask = np.zeros(a.shape, np.float32)
        mask[:, a.shape[1] // 2:] = 1.0
    else:
        mask = np.asarray(share, np.float32)
        if mask.shape != a.shape or not (np.isfinite(mask).all() and mask.min() >= 0 and mask.max() <= 1):
            raise InputError(f"the share of the plan must be 0 to 1 for each of the {a.shape} pixels")
    mask = np.where(there, mask, 0.0).astype(np.float32)
    one, two = a.astype(np.float32), np.where(there, b, a).astype(np.float32)
    fine: list[np.ndarray] = []
    for _ in range(max(int(levels), 1) - 1):
        if min(one.shape) < 4:
            break
        low_one, low_two = _smaller(one), _smaller(two)
        fine.append((one - _larger(low_one, one.shape)) * (1 - mask) + (two - _larger(low_two, two.shape)) * mask)
        one, two, mask = low_one, low_two, _smaller(mask)
    picture = one * (1 - mask) + two * mask
    for detail in reversed(fine):
        picture = _larger(picture, detail.shape) + detail
    return _marked(_grey_rgb(np.clip(np.rint(picture), 0, 255).astype(np.uint8)), a, there)


def _pair(live, other, live_window, window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, live_there = shown(live, live_window)
    b, there = shown(other, window)
    if a.shape != b.shape:
        raise InputError(f"a live image of {a.shape} and a slice of {b.shape} pixels don't lie on each other; reslice "
                         "to the live image's size")
    if not live_there.all():
        a = np.where(live_there, a, 0).astype(np.uint8)
    return a, b, there


def _grey_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def _hatch(shape: tuple[int, ...]) -> np.ndarray:
    y, x = np.ogrid[:shape[0], :shape[1]]
    return HATCH[((x + y) // HATCH_PX) % 2]


def _coloured(grey: np.ndarray, there: np.ndarray) -> np.ndarray:
    picture = _grey_rgb(grey)
    picture[~there] = _hatch(grey.shape)[~there]
    return picture


def _marked(picture: np.ndarray, live: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The live image under a hatch where the plan has no data."""
    missing = ~there
    hatch = _hatch(live.shape)[missing].astype(np.float32)
    picture[missing] = np.clip(0.75 * live[missing, None] + hatch, 0, 255).astype(np.uint8)
    return picture


def _smooth(image: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.correlate1d(ndimage.correlate1d(image, KERNEL, axis=0, mode="nearest"), KERNEL, axis=1,
                               mode="nearest")


def _smaller(image: np.ndarray) -> np.ndarray:
    return _smooth(image)[::2, ::2]


def _larger(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    big = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)[:shape[0], :shape[1]]
    return _smooth(big)
