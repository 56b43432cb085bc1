"""How firm the coefficients of a final model are: the same fit on resampled patients, its settings held fixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..biopsy.outcome.evaluate.bootstrap import Draws
from ..biopsy.outcome.fitted import coefficients_of
from ..biopsy.outcome.pipeline import Recipe, fit
from ..biopsy.outcome.record import Run
from ..biopsy.outcome.study import prepare
from ..biopsy.outcome.table import Table
from ..geometry import CancelledError, RefusedError

RESAMPLES = 100
WORDS = ("Bars: 2.5 to 97.5 % of {n} fits on resampled patients, pre-processing and selection repeated, the penalty "
         "held "
         "fixed. Penalised coefficients are pulled towards zero on purpose: this is a range of stability, not a "
         "confidence interval, and it leaves out the choice of the penalty.")

NOT_REFITTED = ("The networks behind the deep columns were not trained again on resampled patients, so these "
                "coefficients carry no range.")


@dataclass(frozen=True)
class Coefficient:
    """value: final model, per SD of the column; low, high: of the resamples; share of them where it isn't 0; of: the
    class or cause when there are several."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    share: float | None = None
    of: str = ""


@dataclass(frozen=True)
class Spread:
    """rows: the heaviest first; words: how the range was made."""

    rows: tuple[Coefficient, ...]
    words: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"rows": [row.__dict__ for row in self.rows], "words": self.words}


class _Fixed:
    """A family whose grid is one setting, so that nothing is tuned again."""

    def __init__(self, family: Any, settings: dict[str, Any]) -> None:
        self.family, self.settings = family, settings

    def grid(self, *_: Any) -> list[dict[str, Any]]:
        return [self.settings]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.family, name)


@dataclass(frozen=True)
class FixedRecipe(Recipe):
    """A recipe with its settings chosen already."""

    settings: dict[str, Any] = field(default_factory=dict)

    def make_family(self, kind: str) -> Any:
        return _Fixed(super().make_family(kind), self.settings)


def coefficient_spread(run: Run, data: Table, *, n: int = RESAMPLES,
                       cancelled: Callable[[], bool] | None = None) -> Spread | None:
    """Coefficients of the final model and their range over resampled patients; None for trees.

    data: the table that the run read. Raises CancelledError.
    """
    if run.final is None or run.plan.models[0] != "linear":
        return None
    own = _flat(coefficients_of(run.final.pipeline), run)
    if not own:
        return Spread(())
    if run.plan.deep is not None:
        return Spread(tuple(_row(key, value, []) for key, value in own.items()), NOT_REFITTED)
    study = prepare(data, run.plan)
    settings = {key: value for key, value in run.final.pipeline.settings.items() if key != "inner_loss"}
    recipe = FixedRecipe(run.plan, study.candidates, run.plan.models[0], settings=settings)
    draw = Draws(len(study.outcome), study.groups, seed=run.plan.seed)
    found: list[dict[tuple[str, str], float]] = []
    for _ in range(n):
        if cancelled is not None and cancelled():
            raise CancelledError("the report was cancelled")
        rows = draw.draw()
        outcome = study.outcome.take(rows)
        if len(set(outcome.label.tolist())) < len(set(study.outcome.label.tolist())):
            continue
        try:
            made = fit(recipe, study.rows.take(rows), outcome, study.groups[rows].tolist(), seed=run.plan.seed)
        except RefusedError:
            continue
        found.append(_flat(coefficients_of(made), run))
    return Spread(tuple(_row(key, value, found) for key, value in own.items()), WORDS.format(n=len(found)))


def _flat(rows: list[dict[str, Any]], run: Run) -> dict[tuple[str, str], float]:
    """(column, class or cause) to coefficient; the second is empty for a single one."""
    out: dict[tuple[str, str], float] = {}
    classes = run.held_out["model"].classes
    for row in rows:
        values = row["coefficient"]
        if isinstance(values, list):
            names = classes if len(classes) == len(values) else classes[1:]
            out |= {(row["name"], str(name)): float(value) for name, value in zip(names, values, strict=False)}
        else:
            out[(row["name"], "")] = float(values)
    return out


def _row(key: tuple[str, str], value: float, found: list[dict[tuple[str, str], float]]) -> Coefficient:
    if len(found) < 20:
        return Coefficient(key[0], value, of=key[1])
    seen = np.array([one.get(key, 0.0) for one in found])
    low, high = np.quantile(seen, [0.025, 0.975])
    return Coefficient(key[0], value, float(low), float(high), float((seen != 0).mean()), key[1])
