"""Runs with planted predictions, so that a report can be checked against what was planted."""

from __future__ import annotations

import numpy as np
from IRAILib.biopsy.outcome import Column, HeldOut, Leak, Plan, Run
from IRAILib.biopsy.outcome.evaluate import class_report, survival_report
from IRAILib.biopsy.outcome.evaluate.competing import competing_report
from IRAILib.biopsy.outcome.table import Table

HORIZONS = np.array([12.0, 24.0, 36.0])


def _held(name: str, kind: str, classes, truth, time, repeats: int, n_folds: int, seed: int, **predicted) -> HeldOut:
    n = len(truth)
    fold = np.concatenate([np.random.default_rng(seed + r).permutation(n) % n_folds for r in range(repeats)])
    rows = np.tile(np.arange(n), repeats)
    return HeldOut(name, kind, tuple(classes), ("albumin",) if name == "baseline" else ("albumin", "cm_contrast"),
                   rows, np.array([f"P{row:03d}" for row in rows]), np.repeat(np.arange(repeats), n), fold, truth[rows],
                   None if time is None else time[rows], horizons=None if time is None else HORIZONS, **predicted)


def binary_run(n: int = 120, effect: float = 1.5, baseline_effect: float = 0.5, seed: int = 0,
               columns: tuple[str, str] = ("albumin", "cm_contrast")) -> tuple[Run, Table]:
    """Truth drawn from a logit; the model knows it up to noise, the baseline less, the null nothing."""
    random = np.random.default_rng(seed)
    signal = random.normal(size=n)
    truth = (random.random(n) < 1 / (1 + np.exp(-effect * signal))).astype(int)

    def held(name: str, strength: float, noise: float = 0.1) -> HeldOut:
        chance = np.concatenate([1 / (1 + np.exp(-(strength * signal + noise * random.normal(size=n))))
                                 for _ in range(2)])
        return _held(name, "binary", ("benign", "malignant"), truth, None, 2, 5, seed,
                     probability=np.column_stack([1 - chance, chance]))

    held_out = {"model": held("model", effect), "baseline": held("baseline", baseline_effect, 1.0)}
    null = _held("null", "binary", ("benign", "malignant"), truth, None, 2, 5, seed,
                 probability=np.full((2 * n, 2), 0.5))
    held_out["null"] = null
    plan = Plan(target="histology", patient="id", baseline=("albumin",), repeats=2, seed=seed, site=None)
    return _run(plan, held_out, "auc", columns, n, seed), _table(n, truth, seed, columns)


def survival_run(n: int = 150, effect: float = 0.9, competing: bool = False, seed: int = 0) -> tuple[Run, Table]:
    """Exponential times whose log hazard the model knows; independent censoring."""
    random = np.random.default_rng(seed)
    signal = random.normal(size=n)
    hazard = 0.03 * np.exp(effect * signal)
    event_time, other, censored = (random.exponential(1 / hazard), random.exponential(1 / 0.01, n),
                                   random.uniform(10, 80, n))
    time = np.minimum(event_time, censored)
    truth = (event_time <= censored).astype(int)
    if competing:
        truth = np.where(other < time, 2, truth)
        time = np.minimum(time, other)
    kind = "competing" if competing else "survival"
    classes = ("censored (0)", "progressed", "died")[:3 if competing else 2]

    def held(name: str, strength: float) -> HeldOut:
        risk = np.concatenate([strength * signal + 0.05 * random.normal(size=n) for _ in range(2)])
        survival = np.exp(-0.03 * np.exp(risk)[:, None] * HORIZONS)
        if competing:
            return _held(name, kind, classes, truth, time, 2, 5, seed, risk=1 - survival[:, -1],
                         incidence=0.8 * (1 - survival))
        return _held(name, kind, classes, truth, time, 2, 5, seed, risk=risk, survival=survival)

    held_out = {"model": held("model", effect), "baseline": held("baseline", 0.2 * effect), "null": held("null", 0.0)}
    plan = Plan(target="event", time="months", patient="id", baseline=("albumin",), repeats=2, seed=seed,
                time_unit="months", horizons=tuple(HORIZONS))
    return _run(plan, held_out, "c_wolbers" if competing else "c_harrell", ("albumin", "cm_contrast"), n, seed), \
        _table(n, truth, seed, ("albumin", "cm_contrast"))


