"""What held-out predictions are worth: ranks compared within a fold only, intervals by resampling patients.

Predictions of different folds come from different fits; a pair is compared only when one fit predicted both. Pooling
them would put the fits' different levels into the ranks, and would make a model that knows nothing look worse than
chance (Airola et al. 2011; Forman & Scholz 2010).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .evaluate import compare
from .evaluate.classification import class_metrics
from .evaluate.competing import competing_metrics
from .evaluate.curves import censoring_curve
from .evaluate.survival import survival_metrics
from .record import HeldOut

PRIMARY = {"binary": "auc", "multiclass": "auc_macro", "survival": "c_harrell", "competing": "c_wolbers"}
SLOW_METRICS_RESAMPLES = 200
CHUNK = 400
Weigh = Callable[[np.ndarray, np.ndarray], np.ndarray]
HOW = "patients resampled, {n} times, 95 % percentile interval; pairs within a fold, mean over repeats"


@dataclass(frozen=True)
class Block:
    """One fold and contrast: patients (m,) of its rows, their scores (m,), and weigh(chunk) -> weights (c, m) of the
    ordered pairs (worse, better) whose first row is in the chunk."""

    contrast: int
    patients: np.ndarray
    score: np.ndarray
    weigh: Callable[[np.ndarray], np.ndarray]


@dataclass
class Pairs:
    """Every pair that counts; made when asked for, so that memory does not grow with the square of the patients."""

    blocks: list[Block]
    n_patients: int
    n_contrasts: int

    def figure(self, weights: np.ndarray) -> np.ndarray:
        """(B,) concordance with patient weights (B, n_patients); NaN where no pair is left. Mean over contrasts."""
        top, below = (np.zeros((self.n_contrasts, len(weights))) for _ in range(2))
        for block in self.blocks:
            whole = weights[:, block.patients]
            for start in range(0, len(block.patients), CHUNK):
                rows = np.arange(start, min(start + CHUNK, len(block.patients)))
                pairs = block.weigh(rows) * (block.patients[rows][:, None] != block.patients[None])
                mine, score = whole[:, rows], block.score[rows][:, None]
                gain = pairs * ((score > block.score[None]) + 0.5 * (score == block.score[None]))
                top[block.contrast] += ((mine @ gain) * whole).sum(axis=1)
                below[block.contrast] += ((mine @ pairs) * whole).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (top / below).mean(axis=0)

    def with_resamples(self, n: int, seed: int) -> tuple[float, np.ndarray]:
        """The figure and its values (n,) with patients drawn with replacement; the same seed draws the same."""
        values = self.figure(np.vstack([np.ones((1, self.n_patients)), draws(self.n_patients, n, seed)]))
        return float(values[0]), values[1:]


def rank_metrics(held: HeldOut) -> dict[str, Pairs]:
    """Every figure of ranks, the deciding one first: AUC (each class against the rest), Harrell's or Wolbers' C, and
    the AUC at each horizon (cumulative cases, dynamic controls, censoring weighted: Uno et al. 2007; for competing
    risks a patient with another event before the horizon is a control, Blanche et al. 2013)."""
    names, patient = np.unique(held.patient, return_inverse=True)
    made: dict[str, Pairs] = {}
    folds = [np.flatnonzero((held.repeat == repeat) & (held.fold == number))
             for repeat, number in sorted(set(zip(held.repeat.tolist(), held.fold.tolist(), strict=True)))]

    def add(metric: str, contrast: int, n_contrasts: int, score: np.ndarray, weigh: Weigh) -> None:
        here = made.setdefault(metric, Pairs([], len(names), n_contrasts))
        here.blocks += [Block(contrast, patient[rows], score[rows], partial(weigh, rows)) for rows in folds]

    metric = PRIMARY[held.kind]
    if held.probability is not None:
        wanted = [1] if held.kind == "binary" else list(range(len(held.classes)))
        for n, kind in enumerate(wanted):
            sides = (held.truth == kind).astype(float), (held.truth != kind).astype(float)
            add(metric, n, len(wanted), held.probability[:, kind], partial(_sides, sides))
            if held.kind == "multiclass":
                add(f"auc_{held.classes[kind]}", 0, 1, held.probability[:, kind], partial(_sides, sides))
        return made
    assert held.risk is not None
    assert held.horizons is not None
    add(metric, 0, 1, held.risk, partial(_earlier, held))
    chance = held.incidence if held.kind == "competing" else None if held.survival is None else 1 - held.survival
    for n, horizon in enumerate(held.horizons):
        if chance is not None:
            add(f"auc@{horizon:g}", 0, 1, chance[:, n], partial(_sides, _at_horizon(held, float(horizon))))
    return made


def _sides(sides: tuple[np.ndarray, np.ndarray], rows: np.ndarray, chunk: np.ndarray) -> np.ndarray:
    """Each case's weight times each control's."""
    return sides[0][rows[chunk]][:, None] * sides[1][rows][None]


def _earlier(held: HeldOut, rows: np.ndarray, chunk: np.ndarray) -> np.ndarray:
    """The event of interest came first; a competing event never counts as early."""
    assert held.time is not None
    time, truth = held.time[rows], held.truth[rows]
    first, event = time[chunk][:, None], (truth[chunk] == 1)[:, None]
    later = (first < time[None]) | ((first == time[None]) & (truth == 0)[None])
    if held.kind == "competing":
        later |= (truth > 1)[None]
    return 1.0 * (event & later)


def _at_horizon(held: HeldOut, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (m,) of cases and of controls; the censoring curve is that of all patients, each once."""
    assert held.time is not None
    once = np.unique(held.row, return_index=True)[1]
    curve = censoring_curve(held.time[once], held.truth[once] > 0)
    inverse = 1 / np.maximum(np.asarray(curve.before(np.minimum(held.time, horizon)), float), 1e-9)
    case = np.where((held.truth == 1) & (held.time <= horizon), inverse, 0.0)
    control = np.where(held.time > horizon, inverse, 0.0)
    return case, np.where((held.truth > 1) & (held.time <= horizon), inverse, control)


