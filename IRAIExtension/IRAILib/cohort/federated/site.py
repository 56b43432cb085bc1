"""What a site does: read its rows, keep its policy, answer requests with sums. Nothing else leaves.

An answer is one vector; the coordinator sees only the sum of the sites' vectors (masking.py).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...geometry import InputError, RefusedError
from .models import baseline_statistics, cox_statistics, logistic_statistics
from .network import n_weights, train_locally
from .plan import FederatedPlan, SitePolicy

NARROWEST = 0.1
"""A scale below this share of the site's own standard deviation would let a request look at single patients."""

MISSING = {"", "na", "nan", "n/a", "null", "none", ".", "?"}


@dataclass(frozen=True)
class SiteRows:
    """The rows of a site, inside the site. x (n, p) raw design, NaN where missing; y (n,) 0/1 and NaN; time (n,) and
    event (n,) 0/1 and NaN. A plan without a target or without follow-up has NaN throughout."""

    x: np.ndarray
    y: np.ndarray
    time: np.ndarray
    event: np.ndarray

    @property
    def has_target(self) -> np.ndarray:
        """(n,) bool: rows of the logistic model and the network."""
        return np.isfinite(self.y)

    @property
    def has_follow_up(self) -> np.ndarray:
        """(n,) bool: rows of the Cox model."""
        return np.isfinite(self.time) & np.isfinite(self.event)

    def take(self, index: np.ndarray) -> SiteRows:
        """Some of the rows."""
        return SiteRows(self.x[index], self.y[index], self.time[index], self.event[index])


def read_rows(path: str | Path, plan: FederatedPlan, patient: str = "") -> SiteRows:
    """Rows of a table (comma, semicolon or tab; decimal point). One row for each patient.

    Numbers that are missing stay NaN (they become the federated mean); rows without any outcome are left out.
    Raises InputError naming the row and column; the text is for the site's own screen and never leaves it.
    """
    table = _table(Path(path))
    needed = [column.name for column in plan.columns] + [name for name in (plan.target, plan.time, plan.event, patient)
                                                         if name]
    absent = [name for name in needed if name not in table[0]]
    if absent:
        raise InputError(f"{path}: no column {', '.join(absent)}; it has {', '.join(filter(None, table[0]))}")
    if patient:
        seen = [row[patient] for row in table]
        twice = next((key for key in seen if seen.count(key) > 1), None)
        if twice is not None:
            raise InputError(f"{path}: patient {twice!r} has several rows; give one row for each patient")
    x = np.array([_design(row, plan, f"{path}, row {i + 2}") for i, row in enumerate(table)])
    nothing = np.full(len(table), np.nan)
    y = np.array([_is(row[plan.target], plan.target_value) for row in table]) if plan.target else nothing
    event = np.array([_is(row[plan.event], plan.event_value) for row in table]) if plan.event else nothing
    time = (np.array([_number(row[plan.time], f"{path}, row {i + 2}, {plan.time}") for i, row in enumerate(table)])
            if plan.time else nothing)
    if np.any(time <= 0):
        raise InputError(f"{path}: {plan.time} must be above 0 in every row ({plan.time_unit})")
    rows = SiteRows(x, y, time, event)
    return rows.take(np.flatnonzero(rows.has_target | rows.has_follow_up))


def refusal(plan: FederatedPlan, policy: SitePolicy) -> str:
    """Why this site stays out before it opens its table, as a code that may leave the site; empty when it doesn't."""
    used = {column.name for column in plan.columns} | ({plan.target, plan.time, plan.event} - {""})
    if used - set(policy.columns):
        return "columns"
    if policy.plan_digest and policy.plan_digest != plan.digest:
        return "plan"
    if not plan.secure and not policy.allow_unmasked:
        return "unmasked"
    if plan.n_sites < policy.min_sites:
        return "sites"
    return ""


def too_small(rows: SiteRows, plan: FederatedPlan, policy: SitePolicy) -> str:
    """Why this site's rows keep it out, as a code that may leave the site and says no count; empty when they don't."""
    for wanted, chosen, outcome in (({"logistic", "network"}, rows.has_target, rows.y),
                                    ({"cox"}, rows.has_follow_up, rows.event)):
        if wanted & set(plan.models):
            events = int(np.sum(outcome[chosen] == 1))
            without = int(chosen.sum()) - events
            if chosen.sum() < policy.min_rows:
                return "rows"
            if min(events, without) < policy.min_events:
                return "events"
    return ""


REFUSALS = {
    "columns": "the plan uses a column that the site doesn't give",
    "plan": "the site has agreed to another plan",
    "unmasked": "the site takes part in masked sums only",
    "sites": "there are fewer sites than the site insists on",
    "rows": "the site has fewer rows than its own limit",
    "events": "the site has fewer events (or fewer patients without) than its own limit",
    "peers": "the list of sites is not what the site agreed to, or a site in it lacks the group's secret",
    "request": "the request is not one that the site answers",
    "table": "the site's table or policy can't be read; its own log says why",
}


