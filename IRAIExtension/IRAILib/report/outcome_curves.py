"""From held-out predictions to the curves that the training report draws; nothing is fitted to a model here.

ROC curves are drawn within each fold and averaged (weighted by pairs, so that the area is the AUC of the table); bands
resample patients with all their repeats, as every interval of the report does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from ..biopsy.outcome import HeldOut, facts
from ..biopsy.outcome.evaluate import aalen_johansen, kaplan_meier, roc_curve
from ..biopsy.outcome.evaluate.bootstrap import Draws
from ..biopsy.outcome.record import Run
from ..geometry import InputError
from .outcome_figures import COLOURS, FOURTH, MODEL, RISK_COLOURS, Curve

GRID = np.linspace(0.0, 1.0, 101)
BAND_DRAWS = 300
MIN_SHOWN = 5
MIN_GROUP = 10
"""A risk group or a subgroup with fewer patients is not drawn."""


@dataclass(frozen=True)
class RiskGroup:
    """Patients of like held-out risk. time (n,), label (n,) int (0: no event)."""

    name: str
    time: np.ndarray
    label: np.ndarray
    curve: Curve


def roc_curves(run: Run, seed: int = 0, n: int = BAND_DRAWS) -> list[Curve]:
    """Mean ROC over the folds of model and baseline with a band; several classes: each against the rest (model "
    "only)."""
    model = run.held_out["model"]
    if model.kind == "binary":
        return [_roc(run.held_out[name], 1, name, COLOURS[name], seed, n) for name in ("model", "baseline")
                if name in run.held_out and run.held_out[name].probability is not None]
    colours = (MODEL, "#d97706", "#2a9d5c", FOURTH, "#c0392b", "#0f766e", "#92400e", "#475569", "#be185d", "#4d7c0f")
    return [_roc(model, code, f"{name} against the rest", colours[code % len(colours)], seed, n)
            for code, name in enumerate(model.classes) if (model.truth == code).any()]


def _roc(held: HeldOut, code: int, name: str, colour: str, seed: int, n: int) -> Curve:
    probability = held.probability
    if probability is None:
        raise InputError(f"{name}: no probabilities are kept")
    case, score = held.truth == code, probability[:, code]
    _, block = np.unique(np.stack([held.repeat, held.fold]), axis=1, return_inverse=True)
    block = block.ravel()

    def mean(rows: np.ndarray) -> np.ndarray:
        total, weight = np.zeros(len(GRID)), 0.0
        for one in range(int(block.max()) + 1):
            part = rows[block[rows] == one]
            pairs = float(case[part].sum() * (~case[part]).sum())
            if pairs:
                false, true, _ = roc_curve(case[part], score[part])
                total += pairs * np.interp(GRID, false, true)
                weight += pairs
        return total / weight if weight else np.full(len(GRID), np.nan)

    draws = Draws(len(case), held.patient, seed=seed)
    every = mean(np.arange(len(case)))
    every[0] = 0.0
    found = np.array([mean(draws.draw()) for _ in range(n)])
    low, high = np.nanquantile(found, [0.025, 0.975], axis=0)
    return Curve(name, GRID, every, low, high, colour)


def held_out_rank(held: HeldOut) -> np.ndarray:
    """(n,) 0..1 rank of each row's risk within its fold, ties in the middle, mean over repeats; as held.averaged()."""
    rank = np.zeros(len(held))
    risk = np.asarray(held.risk, float)
    for repeat, fold in set(zip(held.repeat.tolist(), held.fold.tolist(), strict=True)):
        rows = np.flatnonzero((held.repeat == repeat) & (held.fold == fold))
        rank[rows] = (rankdata(risk[rows]) - 0.5) / len(rows)
    _, back = np.unique(held.row, return_inverse=True)
    return np.bincount(back, rank) / np.bincount(back)


def risk_groups(run: Run, n_groups: int = 3) -> list[RiskGroup]:
    """Thirds of the held-out risk, ranked within the folds, with their Kaplan-Meier or cumulative-incidence curve.

    Fewer groups where there are not 10 patients in each; none without times, or where all risks are alike. The cut-offs
    are quantiles of the held-out ranks: they show separation, they are no cut-offs to use.
    """
    held = run.held_out["model"]
    if held.time is None or held.risk is None:
        return []
    once = held.averaged()
    risk, times = held_out_rank(held), np.asarray(once.time, float)
    n_groups = min(n_groups, len(once) // MIN_GROUP)
    if n_groups < 2 or np.ptp(risk) < 1e-9:
        return []
    edges = np.unique(np.quantile(risk, np.linspace(0, 1, n_groups + 1)[1:-1]))
    place = np.searchsorted(edges, risk, side="left")
    names = {1: ["low risk", "high risk"], 2: ["low risk", "middle", "high risk"]}.get(len(edges), [])
    colours = [RISK_COLOURS[0], RISK_COLOURS[-1]] if len(edges) == 1 else RISK_COLOURS
    groups = []
    for code, name in enumerate(names):
        rows = place == code
        if rows.any():
            time, label = times[rows], once.truth[rows]
            groups.append(RiskGroup(name, time, label, step_curve(f"{name} (n = {int(rows.sum())})", time, label,
                                                                  run, colours[code])))
    return groups


def step_curve(name: str, time: np.ndarray, label: np.ndarray, run: Run, colour: str) -> Curve:
    """Kaplan-Meier with Greenwood's log-log band, or Aalen-Johansen of the event of interest, to the last time."""
    competing = facts.kind(run) == "competing"
    steps = aalen_johansen(time, label, 1) if competing else kaplan_meier(time, label > 0)
    x = np.r_[0.0, steps.times, steps.last]
    y = steps.at(x)
    inside = np.clip(y, 1e-9, 1 - 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = 1.96 * np.sqrt(steps.variance_at(x)) / np.abs(inside * np.log(inside))
        low, high = inside ** np.exp(width), inside ** np.exp(-width)
    flat = (y <= 0) | (y >= 1)
    return Curve(name, x, y, np.where(flat, y, low), np.where(flat, y, high), colour, steps=True)


def numbers_at_risk(groups: Sequence[RiskGroup], n_times: int = 7) -> tuple[list[float], list[tuple[str, list[int]]]]:
    """Round times, and for each group how many are followed to each of them."""
    last = shown_until(groups)
    step = _round_step(last / n_times)
    times = [float(value) for value in np.arange(0.0, last * 1.0001, step)]
    return times, [(group.name, [int((group.time >= time).sum()) for time in times]) for group in groups]


def shown_until(groups: Sequence[RiskGroup]) -> float:
    """The last time at which 5 patients are followed in all; beyond it a curve is one patient's."""
    times = np.sort(np.concatenate([group.time for group in groups]))
    return float(times[max(0, len(times) - MIN_SHOWN)])


def _round_step(rough: float) -> float:
    scale = 10.0 ** np.floor(np.log10(max(rough, 1e-9)))
    return float(next(scale * factor for factor in (1, 2, 2.5, 5, 10) if scale * factor >= 0.75 * rough))


def over_horizons(run: Run, metric: str, names: Sequence[str] = ("model", "baseline", "null")) -> list[Curve]:
    """`metric@H` of each model at every horizon H, with its interval; models without a value are left out."""
    made = []
    for name in names:
        found = []
        for key in run.scores.get(name, {}):
            head, at, horizon = key.partition("@")
            figure = facts.score(run, name, key)
            if at and head == metric and figure is not None and figure.estimate is not None:
                found.append((float(horizon), figure))
        found.sort(key=lambda pair: pair[0])
        if found:
            made.append(Curve(name, np.array([h for h, _ in found]), np.array([f.estimate for _, f in found]),
                              np.array([np.nan if f.low is None else f.low for _, f in found]),
                              np.array([np.nan if f.high is None else f.high for _, f in found]), COLOURS[name]))
    return made
