"""Breaths with a formula: level, belt, and the motion of two points on a loop."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

RATE_HZ = 20.0
DIRECTIONS = np.array([[0.2, 0.5, 0.84], [0.0, 0.3, 0.95]])  # of two points; they move 12 and 8 mm


def breaths(count: int, seed: int, *, depth: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(times, inhaled share, phase) of breaths of changing length and depth: 1 - cos^4, as Lujan 1999 has it."""
    random = np.random.default_rng(seed)
    times, level, phase, start = [], [], [], 0.0
    for _ in range(count):
        period, size = random.uniform(3.2, 4.8), depth * random.uniform(0.85, 1.15)
        t = np.arange(0, period, 1 / RATE_HZ)
        times.append(start + t)
        level.append(size * (1 - np.cos(np.pi * t / period) ** 4))
        phase.append(2 * np.pi * t / period)
        start += period
    return np.concatenate(times), np.concatenate(level), np.concatenate(phase)


@lru_cache
def recording(count: int = 24, seed: int = 1, *, depth: float = 1.0, hysteresis_mm: float = 2.0, drift: float = 0.0):
    """(times, belt, (n, 2, 3) mm): motion on a loop; the belt is bent, noisy, and drifts by a share a minute."""
    times, level, phase = breaths(count, seed, depth=depth)
    random = np.random.default_rng(seed + 100)
    belt = 3.0 + 1.5 * level + 0.3 * level**2 + drift * times / 60 + random.normal(0, 0.01, len(times))
    across = hysteresis_mm * np.sin(phase) * np.clip(level, 0, 1.2)
    motion = np.stack([np.outer(size * level, way) + np.outer(across, side) for size, way, side in
                       ((12.0, DIRECTIONS[0], (0, 0.86, -0.5)), (8.0, DIRECTIONS[1], (0.9, 0.3, -0.3)))], axis=1)
    return times, belt, motion
