"""Filters against closed forms; Testing/peers holds them to mirp and to the IBSI-2 consensus."""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
import pytest
from IRAILib.biopsy.radiomics.filters import all_wavelets, apply_filter, check_spec, filter_prefix, filter_reach_kji
from IRAILib.biopsy.radiomics.filters.convolve import orientations
from IRAILib.geometry import (
    CancelledError,
    EmptyMaskError,
    FrameMismatchError,
    Grid,
    InputError,
    Mask,
    MissingPackageError,
    Volume,
)


def volume(array: np.ndarray, spacing_ijk=(1.0, 1.0, 1.0)) -> Volume:
    return Volume(array, Grid(array.shape, np.diag([*spacing_ijk, 1.0])), "image")


def noise(shape=(12, 14, 16), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_log_of_an_impulse_is_its_formula() -> None:
    array = np.zeros((33, 33, 33))
    array[16, 16, 16] = 1.0
    sigma = 2.0
    response = apply_filter(volume(array), {"type": "log", "sigma_mm": sigma}).array
    k, j, i = np.indices(array.shape) - 16
    squared = k ** 2 + j ** 2 + i ** 2
    formula = ((squared / sigma ** 2 - 3) / sigma ** 2 * np.exp(-squared / (2 * sigma ** 2))
               / (2 * np.pi * sigma ** 2) ** 1.5)
    inside = np.abs([k, j, i]).max(axis=0) <= 8
    np.testing.assert_allclose(response[inside], formula[inside], atol=1e-12)
    assert not response[~inside].any()


@pytest.mark.parametrize("by_slice", [False, True])
def test_log_of_a_wave_is_its_gain(by_slice: bool) -> None:
    """A plane wave comes back times -w^2 exp(-w^2 sigma^2 / 2); oblique in space, along the slice in 2D."""
    sigma, shape = 3.0, (24, 24, 24)
    k, j, i = np.indices(shape)
    wk, wj, wi = (0.0 if by_slice else 2 * np.pi / 24), 2 * np.pi * 2 / 24, 2 * np.pi / 24
    wave = np.cos(wk * k + wj * j + wi * i)
    spec = {"type": "log", "sigma_mm": sigma, "boundary": "periodic", "truncate": 6.0, "by_slice": by_slice}
    squared = wk ** 2 + wj ** 2 + wi ** 2
    response = apply_filter(volume(wave), spec).array
    np.testing.assert_allclose(response, -squared * np.exp(-0.5 * squared * sigma ** 2) * wave, atol=1e-7)


def test_log_in_mm_does_not_depend_on_the_voxels_shape() -> None:
    """A Gaussian blob of sd s under a LoG of sigma: the formula with s^2 + sigma^2, on 1 x 1 x 2 mm voxels."""
    blob, sigma = 4.0, 3.0
    grid = Grid((31, 61, 61), np.diag([1.0, 1.0, 2.0, 1.0]))
    squared = np.square(grid.all_points_ras() - grid.centre_ras).sum(axis=-1)
    image = Volume(np.exp(-squared / (2 * blob ** 2)), grid)
    response = apply_filter(image, {"type": "log", "sigma_mm": sigma, "truncate": 5.0}).array
    total = blob ** 2 + sigma ** 2
    formula = (blob ** 2 / total) ** 1.5 * (squared / total - 3) / total * np.exp(-squared / (2 * total))
    voxel_mm = 2.0 ** (1 / 3)
    np.testing.assert_allclose(response, formula * voxel_mm ** 2, atol=2e-4 * np.abs(formula).max())


def test_gabor_of_its_own_wave_is_the_gaussians_area() -> None:
    """|response| = amplitude / 2 * 2 pi sigma^2 / aspect; across the wave it is next to nothing."""
    sigma, wavelength, aspect = 4.0, 5.0, 1.5
    j, i = np.indices((80, 80))
    for angle in (0.0, 30.0, 90.0):
        turn = np.deg2rad(angle)
        wave = 10.0 * np.cos(2 * np.pi / wavelength * (np.cos(turn) * i + np.sin(turn) * j))
        spec = {"type": "gabor", "sigma_mm": sigma, "wavelength_mm": wavelength, "aspect": aspect, "by_slice": True}
        image = volume(wave[None])
        along = apply_filter(image, {**spec, "angle_deg": angle}).array[0, 40, 40]
        across = apply_filter(image, {**spec, "angle_deg": angle + 90}).array[0, 40, 40]
        assert along == pytest.approx(5.0 * 2 * np.pi * sigma ** 2 / aspect, rel=1e-3)
        assert across < 0.01 * along


def test_gabor_by_plane_is_the_mean_of_the_three_planes() -> None:
    array = noise((20, 20, 20))
    spec = {"type": "gabor", "sigma_mm": 2.0, "wavelength_mm": 3.0, "rotation_step_deg": 45, "boundary": "constant"}
    planes = []
    for axis in range(3):
        turned = np.moveaxis(array, axis, 0)
        flat = apply_filter(volume(turned), {**spec, "by_slice": True}).array
        planes.append(np.moveaxis(flat, 0, axis))
    np.testing.assert_allclose(apply_filter(volume(array), spec).array, np.mean(planes, axis=0), atol=1e-9)


def test_laws_on_a_ramp_is_its_slope() -> None:
    """Convolved with slope 1 along x: E5 gives 8 / sqrt(10), each L5 16 / sqrt(70); the energy is its magnitude."""
    ramp = np.broadcast_to(np.arange(24.0), (24, 24, 24))
    spec = {"type": "laws", "kernels": "E5L5L5", "rotation_invariance": False, "energy_distance": None}
    inner = (slice(8, -8),) * 3
    value = 8 / np.sqrt(10) * 16 ** 2 / 70
    response = apply_filter(volume(ramp), spec).array[inner]
    np.testing.assert_allclose(np.abs(response), value, rtol=1e-12)
    assert (response < 0).all()
    np.testing.assert_allclose(apply_filter(volume(ramp), {**spec, "energy_distance": 3}).array[inner], value)
    turned = apply_filter(volume(ramp), {**spec, "rotation_invariance": True}).array[inner]
    np.testing.assert_allclose(turned, value)
    np.testing.assert_allclose(apply_filter(volume(np.full((9, 9, 9), 7.0)), spec).array, 0.0, atol=1e-12)


@pytest.mark.parametrize(("wavelet", "level"), [("haar", 1), ("db3", 1), ("coif1", 2), ("sym4", 1)])
def test_all_bands_of_an_undecimated_wavelet_hold_the_energy(wavelet: str, level: int) -> None:
    """|L|^2 + |H|^2 = 2 at every frequency, so the 8 bands hold 8 times the energy of what comes into the level."""
    array = noise((16, 16, 16))
    bands = [apply_filter(volume(array), {**spec, "boundary": "periodic"}).array
             for spec in all_wavelets(wavelet, level)]
    before = array if level == 1 else apply_filter(volume(array), {
        "type": "wavelet", "wavelet": wavelet, "filters": "LLL", "level": level - 1, "boundary": "periodic",
        "rotation_invariance": False}).array
    assert len(bands) == 8
    assert sum(np.square(band).sum() for band in bands) == pytest.approx(8 * np.square(before).sum(), rel=1e-9)


def test_wavelet_of_a_constant_keeps_low_pass_only() -> None:
    for spec in all_wavelets("db2"):
        response = apply_filter(volume(np.full((8, 8, 8), 3.0)), spec).array
        np.testing.assert_allclose(response, 3.0 * 2 ** 1.5 if spec["filters"] == "LLL" else 0.0, atol=1e-9)


@pytest.mark.parametrize("spec", [
    {"type": "wavelet", "wavelet": "db2", "filters": "LHL", "level": 2}, {"type": "laws", "kernels": "E5W5R5"},
    {"type": "laws", "kernels": "L3S5E3", "pooling": "min", "energy_distance": None}])
def test_a_turned_image_has_a_turned_response(spec) -> None:
    array = noise((15, 15, 15))
    straight = apply_filter(volume(array), spec).array
    for axes in ((0, 1), (1, 2), (0, 2)):
        turned = apply_filter(volume(np.rot90(array, axes=axes).copy()), spec).array
        np.testing.assert_allclose(turned, np.rot90(straight, axes=axes), atol=1e-10)


@pytest.mark.parametrize(("axes", "count"), [(3, 24), (2, 4)])
def test_orientations_are_the_proper_turns(axes: int, count: int) -> None:
    matrices = {tuple(np.round(np.diag(signs) @ np.eye(axes)[list(order)]).astype(int).ravel())
                for order, signs in orientations(axes)}
    assert len(matrices) == count
    assert tuple(np.eye(axes, dtype=int).ravel()) in matrices
    assert all(np.linalg.det(np.reshape(one, (axes, axes))) == pytest.approx(1.0) for one in matrices)


def test_simoncelli_passes_half_its_frequency_and_stops_at_the_ends() -> None:
    """65 samples: their frequencies lie on the grid of the gain. 16 of 32 passes as it is, 8 and 32 don't."""
    i = np.arange(65)
    for count, gain in ((16, 1.0), (8, 0.0), (32, 0.0), (12, np.cos(np.pi / 2 * np.log2(12 / 16)))):
        wave = np.broadcast_to(np.cos(2 * np.pi * count * i / 65), (5, 5, 65))
        response = apply_filter(volume(wave), {"type": "simoncelli", "level": 1, "boundary": "periodic"}).array
        np.testing.assert_allclose(response, gain * wave, atol=1e-9)


def test_boundaries_by_hand() -> None:
    line = np.array([1.0, 2.0, 3.0, 4.0])[None, None, :]
    ends = {"constant": (1.0, 7 / 3), "nearest": (4 / 3, 11 / 3), "mirror": (4 / 3, 11 / 3), "periodic": (7 / 3, 8 / 3)}
    for boundary, (first, last) in ends.items():
        response = apply_filter(volume(np.repeat(line, 3, axis=1)), {
            "type": "mean", "support": 3, "boundary": boundary, "by_slice": True}).array[0, 1]
        assert response[[0, -1]] == pytest.approx([first, last])
    five = {"type": "mean", "support": 5, "by_slice": True}
    wide = apply_filter(volume(np.repeat(line, 5, axis=1)), five).array
    assert wide[0, 2, 0] == pytest.approx((2 + 1 + 1 + 2 + 3) / 5)  # mirror repeats the outermost voxel


SPECS = [{"type": "mean"}, {"type": "log", "sigma_mm": 1.5}, {"type": "laws", "kernels": "L5E5S5"},
         {"type": "gabor", "sigma_mm": 1.5, "wavelength_mm": 2.0, "rotation_step_deg": 90},
         {"type": "wavelet", "wavelet": "db2", "filters": "LLH", "level": 2}, {"type": "simoncelli"}]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["type"])
