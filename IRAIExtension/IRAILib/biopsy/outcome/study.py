"""A table and a plan made ready: outcome, candidates, leaks out, patients, baseline, horizons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...geometry import InputError, RefusedError
from .leaks import find_column_leaks, find_row_leaks
from .matrix import Rows, rows_of
from .outcome import Outcome, read_outcome
from .pipeline import DEEP
from .record import Column, Leak, Plan
from .roles import assign_roles
from .table import Table

MAX_CURVE_TIMES = 60
MIN_AT_RISK = 5
MANY_MISSING = 0.6


@dataclass
class Study:
    """Everything a run needs of n rows. index (n,): rows of the user's table. patients (n,) as written; groups (n,)
    keep rows together in splits (patients, duplicates joined). rows: candidates of every column in `candidates`."""

    plan: Plan
    table: Table
    outcome: Outcome
    index: np.ndarray
    patients: np.ndarray
    groups: np.ndarray
    sites: np.ndarray | None
    rows: Rows
    candidates: tuple[str, ...]
    baseline: tuple[str, ...]
    column_groups: dict[str, str]
    columns: list[Column]
    leaks: list[Leak]
    warnings: list[str]
    horizons: np.ndarray
    curve_times: np.ndarray
    roles: dict[str, str] = field(default_factory=dict)


def prepare(table: Table, plan: Plan) -> Study:
    """Raises InputError (columns, target), RefusedError (nothing left to learn from)."""
    roles, groups, reasons = assign_roles(table, plan)
    outcome, index, said = read_outcome(table, plan)
    table = table.rows(index)
    patients = _patients(table, plan, index)
    sites = None
    if plan.site is not None:
        sites = np.array([word if word is not None else "(none)" for word in table.text[plan.site]])
    names = [name for name in table.names if roles[name] == "feature"]
    leaks = find_column_leaks(table, names, outcome, plan)
    dropped = {leak.column: leak for leak in leaks if leak.action == "dropped"}
    for name in names:
        share = float(np.mean([word is None for word in table.text[name]]))
        if name not in dropped and share > MANY_MISSING and name not in plan.allow:
            reasons[name], roles[name] = f"{share:.0%} missing", "excluded"
    candidates = [name for name in names if name not in dropped and roles[name] == "feature"]
    if not candidates and plan.deep is None:
        raise RefusedError(f"{table.source}: no column is left to learn from (leaks, identifiers, free text); name "
                           "roles or allow columns in the plan")
    more, together, keep = find_row_leaks(table, candidates, outcome, patients, sites, plan)
    leaks += more
    if not keep.all():
        table, outcome, index = table.rows(keep), outcome.take(np.flatnonzero(keep)), index[keep]
        patients, together = patients[keep], together[keep]
        sites = None if sites is None else sites[keep]
    horizons, curve = _times(outcome, plan)
    warnings = [*table.warnings, *said, *_warn(leaks, plan)]
    baseline = _baseline(plan, candidates, groups, dropped, warnings)
    columns = [_column(table, name, roles[name], groups[name], reasons[name], dropped.get(name), name in candidates)
               for name in table.names]
    rows = rows_of(table, candidates, groups, plan.site)
    if plan.deep is not None:
        rows = replace(rows, crops=_crops(table, plan, index))
        candidates, groups = [*candidates, DEEP], {**groups, DEEP: "deep"}
    return Study(plan, table, outcome, index, patients, together, sites, rows, tuple(candidates), baseline,
                 groups, columns, leaks, warnings, horizons, curve, roles)


def _crops(table: Table, plan: Plan, index: np.ndarray) -> np.ndarray:
    """(n,) crops of the lesions. Raises InputError for the first row whose image or mask can't be used."""
    from ..deep.source import deep_options, read_crops

    assert plan.deep is not None
    crops, reasons = read_crops(table, plan.deep, deep_options(plan.deep).crop)
    for n, reason in enumerate(reasons):
        if reason is not None:
            raise InputError(f"{table.source}: data row {index[n] + 1}: {reason}; correct it, or leave the row out")
    return crops


