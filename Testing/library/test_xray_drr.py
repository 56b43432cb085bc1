"""Radiographs against formulas: chords of a sphere, a box, magnification, oblique axes, derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import CArmGeometry, Grid, InputError, Volume, geometry_from_angles
from IRAILib.registration.xray import attenuation, render_drr
from IRAILib.registration.xray.drr import derivatives, integrate, pixel_rays, prepare_volume
from IRAILib.registration.xray.pose import align, apply, rotation, step

WATER = 0.0206
SOURCE_MM, DETECTOR_MM = 700.0, 1050.0


@pytest.fixture(autouse=True)
def one_thread():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def oblique(spacing=(1.5, 1.0, 2.0), shape=(50, 96, 64), turn=(0.4, -0.3, 0.7)) -> Grid:
    """Centre at the origin, axes turned and one of them flipped."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(np.array(turn)) @ np.diag([-spacing[0], spacing[1], spacing[2]])
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, matrix)


def geometry(primary=20.0, secondary=-15.0, pixels=48, mm=3.0) -> CArmGeometry:
    return geometry_from_angles(primary, secondary, DETECTOR_MM, SOURCE_MM, mm, (pixels, pixels + 6))


def ball(grid: Grid, radius: float, centre=(0.0, 0.0, 0.0)) -> Volume:
    """HU: water inside, air outside, the border's share by sampling eight points a voxel."""
    inside = np.zeros(grid.shape)
    for bits in np.ndindex(3, 3, 3):
        offset = grid.ras_from_ijk[:3, :3] @ ((np.array(bits) - 1) / 3.0)
        inside += np.linalg.norm(grid.all_points_ras() + offset - np.array(centre), axis=-1) < radius
    return Volume((1000 * (inside / 27 - 1)).astype(np.float32), grid)


def chord(view: CArmGeometry, centre: np.ndarray, radius: float) -> np.ndarray:
    rays = view.rays(np.column_stack([a.ravel() for a in np.meshgrid(*(np.arange(n) for n in view.size))]))
    gap = centre - view.source_mm
    across = np.linalg.norm(np.cross(rays, gap), axis=1)
    return 2 * np.sqrt(np.maximum(radius**2 - across**2, 0)).reshape(view.size[::-1])


def test_sphere_in_oblique_axes_gives_its_chords():
    volume, view = ball(oblique(), 30.0, (4.0, -3.0, 2.0)), geometry()
    image = render_drr(volume, view)
    truth = WATER * chord(view, np.array([4.0, -3.0, 2.0]), 30.0)
    deep = truth > WATER * 20
    assert image.shape == view.size[::-1]
    assert image.dtype == np.float32
    assert np.abs(image - truth)[deep].max() < 0.02 * truth.max()
    assert np.abs(image - truth)[deep].mean() < 0.004 * truth.max()
    beside = chord(view, np.array([4.0, -3.0, 2.0]), 33.0) == 0
    assert image[beside].max() < 0.01 * truth.max()


def test_a_pose_moves_the_volume_not_the_beam():
    volume, view = ball(oblique(), 22.0), geometry()
    pose = step(np.array([9.0, -14.0, 11.0, 0.3, -0.2, 0.4]), np.array([5.0, 1.0, 0.0]))
    centre = apply(pose, np.zeros((1, 3)))[0]
    image = render_drr(volume, view, table_from_ras=pose)
    truth = WATER * chord(view, centre, 22.0)
    assert np.abs(image - truth).mean() < 0.004 * truth.max()
    weight = image.ravel() / image.sum()
    pixels = np.column_stack([a.ravel() for a in np.meshgrid(*(np.arange(n) for n in view.size))])
    assert np.abs(weight @ pixels - view.project(centre[None])[0]).max() < 0.15


def test_box_straight_through():
    grid = Grid((20, 30, 40), np.array([[2.0, 0, 0, -39], [0, 2, 0, -29], [0, 0, 2, -19], [0, 0, 0, 1]]))
    volume = Volume(np.zeros(grid.shape, np.float32), grid)
    view = geometry_from_angles(0, 0, DETECTOR_MM, SOURCE_MM, 1.0, (5, 5))
    assert render_drr(volume, view)[2, 2] == pytest.approx(WATER * 60.0, rel=1e-3)
    side = geometry_from_angles(90, 0, DETECTOR_MM, SOURCE_MM, 1.0, (5, 5))
    assert render_drr(volume, side)[2, 2] == pytest.approx(WATER * 80.0, rel=1e-3)
    above = geometry_from_angles(0, 90, DETECTOR_MM, SOURCE_MM, 1.0, (5, 5))
    assert render_drr(volume, above)[2, 2] == pytest.approx(WATER * 40.0, rel=1e-3)