@pytest.mark.parametrize("boundary", ["mirror", "constant", "periodic"])
def test_within_a_mask_the_response_is_that_of_the_whole_image(spec, boundary: str) -> None:
    image = volume(noise((30, 32, 28)))
    inside = np.zeros(image.array.shape, bool)
    inside[3:6, 20:24, 12:14] = True
    spec = {**spec, "boundary": boundary}
    whole, part = apply_filter(image, spec), apply_filter(image, spec, within=Mask(inside, image.grid))
    np.testing.assert_allclose(part.array[inside], whole.array[inside], atol=1e-9)
    assert np.isnan(part.array[-1]).all()
    assert whole.metadata["filter"]["boundary"] == boundary
    assert (filter_reach_kji(spec, image.grid.spacing_kji_mm, image.array.shape) >= 0).all()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["type"])
@pytest.mark.parametrize("shape", [(1, 9, 9), (5, 4, 3), (1, 1, 1)])
def test_small_images_of_any_number_type_are_filtered(spec, shape) -> None:
    whole = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    response = apply_filter(volume(whole), spec).array
    assert response.shape == shape
    assert np.isfinite(response).all()
    np.testing.assert_array_equal(response, apply_filter(volume(whole.astype(float)), spec).array)
    assert whole.dtype == np.uint16


