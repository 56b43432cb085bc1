"""Intensity-volume histogram features (IBSI manual, section 3.5): what share of the volume is at least this bright."""

from __future__ import annotations

import math

import numpy as np

from ...geometry import InputError
from .region import Region
from .settings import Settings

DEFAULT_BINS = 1000
MOST_STEPS = 1_000_000
"""Steps of the curve; more are refused."""


def ivh(region: Region, settings: Settings) -> tuple[dict[str, float | str], bool]:
    """The seven features of a region, see `ivh_features`; and whether i10 and i90 are levels, not intensities.

    Raises InputError for too many steps.
    """
    values = region.image[region.intensity]
    how = settings.ivh_discretisation
    if region.filtered:
        how = how if how is not None and how[0] == "fbn" else ("fbn", DEFAULT_BINS)
    elif how is None:
        whole = bool(np.array_equal(values, np.rint(values))) and settings.intensity_unit in ("", "HU")
        how = ("none",) if whole and np.ptp(values) < MOST_STEPS else ("fbn", DEFAULT_BINS)
    return ivh_features(values, how, None if region.filtered else settings.resegment), how[0] == "fbn"


def ivh_features(values: np.ndarray, how: tuple, resegment: tuple[float | None, float | None] | None = None
                 ) -> dict[str, float | str]:
    """Features of the curve.

    Args:
        values: (n,) finite intensities, n >= 1.
        how: ("none",): each whole number between lowest and highest is a step; ("fbs", width, start): steps at the
            middle of the bins; ("fbn", n): levels 1...n are the steps, and i10, i90 are levels.
        resegment: range that stands for lowest and highest (not with "fbn"); the region's own where None.
    Returns: by tag; a text where all intensities are equal and no range is given, so that no fraction exists.
    Raises: InputError for ("none",) with intensities that are no whole numbers, and for more than `MOST_STEPS`.
    """
    x = np.asarray(values, np.float64).ravel()
    low, high = _range(x, resegment if how[0] != "fbn" else None)
    if how[0] == "fbn":
        if high == low:
            return dict.fromkeys(_TAGS, "all intensities are equal")
        steps = np.arange(1.0, how[1] + 1.0)
        x = np.minimum(np.floor(how[1] * ((x - low) / (high - low))) + 1.0, how[1])
    elif how[0] == "fbs":
        start = low if how[2] is None else min(how[2], float(x.min()))
        count = _count((high - start) / how[1])
        steps = start + (np.arange(count + 1) + 0.5) * how[1]
        x = start + (np.floor((x - start) / how[1]) + 0.5) * how[1]
    else:
        if not np.array_equal(x, np.rint(x)):
            raise InputError("ivh_discretisation: [none] needs whole intensities; choose [fbn, 1000] or [fbs, width]")
        steps = np.arange(math.floor(low), math.floor(low) + _count(high - math.floor(low)) + 1.0)
    if len(steps) < 2:
        return dict.fromkeys(_TAGS, "all intensities are equal")
    return _read(np.sort(x), steps)


_TAGS = ("ivh_v10", "ivh_v90", "ivh_i10", "ivh_i90", "ivh_diff_v10_v90", "ivh_diff_i10_i90", "ivh_auc")


def _read(x: np.ndarray, steps: np.ndarray) -> dict[str, float | str]:
    """Features from sorted intensities and the steps of the curve."""
    volume = 1.0 - np.searchsorted(x, steps - 1e-9 * (steps[1] - steps[0])) / x.size
    fraction = (steps - steps[0]) / (steps[-1] - steps[0])
    beyond = steps[-1] + (steps[1] - steps[0])

    def v(share: float) -> float:
        return float(volume[np.searchsorted(fraction, share - 1e-12)])

    def i(share: float) -> float:
        reached = volume <= share + 1e-12
        return float(steps[reached.argmax()] if reached.any() else beyond)

    return {"ivh_v10": v(0.1), "ivh_v90": v(0.9), "ivh_i10": i(0.1), "ivh_i90": i(0.9),
            "ivh_diff_v10_v90": v(0.1) - v(0.9), "ivh_diff_i10_i90": i(0.1) - i(0.9),
            "ivh_auc": float(np.trapezoid(volume, fraction))}


def _range(x: np.ndarray, resegment: tuple[float | None, float | None] | None) -> tuple[float, float]:
    low, high = resegment or (None, None)
    return float(x.min()) if low is None else low, float(x.max()) if high is None else high


def _count(steps: float) -> int:
    if steps > MOST_STEPS:
        raise InputError(f"ivh_discretisation: makes {steps:.3g} steps, more than {MOST_STEPS}; choose a larger width "
                         "or [fbn, 1000]")
    return math.ceil(steps - 1e-9)
