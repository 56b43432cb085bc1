"""One fit: the chain of transformers, the model, and the inner cross-validation that chooses its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...geometry import InputError
from .combat import ComBat
from .folds import patient_folds
from .matrix import FoldTransformer, Matrix, Rows
from .models.base import Prediction
from .models.boosting import BoostingFamily, BoostingModel
from .models.competing import CompetingFamily, CompetingModel
from .models.cox import CoxFamily, CoxModel
from .models.forest import ForestFamily, ForestModel
from .models.logistic import LogisticFamily, LogisticModel
from .models.null import NullFamily, NullModel
from .outcome import Outcome
from .preprocess import ChainedImputer, Encoder, MedianImputer, RedundancyFilter, Scaler, YeoJohnson
from .record import Plan
from .selection import Selection
from .smote import smote

TRANSFORMERS: dict[str, Any] = {kind.kind: kind for kind in (
    MedianImputer, ChainedImputer, ComBat, YeoJohnson, Scaler, RedundancyFilter, Selection)}
MODELS: dict[str, Any] = {kind.__name__: kind for kind in (
    LogisticModel, CoxModel, CompetingModel, NullModel, BoostingModel, ForestModel)}


DEEP = "deep image columns"
"""Stands among a recipe's columns for what a network will make of the images; no column of the table."""


@dataclass
class Pipeline:
    """Fitted: encoder, chain and model; deep: what makes columns of crops (biopsy.deep.DeepColumns), or None."""

    encoder: Encoder
    chain: list[FoldTransformer]
    model: Any
    columns: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    deep: Any = None

    def whole(self, rows: Rows) -> Rows:
        """The rows with their deep columns; as they are where there are none, or they are there already."""
        if self.deep is None or self.deep.names[0] in rows.number_names:
            return rows
        assert rows.crops is not None
        return rows.beside(self.deep.names, self.deep.transform(list(rows.crops)), "deep")

    def matrix(self, rows: Rows) -> Matrix:
        """The scaled columns that the model takes."""
        data = self.encoder.transform(self.whole(rows).only(self.columns))
        for step in self.chain:
            data = step.transform(data)
        return data

    def predict(self, rows: Rows, times: np.ndarray) -> Prediction:
        return self.model.predict(self.matrix(rows).values, times)

    def column_weights(self, rows: Rows) -> dict[str, float]:
        """How much each of the table's columns counts in the model (sum over the columns made of it)."""
        data, total = self.matrix(rows.take(np.zeros(0, int))), dict.fromkeys(self.columns, 0.0)
        for source, weight in zip(data.source, self.model.weights(), strict=True):
            total[source] += float(weight)
        return total


@dataclass(frozen=True)
class Recipe:
    """How to make a pipeline of some columns. role: "model" (plan's choices) or "baseline" (named columns, ridge)."""

    plan: Plan
    columns: tuple[str, ...]
    family: str
    role: str = "model"

    def transformers(self, groups: dict[str, str]) -> list[FoldTransformer]:
        plan = self.plan
        chain: list[Any] = [MedianImputer() if plan.imputation == "median" else ChainedImputer()]
        if plan.harmonise == "combat" and any(groups.get(name) == "imaging" for name in self.columns):
            chain.append(ComBat([name for name in self.columns if groups.get(name) == "imaging"],
                                refuse_unseen=plan.unseen_site == "refuse"))
        if plan.power_transform:
            chain.append(YeoJohnson())
        chain.append(Scaler())
        if self.role == "model":
            chain.append(RedundancyFilter(plan.max_correlation))
            if plan.selection != "none":
                chain.append(Selection(plan.selection, plan.max_features, plan.events_per_variable))
        else:
            chain.append(RedundancyFilter(1.0))
        return chain

    def max_columns(self, outcome: Outcome) -> int:
        if self.role != "model":
            return 10**9
        guard = max(1, int(outcome.n_events / self.plan.events_per_variable))
        return guard if self.plan.max_features is None else min(guard, self.plan.max_features)

    def make_family(self, kind: str) -> Any:
        if self.family == "null":
            return NullFamily()
        if self.family == "boosting":
            return BoostingFamily(kind)
        if self.family == "forest":
            return ForestFamily(kind)
        if self.family != "linear":
            raise InputError(f"model '{self.family}' is not known")
        linear = {"survival": CoxFamily, "competing": CompetingFamily}.get(kind, LogisticFamily)
        return linear() if self.role == "model" else linear(mixes=(0.0,))


def fit_chain(recipe: Recipe, rows: Rows, outcome: Outcome, random: np.random.Generator) -> Pipeline:
    """Encoder and chain fitted on these rows; the model is still missing."""
    rows = rows.only(recipe.columns)
    encoder = Encoder().fit(rows)
    data, chain = encoder.transform(rows), recipe.transformers(rows.groups)
    for step in chain:
        data = step.fit(data, outcome, random).transform(data)
    return Pipeline(encoder, chain, None, recipe.columns)


