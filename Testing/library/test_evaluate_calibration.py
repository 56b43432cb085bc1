"""Calibration of chances, decision curves, permutation: formulas, scikit-learn, SciPy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.biopsy.outcome.evaluate import (
    NotEstimableError,
    calibration,
    decision_curve,
    decision_curve_survival,
    kaplan_meier,
    net_benefit,
    permutation_p,
    permutation_test,
    shuffled,
)
from IRAILib.biopsy.outcome.evaluate.calibration import (
    calibration_intercept,
    calibration_slope,
    equal_bins,
    expected_calibration_error,
    spiegelhalter,
    wilson,
)
from IRAILib.biopsy.outcome.evaluate.regression import logit, spline_columns, spline_knots
from IRAILib.geometry import CancelledError, InputError
from lifelines import KaplanMeierFitter
from scipy import optimize, special, stats
from sklearn.linear_model import LogisticRegression


def patients(seed: int, n: int = 200, slope: float = 1.0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Truth with logit a + b logit(p), and p."""
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    return random.random(n) < special.expit(shift + slope * x), special.expit(x)


def test_slope_and_intercept_beside_independent_fits() -> None:
    truth, p = patients(0, 150)
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(special.logit(p)[:, None], truth)
    assert calibration_slope(truth, p) == pytest.approx(fitted.coef_[0, 0], abs=1e-4)
    root = optimize.brentq(lambda a: (truth - special.expit(a + special.logit(p))).sum(), -5, 5, xtol=1e-12)
    assert calibration_intercept(truth, p) == pytest.approx(root, abs=1e-8)


def test_what_was_put_in_comes_out() -> None:
    truth, p = patients(1, 4000, slope=0.5, shift=0.7)
    found = calibration(truth, p, n=60)
    assert found.slope.low < 0.5 < found.slope.high
    assert found.slope.estimate == pytest.approx(0.5, abs=0.1)
    right = calibration(*patients(2, 4000), n=60)
    assert right.intercept.low < 0 < right.intercept.high
    assert right.slope.low < 1 < right.slope.high
    assert right.spiegelhalter_p > 0.01
    assert np.abs(right.curve.observed - right.curve.predicted).max() < 0.05
    assert (right.curve.low <= right.curve.observed + 0.02).all()
    bent = special.expit(special.logit(found.curve.predicted) * 0.5 + 0.7)
    assert np.abs(found.curve.observed - bent).max() < 0.04
    json.dumps(found.to_dict(), allow_nan=False)


def test_curve_is_a_restricted_spline() -> None:
    """Linear beyond the outer knots, smooth inside; one basis column per knot but one."""
    x = np.linspace(-4, 4, 4001)
    knots = np.array([-1.0, 0.0, 0.5, 2.0])
    columns = spline_columns(x, knots)
    assert columns.shape == (4001, 4)
    bend = np.gradient(np.gradient(columns, x, axis=0), x, axis=0)
    outside = (x < -1.01) | (x > 2.01)
    assert np.abs(bend[outside][5:-5]).max() < 1e-6
    assert np.abs(np.diff(bend[5:-5], axis=0)).max() < 0.02
    assert len(spline_knots(np.zeros(50))) == 0
    assert len(spline_knots(np.arange(50.0))) == 3


def test_shares_and_bins() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    low, high = wilson(13, 40)
    result = stats.binomtest(13, 40).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((result.low, result.high))
    parts = equal_bins(np.array([0.1, 0.1, 0.1, 0.1, 0.5, 0.9]), 3)
    assert sorted(len(part) for part in parts) == [2, 4]
    # two bins of two: |0.5 - 0.15| and |1 - 0.7|
    assert expected_calibration_error([0, 1, 1, 1], [0.1, 0.2, 0.6, 0.8], 2) == pytest.approx(0.325)


