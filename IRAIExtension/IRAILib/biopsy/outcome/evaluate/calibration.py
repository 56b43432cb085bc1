"""Whether a predicted 30 % happens in 30 of 100: classes here, follow-up in survival_calibration.

Sources: Cox 1958, Van Calster et al., J Clin Epidemiol 2016 (intercept, slope, curve); Austin and Steyerberg 2019 (ICI,
E50, E90); Spiegelhalter 1986; Wilson 1927.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from .bootstrap import Interval, bootstrap_vector
from .checks import NotEstimableError, both_classes, plain, probabilities, truths
from .regression import LOGIT_LIMIT, logistic_fit, logit, spline_columns, spline_knots

GRID = 41


@dataclass(frozen=True)
class Curve:
    """Observed against predicted, (k,) each, chances 0..1; low and high: pointwise band (NaN where there is none)."""

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    method: str

    def to_dict(self) -> dict[str, Any]:
        return plain(self.__dict__)


@dataclass(frozen=True)
class Bin:
    """Patients of like predictions: mean predicted, observed share with its 95 % interval (None: not estimable)."""

    n: int
    predicted: float
    observed: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Calibration:
    """Calibration of chances. A perfect model: intercept 0, slope 1, o_e 1, ici and ece near 0.

    intercept: calibration in the large, on the logit scale with the prediction as offset; above 0: risks are too low.
    slope: below 1: predictions are too extreme (overfitting). o_e: observed over expected events; e_o: its inverse.
    ici, e50, e90: mean, median and 90th percentile of |curve - prediction| over the patients. ece: the same over
    `ece_bins` bins of equal size; it depends on the bins, is biased upwards in small samples and no two papers' values
    compare. spiegelhalter_z, _p: test of the Brier score under perfect calibration (one repeat's rows; None if none).
    """

    n: int
    events: int
    intercept: Interval
    slope: Interval
    o_e: Interval
    e_o: Interval
    ici: Interval
    e50: Interval
    e90: Interval
    ece: Interval
    ece_bins: int
    spiegelhalter_z: float | None
    spiegelhalter_p: float | None
    curve: Curve | None
    bins: tuple[Bin, ...]
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        out = {name: value.to_dict() if hasattr(value, "to_dict") else value for name, value in self.__dict__.items()}
        out["bins"] = [one.__dict__ for one in self.bins]
        return plain(out)


def calibration_intercept(truth: Any, probability: Any) -> float:
    """a of logit P(event) = a + logit(predicted). Raises: NotEstimableError with one class only."""
    truth, probability = _pair(truth, probability)
    both_classes(truth)
    return float(logistic_fit(np.ones((len(truth), 1)), truth, logit(probability))[0])


def calibration_slope(truth: Any, probability: Any) -> float:
    """b of logit P(event) = a + b logit(predicted). Raises: NotEstimableError: one class, separation, one value."""
    truth, probability = _pair(truth, probability)
    both_classes(truth)
    x = logit(probability)
    if x.std() < 1e-9:
        raise NotEstimableError("every patient has the same prediction")
    return float(logistic_fit(np.column_stack([np.ones_like(x), x]), truth)[1])


def spiegelhalter(truth: Any, probability: Any) -> tuple[float, float]:
    """(z, two-sided p) of the Brier score against its value under perfect calibration, independent rows.

    Raises: NotEstimableError when every prediction is 0, 0.5 or 1 (no variance).
    """
    truth, p = _pair(truth, probability)
    spread = float(((1 - 2 * p) ** 2 * p * (1 - p)).sum())
    if spread <= 0:
        raise NotEstimableError("the test has no variance on these predictions")
    z = float(((truth - p) * (1 - 2 * p)).sum() / math.sqrt(spread))
    return z, float(2 * norm.sf(abs(z)))


def wilson(events: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share, n > 0."""
    z = float(norm.ppf((1 + level) / 2))
    centre = (events + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(events * (n - events) / n + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def equal_bins(predicted: np.ndarray, n_bins: int) -> list[np.ndarray]:
    """Row numbers of bins of about equal size, rows of equal prediction never parted."""
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, n_bins + 1)[1:-1])) if len(predicted) else np.zeros(0)
    place = np.searchsorted(edges, predicted, side="left")
    return [np.flatnonzero(place == one) for one in np.unique(place)]


def expected_calibration_error(truth: Any, probability: Any, n_bins: int = 10) -> float:
    """Mean over patients of |observed - predicted| of their bin (bins of equal size). Depends on the bins."""
    truth, p = _pair(truth, probability)
    if not len(p):
        raise NotEstimableError("no patient")
    return float(sum(abs(truth[rows].mean() - p[rows].mean()) * len(rows) for rows in equal_bins(p, n_bins)) / len(p))


def _pair(truth: Any, probability: Any) -> tuple[np.ndarray, np.ndarray]:
    truth = truths(truth)
    return truth, probabilities(probability, n=len(truth))


