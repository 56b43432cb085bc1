"""Conformal sets and bounds: quantiles by hand, crepes and mapie, and the coverage that simulation reaches."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from IRAILib.biopsy.outcome.evaluate import (
    ConformalClassifier,
    ConformalInterval,
    ConformalSurvival,
    NotEstimableError,
)
from IRAILib.biopsy.outcome.evaluate.conformal import exact_interval, threshold
from IRAILib.biopsy.outcome.evaluate.conformal_survival import level
from IRAILib.geometry import InputError
from scipy import stats

CLASSES = ["a", "b", "c"]


def labelled(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth of three unequal classes, and chances that know something of it."""
    truth = random.choice(3, n, p=[0.6, 0.25, 0.15])
    score = np.exp(random.normal(size=(n, 3)) + 1.2 * np.eye(3)[truth]) * [0.6, 0.25, 0.15]
    return truth, score / score.sum(axis=1, keepdims=True)


def again(made):
    """Through JSON and back."""
    return type(made).from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False)))


def test_quantiles_by_hand() -> None:
    scores = np.arange(1.0, 20.0)  # 19: ceil(20 * 0.9) = 18th
    assert threshold(scores, np.ones(19), 0.1) == 18
    assert threshold(scores, np.ones(19), 0.05) == 19
    assert math.isinf(threshold(scores, np.ones(19), 0.04))
    # ten patients with two rows each count as ten: ceil(11 * 0.8) = 9 patients' weight lies at or below the 18th row
    assert threshold(np.arange(1.0, 21.0), np.full(20, 0.5), 0.2) == 18
    # lower side: floor(0.1 * 20) = 2nd smallest; 19 weights and a new patient of weight 1
    assert level(scores, np.ones(19), 1.0, 0.1) == 2
    assert level(scores, np.ones(19), 1.0, 0.04) == 0
    # a new patient that may weigh 2 counts double: (v - 1 + 2) <= 0.2 * 21 gives v = 3
    assert level(scores, np.ones(19), 2.0, 0.2) == 3
    assert exact_interval(9, 10) == pytest.approx(tuple(stats.binomtest(9, 10).proportion_ci(method="exact")))


def test_class_sets_beside_crepes() -> None:
    """crepes without smoothing: p value (rank + 1) / (n + 1) > alpha, per class."""
    from crepes import ConformalClassifier as Peer
    from crepes.extras import hinge

    random = np.random.default_rng(0)
    truth, table = labelled(random, 200)
    _, new = labelled(random, 100)
    scores, expected = hinge(table, np.arange(3), truth), []
    for code in range(3):
        peer = Peer()
        peer.fit(alphas=scores[truth == code])
        expected.append(np.ravel(peer.predict_p(hinge(new)[:, [code]], all_classes=True, smoothing=False)) > 0.1)
    ours = ConformalClassifier.from_scores(truth, table, [0, 1, 2])
    included = again(ours).included(new, 0.1)
    assert (included == np.column_stack(expected)).all()
    assert 0.2 < included.mean() < 0.9


def test_intervals_beside_mapie() -> None:
    from mapie.regression import SplitConformalRegressor
    from sklearn.linear_model import LinearRegression

    random = np.random.default_rng(1)
    x = random.normal(size=(160, 2))
    y = x @ [1.0, -2.0] + random.normal(size=160)
    model = LinearRegression().fit(x[:60], y[:60])
    peer = SplitConformalRegressor(model, confidence_level=0.9, prefit=True).conformalize(x[60:130], y[60:130])
    _, limits = peer.predict_interval(x[130:])
    ours = ConformalInterval.from_scores(y[60:130], model.predict(x[60:130]))
    low, high = again(ours).interval(model.predict(x[130:]), 0.1)
    assert np.allclose(low, limits[:, 0, 0])
    assert np.allclose(high, limits[:, 1, 0])


