"""`irai fusion plan`: files in, JSON out, one line and the right exit status for everything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from entry_cases import ball, body_ct, oblique_grid
from IRAILib.cli.main import main
from IRAILib.geometry import Volume
from IRAILib.images import write_mask, write_volume
from vertebra_cases import paint_spine, spine_grid

GRID = oblique_grid()
TARGET = "5,-4,3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A CT; a segmentation of three, as Slicer writes it; the same as a label map with names."""
    out = tmp_path_factory.mktemp("plan")
    write_volume(body_ct(GRID), out / "ct.nrrd")
    vessel, tumour = ball(GRID, (40, -4, 3), 10.0), ball(GRID, (5, -4, 3), 9.0)
    liver = ball(GRID, (10, -4, 3), 24.0)
    labels = np.zeros(GRID.shape, np.uint8)
    labels[liver.array], labels[tumour.array], labels[vessel.array] = 3, 2, 1
    write_volume(Volume(labels, GRID), out / "labels.nrrd")
    image = sitk.ReadImage(str(out / "labels.nrrd"))
    for n, name in enumerate(("portal vein", "tumour", "liver")):
        image.SetMetaData(f"Segment{n}_ID", f"Segment_{n + 1}")
        image.SetMetaData(f"Segment{n}_Name", name)
        image.SetMetaData(f"Segment{n}_LabelValue", str(n + 1))
        image.SetMetaData(f"Segment{n}_Layer", "0")
    sitk.WriteImage(image, str(out / "three.seg.nrrd"))
    (out / "names.csv").write_text("id,name\n1,portal vein\n2,tumour\n3,liver\n")
    (out / "names.json").write_text('{"portal vein": 1, "tumour": 2, "liver": 3}')
    return out


def run(folder: Path, *words, ct: str = "ct.nrrd", labels: str | None = "three.seg.nrrd") -> int:
    more = ["--obstacles", str(folder / labels)] if labels else []
    return main(["fusion", "plan", str(folder / ct), *more, "--json", str(folder / "out.json"),
                 *(str(word) for word in words)])


@pytest.mark.parametrize("source", [("three.seg.nrrd",), ("labels.nrrd", "--names", "names.csv"),
                                    ("labels.nrrd", "--names", "names.json")])
def test_paths_from_each_kind_of_file(folder, capsys, source) -> None:
    words = [folder / word if "." in word else word for word in source[1:]]
    assert run(folder, "--target", TARGET, "--organ", "liver", "--top", "3", *words, labels=source[0]) == 0
    values = json.loads((folder / "out.json").read_text())
    assert (values["frame"], values["units"], len(values["paths"])) == ("RAS", "mm", 3)
    assert [o["name"] for o in values["obstacles"]] == ["portal vein"]
    path = values["paths"][0]
    assert path["closest"]["obstacle"] == "portal vein"
    assert path["closest"]["clearance_mm"] >= 3.0
    assert path["angle_to_capsule_deg"] < 90
    assert "3 paths; the best from" in capsys.readouterr().out


def test_no_free_path_names_the_obstacle_and_exits_with_3(folder, capsys) -> None:
    assert run(folder, "--target", TARGET, "--hard", "portal vein=27") in (3,)
    assert "portal vein" in capsys.readouterr().err
    assert run(folder, "--target", TARGET, "--max-length", "30") == 3
    assert "longer needle" in capsys.readouterr().err
    assert json.loads((folder / "out.json").read_text())["refused"]
    assert run(folder, "--target", "40,-4,3") == 3
    assert "in the hard obstacle 'portal vein'" in capsys.readouterr().err
    assert run(folder, "--target=-500,0,0") == 3
    assert run(folder, "--target", "-500,0,0") == 3  # a minus in front makes it no option
    assert run(folder, "--target", "-.5,-4,3", "--breathing", "-1,0,-9", "--max-length", "30") == 3
    assert "outside the CT" in capsys.readouterr().err


def test_needles_for_a_tumour(folder, capsys) -> None:
    assert run(folder, "--needles", 2, "--tumour", "Tumour", "--zone", "14,18", "--margin", 3) == 0
    values = json.loads((folder / "out.json").read_text())
    assert len(values["needles"]) == 2
    assert values["tumour_percent"] > 95
    assert "2 needles cover" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "says"), [
    ((), "one of --target"), (("--target", "1,2"), "3 numbers"), (("--target", "a,b,c"), "3 numbers"),
    (("--target", TARGET, "--hard", "spleen"), "no segment 'spleen'"), (("--target", TARGET, "--top", "0"), "top"),
    (("--target", TARGET, "--hard", "liver=x"), "1 number"), (("--needles", "2"), "--tumour"),
    (("--target", TARGET, "--names", "nowhere.csv"), "names its segments itself"),
    (("--vertebra", "L1"), "no vertebra"), (("--target", TARGET, "--vertebra", "L1"), "one of --target")])
def test_wrong_words_give_one_line_and_2(folder, capsys, words, says) -> None:
    assert run(folder, *words) == 2
    error = capsys.readouterr().err.splitlines()
    assert says in error[-1]


def test_wrong_files_give_one_line_and_2(folder, capsys) -> None:
    for change in ({"ct": "none.nrrd"}, {"labels": "none.seg.nrrd"}, {"labels": "labels.nrrd"}, {"labels": None}):
        assert run(folder, "--target", TARGET, **change) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_pedicles_from_a_label_map(tmp_path, capsys) -> None:
    ct, masks, _ = paint_spine(["T12", "L1", "L2"], grid=spine_grid(3, (1.0, 1.0, 1.5)))
    write_volume(ct, tmp_path / "ct.nrrd")
    labels = np.zeros(ct.grid.shape, np.uint8)
    for n, mask in enumerate(masks.values(), 1):
        labels[mask.array] = n
    write_volume(Volume(labels, ct.grid), tmp_path / "labels.nrrd")
    (tmp_path / "names.csv").write_text("label,structure\n1,vertebrae_T12\n2,vertebrae_L1\n3,vertebrae_L2\n")
    words = ["fusion", "plan", str(tmp_path / "ct.nrrd"), "--labels", str(tmp_path / "labels.nrrd"), "--names",
             str(tmp_path / "names.csv"), "--json", str(tmp_path / "out.json"), "--vertebra", "L1"]
    assert main(words) == 0
    values = json.loads((tmp_path / "out.json").read_text())
    assert {path["side"] for path in values["paths"]} == {"left", "right"}
    assert values["labels"]["counts_agree"] is None
    said = capsys.readouterr().out
    assert "bull's eye" in said
    assert "neither ribs nor sacrum" in said
    assert main([*words, "--needle-diameter", "9.5"]) == 3
    assert "L1 left" in capsys.readouterr().err
    assert main([*words, "--needle-diameter", "0"]) == 2


def test_mask_writer_round_trip_of_one_segment(folder) -> None:
    write_mask(ball(GRID, (40, -4, 3), 8.0), folder / "one.seg.nrrd", name="aorta")
    assert run(folder, "--target", TARGET, labels="one.seg.nrrd") == 0
    assert json.loads((folder / "out.json").read_text())["obstacles"][0]["kind"] == "vessel"
