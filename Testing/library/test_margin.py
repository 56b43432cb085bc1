"""The margin against analytic truth, other frames, capsule and vessels, and bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from analytic import Ellipsoid, random_pair, rasterised, rotation, sphere
from IRAILib.ablation import MarginOptions, ablative_margin
from IRAILib.ablation.place import clock_hour, direction_words, smallest_sphere
from IRAILib.geometry import (
    EmptyMaskError,
    FrameMismatchError,
    Grid,
    GridTransform,
    LinearTransform,
    Mask,
)

CASES = 6
LIMITS = {(1.0, 1.0, 1.0): (0.1, 0.1), (2.5, 0.75, 0.75): (0.15, 0.3), (5.0, 0.75, 0.75): (0.3, 0.7)}
"""(bias, SD) in mm. The full study of 100 cases a row is in `make benchmark`; its limits are tighter at 5 mm."""


@pytest.mark.parametrize("spacing", LIMITS)
@pytest.mark.parametrize("kind", ["sphere", "ellipsoid"])
def test_mam_agrees_with_the_analytic_margin(spacing, kind):
    rng = np.random.default_rng(20)
    errors = []
    for _ in range(CASES):
        tumor, ablation, truth = random_pair(rng, kind)
        result = ablative_margin(rasterised(tumor, spacing, rng), rasterised(ablation, spacing, rng))
        errors.append(result.mam_mm - truth)
    bias, sd = LIMITS[spacing]
    assert abs(np.mean(errors)) <= bias + sd / np.sqrt(CASES)
    assert np.std(errors) <= sd


def test_every_point_of_the_surface_reads_its_own_margin():
    rng = np.random.default_rng(3)
    tumor = Ellipsoid(np.array([10.0, -20.0, 30.0]), np.array([12.0, 8.0, 6.0]), rotation(rng))
    ablation = sphere([12.0, -20.0, 31.0], 17.0)
    result = ablative_margin(rasterised(tumor, (1.5, 0.8, 0.8), rng), rasterised(ablation, (1.0, 0.9, 0.9), rng))
    truth = -ablation.signed_distance(result.surface.points)
    assert np.abs(tumor.signed_distance(result.surface.points)).max() < 0.3
    assert np.abs(result.margin_mm - truth).max() < 0.3


def test_numbers_of_concentric_spheres():
    rng = np.random.default_rng(4)
    tumor, ablation = sphere([5, 6, 7], 10.0), sphere([5, 6, 7], 14.0)
    result = ablative_margin(rasterised(tumor, (1, 1, 1), rng), rasterised(ablation, (1, 1, 1), rng))
    for value in (result.mam_mm, result.p1_mm, result.p5_mm, result.p50_mm):
        assert value == pytest.approx(4.0, abs=0.15)
    assert result.surface_share == pytest.approx({"below_0": 0.0, "0_to_5": 1.0, "above_5": 0.0})
    assert result.coverage_percent == 100.0
    assert result.residual_tumor_ml == 0.0
    assert result.tumor_ml == pytest.approx(4.19, rel=0.02)
    assert result.ablation_ml == pytest.approx(11.49, rel=0.02)
    assert result.dice == pytest.approx(2 * 4.19 / (4.19 + 11.49), rel=0.02)
    at_risk = 4 / 3 * np.pi * (15.0**3 - 14.0**3) / 1000
    assert result.under_mask.volume_ml == pytest.approx(at_risk, rel=0.05)
    assert result.surface.point_areas_mm2().sum() == pytest.approx(4 * np.pi * 100, rel=0.02)


def test_residual_tumour_is_the_part_outside():
    rng = np.random.default_rng(5)
    tumor, ablation = sphere([0, 0, 0], 10.0), sphere([10.0, 0, 0], 10.0)
    result = ablative_margin(rasterised(tumor, (1, 1, 1), rng), rasterised(ablation, (1, 1, 1), rng))
    lens = np.pi * (4 * 10 + 10) * (2 * 10 - 10) ** 2 / 12 / 1000
    whole = 4 / 3 * np.pi
    assert result.coverage_percent == pytest.approx(100 * lens / whole, abs=1.0)
    assert result.mam_mm == pytest.approx(-10.0, abs=0.2)
    assert result.surface_share["below_0"] == pytest.approx(0.75, abs=0.02)
    assert result.thinnest.words == "left"
    assert result.thinnest.clock == 3
    assert result.thinnest_point_ras == pytest.approx([-10.0, 0.0, 0.0], abs=1.0)


def test_thinnest_place_and_the_zone_that_would_close_it():
    rng = np.random.default_rng(6)
    tumor, ablation = sphere([0, 0, 0], 8.0), sphere([0, 0, 5.0], 14.0)
    result = ablative_margin(rasterised(tumor, (1, 1, 1), rng), rasterised(ablation, (1, 1, 1), rng))
    assert result.thinnest.words == "caudal"
    assert result.thinnest.clock is None
    assert result.thinnest.cranio_caudal_mm == pytest.approx(-8.0, abs=0.3)
    assert result.mam_mm == pytest.approx(1.0, abs=0.15)
    target = np.array(result.applicator.target_ras)
    risk = result.under_mask
    points = risk.grid.points_ras(np.argwhere(risk.array))
    assert np.linalg.norm(points - target, axis=1).max() <= result.applicator.zone_radius_mm + 1.0
    assert target[2] < 0.0


def test_a_transform_moves_the_tumour_into_the_ablation_frame():
    rng = np.random.default_rng(7)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(rng)
    matrix[:3, 3] = [30.0, -12.0, 8.0]
    post_from_pre = LinearTransform(matrix, "post", "pre")
    tumor = sphere([1.0, 2.0, 3.0], 9.0)
    moved = post_from_pre.apply(tumor.centre[None])[0]
    ablation = sphere(moved + [0.0, 3.0, 0.0], 15.0)
    result = ablative_margin(rasterised(tumor, (1, 1, 1), rng), rasterised(ablation, (1, 1, 1), rng),
                             ablation_from_tumor=post_from_pre)
    assert result.mam_mm == pytest.approx(3.0, abs=0.15)
    assert result.thinnest_point_ras == pytest.approx(list(moved + [0.0, -9.0, 0.0]), abs=1.0)
    grid = Grid((3, 3, 3), np.diag([80.0, 80.0, 80.0, 1.0]) + np.array([[0, 0, 0, -80.0]] * 3 + [[0, 0, 0, 0]]))
    field = GridTransform(grid, np.full((3, 3, 3, 3), [2.0, -1.0, 4.0], np.float32), "pre", "post")
    zone = sphere(tumor.centre - [2.0, -1.0, 4.0], 13.0)
    result = ablative_margin(rasterised(tumor, (1, 1, 1), rng), rasterised(zone, (1, 1, 1), rng),
                             ablation_from_tumor=field.inverse())
    assert result.mam_mm == pytest.approx(4.0, abs=0.15)
    assert result.coverage_percent == 100.0


def _half_space(normal_axis: int, limit: float) -> Mask:
    grid = Grid((60, 60, 60), np.diag([1.5, 1.5, 1.5, 1.0]) + np.array([[0, 0, 0, -45.0]] * 3 + [[0, 0, 0, 0]]))
    return Mask(grid.all_points_ras()[..., normal_axis] < limit, grid)


def test_subcapsular_surface_is_left_out_and_reported():
    rng = np.random.default_rng(8)
    tumor, ablation = sphere([0, 0, 0], 10.0), sphere([-4.0, 0, 0], 16.0)
    masks = rasterised(tumor, (1, 1, 1), rng), rasterised(ablation, (1, 1, 1), rng)
    organ = _half_space(0, 11.0)
    plain = ablative_margin(*masks)
    apart = ablative_margin(*masks, organ=organ)
    assert plain.mam_mm == pytest.approx(2.0, abs=0.15)
    assert plain.subcapsular_share == 0.0
    # surface with x > 6 is nearer than 5 mm to the plane at x = 11: a cap of height 4
    assert apart.subcapsular_share == pytest.approx(4.0 / 20.0, abs=0.02)
    assert apart.subcapsular_min_mm == pytest.approx(2.0, abs=0.15)
    edge = np.array([6.0, 8.0, 0.0])
    assert apart.mam_mm == pytest.approx(16.0 - np.linalg.norm(edge - [-4.0, 0, 0]), abs=0.25)


def test_all_subcapsular_is_a_result():
    rng = np.random.default_rng(9)
    masks = (rasterised(sphere([0, 0, 0], 6.0), (1, 1, 1), rng), rasterised(sphere([0, 0, 0], 9.0), (1, 1, 1), rng))
    result = ablative_margin(*masks, organ=_half_space(0, 3.0),
                             options=MarginOptions(capsule_distance_mm=20.0))
    assert result.mam_mm is None
    assert result.mam_ci95_mm is None
    assert result.thinnest_point_ras is None
    assert result.subcapsular_share == pytest.approx(1.0)
    assert result.coverage_percent == 100.0
    assert any("subcapsular" in note for note in result.notes)
    json.dumps(result.to_dict(), allow_nan=False)


def test_perivascular_surface_and_nearest_vessel():
    rng = np.random.default_rng(10)
    masks = (rasterised(sphere([0, 0, 0], 10.0), (1, 1, 1), rng), rasterised(sphere([0, 2.0, 0], 15.0), (1, 1, 1), rng))
    grid = _half_space(0, 0).grid
    points = grid.all_points_ras()
    vessel = Mask((points[..., 1] < -13.0) & (points[..., 1] > -16.0), grid)
    result = ablative_margin(*masks, vessels=vessel)
    # the border of the vessel's voxels lies at y = -12.75, so that the cap y < -7.75 is nearer than 5 mm
    assert result.perivascular_share == pytest.approx(2.25 / 20.0, abs=0.01)
    assert result.perivascular_min_mm == pytest.approx(3.0, abs=0.15)
    assert result.thinnest.nearest_vessel_mm == pytest.approx(3.5, abs=0.9)
    assert ablative_margin(*masks).perivascular_share is None


def test_slices_over_3_mm_are_screening_only():
    rng = np.random.default_rng(11)
    tumor, ablation = sphere([0, 0, 0], 10.0), sphere([0, 0, 0], 15.0)
    thin, thick = rasterised(tumor, (3.0, 1, 1), rng), rasterised(tumor, (3.2, 1, 1), rng)
    zone = rasterised(ablation, (1, 1, 1), rng)
    assert not ablative_margin(thin, zone).screening_only
    result = ablative_margin(thick, zone)
    assert result.screening_only
    assert any("screening" in note for note in result.notes)


def test_interval_grows_with_every_error_and_covers_repeated_readings():
    rng = np.random.default_rng(12)
    tumor, ablation = sphere([0, 0, 0], 10.0), sphere([2.0, 0, 0], 16.0)
    masks = rasterised(tumor, (1, 1, 1), rng), rasterised(ablation, (1, 1, 1), rng)

    def width(**errors) -> float:
        sigma = errors.pop("registration_sigma_mm", 0.0)
        low, high = ablative_margin(*masks, registration_sigma_mm=sigma, options=MarginOptions(**errors)).mam_ci95_mm
        return high - low

    base = width(segmentation_sigma_mm=0.5)
    assert width(segmentation_sigma_mm=1.0) > 1.5 * base
    assert width(segmentation_sigma_mm=0.5, registration_sigma_mm=2.0) > 1.3 * base
    inside = 0
    for _ in range(20):
        shift = rng.standard_normal(3) * 1.5 / np.sqrt(3)
        read = ablative_margin(rasterised(sphere(shift, 10.0), (1, 1, 1), rng), masks[1], registration_sigma_mm=1.5,
                               options=MarginOptions(segmentation_sigma_mm=0.1))
        low, high = read.mam_ci95_mm
        inside += low <= 4.0 <= high
    assert inside >= 17
    result = ablative_margin(*masks)
    assert 0.0 <= result.probability_mam_below_threshold <= 1.0
    near, far = result.margin_mm.argmin(), result.margin_mm.argmax()
    assert result.probability_below[near] > result.probability_below[far]


def test_two_tumours_and_a_hollow_zone():
    rng = np.random.default_rng(13)
    grid = Grid((70, 60, 60), np.diag([1.0, 1.0, 1.0, 1.0]) + np.array([[0, 0, 0, -30.0]] * 3 + [[0, 0, 0, 0]]))
    points = grid.all_points_ras()
    one, two = sphere([-12.0, 0, 0], 6.0), sphere([12.0, 0, 8.0], 7.0)
    tumor = Mask(one.inside(points) | two.inside(points), grid)
    zone = rasterised(sphere([0, 0, 3.0], 26.0), (1, 1, 1), rng)
    result = ablative_margin(tumor, zone)
    truth = min(26.0 - np.linalg.norm([-12.0, 0, -3.0]) - 6.0, 26.0 - np.linalg.norm([12.0, 0, 5.0]) - 7.0)
    assert result.mam_mm == pytest.approx(truth, abs=0.2)
    assert result.surface.volume_ml() == pytest.approx(tumor.volume_ml, rel=0.04)


def test_masks_on_one_grid_of_a_voxel_or_a_line_do_not_crash():
    grid = Grid((20, 20, 20), np.eye(4))
    dot = np.zeros((20, 20, 20), bool)
    dot[10, 10, 10] = True
    zone = np.zeros((20, 20, 20), bool)
    zone[5:16, 5:16, 5:16] = True
    assert ablative_margin(Mask(dot, grid), Mask(zone, grid)).mam_mm == pytest.approx(5.0, abs=0.6)
    flat = np.zeros((20, 20, 20), bool)
    flat[10, 6:15, 6:15] = True
    result = ablative_margin(Mask(flat, grid), Mask(zone, grid))
    assert result.mam_mm == pytest.approx(1.0, abs=1.0)


def test_a_rough_outline_is_followed():
    rng = np.random.default_rng(14)
    grid = Grid((50, 50, 50), np.diag([1.0, 1.0, 1.0, 1.0]) + np.array([[0, 0, 0, -25.0]] * 3 + [[0, 0, 0, 0]]))
    points = grid.all_points_ras()
    knob = sphere([0, 10.0, 0], 4.0)
    tumor = Mask(sphere([0, 0, 0], 9.0).inside(points) | knob.inside(points), grid)
    zone = rasterised(sphere([0, 0, 0], 17.0), (1, 1, 1), rng)
    result = ablative_margin(tumor, zone)
    assert result.mam_mm == pytest.approx(3.0, abs=0.35)
    assert result.thinnest.words == "anterior"
    assert result.thinnest.clock == 12


def test_bad_input_is_named():
    grid = Grid((8, 8, 8), np.eye(4))
    full = Mask(np.ones((8, 8, 8), bool), grid, "zone.nii.gz", "1.2.3")
    empty = Mask(np.zeros((8, 8, 8), bool), grid, "tumour.nii.gz")
    with pytest.raises(EmptyMaskError, match=r"tumour\.nii\.gz"):
        ablative_margin(empty, full)
    other = Mask(np.ones((8, 8, 8), bool), grid, "tumour.nii.gz", "4.5.6")
    with pytest.raises(FrameMismatchError, match="register"):
        ablative_margin(other, full)


@pytest.mark.parametrize(("direction", "words", "hour"), [
    ((0, 1, 0), "anterior", 12), ((-1, 0, 0), "left", 3), ((0, -1, 0), "posterior", 6), ((1, 0, 0), "right", 9),
    ((0, 0, 1), "cranial", None), ((1, 1, 0), "right, anterior", 10), ((-0.5, -0.85, 0.1), "posterior, left", 5)])
def test_words_and_clock(direction, words, hour):
    assert set(direction_words(np.array(direction)).split(", ")) == set(words.split(", "))
    found = clock_hour(np.array(direction))
    assert found == hour or (words == "right, anterior" and found in (10, 11))


def test_smallest_sphere():
    rng = np.random.default_rng(15)
    points = rng.standard_normal((500, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    centre, radius = smallest_sphere(points * 7.0 + [1.0, 2.0, 3.0])
    assert centre == pytest.approx([1.0, 2.0, 3.0], abs=0.2)
    assert 7.0 * 0.99 <= radius <= 7.0 * 1.02
