"""Federated models without Flower: against pooled rows, independent programs, derivatives; masks; refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from federated_cases import LOG_HAZARD, LOG_ODDS, NAMES, PLAN, UNITS, hospital, pooled, write_table
from IRAILib.cohort.federated import (
    Column,
    Coordinator,
    FederatedPlan,
    FederatedResult,
    FixedPoint,
    SitePolicy,
    SiteRows,
    add_masks,
    read_rows,
    site_answer,
    sum_masked,
    train_in_process,
)
from IRAILib.cohort.federated.masking import RING, from_bytes, introduction, known, pair_key, stretch, to_bytes
from IRAILib.cohort.federated.models import cox_statistics, logistic_statistics, unpack
from IRAILib.cohort.federated.network import first_weights, forward, loss_and_gradient, n_weights, train_locally
from IRAILib.cohort.federated.result import auc, concordance, evaluate
from IRAILib.cohort.federated.site import refusal, too_small
from IRAILib.geometry import InputError, RefusedError

POLICY = SitePolicy("", "", ("size", "albumin", "afp", "stage", "response", "months", "status"), min_events=5)
THREE = [hospital(site, 150, seed=1) for site in range(3)]


def test_logistic_of_three_sites_is_that_of_the_pooled_rows_by_another_program() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    plan = replace(PLAN, models=("logistic",), rounds=12, tolerance=1e-9)
    result = train_in_process(plan, THREE)
    rows = pooled(THREE)
    x = (rows.x - rows.x.mean(axis=0)) / rows.x.std(axis=0)
    peer = linear.LogisticRegression(C=1 / plan.ridge, tol=1e-10, max_iter=1000).fit(x, rows.y)
    model = result.models["logistic"]
    assert model.converged
    np.testing.assert_allclose(model.parameters, [*peer.intercept_, *peer.coef_[0]], atol=2e-6)
    np.testing.assert_allclose(result.probability("logistic", rows.x), peer.predict_proba(x)[:, 1], atol=1e-6)
    assert (model.n_patients, model.n_events) == (450, int(rows.y.sum()))


def test_cox_of_three_sites_is_the_stratified_cox_of_the_pooled_rows_by_another_program() -> None:
    lifelines = pytest.importorskip("lifelines")
    import pandas

    plan = replace(PLAN, models=("cox",), rounds=12, tolerance=1e-9, ridge=0.0)
    tied = [replace(rows, time=np.ceil(rows.time)) for rows in THREE]
    result = train_in_process(plan, tied)
    rows = pooled(tied)
    table = pandas.DataFrame(rows.x, columns=list(NAMES)).assign(
        months=rows.time, status=rows.event, site=np.repeat([0, 1, 2], 150))
    peer = lifelines.CoxPHFitter().fit(table, "months", "status", strata=["site"])
    ours = result.coefficients("cox")
    for name in NAMES:
        assert ours[name]["coefficient"] == pytest.approx(peer.params_[name], rel=1e-4, abs=1e-6)
        error = (ours[name]["high95"] - ours[name]["low95"]) / (2 * 1.959964)
        assert error == pytest.approx(peer.standard_errors_[name], rel=1e-3)
    assert result.models["cox"].log_likelihood == pytest.approx(peer.log_likelihood_, rel=1e-6)


def test_known_coefficients_come_back_within_their_error() -> None:
    result = train_in_process(replace(PLAN, models=("logistic", "cox"), rounds=12, ridge=0.0),
                              [hospital(site, 1500, seed=7) for site in range(3)])
    per_unit = np.array([*(1 / UNITS[:, 1]), 1.0])
    for kind, truth in (("cox", LOG_HAZARD), ("logistic", LOG_ODDS)):
        found = result.coefficients(kind)
        if kind == "logistic":  # the sites' own levels are not in the model: only the sign and size must be near
            assert all(np.sign(found[name]["coefficient"]) == np.sign(value)
                       for name, value in zip(NAMES, truth, strict=True))
            continue
        for name, value in zip(NAMES, truth * per_unit, strict=True):
            half = (found[name]["high95"] - found[name]["low95"]) / 2
            assert abs(found[name]["coefficient"] - value) < 1.7 * half


@pytest.mark.parametrize("kind", ["logistic", "cox"])
def test_gradient_and_curvature_are_the_derivatives_of_the_likelihood(kind: str) -> None:
    random = np.random.default_rng(3)
    x, p = random.normal(size=(40, 3)), 4 if kind == "logistic" else 3
    time, event = np.ceil(random.exponential(5, 40)), (random.random(40) < 0.7).astype(float)

    def at(beta):
        vector = (logistic_statistics(x, event, beta) if kind == "logistic" else cox_statistics(x, time, event, beta))
        return unpack(vector, p)

    beta, step = random.normal(0, 0.4, p), 1e-5
    _, gradient, curvature = at(beta)
    for i in range(p):
        shift = np.eye(p)[i] * step
        high, low = at(beta + shift), at(beta - shift)
        assert gradient[i] == pytest.approx((high[0] - low[0]) / (2 * step), rel=1e-5, abs=1e-6)
        np.testing.assert_allclose(-curvature[i], (high[1] - low[1]) / (2 * step), rtol=1e-4, atol=1e-5)


def test_the_networks_gradient_is_that_of_its_loss() -> None:
    random = np.random.default_rng(5)
    x, y = random.normal(size=(30, 3)), (random.random(30) < 0.5).astype(float)
    weights = first_weights(3, 4, 0) + 0.1 * random.normal(size=n_weights(3, 4))
    _, gradient = loss_and_gradient(weights, x, y, 4, 0.01)
    numeric = [(loss_and_gradient(weights + step, x, y, 4, 0.01)[0]
                - loss_and_gradient(weights - step, x, y, 4, 0.01)[0]) / 2e-5 for step in np.eye(len(weights)) * 1e-5]
    np.testing.assert_allclose(gradient, numeric, atol=1e-7)


def test_the_network_learns_what_a_line_can_not() -> None:
    random = np.random.default_rng(11)
    sites = []
    for _ in range(3):
        x = random.uniform(-2, 2, (200, 2))
        y = (x[:, 0] * x[:, 1] > 0).astype(float)
        sites.append(SiteRows(x, y, np.full(200, np.nan), np.full(200, np.nan)))
    plan = FederatedPlan("xor", (Column("a"), Column("b")), ("logistic", "network"), target="y", rounds=30, hidden=8,
                         local_epochs=100, learning_rate=1.0, proximal=0.0, ridge=0.01)
    result = train_in_process(plan, sites)
    rows = pooled(sites)
    assert auc(rows.y, result.log_risk("network", rows.x)) > 0.95
    assert 0.35 < auc(rows.y, result.log_risk("logistic", rows.x)) < 0.65


def test_a_strong_proximal_term_holds_a_site_near_the_shared_weights() -> None:
    rows = THREE[0]
    x = (rows.x - rows.x.mean(axis=0)) / rows.x.std(axis=0)
    start = first_weights(4, 3, 0)
    moved = [np.linalg.norm(train_locally(start, x, rows.y, hidden=3, epochs=200, learning_rate=0.1, decay=0.0,
                                          proximal=hold) - start) for hold in (0.0, 1.0)]
    assert moved[1] < 0.5 * moved[0]
    assert np.array_equal(train_locally(start, x[:0], rows.y[:0], hidden=3, epochs=5, learning_rate=0.1, decay=0.0,
                                        proximal=0.0), start)
    assert forward(start, x[:0], 3)[0].shape == (0,)


def test_baseline_hazards_give_the_survival_of_an_exponential() -> None:
    random = np.random.default_rng(2)
    sites = []
    for _ in range(3):
        x = random.normal(size=(1200, 1))
        death = random.exponential(20 * np.exp(-0.5 * x[:, 0]))
        sites.append(SiteRows(x, np.full(1200, np.nan), np.minimum(death, 60), (death < 60).astype(float)))
    plan = FederatedPlan("exponential", (Column("x"),), ("cox",), time="t", event="e", horizons=(10.0, 30.0, 100.0))
    result = train_in_process(plan, sites)
    for value in (-1.0, 0.0, 1.5):
        rate = 0.05 * np.exp(0.5 * value)
        np.testing.assert_allclose(result.survival(np.array([[value]]))[0, :2], np.exp(-rate * np.array([10, 30])),
                                   atol=0.03)


def test_missing_numbers_become_the_federated_mean() -> None:
    gaps = [hospital(site, 150, seed=1, missing=0.2) for site in range(3)]
    result = train_in_process(replace(PLAN, models=("logistic",)), gaps)
    np.testing.assert_allclose(result.mean, np.nanmean(pooled(gaps).x, axis=0), rtol=1e-10)
    np.testing.assert_allclose(result.scale, np.nanstd(pooled(gaps).x, axis=0), rtol=1e-8)
    filled = [replace(rows, x=np.where(np.isnan(rows.x), result.mean, rows.x)) for rows in gaps]
    assert result.probability("logistic", np.full((1, 4), np.nan)) == result.probability("logistic",
                                                                                        np.array([result.mean]))
    for rows, full in zip(gaps, filled, strict=True):
        np.testing.assert_allclose(result.log_risk("logistic", rows.x), result.log_risk("logistic", full.x))


def test_masks_cancel_in_the_sum_of_all_and_in_no_other() -> None:
    numbers, vectors = FixedPoint(), [np.array([1.5, -2e9, 1e-9, 7.0]) * (k + 1) for k in range(3)]
    names = ["aa", "bb", "cc"]
    secret = b"s" * 32
    keys = {frozenset(pair): pair_key(b"agreed" + bytes(str(i), "ascii"), secret, "run", *pair)
            for i, pair in enumerate([("aa", "bb"), ("aa", "cc"), ("bb", "cc")])}
    masked = [add_masks(numbers.encode(vector), own, {other: keys[frozenset((own, other))] for other in names
                                                      if other != own}, b"run|1")
              for own, vector in zip(names, vectors, strict=True)]
    np.testing.assert_allclose(numbers.decode(sum_masked(masked)), sum(vectors), rtol=1e-12, atol=1e-14)
    for left_out in range(3):
        some = numbers.decode(sum_masked([vector for i, vector in enumerate(masked) if i != left_out]))
        assert np.abs(some).min() > 1e15
    for vector, plain in zip(masked, vectors, strict=True):
        assert not set(vector) & set(numbers.encode(plain))


def test_masks_are_uniform_and_different_for_every_request_and_pair() -> None:
    words = stretch(b"k" * 32, b"run|1", 4000)
    bits = np.unpackbits(np.frombuffer(to_bytes(words), np.uint8)).reshape(4000, 128)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(4000)
    assert stretch(b"k" * 32, b"run|1", 10) == words[:10]
    others = [stretch(b"k" * 32, b"run|2", 4), stretch(b"j" * 32, b"run|1", 4)]
    assert all(set(other).isdisjoint(words) for other in others)
    assert len({pair_key(b"a", b"s", "run", "p", "q"), pair_key(b"a", b"t", "run", "p", "q"),
                pair_key(b"a", b"s", "other", "p", "q"), pair_key(b"a", b"s", "run", "p", "r")}) == 4


def test_fixed_point_carries_every_size_and_refuses_the_rest() -> None:
    numbers = FixedPoint()
    values = np.array([0.0, -0.0, 1e-12, -3.25, 1e20, -1e20, 2.0 ** 71])
    np.testing.assert_allclose(numbers.decode(from_bytes(to_bytes(numbers.encode(values)))), values, atol=4e-15)
    assert numbers.encode(np.array([])) == []
    assert all(0 <= element < RING for element in numbers.encode(values))
    for wild in (np.nan, np.inf, 2.0 ** 72):
        with pytest.raises(InputError, match="not finite or beyond"):
            numbers.encode(np.array([wild]))
    with pytest.raises(InputError, match="cut short"):
        from_bytes(b"123")
    with pytest.raises(InputError, match="different lengths"):
        sum_masked([[1], [1, 2]])
    with pytest.raises(RefusedError, match="no other site"):
        add_masks([1], "aa", {}, b"")


def test_introductions_need_the_groups_secret() -> None:
    tag = introduction(b"s" * 32, "run", "ab", "digest")
    assert known(b"s" * 32, "run", "ab", "digest", tag)
    assert not any([known(b"t" * 32, "run", "ab", "digest", tag), known(b"s" * 32, "other", "ab", "digest", tag),
                    known(b"s" * 32, "run", "ac", "digest", tag), known(b"s" * 32, "run", "ab", "plan", tag)])


@pytest.mark.parametrize(("code", "rows", "plan", "policy"), [
    ("", THREE[0], PLAN, POLICY),
    ("columns", THREE[0], PLAN, replace(POLICY, columns=("size",))),
    ("plan", THREE[0], PLAN, replace(POLICY, plan_digest="0" * 64)),
    ("unmasked", THREE[0], replace(PLAN, secure=False), POLICY),
    ("sites", THREE[0], replace(PLAN, n_sites=2), POLICY),
    ("rows", THREE[0].take(np.arange(20)), PLAN, POLICY),
    ("events", replace(THREE[0], y=np.zeros(150)), PLAN, POLICY),
    ("events", replace(THREE[0], y=np.ones(150)), PLAN, POLICY),
    ("events", replace(THREE[0], event=np.zeros(150)), PLAN, POLICY),
])
def test_a_site_stays_out_when_its_own_limits_say_so(code: str, rows, plan, policy) -> None:
    assert (refusal(plan, policy) or too_small(rows, plan, policy)) == code
    if code:
        with pytest.raises(RefusedError, match="a site stays out"):
            train_in_process(plan, [rows, *THREE[1:]], policy)


def test_requests_that_could_single_out_a_patient_are_not_answered() -> None:
    good = {"kind": "fit", "mean": THREE[0].x.mean(axis=0).tolist(), "scale": THREE[0].x.std(axis=0).tolist(),
            "logistic": [0.0] * 5}
    assert site_answer(good, THREE[0], PLAN, POLICY).shape == (1 + 5 + 15,)
    for bad in ({"kind": "rows"}, {}, {**good, "logistic": [0.0] * 4}, {**good, "logistic": [50.0] * 5},
                {**good, "logistic": [float("nan")] * 5}, {**good, "scale": [0.0] * 4}, {**good, "mean": [1.0]},
                {**good, "scale": [value / 100 for value in good["scale"]]}, {"kind": "fit", **{
                    key: good[key] for key in ("mean", "scale")}}):
        with pytest.raises(RefusedError, match="not one that the site answers"):
            site_answer(bad, THREE[0], PLAN, POLICY)


def test_a_table_is_read_as_hospitals_write_it(tmp_path) -> None:
    path = tmp_path / "table.csv"
    write_table(path, THREE[1], [f"P{i}" for i in range(150)])
    rows = read_rows(path, PLAN, "hospital_number")
    for name in ("x", "y", "time", "event"):
        np.testing.assert_array_equal(getattr(rows, name), getattr(THREE[1], name))
    path.write_text(path.read_text().replace(",", ";"), encoding="utf-8-sig")
    assert len(read_rows(path, PLAN, "hospital_number").x) == 150


@pytest.mark.parametrize(("change", "words"), [
    (lambda text: text.replace("albumin", "alb"), "no column albumin"),
    (lambda text: text.replace("P7,", "P8,"), "several rows"),
    (lambda text: text.replace("P7,", "P7,wide"), "is not a number"),
    (lambda text: text.replace(",a,", ",c,"), "none of the plan's levels"),
    (lambda text: text.splitlines()[0], "holds no rows"),
    (lambda text: "", "holds no rows"),
])
def test_a_bad_table_is_named_to_the_site(tmp_path, change, words: str) -> None:
    path = tmp_path / "table.csv"
    write_table(path, THREE[1], [f"P{i}" for i in range(150)])
    path.write_text(change(path.read_text()), encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_rows(path, PLAN, "hospital_number")


@pytest.mark.parametrize("change", [
    {"columns": []}, {"models": ["svm"]}, {"target": ""}, {"time": ""}, {"horizons": []}, {"horizons": [5, 2]},
    {"rounds": 0}, {"ridge": -1}, {"ridge": "much"}, {"columns": ["size", "size"]}, {"columns": ["response"]},
    {"surprise": 1}, {"n_sites": 1}, {"columns": [{"name": "stage", "levels": ["a"]}]}, {"columns": [3]},
])
def test_a_plan_that_makes_no_sense_is_refused(change: dict) -> None:
    with pytest.raises(InputError, match="federated plan"):
        FederatedPlan.from_dict({**PLAN.to_dict(), **change})


def test_plan_policy_and_result_survive_json(tmp_path) -> None:
    assert FederatedPlan.from_dict(json.loads(json.dumps(PLAN.to_dict()))) == PLAN
    assert len(PLAN.digest) == 64
    assert PLAN.digest != replace(PLAN, rounds=7).digest
    (tmp_path / "site.json").write_text(json.dumps({**POLICY.to_dict(), "table": "t.csv"}))
    assert SitePolicy.read(tmp_path / "site.json").table == str(tmp_path / "t.csv")
    with pytest.raises(InputError, match="unknown key min_event"):
        SitePolicy.from_dict({**POLICY.to_dict(), "min_event": 3})
    result = train_in_process(PLAN, THREE)
    again = FederatedResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again == result
    assert "not validated" in again.validated_on
    with pytest.raises(InputError, match="federated model"):
        FederatedResult.from_dict({"models": {}})


def test_a_run_that_can_not_end_well_says_so() -> None:
    same = [replace(rows, x=np.column_stack([rows.x[:, :3], np.ones(150)])) for rows in THREE]
    with pytest.raises(RefusedError, match="stage=b has one value at all sites"):
        train_in_process(PLAN, same)
    hasty = train_in_process(replace(PLAN, models=("logistic",), rounds=1), THREE)
    assert not hasty.models["logistic"].converged
    assert "rounds were too few" in hasty.warnings[0]
    with pytest.raises(InputError, match="not over"):
        Coordinator(PLAN).result()


def test_scores_against_pairs_counted_by_hand() -> None:
    assert auc(np.array([1, 0, 1, 0]), np.array([3.0, 1.0, 2.0, 2.0])) == pytest.approx(3.5 / 4)
    # pairs: (1 event, 2), (1, 3), (1, 4), (3 event, 4); risks 4, 4, 1, 2 -> 0.5 + 1 + 1 + 0
    assert concordance(np.array([1.0, 2, 3, 4]), np.array([1, 0, 1, 0]),
                       np.array([4.0, 4, 1, 2])) == pytest.approx(2.5 / 4)
    assert np.isnan(auc(np.ones(3), np.arange(3.0)))
    assert np.isnan(concordance(np.ones(2), np.zeros(2), np.arange(2.0)))
    found = evaluate(train_in_process(PLAN, THREE), hospital(2, 120, seed=9))
    for kind in PLAN.models:
        low, high = found[kind]["ci95"]
        assert 0.5 < low < found[kind]["estimate"] < high <= 1
    apart = [evaluate(train_in_process(PLAN, THREE), rows)["logistic"]["observed_to_expected"] for rows in THREE]
    assert min(apart) < 0.95 < 1.05 < max(apart), "the sites' own levels are not in the model and must be seen here"
    whole = evaluate(train_in_process(replace(PLAN, ridge=0.0), THREE), pooled(THREE))["logistic"]
    assert whole["observed_to_expected"] == pytest.approx(1, abs=1e-3)
