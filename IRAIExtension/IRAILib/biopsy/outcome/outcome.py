"""The target as numbers: classes, or time and event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...geometry import InputError
from .cells import cell_text
from .record import Plan
from .table import Table

EVENT_WORDS = {"1", "true", "yes", "y", "dead", "died", "death", "deceased", "event", "progressed", "progression",
               "positive", "pos", "malignant", "recurrence", "relapse", "responder", "present"}
CENSORED_WORDS = {"0", "false", "no", "n", "alive", "censored", "negative", "neg", "benign", "absent", "none", "lost"}
MAX_CLASSES = 10


@dataclass(frozen=True)
class Outcome:
    """label (n,) int: index into classes. kind: "binary", "multiclass", "survival" (0 censored, 1 event) or
    "competing" (0 censored, 1 the event of interest, 2.. the others). time (n,) float for the last two, else None."""

    kind: str
    classes: tuple[str, ...]
    label: np.ndarray
    time: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: np.ndarray) -> Outcome:
        return Outcome(self.kind, self.classes, self.label[rows], None if self.time is None else self.time[rows])

    @property
    def counts(self) -> dict[str, int]:
        return {name: int((self.label == n).sum()) for n, name in enumerate(self.classes)}

    @property
    def n_events(self) -> int:
        """Events that inform a model: the smaller class, or the events (of interest)."""
        if self.time is not None:
            return int((self.label == 1).sum())
        return int(min(np.bincount(self.label, minlength=len(self.classes))))


def read_outcome(table: Table, plan: Plan) -> tuple[Outcome, np.ndarray, list[str]]:
    """(outcome of the m usable rows, their indices (m,), warnings). Rows without target or time are left out.

    Raises InputError: missing columns, one class, a target of many values, an event that is not two-valued and not
    explained by `event`/`censored`/kind="competing", a negative time, a time that is no number.
    """
    target = table.require(plan.target, "target column")
    words = table.text[target]
    if table.kinds[target] == "category":
        words = table.values[target]
    elif table.kinds[target] == "number":
        words = np.array([cell_text(value) for value in table.values[target]], object)
    if plan.kind in ("survival", "competing") and plan.time is None:
        raise InputError(f"{table.source}: kind '{plan.kind}' needs the time column")
    known = np.array([word is not None for word in words])
    time = None
    if plan.time is not None and plan.kind not in ("binary", "multiclass"):
        time = _times(table, plan.time)
        known &= np.isfinite(time)
    rows = np.flatnonzero(known)
    lost = len(table) - len(rows)
    said = [f"{lost} rows have no {'time or event' if time is not None else 'target'} and are left out"] if lost else []
    if not len(rows):
        raise InputError(f"{table.source}: no row has a value in '{target}'")
    values = words[rows].astype(str)
    if time is None:
        classes, label = _classes(table, plan, values)
        return Outcome("binary" if len(classes) == 2 else "multiclass", classes, label), rows, said
    kind, classes, label, more = _events(table, plan, values)
    return Outcome(kind, classes, label, time[rows]), rows, said + more


def _times(table: Table, name: str) -> np.ndarray:
    name = table.require(name, "time column")
    if table.kinds[name] != "number":
        raise InputError(f"{table.source}: the time '{name}' is no number ({table.kinds[name]}); give days or months")
    time = table.values[name].astype(float)
    wrong = np.flatnonzero(time < 0)
    if len(wrong):
        raise InputError(f"{table.source}: time '{name}' is negative in data row {wrong[0] + 1} ({time[wrong[0]]:g}); "
                         "correct it")
    return time


def _sorted_levels(values: np.ndarray) -> list[str]:
    def order(word: str) -> tuple[int, float, str]:
        try:
            return 0, float(word), word
        except ValueError:
            return 1, 0.0, word
    return sorted(set(values.tolist()), key=order)


def _level(table: Table, plan: Plan, wanted: str, levels: list[str]) -> str:
    low = {level.lower(): level for level in levels}
    if str(wanted).lower() not in low:
        raise InputError(f"{table.source}: '{wanted}' is no value of '{plan.target}'; it has {', '.join(levels[:8])}")
    return low[str(wanted).lower()]


def _classes(table: Table, plan: Plan, values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    if table.kinds[plan.target] == "date":
        raise InputError(f"{table.source}: the target '{plan.target}' is a date; give a class or an event")
    levels = _sorted_levels(values)
    if len(levels) == 1:
        raise InputError(f"{table.source}: the target '{plan.target}' has one class only ('{levels[0]}')")
    if len(levels) > MAX_CLASSES:
        raise InputError(f"{table.source}: the target '{plan.target}' has {len(levels)} different values; give at most "
                         f"{MAX_CLASSES} classes, or the time column with an event")
    if plan.kind == "binary" and len(levels) > 2:
        if plan.event is None:
            raise InputError(f"{table.source}: '{plan.target}' has {len(levels)} values ({', '.join(levels)}); say by "
                             "event= which one counts")
        event = _level(table, plan, plan.event, levels)
        return (f"not {event}", event), (values == event).astype(int)
    if len(levels) == 2:
        if plan.event is not None:
            event = _level(table, plan, plan.event, levels)
        else:
            event = next((v for v in levels if v.lower() in EVENT_WORDS and v != levels[0]), None) or next(
                (v for v in levels if v.lower() in EVENT_WORDS), levels[1])
        levels = [level for level in levels if level != event] + [event]
    return tuple(levels), np.array([levels.index(value) for value in values])


def _events(table: Table, plan: Plan, values: np.ndarray) -> tuple[str, tuple[str, ...], np.ndarray, list[str]]:
    levels, said = _sorted_levels(values), []
    if len(levels) > MAX_CLASSES:
        raise InputError(f"{table.source}: the event '{plan.target}' has {len(levels)} different values; give 0 and 1")
    censored = None if plan.censored is None else _level(table, plan, plan.censored, levels)
    if censored is None:
        censored = next((level for level in levels if level.lower() in CENSORED_WORDS), None)
    event = None if plan.event is None else _level(table, plan, plan.event, levels)
    others = [level for level in levels if level not in (censored, event)]
    if event is None and len(others) == 1 and (censored is not None or others[0].lower() in EVENT_WORDS):
        event, others = others[0], []
    if event is None and plan.kind == "competing" and censored is not None and others:
        event, others = others[0], others[1:]
        said.append(f"event of interest: '{event}' (the first value of '{plan.target}'; choose another by event=)")
    if event is None:
        raise InputError(f"{table.source}: the event '{plan.target}' has the values {', '.join(levels)}; say by event= "
                         "and censored= (--event-value, --censored-value) what they mean, or kind='competing' "
                         "(--kind competing)")
    if event == censored:
        raise InputError(f"{table.source}: '{event}' can't be both the event and censored")
    if plan.kind == "survival" or not others or (censored is None and len(others) == 1):
        if others and censored is not None:
            said.append(f"'{plan.target}': {', '.join(others)} count as censored; kind='competing' counts them")
        others = []
    elif plan.kind == "auto":
        said.append(f"'{plan.target}': {', '.join(others)} are competing events")
    kind = "competing" if others else "survival"
    label = np.zeros(len(values), int)
    for n, level in enumerate([event, *others], 1):
        label[values == level] = n
    if not (label == 1).any():
        raise InputError(f"{table.source}: no row has the event '{event}' in '{plan.target}'")
    return kind, (f"censored ({censored})" if censored is not None else "censored", event, *others), label, said
