"""Sets and intervals that hold the truth as often as they say, whatever the model: classes and numbers.

What is promised: over future patients drawn like the calibration patients, the set misses the truth in at most a share
alpha of them, for sets of classes within each class (Mondrian). It is no promise for one patient, nor for a subgroup.
It fails when future patients differ from the calibration patients (drift, another hospital); see similarity and drift.
origin "split": scores of patients kept from the fit of the model that predicts: the promise is a theorem. "cross":
held-out scores of a cross-validation serve a model fitted again on all patients: the promise is approximate (the
theorem for cross-conformal sets holds at about 1 - 2 alpha, with the models of the folds); coverage is measured.
Several rows of a patient (lesions, repeats) share that patient's weight of 1, and patients are counted, not rows.
Only thresholds are kept, no patient's score.

Sources: Vovk, Gammerman and Shafer 2005 (Mondrian); Vovk 2015 (cross-conformal); Papadopoulos 2002, Lei et al. 2018
(split, scaled residuals); Lee, Barber and Willett 2023 (repeated measurements); Barber et al. 2021 (jackknife+, CV+).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import beta

from ....geometry import InputError
from .checks import NotEstimableError, numbers, plain
from .classification import _codes, _table

ALPHAS = (0.05, 0.1, 0.2)
ORIGINS = ("split", "cross")


def patient_weights(patients: Any, n: int) -> tuple[np.ndarray, int]:
    """((n,) weight of each row, 1 for each patient in all; number of patients)."""
    if patients is None:
        return np.ones(n), n
    _, codes, counts = np.unique(np.asarray(patients).astype(str), return_inverse=True, return_counts=True)
    if len(codes) != n:
        raise InputError(f"patients: {len(codes)} labels for {n} rows")
    return 1.0 / counts[codes], len(counts)


def threshold(scores: np.ndarray, weights: np.ndarray, alpha: float) -> float:
    """Smallest score with weight (1 - alpha)(K + 1) at or below it, K the sum of weights; inf when there is none.

    With weights of 1: the ceil((n + 1)(1 - alpha))-th smallest score.
    """
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum(weights[order])
    need = (1 - alpha) * (weights.sum() + 1)
    place = int(np.searchsorted(mass, need - 1e-9, side="left"))
    return float(scores[order][place]) if place < len(scores) else math.inf


def exact_interval(hits: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a share."""
    tail = (1 - level) / 2
    low = 0.0 if hits <= 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits >= n else float(beta.ppf(1 - tail, hits + 1, n - hits))
    return low, high


@dataclass(frozen=True)
class PredictedSet:
    """Classes that can't be ruled out for one patient at `level` (1 - alpha), and what that means in words."""

    labels: tuple[str, ...]
    level: float
    meaning: str

    def to_dict(self) -> dict[str, Any]:
        return plain(self.__dict__)


@dataclass(frozen=True)
class Coverage:
    """How often sets held the truth, by class and in all, with exact 95 % intervals, and their mean size.

    by_class: name to {"n", "coverage", "low", "high", "size"}; empty and full: share of sets with no class and all.
    """

    level: float
    n: int
    coverage: float
    low: float
    high: float
    size: float
    empty: float
    full: float
    by_class: dict[str, dict[str, float]] = field(default_factory=dict)
    method: str = ""

    def to_dict(self) -> dict[str, Any]:
        return plain(self.__dict__)


