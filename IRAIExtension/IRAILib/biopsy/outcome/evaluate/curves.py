"""Step curves of follow-up: Kaplan-Meier, its mirror for censoring, Aalen-Johansen, restricted mean, pseudo-values.

At a tie, events come before censorings: a patient censored at t was at risk for the events at t.
Sources: Kaplan and Meier 1958; Greenwood 1926; Aalen and Johansen 1978; Andersen, Klein and Rosthoj 2003 (pseudo-
values); Royston and Parmar 2013 (restricted mean).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import norm

from ....geometry import InputError
from .bootstrap import Interval
from .checks import NotEstimableError, follow_up, numbers


@dataclass(frozen=True)
class StepCurve:
    """Right-continuous steps: `values[k]` holds from `times[k]` until the next; `start` before the first.

    times, values, variance (k,); last: longest follow-up of all; closed: nothing is unknown past `last` (a survival
    curve that reached 0).
    """

    times: np.ndarray
    values: np.ndarray
    variance: np.ndarray
    start: float
    last: float
    closed: bool = False

    def at(self, time: Any) -> np.ndarray:
        """Value at each time, same shape as `time`."""
        return np.r_[self.start, self.values][np.searchsorted(self.times, time, side="right")]

    def before(self, time: Any) -> np.ndarray:
        """Value just before each time (the left limit)."""
        return np.r_[self.start, self.values][np.searchsorted(self.times, time, side="left")]

    def variance_at(self, time: Any) -> np.ndarray:
        return np.r_[0.0, self.variance][np.searchsorted(self.times, time, side="right")]

    def within(self, time: float, name: str = "horizon") -> None:
        """Raises: NotEstimableError when the curve isn't known at `time`."""
        if time > self.last and not self.closed:
            raise NotEstimableError(f"{name} {time:g} lies beyond the longest follow-up, {self.last:g}")


def kaplan_meier(time: Any, event: Any) -> StepCurve:
    """Chance to be free of the event, with Greenwood's variance.

    Args: time (n,) >= 0, event (n,) 0/1. Raises: InputError; NotEstimableError without a patient.
    """
    time, event = follow_up(time, event)
    return _product_limit(time, event, np.ones(len(time), bool))


def censoring_curve(time: Any, event: Any) -> StepCurve:
    """Kaplan-Meier of being uncensored, G; those with an event at t have left the risk set of a censoring at t.

    Weights are 1 / G.before(time of an event) and 1 / G.at(horizon) for who is followed beyond it.
    """
    time, event = follow_up(time, event)
    curve = _product_limit(time, ~event, event)
    # when the longest follow-up ended in an event, nobody is left whose weight past it would be unknown
    return replace(curve, closed=not (~event[time == curve.last]).any())


