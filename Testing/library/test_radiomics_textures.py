"""Texture features: a referee written from the definitions, values worked out by hand, invariances, hostile input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from IRAILib.biopsy.radiomics import texture_cells
from IRAILib.biopsy.radiomics.aggregate import (
    AGGREGATIONS,
    TEXTURE_FAMILIES,
    texture_features,
    texture_names,
    why_undefined,
)
from IRAILib.geometry import InputError
from radiomics_by_hand import all_features

SIZE_NAMES = {
    "rlm": ("sre", "lre", "lgre", "hgre", "srlge", "srhge", "lrlge", "lrhge", "glnu", "glnu_norm", "rlnu", "rlnu_norm",
            "r_perc", "gl_var", "rl_var", "rl_entr"),
    "szm": ("sze", "lze", "lgze", "hgze", "szlge", "szhge", "lzlge", "lzhge", "glnu", "glnu_norm", "zsnu", "zsnu_norm",
            "z_perc", "gl_var", "zs_var", "zs_entr"),
    "dzm": ("sde", "lde", "lgze", "hgze", "sdlge", "sdhge", "ldlge", "ldhge", "glnu", "glnu_norm", "zdnu", "zdnu_norm",
            "z_perc", "gl_var", "zd_var", "zd_entr"),
    "ngl": ("lde", "hde", "lgce", "hgce", "ldlge", "ldhge", "hdlge", "hdhge", "glnu", "glnu_norm", "dcnu", "dcnu_norm",
            "dc_perc", "gl_var", "dc_var", "dc_entr", "dc_energy"),
}


def random_levels(seed: int, shape: tuple[int, int, int], n: int, filled: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    levels = rng.integers(1, n + 1, shape)
    levels[1:, 1:] = np.where(rng.random(levels[1:, 1:].shape) < 0.4, levels[:-1, :-1], levels[1:, 1:])
    return np.where(rng.random(shape) < filled, levels, 0)


def differences(ours: dict[str, float], theirs: dict[str, float]) -> list[str]:
    return [f"{key}: {value} against {theirs.get(key, math.nan)}" for key, value in ours.items()
            if not (math.isclose(value, theirs.get(key, math.nan), rel_tol=1e-9, abs_tol=1e-10)
                    or (math.isnan(value) and math.isnan(theirs.get(key, math.nan))))]


CASES = {"full box": ((3, 5, 4), 4, 1.1, {}), "holes": ((4, 5, 5), 3, 0.7, {}), "sparse": ((4, 5, 6), 2, 0.2, {}),
         "one slice": ((1, 7, 6), 5, 0.9, {}), "one row": ((1, 1, 12), 3, 0.9, {}), "column": ((9, 1, 2), 2, 1.1, {}),
         "far": ((4, 6, 6), 3, 0.9, {"glcm_distance": 2, "ngldm_distance": 2, "ngldm_alpha": 1.0})}


@pytest.mark.parametrize("name", list(CASES))
def test_every_feature_is_what_its_definition_says(name: str) -> None:
    shape, n, filled, options = CASES[name]
    levels = random_levels(len(name), shape, n, filled)
    ours = texture_features(levels, n, **options)
    by_hand = all_features(levels, n, SIZE_NAMES, distance=options.get("glcm_distance", 1),
                           reach=options.get("ngldm_distance", 1), alpha=options.get("ngldm_alpha", 0.0))
    assert len(ours) == 408
    assert differences(ours, by_hand) == []
    assert sum(not math.isnan(v) for v in ours.values()) > 300


def test_distance_zones_look_at_the_morphological_mask() -> None:
    """Re-segmentation cut a hole into the region; the hole isn't an edge, but the mask reaches beyond the levels."""
    mask = np.zeros((5, 9, 9), bool)
    mask[1:4, 1:8, 0:8] = True
    levels = np.where(mask, random_levels(3, mask.shape, 3, 0.8), 0)
    levels[:, :3] = 0
    ours = texture_features(levels, 3, families=("gldzm",), morphological=mask)
    by_hand = all_features(levels, 3, SIZE_NAMES, mask=mask)
    assert differences(ours, by_hand) == []
    alone = texture_features(levels, 3, families=("gldzm",))
    assert differences(ours, alone) != []
    assert differences(alone, texture_features(levels, 3, families=("gldzm",), morphological=mask & ~mask)) == []


