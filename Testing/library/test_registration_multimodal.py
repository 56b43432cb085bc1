"""A made-up body in three contrasts at known poses; what must be refused; the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.cli.main import main
from IRAILib.geometry import CancelledError, Grid, InputError, Mask, Volume
from IRAILib.images import read_transform
from IRAILib.images.itkfiles import write_volume
from IRAILib.registration.information import normalised_information, padding
from IRAILib.registration.multimodal import MultimodalOptions, register_multimodal
from IRAILib.registration.rigid_search import Poses, random_poses, rms_mm
from multimodal_cases import SHAPE, body, contrast, distances, grid, known_pose, moved_by

QUICK = MultimodalOptions(starts=96)


@pytest.fixture(scope="module")
def images():
    kind = body()
    return {"CT": contrast(kind, (-1000, -90, 50, 700, 35), 15, 1),
            "MR": contrast(kind, (5, 900, 350, 60, 250), 25, 2, shading=True),
            "PET": contrast(kind, (0.0, 0.3, 0.8, 0.5, 7.0), 0.15, 3, blur=1.6)}


@pytest.mark.parametrize("pair", [("CT", "MR"), ("MR", "PET")])
def test_a_known_pose_comes_back(images, pair):
    pytest.importorskip("torch")
    fixed, moving = (images[name] for name in pair)
    centre = np.array([[-15.0, 10, -5]])
    pose = known_pose(np.random.default_rng(5), centre[0])
    found = register_multimodal(fixed, moved_by(moving, pose), options=QUICK)
    error = distances(found.moving_from_fixed.matrix, pose, centre + np.random.default_rng(0).normal(size=(50, 3)) * 10)
    assert found.accepted, found.reason
    assert error.mean() < 2.0
    document = json.loads(json.dumps(found.to_dict()))
    assert document["uncertainty"]["sigma_mm"] > 0
    assert "RAS" in document["frame"]
    assert document["validated_on"]


@pytest.mark.parametrize("wrong", ["another body", "the mirrored body"])
def test_a_like_outline_is_not_enough(images, wrong):
    """Same outline, same muscle and bone, but other lumps; or the same body with head for foot."""
    kind = body(10) if wrong == "another body" else body()[:, :, ::-1]
    other = contrast(kind, (5, 900, 350, 60, 250), 25, 9, shading=True)
    found = register_multimodal(images["CT"], other, options=MultimodalOptions("mutual", starts=64))
    assert not found.accepted, found.to_dict()
    assert "\n" not in found.reason
    assert len(found.reason) > 20
    assert found.inside < 2.5


def test_a_target_says_where_the_uncertainty_counts(images):
    points = grid().all_points_ras()
    lump = Mask(((points - (-15, 10, -5)) ** 2).sum(-1) < 12.0**2, grid())
    options = MultimodalOptions("mutual", starts=32)
    whole = register_multimodal(images["CT"], images["MR"], options=options)
    there = register_multimodal(images["CT"], images["MR"], options=options, target=lump)
    assert any("target" in warning for warning in whole.warnings)
    assert not any("target" in warning for warning in there.warnings)
    assert there.accepted, there.reason
    assert distances(there.moving_from_fixed.matrix, np.eye(4), points[lump.array]).mean() < 2.0
    far = grid().ras_from_ijk.copy()
    far[0, 3] += 500.0
    away = Mask(lump.array, Grid(SHAPE, far))
    with pytest.raises(InputError):
        register_multimodal(images["CT"], images["MR"], options=options, target=away)


def test_hostile_input(images):
    ct, mr = images["CT"], images["MR"]
    flat = Volume(np.zeros(SHAPE, np.float32), grid())
    for fixed, moving, options in ((flat, mr, {}), (ct, flat, {}), (ct, mr, {"init": np.eye(3)}),
                                   (ct, mr, {"init": np.diag([2.0, 1, 1, 1])}),
                                   (ct, mr, {"init": np.full((4, 4), np.nan)}),
                                   (ct.crop((0, 0, 0), (1, 44, 48)), mr, {})):
        with pytest.raises(InputError):
            register_multimodal(fixed, moving, **options)
    far = np.eye(4)
    far[0, 3] = 900.0
    with pytest.raises(InputError, match="overlap"):
        register_multimodal(ct, mr, init=far)
    with pytest.raises(CancelledError):
        register_multimodal(ct, mr, cancelled=lambda: True)
    for wrong in ({"method": "guess"}, {"shift_mm": 0.0}, {"turn_deg": 500.0}, {"starts": 0}):
        with pytest.raises(InputError):
            MultimodalOptions(**wrong)


def test_information_knows_a_rule_from_chance():
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 22, 20000)
    assert normalised_information(a, 22 - a) > 0.7  # any rule will do, also a falling one
    assert normalised_information(a, rng.permutation(a)) < 0.03
    assert normalised_information(a, np.full_like(a, 3.0)) == 0.0


def test_padding_is_told_from_air(images):
    array = images["MR"].array.copy()
    array[:, :10] = 0.0
    array -= min(0.0, float(array.min()))
    array[:, :10] = 0.0
    pad = padding(images["MR"].with_array(array))
    assert pad[:, :9].mean() > 0.95
    assert pad[:, 14:].mean() < 0.05
    assert not padding(images["CT"]).any()


def test_pose_parameters_go_there_and_back():
    rng = np.random.default_rng(2)
    base = known_pose(rng, np.zeros(3))
    poses = Poses(base, np.array([10.0, -20, 30]), 40.0)
    for p in random_poses(20, 30.0, 25.0, 40.0, 3):
        matrix = poses.matrix(p)
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(poses.parameters(matrix), p, atol=1e-8)
        assert rms_mm(matrix, base, np.array([[10.0, -20, 30]])) == pytest.approx(np.linalg.norm(p[:3]))


def test_the_command_writes_what_transform_points_takes(images, tmp_path, capsys):
    pose = known_pose(np.random.default_rng(8), np.zeros(3), 12.0, 8.0)
    write_volume(images["CT"], tmp_path / "ct.nrrd")
    write_volume(moved_by(images["MR"], pose), tmp_path / "mr.nrrd")
    (tmp_path / "start.json").write_text(json.dumps({"moving_from_fixed": np.eye(4).tolist()}))
    command = ["fusion", "register", str(tmp_path / "ct.nrrd"), str(tmp_path / "mr.nrrd"), "--out",
               str(tmp_path / "t.h5"), "--json", str(tmp_path / "t.json"), "--method", "mutual",
               "--starts", "48", "--shift", "20", "--turn", "14"]
    assert main([*command, "--init", str(tmp_path / "start.json")]) == 0, capsys.readouterr().err
    found = read_transform(tmp_path / "t.h5").apply(np.array([[-15.0, 10, -5]]))
    assert np.linalg.norm(found - (pose[:3, :3] @ (-15, 10, -5) + pose[:3, 3])) < 1.5
    assert json.loads((tmp_path / "t.json").read_text())["accepted"]
    (tmp_path / "bad.json").write_text("{}")
    capsys.readouterr()
    (tmp_path / "lps.json").write_text(json.dumps({"matrix": np.eye(4).tolist(), "frame": "LPS"}))
    for extra in (["--init", str(tmp_path / "bad.json")], ["--init", str(tmp_path / "none.json")], ["--shift", "-3"],
                  ["--init", str(tmp_path / "lps.json")]):
        assert main([*command, *extra]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert error[0]
    noise = Volume(np.random.default_rng(1).normal(size=SHAPE).astype(np.float32), grid())
    write_volume(noise, tmp_path / "mr.nrrd")
    command[command.index("--out") + 1] = str(tmp_path / "refused.h5")
    assert main(command) == 3
    assert not (tmp_path / "refused.h5").exists()
