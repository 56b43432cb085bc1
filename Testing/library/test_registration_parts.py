"""The parts of registration against exact fields: no image is registered here."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import FrameMismatchError, Grid, InputError, LinearTransform, Mask, Volume
from IRAILib.registration import (
    RegistrationOptions,
    RegistrationQuality,
    choose_engine,
    guard,
    landmarks,
    local,
    options,
    register,
)
from IRAILib.registration.fields import compose, jacobian, placed, sample
from IRAILib.registration.inputs import Pair, check_pair, distance_at
from IRAILib.registration.local import blend, fit_local
from IRAILib.registration.quality import tumor_change
from registration_cases import grid_about

GRID = grid_about(np.array([10.0, -20.0, 30.0]), (2.0, 2.0, 2.0), (40, 42, 44), 0.3)
POINTS = GRID.all_points_ras().reshape(-1, 3)
MIDDLE = GRID.centre_ras


def field_of(function) -> np.ndarray:
    return (function(POINTS) - POINTS).reshape(*GRID.shape, 3).astype(np.float32)


def breathing(points: np.ndarray) -> np.ndarray:
    away = points - MIDDLE
    bend = np.exp(-0.5 * ((away - [0.0, 10.0, 30.0]) ** 2).sum(1) / 40.0**2)
    return points + bend[:, None] * [2.0, -6.0, 18.0]


def test_jacobian_of_an_affine_on_an_oblique_grid():
    matrix = np.array([[1.1, 0.05, 0.0], [0.0, 0.9, 0.1], [0.02, 0.0, 1.2]])
    found = jacobian(field_of(lambda p: (p - MIDDLE) @ matrix.T + MIDDLE), GRID)
    np.testing.assert_allclose(found, np.linalg.det(matrix), rtol=2e-4)


def test_composition_and_sampling():
    first, second = field_of(breathing), field_of(lambda p: p + [1.0, -2.0, 3.0])
    both = compose(second, first, GRID)
    np.testing.assert_allclose(both, first + np.float32([1.0, -2.0, 3.0]), atol=1e-4)
    np.testing.assert_allclose(sample(first, GRID, POINTS[::501]), first.reshape(-1, 3)[::501], atol=1e-4)


def test_field_fades_into_the_rigid_map_without_folding():
    rigid = LinearTransform(np.eye(4), "moving", "fixed")
    strong = np.broadcast_to(np.float32([0.0, 0.0, 20.0]), (*GRID.shape, 3)).copy()
    whole = placed(strong, GRID, rigid)
    np.testing.assert_allclose(whole.apply(POINTS[::97]) - POINTS[::97], strong.reshape(-1, 3)[::97], atol=0.1)
    far = MIDDLE + np.array([[300.0, 0.0, 0.0]])
    np.testing.assert_allclose(whole.apply(far), far)
    grid = whole.parts[1].grid
    assert jacobian(whole.parts[1].displacement, grid).min() > 0.4


@pytest.mark.parametrize("order", ["affine", "second"])
def test_local_model_knows_the_field_it_has_not_seen(order, monkeypatch):
    """A zone of 15 mm under strong breathing: the shell gives the inside, an affine alone would not."""
    zone_mm = np.linalg.norm(POINTS - MIDDLE, axis=1).reshape(GRID.shape).astype(np.float32) - 15.0
    truth = field_of(breathing)
    hidden = np.where((zone_mm > 1.0)[..., None], truth, 0.0).astype(np.float32)
    if order == "affine":
        monkeypatch.setattr(local, "CURVATURE_SD_MM", 1e-6)
    model = fit_local(hidden, GRID, zone_mm, np.ones(GRID.shape, bool), (4.0, 25.0))
    assert model is not None
    inside = zone_mm < 0.0
    places = GRID.points_ras(np.argwhere(inside))
    error = np.sqrt(((model.displacement(places) - truth[inside]) ** 2).sum(1).mean())
    assert error > 0.8 if order == "affine" else error < 0.4
    if order == "second":
        whole = blend(hidden, GRID, zone_mm, model)
        np.testing.assert_array_equal(whole[zone_mm > 8.0], truth[zone_mm > 8.0])
        assert jacobian(whole, GRID).min() > 0.5


def test_local_model_needs_a_shell():
    zone_mm = np.full(GRID.shape, -5.0, np.float32)
    assert fit_local(field_of(breathing), GRID, zone_mm, np.ones(GRID.shape, bool), (4.0, 25.0)) is None


def ball(radius: float) -> Mask:
    return Mask((np.linalg.norm(POINTS - MIDDLE, axis=1) < radius).reshape(GRID.shape), GRID, "tumor")


@pytest.mark.parametrize(("scale", "percent"), [(1.0, 0.0), (1.04, -11.1), (0.95, 16.6)])
def test_tumor_volume_is_measured_in_the_fixed_frame(scale, percent):
    matrix = np.eye(4)
    matrix[:3, :3] *= scale
    matrix[:3, 3] = MIDDLE - scale * MIDDLE + [5.0, 5.0, -5.0]
    change = tumor_change(LinearTransform(matrix, "moving", "fixed"), ball(12.0))
    assert change.volume_percent == pytest.approx(percent, abs=0.1)
    assert change.jacobian == pytest.approx(scale**3)
    assert change.stretch == pytest.approx(max(scale, 1 / scale), abs=1e-6)


def test_stretch_without_volume_change_is_seen():
    matrix = np.diag([1.4, 1.0 / 1.4, 1.0, 1.0])
    change = tumor_change(LinearTransform(matrix, "moving", "fixed"), ball(10.0))
    assert abs(change.volume_percent) < 0.1
    quality = RegistrationQuality(tumor_volume_change_percent=change.volume_percent, tumor_stretch=change.stretch)
    assert "longer or shorter" in verdict(quality)


def verdict(quality: RegistrationQuality, **changes) -> str:
    facts = {"local_tre_mm": 0.5, "tumor_readable": True, "gap_mm": 0.0, "has_zone": True, **changes}
    return guard.refusal(quality, RegistrationOptions(), **facts) or ""


@pytest.mark.parametrize(("quality", "changes", "text"), [
    ({}, {}, ""),
    ({"tumor_volume_change_percent": 9.9}, {}, ""),
    ({"tumor_volume_change_percent": 10.1}, {}, "+10 %"),
    ({"tumor_volume_change_percent": -12.0}, {}, "-12 %"),
    ({"folding_percent": 0.1, "fold_distance_mm": 9.0}, {}, "folds 9 mm"),
    ({"folding_percent": 0.1, "fold_distance_mm": 30.0}, {}, ""),
    ({"folding_percent": 3.0, "fold_distance_mm": 30.0}, {}, "3.0 %"),
    ({"organ_dice": 0.5}, {}, "Dice 0.50"),
    ({"organ_dice": 0.9, "organ_dice_rigid": 0.97}, {}, "overlap worse"),
    ({"inverse_consistency_mm": 5.3}, {}, "5.3 mm off"),
    ({"shell_seen_percent": 30.0}, {}, "30 %"),
    ({"information_before": 1.0, "information_rigid": 0.5}, {}, "worse"),
    ({}, {"tumor_readable": False}, "folds inside"),
    ({}, {"gap_mm": 35.0}, "35 mm away"),
    ({}, {"local_tre_mm": 6.0}, "uncertain by 6.0 mm"),
    ({}, {"local_tre_mm": 6.0, "has_zone": False}, "")])
def test_guard(quality, changes, text):
    reason = verdict(RegistrationQuality(**quality), **changes)
    assert (text in reason) if text else reason == ""


def noise(shape=(12, 24, 24), spacing=(3.0, 3.0, 4.0), value=None, name="scan") -> Volume:
    grid = grid_about(np.zeros(3), spacing, shape)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return Volume(array if value is None else np.full(shape, value, np.float32), grid, name)


@pytest.mark.parametrize(("volume", "text"), [
    (noise(shape=(1, 24, 24)), "only 1 voxels"), (noise(spacing=(3.0, 3.0, 40.0)), "40.0 mm are too coarse"),
    (noise(spacing=(0.2, 0.2, 0.2)), "covers only 2 mm"), (noise(value=7.0), "same value"),
    (noise(value=np.nan), "not numbers")])
def test_unfit_images_are_named(volume, text):
    with pytest.raises(InputError, match=text) as error:
        register(volume, noise())
    assert "\n" not in str(error.value)
    assert "scan" in str(error.value)


def test_unfit_masks_are_named():
    image = noise()
    with pytest.raises(InputError, match="empty"):
        register(image, noise(), fixed_organ=image_mask(image, False))
    elsewhere = Mask(np.ones((4, 4, 4), bool), grid_about(np.array([500.0, 0, 0]), (3.0, 3.0, 3.0), (4, 4, 4)), "liver")
    with pytest.raises(InputError, match="liver: only 0 % of it lies inside scan"):
        register(image, noise(), fixed_organ=elsewhere)
    image = Volume(image.array, image.grid, "scan", "1.2.3")
    other = Mask(np.ones(image.grid.shape, bool), image.grid, "liver", "1.2.4")
    with pytest.raises(FrameMismatchError, match="another frame of reference"):
        register(image, noise(), fixed_organ=other)


def image_mask(image: Volume, value: bool) -> Mask:
    return Mask(np.full(image.grid.shape, value), image.grid, "liver")


def test_a_few_odd_values_are_repaired():
    image = noise()
    array = image.array.copy()
    array[0, 0, :3] = [np.nan, np.inf, -np.inf]
    assert np.isfinite(check_pair(Pair(image.with_array(array), noise())).fixed.array).all()


def test_options_and_engines(monkeypatch):
    for wrong in ({"model": "affine"}, {"engine": "magic"}, {"spacing_mm": 0.1}, {"shell_mm": (9.0, 4.0)},
                  {"search_mm": 1000.0}):
        with pytest.raises(InputError):
            RegistrationOptions(**wrong)
    monkeypatch.setattr(options, "find_spec", lambda name: None if name in ("torch", "picsl_greedy") else object())
    assert choose_engine("auto") == "bspline"
    with pytest.raises(InputError, match="pip install picsl-greedy"):
        choose_engine("greedy")


def test_a_mask_cut_off_by_the_image_has_no_surface_there():
    grid = Grid((20, 20, 20), np.diag([2.0, 2.0, 2.0, 1.0]))
    array = np.zeros(grid.shape, bool)
    array[:10] = True
    assert distance_at(Mask(array, grid), np.array([[19.0, 19.0, 0.0]]))[0] < -17.0


def test_landmarks_judge_and_correct():
    rng = np.random.default_rng(2)
    rigid = LinearTransform(np.eye(4), "moving", "fixed")
    flat = np.zeros((*GRID.shape, 3), np.float32)
    fixed = POINTS[rng.choice(len(POINTS), 30, replace=False)]
    moving = breathing(fixed)
    field, held_out, corrected = landmarks.correct(flat, GRID, placed(flat, GRID, rigid), rigid, fixed, moving)
    assert corrected
    assert held_out.mean() < 0.5 * np.linalg.norm(moving - fixed, axis=1).mean()
    unseen = np.linalg.norm(sample(field, GRID, POINTS[::53]) - (breathing(POINTS[::53]) - POINTS[::53]), axis=1)
    assert unseen.mean() == pytest.approx(held_out.mean(), abs=1.0)
    wild = fixed + rng.normal(0.0, 5.0, fixed.shape)
    field, held_out, corrected = landmarks.correct(flat, GRID, placed(flat, GRID, rigid), rigid, fixed, wild)
    assert not corrected
    assert field is flat
    np.testing.assert_allclose(held_out, np.linalg.norm(wild - fixed, axis=1))


def test_landmarks_place_the_rigid_map():
    turn = np.eye(4)
    turn[:3, :3] = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    turn[:3, 3] = [3.0, 4.0, 5.0]
    points = POINTS[::5000]
    np.testing.assert_allclose(landmarks.rigid_fit(points, LinearTransform(turn, "b", "a").apply(points)), turn,
                               atol=1e-9)
    with pytest.raises(InputError, match="same order"):
        landmarks.check_landmarks(points, points[1:])