def test_every_class_is_covered_as_promised() -> None:
    """500 repeats of 90 calibration patients, 20 new ones: coverage of each class at least 0.9 within binomial luck,
    and not much above what the sizes of the classes force."""
    random = np.random.default_rng(2)
    hits, count, marginal = np.zeros(3), np.zeros(3), np.zeros(3)
    for _ in range(500):
        truth, table = labelled(random, 110)
        made = ConformalClassifier.from_scores(truth[:90], table[:90], [0, 1, 2])
        inside = made.included(table[90:], 0.1)[np.arange(20), truth[90:]]
        plain = np.sort(1 - table[np.arange(90), truth[:90]])[81]  # ceil(91 * 0.9) = 82nd
        loose = 1 - table[90:][np.arange(20), truth[90:]] <= plain
        for code in range(3):
            rows = truth[90:] == code
            hits[code] += inside[rows].sum()
            marginal[code] += loose[rows].sum()
            count[code] += rows.sum()
    # 20 new patients share a calibration: their spread is allowed for with twice the binomial error
    for code in range(3):
        error = math.sqrt(0.09 / count[code])
        assert hits[code] / count[code] > 0.9 - 4 * error
        assert hits[code] / count[code] < 0.9 + (0.02, 0.05, 0.08)[code] + 4 * error
    # without the classes apart the rare one is covered less than promised: what Mondrian is for
    assert marginal[2] / count[2] < 0.88


def test_rows_of_a_patient_are_one() -> None:
    random = np.random.default_rng(3)
    truth, table = labelled(random, 60)
    once = ConformalClassifier.from_scores(truth, table, [0, 1, 2])
    thrice = ConformalClassifier.from_scores(np.repeat(truth, 3), np.repeat(table, 3, axis=0), [0, 1, 2],
                                             patients=np.repeat(np.arange(60), 3))
    assert thrice.thresholds == once.thresholds
    assert thrice.n_by_class == once.n_by_class


def test_intervals_cover_patients_with_several_rows() -> None:
    """400 repeats, patients with 1 to 6 lesions and an effect of their own: one lesion of a new patient is covered."""
    random, hits = np.random.default_rng(4), 0
    for _ in range(400):
        sizes = random.integers(1, 7, 40)
        patients = np.repeat(np.arange(40), sizes)
        values = random.normal(size=40)[patients] + 0.3 * random.normal(size=len(patients))
        made = ConformalInterval.from_scores(values, np.zeros(len(values)), patients=patients)
        low, high = made.interval([0.0], 0.1)
        new = random.normal() + 0.3 * random.normal()
        hits += low[0] <= new <= high[0]
    assert made.n == 40
    assert stats.binom.ppf(0.001, 400, 0.9) <= hits <= stats.binom.ppf(0.999, 400, 0.9 + 1 / 41)


def test_words_and_coverage_of_sets() -> None:
    truth = np.repeat(CLASSES, 30)
    random = np.random.default_rng(5)
    table = random.dirichlet(np.ones(3), 90) * 0.3 + 0.7 * np.repeat(np.eye(3), 30, axis=0)
    made = ConformalClassifier.from_scores(truth, table, CLASSES, origin="cross", folds=np.arange(90) % 5)
    assert made.coverage["0.1"]["n"] == 90
    assert made.coverage["0.1"]["coverage"] > 0.8
    assert "other classes are ruled out" in made.predict_set([0.95, 0.03, 0.02])[0].meaning
    empty = made.predict_set([0.34, 0.33, 0.33])[0]
    assert empty.labels == ()
    assert "don't use" in empty.meaning
    few = ConformalClassifier.from_scores(["a", "b"] * 3, [0.2, 0.8] * 3, ["a", "b"])
    assert few.predict_set([0.5, 0.9])[0].labels == ("a", "b")
    assert "says nothing" in few.predict_set([0.5])[0].meaning
    assert "too few" in few.predict_set([0.5])[0].meaning
    measured = made.measured(truth, table)
    assert set(measured.by_class) == set(CLASSES)
    assert measured.size >= measured.coverage
    json.dumps(measured.to_dict(), allow_nan=False)
    text = json.dumps(made.to_dict())
    assert len(text) < 3000  # thresholds only: no patient's score
    with pytest.raises(InputError, match="not prepared"):
        made.predict_set([0.3, 0.3, 0.4], 0.3)
    with pytest.raises(InputError, match="origin"):
        ConformalClassifier.from_scores(truth, table, CLASSES, origin="train")
    with pytest.raises(NotEstimableError):
        made.measured([], np.zeros((0, 3)))


