"""Plain ultrasound-like frames with a bright line, drawn by formula: no simulator of the library is involved."""

from __future__ import annotations

import numpy as np

SHAPE = (240, 320)


def speckle(rng: np.random.Generator, shape: tuple[int, int] = SHAPE, level: float = 45.0) -> np.ndarray:
    """(h, w) uint8: Rayleigh noise, log-compressed."""
    values = rng.rayleigh(1.0, shape)
    return np.clip(level + 18 * np.log(values + 1e-3), 0, 255).astype(np.uint8)


def with_line(frame: np.ndarray, entry: tuple[float, float], tip: tuple[float, float], width_px: float = 1.6,
              brightness: float = 190.0) -> np.ndarray:
    """A copy with a bright Gaussian line from entry to tip (x, y), its ends cut square."""
    y, x = np.mgrid[: frame.shape[0], : frame.shape[1]]
    start, end = np.array(entry, float), np.array(tip, float)
    length = float(np.linalg.norm(end - start))
    direction = (end - start) / length
    along = (x - start[0]) * direction[0] + (y - start[1]) * direction[1]
    off = -(x - start[0]) * direction[1] + (y - start[1]) * direction[0]
    weight = np.exp(-0.5 * (off / width_px) ** 2) * ((along >= 0) & (along <= length))
    return np.clip(frame + brightness * weight, 0, 255).astype(np.uint8)


def insertion(count: int = 12, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """(n, h, w) frames of a needle that is pushed in, and (n, 2) tips in pixels."""
    rng = np.random.default_rng(seed)
    entry, direction = np.array([5.0, 40.0]), np.array([np.cos(0.5), np.sin(0.5)])
    tips = np.array([entry + direction * (150.0 + 3.0 * number) for number in range(count)])
    frames = [with_line(speckle(rng), (entry[0], entry[1]), (tip[0], tip[1])) for tip in tips]
    return np.stack(frames), tips
