"""Boosted trees: scikit-learn's histogram boosting fits them, plain arrays keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....geometry import InputError, MissingPackageError
from ..outcome import Outcome
from .base import Prediction, log_loss
from .trees import Trees, joined

ROUNDS = (10, 25, 50, 100)
DEPTHS = (1, 2)
INTERVALS = 8
RATE, RIDGE = 0.1, 1.0
KINDS = ("binary", "multiclass", "survival")


class BoostingModel:
    """start (C,) and trees whose leaves add to the score (log odds; several classes: log of the odds of each).

    For survival the trees give the log odds of an event within an interval that ends at ends (I,), for someone who
    reached it; the last column of a row is the number of the interval (discrete-time hazard, Tutz & Schmid 2016).
    offsets (I,) bring each interval's expected events to those seen in training, which few rounds would not reach.
    """

    family = "boosting"
    explained = "path-based (Saabas): each split's change of the mean, summed over the trees"

    def __init__(self, trees: Trees, start: np.ndarray, ends: np.ndarray, n_columns: int, settings: dict[str, Any],
                 offsets: np.ndarray | None = None) -> None:
        self.trees, self.start, self.ends, self.n_columns, self.settings = trees, start, ends, n_columns, settings
        self.offsets = np.zeros(len(ends)) if offsets is None else offsets

    def _score(self, values: np.ndarray) -> np.ndarray:
        """(n, C): tree k adds to class k modulo C."""
        n_classes = len(self.start)
        added = self.trees.value[self.trees.leaves(values), 0]
        return self.start + np.column_stack([added[:, k::n_classes].sum(axis=1) for k in range(n_classes)])

    def predict(self, values: np.ndarray, times: np.ndarray) -> Prediction:
        if not len(self.ends):
            score = self._score(values)
            if score.shape[1] == 1:
                chance = 1 / (1 + np.exp(-score[:, 0]))
                return Prediction(probability=np.column_stack([1 - chance, chance]))
            power = np.exp(score - score.max(axis=1, keepdims=True))
            return Prediction(probability=power / power.sum(axis=1, keepdims=True))
        hazard = 1 / (1 + np.exp(-self._by_interval(values)))
        logs = np.hstack([np.zeros((len(values), 1)), np.cumsum(np.log1p(-np.minimum(hazard, 1 - 1e-9)), axis=1)])
        moments = np.concatenate([[0.0], self.ends])
        survival = np.exp(np.array([np.interp(times, moments, row) for row in logs])).reshape(len(values), len(times))
        at = np.array([np.interp(times[-1:], moments, row) for row in logs])[:, 0] if len(times) else logs[:, -1]
        return Prediction(risk=np.log(np.maximum(-at, 1e-12)), survival=survival)

    def shift_prior(self, ratio: np.ndarray) -> None:
        """Moves the start from balanced classes back to the shares of the data; ratio (C,)."""
        log = np.log(ratio)
        self.start = self.start + (log[1:] - log[0] if len(self.start) == 1 else log - log.mean())

    def _by_interval(self, values: np.ndarray) -> np.ndarray:
        return np.column_stack([self.hazard_score(np.column_stack([values, np.full(len(values), float(n))]))
                                for n in range(len(self.ends))])

    def hazard_score(self, lines: np.ndarray) -> np.ndarray:
        """(n,) log odds of an event in the interval that each line (values and interval number) stands for."""
        return self._score(lines)[:, 0] + self.offsets[lines[:, -1].astype(int)]

    def recalibrate(self, lines: np.ndarray, label: np.ndarray) -> None:
        """Sets the offsets so that each interval's expected events are those of these training lines (Newton)."""
        score, interval = self._score(lines)[:, 0], lines[:, -1].astype(int)
        for n in range(len(self.ends)):
            here, shift = interval == n, 0.0
            wanted = float(np.clip(label[here].mean(), 1e-3, 1 - 1e-3)) if here.any() else 0.5
            for _ in range(30 if here.any() else 0):
                chance = 1 / (1 + np.exp(-(score[here] + shift)))
                shift += float(np.clip((wanted - chance.mean()) / max((chance * (1 - chance)).mean(), 1e-6), -1, 1))
            self.offsets[n] = np.clip(shift, -4, 4)

    def contributions(self, values: np.ndarray) -> np.ndarray:
        if len(self.ends):
            parts = [self.trees.paths(np.column_stack([values, np.full(len(values), float(n))]), self.n_columns + 1)
                     for n in range(len(self.ends))]
            return np.mean(parts, axis=0)[:, : self.n_columns, 0]
        n_classes = len(self.start)
        if n_classes == 1:
            return self.trees.paths(values, self.n_columns)[:, :, 0]
        by_class = np.stack([self._of_class(k).paths(values, self.n_columns)[:, :, 0] for k in range(n_classes)], -1)
        chosen = self._score(values).argmax(axis=1)
        return by_class[np.arange(len(values)), :, chosen] - by_class.mean(axis=-1)

    def _of_class(self, k: int) -> Trees:
        kept = self.trees
        return Trees(kept.roots[k:: len(self.start)], kept.column, kept.threshold, kept.left, kept.right, kept.value)

    def weights(self) -> np.ndarray:
        return self.trees.usage(self.n_columns + 1)[: self.n_columns]

    def state(self) -> dict[str, Any]:
        return {"trees": self.trees.state(), "start": self.start, "ends": self.ends, "n_columns": self.n_columns,
                "settings": self.settings, "offsets": self.offsets}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> BoostingModel:
        start, ends, offsets = (np.asarray(state[name], float).reshape(-1) for name in ("start", "ends", "offsets"))
        if len(offsets) != len(ends):
            raise ValueError("offsets and intervals differ in number")
        return cls(Trees.from_state(state["trees"]), start, ends, int(state["n_columns"]), dict(state["settings"]),
                   offsets)


