"""Statistics, histogram, IVH, local peak, grey levels and interpolation against hand-worked and plain numpy truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from IRAILib.biopsy.radiomics.discretise import levels_of
from IRAILib.biopsy.radiomics.histogram import histogram
from IRAILib.biopsy.radiomics.interpolate import axes_for, interpolate
from IRAILib.biopsy.radiomics.ivh import ivh_features
from IRAILib.biopsy.radiomics.local_intensity import sphere_means
from IRAILib.biopsy.radiomics.statistics import statistics
from IRAILib.geometry import InputError, RefusedError
from scipy import ndimage, stats

FIVE = np.array([1.0, 2.0, 2.0, 3.0, 12.0])


def test_statistics_by_hand():
    found = statistics(FIVE)
    hand = {"mean": 4.0, "var": 16.4, "median": 2.0, "min": 1.0, "max": 12.0, "range": 11.0, "iqr": 1.0, "mad": 3.2,
            "medad": 2.4, "energy": 162.0, "rms": math.sqrt(32.4), "cov": math.sqrt(16.4) / 4.0, "qcod": 0.2,
            "p10": 1.4, "p90": 8.4, "rmad": 4.0 / 9.0}
    for name, value in hand.items():
        assert found[f"stat_{name}"] == pytest.approx(value), name
    assert found["stat_skew"] == pytest.approx(stats.skew(FIVE))
    assert found["stat_kurt"] == pytest.approx(stats.kurtosis(FIVE))


@hypothesis_settings(deadline=None, max_examples=60)
@given(arrays(np.int16, st.integers(1, 60), elements=st.integers(-2000, 3000)), st.integers(-500, 500))
def test_statistics_of_any_numbers_are_finite_or_explained_and_shift_as_they_should(values, shift):
    first, second = statistics(values), statistics(values.astype(float) + shift)
    assert len(first) == 18
    for value in first.values():
        assert isinstance(value, str) or math.isfinite(value)
    for name in ("var", "range", "iqr", "mad", "medad"):
        assert second[f"stat_{name}"] == pytest.approx(first[f"stat_{name}"], abs=1e-6)
    assert second["stat_mean"] == pytest.approx(float(first["stat_mean"]) + shift, abs=1e-6)


def test_equal_intensities_have_no_skewness():
    found = statistics(np.full(7, 4, np.uint8))
    assert found["stat_var"] == 0.0
    assert isinstance(found["stat_skew"], str)
    assert found["stat_energy"] == 112.0  # uint8 would have wrapped


def test_histogram_by_hand():
    found = histogram(np.array([1, 1, 2, 4, 4, 4]), 4)
    assert found["ih_mode"] == 4.0
    share = np.array([2, 1, 3]) / 6.0
    assert found["ih_entropy"] == pytest.approx(-(share * np.log2(share)).sum())
    assert found["ih_uniformity"] == pytest.approx((share**2).sum())
    # counts 2 1 0 3: slopes -1 -1 1 3
    assert (found["ih_max_grad"], found["ih_max_grad_g"]) == (3.0, 4.0)
    assert (found["ih_min_grad"], found["ih_min_grad_g"]) == (-1.0, 1.0)
    assert isinstance(histogram(np.array([1, 1]), 1)["ih_max_grad"], str)


def test_mode_nearest_to_the_mean():
    assert histogram(np.array([1, 1, 5, 5, 6]), 6)["ih_mode"] == 5.0


def test_ivh_by_hand():
    values = np.array([0.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 9.0, 10.0])
    found = ivh_features(values, ("none",))
    assert found["ivh_v10"] == pytest.approx(0.9)  # at least 1
    assert found["ivh_v90"] == pytest.approx(0.2)  # at least 9
    assert found["ivh_i10"] == 10.0
    assert found["ivh_i90"] == 1.0
    assert found["ivh_diff_i10_i90"] == 9.0
    curve = [(values >= step).mean() for step in range(11)]
    assert found["ivh_auc"] == pytest.approx(np.trapezoid(curve, np.linspace(0, 1, 11)))


def test_ivh_range_bins_and_refusals():
    values = np.array([0.0, 5.0, 10.0])
    assert ivh_features(values, ("none",), (-10.0, 10.0))["ivh_v10"] == 1.0
    assert ivh_features(values, ("fbs", 2.0, 0.0))["ivh_i90"] == 3.0
    assert ivh_features(values, ("fbn", 10))["ivh_i90"] == 2.0
    assert all(isinstance(v, str) for v in ivh_features(np.full(4, 3.0), ("none",)).values())
    with pytest.raises(InputError, match="whole"):
        ivh_features(np.array([0.5, 1.0]), ("none",))
    with pytest.raises(InputError, match="steps"):
        ivh_features(np.array([0.0, 1e9]), ("fbs", 1e-3, None))


def test_local_means_against_a_loop():
    rng = np.random.default_rng(4)
    image, spacing = rng.normal(100.0, 30.0, (6, 9, 11)), (3.0, 2.0, 1.5)
    found, place = sphere_means(image, spacing), np.argwhere(np.ones(image.shape)) * spacing
    for index in ((0, 0, 0), (3, 4, 5), (5, 8, 10), (2, 0, 7)):
        near = np.linalg.norm(place - np.array(index) * spacing, axis=1) <= 6.2035
        assert found[index] == pytest.approx(image.ravel()[near].mean(), rel=1e-9)


def test_local_means_where_voxels_are_larger_than_the_sphere():
    image = np.random.default_rng(0).normal(size=(3, 4, 5))
    assert sphere_means(image, (7.0, 8.0, 9.0)) == pytest.approx(image)


@pytest.mark.parametrize(("values", "how", "levels", "n"), [
    ([0.0, 1.0, 2.0, 4.0], ("fbn", 4), [1, 2, 3, 4], 4),
    ([10.0, 10.0], ("fbn", 8), [1, 1], 1),
    ([-500.0, -475.1, -475.0, 0.0], ("fbs", 25.0, -500.0), [1, 1, 2, 21], 21),
    ([1.0, 3.0, 2.0], ("none",), [1, 3, 2], 3)])
def test_levels(values, how, levels, n):
    found, count, _ = levels_of(np.array(values), how)
    assert found.tolist() == levels
    assert count == n


def test_levels_start_warnings_and_refusals():
    values = np.array([3.0, 8.0])
    assert "lowest intensity (3)" in levels_of(values, ("fbs", 1.0, None))[2][0]
    assert levels_of(values, ("fbs", 1.0, None), (0.0, 9.0))[0].tolist() == [4, 9]
    low, _, warnings = levels_of(np.array([-3.0, 8.0]), ("fbs", 1.0, 0.0))
    assert low.tolist() == [1, 9]
    assert "below the start" in warnings[0]
    with pytest.raises(RefusedError, match="grey levels"):
        levels_of(np.array([0.0, 1e6]), ("fbs", 1.0, 0.0))
    for wrong in ([0.0, 1.0], [1.5, 2.0], [-1.0, 3.0]):
        with pytest.raises(InputError, match=r"\[none\]"):
            levels_of(np.array(wrong), ("none",))


def resampled(array, spacing, new, how):
    axes = axes_for(array.shape, np.array(spacing), new)
    return interpolate(array, axes, [(0, a.new_n) for a in axes], how), axes


def test_grid_shares_its_centre_and_has_enough_voxels():
    axes = axes_for((60, 201, 204), np.array([3.0, 0.977, 0.977]), (2.0, 2.0, 2.0))
    assert [a.new_n for a in axes] == [90, 99, 100]
    for axis in axes:
        places = axis.places((0, axis.new_n))
        assert places[0] + places[-1] == pytest.approx(axis.n - 1)
        assert np.diff(places) == pytest.approx(2.0 / axis.mm)


def test_in_plane_spacing_and_single_slices_leave_the_slices():
    assert axes_for((5, 8, 8), np.array([5.0, 1.0, 1.0]), (2.0, 2.0))[0].kept
    assert axes_for((1, 8, 8), np.array([5.0, 1.0, 1.0]), (2.0, 2.0, 2.0))[0].kept
    assert all(a.kept for a in axes_for((5, 8, 8), np.array([5.0, 1.0, 1.0]), (5.0, 1.0, 1.0)))


@pytest.mark.parametrize("how", ["nearest", "linear", "cubic"])
def test_interpolation_against_scipy(how):
    rng = np.random.default_rng(7)
    array, spacing, new = rng.normal(size=(7, 12, 10)), (2.5, 1.0, 1.2), (1.1, 1.3, 0.7)
    found, axes = resampled(array, spacing, new, how)
    places = np.meshgrid(*[a.places((0, a.new_n)) for a in axes], indexing="ij")
    inside = np.all([(p >= 0) & (p <= n - 1) for p, n in zip(places, array.shape, strict=True)], axis=0)
    order = {"nearest": 0, "linear": 1, "cubic": 3}[how]
    expected = ndimage.map_coordinates(array, places, order=order, mode="mirror")
    assert found[inside] == pytest.approx(expected[inside], abs=1e-9)
    assert inside.mean() > 0.5


@pytest.mark.parametrize("how", ["linear", "cubic"])
def test_a_window_is_a_part_of_the_whole(how):
    array = np.random.default_rng(2).normal(size=(70, 60, 50))
    axes = axes_for(array.shape, np.array([1.0, 1.0, 1.0]), (0.8, 1.4, 2.2))
    windows = [axis.window(30, 34, 2) for axis in axes]
    whole = interpolate(array, axes, [(0, a.new_n) for a in axes], how)
    part = interpolate(array, axes, windows, how)
    assert part == pytest.approx(whole[tuple(slice(*w) for w in windows)], abs=1e-8)


def test_interpolation_leaves_its_input_alone():
    array = np.ones((4, 4, 4))
    found, _ = resampled(array, (1.0,) * 3, None, "linear")
    found += 1.0
    assert (array == 1.0).all()
