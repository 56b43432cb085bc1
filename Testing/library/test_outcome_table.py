"""Tables as people write them, and what their columns and names give away."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import outcome_cases as cases
import pytest
from IRAILib.biopsy.outcome import Plan, Table, read_table
from IRAILib.biopsy.outcome.leaks import duplicates
from IRAILib.biopsy.outcome.outcome import Outcome, read_outcome
from IRAILib.biopsy.outcome.roles import assign_roles, group_of, known_only_later
from IRAILib.biopsy.outcome.sample_size import max_r2_binary, max_r2_survival, riley, sample_size
from IRAILib.biopsy.outcome.study import prepare
from IRAILib.geometry import InputError, RefusedError

ROWS = [["id", "bilirubin (mg/dL)", "ascites", "grade", "day"],
        ["007", "1.5", "yes", "A", "2024-01-31"], ["008", "NA", "Yes", "B", "2024-02-01"],
        ["009", "2.25", "no", "", "2024-02-02"], ["010", "<0.3", "no", "A", "-"]]


def written(path: Path, delimiter: str, *, comma: bool = False, encoding: str = "utf-8", end: str = "\n") -> Path:
    rows = [[cell.replace(".", ",") if (comma and cell[:1].isdigit()) or (cell == "<0.3" and comma) else cell
             for cell in row] for row in ROWS]
    path.write_bytes(end.join(delimiter.join(row) for row in rows).encode(encoding) + end.encode(encoding))
    return path


@pytest.mark.parametrize(("delimiter", "comma", "encoding", "end"), [
    (",", False, "utf-8", "\n"), (";", True, "utf-8-sig", "\r\n"), ("\t", False, "latin-1", "\n"),
    (";", False, "utf-8", "\n"), ("\t", True, "utf-16", "\r\n"), ("|", False, "utf-8", "\r\n")])
def test_every_way_to_write_a_table_gives_the_same(tmp_path: Path, delimiter: str, comma: bool, encoding: str,
                                                   end: str) -> None:
    table = read_table(written(tmp_path / "t.csv", delimiter, comma=comma, encoding=encoding, end=end))
    assert table.kinds == {"id": "number", "bilirubin (mg/dL)": "number", "ascites": "category", "grade": "category",
                           "day": "date"}
    assert table.text["id"].tolist() == ["007", "008", "009", "010"]
    assert table.values["bilirubin (mg/dL)"] == pytest.approx([1.5, np.nan, 2.25, 0.3], nan_ok=True)
    assert sorted(set(table.values["ascites"])) in (["Yes", "no"], ["no", "yes"])
    assert any("limit" in said for said in table.warnings)


def test_excel_parquet_and_cohort_folder(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    book = openpyxl.Workbook()
    for row in (["patient", "age", "when"], ["A1", 60, "2024-01-01"], ["A2", None, "2024-01-02"], ["A3", 71.5, None]):
        book.active.append(row)
    book.save(tmp_path / "clinical.xlsx")
    parquet.write_table(pyarrow.table({"patient": ["A3", "A1", "A9"], "morph_volume": [1.0, 2.5, 3.5]}),
                        tmp_path / "features.parquet")
    table = read_table(tmp_path)
    assert table.values["age"] == pytest.approx([71.5, 60, np.nan], nan_ok=True)
    assert table.origin == {"patient": "features", "morph_volume": "features", "age": "clinical", "when": "clinical"}
    assert any("1 rows have no clinical" in said for said in table.warnings)
    (tmp_path / "clinical.xlsx").unlink()
    (tmp_path / "clinical.csv").write_text("patient,age\nA1,3\nA1,4\n", encoding="utf-8")
    with pytest.raises(InputError, match="several rows for patient 'A1'"):
        read_table(tmp_path)


@pytest.mark.parametrize(("text", "message"), [
    ("", "empty"), ("a,b\n", "empty"), ("a,a\n1,2\n", "twice"), ("a,b\n1,2,3\n", "line 2 has 3 cells"),
    ("\0\1\2\3", "no text table")])
def test_damaged_tables_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_table(path)
    with pytest.raises(InputError, match="no such table"):
        read_table(tmp_path / "none.csv")


def test_missing_column_names_the_near_one() -> None:
    with pytest.raises(InputError, match="do you mean 'label'"):
        prepare(cases.table(cases.class_columns(40, 0)), Plan("lable"))


def outcome_of(label: list, time: list | None = None, **plan: object) -> tuple:
    columns = {"y": label} | ({} if time is None else {"t": time})
    return read_outcome(Table.from_columns(columns), Plan("y", time=None if time is None else "t", **plan))  # type: ignore


def test_targets_are_read_as_they_are_meant() -> None:
    found, rows, _ = outcome_of(["yes", "no", "", "No", "YES"])
    assert (found.classes, found.label.tolist(), rows.tolist()) == (("No", "YES"), [1, 0, 0, 1], [0, 1, 3, 4])
    assert outcome_of([1, 0, 1])[0].classes == ("0", "1")
    assert outcome_of(["malignant", "benign", "benign"])[0].label.tolist() == [1, 0, 0]
    assert outcome_of(["a", "b", "c", "a"])[0].kind == "multiclass"
    dead, _, _ = outcome_of([2, 1, 2], [1.0, 2, 3], event="2", censored="1")
    assert (dead.kind, dead.label.tolist()) == ("survival", [1, 0, 1])
    several, _, said = outcome_of([0, 1, 2, 2], [1.0, 2, 3, 4], event="2")
    assert (several.kind, several.label.tolist()) == ("competing", [0, 2, 1, 1])
    assert said == ["'y': 1 are competing events"]


@pytest.mark.parametrize(("label", "time", "message"), [
    (["a", "a"], None, "one class only"), ([f"t{k}" for k in range(30)], None, "30 different values"),
    ([1, 0], [-1.0, 2], "negative in data row 1"), ([1, 2, 3], [1.0, 2, 3], "say by event="),
    ([0, 0], [1.0, 2], "say by event="), ([1, 0], ["x", "y"], "no number"), ([None, None], None, "no row has a value")])
def test_targets_that_cannot_be_used_are_refused(label: list, time: list | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        outcome_of(label, time)


@pytest.mark.parametrize("name", ["OS", "os_months", "PFS", "TTP", "Interval_FU", "size_FU", "FollowUp days",
                                  "followup",
                                  "Post-TACE AFP", "postop_bilirubin", "1_RECIST", "mRECIST", "best response", "Death",
                                  "progressed", "time to recurrence", "LastContact", "vital status", "date.of.death",
                                  "Nachbeobachtung_Monate", "Überlebenszeit", "UEBERLEBENSZEIT", "Todesdatum",
                                  "Rezidiv",
                                  "AFP nach TACE", "suivi_mois", "décès", "Récidive", "bilirubine après TACE",
                                  "Seguimiento (meses)", "fallecido", "Óbito", "sopravvivenza", "Overlijden",
                                  "daystodeath", "lastcontactdays", "timetoprogression", "DSS", "Last seen alive",
                                  "disease-free months"])
def test_names_that_are_known_only_later(name: str) -> None:
    assert known_only_later(name)


@pytest.mark.parametrize("name", ["1_RECIST_BL", "baseline mRECIST", "AFP", "age", "position", "Cosmos", "5-FU", "ost",
                                  "Personal history of cancer", "pre-treatment response score", "postal", "Child-Pugh",
                                  "cause of cirrhosis", "Tr_Size", "compost", "tumour diameter", "morph_volume",
                                  "methodes", "total protein", "Größe_mm", "Vorgeschichte Rezidiv", "antécédent de "
                                  "récidive", "ex vivo volume", "transthyretin", "Nachname", "tot_bili"])
def test_names_that_are_known_before(name: str) -> None:
    assert known_only_later(name) is None


@pytest.mark.parametrize("name", ["inst", "Hôpital", "Klinik", "hospital_no", "centro"])
def test_a_hospital_is_no_feature_by_itself(name: str) -> None:
    columns = {**cases.class_columns(20, 1), name: [1.0 + k % 3 for k in range(20)]}
    assert assign_roles(cases.table(columns), Plan("label"))[0][name] == "excluded"


def test_groups_and_identifiers_by_name() -> None:
    assert [group_of(name) for name in ("cm_joint_max_3D_comb", "log_sigma2mm__stat_mean", "original_glcm_Contrast",
                                        "MELD-Na", "Child_Pugh", "age", "deep_12")] == [
        "imaging", "imaging", "imaging", "score", "score", "clinical", "deep"]
    table = Table.from_columns({"patient_id": [1, 2], "MRN": [3, 4], "y": [0, 1], "idh_status": [0, 1],
                                "centre": [1, 2]})
    roles = assign_roles(table, Plan("y"))[0]
    assert roles == {"patient_id": "identifier", "MRN": "identifier", "y": "target", "idh_status": "feature",
                     "centre": "excluded"}


def leaks_of(columns: dict[str, list], plan: Plan) -> dict[str, tuple[str, str]]:
    return {leak.column: (leak.kind, leak.action) for leak in prepare(cases.table(columns), plan).leaks}


def test_leaks_of_a_class_are_found_named_and_dropped() -> None:
    columns = cases.class_columns(80, 1)
    random = np.random.default_rng(0)
    truth = np.array([value == "yes" for value in columns["label"]])
    columns |= {"copy": truth.astype(int).tolist(), "marker": (truth + 0.05 * random.normal(size=80)).tolist(),
                "serial": list(range(1000, 1080)), "same": [3] * 80, "size_FU": random.normal(size=80).tolist(),
                "lab_miss": [float(random.normal()) if value else None for value in truth],
                "seen": [f"2024-01-{1 + k % 28:02d}" for k in range(80)]}
    study = prepare(cases.table(columns), Plan("label", patient="patient", allow=("marker",)))
    found = {leak.column: (leak.kind, leak.action) for leak in study.leaks}
    assert found == {"copy": ("equal to the target", "dropped"), "marker": ("predicts the target alone", "kept"),
                     "serial": ("identifier", "dropped"), "same": ("constant", "dropped"),
                     "size_FU": ("known only after treatment", "dropped"),
                     "lab_miss": ("missing values go with the target", "dropped")}
    assert "marker" in study.candidates
    assert not {"copy", "serial", "same", "size_FU", "lab_miss", "seen", "patient"} & set(study.candidates)
    assert any("'marker' is kept" in said for said in study.warnings)
    assert next(c for c in study.columns if c.name == "seen").reason.startswith("a date")


def test_leaks_of_a_survival_time_are_found() -> None:
    columns = cases.survival_columns(80, 2)
    time = np.array(columns["months"])
    columns |= {"visits": np.round(time / 2).tolist(), "days": (time * 30.4).tolist(),
                "late": (-time + np.random.default_rng(1).normal(size=80)).tolist()}
    died = np.array(columns["died"])
    columns |= {"zustand": [("x" if flag else "y") if n != 4 else "y" for n, flag in enumerate(died)],
                "coded": np.where(died == 1, 7, 2 + np.arange(80) % 3).tolist()}
    found = leaks_of(columns, Plan("died", time="months", patient="patient"))
    assert {name: action for name, (_, action) in found.items()} == dict.fromkeys(
        ("visits", "days", "late", "zustand", "coded"), "dropped")


def test_a_shuffled_number_of_each_patient_is_an_identifier_and_ages_are_none() -> None:
    random = np.random.default_rng(2)
    columns = cases.class_columns(60, 3)
    columns |= {"code": (1000 + random.permutation(60)).tolist(),
                "age": random.choice(np.arange(20, 95), 60, replace=True).tolist(),
                "platelets": random.choice(np.arange(40, 400), 60, replace=False).tolist()}
    assert leaks_of(columns, Plan("label", patient="patient")) == {"code": ("identifier", "dropped")}


def test_clean_tables_have_no_leak() -> None:
    for seed in range(6):
        assert leaks_of(cases.class_columns(70, seed), Plan("label", patient="patient")) == {}
        assert leaks_of(cases.survival_columns(70, seed), Plan("died", time="months", patient="patient")) == {}


def test_duplicate_patients_and_sorted_rows() -> None:
    columns = cases.class_columns(60, 3)
    for name, cells in columns.items():
        cells.append("P9999" if name == "patient" else cells[5])
        cells.append("P9998" if name == "patient" else cells[7] if isinstance(cells[7], str) else cells[7] + 1e-4)
    table = cases.table(columns)
    names = [name for name in columns if name not in ("patient", "label")]
    assert duplicates(table, names, table.text["patient"]) == [(5, 60, True), (7, 61, False)]
    study = prepare(table, Plan("label", patient="patient"))
    assert len(study.outcome) == 61
    assert study.groups[-1] == "P0007"
    assert [leak.action for leak in study.leaks] == ["dropped", "kept on one side of every split"]
    order = np.argsort(np.array(cases.class_columns(60, 3)["label"]))
    found = leaks_of({k: [v[n] for n in order] for k, v in cases.class_columns(60, 3).items()},
                     Plan("label", patient="patient"))
    assert found == {"(row order)": ("rows sorted by the target", "warned")}


def test_nothing_left_to_learn_from_is_refused() -> None:
    with pytest.raises(RefusedError, match="no column is left"):
        prepare(Table.from_columns({"y": [0, 1] * 20, "id": range(40)}), Plan("y"))


def test_minimal_sample_sizes_are_the_published_ones() -> None:
    """Riley et al., BMJ 2020 and pmsampsize's worked examples: 5143 patients (survival), 662 (binary)."""
    assert max(riley(30, 0.051, max_r2_survival(0.065 * 2.07))) == 5143
    assert max(riley(24, 0.288, max_r2_binary(0.174))) == 662


