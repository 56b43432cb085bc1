"""The few small regressions that calibration needs, each by Newton's method on a handful of columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import expit

from .checks import NotEstimableError

STEPS = 50
LOGIT_LIMIT = 1e-6
"""Probabilities nearer to 0 or 1 are taken as this far away before a logit or log-log is formed."""


def logit(probability: Any) -> np.ndarray:
    """log(p / (1 - p)) of probabilities kept LOGIT_LIMIT away from 0 and 1."""
    p = np.clip(probability, LOGIT_LIMIT, 1 - LOGIT_LIMIT)
    return np.log(p) - np.log1p(-p)


def log_cumulative_hazard(risk: Any) -> np.ndarray:
    """log(-log(1 - risk)), the complementary log-log of a chance of the event."""
    return np.log(-np.log1p(-np.clip(risk, LOGIT_LIMIT, 1 - LOGIT_LIMIT)))


def logistic_fit(columns: np.ndarray, truth: np.ndarray, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """Coefficients (k,) of maximum likelihood. columns (n, k), truth (n,) bool.

    Raises: NotEstimableError: the classes are separated, columns say the same, no convergence.
    """
    beta = np.zeros(columns.shape[1])
    y = truth.astype(float)
    for _ in range(STEPS):
        mean = expit(columns @ beta + offset)
        weight = mean * (1 - mean)
        step = _solve(columns.T @ (columns * weight[:, None]), columns.T @ (y - mean))
        size = float(np.abs(columns @ step).max()) if len(columns) else 0.0
        beta = beta + step * min(1.0, 5.0 / size if size > 0 else 1.0)
        if size < 1e-9:
            return beta
    raise NotEstimableError("the regression has no finite solution: the predictions separate the classes")


def cox_slope(time: np.ndarray, event: np.ndarray, x: np.ndarray) -> float:
    """Coefficient of one covariate in Cox's model, Efron's ties. time (n,), event (n,) bool, x (n,).

    Raises: NotEstimableError: no event, constant x, monotone likelihood.
    """
    centre, scale = float(x.mean()) if len(x) else 0.0, float(x.std()) if len(x) else 0.0
    if not event.any():
        raise NotEstimableError("no event was seen")
    if scale < 1e-12:
        raise NotEstimableError("every patient has the same prediction")
    order = np.argsort(-time, kind="stable")
    time, event, z = time[order], event[order], (x[order] - centre) / scale
    beta = 0.0
    for _ in range(STEPS):
        gradient, curvature = _cox_terms(time, event, z, beta)
        if curvature <= 1e-12:
            break
        step = float(np.clip(gradient / curvature, -2, 2))
        beta += step
        if abs(step) < 1e-10:
            return beta / scale
        if abs(beta) > 25:
            break
    raise NotEstimableError("the Cox regression has no finite solution")


def _cox_terms(time: np.ndarray, event: np.ndarray, z: np.ndarray, beta: float) -> tuple[float, float]:
    hazard = np.exp(beta * z)
    sums = [np.cumsum(hazard * z**power) for power in range(3)]
    times = np.unique(time[event])
    last = np.searchsorted(-time, -times, side="right") - 1
    tied = [np.bincount(np.searchsorted(times, time[event]), hazard[event] * z[event]**power, len(times))
            for power in range(3)]
    count = np.bincount(np.searchsorted(times, time[event]), minlength=len(times))
    gradient, curvature = float(z[event].sum()), 0.0
    for within in range(int(count.max())):
        live = count > within
        share = within / count[live]
        s0, s1, s2 = (sums[power][last[live]] - share * tied[power][live] for power in range(3))
        gradient -= float((s1 / s0).sum())
        curvature += float((s2 / s0 - (s1 / s0) ** 2).sum())
    return gradient, curvature


def pseudo_fit(x: np.ndarray, pseudo: np.ndarray, *, slope: bool) -> float:
    """Calibration slope (or, with slope False, the intercept at slope 1) of pseudo-values on the log-log scale.

    Least squares of pseudo (n,) on 1 - exp(-exp(a + b x)), x (n,) the log cumulative hazard predicted.
    Source: van Geloven et al., BMJ 2022. Raises: NotEstimableError without convergence.
    """
    beta = np.array([0.0, 1.0])
    free = 2 if slope else 1
    if slope and (not len(x) or x.std() < 1e-12):
        raise NotEstimableError("every patient has the same prediction")
    damping = 1e-3
    loss = _pseudo_loss(beta, x, pseudo)[0]
    for _ in range(4 * STEPS):
        _, rest, slope_of_mean = _pseudo_loss(beta, x, pseudo)
        jacobian = (slope_of_mean[:, None] * np.column_stack([np.ones_like(x), x]))[:, :free]
        normal = jacobian.T @ jacobian
        step = np.zeros(2)
        step[:free] = _solve(normal + damping * np.diag(np.diag(normal) + 1e-12), jacobian.T @ rest)
        new = _pseudo_loss(beta + step, x, pseudo)[0]
        if new <= loss:
            beta, loss, damping = beta + step, new, damping / 5
            if np.abs(step).max() < 1e-9:
                break
        else:
            damping *= 5
            if damping > 1e12:
                break
    if np.abs(beta).max() > 50:
        raise NotEstimableError("the regression of pseudo-values has no finite solution")
    return float(beta[1] if slope else beta[0])


def _pseudo_loss(beta: np.ndarray, x: np.ndarray, pseudo: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    hazard = np.exp(np.clip(beta[0] + beta[1] * x, -30, 5))
    rest = pseudo - (1 - np.exp(-hazard))
    return float(rest @ rest), rest, hazard * np.exp(-hazard)


def _solve(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    try:
        solved = np.linalg.solve(matrix, vector)
    except np.linalg.LinAlgError:
        raise NotEstimableError("the regression has no single solution: predictions repeat too few values") from None
    if not np.isfinite(solved).all() or np.linalg.cond(matrix) > 1e14:
        raise NotEstimableError("the regression has no single solution: predictions repeat too few values")
    return solved


def spline_knots(x: np.ndarray) -> np.ndarray:
    """Knots at Harrell's quantiles: 4 from 100 values, 3 below; fewer than 3 different ones give none (a line)."""
    shares = (0.05, 0.35, 0.65, 0.95) if len(x) >= 100 else (0.1, 0.5, 0.9)
    knots = np.unique(np.quantile(x, shares)) if len(x) else np.zeros(0)
    return knots if len(knots) >= 3 and np.diff(knots).min() > 1e-6 * (1 + math.fabs(knots[-1])) else np.zeros(0)


def spline_columns(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """(n, k) columns 1, x and the restricted cubic terms (linear beyond the outer knots).

    Source: Harrell, Regression Modeling Strategies, 2.4.5.
    """
    columns = [np.ones_like(x), x]
    if len(knots) >= 3:
        first, before, last = knots[0], knots[-2], knots[-1]
        for knot in knots[:-2]:
            term = (np.maximum(x - knot, 0) ** 3
                    - np.maximum(x - before, 0) ** 3 * (last - knot) / (last - before)
                    + np.maximum(x - last, 0) ** 3 * (before - knot) / (last - before))
            columns.append(term / (last - first) ** 2)
    return np.column_stack(columns)
