"""A model in use, watched: have its patients changed, does it refuse more of them, do its chances still hold?

The model's folder keeps what this needs (bin counts and quantiles of every input and of a linear model's chances), no
patient's row. Sources: evaluate.drift (PSI, Kolmogorov-Smirnov, chi-square) and evaluate.monitor (O/E by period).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...geometry import InputError
from .cells import cell_text
from .evaluate.drift import Drift, ReferenceSummary, drift, summarise
from .evaluate.monitor import CalibrationOverTime, calibration_over_time, hazard_over_time
from .fitted import FittedModel
from .predict import PredictedRow, _inputs, predict
from .record import NO_FRAME, HeldOut, plain
from .table import Table

REFERENCE = "reference"
"""Where the reference lies in the model's summary."""
CHUNK = 500
ALPHA = 0.05


@dataclass(frozen=True)
class Watched:
    """inputs: every input and each predicted chance against the training; n_outside of n_rows lie outside the
    likeness gate, which lets about `expected_outside` of like patients fall out (p: one-sided binomial; None: no gate).
    calibration: class or "event" to observed over expected by period; notes: what could not be looked at, and why."""

    inputs: Drift
    n_rows: int
    n_refused: int
    n_outside: int
    expected_outside: float
    p_outside: float | None
    calibration: dict[str, CalibrationOverTime]
    notes: tuple[str, ...]

    @property
    def alarms(self) -> list[str]:
        """What has changed, in sentences; empty when nothing is seen."""
        said = [self.inputs.line] if self.inputs.verdict == "drift" else []
        if self.p_outside is not None and self.p_outside < ALPHA:
            said.append(f"{self.n_outside} of {self.n_rows} patients lie outside the training cohort, about "
                        f"{self.expected_outside:.0f} were expected (p {self.p_outside:.2g})")
        for label, found in self.calibration.items():
            bad = [one for one in found.periods if one.low is not None and one.high is not None
                   and not one.low <= 1 <= one.high]
            if (found.p is not None and found.p < ALPHA) or (found.p is None and bad):
                said.append(f"'{label}': {found.line}; " + ", ".join(
                    f"{one.period}: observed over expected {one.o_e:.2f} ({one.low:.2f} to {one.high:.2f})"
                    for one in bad))
        return said

    def to_dict(self) -> dict[str, Any]:
        return plain({"verdict": "changed" if self.alarms else self.inputs.verdict, "alarms": self.alarms,
                      "inputs": self.inputs.to_dict(), "n_rows": self.n_rows, "n_refused": self.n_refused,
                      "n_outside": self.n_outside, "expected_outside": self.expected_outside,
                      "p_outside": self.p_outside, "calibration": {label: found.to_dict() for label, found in
                                                                   self.calibration.items()},
                      "notes": list(self.notes), "frame": NO_FRAME})


def reference_of(model: FittedModel, table: Table, held: HeldOut) -> dict[str, Any]:
    """What the model's folder keeps for watch(): ReferenceSummary.to_dict() of the training rows and of the model's
    chances there. table: the table that was read; held: held-out predictions, which say which rows were used."""
    rows = table.rows(np.unique(held.row))
    columns = [c for c in model.columns if c["name"] in rows.values]
    names = [c["name"] for c in columns if c["kind"] == "number" and rows.kinds[c["name"]] == "number"]
    labels = {c["name"]: rows.text[c["name"]].tolist() for c in columns if c["kind"] == "category"}
    chances = _chances(model, rows)
    matrix = np.column_stack([*(rows.values[name].astype(float) for name in names), *chances.values()])
    return summarise(matrix, [*names, *chances], labels=labels).to_dict()


