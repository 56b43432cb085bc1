"""Manifests as people write them, and as they break them."""

from __future__ import annotations

from pathlib import Path

import pytest
from cohort_cases import write_rows
from IRAILib.cohort.manifest import read_manifest
from IRAILib.geometry import InputError

ROW = {"case": "a", "patient": "007", "image": "i.nii.gz", "mask": "m.nii.gz", "age": "51"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_are_told_apart(tmp_path: Path, delimiter: str) -> None:
    path = write_rows(tmp_path / "m.csv", [ROW | {"mask_label": "2", "Age, years": "51,5"}], delimiter)
    (case,) = read_manifest(path, "radiomics")
    assert (case.name, case.patient) == ("a", "007")
    assert case.files == {"image": str(tmp_path / "i.nii.gz"), "mask": str(tmp_path / "m.nii.gz")}
    assert case.selectors == {"mask_label": "2"}
    assert case.columns == {"age": "51", "Age, years": "51,5"}


def test_absolute_files_stay_and_spellings_are_taken(tmp_path: Path) -> None:
    elsewhere = tmp_path / "other" / "t.nii"
    path = write_rows(tmp_path / "m.csv", [{"Patient ID": "p", "Tumour": str(elsewhere), "ABLATION": "z.nii",
                                            "Organ": "n/a"}])
    (case,) = read_manifest(path, "margin")
    assert case.name == case.patient == "p"
    assert case.files == {"tumor": str(elsewhere), "ablation": str(tmp_path / "z.nii")}


def test_file_names_of_cases_never_meet(tmp_path: Path) -> None:
    names = ["a/b", "a_b", "a b", "../../etc", "A_B", "ä", "x" * 300, "."]
    path = write_rows(tmp_path / "m.csv", [ROW | {"case": name} for name in names])
    files = [case.file_name for case in read_manifest(path, "radiomics")]
    assert len({name.lower() for name in files}) == len(names)
    assert all("/" not in name and len(name) < 100 and not name.startswith(".") for name in files)


@pytest.mark.parametrize(("text", "words"), [
    ("", "is empty"),
    ("image,mask\n", "no case below"),
    ("image,maske\na,b\n", "no column 'mask' (is 'maske' meant?)"),
    ("image,mask,mask\na,b,c\n", "column mask stands twice"),
    ("image,mask,\na,b,c\n", "column 3 has no name"),
    ("patient,image,mask\np,a,\n", "line 2: has no mask"),
    ("patient,image,mask\np,a,b,c\n", "line 2: 4 cells under 3 columns"),
    ("image,mask\na,b\n", "neither a case nor a patient"),
    ("patient,image,mask\np,a,b\nq,a,b\np,c,d\n", "lines 2 and 4 are both called 'p'"),
    ('patient,image,mask\np,"a,b\n', "is no proper CSV"),
])
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_manifest(path, "radiomics")
    assert words in str(caught.value)
    assert "m.csv" in str(caught.value)


def test_outcome_features_need_patients(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.csv", [{"case": "a", "image": "i", "mask": "m"}])
    assert read_manifest(path, "radiomics")[0].patient == "a"
    with pytest.raises(InputError, match="every row needs one"):
        read_manifest(path, "outcome-features")


def test_no_text_and_no_task(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"image,mask\n\xff\xfe,b\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_manifest(path, "radiomics")
    with pytest.raises(InputError, match="can't be read"):
        read_manifest(tmp_path / "none.csv", "radiomics")
    with pytest.raises(InputError, match="no task 'texture'"):
        read_manifest(path, "texture")


def test_a_header_without_names(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(";;;\n;;;\n")
    with pytest.raises(InputError, match="no header"):
        read_manifest(tmp_path / "m.csv", "radiomics")


def test_relative_files_written_on_windows_are_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "i.nii.gz").write_text("")
    path = write_rows(tmp_path / "m.csv", [ROW | {"image": "sub\\i.nii.gz", "mask": r"C:\data\m.nii.gz"}])
    (case,) = read_manifest(path, "radiomics")
    assert Path(case.files["image"]).is_file()
    assert case.files["mask"].endswith(r"C:\data\m.nii.gz"), "a drive of another machine isn't guessed"


def test_no_column_is_lost(tmp_path: Path) -> None:
    """The column that names the case is the case; every other one is carried along, whatever it is called."""
    path = write_rows(tmp_path / "m.csv", [ROW | {"lesion": "L2", "subject_id": "S", "id": ""}])
    (case,) = read_manifest(path, "radiomics")
    assert case.columns == {"age": "51", "lesion": "L2", "subject_id": "S"}


def test_an_empty_label_is_no_column_of_the_result(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.csv", [ROW | {"mask_label": "2"}, ROW | {"case": "b", "mask_label": ""}])
    first, second = read_manifest(path, "radiomics")
    assert (first.selectors, second.selectors) == ({"mask_label": "2"}, {})
    assert first.columns == second.columns == {"age": "51"}