def test_numbers_have_half_widths() -> None:
    made = ConformalInterval.from_scores(np.arange(19.0), np.zeros(19), alphas=(0.1, 0.01))
    assert made.interval([5.0], 0.1) == (pytest.approx([-12.0]), pytest.approx([22.0]))
    assert np.isinf(again(made).interval([5.0], 0.01)[1]).all()
    scaled = ConformalInterval.from_scores(np.arange(19.0), np.zeros(19), difficulty=np.full(19, 2.0))
    assert scaled.interval([0.0], 0.1, [1.0])[1] == pytest.approx([8.5])
    with pytest.raises(InputError, match="difficulty"):
        scaled.interval([0.0])
    with pytest.raises(InputError, match="above zero"):
        ConformalInterval.from_scores([1.0], [1.0], difficulty=[0.0])


GRID = np.linspace(0.05, 6, 120)


def followed(random: np.random.Generator, n: int, follow: float, wrong: float = 1.0):
    """time, event, true time, predicted curves: hazard exp(x) predicted as wrong * exp(0.5 x)."""
    x = random.normal(size=n)
    true = random.exponential(np.exp(-x))
    censored = random.exponential(follow, n)
    curves = np.exp(-GRID * wrong * np.exp(0.5 * x)[:, None])
    return np.minimum(true, censored), true <= censored, true, curves


@pytest.mark.parametrize(("follow", "wrong"), [(1.5, 1.0), (1.5, 3.0), (0.7, 0.5)])
def test_times_are_covered_whatever_the_model(follow: float, wrong: float) -> None:
    """200 repeats, 120 calibration patients, 20 new ones, a wrong model: bound and interval hold what they say."""
    random = np.random.default_rng(6)
    bound = inside = 0
    for _ in range(200):
        time, event, true, curves = followed(random, 140, follow, wrong)
        made = ConformalSurvival.from_scores(time[:120], event[:120], curves[:120], GRID)
        for found, t in zip(made.predict(curves[120:], GRID, 0.1), true[120:], strict=True):
            bound += t >= found.lower_bound
            inside += found.low <= t and (found.high is None or t <= found.high)
    # error of 200 calibrations (each sd about 0.04) and of 4000 patients
    allowed = 4 * math.sqrt(0.04**2 / 200 + 0.09 / 4000)
    assert bound / 4000 > 0.9 - allowed
    assert inside / 4000 > 0.9 - allowed
    assert bound / 4000 < 0.99


def test_taking_censored_times_for_events_would_fail() -> None:
    """The naive bound (times as they stand, weights 1) is far too careful; dropping the censored, too bold."""
    random = np.random.default_rng(7)
    ours = dropped = 0
    for _ in range(60):
        time, event, true, curves = followed(random, 400, 0.7)
        made = ConformalSurvival.from_scores(time[:200], event[:200], curves[:200], GRID, alphas=(0.5,))
        only = event[:200]
        plain = ConformalSurvival.from_scores(time[:200][only], event[:200][only], curves[:200][only], GRID,
                                              alphas=(0.5,), horizon=made.horizon if
                                              time[:200][only].max() > made.horizon else None)
        ours += np.mean([t >= one.lower_bound for one, t in zip(made.predict(curves[200:], GRID, 0.5), true[200:],
                                                               strict=True)])
        dropped += np.mean([t >= one.lower_bound for one, t in zip(plain.predict(curves[200:], GRID, 0.5), true[200:],
                                                                  strict=True)])
    assert 0.5 - 0.03 < ours / 60 < 0.65
    assert dropped / 60 > ours / 60 + 0.05


