"""Backgrounds for simulated fluoroscopy: line integrals through a CT from random directions, without any device."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from ..geometry import CancelledError, InputError, Volume, beam_direction

WATER_PER_MM = 0.019
"""Attenuation of water for the beam of a fluoroscope (about 55 keV effective)."""
BONE_FACTOR = 1.7
"""Above 150 HU attenuation grows faster than at the scanner's higher energy."""
STEP_MM = 2.0


def attenuation(ct: Volume) -> np.ndarray:
    """(k, j, i) float32 per mm at a fluoroscope's energy; air and what lies below -950 HU gives 0."""
    hu = np.nan_to_num(ct.array.astype(np.float32), nan=-1000.0)
    mu = WATER_PER_MM * (1.0 + np.clip(hu, -1000.0, 3000.0) / 1000.0)
    mu += WATER_PER_MM * (BONE_FACTOR - 1.0) * np.clip(hu - 150.0, 0.0, 3000.0) / 1000.0
    return np.where(hu < -950.0, 0.0, mu).astype(np.float32)


def random_grounds(ct: Volume, count: int, *, seed: int = 0, size_px: int = 640, part: tuple[float, float] = (0.0, 1.0),
                   cancelled: Callable[[], bool] = lambda: False) -> list[np.ndarray]:
    """Line integrals of random views: LAO/RAO up to 60, CRA/CAU up to 30 degrees, 0.12 to 0.35 mm a pixel at the body.

    Args:
        ct: HU, the patient's axes as in its grid. size_px: rows and columns of each.
        part: the piece of the CT, from its lower to its upper end (0..1), that the isocentre lies in; what lies beyond
            the scan's ends is filled by its last slices, as the body goes on there.
    Returns: `count` arrays (size_px, size_px) float32; deterministic for a seed.
    Raises: InputError for a CT without any tissue, CancelledError.
    """
    mu = attenuation(ct)
    inside = np.argwhere(mu[:, ::8, ::8] > 0.5 * WATER_PER_MM)
    if not len(inside):
        raise InputError("the CT shows no tissue: backgrounds can't be made from it")
    rng = np.random.default_rng(seed)
    body = ct.grid.points_ras(inside * [1, 8, 8])
    low, high = body.min(axis=0), body.max(axis=0)
    grounds = []
    for _ in range(count):
        if cancelled():
            raise CancelledError("the simulation was cancelled")
        middle = low + (high - low) * [rng.uniform(0.25, 0.75), rng.uniform(0.3, 0.7), rng.uniform(*part)]
        grounds.append(_view(ct, mu, middle, beam_direction(rng.uniform(-60, 60), rng.uniform(-30, 30)),
                             rng.uniform(0.12, 0.35), size_px))
    return grounds


def _view(ct: Volume, mu: np.ndarray, middle: np.ndarray, beam: np.ndarray, mm_per_px: float, size_px: int
          ) -> np.ndarray:
    """One divergent view; rays are cast every second pixel and a half, as a CT's voxels show no more."""
    side = np.cross(beam, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    down = np.cross(beam, side)
    down *= -np.sign(down[2]) or 1.0
    source = middle - 750.0 * beam
    coarse = math.ceil(size_px / 2.5)
    offset = (np.arange(coarse) - (coarse - 1) / 2.0) * 2.5 * mm_per_px
    ends = middle + offset[None, :, None] * side + offset[:, None, None] * down - source
    ray = ends / np.linalg.norm(ends, axis=2, keepdims=True)
    steps = np.arange(750.0 - 260.0, 750.0 + 260.0, STEP_MM)
    matrix = ct.grid.ijk_from_ras[2::-1]
    first = source @ matrix[:, :3].T + matrix[:, 3]
    along = ray.reshape(-1, 3) @ matrix[:, :3].T
    total = np.zeros(len(along), np.float32)
    last = float(mu.shape[0] - 1)
    for step in steps:
        at = first + step * along
        at[:, 0] = np.clip(at[:, 0], 0.0, last)
        total += ndimage.map_coordinates(mu, at.T, order=1, mode="constant", cval=0.0, prefilter=False)
    line = (total * STEP_MM).reshape(coarse, coarse)
    return np.asarray(ndimage.zoom(line, size_px / coarse, order=3, mode="nearest", grid_mode=True))[:size_px, :size_px]
