"""Shells and ablation regions against analytic bodies, habitats against known mixtures, deltas against arithmetic."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from IRAILib.biopsy.radiomics import Settings, extract
from IRAILib.biopsy.radiomics.delta import delta, delta_features
from IRAILib.biopsy.radiomics.habitats import (
    HabitatModel,
    fit_habitats,
    habitat_features,
    habitat_radiomics,
    habitats,
    interface_mm2,
)
from IRAILib.biopsy.radiomics.merge import merged, prefixed, region_features
from IRAILib.biopsy.radiomics.regions import ablation_regions, shell, shell_name
from IRAILib.geometry import (
    CancelledError,
    EmptyMaskError,
    FrameMismatchError,
    Grid,
    InputError,
    Mask,
    MissingPackageError,
    RefusedError,
    Volume,
)

SPACINGS = [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (0.8, 0.8, 3.0), (0.7, 0.7, 5.0)]
"""mm along i, j, k."""
STATISTICS = Settings(families=("statistics",))


def ball_grid(radius_mm: float, spacing_ijk, seed: int = 0) -> tuple[Grid, np.ndarray]:
    """A grid in oblique position around a ball, and every voxel's distance to the ball's middle, mm."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(2 * radius_mm / s) + 3 for s in spacing_ijk[::-1])
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    matrix = np.eye(4)
    matrix[:3, :3] = turn * spacing_ijk
    grid = Grid(shape, matrix)
    middle = grid.centre_ras + turn @ (rng.uniform(-0.5, 0.5, 3) * spacing_ijk)
    return grid, np.linalg.norm(grid.all_points_ras() - middle, axis=-1)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("radius", "inner", "outer"), [(11, 0, 5), (6, 0, 8), (12, 2, 5), (12, -3, 0), (9, -2, 2)])
def test_shell_of_a_ball(spacing, radius: float, inner: float, outer: float) -> None:
    """No voxel lies on the wrong side of a limit by half the smallest voxel edge; volume as it must then be."""
    grid, distance = ball_grid(radius + max(outer, 0) + max(spacing), spacing, int(radius))
    found = shell(Mask(distance <= radius, grid, "lesion"), outer, inner)
    truth = 4 / 3 * np.pi * ((radius + outer) ** 3 - (radius + inner) ** 3) / 1000
    assert found.volume_ml == pytest.approx(truth, rel=0.03 if max(spacing) < 3.5 else 0.1)
    depth = distance - radius
    should = (depth > inner) & (depth <= outer)
    wrong = should != found.array
    assert np.minimum(np.abs(depth - inner), np.abs(depth - outer))[wrong].max(initial=0.0) < 0.5 * min(spacing)
    assert found.metadata["kept_share"] == 1.0