def test_distance_is_one_at_the_edge_of_the_image() -> None:
    ours = texture_features(np.full((5, 5, 5), 2), 2, families=("gldzm",))
    assert ours["dzm_sde_3D"] == 1.0  # one zone, its least distance is 1 though the mask fills the image
    nested = np.ones((7, 7, 7), int)
    nested[2:5, 2:5, 2:5] = 2  # its corner voxels lie 3 steps within, from either side
    ours = texture_features(nested, 2, families=("gldzm",))
    assert ours["dzm_lde_3D"] == pytest.approx((1 + 9) / 2)
    assert ours["dzm_z_perc_3D"] == pytest.approx(2 / 343)


def test_a_voxel_alone() -> None:
    levels = np.zeros((3, 4, 5), int)
    levels[1, 2, 3] = 2
    ours = texture_features(levels, 4)
    assert all(math.isnan(v) for k, v in ours.items() if k.startswith(("cm_", "ngt_")))
    rest = {k: v for k, v in ours.items() if not k.startswith(("cm_", "ngt_"))}
    assert all(math.isfinite(v) for v in rest.values())
    for key in ("rlm_sre_3D_comb", "szm_lze_3D", "dzm_sde_2D", "ngl_lde_2_5D", "rlm_r_perc_2D_avg", "szm_z_perc_3D"):
        assert ours[key] == 1.0
    assert ours["rlm_hgre_3D_avg"] == 4.0
    assert ours["szm_lgze_3D"] == 0.25
    assert ours["rlm_rl_entr_3D_comb"] == 0.0
    assert all("no " in why_undefined(k) for k, v in ours.items() if math.isnan(v))


def test_voxels_that_do_not_touch() -> None:
    levels = np.zeros((7, 7, 7), int)
    levels[::3, ::3, ::3] = 1
    ours = texture_features(levels, 3)
    assert all(math.isnan(v) for k, v in ours.items() if k.startswith(("cm_", "ngt_")))
    assert ours["szm_sze_3D"] == ours["ngl_lde_3D"] == ours["rlm_sre_2D_avg"] == 1.0
    assert ours["szm_zsnu_3D"] == 27.0
    assert ours["szm_z_perc_2D"] == 1.0


def test_two_voxels_of_one_level() -> None:
    levels = np.zeros((3, 4, 4), int)
    levels[1, 1, 1:3] = 1
    ours = texture_features(levels, 1)
    assert ours["rlm_r_perc_3D_avg"] == pytest.approx((0.5 + 12 * 1.0) / 13)
    assert ours["rlm_r_perc_2D_comb"] == pytest.approx((1 + 3 * 2) / (4 * 2))
    assert ours["rlm_lre_3D_comb"] == pytest.approx((4 + 12 * 2) / 25)
    assert ours["szm_lze_3D"] == 4.0
    assert ours["ngl_hde_3D"] == 4.0


def test_one_level_everywhere() -> None:
    """What is defined is its limit; the one feature that is 0 / 0 is nan with a reason."""
    ours = texture_features(np.ones((4, 5, 6), int), 1)
    undefined = {k for k, v in ours.items() if math.isnan(v)}
    assert undefined == {f"cm_info_corr1_{way}" for way in AGGREGATIONS}
    assert "single grey level" in why_undefined("cm_info_corr1_3D_comb")
    for way in AGGREGATIONS:
        assert ours[f"cm_corr_{way}"] == ours[f"cm_energy_{way}"] == ours[f"cm_joint_max_{way}"] == 1.0
        assert ours[f"cm_inv_var_{way}"] == ours[f"cm_info_corr2_{way}"] == ours[f"cm_joint_entr_{way}"] == 0.0
    assert ours["szm_lze_3D"] == 120.0**2
    assert ours["rlm_lre_3D_avg"] > 1
    for way in ("2D", "2_5D", "3D"):
        assert ours[f"ngt_coarseness_{way}"] == 1e6
        assert [ours[f"ngt_{f}_{way}"] for f in ("contrast", "busyness", "complexity", "strength")] == [0.0] * 4


