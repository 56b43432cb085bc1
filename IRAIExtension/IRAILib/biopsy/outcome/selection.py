"""Which columns a fold's model may use: univariate, stability selection, elastic net; bounded by events."""

from __future__ import annotations

from typing import Any

import numpy as np

from .matrix import Matrix
from .models.cox import CoxLoss
from .models.elastic_net import path
from .models.logistic import LogisticLoss
from .outcome import Outcome

DRAWS = 40
THRESHOLD = 0.6
STABILITY_FRACTIONS = (1.0, 0.7, 0.5, 0.35, 0.25)


class Selection:
    """Keeps at most max_features (None: events / events_per_variable) columns.

    univariate: the largest score statistics of one-column fits. stability: columns that enter an L1 path first in at
    least 60 % of 40 half samples (Meinshausen & Buhlmann 2010). elastic-net: the last step of the path within the
    bound. Where a rule keeps none, the best univariate column is kept.
    """

    kind = "select"

    def __init__(self, method: str, max_features: int | None, events_per_variable: float) -> None:
        self.method, self.max_features, self.events_per_variable = method, max_features, events_per_variable
        self.kept: list[int] = []
        self.share: list[float] = []

    def fit(self, data: Matrix, outcome: Outcome, random: np.random.Generator) -> Selection:
        most = max(1, int(outcome.n_events / self.events_per_variable))
        most = most if self.max_features is None else min(most, self.max_features)
        score = univariate(data.values, outcome)
        if self.method == "univariate":
            score_kept = np.argsort(-score, kind="stable")[:most]
        elif self.method == "stability":
            share = _stability(data.values, outcome, most, random)
            self.share = share.tolist()
            order = np.lexsort((-score, -share))
            score_kept = np.array([n for n in order if share[n] >= THRESHOLD][:most], int)
        else:
            score_kept = np.flatnonzero(_entered(data.values, outcome, most, 0.5))
        if not len(score_kept) and len(score):
            score_kept = np.array([int(np.argmax(score))])
        self.kept = sorted(int(n) for n in score_kept)
        return self

    def transform(self, data: Matrix) -> Matrix:
        return data.keep(np.array(self.kept, int))

    def state(self) -> dict[str, Any]:
        return {"method": self.method, "max_features": self.max_features, "kept": self.kept, "share": self.share,
                "events_per_variable": self.events_per_variable}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Selection:
        made = cls(state["method"], state["max_features"], float(state["events_per_variable"]))
        made.kept, made.share = [int(n) for n in state["kept"]], [float(v) for v in state["share"]]
        return made


def _loss(values: np.ndarray, outcome: Outcome) -> Any:
    if outcome.time is not None:
        return CoxLoss(values, outcome.time, outcome.label == 1)
    return LogisticLoss(values, outcome.label, len(outcome.classes), np.ones(len(values)))


def univariate(values: np.ndarray, outcome: Outcome) -> np.ndarray:
    """(p,) score statistic of each scaled column: |gradient at the null model| over the column's spread."""
    loss = _loss(values, outcome)
    gradient = loss.value_and_gradient(loss.start())[1][loss.penalised]
    spread = np.maximum(values.std(axis=0), 1e-12)
    return np.linalg.norm(gradient, axis=1) / spread


def _entered(values: np.ndarray, outcome: Outcome, most: int, mix: float) -> np.ndarray:
    loss = _loss(values, outcome)
    theta = path(loss, mix, (*STABILITY_FRACTIONS, 0.17, 0.12, 0.08), most, tolerance=1e-4)[-1][1]
    return np.asarray((np.abs(theta[loss.penalised]) > 0).any(axis=1))


def _stability(values: np.ndarray, outcome: Outcome, most: int, random: np.random.Generator) -> np.ndarray:
    counts, used = np.zeros(values.shape[1]), 0
    for _ in range(DRAWS):
        half = np.concatenate([random.permutation(np.flatnonzero(outcome.label == k))[: -(-int(n) // 2)]
                               for k, n in enumerate(np.bincount(outcome.label)) if n])
        part = outcome.take(np.sort(half))
        if part.n_events:
            counts += _entered(values[np.sort(half)], part, most, 1.0)
            used += 1
    return counts / max(used, 1)
