"""Calibration over time, an alarm that counts patient by patient, and one test over all inputs together.

Sources: Garwood 1936 (interval of a count); Steiner, Cook, Farewell and Treasure 2000 (risk-adjusted CUSUM); Gretton et
al. 2012 (MMD).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

from ....geometry import InputError
from .checks import NotEstimableError, numbers, plain, probabilities, truths

SIMULATIONS = 2000


@dataclass(frozen=True)
class Period:
    """One period: observed over expected events with an exact Poisson 95 % interval (wide for common events: errs to
    'no change'). None: not estimable, `note` says why."""

    period: str
    n: int
    observed: int
    expected: float
    o_e: float | None
    low: float | None
    high: float | None
    note: str = ""


@dataclass(frozen=True)
class CalibrationOverTime:
    """Periods in order; p: chi-square over periods that observed differ from expected events anywhere (None without
    two periods that can be used); p_trend: that the difference grows or falls from period to period."""

    periods: list[Period]
    p: float | None
    p_trend: float | None
    line: str

    def to_dict(self) -> dict[str, Any]:
        return plain({**self.__dict__, "periods": [one.__dict__ for one in self.periods]})


def calibration_over_time(period: Any, truth: Any, probability: Any, *, least: int = 20,
                          level: float = 0.95) -> CalibrationOverTime:
    """O/E by period. Args: period (n,) labels that sort in time; truth (n,) 0/1; probability (n,) as predicted then.

    A period of fewer than `least` patients gives no ratio. Raises: InputError.
    """
    truth = truths(truth)
    p = probabilities(probability, n=len(truth))
    return _by_period(np.asarray(period), truth, p, p * (1 - p), least, level)


def hazard_over_time(period: Any, event: Any, expected: Any, *, least: int = 20,
                     level: float = 0.95) -> CalibrationOverTime:
    """O/E by period of times to an event: expected (n,) is each patient's predicted cumulative hazard at the end of
    his own follow-up, so that censored patients count for as long as they were seen; event (n,) 0/1 by then.

    Raises: InputError. Source: Crowson, Atkinson and Therneau 2016 (the sum of the hazards as a Poisson mean).
    """
    event = truths(event)
    expected = numbers(expected, "expected", n=len(event))
    if (expected < 0).any():
        raise InputError("expected: a cumulative hazard is not below 0")
    return _by_period(np.asarray(period), event, expected, expected, least, level)


def _by_period(period: np.ndarray, truth: np.ndarray, p: np.ndarray, variance: np.ndarray, least: int,
               level: float) -> CalibrationOverTime:
    if period.shape != truth.shape:
        raise InputError(f"period: {period.shape} labels for {len(truth)} rows")
    out, scores = [], []
    for place, label in enumerate(np.unique(period)):
        rows = period == label
        n, events, expected = int(rows.sum()), int(truth[rows].sum()), float(p[rows].sum())
        if n < least or expected <= 0:
            why = f"{n} patients, {least} are needed" if n < least else "no event is expected"
            out.append(Period(str(label), n, events, expected, None, None, None, why))
            continue
        tail = (1 - level) / 2
        low = 0.0 if events == 0 else float(chi2.ppf(tail, 2 * events)) / 2
        high = float(chi2.ppf(1 - tail, 2 * events + 2)) / 2
        out.append(Period(str(label), n, events, expected, events / expected, low / expected, high / expected))
        scores.append((place, events - expected, float(variance[rows].sum())))
    return _summary(out, np.array([one for one in scores if one[2] > 0]).reshape(-1, 3))


def _summary(periods: list[Period], scores: np.ndarray) -> CalibrationOverTime:
    if len(scores) < 2:
        return CalibrationOverTime(periods, None, None, "calibration over time: fewer than two periods can be used")
    place, gap, variance = scores.T
    p = float(chi2.sf((gap**2 / variance).sum(), len(gap)))
    centred = place - (place * variance).sum() / variance.sum()
    trend = float(chi2.sf((centred @ gap) ** 2 / (centred**2 @ variance), 1))
    said = "observed and expected events differ" if p < 0.05 else "no difference of observed from expected events seen"
    return CalibrationOverTime(periods, p, trend, f"calibration over {len(gap)} periods: {said} (p {p:.3f}, trend p "
                                                  f"{trend:.3f})")


@dataclass(frozen=True)
class Cusum:
    """Running evidence (n,) that the odds of the event are `odds_ratio` times (up) or 1 / odds_ratio times (down) what
    was predicted; alarm: first patient (from 0) past a limit, None: no alarm. false_alarm: chance of one by luck."""

    up: np.ndarray
    down: np.ndarray
    limit_up: float
    limit_down: float
    alarm: int | None
    direction: str
    odds_ratio: float
    false_alarm: float
    line: str

    def to_dict(self) -> dict[str, Any]:
        return plain(self.__dict__)


def cusum(truth: Any, probability: Any, *, odds_ratio: float = 2.0, false_alarm: float = 0.05, seed: int = 0) -> Cusum:
    """Risk-adjusted CUSUM of patients in the order of time; limits by simulating outcomes from the predictions, so that
    a calibrated model alarms within this series with chance `false_alarm` (half on each side).

    Args: truth (n,) 0/1, probability (n,). Raises: InputError; NotEstimableError: no patient, all predictions 0 or 1.
    """
    truth = truths(truth)
    p = probabilities(probability, n=len(truth))
    if odds_ratio <= 1 or not 0 < false_alarm < 1:
        raise InputError("cusum: an odds ratio above 1 and a false alarm rate between 0 and 1 are needed")
    if not (p * (1 - p) > 0).any():
        raise NotEstimableError("no patient with a chance between 0 and 1")
    random = np.random.default_rng(seed)
    simulated = random.random((SIMULATIONS, len(p))) < p
    paths, limits = [], []
    for ratio in (odds_ratio, 1 / odds_ratio):
        worth = np.array([-np.log1p(p * (ratio - 1)), math.log(ratio) - np.log1p(p * (ratio - 1))])
        limits.append(float(np.quantile(_path(simulated, worth).max(axis=1), 1 - false_alarm / 2, method="higher")))
        paths.append(_path(truth[None], worth)[0])
    first = [np.flatnonzero(path > limit + 1e-12) for path, limit in zip(paths, limits, strict=True)]
    alarms = [(int(found[0]), name) for found, name in zip(first, ("up", "down"), strict=True) if len(found)]
    alarm, direction = min(alarms) if alarms else (None, "")
    line = (f"CUSUM: no alarm in {len(p)} patients" if alarm is None else
            f"CUSUM: alarm at patient {alarm + 1}: more events than predicted" if direction == "up" else
            f"CUSUM: alarm at patient {alarm + 1}: fewer events than predicted")
    return Cusum(paths[0], paths[1], limits[0], limits[1], alarm, direction, odds_ratio, false_alarm, line)


def _path(outcome: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """(m, n) sums kept at 0 or above, of series (m, n) bool with worth (2, n) of no event and event."""
    steps = np.where(outcome, worth[1], worth[0])
    total = np.cumsum(steps, axis=1)
    return total - np.minimum(np.minimum.accumulate(total, axis=1), 0.0)


@dataclass(frozen=True)
class Discrepancy:
    """Squared maximum mean discrepancy (unbiased, may be below 0) and its permutation p over m shuffles."""

    mmd2: float
    p: float
    shuffles: int
    width: float

    def to_dict(self) -> dict[str, Any]:
        return plain(self.__dict__)


def mmd(reference: Any, current: Any, *, shuffles: int = 499, seed: int = 0) -> Discrepancy:
    """One test of all inputs together, so that a change of their relations is seen too.

    Args: reference (n, p), current (m, p), no missing values; inputs are divided by their SD in the reference, the
        Gaussian kernel's width is the median distance. Memory grows with (n + m)^2. Raises: InputError with fewer than
        3 rows on a side.
    """
    reference, current = (numbers(rows, name, ndim=2) for rows, name in ((reference, "reference"),
                                                                         (current, "current")))
    n = len(reference)
    if min(n, len(current)) < 3 or reference.shape[1] != current.shape[1]:
        raise InputError("mmd: three or more rows of the same inputs are needed on each side")
    sd = reference.std(axis=0)
    rows = np.concatenate([reference, current]) / np.where(sd > 0, sd, 1.0)
    squares = (rows**2).sum(axis=1)
    distance = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)
    width = float(np.median(distance[np.triu_indices(len(rows), 1)])) or 1.0
    kernel = np.exp(-distance / width)
    np.fill_diagonal(kernel, 0)

    def value(first: np.ndarray) -> float:
        a, b = first, 1.0 - first
        one, other = a.sum(), b.sum()
        return float(a @ kernel @ a / (one * (one - 1)) + b @ kernel @ b / (other * (other - 1))
                     - 2 * a @ kernel @ b / (one * other))

    first = (np.arange(len(rows)) < n).astype(float)
    observed = value(first)
    random = np.random.default_rng(seed)
    null = np.array([value(random.permutation(first)) for _ in range(shuffles)])
    return Discrepancy(observed, float(((null >= observed - 1e-15).sum() + 1) / (shuffles + 1)), shuffles,
                       math.sqrt(width))
