"""Neighbouring grey level dependence matrix (Sun and Wee 1983; IBSI reference manual 3.11)."""

from __future__ import annotations

import numpy as np

from .neighbours import Neighbourhood
from .texture_cells import Cells, LevelRegion, count_cells


def dependence_cells(region: LevelRegion, around: Neighbourhood, by_slice: bool) -> Cells:
    """Cells (grey level, dependence = 1 + alike neighbours); one matrix a slice or one in all."""
    group = region.slice_of if by_slice else 0
    voxels = region.slice_voxels if by_slice else np.array([len(region.index)])
    return count_cells(group, region.level, around.alike.astype(np.int64) + 1, voxels.astype(float))
