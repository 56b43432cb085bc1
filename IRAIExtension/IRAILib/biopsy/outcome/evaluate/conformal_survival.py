"""A time before which the event comes in at most a share alpha of patients, and an interval, from censored follow-up.

Method: IPCW-weighted conformal calibration of T cut at a horizon h, with the predicted survival curve as score. A
patient counts when min(T, h) is known, with weight 1 / G(min(T, h)-), G the Kaplan-Meier curve of censoring; the new
patient, whose time isn't known, gets the largest possible weight 1 / G(h-), which errs to the safe side. The bound is
where the patient's own predicted risk reaches the calibrated level; 'not reached' (event-free past h) is a valid end.

Sources: Tibshirani, Barber, Candes and Ramdas 2019 (weights in conformal prediction); Candes, Lei and Ren 2023 (lower
bounds with a cut-off, there for known censoring times); the censoring weights of Robins and Rotnitzky 1992.
Assumes: new patients like the calibration patients; censoring independent of the time and of the covariates. Finite-
sample validity is for known G; here G is estimated, so coverage holds up to that error. Fails when sicker patients are
censored sooner (or later), when follow-up is so short that few times are known, and under drift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ....geometry import InputError
from .bootstrap import bootstrap
from .checks import NotEstimableError, follow_up, numbers, plain, probabilities
from .conformal import ALPHAS, ORIGINS, _alphas, patient_weights
from .curves import censoring_curve

LEAST_UNCENSORED = 0.5
"""The default horizon is the longest time at which at least this share is still uncensored: caps weights at 2, so that
the new patient's own weight leaves room for a bound in small cohorts."""
ASSUMPTION = "censoring doesn't depend on the covariates or the time; new patients are like the calibration patients"


@dataclass(frozen=True)
class TimeInterval:
    """One patient: event not before `low` (share alpha/2 may be), not after `high` (None: not reached by the horizon)
    and `lower_bound`, the one-sided bound at alpha. Unit of the training times."""

    lower_bound: float
    low: float
    high: float | None
    level: float
    horizon: float
    meaning: str

    def to_dict(self) -> dict[str, Any]:
        return plain(self.__dict__)


@dataclass(frozen=True)
class ConformalSurvival:
    """Levels of predicted risk that bounds are read at; no patient's score is kept.

    early: share missed (as text) to the risk at which the lower bound lies (0: no bound can be given); late: to the
    survival at which the upper end lies. n: patients; known: those whose min(T, horizon) is known.
    """

    alphas: tuple[float, ...]
    horizon: float
    early: dict[str, float]
    late: dict[str, float]
    n: int
    known: int
    largest_weight: float
    origin: str
    assumption: str = ASSUMPTION
    coverage: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_scores(cls, time: Any, event: Any, survival: Any, times: Any, *, horizon: float | None = None,
                    alphas: Sequence[float] = ALPHAS, origin: str = "split", patients: Any = None,
                    folds: Any = None) -> ConformalSurvival:
        """Levels from patients that the model was not fitted on.

        Args: time (n,), event (n,) 0/1; survival (n, T) predicted on times (T,), ascending, read linearly between
            them and from 1 at time 0; horizon: see above, None: longest with LEAST_UNCENSORED still uncensored, and
            not past the last of times; patients (n,): rows of a patient share its weight; folds (n,): then the share
            of times within the lower bound and within the interval is measured (IPCW, bootstrap over patients), each
            fold with levels of the others' patients, and kept in `.coverage`.
        Raises: InputError; NotEstimableError: no patient, or nobody followed to the horizon.
        """
        time, event = follow_up(time, event)
        times, survival = _curves(survival, times, len(time))
        if origin not in ORIGINS:
            raise InputError(f"origin '{origin}' is unknown; split or cross")
        curve = censoring_curve(time, event)
        if horizon is None:
            fair = np.unique(time)[curve.before(np.unique(time)) >= LEAST_UNCENSORED]
            horizon = float(min(fair[-1], times[-1]))
        if not 0 < horizon <= times[-1]:
            raise InputError(f"horizon {horizon:g}: above 0 and within the predicted times, up to {times[-1]:g}")
        curve.within(horizon)
        if float(curve.before(horizon)) <= 0:
            raise NotEstimableError(f"nobody is followed to {horizon:g}")
        known = event | (time >= horizon)
        cut = np.minimum(time, horizon)
        at_end = np.array([np.interp(t, np.r_[0.0, times], np.r_[1.0, row])
                           for t, row in zip(cut, survival, strict=True)])
        share, n = patient_weights(patients, len(time))
        weight = np.where(known, share / np.maximum(curve.before(cut), 1e-12), 0.0)
        most = 1 / float(curve.before(horizon))
        # free of the event at the horizon: no lower bound (they stop at the horizon) can miss it
        early = np.where(time >= horizon, 1.0, 1 - at_end)
        wanted = {f"{share_missed:g}": share_missed for alpha in _alphas(alphas) for share_missed in (alpha, alpha / 2)}
        made = cls(_alphas(alphas), horizon,
                   {text: level(early, weight, most, missed) for text, missed in wanted.items()},
                   {text: level(at_end, weight, most, missed) for text, missed in wanted.items()},
                   n, int(known.sum()), most, origin)
        if folds is None:
            return made
        measured = _measured(made, time, event, survival, times, weight, patients, np.asarray(folds))
        return replace(made, coverage=measured)

    def predict(self, survival: Any, times: Any, alpha: float = 0.1) -> list[TimeInterval]:
        """One interval a row of survival (n, T) on times (T,); needs times up to the horizon. Raises: InputError."""
        times, survival = _curves(survival, times, None)
        if f"{alpha:g}" not in self.early or f"{alpha / 2:g}" not in self.late:
            raise InputError(f"alpha {alpha:g} was not prepared; there are {', '.join(map(str, self.alphas))}")
        if times[-1] < self.horizon:
            raise InputError(f"times end at {times[-1]:g}, before the horizon {self.horizon:g}")
        grid, out = np.r_[0.0, times], []
        for row in survival:
            risk = 1 - np.minimum.accumulate(np.r_[1.0, row])
            bound = self._first(grid, risk, self.early[f"{alpha:g}"])
            low = self._first(grid, risk, self.early[f"{alpha / 2:g}"])
            high = _crossing(grid, risk, 1 - self.late[f"{alpha / 2:g}"], past=True)
            high = None if high is None or high >= self.horizon else high
            out.append(TimeInterval(bound, low, high, 1 - alpha, self.horizon, self._said(bound, high, alpha)))
        return out

    def _first(self, grid: np.ndarray, risk: np.ndarray, at: float) -> float:
        reached = _crossing(grid, risk, at, past=False)
        return self.horizon if reached is None else min(reached, self.horizon)

    def _said(self, bound: float, high: float | None, alpha: float) -> str:
        first = (f"no lower bound can be given at {100 * (1 - alpha):g} %" if bound <= 0 else
                 f"no event before {bound:.4g}, a bound that holds for {100 * (1 - alpha):g} % of all patients")
        return first + (f"; the latest time is not reached by {self.horizon:.4g}" if high is None else "")

    def to_dict(self) -> dict[str, Any]:
        return plain({**self.__dict__, "kind": "IPCW-weighted conformal survival bounds"})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ConformalSurvival:
        given = {name: value for name, value in document.items() if name != "kind"}
        return cls(**{**given, "alphas": tuple(given["alphas"])})