def fit(recipe: Recipe, rows: Rows, outcome: Outcome, patients: Sequence[str] | np.ndarray, *, seed: int,
        cancelled: Callable[[], bool] | None = None) -> Pipeline:
    """A pipeline of these rows, its settings chosen by inner cross-validation among them (grouped by patient).

    rows, outcome, patients: n training rows. Everything that learns sees only training rows of its own fold.
    """
    random = np.random.default_rng([seed, 1])
    family = recipe.make_family(outcome.kind)
    deep, recipe, rows = _with_deep(recipe, rows, outcome, patients, seed, cancelled)
    pipeline = fit_chain(recipe, rows, outcome, random)
    pipeline.deep = deep
    values = pipeline.matrix(rows).values
    grid = family.grid(len(rows), values.shape[1], outcome.n_events)
    losses = np.zeros(len(grid))
    if len(grid) > 1 and values.shape[1]:
        losses = _inner_losses(recipe, family, grid, rows, outcome, patients, seed)
        if cancelled is not None and cancelled():
            return pipeline
    best = int(np.argmin(losses)) if len(grid) > 1 and values.shape[1] else 0
    pipeline.model = _fit_models(recipe, family, [grid[best]], values, outcome, pipeline, rows, seed)[0]
    pipeline.settings = dict(grid[best]) | {"inner_loss": float(losses[best])}
    return pipeline


def _with_deep(recipe: Recipe, rows: Rows, outcome: Outcome, patients: Sequence[str] | np.ndarray, seed: int,
               cancelled: Callable[[], bool] | None) -> tuple[Any, Recipe, Rows]:
    """Networks trained on these rows, and the rows with scores that no network gave to a patient it had seen."""
    if DEEP not in recipe.columns or rows.crops is None:
        return None, recipe, rows
    from ..deep import DeepColumns
    from ..deep.source import deep_options

    assert recipe.plan.deep is not None
    deep = DeepColumns(deep_options(recipe.plan.deep))
    values = deep.fit_transform(list(rows.crops), outcome, [str(name) for name in patients], seed=seed,
                                cancelled=cancelled)
    columns = (*(name for name in recipe.columns if name != DEEP), *deep.names)
    return deep, replace(recipe, columns=columns), rows.beside(deep.names, values, "deep")


def _inner_losses(recipe: Recipe, family: Any, grid: list[dict[str, Any]], rows: Rows, outcome: Outcome,
                  patients: Sequence[str] | np.ndarray, seed: int) -> np.ndarray:
    names = np.asarray(patients).astype(str)
    count = min(recipe.plan.inner_folds, len(set(names.tolist())))
    losses, used = np.zeros(len(grid)), 0
    for fold in patient_folds(outcome, names, count, seed=seed + 101):
        inner = outcome.take(fold.train)
        if inner.n_events < 1 or len(set(inner.label.tolist())) < len(set(outcome.label.tolist())):
            continue
        part = fit_chain(recipe, rows.take(fold.train), inner, np.random.default_rng([seed, 2, fold.number]))
        values = part.matrix(rows).values
        train = np.zeros(len(rows), bool)
        train[fold.train] = True
        models = _fit_models(recipe, family, grid, values[train], inner, part, rows.take(fold.train), seed)
        losses += len(fold.test) * np.array([family.loss(model, values, outcome, train) for model in models])
        used += len(fold.test)
    return losses / max(used, 1)


def _fit_models(recipe: Recipe, family: Any, grid: list[dict[str, Any]], values: np.ndarray, outcome: Outcome,
                pipeline: Pipeline, rows: Rows, seed: int) -> list[Any]:
    """Class weights or SMOTE touch the training rows only, here.

    Either makes the classes look equally frequent; the fitted model is moved back to the shares of the data, so that
    its probabilities stay probabilities (prior correction, King & Zeng 2001; Elkan 2001).
    """
    weights = np.ones(len(values))
    balance = recipe.plan.balance if recipe.role == "model" and outcome.time is None else "none"
    share = np.bincount(outcome.label, minlength=len(outcome.classes)).astype(float)
    allowed = recipe.max_columns(outcome)
    if balance == "weights":
        weights = len(values) / (np.count_nonzero(share) * share[outcome.label])
    elif balance == "smote":
        source = pipeline.matrix(rows.take(np.zeros(0, int))).source
        blocks = _blocks(source, values)
        values, label = smote(values, outcome.label, blocks, seed=seed)
        outcome, weights = Outcome(outcome.kind, outcome.classes, label), np.ones(len(values))
    models = family.fit_grid(values, outcome, grid, weights, allowed, seed)
    if balance != "none":
        for model in models:
            model.shift_prior(np.where(share > 0, share / share.sum(), 1.0))
    return models


def _blocks(source: Sequence[str], values: np.ndarray) -> list[list[int]]:
    """Columns that take two values or fewer, grouped by the table's column they came from: taken over together."""
    two = [len(np.unique(column)) <= 2 for column in values.T]
    names = dict.fromkeys(name for name, flag in zip(source, two, strict=True) if flag)
    return [[n for n, name in enumerate(source) if name == block and two[n]] for block in names]
