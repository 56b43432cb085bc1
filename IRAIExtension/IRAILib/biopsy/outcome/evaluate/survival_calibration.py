"""Whether a predicted chance of an event by a horizon happens so often, under censoring and competing risks.

Observed: Kaplan-Meier, or Aalen-Johansen when other causes compete. Sources: McLernon et al., Ann Intern Med 2023;
van Geloven et al., BMJ 2022 (pseudo-values, complementary log-log); Austin, Harrell and van Klaveren 2020 (curve, ICI).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from .bootstrap import Interval, bootstrap_vector
from .calibration import Bin, Curve, curve_grid, curve_of, equal_bins
from .checks import NotEstimableError, plain, probabilities
from .curves import aalen_johansen, causes, incidence_at, kaplan_meier, pseudo_values
from .regression import cox_slope, log_cumulative_hazard, pseudo_fit, spline_columns, spline_knots


@dataclass(frozen=True)
class HorizonCalibration:
    """Calibration of the chance of an event by `horizon` (unit of the time). Perfect: o_e 1, intercept 0, slope 1.

    o_e: observed (Kaplan-Meier or Aalen-Johansen) over the mean predicted risk. slope: on the log cumulative hazard,
    Cox's regression of the follow-up up to the horizon; with competing causes, of pseudo-values; below 1: predictions
    are too extreme. intercept: of pseudo-values with the prediction as offset, log-log scale. ici: mean |curve - risk|.
    """

    horizon: float
    cause: int | None
    n: int
    events: int
    o_e: Interval
    intercept: Interval
    slope: Interval
    ici: Interval
    e50: Interval
    e90: Interval
    curve: Curve | None
    bins: tuple[Bin, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        out = {name: value.to_dict() if hasattr(value, "to_dict") else value for name, value in self.__dict__.items()}
        out["bins"] = [one.__dict__ for one in self.bins]
        return plain(out)


def _observed(time: np.ndarray, kind: np.ndarray, horizon: float, cause: int | None) -> float:
    if cause is None:
        return 1 - float(kaplan_meier(time, kind > 0).at(horizon))
    return incidence_at(time, kind, cause, horizon)


def _slope(time: np.ndarray, kind: np.ndarray, x: np.ndarray, pseudo: np.ndarray, horizon: float,
           cause: int | None) -> float:
    if cause is not None:
        return pseudo_fit(x, pseudo, slope=True)
    return cox_slope(np.minimum(time, horizon), (kind > 0) & (time <= horizon), x)


def _figures(time: np.ndarray, kind: np.ndarray, risk: np.ndarray, pseudo: np.ndarray, horizon: float,
             cause: int | None, grid: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """O/E, intercept, slope, ICI, E50, E90 and the curve on the grid; NaN where there is no value."""
    out = np.full(6 + len(grid), np.nan)
    x = log_cumulative_hazard(risk)
    followed = (time > horizon).any() or float(time.max()) >= horizon or kaplan_meier(time, kind > 0).closed
    if risk.sum() > 0 and followed:
        out[0] = _observed(time, kind, horizon, cause) / risk.mean()
    for place, function in ((1, lambda: pseudo_fit(x, pseudo, slope=False)),
                            (2, lambda: _slope(time, kind, x, pseudo, horizon, cause))):
        try:
            out[place] = function()
        except NotEstimableError:
            continue
    columns = spline_columns(risk, knots)
    if risk.std() < 1e-9 or np.linalg.matrix_rank(columns) < columns.shape[1]:
        return out
    beta = np.linalg.lstsq(columns, pseudo, rcond=None)[0]
    error = np.abs(np.clip(columns @ beta, 0, 1) - risk)
    out[3:6] = error.mean(), np.median(error), np.quantile(error, 0.9)
    out[6:] = np.clip(spline_columns(grid, knots) @ beta, 0, 1)
    return out


def horizon_calibration(time: Any, event: Any, risk: Any, horizon: float, *, cause: int | None = None,
                        patients: Any = None, repeats: Any = None, n_bins: int | None = None, n: int = 300,
                        seed: int = 0, level: float = 0.95, progress: Any = None,
                        cancelled: Any = None) -> HorizonCalibration:
    """Calibration of predicted chances of the event by a horizon, intervals by bootstrap over patients.

    Args: time (n,), event (n,) 0/1 (with `cause`: 0 censored, 1, 2, ...); risk (n,) predicted chance of the event (of
        that cause) by horizon; patients, repeats (n,): see class_report; n_bins: None: one for 20 patients, 2 to 10.
    The curve regresses pseudo-values (of all patients of a repeat; they are resampled with them) by least squares on a
    restricted cubic spline of the risk, cut at 0 and 1.
    Raises: InputError; NotEstimableError: no patient, or a horizon beyond the follow-up; CancelledError.
    """
    time, kind = causes(time, event)
    if cause is None:
        kind = np.minimum(kind, 1)
    risk = probabilities(risk, "risk", n=len(time))
    kaplan_meier(time, kind > 0).within(horizon)
    parts = [np.arange(len(time))] if repeats is None else [np.flatnonzero(np.asarray(repeats) == one)
                                                            for one in np.unique(np.asarray(repeats))]
    pseudo = np.empty(len(time))
    for part in parts:
        pseudo[part] = pseudo_values(time[part], kind[part], horizon, cause)
    rows = parts[0]
    grid = curve_grid(risk)
    knots = spline_knots(risk[rows])
    own = (kind > 0 if cause is None else kind == cause) & (time <= horizon)
    reason = ("no event was seen by the horizon" if not own.any() else "every patient has the same prediction"
              if risk.std() < 1e-9 else "the regression has no finite solution on these predictions")
    found = bootstrap_vector(lambda t, e, r, v: _figures(t, e, r, v, horizon, cause, grid, knots), time, kind, risk,
                             pseudo, groups=patients, repeats=repeats, n=n, seed=seed, level=level, reason=reason,
                             progress=progress, cancelled=cancelled)
    curve = None
    if found[6].estimable:
        curve = curve_of(grid, found[6:], f"pseudo-values on a restricted cubic spline with {len(knots)} knots")
    n_bins = n_bins or int(np.clip(len(rows) // 20, 2, 10))
    events = int(own[rows].sum())
    notes = (f"{events} events by the horizon: below 100 a calibration curve is unsure",) if events < 100 else ()
    o_e, intercept, slope, ici, e50, e90 = found[:6]
    return HorizonCalibration(horizon, cause, len(rows), events, o_e, intercept, slope, ici, e50, e90, curve,
                              _bins(time, kind, risk, rows, horizon, cause, n_bins, level), notes)


def _bins(time: np.ndarray, kind: np.ndarray, risk: np.ndarray, rows: np.ndarray, horizon: float, cause: int | None,
          n_bins: int, level: float) -> tuple[Bin, ...]:
    out = []
    for part in equal_bins(risk[rows], n_bins):
        part = rows[part]
        observed = low = high = None
        try:
            observed, low, high = observed_risk(time[part], kind[part], horizon, cause, level)
        except NotEstimableError:
            low = high = None
        out.append(Bin(len(part), float(risk[part].mean()), observed, low, high))
    return tuple(out)


def observed_risk(time: Any, event: Any, horizon: float, cause: int | None = None,
                  level: float = 0.95) -> tuple[float, float, float]:
    """(risk by the horizon, low, high) by Kaplan-Meier or Aalen-Johansen; limits on the log-log scale; at a risk of 0
    or 1 exact binomial ones of the patients whose state at the horizon is known.

    Raises: InputError; NotEstimableError when the follow-up ends before the horizon.
    """
    time, kind = causes(time, event)
    free = kaplan_meier(time, kind > 0)
    free.within(horizon)
    curve = free if cause is None else aalen_johansen(time, kind, cause)
    value, variance = float(curve.at(horizon)), float(curve.variance_at(horizon))
    risk = 1 - value if cause is None else value
    if risk <= 0 or risk >= 1:
        known = int(((kind > 0) | (time >= horizon)).sum())
        tail = ((1 - level) / 2) ** (1 / known)
        return (0.0, 0.0, 1 - tail) if risk <= 0 else (1.0, tail, 1.0)
    free_share = 1 - risk
    theta = norm.ppf((1 + level) / 2) * math.sqrt(variance) / (free_share * abs(math.log(free_share)))
    return risk, 1 - free_share ** math.exp(-theta), 1 - free_share ** math.exp(theta)
