"""`irai ablation margin` as a user types it: files, keys, exit statuses, one line for bad input."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec

import numpy as np
import pytest
from IRAILib.ablation.phantom import phantom_case
from IRAILib.cli.main import main
from IRAILib.geometry import Grid, Mask
from IRAILib.geometry.implicit import implicit_surface
from IRAILib.images import write_mask, write_volume

KEYS = {"mam_mm", "mam_ci95_mm", "p1_mm", "p5_mm", "p50_mm", "surface_share", "coverage_percent", "residual_tumor_ml",
        "tumor_ml", "ablation_ml", "thinnest_point_ras", "subcapsular_share", "screening_only", "registration",
        "refused"}
registers = pytest.mark.skipif(find_spec("torch") is None, reason="registers, which the environment with torch tests")
FILES = {"margin.json", "margin.csv", "report.html", "scene.mrb"}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """The phantom's files; its true MAM is 2 mm."""
    folder = tmp_path_factory.mktemp("case")
    truth = phantom_case()
    for name in ("tumor", "ablation", "organ_pre", "organ_post", "vessels"):
        write_mask(getattr(truth, name), folder / f"{name}.nii.gz")
    write_volume(truth.pre, folder / "pre.nrrd")
    write_volume(truth.post, folder / "post.nrrd")
    grid = truth.tumor.grid
    moved = truth.post_from_pre.inverse().apply(grid.all_points_ras().reshape(-1, 3))
    inside = implicit_surface(truth.tumor).value(moved) < 0.0
    write_mask(Mask(inside.reshape(grid.shape), grid), folder / "tumor_in_post.nii.gz")
    return folder


def arguments(case, out, **changes) -> list[str]:
    options = {"--tumor": case / "tumor_in_post.nii.gz", "--ablation": case / "ablation.nii.gz", "--out": out,
               **changes}
    words = [str(word) for pair in options.items() if pair[1] is not None for word in pair]
    return ["ablation", "margin", *words]


