"""`irai biopsy score` as a user types it."""

from __future__ import annotations

import json

import pytest
from IRAILib.biopsy.scores import SCORES
from IRAILib.cli.main import main

MELD = ["biopsy", "score", "meld", "--set", "bilirubin=2mg/dL", "--set", "creatinine=1.5mg/dL", "--set", "inr=1.5"]


def test_a_score_in_words_and_as_json(capsys, tmp_path) -> None:
    assert main(MELD) == 0
    assert capsys.readouterr().out.startswith("MELD (UNOS, before 2016): 17 points\n")
    assert main([*MELD, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["value"] == 17
    assert document["source"].startswith("Kamath")
    assert document["validated_on"]
    path = tmp_path / "meld.json"
    assert main([*MELD, "--json", str(path)]) == 0
    assert json.loads(path.read_text(encoding="utf-8")) == document


def test_values_from_a_file_and_set_before_it(capsys, tmp_path) -> None:
    path = tmp_path / "in.json"
    path.write_text(json.dumps({"targets": [{"organ": "liver", "diameters": ["50mm", "30mm"]}], "non_target": "none",
                                "new_lesions": False}), encoding="utf-8")
    command = ["biopsy", "score", "recist", "--input", str(path), "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["grade"] == "PR"
    assert main([*command, "--set", "new_lesions=yes"]) == 0
    assert json.loads(capsys.readouterr().out)["grade"] == "PD"


@pytest.mark.parametrize(("words", "status", "said"), [
    (["meld", "--set", "bilirubin=2"], 2, "missing"), (["meld", "--set", "bilirubin"], 2, "INPUT=VALUE"),
    ([*MELD[2:], "--set", "inr=2"], 2, "twice"), ([*MELD[2:7], "--set", "inr=1.5%"], 2, "inr"),
    (["recist", "--set", "targets=liver 8mm 4mm", "--set", "non_target=none", "--set", "new_lesions=no"], 3,
     "measurable"),
    (["recist", "--set", "targets=", "--set", "non_target=none", "--set", "new_lesions=no"], 3, "no response"),
    (["y90-dose", "--set", "activity=9GBq", "--set", "target=1L", "--set", "lung_shunt=20%", "--set",
      "earlier_lung_dose=0Gy"], 3, "lungs"), ([], 2, "say which score"),
    (["meld", "--input", "/nowhere.json"], 2, "can't be read")])
def test_bad_input_is_one_line_and_a_status(words, status, said, capsys) -> None:
    assert main(["biopsy", "score", *words]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert said in captured.err


def test_bad_files(tmp_path, capsys) -> None:
    path = tmp_path / "in.json"
    for text in ("", "[]", "{", "3", '{"bilirubin": NaN}'):
        path.write_text(text, encoding="utf-8")
        assert main(["biopsy", "score", "meld", "--input", str(path)]) == 2
    path.write_bytes(b"\xff\xfe\x00")
    assert main(["biopsy", "score", "meld", "--input", str(path)]) == 2
    assert main(["biopsy", "score", "meld", "--input", str(tmp_path)]) == 2
    capsys.readouterr()


def test_list_and_help_show_every_input(capsys) -> None:
    assert main(["biopsy", "score", "--list"]) == 0
    listed = capsys.readouterr().out
    for name, entry in SCORES.items():
        assert f"{name}: {entry.title}" in listed
        with pytest.raises(SystemExit) as end:
            main(["biopsy", "score", name, "--help"])
        assert end.value.code == 0
        shown = capsys.readouterr().out
        for item in entry.inputs:
            assert f"  {item.name}: " in listed
            assert f"  {item.name}: " in shown
        assert "source:" in shown
    with pytest.raises(SystemExit) as end:
        main(["biopsy", "score", "nosuch"])
    assert end.value.code == 2
