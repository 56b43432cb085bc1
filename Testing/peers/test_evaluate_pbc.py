"""Figures of a real trial (Mayo PBC, times in days with ties) beside scikit-survival, lifelines, and in proportion."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from IRAILib.biopsy.outcome.evaluate import (
    ConformalSurvival,
    aalen_johansen,
    competing_metrics,
    harrell_c,
    horizon_calibration,
    kaplan_meier,
    survival_metrics,
)

HORIZONS = np.array([730.0, 1826.0, 2922.0])
GRID = np.linspace(30, 3650, 122)


@pytest.fixture(scope="module")
def trial(data):
    """time (days), status (0 censored, 1 transplanted, 2 dead), columns, survival at HORIZONS and GRID, five folds."""
    import pandas as pd
    from lifelines import CoxPHFitter

    with open(data / "radiomics" / "pbc_mayo.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if all(row[name] not in ("", "NA") for name in
                                                          ("age", "bili", "albumin", "protime", "edema"))]
    table = pd.DataFrame({"time": [float(row["time"]) for row in rows], "status": [int(row["status"]) for row in rows],
                          "bili": [np.log(float(row["bili"])) for row in rows],
                          **{name: [float(row[name]) for row in rows] for name in ("age", "albumin", "edema")}})
    fold = np.random.default_rng(0).permutation(len(table)) % 5
    at, curves = np.zeros((len(table), 3)), np.zeros((len(table), len(GRID)))
    for one in range(5):
        train = table[fold != one].assign(status=(table.status == 2).astype(int)[fold != one])
        model = CoxPHFitter().fit(train, "time", "status")
        at[fold == one] = model.predict_survival_function(table[fold == one], times=HORIZONS).T
        curves[fold == one] = model.predict_survival_function(table[fold == one], times=GRID).T
    return table.time.to_numpy(), table.status.to_numpy(), at, curves, fold


def test_figures_beside_scikit_survival(trial) -> None:
    from sksurv import metrics as peer
    from sksurv.util import Surv

    time, status, at, _, _ = trial
    dead = status == 2
    structured = Surv.from_arrays(dead, time)
    found = survival_metrics(time, dead, 1 - at[:, 1], at, HORIZONS)
    uno = peer.concordance_index_ipcw(structured, structured, 1 - at[:, 1], tau=HORIZONS[-1])[0]
    assert found["c_uno"] == pytest.approx(uno, abs=0.002)  # deaths that tie with a censoring: G before or at the tie
    aucs, _ = peer.cumulative_dynamic_auc(structured, structured, 1 - at, HORIZONS)
    _, briers = peer.brier_score(structured, structured, at, HORIZONS)
    for place, horizon in enumerate(HORIZONS):
        assert found[f"auc@{horizon:g}"] == pytest.approx(aucs[place], abs=0.002)
        assert found[f"brier@{horizon:g}"] == pytest.approx(briers[place], abs=0.002)
    assert harrell_c(time, dead, 1 - at[:, 1]) == pytest.approx(
        peer.concordance_index_censored(dead, time, 1 - at[:, 1])[0], abs=1e-12)


def test_held_out_cox_is_calibrated_and_bounds_hold(trial) -> None:
    time, status, at, curves, fold = trial
    found = horizon_calibration(time, status == 2, 1 - at[:, 1], HORIZONS[1], n=100)
    assert found.o_e.low < 1 < found.o_e.high
    assert found.slope.low < 1 < found.slope.high
    made = ConformalSurvival.from_scores(time, status == 2, curves, GRID, folds=fold, origin="cross", alphas=(0.1, 0.2))
    for alpha in (0.1, 0.2):
        measured = made.coverage[f"{alpha:g}"]["lower_bound"]
        assert measured["low"] < 1 - alpha < measured["high"]


def test_transplant_competes_with_death(trial) -> None:
    from lifelines import AalenJohansenFitter

    time, status, at, _, _ = trial
    cause = np.array([0, 2, 1])[status]
    jittered = time + np.random.default_rng(1).uniform(0, 1e-6, len(time))
    fitted = AalenJohansenFitter().fit(jittered, cause, 1)
    ours = aalen_johansen(time, cause, 1)
    assert ours.at(HORIZONS) == pytest.approx(np.ravel(fitted.predict(HORIZONS)), abs=1e-3)
    assert (ours.at(HORIZONS) < 1 - kaplan_meier(time, status == 2).at(HORIZONS)).all()
    found = competing_metrics(time, cause, 1 - at, HORIZONS)
    assert found["oe@2922"] < survival_metrics(time, status == 2, 1 - at[:, 1], at, HORIZONS)["oe@2922"]
    assert 0.7 < found["c_wolbers_ipcw"] < 0.9
