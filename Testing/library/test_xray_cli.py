"""`irai fusion drr` and `irai fusion xray` as a user runs them, on the phantom of formulas."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from IRAILib.cli.main import main
from IRAILib.geometry import InputError
from IRAILib.images import read_volume
from IRAILib.registration.xray.pose import step
from IRAILib.registration.xray.pose_file import read_pose_file
from xray_phantom import phantom, view

TRUTH = step(np.array([4.0, 40.0, -7.0, 0.03, -0.05, 0.04]), np.zeros(3))
START = step(np.array([6.0, -5.0, 4.0, 0.04, -0.03, 0.05]), np.zeros(3)) @ TRUTH


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """CT, frame, pose files."""
    import SimpleITK as sitk

    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("xray")
    ct = phantom().ct()
    image = sitk.GetImageFromArray(ct.array)
    image.SetSpacing(ct.spacing_mm.tolist())
    image.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, 1])
    image.SetOrigin((ct.ras_from_ijk[:3, 3] * [-1, -1, 1]).tolist())
    sitk.WriteImage(image, str(out / "ct.nrrd"))
    assert np.abs(read_volume(out / "ct.nrrd").grid.corners_ras() - ct.grid.corners_ras()).max() < 1e-3
    geometry = view(pixels=128, mm=2.1)
    lines = phantom().lines(geometry, TRUTH)
    counts = np.random.default_rng(0).poisson(2e5 * np.exp(-lines))
    sitk.WriteImage(sitk.GetImageFromArray(-np.log(np.maximum(counts, 1)).astype(np.float32)), str(out / "frame.mha"))
    noise = np.random.default_rng(1).normal(size=lines.shape).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(out / "noise.mha"))
    for name, pose in (("truth", TRUTH), ("start", START)):
        (out / f"{name}.json").write_text(json.dumps({"geometry": geometry.to_dict(), "table_from_ras": pose.tolist()}))
    return out


def test_drr_is_the_formula(folder, capsys):
    import SimpleITK as sitk

    assert main(["fusion", "drr", str(folder / "ct.nrrd"), "--pose", str(folder / "truth.json"), "--out",
                 str(folder / "drr.nrrd")]) == 0
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "drr.nrrd")))
    lines = phantom().lines(view(pixels=128, mm=2.1), TRUTH)
    middle = slice(40, 88)
    assert np.abs(image - lines)[middle, middle].mean() < 0.01 * lines.max()
    assert "frame Table" in capsys.readouterr().out


def test_drr_picture_is_marked(folder):
    from PIL import Image

    for bone in ("white", "black"):
        assert main(["fusion", "drr", str(folder / "ct.nrrd"), "--pose", str(folder / "truth.json"), "--out",
                     str(folder / f"{bone}.png"), "--bone", bone, "--spacing", "3"]) == 0
    white, black = (np.asarray(Image.open(folder / f"{bone}.png")).astype(int) for bone in ("white", "black"))
    assert white.shape == (128, 128)
    assert np.corrcoef(white[20:].ravel(), black[20:].ravel())[0, 1] < -0.99
    assert np.corrcoef(white[:9, :40].ravel(), black[:9, :40].ravel())[0, 1] > 0.9


def test_xray_finds_the_pose_and_draws_it(folder):
    from PIL import Image

    out = folder / "found.json"
    assert main(["fusion", "xray", str(folder / "ct.nrrd"), str(folder / "frame.mha"), "--init",
                 str(folder / "start.json"), "--json", str(out), "--overlay", str(folder / "over.png")]) == 0
    found = json.loads(out.read_text())
    assert found["accepted"] is True
    assert found["frame"] == "Table"
    gap = np.linalg.inv(TRUTH) @ np.array(found["pose"])
    assert np.linalg.norm(gap[:3, 3]) < 5.0
    assert found["uncertainty"]["in_plane_mm"] < 1.0
    picture = np.asarray(Image.open(folder / "over.png")).astype(int)
    assert (np.abs(picture[..., 0] - picture[..., 2]) > 60).sum() > 50
    assert read_pose_file(out).table_from_ras == pytest.approx(np.array(found["pose"]))


def test_a_refusal_is_written_and_is_status_3(folder, capsys):
    out = folder / "refused.json"
    assert main(["fusion", "xray", str(folder / "ct.nrrd"), str(folder / "noise.mha"), "--init",
                 str(folder / "start.json"), "--json", str(out)]) == 3
    told = json.loads(out.read_text())
    assert told["accepted"] is False
    assert told["reason"] in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [
    ["missing.mha", "--init", "start.json", "--json", "o.json"],
    ["frame.mha", "--init", "missing.json", "--json", "o.json"],
    ["frame.mha", "--init", "start.json", "--json", "o.txt"],
    ["frame.mha", "--init", "start.json", "--json", "o.json", "--frame", "4"],
    ["frame.mha", "--init", "start.json", "--json", "o.json", "--labels", "ct.nrrd", "--vertebrae", "7"],
    ["frame.mha", "frame.mha", "frame.mha", "--init", "start.json", "--json", "o.json"],
    ["ct.nrrd", "--init", "start.json", "--json", "o.json"]])
def test_bad_input_is_one_line_and_status_2(folder, capsys, monkeypatch, arguments):
    monkeypatch.chdir(folder)
    assert main(["fusion", "xray", "ct.nrrd", *arguments]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("irai")]
    assert len(error) == 1
    assert not (folder / "o.json").exists()


def test_pose_files(tmp_path):
    path = tmp_path / "pose.json"
    angles = {"PositionerPrimaryAngle": 30, "PositionerSecondaryAngle": -10, "DistanceSourceToDetector": 1100,
              "DistanceSourceToPatient": 750, "ImagerPixelSpacing": [0.4, 0.3], "Columns": 100, "Rows": 80,
              "isocentre_ras_mm": [10, 20, 30]}
    path.write_text(json.dumps(angles))
    read = read_pose_file(path)
    assert read.geometry is not None
    assert read.geometry.size == (100, 80)
    assert np.linalg.norm(read.geometry.row_mm) == pytest.approx(0.4)
    assert read.geometry.project(np.zeros((1, 3)))[0] == pytest.approx([49.5, 39.5])
    assert read.table_from_ras is not None
    assert read.table_from_ras @ [10, 20, 30, 1] == pytest.approx([0, 0, 0, 1])
    for key, value in (("Columns", None), ("ImagerPixelSpacing", "x"), ("isocentre_ras_mm", [1, 2]),
                       ("PositionerPrimaryAngle", float("nan")), ("table_from_ras", np.diag([2, 2, 2, 1]).tolist())):
        values = {**angles, key: value}
        if value is None:
            del values[key]
        path.write_text(json.dumps(values))
        with pytest.raises(InputError, match=str(path.name)):
            read_pose_file(path)
    path.write_text(json.dumps(angles | {"frame": "table from LPS, mm"}))
    with pytest.raises(InputError, match="is in LPS"):
        read_pose_file(path)
    for text in ("[1]", "{}", "not json", ""):
        path.write_text(text)
        with pytest.raises(InputError):
            read_pose_file(path)


def test_without_torch_the_line_to_install_is_told(monkeypatch):
    from IRAILib.geometry import MissingPackageError
    from IRAILib.registration.xray import render_drr

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match="pip install torch"):
        render_drr(phantom().ct(), view())