def pairs_of(held: HeldOut) -> Pairs:
    """Pairs of the deciding figure."""
    return rank_metrics(held)[PRIMARY[held.kind]]


def primary(held: HeldOut) -> float:
    """The deciding figure: AUC, macro AUC, Harrell's or Wolbers' C. NaN without a comparable pair."""
    pairs = pairs_of(held)
    return float(pairs.figure(np.ones((1, pairs.n_patients)))[0])


def draws(n_patients: int, n: int, seed: int) -> np.ndarray:
    """(n, n_patients) how often each patient is drawn."""
    random = np.random.default_rng([seed, 11])
    return random.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=n).astype(float)


def interval(estimate: float, values: np.ndarray, n: int) -> dict[str, Any]:
    """What a run stores of a figure: {"estimate", "low", "high", "n", "method", "note"}."""
    good = values[np.isfinite(values)]
    if not np.isfinite(estimate):
        return {"estimate": None, "low": None, "high": None, "n": n, "method": "", "note": "no comparable pair"}
    if len(good) < 20:
        return {"estimate": float(estimate), "low": None, "high": None, "n": n, "method": "",
                "note": "too few resamples"}
    low, high = np.quantile(good, (0.025, 0.975))
    return {"estimate": float(estimate), "low": float(low), "high": float(high), "n": n,
            "method": HOW.format(n=len(good)), "note": ""}


