"""Competing risks: a Cox model for each cause, cumulative incidence from all of them together.

Source: Prentice et al. 1978; Putter, Fiocco & Geskus 2007 (cumulative incidence from cause-specific hazards).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..outcome import Outcome
from .base import Prediction
from .cox import CoxFamily, CoxModel, partial_loss, step_at


def cumulative_incidence(times: np.ndarray, steps: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Incidence (n, E) of cause 0 and event-free survival (n, E) at times (E,).

    steps (K, E): each cause's baseline hazard step; score (n, K): log hazard ratios. Survival is the product of
    1 - hazard (never below 0), so that incidences and survival add up to 1.
    """
    parts = np.exp(score)[:, :, None] * steps
    total = parts.sum(axis=1)
    shrink = np.where(total > 1, 1 / np.maximum(total, 1e-300), 1.0)
    survival = np.cumprod(1 - np.minimum(total, 1.0), axis=1)
    before = np.hstack([np.ones((len(score), 1)), survival[:, :-1]])
    return np.cumsum(before * parts[:, 0] * shrink, axis=1), survival


class CompetingModel:
    """causes: one CoxModel each; the first is the event of interest."""

    family, explained = "linear", "exact for the cause-specific hazard of the event of interest"

    def __init__(self, causes: Sequence[CoxModel], settings: dict[str, Any]) -> None:
        self.causes, self.settings = list(causes), settings

    def predict(self, values: np.ndarray, times: np.ndarray) -> Prediction:
        moments = np.unique(np.concatenate([cause.times for cause in self.causes]))
        steps = np.array([np.diff(step_at(c.times, c.hazard, moments, 0.0), prepend=0.0) for c in self.causes])
        score = np.column_stack([cause.score(values) for cause in self.causes])
        incidence, survival = cumulative_incidence(moments, steps, score)
        asked = times if len(times) else moments[-1:]
        place = np.searchsorted(moments, asked, side="right")
        n = len(values)
        at = np.hstack([np.zeros((n, 1)), incidence])[:, place]
        alive = np.hstack([np.ones((n, 1)), survival])[:, place]
        return Prediction(risk=at[:, -1] if at.shape[1] else score[:, 0], survival=alive, incidence=at)

    def contributions(self, values: np.ndarray) -> np.ndarray:
        return self.causes[0].contributions(values)

    def weights(self) -> np.ndarray:
        return np.max([cause.weights() for cause in self.causes], axis=0)

    def state(self) -> dict[str, Any]:
        return {"causes": [cause.state() for cause in self.causes], "settings": self.settings}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> CompetingModel:
        return cls([CoxModel.from_state(item) for item in state["causes"]], dict(state["settings"]))


class CompetingFamily(CoxFamily):
    """All causes share the setting; each cause has its own guard of events per variable."""

    def fit_grid(self, values: np.ndarray, outcome: Outcome, grid: Sequence[Mapping[str, Any]], weights: np.ndarray,
                 max_columns: int, seed: int) -> list[CompetingModel]:  # type: ignore[override]
        n_first = max(int((outcome.label == 1).sum()), 1)
        fitted = []
        for cause in range(1, len(outcome.classes)):
            event = (outcome.label == cause).astype(int)
            one = Outcome("survival", ("censored", outcome.classes[cause]), event, outcome.time)
            allowed = max(0, int(max_columns * event.sum() / n_first))
            fitted.append(super().fit_grid(values, one, grid, weights, min(allowed, max_columns), seed))
        return [CompetingModel(models, dict(item)) for item, *models in zip(grid, *fitted, strict=True)]

    def loss(self, model: CompetingModel, values: np.ndarray, outcome: Outcome,  # type: ignore[override]
             train: np.ndarray) -> float:
        return sum(partial_loss(cause.score(values), outcome, outcome.label == k, train) * (outcome.label == k).mean()
                   for k, cause in enumerate(model.causes, 1))
