"""Survival figures beside scikit-survival and lifelines, hand-worked cases, and data that carry no answer."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from IRAILib.biopsy.outcome.evaluate import (
    NotEstimableError,
    brier_at,
    censoring_curve,
    dynamic_auc,
    harrell_c,
    horizon_calibration,
    kaplan_meier,
    observed_risk,
    pseudo_values,
    restricted_mean,
    survival_metrics,
    survival_report,
    uno_c,
)
from IRAILib.biopsy.outcome.evaluate.regression import cox_slope
from IRAILib.geometry import InputError
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time
from scipy import stats
from sksurv import metrics as peer
from sksurv.nonparametric import kaplan_meier_estimator
from sksurv.util import Surv

HORIZONS = np.array([0.2, 0.5, 1.0])


def cohort(seed: int, n: int = 150, digits: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """time, event, risk, survival at HORIZONS; true hazard exp(x)."""
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    event_time, censored = random.exponential(np.exp(-x)), random.exponential(1.5, n)
    time, event = np.minimum(event_time, censored), event_time <= censored
    time = time if digits is None else np.round(time, digits) + 0.01
    return time, event, x, np.exp(-HORIZONS * np.exp(x)[:, None])


def test_kaplan_meier_and_greenwood_by_hand() -> None:
    curve = kaplan_meier([1, 2, 2, 3, 4], [1, 1, 0, 1, 0])
    assert curve.at([0.5, 1, 2, 3, 9]) == pytest.approx([1, 0.8, 0.6, 0.3, 0.3])
    assert curve.before([1, 2, 3]) == pytest.approx([1, 0.8, 0.6])
    assert curve.variance_at(2) == pytest.approx(0.36 * (1 / 20 + 1 / 12))
    # at 2 the event leaves the risk set before the censoring: G falls by 1/3, not 1/4
    censoring = censoring_curve([1, 2, 2, 3, 4], [1, 1, 0, 1, 0])
    assert censoring.at([1, 2, 3, 4]) == pytest.approx([1, 2 / 3, 2 / 3, 0])


@pytest.mark.parametrize("digits", [None, 1])
def test_curves_beside_lifelines(digits) -> None:
    time, event, _, _ = cohort(1, digits=digits)
    grid = np.linspace(0.05, 2, 30)
    fitted = KaplanMeierFitter().fit(time, event)
    assert np.allclose(kaplan_meier(time, event).at(grid), fitted.predict(grid))
    times, survival = kaplan_meier_estimator(event, time, reverse=True)
    assert np.allclose(censoring_curve(time, event).at(times), survival)
    area = restricted_mean(time, event, 1.0)
    assert area.estimate == pytest.approx(restricted_mean_survival_time(fitted, 1.0), abs=1e-9)


def test_restricted_mean_without_censoring_is_a_mean() -> None:
    times = np.random.default_rng(0).exponential(size=200)
    found = restricted_mean(times, np.ones(200), 1.5)
    cut = np.minimum(times, 1.5)
    half = 1.96 * cut.std() / np.sqrt(200)
    assert found.estimate == pytest.approx(cut.mean())
    assert found.high - found.estimate == pytest.approx(half, rel=0.02)
    assert "beyond the longest follow-up" in restricted_mean([1.0, 2.0], [1, 0], 5.0).note


def test_harrell_by_hand() -> None:
    time, event, risk = [1, 2, 3, 4], [1, 0, 1, 0], [4, 1, 2, 3]
    # pairs: 1 against 2, 3, 4 (all right), 3 against 4 (wrong)
    assert harrell_c(time, event, risk) == 0.75
    assert harrell_c(time, event, [1, 1, 1, 1]) == 0.5
    # the pair of equal times counts when the other is censored
    assert harrell_c([1, 1], [1, 0], [2, 1]) == 1.0
    with pytest.raises(NotEstimableError):
        harrell_c([1, 1], [1, 1], [2, 1])
    assert harrell_c([1, 2, 1, 2], [1, 1, 1, 1], [1, 0, 9, 8], within=[0, 0, 1, 1]) == 1.0


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("seed", range(4))
def test_c_indices_beside_scikit_survival(seed: int, digits) -> None:
    time, event, risk, _ = cohort(seed, digits=digits)
    risk = np.round(risk, 1)
    assert harrell_c(time, event, risk) == pytest.approx(peer.concordance_index_censored(event, time, risk)[0])
    if digits is None:
        structured = Surv.from_arrays(event, time)
        ours = uno_c(time, event, risk, until=1.0)
        assert ours == pytest.approx(peer.concordance_index_ipcw(structured, structured, risk, tau=1.0)[0], abs=1e-10)


def test_uno_takes_the_left_limit_at_a_tie_of_event_and_censoring() -> None:
    """By hand: G falls to 2/3 at time 2 (censored) and the event at 2 keeps weight 1; the one at 3 has 1 / (2/3)^2."""
    time, event, risk = [1, 2, 2, 3, 4], [1, 1, 0, 1, 0], [5, 1, 2, 3, 4]
    good = 4 + 0 + 0
    total = 4 + 3 + 1 / (2 / 3) ** 2
    assert uno_c(time, event, risk) == pytest.approx(good / total)


@pytest.mark.parametrize("seed", range(3))
def test_dynamic_auc_and_brier_beside_scikit_survival(seed: int) -> None:
    train_time, train_event, _, _ = cohort(seed + 50, 200)
    time, event, risk, survival = cohort(seed)
    keep = time < train_time.max()
    time, event, risk, survival = time[keep], event[keep], risk[keep], survival[keep]
    train, test = Surv.from_arrays(train_event, train_time), Surv.from_arrays(event, time)
    found = survival_metrics(time, event, risk, survival, HORIZONS, train_time, train_event)
    aucs, _ = peer.cumulative_dynamic_auc(train, test, 1 - survival, HORIZONS)
    _, briers = peer.brier_score(train, test, survival, HORIZONS)
    for place, horizon in enumerate(HORIZONS):
        assert found[f"auc@{horizon:g}"] == pytest.approx(aucs[place], abs=1e-10)
        assert found[f"brier@{horizon:g}"] == pytest.approx(briers[place], abs=1e-10)
    whole = peer.integrated_brier_score(train, test, survival, HORIZONS)
    assert found["integrated_brier"] == pytest.approx(whole, abs=1e-10)
    null = np.asarray(KaplanMeierFitter().fit(train_time, train_event).predict(HORIZONS))
    _, of_null = peer.brier_score(train, test, np.tile(null, (len(time), 1)), HORIZONS)
    assert found["ipa@0.5"] == pytest.approx(1 - briers[1] / of_null[1], abs=1e-9)


def test_without_censoring_they_are_the_plain_figures() -> None:
    random = np.random.default_rng(4)
    time, chance = random.exponential(size=80), np.round(random.random(80), 1)
    late = time > 0.7
    assert brier_at(time, np.ones(80), chance, 0.7) == pytest.approx(((chance - late) ** 2).mean())
    from sklearn.metrics import roc_auc_score

    assert dynamic_auc(time, np.ones(80), 1 - chance, 0.7) == pytest.approx(roc_auc_score(~late, 1 - chance))
    assert pseudo_values(time, np.ones(80), 0.7) == pytest.approx((~late).astype(float), abs=1e-9)


def test_the_weights_undo_the_censoring() -> None:
    """Brier of 4000 patients with and without half of them censored agree within 4 standard errors."""
    random = np.random.default_rng(5)
    x = random.normal(size=4000)
    times = random.exponential(np.exp(-x))
    chance = np.exp(-0.5 * np.exp(x))
    full = (chance - (times > 0.5)) ** 2
    censored = random.exponential(0.8, 4000)
    found = brier_at(np.minimum(times, censored), times <= censored, chance, 0.5)
    assert found == pytest.approx(full.mean(), abs=4 * 1.5 * full.std() / np.sqrt(4000))


@pytest.mark.parametrize("digits", [None, 1])
def test_cox_slope_beside_lifelines(digits) -> None:
    time, event, x, _ = cohort(6, digits=digits)
    table = pd.DataFrame({"t": time, "e": event, "x": 3 * x + 100})
    expected = CoxPHFitter().fit(table, "t", "e", fit_options={"precision": 1e-10}).params_["x"]
    assert cox_slope(time, event, 3 * x + 100) == pytest.approx(expected, abs=1e-5)


def test_calibration_of_the_truth_and_of_an_overfitted_model() -> None:
    time, event, x, survival = cohort(7, 2000)
    right = horizon_calibration(time, event, 1 - survival[:, 1], 0.5, n=60)
    assert right.slope.low < 1 < right.slope.high
    assert right.o_e.low < 1 < right.o_e.high
    assert right.intercept.low < 0 < right.intercept.high
    assert right.ici.estimate < 0.03
    assert np.abs(right.curve.observed - right.curve.predicted).max() < 0.08
    extreme = horizon_calibration(time, event, 1 - np.exp(-0.5 * np.exp(2 * x)), 0.5, n=30)
    # twice the log hazard ratio is half a slope, up to the truncation at the horizon
    assert extreme.slope.estimate == pytest.approx(0.5, abs=0.05)
    low = horizon_calibration(time, event, 1 - np.exp(-0.25 * np.exp(x)), 0.5, n=30)
    assert low.intercept.estimate == pytest.approx(np.log(2), abs=0.12)
    observed = 1 - KaplanMeierFitter().fit(time, event).predict(0.5)
    assert low.o_e.estimate == pytest.approx(observed / (1 - np.exp(-0.25 * np.exp(x))).mean())
    json.dumps(low.to_dict(), allow_nan=False)


def test_groups_are_kaplan_meier_with_its_interval() -> None:
    time, event, _, survival = cohort(8, 200)
    risk = 1 - survival[:, 1]
    found = horizon_calibration(time, event, risk, 0.5, n=20, n_bins=4)
    rows = np.argsort(risk)[:50]
    fitted = KaplanMeierFitter().fit(time[rows], event[rows])
    assert found.bins[0].n == 50
    assert found.bins[0].observed == pytest.approx(1 - fitted.predict(0.5))
    at = fitted.confidence_interval_[fitted.confidence_interval_.index <= 0.5].iloc[-1]
    value, low, high = observed_risk(time[rows], event[rows], 0.5)
    none = observed_risk([3.0] * 10, [0] * 10, 2.0)
    assert none == (0.0, 0.0, pytest.approx(stats.binomtest(0, 10).proportion_ci().high))
    every = observed_risk([1.0] * 10, [1] * 10, 2.0)
    assert every == (1.0, pytest.approx(stats.binomtest(10, 10).proportion_ci().low), 1.0)
    assert (value, low, high) == pytest.approx((found.bins[0].observed, 1 - at.iloc[1], 1 - at.iloc[0]), abs=1e-9)


def test_report_pairs_model_and_baseline() -> None:
    time, event, risk, survival = cohort(9, 120)
    found = survival_report(time, event, risk, survival, HORIZONS, baseline_risk=np.zeros(120),
                            baseline_survival=np.tile(kaplan_meier(time, event).at(HORIZONS), (120, 1)), n=60)
    gap = found.difference["c_uno"]
    assert gap.estimate == pytest.approx(found.model["c_uno"].estimate - 0.5)
    assert gap.low > 0
    assert found.baseline["ipa@0.5"].estimate == pytest.approx(0, abs=1e-12)
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_has_no_value_says_why() -> None:
    time, _, risk, survival = cohort(10, 30)
    censored = survival_metrics(time, np.zeros(30), risk, survival, HORIZONS)
    assert "no event" in censored.not_estimable["c_harrell"]
    assert "no event" in censored.not_estimable["c_uno"]
    late = survival_metrics(time, np.ones(30), risk, np.full((30, 1), 0.1), [time.max() + 1])
    assert "nobody" in late.not_estimable[f"auc@{time.max() + 1:g}"]
    beyond = survival_metrics([1, 2, 3], [1, 1, 0], [3, 2, 1], np.full((3, 1), 0.5), [9.0])
    assert "beyond the longest follow-up" in beyond.not_estimable["brier@9"]
    assert "beyond the longest follow-up" in beyond.not_estimable["oe@9"]
    assert "two horizons" in beyond.not_estimable["integrated_brier"]
    nobody = survival_metrics([], [], [], np.zeros((0, 1)), [1.0])
    assert not nobody
    with pytest.raises(NotEstimableError, match="beyond"):
        horizon_calibration([1, 2, 3], [1, 1, 0], [0.1, 0.2, 0.3], 9.0)
    flat = horizon_calibration(*cohort(11, 60)[:2], np.full(60, 0.4), 0.5, n=20)
    assert "same prediction" in flat.slope.note
    assert flat.o_e.estimable
    assert flat.curve is None


def test_three_patients() -> None:
    found = survival_report([1, 2, 3], [1, 0, 1], [3, 1, 2], np.full((3, 1), 0.5), [1.5], n=30)
    assert found.model["c_harrell"].estimate == 1.0
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(("change", "words"), [
    ({"time": [1, np.nan, 3]}, "time: 1 value"), ({"time": [1, -2, 3]}, "below zero"),
    ({"event": [1, 2, 0]}, "0 and 1"),
    ({"risk": [1, 2]}, "risk: 2 rows"), ({"survival": np.full((3, 2), 0.5)}, "columns"),
    ({"survival": np.full((3, 1), 1.5)}, "between 0 and 1"), ({"horizons": [0.0]}, "above zero"),
    ({"horizons": []}, "above zero"),
])
def test_bad_input_is_named(change, words) -> None:
    given = {"time": [1, 2, 3], "event": [1, 0, 1], "risk": [3, 1, 2], "survival": np.full((3, 1), 0.5),
             "horizons": [1.5], **change}
    if words.startswith("risk"):
        with pytest.raises(InputError, match=words):
            survival_report(*given.values(), n=5)
    else:
        with pytest.raises(InputError, match=words):
            survival_metrics(*given.values())
