"""A run: nested cross-validation, baselines on the same folds, sensitivity, permutation, the final model."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ...geometry import CancelledError
from .crossval import CrossValidated, Progress, cross_validate, outer_folds
from .evaluate.checks import NotEstimableError
from .evaluate.conformal import ConformalClassifier
from .evaluate.conformal_survival import ConformalSurvival
from .fitted import coefficients_of, refit
from .folds import Fold
from .pipeline import DEEP, Recipe
from .record import HeldOut, Plan, Run
from .sample_size import RULE, refuse_too_few, sample_size
from .scoring import PRIMARY, interval, pairs_of, primary, score_all
from .study import Study, prepare
from .table import Table

LOG = logging.getLogger("IRAI.outcome")
SENSITIVITY_REPEATS = 1
PERMUTATION_REPEATS = 1
CURVE_SHARES = (0.4, 0.6, 0.8, 1.0)
PACKAGES = ("numpy", "scipy", "scikit-learn", "scikit-survival")


def train(table: Table, plan: Plan, *, progress: Progress | None = None,
          cancelled: Callable[[], bool] | None = None) -> Run:
    """A run of the plan on the table; the same inputs give the same run.

    Everything that learns (levels, imputation, harmonisation, scaling, selection, balance, settings) is fitted inside
    each outer training part, its settings inside the inner folds. The clinical baseline and the null model run on the
    same folds. Raises: InputError (columns, target), RefusedError (too few events; nothing left to learn from),
    CancelledError, MissingPackageError. Empty table: InputError.
    Source: nested cross-validation, Varma & Simon 2006; TRIPOD+AI 2024.
    """
    stage = _Stages(progress, cancelled, plan)
    study = prepare(table, plan)
    if plan.validation == "patient":
        refuse_too_few(study.outcome, study.groups, plan.outer_folds)
    else:
        refuse_too_few(study.outcome, study.groups, 2)
    folds = outer_folds(study)
    found = _all_models(study, folds, stage)
    held = {name: one.held for name, one in found.items()}
    stage.step("scores")
    scores, differences = score_all(held, bootstraps=plan.bootstraps, seed=plan.seed, cancelled=cancelled)
    recipe = Recipe(plan, study.candidates, plan.models[0])
    sensitivity = _sensitivity(study, folds, stage, held["model"]) if plan.sensitivity else []
    permutation = _permutation(study, stage, recipe) if plan.permutations else None
    curve = _learning_curve(study, folds, stage, recipe) if plan.learning_curve else []
    stage.step("final model on all rows")
    model = refit(study, recipe, _conformal(study, found["model"], study.warnings), cancelled)
    stage.check()
    summary = _summary(study, model.pipeline, folds)
    columns = [replace(c, used=c.used and c.name in study.candidates) for c in study.columns]
    model.summary = summary | {"scores": scores["model"], "baseline_scores": scores.get("baseline", {})}
    model.versions = versions()
    run = Run(plan, summary, columns, study.leaks, study.warnings, held, scores, differences, sensitivity, permutation,
              curve, found["model"].choices, _selected(found["model"]), versions(), model)
    stage.done()
    return run


class _Stages:
    """Progress over named stages and the question whether to stop."""

    def __init__(self, progress: Progress | None, cancelled: Callable[[], bool] | None, plan: Plan) -> None:
        self.progress, self.cancelled = progress, cancelled
        self.total = plan.repeats * (2 + len(plan.models)) + (4 * SENSITIVITY_REPEATS if plan.sensitivity else 0) + (
            plan.permutations * PERMUTATION_REPEATS * 0.5) + plan.learning_curve * 2 + 1
        self.at = 0.0

    def check(self) -> None:
        if self.cancelled is not None and self.cancelled():
            raise CancelledError("training was cancelled; nothing was written")

    def step(self, text: str, size: float = 0.0) -> Progress | None:
        """A callable for the parts of a stage of this size; the stage begins now."""
        self.check()
        start, self.at = self.at, self.at + size
        if self.progress is None:
            return None
        tell = self.progress

        def part(fraction: float, words: str) -> None:
            tell(min(0.99, (start + size * fraction) / self.total), words or text)
        part(0.0, text)
        return part

    def done(self) -> None:
        if self.progress is not None:
            self.progress(1.0, "done")


def _all_models(study: Study, folds: list[Fold], stage: _Stages) -> dict[str, CrossValidated]:
    plan = study.plan
    recipes = {"model": Recipe(plan, study.candidates, plan.models[0])}
    if study.baseline:
        recipes["baseline"] = Recipe(plan, study.baseline, "linear", "baseline")
    recipes["null"] = Recipe(plan, tuple(name for name in study.candidates if name != DEEP)[:1], "null", "baseline")
    for family in plan.models[1:]:
        recipes[family] = Recipe(plan, study.candidates, family)
    return {name: cross_validate(study, recipe, folds, name, progress=stage.step(name, plan.repeats),
                                 cancelled=stage.cancelled) for name, recipe in recipes.items()}


def _selected(found: CrossValidated) -> dict[str, float]:
    """Share of the outer folds in which each column of the table carried weight, largest first."""
    names = list(found.weights[0]) if found.weights else []
    share = {name: float(np.mean([fold[name] > 0 for fold in found.weights])) for name in names}
    return dict(sorted(share.items(), key=lambda item: (-item[1], item[0])))


def _sensitivity(study: Study, folds: list[Fold], stage: _Stages, whole: HeldOut) -> list[dict[str, Any]]:
    """Each group of columns left out and alone, on the folds of the first repeat, beside the whole model there."""
    groups = sorted({study.column_groups[name] for name in study.candidates})
    if len(groups) < 2:
        return []
    first = [fold for fold in folds if fold.repeat == 0]
    parts = {f"without {group}": tuple(n for n in study.candidates if study.column_groups[n] != group)
             for group in groups}
    parts |= {f"only {group}": tuple(n for n in study.candidates if study.column_groups[n] == group)
              for group in groups}
    if len(groups) == 2:
        parts = {name: columns for name, columns in parts.items() if name.startswith("only")}
    reference = whole.of_repeat(0)
    pairs = pairs_of(reference)
    ours, ours_values = pairs.with_resamples(study.plan.bootstraps, study.plan.seed)
    found = []
    for name, columns in parts.items():
        recipe = Recipe(study.plan, columns, study.plan.models[0])
        held = cross_validate(study, recipe, first, name, progress=stage.step(name, 4 / len(parts)),
                              cancelled=stage.cancelled).held
        estimate, values = pairs_of(held).with_resamples(study.plan.bootstraps, study.plan.seed)
        found.append({"name": name, "columns": len(columns), "metric": PRIMARY[held.kind],
                      **interval(estimate, values, pairs.n_patients),
                      "difference": interval(estimate - ours, values - ours_values, pairs.n_patients)})
    return found


def _permutation(study: Study, stage: _Stages, recipe: Recipe) -> dict[str, Any]:
    """The whole pipeline (selection, tuning and all) on outcomes shuffled among patients, one repeat each."""
    plan, null = study.plan, []
    folds = [fold for fold in outer_folds(study, 1) if fold.repeat == 0]
    observed = primary(cross_validate(study, recipe, folds, "permutation", cancelled=stage.cancelled).held)
    part = stage.step("permutation test", plan.permutations * PERMUTATION_REPEATS * 0.5)
    for n in range(plan.permutations):
        order = shuffled_rows(study.groups, np.random.default_rng([plan.seed, 13, n]))
        shuffled = study.outcome.take(order)
        same = replace_outcome(study, shuffled)
        null.append(primary(cross_validate(same, recipe, outer_folds(same, 1), "permutation",
                                           cancelled=stage.cancelled).held))
        if part is not None:
            part((n + 1) / plan.permutations, f"permutation {n + 1} of {plan.permutations}")
    values = np.array(null)
    p = (1 + int((values >= observed).sum())) / (1 + len(values))
    return {"metric": PRIMARY[study.outcome.kind], "observed": observed, "null": values.tolist(), "p": p,
            "n": len(values), "smallest_p": 1 / (1 + len(values)),
            "how": "whole pipeline on outcomes shuffled among patients, one repeat of the outer folds each"}


def shuffled_rows(groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(n,) row whose outcome each row gets: patients swap with patients of as many rows."""
    names, member = np.unique(groups, return_inverse=True)
    rows = [np.flatnonzero(member == n) for n in range(len(names))]
    order = np.arange(len(groups))
    for size in {len(part) for part in rows}:
        alike = [n for n in range(len(names)) if len(rows[n]) == size]
        for to, source in zip(alike, random.permutation(alike), strict=True):
            order[rows[to]] = rows[source]
    return order


