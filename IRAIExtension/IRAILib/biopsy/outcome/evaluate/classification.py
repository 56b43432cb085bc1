"""Figures of a classifier on patients it was not fitted on: discrimination, overall error, decisions.

Sources: Hanley and McNeil 1982 (AUC as a probability, ties half); DeLong 1988; Brier 1950; Steyerberg, Epidemiology
2010 (scaled Brier); Matthews 1975, Gorodkin 2004 (MCC of several classes); Youden 1950.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm, rankdata

from ....geometry import InputError
from .bootstrap import Comparison, compare
from .checks import Metrics, NotEstimableError, both_classes, numbers, probabilities, truths

LOG_FLOOR = 1e-15
"""A probability of exactly 0 for what happened would make the log loss infinite; it is taken as this."""


def auc(truth: Any, score: Any) -> float:
    """Chance that a random case scores above a random non-case, ties counted half.

    Args: truth (n,) 0/1; score (n,) any scale, higher for cases. Raises: NotEstimableError with one class only.
    """
    truth = truths(truth)
    score = numbers(score, "score", n=len(truth))
    both_classes(truth)
    cases = int(truth.sum())
    return float((rankdata(score)[truth].sum() - cases * (cases + 1) / 2) / (cases * (len(truth) - cases)))


def average_precision(truth: Any, score: Any) -> float:
    """Sum over thresholds of precision times gain in recall, equal scores taken together (no interpolation).

    Its value for a useless model is the prevalence. Raises: NotEstimableError with one class only.
    """
    truth = truths(truth)
    score = numbers(score, "score", n=len(truth))
    both_classes(truth)
    _, hits, called = _counts(truth, score)
    return float((np.diff(hits, prepend=0) / truth.sum() * hits / called).sum())


def _counts(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds from the highest down; cases and rows at or above each."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])
    return score[order][last], np.cumsum(truth[order])[last], last + 1


def roc_curve(truth: Any, score: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(false positive rate, sensitivity, threshold), each (k,), from (0, 0) at an infinite threshold to (1, 1)."""
    truth = truths(truth)
    score = numbers(score, "score", n=len(truth))
    both_classes(truth)
    thresholds, hits, called = _counts(truth, score)
    return (np.r_[0, (called - hits) / (~truth).sum()], np.r_[0, hits / truth.sum()], np.r_[np.inf, thresholds])


@dataclass(frozen=True)
class DeLong:
    """Analytic AUC, its variance and normal 95 % interval; `p` of the difference of two AUCs (None for one)."""

    auc: float
    variance: float
    low: float
    high: float
    p: float | None = None


def delong(truth: Any, score: Any, other: Any = None) -> DeLong:
    """DeLong's variance of an AUC, or of the difference score minus other on the same patients.

    For independent rows only (one row a patient, one repeat). Raises: NotEstimableError with one class, fewer than two
    patients in a class, or (for p) a variance of zero.
    """
    truth = truths(truth)
    both_classes(truth)
    if min(truth.sum(), (~truth).sum()) < 2:
        raise NotEstimableError("DeLong's variance needs two patients in each class")
    value, case_part, rest_part = 0.0, 0.0, 0.0
    for sign, scores in ((1, score), (-1, other)):
        if scores is None:
            continue
        scores = numbers(scores, "score", n=len(truth))
        every, cases, rest = rankdata(scores), rankdata(scores[truth]), rankdata(scores[~truth])
        value += sign * auc(truth, scores)
        case_part = case_part + sign * (every[truth] - cases) / len(rest)
        rest_part = rest_part + sign * (1 - (every[~truth] - rest) / len(cases))
    variance = float(np.var(case_part, ddof=1) / truth.sum() + np.var(rest_part, ddof=1) / (~truth).sum())
    half = float(norm.ppf(0.975)) * math.sqrt(variance)
    if other is None:
        return DeLong(value, variance, value - half, value + half)
    if variance <= 0:
        raise NotEstimableError("both scores rank the patients alike: the difference has no variance")
    return DeLong(value, variance, value - half, value + half, float(2 * norm.sf(abs(value) / math.sqrt(variance))))


def choose_threshold(truth: Any, probability: Any, rule: str = "youden", *, at_least: float = 0.9) -> float:
    """Threshold on the data given: call it on the training part of each fold, never on held-out patients.

    rule: "youden" (largest sensitivity + specificity), "sensitivity" or "specificity" (the other one largest with this
    one `at_least`). A row is called positive at or above the threshold; the middle between two neighbouring scores is
    given; of equally good ones the highest.
    Raises: NotEstimableError with one class only, InputError on an unknown rule.
    """
    false, true, thresholds = roc_curve(truth, probability)
    if rule == "youden":
        best = int(np.argmax(true - false))
    elif rule == "sensitivity":
        best = int(np.argmax(true >= at_least))
    elif rule == "specificity":
        best = int(np.flatnonzero(1 - false >= at_least)[-1])
    else:
        raise InputError(f"rule '{rule}' is unknown; youden, sensitivity or specificity")
    if best == 0:
        return float(np.nextafter(thresholds[1], np.inf))
    below = thresholds[best + 1] if best + 1 < len(thresholds) else thresholds[best]
    return float((thresholds[best] + below) / 2)


