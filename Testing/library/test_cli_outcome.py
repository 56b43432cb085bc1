"""`irai biopsy train` and `predict` as a user types them: files, exit codes, nothing half-written, no patient "
"inside."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from IRAILib.cli.biopsy_train import check_place
from IRAILib.cli.main import main
from IRAILib.geometry import InputError
from IRAILib.report.outcome_folder import split_names

FILES = ["card.md", "metrics.json", "model.json", "report.html", "sheets.csv", "sheets.json"]
QUICK = ["--folds", "3", "--repeats", "1", "--inner-folds", "2", "--permutations", "0", "--bootstraps", "60",
         "--no-sensitivity"]


def write_table(path: Path, n: int = 90, delimiter: str = ",", seed: int = 4) -> Path:
    """A marker that moves the chance of an event, a weak clinical score, noise, and a column known afterwards."""
    random = np.random.default_rng(seed)
    marker, noise = random.normal(size=n), random.normal(size=n)
    event = random.random(n) < 1 / (1 + np.exp(-2.0 * marker))
    rows = [["Fall-Nr", "Marker; HU", "noise", "meld", "sex", "response_FU", "outcome"]]
    for k in range(n):
        rows.append([f"Mustermann{k:03d}", f"{marker[k]:.4f}", f"{noise[k]:.4f}", f"{10 + 2 * random.random():.2f}",
                     "mf"[k % 2], "good" if event[k] else "bad", "yes" if event[k] else "no"])
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return write_table(tmp_path_factory.mktemp("outcome") / "patients.csv")


@pytest.fixture(scope="module")
def model(table) -> Path:
    out = table.parent / "model"
    assert main(["biopsy", "train", str(table), "--target", "outcome", "--patient", "Fall-Nr", "--baseline", "meld",
                 "--out", str(out), *QUICK]) == 0
    return out


def test_the_folder_holds_what_the_issue_names(model) -> None:
    assert [name for name in sorted(path.name for path in model.iterdir()) if name != "weights.npz"] == FILES
    found = json.loads((model / "metrics.json").read_text(encoding="utf-8"))
    assert {"metric", "estimate", "ci95", "baseline", "n_patients", "folds"} <= set(found)
    assert found["n_patients"] == 90
    assert found["folds"] == 3
    assert found["ci95"][0] < found["estimate"] < found["ci95"][1]
    assert found["estimate"] > 0.75  # the marker's own AUC is about 0.87
    assert found["verdict_level"] == "better"
    assert [leak["column"] for leak in found["leaks"] if leak["action"] == "dropped"] == ["response_FU"]
    assert found["baseline"]["columns"] == ["meld"]


def test_no_patient_and_no_row_is_in_the_folder(model) -> None:
    for path in model.iterdir():
        assert b"Mustermann" not in path.read_bytes(), path.name


def test_hashes_in_card_and_metrics_are_those_of_the_files(model) -> None:
    import hashlib

    found = json.loads((model / "metrics.json").read_text(encoding="utf-8"))["files_sha256"]
    assert "model.json" in found
    for name, value in found.items():
        assert hashlib.sha256((model / name).read_bytes()).hexdigest() == value
        assert value in (model / "card.md").read_text(encoding="utf-8")


def test_a_model_is_not_overwritten_without_force(model, table, capsys) -> None:
    before = (model / "model.json").read_bytes()
    assert main(["biopsy", "train", str(table), "--target", "outcome", "--out", str(model)]) == 2
    assert "--force" in capsys.readouterr().err
    assert (model / "model.json").read_bytes() == before


def test_a_folder_of_other_things_is_never_replaced(table, tmp_path, capsys) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["biopsy", "train", str(table), "--target", "outcome", "--out", str(tmp_path), "--force"]) == 2
    assert "no model" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_only_a_model_is_replaced_and_only_by_force(model, tmp_path) -> None:
    check_place(model, True)
    check_place(tmp_path / "new", False)
    check_place(tmp_path, False)  # an empty folder
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_place(tmp_path / "file", True)


def test_the_same_command_gives_the_same_model_byte_for_byte(model, table, tmp_path) -> None:
    words = ["biopsy", "train", str(table), "--target", "outcome", "--patient", "Fall-Nr", "--baseline", "meld",
             "--out", str(tmp_path / "again"), *QUICK]
    assert main(words) == 0
    assert (tmp_path / "again" / "model.json").read_bytes() == (model / "model.json").read_bytes()
    first, again = (json.loads((folder / "metrics.json").read_text()) for folder in (model, tmp_path / "again"))
    assert first == again


@pytest.mark.parametrize(("words", "status", "said"), [
    (["nothing.csv", "--target", "outcome"], 2, "no such table"),
    (["TABLE", "--target", "outcom"], 2, "do you mean 'outcome'"),
    (["TABLE", "--target", "outcome", "--patient", "Fall-Nr", "--exclude", "nosie"], 2, "do you mean 'noise'"),
    (["TABLE", "--target", "noise"], 2, "different values"),
    (["TABLE", "--target", "outcome", "--role", "noise"], 2, "COLUMN=ROLE"),
    (["TABLE", "--target", "outcome", "--time", "noise"], 2, "negative"),
    (["TABLE", "--target", "outcome", "--patient", "Fall-Nr", "--folds", "60"], 3, "few"),
    (["TABLE", "--target", "outcome", "--patient", "Fall-Nr", "--exclude", "Marker; "
                                                                           "HU,noise,meld,sex"], 3, "no column"),
])
def test_bad_input_is_one_line_and_leaves_nothing(words, status, said, table, tmp_path, capsys) -> None:
    words = [str(table) if word == "TABLE" else word for word in words]
    assert main(["biopsy", "train", *words, "--out", str(tmp_path / "m")]) == status
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("irai: ")
    assert said in last
    assert not list(tmp_path.iterdir())


def test_interrupted_training_leaves_nothing(table, tmp_path) -> None:
    """The worker is given long work and the command a time limit that it can't keep."""
    assert main(["biopsy", "train", str(table), "--target", "outcome", "--patient", "Fall-Nr", "--permutations", "5000",
                 "--out", str(tmp_path / "m"), "--timeout", "3"]) == 130
    assert not list(tmp_path.iterdir())