def test_without_censoring_it_is_plain_split_conformal() -> None:
    random = np.random.default_rng(8)
    _, _, true, curves = followed(random, 99, 1.0)
    true = np.minimum(true, 5.9)
    made = ConformalSurvival.from_scores(true, np.ones(99), curves, GRID, horizon=5.9)
    risk = np.sort([1 - np.interp(t, np.r_[0, GRID], np.r_[1, row]) for t, row in zip(true, curves, strict=True)])
    assert made.early["0.1"] == pytest.approx(risk[9])  # floor(0.1 * 100) = 10th smallest
    assert made.largest_weight == 1.0


def test_not_reached_and_no_bound_are_answers() -> None:
    random = np.random.default_rng(9)
    time, event, _, curves = followed(random, 80, 1.0)
    made = again(ConformalSurvival.from_scores(time, event, curves, GRID))
    healthy = made.predict(np.full((1, 120), 0.999), GRID, 0.1)[0]
    assert healthy.high is None
    assert "not reached" in healthy.meaning
    assert healthy.lower_bound == made.horizon
    few = ConformalSurvival.from_scores(time[:5], event[:5], curves[:5], GRID)
    assert few.predict(curves[:1], GRID, 0.05)[0].lower_bound == 0
    assert "no lower bound" in few.predict(curves[:1], GRID, 0.05)[0].meaning
    sick = made.predict(np.exp(-GRID * 20)[None], GRID, 0.1)[0]
    assert sick.high is not None
    assert sick.low <= sick.lower_bound <= sick.high < 0.6
    assert len(json.dumps(made.to_dict())) < 1500


def test_coverage_of_times_is_measured_across_folds() -> None:
    """The censored estimate agrees with the coverage of the true times, which it has not seen."""
    random = np.random.default_rng(11)
    time, event, true, curves = followed(random, 600, 1.5, 2.0)
    folds = np.arange(600) % 4
    made = again(ConformalSurvival.from_scores(time, event, curves, GRID, folds=folds, alphas=(0.2,), origin="cross"))
    measured = made.coverage["0.2"]["lower_bound"]
    bounds = np.array([one.lower_bound for one in made.predict(curves, GRID, 0.2)])
    assert measured["estimate"] == pytest.approx((true >= bounds).mean(), abs=0.05)
    assert measured["low"] < 0.8 < measured["high"]
    assert made.coverage["0.2"]["interval"]["estimate"] > 0.74
    assert made.coverage["0.2"]["no_bound"] == 0
    with pytest.raises(InputError, match="folds"):
        ConformalSurvival.from_scores(time, event, curves, GRID, folds=folds[:5])


def test_survival_bounds_refuse_bad_input() -> None:
    random = np.random.default_rng(10)
    time, event, _, curves = followed(random, 30, 1.0)
    with pytest.raises(InputError, match="rises"):
        ConformalSurvival.from_scores(time, event, curves[:, ::-1], GRID)
    with pytest.raises(InputError, match="horizon"):
        ConformalSurvival.from_scores(time, event, curves, GRID, horizon=50.0)
    with pytest.raises(NotEstimableError):
        ConformalSurvival.from_scores([], [], np.zeros((0, 120)), GRID)
    everyone_censored = ConformalSurvival.from_scores(time, np.zeros(30), curves, GRID)
    assert everyone_censored.predict(curves[:1], GRID, 0.1)[0].high is None
    made = ConformalSurvival.from_scores(time, event, curves, GRID)
    with pytest.raises(InputError, match="before the horizon"):
        made.predict(curves[:, :3], GRID[:3])
    with pytest.raises(InputError, match="not prepared"):
        made.predict(curves, GRID, 0.3)
