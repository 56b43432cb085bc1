"""A sweep reconstructed to a volume against a CT or MR: cut into slices along its three axes and laid in by them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..geometry import InputError, Mask, Volume
from .slice_to_volume import SliceRegistration, register_slices

APART_MM = 6.0
MOST_A_WAY = 12
LEAST_FILLED = 400


def register_sweep(sweep: Volume, volume: Volume, *, filled: Mask | None = None, init: np.ndarray | None = None,
                   measure: str = "fit", shift_mm: float = 15.0, turn_deg: float = 12.0, seed: int = 1,
                   progress: Callable[[float, str], None] | None = None,
                   cancelled: Callable[[], bool] | None = None) -> SliceRegistration:
    """The rigid map from a reconstructed sweep to a volume.

    Args:
        sweep: reconstructed ultrasound, tracked frame, mm. volume: CT or MR, RAS mm. filled: voxels of the sweep that
            hold data, on its grid; default: above 0. The rest as in `register_slices`.
    Raises: InputError (hardly a filled voxel, another grid), CancelledError.
    """
    if filled is not None and not filled.grid.same_grid(sweep.grid):
        raise InputError("filled: must lie on the sweep's own grid")
    mask = np.asarray(sweep.array > 0 if filled is None else filled.array, bool) & np.isfinite(sweep.array)
    if np.count_nonzero(mask) < LEAST_FILLED:
        raise InputError(f"{sweep.name or 'sweep'}: only {np.count_nonzero(mask)} voxels hold data; sweep further")
    images, poses, seen = cut(sweep, mask)
    return register_slices(images, poses, volume, seen=seen, init=init, measure=measure, shift_mm=shift_mm,
                           turn_deg=turn_deg, seed=seed, progress=progress, cancelled=cancelled)


def cut(sweep: Volume, mask: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]:
    """Pictures, (n, 4, 4) ras_from_pixel and masks of slices along all three axes of a volume."""
    images, poses, seen = [], [], []
    m = sweep.grid.ras_from_ijk
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        step = max(1, round(APART_MM / sweep.grid.spacing_kji_mm[axis]), int(np.ceil(len(hit) / MOST_A_WAY)))
        rows, columns = [a for a in range(3) if a != axis]
        for index in hit[step // 2::step]:
            part = mask.take(index, axis)
            if np.count_nonzero(part) < 50 or min(part.shape) < 8:
                continue
            pose = np.eye(4)
            pose[:3, 0], pose[:3, 1] = m[:3, 2 - columns], m[:3, 2 - rows]
            pose[:3, 2] = m[:3, 2 - axis]
            pose[:3, 3] = m[:3, 3] + index * m[:3, 2 - axis]
            images.append(np.where(part, sweep.array.take(index, axis), 0))
            poses.append(pose)
            seen.append(part)
    if not images:
        raise InputError(f"{sweep.name or 'sweep'}: too thin to be cut into slices of 8x8 voxels")
    return images, np.array(poses), seen
