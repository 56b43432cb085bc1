"""What the wire network sees of a fluoroscopic frame: its lines in units of the frame's own roughness."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

BLOCK = 16
"""Rows and columns are made multiples of twice that; a background block is that large."""


@lru_cache(maxsize=8)
def _between(blocks: int) -> np.ndarray:
    """(blocks * BLOCK, blocks) linear interpolation from block centres to pixels."""
    at = np.clip((np.arange(blocks * BLOCK) + 0.5) / BLOCK - 0.5, 0.0, blocks - 1.0)
    low = np.minimum(at.astype(int), max(blocks - 2, 0))
    out = np.zeros((blocks * BLOCK, blocks), np.float32)
    part = (at - low).astype(np.float32)
    out[np.arange(len(at)), low] = 1.0 - part
    out[np.arange(len(at)), np.minimum(low + 1, blocks - 1)] += part
    return out


def padded_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns after the right and lower borders were repeated to multiples of 32."""
    return -(-shape[0] // (2 * BLOCK)) * 2 * BLOCK, -(-shape[1] // (2 * BLOCK)) * 2 * BLOCK


def features(frame: np.ndarray) -> np.ndarray:
    """(H, W) float32 of a frame (h, w) of grey values that grow with the dose: padded, logarithmic, flattened.

    The logarithm makes an absorber equally strong on bright and on dark ground; a frame without contrast gives zeros.
    """
    height, width = padded_shape((frame.shape[0], frame.shape[1]))
    grey = np.pad(frame.astype(np.float32), ((0, height - frame.shape[0]), (0, width - frame.shape[1])), mode="edge")
    white = float(np.percentile(grey[::4, ::4], 99.0))
    if white <= 0.0:
        return np.zeros((height, width), np.float32)
    log = np.log(np.maximum(grey, 0.0) * np.float32(1.0 / white) + np.float32(0.05))
    blocks = log.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean(axis=(1, 3))
    smooth = ndimage.gaussian_filter(blocks, 0.8, mode="nearest")
    flat = log - _between(height // BLOCK) @ smooth @ _between(width // BLOCK).T
    rough = 1.4826 * float(np.median(np.abs(flat[::4, ::4])))
    if rough < 1e-6:
        rough = float(flat.std())
    return np.arcsinh(flat * np.float32(1.0 / max(rough, 1e-3)))