def _patients(table: Table, plan: Plan, index: np.ndarray) -> np.ndarray:
    if plan.patient is None:
        return np.array([f"row {n + 1}" for n in index])
    words = table.text[plan.patient]
    missing = [n for n, word in enumerate(words) if word is None]
    if missing:
        raise InputError(f"{table.source}: data row {index[missing[0]] + 1} has no patient in '{plan.patient}'")
    return words.astype(str)


def _times(outcome: Outcome, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Horizons (T,) and the grid (G,) of whole curves. Default: quarters of the event times, rounded to 2 digits."""
    if outcome.time is None:
        return np.zeros(0), np.zeros(0)
    events = outcome.time[outcome.label == 1]
    last = float(outcome.time.max())
    if plan.horizons:
        horizons = np.array(sorted(set(plan.horizons)), float)
        far = [h for h in horizons if (outcome.time >= h).sum() < MIN_AT_RISK]
        if far:
            raise RefusedError(f"horizon {far[0]:g}: fewer than {MIN_AT_RISK} patients are followed that long (last "
                               f"time {last:g}); choose an earlier one")
    else:
        wanted = [float(f"{q:.2g}") for q in np.quantile(events, (0.25, 0.5, 0.75))]
        horizons = np.array(sorted({h for h in wanted if h > 0 and (outcome.time >= h).sum() >= MIN_AT_RISK}))
        if not len(horizons):
            horizons = np.array([max(float(np.median(events)), np.finfo(float).tiny)])
    inner = np.quantile(outcome.time, np.linspace(0, 1, MAX_CURVE_TIMES))
    curve = np.unique(np.concatenate([inner[inner > 0], horizons]))
    return horizons, curve


def _warn(leaks: Sequence[Leak], plan: Plan) -> list[str]:
    said = [f"'{leak.column}' is kept although it looks like a leak ({leak.kind}: {leak.evidence}); the results can't "
            "be trusted unless it is known before treatment" for leak in leaks if leak.action == "kept"]
    if plan.patient is None:
        said.append("no patient column was named: every row counts as a patient of its own")
    return said


def _baseline(plan: Plan, candidates: Sequence[str], groups: dict[str, str], dropped: dict[str, Leak],
              warnings: list[str]) -> tuple[str, ...]:
    """The named columns; else scores and clinical columns beside imaging, else the scores; else none (null only)."""
    if plan.baseline:
        lost = [name for name in plan.baseline if name not in candidates]
        for name in lost:
            why = dropped[name].kind if name in dropped else "no feature"
            warnings.append(f"baseline: '{name}' is left out ({why})")
        return tuple(name for name in candidates if name in plan.baseline)
    scores = [name for name in candidates if groups[name] == "score"]
    beside = [name for name in candidates if groups[name] in ("score", "clinical")]
    imaging = plan.deep is not None or any(groups[name] in ("imaging", "deep") for name in candidates)
    whole = len(candidates) + (plan.deep is not None)
    chosen = beside if imaging and len(beside) < whole else scores
    if not chosen or len(chosen) == whole:
        warnings.append("no clinical baseline could be told from the columns; name one in the plan (baseline)")
        return ()
    return tuple(chosen)


def _column(table: Table, name: str, role: str, group: str, reason: str, leak: Leak | None, used: bool) -> Column:
    missing = float(np.mean([word is None for word in table.text[name]]))
    if leak is not None:
        reason = f"{leak.kind}: {leak.evidence}"
    return Column(name, role, group, table.kinds[name], unit_of(name), missing, used, reason)


def unit_of(name: str) -> str:
    """The unit in a name: "bilirubin (mg/dL)", "age [years]", else ""."""
    for start, end in (("(", ")"), ("[", "]")):
        if name.rstrip().endswith(end) and start in name:
            return name[name.rindex(start) + 1: name.rindex(end)].strip()
    return ""