def _chances(model: FittedModel, rows: Table) -> dict[str, np.ndarray]:
    """The final model's own chances of the training rows; none of trees, which are too sure of their training rows."""
    if model.pipeline.model.family not in ("linear", "null"):
        return {}
    if model.kind in ("binary", "multiclass"):
        names = [_chance(name) for name in (model.classes[1:] if len(model.classes) == 2 else model.classes)]
    else:
        names = [_chance(f"{float(model.horizons[-1]):g}")]
    found = predict(model, rows, gate=False).rows
    return {name: np.array([_predicted(row, name) for row in found], float) for name in names}


def _chance(of: str) -> str:
    return f"(predicted chance: {of})"


def watch(model: FittedModel, table: Table, *, period: str | None = None, target: str | None = None,
          time: str | None = None) -> Watched:
    """The patients of a table against those the model was made from, and its predictions against what happened.

    period: column that says when (dates become quarters, or years where the day can't be told from the month);
    None: one period. target, time: columns of what happened, by default those of the training where the table has
    them. Patients that the model refuses count as refused and not in the calibration. Raises InputError: a model
    without a reference, a column that isn't there, an empty table.
    """
    stated = model.summary.get(REFERENCE)
    if not isinstance(stated, dict):
        raise InputError("this model keeps no reference of its training patients; train it again to watch it")
    for name in (period, target, time):
        if name is not None:
            table.require(name)
    reference, notes = ReferenceSummary.from_dict(stated), []
    found = predict(model, table, gate=False)
    outside = np.array([row.similarity is not None and not row.similarity.get("inside", True) for row in found.rows])
    refused = np.array([row.refused for row in found.rows]) | outside
    inputs = _drift(model, table, reference, found.rows, notes)
    share = 0.0 if model.similarity is None else model.similarity.alpha
    p = None
    if model.similarity is not None:
        from scipy.stats import binomtest

        p = float(binomtest(int(outside.sum()), len(outside), share, alternative="greater").pvalue)
    calibration = _calibration(model, table, found.rows, ~refused, period, target, time, notes)
    return Watched(inputs, len(found.rows), int(refused.sum()), int(outside.sum()), share * len(outside), p,
                   calibration, (*found.warnings, *notes))


def _drift(model: FittedModel, table: Table, reference: ReferenceSummary, rows: list[PredictedRow],
           notes: list[str]) -> Drift:
    read = _inputs(model, table, [[] for _ in rows], [])
    numbers = {name: read.numbers[:, place] for place, name in enumerate(read.number_names)
               if name in reference.numbers and np.isfinite(read.numbers[:, place]).any()}
    labels = {name: read.words[:, place].tolist() for place, name in enumerate(read.word_names)
              if name in reference.labels}
    for column in model.columns:
        if column["kind"] == "category" and column["name"] in labels and column["name"] in table.text:
            labels[column["name"]] = table.text[column["name"]].tolist()  # new levels are what this looks for
    absent = [name for name in reference.numbers if name not in numbers and not name.startswith("(predicted")]
    if absent:
        notes.append(f"without a value in this table: {', '.join(absent[:10])}")
    for name in reference.numbers:
        if name.startswith("(predicted"):
            numbers[name] = np.array([_predicted(row, name) for row in rows], float)
    matrix = np.column_stack(list(numbers.values())) if numbers else np.zeros((len(rows), 0))
    return drift(reference, matrix, list(numbers), labels=labels)


def _predicted(row: PredictedRow, name: str) -> float:
    for of, chance in (row.probability or {}).items():
        if name == _chance(of):
            return chance
    for at, chance in (row.incidence or {}).items():
        if name == _chance(at):
            return chance
    for at, share in (row.survival or {}).items():
        if row.incidence is None and name == _chance(at):
            return 1 - share
    return np.nan


