"""How many patients a model of so many candidates needs, and below how many nothing is fitted."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...geometry import RefusedError
from .outcome import Outcome

MIN_EVENTS = 10
MIN_EVENTS_PER_FOLD = 2
SHRINKAGE, OPTIMISM, MARGIN = 0.9, 0.05, 0.05
NAGELKERKE = 0.15
RULE = (f"at least {MIN_EVENTS} events (of the smaller class) and {MIN_EVENTS_PER_FOLD} a fold: below, the interval of "
        "any measure of discrimination spans most of its range (Hanley & McNeil 1982)")


@dataclass(frozen=True)
class SampleSize:
    """Riley's minimum for a prediction model (shrinkage 0.9, optimism 0.05 in R2, overall risk to 0.05).

    n_needed, events_needed: for `parameters` candidates when Nagelkerke's R2 is 0.15; enough: the table has them.
    Source: Riley et al., Stat Med 2019 (parts I and II); BMJ 2020;368:m441.
    """

    parameters: int
    n_patients: int
    n_events: int
    n_needed: int
    events_needed: int
    criteria: tuple[int, ...]
    r2_cox_snell: float

    @property
    def enough(self) -> bool:
        return self.n_patients >= self.n_needed and self.n_events >= self.events_needed

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"criteria": list(self.criteria), "enough": self.enough,
                               "assumed_nagelkerke_r2": NAGELKERKE, "source": "Riley et al., BMJ 2020;368:m441"}


def riley(parameters: int, r2: float, r2_max: float) -> tuple[int, int]:
    """Patients needed for a shrinkage of 0.9, and for an optimism of 0.05 in R2 (criteria 1 and 2)."""
    first = parameters / ((SHRINKAGE - 1) * math.log(1 - r2 / SHRINKAGE))
    shrink = r2 / (r2 + OPTIMISM * r2_max)
    second = parameters / ((shrink - 1) * math.log(1 - r2 / shrink))
    return math.ceil(first), math.ceil(second)


def max_r2_binary(share: float) -> float:
    """Largest Cox-Snell R2 of a binary outcome of this prevalence."""
    return 1 - math.exp(2 * (share * math.log(share) + (1 - share) * math.log(1 - share)))


def max_r2_survival(events_per_patient: float) -> float:
    """Largest Cox-Snell R2 of a time-to-event outcome with so many events a patient (exponential null model)."""
    return 1 - math.exp(2 * (events_per_patient * math.log(events_per_patient) - events_per_patient))


def sample_size(outcome: Outcome, n_patients: int, parameters: int) -> SampleSize:
    """For two classes and time to event; several classes: for the rarest against the rest.

    Where patients have several rows their events are counted as if each patient were one row (share x patients): the
    rows of a patient are no further patients.
    """
    n, events = len(outcome), outcome.n_events
    share = min(max(events / max(n, 1), 1e-6), 1 - 1e-6)
    r2_max = max_r2_binary(share) if outcome.time is None else max_r2_survival(share)
    r2 = NAGELKERKE * r2_max
    precise = math.ceil((1.96 / MARGIN) ** 2 * share * (1 - share))
    criteria = (*riley(max(parameters, 1), r2, r2_max), precise)
    needed = max(criteria)
    if n_patients < n:
        events = round(share * n_patients)
    return SampleSize(parameters, n_patients, events, needed, math.ceil(needed * share), criteria, r2)


def refuse_too_few(outcome: Outcome, patients: np.ndarray, folds: int) -> None:
    """Raises RefusedError below 10 events of the smaller class (of interest) or 2 a fold, counted in patients."""
    counts = np.bincount(outcome.label, minlength=len(outcome.classes))
    marks = np.flatnonzero(outcome.label == (1 if outcome.time is not None else int(np.argmin(counts))))
    events = len(set(patients[marks].tolist()))
    if events < max(MIN_EVENTS, MIN_EVENTS_PER_FOLD * folds):
        what = "events" if outcome.time is not None else "patients of the smaller class"
        raise RefusedError(f"{events} {what} are too few for {folds} folds: {RULE}")
