"""Figures for the chance of one cause of event while others compete (cumulative incidence), with censoring.

A patient with another cause's event stays a comparison partner: the event of interest can't happen any more, which is
not the same as a censoring. Treating it as censored (1 - Kaplan-Meier) overstates the risk.
Sources: Aalen and Johansen 1978; Wolbers, Koller, Witteman and Steyerberg 2009, Wolbers et al. 2014 (C-index, plain and
weighted); Schoop, Beyersmann, Schumacher and Binder 2011 (Brier); Blanche, Dartigues and Jacqmin-Gadda 2013 (AUC).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .bootstrap import Comparison, compare
from .checks import Metrics, NotEstimableError, numbers, probabilities
from .curves import StepCurve, causes, censoring_curve, incidence_at, kaplan_meier
from .survival import BLOCK, above_zero, at_horizons, checked_horizons, horizon_weights, integrated, weighted_auc


def wolbers_c(time: Any, cause: Any, risk: Any, train_time: Any = None, train_cause: Any = None, *, k: int = 1,
              until: float | None = None, weighted: bool = True) -> float:
    """C-index for cause k: a patient with its event before `until` against who has it later, or has another event.

    Args: time (n,), cause (n,) int, 0 censored; risk (n,) higher for cause k sooner; weighted: IPCW as in Wolbers 2014
        (weights 1 / (G(Ti-) G(Ti)) against later times, 1 / (G(Ti-) G(Tj-)) against other events), else plain (2009).
    Without a competing event the weighted one differs from Uno's C by G(Ti) for G(Ti-) in one factor: nothing, unless
    a censoring ties with an event. Raises: InputError; NotEstimableError without a comparable pair.
    """
    time, cause = causes(time, cause)
    risk = numbers(risk, "risk", n=len(time))
    train = (time, cause) if train_time is None else causes(train_time, train_cause)
    curve = censoring_curve(train[0], train[1] > 0) if weighted else None
    return _wolbers(time, cause, risk, curve, k, np.inf if until is None else until)


def _wolbers(time: np.ndarray, cause: np.ndarray, risk: np.ndarray, censoring: StepCurve | None, k: int,
             until: float) -> float:
    left, at = (np.ones(len(time)),) * 2 if censoring is None else (censoring.before(time), censoring.at(time))
    case, other = (cause == k) & (time < until), (cause > 0) & (cause != k) & (left > 0)
    share = np.where(other, 1 / np.maximum(left, 1e-12), 0.0)
    good = total = 0.0
    rows = np.flatnonzero(case & (left > 0))
    for start in range(0, len(rows), BLOCK):
        i = rows[start: start + BLOCK]
        t, r = time[i][:, None], risk[i][:, None]
        later = (t < time) | ((t == time) & (cause == 0))
        spared, higher, tied = other & (time <= t), r > risk, r == risk
        weight = np.where(at[i] > 0, 1 / (left[i] * np.maximum(at[i], 1e-12)), 0.0)
        right = np.count_nonzero(later & higher, axis=1) + 0.5 * np.count_nonzero(later & tied, axis=1)
        good += float(weight @ right + (1 / left[i]) @ ((spared & higher) @ share + 0.5 * ((spared & tied) @ share)))
        total += float(weight @ np.count_nonzero(later, axis=1) + (1 / left[i]) @ (spared @ share))
    if total <= 0:
        raise NotEstimableError("no pair of patients can be compared" if case.any() else f"no event of cause {k}")
    return good / total


def incidence_brier(time: Any, cause: Any, incidence: Any, horizon: float, train_time: Any = None,
                    train_cause: Any = None, *, k: int = 1) -> float:
    """Mean squared error, IPCW, of the predicted chance (n,) of cause k by the horizon."""
    time, cause = causes(time, cause)
    if not len(time):
        raise NotEstimableError("no patient")
    incidence = probabilities(np.broadcast_to(np.asarray(incidence, dtype=float), len(time)), "incidence")
    train = (time, cause) if train_time is None else causes(train_time, train_cause)
    weight = horizon_weights(time, cause > 0, horizon, censoring_curve(train[0], train[1] > 0))
    return float((weight * (incidence - ((cause == k) & (time <= horizon))) ** 2).mean())


def incidence_auc(time: Any, cause: Any, incidence: Any, horizon: float, train_time: Any = None,
                  train_cause: Any = None, *, k: int = 1) -> float:
    """Cause k by the horizon against all others (free of any event then, or another event before), IPCW, ties half."""
    time, cause = causes(time, cause)
    incidence = numbers(incidence, "incidence", n=len(time))
    train = (time, cause) if train_time is None else causes(train_time, train_cause)
    weight = horizon_weights(time, cause > 0, horizon, censoring_curve(train[0], train[1] > 0))
    case = (cause == k) & (time <= horizon)
    control = ~case & (weight > 0)
    return weighted_auc(incidence[case], weight[case], incidence[control], weight[control], horizon)


def competing_metrics(time: Any, cause: Any, incidence: Any, horizons: Any, train_time: Any = None,
                      train_cause: Any = None, *, k: int = 1, risk: Any = None, reference: Any = None) -> Metrics:
    """Every figure of a model for cause k; what has no value is named in `.not_estimable`.

    Args: time (n,); cause (n,) int, 0 censored; incidence (n, T) predicted chance of cause k by each of horizons (T,);
        train_time, train_cause: where censoring and the Aalen-Johansen reference come from (None: these); risk (n,)
        for the C-index (None: incidence at the last horizon); reference (n, T) or (T,) incidence of the null model.
    Returns: c_wolbers (truncated at the last horizon, plain), c_wolbers_ipcw; auc@H, brier@H, ipa@H, oe@H per horizon
        (observed by Aalen-Johansen over the mean prediction); integrated_brier over the horizons.
    Raises: InputError on shapes, probabilities, horizons or codes that can't be.
    """
    time, cause = causes(time, cause)
    horizons = checked_horizons(horizons)
    incidence = at_horizons(incidence, len(time), horizons)
    train = (time, cause) if train_time is None else causes(train_time, train_cause)
    risk = incidence[:, -1] if risk is None else numbers(risk, "risk", n=len(time))
    return _figures(time, cause, risk, incidence, _null(reference, train, len(time), horizons, k), horizons,
                    _curve(train), k)


def _curve(train: tuple[np.ndarray, np.ndarray]) -> StepCurve | None:
    return censoring_curve(train[0], train[1] > 0) if len(train[0]) else None


def _figures(time: np.ndarray, cause: np.ndarray, risk: np.ndarray, incidence: np.ndarray, null: np.ndarray,
             horizons: np.ndarray, censoring: StepCurve | None, k: int) -> Metrics:
    """competing_metrics of checked arrays."""
    names = [f"{part}@{h:g}" for h in horizons for part in ("auc", "brier", "ipa", "oe")]
    if censoring is None or not len(time):
        return Metrics({}, dict.fromkeys(["c_wolbers", "c_wolbers_ipcw", *names, "integrated_brier"], "no patient"))
    out, end = Metrics(), float(horizons[-1])
    out.put("c_wolbers", _wolbers, time, cause, risk, None, k, end)
    out.put("c_wolbers_ipcw", _wolbers, time, cause, risk, censoring, k, end)
    errors = np.full((2, len(horizons)), np.nan)
    for place, horizon in enumerate(horizons):
        name, h, chance = f"@{horizon:g}", float(horizon), incidence[:, place]
        case = (cause == k) & (time <= h)
        try:
            weight = horizon_weights(time, cause > 0, h, censoring)
        except NotEstimableError as error:
            out.not_estimable.update(dict.fromkeys([f"auc{name}", f"brier{name}", f"ipa{name}"], str(error)))
        else:
            errors[:, place] = [float((weight * (one[:, place] - case) ** 2).mean()) for one in (incidence, null)]
            control = ~case & (weight > 0)
            out.put(f"auc{name}", weighted_auc, chance[case], weight[case], chance[control], weight[control], h)
            out[f"brier{name}"] = float(errors[0, place])
            out.put(f"ipa{name}", lambda e=errors[:, place]: 1 - e[0] / above_zero(e[1]))
        out.put(f"oe{name}", _observed_over_expected, time, cause, chance, h, k)
    out.put("integrated_brier", integrated, errors[0], horizons)
    return out


def _null(reference: Any, train: tuple[np.ndarray, np.ndarray], n: int, horizons: np.ndarray, k: int) -> np.ndarray:
    if reference is None:
        reference = [incidence_at(*train, k, float(h)) if len(train[0]) else 0.0 for h in horizons]
    return probabilities(np.broadcast_to(np.asarray(reference, dtype=float), (n, len(horizons))), "reference", ndim=2)


def _observed_over_expected(time: np.ndarray, cause: np.ndarray, incidence: np.ndarray, horizon: float,
                            k: int) -> float:
    kaplan_meier(time, cause > 0).within(horizon)
    if incidence.mean() <= 0:
        raise NotEstimableError("no event is expected")
    return incidence_at(time, cause, k, horizon) / float(incidence.mean())


def competing_report(time: Any, cause: Any, incidence: Any, horizons: Any, train_time: Any = None,
                     train_cause: Any = None, *, k: int = 1, baseline_incidence: Any = None, reference: Any = None,
                     patients: Any = None, repeats: Any = None, n: int = 1000, seed: int = 0,
                     method: str = "percentile", level: float = 0.95, progress: Any = None,
                     cancelled: Any = None) -> Comparison:
    """`competing_metrics` with intervals, of a baseline, and paired differences with p; see survival_report."""
    time, cause = causes(time, cause)
    horizons = checked_horizons(horizons)
    train = (time, cause) if train_time is None else causes(train_time, train_cause)
    null, censoring = _null(reference, train, len(time), horizons, k), _curve(train)

    def figures(t: np.ndarray, c: np.ndarray, ref: np.ndarray, chance: np.ndarray) -> Metrics:
        return _figures(t, c, chance[:, -1], chance, ref, horizons, censoring, k)

    baseline = None if baseline_incidence is None else [at_horizons(baseline_incidence, len(time), horizons)]
    return compare(figures, [time, cause, null], [at_horizons(incidence, len(time), horizons)], baseline,
                   groups=patients, repeats=repeats, n=n, seed=seed, method=method, level=level, progress=progress,
                   cancelled=cancelled)
