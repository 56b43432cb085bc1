"""Drift: formulas by hand, SciPy and scikit-learn, alarms at their nominal rate, references without rows."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from IRAILib.biopsy.outcome.evaluate import (
    NotEstimableError,
    ReferenceSummary,
    calibration_over_time,
    corrected,
    cusum,
    drift,
    mmd,
    psi,
    summarise,
)
from IRAILib.geometry import InputError
from scipy import stats

NAMES = ["a", "b", "c", "d"]


def again(summary: ReferenceSummary) -> ReferenceSummary:
    return ReferenceSummary.from_dict(json.loads(json.dumps(summary.to_dict(), allow_nan=False)))


def test_psi_by_hand() -> None:
    assert psi([50, 50], [25, 75]) == pytest.approx(-0.25 * np.log(0.5) + 0.25 * np.log(1.5))
    assert psi([3, 4, 5], [6, 8, 10]) == pytest.approx(0)
    assert math.isfinite(psi([10, 0], [5, 5]))
    with pytest.raises(InputError):
        psi([1, 2], [1, 2, 3])


def test_psi_without_drift_is_what_is_said() -> None:
    """400 pairs of cohorts: its mean is near (B - 1)(1/n + 1/m), and 5 % lie above the limit shown."""
    random, values, above = np.random.default_rng(0), [], 0
    for _ in range(400):
        found = drift(random.normal(size=(120, 1)), random.normal(size=(80, 1)), ["a"]).inputs[0]
        values.append(found.psi)
        above += found.psi > found.psi_limit
    expected = 9 * (1 / 120 + 1 / 80)
    assert found.psi_expected == pytest.approx(expected)
    # ten bins filled by the reference itself leave its counts no luck: below the formula by the share 1/n of it at most
    assert 80 / 200 * expected < np.mean(values) < 1.15 * expected
    assert above <= 32


def test_corrections_by_hand() -> None:
    p = [0.01, 0.04, 0.03, 0.5]
    assert corrected(p) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert corrected(p, "benjamini-hochberg") == pytest.approx(stats.false_discovery_control(p))
    with pytest.raises(InputError):
        corrected(p, "none")


def test_tests_beside_scipy() -> None:
    random = np.random.default_rng(1)
    before, now = random.normal(size=(90, 1)), random.normal(0.4, 1, size=(70, 1))
    now[:8] = np.nan
    found = drift(before, now, ["a"], labels={"k": ["x"] * 30 + ["y"] * 40},
                  reference_labels={"k": ["x"] * 60 + ["y"] * 30})
    number, label = found.inputs
    expected = stats.ks_2samp(before[:, 0], now[8:, 0])
    assert (number.statistic, number.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert number.p_missing == pytest.approx(stats.fisher_exact([[0, 90], [8, 62]])[1])
    table = stats.chi2_contingency([[60, 30], [30, 40]], correction=False)
    assert (label.statistic, label.p) == pytest.approx((table[0], table[1]))
    three = corrected([number.p, number.p_missing, label.p])
    assert [number.p_corrected, number.p_missing_corrected, label.p_corrected] == pytest.approx(list(three))
    assert label.psi == pytest.approx(psi([60, 30], [30, 40]))


@pytest.mark.parametrize("kept", [False, True])
def test_no_alarm_without_drift_and_one_with_it(kept: bool) -> None:
    random, false, true = np.random.default_rng(2), 0, 0
    for _ in range(100):
        before = np.column_stack([random.normal(size=(100, 3)), random.integers(0, 4, 100)])
        now = np.column_stack([random.normal(size=(60, 3)), random.integers(0, 4, 60)])
        reference = again(summarise(before, NAMES)) if kept else before
        false += drift(reference, now, NAMES).verdict == "drift"
        found = drift(reference, now + [0, 1.0, 0, 0], NAMES)
        true += [one.name for one in found.inputs if one.drifted] == ["b"]
    assert false <= 12  # at most 5 expected; binomial 0.1 %
    assert true >= 90
    assert "b" in found.line


def test_the_kept_reference_reads_the_same_statistic_at_its_knots() -> None:
    random = np.random.default_rng(3)
    before, now = random.normal(size=(200, 1)), random.normal(0.5, 1, size=(100, 1))
    full, kept = (drift(reference, now, ["a"]).inputs[0] for reference in (before, summarise(before, ["a"])))
    assert kept.statistic <= full.statistic
    assert kept.statistic > full.statistic - 0.06
    assert kept.psi == pytest.approx(full.psi)
    text = json.dumps(summarise(before, ["a"]).to_dict())
    assert len(text) < 2500
    assert len(summarise(before, ["a"]).numbers["a"]["knots"]) <= 19


def test_odd_inputs() -> None:
    random = np.random.default_rng(4)
    before, now = np.column_stack([np.full(50, 3.0), random.integers(0, 2, 50)]), np.column_stack(
        [np.full(40, 4.0), np.ones(40)])
    for reference in (before, summarise(before, ["same", "flag"])):
        found = drift(reference, now, ["same", "flag"])
        assert found.verdict == "drift"
        assert found.inputs[1].drifted
        json.dumps(found.to_dict(), allow_nan=False)
    few = drift(before, now[:5], ["same", "flag"])
    assert few.verdict == "too few patients"
    assert "20 on each side" in few.inputs[0].note
    new = drift(np.zeros((40, 0)), np.zeros((40, 0)), [], labels={"k": ["x"] * 20 + ["z"] * 20},
                reference_labels={"k": ["x"] * 20 + ["y"] * 20})
    assert new.inputs[0].drifted
    assert "new: z" in new.inputs[0].note
    empty = drift(np.full((40, 1), np.nan), np.ones((40, 1)), ["a"])
    assert empty.inputs[0].drifted  # by its missing values
    assert empty.inputs[0].p is None
    with pytest.raises(InputError, match="not in the reference"):
        drift(summarise(before, ["same", "flag"]), now, ["same", "other"])
    with pytest.raises(InputError, match="finite"):
        drift(before, np.full((40, 2), np.inf), ["same", "flag"])


def test_observed_over_expected_by_period() -> None:
    random = np.random.default_rng(5)
    p = random.uniform(0.1, 0.4, 300)
    period = np.repeat([2021, 2022, 2023], 100)
    truth = random.random(300) < np.where(period == 2023, np.minimum(1, 2.2 * p), p)
    found = calibration_over_time(period, truth, p)
    last = found.periods[2]
    assert last.o_e == pytest.approx(truth[200:].sum() / p[200:].sum())
    count = int(truth[200:].sum())
    exact = stats.poisson.cdf(count - 1, last.low * last.expected), stats.poisson.cdf(count, last.high * last.expected)
    assert exact == pytest.approx((0.975, 0.025))
    assert last.low > 1
    assert found.p < 0.01
    assert found.p_trend < 0.01
    assert "differ" in found.line
    gap = np.array([truth[period == y].sum() - p[period == y].sum() for y in (2021, 2022, 2023)])
    spread = np.array([(p * (1 - p))[period == y].sum() for y in (2021, 2022, 2023)])
    assert found.p == pytest.approx(stats.chi2.sf((gap**2 / spread).sum(), 3))
    few = calibration_over_time([1, 1, 2], [0, 1, 0], [0.2, 0.4, 0.1])
    assert few.p is None
    assert few.periods[0].o_e is None
    assert "20 are needed" in few.periods[0].note
    json.dumps(few.to_dict(), allow_nan=False)


def test_periods_alarm_at_the_nominal_rate() -> None:
    random, small = np.random.default_rng(6), 0
    for _ in range(400):
        p = random.uniform(0.1, 0.6, 160)
        small += calibration_over_time(np.repeat([0, 1, 2, 3], 40), random.random(160) < p, p).p < 0.05
    assert 6 <= small <= 36  # 20 expected


def test_cusum_by_hand_and_at_its_rate() -> None:
    found = cusum([1, 0, 1], [0.5, 0.2, 0.5])
    event, none = np.log(2 / 1.5), -np.log(1.2)
    assert found.up == pytest.approx([event, event + none, 2 * event + none])
    down = [0.0, -np.log(1 - 0.1), 0.0]
    assert found.down == pytest.approx([0.0, down[1], max(0, down[1] + np.log(0.5 / 0.75))])
    random, alarms = np.random.default_rng(7), 0
    p = random.uniform(0.05, 0.5, 150)
    for seed in range(150):
        alarms += cusum(random.random(150) < p, p, seed=seed).alarm is not None
    assert alarms <= 18  # 7.5 expected; binomial 0.1 %
    worse = cusum(random.random(150) < p / (p + (1 - p) / 3), p)
    assert worse.direction == "up"
    better = cusum(random.random(400) < 0.05, np.full(400, 0.3))
    assert better.direction == "down"
    assert better.alarm < 150
    json.dumps(better.to_dict(), allow_nan=False)
    with pytest.raises(NotEstimableError):
        cusum([], [])


def test_mmd_sees_a_changed_relation() -> None:
    random = np.random.default_rng(8)
    first = random.normal(size=100)
    linked = np.column_stack([first, first + 0.3 * random.normal(size=100)])
    apart = np.column_stack([random.normal(size=80), 1.04 * random.normal(size=80)])
    assert drift(linked, apart, ["a", "b"]).verdict == "no drift seen"
    assert mmd(linked, apart, shuffles=199).p == pytest.approx(0.005)
    small = sum(mmd(*np.split(random.normal(size=(60, 3)), 2), shuffles=19, seed=k).p <= 0.05 for k in range(100))
    assert small <= 13
    # by its definition: means of kernels over pairs
    x, y = linked[:6], apart[:5]
    rows = np.concatenate([x, y]) / x.std(axis=0)
    distance = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    kernel = np.exp(-distance / np.median(distance[np.triu_indices(11, 1)]))
    inner = [np.mean([kernel[i, j] for i in part for j in part if i != j]) for part in (range(6), range(6, 11))]
    assert mmd(x, y, shuffles=9).mmd2 == pytest.approx(sum(inner) - 2 * kernel[:6, 6:].mean())
    with pytest.raises(InputError, match="missing"):
        mmd([[np.nan]] * 5, [[1.0]] * 5)
