"""The truth of simulated cases: motion, shapes and margins against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.ablation.breathing import (
    JACOBIAN_RANGE,
    Contraction,
    Motion,
    MotionTransform,
    breathing_motion,
    rigid_about,
)
from IRAILib.ablation.shapes import Zone, margins_mm, sphere_directions, star_shape
from IRAILib.geometry import Grid, InputError, Mask


def ball_organ(radius_mm: float = 70.0) -> Mask:
    matrix = np.diag([-4.0, -4.0, 4.0, 1.0])
    matrix[:3, 3] = [100.0, 100.0, -100.0]
    grid = Grid((50, 50, 50), matrix)
    return Mask(np.linalg.norm(grid.all_points_ras(), axis=-1) < radius_mm, grid, "ball")


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("breath", [4.0, 20.0])
def test_breath_is_as_large_and_as_gentle_as_stated(seed, breath):
    organ = ball_organ()
    motion = breathing_motion(organ, np.random.default_rng(seed), breath)
    inside = organ.grid.points_ras(np.argwhere(organ.array)[::3])
    moved = motion.breathing_mm(inside)
    assert np.linalg.norm(moved, axis=1).max() == pytest.approx(breath, rel=0.05)
    assert np.abs(moved[:, 2]).mean() > 2.0 * np.abs(moved[:, :2]).mean()
    around = np.random.default_rng(9).uniform(-120.0, 120.0, (20000, 3))
    jacobian = motion.breathing_jacobian(around)
    assert jacobian.min() >= JACOBIAN_RANGE[0]
    assert jacobian.max() <= JACOBIAN_RANGE[1]


def test_jacobian_is_the_derivative_of_the_breath():
    motion = breathing_motion(ball_organ(), np.random.default_rng(4), 15.0)
    points = np.random.default_rng(5).uniform(-80.0, 80.0, (200, 3))
    step = 1e-3
    columns = [(motion.breathing_mm(points + step * e) - motion.breathing_mm(points - step * e)) / (2 * step)
               for e in np.eye(3)]
    expected = np.linalg.det(np.stack(columns, axis=2) + np.eye(3))
    np.testing.assert_allclose(motion.breathing_jacobian(points), expected, atol=1e-6)


@pytest.mark.parametrize("breath", [-1.0, 20.5])
def test_too_large_a_breath_is_an_error(breath):
    with pytest.raises(InputError, match="choose 0 to 20"):
        breathing_motion(ball_organ(), np.random.default_rng(1), breath)


def test_contraction_shrinks_the_zone_and_keeps_the_volume_around():
    contraction = Contraction(np.array([5.0, -3.0, 8.0]), 15.0, 0.1)
    directions = sphere_directions(500)
    inner = contraction.undo(contraction.centre_ras + 3.0 * directions) - contraction.centre_ras
    np.testing.assert_allclose(np.linalg.norm(inner, axis=1), 3.0 / 0.9, rtol=1e-4)
    shells = [np.linalg.norm(contraction.undo(contraction.centre_ras + r * directions) - contraction.centre_ras,
                             axis=1).mean() for r in (40.0, 50.0)]
    assert shells[1] ** 3 - shells[0] ** 3 == pytest.approx(50.0**3 - 40.0**3, rel=0.01)


def test_motion_goes_there_and_back_and_fits_its_grid():
    organ = ball_organ()
    motion = breathing_motion(organ, np.random.default_rng(6), 18.0)
    motion = Motion(motion.lying, motion.centres_ras, motion.widths_mm, motion.pulls_mm,
                    Contraction(np.array([10.0, 0.0, 0.0]), 16.0, 0.12))
    points = np.random.default_rng(7).uniform(-60.0, 60.0, (500, 3))
    np.testing.assert_allclose(motion.pre_from_post(motion.post_from_pre(points)), points, atol=1e-4)
    grid = organ.grid.resampled_grid(3.0)
    on_grid = motion.grid_transform(grid)
    assert (on_grid.to_frame, on_grid.from_frame) == ("pre", "post")
    assert np.linalg.norm(on_grid.apply(points) - motion.pre_from_post(points), axis=1).max() < 0.1
    forward = MotionTransform(motion, grid, forward=True)
    np.testing.assert_allclose(forward.inverse_apply(forward.apply(points)), points, atol=1e-4)
    lps = np.array([-1.0, -1.0, 1.0])
    sampled = np.array(forward.to_sitk().TransformPoint((points[0] * lps).tolist())) * lps
    assert np.linalg.norm(sampled - forward.apply(points[:1])[0]) < 0.1


def test_volume_ratio_is_that_of_the_contraction():
    centre = np.array([0.0, 5.0, -5.0])
    still = Motion(np.eye(4), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)), Contraction(centre, 20.0, 0.1))
    np.testing.assert_allclose(still.volume_ratio(centre + 4.0 * sphere_directions(20)), 0.9**3, rtol=0.01)
    np.testing.assert_allclose(still.volume_ratio(centre + 60.0 * sphere_directions(20)), 1.0, rtol=0.01)


def test_rigid_part_turns_about_its_centre():
    centre = np.array([10.0, -20.0, 30.0])
    matrix = rigid_about(centre, np.array([3.0, -2.0, 1.0]), np.array([4.0, 5.0, 6.0]))
    np.testing.assert_allclose(matrix[:3, :3] @ centre + matrix[:3, 3], centre + [4.0, 5.0, 6.0])
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0)


@pytest.mark.parametrize(("offset", "inner", "outer"), [(0.0, 10.0, 15.0), (3.0, 10.0, 15.0), (6.0, 8.0, 12.0)])
def test_margin_of_spheres_is_exact(offset, inner, outer):
    rng = np.random.default_rng(1)
    tumor = star_shape(rng, np.array([offset, 0.0, 0.0]), inner)
    zone = Zone(star_shape(rng, np.zeros(3), outer))
    margins = margins_mm(tumor.surface_points(5000), zone)
    assert margins.min() == pytest.approx(outer - inner - offset, abs=0.01)
    assert margins.max() == pytest.approx(outer - inner + offset, abs=0.01)


def test_margin_to_an_ellipsoid_is_exact_on_its_axes():
    zone = Zone(star_shape(np.random.default_rng(2), np.array([1.0, 2.0, 3.0]), 12.0, elongation=0.3,
                           axis=np.array([1.0, 1.0, 0.0])))
    short, long = zone.star.radii_mm.min(), zone.star.radii_mm.max()
    axis = np.array([1.0, 1.0, 0.0]) / np.sqrt(2.0)
    points = zone.star.centre_ras + np.array([axis * (long + 2.0), axis * (long - 1.0), [0.0, 0.0, short + 5.0]])
    np.testing.assert_allclose(margins_mm(points, zone), [-2.0, 1.0, -5.0], atol=0.01)


def test_zone_is_cut_at_the_organ():
    def beyond_plane(points):
        return points[:, 0] - 6.0

    star = star_shape(np.random.default_rng(3), np.zeros(3), 10.0)
    zone = Zone(star, beyond_plane)
    points = np.array([[4.0, 0.0, 0.0], [8.0, 0.0, 0.0], [0.0, 7.0, 0.0], [8.0, 8.0, 0.0]])
    edge = np.hypot(8.0 - 6.0, 0.0)
    np.testing.assert_allclose(margins_mm(points, zone)[:3], [2.0, -edge, 3.0], atol=0.03)
    assert margins_mm(points[3:], zone)[0] == pytest.approx(-2.0, abs=0.03)
    surface, normals = zone.surface(20000)
    assert surface[:, 0].max() < 6.1
    flat = np.abs(surface[:, 0] - 6.0) < 1e-3
    assert (normals[flat][:, 0] > 0.999).mean() > 0.99


def test_shapes_are_as_large_as_asked_and_closed():
    rng = np.random.default_rng(8)
    shape = star_shape(rng, np.array([1.0, 1.0, 1.0]), 9.0, elongation=0.2, roughness=0.15)
    shape = shape.scaled(9.0 / shape.mean_radius_mm)
    lattice = rng.uniform(-16.0, 16.0, (400000, 3)) + 1.0
    volume = (shape.level(lattice) < 0.0).mean() * 32.0**3
    assert volume == pytest.approx(4.0 / 3.0 * np.pi * 9.0**3, rel=0.02)
    assert np.abs(shape.level(shape.surface_points(3000))).max() < 1e-9