def test_a_cohorts_own_words_say_what_is_imaging(tmp_path: Path) -> None:
    """Clinical columns of the manifest are a baseline, not images; seconds and notes of the run are no features."""
    (tmp_path / "features.csv").write_text(
        "case,patient,age,coverage,stat_mean,score_albi,notes,seconds\na,p1,50,0.9,1.5,-2.1,,3.2\nb,p2,61,1,2.5,-2,x,9\n")
    (tmp_path / "columns.json").write_text(json.dumps({
        "stat_mean": {"family": "statistics", "unit": "HU"}, "score_albi": {"family": "score", "unit": ""},
        "coverage": {"family": "ablation zone", "unit": "1"}}))
    table = read_table(tmp_path)
    assert table.names == ["case", "patient", "age", "coverage", "stat_mean", "score_albi"]
    groups = {name: group_of(name, table.origin[name]) for name in table.names}
    assert {name: groups[name] for name in ("age", "coverage", "stat_mean", "score_albi")} == {
        "age": "clinical", "coverage": "imaging", "stat_mean": "imaging", "score_albi": "score"}
    (tmp_path / "clinical.csv").write_text("patient,sex\np1,m\np2,f\n")
    both = read_table(tmp_path)
    assert (both.origin["sex"], both.origin["age"], both.origin["stat_mean"]) == ("clinical", "clinical", "features")


def test_rows_of_one_patient_are_no_further_patients() -> None:
    outcome = Outcome("binary", ("no", "yes"), np.tile([0, 0, 0, 1], 100))
    assert (sample_size(outcome, 400, 2).n_events, sample_size(outcome, 40, 2).n_events) == (100, 10)
    assert sample_size(outcome, 400, 2).enough
    assert not sample_size(outcome, 40, 2).enough


def test_a_site_that_is_the_outcome_is_named_and_one_that_is_not_is_left_alone() -> None:
    columns = cases.class_columns(60, 3)
    label = np.array(columns["label"])
    tells = leaks_of({**columns, "where": np.where(label == "yes", "A", "B").tolist()},
                     Plan("label", patient="patient", site="where"))
    assert tells == {"where": ("the site goes with the target", "warned")}
    fair = np.random.default_rng(1).choice(["A", "B", "C"], 60).tolist()
    assert leaks_of({**columns, "where": fair}, Plan("label", patient="patient", site="where")) == {}
