"""Elastic-net logistic regression of two or more classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..outcome import Outcome
from .base import Prediction, log_loss
from .elastic_net import FRACTIONS, RIDGE_FRACTIONS, minimise, path


class LogisticLoss:
    """Weighted mean negative log-likelihood; theta (p + 1, C), the last row the intercepts; C = 1 for two classes."""

    def __init__(self, values: np.ndarray, label: np.ndarray, n_classes: int, weights: np.ndarray) -> None:
        self.design = np.hstack([values, np.ones((len(values), 1))])
        self.weights = weights / weights.sum()
        self.truth = (label == 1).astype(float)[:, None] if n_classes == 2 else np.eye(n_classes)[label]
        self.shape = (self.design.shape[1], self.truth.shape[1])
        self.penalised = np.ones(self.shape[0], bool)
        self.penalised[-1] = False
        spread = np.linalg.norm(self.design * np.sqrt(self.weights)[:, None], 2) ** 2
        self.bound = float(spread) * (0.25 if n_classes == 2 else 0.5)

    def start(self) -> np.ndarray:
        theta = np.zeros(self.shape)
        share = np.clip((self.weights[:, None] * self.truth).sum(axis=0), 1e-9, 1 - 1e-9)
        theta[-1] = np.log(share / (1 - share)) if self.shape[1] == 1 else np.log(share) - np.log(share).mean()
        return theta

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        score = self.design @ theta
        if self.shape[1] == 1:
            chance = 1 / (1 + np.exp(-np.clip(score, -500, 500)))
            losses = np.logaddexp(0.0, score) - self.truth * score
        else:
            score = score - score.max(axis=1, keepdims=True)
            power = np.exp(score)
            chance = power / power.sum(axis=1, keepdims=True)
            losses = np.log(power.sum(axis=1, keepdims=True)) - (self.truth * score).sum(axis=1, keepdims=True)
        residual = self.weights[:, None] * (chance - self.truth)
        return float((self.weights[:, None] * losses).sum()), self.design.T @ residual


class LogisticModel:
    """coefficients (p, C) and intercepts (C,) on the fold's scaled columns; C = 1 for two classes (log odds)."""

    family, explained = "linear", "exact"

    def __init__(self, coefficients: np.ndarray, intercepts: np.ndarray, settings: dict[str, Any]) -> None:
        self.coefficients, self.intercepts, self.settings = coefficients, intercepts, settings

    def predict(self, values: np.ndarray, times: np.ndarray) -> Prediction:
        score = values @ self.coefficients + self.intercepts
        if score.shape[1] == 1:
            chance = 1 / (1 + np.exp(-np.clip(score[:, 0], -500, 500)))
            return Prediction(probability=np.column_stack([1 - chance, chance]))
        power = np.exp(score - score.max(axis=1, keepdims=True))
        return Prediction(probability=power / power.sum(axis=1, keepdims=True))

    def shift_prior(self, ratio: np.ndarray) -> None:
        """Moves the intercepts from balanced classes back to the shares of the data; ratio (C,)."""
        log = np.log(ratio)
        self.intercepts = self.intercepts + (log[1:] - log[0] if len(self.intercepts) == 1 else log - log.mean())

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """For several classes: towards the most probable class of each row, against the mean of the classes."""
        if self.coefficients.shape[1] == 1:
            return values * self.coefficients[:, 0]
        chosen = np.argmax(values @ self.coefficients + self.intercepts, axis=1)
        centred = self.coefficients - self.coefficients.mean(axis=1, keepdims=True)
        return values * centred[:, chosen].T

    def weights(self) -> np.ndarray:
        return np.abs(self.coefficients).max(axis=1, initial=0.0)

    def state(self) -> dict[str, Any]:
        return {"coefficients": self.coefficients, "intercepts": self.intercepts, "settings": self.settings}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> LogisticModel:
        intercepts = np.asarray(state["intercepts"], float).reshape(-1)
        coefficients = np.asarray(state["coefficients"], float).reshape(-1, len(intercepts))
        return cls(coefficients, intercepts, dict(state["settings"]))


class LogisticFamily:
    """mixes: the shares of L1 that are tried; (0.0,) is ridge, for a baseline of few named columns."""

    def __init__(self, mixes: Sequence[float] = (1.0, 0.5), fractions: Sequence[float] = FRACTIONS) -> None:
        self.mixes, self.fractions = tuple(mixes), tuple(fractions)

    def grid(self, n_rows: int, n_columns: int, n_events: int) -> list[dict[str, Any]]:
        return [{"mix": mix, "fraction": fraction} for mix in self.mixes
                for fraction in (self.fractions if mix > 0 else RIDGE_FRACTIONS)]

    def fit_grid(self, values: np.ndarray, outcome: Outcome, grid: Sequence[Mapping[str, Any]], weights: np.ndarray,
                 max_columns: int, seed: int) -> list[LogisticModel]:
        loss = LogisticLoss(values, outcome.label, len(outcome.classes), weights)
        return fit_paths(loss, grid, max_columns, LogisticModel, len(grid) == 1)

    def loss(self, model: LogisticModel, values: np.ndarray, outcome: Outcome, train: np.ndarray) -> float:
        chance = model.predict(values[~train], np.zeros(0)).probability
        assert chance is not None
        return log_loss(chance, outcome.label[~train])


def fit_paths(loss: Any, grid: Sequence[Mapping[str, Any]], max_columns: int, model: Any, exact: bool) -> list[Any]:
    """One model a grid setting; settings of one mix share a warm path. exact: the last step is tightened."""
    made: list[Any] = [None] * len(grid)
    for mix in sorted({float(item["mix"]) for item in grid}):
        places = sorted((n for n, item in enumerate(grid) if item["mix"] == mix), key=lambda n: -grid[n]["fraction"])
        fractions = [float(grid[n]["fraction"]) for n in places]
        lead = [f for f in FRACTIONS if f > fractions[0]] if exact else []
        solved = path(loss, mix, [*lead, *fractions], max_columns)[len(lead):]
        for n, (strength, theta) in zip(places, solved, strict=True):
            if exact:
                theta = minimise(loss, strength, mix, theta, tolerance=1e-9)
            free = theta[~loss.penalised]
            settings = {"mix": mix, "fraction": float(grid[n]["fraction"]), "strength": strength}
            made[n] = model(theta[loss.penalised], free[0] if len(free) else np.zeros(0), settings)
    return made
