"""Competing risks: lifelines' Aalen-Johansen, brute force over pairs, and the case without a competitor."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.biopsy.outcome.evaluate import (
    NotEstimableError,
    aalen_johansen,
    brier_at,
    censoring_curve,
    competing_metrics,
    competing_report,
    dynamic_auc,
    harrell_c,
    horizon_calibration,
    kaplan_meier,
    observed_risk,
    pseudo_values,
    uno_c,
    wolbers_c,
)
from IRAILib.biopsy.outcome.evaluate.competing import incidence_auc, incidence_brier
from IRAILib.biopsy.outcome.evaluate.curves import incidence_at
from IRAILib.geometry import InputError
from lifelines import AalenJohansenFitter

HORIZONS = np.array([0.3, 0.8])


def cohort(seed: int, n: int = 120, censor: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """time, cause (hazards exp(x) and 0.6), x, true incidence of cause 1 at HORIZONS."""
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    own = np.exp(x)
    total = own + 0.6
    times = random.exponential(1 / total)
    cause = np.where(random.random(n) < own / total, 1, 2)
    stop = random.exponential(1.5, n) if censor else np.full(n, np.inf)
    incidence = (own / total)[:, None] * (1 - np.exp(-total[:, None] * HORIZONS))
    return np.minimum(times, stop), np.where(times <= stop, cause, 0), x, incidence


@pytest.mark.parametrize("seed", range(3))
def test_aalen_johansen_beside_lifelines(seed: int) -> None:
    time, cause, _, _ = cohort(seed)
    fitted = AalenJohansenFitter(calculate_variance=True).fit(time, cause, 1)
    ours = aalen_johansen(time, cause, 1)
    for grid in (0.2, 0.7, 1.4):
        assert float(ours.at(grid)) == pytest.approx(float(fitted.predict(grid)), abs=1e-10)
        assert incidence_at(time, cause, 1, grid) == pytest.approx(float(ours.at(grid)), abs=1e-12)
        variance = float(np.ravel(fitted.variance_[fitted.variance_.index <= grid])[-1])
        assert float(ours.variance_at(grid)) == pytest.approx(variance, rel=1e-6)


def test_causes_add_up_with_ties_by_hand() -> None:
    time, cause = [1, 1, 2, 2, 3], [1, 2, 1, 0, 2]
    assert aalen_johansen(time, cause, 1).at([1, 2, 3]) == pytest.approx([0.2, 0.4, 0.4])
    assert aalen_johansen(time, cause, 2).at([1, 2, 3]) == pytest.approx([0.2, 0.2, 0.6])
    free = kaplan_meier(time, np.asarray(cause) > 0).at([1, 2, 3])
    total = aalen_johansen(time, cause, 1).at([1, 2, 3]) + aalen_johansen(time, cause, 2).at([1, 2, 3])
    assert total + free == pytest.approx([1, 1, 1])


def slow_c(time, cause, risk, until: float, weighted: bool) -> float:
    curve = censoring_curve(time, cause > 0)
    good = total = 0.0
    for i in range(len(time)):
        if cause[i] != 1 or time[i] >= until:
            continue
        for j in range(len(time)):
            if j == i:
                continue
            if time[j] > time[i]:
                weight = 1 / (float(curve.before(time[i])) * float(curve.at(time[i])))
            elif cause[j] == 2:
                weight = 1 / (float(curve.before(time[i])) * float(curve.before(time[j])))
            else:
                continue
            weight = weight if weighted else 1.0
            total += weight
            good += weight * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))
    return good / total


@pytest.mark.parametrize("weighted", [False, True])
def test_wolbers_over_all_pairs(weighted: bool) -> None:
    time, cause, x, _ = cohort(4, 60)
    risk = np.round(x, 1)
    assert wolbers_c(time, cause, risk, until=0.8, weighted=weighted) == pytest.approx(
        slow_c(time, cause, risk, 0.8, weighted))


def test_by_hand() -> None:
    # patient 0 has the event at 1; 1 dies of another cause at 0.5 and stays a partner; 2 is censored before: no partner
    assert wolbers_c([1, 0.5, 0.7, 2], [1, 2, 0, 0], [3, 5, 9, 1], weighted=False) == 0.5


def test_without_a_competitor_they_are_the_survival_figures() -> None:
    time, cause, x, incidence = cohort(5)
    event = cause > 0
    single = event.astype(int)
    assert wolbers_c(time, single, x, weighted=False) == pytest.approx(harrell_c(time, event, x))
    assert wolbers_c(time, single, x, until=0.8) == pytest.approx(uno_c(time, event, x, until=0.8))
    chance = incidence[:, 1]
    assert incidence_brier(time, single, chance, 0.8) == pytest.approx(brier_at(time, event, 1 - chance, 0.8))
    assert incidence_auc(time, single, chance, 0.8) == pytest.approx(dynamic_auc(time, event, chance, 0.8))


def test_without_censoring_they_are_the_plain_figures() -> None:
    from sklearn.metrics import roc_auc_score

    time, cause, _, incidence = cohort(6, censor=False)
    had, chance = (cause == 1) & (time <= 0.8), incidence[:, 1]
    assert incidence_brier(time, cause, chance, 0.8) == pytest.approx(((chance - had) ** 2).mean())
    assert incidence_auc(time, cause, chance, 0.8) == pytest.approx(roc_auc_score(had, chance))
    assert pseudo_values(time, cause, 0.8, 1) == pytest.approx(had.astype(float), abs=1e-9)
    assert observed_risk(time, cause, 0.8, 1)[0] == pytest.approx(had.mean())


def test_the_weights_undo_the_censoring() -> None:
    """Weighted C of a censored cohort estimates that of the same cohort followed to the end."""
    full = cohort(7, 3000, censor=False)
    cut = cohort(7, 3000)
    target = wolbers_c(full[0], full[1], full[2], until=0.8, weighted=False)
    assert wolbers_c(cut[0], cut[1], cut[2], until=0.8) == pytest.approx(target, abs=0.02)


def test_the_true_incidence_is_calibrated_and_one_minus_kaplan_meier_is_not() -> None:
    time, cause, _, incidence = cohort(8, 2000)
    found = horizon_calibration(time, cause, incidence[:, 1], 0.8, cause=1, n=30)
    assert found.o_e.low < 1 < found.o_e.high
    assert found.slope.low < 1 < found.slope.high
    assert found.intercept.low < 0 < found.intercept.high
    naive = 1 - float(kaplan_meier(time, cause == 1).at(0.8))
    assert naive > incidence_at(time, cause, 1, 0.8) + 0.03
    metrics = competing_metrics(time, cause, incidence, HORIZONS)
    assert metrics["oe@0.8"] == pytest.approx(found.o_e.estimate)
    assert 0.1 < metrics["ipa@0.8"] < 0.5
    json.dumps(found.to_dict(), allow_nan=False)


def test_report_and_its_gaps() -> None:
    time, cause, _, incidence = cohort(9, 80)
    null = np.tile([incidence_at(time, cause, 1, h) for h in HORIZONS], (80, 1))
    report = competing_report(time, cause, incidence, HORIZONS, baseline_incidence=null, n=30)
    assert report.baseline["ipa@0.8"].estimate == pytest.approx(0, abs=1e-12)
    assert report.baseline["c_wolbers"].estimate == 0.5
    assert report.difference["brier@0.8"].high < 0.05
    json.dumps(report.to_dict(), allow_nan=False)
    none = competing_metrics(time, np.where(cause == 1, 0, cause), incidence, HORIZONS)
    assert "no event of cause 1" in none.not_estimable["c_wolbers"]
    cause[time.argmax()] = 0
    assert "beyond" in competing_metrics(time, cause, incidence[:, :1], [99.0]).not_estimable["brier@99"]
    assert not competing_metrics([], [], np.zeros((0, 1)), [1.0])
    with pytest.raises(InputError, match="0 means censored"):
        competing_metrics([1.0], [-1], [[0.5]], [1.0])
    with pytest.raises(NotEstimableError, match="no patient"):
        aalen_johansen([], [])
