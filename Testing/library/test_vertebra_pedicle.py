"""Pedicle paths in painted vertebrae: width, clearance, third and angles by formula; refusals with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from entry_cases import brute_distance, crosses
from IRAILib.geometry import InputError, Mask, RefusedError, beam_direction
from IRAILib.navigation.pedicle import PedicleOptions, plan_vertebra, progression_angles
from IRAILib.navigation.vertebra_labels import read_labels
from vertebra_cases import BODY_AHEAD_MM, BODY_RADIUS_MM, PEDICLE_X_MM, paint_spine, spine_grid

NAMES = ["T12", "L1", "L2"]


@pytest.fixture(scope="module")
def spine():
    ct, masks, centres = paint_spine(NAMES)
    return ct, masks, centres, plan_vertebra(read_labels(masks), "L1", ct=ct)


def outside(mask: Mask) -> Mask:
    return Mask(~mask.array, mask.grid, "outside")


def test_two_paths_stay_in_bone_to_the_front_third(spine) -> None:
    _, masks, centres, plan = spine
    assert plan.refused == {}
    assert [path.side for path in plan.paths] == ["left", "right"]
    for path in plan.paths:
        entry, tip = np.array(path.entry_ras), np.array(path.tip_ras)
        assert not crosses(outside(masks["L1"]), entry, tip)
        wall, front = np.hypot(8.5, 0), BODY_AHEAD_MM + np.sqrt(BODY_RADIUS_MM**2 - tip[0] ** 2)
        assert (tip[1] - wall) / (front - wall) > 2 / 3
        assert tip[1] < front - 3.0
        assert np.sign(entry[0]) == (-1 if path.side == "left" else 1)
        assert entry[1] < -5.0
        across = entry + (tip - entry) * (0 - entry[1]) / (tip[1] - entry[1])
        assert abs(abs(across[0]) - PEDICLE_X_MM) < 2.5
        assert np.linalg.norm(centres["L1"] - entry) < 40


def test_width_and_clearance_are_those_of_the_cylinders(spine) -> None:
    _, masks, _, plan = spine
    for path in plan.paths:  # the canal takes 0.5 mm of the cylinders; cubes of 0.8 mm
        assert path.width_mm == pytest.approx(8.5, abs=1.4)
        unit = np.subtract(path.tip_ras, path.entry_ras) / path.bone_mm
        rear = np.array(path.tip_ras) - unit * (path.tip_ras[1] + 5.0) / unit[1]
        brute = brute_distance(outside(masks["L1"]), rear, np.array(path.tip_ras), 0.5) - 1.2
        assert path.clearance.distance_mm == pytest.approx(brute, abs=0.15)
        assert 1.8 < path.clearance.distance_mm < 3.4
        assert path.canal_mm > path.clearance.distance_mm - 0.6
        assert path.sigma_mm > 0.8
        assert path.other_bone_mm == 0.0


def test_skin_lies_behind_and_angles_point_along_the_needle(spine) -> None:
    _, _, _, plan = spine
    for path in plan.paths:
        assert path.skin_ras is not None
        assert np.hypot(path.skin_ras[0], path.skin_ras[1] - 5.0) == pytest.approx(52.0, abs=1.5)
        unit = np.subtract(path.tip_ras, path.entry_ras) / path.bone_mm
        assert np.allclose(beam_direction(*path.bulls_eye_deg), unit, atol=1e-6)
        assert abs(beam_direction(*path.progression_deg) @ unit) < 1e-9
        assert beam_direction(*path.progression_deg)[0] < -0.8
        inward = -1 if path.side == "right" else 1
        assert np.sign(path.axial_deg) * inward * unit[0] * np.sign(path.axial_deg) >= -0.05


def test_an_oblique_scan_gives_the_same_vertebra() -> None:
    grid = spine_grid(3, turn_deg=14.0)
    ct, masks, _ = paint_spine(NAMES, grid=grid)
    plan = plan_vertebra(read_labels(masks), "L1", ct=ct)
    assert plan.refused == {}
    for path in plan.paths:
        assert not crosses(outside(masks["L1"]), np.array(path.entry_ras), np.array(path.tip_ras))
        assert path.clearance.distance_mm > 1.6


def test_a_narrow_pedicle_is_refused_on_its_side_only() -> None:
    _, masks, _ = paint_spine(NAMES, radii_mm=(1.3, 4.5))
    plan = plan_vertebra(read_labels(masks), "L1")
    assert [path.side for path in plan.paths] == ["right"]
    assert "L1 left" in plan.refused["left"]
    assert "wide" in plan.refused["left"] or "wall" in plan.refused["left"]
    thin = plan_vertebra(read_labels(masks), "L1", options=PedicleOptions(needle_radius_mm=4.4))
    assert set(thin.refused) == {"left", "right"}
    assert plan.to_dict()["refused"]["left"] == plan.refused["left"]


def test_a_cut_vertebra_says_so() -> None:
    _, masks, centres = paint_spine(NAMES)
    grid = masks["L2"].grid
    first = int(np.rint(grid.indices_kji(centres["L2"] + [0, 0, 8.5])[0, 0]))
    cut = {name: mask.crop((first, 0, 0), (mask.array.shape[0] - first, *mask.array.shape[1:]))
           for name, mask in masks.items()}
    labels = read_labels(cut)
    assert any(flag.kind == "cut" for flag in labels.flags_of("L2"))
    plan = plan_vertebra(labels, "L2")
    assert plan.paths == ()
    assert all("cut by the scan" in reason for reason in plan.refused.values())
    first -= 3  # 3.75 mm more: there is room, and the scan's edge is a wall like the cortex
    more = {name: mask.crop((first, 0, 0), (mask.array.shape[0] - first, *mask.array.shape[1:]))
            for name, mask in masks.items()}
    for path in plan_vertebra(read_labels(more), "L2").paths:
        assert any("cut by the scan" in warning for warning in path.warnings)


def test_a_mask_without_an_arch_is_refused() -> None:
    _, masks, _ = paint_spine(NAMES)
    front = masks["L1"].grid.all_points_ras()[..., 1] > 9.5
    bare = {name: Mask(mask.array & front, mask.grid, name) for name, mask in masks.items()}
    with pytest.raises(RefusedError, match="canal"):
        plan_vertebra(read_labels(bare), "L1")
    with pytest.raises(InputError, match="no vertebra L5"):
        plan_vertebra(read_labels(masks), "L5")


def test_progression_is_square_to_the_needle() -> None:
    for direction in ((0.3, 0.9, 0.2), (-0.2, 0.95, -0.3)):
        beam = beam_direction(*progression_angles(np.array(direction)))
        assert abs(beam @ np.array(direction)) < 1e-12
