"""The final model written out for a reader to work out a patient by hand, and how good it looks on its own rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..biopsy.outcome import facts
from ..biopsy.outcome.matrix import Matrix
from ..biopsy.outcome.models.cox import CoxModel, step_at
from ..biopsy.outcome.predict import predict
from ..biopsy.outcome.preprocess import CLIP_SD
from ..biopsy.outcome.record import HeldOut, Run
from ..biopsy.outcome.scoring import primary
from ..biopsy.outcome.table import Table
from .outcome_html import details, paragraph, table

MAX_TERMS = 100


def formula(run: Run) -> str:
    """Terms of a linear final model with centre, scale, fill and coefficient, its intercepts or baseline hazards, and
    the sentence that puts them together; what stands in the way where it can't be written so."""
    final = run.final
    if final is None:
        return ""
    pipeline = final.pipeline
    kinds = [step.kind for step in pipeline.chain]
    if pipeline.model.family != "linear":
        return paragraph("This model has no formula; every split and every leaf stands in model.json and weights.npz.")
    if getattr(pipeline, "deep", None) is not None or "combat" in kinds or "yeo-johnson" in kinds:
        return paragraph("Networks, harmonisation or a power transform come before the terms, so they are not written "
                         "out here; all their numbers stand in model.json and weights.npz.")
    terms = _terms(pipeline)
    weights = _weights(pipeline.model)
    names = _columns_of(run)
    rows = []
    for (name, centre, scale, fill), row in zip(terms, weights, strict=True):
        if np.abs(row).max(initial=0.0) > 0:
            rows.append([name, f"{centre:.6g}", f"{scale:.6g}", fill, *(f"{value:.6g}" for value in row)])
    head = ["term (a category or a gap: 1 if so, else 0)", "centre", "scale", "if missing", *names]
    words = ("score = " + ("intercept + " if run.plan.time is None else "") + "the sum over the terms of coefficient x "
             f"(value - centre) / scale, each term held within {CLIP_SD:g}. " + _ending(run))
    cut = f" The first {MAX_TERMS} of {len(rows)} terms; all stand in model.json." if len(rows) > MAX_TERMS else ""
    return details(f"the final model as a formula: {len(rows)} terms", paragraph(words + cut) + table(
        head, rows[:MAX_TERMS], tuple(range(1, len(head)))) + _constants(run))


def _terms(pipeline: Any) -> list[tuple[str, float, float, str]]:
    """(name, centre, scale, value put in where it is missing) of each column that the model takes."""
    numbers, levels = list(pipeline.encoder.numbers), pipeline.encoder.levels
    names = (*numbers, *(f"{name} = {level}" for name, known in levels.items() for level in known[1:]))
    data = Matrix(np.zeros((0, len(names))), names, names)
    fill, scaled = {}, {}
    for step in pipeline.chain:
        if step.kind in ("impute-median", "impute-chained"):
            some = "regression" if step.kind == "impute-chained" else None
            fill = {name: some or f"{value:.6g}" for name, value in zip(names, step.fill, strict=True)}
        elif step.kind == "scale":
            scaled = dict(zip(data.names, zip(step.mean.tolist(), step.sd.tolist(), strict=True), strict=True))
        data = step.transform(data)
    return [(name, *scaled[name], fill.get(name, "") if name in numbers else "") for name in data.names]


def _weights(model: Any) -> np.ndarray:
    """(terms, scores): one score, one a class, or one a cause."""
    if hasattr(model, "causes"):
        return np.column_stack([cause.coefficients for cause in model.causes])
    values = np.asarray(model.coefficients, float)
    return values[:, None] if values.ndim == 1 else values


def _columns_of(run: Run) -> list[str]:
    classes = run.held_out["model"].classes
    if facts.kind(run) == "multiclass":
        return [f"coefficient, {name}" for name in classes]
    return [f"coefficient, {name}" for name in classes[1:]] if facts.kind(run) == "competing" else ["coefficient"]


def _ending(run: Run) -> str:
    last = facts.outcome_words(run, run.held_out["model"].classes[-1])
    return {"binary": f"Chance of {last} = 1 / (1 + exp(-score)).",
            "multiclass": "Chance of a class = exp(its score) / the sum of exp(score) over the classes.",
            "survival": "Survival at time t = exp(-H(t) exp(score)); H(t) is the last step at or before t in "
                        "model.json, below at the horizons.",
            "competing": "A cause's hazard is its baseline hazard times exp(its score); the incidence follows from the "
                         "hazards of all causes, step by step (model.json).",
            }.get(facts.kind(run), "")


def _constants(run: Run) -> str:
    assert run.final is not None
    model = run.final.pipeline.model
    if hasattr(model, "intercepts"):
        values = np.ravel(model.intercepts).tolist()
        names = run.held_out["model"].classes if len(values) > 1 else ["intercept"]
        rows = [[name, f"{value:.6g}"] for name, value in zip(names, values, strict=True)]
        return table(["", "intercept"], rows, (1,))
    causes = model.causes if hasattr(model, "causes") else [model]
    horizons = np.asarray(run.final.horizons, float)
    rows = [[f"H({t:g})", *(f"{value:.6g}" for value in at)] for t, at in
            zip(horizons, np.column_stack([_hazard(cause, horizons) for cause in causes]), strict=True)]
    return table(["baseline cumulative hazard", *run.held_out["model"].classes[1:1 + len(causes)]], rows,
                 tuple(range(1, 1 + len(causes))))


def _hazard(model: CoxModel, times: np.ndarray) -> np.ndarray:
    return step_at(model.times, model.hazard, times, 0.0)


def apparent(run: Run, data: Table) -> float | None:
    """The deciding figure of the final model on the rows that made it; None with deep columns or without a value."""
    if run.final is None or run.plan.deep is not None:
        return None
    held = run.held_out["model"].of_repeat(0)
    found = predict(run.final, data.rows(held.row), gate=False).rows
    keep = np.array([not row.refused for row in found])
    if not keep.all():
        held, found = held.take(keep), [row for row in found if not row.refused]
    if not len(held):
        return None
    changed: dict[str, Any] = {"fold": np.zeros(len(held), int)}
    if held.probability is not None:
        changed["probability"] = np.array([[(row.probability or {})[name] for name in held.classes] for row in found])
    else:
        changed["risk"] = np.array([row.risk for row in found], float)
    value = primary(HeldOut(**{**vars(held), **changed}))
    return value if np.isfinite(value) else None


def optimism_words(run: Run, value: float | None) -> str:
    """The apparent figure beside the held-out one; empty without one."""
    metric = facts.primary_metric(run)
    own = facts.score(run, "model", metric)
    if value is None or own is None or own.estimate is None:
        return ""
    return (f"On the very rows that made it the final model has {facts.words_of(metric)} {value:.2f} (apparent); held "
            f"out it is {own.estimate:.2f}, so the optimism is {value - own.estimate:+.2f}. Only the held-out figure "
            "is evidence.")
