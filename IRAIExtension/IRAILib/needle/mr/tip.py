"""Where the metal ends in a void that ends later."""

from __future__ import annotations

import numpy as np

from .lines import Line
from .work import Work

BLOOM_OF_RADIUS = 0.0
"""Part of the void's radius that the void reaches beyond the metal at the tip."""
BLOOM_SPREAD = 0.35


def blooming_mm(line: Line, high: bool) -> float:
    """How far the void's half depth lies ahead of the tip."""
    return BLOOM_OF_RADIUS * line.end_radius_mm[int(high)]


def tip_sigma_mm(line: Line, high: bool) -> float:
    """Along the needle: what the blooming and the end's fading leave open."""
    return float(np.hypot(0.5 + BLOOM_SPREAD * line.end_radius_mm[int(high)], 0.15 * line.fade_mm[int(high)]))


def tip_of(work: Work, line: Line, high: bool) -> np.ndarray:
    """(3,) grid mm."""
    sign = 1.0 if high else -1.0
    end = line.curve.ends[int(high)]
    return line.curve.points(end - sign * blooming_mm(line, high))[0]
