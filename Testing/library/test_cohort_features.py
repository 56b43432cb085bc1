"""Outcome features of a cohort: every region's columns, scores from columns with units, what is missing is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cohort_cases import SIDE, ball, read_rows, write_rows
from IRAILib.biopsy.radiomics import Settings, extract
from IRAILib.cohort.features import score_of
from IRAILib.cohort.manifest import read_manifest
from IRAILib.cohort.run import run_cohort
from IRAILib.cohort.tasks import read_settings, run_case
from IRAILib.geometry import Grid, InputError, Mask, Volume
from IRAILib.images import write_mask, write_volume

CONFIG = "discretisation: [fbn, 16]\nfamilies: [statistics, morphology]\nscores: [albi]\nshell_mm: [0, 4]\nrim_mm: 3\n"


def write_cohort(folder: Path) -> Path:
    """Bright balls in noise; the second has no albumin, the third an ablation zone that covers it."""
    rows = []
    for number in range(3):
        values = np.random.default_rng(number).normal(40.0, 5.0, (SIDE,) * 3) + 100.0 * ball(7.0).array
        write_volume(Volume(values.astype(np.float32), Grid((SIDE,) * 3, np.eye(4))), folder / f"i{number}.nii.gz")
        write_mask(ball(7.0), folder / f"m{number}.nii.gz")
        rows.append({"patient": f"p{number}", "image": f"i{number}.nii.gz", "mask": f"m{number}.nii.gz", "ablation": "",
                     "bilirubin [mg/dL]": "1.2", "Albumin (g/dL)": "3.5", "responder": str(number % 2)})
    rows[1]["Albumin (g/dL)"] = ""
    write_mask(ball(11.0), folder / "zone.nii.gz")
    rows[2]["ablation"] = "zone.nii.gz"
    return write_rows(folder / "m.csv", rows)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "c.yaml").write_text(CONFIG)
    summary = run_cohort(write_cohort(folder), "outcome-features", folder / "out", config=folder / "c.yaml", workers=1)
    assert (summary.done, summary.failed) == (3, 0)
    return folder, read_rows(folder / "out" / "features.csv")


def test_the_regions_are_where_they_should_be(table: tuple[Path, list[dict[str, str]]]) -> None:
    _, rows = table
    for row in rows:
        assert float(row["stat_mean"]) == pytest.approx(140.0, abs=1.0)
        if row["patient"] != "p2":
            assert float(row["shell_0_4mm__stat_mean"]) == pytest.approx(40.0, abs=1.0)
    zone = rows[2]
    assert zone["shell_0_4mm__stat_mean"] == "", "the shell lies inside the zone: nothing is left of it"
    assert "shell_0_4mm" in zone["notes"]
    assert float(zone["ablated_margin__stat_mean"]) == pytest.approx(40.0, abs=1.0)
    assert float(zone["coverage"]) == 1.0
    assert zone["residual_ml"] == "0.0"
    assert float(zone["zone_rim_ml"]) == pytest.approx(4 / 3 * np.pi * (14.0 ** 3 - 11.0 ** 3) / 1000, rel=0.05)
    assert rows[0]["coverage"] == ""


def test_features_are_those_of_extract(table: tuple[Path, list[dict[str, str]]]) -> None:
    folder, rows = table
    from IRAILib.images import read_mask, read_volume

    settings = Settings.from_dict(read_settings("outcome-features", folder / "c.yaml")["radiomics"])
    wanted = extract(read_volume(folder / "i0.nii.gz"), read_mask(folder / "m0.nii.gz"), settings).values()
    assert all(float(rows[0][key]) == pytest.approx(value, rel=1e-12) for key, value in wanted.items())


def test_scores_need_every_value_with_its_unit(table: tuple[Path, list[dict[str, str]]]) -> None:
    _, rows = table
    by_hand = 0.66 * np.log10(1.2 * 17.1) - 0.085 * 35.0
    assert float(rows[0]["score_albi"]) == pytest.approx(by_hand, abs=2e-3)
    assert rows[1]["score_albi"] == ""
    assert "albumin" in rows[1]["notes"]
    assert score_of("albi", {"bilirubin": "1.2", "albumin [g/dL]": "3.5"})[0] is None, "a unit must not be guessed"
    value, said = score_of("albi", {"bilirubin [umol/L]": "20.52", "albumin [g/L]": "35"})
    assert value == pytest.approx(by_hand, abs=2e-3)
    assert not said


def test_clinical_columns_and_units_travel_along(table: tuple[Path, list[dict[str, str]]]) -> None:
    folder, rows = table
    assert [row["responder"] for row in rows] == ["0", "1", "0"]
    about = json.loads((folder / "out" / "columns.json").read_text())
    assert about["shell_0_4mm__stat_mean"]["region"] == "shell_0_4mm"
    assert about["residual_ml"]["unit"] == "ml"
    assert about["stat_mean"]["ibsi_code"]


@pytest.mark.parametrize(("text", "words"), [("shell_mm: 5", "shell_mm"), ("scores: [meldd]", "meldd"),
                                             ("rim_mm: 0", "rim_mm"), ("colour: 1", "colour"), ("[1, 2]", "keys")])
def test_settings_that_are_wrong(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        read_settings("outcome-features", tmp_path / "c.yaml")


def test_a_mask_of_another_image_is_that_cases_failure(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path)
    far = np.eye(4)
    far[:3, 3] = 500.0
    write_mask(Mask(ball(5.0).array, Grid((SIDE,) * 3, far)), tmp_path / "m0.nii.gz")
    case = read_manifest(manifest, "radiomics")[0]
    outcome = run_case("radiomics", case.to_dict(), read_settings("radiomics", None))
    assert outcome["status"] == "failed"
    assert outcome["kind"] == "bad input"
    assert "\n" not in outcome["message"]


def test_columns_keep_their_kind_and_never_hide_a_result(tmp_path: Path) -> None:
    """Whole numbers stay whole, long ids keep every digit, a column called as a result stands beside it."""
    import pyarrow.parquet as pq

    manifest = write_cohort(tmp_path)
    rows = read_rows(manifest)
    for number, row in enumerate(rows):
        row.update({"accession": f"1234567890123456789{number}", "grade": str(number), "size": f"{number}.5",
                    "afp": "1e5", "notes": f"mine {number}", "stat_mean": "7"})
    rows[1]["grade"] = ""
    write_rows(manifest, rows)
    (tmp_path / "c.yaml").write_text("families: [statistics]\n")
    summary = run_cohort(manifest, "radiomics", tmp_path / "out", config=tmp_path / "c.yaml", workers=1)
    assert summary.done == 3
    table = read_rows(tmp_path / "out" / "features.csv")
    assert [row["accession"] for row in table] == [f"1234567890123456789{number}" for number in range(3)]
    assert [row["grade"] for row in table] == ["0", "", "2"]
    assert [row["manifest_notes"] for row in table] == ["mine 0", "mine 1", "mine 2"]
    assert [row["manifest_stat_mean"] for row in table] == ["7"] * 3
    assert all(float(row["stat_mean"]) == pytest.approx(140.0, abs=1.0) for row in table)
    types = {field.name: str(field.type) for field in pq.read_schema(tmp_path / "out" / "features.parquet")}
    assert {name: types[name] for name in ("accession", "grade", "size", "afp", "stat_mean", "case")} == {
        "accession": "string", "grade": "int64", "size": "double", "afp": "string", "stat_mean": "double",
        "case": "string"}
    assert {row["settings_hash"] for row in table} == {Settings.read(tmp_path / "c.yaml").hash}
    about = json.loads((tmp_path / "out" / "columns.json").read_text())
    assert "manifest" in about["manifest_notes"]["name"]


def test_a_mask_on_another_grid_as_at_the_console(tmp_path: Path) -> None:
    """Refused unless resampling is asked for, and then said; a cut-out of the image's voxels changes nothing."""
    manifest = write_cohort(tmp_path)
    coarse = Grid((SIDE // 2,) * 3, np.diag([2.0, 2.0, 2.0, 1.0]))
    array = ball(7.0).array[::2, ::2, ::2]
    write_mask(Mask(array, coarse), tmp_path / "m0.nii.gz")
    write_mask(ball(7.0).crop((8, 8, 8), (20, 20, 20)), tmp_path / "m1.nii.gz")
    first, second, third = read_manifest(manifest, "radiomics")
    settings = read_settings("radiomics", None)
    settings["radiomics"]["families"] = ["statistics"]
    outcome = run_case("radiomics", first.to_dict(), settings)
    assert (outcome["status"], outcome["kind"]) == ("failed", "bad input")
    assert "resample_mask: true in the settings" in outcome["message"]
    cut, whole = (run_case("radiomics", {**second.to_dict(), "files": {**second.files, "mask": path}}, settings)
                  for path in (second.files["mask"], third.files["mask"]))
    assert cut["values"] == whole["values"]
    settings["radiomics"]["resample_mask"] = True
    outcome = run_case("radiomics", first.to_dict(), settings)
    assert outcome["status"] == "done"
    assert any("resampled" in note for note in outcome["notes"])
