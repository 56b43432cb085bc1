"""The model that leaves the run: the pipeline refitted on all rows, with what use needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .evaluate.checks import NotEstimableError
from .evaluate.conformal import ConformalClassifier
from .evaluate.conformal_survival import ConformalSurvival
from .evaluate.similarity import Similarity
from .pipeline import Pipeline, Recipe, fit
from .record import Plan
from .study import Study, unit_of


@dataclass
class FittedModel:
    """kind, classes, target, time_unit as trained; columns: {"name", "kind", "unit", "group", "low", "high", "levels",
    "needed"} of every input; horizons (T,), curve_times (G,); conformal and similarity as evaluate/ makes them;
    images: the plan's `deep`, which names the columns of images and masks, {} without deep columns."""

    pipeline: Pipeline
    kind: str
    classes: tuple[str, ...]
    target: str
    time: str | None
    time_unit: str
    site: str | None
    patient: str | None
    columns: list[dict[str, Any]]
    horizons: np.ndarray
    curve_times: np.ndarray
    conformal: ConformalClassifier | ConformalSurvival | None = None
    similarity: Similarity | None = None
    alpha: float = 0.1
    summary: dict[str, Any] = field(default_factory=dict)
    intended_use: str = ""
    licence: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=dict)

    def coefficients(self) -> list[dict[str, Any]]:
        """Of a linear model: {"name", "coefficient" a SD of the column}, largest first; else []."""
        return coefficients_of(self.pipeline)


def coefficients_of(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Columns that carry weight in a linear model with their coefficient (a list for several classes)."""
    from .matrix import Matrix

    model = pipeline.model
    values = getattr(model, "coefficients", None)
    if values is None and hasattr(model, "causes"):
        values = np.column_stack([cause.coefficients for cause in model.causes])
    if values is None:
        return []
    numbers = pipeline.encoder.numbers
    words = sum(len(levels) - 1 for levels in pipeline.encoder.levels.values())
    data = Matrix(np.zeros((0, len(numbers))), tuple(numbers), tuple(numbers))
    encoded = [f"{name} = {level}" for name, levels in pipeline.encoder.levels.items() for level in levels[1:]]
    data = Matrix(np.zeros((0, len(numbers) + words)), (*numbers, *encoded), (*numbers, *encoded))
    for step in pipeline.chain:
        data = step.transform(data)
    values = np.asarray(values, float)
    table = values[:, None] if values.ndim == 1 else values
    order = np.argsort(-np.abs(table).max(axis=1, initial=0.0), kind="stable")
    return [{"name": data.names[n], "coefficient": float(table[n, 0]) if table.shape[1] == 1 else table[n].tolist()}
            for n in order if np.abs(table[n]).max(initial=0.0) > 0]


def refit(study: Study, recipe: Recipe, conformal: Any, cancelled: Any = None) -> FittedModel:
    """The recipe fitted on every row of the study."""
    plan = study.plan
    made = fit(recipe, study.rows, study.outcome, study.groups, seed=plan.seed, cancelled=cancelled)
    return FittedModel(made, study.outcome.kind, study.outcome.classes, plan.target, plan.time, plan.time_unit,
                       plan.site if plan.harmonise == "combat" else None, plan.patient, _inputs(study, made),
                       study.horizons, study.curve_times, conformal, _similarity(study, made),
                       round(1 - plan.coverage, 6), intended_use=plan.intended_use, licence=plan.licence,
                       images=_images(plan))


def _images(plan: Plan) -> dict[str, Any]:
    if plan.deep is None:
        return {}
    from ..deep.source import deep_plan

    return deep_plan(plan.deep) | {"backbone": None}


def _inputs(study: Study, made: Pipeline) -> list[dict[str, Any]]:
    needed = {name for name, weight in made.column_weights(study.rows).items() if weight > 0}
    found = []
    for n, name in enumerate(study.rows.number_names):
        known = study.rows.numbers[:, n][np.isfinite(study.rows.numbers[:, n])]
        low, high = np.quantile(known, (0.01, 0.99)) if len(known) else (0.0, 0.0)
        found.append({"name": name, "kind": "number", "unit": unit_of(name), "group": study.column_groups[name],
                      "low": float(low), "high": float(high), "needed": name in needed})
    for name in study.rows.word_names:
        found.append({"name": name, "kind": "category", "unit": "", "group": study.column_groups[name],
                      "levels": list(made.encoder.known[name]), "needed": name in needed})
    return found


def similarity_names(pipeline: Pipeline, columns: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """(numbers, categories) that the gate looks at: the inputs that carry weight, or all when none does."""
    needed = [c for c in columns if c["needed"]] or columns
    return tuple([c["name"] for c in needed if c["kind"] == kind] for kind in ("number", "category"))  # type: ignore


def _similarity(study: Study, made: Pipeline) -> Similarity | None:
    numbers, words = similarity_names(made, _inputs(study, made))
    rows = study.rows
    place = [rows.number_names.index(name) for name in numbers]
    categories = {name: rows.words[:, rows.word_names.index(name)].tolist() for name in words}
    try:
        return Similarity.fit(rows.numbers[:, place], numbers, categories=categories, alpha=0.05)
    except NotEstimableError:
        return None
