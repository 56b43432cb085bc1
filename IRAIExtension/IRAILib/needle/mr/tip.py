"""Where the metal ends in a void that ends later.

Near the tip the field of the metal's end dephases tissue ahead of it, so the void reaches beyond the tip. How far is
told by how wide the void is near its end: both grow with the metal, B0 and the echo time.
"""

from __future__ import annotations

import numpy as np

from .lines import Line
from .work import Work

BLOOM_FROM_MM, BLOOM_PER_MM = 2.2, 0.55
"""A void of up to the first radius ends where the metal does; a wider one reaches beyond it by so much a mm.

Measured on voids painted into a phantom and into the three training scans (1.5 and 3 T, 8 to 90 degrees to B0):
the rest scatters by about 0.6 mm.
"""
BALL = 2.0
"""Along B0 the shaft is thin and its end is a ball: so much more for what the end is wider than the shaft."""
BLOOM_SPREAD = 0.2


def blooming_mm(line: Line, high: bool) -> float:
    """How far the void's half depth lies ahead of the tip: more where the void is wide."""
    end = line.end_radius_mm[int(high)]
    ball = max(0.0, end - line.radius_mm - 0.3)
    return BLOOM_PER_MM * max(0.0, end - BLOOM_FROM_MM) + BALL * ball


def tip_sigma_mm(line: Line, high: bool) -> float:
    """Along the needle: what the blooming and the end's fading leave open."""
    return float(np.hypot(0.5 + BLOOM_SPREAD * line.end_radius_mm[int(high)], 0.15 * line.fade_mm[int(high)]))


def tip_of(work: Work, line: Line, high: bool) -> np.ndarray:
    """(3,) grid mm."""
    sign = 1.0 if high else -1.0
    end = line.curve.ends[int(high)]
    return line.curve.points(end - sign * blooming_mm(line, high))[0]
