"""Similarity gate: scikit-learn's shrinkage, explicit leave-one-out, the rate of refusals, far and odd patients."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.biopsy.outcome.evaluate import NotEstimableError, Similarity
from IRAILib.biopsy.outcome.evaluate.similarity import leave_one_out, ledoit_wolf, upper_quantile
from IRAILib.geometry import InputError
from sklearn.covariance import ledoit_wolf as peer


def named(p: int) -> list[str]:
    return [f"x{k}" for k in range(p)]


def again(made: Similarity) -> Similarity:
    return Similarity.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False)))


@pytest.mark.parametrize(("n", "p"), [(50, 4), (20, 60), (200, 30)])
def test_shrinkage_beside_scikit_learn(n: int, p: int) -> None:
    random = np.random.default_rng(n)
    z = random.normal(size=(n, p)) @ random.normal(size=(p, p))
    z -= z.mean(axis=0)
    ours, share = ledoit_wolf(z)
    covariance, other = peer(z, assume_centered=True)
    assert share == pytest.approx(other, abs=1e-12)
    assert np.allclose(ours, covariance)


@pytest.mark.parametrize(("n", "p"), [(30, 3), (12, 20)])
def test_leave_one_out_formula_against_leaving_out(n: int, p: int) -> None:
    random = np.random.default_rng(p)
    z = random.normal(size=(n, p)) @ random.normal(size=(p, p))
    z -= z.mean(axis=0)
    shrunk, share = ledoit_wolf(z)
    target = share * np.trace(shrunk) / p * np.eye(p)
    expected = []
    for row in range(n):
        rest = np.delete(z, row, axis=0)
        gap = z[row] - rest.mean(axis=0)
        inner = rest - rest.mean(axis=0)
        expected.append(np.sqrt(gap @ np.linalg.inv((1 - share) * inner.T @ inner / (n - 1) + target) @ gap))
    assert leave_one_out(z, np.zeros((n, p), bool), shrunk, share) == pytest.approx(np.array(expected), rel=1e-6)


def test_missing_inputs_use_their_own_block() -> None:
    random = np.random.default_rng(0)
    z = random.normal(size=(40, 4))
    shrunk, share = ledoit_wolf(z)
    absent = np.zeros((40, 4), bool)
    absent[3, 2] = True
    there = [0, 1, 3]
    b = (1 - share) * 40 / 39**2
    target = share * np.trace(shrunk) / 4 * np.eye(3)
    base = (shrunk[np.ix_(there, there)] - target) * 40 / 39 + target
    q = z[3, there] @ np.linalg.inv(base) @ z[3, there]
    assert leave_one_out(z, absent, shrunk, share)[3] == pytest.approx(
        40 / 39 * np.sqrt(4 / 3 * q / (1 - b * q)), rel=1e-6)


@pytest.mark.parametrize(("n", "p", "cohorts"), [(70, 5, 20), (300, 8, 20), (40, 60, 12)])
def test_patients_like_the_training_ones_are_refused_at_the_nominal_rate(n: int, p: int, cohorts: int) -> None:
    """Correlated inputs, one of them skewed; alpha 0.1; p above n too. Two halves of alpha overlap: 0.04 to 0.13."""
    random, refused = np.random.default_rng(1), []
    for _ in range(cohorts):
        mix = random.normal(size=(p, p)) + 2 * np.eye(p)

        def draw(size: int, mix: np.ndarray = mix) -> np.ndarray:
            rows = random.normal(size=(size, p)) @ mix
            rows[:, 0] = np.exp(rows[:, 0] / 10)
            return rows

        made = Similarity.fit(draw(n), named(p), alpha=0.1)
        refused += [not one.inside for one in made.score(draw(60))]
    assert 0.04 < np.mean(refused) < 0.13


def test_far_patients_are_refused_and_the_input_is_named() -> None:
    random = np.random.default_rng(2)
    rows = random.normal(size=(80, 6)) * [1, 10, 100, 1, 1, 1] + [0, 50, 0, 0, 0, 0]
    made = again(Similarity.fit(rows, named(6)))
    normal = made.score(np.array([0, 50, 0, 0, 0, 0.0]))[0]
    assert normal.inside
    assert normal.percentile < 5
    assert normal.features == ()
    far = made.score([[0, 150, 0, 0, 0, 0]])[0]
    assert not far.inside
    assert far.features[0].name == "x1"
    assert far.features[0].z == pytest.approx(10, rel=0.3)
    assert far.features[0].range[0] < 50 < far.features[0].range[1]
    assert far.features[0].share > 0.9
    assert "x1 = 150" in " ".join(far.reasons)
    json.dumps(far.to_dict(), allow_nan=False)


def test_a_broken_relation_is_foreign_though_each_input_is_usual() -> None:
    random = np.random.default_rng(3)
    first = random.normal(size=200)
    rows = np.column_stack([first, first + 0.1 * random.normal(size=200), random.normal(size=200)])
    found = Similarity.fit(rows, ["volume", "surface", "age"]).score([[1.5, -1.5, 0.0]])[0]
    assert not found.inside
    assert {one.name for one in found.features if one.share > 0.5} == {"volume", "surface"}
    assert all("given the other" in one.reason for one in found.features)


def test_collinear_constant_and_doubled_columns_work() -> None:
    random = np.random.default_rng(4)
    first = random.normal(size=50)
    rows = np.column_stack([first, first, 2 * first + 1, np.full(50, 7.0), random.integers(0, 2, 50)])
    made = again(Similarity.fit(rows, named(5)))
    assert made.score([[0.1, 0.1, 1.2, 7.0, 1.0]])[0].inside
    moved = made.score([[0.1, 0.1, 1.2, 8.0, 1.0]])[0]
    assert not moved.inside
    assert "was 7 in every training patient" in moved.reasons[0]
    assert not made.score([[0.1, 3.0, 1.2, 7.0, 1.0]])[0].inside


def test_categories_and_missing_values() -> None:
    random = np.random.default_rng(5)
    rows = random.normal(size=(60, 4))
    rows[::7, 1] = np.nan
    made = again(Similarity.fit(rows, named(4), categories={"centre": ["A", "B"] * 30, "stage": ["0"] * 60}))
    known, strange, unsaid = made.score(np.zeros((3, 4)), {"centre": ["A", "C", None], "stage": ["0", "0", "0"]})
    assert known.inside
    assert unsaid.inside
    assert strange.reasons == ("centre = C: never seen in training (A, B)",)
    assert strange.features[0].value == "C"
    assert made.score([[0, np.nan, 0, 0]])[0].missing == 0.25
    assert made.score([[0, np.nan, 0, 0]])[0].inside
    sparse = made.score([[0, np.nan, np.nan, np.nan]])[0]
    assert "75 % of the inputs are missing" in sparse.reasons[0]
    nothing = made.score([[np.nan] * 4])[0]
    assert nothing.distance is None
    assert not nothing.inside
    json.dumps(nothing.to_dict(), allow_nan=False)


def test_no_row_of_a_patient_is_kept() -> None:
    random = np.random.default_rng(6)
    rows = random.normal(size=(60, 3))
    kept = np.concatenate([np.ravel(value) for value in Similarity.fit(rows, named(3)).__dict__.values()
                           if isinstance(value, np.ndarray | float)])
    assert not np.isin(rows.ravel(), kept).any()


def test_quantile_of_a_further_one() -> None:
    values = np.arange(1.0, 20.0)
    assert upper_quantile(values, 0.1) == 18
    assert upper_quantile(values, 0.01) == 19
    assert "too few" in Similarity.fit(np.random.default_rng(0).normal(size=(10, 2)), named(2)).notes[0]


@pytest.mark.parametrize(("matrix", "error", "words"), [
    (np.zeros((3, 2)), NotEstimableError, "needs 5"), (np.ones((30, 2)), NotEstimableError, "no input varies"),
    (np.zeros((30, 3)), InputError, "rows of 2"), (np.full((30, 2), np.inf), InputError, "infinite"),
    ([["a", "b"]] * 9, InputError, "not numbers"),
    (np.column_stack([np.arange(30.0), np.full(30, np.nan)]), InputError, "'x1' has no value"),
])
def test_bad_input_is_named(matrix, error, words) -> None:
    with pytest.raises(error, match=words):
        Similarity.fit(matrix, named(2))
