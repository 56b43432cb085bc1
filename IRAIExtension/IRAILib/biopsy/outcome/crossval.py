"""Predictions for rows that the predicting fit never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...geometry import CancelledError
from .folds import Fold, patient_folds, site_folds
from .models.base import Prediction
from .outcome import Outcome
from .pipeline import Recipe, fit
from .record import HeldOut
from .study import Study

Progress = Callable[[float, str], None]


@dataclass
class CrossValidated:
    """held: the predictions; curves (m, G): survival (or 1 - incidence) on study.curve_times, for conformal bounds;
    choices: one a fold; weights: the table's columns that carried weight in each fold."""

    held: HeldOut
    curves: np.ndarray | None
    choices: list[dict[str, Any]] = field(default_factory=list)
    weights: list[dict[str, float]] = field(default_factory=list)


def outer_folds(study: Study, repeats: int | None = None) -> list[Fold]:
    """The folds of the plan, the same for every model of the run."""
    plan = study.plan
    if plan.validation == "site":
        from ...geometry import InputError

        if study.sites is None:
            raise InputError("validation by site needs the site column; name it in the plan")
        return site_folds(study.outcome, study.groups, study.sites)
    return [fold for repeat in range(plan.repeats if repeats is None else repeats)
            for fold in patient_folds(study.outcome, study.groups, plan.outer_folds, repeat=repeat, seed=plan.seed)]


def cross_validate(study: Study, recipe: Recipe, folds: Sequence[Fold], name: str, *, outcome: Outcome | None = None,
                   progress: Progress | None = None, cancelled: Callable[[], bool] | None = None) -> CrossValidated:
    """Every fold: fit on its training rows (inner cross-validation and all), predict its test rows.

    outcome: another outcome of the same rows (permutation). Raises CancelledError.
    """
    truth = study.outcome if outcome is None else outcome
    parts: list[Prediction] = []
    choices, weights, curves = [], [], []
    for n, fold in enumerate(folds):
        if cancelled is not None and cancelled():
            raise CancelledError("training was cancelled; nothing was written")
        if progress is not None:
            progress(n / len(folds), f"{name}: {fold.name}")
        train = study.rows.take(fold.train)
        made = fit(recipe, train, truth.take(fold.train), study.groups[fold.train],
                   seed=study.plan.seed + 1000 * fold.repeat + fold.number, cancelled=cancelled)
        if cancelled is not None and cancelled():
            raise CancelledError("training was cancelled; nothing was written")
        found = made.predict(study.rows.take(fold.test), study.horizons)
        if len(study.curve_times):
            whole = made.predict(study.rows.take(fold.test), study.curve_times)
            curves.append(whole.survival if whole.incidence is None else 1 - whole.incidence)
        parts.append(found)
        choices.append({"fold": fold.name, **made.settings})
        weights.append(made.column_weights(train))
    return CrossValidated(_held(study, recipe, folds, parts, name, truth), np.vstack(curves) if curves else None,
                          choices, weights)


def _held(study: Study, recipe: Recipe, folds: Sequence[Fold], parts: Sequence[Prediction], name: str,
          truth: Outcome) -> HeldOut:
    place = np.concatenate([fold.test for fold in folds])

    def joined(part: str) -> np.ndarray | None:
        values = [getattr(one, part) for one in parts]
        return None if values[0] is None else np.concatenate(values)

    def each(number: str) -> np.ndarray:
        return np.concatenate([np.full(len(fold.test), getattr(fold, number)) for fold in folds])
    return HeldOut(name, truth.kind, truth.classes, recipe.columns, study.index[place], study.groups[place],
                   each("repeat"), each("number"), truth.label[place],
                   None if truth.time is None else truth.time[place],
                   None if study.sites is None else study.sites[place], joined("probability"), joined("risk"),
                   study.horizons if truth.time is not None else None, joined("survival"), joined("incidence"))
