"""The model that knows no patient: class shares, Kaplan-Meier, Aalen-Johansen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..outcome import Outcome
from .base import Prediction
from .competing import cumulative_incidence
from .cox import step_at


class NullModel:
    """probability (C,) for classes; else times (E,), survival (E,) and the incidence (E,) of the first event."""

    family, explained = "null", "exact"

    def __init__(self, probability: np.ndarray, times: np.ndarray, survival: np.ndarray, incidence: np.ndarray,
                 n_columns: int, competing: bool) -> None:
        self.probability, self.times, self.survival, self.incidence = probability, times, survival, incidence
        self.n_columns, self.competing = n_columns, competing

    def predict(self, values: np.ndarray, times: np.ndarray) -> Prediction:
        n = len(values)
        if len(self.probability):
            return Prediction(probability=np.tile(self.probability, (n, 1)))
        alive = np.tile(step_at(self.times, self.survival, times, 1.0), (n, 1))
        at = np.tile(step_at(self.times, self.incidence, times, 0.0), (n, 1))
        risk = at[:, -1] if at.shape[1] else np.zeros(n)
        return Prediction(risk=risk, survival=alive, incidence=at if self.competing else None)

    def contributions(self, values: np.ndarray) -> np.ndarray:
        return np.zeros((len(values), self.n_columns))

    def weights(self) -> np.ndarray:
        return np.zeros(self.n_columns)

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in
                ("probability", "times", "survival", "incidence", "n_columns", "competing")}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> NullModel:
        probability, times, survival, incidence = (np.asarray(state[name], float).reshape(-1) for name in
                                                   ("probability", "times", "survival", "incidence"))
        return cls(probability, times, survival, incidence, int(state["n_columns"]), bool(state["competing"]))


class NullFamily:
    def grid(self, n_rows: int, n_columns: int, n_events: int) -> list[dict[str, Any]]:
        return [{}]

    def fit_grid(self, values: np.ndarray, outcome: Outcome, grid: Sequence[Mapping[str, Any]], weights: np.ndarray,
                 max_columns: int, seed: int) -> list[NullModel]:
        none = np.zeros(0)
        if outcome.time is None:
            share = np.bincount(outcome.label, minlength=len(outcome.classes)) / len(outcome)
            return [NullModel(share, none, none, none, values.shape[1], False)]
        moments = np.unique(outcome.time[outcome.label > 0])
        at_risk = (outcome.time[None, :] >= moments[:, None]).sum(axis=1)
        causes = range(1, len(outcome.classes))
        steps = np.array([[((outcome.time == t) & (outcome.label == k)).sum() for t in moments] for k in causes])
        incidence, survival = cumulative_incidence(moments, steps / np.maximum(at_risk, 1), np.zeros((1, len(causes))))
        return [NullModel(none, moments, survival[0], incidence[0], values.shape[1], outcome.kind == "competing")]

    def loss(self, model: NullModel, values: np.ndarray, outcome: Outcome, train: np.ndarray) -> float:
        return 0.0