def site_answer(request: Mapping[str, Any], rows: SiteRows, plan: FederatedPlan, policy: SitePolicy) -> np.ndarray:
    """The site's addend to a sum. Raises RefusedError for a request outside the policy, InputError for a broken one.

    Requests: {"kind": "moments"} -> n, then count, sum and sum of squares of each design column, then rows and
    events with a target, rows and events with follow-up; {"kind": "fit", "mean", "scale", and any of "logistic",
    "cox", "network"} -> the statistics of each, in this order; {"kind": "baseline", "mean", "scale", "cox"} ->
    events and risk-weighted time by interval.
    """
    kind = request.get("kind")
    if kind == "moments":
        return _moments(rows)
    if kind not in ("fit", "baseline"):
        raise RefusedError(f"federated: {REFUSALS['request']}")
    mean, scale = (_vector(request, key, rows.x.shape[1], None) for key in ("mean", "scale"))
    if np.any(scale <= 0) or np.any(scale < NARROWEST * _own_spread(rows.x)):
        raise RefusedError(f"federated: {REFUSALS['request']}")
    x = np.where(np.isfinite(rows.x), (rows.x - mean) / scale, 0.0)
    p, limit = x.shape[1], policy.max_coefficient
    target, follow = rows.has_target, rows.has_follow_up
    if kind == "baseline":
        beta = _vector(request, "cox", p, limit)
        return baseline_statistics(x[follow], rows.time[follow], rows.event[follow], beta, np.array(plan.horizons))
    parts = []
    if "logistic" in request:
        parts.append(logistic_statistics(x[target], rows.y[target], _vector(request, "logistic", p + 1, limit)))
    if "cox" in request:
        parts.append(cox_statistics(x[follow], rows.time[follow], rows.event[follow],
                                    _vector(request, "cox", p, limit)))
    if "network" in request:
        start = _vector(request, "network", n_weights(p, plan.hidden), limit)
        n = int(target.sum())
        trained = train_locally(start, x[target], rows.y[target], hidden=plan.hidden, epochs=plan.local_epochs,
                                learning_rate=plan.learning_rate, decay=plan.ridge / 1000, proximal=plan.proximal)
        parts.append(np.concatenate([[n], n * trained]))
    if not parts:
        raise RefusedError(f"federated: {REFUSALS['request']}")
    return np.concatenate(parts)


def _moments(rows: SiteRows) -> np.ndarray:
    present = np.isfinite(rows.x)
    x = np.where(present, rows.x, 0.0)
    target, follow = rows.has_target, rows.has_follow_up
    counts = [target.sum(), np.sum(rows.y[target]), follow.sum(), np.sum(rows.event[follow])]
    return np.concatenate([[len(x)], present.sum(axis=0), x.sum(axis=0), (x ** 2).sum(axis=0),
                           counts]).astype(np.float64)


def _own_spread(x: np.ndarray) -> np.ndarray:
    present = np.isfinite(x)
    n = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, x, 0.0).sum(axis=0) / n
    return np.sqrt((np.where(present, x - mean, 0.0) ** 2).sum(axis=0) / n)


def _vector(request: Mapping[str, Any], key: str, size: int, limit: float | None) -> np.ndarray:
    values = np.asarray(request.get(key, ()), dtype=np.float64)
    if values.shape != (size,) or not np.isfinite(values).all() or (limit and np.abs(values).max(initial=0) > limit):
        raise RefusedError(f"federated: {REFUSALS['request']}")
    return values


def _table(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read ({error}); give a UTF-8 table") from error
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    rows = [{(key or "").strip(): (value or "").strip() for key, value in row.items() if not isinstance(value, list)}
            for row in csv.DictReader(text.splitlines(), delimiter=delimiter)]
    if not rows:
        raise InputError(f"{path}: holds no rows")
    return rows


def _design(row: Mapping[str, str], plan: FederatedPlan, where: str) -> list[float]:
    values = []
    for column in plan.columns:
        text = row[column.name]
        if not column.levels:
            values.append(_number(text, f"{where}, {column.name}"))
        elif text in column.levels:
            values += [float(text == level) for level in column.levels[1:]]
        elif text.lower() in MISSING:
            values += [math.nan] * (len(column.levels) - 1)
        else:
            raise InputError(f"{where}, {column.name}: {text!r} is none of the plan's levels "
                             f"{', '.join(column.levels)}")
    return values


def _number(text: str, where: str) -> float:
    if text.lower() in MISSING:
        return math.nan
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{where}: {text!r} is not a number") from error
    if not math.isfinite(value):
        raise InputError(f"{where}: {text!r} is not a finite number")
    return value


def _is(text: str, wanted: str) -> float:
    if text.lower() in MISSING:
        return math.nan
    try:
        return float(text == wanted or float(text) == float(wanted))
    except ValueError:
        return 0.0
