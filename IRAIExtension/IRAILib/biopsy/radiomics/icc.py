"""Intraclass correlation with its interval: how much of a feature's spread is between patients.

Sources: Shrout, Fleiss, Psychol Bull 1979; 86: 420 (the forms and their names); McGraw, Wong, Psychol Methods
1996; 1: 30 (intervals, with the Satterthwaite degrees of freedom of the two-way random form).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...geometry import InputError

FORMS = ("ICC(1,1)", "ICC(2,1)", "ICC(3,1)")
"""One-way random; two-way random, absolute agreement; two-way mixed, consistency. All of a single measurement."""
MODELS = {
    "ICC(1,1)": "one-way random, single measurement, absolute agreement",
    "ICC(2,1)": "two-way random, single measurement, absolute agreement",
    "ICC(3,1)": "two-way mixed, single measurement, consistency",
}
ROUNDING = 1e-12
"""Spread below this share of the values' size is rounding, not variance."""


@dataclass(frozen=True)
class Icc:
    """An intraclass correlation.

    Attributes:
        estimate, low, high: None where it is not defined; `reason` then says why. The estimate may be negative, and
            an ICC(2,1) of a few measurements that is may have no interval.
        form: of `FORMS`.
        n_subjects, n_measurements: used.
        confidence: of the interval, two-sided, from the F distribution.
    """

    estimate: float | None
    low: float | None
    high: float | None
    form: str
    n_subjects: int
    n_measurements: int
    confidence: float = 0.95
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"estimate": self.estimate, "low": self.low, "high": self.high, "form": self.form,
                "model": MODELS[self.form], "n_subjects": self.n_subjects, "n_measurements": self.n_measurements,
                "confidence": self.confidence, "reason": self.reason}


def icc(values: np.ndarray, form: str = "ICC(1,1)", confidence: float = 0.95) -> Icc:
    """Intraclass correlation of a table of measurements.

    Args:
        values: (subjects, measurements); rows with NaN are left out. For the two-way forms a column is the same
            rater, or the same perturbation, for every subject.
        form: of `FORMS`.
        confidence: of the two-sided interval.
    Returns: an `Icc`; without an estimate where fewer than two complete subjects or two measurements are left, or
        where nothing varies.
    Raises: InputError for a table of another shape, an unknown form or confidence.
    """
    table = np.asarray(values, float)
    if table.ndim != 2:
        raise InputError(f"an ICC needs a table of subjects by measurements, got an array of shape {table.shape}")
    if form not in FORMS:
        raise InputError(f"ICC form {form!r} is not known; give {', '.join(FORMS)}")
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence!r}")
    table = table[np.isfinite(table).all(axis=1)]
    n, k = table.shape

    def nothing(reason: str) -> Icc:
        return Icc(None, None, None, form, n, k, confidence, reason)

    if n < 2 or k < 2:
        return nothing("needs two complete subjects and two measurements at least")
    size = np.abs(table).max()
    table = table / size if size > 0 else table
    grand = table.mean()
    between = k * np.square(table.mean(axis=1) - grand).sum()
    columns = n * np.square(table.mean(axis=0) - grand).sum()
    total = np.square(table - grand).sum()
    if total <= n * k * ROUNDING ** 2:
        return nothing("the same value everywhere")
    within = max(total - between, 0.0)
    error = max(within - columns, 0.0)
    rows, cols = between / (n - 1), columns / (k - 1)
    within, error = within / (n * (k - 1)), error / ((n - 1) * (k - 1))
    noise = within if form != "ICC(3,1)" else error
    if noise <= ROUNDING ** 2:
        if rows <= ROUNDING ** 2:
            return nothing("no variance between subjects, none within")
        return Icc(1.0, 1.0, 1.0, form, n, k, confidence)
    if form == "ICC(2,1)":
        if max(rows, error) <= ROUNDING ** 2:
            return nothing("no variance between subjects")
        with np.errstate(divide="ignore", invalid="ignore"):
            estimate, low, high = _two_way_random(rows, cols, error, n, k, confidence)
    else:
        df = n * (k - 1) if form == "ICC(1,1)" else (n - 1) * (k - 1)
        estimate, low, high = _by_ratio(rows / noise, n - 1, df, k, confidence)
    if not math.isfinite(estimate):
        return nothing("its variances cancel out")
    if not low <= estimate <= high:
        return Icc(float(estimate), None, None, form, n, k, confidence, "too few measurements for an interval")
    return Icc(float(estimate), float(low), float(high), form, n, k, confidence)


def _by_ratio(ratio: float, df_rows: float, df_noise: float, k: int, confidence: float) -> tuple[float, float, float]:
    """ICC(1,1) and ICC(3,1): monotone in the F ratio, hence the interval is exact."""
    from scipy import stats

    tail = 0.5 + confidence / 2
    lower = ratio / float(stats.f.ppf(tail, df_rows, df_noise))
    upper = ratio * float(stats.f.ppf(tail, df_noise, df_rows))
    return (ratio - 1) / (ratio + k - 1), (lower - 1) / (lower + k - 1), (upper - 1) / (upper + k - 1)


def _two_way_random(rows: float, cols: float, error: float, n: int, k: int,
                    confidence: float) -> tuple[float, float, float]:
    """ICC(2,1) with McGraw and Wong's approximate interval."""
    from scipy import stats

    estimate = (rows - error) / (rows + (k - 1) * error + k * (cols - error) / n)
    share = min(max(estimate, 0.0), 1.0 - 1e-12)  # a negative share of the variance makes no degrees of freedom
    a = k * share / (n * (1 - share))
    b = 1 + k * share * (n - 1) / (n * (1 - share))
    down = (a * cols) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    df = (a * cols + b * error) ** 2 / down if down > 0 else (n - 1) * (k - 1)
    tail = 0.5 + confidence / 2
    f_low, f_high = float(stats.f.ppf(tail, n - 1, df)), float(stats.f.ppf(tail, df, n - 1))
    rest = k * cols + (k * n - k - n) * error
    low = n * (rows - f_low * error) / (f_low * rest + n * rows)
    high = n * (f_high * rows - error) / (rest + n * f_high * rows)
    return estimate, low, high
