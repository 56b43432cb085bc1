"""extract() and `irai biopsy features` with input that is wrong, odd or empty: a clear line or a stated value."""

from __future__ import annotations

import csv
import json
import math
import warnings

import numpy as np
import pytest
from IRAILib.biopsy.radiomics import FAMILIES, Settings, extract, parse_key
from IRAILib.biopsy.radiomics.names import keys_of, names
from IRAILib.biopsy.radiomics.presets import PRESETS, preset
from IRAILib.biopsy.radiomics.region import cut_out_in_place
from IRAILib.cli.main import main
from IRAILib.geometry import (
    CancelledError,
    EmptyMaskError,
    FrameMismatchError,
    Grid,
    InputError,
    Mask,
    RefusedError,
    Volume,
)
from IRAILib.images import write_volume

SHAPE = (9, 12, 14)


def grid(shape=SHAPE, spacing=(1.0, 1.0, 1.0)) -> Grid:
    return Grid(shape, np.diag([*spacing, 1.0]))


def noise(shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(1).normal(100.0, 20.0, shape)


def block(shape=SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[3:7, 3:8, 4:10] = True
    return mask


def run(image: np.ndarray, mask: np.ndarray, spacing=(1.0, 1.0, 1.0), **settings):
    """Extract with every warning an error, and check what every result must hold."""
    place = grid(image.shape, spacing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = extract(Volume(image, place, "image"), Mask(mask, place, "mask"), Settings(**settings))
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["features"].keys() == found.features.keys()
    for key, feature in found.features.items():
        assert (feature.value is None) == bool(feature.reason), key
        assert feature.value is None or math.isfinite(feature.value), key
        assert document["undefined"].get(key, "") == feature.reason
    return found


def test_every_feature_in_a_fixed_order():
    keys = [key for family in FAMILIES for key in keys_of(family, Settings().aggregations)]
    assert list(run(noise(), block()).features) == keys
    assert len(keys) == 487
    assert list(run(noise() * 3, block(), discretisation=("fbs", 5, 0)).features) == keys


def test_codes_are_the_manuals_and_unique():
    codes = [name.code for name in names().values()]
    assert len(set(codes)) == len(codes) == 174
    assert parse_key("log_sigma2mm__cm_contrast_2_5D_comb")[1].code == "ACUI"
    assert parse_key("szm_sze_3D")[2] == "3D"
    for wrong in ("cm_contrast", "szm_sze_3D_comb", "nonsense", "morph_volume_3D"):
        with pytest.raises(InputError, match=wrong):
            parse_key(wrong)


def test_empty_mask():
    with pytest.raises(EmptyMaskError, match="mask"):
        run(noise(), np.zeros(SHAPE, bool))


def test_one_voxel_has_stated_values():
    mask = np.zeros(SHAPE, bool)
    mask[4, 5, 6] = True
    found = run(noise(), mask)
    values = found.values()
    assert values["morph_vol_approx"] == 1.0
    assert values["stat_mean"] == values["stat_max"] == pytest.approx(noise()[4, 5, 6])
    assert values["stat_var"] == 0.0
    assert "single voxel" in found.undefined()["morph_moran_i"]
    assert math.isnan(values["cm_contrast_3D_comb"])
    assert any("single voxel" in line for line in found.warnings)


@pytest.mark.parametrize("constant", [0, 7, -1000])
def test_constant_intensity(constant):
    found = run(np.full(SHAPE, constant, np.int16), block())
    assert found.values()["stat_mean"] == constant
    assert found.values()["ih_entropy"] == 0.0
    assert found.undefined()["stat_skew"] == "all intensities are equal"
    assert any("equal" in line for line in found.warnings)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_number_inside_is_refused_and_beside_it_is_mended(bad):
    image = noise()
    image[4, 4, 5] = bad
    with pytest.raises(InputError, match="1 of 120 voxels inside the mask"):
        run(image, block())
    image = noise()
    image[0] = bad
    found = run(image, block(), spacing_mm=0.8)
    assert any("nearest number" in line for line in found.warnings)
    far = np.full((30, 12, 14), 5.0)
    far[-1] = bad
    assert not any("nearest" in line for line in run(far, block((30, 12, 14))).warnings)


def test_two_regions_together_or_the_largest():
    mask = np.zeros(SHAPE, bool)
    mask[1:3, 1:3, 1:3] = mask[5:8, 6:9, 6:9] = True
    both, largest = run(noise(), mask), run(noise(), mask, regions="largest")
    assert both.voxels == 35
    assert largest.voxels == 27
    assert "27, 8 voxels" in " ".join(both.warnings)
    alone = np.zeros(SHAPE, bool)
    alone[5:8, 6:9, 6:9] = True
    assert largest.values() == pytest.approx(run(noise(), alone).values(), nan_ok=True)


def test_mask_on_another_grid_is_refused_or_resampled():
    image = Volume(noise(), grid(), "image")
    half = np.diag([0.5, 0.5, 1.0, 1.0])
    half[:2, 3] = -0.25
    fine = Mask(np.repeat(np.repeat(block(), 2, 1), 2, 2), Grid((9, 24, 28), half), "m")
    with pytest.raises(FrameMismatchError, match=r"another grid.*resample_mask"):
        extract(image, fine)
    found = extract(image, fine, Settings(resample_mask=True))
    assert found.voxels == 120
    assert any("resampled" in line for line in found.warnings)
    away = Mask(block(), Grid(SHAPE, np.array([[1, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])), "m")
    with pytest.raises(FrameMismatchError, match="another image"):
        extract(image, away, Settings(resample_mask=True))


def test_a_cut_out_mask_on_the_images_voxels_is_put_in_place_exactly():
    place = Grid(SHAPE, np.array([[0, -2.0, 0, 7], [1.5, 0, 0, -3], [0, 0, 4, 11], [0, 0, 0, 1.0]]))
    image, mask = Volume(noise(), place, "image"), Mask(block(), place, "mask")
    cut = mask.crop((2, 1, 3), (7, 10, 9))
    with pytest.raises(FrameMismatchError, match="another grid"):
        extract(image, cut)
    asked = Settings(resample_mask=True)
    assert extract(image, cut, asked).values() == extract(image, mask).values()
    beyond = Mask(np.pad(block(), 2), place.cropped_grid((-2, -2, -2), tuple(n + 4 for n in SHAPE)), "mask")
    assert extract(image, beyond, asked).values() == extract(image, mask).values()
    half = np.eye(4)
    half[:3, 3] = 0.5
    shifted = Mask(block(), Grid(SHAPE, place.ras_from_ijk @ half), "mask")
    turned = Mask(block()[:, ::-1, ::-1], Grid(SHAPE, place.ras_from_ijk @ np.array(
        [[-1, 0, 0, 13], [0, -1, 0, 11], [0, 0, 1, 0], [0, 0, 0, 1.0]])), "mask")
    assert cut_out_in_place(image, shifted) is None
    assert cut_out_in_place(image, turned) is None


def test_other_frame_of_reference_is_refused():
    with pytest.raises(FrameMismatchError, match="frame"):
        extract(Volume(noise(), grid(), "i", "1.2.3"), Mask(block(), grid(), "m", "1.2.4"))


def test_single_slice_image_and_mask():
    flat = run(noise()[:1], block()[4:5])
    for key, value in flat.values().items():
        if key.endswith("_3D_comb") and key.startswith("cm"):
            assert value == pytest.approx(flat.values()[key.replace("3D_comb", "2D_comb")], nan_ok=True), key
    assert any("one slice" in line for line in flat.warnings)
    run(noise()[:1], block()[4:5], spacing_mm=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.float32, bool])
def test_number_types_give_what_float64_gives(dtype):
    image = noise().astype(np.int64) % 100
    image = image > 40 if dtype is bool else image.astype(dtype)
    assert run(image, block()).values() == pytest.approx(run(image.astype(float), block()).values(), nan_ok=True)


def test_uint8_pet_with_a_fixed_width_without_start_warns():
    image = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    assert any("give start" in line for line in run(image, block(), discretisation=("fbs", 10)).warnings)


def test_huge_values_are_refused():
    with pytest.raises(InputError, match="scaling"):
        run(noise() * 1e300, block())
    with pytest.raises(InputError, match="complex128"):
        run(noise().astype(complex), block())
    with pytest.raises(RefusedError, match="grey levels"):
        run(noise() * 1e6, block(), discretisation=("fbs", 25, -1000))


def test_huge_region_is_refused_before_memory_is_asked_for():
    with pytest.raises(RefusedError, match="most_voxels"):
        run(noise(), block(), spacing_mm=0.001)


def test_border_and_anisotropy_are_said():
    lines = " ".join(run(noise(), np.ones(SHAPE, bool), (0.7, 0.7, 5.0)).warnings)
    assert "border" in lines
    assert "0.7x0.7x5 mm" in lines


def test_resegmentation_that_leaves_nothing_and_interpolation_that_does():
    with pytest.raises(EmptyMaskError, match="intensities inside go from"):
        run(noise(), block(), resegment=(5000, 6000))
    one = np.zeros(SHAPE, bool)
    one[4, 5, 6] = True
    with pytest.raises(EmptyMaskError, match="finer spacing_mm"):
        run(noise(), one, spacing_mm=4)


def test_both_limits_are_judged_on_the_whole_region():
    image = noise()
    image[3, 3, 4] = 1e4
    inside = image[block()]
    keep = (np.abs(inside - inside.mean()) <= 2 * inside.std()) & (inside >= 90)
    found = run(image, block(), resegment=(90, None), outlier_sigma=2)
    assert found.voxels == keep.sum()
    assert found.values()["morph_vol_approx"] == 120.0


def test_sheared_axes_are_refused():
    matrix = np.eye(4)
    matrix[0, 2] = 0.3
    place = Grid(SHAPE, matrix)
    with pytest.raises(RefusedError, match="right angles"):
        extract(Volume(noise(), place, "i"), Mask(block(), place, "m"))


def test_oblique_axes_change_nothing():
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    place = Grid(SHAPE, turn)
    found = extract(Volume(noise(), place), Mask(block(), place), Settings(spacing_mm=1.3)).values()
    assert found == pytest.approx(run(noise(), block(), spacing_mm=1.3).values(), nan_ok=True)


def test_far_voxels_do_not_matter():
    """Only the mask's surroundings are looked at: the rest of a large scan may hold anything."""
    image, mask = np.zeros((40, 50, 60)), np.zeros((40, 50, 60), bool)
    image[15:24, 20:32, 25:39], mask[15:24, 20:32, 25:39] = noise(), block()
    other = image.copy()
    other[:4], other[36:], other[:, :, 54:] = 1e5, -1e5, 77.0
    options = {"spacing_mm": 1.4, "interpolation": "linear"}
    assert run(image, mask, **options).values() == run(other, mask, **options).values()


def test_progress_and_cancel():
    told = []
    place = grid()
    image, mask = Volume(noise(), place), Mask(block(), place)
    extract(image, mask, progress=lambda share, text: told.append((share, text)))
    assert told[-1] == (1.0, "done")
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    with pytest.raises(CancelledError):
        extract(image, mask, cancelled=lambda: True)


def test_filters_stand_beside_the_image():
    found = run(noise(), block(), filters=[{"type": "log", "sigma_mm": 1.5}], families=("morphology", "statistics"))
    assert "stat_mean" in found.features
    assert "log_sigma1.5mm__stat_mean" in found.features
    assert not any(key.startswith("log") and "morph" in key for key in found.features)
    assert found.features["log_sigma1.5mm__stat_mean"].unit == "response"
    with pytest.raises(InputError, match="twice"):
        run(noise(), block(), filters=[{"type": "log", "sigma_mm": 1.5}] * 2)
    with pytest.raises(InputError, match="morphology alone"):
        run(noise(), block(), filter={"type": "log", "sigma_mm": 1.5}, families="morphology")


@pytest.mark.parametrize(("values", "says"), [
    ({"spacin": 1}, "spacin"), ({"spacing_mm": 0}, "spacing_mm"), ({"spacing_mm": [1]}, "spacing_mm"),
    ({"spacing_mm": "wide"}, "spacing_mm"), ({"interpolation": "sinc"}, "interpolation"),
    ({"resegment": [3, 1]}, "resegment"), ({"resegment": 5}, "resegment"), ({"discretisation": ["fbn"]}, "fbn"),
    ({"discretisation": ["fbn", 1]}, "levels"), ({"discretisation": ["fbn", 2.5]}, "levels"),
    ({"discretisation": ["fbs", -5]}, "width"), ({"discretisation": 5}, "discretisation"),
    ({"families": ["glcm", "fractal"]}, "fractal"), ({"families": []}, "families"),
    ({"aggregations": "4D"}, "4D"), ({"outlier_sigma": -1}, "outlier_sigma"), ({"mask_threshold": 2}, "mask_thresh"),
    ({"round_intensity": "yes"}, "round_intensity"), ({"filters": ["log"]}, "filters"), ({"filter": 3}, "filter"),
    ({"glcm_distance": 0}, "glcm_distance"), ({"outlier_sigma": math.nan}, "outlier_sigma"),
    ({"families": 5}, "families"), ({"filters": 5}, "filters"), ({"spacing_mm": object()}, "spacing_mm"),
    ({"aggregations": {"3D": 1}}, "aggregations"), ({"discretisation": ["fbn", math.nan]}, "levels"),
    ({"resegment": [None, math.inf]}, "resegment"), ({"intensity_unit": 5}, "intensity_unit"), ([], "keys")])
def test_wrong_settings_are_named(values, says):
    with pytest.raises(InputError, match=says):
        Settings.from_dict(values)


def test_settings_survive_the_way_to_a_file_and_back(tmp_path):
    chosen = Settings(spacing_mm=(1, 2), resegment=(-10, None), discretisation=("fbs", 5), aggregations="3D_comb",
                      filters=[{"type": "log", "sigma_mm": 2.0}])
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(chosen.to_dict()))
    assert Settings.read(path) == chosen
    assert Settings.read(path).hash == chosen.hash != Settings().hash
    path.write_text("a: [1")
    with pytest.raises(InputError, match=r"s.yaml: is no YAML"):
        Settings.read(path)
    path.write_text("- 1\n- 2\n")
    with pytest.raises(InputError, match="keys with values"):
        Settings.read(path)
    with pytest.raises(InputError, match="nowhere"):
        Settings.read(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_work(name):
    found = extract(Volume(noise(), grid()), Mask(block(), grid()), preset(name))
    assert len(found.features) >= 174


@pytest.fixture
def files(tmp_path):
    labels = block().astype(np.uint8)
    labels[3] *= 2
    write_volume(Volume(noise().astype(np.float32), grid()), tmp_path / "i.nii.gz")
    write_volume(Volume(labels, grid()), tmp_path / "two.nii.gz")
    write_volume(Volume((labels == 1).astype(np.uint8), grid()), tmp_path / "one.nii.gz")
    return tmp_path


def test_console_writes_json_and_csv(files, capsys):
    image, mask = str(files / "i.nii.gz"), str(files / "one.nii.gz")
    assert main(["biopsy", "features", image, mask, "--out", str(files / "o.json")]) == 0
    document = json.loads((files / "o.json").read_text())
    assert len(document["features"]) == 487
    assert document["settings_hash"] == Settings().hash
    cut = Mask(block(), grid()).crop((2, 1, 3), (6, 9, 8))
    write_volume(Volume((cut.array & (np.arange(2, 8) != 3)[:, None, None]).astype(np.uint8), cut.grid),
                 files / "cut.nii.gz")
    assert main(["biopsy", "features", image, str(files / "cut.nii.gz"), "--out", str(files / "p.json")]) == 0
    assert json.loads((files / "p.json").read_text())["features"] == document["features"]
    (files / "c.yaml").write_text("families: [statistics, glcm]\naggregations: 3D_comb\nshell: {outer_mm: 2}\n")
    two = str(files / "two.nii.gz")
    words = ["biopsy", "features", image, two, "--label", "1", "--label", "2", "--config", str(files / "c.yaml")]
    assert main([*words, "--out", str(files / "w.csv")]) == 0
    assert main([*words, "--out", str(files / "l.csv"), "--format", "long"]) == 0
    with (files / "w.csv").open() as wide, (files / "l.csv").open() as long:
        rows, lines = list(csv.DictReader(wide)), list(csv.DictReader(long))
    assert [row["label"] for row in rows] == ["1", "2"]
    assert len(lines) == 2 * (18 + 25)
    by_key = {(line["label"], line["feature"]): line["value"] for line in lines}
    assert all(row["cm_contrast_3D_comb"] == by_key[row["label"], "cm_contrast_3D_comb"] for row in rows)
    assert "shell_0_2mm" in rows[0]["mask"]


@pytest.mark.parametrize(("words", "says"), [
    (["two.nii.gz", "--out", "o.csv"], "choose one"), (["two.nii.gz", "--label", "9", "--out", "o.csv"], "no label"),
    (["one.nii.gz", "--out", "o.xlsx"], ".json or .csv"), (["gone.nii.gz", "--out", "o.csv"], "gone.nii.gz"),
    (["i.nii.gz", "--out", "o.csv"], "i.nii.gz"), (["one.nii.gz", "--out", "o.csv", "--config", "bad.yaml"], "widht"),
    (["one.nii.gz", "--out", "o.csv", "--config", "shell.yaml"], "shell")])
def test_console_says_what_is_wrong_in_one_line(files, monkeypatch, capsys, words, says):
    monkeypatch.chdir(files)
    (files / "bad.yaml").write_text("widht: 3\n")
    (files / "shell.yaml").write_text("shell: 5\n")
    assert main(["biopsy", "features", "i.nii.gz", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in error
    assert not (files / "o.csv").exists()