def _measured(made: ConformalSurvival, time: np.ndarray, event: np.ndarray, survival: np.ndarray, times: np.ndarray,
              weight: np.ndarray, patients: Any, folds: np.ndarray) -> dict[str, dict[str, Any]]:
    """alpha (as text) to {"lower_bound": Interval, "interval": Interval, "no_bound": share of patients without one}."""
    if len(folds) != len(time):
        raise InputError(f"folds: {len(folds)} labels for {len(time)} rows")
    names = np.arange(len(time)) if patients is None else np.asarray(patients).astype(str)
    kept: dict[float, np.ndarray] = {alpha: np.zeros((len(time), 3)) for alpha in made.alphas}
    for fold in np.unique(folds):
        here = folds == fold
        rest = ~np.isin(names, names[here])
        if not rest.any():
            raise InputError("folds: a fold holds every patient")
        try:
            other = ConformalSurvival.from_scores(time[rest], event[rest], survival[rest], times, horizon=made.horizon,
                                                  alphas=made.alphas, patients=names[rest])
        except NotEstimableError:
            return {}
        cut = np.minimum(time[here], made.horizon)
        for alpha, out in kept.items():
            found = other.predict(survival[here], times, alpha)
            bound, low = (np.array([getattr(one, name) for one in found]) for name in ("lower_bound", "low"))
            high = np.array([np.inf if one.high is None else one.high for one in found])
            out[here] = np.column_stack([cut >= bound, (cut >= low) & (cut <= high), bound <= 0])

    def share(hit: np.ndarray, w: np.ndarray) -> float:
        if w.sum() <= 0:
            raise NotEstimableError("nobody's time is known")
        return float(hit @ w / w.sum())

    return {f"{alpha:g}": {"lower_bound": bootstrap(share, out[:, 0], weight, groups=names, n=500).to_dict(),
                           "interval": bootstrap(share, out[:, 1], weight, groups=names, n=500).to_dict(),
                           "no_bound": float(out[:, 2].mean())} for alpha, out in kept.items()}


def level(scores: np.ndarray, weights: np.ndarray, most: float, alpha: float) -> float:
    """Largest score v such that (weight strictly below v + most) <= alpha (all weight + most); 0 when there is none.

    With weights of 1: the floor(alpha (n + 1))-th smallest score. A new patient scores below it in a share of at most
    alpha.
    """
    room = alpha * (weights.sum() + most) - most
    if room < -1e-12:
        return 0.0
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(weights[order]) - weights[order]
    fits = np.flatnonzero((below <= room + 1e-12) & (weights[order] > 0))
    if not len(fits):
        return 0.0
    return float(scores[order][fits[-1]])


def _curves(survival: Any, times: Any, n: int | None) -> tuple[np.ndarray, np.ndarray]:
    times = numbers(np.atleast_1d(times), "times")
    if not len(times) or (np.diff(times) <= 0).any() or times[0] < 0:
        raise InputError("times: ascending times from 0 on are needed")
    survival = probabilities(np.atleast_2d(np.asarray(survival, dtype=float)), "survival", n=n, ndim=2)
    if survival.shape[1] != len(times):
        raise InputError(f"survival: {survival.shape[1]} columns for {len(times)} times")
    if len(survival) and (np.diff(survival, axis=1) > 1e-6).any():
        raise InputError("survival: a curve rises with time")
    if times[0] == 0:
        times, survival = times[1:], survival[:, 1:]
    return times, survival


def _crossing(grid: np.ndarray, risk: np.ndarray, at: float, *, past: bool) -> float | None:
    """First time at which the risk reaches `at` (past: last time at which it isn't above), linear; None if never."""
    if at <= 0 and not past:
        return 0.0
    side = "right" if past else "left"
    place = int(np.searchsorted(risk, at + (1e-12 if past else -1e-12), side=side))
    if place >= len(risk):
        return None
    if place == 0:
        return 0.0
    rise = risk[place] - risk[place - 1]
    return float(grid[place - 1] + (grid[place] - grid[place - 1]) * np.clip((at - risk[place - 1]) / rise, 0, 1))
