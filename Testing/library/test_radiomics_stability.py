"""ICC against the published table and simulated variance components; perturbations against what they say they do."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.biopsy.radiomics import Settings, extract
from IRAILib.biopsy.radiomics.icc import FORMS, icc
from IRAILib.biopsy.radiomics.perturb import Perturbation, Perturbations, noise_sd, perturb
from IRAILib.biopsy.radiomics.stability import drop_unstable, stability, stability_table
from IRAILib.geometry import (
    CancelledError,
    EmptyMaskError,
    FrameMismatchError,
    Grid,
    InputError,
    Mask,
    Volume,
)
from scipy import ndimage, stats

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
"""Psychol Bull 1979; 86: 420, table 2: six targets, four judges; .17, .29, .71 in table 4."""
INTERVALS = {"ICC(1,1)": (-0.133, 0.723), "ICC(2,1)": (0.019, 0.761), "ICC(3,1)": (0.342, 0.946)}
"""Of the same table by R's psych 2.x (ICC) and pingouin's documentation, to three digits."""
FAST = Settings(families=("morphology", "statistics"))


def body(radius_mm: float = 9.0, seed: int = 0, spacing_ijk=(1.0, 1.0, 2.0), noise: float = 4.0,
         contrast: float = 30.0) -> tuple[Volume, Mask]:
    """A bright ball with smooth texture and noise; the mask is the ball."""
    rng = np.random.default_rng(seed)
    shape = (22, 44, 44)
    grid = Grid(shape, np.diag([*spacing_ijk, 1.0]))
    away = np.linalg.norm(grid.all_points_ras() - grid.centre_ras, axis=-1)
    texture = ndimage.gaussian_filter(rng.normal(size=shape), (1.5, 3.0, 3.0))
    array = 60 + contrast * (away <= radius_mm) + 5 * texture / texture.std() + rng.normal(0, noise, shape)
    return Volume(array, grid, f"ball {seed}"), Mask(away <= radius_mm, grid, "ball")


def test_shrout_and_fleiss_worked_table() -> None:
    for form, value in zip(FORMS, (0.17, 0.29, 0.71), strict=True):
        found = icc(SHROUT_FLEISS, form)
        assert found.estimate == pytest.approx(value, abs=0.005)
        assert (found.low, found.high) == pytest.approx(INTERVALS[form], abs=0.001)
        assert (found.n_subjects, found.n_measurements) == (6, 4)


def test_scale_and_shift_do_not_change_an_icc() -> None:
    for form in FORMS:
        plain = icc(SHROUT_FLEISS, form).estimate
        for scale, shift in ((1e-9, 0.0), (-3e12, 0.0), (1.0, 1e6)):
            assert icc(SHROUT_FLEISS * scale + shift, form).estimate == pytest.approx(plain, rel=1e-6)


def test_only_agreement_minds_a_judges_habit() -> None:
    habit = SHROUT_FLEISS + np.array([0.0, 50.0, -20.0, 5.0])
    assert icc(habit, "ICC(3,1)").estimate == pytest.approx(icc(SHROUT_FLEISS, "ICC(3,1)").estimate)
    assert icc(habit, "ICC(2,1)").estimate < 0.1 * icc(SHROUT_FLEISS, "ICC(2,1)").estimate


@pytest.mark.parametrize("form", FORMS)
def test_intervals_cover_known_variance_components(form: str) -> None:
    """1000 tables with an ICC of 0.7: 95 % intervals hold it in 95 % (3 standard errors), the mean is near it."""
    rng = np.random.default_rng(3)
    n, k, between, judge, noise = 15, 5, 7.0, 1.0, 2.0
    truth = {"ICC(1,1)": between / (between + noise + judge), "ICC(2,1)": between / (between + judge + noise),
             "ICC(3,1)": between / (between + noise)}[form]
    estimates, held = [], 0
    for _ in range(1000):
        habits = rng.normal(0, np.sqrt(judge), k)
        if form == "ICC(1,1)":
            habits = rng.normal(0, np.sqrt(judge), (n, k))
        table = rng.normal(0, np.sqrt(between), (n, 1)) + habits + rng.normal(0, np.sqrt(noise), (n, k))
        found = icc(table, form)
        estimates.append(found.estimate)
        held += found.low <= truth <= found.high
    assert np.mean(estimates) == pytest.approx(truth, abs=0.03)
    low, high = stats.binom.ppf([0.001, 0.999], 1000, 0.95) / 1000
    assert low - (0.01 if form == "ICC(2,1)" else 0.0) <= held / 1000 <= high + (0.01 if form == "ICC(2,1)" else 0.0)


@pytest.mark.parametrize("form", FORMS)
def test_an_icc_is_a_number_with_its_interval_round_it_or_says_why(form: str) -> None:
    """Odd tables (patients all alike, few of them, whole numbers): never NaN, which no limit would drop."""
    rng = np.random.default_rng(0)
    for _ in range(400):
        n, k = rng.integers(2, 6), rng.integers(2, 5)
        noise, profile = rng.normal(size=(n, k)), np.repeat(rng.normal(size=(1, k)), n, axis=0)
        for table in (noise, rng.integers(0, 3, (n, k)).astype(float), profile, profile + 1e-9 * noise):
            found = icc(table, form)
            numbers = [v for v in (found.estimate, found.low, found.high) if v is not None]
            assert np.isfinite(numbers).all()
            assert bool(found.reason) == (len(numbers) < 3)
            assert len(numbers) < 3 or found.low <= found.estimate <= found.high
    usual = [icc(rng.normal(size=(10, 1)) + rng.normal(size=(10, 6)), form) for _ in range(200)]
    assert not any(found.reason for found in usual)


def test_tables_without_an_answer_say_why() -> None:
    assert icc(np.full((5, 4), 3.3)).reason == "the same value everywhere"
    assert icc(np.full((5, 4), 3.3)).estimate is None
    assert "two complete subjects" in icc(np.ones((1, 4))).reason
    assert "two complete subjects" in icc(np.ones((4, 1))).reason
    holes = SHROUT_FLEISS.copy()
    holes[0, 0] = np.nan
    assert icc(holes).n_subjects == 5
    assert icc(np.full((4, 3), np.nan)).estimate is None
    perfect = icc(np.repeat(np.arange(5.0)[:, None], 3, axis=1))
    assert (perfect.estimate, perfect.low, perfect.high) == (1.0, 1.0, 1.0)
    for wrong in (np.ones(4), np.ones((2, 2, 2))):
        with pytest.raises(InputError, match="subjects by measurements"):
            icc(wrong)
    with pytest.raises(InputError, match="form"):
        icc(SHROUT_FLEISS, "ICC(4,1)")
    with pytest.raises(InputError, match="confidence"):
        icc(SHROUT_FLEISS, confidence=95)


@pytest.mark.parametrize("sd", [2.0, 12.0])
def test_noise_is_measured_over_anatomy(sd: float) -> None:
    image, mask = body(noise=sd)
    assert noise_sd(image, mask) == pytest.approx(sd, rel=0.06)
    assert noise_sd(image.with_array(np.round(image.array).astype(np.int16)), mask) == pytest.approx(sd, rel=0.1)
    assert noise_sd(image.with_array(np.full(image.array.shape, 7))) == 0.0
    ramp = image.with_array(np.add.outer(np.arange(22.0), np.add.outer(np.arange(44.0), 2 * np.arange(44.0))))
    assert noise_sd(ramp) == pytest.approx(0.0, abs=1e-9)


def test_no_change_gives_back_the_voxels() -> None:
    image, mask = body()
    seen, inside = perturb(image, mask, Perturbation(), FAST)
    start = np.rint(image.grid.indices_kji(seen.grid.points_ras(np.zeros((1, 3))))[0]).astype(int)
    window = tuple(slice(max(s, 0), s + n) for s, n in zip(start, seen.array.shape, strict=True))
    np.testing.assert_array_equal(inside.array.sum(), mask.array.sum())
    where = np.argwhere(inside.array)
    back = np.rint(image.grid.indices_kji(inside.grid.points_ras(where))).astype(int)
    np.testing.assert_allclose(seen.array[tuple(where.T)], image.array[tuple(back.T)], atol=1e-9)
    assert image.array[window].size
    plain, again = extract(image, mask, FAST).values(), extract(seen, inside, FAST).values()
    assert again == pytest.approx(plain, rel=1e-9, abs=1e-9, nan_ok=True)


def test_turned_and_shifted_points_stay_where_they_are_in_the_patient() -> None:
    """A linear function of RAS, on oblique axes: wherever the new grid samples it, it must be itself."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    matrix = np.eye(4)
    matrix[:3, :3] = turn * [0.9, 1.1, 2.5]
    matrix[:3, 3] = [30, -20, 50]
    grid = Grid((20, 40, 44), matrix)
    slope = np.array([1.0, -2.0, 0.5])
    image = Volume(grid.all_points_ras() @ slope, grid)
    inside = np.zeros(grid.shape, bool)
    inside[8:13, 15:25, 18:28] = True
    mask = Mask(inside, grid)
    for spacing in (None, (1.0, 1.0, 1.0), (1.5, 1.5)):
        settings = Settings(spacing_mm=spacing)
        change = Perturbation(25.0, (0.3, 0.4, 0.7))
        seen, region = perturb(image, mask, change, settings)
        wanted = seen.grid.points_ras(np.argwhere(region.array)) @ slope
        np.testing.assert_allclose(seen.array[region.array], wanted, atol=1e-9)
        target = [2.5, 1.1, 0.9]
        target[3 - len(spacing or ()):] = spacing or ()
        np.testing.assert_allclose(seen.grid.spacing_kji_mm, target)
        assert region.volume_ml == pytest.approx(mask.volume_ml, rel=0.08)
        centre = [one.grid.points_ras(np.argwhere(one.array)).mean(axis=0) for one in (mask, region)]
        off_voxels = seen.grid.indices_kji(np.array(centre))
        assert np.abs(off_voxels[0] - off_voxels[1]).max() < 0.51
        angle = np.arccos(np.clip(seen.grid.directions[:, 0] @ grid.directions[:, 0], -1, 1))
        assert np.rad2deg(angle) == pytest.approx(25.0)


