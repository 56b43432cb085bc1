"""Voxels that may lie on a needle: bright, and dark all round but in two directions.

A shell a few millimetres round the voxel meets a needle in two small caps, cortical bone in a belt, a contrast-filled
vein or a prosthesis in half of it or more. So the bright part of the shell tells a line from a plate and from a lump.
"""

from __future__ import annotations

import logging

import numpy as np

from .space import Space

log = logging.getLogger("IRAI.needle")

SHELL_MM = 4.5
"""Needles of up to 3 mm (with the blur of the scan) fit inside; ribs and vertebral bodies don't."""
SHELL_DIRECTIONS = 160
BRIGHT_PART = 0.24
"""Most of the shell that may be bright: two crossing needles fill about 0.13, an edge of bone 0.35 and more."""
HALF = 0.42
"""Bright: nearer to the voxel's own value than to the shell's median."""
MOST_VOXELS = 600_000


def candidate_points(space: Space, level: float, inside: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Voxels that may lie on a needle.

    Args:
        space: the scan.
        level: HU.
        inside: bool (k, j, i) where to look, or None for everywhere.
    Returns: (n, 3) grid mm and (n,) HU; n may be 0.
    """
    bright = space.array > level
    if inside is not None:
        bright &= inside
    index = np.argwhere(bright)
    if len(index) > MOST_VOXELS:
        values = space.array[tuple(index.T)]
        cut = np.partition(values, len(values) - MOST_VOXELS)[len(values) - MOST_VOXELS]
        log.warning("needle search: %d voxels over %.0f HU, the brightest %d (over %.0f HU) are searched", len(index),
                    level, MOST_VOXELS, cut)
        index = index[values > cut]
    if not len(index):
        return np.empty((0, 3)), np.empty(0)
    value = np.minimum(space.array[tuple(index.T)], 3071.0).astype(np.float32)
    keep = np.zeros(len(index), bool)
    for start in range(0, len(index), 50_000):
        part = slice(start, start + 50_000)
        keep[part] = _bright_part(space, index[part], value[part]) <= BRIGHT_PART
    return index[keep][:, ::-1] * space.spacing, value[keep]


def _bright_part(space: Space, index: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(n,) part of the shell round each voxel that is nearly as bright as the voxel."""
    offsets, weights = _shell(space.spacing)
    shape = np.array(space.array.shape)
    around = np.empty((len(offsets), len(index)), np.float32)
    for row, offset in zip(around, offsets, strict=True):
        at = index + offset
        valid = ((at >= 0) & (at < shape)).all(axis=1)
        at = np.clip(at, 0, shape - 1)
        row[:] = np.where(valid, space.array[tuple(at.T)], -1000.0)
    ground = np.maximum(np.median(around, axis=0), -200.0)
    return weights @ (around > ground + HALF * (value - ground))


def _shell(spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxel offsets (k, j, i) on the shell and their share of the directions."""
    n = np.arange(SHELL_DIRECTIONS) + 0.5
    z = 1.0 - 2.0 * n / SHELL_DIRECTIONS
    angle = np.pi * (1.0 + 5.0**0.5) * n
    ring = np.sqrt(1.0 - z * z)
    unit = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)
    radius = np.maximum(SHELL_MM, spacing)
    offsets, counts = np.unique(np.rint(unit * radius / spacing).astype(int)[:, ::-1], axis=0, return_counts=True)
    return offsets, (counts / counts.sum()).astype(np.float32)