def test_one_undefined_slice_does_not_spoil_an_average() -> None:
    levels = np.zeros((2, 4, 4), int)
    levels[0] = random_levels(1, (1, 4, 4), 4, 1.1)
    alone = texture_features(levels, 4, aggregations=("2D_avg",))
    levels[1, 0, 0] = 1  # a slice of one voxel: no pair, no neighbour
    both = texture_features(levels, 4, aggregations=("2D_avg",))
    pairs = {k: v for k, v in both.items() if k.startswith(("cm_", "ngt_"))}
    assert differences(pairs, alone) == []
    assert both["szm_lze_2D"] == pytest.approx((alone["szm_lze_2D"] + 1) / 2)


def test_place_orientation_and_type_do_not_matter() -> None:
    levels = random_levels(7, (5, 6, 7), 6, 0.8)
    want = texture_features(levels, 6)
    far = np.zeros((9, 30, 25), np.uint8)
    far[3:8, 20:26, 11:18] = levels
    assert differences(texture_features(far, 6), want) == []
    assert differences(texture_features(np.asfortranarray(levels.astype(np.int64)), 6), want) == []
    volume = {k: v for k, v in want.items() if "_3D" in k}
    for other in (levels.transpose(2, 0, 1), levels[::-1], levels[:, ::-1, ::-1]):
        turned = texture_features(other, 6, aggregations=("3D",))
        assert set(turned) == set(volume)
        assert differences(turned, volume) == []
    stacked = {k: v for k, v in want.items() if "_3D" not in k}
    assert differences(texture_features(levels.transpose(0, 2, 1), 6, aggregations=("2D", "2_5D")), stacked) == []


def test_many_levels_are_counted_by_sorting_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = random_levels(2, (4, 6, 6), 5, 0.9)
    want = texture_features(levels, 5)
    real = texture_cells.tally

    def sorting(key: np.ndarray, weight: np.ndarray | None = None):
        if not len(key):
            return real(key, weight)
        found, inverse = np.unique(key, return_inverse=True)
        return found, np.bincount(inverse, weights=weight).astype(float)

    for name in ("texture_cells", "glcm", "ngtdm"):
        monkeypatch.setattr(f"IRAILib.biopsy.radiomics.{name}.tally", sorting)
    assert differences(texture_features(levels, 5), want) == []


def test_tally_counts_and_weighs_small_and_huge_keys() -> None:
    for scale in (1, 10**14):
        key = np.array([5, 2, 5, 2, 2, 9]) * scale
        found, count = texture_cells.tally(key)
        assert (found == np.array([2, 5, 9]) * scale).all()
        assert count.tolist() == [3, 2, 1]
        assert texture_cells.tally(key, np.arange(6.0))[1].tolist() == [8, 2, 5]


def test_levels_beyond_16_bits() -> None:
    levels = np.array([[[1, 70_000, 1, 70_000]]])
    ours = texture_features(levels, 70_000, aggregations=("3D_comb",))
    assert ours["cm_contrast_3D_comb"] == pytest.approx(69_999.0**2)
    assert ours["ngt_contrast_3D"] > 0
    assert all(math.isfinite(v) for v in ours.values())


