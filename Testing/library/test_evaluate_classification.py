"""Figures of a classifier against hand-worked tables, brute force and scikit-learn; what can't be given says why."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from IRAILib.biopsy.outcome.evaluate import (
    NotEstimableError,
    auc,
    average_precision,
    bootstrap,
    choose_threshold,
    class_metrics,
    class_report,
    delong,
    roc_curve,
)
from IRAILib.geometry import InputError
from sklearn import metrics as peer


def ties(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, n)
    return truth, np.round(random.normal(size=n) + truth, 1)


def pairs(truth: np.ndarray, score: np.ndarray) -> float:
    cases, rest = score[truth == 1], score[truth == 0]
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in cases for b in rest]))


def test_auc_by_hand() -> None:
    assert auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert auc([0, 1, 0, 1], [1, 1, 1, 1]) == 0.5
    assert auc([1, 1, 0], [3, 2, 1]) == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_auc_and_average_precision_with_ties(seed: int) -> None:
    truth, score = ties(seed)
    assert auc(truth, score) == pytest.approx(pairs(truth, score), abs=1e-12)
    assert average_precision(truth, score) == pytest.approx(peer.average_precision_score(truth, score), abs=1e-12)
    false, true, cut = roc_curve(truth, score)
    other = peer.roc_curve(truth, score, drop_intermediate=False)
    assert np.allclose(false, other[0])
    assert np.allclose(true, other[1])
    assert math.isinf(cut[0])


def test_two_classes_by_hand() -> None:
    truth = ["no", "no", "no", "yes", "yes"]
    found = class_metrics(truth, [0.1, 0.6, 0.2, 0.7, 0.3], ["no", "yes"])
    # called: 2 and 4; one true, one false positive
    assert found["sensitivity"] == 0.5
    assert found["specificity"] == pytest.approx(2 / 3)
    assert found["ppv"] == 0.5
    assert found["npv"] == pytest.approx(2 / 3)
    assert found["balanced_accuracy"] == pytest.approx(7 / 12)
    assert found["f1"] == 0.5
    assert found["mcc"] == pytest.approx((1 * 2 - 1 * 1) / math.sqrt(2 * 2 * 3 * 3))
    assert found["brier"] == pytest.approx((0.01 + 0.36 + 0.04 + 0.09 + 0.49) / 5)
    assert found["brier_scaled"] == pytest.approx(1 - (0.99 / 5) / (0.4 * 0.6))
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.7, 0.3]).mean())
    assert not found.not_estimable


@pytest.mark.parametrize("seed", range(4))
def test_several_classes_beside_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, 90)
    table = random.dirichlet(np.ones(3), 90) + 0.4 * np.eye(3)[truth]
    table /= table.sum(axis=1, keepdims=True)
    found = class_metrics(truth, table, [0, 1, 2])
    called = table.argmax(axis=1)
    expected = {
        "auc_macro": peer.roc_auc_score(truth, table, multi_class="ovr", average="macro"),
        "auc_weighted": peer.roc_auc_score(truth, table, multi_class="ovr", average="weighted"),
        "average_precision_macro": peer.average_precision_score(np.eye(3)[truth], table, average="macro"),
        "log_loss": peer.log_loss(truth, table), "mcc": peer.matthews_corrcoef(truth, called),
        "f1_macro": peer.f1_score(truth, called, average="macro"), "accuracy": peer.accuracy_score(truth, called),
        "balanced_accuracy": peer.balanced_accuracy_score(truth, called),
        "sensitivity_1": peer.recall_score(truth == 1, called == 1),
        "ppv_2": peer.precision_score(truth == 2, called == 2),
        "brier": ((table - np.eye(3)[truth]) ** 2).sum(axis=1).mean(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_a_threshold_for_each_patient() -> None:
    found = class_metrics([0, 1, 1], [0.3, 0.3, 0.3], [0, 1], threshold=[0.4, 0.2, 0.4])
    assert found["sensitivity"] == 0.5
    assert found["specificity"] == 1.0


def test_thresholds_by_rule() -> None:
    truth, score = np.array([0, 0, 0, 1, 0, 1, 1, 1]), np.arange(8) / 10
    assert choose_threshold(truth, score) == pytest.approx(0.45)  # 0.25 is as good: the higher one of equals
    assert choose_threshold(truth[:5], score[:5]) == pytest.approx(0.25)
    assert choose_threshold(truth, score, "sensitivity", at_least=0.75) == pytest.approx(0.45)
    assert choose_threshold(truth, score, "specificity", at_least=1.0) == pytest.approx(0.45)
    assert choose_threshold(truth, -score, "specificity", at_least=1.0) > 0
    with pytest.raises(InputError, match="unknown"):
        choose_threshold(truth, score, "best")


def test_delong_against_its_definition_and_the_bootstrap() -> None:
    truth, score = ties(3, 80)
    other = score + np.random.default_rng(9).normal(size=80)
    cases, rest = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)

    def parts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kernel = (values[cases][:, None] > values[rest]) + 0.5 * (values[cases][:, None] == values[rest])
        return kernel.mean(axis=1), kernel.mean(axis=0)

    a, b = parts(score), parts(other)
    variance = np.var(a[0] - b[0], ddof=1) / len(cases) + np.var(a[1] - b[1], ddof=1) / len(rest)
    found = delong(truth, score, other)
    assert found.variance == pytest.approx(variance, rel=1e-9)
    assert found.auc == pytest.approx(auc(truth, score) - auc(truth, other), abs=1e-12)
    single = delong(truth, score)
    resampled = bootstrap(auc, truth, score, n=1000, strata=truth)
    assert resampled.high - resampled.low == pytest.approx(single.high - single.low, rel=0.15)


def test_paired_report_beside_delong() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 150)
    good, poor = (1 / (1 + np.exp(-(random.normal(size=150) + shift * (truth - 0.5)))) for shift in (2.0, 0.3))
    report = class_report(truth, good, [0, 1], baseline=poor, n=600)
    difference, analytic = report.difference["auc"], delong(truth, good, poor)
    assert difference.estimate == pytest.approx(analytic.auc, abs=1e-12)
    assert difference.low == pytest.approx(analytic.low, abs=0.03)
    assert difference.high == pytest.approx(analytic.high, abs=0.03)
    assert difference.p <= 2 / 601 + 1e-12
    assert analytic.p < 0.001
    same = class_report(truth, good, [0, 1], baseline=good, n=50)
    assert same.difference["auc"].estimate == 0
    assert same.difference["auc"].p == 1.0
    json.dumps(report.to_dict(), allow_nan=False)


def test_what_has_no_value_says_why() -> None:
    one = class_metrics([0, 0, 0], [0.1, 0.2, 0.3], [0, 1])
    assert "only one class" in one.not_estimable["auc"]
    assert one["specificity"] == 1.0
    assert one.get("auc") is None
    assert one.to_dict()["values"]["auc"] is None
    with pytest.raises(NotEstimableError, match="auc: not estimable"):
        one["auc"]
    with pytest.raises(KeyError):
        one["nonsense"]
    none_called = class_metrics([0, 1], [0.1, 0.2], [0, 1])
    assert "above the threshold" in none_called.not_estimable["ppv"]
    assert "mcc" in none_called.not_estimable
    empty = class_metrics([], np.zeros((0, 2)), [0, 1])
    assert not empty
    assert empty.not_estimable["brier"] == "no patient"
    missing = class_metrics(["a", "b", "a"], np.full((3, 3), 1 / 3), ["a", "b", "c"])
    assert "class c" in missing.not_estimable["auc_macro"]
    assert math.isfinite(class_metrics([1, 0], [0.0, 1.0], [0, 1])["log_loss"])


@pytest.mark.parametrize(("truth", "table", "classes", "words"), [
    ([0, 1], [0.5, np.nan], [0, 1], "missing"), ([0, 1], [0.5, 1.2], [0, 1], "between 0 and 1"),
    ([0, 2], [0.5, 0.5], [0, 1], "not among the classes"), ([0, 1], [[0.5, 0.1], [0.5, 0.5]], [0, 1], "add up"),
    ([0, 1, 1], [0.5, 0.5], [0, 1], "rows"), ([0, 1], [0.5, 0.5], [0], "two or more"),
    ([0, 1], np.full((2, 3), 1 / 3), [0, 1], "columns"),
])
def test_bad_input_is_named(truth, table, classes, words) -> None:
    with pytest.raises(InputError, match=words):
        class_metrics(truth, table, classes)


def test_three_patients_give_a_report() -> None:
    report = class_report([0, 1, 1], [0.2, 0.4, 0.9], [0, 1], n=50)
    auc_found = report.model["auc"]
    assert auc_found.estimate == 1.0
    assert auc_found.redrawn > 0
    assert "same value" in auc_found.note
