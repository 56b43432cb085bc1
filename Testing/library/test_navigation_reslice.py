"""Slices of volumes against SimpleITK's resampling and against fields with a formula; outlines against circles."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from IRAILib.geometry import Grid, InputError, LinearTransform, Mask, Surface, Volume
from IRAILib.navigation.blend import blend, checkerboard, pyramid_blend, side_by_side
from IRAILib.navigation.reslice import Reslicer, label_outlines, outlines, reslice

SIZE = (90, 70)


def rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def oblique_grid(shape=(20, 40, 30)) -> Grid:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(1) * (1.1, 0.8, 2.5)
    matrix[:3, 3] = (-31, 12, 50)
    return Grid(shape, matrix)


def slice_pose(grid: Grid, seed: int = 5, spacing=(0.45, 0.6)) -> np.ndarray:
    turn = rotation(seed)
    pose = np.eye(4)
    pose[:3, :2] = turn[:, :2] * spacing
    pose[:3, 2] = turn[:, 2]
    pose[:3, 3] = grid.centre_ras - pose[:3, :2] @ (np.array(SIZE) / 2)
    return pose


def by_sitk(volume: Volume, pose: np.ndarray, interpolator, outside: float) -> np.ndarray:
    """The same slice by SimpleITK, in LPS."""
    flip = np.diag([-1.0, -1.0, 1.0])
    image = sitk.GetImageFromArray(volume.array)
    matrix = volume.grid.ras_from_ijk
    image.SetSpacing(volume.spacing_mm.tolist())
    image.SetDirection((flip @ volume.grid.directions).ravel().tolist())
    image.SetOrigin((flip @ matrix[:3, 3]).tolist())
    spacing = np.linalg.norm(pose[:3, :3], axis=0)
    direction = flip @ (pose[:3, :3] / spacing)
    out = sitk.Resample(image, [*SIZE, 1], sitk.Transform(), interpolator, (flip @ pose[:3, 3]).tolist(),
                        spacing.tolist(), direction.ravel().tolist(), outside, sitk.sitkFloat32)
    return sitk.GetArrayFromImage(out)[0]


@pytest.mark.parametrize(("order", "kind"), [(1, sitk.sitkLinear), (0, sitk.sitkNearestNeighbor)])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.uint16])
def test_agrees_with_simpleitk_on_oblique_grids(order, kind, dtype):
    grid = oblique_grid()
    values = np.random.default_rng(0).integers(0, 250, grid.shape).astype(dtype)
    volume = Volume(values, grid)
    for seed in (5, 6, 7):
        pose = slice_pose(grid, seed)
        ours, theirs = reslice(volume, pose, SIZE, order=order), by_sitk(volume, pose, kind, -999.0)
        both = np.isfinite(ours) & (theirs > -900)
        assert both.mean() > 0.2
        difference = np.abs(ours - theirs)[both]
        if order == 1:
            assert difference.max() < 0.05
        else:  # a voxel's border may fall either way
            assert (difference > 0).mean() < 1e-3
        assert (np.isfinite(ours) & (theirs < -900)).sum() <= 2


def test_a_linear_field_comes_back_exactly_and_nothing_outside():
    grid = oblique_grid()
    points = grid.all_points_ras()
    field = (3.0 * points[..., 0] - 2.0 * points[..., 1] + 0.5 * points[..., 2] + 7).astype(np.float32)
    pose = slice_pose(grid, 9)
    got = reslice(Volume(field, grid), pose, SIZE)
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    ras = (pose @ np.stack([x.ravel(), y.ravel(), 0 * x.ravel(), 1 + 0 * x.ravel()]))[:3].T
    expected = (ras @ (3.0, -2.0, 0.5) + 7).reshape(SIZE[::-1])
    index = grid.indices_kji(ras)
    inside = ((index >= 0) & (index <= np.array(grid.shape) - 1)).all(axis=1).reshape(SIZE[::-1])
    assert (np.isfinite(got) != inside).sum() <= 6
    both = inside & np.isfinite(got)
    np.testing.assert_allclose(got[both], expected[both], atol=2e-3)
    cubic = reslice(Volume(field, grid), pose, SIZE, order=3)
    np.testing.assert_allclose(cubic[both], expected[both], atol=0.5)
    filled = reslice(Volume(field, grid), pose, SIZE, outside=-5.0)
    assert (filled[~np.isfinite(got)] == -5.0).all()


def test_three_volumes_with_their_own_frames():
    grid = oblique_grid()
    volume = Volume(np.random.default_rng(2).normal(size=grid.shape), grid)
    shift = np.eye(4)
    shift[:3, 3] = (4, -3, 2)
    moved = Volume(volume.array[:, :, ::-1][:, :, ::-1], Grid(grid.shape, shift @ grid.ras_from_ijk))
    pose = slice_pose(grid)
    a, b, c = Reslicer([volume, moved, moved], [None, shift, LinearTransform(shift, "mr", "ct")]).slices(pose, SIZE)
    np.testing.assert_allclose(a, b, atol=1e-4)
    np.testing.assert_array_equal(b, c)
    assert np.nanmax(np.abs(a - reslice(moved, pose, SIZE))) > 0.1
    with pytest.raises(InputError):
        Reslicer([])
    with pytest.raises(InputError):
        Reslicer([volume] * 4)


def test_one_layer_holds_for_half_a_voxel():
    volume = Volume(np.full((1, 20, 20), 9, np.uint8), Grid((1, 20, 20), np.diag([1.0, 1.0, 4.0, 1.0])))
    pose = np.eye(4)
    for z, there in ((0.0, True), (1.9, True), (-1.9, True), (2.1, False)):
        pose[2, 3] = z
        assert np.isfinite(reslice(volume, pose, (20, 20))).all() == there


def test_hostile_input():
    grid = oblique_grid()
    volume = Volume(np.zeros(grid.shape), grid)
    pose = slice_pose(grid)
    for bad in (np.full((4, 4), np.nan), np.eye(3), np.zeros((4, 4)), np.diag([0.0, 1, 1, 1])):
        with pytest.raises(InputError):
            reslice(volume, bad, SIZE)
    for size in ((0, 5), (5, -1), (10**6, 10)):
        with pytest.raises(InputError):
            reslice(volume, pose, size)
    with pytest.raises(InputError):
        reslice(volume, pose, SIZE, order=2)
    far = pose.copy()
    far[:3, 3] += 1e7
    assert np.isnan(reslice(volume, far, SIZE)).all()


def ball_mask(radius_mm: float, spacing: float = 0.7) -> Mask:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(4) * spacing
    grid = Grid((60, 60, 60), matrix)
    centre = grid.centre_ras
    matrix = grid.ras_from_ijk.copy()
    matrix[:3, 3] = -centre
    grid = Grid(grid.shape, matrix)
    return Mask(np.linalg.norm(grid.all_points_ras(), axis=-1) <= radius_mm, grid)


def sphere(radius_mm: float) -> Surface:
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    source = vtk.vtkSphereSource()
    source.SetRadius(radius_mm)
    source.SetThetaResolution(120)
    source.SetPhiResolution(120)
    source.Update()
    mesh = source.GetOutput()
    return Surface(vtk_to_numpy(mesh.GetPoints().GetData()).astype(float),
                   vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3))


def ball_pose(height_mm: float, seed: int = 8, spacing: float = 0.4) -> np.ndarray:
    """An image whose plane passes the ball's middle at a distance; its middle pixel is nearest to the ball's."""
    turn = rotation(seed)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = turn[:, 0] * spacing, turn[:, 1] * spacing, turn[:, 2]
    pose[:3, 3] = height_mm * turn[:, 2] - pose[:3, :2] @ (100, 80)
    return pose


@pytest.mark.parametrize("make", [ball_mask, sphere])
@pytest.mark.parametrize("height_mm", [0.0, 6.0])
def test_a_ball_is_cut_as_a_circle(make, height_mm):
    lines = outlines(make(15.0), ball_pose(height_mm), (201, 161))
    assert len(lines) == 1
    (line,) = lines
    np.testing.assert_allclose(line[0], line[-1])
    radius = np.linalg.norm(line - (100, 80), axis=1) * 0.4
    expected = np.sqrt(15.0**2 - height_mm**2)
    tolerance = 0.55 if make is ball_mask else 0.03
    assert np.abs(radius - expected).max() < tolerance
    assert abs(radius.mean() - expected) < tolerance / 3
    assert outlines(make(15.0), ball_pose(16.0), (201, 161)) == []


@pytest.mark.parametrize("make", [ball_mask, sphere])
def test_lines_end_at_the_border_of_the_image(make):
    lines = outlines(make(15.0), ball_pose(0.0), (120, 161))
    assert len(lines) == 1
    (line,) = lines
    assert line[:, 0].max() == pytest.approx(119.5, abs=0.05)
    assert not np.allclose(line[0], line[-1])
    assert sorted(line[[0, -1], 0]) == pytest.approx([119.5, 119.5], abs=0.05)
    half_chord = np.sqrt(15.0**2 - (19.5 * 0.4) ** 2) / 0.4
    assert abs(line[0, 1] - line[-1, 1]) == pytest.approx(2 * half_chord, abs=1.5)


def test_labels_and_nothing():
    ball, pose = ball_mask(15.0), ball_pose(0.0)
    labels = ball.array.astype(np.uint8)
    labels[ball_mask(8.0).array] = 7
    found = label_outlines(Volume(labels, ball.grid), pose, (201, 161))
    assert sorted(found) == [1, 7]
    inner = np.linalg.norm(found[7][0] - (100, 80), axis=1) * 0.4
    assert abs(inner.mean() - 8.0) < 0.2
    assert len(found[1]) == 2  # outside and round the hole
    assert outlines(Mask(np.zeros((3, 3, 3), bool), Grid((3, 3, 3), np.eye(4))), np.eye(4), (9, 9)) == []
    assert outlines(Surface(np.empty((0, 3)), np.empty((0, 3), int)), np.eye(4), (9, 9)) == []


def pictures():
    live = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))
    plan = np.full((64, 96), 100.0, np.float32)
    plan[:, :10] = np.nan
    return live, plan


def test_blends_show_what_is_missing():
    live, plan = pictures()
    both = blend(live, plan, 0.25, window=(0, 255))
    assert both.shape == (64, 96, 3)
    assert both.dtype == np.uint8
    np.testing.assert_allclose(both[:, 12:, 0], np.rint(live[:, 12:] * 0.75 + 25), atol=1)
    assert (both[:, :10, 0] > both[:, :10, 1]).all()  # hatched in colour
    assert np.ptp(both[:, 12:].astype(int), axis=2).max() == 0
    board = checkerboard(live, plan, field_px=16, window=(0, 255))
    np.testing.assert_array_equal(board[:16, :16, 0], live[:16, :16])
    np.testing.assert_array_equal(board[:16, 16:32, 0], 100)
    assert (board[16:32, :10, 0] > board[16:32, :10, 2]).all()
    wide = side_by_side(live, plan, windows=(None, (0, 255)))
    np.testing.assert_array_equal(wide[:, :96, 0], live)
    assert wide.shape == (64, 96 * 2 + 4, 3)


def test_pyramid_of_one_image_with_itself_is_that_image_and_its_seam_is_soft():
    noise = np.random.default_rng(0).integers(0, 255, (61, 83)).astype(np.uint8)
    same = pyramid_blend(noise, noise)
    assert np.abs(same[..., 0].astype(int) - noise).max() <= 1
    dark, bright = np.full((64, 128), 50, np.uint8), np.full((64, 128), 200, np.uint8)
    row = pyramid_blend(dark, bright)[32, :, 0].astype(int)
    assert row[0] < 70
    assert row[-1] > 180
    assert np.abs(np.diff(row)).max() < 40 < 150  # a plain cut jumps by 150


def test_blending_refuses_what_does_not_fit():
    live, plan = pictures()
    for call in (lambda: blend(live, plan[:-1]), lambda: blend(live, plan, 1.5), lambda: blend(live[0], plan[0]),
                 lambda: checkerboard(live, plan, field_px=0), lambda: side_by_side(live, plan[:5]),
                 lambda: blend(live, plan, window=(5, 5)), lambda: pyramid_blend(live, plan, np.full((64, 96), 2.0))):
        with pytest.raises(InputError):
            call()
    assert blend(live, np.full((64, 96), np.nan)).shape == (64, 96, 3)