def _calibration(model: FittedModel, table: Table, rows: list[PredictedRow], answered: np.ndarray, period: str | None,
                 target: str | None, time: str | None, notes: list[str]) -> dict[str, CalibrationOverTime]:
    target, time = target or model.target, time or model.time
    if target not in table.values or (model.time is not None and time not in table.values):
        notes.append("calibration over time: the table doesn't say what happened; name its column (target, time)")
        return {}
    if model.kind == "competing":
        notes.append("calibration over time: not made for competing events; compare incidence and counts by hand")
        return {}
    cells = table.values[target] if table.kinds[target] in ("number", "category") else table.text[target]
    words = np.array([None if (text := cell_text(cell)) is None else text.lower() for cell in cells.tolist()], object)
    labels = _periods(table, period)
    known = answered & np.array([word is not None for word in words]) & np.array([one is not None for one in labels])
    if model.time is not None:
        return _of_times(model, table, words, labels, known, str(time), notes)
    made = {}
    one_of_many = model.classes[0] == f"not {model.classes[1]}"
    if not one_of_many and not set(words[known].tolist()) <= {name.lower() for name in model.classes}:
        notes.append(f"calibration over time: '{target}' has other values than {', '.join(model.classes)}")
        return {}
    for name in model.classes[1:] if len(model.classes) == 2 else model.classes:
        chance = np.array([(row.probability or {}).get(name, np.nan) for row in rows], float)
        use = known & np.isfinite(chance)
        if use.any():
            truth = (words[use] == name.lower()).astype(int)
            made[name] = calibration_over_time(labels[use].astype(str), truth, chance[use])
    return made


def _of_times(model: FittedModel, table: Table, words: np.ndarray, labels: np.ndarray, known: np.ndarray, time: str,
              notes: list[str]) -> dict[str, CalibrationOverTime]:
    if table.kinds[time] != "number":
        raise InputError(f"{table.source}: the time '{time}' is no number")
    seen = table.values[time].astype(float)
    use = np.flatnonzero(known & np.isfinite(seen) & (seen >= 0))
    if not len(use):
        return {}
    last = float(model.curve_times[-1])
    event = ((words[use] == model.classes[1].lower()) & (seen[use] <= last)).astype(int)
    if not event.any():
        notes.append(f"calibration over time: no row has the event '{model.classes[1]}' by {last:g}")
    expected = np.zeros(len(use))
    values = model.pipeline.matrix(_inputs(model, table, [[] for _ in words], []).take(use)).values
    for start in range(0, len(use), CHUNK):
        part = slice(start, start + CHUNK)
        at = np.minimum(seen[use[part]], last)
        times, place = np.unique(at, return_inverse=True)
        survival = np.asarray(model.pipeline.model.predict(values[part], times).survival, float)
        expected[part] = -np.log(np.clip(survival[np.arange(len(at)), place], 1e-12, 1.0))
    return {"event": hazard_over_time(labels[use].astype(str), event, expected)}


def _periods(table: Table, period: str | None) -> np.ndarray:
    """(n,) labels that sort in time, None where there is none."""
    if period is None:
        return np.full(len(table), "all", object)
    if table.kinds[period] == "number":
        width = max(len(f"{value:.0f}") for value in np.nan_to_num(table.values[period].astype(float)))
        return np.array([f"{value:0{width}.0f}" if np.isfinite(value) else None
                         for value in table.values[period].astype(float)], object)
    return np.array([None if word is None else _quarter(word) for word in table.text[period]], object)


def _quarter(word: str) -> str:
    day = re.match(r"(\d{4})[-/.](\d{1,2})[-/.]\d{1,2}", word)
    if day and 1 <= int(day.group(2)) <= 12:
        return f"{day.group(1)} Q{(int(day.group(2)) + 2) // 3}"
    german = re.match(r"\d{1,2}\.(\d{1,2})\.(\d{4})", word)
    if german and 1 <= int(german.group(1)) <= 12:
        return f"{german.group(2)} Q{(int(german.group(1)) + 2) // 3}"
    year = re.match(r"\d{1,2}[-/.]\d{1,2}[-/.](\d{4})", word)
    return year.group(1) if year else word
