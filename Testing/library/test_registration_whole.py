"""Whole registrations of a small body with known motion: both engines, the leak and its guard, the worker."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.cli.main import main
from IRAILib.geometry import CancelledError, Volume
from IRAILib.images import read_transform, write_mask, write_points, write_volume
from IRAILib.jobs import run_job
from IRAILib.registration import RegistrationOptions, bspline, register
from registration_cases import Case, make_case

CASE = make_case()


def zone_error_mm(case: Case, transform) -> float:
    points = case.zone.grid.points_ras(np.argwhere(case.zone.array)[::5])
    return float(np.sqrt(((transform.apply(points) - case.moving_from_fixed(points)) ** 2).sum(1).mean()))


def organ_error_mm(case: Case, transform) -> float:
    points = case.fixed_organ.grid.points_ras(np.argwhere(case.fixed_organ.array)[::31])
    return float(np.linalg.norm(transform.apply(points) - case.moving_from_fixed(points), axis=1).mean())


@pytest.mark.parametrize("inverted", [False, True])
def test_deformable_finds_the_motion_and_says_how_well(inverted):
    """Also where vessels are bright in one scan and dark in the other."""
    pytest.importorskip("torch")
    case = make_case(inverted=True) if inverted else CASE
    shares = []
    result = register(case.fixed, case.moving, options=RegistrationOptions(engine="convex"), **case.masks(),
                      progress=lambda share, text: shares.append(share))
    error = zone_error_mm(case, result.moving_from_fixed)
    assert result.refused is None
    assert error < 1.2
    assert error < zone_error_mm(case, result.rigid)
    assert organ_error_mm(case, result.moving_from_fixed) < 1.2
    assert error < 3.0 * result.local_tre_mm
    quality = result.quality
    assert abs(quality.tumor_volume_change_percent) < 10.0
    assert quality.organ_dice > 0.95
    assert quality.folding_percent == 0.0
    assert quality.jacobian_min > 0.5
    assert quality.inverse_consistency_mm < 2.5
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    json.dumps(result.to_dict())


def test_the_engine_that_slicer_carries(monkeypatch):
    """Few steps and samples: it is slow, and only has to find the way here."""
    monkeypatch.setattr(bspline, "ITERATIONS", 10)
    monkeypatch.setattr(bspline, "SAMPLES", 6000)
    options = RegistrationOptions(engine="bspline", estimate_error=False, spacing_mm=3.5)
    result = register(CASE.fixed, CASE.moving, options=options, **CASE.masks())
    assert result.refused is None
    assert result.method == "deformable (bspline)"
    assert organ_error_mm(CASE, result.moving_from_fixed) < 0.8 * organ_error_mm(CASE, result.rigid)


def test_without_exclusion_the_tumour_is_stretched_and_refused():
    """The leak of METHODS: unmasked, the tumour grows towards the zone's edge. The guard must see it."""
    pytest.importorskip("torch")
    plain = RegistrationOptions(engine="convex", respect_exclusion=False, local_model=False, estimate_error=False)
    result = register(CASE.fixed, CASE.moving, options=plain, **CASE.masks())
    assert result.quality.tumor_volume_change_percent > 10.0
    assert "%" in result.refused
    assert result.quality.organ_dice > 0.95, "the organ looks excellent all the same"


def test_rigid_alone_says_that_the_organ_bends():
    pytest.importorskip("torch")
    result = register(CASE.fixed, CASE.moving, options=RegistrationOptions(model="rigid"), **CASE.masks())
    assert result.moving_from_fixed is result.rigid
    assert result.quality.tumor_volume_change_percent == pytest.approx(0.0, abs=0.1)
    assert result.local_tre_mm > 0.5 * zone_error_mm(CASE, result.rigid)


def test_masks_of_another_lesion_are_refused():
    tumor = np.roll(CASE.tumor.array, 16, axis=2)
    masks = {**CASE.masks(), "exclude_moving": CASE.tumor.with_array(tumor)}
    options = RegistrationOptions(model="rigid", estimate_error=False)
    result = register(CASE.fixed, CASE.moving, options=options, **masks)
    gap = 16 * CASE.tumor.spacing_mm[0] - 9.0 - 14.0
    assert gap < 20.0 or "away from the ablation zone" in result.refused


def test_images_of_nothing_in_common_are_refused():
    rng = np.random.default_rng(7)
    other = Volume(rng.normal(0.0, 30.0, CASE.moving.array.shape).astype(np.float32), CASE.moving.grid, "noise")
    organ = CASE.moving_organ.with_array(np.roll(CASE.moving_organ.array, 30, axis=0))
    options = RegistrationOptions(engine="bspline", model="rigid", estimate_error=False)
    result = register(CASE.fixed, other, options=options, fixed_organ=CASE.fixed_organ, moving_organ=organ)
    assert result.refused


def test_a_worker_can_be_cancelled_midway():
    heard = []
    with pytest.raises(CancelledError, match="register was cancelled"):
        run_job("IRAILib.registration:register", {"fixed": CASE.fixed, "moving": CASE.moving, **CASE.masks()},
                progress=lambda share, text: heard.append(share), cancelled=lambda: len(heard) > 1)


def test_command_line(tmp_path, capsys):
    """Scans and masks through files; the written transform moves points as the result says."""
    paths = {"fixed": CASE.fixed, "moving": CASE.moving, **CASE.masks()}
    for name, item in paths.items():
        (write_volume if name in ("fixed", "moving") else write_mask)(item, tmp_path / f"{name}.nii.gz")
    points = CASE.zone.grid.points_ras(np.argwhere(CASE.zone.array)[::50])
    write_points(points, tmp_path / "in.csv")
    arguments = ["register", str(tmp_path / "fixed.nii.gz"), str(tmp_path / "moving.nii.gz"), "--model", "rigid",
                 "--out", str(tmp_path / "t.h5"), "--json", str(tmp_path / "q.json"),
                 "--fixed-mask", str(tmp_path / "fixed_organ.nii.gz"),
                 "--moving-mask", str(tmp_path / "moving_organ.nii.gz")]
    assert main(arguments) == 0
    assert main(["transform-points", str(tmp_path / "t.h5"), str(tmp_path / "in.csv"),
                 str(tmp_path / "out.csv")]) == 0
    found = np.loadtxt(tmp_path / "out.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(found, read_transform(tmp_path / "t.h5").apply(points), atol=1e-6)
    assert np.linalg.norm(found - CASE.moving_from_fixed(points), axis=1).mean() < 6.0
    document = json.loads((tmp_path / "q.json").read_text())
    assert document["method"] == "rigid"
    capsys.readouterr()
    assert main([*arguments, "--exclude-moving", str(tmp_path / "absent.nii.gz")]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0