@dataclass(frozen=True)
class ConformalClassifier:
    """Class-conditional conformal sets. thresholds: level alpha (as text) to class to largest score let in (inf: any).

    A class is in the set when 1 - its probability is at most its threshold.
    """

    classes: tuple[str, ...]
    alphas: tuple[float, ...]
    thresholds: dict[str, dict[str, float]]
    n_by_class: dict[str, int]
    origin: str
    coverage: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_scores(cls, truth: Any, probability: Any, classes: Sequence[Any], *, alphas: Sequence[float] = ALPHAS,
                    origin: str = "split", patients: Any = None, folds: Any = None) -> ConformalClassifier:
        """Thresholds from patients that the model was not fitted on.

        Args: truth (n,) labels; probability (n, C), or (n,) of the last of two classes; alphas: shares that may be
            missed; origin: "split" or "cross" (see the module); patients (n,); folds (n,): then the coverage is
            measured, each fold with thresholds of the others, and kept in `.coverage`.
        A class with fewer than 1 / alpha - 1 patients can't be ruled out at that level: its threshold is infinite.
        Raises: InputError.
        """
        names = tuple(str(name) for name in classes)
        codes = _codes(truth, classes)
        table = _table(probability, len(codes), len(names))
        alphas = _alphas(alphas)
        if origin not in ORIGINS:
            raise InputError(f"origin '{origin}' is unknown; split or cross")
        thresholds, counts = _class_thresholds(codes, table, names, alphas, patients)
        made = cls(names, alphas, thresholds, counts, origin)
        if folds is None:
            return made
        return cls(names, alphas, thresholds, counts, origin,
                   {f"{a:g}": _cross_coverage(codes, table, names, a, patients, folds).to_dict() for a in alphas})

    def included(self, probability: Any, alpha: float = 0.1) -> np.ndarray:
        """(n, C) bool: classes of each row's set. Raises: InputError on an alpha that was not prepared."""
        table = np.asarray(probability, dtype=float)
        if table.ndim == 1 and len(self.classes) > 2:
            table = table[None]
        table = _table(table, len(table), len(self.classes))
        limits = self.thresholds.get(f"{alpha:g}")
        if limits is None:
            raise InputError(f"alpha {alpha:g} was not prepared; there are {', '.join(self.thresholds)}")
        return 1 - table <= np.array([limits[name] for name in self.classes]) + 1e-12

    def predict_set(self, probability: Any, alpha: float = 0.1) -> list[PredictedSet]:
        """One set a row of probability (n, C); (n,) of the last of two classes; (C,) for one patient and C > 2."""
        return [self._said(tuple(name for name, there in zip(self.classes, row, strict=True) if there), alpha)
                for row in self.included(probability, alpha)]

    def _said(self, labels: tuple[str, ...], alpha: float) -> PredictedSet:
        level = 1 - alpha
        limits = self.thresholds[f"{alpha:g}"]
        unruled = [name for name in labels if math.isinf(limits[name])]
        if not labels:
            meaning = "no class fits: unlike the patients of every class in calibration; don't use the prediction"
        elif len(labels) == 1:
            meaning = f"{labels[0]}: the other classes are ruled out at {100 * level:g} %"
        elif len(labels) == len(self.classes):
            meaning = f"every class is possible at {100 * level:g} %: the model says nothing here"
        else:
            meaning = f"{' or '.join(labels)}: the others are ruled out at {100 * level:g} %"
        if unruled:
            meaning += f" ({', '.join(unruled)}: too few calibration patients to be ruled out)"
        return PredictedSet(labels, level, meaning)

    def measured(self, truth: Any, probability: Any, alpha: float = 0.1) -> Coverage:
        """Coverage on other patients, one row each: truth (n,) labels, probability (n, C)."""
        codes = _codes(truth, self.classes)
        return _coverage(codes, self.included(probability, alpha), self.classes, alpha, None,
                         "patients not used for the thresholds")

    def to_dict(self) -> dict[str, Any]:
        return plain({**self.__dict__, "kind": "class-conditional conformal sets"})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ConformalClassifier:
        limits = {alpha: {name: math.inf if value is None else float(value) for name, value in of_class.items()}
                  for alpha, of_class in document["thresholds"].items()}
        return cls(tuple(document["classes"]), tuple(document["alphas"]), limits, dict(document["n_by_class"]),
                   document["origin"], dict(document.get("coverage", {})))


def _alphas(alphas: Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(alpha) for alpha in np.atleast_1d(numbers(np.atleast_1d(alphas), "alphas")))
    if not found or min(found) <= 0 or max(found) >= 1:
        raise InputError("alphas: shares between 0 and 1 are needed")
    return found


def _class_thresholds(codes: np.ndarray, table: np.ndarray, names: tuple[str, ...], alphas: tuple[float, ...],
                      patients: Any) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    limits: dict[str, dict[str, float]] = {f"{alpha:g}": {} for alpha in alphas}
    counts = {}
    for code, name in enumerate(names):
        rows = codes == code
        scores = 1 - table[rows, code]
        weights, counts[name] = patient_weights(None if patients is None else np.asarray(patients)[rows], len(scores))
        for alpha in alphas:
            limits[f"{alpha:g}"][name] = threshold(scores, weights, alpha)
    return limits, counts


