"""At the console: ablation zone, habitats, second time point, stability, and what is said where they don't fit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from IRAILib.biopsy.radiomics import Settings, extract
from IRAILib.cli.main import main
from IRAILib.geometry import Grid, Mask, Volume
from IRAILib.images import write_mask, write_volume

SHAPE = (18, 20, 22)
GRID = Grid(SHAPE, np.eye(4))
CONFIG = "families: [statistics, morphology]\n"


def ball(radius: float, centre=(9, 10, 11)) -> np.ndarray:
    return np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.indices(SHAPE), centre, strict=True))) <= radius


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lesion of two halves (50 and 90), later 20 brighter; an ablation zone that leaves its last slices."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).normal(0.0, 2.0, SHAPE)
    halves = np.where(np.arange(SHAPE[2]) < 11, 50.0, 90.0)
    write_volume(Volume((halves + noise).astype(np.float32), GRID), "now.nii.gz")
    write_volume(Volume((halves + noise + 20.0).astype(np.float32), GRID), "later.nii.gz")
    write_mask(Mask(ball(5.0), GRID), "lesion.nii.gz")
    write_mask(Mask(ball(7.0) & (np.arange(SHAPE[0]) < 13)[:, None, None], GRID), "zone.nii.gz")
    write_mask(Mask(ball(3.0), GRID), "small.nii.gz")
    write_mask(Mask(ball(4.0, (8, 9, 10)), GRID), "other.nii.gz")
    Path("c.yaml").write_text(CONFIG)
    return tmp_path


def run(*words: str) -> int:
    return main(["biopsy", *words])


def test_everything_beside_the_mask_stands_in_one_row(files: Path) -> None:
    assert run("features", "now.nii.gz", "lesion.nii.gz", "--out", "o.json", "--config", "c.yaml", "--ablation",
               "zone.nii.gz", "--rim", "2", "--habitats", "2", "--second", "later.nii.gz", "lesion.nii.gz",
               "--days", "10") == 0
    document = json.loads(Path("o.json").read_text())
    found = document["features"]
    lesion, zone = ball(5.0), ball(7.0) & (np.arange(SHAPE[0]) < 13)[:, None, None]
    assert found["residual_ml"] == pytest.approx(np.count_nonzero(lesion & ~zone) / 1000)
    assert found["residual__morph_vol_approx"] == pytest.approx(np.count_nonzero(lesion & ~zone))
    assert found["coverage"] == pytest.approx(np.count_nonzero(lesion & zone) / np.count_nonzero(lesion))
    assert found["habitat1__mean"] == pytest.approx(50.0, abs=1.0)
    assert found["habitat2__stat_mean"] == pytest.approx(90.0, abs=1.0)
    assert found["delta_abs__stat_mean"] == pytest.approx(20.0, abs=1e-4)
    assert found["delta_per_day__stat_mean"] == pytest.approx(2.0, abs=1e-5)
    assert document["definitions"]["residual_ml"]["unit"] == "ml"
    assert document["second"] == {"image": "later.nii.gz", "mask": "lesion.nii.gz"}
    alone = extract(Volume(np.zeros(SHAPE), GRID), Mask(lesion, GRID), Settings(families=("morphology",))).values()
    assert all(found[key] == pytest.approx(alone[key]) for key in ("morph_volume", "morph_sphericity"))


def test_stability_is_shown_and_drops_on_request(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = ("now.nii.gz", "lesion.nii.gz", "small.nii.gz", "other.nii.gz")
    words = ("--config", "c.yaml", "--stability", "3", "--limit", "0.5")
    assert run("features", *masks, "--out", "l.csv", "--format", "long", *words) == 0
    with Path("l.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    volume = next(line for line in lines if line["feature"] == "morph_volume")
    assert 0.5 < float(volume["icc_low"]) < float(volume["icc"]) < float(volume["icc_high"]) <= 1.0
    bad = {line["feature"] for line in lines if line["stable"] == "False"}
    good = {line["feature"] for line in lines if line["stable"] == "True"}
    assert "morph_volume" in good
    assert bad
    assert run("features", *masks, "--out", "d.json", *words, "--drop-unstable") == 0
    document = json.loads(Path("d.json").read_text())
    assert [set(one["features"]) for one in document["regions"]] == [good] * 3
    assert set(document["stability"]["unstable"]) == bad
    assert "ICC" in next(iter(document["stability"]["unstable"].values()))
    assert run("features", *masks[:2], "--out", "p.json", "--config", "c.yaml", "--stability", "3") == 0
    alone = json.loads(Path("p.json").read_text())["stability"]
    assert alone["kind"] == "patient"
    assert "needs a cohort" in capsys.readouterr().out


def test_stability_of_a_cohort_and_features_that_obey_it(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("m.csv").write_text("case;image;mask\na;now.nii.gz;lesion.nii.gz\nb;now.nii.gz;small.nii.gz\n"
                             "c;later.nii.gz;other.nii.gz\n")
    assert run("stability", "m.csv", "--out", "s.json", "--config", "c.yaml", "-n", "3", "--limit", "0.5") == 0
    document = json.loads(Path("s.json").read_text())
    assert document["cases"] == ["a", "b", "c"]
    by_key = {one["key"]: one["icc"] for one in document["features"]}
    assert set(by_key["morph_volume"]) == {"ICC(1,1)", "ICC(2,1)", "ICC(3,1)"}
    assert by_key["morph_volume"]["ICC(1,1)"]["n_subjects"] == 3
    assert run("features", "now.nii.gz", "lesion.nii.gz", "--out", "k.json", "--config", "c.yaml",
               "--stable", "s.json") == 0
    assert list(json.loads(Path("k.json").read_text())["features"]) == [
        key for key in by_key if key in document["stable"]]
    assert run("features", "now.nii.gz", "lesion.nii.gz", "--out", "n.json", "--stable", "s.json") == 2
    assert "other settings" in capsys.readouterr().err
    assert run("stability", "m.csv", "--out", "s.csv", "--config", "c.yaml", "-n", "2", "--icc", "ICC(3,1)") == 0
    with Path("s.csv").open(newline="") as file:
        assert {row["form"] for row in csv.DictReader(file)} == {"ICC(3,1)"}
    Path("bad.csv").write_text("case,image,mask\na,now.nii.gz,lesion.nii.gz\nb,now.nii.gz,gone.nii.gz\n")
    assert run("stability", "bad.csv", "--out", "b.csv", "--config", "c.yaml", "-n", "2") == 2
    assert "case b" in capsys.readouterr().err
    assert not Path("b.csv").exists()


@pytest.mark.parametrize(("words", "says"), [
    (["--days", "3"], "--days needs --second"), (["--drop-unstable"], "needs --stability"),
    (["--second", "later.nii.gz", "lesion.nii.gz", "--days", "-3"], "--days: must be"),
    (["--ablation", "zone.nii.gz", "--rim", "0"], "--rim: must be"), (["--stability", "1"], "take 2 or more"),
    (["--stable", "c.yaml"], "is no stability"), (["--stable", "gone.json"], "can't be read"),
    (["--stability", "3", "--limit", "7"], "--limit"), (["small.nii.gz", "--ablation", "zone.nii.gz"], "one lesion"),
    (["--config", "shell.yaml", "--ablation", "zone.nii.gz"], "take shell out"),
    (["--config", "range.yaml"], "intensity_range"), (["--config", "words.yaml"], "intensity_range"),
    (["--config", "nan.yaml"], "support"), (["--config", "list.yaml"], "is not known"),
    (["--config", "far.yaml"], "glcm_distance: must be a whole number from 1 to 100")])
def test_what_does_not_go_together_is_one_line(files: Path, capsys: pytest.CaptureFixture[str], words: list[str],
                                               says: str) -> None:
    Path("shell.yaml").write_text("shell: {outer_mm: 3}\n")
    Path("range.yaml").write_text("shell: {outer_mm: 3, intensity_range: 7}\n")
    Path("words.yaml").write_text("shell: {outer_mm: 3, intensity_range: [a, b]}\n")
    Path("nan.yaml").write_text("filters: [{type: mean, support: .nan}]\n")
    Path("list.yaml").write_text("filters: [{type: [log], sigma_mm: 2}]\n")
    Path("far.yaml").write_text("glcm_distance: 1000\n")
    assert run("features", "now.nii.gz", "lesion.nii.gz", *words, "--out", "x.json") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert says in error[-1]
    assert not Path("x.json").exists()


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("spacing_mm: 1e0\ndiscretisation: [fbs, 25e-1, -1e3]\n")
    settings = Settings.read(tmp_path / "e.yaml")
    assert settings.spacing_mm == (1.0, 1.0, 1.0)
    assert settings.discretisation == ("fbs", 2.5, -1000.0)
