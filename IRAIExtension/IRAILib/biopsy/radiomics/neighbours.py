"""One pass over the neighbourhood for the two families that look around every voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .texture_cells import Array, LevelRegion, half_directions


@dataclass(frozen=True)
class Neighbourhood:
    """Of each of the n voxels, all (n,) int64: neighbours in the region, the sum of their levels, and how many of them
    differ from the voxel's own level by at most alpha."""

    number: Array
    total: Array
    alike: Array


def look_around(region: LevelRegion, distance: int, alpha: float) -> tuple[Neighbourhood, Neighbourhood]:
    """(within the slice, in the volume) neighbourhoods of Chebyshev radius `distance`; the voxel itself not counted."""
    flat, index = region.flat, region.index
    kind = np.int32 if region.n_levels < 65536 else np.int64
    level = region.level.astype(kind)
    number, total, alike = (np.zeros(len(index), kind) for _ in range(3))
    in_plane = None
    for step in half_directions(distance):
        if step[0] and in_plane is None:
            in_plane = Neighbourhood(number.copy(), total.copy(), alike.copy())
        offset = region.offset(step)
        for there in (index + offset, index - offset):
            other = flat[there].astype(kind)
            inside = other > 0
            number += inside
            total += other
            alike += inside & (np.abs(other - level) <= alpha)
    whole = Neighbourhood(number, total, alike)
    return in_plane or whole, whole
