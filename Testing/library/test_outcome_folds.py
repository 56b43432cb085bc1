"""No patient on both sides, everything learnt inside the fold: attacked, spied on, and tried on pure noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import outcome_cases as cases
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IRAILib.biopsy.outcome import Plan, train
from IRAILib.biopsy.outcome import pipeline as pipelines
from IRAILib.biopsy.outcome.combat import ComBat
from IRAILib.biopsy.outcome.crossval import cross_validate, outer_folds
from IRAILib.biopsy.outcome.folds import patient_folds, site_folds
from IRAILib.biopsy.outcome.outcome import Outcome
from IRAILib.biopsy.outcome.pipeline import Recipe
from IRAILib.biopsy.outcome.preprocess import (
    ChainedImputer,
    Encoder,
    MedianImputer,
    RedundancyFilter,
    Scaler,
    YeoJohnson,
)
from IRAILib.biopsy.outcome.scoring import primary
from IRAILib.biopsy.outcome.selection import Selection
from IRAILib.biopsy.outcome.study import prepare
from IRAILib.geometry import RefusedError


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=6, max_size=60), st.integers(2, 6),
       st.integers(0, 50))
def test_no_patient_is_ever_on_both_sides(rows: list[tuple[int, int]], n_folds: int, seed: int) -> None:
    patients = [f"p{patient}" for patient, _ in rows]
    outcome = Outcome("multiclass", ("a", "b", "c"), np.array([label for _, label in rows]))
    if len(set(patients)) < n_folds:
        with pytest.raises(RefusedError, match="can't be split"):
            patient_folds(outcome, patients, n_folds)
        return
    tested: list[int] = []
    for fold in patient_folds(outcome, patients, n_folds, repeat=seed, seed=seed):
        assert not {patients[n] for n in fold.train} & {patients[n] for n in fold.test}
        assert sorted([*fold.train, *fold.test]) == list(range(len(rows)))
        assert len(fold.test)
        tested += fold.test.tolist()
    assert sorted(tested) == list(range(len(rows)))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.booleans()), min_size=40, max_size=120))
def test_a_site_left_out_takes_its_patients_with_it(rows: list[tuple[int, int, bool]]) -> None:
    patients, sites = [f"p{p}" for p, _, _ in rows], [f"s{s}" for _, s, _ in rows]
    outcome = Outcome("binary", ("0", "1"), np.array([int(label) for _, _, label in rows]))
    try:
        folds = site_folds(outcome, patients, sites)
    except RefusedError:
        return
    for fold in folds:
        assert not {patients[n] for n in fold.train} & {patients[n] for n in fold.test}
        assert not {sites[n] for n in fold.train} & {sites[n] for n in fold.test}
    assert sorted(n for fold in folds for n in fold.test) == list(range(len(rows)))


def test_folds_are_balanced_and_repeats_differ() -> None:
    label = np.array([1] * 21 + [0] * 79)
    outcome, patients = Outcome("binary", ("0", "1"), label), cases.patients(100)
    folds = patient_folds(outcome, patients, 5, seed=3)
    assert sorted(int(label[fold.test].sum()) for fold in folds) == [4, 4, 4, 4, 5]
    assert {len(fold.test) for fold in folds} == {20}
    other = patient_folds(outcome, patients, 5, repeat=1, seed=3)
    assert [f.test.tolist() for f in folds] != [f.test.tolist() for f in other]
    assert [f.test.tolist() for f in folds] == [f.test.tolist() for f in patient_folds(outcome, patients, 5, seed=3)]


def test_nothing_learns_from_a_row_outside_its_training_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A canary column says which row a value came from; every fit is listened to."""
    columns = cases.class_columns(60, 4)
    columns["lab_canary"] = [1000.0 + n + 0.5 * (n % 2) for n in np.random.default_rng(0).permutation(60)]
    columns["lab_word"] = [f"w{n % 3}" for n in range(60)]
    columns["hospital"] = [f"h{n % 2}" for n in range(60)]
    plan = Plan("label", patient="patient", site="hospital", power_transform=True, harmonise="combat",
                selection="univariate", balance="smote", imputation="chained", inner_folds=3)
    study = prepare(cases.table(columns), plan)
    place = study.rows.number_names.index("lab_canary")
    canary = study.rows.numbers[:, place]
    heard: list[tuple[str, int]] = []
    allowed: list[np.ndarray] = [np.zeros(0)]

    def spy(kind: Any) -> None:
        whole = kind.fit

        def fit(self: Any, data: Any, *rest: Any) -> Any:
            if kind is Encoder:
                seen = data.numbers[:, data.number_names.index("lab_canary")]
                assert set(seen) <= set(allowed[0])
            assert len(data) <= len(allowed[0])
            heard.append((kind.kind, len(data)))
            return whole(self, data, *rest)
        monkeypatch.setattr(kind, "fit", fit)
    kinds = (Encoder, ChainedImputer, ComBat, YeoJohnson, Scaler, RedundancyFilter, Selection)
    for kind in kinds:
        spy(kind)
    fitted = pipelines._fit_models

    def fit_models(recipe: Any, family: Any, grid: Any, values: np.ndarray, *rest: Any) -> Any:
        assert len(values) <= len(allowed[0])
        heard.append(("model", len(values)))
        return fitted(recipe, family, grid, values, *rest)
    monkeypatch.setattr(pipelines, "_fit_models", fit_models)
    for fold in outer_folds(study, 1)[:2]:
        allowed[0] = canary[fold.train]
        cross_validate(study, Recipe(plan, study.candidates, "linear"), [fold], "model")
    assert {name for name, _ in heard} == {kind.kind for kind in kinds} | {"model"}
    sizes = sorted({size for name, size in heard if name == "model"})
    assert sizes == [32, 48]


