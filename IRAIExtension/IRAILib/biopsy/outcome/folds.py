"""Who is held out when: by patient, in balance of classes or events, or a whole site at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...geometry import InputError, RefusedError
from .outcome import Outcome

MIN_SITES = 3
MIN_SITE_EVENTS = 5
TIME_STRATA = 3


@dataclass(frozen=True)
class Fold:
    """Row indices of one split; no patient is on both sides. name: "repeat 1 fold 2" or "site X"."""

    repeat: int
    number: int
    train: np.ndarray
    test: np.ndarray
    name: str


def patient_folds(outcome: Outcome, patients: Sequence[str] | np.ndarray, n_folds: int, *, repeat: int = 0,
                  seed: int = 0) -> list[Fold]:
    """n_folds splits of n rows; rows of a patient stay together; classes (events by thirds of time) are balanced.

    The patient's stratum is that of its rarest label. Patients are dealt in random order, stratum by stratum, each to
    the fold that has the fewest rows of that stratum so far. Raises InputError: other lengths, n_folds below 2;
    RefusedError: fewer patients than folds.
    """
    names = np.asarray(patients).astype(str)
    if names.shape != (len(outcome),) or n_folds < 2:
        raise InputError(f"folds: {len(names)} patients for {len(outcome)} rows in {n_folds} folds; at least 2 folds")
    unique, member = np.unique(names, return_inverse=True)
    if len(unique) < n_folds:
        raise RefusedError(f"folds: {len(unique)} patients can't be split into {n_folds} folds; ask for fewer folds")
    strata = _strata(outcome)
    kinds, size = np.unique(strata, return_counts=True)
    counts = np.zeros((len(unique), len(kinds)), int)
    np.add.at(counts, (member, np.searchsorted(kinds, strata)), 1)
    rarest = np.array([min(np.flatnonzero(row), key=lambda k: size[k]) for row in counts])
    random = np.random.default_rng([seed, repeat, n_folds])
    load = np.zeros((n_folds, len(kinds)))
    fold_of = np.zeros(len(unique), int)
    for kind in np.argsort(size, kind="stable"):
        order = random.permutation(np.flatnonzero(rarest == kind))
        for patient in sorted(order, key=lambda p: -counts[p].sum()):
            key = np.lexsort((random.random(n_folds), load.sum(axis=1), load[:, kind]))
            fold_of[patient] = key[0]
            load[key[0]] += counts[patient]
    rows = fold_of[member]
    return [Fold(repeat, k, np.flatnonzero(rows != k), np.flatnonzero(rows == k), f"repeat {repeat + 1} fold {k + 1}")
            for k in range(n_folds)]


def _strata(outcome: Outcome) -> np.ndarray:
    """(n,) int: the class; for survival the event code, events of interest split by thirds of their time."""
    strata = outcome.label.astype(int) * 10
    if outcome.time is not None:
        event = outcome.label == 1
        if event.sum() >= 10 * TIME_STRATA:
            cuts = np.quantile(outcome.time[event], np.linspace(0, 1, TIME_STRATA + 1)[1:-1])
            strata = strata + np.where(event, np.searchsorted(cuts, outcome.time), 0)
    return strata


def site_folds(outcome: Outcome, patients: Sequence[str] | np.ndarray,
               sites: Sequence[str] | np.ndarray) -> list[Fold]:
    """Each site in turn is held out; rows of its patients elsewhere leave the training.

    Sites with fewer than 5 events (or of the smaller class) are held out together as one. Raises RefusedError when
    fewer than 3 groups remain.
    """
    names, place = np.asarray(patients).astype(str), np.asarray(sites).astype(str)
    if names.shape != (len(outcome),) or place.shape != names.shape:
        raise InputError(f"folds: {len(names)} patients and {len(place)} sites for {len(outcome)} rows")
    big, small = [], []
    for site in np.unique(place):
        (big if outcome.take(np.flatnonzero(place == site)).n_events >= MIN_SITE_EVENTS else small).append(str(site))
    groups = [[site] for site in big] + ([small] if small else [])
    enough = [g for g in groups if len(g) == 1 or outcome.take(np.flatnonzero(np.isin(place, g))).n_events]
    if len(enough) < MIN_SITES:
        raise RefusedError(f"folds: {len(big)} sites have at least {MIN_SITE_EVENTS} events; leaving one site out "
                           f"needs {MIN_SITES}; validate by patient instead")
    folds = []
    for k, group in enumerate(groups):
        test = np.isin(place, group)
        train = ~test & ~np.isin(names, names[test])
        folds.append(Fold(0, k, np.flatnonzero(train), np.flatnonzero(test), f"site {', '.join(group)}"))
    return folds
