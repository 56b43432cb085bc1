"""Resampling of patients: against SciPy, against formulas, and by the coverage it reaches."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.biopsy.outcome.evaluate import (
    Interval,
    Metrics,
    NotEstimableError,
    auc,
    bootstrap,
    bootstrap_vector,
    by_repeat,
    compare,
)
from IRAILib.biopsy.outcome.evaluate.bootstrap import Draws
from IRAILib.geometry import CancelledError, InputError
from scipy import stats


def mean(values: np.ndarray) -> float:
    return float(values.mean())


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_limits_beside_scipy(method: str) -> None:
    values = np.random.default_rng(1).exponential(size=40)
    ours = bootstrap(mean, values, n=5000, method=method)
    other = stats.bootstrap((values,), np.mean, n_resamples=5000, method=method, rng=np.random.default_rng(2))
    spread = values.std() / np.sqrt(40)
    assert ours.low == pytest.approx(other.confidence_interval.low, abs=0.08 * spread)
    assert ours.high == pytest.approx(other.confidence_interval.high, abs=0.12 * spread)
    assert ours.estimate == pytest.approx(values.mean())


def test_bca_follows_its_formula_with_ties() -> None:
    """A median has ties with the estimate; the limits are worked out again from the same resamples."""
    values = np.round(np.random.default_rng(3).exponential(size=31), 1)
    draws = Draws(31, seed=4)
    resampled = np.array([np.median(values[draws.draw()]) for _ in range(800)])
    left = np.array([np.median(np.delete(values, k)) for k in range(31)])
    share = np.mean(resampled < np.median(values)) + 0.5 * np.mean(resampled == np.median(values))
    gap = left.mean() - left
    skew, bias = (gap**3).sum() / (6 * (gap**2).sum() ** 1.5), stats.norm.ppf(share)
    z = bias + stats.norm.ppf([0.025, 0.975])
    limits = np.quantile(resampled, stats.norm.cdf(bias + z / (1 - skew * z)))
    found = bootstrap(lambda rows: float(np.median(rows)), values, n=800, seed=4, method="bca")
    assert (found.low, found.high) == pytest.approx(tuple(limits))
    assert found.method.startswith("BCa")


def test_patients_are_drawn_whole() -> None:
    """Ten copies of each patient add nothing: the width is that of the patients, not of the rows."""
    values = np.random.default_rng(5).normal(size=30)
    rows, patients = np.repeat(values, 10), np.repeat([f"p{k}" for k in range(30)], 10)
    alone, copied = bootstrap(mean, values, n=2000), bootstrap(mean, rows, groups=patients, n=2000)
    naive = bootstrap(mean, rows, n=2000)
    assert copied.n == 30
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.08)
    assert naive.high - naive.low < 0.45 * (copied.high - copied.low)


def test_patients_with_unlike_numbers_of_rows() -> None:
    groups = np.array(["a", "b", "b", "c", "c", "c"])
    draws = Draws(6, groups, seed=0)
    for _ in range(50):
        rows = draws.draw()
        counts = [int((groups[rows] == name).sum()) for name in "abc"]
        assert counts[1] % 2 == 0
        assert counts[2] % 3 == 0
        assert counts[0] + counts[1] // 2 + counts[2] // 3 == 3
    assert sorted(groups[draws.without(1)]) == ["a", "c", "c", "c"]


def test_strata_keep_their_sizes_and_are_checked() -> None:
    truth = np.array([1] * 3 + [0] * 40)
    found = bootstrap(lambda y: float(y.mean()), truth, strata=truth, n=100)
    assert found.low == found.high == pytest.approx(3 / 43)
    with pytest.raises(InputError, match="two strata"):
        bootstrap(mean, np.arange(4.0), groups=[0, 0, 1, 1], strata=[0, 1, 1, 1])


def test_one_class_is_drawn_anew_and_counted() -> None:
    truth, score = np.array([1, 0, 0, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.95, 0.4, 0.5])
    found = bootstrap(auc, truth, score, n=300)
    # a resample without the only case has chance (5/6)^6 = 0.335; 300 kept ones cost 300 * 0.335 / 0.665 = 151
    assert 100 < found.redrawn < 210
    assert found.estimate == 0.8
    never = bootstrap(auc, np.zeros(5), np.arange(5.0), n=50)
    assert never.estimate is None
    assert "only one class" in never.note
    assert "not estimable" in never.text()


def test_too_few_resamples_leave_the_estimate_without_limits() -> None:
    def needs_all(values: np.ndarray) -> float:
        if len(set(values.tolist())) < 12:
            raise NotEstimableError("a value is missing")
        return 1.0

    found = bootstrap(needs_all, np.arange(12.0), n=40)
    assert found.estimate == 1.0
    assert found.low is None
    assert "too few resamples" in found.note
    assert bootstrap(mean, [3.0], n=20).low is None
    json.dumps(found.to_dict(), allow_nan=False)
    assert Interval.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_the_interval_covers_as_often_as_it_says() -> None:
    """120 cohorts of 60 patients of known AUC: 95 % limits hold it in 88 to 99 % of them (binomial luck)."""
    random = np.random.default_rng(7)
    target, hits = float(stats.norm.cdf(1 / np.sqrt(2))), 0
    for _ in range(120):
        truth = np.repeat([0, 1], 30)
        found = bootstrap(auc, truth, random.normal(size=60) + truth, n=150, seed=int(random.integers(1e6)))
        hits += found.low <= target <= found.high
    assert 0.88 <= hits / 120 <= 0.99


def test_a_useless_difference_is_called_in_few_cohorts() -> None:
    """Under no difference p < 0.05 in about 5 of 100 cohorts (at most 13: 0.1 % of binomial luck)."""
    random, small = np.random.default_rng(8), 0
    for _ in range(100):
        truth = np.repeat([0, 1], 25)
        a, b = random.normal(size=50) + truth, random.normal(size=50) + truth
        found = compare(lambda y, s: Metrics({"auc": auc(y, s)}), [truth], [a], [b], n=99, strata=truth)
        small += found.difference["auc"].p < 0.05
    assert small <= 13


def test_repeats_are_averaged_and_drawn_together() -> None:
    random = np.random.default_rng(9)
    truth = random.integers(0, 2, 50)
    repeats, patients = np.repeat([0, 1, 2], 50), np.tile(np.arange(50), 3)
    scores = np.tile(truth, 3) + random.normal(size=150)
    each = [auc(truth, scores[k * 50: k * 50 + 50]) for k in range(3)]
    found = bootstrap(by_repeat(auc), repeats, np.tile(truth, 3), scores, groups=patients, n=100)
    assert found.estimate == pytest.approx(np.mean(each))
    assert found.n == 50
    side = compare(lambda y, s: Metrics({"auc": auc(y, s)}), [np.tile(truth, 3)], [scores], groups=patients,
                   repeats=repeats, n=100)
    assert side.model["auc"].estimate == pytest.approx(np.mean(each))
    # the same prediction in every repeat gives the interval of one repeat
    one = bootstrap(auc, truth, scores[:50], n=400)
    thrice = bootstrap(by_repeat(auc), repeats, np.tile(truth, 3), np.tile(scores[:50], 3), groups=patients, n=400)
    assert (thrice.low, thrice.high) == pytest.approx((one.low, one.high))


def test_a_vector_of_figures() -> None:
    values = np.random.default_rng(10).normal(size=(40, 2))
    found = bootstrap_vector(lambda rows: np.r_[rows.mean(axis=0), np.nan], values, n=300, reason="no value")
    alone = bootstrap(mean, values[:, 0], n=300)
    assert (found[0].low, found[0].high) == pytest.approx((alone.low, alone.high))
    assert not found[2].estimable
    assert found[2].note == "no value"


def test_bad_calls_and_cancel() -> None:
    with pytest.raises(InputError, match="same number of rows"):
        bootstrap(auc, np.zeros(3), np.zeros(4))
    with pytest.raises(InputError, match="unknown"):
        bootstrap(mean, np.arange(3.0), method="normal")
    with pytest.raises(InputError, match="groups"):
        bootstrap(mean, np.arange(3.0), groups=[1, 2])
    with pytest.raises(CancelledError):
        bootstrap(mean, np.arange(9.0), cancelled=lambda: True)
    said: list[float] = []
    bootstrap(mean, np.arange(9.0), n=120, progress=lambda share, _: said.append(share))
    assert said[0] == 0.0
    assert said == sorted(said)