def test_masks_in_one_frame(case, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    extra = {"--organ": case / "organ_post.nii.gz", "--vessels": case / "vessels.nii.gz"}
    assert main(arguments(case, out, **extra)) == 0
    assert {path.name for path in out.iterdir()} == FILES
    found = json.loads((out / "margin.json").read_text())
    assert set(found) >= KEYS
    truth = phantom_case()
    assert found["mam_mm"] == pytest.approx(truth.true_mam_mm, abs=0.3)
    low, high = found["mam_ci95_mm"]
    assert low < truth.true_mam_mm < high
    assert np.linalg.norm(np.array(found["thinnest_point_ras"]) - truth.true_thinnest_ras) < 4.0
    assert set(found["surface_share"]) == {"below_0", "0_to_5", "above_5"}
    assert sum(found["surface_share"].values()) == pytest.approx(1.0)
    assert found["refused"] is None
    assert found["registration"] is None
    assert found["perivascular_share"] is not None
    rows = dict(list(csv.reader((out / "margin.csv").open()))[1:])
    assert float(rows["mam_mm"]) == found["mam_mm"]
    assert "MAM" in capsys.readouterr().out
    text = (out / "report.html").read_text()
    assert f"{found['mam_mm']:.1f} mm" in text
    assert text.count("data:image/png;base64,") >= 2
    assert not re.search(r'(src|href)="(?!data:)', text), "the report must be one file"
    assert zipfile.ZipFile(out / "scene.mrb").testzip() is None


@registers
def test_rigid_registration_from_scans(case, tmp_path):
    out = tmp_path / "out"
    assert main(arguments(case, out, **{"--tumor": case / "tumor.nii.gz", "--pre": case / "pre.nrrd",
                                        "--post": case / "post.nrrd", "--organ": case / "organ_post.nii.gz",
                                        "--organ-pre": case / "organ_pre.nii.gz", "--register": "rigid"})) == 0
    found = json.loads((out / "margin.json").read_text())
    assert found["mam_mm"] == pytest.approx(phantom_case().true_mam_mm, abs=0.8)
    facts = found["registration"]
    assert set(facts) >= {"method", "rigid_mam_mm", "folding_percent", "tumor_volume_change_percent", "tre_mm"}
    assert facts["method"] == "rigid"
    assert facts["rigid_mam_mm"] == pytest.approx(found["mam_mm"])
    assert facts["tre_mm"] > 0.0
    text = (out / "report.html").read_text()
    assert "checkerboard" in text


@registers
def test_a_refusal_exits_with_3_and_says_why(case, tmp_path, capsys):
    """A scan of nothing but noise can't be registered."""
    empty = phantom_case().pre
    noise = empty.with_array(np.random.default_rng(0).integers(-50, 50, empty.array.shape).astype(np.int16))
    write_volume(noise, tmp_path / "noise.nrrd")
    out = tmp_path / "out"
    status = main(arguments(case, out, **{"--tumor": case / "tumor.nii.gz", "--pre": tmp_path / "noise.nrrd",
                                          "--post": case / "post.nrrd", "--register": "rigid"}))
    assert status == 3
    found = json.loads((out / "margin.json").read_text())
    assert set(found) >= KEYS
    assert found["mam_mm"] is None
    assert found["refused"]
    assert {path.name for path in out.iterdir()} == FILES
    assert "No margin is given" in (out / "report.html").read_text()
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("irai: ")


@pytest.mark.parametrize(("changes", "says"), [
    ({"--tumor": "nowhere.nii.gz"}, "nowhere.nii.gz"),
    ({"--tumor": "EMPTY"}, "empty"),
    ({"--register": "rigid"}, "--pre"),
    ({"--tumor-label": "7"}, "7"),
    ({"--organ": "EMPTY"}, "empty"),
    ({"--pre": "nowhere", "--post": "nowhere"}, "nowhere"),
])
def test_bad_input_is_one_line_and_exit_2(case, tmp_path, capsys, changes, says):
    grid = Grid((6, 6, 6), np.eye(4))
    write_mask(Mask(np.zeros((6, 6, 6), bool), grid), tmp_path / "empty.nii.gz")
    changes = {key: tmp_path / "empty.nii.gz" if value == "EMPTY" else value for key, value in changes.items()}
    out = tmp_path / "out"
    assert main(arguments(case, out, **changes)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert says in lines[0]
    assert not out.exists() or not any(out.iterdir())


def test_the_scene_is_as_it_was(case, tmp_path, scene):
    before = scene.GetNumberOfNodes()
    assert main(arguments(case, tmp_path / "out")) == 0
    named = [scene.GetNthNode(n).GetName() for n in range(scene.GetNumberOfNodes())]
    assert not [name for name in named if name and ("argin" in name or name in {"Before", "After"})]
    assert scene.GetNumberOfNodes() <= before + 4


def test_saved_scene_opens_in_another_process(case, tmp_path):
    out = tmp_path / "out"
    assert main(arguments(case, out)) == 0
    script = ("import sys; from IRAILib.headless import start; start(); import slicer\n"
              "slicer.util.loadScene(sys.argv[1])\n"
              "model = slicer.util.getNode('Ablation margin')\n"
              "print(model.GetPolyData().GetPointData().GetArray('Margin_mm').GetRange()[0])")
    done = subprocess.run([sys.executable, "-c", script, str(out / "scene.mrb")], capture_output=True, text=True,
                          timeout=120, check=True)
    found = json.loads((out / "margin.json").read_text())
    assert float(done.stdout.split()[-1]) <= found["mam_mm"] + 1e-3


def test_help_and_version_exit_with_0(capsys):
    for words in (["--version"], ["--help"], ["ablation", "margin", "--help"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
    assert "0.1.0" in capsys.readouterr().out