def _coverage(codes: np.ndarray, included: np.ndarray, names: Sequence[str], alpha: float, patients: Any,
              method: str) -> Coverage:
    if not len(codes):
        raise NotEstimableError("no patient")
    size = included.sum(axis=1)
    hit = included[np.arange(len(codes)), codes]

    def share(rows: np.ndarray) -> tuple[int, float, float, float]:
        weights, n = patient_weights(None if patients is None else np.asarray(patients)[rows], int(rows.sum()))
        value = float(np.average(hit[rows], weights=weights))
        return n, value, *exact_interval(value * n, n)

    by_class = {}
    for code, name in enumerate(names):
        rows = codes == code
        if rows.any():
            n, value, low, high = share(rows)
            by_class[name] = {"n": n, "coverage": value, "low": low, "high": high, "size": float(size[rows].mean())}
    n, value, low, high = share(np.ones(len(codes), bool))
    return Coverage(1 - alpha, n, value, low, high, float(size.mean()), float((size == 0).mean()),
                    float((size == included.shape[1]).mean()), by_class, method)


def _cross_coverage(codes: np.ndarray, table: np.ndarray, names: tuple[str, ...], alpha: float, patients: Any,
                    folds: Any) -> Coverage:
    folds = np.asarray(folds)
    if len(folds) != len(codes):
        raise InputError(f"folds: {len(folds)} labels for {len(codes)} rows")
    included = np.zeros(table.shape, bool)
    for fold in np.unique(folds):
        rest = folds != fold
        if patients is not None:
            rest &= ~np.isin(np.asarray(patients), np.asarray(patients)[folds == fold])
        limits, _ = _class_thresholds(codes[rest], table[rest], names, (alpha,),
                                      None if patients is None else np.asarray(patients)[rest])
        included[folds == fold] = 1 - table[folds == fold] <= np.array(list(limits[f"{alpha:g}"].values())) + 1e-12
    return _coverage(codes, included, names, alpha, patients, "each fold with thresholds of the others' patients")


@dataclass(frozen=True)
class ConformalInterval:
    """Intervals prediction +- threshold (times difficulty) for a number. thresholds: alpha (as text) to half width."""

    alphas: tuple[float, ...]
    thresholds: dict[str, float]
    n: int
    scaled: bool
    origin: str

    @classmethod
    def from_scores(cls, truth: Any, predicted: Any, *, difficulty: Any = None, alphas: Sequence[float] = ALPHAS,
                    origin: str = "split", patients: Any = None) -> ConformalInterval:
        """Half widths from |truth - predicted| (n,) over difficulty (n,) > 0, a guess of the error made without these
        patients (None: 1 for all). Raises: InputError."""
        truth = numbers(truth, "truth")
        scores = np.abs(truth - numbers(predicted, "predicted", n=len(truth)))
        if origin not in ORIGINS:
            raise InputError(f"origin '{origin}' is unknown; split or cross")
        if difficulty is not None:
            difficulty = numbers(difficulty, "difficulty", n=len(truth))
            if len(difficulty) and difficulty.min() <= 0:
                raise InputError("difficulty: above zero for every patient")
            scores = scores / difficulty
        weights, n = patient_weights(patients, len(scores))
        limits = {f"{alpha:g}": threshold(scores, weights, alpha) for alpha in _alphas(alphas)}
        return cls(_alphas(alphas), limits, n, difficulty is not None, origin)

    def interval(self, predicted: Any, alpha: float = 0.1, difficulty: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """(low (n,), high (n,)) in the unit of the target; -inf and inf where calibration patients were too few."""
        predicted = numbers(np.atleast_1d(predicted), "predicted")
        if f"{alpha:g}" not in self.thresholds:
            raise InputError(f"alpha {alpha:g} was not prepared; there are {', '.join(self.thresholds)}")
        if self.scaled != (difficulty is not None):
            raise InputError("difficulty: needed exactly when the thresholds were made with it")
        half = self.thresholds[f"{alpha:g}"] * (1.0 if difficulty is None else numbers(np.atleast_1d(difficulty),
                                                                                      "difficulty", n=len(predicted)))
        return predicted - half, predicted + half

    def to_dict(self) -> dict[str, Any]:
        return plain({**self.__dict__, "kind": "split conformal interval"})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ConformalInterval:
        limits = {alpha: math.inf if value is None else float(value)
                  for alpha, value in document["thresholds"].items()}
        return cls(tuple(document["alphas"]), limits, int(document["n"]), bool(document["scaled"]), document["origin"])
