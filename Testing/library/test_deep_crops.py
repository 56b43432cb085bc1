"""Crops and what augmentation does to them, against formulas."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.biopsy.deep import CropOptions, read_crop
from IRAILib.biopsy.deep.augment import augmented, ct_noise, ct_physics, moved, mr_physics
from IRAILib.biopsy.deep.crops import network_input
from IRAILib.geometry import EmptyMaskError, FrameMismatchError, Grid, InputError, Mask, Volume

OBLIQUE = np.array([[0.0, -0.8, 0.6], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])


def tissue(matrix: np.ndarray, shape: tuple[int, int, int], centre: np.ndarray, radius_mm: float
           ) -> tuple[Volume, Mask]:
    """A ramp along S with a ball, on any grid."""
    grid = Grid(shape, matrix)
    points = grid.all_points_ras()
    ball = np.linalg.norm(points - centre, axis=-1) <= radius_mm
    return Volume((10.0 * points[..., 2]).astype(np.float32), grid, metadata={"modality": "MR"}), Mask(ball, grid)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 2.5)])
@pytest.mark.parametrize("turn", [np.eye(3), OBLIQUE])
def test_a_crop_lies_in_the_patients_axes(spacing: tuple[float, float, float], turn: np.ndarray) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.array(spacing)
    shape = (int(80 / spacing[2]), 90, 90)
    middle = matrix[:3, :3] @ (np.array(shape[::-1]) / 2.0)
    image, mask = tissue(matrix, shape, middle, 9.0)
    crop = read_crop(image, mask, CropOptions(side_mm=32.0, pixels=16))
    assert np.abs(np.array(crop.centre_ras) - middle).max() < 0.6
    s = crop.centre_ras[2] + 2.0 * (np.arange(16) - 7.5)
    assert np.abs(crop.intensities.mean(axis=(1, 2)) - 10.0 * s).max() < 0.5, "the first axis must run along S"
    assert crop.intensities.std(axis=(1, 2)).max() < 0.5
    assert crop.inside.sum() * 8.0 == pytest.approx(4 / 3 * np.pi * 9.0 ** 3, rel=0.1)
    assert crop.cut < 0.05
    assert not crop.is_ct


def test_a_lesion_larger_than_the_cube_is_told() -> None:
    image, mask = tissue(np.eye(4), (80, 80, 80), np.full(3, 40.0), 30.0)
    crop = read_crop(image, mask, CropOptions(side_mm=32.0, pixels=16))
    assert crop.cut == pytest.approx(1.0 - 32.0 ** 3 / (4 / 3 * np.pi * 30.0 ** 3), abs=0.03)


def test_bad_input() -> None:
    image, mask = tissue(np.eye(4), (40, 40, 40), np.full(3, 20.0), 6.0)
    with pytest.raises(EmptyMaskError):
        read_crop(image, mask.with_array(np.zeros((40, 40, 40), bool)))
    other = Mask(mask.array, mask.grid, "m", "1.2.3")
    with pytest.raises(FrameMismatchError):
        read_crop(Volume(image.array, image.grid, "i", "1.2.4"), other)
    broken = image.array.copy()
    broken[20, 20, 20] = np.nan
    with pytest.raises(InputError, match="NaN"):
        read_crop(image.with_array(broken), mask)
    for wrong in ({"mode": "4d"}, {"pixels": 4}, {"side_mm": 0.0}, {"window": (3.0, 1.0)}):
        with pytest.raises(InputError):
            CropOptions(**wrong)
    assert CropOptions.from_dict(CropOptions(window=(0, 1)).to_dict()) == CropOptions(window=(0, 1))


def test_what_the_network_sees() -> None:
    image, mask = tissue(np.eye(4), (64, 64, 64), np.full(3, 32.0), 8.0)
    crop = read_crop(image, mask, CropOptions(side_mm=32.0, pixels=16))
    whole = network_input(crop.intensities, crop.inside, CropOptions(), False)
    assert whole.shape == (2, 16, 16, 16)
    assert whole.min() >= -1.0
    assert whole.max() <= 1.0
    planes = network_input(crop.intensities, crop.inside, CropOptions("2.5d"), False)
    assert planes.shape == (6, 16, 16)
    assert planes[0].std() < 0.05, "the axial plane of a ramp along S is flat"
    assert planes[2].std() > 0.3
    assert set(np.unique(planes[1::2])) == {-1.0, 1.0}


def test_moving_takes_image_and_mask_along() -> None:
    k, j, i = np.mgrid[:24, :24, :24]
    inside = (np.abs(k - 14) < 5) & (np.abs(j - 10) < 4) & (np.abs(i - 9) < 3)
    for seed in range(5):
        values, mask = moved(100.0 * inside, inside, np.random.default_rng(seed))
        assert ((values > 50.0) == mask).mean() > 0.99
        assert mask.sum() == pytest.approx(inside.sum(), rel=0.4)
        assert (mask != inside).any()


def test_noise_has_its_size_and_its_colour() -> None:
    noise = ct_noise((40, 64, 64), 20.0, np.random.default_rng(0))
    assert noise.std() == pytest.approx(20.0, rel=1e-5)
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    wanted = frequency * np.exp(-2.0 * (frequency / 0.35) ** 2)
    bands = [(frequency > low) & (frequency <= high) for low, high in ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.5))]
    share = [power[band].sum() / power.sum() for band in bands]
    assert np.allclose(share, [wanted[band].sum() / wanted.sum() for band in bands], atol=0.02)
    along = np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]
    assert abs(along) < 0.02


def test_physics_keeps_what_it_must() -> None:
    """Soft tissue keeps its HU on average, contrast changes by at most its share, air stays dark."""
    values = np.full((16, 16, 16), 40.0)
    values[6:10, 6:10, 6:10] = 240.0
    random = np.random.default_rng(3)
    drawn = [ct_physics(values, 2.0, random) for _ in range(60)]
    corner = np.array([d[:3].mean() for d in drawn])
    assert abs(corner.mean() - 40.0) < 2.0
    assert len({round(float(d[8, 8, 8]), 3) for d in drawn}) == 60
    assert mr_physics(np.random.default_rng(0).normal(500, 50, (16, 16, 16)), random).shape == (16, 16, 16)


def test_the_same_seed_gives_the_same_draw() -> None:
    image, mask = tissue(np.eye(4), (40, 40, 40), np.full(3, 20.0), 8.0)
    for is_ct in (True, False):
        one, two = (augmented(image.array, mask.array, 1.0, is_ct, np.random.default_rng(5)) for _ in range(2))
        assert np.array_equal(one[0], two[0])
        assert np.array_equal(one[1], two[1])
        assert np.isfinite(one[0]).all()