def score_all(held: Mapping[str, HeldOut], *, bootstraps: int, seed: int,
              against: tuple[str, ...] = ("baseline", "null"),
              cancelled: Callable[[], bool] | None = None,
              ) -> tuple[dict[str, dict[str, dict[str, Any]]], dict[str, dict[str, dict[str, Any]]]]:
    """(scores, differences) of every held-out set; model minus each of `against`, paired by patient."""
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    differences: dict[str, dict[str, dict[str, Any]]] = {}
    kept: dict[str, dict[str, tuple[float, np.ndarray]]] = {}
    for name, one in held.items():
        scores[name], kept[name] = {}, {}
        for metric, pairs in rank_metrics(one).items():
            estimate, values = pairs.with_resamples(bootstraps, seed)
            kept[name][metric] = estimate, values
            scores[name][metric] = interval(estimate, values, pairs.n_patients)
    others = min(bootstraps, SLOW_METRICS_RESAMPLES)
    rivals = [base for base in against if base in held and "model" in held]
    for base in rivals:
        mine, theirs, gaps = _other_metrics(held["model"], held[base], others, seed, cancelled)
        scores["model"] |= {key: value for key, value in mine.items() if key not in scores["model"]}
        scores[base] |= {key: value for key, value in theirs.items() if key not in scores[base]}
        ranks = {key: _gap(kept["model"][key], kept[base][key], held[base]) for key in kept[base]}
        differences[f"model - {base}"] = ranks | {key: value for key, value in gaps.items() if key not in ranks}
    for name in held:
        if name not in rivals and not (name == "model" and rivals):
            found = _other_metrics(held[name], None, others, seed, cancelled)[0]
            scores[name] |= {key: value for key, value in found.items() if key not in scores[name]}
    return scores, differences


def _gap(model: tuple[float, np.ndarray], base: tuple[float, np.ndarray], held: HeldOut) -> dict[str, Any]:
    """The paired difference with its interval and p = 2 min(share <= 0, share >= 0) of the resamples."""
    values = model[1] - base[1]
    gap = interval(model[0] - base[0], values, held.n_patients)
    good = values[np.isfinite(values)]
    if len(good):
        tail = min((good <= 0).sum(), (good >= 0).sum())
        gap["p"] = float(min(1.0, 2 * (tail + 1) / (len(good) + 1)))
    return gap


def _other_metrics(model: HeldOut, base: HeldOut | None, n: int, seed: int,
                   cancelled: Callable[[], bool] | None) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(model's figures, base's, differences) of everything else that evaluate/ gives, by repeat, patients resampled."""
    if n < 1:
        return {}, {}, {}
    metrics, shared, own = _metric_call(model)
    result = compare(metrics, shared, own(model), None if base is None else own(base), groups=model.patient,
                     repeats=model.repeat, n=n, seed=seed, cancelled=cancelled)
    mine, theirs, gaps = ({name: value.to_dict() for name, value in part.items() if not _pooled_rank(name)}
                          for part in (result.model, result.baseline, result.difference))
    return mine, theirs, gaps


def _pooled_rank(name: str) -> bool:
    """Figures of ranks that would compare patients of different fits (those that compare within a fold stay)."""
    return name.startswith(("auc", "c_wolbers"))


def _metric_call(held: HeldOut) -> tuple[Callable[..., Any], list[np.ndarray], Callable[[HeldOut], list[Any]]]:
    if held.time is None:
        names = list(range(len(held.classes)))

        def classes(truth: np.ndarray, probability: np.ndarray) -> Any:
            found = class_metrics(truth, probability, names)
            for code, name in enumerate(held.classes):
                for part in ("auc", "sensitivity", "specificity", "ppv", "npv"):
                    if len(names) > 2 and f"{part}_{code}" in found:
                        found[f"{part}_{name}"] = found.pop(f"{part}_{code}")
            return found
        return classes, [held.truth], lambda one: [one.probability]
    horizons = held.horizons
    if held.kind == "survival":
        return (lambda time, event, fold, risk, survival: survival_metrics(time, event, risk, survival, horizons,
                                                                           within=fold),
                [held.time, (held.truth == 1).astype(int), held.fold], lambda one: [one.risk, one.survival])
    return (lambda time, cause, risk, incidence: competing_metrics(time, cause, incidence, horizons, risk=risk),
            [held.time, held.truth], lambda one: [one.risk, one.incidence])