def _product_limit(time: np.ndarray, event: np.ndarray, first: np.ndarray) -> StepCurve:
    if not len(time):
        raise NotEstimableError("no patient")
    times = np.unique(time)
    at_risk = len(time) - np.searchsorted(np.sort(time), times, side="left")
    if not first.all():
        at_risk = at_risk - np.bincount(np.searchsorted(times, time[first]), minlength=len(times))
    died = np.bincount(np.searchsorted(times, time[event]), minlength=len(times))
    keep = died > 0
    times, at_risk, died = times[keep], at_risk[keep], died[keep]
    values = np.cumprod(1 - died / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(at_risk > died, died / (at_risk * (at_risk - died).astype(float)), 0.0)
    closed = bool(len(values)) and values[-1] <= 0
    return StepCurve(times, values, values**2 * np.cumsum(terms), 1.0, float(time.max()), closed)


def causes(time: Any, cause: Any) -> tuple[np.ndarray, np.ndarray]:
    """(time (n,), cause (n,) int: 0 censored, 1.. kinds of event). Raises: InputError."""
    cause = numbers(cause, "cause")
    if (cause < 0).any() or (cause != np.round(cause)).any():
        raise InputError("cause: 0 means censored, 1, 2, ... the kinds of event")
    time, _ = follow_up(time, cause > 0, len(cause))
    return time, cause.astype(int)


def aalen_johansen(time: Any, cause: Any, k: int = 1) -> StepCurve:
    """Chance to have had an event of cause k by each time while the other causes act too, with its variance.

    Args: time (n,), cause (n,) int, 0 censored. Variance: Aalen-type (Marubini and Valsecchi 1995, eq. 10.12).
    Raises: InputError; NotEstimableError without a patient.
    """
    time, cause = causes(time, cause)
    if not len(time):
        raise NotEstimableError("no patient")
    times = np.unique(time[cause > 0])
    place = np.searchsorted(times, time)
    at_risk = (len(time) - np.searchsorted(np.sort(time), times, side="left")).astype(float)
    died = np.bincount(place[cause > 0], minlength=len(times))[: len(times)].astype(float)
    own = np.bincount(place[cause == k], minlength=len(times))[: len(times)].astype(float)
    free = np.cumprod(1 - died / at_risk) if len(times) else np.zeros(0)
    before = np.r_[1.0, free[:-1]] if len(times) else np.zeros(0)
    values = np.cumsum(before * own / at_risk)
    variance = np.array([_cif_variance(values[: j + 1], before[: j + 1], at_risk[: j + 1], died[: j + 1], own[: j + 1])
                         for j in range(len(times))])
    closed = bool(len(free)) and free[-1] <= 0
    return StepCurve(times, values, variance, 0.0, float(time.max()), closed)


def _cif_variance(values: np.ndarray, before: np.ndarray, at_risk: np.ndarray, died: np.ndarray,
                  own: np.ndarray) -> float:
    gap = values[-1] - values
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(at_risk > died, gap**2 * died / (at_risk * (at_risk - died)), 0.0)
    second = before**2 * own * (at_risk - own) / at_risk**3
    third = -2 * gap * before * own / at_risk**2
    return float(max(0.0, (first + second + third).sum()))


def restricted_mean(time: Any, event: Any, until: float, level: float = 0.95) -> Interval:
    """Mean time free of the event within 0..until (area under Kaplan-Meier), unit of `time`, normal interval.

    The interval's `note` holds a reason where there is no value: `until` beyond the follow-up.
    """
    time, event = follow_up(time, event)
    method = f"area under Kaplan-Meier to {until:g}, Greenwood-type variance"
    try:
        curve = kaplan_meier(time, event)
        curve.within(until, "the end of the restricted mean,")
    except NotEstimableError as error:
        return Interval(None, None, None, len(time), method, level, 0, str(error))
    steps = curve.times[curve.times < until]
    edges = np.r_[0.0, steps, until]
    area = np.diff(edges) * curve.at(edges[:-1])
    rest = np.array([area[j + 1:].sum() for j in range(len(steps))])
    at_risk = (len(time) - np.searchsorted(np.sort(time), steps, side="left")).astype(float)
    died = np.bincount(np.searchsorted(steps, time[event & (time < until)]), minlength=len(steps)).astype(float)
    open_steps = at_risk > died
    variance = float((rest**2 * died / np.where(open_steps, at_risk * (at_risk - died), np.inf)).sum())
    half = norm.ppf((1 + level) / 2) * math.sqrt(variance)
    return Interval(float(area.sum()), max(0.0, area.sum() - half), min(until, float(area.sum() + half)), len(time),
                    method, level)


def pseudo_values(time: Any, event: Any, horizon: float, cause: int | None = None) -> np.ndarray:
    """(n,) jackknife values of the risk by `horizon`; their mean over any group estimates its risk under censoring
    that doesn't depend on the covariates.

    event: 0/1, or with `cause` the kinds of event. Values may lie outside 0..1.
    Raises: NotEstimableError when the horizon is beyond the follow-up.
    """
    time, event = causes(time, event)

    def risk(keep: np.ndarray) -> float:
        if cause is None:
            return 1 - float(kaplan_meier(time[keep], event[keep] > 0).at(horizon))
        return incidence_at(time[keep], event[keep], cause, horizon)

    every = np.ones(len(time), bool)
    if len(time) < 2:
        raise NotEstimableError("pseudo-values need two patients")
    kaplan_meier(time, event > 0).within(horizon)
    whole, out = risk(every), np.empty(len(time))
    seen: dict[tuple[float, int], float] = {}
    for row in range(len(time)):
        key = (min(float(time[row]), np.nextafter(horizon, np.inf)), int(event[row]) if time[row] <= horizon else 0)
        if key not in seen:
            every[row] = False
            seen[key] = risk(every)
            every[row] = True
        out[row] = len(time) * whole - (len(time) - 1) * seen[key]
    return out


def incidence_at(time: np.ndarray, cause: np.ndarray, k: int, horizon: float) -> float:
    """Aalen-Johansen's chance of an event of cause k by `horizon`, checked arrays, without its variance."""
    free = kaplan_meier(time, cause > 0)
    own = time[(cause == k) & (time <= horizon)]
    steps, counts = np.unique(own, return_counts=True)
    at_risk = len(time) - np.searchsorted(np.sort(time), steps, side="left")
    return float((free.before(steps) * counts / at_risk).sum()) if len(steps) else 0.0
