"""The training report: what it draws against independent programs, what it says against what was planted."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from IRAILib.biopsy.outcome import HeldOut, facts
from IRAILib.biopsy.outcome.evaluate import dynamic_auc
from IRAILib.biopsy.outcome.record import Leak, plain
from IRAILib.biopsy.outcome.scoring import primary, rank_metrics
from IRAILib.geometry import CancelledError, InputError
from IRAILib.report import outcome_curves as curves
from IRAILib.report import outcome_sections as sections
from IRAILib.report.outcome_folder import metrics_document
from IRAILib.report.outcome_patients import characteristics, deciding_figure, subgroups
from IRAILib.report.outcome_report import make_report, write_outcome_report
from outcome_run_cases import HORIZONS, binary_run, survival_run

HOSTILE = "<script>alert('x')</script>"
DRAWS = 10


@pytest.fixture(scope="module")
def binary():
    return binary_run(n=80)


@pytest.fixture(scope="module")
def survival():
    return survival_run(n=90)


@pytest.fixture(scope="module")
def binary_report(binary):
    return make_report(*binary, bootstraps=DRAWS, command="irai biopsy train")


def html_of(report, folder) -> str:
    return write_outcome_report(report, folder / "report.html").read_text(encoding="utf-8")


def test_report_is_one_file_that_fetches_and_runs_nothing(binary_report, tmp_path) -> None:
    text = html_of(binary_report, tmp_path)
    assert "<script" not in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) >= 7
    assert all(base64.b64decode(one).startswith(b"\x89PNG") for one in pictures)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html"]


def test_report_says_verdict_flow_leaks_and_every_interval(binary, binary_report, tmp_path) -> None:
    run, _ = binary
    text = html_of(binary_report, tmp_path)
    for words in (facts.verdict(run).text, "no value in the target", "response_FU", "Riley", "p = 0.048",
                  "Not for clinical decisions", "Kaplan" if run.plan.time else "ROC", "Calibration", "Decision curve"):
        assert words.replace("'", "&#x27;") in text or words in text, words
    for metric in run.scores["model"]:
        found = facts.score(run, "model", metric)
        assert facts.words_of(metric) in text, metric
        assert found.text() in text or found.text(3) in text, metric
    own = facts.difference(run, "auc")
    assert own.text(sign=True) in text


def test_hostile_names_are_text(tmp_path) -> None:
    run, table = binary_run(n=60, columns=(HOSTILE, "cm_contrast"))
    run.leaks.append(Leak(HOSTILE + "2", "identifier", "<b>", None, "kept"))
    text = html_of(make_report(run, table, bootstraps=DRAWS), tmp_path)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_kept_leak_stands_on_top_in_red(binary, tmp_path) -> None:
    run, _ = binary
    leaky = replace(run, leaks=[Leak("TTP", "known only after treatment", "AUC 0.99", 0.99, "kept")])
    text = html_of(make_report(leaky, bootstraps=DRAWS), tmp_path)
    at = text.index("must not be quoted without this sentence")
    assert at < text.index("What was asked")
    assert "ON REQUEST" in text
    assert any("look like leaks were kept" in line for line in facts.limits(leaky))


def test_no_patient_is_named(binary_report, tmp_path) -> None:
    text = html_of(binary_report, tmp_path) + json.dumps(plain(metrics_document(binary_report)))
    assert not re.search(r"\bP0\d\d\b", text)


def test_metrics_have_what_the_issue_asks_for(binary, binary_report) -> None:
    document = metrics_document(binary_report)
    json.dumps(plain(document), allow_nan=False)
    for entry in (document, *document["metrics"]):
        assert {"metric", "estimate", "ci95", "baseline", "n_patients", "folds"} <= set(entry)
        if entry["ci95"] is not None:
            assert entry["ci95"][0] <= entry["ci95"][1]
    assert document["metric"] == "auc"
    assert document["n_patients"] == 80
    assert document["folds"] == 5
    assert document["estimate"] == binary[0].scores["model"]["auc"]["estimate"]
    assert document["baseline"]["columns"] == ["albumin"]


def test_without_a_table_the_parts_that_need_it_are_missing_and_said(binary, tmp_path) -> None:
    report = make_report(binary[0], bootstraps=DRAWS)
    text = html_of(report, tmp_path)
    assert "nothing is known of fairness" in text
    claim = next(sheet for sheet in report.sheets if sheet.key == "claim")
    assert next(item for item in claim.items if item.number == "36").status == "not done"


def test_area_under_the_drawn_curve_is_the_deciding_figure(binary) -> None:
    """Drawn within the folds and weighted by pairs: the area is train()'s AUC, apart from the grid."""
    run, _ = binary
    for curve in curves.roc_curves(run, n=30):
        assert np.trapezoid(curve.y, curve.x) == pytest.approx(primary(run.held_out[curve.name]), abs=0.01)
        assert (np.diff(curve.y) >= -1e-12).all()
        assert (curve.low <= curve.high + 1e-12).all()


