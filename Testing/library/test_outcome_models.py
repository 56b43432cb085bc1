"""Models against independent programs: scikit-learn, lifelines, scikit-survival; and against known coefficients."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from IRAILib.biopsy.outcome.models.boosting import BoostingFamily, BoostingModel
from IRAILib.biopsy.outcome.models.competing import CompetingFamily
from IRAILib.biopsy.outcome.models.cox import CoxFamily, CoxLoss, step_at
from IRAILib.biopsy.outcome.models.elastic_net import largest_strength, minimise
from IRAILib.biopsy.outcome.models.forest import ForestFamily, ForestModel
from IRAILib.biopsy.outcome.models.logistic import LogisticFamily, LogisticLoss
from IRAILib.biopsy.outcome.models.null import NullFamily
from IRAILib.biopsy.outcome.models.trees import Trees
from IRAILib.biopsy.outcome.outcome import Outcome


def cases(n: int = 90, p: int = 8, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, p))
    return (x - x.mean(axis=0)) / x.std(axis=0), x[:, 0] - 0.7 * x[:, 1]


def binary(n: int = 90, p: int = 8) -> tuple[np.ndarray, Outcome]:
    x, score = cases(n, p)
    label = (score + np.random.default_rng(4).logistic(size=n) > 0).astype(int)
    return x, Outcome("binary", ("0", "1"), label)


def survival(n: int = 90, p: int = 8, *, causes: int = 1, ties: bool = True) -> tuple[np.ndarray, Outcome]:
    x, score = cases(n, p)
    random = np.random.default_rng(5)
    times = np.array([random.exponential(10 * np.exp(-score * (1 if k == 0 else -0.5))) for k in range(causes)])
    stop = random.uniform(2, 25, n)
    first = times.argmin(axis=0)
    time = np.minimum(times.min(axis=0), stop)
    label = np.where(times.min(axis=0) <= stop, first + 1, 0)
    time = np.ceil(time) if ties else time
    kind = "survival" if causes == 1 else "competing"
    return x, Outcome(kind, ("censored", *(f"event {k}" for k in range(causes))), label, time)


@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_logistic_coefficients_are_those_of_scikit_learn(mix: float, n_classes: int) -> None:
    from sklearn.linear_model import LogisticRegression

    x, outcome = binary()
    label = outcome.label if n_classes == 2 else (outcome.label + (x[:, 3] > 0.5)).astype(int)
    loss = LogisticLoss(x, label, n_classes, np.ones(len(x)))
    strength = 0.1 * largest_strength(loss, max(mix, 0.5))
    theta = minimise(loss, strength, mix, loss.start(), tolerance=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = LogisticRegression(penalty="elasticnet", solver="saga", l1_ratio=mix, C=1 / (len(x) * strength),
                                  tol=1e-9, max_iter=50000).fit(x, label)
    assert np.abs(peer.coef_.T - theta[:-1]).max() < 1e-5
    assert np.abs((peer.intercept_ - peer.intercept_.mean() * (n_classes > 2))
                  - (theta[-1] - theta[-1].mean() * (n_classes > 2))).max() < 1e-5


def test_cox_coefficients_and_likelihood_are_those_of_lifelines_with_ties() -> None:
    import pandas as pd
    from lifelines import CoxPHFitter

    x, outcome = survival(p=4)
    loss = CoxLoss(x, outcome.time, outcome.label == 1)
    theta = minimise(loss, 0.0, 0.0, loss.start(), tolerance=1e-10)
    frame = pd.DataFrame(x).assign(t=outcome.time, e=outcome.label)
    peer = CoxPHFitter().fit(frame, "t", "e")
    assert np.abs(peer.params_.to_numpy() - theta[:, 0]).max() < 2e-4
    assert 0 <= loss.log_likelihood(loss.values @ theta[:, 0]) - peer.log_likelihood_ + 1e-9 < 1e-6


def test_survival_curves_are_those_of_lifelines() -> None:
    import pandas as pd
    from lifelines import CoxPHFitter

    x, outcome = survival(p=4, ties=False)
    loss = CoxLoss(x, outcome.time, outcome.label == 1)
    theta = minimise(loss, 0.0, 0.0, loss.start(), tolerance=1e-10)
    peer = CoxPHFitter().fit(pd.DataFrame(x).assign(t=outcome.time, e=outcome.label), "t", "e")
    times, hazard = loss.hazard(loss.values @ theta[:, 0])
    asked = times[[len(times) // 2]]
    ours = np.exp(-step_at(times, hazard, asked, 0.0) * np.exp(x[:5] @ theta[:, 0]))
    assert np.abs(peer.predict_survival_function(x[:5], times=asked).to_numpy()[0] - ours).max() < 1e-3


def test_cox_lasso_is_that_of_scikit_survival_without_ties() -> None:
    linear = pytest.importorskip("sksurv.linear_model")
    x, outcome = survival(ties=False)
    loss = CoxLoss(x, outcome.time, outcome.label == 1)
    strength = 0.3 * largest_strength(loss, 1.0)
    theta = minimise(loss, strength, 1.0, loss.start(), tolerance=1e-10)
    truth = np.array(list(zip(outcome.label == 1, outcome.time, strict=True)), dtype=[("e", "?"), ("t", "<f8")])
    peer = linear.CoxnetSurvivalAnalysis(l1_ratio=1.0, alphas=[strength], tol=1e-12, max_iter=10**6).fit(x, truth)
    assert np.abs(peer.coef_[:, 0] - theta[:, 0]).max() < 1e-4
    assert 0 < (theta[:, 0] == 0).sum() < len(theta)


def test_known_hazard_ratios_come_back_with_many_patients() -> None:
    x, outcome = survival(n=4000, p=3, ties=False)
    loss = CoxLoss(x, outcome.time, outcome.label == 1)
    theta = minimise(loss, 0.0, 0.0, loss.start())
    assert theta[:, 0] == pytest.approx([1.0, -0.7, 0.0], abs=0.08)


def test_guard_of_events_per_variable_holds_along_the_path() -> None:
    x, outcome = binary(p=30)
    family = LogisticFamily()
    grid = family.grid(len(x), 30, outcome.n_events)
    for model in family.fit_grid(x, outcome, grid, np.ones(len(x)), 3, 0):
        assert (model.weights() > 0).sum() <= 3
    assert max((m.weights() > 0).sum() for m in family.fit_grid(x, outcome, grid, np.ones(len(x)), 99, 0)) > 3


def test_one_setting_gives_the_model_of_the_whole_path() -> None:
    for family, (x, outcome) in ((LogisticFamily(), binary()), (CoxFamily(), survival())):
        grid = family.grid(len(x), x.shape[1], outcome.n_events)
        whole = family.fit_grid(x, outcome, grid, np.ones(len(x)), 4, 0)
        for n in (4, 9, 17):
            alone = family.fit_grid(x, outcome, [grid[n]], np.ones(len(x)), 4, 0)[0]
            assert np.abs(alone.weights() - whole[n].weights()).max() < 1e-3


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_boosting_as_plain_arrays_predicts_what_scikit_learn_predicts(kind: str) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, outcome = binary(n=200)
    label = outcome.label if kind == "binary" else outcome.label + (x[:, 2] > 0.6)
    outcome = Outcome(kind, tuple(str(k) for k in range(label.max() + 1)), label)
    model = BoostingFamily(kind).fit_grid(x, outcome, [{"depth": 2, "rounds": 25}], np.ones(len(x)), 9, 0)[0]
    peer = HistGradientBoostingClassifier(max_iter=25, max_depth=2, learning_rate=0.1, l2_regularization=1.0,
                                          min_samples_leaf=20, early_stopping=False, random_state=0).fit(x, label)
    new = np.random.default_rng(1).normal(size=(50, x.shape[1]))
    ours = model.predict(new, np.zeros(0)).probability
    assert ours is not None
    assert np.abs(ours - peer.predict_proba(new)).max() < 1e-12
    again = BoostingModel.from_state(model.state()).predict(new, np.zeros(0)).probability
    assert again is not None
    assert (again == ours).all()


def test_path_contributions_add_up_to_the_score() -> None:
    x, outcome = binary(n=200)
    model = BoostingFamily("binary").fit_grid(x, outcome, [{"depth": 2, "rounds": 25}], np.ones(200), 9, 0)[0]
    root = model.trees.value[model.trees.roots, 0].sum() + model.start[0]
    assert model.contributions(x).sum(axis=1) + root == pytest.approx(model._score(x)[:, 0], abs=1e-9)
    chance = ForestFamily("binary").fit_grid(x, outcome, [{"leaf": 10}], np.ones(200), 9, 0)[0]
    mean = chance.trees.value[chance.trees.roots, 1].mean()
    assert chance.contributions(x).sum(axis=1) + mean == pytest.approx(chance.predict(x, np.zeros(0)).probability[:, 1])


def test_forests_as_plain_arrays_predict_what_their_makers_predict() -> None:
    from sklearn.ensemble import RandomForestClassifier

    ensemble = pytest.importorskip("sksurv.ensemble")
    x, outcome = binary(n=150)
    ours = ForestFamily("binary").fit_grid(x, outcome, [{"leaf": 8}], np.ones(150), 9, 0)[0]
    peer = RandomForestClassifier(200, min_samples_leaf=8, random_state=0).fit(
        x.astype(np.float32), outcome.label, sample_weight=np.ones(150))
    same = x.astype(np.float32).astype(float)
    assert ours.predict(same, np.zeros(0)).probability == pytest.approx(peer.predict_proba(same), abs=1e-9)
    x, outcome = survival(n=150)
    model = ForestFamily("survival").fit_grid(x, outcome, [{"leaf": 8}], np.ones(150), 9, 0)[0]
    truth = np.array(list(zip(outcome.label == 1, outcome.time, strict=True)), dtype=[("e", "?"), ("t", "<f8")])
    forest = ensemble.RandomSurvivalForest(200, min_samples_leaf=8, random_state=0).fit(x.astype(np.float32), truth)
    same = x.astype(np.float32).astype(float)
    times = model.times[[2, 5]]
    hazard = np.array([f(times) for f in forest.predict_cumulative_hazard_function(same.astype(np.float32))])
    ours_survival = ForestModel.from_state(model.state()).predict(same, times).survival
    assert ours_survival == pytest.approx(np.exp(-hazard), abs=1e-9)


def test_discrete_time_boosting_ranks_and_calibrates() -> None:
    x, outcome = survival(n=600, ties=False)
    model = BoostingFamily("survival").fit_grid(x, outcome, [{"depth": 1, "rounds": 100}], np.ones(600), 9, 0)[0]
    new, late = survival(n=600, ties=False)[0], np.array([3.0, 8.0])
    found = model.predict(new, late)
    assert found.survival is not None
    assert found.risk is not None
    assert (np.diff(found.survival, axis=1) <= 1e-12).all()
    assert ((found.survival > 0) & (found.survival <= 1)).all()
    seen = NullFamily().fit_grid(x, outcome, [{}], np.ones(600), 9, 0)[0].predict(x[:1], model.ends[:6]).survival[0]
    assert np.abs(model.predict(x, model.ends[:6]).survival.mean(axis=0) - seen).max() < 0.04
    true = np.exp(-late[0] / 10 * np.exp(cases(600)[1]))
    assert np.corrcoef(found.survival[:, 0], true)[0, 1] > 0.85


def test_cumulative_incidence_of_the_null_is_aalen_johansen() -> None:
    from lifelines import AalenJohansenFitter

    x, outcome = survival(causes=2, ties=False)
    model = NullFamily().fit_grid(x, outcome, [{}], np.ones(len(x)), 9, 0)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = AalenJohansenFitter(calculate_variance=False, jitter_level=1e-9, seed=0).fit(
            outcome.time, outcome.label, event_of_interest=1)
    asked = np.array([2.5, 6.5, 12.5])
    theirs = [float(peer.cumulative_density_.loc[:t].iloc[-1, 0]) for t in asked]
    found = model.predict(x[:1], asked)
    assert found.incidence is not None
    assert found.incidence[0] == pytest.approx(theirs, abs=1e-9)


def test_incidences_of_all_causes_and_survival_add_up_to_one() -> None:
    x, outcome = survival(causes=2)
    model = CompetingFamily().fit_grid(x, outcome, [{"mix": 0.5, "fraction": 0.1}], np.ones(len(x)), 9, 0)[0]
    asked = np.array([2.0, 8.0, 20.0])
    first = model.predict(x, asked)
    model.causes.reverse()
    second = model.predict(x, asked)
    assert first.incidence + second.incidence + first.survival == pytest.approx(np.ones((len(x), 3)))
    assert np.corrcoef(first.risk, cases()[1])[0, 1] > 0.8


def test_trees_that_would_never_end_are_refused() -> None:
    good = {"roots": [0], "column": [0, -1, -1], "threshold": [0.0, 0, 0], "left": [1, 0, 0], "right": [2, 0, 0],
            "value": [0.0, 1.0, 2.0]}
    assert Trees.from_state(good).leaves(np.array([[-1.0], [1.0]])).tolist() == [[1], [2]]
    for part, value in (("left", [0, 0, 0]), ("right", [7, 0, 0]), ("roots", [9])):
        with pytest.raises(ValueError, match="tree"):
            Trees.from_state({**good, part: value})