def replace_outcome(study: Study, outcome: Any) -> Study:
    """The study with another outcome of the same rows; horizons stay."""
    return replace(study, outcome=outcome)


def _learning_curve(study: Study, folds: list[Fold], stage: _Stages, recipe: Recipe) -> list[dict[str, Any]]:
    """The figure when each fold trains on a share of its training patients (plan.learning_curve draws each)."""
    first = [fold for fold in folds if fold.repeat == 0]
    found = []
    for share in CURVE_SHARES:
        values = []
        for draw in range(study.plan.learning_curve if share < 1 else 1):
            part = [replace(fold, train=_some_patients(study, fold, share, draw)) for fold in first]
            if any(study.outcome.take(fold.train).n_events < 2 for fold in part):
                continue
            values.append(primary(cross_validate(study, recipe, part, f"{share:.0%} of the training patients",
                                                 progress=stage.step("learning curve", 0.4),
                                                 cancelled=stage.cancelled).held))
        if values:
            found.append({"share": share, "n_train": int(np.mean([len(f.train) for f in first]) * share),
                          "metric": PRIMARY[study.outcome.kind], "values": values, "mean": float(np.mean(values))})
    return found


def _some_patients(study: Study, fold: Fold, share: float, draw: int) -> np.ndarray:
    names = np.unique(study.groups[fold.train])
    random = np.random.default_rng([study.plan.seed, 17, fold.number, draw])
    chosen = random.permutation(names)[: max(2, round(share * len(names)))]
    return fold.train[np.isin(study.groups[fold.train], chosen)]


