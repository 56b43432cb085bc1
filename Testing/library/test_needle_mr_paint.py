"""The painter of voids against the published field of a cylinder, and against laws that follow from it."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import Grid, InputError, Volume
from IRAILib.needle.mr.field import infinite_cylinder_shift, rod_shift
from IRAILib.needle.mr.paint import PaintedVoid, Scan, paint_void_mr, paint_voids_mr

HZ_PER_PPM = 42.577 * 1.5
"""Protons at 1.5 T."""
METAL_PPM = 182.0 + 9.0


@pytest.mark.parametrize("theta_deg", [0.0, 25.0, 60.0, 90.0])
def test_a_long_rod_has_the_field_of_the_infinite_cylinder(theta_deg):
    """Haacke et al., Magnetic Resonance Imaging, chapter 25: X / 2 sin^2(theta) a^2 / r^2 cos(2 phi)."""
    theta = np.deg2rad(theta_deg)
    rod = np.array([np.sin(theta), 0.0, np.cos(theta)])
    in_plane = np.array([np.cos(theta), 0.0, -np.sin(theta)])
    azimuth = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    distance = np.linspace(1.0, 6.0, 24)
    across = distance[:, None] * (np.outer(np.cos(azimuth), in_plane) + np.outer(np.sin(azimuth), [0.0, 1.0, 0.0]))
    got = rod_shift(np.full(24, -5000.0), across, rod, radius_mm=0.6, length_mm=10000.0, susceptibility_ppm=METAL_PPM,
                    b0_axis=np.array([0.0, 0.0, 1.0]))
    wanted = infinite_cylinder_shift(0.6, distance, azimuth, theta, METAL_PPM)
    assert np.allclose(got, wanted, atol=1e-4)


def test_the_end_of_a_rod_along_b0_is_a_magnetic_charge():
    """A rod magnetised along itself has the field of the charge on its end: X a^2 / (4 w^2) on the axis."""
    ahead = np.array([2.0, 4.0, 8.0])
    got = rod_shift(ahead, np.zeros((3, 3)), np.array([0.0, 0.0, 1.0]), radius_mm=0.5, length_mm=1e5,
                    susceptibility_ppm=METAL_PPM, b0_axis=np.array([0.0, 0.0, 1.0]))
    assert np.allclose(got, METAL_PPM * 0.25 / (4.0 * ahead**2), rtol=0.08)


def test_the_rod_is_the_sum_of_its_dipoles():
    rng = np.random.default_rng(1)
    rod = np.array([0.6, 0.0, 0.8])
    points = rng.uniform(-8.0, 8.0, (40, 3))
    at = points @ rod
    across = points - np.outer(at, rod)
    keep = np.linalg.norm(across, axis=1) > 1.0
    z = np.array([0.0, 0.0, 1.0])
    got = rod_shift(at[keep], across[keep], rod, radius_mm=0.5, length_mm=30.0, susceptibility_ppm=100.0, b0_axis=z)
    s = -(np.arange(6000) + 0.5) * 30.0 / 6000
    r = points[keep][:, None] - s[None, :, None] * rod
    square = (r**2).sum(axis=2)
    dipoles = (3.0 * (r @ z) ** 2 - square) / square**2.5
    assert np.allclose(got, 100.0 * 0.25 / 4.0 * dipoles.sum(axis=1) * 30.0 / 6000, rtol=1e-3, atol=1e-4)


def _block(level=500.0, shape=(15, 41, 41), spacing=(1.0, 1.0, 1.0)) -> Volume:
    matrix = np.diag([*spacing, 1.0])
    return Volume(np.full(shape, level, np.float32), Grid(shape, matrix), "block")


def _area(plane: np.ndarray, level=500.0) -> float:
    return float(np.count_nonzero(plane < 0.5 * level))


def _painted(te_ms: float, direction=(0.0, 1.0, 0.0), bandwidth_hz=1e9, radius_mm=0.6) -> Volume:
    block = _block()
    direction = np.asarray(direction)
    centre = block.grid.centre_ras + [0.1, 0.0, 0.1]
    return paint_void_mr(block, centre + 200.0 * direction, direction, 400.0, radius_mm=radius_mm, noise_sigma=0.0,
                         scan=Scan(b0_t=1.5, te_ms=te_ms, bandwidth_hz=bandwidth_hz))


@pytest.mark.parametrize("te_ms", [3.0, 8.0])
def test_the_void_of_a_cylinder_across_b0_is_as_wide_as_its_field_makes_it(te_ms):
    """The plane across the needle, each voxel integrated here over 25 x 25 places with the textbook's formula."""
    plane = _painted(te_ms).array[:, 20, :]
    k, i = np.meshgrid(np.arange(15), np.arange(41), indexing="ij")
    fine = (np.arange(25) + 0.5) / 25 - 0.5
    z = (k[..., None, None] + fine[:, None]) - 7.1
    x = (i[..., None, None] + fine[None, :]) - 20.1
    r, azimuth = np.hypot(x, z), np.arctan2(x, z)
    hertz = HZ_PER_PPM * infinite_cylinder_shift(0.6, np.maximum(r, 0.6), azimuth, np.pi / 2, METAL_PPM)
    signal = np.where(r < 0.6, 0.0, np.exp(2j * np.pi * hertz * te_ms * 1e-3))
    wanted = 500.0 * np.abs(signal.mean(axis=(2, 3)))
    width, expected = 2 * np.sqrt(_area(plane) / np.pi), 2 * np.sqrt(_area(wanted) / np.pi)
    assert expected > 3.0
    assert abs(width - expected) < 0.5
    assert np.mean(np.abs(plane - wanted)) < 0.03 * 500.0


