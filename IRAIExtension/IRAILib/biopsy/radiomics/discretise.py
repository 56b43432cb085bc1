"""Grey levels from intensities: a fixed number of bins or a fixed width (IBSI manual, section 2.7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...geometry import InputError, RefusedError
from .region import Region
from .settings import MOST_LEVELS, Settings


@dataclass(frozen=True, eq=False)
class Levels:
    """Grey levels of a region.

    Attributes:
        array: (k, j, i) int32, 0 outside the intensity mask, 1...n inside; the box of the morphological mask.
        n: highest level that can occur; at least 1.
        morphological: (k, j, i) bool, the same box.
    """

    array: np.ndarray
    n: int
    morphological: np.ndarray
    warnings: tuple[str, ...] = ()


def discretise(region: Region, how: tuple, settings: Settings) -> Levels:
    """The region's grey levels. Raises InputError and RefusedError, see `levels_of`."""
    box = region.box()
    inside = region.intensity[box]
    values = region.image[box][inside]
    found, n, warnings = levels_of(values, how, None if region.filtered else settings.resegment,
                                   settings.intensity_unit)
    array = np.zeros(inside.shape, np.int32)
    array[inside] = found
    return Levels(array, n, np.ascontiguousarray(region.morphological[box]), tuple(warnings))


def levels_of(values: np.ndarray, how: tuple, resegment: tuple[float | None, float | None] | None = None,
              unit: str = "") -> tuple[np.ndarray, int, list[str]]:
    """Grey levels of intensities.

    Args:
        values: (n,) finite, n >= 1.
        how: ("fbn", levels), ("fbs", width, start or None) or ("none",); see `Settings.discretisation`.
        resegment: range that a fixed width starts at when it has no start.
        unit: of the intensities; a missing start is a fault for arbitrary units only in its warning.
    Returns: (n,) int levels from 1; the number of levels; warnings. Equal intensities all get level 1 with "fbn".
    Intensities below the start of a fixed width get level 1, with a warning.
    Raises: InputError for ("none",) where the intensities are no levels; RefusedError for more than `MOST_LEVELS`.
    """
    low, high = float(values.min()), float(values.max())
    if how[0] == "none":
        if low < 1.0 or not np.array_equal(values, np.rint(values)):
            raise InputError(f"discretisation: [none] needs intensities that are levels 1, 2, 3 ..., here they go from "
                             f"{low:g} to {high:g}; choose [fbn, levels] or [fbs, width, start]")
        return _capped(values.astype(np.int64), [])
    if how[0] == "fbn":
        n = how[1]
        if high == low:
            return np.ones(values.shape, np.int64), 1, ["all intensities are equal: one grey level"]
        levels = np.floor(n * ((values - low) / (high - low))).astype(np.int64) + 1
        return np.minimum(levels, n), n, []
    width, start = how[1], how[2]
    warnings: list[str] = []
    if start is None:
        start = resegment[0] if resegment is not None else None
    if start is None:
        start = low
        warnings.append(f"a fixed bin width without start begins at this region's lowest intensity ({low:g}), so that "
                        "levels mean another intensity in another patient; give start or resegment"
                        + ("" if unit else ", or [fbn, levels] for arbitrary units"))
    below = int(np.count_nonzero(values < start))
    if below:
        warnings.append(f"{below} of {values.size} voxels lie below the start {start:g} of the bins (lowest {low:g}) "
                        "and got level 1; lower the start, or cut them off with resegment")
    if (high - start) / width + 1 > MOST_LEVELS:
        raise RefusedError(f"discretisation: a width of {width:g} makes {(high - start) / width + 1:.0f} grey levels "
                           f"of this region, more than {MOST_LEVELS}; choose a larger width or [fbn, levels]")
    return _capped(np.maximum(np.floor((values - start) / width), 0.0).astype(np.int64) + 1, warnings)


def _capped(levels: np.ndarray, warnings: list[str]) -> tuple[np.ndarray, int, list[str]]:
    n = int(levels.max())
    if n > MOST_LEVELS:
        raise RefusedError(f"discretisation: {n} grey levels, more than {MOST_LEVELS}; choose [fbn, levels]")
    if levels.min() == n:
        warnings.append("all voxels have the same grey level")
    return levels, n, warnings
