"""A model watched in use, against planted changes and against sums that hold exactly; its file recomputed by hand."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import outcome_cases as cases
import pytest
from IRAILib.biopsy.outcome import Plan, Run, train
from IRAILib.biopsy.outcome.evaluate.monitor import hazard_over_time
from IRAILib.biopsy.outcome.model_file import load_model, save_model
from IRAILib.biopsy.outcome.predict import predict
from IRAILib.biopsy.outcome.watch import REFERENCE, reference_of, watch
from IRAILib.cli.main import main
from IRAILib.geometry import InputError

N = 120
QUICK = {"repeats": 1, "outer_folds": 3, "inner_folds": 2, "permutations": 0, "bootstraps": 0, "sensitivity": False}


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    made = {"class": train(cases.table(cases.class_columns(N, 1)), Plan("label", patient="patient", **QUICK)),
            "time": train(cases.table(cases.survival_columns(N, 2)), Plan("died", time="months", patient="patient",
                                                                           **QUICK))}
    for name, run in made.items():
        columns = cases.class_columns(N, 1) if name == "class" else cases.survival_columns(N, 2)
        run.final.summary[REFERENCE] = reference_of(run.final, cases.table(columns), run.held_out["model"])
    return made


def test_like_patients_have_not_moved_and_others_have(runs: dict[str, Run]) -> None:
    columns = cases.class_columns(300, 4)
    same = watch(runs["class"].final, cases.table(columns))
    assert same.inputs.verdict == "no drift seen"
    assert same.p_outside > 0.05
    moved = watch(runs["class"].final, cases.table({**columns, "lab_n1": [v + 1.5 for v in columns["lab_n1"]],
                                                    "morph_a": [v + 2.0 for v in columns["morph_a"]]}))
    assert {one.name for one in moved.inputs.inputs if one.drifted} == {"lab_n1", "morph_a", "(predicted chance: yes)"}
    assert moved.n_outside > same.n_outside
    assert any("lie outside the training cohort" in said for said in moved.alarms)
    assert json.dumps(moved.to_dict(), allow_nan=False)


def test_events_expected_of_the_training_rows_are_the_events(runs: dict[str, Run]) -> None:
    """The logistic intercept isn't penalised and Breslow's hazard sums to the events: both sums hold exactly."""
    for name, columns in (("class", cases.class_columns(N, 1)), ("time", cases.survival_columns(N, 2))):
        model = replace(runs[name].final, similarity=None)
        found = watch(model, cases.table(columns)).calibration
        (one,) = next(iter(found.values())).periods
        assert one.n == N
        assert one.expected == pytest.approx(one.observed, rel=1e-3)
        assert one.low < 1 < one.high


def test_a_period_whose_events_changed_is_named(runs: dict[str, Run]) -> None:
    columns = cases.class_columns(240, 6)
    late = np.arange(240) >= 120
    changed = [("no" if flag else value) for flag, value in zip(late, columns["label"], strict=True)]
    when = [f"{2023 + int(flag)}-0{1 + 3 * (k % 2)}-15" for k, flag in enumerate(late)]
    found = watch(runs["class"].final, cases.table({**columns, "label": changed, "seen": when}), period="seen")
    periods = found.calibration["yes"].periods
    assert [one.period for one in periods] == ["2023 Q1", "2023 Q2", "2024 Q1", "2024 Q2"]
    assert [one.high < 1 for one in periods] == [False, False, True, True]
    assert found.calibration["yes"].p_trend < 0.01
    assert any("2024 Q2" in said and "2023 Q1" not in said for said in found.alarms)


@pytest.mark.parametrize(("written", "period"), [
    ("2024-11-03", "2024 Q4"), ("2024/2/28 10:00", "2024 Q1"), ("03.04.2024", "2024 Q2"), ("03/04/2024", "2024"),
    ("spring 2024", "spring 2024")])
def test_a_date_becomes_a_quarter_where_its_month_is_sure(runs: dict[str, Run], written: str, period: str) -> None:
    columns = cases.class_columns(30, 6)
    found = watch(replace(runs["class"].final, similarity=None), cases.table({**columns, "seen": [written] * 30}),
                  period="seen")
    assert [one.period for one in found.calibration["yes"].periods] == [period]


def test_hazards_count_censored_patients_for_as_long_as_they_were_seen() -> None:
    random = np.random.default_rng(3)
    rate = 0.05 * np.exp(random.normal(size=4000))
    time, stop = random.exponential(1 / rate), random.uniform(1, 40, 4000)
    seen, event = np.minimum(time, stop), (time <= stop).astype(int)
    period = np.repeat(["a", "b"], 2000)
    right = hazard_over_time(period, event, rate * seen)
    assert right.p > 0.01
    assert all(one.low < 1 < one.high for one in right.periods)
    half = np.where(period == "b", 0.5, 1.0)
    wrong = hazard_over_time(period, event, half * rate * seen)
    assert wrong.p < 1e-6
    assert wrong.periods[1].o_e == pytest.approx(2 * right.periods[1].o_e)
    with pytest.raises(InputError, match="not below 0"):
        hazard_over_time(["a"], [1], [-0.1])


def test_what_can_not_be_watched_is_said(runs: dict[str, Run]) -> None:
    model, columns = runs["class"].final, cases.class_columns(60, 7)
    del columns["label"]
    assert any("doesn't say what happened" in note for note in watch(model, cases.table(columns)).notes)
    few = watch(model, cases.table({name: cells[:5] for name, cells in columns.items()}))
    assert few.inputs.verdict == "too few patients"
    summary = {key: value for key, value in model.summary.items() if key != REFERENCE}
    with pytest.raises(InputError, match="keeps no reference"):
        watch(replace(model, summary=summary), cases.table(columns))
    with pytest.raises(InputError, match="no column 'when'"):
        watch(model, cases.table(columns), period="when")


def by_hand(document: dict, row: dict[str, float]) -> tuple[float, dict]:
    """The linear predictor of a complete row of numbers from model.json alone, and the model's state."""
    part = document["pipeline"]
    values = [row[name] for name in part["encoder"]["numbers"]]
    for step in part["chain"]:
        state = step["state"]
        if step["kind"] == "scale":
            values = [(v - m) / s for v, m, s in zip(values, state["mean"], state["sd"], strict=True)]
        elif step["kind"] == "redundancy":
            values = [values[n] for n in state["kept"]]
        else:
            assert step["kind"] == "impute-median"
            assert not state["indicators"]
    state = part["model"]["state"]
    weights = np.ravel(state["coefficients"]).tolist()
    return sum(w * v for w, v in zip(weights, values, strict=True)), state


