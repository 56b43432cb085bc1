"""Cox regression with an elastic net: Efron's partial likelihood, baseline hazard kept as a step function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..outcome import Outcome
from .base import Prediction
from .elastic_net import FRACTIONS, RIDGE_FRACTIONS
from .logistic import fit_paths

MAX_SCORE = 50.0


class CoxLoss:
    """Mean negative log partial likelihood a row (Efron 1977 for ties); theta (p, 1), no intercept."""

    def __init__(self, values: np.ndarray, time: np.ndarray, event: np.ndarray) -> None:
        order = np.lexsort((-event.astype(int), time))
        self.order, self.values = order, values[order]
        self.time, self.event = time[order], event[order].astype(bool)
        self.shape = (values.shape[1], 1)
        self.penalised = np.ones(values.shape[1], bool)
        self.moments, group = np.unique(self.time, return_inverse=True)
        self.group = group.reshape(-1)
        self.first = np.searchsorted(self.time, self.moments)
        self.event_rows = np.flatnonzero(self.event)
        self.event_group = self.group[self.event_rows]
        deaths = np.bincount(self.event_group, minlength=len(self.moments))
        starts = np.concatenate([[0], np.cumsum(deaths)[:-1]]) if len(deaths) else np.zeros(0, int)
        rank = np.arange(len(self.event_rows)) - starts[self.event_group]
        self.share = rank / np.maximum(deaths[self.event_group], 1)
        self.n = max(len(values), 1)
        self.bound = float(np.linalg.norm(self.values, 2) ** 2) / self.n * 0.25 if values.size else 1.0

    def start(self) -> np.ndarray:
        return np.zeros(self.shape)

    def _denominators(self, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """exp(score) (n,) and Efron's denominator of each event (E,)."""
        power = np.exp(np.clip(score, -MAX_SCORE, MAX_SCORE))
        at_risk = np.cumsum(power[::-1])[::-1][self.first]
        dying = np.bincount(self.group, power * self.event, minlength=len(self.moments))
        return power, at_risk[self.event_group] - self.share * dying[self.event_group]

    def log_likelihood(self, score: np.ndarray) -> float:
        """Of scores (n,) in sorted order (values @ coefficients)."""
        if not len(self.event_rows):
            return 0.0
        return float(np.clip(score, -MAX_SCORE, MAX_SCORE)[self.event_rows].sum()
                     - np.log(self._denominators(score)[1]).sum())

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        score = self.values @ theta[:, 0]
        power, below = self._denominators(score)
        inverse = np.bincount(self.event_group, 1 / below, minlength=len(self.moments))
        shared = np.bincount(self.event_group, self.share / below, minlength=len(self.moments))
        expected = power * (np.cumsum(inverse)[self.group] - self.event * shared[self.group])
        likelihood = score[self.event_rows].sum() - np.log(below).sum()
        return -float(likelihood) / self.n, -(self.values.T @ (self.event - expected))[:, None] / self.n

    def hazard(self, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Event times (E,) and the baseline's cumulative hazard there (E,), with Efron's denominators."""
        below = self._denominators(score)[1]
        steps = np.bincount(self.event_group, 1 / below, minlength=len(self.moments))
        some = np.bincount(self.event_group, minlength=len(self.moments)) > 0
        return self.moments[some], np.cumsum(steps[some])


def step_at(times: np.ndarray, values: np.ndarray, asked: np.ndarray, before: float) -> np.ndarray:
    """The step function's value at each asked time (right-continuous), `before` ahead of the first step."""
    place = np.searchsorted(times, asked, side="right")
    return np.concatenate([[before], values])[place]


class CoxModel:
    """coefficients (p,) log hazard a unit of the scaled column; times (E,), hazard (E,) the baseline's cumulative
    hazard at scaled columns of 0 (the training mean)."""

    family, explained = "linear", "exact"

    def __init__(self, coefficients: np.ndarray, times: np.ndarray, hazard: np.ndarray,
                 settings: dict[str, Any]) -> None:
        self.coefficients, self.times, self.hazard = coefficients.reshape(-1), times, hazard
        self.settings = settings

    def score(self, values: np.ndarray) -> np.ndarray:
        return np.clip(values @ self.coefficients, -MAX_SCORE, MAX_SCORE)

    def predict(self, values: np.ndarray, times: np.ndarray) -> Prediction:
        score = self.score(values)
        at = step_at(self.times, self.hazard, times, 0.0)
        last = at[-1] if len(at) else (self.hazard[-1] if len(self.hazard) else 0.0)
        cumulative = np.exp(score)[:, None] * at
        return Prediction(risk=score + np.log(max(last, 1e-12)), survival=np.exp(-cumulative))

    def contributions(self, values: np.ndarray) -> np.ndarray:
        return values * self.coefficients

    def weights(self) -> np.ndarray:
        return np.abs(self.coefficients)

    def state(self) -> dict[str, Any]:
        return {"coefficients": self.coefficients, "times": self.times, "hazard": self.hazard,
                "settings": self.settings}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> CoxModel:
        coefficients, times, hazard = (np.asarray(state[name], float).reshape(-1)
                                       for name in ("coefficients", "times", "hazard"))
        if len(times) != len(hazard) or (np.diff(times) <= 0).any() or (np.diff(hazard) < 0).any():
            raise ValueError("the baseline hazard is no rising step function")
        return cls(coefficients, times, hazard, dict(state["settings"]))


class CoxFamily:
    """Chosen by the cross-validated partial likelihood: l(all rows) - l(training rows) at the training fit.

    Source: Verweij & van Houwelingen 1993.
    """

    def __init__(self, mixes: Sequence[float] = (1.0, 0.5), fractions: Sequence[float] = FRACTIONS) -> None:
        self.mixes, self.fractions = tuple(mixes), tuple(fractions)

    def grid(self, n_rows: int, n_columns: int, n_events: int) -> list[dict[str, Any]]:
        return [{"mix": mix, "fraction": fraction} for mix in self.mixes
                for fraction in (self.fractions if mix > 0 else RIDGE_FRACTIONS)]

    def fit_grid(self, values: np.ndarray, outcome: Outcome, grid: Sequence[Mapping[str, Any]], weights: np.ndarray,
                 max_columns: int, seed: int) -> list[CoxModel]:
        assert outcome.time is not None
        loss = CoxLoss(values, outcome.time, outcome.label == 1)

        def made(theta: np.ndarray, free: np.ndarray, settings: dict[str, Any]) -> CoxModel:
            return CoxModel(theta[:, 0], *loss.hazard(loss.values @ theta[:, 0]), settings)
        return fit_paths(loss, grid, max_columns, made, len(grid) == 1)

    def loss(self, model: CoxModel, values: np.ndarray, outcome: Outcome, train: np.ndarray) -> float:
        return partial_loss(model.score(values), outcome, outcome.label == 1, train)


def partial_loss(score: np.ndarray, outcome: Outcome, event: np.ndarray, train: np.ndarray) -> float:
    """-(l(all) - l(train)) a held-out event, of scores (n,)."""
    assert outcome.time is not None
    empty = np.zeros((len(score), 0))
    whole = CoxLoss(empty, outcome.time, event)
    part = CoxLoss(empty[train], outcome.time[train], event[train])
    gained = whole.log_likelihood(score[whole.order]) - part.log_likelihood(score[train][part.order])
    return -gained / max(int(event[~train].sum()), 1)