def test_grid_shifts_by_the_share_of_a_voxel() -> None:
    image, mask = body()
    still, _ = perturb(image, mask, Perturbation(), FAST)
    moved, _ = perturb(image, mask, Perturbation(translation_kji=(0.25, 0.5, 0.125)), FAST)
    steps = still.grid.indices_kji(moved.grid.points_ras(np.zeros((1, 3))))[0]
    assert steps == pytest.approx([0.25, 0.5, 0.125])


def test_volume_is_changed_by_what_was_asked() -> None:
    image, mask = body()
    for share in (-0.3, -0.1, 0.1, 0.4):
        _, grown = perturb(image, mask, Perturbation(volume_share=share), FAST)
        assert grown.volume_ml / mask.volume_ml == pytest.approx(1 + share, abs=0.001)
        _, shape = grown.bounding_box_kji()
        assert max(shape[1:]) - min(shape[1:]) <= 2


def test_contour_moves_by_its_standard_deviation() -> None:
    """The radius of a ball, over the directions in the slice, gets the spread that was asked (voxels of 0.5 mm)."""
    shape = (9, 121, 121)
    grid = Grid(shape, np.diag([0.5, 0.5, 0.5, 1.0]))
    _, j, i = np.indices(shape) - np.array([4, 60, 60])[:, None, None, None]
    mask = Mask(np.hypot(j, i) * 0.5 <= 15.0, grid)
    image = Volume(np.zeros(shape), grid)
    spreads = []
    for seed in range(6):
        _, moved = perturb(image, mask, Perturbation(contour_mm=1.5), FAST, seed=seed)
        at = np.argwhere(moved.array[moved.array.shape[0] // 2]) - np.argwhere(moved.array.any(axis=0)).mean(axis=0)
        angle = np.arctan2(at[:, 0], at[:, 1])
        bins = np.digitize(angle, np.linspace(-np.pi, np.pi, 25))
        spreads.append([0.5 * np.hypot(*at[bins == b].T).max() for b in range(1, 25)])
    assert np.std(spreads) == pytest.approx(1.5, rel=0.35)
    assert moved.volume_ml == pytest.approx(mask.volume_ml, rel=0.001)


def cohort(n: int = 6) -> tuple[list[Volume], list[Mask]]:
    pairs = [body(5.0 + seed, seed, contrast=10.0 * seed) for seed in range(n)]
    return [image for image, _ in pairs], [mask for _, mask in pairs]


def test_cohort_separates_what_is_stable_from_what_is_not() -> None:
    images, masks = cohort()
    result = stability(images, masks, FAST, n=5, seed=1)
    assert result.kind == "cohort"
    assert result.values.shape == (6, 5, len(result.features))
    dropped = result.unstable()
    assert "morph_volume" not in dropped
    assert result.features["morph_volume"].icc["ICC(1,1)"].low > 0.9
    assert {*dropped, *result.stable()} == set(result.features)
    assert len(result.unstable(0.99)) > len(result.unstable(0.5))
    for key, one in result.features.items():
        found = one.icc["ICC(1,1)"]
        if found.low is not None and 0.01 < found.low < found.estimate - 0.01:
            assert key in result.unstable(0.5 * (found.low + found.estimate))  # the bound counts, not the estimate
            assert one.undefined or key not in result.unstable(found.low - 0.005)
    by_hand = icc(result.values[:, :, list(result.features).index("stat_mean")], "ICC(2,1)")
    assert result.features["stat_mean"].icc["ICC(2,1)"] == by_hand
    rows = stability_table(result)
    assert [row["feature"] for row in rows] == list(result.features)
    assert {row["feature"] for row in rows if not row["stable"]} == set(dropped)
    assert all(row["icc_low"] < 0.75 for row in rows if row["reason"].startswith("lower bound"))
    features = extract(images[0], masks[0], FAST)
    kept = drop_unstable(features, result)
    assert set(kept.features) == set(result.stable())
    assert "dropped as unstable" in kept.warnings[-1]
    with pytest.raises(InputError, match="different settings"):
        drop_unstable(extract(images[0], masks[0], Settings(families=("statistics",))), result)


def test_pure_noise_is_dropped() -> None:
    """The same ball in every patient: nothing is between patients, so nothing may be called stable."""
    pairs = [body(9.0, seed=0) for _ in range(8)]
    result = stability([p[0] for p in pairs], [p[1] for p in pairs], Settings(families=("statistics",)), n=4)
    assert len(result.stable()) == 0


def test_one_patient_gets_no_icc() -> None:
    image, mask = body()
    result = stability(image, mask, FAST, n=5)
    assert result.kind == "patient"
    assert all(not one.icc for one in result.features.values())
    assert not any("icc" in row for row in stability_table(result))
    assert any("needs a cohort" in line for line in result.warnings)
    volume = result.features["morph_volume"]
    values = result.values[0, :, list(result.features).index("morph_volume")]
    assert volume.cv == pytest.approx(values.std(ddof=1) / values.mean())
    assert "morph_volume" in result.unstable(0.001)
    listed = stability([image], [mask], FAST, n=2)
    assert listed.kind == "patient"


def test_one_seed_one_result() -> None:
    image, mask = body()
    again = [stability(image, mask, FAST, n=3, seed=seed).values for seed in (5, 5, 6)]
    np.testing.assert_array_equal(again[0], again[1])
    assert not np.array_equal(again[0], again[2], equal_nan=True)


def test_perturbation_number_is_the_same_for_every_patient() -> None:
    ranges = Perturbations(rotation_deg=20, translation_voxels=0.5, volume_share=0.2)
    drawn = [ranges.draw(7, n) for n in range(200)]
    assert drawn[3] == ranges.draw(7, 3)
    assert drawn[3] != ranges.draw(8, 3)
    turns, grown = np.array([d.rotation_deg for d in drawn]), np.array([d.volume_share for d in drawn])
    assert np.abs(turns).max() <= 20 < 21 * np.abs(turns).max() / 19
    assert turns.mean() == pytest.approx(0.0, abs=3.0)
    assert np.abs(grown).max() <= 0.2
    assert all(0 <= shift <= 0.5 for d in drawn for shift in d.translation_kji)


def test_progress_cancel_and_lazy_patients() -> None:
    image, mask = body()
    seen: list[float] = []
    stability([image, image], [mask, mask], FAST, n=2, progress=lambda share, text: seen.append(share))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    result = stability((one for one in (image, image)), (one for one in (mask, mask)), FAST, n=2)
    assert result.values.shape[:2] == (2, 2)
    with pytest.raises(CancelledError):
        stability(image, mask, FAST, n=3, cancelled=lambda: True)


def test_filters_reach_beyond_the_region() -> None:
    image, mask = body(spacing_ijk=(1.0, 1.0, 1.0))
    settings = Settings(families=("statistics",), filter={"type": "log", "sigma_mm": 3.0})
    result = stability(image, mask, settings, n=2, perturbations=Perturbations(0, 0.5, 0, 0, 0))
    plain = extract(image, mask, settings).values()
    assert all(key.startswith("log_sigma3mm__") for key in result.features)
    key = "log_sigma3mm__stat_mean"
    assert result.features[key].mean == pytest.approx(plain[key], rel=0.2)


def test_hostile_input_is_one_line() -> None:
    image, mask = body()
    nothing = mask.with_array(np.zeros(mask.array.shape, bool))
    with pytest.raises(EmptyMaskError):
        stability(image, nothing, FAST)
    with pytest.raises(InputError, match="as many masks"):
        stability([image, image], [mask], FAST, n=2)
    with pytest.raises(InputError, match="one image and one mask"):
        stability(image, [mask], FAST, n=2)
    with pytest.raises(InputError, match="no patient"):
        stability([], [], FAST)
    for n in (1, 2.0, True):
        with pytest.raises(InputError, match="at least 2"):
            stability(image, mask, FAST, n=n)
    with pytest.raises(FrameMismatchError):
        stability(image, Mask(mask.array, Grid(mask.array.shape, np.diag([1.1, 1.1, 2.2, 1.0]))), FAST, n=2)
    bad = image.array.copy()
    bad[mask.array] = np.nan
    with pytest.raises(InputError, match="NaN"):
        stability(image.with_array(bad), mask, FAST, n=2, perturbations=Perturbations(noise=0))
    for wrong in ({"rotation_deg": -1}, {"noise": float("nan")}, {"volume_share": 1.0}, {"contour_mm": "1"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Perturbations(**wrong)
    with pytest.raises(InputError, match="switched off"):
        Perturbations(0, 0, 0, 0, 0)
    result = stability(image, mask, FAST, n=2)
    for threshold in (0.0, 1.5, "0.8", True):
        with pytest.raises(InputError, match="threshold"):
            result.unstable(threshold)


def test_one_voxel_and_one_slice_are_measured_or_refused() -> None:
    image, mask = body()
    one = np.zeros(mask.array.shape, bool)
    one[11, 22, 22] = True
    result = stability(image, mask.with_array(one), FAST, n=4)
    assert any("morph" in key for key in result.unstable())
    flat_grid = Grid((1, 44, 44), image.ras_from_ijk)
    flat = Volume(image.array[11:12], flat_grid)
    result = stability(flat, Mask(mask.array[11:12], flat_grid), Settings(families=("statistics",)), n=3)
    assert result.features["stat_mean"].sd > 0


def test_result_is_plain_json() -> None:
    import json

    images, masks = cohort(3)
    text = json.dumps(stability(images, masks, FAST, n=2).to_dict(), allow_nan=False)
    assert json.loads(text)["n_perturbations"] == 2
    assert "validated_on" in json.loads(text)
