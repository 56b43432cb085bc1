"""Figures of a survival model that respect censoring, on patients it was not fitted on.

Weights: inverse probability of censoring (IPCW) from the Kaplan-Meier curve of censoring, which must not depend on the
covariates. With cross-validation the curve of the whole cohort may be used: it describes the follow-up, not the model.
Pool risks over folds only on a common scale (a chance by a horizon; a linear predictor has another zero in each fold).
Sources: Harrell 1996; Uno, Cai, Pencina et al. 2011 (C, truncated); Uno, Cai, Tian and Wei 2007, Hung and Chiang 2010
(time-dependent AUC); Graf, Schmoor, Sauerbrei and Schumacher 1999 (Brier); Kattan and Gerds 2018 (IPA).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ....geometry import InputError
from .bootstrap import Comparison, compare
from .checks import Metrics, NotEstimableError, follow_up, numbers, probabilities
from .curves import StepCurve, censoring_curve, kaplan_meier

BLOCK = 512
"""Events compared with all patients at once: bounds the memory of a C-index."""


def pair_counts(time: np.ndarray, event: np.ndarray, risk: np.ndarray,
                within: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """((n,) pairs of each patient's event with a later time that are ordered right, risk ties half; (n,) pairs).

    A pair counts when patient i has its event before time j, or at time j when j is censored there. within (n,): only
    pairs of patients with the same label (a fold).
    """
    good, total = np.zeros(len(time)), np.zeros(len(time))
    rows = np.flatnonzero(event)
    for start in range(0, len(rows), BLOCK):
        i = rows[start: start + BLOCK]
        pair = (time[i][:, None] < time) | ((time[i][:, None] == time) & ~event)
        if within is not None:
            pair &= within[i][:, None] == within
        total[i] = np.count_nonzero(pair, axis=1)
        higher, tied = pair & (risk[i][:, None] > risk), pair & (risk[i][:, None] == risk)
        good[i] = np.count_nonzero(higher, axis=1) + 0.5 * np.count_nonzero(tied, axis=1)
    return good, total


def concordance(counts: tuple[np.ndarray, np.ndarray], weight: np.ndarray) -> float:
    """Weighted share of pairs that are ordered right; counts of pair_counts, weight (n,) of each patient's event.

    Raises: NotEstimableError when no pair can be compared.
    """
    total = float(weight @ counts[1])
    if total <= 0:
        raise NotEstimableError("no pair of patients can be compared" if weight.any() else "no event was seen")
    return float(weight @ counts[0]) / total


def harrell_c(time: Any, event: Any, risk: Any, *, within: Any = None) -> float:
    """Harrell's C: depends on the censoring of the study, unlike Uno's.

    Args: time (n,), event (n,) 0/1, risk (n,) higher for earlier events; within (n,): see pair_counts.
    Raises: InputError; NotEstimableError without an event or a comparable pair.
    """
    time, event = follow_up(time, event)
    risk = numbers(risk, "risk", n=len(time))
    counts = pair_counts(time, event, risk, None if within is None else np.asarray(within))
    return concordance(counts, event.astype(float))


def uno_c(time: Any, event: Any, risk: Any, train_time: Any = None, train_event: Any = None, *,
          until: float | None = None, within: Any = None) -> float:
    """Uno's C: events before `until` weighted by 1 / G^2, so that its target is free of the censoring.

    train_time, train_event: patients that the censoring curve is taken from (None: these). until: truncation in the
    unit of time; None: all events up to where G is above 0 (late weights may be large; choose a horizon).
    Raises: InputError; NotEstimableError without an event before the truncation.
    """
    time, event = follow_up(time, event)
    risk = numbers(risk, "risk", n=len(time))
    curve = censoring_curve(time if train_time is None else train_time, event if train_event is None else train_event)
    counts = pair_counts(time, event, risk, None if within is None else np.asarray(within))
    return concordance(counts, _uno_weight(time, event, curve, np.inf if until is None else until))


def _uno_weight(time: np.ndarray, event: np.ndarray, censoring: StepCurve, until: float) -> np.ndarray:
    left = censoring.before(time)
    case = event & (left > 0) & (time < until)
    if not case.any():
        raise NotEstimableError("no event was seen" + ("" if np.isinf(until) else f" before {until:g}"))
    return np.where(case, 1 / np.maximum(left, 1e-12) ** 2, 0.0)


def horizon_weights(time: np.ndarray, event: np.ndarray, horizon: float, censoring: StepCurve) -> np.ndarray:
    """(n,) IPCW weights at a horizon: 1 / G(T-) with an event by then, 1 / G(horizon) when followed past it, else 0.

    Raises: NotEstimableError when nobody of the censoring curve is followed to the horizon.
    """
    censoring.within(horizon)
    at = float(censoring.at(horizon))
    if at <= 0:
        raise NotEstimableError(f"nobody is followed beyond horizon {horizon:g}")
    early = event & (time <= horizon)
    left = np.where(early, censoring.before(time), 1.0)
    return np.where(early, 1 / np.maximum(left, 1e-12), np.where(time > horizon, 1 / at, 0.0))


def dynamic_auc(time: Any, event: Any, risk: Any, horizon: float, train_time: Any = None,
                train_event: Any = None) -> float:
    """Chance that a patient with the event by `horizon` has a higher risk than one free of it then (IPCW, ties half).

    Raises: InputError; NotEstimableError: no event by the horizon, nobody followed past it.
    """
    time, event = follow_up(time, event)
    risk = numbers(risk, "risk", n=len(time))
    curve = censoring_curve(time if train_time is None else train_time, event if train_event is None else train_event)
    weight = horizon_weights(time, event, horizon, curve)
    case, control = event & (time <= horizon), time > horizon
    return weighted_auc(risk[case], weight[case], risk[control], weight[control], horizon)


def weighted_auc(cases: np.ndarray, case_weight: np.ndarray, controls: np.ndarray, control_weight: np.ndarray,
                 horizon: float) -> float:
    """AUC with a weight for each patient, ties half. Raises: NotEstimableError when a side is empty."""
    if case_weight.sum() <= 0:
        raise NotEstimableError(f"no event by {horizon:g}")
    if control_weight.sum() <= 0:
        raise NotEstimableError(f"nobody is known to be free of the event at {horizon:g}")
    order = np.argsort(controls, kind="stable")
    mass = np.r_[0.0, np.cumsum(control_weight[order])]
    below = mass[np.searchsorted(controls[order], cases, side="left")]
    up_to = mass[np.searchsorted(controls[order], cases, side="right")]
    return float((case_weight * (below + up_to) / 2).sum() / (case_weight.sum() * control_weight.sum()))


def brier_at(time: Any, event: Any, survival: Any, horizon: float, train_time: Any = None,
             train_event: Any = None) -> float:
    """Mean squared error of the predicted chance to be event-free at `horizon`, IPCW. survival: (n,) or a number."""
    time, event = follow_up(time, event)
    if not len(time):
        raise NotEstimableError("no patient")
    survival = probabilities(np.broadcast_to(np.asarray(survival, dtype=float), len(time)), "survival")
    curve = censoring_curve(time if train_time is None else train_time, event if train_event is None else train_event)
    weight = horizon_weights(time, event, horizon, curve)
    return float((weight * (survival - (time > horizon)) ** 2).mean())


def survival_metrics(time: Any, event: Any, risk: Any, survival: Any, horizons: Any, train_time: Any = None,
                     train_event: Any = None, *, reference: Any = None, until: float | None = None,
                     within: Any = None) -> Metrics:
    """Every figure of a survival model; what has no value is named in `.not_estimable`.

    Args:
        time, event (n,): follow-up, any unit, and 0/1. risk (n,): one number, higher for earlier events.
        survival (n, T): predicted chance to be event-free at each of horizons (T,), ascending, unit of time.
        train_time, train_event: patients that censoring and the Kaplan-Meier reference are taken from (None: these).
        reference (n, T) or (T,): the null model's survival, such as Kaplan-Meier of each training fold; None: of
            train_time. until: truncation of Uno's C and of Harrell's (None: the last horizon).
        within (n,): compare ranks inside the same label only (the fold).
    Returns: c_harrell, c_uno; auc@H, brier@H, ipa@H (1 - brier / brier of the reference), oe@H (observed by Kaplan-
        Meier over expected) for each horizon H; integrated_brier and integrated_ipa over the horizons (trapezoid).
    Raises: InputError on shapes, probabilities or horizons that can't be.
    """
    time, event = follow_up(time, event)
    horizons = checked_horizons(horizons)
    survival = at_horizons(survival, len(time), horizons)
    train = (time, event) if train_time is None else follow_up(train_time, train_event)
    risk = numbers(risk, "risk", n=len(time))
    end = float(horizons[-1]) if until is None else until
    return _figures(time, event, risk, survival, _reference(reference, train, len(time), horizons), horizons,
                    _curve(train), end, None if within is None else np.asarray(within))


def _curve(train: tuple[np.ndarray, np.ndarray]) -> StepCurve | None:
    return censoring_curve(*train) if len(train[0]) else None


def _figures(time: np.ndarray, event: np.ndarray, risk: np.ndarray, survival: np.ndarray, null: np.ndarray,
             horizons: np.ndarray, censoring: StepCurve | None, until: float, within: np.ndarray | None) -> Metrics:
    """survival_metrics of checked arrays."""
    names = [f"{part}@{h:g}" for h in horizons for part in ("auc", "brier", "ipa", "oe")]
    if censoring is None or not len(time):
        return Metrics({}, dict.fromkeys(["c_harrell", "c_uno", *names, "integrated_brier", "integrated_ipa"],
                                         "no patient"))
    out = Metrics()
    counts = pair_counts(time, event, risk, within)
    out.put("c_harrell", lambda: concordance(counts, _before(time, event, until)))
    out.put("c_uno", lambda: concordance(counts, _uno_weight(time, event, censoring, until)))
    errors = np.full((2, len(horizons)), np.nan)
    for place, horizon in enumerate(horizons):
        name, h, chance = f"@{horizon:g}", float(horizon), survival[:, place]
        try:
            weight = horizon_weights(time, event, h, censoring)
        except NotEstimableError as error:
            out.not_estimable.update(dict.fromkeys([f"auc{name}", f"brier{name}", f"ipa{name}"], str(error)))
        else:
            late, early = time > h, event & (time <= h)
            errors[:, place] = [float((weight * (one[:, place] - late) ** 2).mean()) for one in (survival, null)]
            out.put(f"auc{name}", weighted_auc, 1 - chance[early], weight[early], 1 - chance[late], weight[late], h)
            out[f"brier{name}"] = float(errors[0, place])
            out.put(f"ipa{name}", lambda e=errors[:, place]: 1 - e[0] / above_zero(e[1]))
        out.put(f"oe{name}", _observed_over_expected, time, event, chance, h)
    out.put("integrated_brier", integrated, errors[0], horizons)
    out.put("integrated_ipa", lambda: 1 - integrated(errors[0], horizons) / above_zero(integrated(errors[1], horizons)))
    return out


def _before(time: np.ndarray, event: np.ndarray, until: float) -> np.ndarray:
    case = event & (time < until)
    if not case.any():
        raise NotEstimableError(f"no event was seen before {until:g}")
    return case.astype(float)


def checked_horizons(horizons: Any) -> np.ndarray:
    """(T,) ascending times above zero. Raises: InputError."""
    horizons = np.atleast_1d(numbers(np.atleast_1d(horizons), "horizons"))
    if not len(horizons) or (horizons <= 0).any() or (np.diff(horizons) <= 0).any():
        raise InputError("horizons: one or more ascending times above zero are needed")
    return horizons


def at_horizons(survival: Any, n: int, horizons: np.ndarray) -> np.ndarray:
    """(n, T) chances, a single column allowed as (n,). Raises: InputError."""
    survival = np.asarray(survival, dtype=float)
    survival = survival[:, None] if survival.ndim == 1 and len(horizons) == 1 else survival
    survival = probabilities(survival, "survival", n=n, ndim=2)
    if survival.shape[1] != len(horizons):
        raise InputError(f"survival: {survival.shape[1]} columns for {len(horizons)} horizons")
    return survival


def _reference(reference: Any, train: tuple[np.ndarray, np.ndarray], n: int, horizons: np.ndarray) -> np.ndarray:
    if reference is None:
        reference = kaplan_meier(*train).at(horizons) if len(train[0]) else np.ones(len(horizons))
    return probabilities(np.broadcast_to(np.asarray(reference, dtype=float), (n, len(horizons))), "reference", ndim=2)


def above_zero(value: float) -> float:
    """The error of a reference. Raises: NotEstimableError when it is 0."""
    if value <= 0:
        raise NotEstimableError("the reference makes no error")
    return value


def _observed_over_expected(time: np.ndarray, event: np.ndarray, survival: np.ndarray, horizon: float) -> float:
    curve = kaplan_meier(time, event)
    curve.within(horizon)
    expected = float((1 - survival).mean())
    if expected <= 0:
        raise NotEstimableError("no event is expected")
    return (1 - float(curve.at(horizon))) / expected


def integrated(errors: np.ndarray, horizons: np.ndarray) -> float:
    """Mean over time of errors (T,) at horizons (T,), trapezoid. Raises: NotEstimableError with one, or a NaN."""
    if len(horizons) < 2:
        raise NotEstimableError("an integral over time needs two horizons")
    if not np.isfinite(errors).all():
        raise NotEstimableError("a horizon has no value")
    return float(np.trapezoid(errors, horizons) / (horizons[-1] - horizons[0]))


def survival_report(time: Any, event: Any, risk: Any, survival: Any, horizons: Any, train_time: Any = None,
                    train_event: Any = None, *, baseline_risk: Any = None, baseline_survival: Any = None,
                    reference: Any = None, patients: Any = None, repeats: Any = None, until: float | None = None,
                    n: int = 1000, seed: int = 0, method: str = "percentile", level: float = 0.95,
                    progress: Any = None, cancelled: Any = None) -> Comparison:
    """`survival_metrics` of a model with intervals, of a baseline, and the paired differences with p.

    Args: as survival_metrics, one row a held-out prediction; the censoring curve and the Kaplan-Meier reference stay
        those of the training patients in every resample. patients, repeats: see class_report.
    Raises: InputError, CancelledError.
    """
    time, event = follow_up(time, event)
    horizons = checked_horizons(horizons)
    train = (time, event) if train_time is None else follow_up(train_time, train_event)
    null = _reference(reference, train, len(time), horizons)

    censoring, end = _curve(train), float(horizons[-1]) if until is None else until

    def figures(t: np.ndarray, e: np.ndarray, ref: np.ndarray, r: np.ndarray, s: np.ndarray) -> Metrics:
        return _figures(t, e, r, s, ref, horizons, censoring, end, None)

    baseline = None
    if baseline_survival is not None:
        baseline = [numbers(baseline_risk, "baseline risk", n=len(time)),
                    at_horizons(baseline_survival, len(time), horizons)]
    return compare(figures, [time, event, null],
                   [numbers(risk, "risk", n=len(time)), at_horizons(survival, len(time), horizons)], baseline,
                   groups=patients, repeats=repeats, n=n, seed=seed, method=method, level=level, progress=progress,
                   cancelled=cancelled)
