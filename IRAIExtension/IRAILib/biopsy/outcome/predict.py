"""A model at use: a number with its bounds and its reasons, or a refusal with its reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from .cells import number
from .combat import ComBat
from .fitted import FittedModel, similarity_names
from .matrix import Rows
from .models.base import Prediction
from .record import NO_FRAME, plain
from .study import unit_of
from .table import Table

MAX_MISSING = 0.5
N_REASONS = 8


@dataclass(frozen=True)
class Reason:
    """One column's part of the score: value as given (None: missing, filled in), contribution in `scale`."""

    name: str
    value: float | str | None
    contribution: float


@dataclass(frozen=True)
class PredictedRow:
    """One row of the table. refused: no number is given, `refusals` says why; else refusals is empty.

    probability: class to probability; risk: model scale, larger is worse; survival, incidence: "horizon" to chance;
    conformal: the set or interval; similarity: distance to the training cohort; reasons: largest first.
    """

    row: int
    patient: str
    refused: bool
    refusals: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    probability: dict[str, float] | None = None
    risk: float | None = None
    survival: dict[str, float] | None = None
    incidence: dict[str, float] | None = None
    conformal: dict[str, Any] | None = None
    similarity: dict[str, Any] | None = None
    reasons: tuple[Reason, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return plain(asdict(self))


@dataclass(frozen=True)
class Predictions:
    """rows in the table's order; scale: what a contribution means; explained: how it was made."""

    rows: list[PredictedRow]
    kind: str
    classes: tuple[str, ...]
    target: str
    time_unit: str
    horizons: list[float]
    scale: str
    explained: str
    validated_on: str
    warnings: list[str] = field(default_factory=list)

    @property
    def n_refused(self) -> int:
        return sum(row.refused for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        return plain({**vars(self), "rows": [row.to_dict() for row in self.rows], "frame": NO_FRAME})


def predict(model: FittedModel, table: Table, *, patient: str | None = None, gate: bool = True,
            crops: tuple[Any, list[str | None]] | None = None, progress: Callable[[float, str], None] | None = None
            ) -> Predictions:
    """Every row of the table. patient: the column of names (default: the model's, else the row's number).

    crops: for a model with deep columns whose images are in memory: (n,) biopsy.deep.Crop or None, and why there is
    none for each row; None: read from the files that the table names.

    A row is refused when an input that the model weighs is not in the table, is in another unit, holds a word instead
    of a number or a level never seen, when more than half of its inputs are missing, when its site is unknown to a
    harmonised model, or (gate) when it lies outside the training cohort. Nothing in the model or the table changes.
    """
    warnings: list[str] = []
    refusals: list[list[str]] = [[] for _ in range(len(table))]
    rows = _inputs(model, table, refusals, warnings)
    rows = _with_crops(model, table, rows, refusals, crops)
    _missing(model, rows, refusals)
    _sites(model, table, rows, refusals)
    likeness = _likeness(model, rows)
    if gate and likeness is not None:
        for said, one in zip(refusals, likeness, strict=True):
            if not one.inside:
                said += [f"outside the training cohort: {reason}" for reason in one.reasons]
    good = np.array([n for n, said in enumerate(refusals) if not said], int)
    names = _names(model, table, patient)
    made: list[PredictedRow] = [PredictedRow(n, names[n], True, tuple(dict.fromkeys(said)), similarity=None if likeness
                                             is None else likeness[n].to_dict()) for n, said in enumerate(refusals)]
    if len(good):
        for place, row in zip(good, _predicted(model, rows.take(good)), strict=True):
            made[place] = PredictedRow(int(place), names[place], False, (), similarity=None if likeness is None else
                                       likeness[place].to_dict(), **row)
    if progress is not None:
        progress(1.0, "done")
    summary = model.summary
    scale = "log odds" if model.kind == "binary" else "score" if model.kind == "multiclass" else "log hazard"
    if model.pipeline.model.family == "forest":
        scale = "probability" if model.kind in ("binary", "multiclass") else "cumulative hazard"
    return Predictions(made, model.kind, model.classes, model.target, model.time_unit, model.horizons.tolist(), scale,
                       model.pipeline.model.explained, f"nested cross-validation of {summary.get('n_patients', '?')} "
                       "patients of one table; no other hospital", warnings)


def _with_crops(model: FittedModel, table: Table, rows: Rows, refusals: list[list[str]], given: Any = None) -> Rows:
    """The rows with their lesions, for a model with deep columns; a row whose image can't be read is refused."""
    deep = model.pipeline.deep
    if deep is None:
        return rows
    from ..deep.source import read_crops

    crops, reasons = given if given is not None else read_crops(table, model.images, deep.options.crop)
    for said, reason in zip(refusals, reasons, strict=True):
        if reason is not None:
            said.append(f"image: {reason}")
    return replace(rows, crops=crops)


def _names(model: FittedModel, table: Table, patient: str | None) -> list[str]:
    column = patient if patient is not None else model.patient
    if patient is not None:
        table.require(patient, "patient column")
    if column is None or column not in table.values:
        return [f"row {n + 1}" for n in range(len(table))]
    return [word if word is not None else f"row {n + 1}" for n, word in enumerate(table.text[column].tolist())]


def _base(name: str) -> str:
    unit = unit_of(name)
    bare = name.replace(f"({unit})", "").replace(f"[{unit}]", "") if unit else name
    return "".join(bare.lower().split())


def _inputs(model: FittedModel, table: Table, refusals: list[list[str]], warnings: list[str]) -> Rows:
    """The model's columns of the table as the model reads them; what stands in the way goes to the refusals."""
    warnings.extend(table.warnings)
    numbers, words = [], []
    inputs = [c for c in model.columns if c["name"] in model.pipeline.columns]
    for column in inputs:
        source = _source(column, table, refusals, warnings)
        if column["kind"] == "number":
            numbers.append(_number_cells(column, table, source, refusals))
        else:
            words.append(_word_cells(column, table, source, refusals))
    n = len(table)
    kinds = [[c["name"] for c in inputs if c["kind"] == kind] for kind in ("number", "category")]
    return Rows(np.column_stack(numbers) if numbers else np.zeros((n, 0)), tuple(kinds[0]),
                np.column_stack(words) if words else np.zeros((n, 0), object), tuple(kinds[1]),
                {c["name"]: c["group"] for c in inputs},
                None if model.site is None else np.array([word if word is not None else "(none)" for word in
                                                          table.text.get(model.site, [None] * n)], object))


def _source(column: dict[str, Any], table: Table, refusals: list[list[str]], warnings: list[str]) -> str | None:
    """The table's column that holds this input, None when there is none."""
    name = column["name"]
    if name in table.values:
        return name
    alike = [other for other in table.names if _base(other) == _base(name)]
    same = [other for other in alike if unit_of(other).lower() == unit_of(name).lower()]
    if len(same) == 1:
        warnings.append(f"'{same[0]}' is read as '{name}'")
        return same[0]
    if column["needed"]:
        why = f"column '{name}' is missing"
        if alike:
            why = f"'{alike[0]}' has another unit than '{name}', which the model was trained on; convert it"
        for said in refusals:
            said.append(why)
    else:
        warnings.append(f"'{name}' is not in the table; it carries no weight in this model")
    return None


def _number_cells(column: dict[str, Any], table: Table, source: str | None, refusals: list[list[str]]) -> np.ndarray:
    values = np.full(len(table), np.nan)
    if source is None:
        return values
    if table.kinds[source] == "number":
        values = table.values[source].astype(float)
    for n, text in enumerate(table.text[source].tolist()):
        if text is None or np.isfinite(values[n]):
            continue
        value = number(text)
        if value is None:
            value = number(text, decimal_comma=True)
        if value is None:
            value = number(text.lstrip("<>=≤≥ "))
        if value is not None:
            values[n] = value
        elif column["needed"]:
            refusals[n].append(f"'{column['name']}' holds '{text[:30]}', which is no number")
    return values


def _word_cells(column: dict[str, Any], table: Table, source: str | None, refusals: list[list[str]]) -> np.ndarray:
    low = {level.lower(): level for level in column["levels"]}
    values = np.full(len(table), None, object)
    if source is None:
        return values
    for n, text in enumerate(table.text[source].tolist()):
        if text is None:
            continue
        values[n] = low.get(text.lower())
        if values[n] is None and column["needed"]:
            refusals[n].append(f"'{column['name']}' = '{text[:30]}' was never seen in training "
                               f"(it knows {', '.join(column['levels'][:6])})")
    return values


def _missing(model: FittedModel, rows: Rows, refusals: list[list[str]]) -> None:
    numbers, words = similarity_names(model.pipeline, model.columns)
    absent = [~np.isfinite(rows.numbers[:, rows.number_names.index(n)]) for n in numbers if n in rows.number_names]
    absent += [np.array([cell is None for cell in rows.words[:, rows.word_names.index(n)]], bool)
               for n in words if n in rows.word_names]
    if not absent:
        return
    share = np.mean(absent, axis=0)
    for n in np.flatnonzero(share > MAX_MISSING):
        if not refusals[n]:
            refusals[n].append(f"{share[n]:.0%} of the inputs that the model weighs are missing (at most "
                               f"{MAX_MISSING:.0%})")


def _sites(model: FittedModel, table: Table, rows: Rows, refusals: list[list[str]]) -> None:
    for step in model.pipeline.chain:
        if isinstance(step, ComBat) and step.refuse_unseen:
            for n, said in enumerate(refusals):
                site = None if rows.site is None else rows.site[n]
                if site not in step.sites:
                    said.append(f"site '{site}' was not in the training; the model harmonises by site "
                                f"(it knows {', '.join(step.sites[:6])})")


def _likeness(model: FittedModel, rows: Rows) -> list[Any] | None:
    if model.similarity is None:
        return None
    numbers, words = similarity_names(model.pipeline, model.columns)
    place = [rows.number_names.index(name) for name in numbers]
    categories = {name: rows.words[:, rows.word_names.index(name)].tolist() for name in words}
    return model.similarity.score(rows.numbers[:, place], categories)


def _predicted(model: FittedModel, rows: Rows) -> list[dict[str, Any]]:
    pipeline = model.pipeline
    rows = pipeline.whole(rows)
    matrix = pipeline.matrix(rows)
    found: Prediction = pipeline.model.predict(matrix.values, model.horizons)
    parts = pipeline.model.contributions(matrix.values)
    bounds = _bounds(model, pipeline, matrix.values, found)
    made = []
    for n in range(len(rows)):
        one: dict[str, Any] = {"conformal": bounds[n], "reasons": _reasons(rows, n, matrix.source, parts[n])}
        if found.probability is not None:
            one["probability"] = dict(zip(model.classes, found.probability[n].tolist(), strict=True))
        else:
            assert found.risk is not None
            one["risk"] = float(found.risk[n])
            for part in ("survival", "incidence"):
                values = getattr(found, part)
                if values is not None:
                    one[part] = {f"{h:g}": float(v) for h, v in zip(model.horizons, values[n], strict=True)}
        made.append(one)
    return made


def _bounds(model: FittedModel, pipeline: Any, values: np.ndarray, found: Prediction) -> list[Any]:
    if model.conformal is None:
        return [None] * len(values)
    if found.probability is not None:
        return [one.to_dict() for one in model.conformal.predict_set(found.probability, model.alpha)]  # type: ignore
    curve = pipeline.model.predict(values, model.curve_times).survival
    return [one.to_dict() for one in model.conformal.predict(curve, model.curve_times, model.alpha)]  # type: ignore


def _reasons(rows: Rows, n: int, source: tuple[str, ...], parts: np.ndarray) -> tuple[Reason, ...]:
    total: dict[str, float] = {}
    for name, part in zip(source, parts, strict=True):
        total[name] = total.get(name, 0.0) + float(part)
    order = sorted((name for name in total if total[name] != 0), key=lambda name: -abs(total[name]))[:N_REASONS]
    return tuple(Reason(name, _value(rows, n, name), total[name]) for name in order)


def _value(rows: Rows, n: int, name: str) -> float | str | None:
    if name in rows.number_names:
        value = float(rows.numbers[n, rows.number_names.index(name)])
        return value if np.isfinite(value) else None
    return rows.words[n, rows.word_names.index(name)]


def empty_rows(model: FittedModel) -> Rows:
    """One row without any value, as the model's encoder expects it."""
    numbers, words = model.pipeline.encoder.numbers, list(model.pipeline.encoder.levels)
    site = None
    for step in model.pipeline.chain:
        if isinstance(step, ComBat):
            site = np.array([step.sites[0] if step.sites else ""], object)
    return Rows(np.full((1, len(numbers)), np.nan), tuple(numbers), np.full((1, len(words)), None, object),
                tuple(words), {}, site)
