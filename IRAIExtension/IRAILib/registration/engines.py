"""The deformable engines behind one call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .inputs import Work


def deform(engine: str, work: Work, seed: int, search_mm: float, progress: Callable[[float, str], None]) -> np.ndarray:
    """(k, j, i, 3) float32 displacement in RAS mm on the working grid: fixed point to aligned moving point.

    Args:
        engine: a name of `options.ENGINES` whose package is installed.
        search_mm: largest displacement that engines with a global search look for.
    """
    if engine == "convex":
        from . import convex

        return convex.deform(work, seed, progress, search_mm=search_mm)
    if engine == "bspline":
        from . import bspline

        return bspline.deform(work, seed, progress)
    from . import peers

    return peers.deform(engine, work, progress)
