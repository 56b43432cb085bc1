"""Elastic net for any smooth convex loss: accelerated proximal gradient along a path of penalties.

Source: Beck & Teboulle 2009 (FISTA), O'Donoghue & Candes 2015 (restart); penalty as in Zou & Hastie 2005 and
Friedman et al. 2010: strength * (mix * |b|_1 + (1 - mix) / 2 * |b|_2^2), intercepts free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

MAX_STEPS = 5000
TOLERANCE = 1e-6
FRACTIONS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.12, 0.08, 0.05, 0.02)
RIDGE_FRACTIONS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6)
"""Of a largest strength that counts mix 0 as 0.01: down to next to no penalty, for a baseline of few columns."""


class Loss(Protocol):
    shape: tuple[int, int]
    penalised: np.ndarray
    bound: float

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]: ...

    def start(self) -> np.ndarray: ...


def largest_strength(loss: Loss, mix: float) -> float:
    """The smallest strength at which every penalised coefficient is zero (mix below 0.01 counts as 0.01)."""
    gradient = loss.value_and_gradient(loss.start())[1]
    return float(np.abs(gradient[loss.penalised]).max(initial=0.0)) / max(mix, 0.01) or 1e-6


def minimise(loss: Loss, strength: float, mix: float, start: np.ndarray, *, tolerance: float = TOLERANCE) -> np.ndarray:
    """The coefficients (rows, C) that minimise loss + penalty; `start` warms it. Backtracks where the bound is off."""
    l1, l2 = strength * mix * loss.penalised[:, None], strength * (1 - mix) * loss.penalised[:, None]
    smooth = _with_ridge(loss, l2)
    lipschitz = loss.bound + strength * (1 - mix)
    theta, point, momentum = start.copy(), start.copy(), 1.0
    for _ in range(MAX_STEPS):
        value, gradient = smooth(point)
        while True:
            moved = point - gradient / lipschitz
            following = np.sign(moved) * np.maximum(np.abs(moved) - l1 / lipschitz, 0.0)
            step = following - point
            size = float((step * step).sum())
            above = smooth(following)[0] - value - float((gradient * step).sum())
            if above <= 0.5 * lipschitz * size + 1e-12 * abs(value) or lipschitz > 1e12:
                break
            lipschitz *= 2.0
        if float(((point - following) * (following - theta)).sum()) > 0:
            momentum, change = 1.0, following - theta
            point = following.copy()
        else:
            after = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            change = following - theta
            point = following + (momentum - 1) / after * change
            momentum = after
        theta = following
        if np.abs(change).max(initial=0.0) <= tolerance and np.sqrt(size) <= tolerance * 10:
            break
        lipschitz = max(lipschitz * 0.98, 1e-9)
    return theta


def _with_ridge(loss: Loss, l2: np.ndarray) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    def smooth(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss.value_and_gradient(theta)
        return value + 0.5 * float((l2 * theta * theta).sum()), gradient + l2 * theta
    return smooth


def path(loss: Loss, mix: float, fractions: Sequence[float], max_columns: int, *,
         tolerance: float = TOLERANCE) -> list[tuple[float, np.ndarray]]:
    """(strength, coefficients) at each fraction of the largest strength, in falling order.

    From the first solution with more than max_columns penalised rows that count, the one before it is repeated:
    the guard of events per variable. mix 0 (ridge) uses every column and is not cut.
    """
    top = largest_strength(loss, mix)
    theta, strength, full = loss.start(), top, False
    found = []
    for fraction in fractions:
        if not full:
            following = minimise(loss, top * fraction, mix, theta, tolerance=tolerance)
            used = int((np.abs(following[loss.penalised]) > 0).any(axis=1).sum())
            full = mix > 0 and used > max_columns
            if not full:
                theta, strength = following, top * fraction
        found.append((strength, theta))
    return found
