"""Lesions whose class can be seen, made by formula: a ring or a core of the same mean and volume."""

from __future__ import annotations

import numpy as np
from IRAILib.biopsy.deep import Crop, CropOptions, read_crop
from IRAILib.geometry import Grid, Mask, Volume

OPTIONS = CropOptions(side_mm=32.0, pixels=16)


def lesion(kind: int, seed: int, side: int = 40) -> tuple[Volume, Mask]:
    """A ball of 10 mm in noise; kind 1: bright rim, kind 0: bright core; the same bright volume."""
    random = np.random.default_rng(seed)
    k, j, i = np.mgrid[:side, :side, :side] - (side - 1) / 2.0 - random.uniform(-1, 1, 3)[:, None, None, None]
    radius = np.sqrt(k ** 2 + j ** 2 + i ** 2)
    size = 10.0 * random.uniform(0.95, 1.05)
    inside = radius <= size
    cut = size * 0.5 ** (1 / 3)
    bright = inside & ((radius > cut) if kind else (radius <= cut))
    values = random.normal(0.0, 15.0, (side,) * 3) + 40.0 + 60.0 * bright
    values[0, 0, 0] = -1000.0
    grid = Grid((side,) * 3, np.eye(4))
    return Volume(values.astype(np.float32), grid, metadata={"modality": "CT"}), Mask(inside, grid)


def crops(labels: np.ndarray, options: CropOptions = OPTIONS, seed: int = 0) -> list[Crop]:
    return [read_crop(*lesion(int(label), 1000 * seed + n), options) for n, label in enumerate(labels)]
