"""A straight line or a parabola through the middles of a void."""

from __future__ import annotations

import numpy as np

from ..ct.curve import MOST_DEGREE, Curve, chord_axes

PIECE_MM = 6.0
"""Middles nearer to each other than this err the same way."""
LEAST_SPREAD_MM, BOW_OF_LENGTH = 0.3, 0.02
"""A piece's middle is no better than the first; needles bow by about so much of their length (standard deviation)."""
CLEAR_BOW = 2.5
"""A bow is believed from so many of its own standard deviations."""


def fitted(points: np.ndarray, weights: np.ndarray, bend: bool = False, along: np.ndarray | None = None) -> Curve:
    """The straight line nearest to (n, 3) weighted points; with `bend` a parabola where the points ask for one.

    `along` (3,) says which way t grows.
    The parabola's bow is the most likely one between what the points say and that needles are nearly straight.
    """
    share = weights / weights.sum()
    mean = share @ points
    relative = points - mean
    chord = np.linalg.eigh((relative * share[:, None]).T @ relative)[1][:, -1]
    axes = chord_axes(-chord if along is not None and chord @ along < 0.0 else chord)
    local = relative @ axes.T
    t = local[:, 0]
    low, high = float(t.min()), float(t.max())
    scale = max(abs(low), abs(high), 1.0)
    across = np.zeros((MOST_DEGREE + 1, 2))
    across[:2] = _solved(np.stack([np.ones_like(t), t / scale], axis=1), local[:, 1:], share)
    if bend:
        across = _bowed(t, local[:, 1:], share, scale, across)
    return Curve(mean, axes, across, scale, (low, high))


def _solved(columns: np.ndarray, values: np.ndarray, share: np.ndarray) -> np.ndarray:
    weighted = columns * share[:, None]
    return np.linalg.solve(weighted.T @ columns + 1e-9 * np.eye(columns.shape[1]), weighted.T @ values)


def _bowed(t: np.ndarray, values: np.ndarray, share: np.ndarray, scale: float, straight: np.ndarray) -> np.ndarray:
    length = float(np.ptp(t))
    columns = np.stack([np.ones_like(t), t / scale, (t / scale) ** 2], axis=1)
    bent = _solved(columns, values, share)
    rest = values - columns @ bent
    variance = float((share @ rest**2).mean()) + LEAST_SPREAD_MM**2
    pure = columns[:, 2] - columns[:, :2] @ _solved(columns[:, :2], columns[:, 2:], share)[:, 0]
    information = max(length / PIECE_MM, 1.0) * float(share @ pure**2) / variance
    bow = np.linalg.norm(bent[2]) * (length / (2.0 * scale)) ** 2
    prior = (BOW_OF_LENGTH * length * (2.0 * scale / length) ** 2) ** 2
    if bent[2] @ bent[2] * information < CLEAR_BOW**2 or bow < 0.1:
        return straight
    kept = bent[2] * prior / (prior + 1.0 / information)
    line = _solved(columns[:, :2], values - np.outer(columns[:, 2], kept), share)
    out = np.zeros_like(straight)
    out[:2], out[2] = line, kept
    return out