def test_risk_group_curves_and_counts_are_those_of_lifelines(survival) -> None:
    from lifelines import KaplanMeierFitter

    run, _ = survival
    groups = curves.risk_groups(run)
    assert [group.name for group in groups] == ["low risk", "middle", "high risk"]
    for group in groups:
        fitted = KaplanMeierFitter().fit(group.time, group.label > 0)
        assert group.curve.y == pytest.approx(fitted.survival_function_at_times(group.curve.x).to_numpy(), abs=1e-9)
        band = fitted.confidence_interval_.iloc[1:-1].to_numpy()
        drawn = np.array([[np.interp(t, group.curve.x, side) for side in (group.curve.low, group.curve.high)]
                          for t in fitted.confidence_interval_.index[1:-1]])
        inside = (band[:, 0] > 0) & (band[:, 1] < 1)
        steps = np.isin(fitted.confidence_interval_.index[1:-1], group.curve.x)
        assert drawn[inside & steps] == pytest.approx(band[inside & steps], abs=2e-3)
    times, at_risk = curves.numbers_at_risk(groups)
    for (_, numbers), group in zip(at_risk, groups, strict=True):
        assert numbers == [int((group.time >= time).sum()) for time in times]
    assert groups[0].curve.y[-1] > groups[2].curve.y[-1]


def test_a_model_that_knows_nothing_has_no_risk_groups_and_an_auc_of_a_half(survival) -> None:
    """Pooled over folds such a model looks worse than chance; within them it is at 0.5."""
    run, _ = survival
    held = run.held_out["model"]
    level = np.array([0.3 + 0.02 * (held.truth[(held.fold == fold)] == 0).mean() for fold in held.fold])
    flat = replace(held, risk=1 - level, survival=np.tile(level[:, None], (1, len(HORIZONS))))
    assert primary(flat) == pytest.approx(0.5)
    for name, pairs in rank_metrics(flat).items():
        assert pairs.figure(np.ones((1, pairs.n_patients)))[0] == pytest.approx(0.5), name
    same = replace(run, held_out={**run.held_out, "model": flat})
    assert curves.risk_groups(same) == []


def test_auc_at_a_horizon_in_one_fold_is_that_of_the_formula(survival) -> None:
    held = survival[0].held_out["model"].of_repeat(0)
    one = replace(held, fold=np.zeros(len(held), int))
    for place, horizon in enumerate(HORIZONS):
        pairs = rank_metrics(one)[f"auc@{horizon:g}"]
        expected = dynamic_auc(one.time, one.truth > 0, 1 - one.survival[:, place], horizon)
        assert pairs.figure(np.ones((1, pairs.n_patients)))[0] == pytest.approx(expected, abs=1e-9)


def test_characteristics_are_those_of_the_table(binary) -> None:
    run, table = binary
    lines = characteristics(run, table)
    sex = [line for line in lines if line.level in ("f", "m")]
    assert [line.cells["all"] for line in sex] == ["40 (50 %)", "40 (50 %)"]
    albumin = next(line for line in lines if line.name == "albumin")
    values = table.values["albumin"]
    assert albumin.missing == int(np.isnan(values).sum())
    assert albumin.cells["all"].startswith(f"{np.nanmedian(values):.3g} (")
    assert "cm_contrast" not in {line.name for line in lines}


def test_groups_hold_their_patients_and_their_own_figure(binary) -> None:
    run, table = binary
    found = subgroups(run, table, n=50)
    assert {(one.column, one.level, one.n_patients) for one in found} == {("sex", "f", 40), ("sex", "m", 40)}
    held = run.held_out["model"]
    women = held.take(table.text["sex"][held.row] == "f")
    one = next(group for group in found if group.level == "f")
    assert one.figure.estimate == pytest.approx(primary(women))
    assert one.figure.low < one.figure.estimate < one.figure.high
    assert one.n_events == int((women.averaged().truth == 1).sum())


