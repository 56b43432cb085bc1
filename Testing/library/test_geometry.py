"""Grids, transforms, surfaces and distances on oblique, asymmetric truth."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from analytic import rasterised, rotation, sphere
from IRAILib.geometry import (
    CompositeTransform,
    EmptyMaskError,
    FrameMismatchError,
    Grid,
    GridTransform,
    InputError,
    LinearTransform,
    Mask,
    Surface,
    Volume,
    resample,
    resample_mask,
    signed_distance,
    transform_from_sitk,
)
from IRAILib.geometry.distance import euclidean_distance_mm
from IRAILib.geometry.implicit import implicit_surface
from IRAILib.geometry.itk import from_sitk, to_sitk
from IRAILib.geometry.proximity import distance_to_surface_mm


def oblique_grid(seed: int = 1, shape=(7, 9, 11)) -> Grid:
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(rng) * [0.7, 1.1, 2.5]
    matrix[:3, 3] = [12.0, -34.0, 56.0]
    return Grid(shape, matrix)


def rigid(seed: int, to_frame="b", from_frame="a") -> LinearTransform:
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(rng)
    matrix[:3, 3] = rng.uniform(-20, 20, 3)
    return LinearTransform(matrix, to_frame, from_frame)


def smooth_field(grid: Grid, to_frame="moving", from_frame="fixed", size=2.0) -> GridTransform:
    points = grid.all_points_ras()
    wave = np.stack([np.sin(points[..., 1] / 17.0), np.cos(points[..., 2] / 19.0), np.sin(points[..., 0] / 23.0)], -1)
    return GridTransform(grid, (size * wave).astype(np.float32), to_frame, from_frame)


def test_grid_indices_and_points_are_inverse_and_in_kji_order():
    grid = oblique_grid()
    index = np.array([[2.0, 3.0, 4.0], [0.5, 8.0, 10.25]])
    assert np.allclose(grid.indices_kji(grid.points_ras(index)), index)
    by_hand = grid.ras_from_ijk @ [4.0, 3.0, 2.0, 1.0]
    assert np.allclose(grid.points_ras(index[:1])[0], by_hand[:3])
    assert np.allclose(grid.all_points_ras()[2, 3, 4], by_hand[:3])
    assert grid.spacing_mm == pytest.approx([0.7, 1.1, 2.5])
    assert grid.voxel_volume_ml == pytest.approx(0.7 * 1.1 * 2.5 / 1000)


def test_resampled_grid_covers_the_same_box():
    grid = oblique_grid(shape=(10, 20, 30))
    fine = grid.resampled_grid((0.35, 0.55, 0.5))
    assert fine.shape == (50, 40, 60)
    assert np.allclose(fine.centre_ras, grid.centre_ras)
    low = fine.points_ras(np.array([[-0.5, -0.5, -0.5]]))
    assert np.allclose(low, grid.points_ras(np.array([[-0.5, -0.5, -0.5]])))


@pytest.mark.parametrize("matrix", [np.zeros((4, 4)), np.diag([1.0, 1.0, 0.0, 1.0]), np.full((4, 4), np.nan)])
def test_degenerate_grids_are_refused(matrix):
    with pytest.raises(InputError):
        Grid((2, 2, 2), matrix)


def test_itk_border_is_lps_and_round_trips():
    grid = oblique_grid()
    volume = Volume(np.random.default_rng(0).random(grid.shape).astype(np.float32), grid, "x")
    image = to_sitk(volume)
    point = np.array(image.TransformContinuousIndexToPhysicalPoint((4.0, 3.0, 2.0)))
    assert np.allclose(point * [-1, -1, 1], grid.points_ras(np.array([[2.0, 3.0, 4.0]]))[0])
    assert image.GetPixel(4, 3, 2) == pytest.approx(float(volume.array[2, 3, 4]))
    back = from_sitk(image)
    assert back.grid.same_grid(grid)
    assert np.array_equal(back.array, volume.array)


def test_products_of_transforms_check_their_frames():
    b_from_a, c_from_b = rigid(1), rigid(2, "c", "b")
    points = np.random.default_rng(3).uniform(-50, 50, (20, 3))
    both = c_from_b @ b_from_a
    assert (both.to_frame, both.from_frame) == ("c", "a")
    assert np.allclose(both.apply(points), c_from_b.apply(b_from_a.apply(points)))
    assert np.allclose(both.inverse_apply(both.apply(points)), points)
    with pytest.raises(FrameMismatchError):
        b_from_a @ c_from_b
    with pytest.raises(FrameMismatchError):
        CompositeTransform([b_from_a, c_from_b])


def test_fields_agree_with_itk_and_invert():
    grid = oblique_grid(shape=(12, 14, 16))
    field = smooth_field(grid)
    inside = grid.points_ras(np.random.default_rng(4).uniform(2, 9, (50, 3)))
    itk = field.to_sitk()
    for point in inside[:10]:
        lps = np.array(itk.TransformPoint((point * [-1, -1, 1]).tolist())) * [-1, -1, 1]
        assert lps == pytest.approx(field.apply(point[None])[0], abs=1e-4)
    assert np.abs(field.inverse_apply(field.apply(inside)) - inside).max() < 2e-3
    assert np.abs(field.inverse().apply(field.apply(inside)) - inside).max() < 2e-3
    far = grid.centre_ras + [500.0, 0.0, 0.0]
    assert np.array_equal(field.apply(far[None])[0], far)


def test_composites_survive_the_itk_border():
    grid = oblique_grid(shape=(12, 14, 16))
    chain = rigid(5, "moving", "middle") @ smooth_field(grid, "middle", "fixed")
    points = grid.points_ras(np.random.default_rng(6).uniform(2, 9, (20, 3)))
    back = transform_from_sitk(chain.to_sitk(), "moving", "fixed")
    assert np.abs(back.apply(points) - chain.apply(points)).max() < 1e-4
    with pytest.raises(InputError, match="displacement field"):
        transform_from_sitk(sitk.BSplineTransform(3), "moving", "fixed")


def test_a_fold_cannot_be_inverted():
    grid = Grid((20, 20, 20), np.eye(4))
    points = grid.all_points_ras()
    bend = np.zeros((*grid.shape, 3), np.float32)
    bend[..., 0] = -6.0 * np.sin(points[..., 0] / 2.0)
    with pytest.raises(InputError, match="folds"):
        GridTransform(grid, bend, "b", "a").inverse_apply(grid.points_ras(np.full((1, 3), 9.3)))


def test_resampling_moves_what_it_should():
    rng = np.random.default_rng(7)
    ball = sphere([5.0, -3.0, 8.0], 9.0)
    mask = rasterised(ball, (1.0, 1.0, 1.0), rng)
    moving_from_fixed = rigid(8, "moving", "fixed")
    centre = moving_from_fixed.inverse_apply(ball.centre[None])[0]
    target = rasterised(sphere(centre, 9.0), (2.0, 0.9, 1.1), rng)
    moved = resample_mask(mask, target.grid, moving_from_fixed)
    overlap = 2 * (moved.array & target.array).sum() / (moved.array.sum() + target.array.sum())
    assert overlap > 0.97
    image = resample(Volume(mask.array.astype(np.float32), mask.grid), target.grid, moving_from_fixed)
    assert image.array[target.array].mean() > 0.93  # half of the border voxels is outside


def test_thick_slices_resample_without_stairs():
    rng = np.random.default_rng(9)
    ball = sphere([0.0, 0.0, 0.0], 12.0)
    thick = rasterised(ball, (4.0, 1.0, 1.0), rng, directions=np.eye(3))
    fine = rasterised(ball, (1.0, 1.0, 1.0), rng, directions=np.eye(3))
    moved = resample_mask(thick, fine.grid)
    assert 2 * (moved.array & fine.array).sum() / (moved.array.sum() + fine.array.sum()) > 0.94


@pytest.mark.parametrize("hide_edt", [False, True])
def test_signed_distance_is_the_distance_to_the_border(monkeypatch, hide_edt):
    if hide_edt:
        monkeypatch.setitem(__import__("sys").modules, "edt", None)
    grid = Grid((5, 5, 40), np.diag([0.5, 1.0, 1.0, 1.0]))
    slab = np.zeros(grid.shape, bool)
    slab[..., 10:20] = True
    line = signed_distance(Mask(slab, grid)).array[2, 2]
    border = [9.5 * 0.5, 19.5 * 0.5]
    x = np.arange(40) * 0.5
    truth = np.maximum(border[0] - x, x - border[1])
    assert line == pytest.approx(truth, abs=1e-5)
    with pytest.raises(EmptyMaskError):
        signed_distance(Mask(np.zeros((3, 3, 3), bool), Grid((3, 3, 3), np.eye(4)), "m"))
    assert np.isinf(euclidean_distance_mm(np.ones((2, 2, 2), bool), np.ones(3))).all()


def test_implicit_surface_has_area_volume_and_outward_normals():
    rng = np.random.default_rng(10)
    ball = sphere([3.0, 4.0, 5.0], 11.0)
    shape = implicit_surface(rasterised(ball, (3.0, 0.8, 0.8), rng))
    surface = shape.surface(1.0)
    assert surface.volume_ml() == pytest.approx(4 / 3 * np.pi * 11**3 / 1000, rel=0.02)
    assert surface.triangle_areas_mm2().sum() == pytest.approx(4 * np.pi * 121, rel=0.01)
    out = surface.points - ball.centre
    assert ((surface.point_normals() * out).sum(axis=1) / np.linalg.norm(out, axis=1)).min() > 0.95
    assert shape.agrees
    assert shape.value(np.array([[3.0, 4.0, 5.0], [300.0, 0.0, 0.0]])).tolist()[0] < -2.0
    assert shape.value(np.array([[300.0, 0.0, 0.0]]))[0] > 0.0
    assert 0.0 < shape.sigma_mm(surface.points[:3]).max() < 1.0


def test_voxel_error_is_larger_across_thick_slices():
    rng = np.random.default_rng(11)
    ball = sphere([0.0, 0.0, 0.0], 11.0)
    sigma = [implicit_surface(rasterised(ball, (slices, 0.8, 0.8), rng, directions=np.eye(3)))
             .sigma_mm(np.array([[0.0, 0.0, 11.0]]))[0] for slices in (1.0, 5.0)]
    assert sigma[1] > 1.5 * sigma[0]


def test_distance_to_triangles_is_exact():
    rng = np.random.default_rng(12)
    triangle = Surface(rng.uniform(-5, 5, (3, 3)), np.array([[0, 1, 2]]))
    weights = rng.dirichlet(np.ones(3), 200_000)
    dense = weights @ triangle.points
    edges = np.concatenate([np.linspace(triangle.points[a], triangle.points[b], 4000) for a, b in
                            ((0, 1), (1, 2), (2, 0))])
    dense = np.concatenate([dense, edges])
    points = rng.uniform(-10, 10, (60, 3))
    brute = np.array([np.linalg.norm(dense - p, axis=1).min() for p in points])
    distance, nearest = distance_to_surface_mm(points, triangle)
    assert distance == pytest.approx(brute, abs=0.02)
    assert np.linalg.norm(points - nearest, axis=1) == pytest.approx(distance)


def test_a_mirror_keeps_normals_outward():
    rng = np.random.default_rng(13)
    surface = implicit_surface(rasterised(sphere([0, 0, 0], 6.0), (1, 1, 1), rng)).surface()
    mirrored = surface.transformed(LinearTransform(np.diag([-1.0, 1.0, 1.0, 1.0]), "b", "a"))
    assert mirrored.volume_ml() == pytest.approx(surface.volume_ml())


def test_mask_boxes_and_borders():
    grid = oblique_grid(shape=(10, 12, 14))
    array = np.zeros(grid.shape, bool)
    array[3:5, 6:9, 2:4] = True
    mask = Mask(array, grid, "m")
    assert mask.bounding_box_kji() == ((3, 6, 2), (2, 3, 2))
    small = mask.crop_to_content()
    assert small.array.all()
    assert np.allclose(small.grid.points_ras(np.zeros((1, 3))), grid.points_ras(np.array([[3.0, 6.0, 2.0]])))
    assert not mask.touches_border()
    assert Mask(np.ones(grid.shape, bool), grid).touches_border()
    assert mask.volume_ml == pytest.approx(12 * 0.7 * 1.1 * 2.5 / 1000)
    with pytest.raises(InputError, match="3D"):
        Volume(np.zeros((2, 2)), grid, "flat.png")
