"""Vessels by the classical way: second derivatives at several scales, joined by hysteresis; no learning.

Sources: Frangi, Niessen, Vincken, Viergever, Multiscale vessel enhancement filtering, MICCAI 1998 (the measure);
Canny 1986 (hysteresis). The constants were tuned on training frames only, see `vessels_train`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from .vessels_work import POLARITIES, Work, curvatures, make_work


@dataclass(frozen=True)
class FrangiOptions:
    """`sigmas_px` of the working frame; `beta` of the blobness; `gamma` the strength at which the response is 63 %;
    `low`, `high` thresholds of the hysteresis; `least_px` the smallest piece that is kept, pixels at work."""

    sigmas_px: tuple[float, ...] = (1.5, 2.2, 3.0, 4.0, 5.5)
    beta: float = 0.8
    gamma: float = 0.6
    low: float = 0.4
    high: float = 0.85
    least_px: int = 150


FOR_NETWORK = FrangiOptions(beta=0.6, gamma=1.0)
"""What the network sees; its weights belong to it."""
FOR_POLARITY = FrangiOptions((2.0, 3.5), 0.8, 0.6, 0.4, 0.85, 250)
CLEARLY = 0.2


def ridges(work: Work, options: FrangiOptions | None = None) -> np.ndarray:
    """(h, w) float32, 0 to 1: how much a dark line of any of the scales runs through a pixel; 0 outside the field."""
    chosen = options or FrangiOptions()
    best = np.zeros(work.level.shape, np.float32)
    for sigma in chosen.sigmas_px:
        one, two = curvatures(work.level, sigma)
        across = np.where(np.abs(one) > np.abs(two), one, two)  # the greater in size
        along = np.where(np.abs(one) > np.abs(two), two, one)
        blob = np.square(along) / (np.square(across) + 1e-12)
        size = np.square(across) + np.square(along)
        value = np.exp(-blob / (2.0 * chosen.beta**2)) * (1.0 - np.exp(-size / (2.0 * chosen.gamma**2)))
        best = np.maximum(best, np.where(across > 0.0, value, 0.0))
    return np.where(work.field, best, 0.0).astype(np.float32)


def polarity_of(frame: Any) -> str:
    """"dark" or "bright": which kind of long lines a frame shows; dark, as X-ray has them, unless bright ones clearly
    prevail. Raises InputError for a frame that can't be used."""
    shown = []
    for polarity in POLARITIES:
        response = ridges(make_work(frame, polarity=polarity), FOR_POLARITY)
        shown.append(float(response[frangi_mask(response, FOR_POLARITY)].sum()))
    return POLARITIES[int(shown[1] - shown[0] > CLEARLY * sum(shown))]


def frangi_mask(response: np.ndarray, options: FrangiOptions | None = None) -> np.ndarray:
    """(h, w) bool: pixels over `low` joined to one over `high`, pieces of at least `least_px`."""
    chosen = options or FrangiOptions()
    return hysteresis(response, chosen.low, chosen.high, chosen.least_px)


def hysteresis(values: np.ndarray, low: float, high: float, least_px: int) -> np.ndarray:
    """(h, w) bool. Pieces (8-neighbours) over `low` that reach `high` somewhere and have at least `least_px` pixels."""
    labels: np.ndarray
    labels, count = ndimage.label(values >= low, structure=np.ones((3, 3)))  # type: ignore[misc]
    if not count:
        return np.zeros(values.shape, bool)
    index = np.arange(count + 1)
    tops = ndimage.maximum(values, labels, index)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = (np.asarray(tops) >= high) & (sizes >= least_px)
    keep[0] = False
    return keep[labels]