def test_a_chance_and_a_survival_follow_from_the_file_by_hand(runs: dict[str, Run], tmp_path: Path) -> None:
    row = {f"lab_n{k}": 0.3 * k for k in range(4)} | {"morph_a": 0.7, "lab_a": -0.4}
    table = cases.table({name: [value] for name, value in row.items()})
    for name, run in runs.items():
        save_model(run.final, tmp_path / name)
        document = json.loads((tmp_path / name / "model.json").read_text(encoding="utf-8"))
        score, state = by_hand(document, row)
        found = predict(load_model(tmp_path / name), table, gate=False).rows[0]
        if name == "class":
            assert found.probability["yes"] == pytest.approx(1 / (1 + math.exp(-score - state["intercepts"][0])))
            continue
        for horizon in document["horizons"]:
            hazard = max((h for t, h in zip(state["times"], state["hazard"], strict=True) if t <= horizon), default=0.0)
            assert found.survival[f"{horizon:g}"] == pytest.approx(math.exp(-hazard * math.exp(score)))


def test_the_command_watches_a_model_that_the_command_trained(tmp_path: Path, capsys) -> None:
    for name, columns in (("a.csv", cases.class_columns(90, 1)), ("b.csv", cases.class_columns(90, 2))):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    out = tmp_path / "model"
    assert main(["biopsy", "train", str(tmp_path / "a.csv"), "--target", "label", "--patient", "patient", "--out",
                 str(out), "--folds", "3", "--repeats", "1", "--inner-folds", "2", "--permutations", "0",
                 "--bootstraps", "60", "--no-sensitivity", "--imputation", "chained"]) == 0
    capsys.readouterr()
    assert main(["biopsy", "drift", str(out), str(tmp_path / "b.csv"), "--out", str(tmp_path / "drift.json")]) == 0
    said = capsys.readouterr().out
    assert "lie outside the training cohort" in said
    found = json.loads((tmp_path / "drift.json").read_text(encoding="utf-8"))
    assert found["verdict"] in ("no drift seen", "changed")
    assert found["calibration"]["yes"]["periods"][0]["n"] == 90 - found["n_refused"]
    assert main(["biopsy", "drift", str(out), str(tmp_path / "b.csv"), "--period", "when"]) == 2
    assert "no column 'when'" in capsys.readouterr().err
