"""What every model of an outcome gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..outcome import Outcome


@dataclass(frozen=True)
class Prediction:
    """Of n rows: probability (n, C) for classes; for time to event cumulative hazard-like `risk` (n,) (larger is
    worse, comparable between fits), survival (n, T) at the times asked, incidence (n, T) of the event of interest."""

    probability: np.ndarray | None = None
    risk: np.ndarray | None = None
    survival: np.ndarray | None = None
    incidence: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Prediction:
        return replace(self, **{name: value[rows] for name, value in vars(self).items() if value is not None})


class Model(Protocol):
    """family: "linear", "boosting", "forest" or "null"; explained: "exact" or how contributions were made."""

    family: str
    explained: str

    def predict(self, values: np.ndarray, times: np.ndarray) -> Prediction: ...

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """(n, p): each column's part of the score (log odds, log hazard), relative to the training mean."""
        ...

    def weights(self) -> np.ndarray:
        """(p,): how much each column counts; 0 is not used."""
        ...

    def state(self) -> dict[str, Any]: ...

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Model: ...


class Family(Protocol):
    """A way to fit models: grid() of settings for p columns, fit_grid() one model a setting, loss() to choose by."""

    def grid(self, n_rows: int, n_columns: int, n_events: int) -> list[dict[str, Any]]: ...

    def fit_grid(self, values: np.ndarray, outcome: Outcome, grid: Sequence[Mapping[str, Any]], weights: np.ndarray,
                 max_columns: int, seed: int) -> list[Any]: ...

    def loss(self, model: Any, values: np.ndarray, outcome: Outcome, train: np.ndarray) -> float:
        """Loss of the rows that are not in train (n,) bool; smaller is better."""
        ...


def log_loss(probability: np.ndarray, label: np.ndarray) -> float:
    """Mean of -log p of the truth; probabilities are held to 1e-6."""
    return float(-np.log(np.clip(probability[np.arange(len(label)), label], 1e-6, 1)).mean())
