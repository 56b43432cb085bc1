"""Clicks on phantoms whose shape is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import CancelledError, EmptyMaskError, Grid, InputError, RefusedError, Volume
from IRAILib.segmentation import SeededOptions, segment_labels, segment_seeded
from IRAILib.segmentation.rays import boundary_radii, distance_to_surface, smoothest_choice, sphere
from IRAILib.segmentation.tissue import Tissue


def oblique_grid(shape=(40, 64, 60), spacing=(0.9, 1.1, 1.8)) -> Grid:
    a, b = np.deg2rad(31.0), np.deg2rad(-18.0)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    lean = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ lean @ np.diag([-1.0, 1.0, 1.0]) * np.array(spacing)
    matrix[:3, 3] = (17.0, -53.0, 101.0)
    return Grid(shape, matrix)


def phantom(grid: Grid, *, inside=70.0, outside=115.0, noise=20.0, semi_axes=(10.0, 8.0, 13.0), seed=0):
    """An ellipsoid in noisy tissue with fat beyond a plane 6 mm past it. Returns volume, truth, middle (RAS)."""
    middle = grid.centre_ras + [2.0, -1.5, 3.0]
    offset = grid.all_points_ras() - middle
    truth = ((offset / np.array(semi_axes)) ** 2).sum(axis=-1) <= 1.0
    array = np.where(truth, inside, outside)
    array = np.where(offset[..., 1] > semi_axes[1] + 6.0, -100.0, array)
    array = array + np.random.default_rng(seed).normal(0.0, noise, grid.shape)
    return Volume(array.astype(np.float32), grid, "phantom"), truth, middle


def dice(a, b) -> float:
    return 2.0 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize(("inside", "outside"), [(70.0, 115.0), (160.0, 110.0), (-40.0, 60.0)])
@pytest.mark.parametrize("with_outside", [True, False])
def test_ellipsoid_on_an_oblique_anisotropic_grid(inside, outside, with_outside):
    volume, truth, middle = phantom(oblique_grid(), inside=inside, outside=outside)
    result = segment_seeded(volume, middle + [2.0, 1.0, -3.0], middle + [16.0, 0.0, 0.0] if with_outside else None)
    assert dice(result.mask.array, truth) > 0.92
    assert result.mask.grid is volume.grid
    assert result.inside_value == pytest.approx(inside, abs=8.0)
    assert not with_outside or result.outside_value == pytest.approx(outside, abs=8.0)


def test_a_bad_click_near_the_rim_still_finds_the_whole():
    volume, truth, middle = phantom(oblique_grid())
    clicks = [middle + [6.0, 0, 0], middle + [0, -4.5, 0], middle + [0, 0, 8.5]]
    assert min(dice(segment_seeded(volume, c, middle + [0, -13.0, 0]).mask.array, truth) for c in clicks) > 0.9


def test_scale_and_offset_of_the_values_do_not_matter():
    volume, _, middle = phantom(oblique_grid())
    other = volume.with_array((volume.array * 0.01 + 7.0).astype(np.float32))
    a, b = (segment_seeded(v, middle, middle + [16.0, 0, 0]).mask.array for v in (volume, other))
    assert dice(a, b) > 0.995


def test_it_does_not_leak_into_tissue_of_the_same_value_behind_a_gap():
    grid = Grid((48, 48, 48), np.eye(4))
    points = grid.all_points_ras() - [24.0, 24.0, 20.0]
    truth = np.linalg.norm(points, axis=-1) < 9.0
    slab = points[..., 2] > 11.0
    array = np.where(truth | slab, 60.0, 110.0) + np.random.default_rng(1).normal(0, 15, grid.shape)
    neck = (np.hypot(points[..., 0], points[..., 1]) < 2.0) & (points[..., 2] > 0) & (points[..., 2] < 14.0)
    array[neck] = 60.0
    result = segment_seeded(Volume(array.astype(np.float32), grid), [24, 24, 20], [24, 10, 20])
    assert dice(result.mask.array, truth) > 0.88
    assert result.mask.array[slab].sum() < 0.1 * truth.sum()


def test_a_satellite_joins_and_can_be_left_out():
    grid = Grid((44, 44, 60), np.eye(4))
    points = grid.all_points_ras()
    main = np.linalg.norm(points - [22, 22, 22], axis=-1) < 9.0
    satellite = np.linalg.norm(points - [35.5, 22, 22], axis=-1) < 5.0
    array = np.where(main | satellite, 60.0, 110.0) + np.random.default_rng(1).normal(0, 12, grid.shape)
    volume = Volume(array.astype(np.float32), grid)
    joined = segment_seeded(volume, [22, 22, 22], [22, 8, 22])
    alone = segment_seeded(volume, [22, 22, 22], [22, 8, 22], options=SeededOptions(satellites=False))
    assert dice(joined.mask.array, main | satellite) > 0.85
    assert alone.mask.array[satellite & ~main].mean() < 0.6


def test_an_outside_click_cuts():
    grid = Grid((44, 44, 60), np.eye(4))
    points = grid.all_points_ras()
    twins = np.minimum(*(np.linalg.norm(points - [x, 22, 22], axis=-1) for x in (20, 34))) < 8.0
    array = np.where(twins, 160.0, 110.0) + np.random.default_rng(2).normal(0, 10, grid.shape)
    result = segment_seeded(Volume(array.astype(np.float32), grid), [19, 22, 22], [[34, 22, 22], [19, 8, 22]])
    at = tuple(np.array([22, 22, 34]))
    assert not result.mask.array[at]
    assert result.mask.array[22, 22, 19]


def test_max_radius_holds():
    volume, _, middle = phantom(oblique_grid())
    result = segment_seeded(volume, middle, None, options=SeededOptions(max_radius_mm=5.0))
    far = volume.grid.points_ras(np.argwhere(result.mask.array)) - middle
    assert np.linalg.norm(far, axis=1).max() < 5.0 + 3.0


def test_uncertainty_grows_with_noise_and_covers_the_error():
    sigmas = []
    for noise in (5.0, 35.0):
        volume, truth, middle = phantom(oblique_grid(), noise=noise)
        result = segment_seeded(volume, middle, middle + [16.0, 0, 0])
        sigmas.append(result.boundary_sigma_mm)
        surface_ml = 4.0 * np.pi * 10.0**2 / 1000.0
        shift_mm = (result.mask.volume_ml - truth.sum() * volume.grid.voxel_volume_ml) / surface_ml
        assert abs(shift_mm) < 2.0 * result.boundary_sigma_mm
    assert 0.3 < sigmas[0] < sigmas[1] < 4.0
    assert result.probability.array.min() >= 0.0
    assert np.array_equal(result.probability.array >= 0.5, result.mask.array)


def test_scribbles():
    volume, truth, middle = phantom(oblique_grid())
    distance = np.linalg.norm(volume.grid.all_points_ras() - middle, axis=-1)
    labels = np.where(distance < 3.0, 1, np.where((distance > 18.0) & (distance < 18.6), 2, 0)).astype(np.uint8)
    assert dice(segment_labels(volume, labels).mask.array, truth) > 0.9
    with pytest.raises(EmptyMaskError, match="inside label"):
        segment_labels(volume, np.zeros_like(labels))
    with pytest.raises(InputError, match="on an image of"):
        segment_labels(volume, labels[:5])


def test_thin_images_and_nan():
    grid = Grid((1, 64, 64), np.eye(4))
    inside = np.linalg.norm(grid.all_points_ras() - [30, 30, 0], axis=-1) < 10
    flat = Volume((100.0 * inside + np.random.default_rng(0).normal(0, 8, grid.shape)).astype(np.float32), grid)
    assert dice(segment_seeded(flat, [30, 30, 0], [48, 30, 0]).mask.array, inside) > 0.8
    volume, truth, middle = phantom(oblique_grid())
    array = volume.array.copy()
    array[0, 0, :] = np.nan
    assert dice(segment_seeded(volume.with_array(array), middle, middle + [16.0, 0, 0]).mask.array, truth) > 0.9


def test_errors_a_user_can_act_on():
    volume, _, middle = phantom(oblique_grid())
    with pytest.raises(InputError, match="at least one inside"):
        segment_seeded(volume, np.zeros((0, 3)))
    with pytest.raises(InputError, match="outside the image"):
        segment_seeded(volume, [999, 0, 0])
    with pytest.raises(InputError, match="outside the image"):
        segment_seeded(volume, middle, [np.nan, 0, 0])
    with pytest.raises(InputError, match="same place"):
        segment_seeded(volume, middle, middle)
    with pytest.raises(InputError, match=r"\(n, 3\)"):
        segment_seeded(volume, [1.0, 2.0])
    with pytest.raises(RefusedError, match="nothing to segment"):
        segment_seeded(volume.with_array(np.zeros_like(volume.array)), middle, middle + [16, 0, 0])


def test_progress_and_cancel():
    volume, _, middle = phantom(oblique_grid())
    told = []
    segment_seeded(volume, middle, progress=lambda fraction, text: told.append(fraction))
    assert told == sorted(told)
    assert told[-1] == 1.0
    with pytest.raises(CancelledError):
        segment_seeded(volume, middle, cancelled=lambda: len(told) > 0)


def test_rays_find_an_ellipsoid_and_measure_it():
    vectors = sphere()[0]
    truth = 1.0 / np.sqrt(((vectors / [8.0, 10.0, 14.0]) ** 2).sum(axis=1))
    distances = np.arange(0.5, 30.0, 0.5)
    evidence = np.where(distances < truth[:, None], 2.0, -2.0)
    radii = boundary_radii(evidence, distances, 1.5, soft=True)
    assert np.abs(radii - truth).max() < 0.13 * 14.0
    distance = distance_to_surface((31, 31, 31), np.ones(3), np.full(3, 15.0), np.full(len(vectors), 9.0))
    k, j, i = np.indices((31, 31, 31)) - 15.0
    np.testing.assert_allclose(distance, np.sqrt(k**2 + j**2 + i**2) - 9.0, atol=1e-3)


def test_smoothest_choice_outvotes_a_stray_ray():
    cost = np.full((400, 20), 5.0, np.float32)
    cost[:, 7] = 0.0
    cost[100, 7], cost[100, 18] = 5.0, 0.0
    assert (smoothest_choice(cost) == 7).all()


def test_tissue_evidence_has_the_right_signs():
    tissue = Tissue(60.0, 10.0, 110.0, 10.0)
    evidence = tissue.evidence(np.array([60.0, 110.0, -100.0, 300.0, np.nan]))
    assert evidence[0] > 0
    assert (evidence[1:] < 0).all()
    assert tissue.evidence(np.array([60.0]), np.array([200.0]))[0] < 0