def test_spiegelhalter_by_hand_and_under_the_null() -> None:
    z, p = spiegelhalter([1, 0], [0.8, 0.3])
    top = 0.2 * (1 - 1.6) + (-0.3) * (1 - 0.6)
    below = np.sqrt(0.6**2 * 0.16 + 0.4**2 * 0.21)
    assert z == pytest.approx(top / below)
    assert p == pytest.approx(2 * stats.norm.sf(abs(z)))
    small = sum(spiegelhalter(*patients(seed, 100))[1] < 0.05 for seed in range(400))
    assert 8 <= small <= 36  # 20 expected; binomial 0.1 % limits
    with pytest.raises(NotEstimableError):
        spiegelhalter([1, 0], [0.5, 0.5])


def test_observed_over_expected_and_repeats() -> None:
    truth, p = patients(3, 80)
    found = calibration(truth, p, n=50)
    assert found.o_e.estimate == pytest.approx(truth.sum() / p.sum())
    assert found.e_o.estimate == pytest.approx(p.sum() / truth.sum())
    twice = calibration(np.tile(truth, 2), np.tile(p, 2), patients=np.tile(np.arange(80), 2),
                        repeats=np.repeat([0, 1], 80), n=50)
    assert twice.n == 80
    assert twice.slope.estimate == pytest.approx(found.slope.estimate)
    assert (twice.slope.low, twice.slope.high) == pytest.approx((found.slope.low, found.slope.high))


def test_calibration_that_has_no_value_says_why() -> None:
    one = calibration(np.zeros(30), np.linspace(0.1, 0.9, 30), n=20)
    assert "only one class" in one.slope.note
    assert one.curve is None
    assert one.o_e.estimate == 0
    apart = calibration(np.repeat([0, 1], 15), np.linspace(0.1, 0.9, 30), n=20)
    assert "separate" in apart.slope.note
    flat = calibration(np.tile([0, 1], 15), np.full(30, 0.5), n=20)
    assert "same prediction" in flat.slope.note
    assert flat.spiegelhalter_z is None
    assert flat.intercept.estimate == pytest.approx(0, abs=1e-9)
    three = calibration([0, 1, 0], [0.2, 0.6, 0.7], n=20)
    nobody = calibration([], [], n=5)
    extreme = calibration([0, 1, 0, 1, 1], [0.0, 1.0, 0.5, 0.2, 0.7], n=20)
    assert "0 or 1" in extreme.notes[0]
    for found in (one, apart, flat, three, nobody, extreme):
        json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(InputError, match="missing"):
        calibration([0, 1], [0.5, np.nan])
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()


def test_net_benefit_by_hand() -> None:
    truth, p = [1, 1, 0, 0, 0], [0.9, 0.3, 0.6, 0.2, 0.1]
    assert net_benefit(truth, p, 0.5) == pytest.approx(1 / 5 - 1 / 5)
    assert net_benefit(truth, p, 0.25) == pytest.approx(2 / 5 - 1 / 5 / 3)
    assert net_benefit(truth, p, 0.3) == pytest.approx(2 / 5 - 1 / 5 * 3 / 7)  # at the threshold is called
    curve = decision_curve(truth, p, baseline=np.full(5, 0.4), thresholds=[0.25, 0.5], n=50)
    everyone = [2 / 5 - 3 / 5 / 3, 2 / 5 - 3 / 5]
    assert [one.estimate for one in curve.treat_all] == pytest.approx(everyone)
    assert [one.estimate for one in curve.baseline] == pytest.approx([everyone[0], 0.0])
    assert curve.difference[0].estimate == pytest.approx(2 / 5 - 1 / 15 - everyone[0])
    assert curve.against_baseline[1].estimate == pytest.approx(0.0)
    json.dumps(curve.to_dict(), allow_nan=False)


def test_a_calibrated_model_is_never_worse_than_all_or_none() -> None:
    truth, p = patients(4, 6000)
    curve = decision_curve(truth, p, thresholds=np.arange(0.05, 1, 0.05), n=40)
    assert min(one.estimate for one in curve.difference) > -0.006
    assert max(one.low for one in curve.difference) > 0.05
    # treating all is worth nothing where the threshold is the prevalence
    at = decision_curve(truth, p, thresholds=[truth.mean()], n=20)
    assert at.treat_all[0].estimate == pytest.approx(0, abs=1e-12)


