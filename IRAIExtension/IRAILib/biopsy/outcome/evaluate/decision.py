"""Decision curves: what acting on a model is worth, in true positives per patient, at each threshold.

Sources: Vickers and Elkin 2006 (net benefit); Vickers, Cronin, Elkin and Gonen 2008 (censoring, competing risks).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....geometry import InputError
from .bootstrap import Interval, bootstrap_vector
from .checks import NotEstimableError, both_classes, numbers, plain, probabilities, truths
from .curves import causes, incidence_at, kaplan_meier

THRESHOLDS = np.round(np.arange(0.01, 1.0, 0.01), 2)


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit at each threshold probability (k,); every list holds k Intervals. treat_none is 0 everywhere.

    difference: model minus the better of treat-all and treat-none; against_baseline: model minus baseline (empty
    without one). The interval is for one threshold chosen beforehand, not for the curve as a whole.
    """

    thresholds: np.ndarray
    model: list[Interval]
    treat_all: list[Interval]
    difference: list[Interval]
    baseline: list[Interval]
    against_baseline: list[Interval]
    horizon: float | None = None

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"thresholds": plain(self.thresholds), "horizon": self.horizon, "treat_none": 0.0}
        for part in ("model", "treat_all", "difference", "baseline", "against_baseline"):
            found = getattr(self, part)
            out[part] = {side: [getattr(one, side) for one in found] for side in ("estimate", "low", "high")}
            out[part]["notes"] = sorted({one.note for one in found if one.note})
        out["method"] = self.model[0].method if self.model else ""
        return out


def net_benefit(truth: Any, probability: Any, threshold: float) -> float:
    """True positives/n - false positives/n * t / (1 - t), called at probability >= t. Raises: NotEstimableError."""
    truth = truths(truth)
    p = probabilities(probability, n=len(truth))
    if not len(truth):
        raise NotEstimableError("no patient")
    return float(_binary(truth, p, np.array([threshold]))[0])


def _binary(truth: np.ndarray, p: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    order = np.sort(p[truth]), np.sort(p[~truth])
    true, false = (len(side) - np.searchsorted(side, thresholds, side="left") for side in order)
    return (true - false * thresholds / (1 - thresholds)) / max(len(p), 1)


def _curve(benefit: Callable[..., np.ndarray], outcome: list[np.ndarray], probability: Any, baseline: Any,
           thresholds: np.ndarray, horizon: float | None, named: dict[str, Any]) -> DecisionCurve:
    n, k = len(outcome[0]), len(thresholds)
    sides = [probabilities(probability, n=n)]
    if baseline is not None:
        sides.append(probabilities(baseline, "baseline", n=n))

    def figures(*rows: np.ndarray) -> np.ndarray:
        lead, given = rows[: len(outcome)], rows[len(outcome):]
        everyone = benefit(*lead, np.ones(len(lead[0])), thresholds)
        found = [benefit(*lead, one, thresholds) for one in given]
        parts = [found[0], everyone, found[0] - np.maximum(everyone, 0.0)]
        if baseline is not None:
            parts += [found[1], found[0] - found[1]]
        return np.concatenate(parts)

    found = bootstrap_vector(figures, *outcome, *sides, **named)
    parts = [found[start: start + k] for start in range(0, len(found), k)]
    return DecisionCurve(thresholds, *parts[:3], *(parts[3:] or [[], []]), horizon=horizon)


def _thresholds(thresholds: Any) -> np.ndarray:
    thresholds = numbers(THRESHOLDS if thresholds is None else np.atleast_1d(thresholds), "thresholds")
    if not len(thresholds) or thresholds.min() <= 0 or thresholds.max() >= 1:
        raise InputError("thresholds: probabilities above 0 and below 1 are needed")
    return thresholds


def decision_curve(truth: Any, probability: Any, *, baseline: Any = None, thresholds: Any = None, patients: Any = None,
                   repeats: Any = None, n: int = 500, seed: int = 0, level: float = 0.95, progress: Any = None,
                   cancelled: Any = None) -> DecisionCurve:
    """Net benefit of a model, a baseline, treating all and none, with bootstrap intervals over patients.

    Args: truth (n,) 0/1; probability, baseline (n,); thresholds (k,) in 0..1, None: 0.01 to 0.99; patients, repeats:
        see class_report. A model has use where it lies above all others; compare only calibrated chances.
    Raises: InputError; NotEstimableError with one class only; CancelledError.
    """
    truth = truths(truth)
    both_classes(truth)
    return _curve(lambda y, p, t: _binary(y.astype(bool), p, t), [truth], probability, baseline,
                  _thresholds(thresholds), None,
                  {"groups": patients, "repeats": repeats, "n": n, "seed": seed, "level": level, "progress": progress,
                   "cancelled": cancelled})


def decision_curve_survival(time: Any, event: Any, risk: Any, horizon: float, *, cause: int | None = None,
                            baseline: Any = None, thresholds: Any = None, patients: Any = None, repeats: Any = None,
                            n: int = 500, seed: int = 0, level: float = 0.95, progress: Any = None,
                            cancelled: Any = None) -> DecisionCurve:
    """decision_curve for an event by `horizon` under censoring: those called are followed by Kaplan-Meier.

    Args: time (n,), event (n,) 0/1 (with `cause`: 0 censored, 1, 2, ..., by Aalen-Johansen); risk, baseline (n,) chance
        of the event by horizon. A threshold above which nobody called is followed to the horizon is not estimable.
    Raises: InputError; NotEstimableError when the horizon lies beyond the follow-up; CancelledError.
    """
    time, kind = causes(time, event)
    kaplan_meier(time, kind > 0).within(horizon)

    def observed(t: np.ndarray, e: np.ndarray) -> float:
        curve = kaplan_meier(t, e > 0)
        curve.within(horizon)
        return 1 - float(curve.at(horizon)) if cause is None else incidence_at(t, e, cause, horizon)

    def benefit(t: np.ndarray, e: np.ndarray, p: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        out, seen = np.zeros(len(thresholds)), {}
        for place, threshold in enumerate(thresholds):
            called = p >= threshold
            count = int(called.sum())
            if not count:
                continue
            if count not in seen:
                try:
                    seen[count] = observed(t[called], e[called]) * count / len(p)
                except NotEstimableError:
                    seen[count] = np.nan
            out[place] = seen[count] - (count / len(p) - seen[count]) * threshold / (1 - threshold)
        return out

    return _curve(benefit, [time, kind], risk, baseline, _thresholds(thresholds), horizon,
                  {"groups": patients, "repeats": repeats, "n": n, "seed": seed, "level": level, "progress": progress,
                   "cancelled": cancelled, "reason": f"nobody above the threshold is followed to {horizon:g}"})
