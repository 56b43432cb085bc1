"""The formula that a report prints gives, by hand, the chance that the program gives."""

from __future__ import annotations

import html
import math
import re

import numpy as np
import outcome_cases as cases
import pytest
from IRAILib.biopsy.outcome import Plan, Run, Table, train
from IRAILib.biopsy.outcome.predict import predict
from IRAILib.report.outcome_formula import apparent, formula, optimism_words
from sklearn.metrics import roc_auc_score

QUICK = {"patient": "patient", "repeats": 1, "outer_folds": 3, "inner_folds": 2, "permutations": 0, "bootstraps": 40,
         "sensitivity": False}


def table_of(kind: str) -> Table:
    columns = cases.class_columns(90, 1) if kind == "class" else cases.survival_columns(90, 2)
    columns["lab_grade"] = ["A" if value > 0 else "B" for value in columns["lab_a"]]
    columns["morph_a"] = [None if n % 9 == 0 else value for n, value in enumerate(columns["morph_a"])]
    return cases.table(columns)


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return {"class": train(table_of("class"), Plan("label", **QUICK)),
            "time": train(table_of("time"), Plan("died", time="months", **QUICK))}


def cells_of(text: str) -> list[list[str]]:
    return [[html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]
            for row in re.findall(r"<tr[^>]*>(.*?)</tr>", text)]


def score_by_hand(lines: list[list[str]], row: dict) -> float:
    total = 0.0
    for name, centre, scale, fill, weight in lines:
        if " = " in name:
            column, level = name.split(" = ")
            value = float(row[column] == level)
        elif name.endswith(" missing"):
            value = float(row[name.removesuffix(" missing")] is None)
        else:
            value = float(fill) if row[name] is None else row[name]
        total += float(weight) * max(-6.0, min(6.0, (value - float(centre)) / float(scale)))
    return total


@pytest.mark.parametrize("kind", ["class", "time"])
@pytest.mark.parametrize("morph", [0.8, None, 900.0])
def test_a_patient_worked_out_from_the_printed_formula(runs: dict[str, Run], kind: str, morph: float | None) -> None:
    run = runs[kind]
    row = {"morph_a": morph, "lab_a": -0.3, "lab_grade": "B"} | {f"lab_n{k}": 0.4 - 0.2 * k for k in range(4)}
    text = formula(run)
    lines = [cells for cells in cells_of(text) if len(cells) == 5]
    assert len(lines) >= 2
    score = score_by_hand(lines, row)
    found = predict(run.final, cases.table({name: [value] for name, value in row.items()}), gate=False).rows[0]
    constants = {cells[0]: float(cells[1]) for cells in cells_of(text) if len(cells) == 2}
    if kind == "class":
        assert found.probability["yes"] == pytest.approx(1 / (1 + math.exp(-score - constants["intercept"])), rel=1e-4)
        return
    for horizon in run.final.horizons:
        assert found.survival[f"{horizon:g}"] == pytest.approx(
            math.exp(-constants[f"H({horizon:g})"] * math.exp(score)), rel=1e-4)


def test_the_apparent_figure_is_that_of_the_final_model_on_its_own_rows(runs: dict[str, Run]) -> None:
    run, table = runs["class"], table_of("class")
    chance = [row.probability["yes"] for row in predict(run.final, table, gate=False).rows]
    truth = np.array([value == "yes" for value in table.values["label"]])
    value = apparent(run, table)
    assert value == pytest.approx(roc_auc_score(truth, chance))
    assert f"{value:.2f} (apparent)" in optimism_words(run, value)
    assert optimism_words(run, None) == ""
    assert 0.5 < apparent(runs["time"], table_of("time")) < 1


def test_trees_have_no_formula(runs: dict[str, Run]) -> None:
    run = train(table_of("class"), Plan("label", models=("boosting",), **QUICK))
    assert "no formula" in formula(run)