def test_void_width_follows_the_cube_root_of_echo_time():
    """Signal goes where phase turns about once within a voxel: X a^2 TE d / r^3 is constant, so r goes as TE^(1/3)."""
    areas = [_area(_painted(te).array[:, 20, :]) for te in (2.0, 16.0)]
    assert np.sqrt(areas[1] / areas[0]) == pytest.approx(2.0, abs=0.35)


def test_along_b0_only_the_metal_itself_is_missing():
    block = _block(shape=(15, 21, 21))
    needle = PaintedVoid(block.grid.centre_ras + [0.0, 0.0, 300.0], np.array([0.0, 0.0, 1.0]), 600.0, 0.7)
    lost = (1.0 - paint_voids_mr(block, [needle], noise_sigma=0.0).array[7] / 500.0).sum()
    assert lost == pytest.approx(np.pi * 0.7**2, rel=0.12)


def test_a_spin_echo_moves_signal_and_loses_none_but_the_metal():
    block = _block(shape=(7, 41, 61))
    needle = PaintedVoid(block.grid.centre_ras + [0.0, 300.0, 0.0], np.array([0.0, 1.0, 0.0]), 600.0, 0.5)
    painted = paint_voids_mr(block, [needle], scan=Scan(spin_echo=True, bandwidth_hz=2000.0), noise_sigma=0.0).array
    assert painted.max() > 1.15 * 500.0
    lost = (500.0 - painted[3, 20]).sum() / 500.0 + (500.0 - painted[[1, 2, 4, 5], 20]).sum() / 500.0
    assert lost == pytest.approx(np.pi * 0.25, abs=0.6)


def test_painting_repeats_itself_and_leaves_the_rest_alone():
    block = _block(shape=(11, 61, 61), spacing=(1.0, 1.0, 3.0))
    first, second = (paint_void_mr(block, [30.0, 30.0, 15.0], [1.0, 0.2, 0.1], 40.0, seed=4) for _ in range(2))
    assert np.array_equal(first.array, second.array)
    assert not np.array_equal(first.array, block.array)
    assert np.array_equal(first.array[:, 50:], block.array[:, 50:])
    assert paint_voids_mr(block, []).array.tolist() == block.array.tolist()


def test_needles_and_scans_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="length"):
        PaintedVoid(np.zeros(3), np.array([1.0, 0.0, 0.0]), length_mm=0.0)
    with pytest.raises(InputError, match="zero"):
        PaintedVoid(np.zeros(3), np.zeros(3))
    with pytest.raises(InputError, match="B0"):
        Scan(b0_t=0.0)