@pytest.mark.parametrize("toward_mm", [0.0, 100.0])
def test_magnification(toward_mm):
    """A small ball 40 mm beside the axis shows 40 * SDD / depth beside the image's centre."""
    grid = oblique((1.0, 1.0, 1.0), (40, 40, 40))
    view = geometry_from_angles(0, 0, DETECTOR_MM, SOURCE_MM, 1.0, (201, 201))
    pose = np.eye(4)
    pose[:3, 3] = [-40.0, -toward_mm, 0.0]
    image = render_drr(ball(grid, 8.0), view, table_from_ras=pose)
    columns = (image.sum(axis=0) @ np.arange(201)) / image.sum()
    assert columns - 100 == pytest.approx(40 * DETECTOR_MM / (SOURCE_MM - toward_mm), abs=0.25)


def test_hu_to_attenuation():
    hu = np.array([-2048, -1000, 0, 1660, np.nan, -500, 830], np.float32)
    assert attenuation(hu) == pytest.approx([0, 0, WATER, 0.0604, 0, WATER / 2, (WATER + 0.0604) / 2], rel=1e-5)


def test_pooling_keeps_the_integral():
    volume, view = ball(oblique(), 30.0), geometry()
    fine, coarse = render_drr(volume, view), render_drr(volume, view, spacing_mm=3.0)
    assert coarse.sum() == pytest.approx(fine.sum(), rel=5e-3)
    assert np.abs(coarse - fine).max() > 0


def test_derivatives_and_gradients_against_differences():
    import torch

    rng = np.random.default_rng(4)
    grid = oblique((2.0, 2.5, 2.0), (30, 34, 32))
    points = grid.all_points_ras()
    mu = sum(np.exp(-((points - c) ** 2).sum(-1) / (2 * 9.0**2)) for c in rng.uniform(-12, 12, (6, 3))) * 0.01
    volume = prepare_volume(mu, grid.ras_from_ijk, with_derivatives=True, step_mm=0.5)
    view, pivot = geometry(pixels=16, mm=7.0), np.array([3.0, -5.0, 8.0])
    source, away = pixel_rays(view)
    rays = torch.as_tensor(away, dtype=torch.float32)
    pose = step(np.array([3.0, -2.0, 5.0, 0.1, 0.05, -0.08]), np.zeros(3))
    analytic = derivatives(volume, source, rays, torch.as_tensor(pose, dtype=torch.float32)[None], pivot)[0, 1:]

    def total(values):
        return integrate(volume, source, rays, torch.as_tensor(step(values, pivot) @ pose,
                                                               dtype=torch.float32)[None])[0, 0]

    for axis in range(6):
        move = np.eye(6)[axis] * (0.5 if axis < 3 else 0.01)
        numeric = (total(move) - total(-move)) / (2 * move[axis])
        assert float((numeric - analytic[axis]).norm() / numeric.norm()) < 0.06
    matrix = torch.as_tensor(pose, dtype=torch.float32)[None].clone().requires_grad_()
    weights = torch.linspace(0, 1, len(away))
    (integrate(volume, source, rays, matrix)[0, 0] * weights).sum().backward()
    assert matrix.grad is not None
    for axis in range(3):
        scale = float((analytic[axis] * weights).abs().sum())
        assert float(matrix.grad[0, axis, 3]) == pytest.approx(float((analytic[axis] * weights).sum()),
                                                              abs=0.02 * scale)


def test_beside_the_volume_is_zero_and_behind_the_source_too():
    volume, view = ball(oblique(), 20.0), geometry(primary=0, secondary=0)
    for shift in ([900.0, 0, 0], [0, -1500.0, 0], [0, 600.0, 0]):
        pose = np.eye(4)
        pose[:3, 3] = shift
        assert not render_drr(volume, view, table_from_ras=pose).any()


@pytest.mark.parametrize("pose", [np.full((4, 4), np.nan), np.diag([2.0, 1, 1, 1]), np.eye(3), "no matrix",
                                  np.diag([-1.0, 1, 1, 1])])
def test_a_pose_that_is_not_rigid_is_refused(pose):
    with pytest.raises(InputError):
        render_drr(ball(oblique(), 20.0), geometry(), table_from_ras=pose)


def test_hostile_volumes():
    view = geometry()
    one = Grid((1, 32, 32), np.eye(4))
    with pytest.raises(InputError):
        render_drr(Volume(np.zeros(one.shape, np.int16), one), view)
    grid = oblique()
    holes = np.full(grid.shape, np.nan, np.float32)
    assert not render_drr(Volume(holes, grid), view).any()
    unsigned = Volume(np.full(grid.shape, 65535, np.uint16), grid)
    assert np.isfinite(render_drr(unsigned, view)).all()


def test_small_poses():
    pivot = np.array([10.0, -20.0, 30.0])
    move = step(np.array([0, 0, 0, 0.2, -0.1, 0.3]), pivot)
    assert apply(move, pivot[None])[0] == pytest.approx(pivot)
    assert np.linalg.det(move[:3, :3]) == pytest.approx(1)
    a, b = np.array([1.0, 2, 3]), np.array([-2.0, 0.5, 1])
    assert align(a, b) @ a / np.linalg.norm(a) == pytest.approx(b / np.linalg.norm(b))
    assert rotation(np.array([0, 0, np.pi / 2])) @ [1, 0, 0] == pytest.approx([0, 1, 0])
