"""Reporting sheets, verdict and card: they say what a run shows, and nothing that it doesn't."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from IRAILib.biopsy.outcome import facts
from IRAILib.biopsy.outcome.card import model_card
from IRAILib.biopsy.outcome.record import Leak
from IRAILib.biopsy.outcome.sheet_rules_results import RULES
from IRAILib.biopsy.outcome.sheets import NAMES, fill_sheets, read_sheet, sheets_csv
from IRAILib.geometry import InputError
from outcome_run_cases import binary_run, survival_run

EVERYTHING = ("characteristics", "subgroups", "calibration", "decision")


@pytest.fixture(scope="module")
def run():
    return binary_run()[0]


def sheet_of(run, key, shown=EVERYTHING):
    return next(sheet for sheet in fill_sheets(run, shown) if sheet.key == key)


def status_of(run, key, number, shown=EVERYTHING):
    return next(item for item in sheet_of(run, key, shown).items if item.number == number)


def test_sheets_have_the_published_numbers_of_items() -> None:
    main = {"".join(letter for letter in item["number"] if letter.isdigit()) for item in read_sheet("tripod")["items"]}
    assert main == {str(n) for n in range(1, 28)}
    for key, count in {"claim": 44, "clear": 58, "metrics": 30, "rqs": 16}.items():
        assert [item["number"] for item in read_sheet(key)["items"]] == [str(n) for n in range(1, count + 1)]


def test_weights_and_points_add_up_as_published() -> None:
    weights = [item["weight"] for item in read_sheet("metrics")["items"]]
    assert sum(weights) == pytest.approx(1.0, abs=1e-9)
    assert weights[2] == max(weights)
    points = read_sheet("rqs")["items"]
    assert sum(item["highest"] for item in points) == 36
    assert sum(item["lowest"] for item in points) == -8


def test_each_item_has_a_rule_and_each_sheet_its_source() -> None:
    used = set()
    for key in NAMES:
        blank = read_sheet(key)
        assert blank["doi"].startswith("10.")
        assert blank["source_note"]
        used |= {item["rule"] for item in blank["items"]}
    assert used == set(RULES)


def test_an_item_is_reported_only_with_evidence(run) -> None:
    for sheet in fill_sheets(run, EVERYTHING):
        for item in sheet.items:
            assert item.evidence, f"{sheet.key} {item.number}"
        assert sum(sheet.count().values()) == len(sheet.items)
        json.dumps(sheet.to_dict(), allow_nan=False)


def test_what_the_report_does_not_hold_is_not_reported(run) -> None:
    assert status_of(run, "metrics", "22").status == "reported"
    assert status_of(run, "metrics", "22", ()).status == "not done"
    assert status_of(run, "tripod", "20b", ()).status == "not done"
    assert status_of(run, "tripod", "14", ()).status == "not done"
    assert status_of(run, "rqs", "14", ()).points == 0
    assert status_of(run, "rqs", "10", ()).points == 0


def test_external_testing_and_ethics_are_never_claimed(run) -> None:
    for key, number in (("claim", "33"), ("metrics", "27"), ("rqs", "12"), ("tripod", "20c")):
        assert status_of(run, key, number).status == "not done"
    for key, number in (("tripod", "17"), ("clear", "8"), ("claim", "44"), ("metrics", "2"), ("rqs", "11")):
        assert status_of(run, key, number).status == "author"


def test_a_patient_in_two_folds_is_seen_and_not_reported_as_apart(run) -> None:
    held = run.held_out["model"]
    patient = held.patient.copy()
    first = np.flatnonzero(held.repeat == 0)
    patient[first[held.fold[first] == 1][0]] = patient[first[held.fold[first] == 0][0]]
    broken = replace(run, held_out={**run.held_out, "model": replace(held, patient=patient)})
    assert facts.patients_apart(run)
    assert not facts.patients_apart(broken)
    for key, number in (("claim", "20"), ("tripod", "12a"), ("metrics", "18"), ("metrics", "26")):
        assert status_of(run, key, number).status == "reported"
        assert status_of(broken, key, number).status == "not done"


def test_without_permutation_sensitivity_or_baseline_nothing_is_said_of_them(run) -> None:
    bare = replace(run, permutation=None, sensitivity=[], differences={}, selected={})
    assert "permutation" not in status_of(bare, "claim", "29").evidence
    assert status_of(bare, "claim", "30").status == "not done"
    assert status_of(bare, "clear", "41").status == "not done"
    assert status_of(bare, "clear", "46").status == "not done"


def test_scores_are_the_sum_of_what_is_shown(run) -> None:
    metrics = sheet_of(run, "metrics")
    own = sum(item.weight for item in metrics.items if item.status == "reported")
    whole = sum(item.weight for item in metrics.items if item.status != "not applicable")
    assert metrics.score["shown_by_the_run"] == pytest.approx(100 * own / whole, abs=0.06)
    assert metrics.score["shown_by_the_run"] <= metrics.score["if_the_author_shows_the_rest"] <= 100
    points = sheet_of(run, "rqs")
    assert points.score["shown_by_the_run"] == sum(item.points for item in points.items)
    assert points.score["maximum"] == 36
    assert points.score["if_the_author_shows_the_rest"] < 36  # no validation elsewhere


def test_no_radiomics_score_without_a_radiomic_column(run) -> None:
    columns = [replace(column, group="clinical") if column.group == "imaging" else column for column in run.columns]
    plain = replace(run, columns=columns)
    for key in ("metrics", "rqs"):
        assert sheet_of(plain, key).score is None
        assert "no score" in sheet_of(plain, key).note
    read_by_eye = [replace(c, name="1_RECIST_BL") if c.group == "imaging" else c for c in run.columns]
    assert sheet_of(replace(run, columns=read_by_eye), "rqs").score is None


def test_csv_holds_every_item_once(run) -> None:
    rows = list(csv.DictReader(io.StringIO(sheets_csv(fill_sheets(run)))))
    assert len(rows) == sum(len(read_sheet(key)["items"]) for key in NAMES)
    assert {row["status"] for row in rows} <= {"reported", "not done", "author must write", "not applicable"}


def test_unknown_sheet_is_named() -> None:
    with pytest.raises(InputError, match="no sheet 'prisma'"):
        read_sheet("prisma")


@pytest.mark.parametrize(("low", "high", "level", "start"), [
    (0.02, 0.2, "better", "Better than"), (-0.05, 0.09, "same", "No better than"), (-0.2, -0.01, "worse", "Worse than"),
    (0.0, 0.1, "same", "No better than")])
def test_verdict_follows_the_interval_of_the_difference(run, low, high, level, start) -> None:
    gap = {"estimate": (low + high) / 2, "low": low, "high": high, "n": 120, "method": "", "note": ""}
    said = facts.verdict(replace(run, differences={"model - baseline": {"auc": gap}}))
    assert said.level == level
    assert said.text.startswith(start)
    assert "95 % interval" in said.text
    assert "albumin" in said.text


def test_verdict_turns_round_where_lower_is_better(run) -> None:
    gap = {"estimate": -0.05, "low": -0.08, "high": -0.02, "n": 120, "method": "", "note": ""}
    summary = {**run.summary, "primary_metric": "brier"}
    said = facts.verdict(replace(run, summary=summary, differences={"model - baseline": {"brier": gap}}))
    assert said.level == "better"
    assert facts.direction("brier@24") == -1
    assert facts.direction("ipa@24") == 1
    assert facts.direction("oe@24") == 0


def test_verdict_without_a_baseline_or_an_interval(run) -> None:
    null = facts.verdict(replace(run, differences={"model - null": run.differences["model - null"]}))
    assert null.against == "null"
    assert "knows no column" in null.text
    none = facts.verdict(replace(run, differences={"model - baseline": {
        "auc": {"estimate": None, "low": None, "high": None, "n": 0, "note": "only one class"}}}))
    assert none.level == "none"
    assert "only one class" in none.text
    with pytest.raises(InputError, match="no scores"):
        facts.primary_metric(replace(run, summary={}, scores={}))


def test_beating_a_model_without_columns_is_not_called_better(run) -> None:
    gap = {"estimate": 0.3, "low": 0.2, "high": 0.4, "n": 120, "method": "", "note": ""}
    said = facts.verdict(replace(run, differences={"model - null": {"auc": gap}}))
    assert (said.level, said.against) == ("none", "null")
    assert said.text.startswith("Better than a model that knows no column")
    assert "No clinical baseline was named" in said.text
    assert "--baseline" in said.text


def test_a_baseline_of_the_models_own_columns_and_a_guessed_one_are_said(run) -> None:
    gap = {"estimate": 0.1, "low": 0.05, "high": 0.2, "n": 120, "method": "", "note": ""}
    run = replace(run, differences={"model - baseline": {"auc": gap}})
    named = facts.verdict(run).text
    assert "told by their names" not in named
    assert "the same columns" not in named
    guessed = facts.verdict(replace(run, plan=replace(run.plan, baseline=())))
    assert "told by their names" in guessed.text
    held = replace(run.held_out["baseline"], columns=tuple(column.name for column in facts.used(run)))
    same = facts.verdict(replace(run, held_out={**run.held_out, "baseline": held}))
    assert "the same columns as the model" in same.text


def test_a_gap_that_goes_with_the_outcome_is_a_limit(run) -> None:
    leak = Leak("albumin", "missing values go with the target", "p = 1e-9", 1e-9, "warned")
    gap = [{"name": "albumin missing", "coefficient": -1.3}]
    text = " ".join(facts.limits(replace(run, leaks=[leak], summary={**run.summary, "coefficients": gap})))
    assert "The final model weighs that gap itself (albumin)" in text
    text = " ".join(facts.limits(replace(run, leaks=[leak], summary={**run.summary, "coefficients": []})))
    assert "albumin is missing goes with the outcome" in text
    assert "weighs that gap" not in text


def test_better_than_baseline_but_not_than_chance_is_said(run) -> None:
    gap = {"estimate": 0.01, "low": -0.05, "high": 0.07, "n": 120, "method": "", "note": ""}
    said = facts.verdict(replace(run, differences={"model - baseline": {"auc": gap}, "model - null": {"auc": gap}}))
    assert "Nor is it shown to be better" in said.text


def test_follow_up_is_that_of_lifelines() -> None:
    from lifelines import KaplanMeierFitter

    run = survival_run()[0]
    once = run.held_out["model"].averaged()
    fitted = KaplanMeierFitter().fit(once.time, once.truth == 0)
    found = facts.follow_up(run.held_out["model"])
    assert found["median"] == pytest.approx(fitted.median_survival_time_)
    assert facts.follow_up(binary_run()[0].held_out["model"]) is None


def test_card_names_what_a_user_must_know_and_no_patient(run) -> None:
    text = model_card(run, {"model.json": "ab" * 32})
    assert "Not for clinical decisions" in text
    assert facts.verdict(run).text in text
    assert "ab" * 32 in text
    assert "response\\_FU" in text  # the dropped leak
    assert not any(name in text for name in set(run.held_out["model"].patient.tolist()))
    kept = replace(run, leaks=[Leak("x|y", "after treatment", "AUC 1", 1.0, "kept")])
    assert "WARNING" in model_card(kept)
    assert "x\\|y" in model_card(kept)


def test_classes_that_are_numbers_are_given_their_column(run) -> None:
    assert facts.outcome_words(run, "1") == "histology = 1"
    assert facts.outcome_words(run, "malignant") == "malignant"


def test_folds_count_each_patient_once(run) -> None:
    rows = facts.fold_table(run)
    assert len(rows) == 10
    for repeat in (1, 2):
        assert sum(row["held_out"] for row in rows if row["repeat"] == repeat) == 120
    assert all(row["held_out"] + row["trained_on"] == 120 for row in rows)