def test_predictions_of_training_patients_may_be_written_beside_but_not_inside(table, tmp_path, capsys) -> None:
    out = tmp_path / "m"
    assert main(["biopsy", "train", str(table), "--target", "outcome", "--out", str(out), "--predictions",
                 str(out / "rows.csv")]) == 2
    assert "names patients" in capsys.readouterr().err


def test_predict_answers_refuses_and_says_why(model, table, tmp_path, capsys) -> None:
    rows = list(csv.reader(table.open(encoding="utf-8")))
    strange = tmp_path / "new.csv"
    with strange.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([rows[0], rows[1], rows[2], ["far", "900", "0", "11", "f", "", ""],
                                    ["word", "high", "0", "11", "f", "", ""]])
    assert main(["biopsy", "predict", str(model), str(strange), "--out", str(tmp_path / "p.csv")]) == 0
    assert "2 refused" in capsys.readouterr().out
    found = list(csv.DictReader((tmp_path / "p.csv").open(encoding="utf-8")))
    assert [row["patient"] for row in found] == ["Mustermann000", "Mustermann001", "far", "word"]
    assert [row["refused"] for row in found] == ["no", "no", "yes", "yes"]
    for row in found[:2]:
        assert float(row["probability yes"]) + float(row["probability no"]) == pytest.approx(1, abs=1e-5)
        assert row["set"] in ("yes", "no", "no | yes", "yes | no", "")
        assert row["top 1"].startswith("Marker; HU = ")
        assert row["validated on"]
    assert "outside the training cohort" in found[2]["reason"]
    assert "which is no number" in found[3]["reason"]
    assert not any(row["probability yes"] for row in found[2:])


def test_predict_without_any_answer_is_a_refusal(model, tmp_path, capsys) -> None:
    other = tmp_path / "other.csv"
    other.write_text("Fall-Nr,x\nA,1\nB,2\n", encoding="utf-8")
    assert main(["biopsy", "predict", str(model), str(other), "--out", str(tmp_path / "p.csv")]) == 3
    assert "every row was refused" in capsys.readouterr().err
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 3


def test_predict_names_what_is_wrong_with_the_model(table, tmp_path, capsys) -> None:
    assert main(["biopsy", "predict", str(tmp_path), str(table), "--out", str(tmp_path / "p.csv")]) == 2
    assert "model.json" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def test_json_goes_to_standard_output_alone(model, table, tmp_path) -> None:
    words = [sys.executable, "-m", "IRAILib.cli.main", "biopsy", "predict", str(model), str(table), "--out",
             str(tmp_path / "p.csv"), "--json"]
    import os

    library = Path(main.__code__.co_filename).resolve().parents[2]
    done = subprocess.run(words, capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(library)})
    found = json.loads(done.stdout)
    assert len(found["rows"]) == 90
    assert found["validated_on"]


def test_lists_of_columns_may_be_written_with_commas(table) -> None:
    from IRAILib.biopsy.outcome.table import Table

    data = Table.from_columns({"a": ["1"], "b": ["1"], "c, d": ["1"]})
    made = split_names({"exclude": ("a,b", "c, d"), "baseline": ["a"]}, data)
    assert made["exclude"] == ("a", "b", "c, d")
    assert made["baseline"] == ("a",)