def test_decision_curve_with_censoring() -> None:
    random = np.random.default_rng(5)
    x = random.normal(size=300)
    times, censored = random.exponential(np.exp(-x)), random.exponential(1.5, 300)
    time, event, risk = np.minimum(times, censored), times <= censored, 1 - np.exp(-np.exp(x))
    curve = decision_curve_survival(time, event, risk, 1.0, thresholds=[0.4], n=20)
    called = risk >= 0.4
    among = 1 - KaplanMeierFitter().fit(time[called], event[called]).predict(1.0)
    assert curve.model[0].estimate == pytest.approx(called.mean() * (among - (1 - among) * 0.4 / 0.6))
    everyone = 1 - float(kaplan_meier(time, event).at(1.0))
    assert curve.treat_all[0].estimate == pytest.approx(everyone - (1 - everyone) * 0.4 / 0.6)
    plain = decision_curve_survival(times, np.ones(300), risk, 1.0, thresholds=[0.3], n=5)
    assert plain.model[0].estimate == pytest.approx(net_benefit(times <= 1, risk, 0.3))
    kinds = 1 + (random.random(300) < 0.4)
    rivals = decision_curve_survival(times, kinds, risk, 1.0, cause=1, thresholds=[0.3], n=5)
    assert rivals.model[0].estimate == pytest.approx(net_benefit((times <= 1) & (kinds == 1), risk, 0.3))
    json.dumps(curve.to_dict(), allow_nan=False)


def test_decision_curves_refuse_what_they_cannot_say() -> None:
    with pytest.raises(NotEstimableError, match="one class"):
        decision_curve([0, 0], [0.1, 0.2])
    with pytest.raises(InputError, match="thresholds"):
        decision_curve([0, 1], [0.1, 0.2], thresholds=[0.0])
    with pytest.raises(NotEstimableError, match="beyond"):
        decision_curve_survival([1, 2], [1, 0], [0.1, 0.2], 5.0)
    short = decision_curve_survival([1, 2, 9, 9], [0, 0, 1, 0], [0.9, 0.9, 0.1, 0.1], 5.0, thresholds=[0.5], n=10)
    assert "followed to 5" in short.model[0].note


def test_permutation_p() -> None:
    assert permutation_p(0.9, [0.5] * 99) == pytest.approx(0.01)
    assert permutation_p(0.5, [0.5, 0.4, 0.6]) == pytest.approx(3 / 4)
    assert permutation_p(0.1, [0.2, 0.3], larger_is_better=False) == pytest.approx(1 / 3)
    with pytest.raises(InputError):
        permutation_p(0.5, [])


def test_shuffling_keeps_patients_and_sites_whole() -> None:
    groups = np.array(["a", "a", "b", "c", "c", "d", "e"])
    site = np.array([0, 0, 0, 0, 0, 1, 1])
    random = np.random.default_rng(0)
    moved = 0
    for _ in range(50):
        order = shuffled(groups, random, site)
        assert sorted(order) == list(range(7))
        assert (site[order] == site).all()
        assert list(order[:2]) in ([0, 1], [3, 4])
        assert order[2] == 2
        moved += order[0] == 3
    assert 10 < moved < 40


def test_permutation_test_is_uniform_without_a_signal_and_small_with_one() -> None:
    random = np.random.default_rng(1)
    low = 0
    for _ in range(200):
        x, y = random.normal(size=(2, 20))
        found = permutation_test(lambda order, a=x, b=y: float(a @ b[order]), np.arange(20), n=19,
                                 seed=int(random.integers(1e6)))
        low += found.p <= 0.05
    assert low <= 21  # 10 expected of 200; binomial 0.1 % limit
    x = np.arange(20.0)
    found = permutation_test(lambda order: float(x @ x[order]), np.arange(20), n=99)
    assert found.p == found.smallest_p == pytest.approx(0.01)
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(CancelledError):
        permutation_test(lambda order: 0.0, np.arange(3), cancelled=lambda: True)

    def fails(order: np.ndarray) -> float:
        if order[0]:
            raise NotEstimableError("no value")
        return 1.0

    assert permutation_test(fails, np.arange(4), n=20).failed > 0