def test_a_group_too_small_to_judge_is_only_counted(binary) -> None:
    run, table = binary
    table.text["sex"][:] = "f"
    table.text["sex"][:4] = "m"
    try:
        small = next(group for group in subgroups(run, table, n=20) if group.level == "m")
    finally:
        table.text["sex"][:] = [("f", "m")[k % 2] for k in range(80)]
    assert small.figure is None
    assert "fewer than" in small.note


@pytest.mark.parametrize("competing", [False, True])
def test_times_to_an_event_have_their_own_figures(competing, tmp_path) -> None:
    run, table = survival_run(n=60, competing=competing)
    report = make_report(run, table, bootstraps=8)
    text = html_of(report, tmp_path)
    assert ("Aalen-Johansen curves" if competing else "Kaplan-Meier curves") in text
    assert len(report.evidence.calibration) == 3
    assert len(report.evidence.decision) == 1
    assert "Brier score at the horizons" in text
    assert "reverse Kaplan-Meier" in text


def test_several_classes_have_a_curve_each(tmp_path) -> None:
    random = np.random.default_rng(3)
    truth = random.integers(0, 3, 90)
    chance = random.dirichlet(np.ones(3), 90) + 2.0 * np.eye(3)[truth] * random.random((90, 1))
    chance /= chance.sum(axis=1, keepdims=True)
    held = HeldOut("model", "multiclass", ("A", "B", "C"), ("albumin",), np.arange(90),
                   np.array([f"P{n:03d}" for n in range(90)]), np.zeros(90, int), np.arange(90) % 3, truth,
                   probability=chance)
    run = binary_run(n=60)[0]
    figure = deciding_figure(held, n=50)
    several = replace(run, held_out={"model": held}, differences={}, sensitivity=[], permutation=None,
                      summary={**run.summary, "primary_metric": "auc_macro"}, plan=replace(run.plan, repeats=1),
                      scores={"model": {"auc_macro": {"estimate": figure.estimate, "low": figure.low,
                                                      "high": figure.high, "n": 90, "method": "m"}}})
    assert [curve.name for curve in curves.roc_curves(several, n=5)] == [f"{name} against the rest" for name in "ABC"]
    text = html_of(make_report(several, bootstraps=DRAWS), tmp_path)
    assert "Nothing can be said against" in text
    assert "A against the rest" not in facts.verdict(several).text


def test_coverage_of_sets_and_bounds_is_said_as_it_was_measured(binary, survival) -> None:
    gate = SimpleNamespace(gate=3.2, z_gate=5.0, names=("a", "b"), n=80, alpha=0.05, notes=("few patients",))
    part = {"coverage": 0.91, "low": 0.83, "high": 0.96, "n": 80, "size": 1.2, "full": 0.2, "by_class": {}}
    sets = SimpleNamespace(coverage={"0.1": part})
    text = sections.use(replace(binary[0], final=SimpleNamespace(conformal=sets, similarity=gate)))
    assert "91 % (83 to 96), n = 80" in text
    assert "few patients" in text
    measured = {"estimate": 0.88, "low": 0.8, "high": 0.95, "n": 90, "method": "", "note": ""}
    bounds = SimpleNamespace(horizon=36.0, known=70, n=90, largest_weight=2.1, assumption="censoring at random",
                             coverage={"0.1": {"lower_bound": measured, "interval": measured, "no_bound": 0.1}})
    text = sections.use(replace(survival[0], final=SimpleNamespace(conformal=bounds, similarity=None)))
    assert "0.88 (0.80 to 0.95)" in text
    assert "70 of 90" in text
    bounds.coverage = {}
    assert "not measured" in sections.use(replace(survival[0], final=SimpleNamespace(conformal=bounds,
                                                                                      similarity=None)))
    none = sections.use(replace(binary[0], final=SimpleNamespace(conformal=None, similarity=None)))
    assert "conformal set or bound at" not in none


def test_a_run_without_held_out_rows_is_refused(binary) -> None:
    with pytest.raises(InputError, match="no held-out predictions"):
        make_report(replace(binary[0], held_out={}))


def test_cancel_stops_the_report(binary) -> None:
    with pytest.raises(CancelledError):
        make_report(binary[0], bootstraps=DRAWS, cancelled=lambda: True)