def test_shell_is_clipped_to_organ_tissue_and_other_lesions() -> None:
    grid, distance = ball_grid(25, (1.0, 1.0, 2.0))
    lesion = Mask(distance <= 10, grid, "lesion")
    side = np.zeros(grid.shape, bool)
    side[:, :, : grid.shape[2] // 2] = True
    organ, other = Mask(side, grid, "liver"), Mask(distance > 13, grid, "others")
    image = Volume(np.where(np.indices(grid.shape)[1] < grid.shape[1] // 2, -900.0, 60.0), grid, "ct")
    whole = shell(lesion, 5)
    assert np.array_equal(shell(lesion, 5, within=organ).array, whole.array & side)
    assert np.array_equal(shell(lesion, 5, exclude=other).array, whole.array & (distance <= 13))
    clipped = shell(lesion, 5, intensity_range=(-200, None), image=image)
    assert np.array_equal(clipped.array, whole.array & (image.array > -200))
    assert clipped.metadata["kept_share"] == pytest.approx(0.5, abs=0.1)
    assert clipped.metadata["volume_ml_before_clipping"] == pytest.approx(whole.volume_ml)
    assert not (whole.array & lesion.array).any()
    with pytest.raises(EmptyMaskError, match="inside empty organ"):
        shell(lesion, 5, within=Mask(np.zeros(grid.shape, bool), grid, "empty organ"))
    with pytest.raises(EmptyMaskError, match="intensity range"):
        shell(lesion, 5, intensity_range=(500, 600), image=image)
    with pytest.raises(InputError, match="needs the image"):
        shell(lesion, 5, intensity_range=(-200, None))
    with pytest.raises(InputError, match="upside down"):
        shell(lesion, 5, intensity_range=(10, -10), image=image)


def test_shell_says_what_it_cannot_do() -> None:
    grid, distance = ball_grid(14, (1.0, 1.0, 5.0))
    lesion = Mask(distance <= 8, grid, "lesion")
    with pytest.raises(EmptyMaskError, match="wider shell"):
        shell(lesion, 0.02, 0.01)
    with pytest.raises(EmptyMaskError):
        shell(Mask(np.zeros(grid.shape, bool), grid), 5)
    for outer, inner in ((0, 0), (3, 5), (float("nan"), 0), ("5", 0), (True, 0)):
        with pytest.raises(InputError):
            shell(lesion, outer, inner)
    with pytest.raises(FrameMismatchError, match="resample"):
        shell(lesion, 5, within=Mask(np.ones(grid.shape, bool), ball_grid(14, (1.0, 1.0, 5.0), 1)[0], "organ"))
    assert any("cut off" in line for line in shell(lesion, 12).metadata["warnings"])
    with pytest.raises(EmptyMaskError, match="fills the whole image"):
        shell(Mask(np.ones((4, 8, 8), bool), Grid((4, 8, 8), np.eye(4))), 0, -1)
    edge = np.zeros((20, 20, 20), bool)
    edge[:8, 5:15, 5:15] = True
    rim = shell(Mask(edge, Grid(edge.shape, np.eye(4)), "lesion"), 0, -2)
    assert any("reaches the image's edge" in line for line in rim.metadata["warnings"])
    assert not (rim.array & ~edge).any()


@pytest.mark.parametrize("voxels", [[(5, 5, 5)], [(5, 5, 5), (5, 5, 6)], [(2, 2, 2), (8, 8, 8)]])
def test_tiny_and_parted_lesions_have_a_shell(voxels) -> None:
    array = np.zeros((11, 11, 11), bool)
    array[tuple(np.array(voxels).T)] = True
    found = shell(Mask(array, Grid(array.shape, np.eye(4))), 2.0)
    for k, j, i in voxels:
        assert found.array[k, j, i + 2] or array[k, j, i + 2]
        assert found.array[k + 1, j, i]
    assert not (found.array & array).any()
    assert not found.array[0, 10, 0]


def test_names_of_shells() -> None:
    assert (shell_name(5), shell_name(10, 5), shell_name(2.5, -1)) == (
        "shell_0_5mm", "shell_5_10mm", "shell_m1_2.5mm")


def test_ablation_regions_of_two_balls() -> None:
    """Tumour of 8 mm, zone of 12 mm, 7 mm apart: the lens between them has a formula."""
    spacing = np.array([1.0, 1.0, 1.0])
    grid = Grid((60, 70, 70), np.diag([*spacing, 1.0]))
    points = grid.all_points_ras() - grid.centre_ras
    r, big, apart = 8.0, 12.0, 7.0
    tumour = Mask(np.linalg.norm(points, axis=-1) <= r, grid, "tumour")
    zone = Mask(np.linalg.norm(points - [apart, 0, 0], axis=-1) <= big, grid, "zone")
    lens = (np.pi * (big + r - apart) ** 2 * (apart ** 2 + 2 * apart * r - 3 * r ** 2 + 2 * apart * big + 6 * r * big
                                             - 3 * big ** 2) / (12 * apart)) / 1000
    ball = 4 / 3 * np.pi / 1000
    found = ablation_regions(tumour, zone, 5.0)
    assert found.volumes_ml["covered"] == pytest.approx(lens, rel=0.02)
    assert found.volumes_ml["residual"] == pytest.approx(ball * r ** 3 - lens, rel=0.05)
    assert found.volumes_ml["ablated_margin"] == pytest.approx(ball * big ** 3 - lens, rel=0.02)
    assert found.coverage == pytest.approx(lens / (ball * r ** 3), rel=0.02)
    rim = found.masks["zone_rim"].array
    assert not (rim & (tumour.array | zone.array)).any()
    assert found.empty == ()
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["coverage"] == found.coverage

    inside = ablation_regions(Mask(np.linalg.norm(points - [apart, 0, 0], axis=-1) <= 5, grid), zone)
    assert inside.empty == ("residual",)
    assert inside.coverage == 1.0
    far = ablation_regions(Mask(np.linalg.norm(points + [25, 0, 0], axis=-1) <= 5, grid), zone)
    assert "covered" in far.empty
    assert any("registration" in line for line in far.warnings)
    with pytest.raises(EmptyMaskError):
        ablation_regions(tumour, Mask(np.zeros(grid.shape, bool), grid))
    with pytest.raises(FrameMismatchError):
        ablation_regions(tumour, Mask(np.ones((4, 4, 4), bool), Grid((4, 4, 4), np.eye(4))))


def test_region_features_carry_the_regions_name() -> None:
    grid, distance = ball_grid(20, (1.0, 1.0, 2.0))
    image = Volume(distance.copy(), grid, "distance")
    lesion = Mask(distance <= 8, grid, "lesion")
    found = region_features(image, {"lesion": lesion, shell_name(5): shell(lesion, 5)}, STATISTICS)
    values = found.values()
    assert 8 < values["shell_0_5mm__stat_mean"] < 13
    assert values["lesion__stat_max"] <= 8
    assert values["lesion__stat_mean"] == extract(image, lesion, STATISTICS).values()["stat_mean"]
    assert found.features["shell_0_5mm__stat_mean"].unit == "intensity"
    with pytest.raises(EmptyMaskError, match="region nothing"):
        region_features(image, {"nothing": lesion.with_array(np.zeros(grid.shape, bool))}, STATISTICS)
    with pytest.raises(InputError, match="no region"):
        region_features(image, {}, STATISTICS)
    one = extract(image, lesion, STATISTICS)
    with pytest.raises(InputError, match="occurs in two"):
        merged([one, one])
    with pytest.raises(InputError, match="different settings"):
        merged([one, extract(image, lesion, Settings(families=("morphology",)))])
    with pytest.raises(InputError, match="prefix"):
        prefixed(one, "a__b")


def two_tissues(seed: int = 0, gap: float = 40.0, sd: float = 6.0) -> tuple[Volume, Mask, np.ndarray]:
    """A ball of 12 mm with a core of 7 mm that is darker by `gap`; the truth is 1 in the core, 2 around it."""
    rng = np.random.default_rng(seed)
    grid = Grid((30, 30, 30), np.diag([1.0, 1.0, 1.0, 1.0]))
    away = np.linalg.norm(grid.all_points_ras() - grid.centre_ras, axis=-1)
    truth = np.where(away <= 7, 1, 2) * (away <= 12)
    array = 100.0 - gap * (truth == 1) + rng.normal(0, sd, grid.shape)
    return Volume(array, grid, f"tumour {seed}"), Mask(away <= 12, grid, "tumour"), truth


@pytest.mark.parametrize("method", ["mixture", "kmeans"])
def test_two_tissues_are_found_and_ordered(method: str) -> None:
    image, mask, truth = two_tissues()
    found = habitats(image, mask, method=method)
    assert found.n == 2
    assert (found.labels == truth)[mask.array].mean() > 0.98
    assert found.means[:, 0] == pytest.approx([60.0, 100.0], abs=2.0)
    features = {key: one.value for key, one in habitat_features(found).items()}
    core = np.count_nonzero(truth == 1) / np.count_nonzero(truth)
    assert features["habitat1__fraction"] == pytest.approx(core, abs=0.02)
    assert features["habitat1__fraction"] + features["habitat2__fraction"] == pytest.approx(1.0)
    assert features["habitat1__largest_component"] > 0.9
    upside_down = habitats(image.with_array(-image.array), mask, method=method)
    assert (upside_down.labels == 3 - found.labels)[mask.array].mean() > 0.98
    again = habitats(image, mask, method=method)
    np.testing.assert_array_equal(again.labels, found.labels)


def test_a_mixture_weighs_its_parts() -> None:
    """Two overlapping normals, one ten times as common: the border lies where their weighted densities meet."""
    model = HabitatModel("mixture", np.zeros(1), np.ones(1), np.array([[0.0], [4.0]]), np.ones((2, 1, 1)),
                         np.array([10 / 11, 1 / 11]), "bic", {2: 0.0}, 1)
    border = 2.0 + np.log(10.0) / 4.0
    assert model.labels_of(np.array([[border - 0.01], [border + 0.01]])).tolist() == [1, 2]


def test_three_tissues_and_the_number_asked_for() -> None:
    image, mask, truth = two_tissues()
    right = np.indices(truth.shape)[2] > 15
    array = image.array + 60.0 * ((truth == 2) & right)
    found = habitats(image.with_array(array), mask)
    assert found.n == 3
    assert (np.diff(found.means[:, 0]) > 0).all()
    assert habitats(image.with_array(array), mask, n=2).n == 2


def test_a_second_image_parts_what_the_first_cannot() -> None:
    image, mask, truth = two_tissues(gap=0.0)
    rng = np.random.default_rng(5)
    second = image.with_array(np.where(truth == 1, 1.0, 3.0) + rng.normal(0, 0.2, truth.shape))
    found = habitats([image, second], mask)
    assert found.n == 2
    same = (found.labels == truth)[mask.array].mean()
    assert max(same, 1 - same) > 0.98
    assert found.means.shape == (2, 2)


def test_uniform_lesion_is_not_divided_without_a_word() -> None:
    image, mask, _ = two_tissues(gap=0.0)
    found = habitats(image, mask, smallest_share=0.0)
    assert any("uniform" in line for line in found.warnings)
    spike = np.full(mask.array.shape, 5.0)
    spike[14:17, 14:17, 14:17] = 500.0
    with pytest.raises(RefusedError, match="smallest_share"):
        habitats(image.with_array(spike), mask, method="kmeans")


def test_one_model_for_a_cohort_keeps_the_labels_meaning() -> None:
    """The third patient has the bright tissue only: alone it would be split, with the cohort's model it is all 2."""
    cases = [two_tissues(seed) for seed in range(2)]
    model = fit_habitats([(image, mask) for image, mask, _ in cases])
    image, mask, _ = two_tissues(9, gap=0.0)
    found = habitats(image, mask, model=model)
    assert (found.labels[mask.array] == 2).mean() > 0.98
    back = HabitatModel.from_dict(json.loads(json.dumps(model.to_dict(), allow_nan=False)))
    np.testing.assert_array_equal(habitats(image, mask, model=back).labels, found.labels)
    for damage in ({"means": [[0.0]]}, {"method": "x"}, {"weights": None}):
        with pytest.raises(InputError, match="not a habitat model"):
            HabitatModel.from_dict({**model.to_dict(), **damage})
    with pytest.raises(InputError, match="not a habitat model"):
        HabitatModel.from_dict({})
    with pytest.raises(InputError, match="needs 1 images"):
        habitats([image, image], mask, model=model)


def test_interface_of_a_ball_is_its_surface() -> None:
    for spacing in SPACINGS[:3]:
        grid, distance = ball_grid(22, spacing)
        labels = np.where(distance <= 14, 1, 2)
        assert interface_mm2(labels, 1, 2, grid.spacing_kji_mm) == pytest.approx(4 * np.pi * 14 ** 2, rel=0.05)
        assert interface_mm2(labels, 1, 3, grid.spacing_kji_mm) == 0.0


def test_radiomics_of_each_habitat() -> None:
    image, mask, _ = two_tissues()
    found = habitats(image, mask)
    features = habitat_radiomics(found, image, STATISTICS)
    values = features.values()
    assert values["habitat1__stat_mean"] == pytest.approx(found.means[0, 0])
    assert values["habitats__number"] == 2
    assert features.volume_ml == pytest.approx(mask.volume_ml)
    json.dumps(features.to_dict(), allow_nan=False)
    json.dumps(found.to_dict(), allow_nan=False)


def test_hostile_input_to_habitats(monkeypatch) -> None:
    image, mask, _ = two_tissues()
    empty = mask.with_array(np.zeros(mask.array.shape, bool))
    tiny = np.zeros(mask.array.shape, bool)
    tiny[15, 15, 10:20] = True
    nan = image.array.copy()
    nan[15, 15, 15] = np.nan
    cases = [(image, empty, EmptyMaskError, "empty"), (image, mask.with_array(tiny), InputError, "too few"),
             (image.with_array(nan), mask, InputError, "NaN"),
             (image.with_array(np.full(mask.array.shape, 4)), mask, InputError, "constant"),
             ([], mask, InputError, "no image")]
    for images, region, error, says in cases:
        with pytest.raises(error, match=says):
            habitats(images, region)
    for wrong in ({"n": 1}, {"n": 7}, {"n": 2.0}, {"method": "x"}, {"criterion": "aic"}, {"smallest_share": 0.6},
                  {"method": "kmeans", "criterion": "bic"}, {"smooth_mm": -1}):
        with pytest.raises(InputError):
            habitats(image, mask, **wrong)
    with pytest.raises(FrameMismatchError):
        habitats(image, Mask(np.ones((4, 4, 4), bool), Grid((4, 4, 4), np.eye(4))))
    with pytest.raises(CancelledError):
        habitats(image, mask, cancelled=lambda: True)
    assert habitats(image, mask, n=2, smooth_mm=1.5).n == 2
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingPackageError, match="pip install scikit-learn"):
        habitats(image, mask)


def test_delta_by_arithmetic() -> None:
    grid, distance = ball_grid(16, (1.0, 1.0, 2.0))
    noise = np.random.default_rng(0).normal(50, 10, grid.shape)
    image = Volume(noise, grid, "study")
    settings = Settings(families=("morphology", "statistics"), intensity_unit="HU")
    small, large = (Mask(distance <= r, grid) for r in (8, 10))
    found = delta_features((image, small), (image.with_array(noise + 20), large), settings, days=50)
    before, after = extract(image, small, settings), extract(image.with_array(noise + 20), large, settings)
    for key, first in before.values().items():
        second = after.values()[key]
        assert found.features[f"delta_abs__{key}"].value == pytest.approx(second - first)
        assert found.features[f"delta_per_day__{key}"].value == pytest.approx((second - first) / 50)
        if first != 0:
            assert found.features[f"delta_rel__{key}"].value == pytest.approx((second - first) / abs(first))
    assert found.features["delta_abs__morph_volume"].unit == "mm3"
    assert found.features["delta_per_day__morph_volume"].unit == "mm3/d"
    assert found.features["delta_rel__morph_volume"].unit == "1"
    assert any("HU" in line for line in found.warnings)
    assert not any(key.startswith("delta_per_day") for key in delta(before, after).features)
    json.dumps(found.to_dict(), allow_nan=False)


def test_delta_on_two_grids_of_one_patient() -> None:
    """The same ball on other voxels, five times as bright: its volume hasn't changed, its intensity has."""
    sets = []
    for spacing, seed in (((1.0, 1.0, 2.0), 0), ((0.8, 0.8, 3.0), 1)):
        grid, distance = ball_grid(16, spacing, seed)
        sets.append((Volume(np.where(distance <= 9, 10.0 + 40 * seed, 0.0), grid), Mask(distance <= 9, grid)))
    found = delta_features(*sets, Settings(families=("morphology", "statistics")))
    assert found.features["delta_rel__morph_volume"].value == pytest.approx(0.0, abs=0.03)
    assert found.features["delta_rel__stat_mean"].value == pytest.approx(4.0)
    assert found.features["delta_abs__stat_var"].value == 0.0
    assert found.features["delta_rel__stat_var"].value == 0.0
    assert any("voxel sizes differ" in line for line in found.warnings)


def test_delta_refuses_what_cannot_be_compared() -> None:
    grid, distance = ball_grid(14, (1.0, 1.0, 1.0))
    image, mask = Volume(distance, grid), Mask(distance <= 8, grid)
    one = extract(image, mask, STATISTICS)
    with pytest.raises(InputError, match=r"different settings \(.*discretisation"):
        delta(one, extract(image, mask, Settings(families=("statistics",), discretisation=("fbn", 8))))
    with pytest.raises(InputError, match="intensity_unit"):
        delta(one, extract(image, mask, Settings(families=("statistics",), intensity_unit="HU")))
    for days in (0, -3, float("nan"), "7", True):
        with pytest.raises(InputError, match="days"):
            delta(one, one, days=days)
    constant = extract(image.with_array(np.zeros(grid.shape)), mask, STATISTICS)
    found = delta(constant, one)
    assert found.features["delta_rel__stat_mean"].value is None
    assert "zero" in found.features["delta_rel__stat_mean"].reason
    assert found.features["delta_abs__stat_mean"].value == pytest.approx(one.features["stat_mean"].value)
    undefined = found.undefined()
    assert all(undefined.values())
    with pytest.raises(InputError, match="one time point only"):
        delta(one, prefixed(one, "x"))