def _codes(truth: Any, classes: Sequence[Any]) -> np.ndarray:
    if len(classes) < 2 or len(set(map(str, classes))) != len(classes):
        raise InputError(f"classes: two or more different names are needed, not {list(classes)}")
    position = {str(name): code for code, name in enumerate(classes)}
    truth = np.asarray(truth)
    if truth.ndim != 1:
        raise InputError(f"truth: one column of labels is needed, not shape {truth.shape}")
    strange = sorted({str(value) for value in truth.tolist()} - set(position))
    if strange:
        raise InputError(f"truth: {strange[:3]} not among the classes {list(position)}")
    return np.array([position[str(value)] for value in truth.tolist()], dtype=int)


def _table(probability: Any, n: int, n_classes: int) -> np.ndarray:
    probability = np.asarray(probability, dtype=float)
    if probability.ndim == 1 and n_classes == 2:
        probability = np.column_stack([1 - probability, probability])
    probability = probabilities(probability, n=n, ndim=2)
    if probability.shape[1] != n_classes:
        raise InputError(f"probability: {probability.shape[1]} columns for {n_classes} classes")
    if n and np.abs(probability.sum(axis=1) - 1).max() > 1e-3:
        raise InputError("probability: a row does not add up to 1")
    return probability


def class_metrics(truth: Any, probability: Any, classes: Sequence[Any], *, threshold: Any = 0.5) -> Metrics:
    """Every figure of a classifier; what has no value is named in `.not_estimable`.

    Args:
        truth: (n,) labels out of `classes`. probability: (n, C), rows add up to 1; (n,) of the last class when C = 2.
        classes: two: the last one is the case. threshold: on the case's probability, a number or (n,) (each patient's
            own, chosen in the fold that held it out); several classes: the most probable one counts.
    Returns: two classes: auc, average_precision, brier (mean squared error, 0..1), brier_scaled (1 - brier / brier of
        the prevalence among these patients), log_loss (nats), prevalence, sensitivity, specificity, ppv, npv, accuracy,
        balanced_accuracy, f1, mcc. More: auc_macro, auc_weighted (one against the rest, by prevalence),
        average_precision_macro, brier (sum over classes, 0..2), brier_scaled, log_loss, accuracy, balanced_accuracy,
        f1_macro, mcc, and sensitivity_/specificity_/ppv_/npv_/auc_CLASS.
    Raises: InputError on labels, shapes or probabilities that can't be.
    """
    codes = _codes(truth, classes)
    table = _table(probability, len(codes), len(classes))
    out = Metrics()
    onehot = codes[:, None] == np.arange(len(classes))
    scale = 2.0 if len(classes) == 2 else 1.0
    out.put("brier", _brier, onehot, table, scale)
    out.put("brier_scaled", _brier_scaled, onehot, table)
    out.put("log_loss", _log_loss, codes, table)
    if len(classes) == 2:
        case = codes == 1
        out.put("auc", auc, case, table[:, 1])
        out.put("average_precision", average_precision, case, table[:, 1])
        out.put("prevalence", _share, case.sum(), len(case), "patient")
        called = table[:, 1] >= np.broadcast_to(np.asarray(threshold, dtype=float), len(codes))
        _decisions(out, case, called, "")
        out.put("f1", _share, 2 * (case & called).sum(), case.sum() + called.sum(), "case, found or true")
        predicted = called.astype(int)
    else:
        predicted = table.argmax(axis=1)
        _several(out, codes, onehot, table, predicted, classes)
    out.put("accuracy", _share, (predicted == codes).sum(), len(codes), "patient")
    out.put("balanced_accuracy", _balanced, codes, predicted, classes)
    out.put("mcc", _mcc, codes, predicted, len(classes))
    return out


