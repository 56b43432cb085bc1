"""Volumes from PLUS's tracked phantoms against the volumes that PLUS made of them, by the console command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from IRAILib.cli.main import main
from IRAILib.images.sequences import read_sequence
from IRAILib.link.replay_frames import read_plus_config

CASES = {"Spine": ("PlusDeviceSet_SpinePhantomFreehandReconstructionOnly.xml", "SpinePhantomFreehand"),
         "Nwire": ("PlusDeviceSet_NwirePhantomFreehand_vtkVolumeReconstructorTest2.xml", "NwirePhantomFreehand")}
LEVELS = 2
SHARE = 0.95


@pytest.fixture(scope="module")
def plus(data) -> Path:
    folder = data / "tracked_ultrasound" / "plus"
    if not folder.is_dir():
        pytest.skip("the PLUS recordings are not here")
    return folder


def run(plus: Path, out: Path, case: str, *more: str) -> tuple[np.ndarray, dict]:
    config, name = CASES[case]
    arguments = ["fusion", "reconstruct", str(plus / f"{name}.igs.mha"), "--config", str(plus / "config" / config),
                 "--out", str(out / "volume.nrrd"), "--json", str(out / "volume.json"), *more]
    assert main(arguments) == 0
    image = sitk.ReadImage(str(out / "volume.nrrd"))
    first = np.array(image.GetOrigin()) * (-1, -1, 1)
    document = json.loads((out / "volume.json").read_text())
    np.testing.assert_allclose(first, document["first_voxel_mm"], atol=1e-6)
    return sitk.GetArrayFromImage(image).astype(float), document


def reference(plus: Path, case: str) -> tuple[np.ndarray, np.ndarray]:
    image = sitk.ReadImage(str(plus / f"{CASES[case][1]}Reconstructed.mha"))
    return sitk.GetArrayFromImage(image).astype(float), np.array(image.GetOrigin())


@pytest.mark.parametrize("case", list(CASES))
def test_as_plus_reconstructs(plus, tmp_path, case):
    ours, document = run(plus, tmp_path, case)
    theirs, first = reference(plus, case)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(document["first_voxel_mm"], first, atol=1e-3)
    close = np.abs(ours - theirs) <= LEVELS
    assert close.mean() >= SHARE
    # not by the empty voxels alone: those that either volume shows
    shown = (ours > 0) | (theirs > 0)
    assert close[shown].mean() >= {"Spine": 0.90, "Nwire": 0.80}[case]


def test_the_exact_mean_is_near_it_without_bias(plus, tmp_path):
    ours, _ = run(plus, tmp_path, "Spine", "--arithmetic", "exact")
    theirs, _ = reference(plus, "Spine")
    shown = (ours > 0) & (theirs > 0)
    assert np.corrcoef(ours[shown], theirs[shown])[0, 1] > 0.99
    assert abs((ours - theirs)[shown].mean()) < 1.0


def test_a_matrix_by_hand_replaces_the_configurations(plus, tmp_path):
    """2 mm along the probe's x must move the volume by 2 mm."""
    config = plus / "config" / CASES["Spine"][0]
    matrix = read_plus_config(config)["ImageToProbe"].copy()
    matrix[:3, 3] += (2, 0, 0)
    _, document = run(plus, tmp_path, "Spine", "--spacing", "2", "--arithmetic", "exact", "--image-to-probe",
                      " ".join(str(v) for v in matrix.ravel()))
    shift = np.array(document["first_voxel_mm"]) - reference(plus, "Spine")[1]
    assert np.linalg.norm(shift) == pytest.approx(2.0, abs=0.1)


def calibration(plus: Path, size=(820, 616), **more) -> dict:
    matrix = read_plus_config(plus / "config" / CASES["Spine"][0])["ImageToProbe"]
    return {"kind": "image_to_probe", "frame": "Probe", "from_frame": "Image", "ImageToProbe": matrix.tolist(),
            "size_px": list(size), "depth_mm": None, "preset": None, "orientation": "MF",
            "uncertainty": {"sigma_mm": {"corner": 0.5}, "rms_mm": 0.5, "mean_mm": 0.4, "held_out_rms_mm": 0.5,
                            "by_depth": []},
            "points_used": 100, "outliers": [], "method": "nwire", "validated_on": "a test", **more}


def by_json(plus: Path, out: Path, values: dict, *more: str) -> int:
    path = out / "calibration.json"
    path.write_text(json.dumps(values))
    return main(["fusion", "reconstruct", str(plus / "SpinePhantomFreehand.igs.mha"), "--image-to-probe", str(path),
                 "--out", str(out / "out.nrrd"), "--frames", "0:4", "--spacing", "1.5", *more])


def test_a_calibration_for_other_images_is_refused(plus, tmp_path, capsys):
    assert by_json(plus, tmp_path, calibration(plus)) == 0
    assert (tmp_path / "out.nrrd").exists()
    for values, more in ((calibration(plus, size=(640, 480)), ()),
                         (calibration(plus, depth_mm=60.0), ("--depth-mm", "80")),
                         (calibration(plus, preset="liver"), ("--preset", "thyroid"))):
        (tmp_path / "out.nrrd").unlink(missing_ok=True)
        capsys.readouterr()
        assert by_json(plus, tmp_path, values, *more) == 3
        assert not (tmp_path / "out.nrrd").exists()
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_one_line_for_what_is_missing(plus, tmp_path, capsys):
    sequence = str(plus / "SpinePhantomFreehand.igs.mha")
    out = str(tmp_path / "x.nrrd")
    for arguments, word in (([sequence, "--out", out], "--image-to-probe"),
                            ([sequence, "--out", out, "--image-to-probe", "1 2 3"], "16 numbers"),
                            ([str(plus / "ReferenceToRASCalibration.igs.mha"), "--out", out], "no images"),
                            ([sequence, "--out", str(tmp_path / "x.pdf")], ".nrrd"),
                            ([str(tmp_path / "none.mha"), "--out", out], "no such file")):
        assert main(["fusion", "reconstruct", *arguments]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert word in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_lag_moves_the_frames_along_the_sweep(plus, tmp_path):
    """With a lag, a frame gets the pose of another instant; the ends of the sweep have none."""
    count = len(read_sequence(plus / "SpinePhantomFreehand.igs.mha", mapped=True))
    _, plain = run(plus, tmp_path, "Spine", "--spacing", "2", "--arithmetic", "exact")
    _, shifted = run(plus, tmp_path, "Spine", "--spacing", "2", "--arithmetic", "exact", "--lag", "0.17")
    assert plain["frames_used"] == count
    assert 0 < shifted["frames_left_out"] <= 3
    assert np.abs(np.array(plain["first_voxel_mm"]) - shifted["first_voxel_mm"]).max() > 0.1
