"""Who the patients of a run are: a table of their characteristics, and how the model does in groups of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..biopsy.outcome import HeldOut, facts
from ..biopsy.outcome.record import Run
from ..biopsy.outcome.scoring import PRIMARY, draws, interval, pairs_of
from ..biopsy.outcome.table import Table

MAX_LEVELS = 8
MIN_PATIENTS, MIN_EVENTS = 10, 3


@dataclass(frozen=True)
class Characteristic:
    """One line of the table of patients. cells: text by column heading ("all" and each class)."""

    name: str
    level: str
    cells: dict[str, str]
    missing: int


@dataclass(frozen=True)
class Subgroup:
    """Performance in patients of one kind; figure None: too few, `note` says so."""

    column: str
    level: str
    n_patients: int
    n_events: int
    figure: facts.Figure | None
    note: str = ""


def shown_columns(run: Run) -> list[str]:
    """Columns of the table of patients: used ones that aren't images', and sex, age or site even when not used."""
    wanted = {column.name for column in run.columns if column.used and column.group != "imaging"}
    wanted |= set(facts.subgroup_columns(run)) | set(facts.baseline_columns(run))
    return [column.name for column in run.columns if column.name in wanted]


def characteristics(run: Run, table: Table) -> list[Characteristic]:
    """Median (quartiles) or count (share) of each shown column, for all evaluated rows and by outcome.

    Rows, not patients, where a patient has several. An empty run gives an empty list.
    """
    held = run.held_out.get("model")
    if held is None or not len(held):
        return []
    once = held.averaged()
    groups = {"all": np.ones(len(once), bool)} | {name: once.truth == code for code, name in enumerate(once.classes)}
    made: list[Characteristic] = []
    for name in shown_columns(run):
        if name not in table.values:
            continue
        values = table.values[name][once.row]
        if table.kinds[name] == "number" and len(np.unique(values[np.isfinite(values.astype(float))])) > 5:
            made.append(_number(name, values.astype(float), groups))
        else:
            made += _levels(name, table.text[name][once.row], groups)
    return made


def _number(name: str, values: np.ndarray, groups: dict[str, np.ndarray]) -> Characteristic:
    cells = {}
    for group, rows in groups.items():
        known = values[rows & np.isfinite(values)]
        if len(known):
            low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
            cells[group] = f"{middle:.3g} ({low:.3g} to {high:.3g})"
        else:
            cells[group] = "-"
    return Characteristic(name, "median (quartiles)", cells, int((~np.isfinite(values)).sum()))


def _levels(name: str, words: np.ndarray, groups: dict[str, np.ndarray]) -> list[Characteristic]:
    known = np.array([word is not None for word in words])
    text = np.array([str(word) for word in words])
    levels, counts = np.unique(text[known], return_counts=True)
    order = sorted(range(len(levels)), key=lambda k: (-counts[k], levels[k]))
    shown = [levels[k] for k in order[:MAX_LEVELS]]
    missing = int((~known).sum())
    made = []
    for place, level in enumerate([*shown, *(["other"] if len(order) > MAX_LEVELS else [])]):
        here = known & (~np.isin(text, shown) if level == "other" and len(order) > MAX_LEVELS else text == level)
        cells = {group: f"{int((here & rows).sum())} ({_percent(here & rows, known & rows)})"
                 for group, rows in groups.items()}
        made.append(Characteristic(name if place == 0 else "", str(level), cells, missing if place == 0 else 0))
    return made or [Characteristic(name, "(no value)", dict.fromkeys(groups, "-"), missing)]


def _percent(part: np.ndarray, whole: np.ndarray) -> str:
    return f"{100 * part.sum() / whole.sum():.0f} %" if whole.sum() else "-"


def subgroups(run: Run, table: Table, *, n: int = 500) -> list[Subgroup]:
    """The primary figure of the model in groups by sex, age, site and the like, with 95 % intervals.

    A number is split at its median. Groups were not chosen by their result; the intervals are not adjusted for their
    number. Empty where the table has no such column.
    """
    held = run.held_out.get("model")
    if held is None or not len(held):
        return []
    made: list[Subgroup] = []
    for name in facts.subgroup_columns(run):
        if name in table.values:
            for level, rows in _groups_of(name, table):
                made.append(_subgroup(run, held, name, level, rows, n))
    return made


def _groups_of(name: str, table: Table) -> list[tuple[str, np.ndarray]]:
    """(level, (n,) bool over the table's rows)."""
    words = table.text[name]
    if table.kinds[name] == "number":
        values = table.values[name].astype(float)
        known = np.isfinite(values)
        if len(np.unique(values[known])) > MAX_LEVELS:
            cut = float(np.median(values[known]))
            return [(f"below {cut:.4g}", known & (values < cut)), (f"{cut:.4g} and above", known & (values >= cut))]
    text = np.array([word if word is not None else "" for word in words], object)
    levels = sorted({str(word) for word in text.tolist() if word})
    return [(level, text == level) for level in levels] if 1 < len(levels) <= 20 else []


def _subgroup(run: Run, held: HeldOut, name: str, level: str, rows: np.ndarray, n: int) -> Subgroup:
    part = held.take(rows[held.row])
    once = part.averaged() if len(part) else part
    patients = part.n_patients
    events = int((once.truth == 1).sum()) if part.kind != "multiclass" else len(once)
    others = int((once.truth != 1).sum()) if part.kind != "multiclass" else len(once)
    if patients < MIN_PATIENTS or min(events, others) < MIN_EVENTS:
        return Subgroup(name, level, patients, events, None, f"fewer than {MIN_PATIENTS} patients or {MIN_EVENTS} with "
                        "and without the event")
    figure = deciding_figure(part, n=n, seed=run.plan.seed)
    return Subgroup(name, level, patients, events, figure, "" if figure else "not estimable")


def deciding_figure(held: HeldOut, *, n: int = 500, seed: int = 0) -> facts.Figure | None:
    """The deciding figure of these held-out predictions with its interval, worked out as train() does."""
    pairs = pairs_of(held)
    one = pairs.figure(np.ones((1, pairs.n_patients)))
    found = interval(float(one[0]), pairs.figure(draws(pairs.n_patients, n, seed)), pairs.n_patients)
    return facts.as_figure(PRIMARY[held.kind], found)
