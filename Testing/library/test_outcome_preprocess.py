"""Transformers against published formulas and independent programs, and through their plain state."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from IRAILib.biopsy.outcome.combat import ComBat
from IRAILib.biopsy.outcome.matrix import Matrix, Rows
from IRAILib.biopsy.outcome.outcome import Outcome
from IRAILib.biopsy.outcome.pipeline import TRANSFORMERS
from IRAILib.biopsy.outcome.preprocess import ChainedImputer, Encoder, RedundancyFilter, Scaler, YeoJohnson
from IRAILib.biopsy.outcome.selection import Selection
from IRAILib.biopsy.outcome.smote import smote
from IRAILib.geometry import RefusedError

RANDOM = np.random.default_rng(0)


def matrix(values: np.ndarray, site: list[str] | None = None) -> Matrix:
    names = tuple(f"c{k}" for k in range(values.shape[1]))
    return Matrix(values, names, names, None if site is None else np.array(site, object))


def outcome(label: np.ndarray) -> Outcome:
    return Outcome("binary", ("0", "1"), label)


def sites(n: int = 24, q: int = 5) -> tuple[Matrix, np.ndarray]:
    random = np.random.default_rng(2)
    site = np.array(["a"] * (n // 3) + ["b"] * (n - n // 3))
    first = (site == "a")[:, None]
    values = random.normal(size=(n, q)) * np.where(first, 2.0, 1.0) + np.where(first, 3.0, 0)
    return matrix(values, site.tolist()), site


def test_combat_is_the_published_formula_step_by_step() -> None:
    """Johnson 2007, equations of section 3.1 and 3.2, feature by feature with plain loops."""
    data, site = sites()
    found = ComBat(data.names).fit(data, outcome(np.zeros(24, int)), RANDOM).transform(data).values
    x, n, q = data.values, 24, 5
    grand = [sum((site == s).sum() / n * x[site == s, g].mean() for s in "ab") for g in range(q)]
    variance = [np.mean([(x[r, g] - x[site == site[r], g].mean()) ** 2 for r in range(n)]) for g in range(q)]
    z = np.array([[(x[r, g] - grand[g]) / np.sqrt(variance[g]) for g in range(q)] for r in range(n)])
    expected = np.zeros_like(x)
    for s in "ab":
        mine = z[site == s]
        m = len(mine)
        gamma, delta = mine.mean(axis=0), mine.var(axis=0, ddof=1)
        tau2, bar = gamma.var(ddof=1), gamma.mean()
        v, s2 = delta.mean(), delta.var(ddof=1)
        lam, theta = (v**2 + 2 * s2) / s2, (v**3 + v * s2) / s2
        for g in range(q):
            g_star, d_star = gamma[g], delta[g]
            for _ in range(2000):
                g_star = (m * tau2 * gamma[g] + d_star * bar) / (m * tau2 + d_star)
                d_star = (theta + 0.5 * ((mine[:, g] - g_star) ** 2).sum()) / (m / 2 + lam - 1)
            expected[site == s, g] = np.sqrt(variance[g]) * (mine[:, g] - g_star) / np.sqrt(d_star) + grand[g]
    assert found == pytest.approx(expected, abs=1e-5)


def test_combat_takes_the_site_out_and_refuses_an_unseen_one() -> None:
    data, site = sites(n=90)
    made = ComBat(data.names).fit(data, outcome(np.zeros(90, int)), RANDOM)
    after = made.transform(data).values
    assert np.abs(after[site == "a"].mean(axis=0) - after[site == "b"].mean(axis=0)).max() < 0.35
    assert after[site == "a"].std() / after[site == "b"].std() == pytest.approx(1, abs=0.1)
    new = matrix(data.values[:2], ["a", "z"])
    with pytest.raises(RefusedError, match="site 'z'"):
        made.transform(new)
    passing = ComBat(data.names, refuse_unseen=False).fit(data, outcome(np.zeros(90, int)), RANDOM)
    assert (passing.transform(new).values[1] == data.values[1]).all()
    assert passing.transform(new).values[0] == pytest.approx(after[0])


def test_smote_gives_the_counts_and_the_place_of_imbalanced_learn() -> None:
    peer = pytest.importorskip("imblearn.over_sampling")
    random = np.random.default_rng(1)
    values = random.normal(size=(60, 4)) + np.repeat([0, 2, 4], [35, 15, 10])[:, None]
    label = np.repeat([0, 1, 2], [35, 15, 10])
    ours, ours_label = smote(values, label, seed=3)
    theirs, theirs_label = peer.SMOTE(random_state=0).fit_resample(values, label)
    assert Counter(ours_label.tolist()) == Counter(theirs_label.tolist()) == {0: 35, 1: 35, 2: 35}
    assert (ours[:60] == values).all()
    for kind in (1, 2):
        assert np.abs(ours[ours_label == kind].mean(axis=0) - theirs[theirs_label == kind].mean(axis=0)).max() < 0.5
        low, high = values[label == kind].min(axis=0), values[label == kind].max(axis=0)
        assert ((ours[ours_label == kind] >= low - 1e-12) & (ours[ours_label == kind] <= high + 1e-12)).all()


def test_smote_invents_no_category() -> None:
    random = np.random.default_rng(1)
    level = random.integers(0, 3, 40)
    flags = np.eye(3)[level][:, 1:]
    values = np.column_stack([random.normal(size=(40, 2)), flags])
    label = np.repeat([0, 1], [30, 10])
    ours, kind = smote(values, label, [[2, 3]])
    assert set(map(tuple, ours[:, 2:])) <= {(0, 0), (1, 0), (0, 1)}
    assert (kind == 1).sum() == 30
    empty, none = smote(np.zeros((0, 2)), np.zeros(0, int))
    assert (len(empty), len(none)) == (0, 0)
    assert len(smote(values[:31], label[:31], [[2, 3]])[0]) == 31


def test_encoder_keeps_levels_of_training() -> None:
    words = np.array([["A"]] * 10 + [["B"]] * 6 + [["C"]] + [[None]] * 4, object)
    rows = Rows(np.zeros((21, 0)), (), words, ("grade",), {})
    made = Encoder().fit(rows)
    assert made.transform(rows).names == ("grade = B", "grade = (other)", "grade = (missing)")
    new = Rows(np.zeros((3, 0)), (), np.array([["Z"], ["A"], [None]], object), ("grade",), {})
    assert made.transform(new).values.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert made.unknown_levels(new) == [["grade = Z"], [], []]


def test_chained_imputation_finds_what_the_other_columns_know() -> None:
    random = np.random.default_rng(5)
    x = random.normal(size=(200, 3))
    x[:, 2] = 2 * x[:, 0] - x[:, 1] + 0.1 * random.normal(size=200)
    gap = random.random(200) < 0.2
    holes = x.copy()
    holes[gap, 2] = np.nan
    found = ChainedImputer().fit(matrix(holes), outcome(np.zeros(200, int)), RANDOM).transform(matrix(holes)).values
    assert np.sqrt(((found[gap, 2] - x[gap, 2]) ** 2).mean()) < 0.3 * x[:, 2].std()


def test_redundancy_filter_keeps_one_of_two() -> None:
    random = np.random.default_rng(6)
    x = random.normal(size=(50, 3))
    values = np.column_stack([x, x[:, 0] + 1e-3 * x[:, 1], np.ones(50)])
    made = RedundancyFilter(0.95).fit(matrix(values), outcome(np.zeros(50, int)), RANDOM)
    assert len(made.kept) == 3
    assert len({0, 3} & set(made.kept)) == 1


@pytest.mark.parametrize("method", ["univariate", "stability", "elastic-net"])
def test_selection_finds_the_columns_that_matter_within_its_bound(method: str) -> None:
    random = np.random.default_rng(7)
    x = random.normal(size=(150, 20))
    label = (2 * x[:, 3] - 2 * x[:, 8] + random.logistic(size=150) > 0).astype(int)
    made = Selection(method, 4, 5.0).fit(matrix(x), outcome(label), np.random.default_rng(1))
    assert {3, 8} <= set(made.kept)
    assert len(made.kept) <= 4


@pytest.mark.parametrize("kind", sorted(TRANSFORMERS))
def test_plain_state_gives_the_same_transformer(kind: str) -> None:
    import json

    random = np.random.default_rng(8)
    values = np.exp(random.normal(size=(40, 4)))
    if "impute" in kind:
        values[::3, 1] = np.nan
    data = matrix(values, ["a", "b"] * 20)
    made = {"combat": lambda: ComBat(["c0", "c1"]), "redundancy": lambda: RedundancyFilter(0.9),
            "select": lambda: Selection("univariate", 2, 5.0)}.get(kind, TRANSFORMERS[kind])()
    made = made.fit(data, outcome(np.tile([0, 1], 20)), random)
    state = json.loads(json.dumps(made.state(), allow_nan=False))
    again = TRANSFORMERS[kind].from_state(state)
    assert (again.transform(data).values == made.transform(data).values).all()
    assert again.transform(data).names == made.transform(data).names


def test_scaling_and_power_transform_are_bounded_for_hostile_values() -> None:
    random = np.random.default_rng(9)
    data = matrix(np.exp(3 * random.normal(size=(40, 2))))
    none = outcome(np.zeros(40, int))
    power = YeoJohnson().fit(data, none, random)
    scale = Scaler().fit(power.transform(data), none, random)
    for extreme in (0.0, 1e12, -1e12):
        found = scale.transform(power.transform(matrix(np.full((1, 2), extreme)))).values
        assert np.isfinite(found).all()
        assert np.abs(found).max() <= 6