def test_test_rows_change_nothing_but_their_own_predictions() -> None:
    """Other values in a held-out row leave every other held-out row of its fold as it was."""
    columns = cases.class_columns(60, 5)
    plan = Plan("label", patient="patient", repeats=1)
    first = prepare(cases.table(columns), plan)
    fold = outer_folds(first, 1)[0]
    columns["morph_a"] = [99.0 if n == fold.test[0] else value for n, value in enumerate(columns["morph_a"])]
    second = prepare(cases.table(columns), plan)
    found = [cross_validate(study, Recipe(plan, study.candidates, "linear"), [fold], "model").held.probability
             for study in (first, second)]
    assert (found[0][1:] == found[1][1:]).all()
    assert found[0][0, 1] != found[1][0, 1]


@pytest.mark.parametrize("kind", ["class", "survival"])
def test_pure_noise_with_more_columns_than_patients_is_a_coin(kind: str) -> None:
    """Selection outside the fold would give an AUC near 0.9 here."""
    found = []
    for seed in range(5):
        random = np.random.default_rng(100 + seed)
        columns: dict[str, list] = {"patient": cases.patients(50)}
        columns |= {f"lab_{k}": random.normal(size=50).tolist() for k in range(150)}
        columns |= {"y": [n % 2 for n in range(50)], "t": random.exponential(size=50).tolist()}
        columns = {name: cells for name, cells in columns.items() if name != "t" or kind == "survival"}
        plan = Plan("y", time="t" if kind == "survival" else None, patient="patient", repeats=1, selection="univariate",
                    inner_folds=3)
        study = prepare(cases.table(columns), plan)
        held = cross_validate(study, Recipe(plan, study.candidates, "linear"), outer_folds(study), "model").held
        found.append(primary(held))
    assert abs(np.mean(found) - 0.5) < 0.1


def test_a_real_signal_is_found_and_the_null_is_one_half() -> None:
    plan = Plan("label", patient="patient", repeats=1, permutations=9, bootstraps=50, sensitivity=True, inner_folds=3)
    run = train(cases.table(cases.class_columns(120, 7)), plan)
    auc = run.scores["model"]["auc"]
    assert 0.75 < auc["estimate"] < 0.95
    assert auc["low"] < auc["estimate"] < auc["high"]
    assert run.scores["null"]["auc"]["estimate"] == 0.5
    assert run.permutation is not None
    assert run.permutation["p"] == 0.1
    assert abs(np.mean(run.permutation["null"]) - 0.5) < 0.12
    assert {part["name"] for part in run.sensitivity} == {"only clinical", "only imaging"}
    assert run.selected["morph_a"] == run.selected["lab_a"] == 1.0
    assert run.held_out["model"].patient.tolist() == run.held_out["null"].patient.tolist()
    assert len(set(zip(run.held_out["model"].repeat.tolist(), run.held_out["model"].row.tolist(), strict=True))) == 120


@pytest.mark.parametrize("balance", ["weights", "smote"])
@pytest.mark.parametrize("family", ["linear", "boosting", "forest"])
def test_balanced_training_still_gives_probabilities(balance: str, family: str) -> None:
    """One in six has the event; a model fitted on balanced classes would expect about every other one."""
    columns = cases.class_columns(240, 9, noise=1)
    score = np.array(columns["morph_a"]) - np.array(columns["lab_a"]) + np.random.default_rng(2).logistic(size=240)
    columns["label"] = ["yes" if value > np.quantile(score, 5 / 6) else "no" for value in score]
    plan = Plan("label", patient="patient", balance=balance, inner_folds=2, outer_folds=3)
    study = prepare(cases.table(columns), plan)
    held = cross_validate(study, Recipe(plan, study.candidates, family), outer_folds(study, 1), "model").held
    assert held.probability is not None
    assert held.probability[:, 1].mean() == pytest.approx(1 / 6, abs=0.05)
    assert primary(held) > 0.65


def test_median_imputer_is_a_transformer_of_its_own_rows() -> None:
    from IRAILib.biopsy.outcome.matrix import Matrix

    none, random = Outcome("binary", ("0", "1"), np.zeros(4, int)), np.random.default_rng(0)
    data = Matrix(np.array([[1.0, np.nan], [3, 1], [np.nan, 1], [5, 0]]), ("a", "b"), ("a", "b"))
    found = MedianImputer().fit(data, none, random).transform(data)
    assert found.names == ("a", "b", "a missing", "b missing")
    assert found.values.tolist() == [[1, 1, 0, 1], [3, 1, 0, 0], [3, 1, 1, 0], [5, 0, 0, 0]]
