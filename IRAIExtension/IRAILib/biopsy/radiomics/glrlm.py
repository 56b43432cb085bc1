"""Grey level run length matrix (Galloway 1975; IBSI reference manual 3.7)."""

from __future__ import annotations

import numpy as np

from .texture_cells import Array, Cells, LevelRegion, count_cells, half_directions, stack_cells


def run_length_cells(region: LevelRegion, flat_only: bool = False, by_slice: bool = True) -> Cells:
    """Cells (grey level, run length) of every direction: group = direction * n + slice, n slices (1 if not by_slice).

    flat_only: the four in-plane directions alone. A direction out of the plane has no slice; its group is
    direction * n.
    """
    size = region.n_slices if by_slice else 1
    parts = []
    for step in half_directions():
        if flat_only and step[0]:
            break
        start, level, length = _runs(region, region.offset(step))
        if by_slice and not step[0]:
            parts.append(count_cells(region.slice_of[start], level, length, region.slice_voxels.astype(float)))
        else:
            voxels = np.zeros(size)
            voxels[0] = len(region.index)
            parts.append(count_cells(0, level, length, voxels))
    return stack_cells(parts, size)


def _runs(region: LevelRegion, offset: int) -> tuple[Array, Array, Array]:
    """(which voxel each run starts at, its level, its length) along one direction."""
    flat = region.flat
    start = np.flatnonzero(flat[region.index - offset] != region.level)
    level = region.level[start]
    length = np.ones(len(start), np.int64)
    alive, place, wanted = np.arange(len(start)), region.index[start], level.astype(flat.dtype)
    while len(alive):
        place = place + offset
        goes_on = flat[place] == wanted
        alive, place, wanted = alive[goes_on], place[goes_on], wanted[goes_on]
        length[alive] += 1
    return start, level, length
