"""The painter: what it adds weighs what metal weighs, and its artefacts have the signs that physics gives them."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import Grid, InputError, Volume
from IRAILib.needle.paint_ct import PaintedNeedle, paint_needle_ct, paint_needles_ct, scan_psf_mm
from needle_ct_cases import water_phantom


def flat(shape=(24, 90, 90), spacing=(0.9, 0.9, 2.0)) -> Volume:
    y, x = np.mgrid[:shape[1], :shape[2]]
    disk = np.where(np.hypot(x - 44.5, y - 44.5) < 40.0, 0.0, -1000.0)
    return Volume(np.repeat(disk[None], shape[0], 0).astype(np.float32), Grid(shape, np.diag([*spacing, 1.0])))


def test_metal_weighs_its_volume():
    volume = flat()
    needle = PaintedNeedle(np.array([52.0, 41.0, 25.0]), np.array([1.0, 0.3, 0.4]), 30.0, 0.7, material="titanium")
    added = paint_needles_ct(volume, [needle], psf_mm=0.8, streaks=False, clip_hu=1e9).array - volume.array
    mixed = np.array([0.45, 0.55])
    hu = 1000.0 * (mixed @ [0.5472, 0.1827] / (mixed @ [0.02269, 0.01837]) - 1.0)
    assert added.sum() * 0.9 * 0.9 * 2.0 == pytest.approx(np.pi * 0.7**2 * 30.0 * hu, rel=0.02)
    centre = (added[..., None] * volume.grid.all_points_ras()).sum(axis=(0, 1, 2)) / added.sum()
    np.testing.assert_allclose(centre, needle.curve(3)[1], atol=0.1)


def test_dark_between_two_needles_and_bright_beside():
    volume = flat()
    z = np.array([0.0, 0.0, 1.0])
    pair = [PaintedNeedle(np.array([x, 40.0, 40.0]), z, 34.0, 1.0) for x in (30.0, 50.0)]
    change = paint_needles_ct(volume, pair, noise=False).array - volume.array
    between = change[10, 44, 40:48].mean()
    beside = change[10, 50:54, 42:47].mean()
    assert between < -60.0
    assert between < beside - 60.0
    thinner = [PaintedNeedle(n.tip, z, 34.0, 0.4, material="titanium") for n in pair]
    assert between < 3.0 * (paint_needles_ct(volume, thinner, noise=False).array - volume.array)[10, 44, 40:48].mean()


def test_noise_is_repeatable_and_slices_without_metal_stay():
    volume = flat()
    args = (volume, np.array([40.0, 40.0, 20.0]), np.array([1.0, 0.2, 0.0]), 30.0, 1.0)
    one, same, other = (paint_needle_ct(*args, seed=s).array for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1.0
    np.testing.assert_array_equal(one[0], volume.array[0])
    assert one.max() <= 3071.0


def test_width_of_the_blur_is_measured():
    assert scan_psf_mm(water_phantom(noise_hu=2.0, ribs=False)) == pytest.approx(0.75, rel=0.2)


def test_truth_of_a_bent_needle():
    needle = PaintedNeedle(np.zeros(3), np.array([1.0, 0, 0]), 100.0, bend_mm=5.0, bend_direction=np.array([0, 1.0, 0]))
    curve = needle.curve(101)
    assert curve[50, 1] == pytest.approx(5.0)
    assert curve[0, 1] == pytest.approx(0.0)
    step = curve[-1] - curve[-2]
    assert np.degrees(np.arccos(step @ needle.tip_direction() / np.linalg.norm(step))) < 0.2


def test_impossible_needles():
    for options in ({"length_mm": 0.0}, {"radius_mm": -1.0}, {"material": "wood"}, {"cone_mm": 500.0}):
        with pytest.raises(InputError):
            PaintedNeedle(np.zeros(3), np.array([1.0, 0, 0]), **options)
    volume = flat()
    np.testing.assert_array_equal(paint_needles_ct(volume, []).array, volume.array)
