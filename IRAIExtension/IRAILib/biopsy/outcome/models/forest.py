"""Forests: scikit-learn for classes, scikit-survival (optional, GPL) for time to event; kept as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....geometry import InputError, MissingPackageError
from ..outcome import Outcome
from .base import Prediction, log_loss
from .boosting import person_periods
from .cox import step_at
from .trees import Trees, joined

N_TREES = 200
MAX_TIMES = 60
KINDS = ("binary", "multiclass", "survival")


class ForestModel:
    """trees: leaves hold class shares (C,), or the cumulative hazard (T,) at times (T,); means over trees."""

    family = "forest"
    explained = "path-based (Saabas): each split's change of the mean, averaged over the trees"

    def __init__(self, trees: Trees, times: np.ndarray, n_columns: int, settings: dict[str, Any],
                 prior: np.ndarray | None = None) -> None:
        self.trees, self.times, self.n_columns, self.settings = trees, times, n_columns, settings
        self.prior = np.ones(trees.value.shape[1]) if prior is None else prior

    def _mean(self, values: np.ndarray) -> np.ndarray:
        return np.array([self.trees.value[leaves].mean(axis=0) for leaves in self.trees.leaves(values)]).reshape(
            len(values), -1)

    def predict(self, values: np.ndarray, times: np.ndarray) -> Prediction:
        mean = self._mean(values)
        if not len(self.times):
            mean = mean * self.prior
            return Prediction(probability=mean / mean.sum(axis=1, keepdims=True))
        at = np.array([step_at(self.times, row, times, 0.0) for row in mean]).reshape(len(values), len(times))
        return Prediction(risk=np.log(np.maximum(mean.mean(axis=1), 1e-12)), survival=np.exp(-at))

    def shift_prior(self, ratio: np.ndarray) -> None:
        """Weighs the leaves' shares of balanced classes back to the shares of the data; ratio (C,)."""
        self.prior = self.prior * ratio

    def contributions(self, values: np.ndarray) -> np.ndarray:
        parts = self.trees.paths(values, self.n_columns) / len(self.trees.roots)
        if len(self.times):
            return parts.mean(axis=2)
        if parts.shape[2] == 2:
            return parts[:, :, 1]
        chosen = self._mean(values).argmax(axis=1)
        return parts[np.arange(len(values)), :, chosen]

    def weights(self) -> np.ndarray:
        return self.trees.usage(self.n_columns)

    def state(self) -> dict[str, Any]:
        return {"trees": self.trees.state(), "times": self.times, "n_columns": self.n_columns,
                "settings": self.settings, "prior": self.prior}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ForestModel:
        return cls(Trees.from_state(state["trees"]), np.asarray(state["times"], float).reshape(-1),
                   int(state["n_columns"]), dict(state["settings"]), np.asarray(state["prior"], float).reshape(-1))


class ForestFamily:
    def __init__(self, kind: str) -> None:
        if kind not in KINDS:
            raise InputError("the forest does classes and survival; for competing risks choose the linear model")
        self.kind = kind

    def grid(self, n_rows: int, n_columns: int, n_events: int) -> list[dict[str, Any]]:
        return [{"leaf": leaf} for leaf in sorted({max(3, n_rows // 20), max(5, n_rows // 8)})]

    def fit_grid(self, values: np.ndarray, outcome: Outcome, grid: Sequence[Mapping[str, Any]], weights: np.ndarray,
                 max_columns: int, seed: int) -> list[ForestModel]:
        """max_columns does not bound trees; the size of a leaf does."""
        wide = values if values.shape[1] else np.zeros((len(values), 1))
        fit = _fit_survival if self.kind == "survival" else _fit_classes
        return [ForestModel(*fit(wide, outcome, weights, int(item["leaf"]), seed), values.shape[1], dict(item))
                for item in grid]

    def loss(self, model: ForestModel, values: np.ndarray, outcome: Outcome, train: np.ndarray) -> float:
        held = outcome.take(np.flatnonzero(~train))
        if self.kind != "survival":
            chance = model.predict(values[~train], np.zeros(0)).probability
            assert chance is not None
            return log_loss(chance, held.label)
        assert held.time is not None
        _, _, ends, _ = person_periods(np.zeros((len(outcome), 0)), outcome)
        lines, label, _, row = person_periods(np.zeros((len(held), 0)), held, ends)
        survival = model.predict(values[~train], np.concatenate([[0.0], ends])).survival
        assert survival is not None
        interval = lines[:, 0].astype(int)
        hazard = 1 - survival[row, interval + 1] / np.maximum(survival[row, interval], 1e-9)
        return log_loss(np.clip(np.column_stack([1 - hazard, hazard]), 1e-3, 1), label)


def _plain(tree: Any, value: np.ndarray) -> dict[str, np.ndarray]:
    leaf = tree.children_left < 0
    return {"column": np.where(leaf, -1, tree.feature), "threshold": np.where(leaf, 0.0, tree.threshold),
            "left": np.where(leaf, 0, tree.children_left), "right": np.where(leaf, 0, tree.children_right),
            "value": value}


def _fit_classes(values: np.ndarray, outcome: Outcome, weights: np.ndarray, leaf: int,
                 seed: int) -> tuple[Trees, np.ndarray]:
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as error:
        raise MissingPackageError("the forest needs scikit-learn: pip install scikit-learn") from error
    made = RandomForestClassifier(N_TREES, min_samples_leaf=leaf, random_state=seed, n_jobs=1)
    made.fit(values.astype(np.float32), outcome.label, sample_weight=weights)
    trees = []
    for one in made.estimators_:
        share = one.tree_.value[:, 0, :]
        whole = np.zeros((len(share), len(outcome.classes)))
        whole[:, made.classes_.astype(int)] = share / share.sum(axis=1, keepdims=True)
        trees.append(_plain(one.tree_, whole))
    return joined(trees), np.zeros(0)


def _fit_survival(values: np.ndarray, outcome: Outcome, weights: np.ndarray, leaf: int,
                  seed: int) -> tuple[Trees, np.ndarray]:
    try:
        from sksurv.ensemble import RandomSurvivalForest
    except ImportError as error:
        raise MissingPackageError("the survival forest is an optional extra under the GPL: pip install "
                                  "scikit-survival") from error
    assert outcome.time is not None
    truth = np.array(list(zip(outcome.label == 1, outcome.time, strict=True)), dtype=[("event", "?"), ("time", "<f8")])
    made = RandomSurvivalForest(N_TREES, min_samples_leaf=leaf, random_state=seed, n_jobs=1)
    made.fit(values.astype(np.float32), truth)
    times = np.asarray(made.unique_times_, float)
    chosen = np.unique(np.linspace(0, len(times) - 1, min(MAX_TIMES, len(times))).round().astype(int))
    return joined([_plain(one.tree_, one.tree_.value[:, chosen, 0]) for one in made.estimators_]), times[chosen]