class BoostingFamily:
    def __init__(self, kind: str) -> None:
        if kind not in KINDS:
            raise InputError("boosting does classes and survival; for competing risks choose the linear model")
        self.kind = kind

    def grid(self, n_rows: int, n_columns: int, n_events: int) -> list[dict[str, Any]]:
        """Stumps only under 50 events; a leaf holds at least a tenth of the rows, 5 at least."""
        depths = DEPTHS if n_events >= 50 else DEPTHS[:1]
        return [{"depth": depth, "rounds": rounds} for depth in depths for rounds in ROUNDS]

    def fit_grid(self, values: np.ndarray, outcome: Outcome, grid: Sequence[Mapping[str, Any]], weights: np.ndarray,
                 max_columns: int, seed: int) -> list[BoostingModel]:
        """max_columns does not bound trees; depth, leaf size and rounds do."""
        label, ends = outcome.label, np.zeros(0)
        if self.kind == "survival":
            values_wide, label, ends, rows = person_periods(values, outcome)
            weights = weights[rows]
        else:
            values_wide = values
        if values_wide.shape[1] == 0:
            values_wide = np.zeros((len(values_wide), 1))
        made: list[Any] = [None] * len(grid)
        for depth in sorted({item["depth"] for item in grid}):
            places = [n for n, item in enumerate(grid) if item["depth"] == depth]
            most = max(int(grid[n]["rounds"]) for n in places)
            start, trees = _fit(values_wide, label, weights, depth, most, max(5, len(values) // 10), seed)
            for n in places:
                kept = trees[: int(grid[n]["rounds"]) * len(start)]
                made[n] = BoostingModel(joined(kept), start, ends, values.shape[1], dict(grid[n]))
                if len(ends):
                    made[n].recalibrate(values_wide, label)
        return made

    def loss(self, model: BoostingModel, values: np.ndarray, outcome: Outcome, train: np.ndarray) -> float:
        held = outcome.take(np.flatnonzero(~train))
        if self.kind != "survival":
            chance = model.predict(values[~train], np.zeros(0)).probability
            assert chance is not None
            return log_loss(chance, held.label)
        wide, label, _, _ = person_periods(values[~train], held, model.ends)
        hazard = 1 / (1 + np.exp(-model.hazard_score(wide)))
        return log_loss(np.column_stack([1 - hazard, hazard]), label)


def person_periods(values: np.ndarray, outcome: Outcome,
                   ends: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One line for each interval a row reached: (values with the interval's number, event in it, ends, row).

    A row censored in the first half of an interval doesn't count for it. The last interval has no end of its own:
    what happens after the last cut belongs to it.
    """
    assert outcome.time is not None
    if ends is None:
        events = outcome.time[outcome.label == 1]
        ends = np.unique(np.quantile(events, np.linspace(0, 1, INTERVALS + 1)[1:])) if len(events) else np.ones(1)
        ends = ends[ends > 0] if (ends > 0).any() else np.ones(1)
    starts = np.concatenate([[0.0], ends[:-1]])
    lines, labels, rows = [], [], []
    last = np.minimum(np.searchsorted(ends, outcome.time), len(ends) - 1)
    for n in range(len(ends)):
        event = (last == n) & (outcome.label == 1)
        enough = outcome.time >= (starts[n] + ends[n]) / 2
        here = np.flatnonzero(((last > n) | ((last == n) & enough)) | event)
        lines.append(np.column_stack([values[here], np.full(len(here), float(n))]))
        labels.append(event[here].astype(int))
        rows.append(here)
    return np.vstack(lines), np.concatenate(labels), ends, np.concatenate(rows)


def _fit(values: np.ndarray, label: np.ndarray, weights: np.ndarray, depth: int, rounds: int, least: int,
         seed: int) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """(start (C,), trees in order: round by round, class by class)."""
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingPackageError("boosting needs scikit-learn: pip install scikit-learn") from error
    if len(np.unique(label)) < 2:
        share = np.clip(label.mean(), 1e-6, 1 - 1e-6)
        leaf = {"column": np.array([-1]), "threshold": np.zeros(1), "left": np.zeros(1, int),
                "right": np.zeros(1, int), "value": np.zeros(1)}
        return np.array([np.log(share / (1 - share))]), [leaf]
    settings: dict[str, Any] = {"early_stopping": False, "categorical_features": None}
    model = HistGradientBoostingClassifier(
        max_iter=rounds, max_depth=depth, learning_rate=RATE, l2_regularization=RIDGE, min_samples_leaf=least,
        random_state=seed, **settings)
    with threadpool_limits(1):  # tables are small: threads would only wait for each other
        fitted = model.fit(values, label, sample_weight=weights)
    start = np.asarray(fitted._baseline_prediction, float).reshape(-1)  # no public name; held by a test
    return start, [_plain_tree(one.nodes) for stage in fitted._predictors for one in stage]


def _plain_tree(nodes: np.ndarray) -> dict[str, np.ndarray]:
    leaf = nodes["is_leaf"].astype(bool)
    value, count = nodes["value"].astype(float).copy(), nodes["count"].astype(float)
    left, right = nodes["left"].astype(int), nodes["right"].astype(int)
    for n in np.flatnonzero(~leaf)[::-1]:
        sides = [left[n], right[n]]
        value[n] = (value[sides] * count[sides]).sum() / max(count[sides].sum(), 1)
    return {"column": np.where(leaf, -1, nodes["feature_idx"].astype(int)), "left": left, "right": right,
            "threshold": np.where(leaf, 0.0, nodes["num_threshold"]), "value": value}
