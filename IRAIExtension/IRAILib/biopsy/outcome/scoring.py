"""What held-out predictions are worth: ranks compared within a fold only, intervals by resampling patients.

Predictions of different folds come from different fits; a pair is compared only when one fit predicted both. Pooling
them would put the fits' different levels into the ranks, and would make a model that knows nothing look worse than
chance (Airola et al. 2011; Forman & Scholz 2010).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .evaluate import compare
from .evaluate.classification import class_metrics
from .evaluate.competing import competing_metrics
from .evaluate.survival import survival_metrics
from .record import HeldOut

PRIMARY = {"binary": "auc", "multiclass": "auc_macro", "survival": "c_harrell", "competing": "c_wolbers"}
SLOW_METRICS_RESAMPLES = 200
HOW = "patients resampled, {n} times, 95 % percentile interval; pairs within a fold, mean over repeats"


@dataclass
class Pairs:
    """One block a fold and contrast: patients (m,) of its rows, ordered pairs (m, m), and what each pair scores."""

    contrast: list[int]
    patients: list[np.ndarray]
    pairs: list[np.ndarray]
    points: list[np.ndarray]
    n_patients: int
    n_contrasts: int

    def figure(self, weights: np.ndarray) -> np.ndarray:
        """(B,) concordance with patient weights (B, n_patients); NaN where no pair is left. Mean over contrasts."""
        top, below = (np.zeros((self.n_contrasts, len(weights))) for _ in range(2))
        for kind, patients, pairs, points in zip(self.contrast, self.patients, self.pairs, self.points, strict=True):
            w = weights[:, patients]
            top[kind] += ((w @ points) * w).sum(axis=1)
            below[kind] += ((w @ pairs) * w).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (top / below).mean(axis=0)


def pairs_of(held: HeldOut) -> Pairs:
    """Pairs (worse, better) of every fold: case and non-case; earlier event and longer time; Wolbers for competing."""
    names, patient = np.unique(held.patient, return_inverse=True)
    contrasts = range(len(held.classes)) if held.kind == "multiclass" else range(1)
    made = Pairs([], [], [], [], len(names), len(contrasts))
    for repeat, number in sorted(set(zip(held.repeat.tolist(), held.fold.tolist(), strict=True))):
        rows = np.flatnonzero((held.repeat == repeat) & (held.fold == number))
        for kind in contrasts:
            score, worse = _score_and_pairs(held, rows, kind)
            worse &= patient[rows][:, None] != patient[rows][None]
            gain = (score[:, None] > score[None]) + 0.5 * (score[:, None] == score[None])
            made.contrast.append(kind)
            made.patients.append(patient[rows])
            made.pairs.append(worse.astype(float))
            made.points.append(worse * gain)
    return made


def _score_and_pairs(held: HeldOut, rows: np.ndarray, kind: int) -> tuple[np.ndarray, np.ndarray]:
    truth = held.truth[rows]
    if held.time is None:
        assert held.probability is not None
        wanted = 1 if held.kind == "binary" else kind
        return held.probability[rows, wanted], (truth == wanted)[:, None] & (truth != wanted)[None]
    assert held.risk is not None
    time = held.time[rows]
    later = (time[:, None] < time[None]) | ((time[:, None] == time[None]) & (truth == 0)[None])
    if held.kind == "competing":
        later |= (truth > 1)[None]
    return held.risk[rows], (truth == 1)[:, None] & later & ~np.eye(len(rows), dtype=bool)


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
    kept: dict[str, tuple[float, np.ndarray]] = {}
    for name, one in held.items():
        metric, pairs = PRIMARY[one.kind], pairs_of(one)
        weights = draws(pairs.n_patients, bootstraps, seed)
        values = pairs.figure(weights)
        estimate = float(pairs.figure(np.ones((1, pairs.n_patients)))[0])
        kept[name] = (estimate, values)
        scores[name] = {metric: interval(estimate, values, pairs.n_patients)}
    others = min(bootstraps, SLOW_METRICS_RESAMPLES)
    for name in held:
        rival = name if name == "model" else None
        found = _other_metrics(held[name], None, others, seed, cancelled)
        scores[name] |= {key: value for key, value in found[0].items() if key not in scores[name]}
        if rival is None:
            continue
        for base in (part for part in against if part in held):
            metric = PRIMARY[held[name].kind]
            gap = interval(kept[name][0] - kept[base][0], kept[name][1] - kept[base][1], held[name].n_patients)
            good = (kept[name][1] - kept[base][1])[np.isfinite(kept[name][1] - kept[base][1])]
            if len(good):
                tail = min((good <= 0).sum(), (good >= 0).sum())
                gap["p"] = float(min(1.0, 2 * (tail + 1) / (len(good) + 1)))
            found = _other_metrics(held[name], held[base], others, seed, cancelled)
            differences[f"{name} - {base}"] = {metric: gap} | {k: v for k, v in found[1].items() if k != metric}
    return scores, differences


def _other_metrics(model: HeldOut, base: HeldOut | None, n: int, seed: int,
                   cancelled: Callable[[], bool] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(figures, differences) of everything else that evaluate/ gives, by repeat, patients resampled."""
    if n < 1:
        return {}, {}
    metrics, shared, own = _metric_call(model)
    result = compare(metrics, shared, own(model), None if base is None else own(base), groups=model.patient,
                     repeats=model.repeat, n=n, seed=seed, cancelled=cancelled)
    return ({name: value.to_dict() for name, value in result.model.items()},
            {name: value.to_dict() for name, value in result.difference.items()})


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