def _several(out: Metrics, codes: np.ndarray, onehot: np.ndarray, table: np.ndarray, predicted: np.ndarray,
             classes: Sequence[Any]) -> None:
    for code, name in enumerate(classes):
        out.put(f"auc_{name}", auc, onehot[:, code], table[:, code])
        _decisions(out, onehot[:, code], predicted == code, f"_{name}")

    def over(figure: Any, weighted: bool = False) -> float:
        values = []
        for code, name in enumerate(classes):
            try:
                values.append(figure(code))
            except NotEstimableError as error:
                raise NotEstimableError(f"class {name}: {error}") from None
        return float(np.average(values, weights=onehot.mean(axis=0) if weighted else None))

    def f1(code: int) -> float:
        case, called = codes == code, predicted == code
        return _share(2 * (case & called).sum(), case.sum() + called.sum(), "row of the class, found or true")

    out.put("auc_macro", over, lambda code: auc(onehot[:, code], table[:, code]))
    out.put("auc_weighted", over, lambda code: auc(onehot[:, code], table[:, code]), True)
    out.put("average_precision_macro", over, lambda code: average_precision(onehot[:, code], table[:, code]))
    out.put("f1_macro", over, f1)


def _decisions(out: Metrics, case: np.ndarray, called: np.ndarray, suffix: str) -> None:
    out.put(f"sensitivity{suffix}", _share, (case & called).sum(), case.sum(), "case")
    out.put(f"specificity{suffix}", _share, (~case & ~called).sum(), (~case).sum(), "non-case")
    out.put(f"ppv{suffix}", _share, (case & called).sum(), called.sum(), "row above the threshold")
    out.put(f"npv{suffix}", _share, (~case & ~called).sum(), (~called).sum(), "row below the threshold")


def _share(part: Any, whole: Any, of_what: str) -> float:
    if not whole:
        raise NotEstimableError(f"no {of_what}")
    return float(part / whole)


def _brier(onehot: np.ndarray, table: np.ndarray, scale: float) -> float:
    if not len(table):
        raise NotEstimableError("no patient")
    return float(((table - onehot) ** 2).sum(axis=1).mean() / scale)


def _brier_scaled(onehot: np.ndarray, table: np.ndarray) -> float:
    null = _brier(onehot, np.broadcast_to(onehot.mean(axis=0) if len(onehot) else 0.0, onehot.shape), 1.0)
    if null == 0:
        raise NotEstimableError("only one class")
    return 1 - _brier(onehot, table, 1.0) / null


def _log_loss(codes: np.ndarray, table: np.ndarray) -> float:
    if not len(codes):
        raise NotEstimableError("no patient")
    return float(-np.log(np.maximum(table[np.arange(len(codes)), codes], LOG_FLOOR)).mean())


def _balanced(codes: np.ndarray, predicted: np.ndarray, classes: Sequence[Any]) -> float:
    return float(np.mean([_share((predicted[codes == code] == code).sum(), (codes == code).sum(), f"row of {name}")
                          for code, name in enumerate(classes)]))


def _mcc(codes: np.ndarray, predicted: np.ndarray, n_classes: int) -> float:
    confusion = np.zeros((n_classes, n_classes))
    np.add.at(confusion, (codes, predicted), 1)
    true, called, total = confusion.sum(axis=1), confusion.sum(axis=0), confusion.sum()
    below = math.sqrt((total**2 - (true**2).sum()) * (total**2 - (called**2).sum()))
    if below == 0:
        raise NotEstimableError("one class only, among the truths or among the calls")
    return float((np.trace(confusion) * total - true @ called) / below)


def class_report(truth: Any, probability: Any, classes: Sequence[Any], *, baseline: Any = None, patients: Any = None,
                 repeats: Any = None, threshold: Any = 0.5, baseline_threshold: Any = 0.5, stratified: bool = False,
                 n: int = 1000, seed: int = 0, method: str = "percentile", level: float = 0.95, progress: Any = None,
                 cancelled: Any = None) -> Comparison:
    """`class_metrics` of a model with intervals; of a baseline on the same patients; paired differences with p.

    Within a repeat the patients of all folds are ranked together: give chances, not scores whose scale differs by fold.

    Args: as class_metrics, one row a held-out prediction. baseline: (n, C) probabilities of the baseline or None.
        patients: (n,) what is drawn. repeats: (n,) repeat of the cross-validation: figures are averaged over them.
        stratified: patients are drawn within each class (their labels must agree over their rows).
    Raises: InputError, CancelledError.
    """
    rows = len(np.asarray(truth))

    def figures(labels: np.ndarray, table: np.ndarray, cut: np.ndarray) -> Metrics:
        return class_metrics(labels, table, classes, threshold=cut)

    def side(table: Any, cut: Any) -> list[np.ndarray]:
        return [np.asarray(table, dtype=float), np.broadcast_to(np.asarray(cut, dtype=float), rows)]

    return compare(figures, [np.asarray(truth)], side(probability, threshold),
                   None if baseline is None else side(baseline, baseline_threshold), groups=patients, repeats=repeats,
                   n=n, seed=seed, strata=truth if stratified else None, method=method, level=level,
                   progress=progress, cancelled=cancelled)