def test_cubic_voxels_are_asked_for_except_by_log() -> None:
    image = volume(noise(), (1.0, 1.0, 3.0))
    for spec in SPECS:
        if spec["type"] == "log":
            apply_filter(image, spec)
            continue
        with pytest.raises(InputError, match=r"cubic voxels, these are 1 x 1 x 3 mm; set spacing_mm"):
            apply_filter(image, spec)
    apply_filter(image, {"type": "mean", "by_slice": True})
    with pytest.raises(InputError, match="square pixels"):
        apply_filter(volume(noise(), (1.0, 2.0, 3.0)), {"type": "simoncelli", "by_slice": True})


def test_images_that_cannot_be_filtered_are_named() -> None:
    bad = noise()
    bad[2, 2, 2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        apply_filter(volume(bad), SPECS[0])
    image = volume(noise())
    with pytest.raises(EmptyMaskError):
        apply_filter(image, SPECS[0], within=Mask(np.zeros(image.array.shape, bool), image.grid))
    elsewhere = Grid(image.array.shape, np.diag([1.0, 1.0, 2.0, 1.0]))
    with pytest.raises(FrameMismatchError, match="resample"):
        apply_filter(image, SPECS[0], within=Mask(np.ones(image.array.shape, bool), elsewhere))
    for spec in SPECS[2:5]:
        with pytest.raises(CancelledError):
            apply_filter(image, spec, cancelled=lambda: True)


@pytest.mark.parametrize(("spec", "says"), [
    ({}, "type"), ("log", "type"), ({"type": "sobel"}, "known are mean, log"),
    ({"type": "log"}, "sigma_mm"), ({"type": "log", "sigma_mm": -1}, "sigma_mm"),
    ({"type": "log", "sigma_mm": float("nan")}, "sigma_mm"), ({"type": "log", "sigma_mm": True}, "sigma_mm"),
    ({"type": "log", "sigma_mm": "2"}, "sigma_mm"), ({"type": "log", "sigma": 2}, "unknown setting 'sigma'"),
    ({"type": "mean", "support": 4}, "odd"), ({"type": "mean", "support": 2.5}, "whole"),
    ({"type": "mean", "boundary": "wrap"}, "boundary"), ({"type": "mean", "by_slice": 1}, "by_slice"),
    ({"type": "laws", "kernels": "L5E5"}, "3 of"), ({"type": "laws", "kernels": "L5E5X5"}, "3 of"),
    ({"type": "laws", "kernels": "L5E5E5", "by_slice": True}, "2 of"),
    ({"type": "gabor", "sigma_mm": 2, "wavelength_mm": 0}, "wavelength_mm"),
    ({"type": "gabor", "sigma_mm": 2, "wavelength_mm": 2, "rotation_step_deg": 50}, "divide 360"),
    ({"type": "gabor", "sigma_mm": 2, "wavelength_mm": 2, "by_slice": True, "orthogonal_planes": True}, "exclude"),
    ({"type": "wavelet", "wavelet": "db3", "filters": "LL"}, "3 of L and H"),
    ({"type": "wavelet", "wavelet": "bior1.3", "filters": "LLL"}, "haar, dbN"),
    ({"type": "wavelet", "wavelet": "db3", "filters": "LLL", "level": 0}, "level"),
    ({"type": "simoncelli", "level": 99}, "level"),
    ({"type": "laws", "kernels": "L5E5E5", "pooling": "sum"}, "pooling"),
])
def test_a_wrong_specification_is_one_clear_line(spec, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        check_spec(spec)
    assert "\n" not in str(caught.value)


def test_a_wavelet_that_does_not_exist_and_a_missing_package(monkeypatch) -> None:
    spec = {"type": "wavelet", "wavelet": "db999", "filters": "LLL"}
    with pytest.raises(InputError, match="db999"):
        apply_filter(volume(noise()), spec)
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(MissingPackageError, match="pip install PyWavelets"):
        apply_filter(volume(noise()), spec)


def test_different_filters_have_different_names() -> None:
    assert filter_prefix({"type": "log", "sigma_mm": 2}) == "log_sigma2mm"
    assert filter_prefix({"type": "log", "sigma_mm": 2.0, "boundary": "mirror"}) == "log_sigma2mm"
    specs = [dict(zip(("type", "sigma_mm", "by_slice", "truncate", "boundary"), ("log", *rest), strict=True))
             for rest in product((1, 1.5), (False, True), (3, 4), ("mirror", "nearest"))]
    gabor = {"type": "gabor", "sigma_mm": 5}
    specs += [{**gabor, "wavelength_mm": w, "aspect": a, "rotation_step_deg": s, "response": r, "angle_deg": g}
              for w, a, s, r, g in product((2, 3), (1, 1.5), (None, 45), ("modulus", "real"), (0, 30))]
    specs += [{"type": "laws", "kernels": k, "energy_distance": e, "rotation_invariance": t, "pooling": "mean"}
              for k, e, t in product(("L5E5E5", "E5L5E5"), (None, 0, 7), (False, True))]
    specs += [*all_wavelets("db3"), *all_wavelets("db3", 2), *all_wavelets("haar", by_slice=True)]
    specs += [{"type": "simoncelli", "level": n} for n in (1, 2)] + [{"type": "mean", "support": n} for n in (3, 5)]
    names = [filter_prefix(spec) for spec in specs]
    assert len(set(names)) == len(specs)
    assert not any("__" in name or " " in name for name in names)
    assert check_spec(check_spec(specs[0])) == check_spec(specs[0])
