"""Whether a figure could be chance: the whole training repeated with shuffled outcomes.

Source: Phipson and Smyth 2010: (b + 1) / (m + 1), never 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....geometry import CancelledError, InputError
from .checks import NotEstimableError, numbers, plain


@dataclass(frozen=True)
class Permutation:
    """observed figure, null (m,) figures under shuffled outcomes, p one-sided, smallest_p = 1 / (m + 1)."""

    observed: float
    null: np.ndarray
    p: float
    smallest_p: float
    failed: int = 0

    def to_dict(self) -> dict[str, Any]:
        return plain(self.__dict__)


def permutation_p(observed: float, null: Any, *, larger_is_better: bool = True) -> float:
    """(b + 1) / (m + 1), b of the m null figures at least as good as the observed. Raises: InputError without any."""
    null = numbers(null, "null")
    if not len(null) or not np.isfinite(observed):
        raise InputError("a permutation test needs an observed figure and one or more under shuffling")
    slack = 1e-12 * max(1.0, abs(observed))
    better = null >= observed - slack if larger_is_better else null <= observed + slack
    return float((better.sum() + 1) / (len(null) + 1))


def shuffled(groups: Any, random: np.random.Generator, strata: Any = None) -> np.ndarray:
    """(n,) row numbers: outcome of row i is to be taken from row result[i]; whole patients change places.

    A patient with several rows swaps with one who has as many. strata (n,) such as the site: only within the same.
    """
    groups = np.asarray(groups)
    labels = np.zeros(len(groups), int) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    patients, codes = np.unique(groups, return_inverse=True)
    rows = [np.flatnonzero(codes == code) for code in range(len(patients))]
    out = np.arange(len(groups))
    for kind in sorted({(len(part), int(labels[part[0]])) for part in rows}):
        same = [part for part in rows if (len(part), int(labels[part[0]])) == kind]
        for part, source in zip(same, random.permutation(len(same)), strict=True):
            out[part] = same[source]
    return out


def permutation_test(figure: Callable[[np.ndarray], float], groups: Any, *, n: int = 200, seed: int = 0,
                     strata: Any = None, larger_is_better: bool = True,
                     progress: Callable[[float, str], None] | None = None,
                     cancelled: Callable[[], bool] | None = None) -> Permutation:
    """Runs `figure(order)`, the whole training and validation with outcomes taken from rows `order`, n times shuffled.

    Args: figure: gives the figure for an order (n_rows,); the identity gives the observed one. It must repeat all that
        looks at the outcome (selection, tuning), else p is too small. groups (n_rows,): patients, kept whole.
    A shuffle without a value counts as bad as can be for the test: as at least as good as the observed, in `failed`.
    Raises: NotEstimableError when the observed figure has no value, CancelledError.
    """
    random = np.random.default_rng(seed)
    groups = np.asarray(groups)
    observed = float(figure(np.arange(len(groups))))
    null, failed = [], 0
    for k in range(n):
        if cancelled is not None and cancelled():
            raise CancelledError("the permutation test was cancelled")
        if progress is not None:
            progress(k / n, f"permutation {k + 1} of {n}")
        try:
            null.append(float(figure(shuffled(groups, random, strata))))
        except NotEstimableError:
            failed += 1
            null.append(observed)
    return Permutation(observed, np.array(null), permutation_p(observed, null, larger_is_better=larger_is_better),
                       1 / (n + 1), failed)