def _table(n: int, truth: np.ndarray, seed: int, columns: tuple[str, str]) -> Table:
    random = np.random.default_rng(seed + 99)
    albumin = [f"{value:.1f}" if random.random() > 0.1 else "" for value in random.normal(38, 5, n)]
    return Table.from_columns({"id": [f"P{k:03d}" for k in range(n)], "sex": [("f", "m")[k % 2] for k in range(n)],
                               columns[0]: albumin, columns[1]: [f"{v:.3f}" for v in random.normal(0, 1, n)],
                               "histology": [str(value) for value in truth]})


def _score(held: HeldOut, other: HeldOut | None):
    named = {"patients": held.patient, "repeats": held.repeat, "n": 60, "seed": 1}
    if held.kind == "binary":
        truth = np.asarray(held.classes, object)[held.truth]
        return class_report(truth, held.probability, held.classes,
                            baseline=None if other is None else other.probability, **named)
    if held.kind == "survival":
        extra = {} if other is None else {"baseline_risk": other.risk, "baseline_survival": other.survival}
        return survival_report(held.time, held.truth > 0, held.risk, held.survival, held.horizons, **extra, **named)
    return competing_report(held.time, held.truth, held.incidence, held.horizons,
                            baseline_incidence=None if other is None else other.incidence, **named)


def _run(plan: Plan, held_out: dict[str, HeldOut], metric: str, columns: tuple[str, str], n: int, seed: int) -> Run:
    scores, differences = {}, {}
    for name in ("baseline", "null"):
        found = _score(held_out["model"], held_out[name])
        scores["model"] = {key: value.to_dict() for key, value in found.model.items()}
        scores[name] = {key: value.to_dict() for key, value in found.baseline.items()}
        differences[f"model - {name}"] = {key: value.to_dict() for key, value in found.difference.items()}
    made = [Column("id", "patient", "identifier", "text"), Column("sex", "feature", "clinical", "category", used=True),
            Column(columns[0], "feature", "clinical", "number", "g/L", 0.1, True),
            Column(columns[1], "feature", "imaging", "number", "", 0.0, True),
            Column("response_FU", "excluded", "clinical", "category", reason="measured after treatment")]
    leaks = [Leak("response_FU", "after treatment", "its name ends in _FU; AUC 0.99 alone", 0.99, "dropped")]
    random = np.random.default_rng(seed + 5)
    return Run(plan, {"n_rows": n, "n_rows_read": n + 3, "n_patients": n, "primary_metric": metric,
                      "dropped_rows": {"no value in the target": 3}, "horizons": list(plan.horizons),
                      "sample_size": {"text": "Riley's rule asks for 310 patients; there are fewer.", "enough": False},
                      "coefficients": {columns[0]: -0.4, columns[1]: 0.9}},
               made, leaks, ["3 rows have no target and are left out"], held_out, scores, differences,
               [{"name": "without imaging", "columns": 1, "metric": metric, **scores["baseline"][metric]}],
               {"metric": metric, "observed": scores["model"][metric]["estimate"],
                "null": list(0.5 + 0.05 * random.normal(size=20)), "p": 0.048, "n": 20}, [],
               [{"fold": k, "penalty": 0.1, "coefficients": {columns[0]: -0.4 + 0.05 * k, columns[1]: 0.9}}
                for k in range(5)], {columns[0]: 0.8, columns[1]: 1.0}, {"IRAI": "0.1.0", "numpy": "2"})