def _conformal(study: Study, found: CrossValidated, warnings: list[str]) -> Any:
    """From held-out predictions of the first repeat (each patient predicted by a fit that never saw it)."""
    held, alpha = found.held, round(1 - study.plan.coverage, 6)
    rows = np.flatnonzero(held.repeat == 0)
    patients = held.patient[rows]
    try:
        if held.probability is not None:
            truth = [held.classes[code] for code in held.truth[rows]]
            return ConformalClassifier.from_scores(truth, held.probability[rows], held.classes, alphas=(alpha,),
                                                   origin="cross", patients=patients, folds=held.fold[rows])
        if found.curves is None or held.time is None or held.kind == "competing":
            return None
        return ConformalSurvival.from_scores(held.time[rows], (held.truth[rows] == 1).astype(int), found.curves[rows],
                                             study.curve_times, alphas=(alpha,), origin="cross", patients=patients,
                                             folds=held.fold[rows])
    except NotEstimableError as error:
        warnings.append(f"no conformal bound: {error}")
        return None


def _summary(study: Study, pipeline: Any, folds: list[Fold]) -> dict[str, Any]:
    outcome = study.outcome
    parameters = pipeline.encoder.transform(pipeline.whole(study.rows)).values.shape[1]
    needed = sample_size(outcome, len(set(study.groups.tolist())), parameters)
    if not needed.enough:
        study.warnings.append(
            f"{needed.n_patients} patients with {needed.n_events} events; a model of {parameters} candidate parameters "
            f"needs {needed.n_needed} patients and {needed.events_needed} events (Riley 2020, Nagelkerke R2 0.15)")
    follow_up = {}
    if outcome.time is not None:
        follow_up = {"median_time": float(np.median(outcome.time)), "last_time": float(outcome.time.max())}
    return {"kind": outcome.kind, "n_rows": len(outcome), "n_patients": len(set(study.groups.tolist())),
            "classes": list(outcome.classes), "n_events": outcome.n_events, "counts": outcome.counts,
            "horizons": study.horizons.tolist(), "time_unit": study.plan.time_unit, **follow_up,
            "primary_metric": PRIMARY[outcome.kind], "events_rule": RULE, "sample_size": needed.to_dict(),
            "candidates": len(study.candidates), "parameters": parameters, "baseline": list(study.baseline),
            "groups": {name: study.column_groups[name] for name in study.candidates},
            "folds": [{"name": fold.name, "train": len(fold.train), "test": len(fold.test)} for fold in folds],
            "sites": sorted(set(study.sites.tolist())) if study.sites is not None else [],
            "settings": pipeline.settings, "coefficients": coefficients_of(pipeline), "source": study.table.source,
            "ranks": "pairs of patients are compared within a fold only"}


def versions() -> dict[str, str]:
    """Versions of what made the numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            LOG.debug("%s is not installed", name)
    return found