def _figures(truth: np.ndarray, p: np.ndarray, grid: np.ndarray, knots: np.ndarray, n_bins: int) -> np.ndarray:
    """intercept, slope, O/E, E/O, ICI, E50, E90, ECE and the curve on the grid; NaN where there is no value."""
    out = np.full(8 + len(grid), np.nan)
    if not len(p):
        return out
    for place, function in enumerate((calibration_intercept, calibration_slope)):
        try:
            out[place] = function(truth, p)
        except NotEstimableError:
            continue
    if p.sum() > 0:
        out[2] = truth.sum() / p.sum()
    if truth.any():
        out[3] = p.sum() / truth.sum()
    out[7] = expected_calibration_error(truth, p, n_bins)
    try:
        both_classes(truth)
        columns = spline_columns(logit(p), knots)
        if logit(p).std() < 1e-9:
            return out
        beta = logistic_fit(columns, truth)
    except NotEstimableError:
        return out
    error = np.abs(expit(columns @ beta) - p)
    out[4:7] = error.mean(), np.median(error), np.quantile(error, 0.9)
    out[8:] = expit(spline_columns(logit(grid), knots) @ beta)
    return out


def calibration(truth: Any, probability: Any, *, patients: Any = None, repeats: Any = None, n_bins: int | None = None,
                n: int = 500, seed: int = 0, level: float = 0.95, progress: Any = None,
                cancelled: Any = None) -> Calibration:
    """Calibration of the chance of one class, with bootstrap intervals over patients.

    Args: truth (n,) 0/1, probability (n,) of 1; patients, repeats (n,): see class_report (figures and curve are means
        over repeats). n_bins: bins of equal size (None: one for 10 patients of a repeat, 2 to 10).
    Returns: the curve is a logistic regression on a restricted cubic spline of the logit (3 knots below 100 rows of a
        repeat, else 4), between the 1st and 99th percentile of the predictions. With one class only, or predictions
        that separate the classes, intercept, slope and curve are not estimable and say so.
    Raises: InputError, CancelledError.
    """
    truth, p = _pair(truth, probability)
    rows = _first_repeat(len(truth), repeats)
    n_bins = n_bins or int(np.clip(len(rows) // 10, 2, 10))
    grid = curve_grid(p)
    knots = spline_knots(logit(p[rows]))
    found = bootstrap_vector(lambda y, q: _figures(y.astype(bool), q, grid, knots, n_bins), truth, p, groups=patients,
                             repeats=repeats, n=n, seed=seed, level=level, reason=_reason(truth, p),
                             progress=progress, cancelled=cancelled)
    curve = None
    if len(found) > 8 and found[8].estimable:
        curve = curve_of(grid, found[8:], f"logistic, restricted cubic spline with {len(knots)} knots")
    z = test = None
    if len(rows) and (p[rows] * (1 - p[rows]) * (1 - 2 * p[rows]) ** 2).sum() > 0:
        z, test = spiegelhalter(truth[rows], p[rows])
    extreme = int(((p < LOGIT_LIMIT) | (p > 1 - LOGIT_LIMIT)).sum())
    notes = [f"{extreme} prediction(s) of 0 or 1 were taken as {LOGIT_LIMIT:g} away from it"] if extreme else []
    if min(truth[rows].sum(), (~truth[rows]).sum()) < 100:
        notes.append("fewer than 100 events and 100 non-events: a calibration curve is unsure (Van Calster 2016)")
    intercept, slope, o_e, e_o, ici, e50, e90, ece = found[:8]
    return Calibration(len(rows), int(truth[rows].sum()), intercept, slope, o_e, e_o, ici, e50, e90, ece, n_bins, z,
                       test, curve, _bins(truth, p, rows, n_bins), tuple(notes))


def _first_repeat(n: int, repeats: Any) -> np.ndarray:
    if repeats is None or not n:
        return np.arange(n)
    repeats = np.asarray(repeats)
    return np.flatnonzero(repeats == repeats[0])


def _reason(truth: np.ndarray, p: np.ndarray) -> str:
    if not len(truth):
        return "no patient"
    if truth.all() or not truth.any():
        return f"only one class among {len(truth)} rows"
    if logit(p).std() < 1e-9:
        return "every patient has the same prediction"
    return "the predictions separate the classes, or repeat too few values"


def _bins(truth: np.ndarray, p: np.ndarray, rows: np.ndarray, n_bins: int) -> tuple[Bin, ...]:
    out = []
    for part in equal_bins(p[rows], n_bins):
        part = rows[part]
        low, high = wilson(int(truth[part].sum()), len(part))
        out.append(Bin(len(part), float(p[part].mean()), float(truth[part].mean()), low, high))
    return tuple(out)


def curve_grid(p: np.ndarray) -> np.ndarray:
    """GRID predictions between the 1st and the 99th percentile; none without a patient."""
    if not len(p):
        return np.zeros(0)
    low, high = np.quantile(p, [0.01, 0.99])
    return np.linspace(float(low), float(high), GRID)


def curve_of(grid: np.ndarray, found: list[Interval], method: str) -> Curve:
    """Curve of intervals on a grid."""
    def side(name: str) -> np.ndarray:
        return np.array([np.nan if getattr(one, name) is None else getattr(one, name) for one in found])

    return Curve(grid, side("estimate"), side("low"), side("high"), f"{method}; band: {found[0].method}, pointwise")