def test_weighting_by_distance() -> None:
    levels = random_levels(4, (4, 5, 6), 4, 0.9)
    plain = texture_features(levels, 4)
    even = texture_features(levels, 4, weighting="chebyshev")  # every neighbour is one voxel of 1 mm away
    assert differences(even, plain) == []
    uneven = texture_features(levels, 4, weighting="euclidean")
    changed = {k for k in plain if not math.isclose(plain[k], uneven[k], rel_tol=1e-9, abs_tol=1e-12)}
    assert changed
    assert all(k.startswith(("cm_", "rlm_")) and k.endswith("comb") for k in changed)
    thick = texture_features(levels, 4, weighting="manhattan", spacing_mm=(50.0, 1.0, 1.0))
    for name in ("contrast", "joint_entr", "corr"):  # across slices nothing weighs anything: 3D is 2.5D
        assert thick[f"cm_{name}_3D_comb"] == pytest.approx(thick[f"cm_{name}_2_5D_comb"], rel=1e-9)
        assert abs(plain[f"cm_{name}_3D_comb"] - plain[f"cm_{name}_2_5D_comb"]) > 1e-4


def test_only_what_was_asked_for() -> None:
    levels = random_levels(9, (4, 5, 6), 4, 0.9)
    want = texture_features(levels, 4)
    assert list(want) == texture_names()
    for families, ways in ((("glrlm", "ngldm"), ("2D_comb",)), (("glcm",), ("2_5D_avg", "3D_comb")),
                           (("glszm",), ("3D",)), (("gldzm", "ngtdm"), ("2_5D",)), (TEXTURE_FAMILIES, ("2D",))):
        some = texture_features(levels, 4, families=families, aggregations=ways)
        assert list(some) == texture_names(families, ways)
        assert some
        assert differences(some, want) == []
    assert list(texture_features(levels, 4, families=("glszm", "glcm"), aggregations=("2D_avg",)))[-1] == \
        "szm_zs_entr_2D"
    assert texture_features(levels, 4, families=()) == {}


def test_it_can_be_cancelled() -> None:
    class Enough(Exception):
        pass

    def check() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise Enough

    asked: list[int] = []
    with pytest.raises(Enough):
        texture_features(random_levels(9, (4, 5, 6), 4, 0.9), 4, check=check)


def test_an_empty_region_is_nan_with_its_reason() -> None:
    for shape in ((3, 4, 5), (0, 4, 5)):
        ours = texture_features(np.zeros(shape, int), 4)
        assert list(ours) == texture_names()
        assert all(math.isnan(v) for v in ours.values())
    assert why_undefined("szm_sze_3D") == "the region is empty"
    assert "co-occurrence" in why_undefined("log_sigma2mm__cm_corr_3D_avg")


@pytest.mark.parametrize(("levels", "n", "options", "said"), [
    (np.ones((3, 3)), 1, {}, "integer array"),
    (np.ones((3, 3, 3)) * 1.5, 2, {}, "integer array"),
    (np.full((2, 2, 2), 5), 4, {}, "run from 5 to 5"),
    (np.full((2, 2, 2), -1), 4, {}, "run from -1"),
    (np.ones((2, 2, 2), int), 1, {"families": ("glcm", "lbp")}, "'lbp'"),
    (np.ones((2, 2, 2), int), 1, {"aggregations": ("4D",)}, "'4D'"),
    (np.ones((2, 2, 2), int), 1, {"weighting": "gaussian"}, "'gaussian'"),
    (np.ones((2, 2, 2), int), 1, {"morphological": np.ones((2, 2, 3), bool)}, "(2, 2, 3)"),
    (np.ones((2, 2, 2), int), 1, {"glcm_distance": 0}, "glcm_distance"),
    (np.ones((2, 2, 2), int), 1, {"ngldm_distance": 1.5}, "ngldm_distance"),
    (np.ones((2, 2, 2), int), 1, {"ngldm_alpha": math.nan}, "ngldm_alpha"),
    (np.ones((2, 2, 2), int), 1, {"weighting": "euclidean", "spacing_mm": (1.0, 0.0, 1.0)}, "spacing_mm"),
])
def test_bad_input_is_named(levels: np.ndarray, n: int, options: dict, said: str) -> None:
    with pytest.raises(InputError) as error:
        texture_features(levels, n, **options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
