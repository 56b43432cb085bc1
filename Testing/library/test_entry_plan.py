"""Entry plans on scenes whose answer is a formula: tangent cones, breathing, capsules, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from entry_cases import ball, body_ct, brute_distance, crosses, oblique_grid
from IRAILib.geometry import CancelledError, EmptyMaskError, Grid, InputError, Mask, RefusedError, Volume
from IRAILib.navigation.entry_cost import EntryOptions, pareto
from IRAILib.navigation.entry_kinds import is_target, kind_of
from IRAILib.navigation.entry_needles import place_needles, segment_distance
from IRAILib.navigation.entry_plan import EntryPlanner, Obstacle, plan_entries

GRID = oblique_grid()
CT = body_ct(GRID)
TARGET = np.array([5.0, -4.0, 3.0])


@pytest.fixture(scope="module")
def blocked() -> EntryPlanner:
    """A ball in the way."""
    return EntryPlanner(CT, {"vessel": Obstacle(ball(GRID, TARGET + [35.0, 0, 0], 10.0), 4.0, "vessel")},
                        options=EntryOptions(needle_radius_mm=0.5, top=6))


def test_the_forbidden_skin_is_the_tangent_cone(blocked) -> None:
    plan = blocked.plan(TARGET)
    away = plan.skin_map.points_ras - TARGET
    angle = np.arccos(away[:, 0] / np.linalg.norm(away, axis=1))
    half_voxel = np.linalg.norm(GRID.spacing_mm) / 2
    surely = angle < np.arcsin((10.0 - half_voxel + 4.0) / 35.0)
    never = angle > np.arcsin((10.0 + half_voxel + 4.5 + 2 * half_voxel + 3.0) / 35.0)
    vessel = plan.skin_map.reasons.index("vessel")
    assert surely.sum() > 20
    assert (plan.skin_map.state[surely] > 0).all()
    assert (plan.skin_map.reason[surely] == vessel).all()
    assert not (plan.skin_map.reason[never] == vessel).any()


def test_paths_keep_their_margin_by_brute_force_and_differ(blocked) -> None:
    plan = blocked.plan(TARGET)
    assert plan.refused is None
    assert len(plan.paths) == 6
    mask = blocked.obstacles["vessel"].mask
    for path in plan.paths:
        brute = brute_distance(mask, np.array(path.entry_ras), np.array(path.target_ras), 0.2) - 0.5
        assert path.clearances[0].distance_mm == pytest.approx(brute, abs=0.12)
        assert brute >= 4.0
        assert path.length_mm == pytest.approx(np.linalg.norm(np.subtract(path.entry_ras, TARGET)))
    units = np.array([np.subtract(p.entry_ras, TARGET) / p.length_mm for p in plan.paths])
    cosines = (units @ units.T)[np.triu_indices(6, 1)]
    assert np.degrees(np.arccos(cosines.max())) > 10.0
    costs = [path.cost for path in plan.paths]
    assert costs == sorted(costs)
    assert any(path.pareto for path in plan.paths)


def test_a_moved_target_gives_what_a_new_planner_gives(blocked) -> None:
    moved = TARGET + [4.0, -6.0, 2.0]
    fresh = EntryPlanner(CT, blocked.obstacles, options=blocked.options).plan(moved)
    assert blocked.plan(moved).to_dict()["paths"] == fresh.to_dict()["paths"]


def test_entry_lies_on_the_skin(blocked) -> None:
    for path in blocked.plan(TARGET).paths:
        unit = np.subtract(path.entry_ras, TARGET) / path.length_mm
        local = (GRID.indices_kji(np.array(path.entry_ras))[0] - (np.array(GRID.shape) - 1) / 2) * GRID.spacing_kji_mm
        assert np.hypot(local[2] / 85.0, local[1] / 70.0) == pytest.approx(1.0, abs=0.09)
        if local[1] < -60.0:  # on the table
            continue
        values = CT.sample(np.array(path.entry_ras) + np.array([[-4.0], [4.0]]) * unit, outside=-1000.0)
        assert values[0] > -300 > values[1]


def test_the_shortest_way_wins_when_only_length_counts() -> None:
    options = EntryOptions(skin_weight=0, capsule_weight=0, room_weight=0, crossing_weight=0, breathing_weight=0, top=1)
    plan = plan_entries(CT, TARGET, {}, options=options)
    nearest = np.linalg.norm(plan.skin_map.points_ras - TARGET, axis=1).min()
    assert plan.paths[0].length_mm == pytest.approx(nearest, abs=2.0)
    assert plan.paths[0].closest is None


def test_breathing_along_the_path_costs_less_than_across() -> None:
    only = EntryOptions(length_weight=0, skin_weight=0, capsule_weight=0, room_weight=0, crossing_weight=0,
                        breathing_weight=1, breathing_ras_mm=(12.0, 0.0, 0.0), top=1)
    path = plan_entries(CT, TARGET, {}, options=only).paths[0]
    assert path.breathing_along_mm > 11.5
    assert path.breathing_along_mm**2 + path.breathing_across_mm**2 == pytest.approx(144.0)


def test_capsule_angle_and_crossed_length() -> None:
    organ = ball(GRID, TARGET + [10.0, 0, 0], 30.0, "organ")
    fat = ball(GRID, TARGET + [0, 45.0, 0], 12.0, "fat")
    plan = plan_entries(CT, TARGET, {"fat": Obstacle(fat, 0.0, "organ", hard=False)}, organ=organ,
                        options=EntryOptions(top=8, crossing_weight=0.0))
    centre = TARGET + [10.0, 0, 0]
    for path in plan.paths:
        unit = np.subtract(path.entry_ras, TARGET) / path.length_mm
        offset = TARGET - centre
        leave = -unit @ offset + np.sqrt((unit @ offset) ** 2 - offset @ offset + 900.0)
        normal = (offset + leave * unit) / 30.0
        assert path.angle_to_capsule_deg == pytest.approx(np.degrees(np.arccos(unit @ normal)), abs=8.0)
        gap = np.linalg.norm(np.cross(unit, TARGET + [0, 45.0, 0] - TARGET))
        chord = 2 * np.sqrt(max(0.0, 144.0 - gap**2)) if unit[1] > 0 else 0.0
        assert path.crossed_mm["fat"] == pytest.approx(chord, abs=6.0)


def test_refusals_say_what_is_wrong(blocked) -> None:
    with pytest.raises(RefusedError, match="outside the CT"):
        blocked.plan((900, 0, 0))
    with pytest.raises(RefusedError, match="outside the body"):
        blocked.plan(GRID.points_ras(np.array([[20.0, 1, 1]]))[0])
    with pytest.raises(RefusedError, match="in the hard obstacle 'vessel'"):
        blocked.plan(TARGET + [35.0, 0, 0])
    with pytest.raises(RefusedError, match="within its margin of 4 mm"):
        blocked.plan(TARGET + [21.5, 0, 0])
    for bad in ((1, 2), (np.nan, 0, 0), "abc"):
        with pytest.raises((InputError, ValueError)):
            blocked.plan(bad)


def test_a_shell_round_the_target_refuses_and_names_itself() -> None:
    away = np.linalg.norm(GRID.all_points_ras() - TARGET, axis=-1)
    shell = Mask((away > 20) & (away < 26), GRID, "shell")
    plan = plan_entries(CT, TARGET, {"shell": Obstacle(shell, 1.0, "bone"),
                                     "far": Obstacle(ball(GRID, TARGET + [45, 0, 0], 4.0), 1.0)})
    assert plan.paths == ()
    assert plan.refused is not None
    assert "'shell' blocks most" in plan.refused
    assert plan.to_dict()["skin_map"]["free"] == 0


def test_length_and_tilt_limits_hold() -> None:
    plan = plan_entries(CT, TARGET, {}, options=EntryOptions(max_length_mm=75, max_tilt_deg=10, top=10, apart_deg=5))
    normal = GRID.directions[:, 2]
    assert plan.paths
    for path in plan.paths:
        unit = np.subtract(path.entry_ras, TARGET) / path.length_mm
        assert path.length_mm <= 76.0
        assert abs(np.degrees(np.arcsin(unit @ normal))) < 10.5
    assert "too short" not in str(plan.refused)
    assert plan_entries(CT, TARGET, {}, options=EntryOptions(max_length_mm=40)).refused


def test_hostile_input() -> None:
    air = Volume(np.full(GRID.shape, -1000.0, np.float32), GRID, "air")
    with pytest.raises(RefusedError, match="no body"):
        plan_entries(air, TARGET, {})
    with pytest.raises(RefusedError, match="too thin"):
        plan_entries(Volume(np.zeros((1, 60, 70), np.float32), GRID.cropped_grid((20, 0, 0), (1, 60, 70))), TARGET, {})
    sheared = GRID.ras_from_ijk.copy()
    sheared[:3, 2] += 2.0 * GRID.directions[:, 0]
    with pytest.raises(InputError, match="right angles"):
        Obstacle(Mask(np.ones(GRID.shape, bool), Grid(GRID.shape, sheared), "tilted"), 1.0)
    with pytest.raises(InputError, match="margin"):
        Obstacle(ball(GRID, TARGET, 5), -1.0)
    with pytest.raises(InputError, match="kind"):
        Obstacle(ball(GRID, TARGET, 5), 1.0, "cheese")
    with pytest.raises(InputError, match="top"):
        EntryOptions(top=0)
    empty = plan_entries(CT, TARGET, {"none": Obstacle(Mask(np.zeros(GRID.shape, bool), GRID), 1.0)})
    assert empty.paths
    with pytest.raises(CancelledError):
        plan_entries(CT, TARGET, {}, cancelled=lambda: True)


def test_needles_cover_a_ball_of_known_size() -> None:
    planner = EntryPlanner(CT, {}, options=EntryOptions(top=3))
    tumour = ball(GRID, TARGET, 12.0, "tumour")
    one = place_needles(planner, tumour, 1, (22.0, 22.0), margin_mm=5.0)
    assert one.coverage_percent == 100.0
    assert np.linalg.norm(one.centres_ras[0] - TARGET) < 3.0
    small = place_needles(planner, tumour, 1, (10.0, 10.0), margin_mm=0.0)
    assert small.tumour_percent == pytest.approx(100 * (10 / 12) ** 3, abs=8.0)
    three = place_needles(planner, tumour, 3, (12.0, 18.0), margin_mm=5.0)
    assert three.coverage_percent > 90.0
    assert three.tumour_percent >= three.coverage_percent
    units = [np.subtract(p.target_ras, p.entry_ras) / p.length_mm for p in three.paths]
    assert min(u @ units[0] for u in units) > 0.999
    for (m, n), gap in three.gaps_mm.items():
        ends = [np.array(v) for k in (m, n) for v in (three.paths[k].entry_ras, three.paths[k].target_ras)]
        steps = np.linspace(0, 1, 300)[:, None]
        a, b = ends[0] + steps * (ends[1] - ends[0]), ends[2] + steps * (ends[3] - ends[2])
        brute = np.linalg.norm(a[:, None] - b[None], axis=-1).min() - 1.3
        assert gap == pytest.approx(brute, abs=0.2)
    with pytest.raises(EmptyMaskError):
        place_needles(planner, Mask(np.zeros(GRID.shape, bool), GRID), 2, (10, 10))
    with pytest.raises(RefusedError, match="can't be placed"):
        place_needles(planner, tumour, 6, (12.0, 12.0), least_gap_mm=60.0)


def test_segments_that_cross_touch() -> None:
    zero, x, y = np.zeros(3), np.array([10.0, 0, 0]), np.array([0, 10.0, 0])
    assert segment_distance(-x, x, -y, y) == 0.0
    assert segment_distance(zero, x, zero + [0, 0, 3], x + [0, 0, 3]) == pytest.approx(3.0)
    assert segment_distance(zero, x, x + [4, 3, 0], x + [9, 3, 0]) == pytest.approx(5.0)


def test_pareto_is_what_nothing_beats() -> None:
    assert pareto(np.array([[1, 5], [2, 2], [5, 1], [3, 3.0]])).tolist() == [True, True, True, False]


@pytest.mark.parametrize(("name", "kind"), [("rib_left_9", "bone"), ("vertebrae_L1", "bone"), ("Aorta", "vessel"),
                                            ("portal_vein_and_splenic_vein", "vessel"), ("spinal_cord", "nerve"),
                                            ("lung_upper_lobe_left", "lung"), ("small_bowel", "bowel"),
                                            ("liver", "organ"), ("kidney_cyst_left", "organ"), ("gadget", "other"),
                                            ("urinary_bladder", "bowel"), ("iliac_artery_left", "vessel")])
def test_names_say_what_they_are(name, kind) -> None:
    assert kind_of(name) == kind
    assert not is_target(name)
    assert is_target("Liver Tumour")
    assert not is_target("artery that feeds the tumour")  # left out, its crossing would look free


def test_what_lies_on_the_skin_is_in_the_way_where_the_path_really_enters() -> None:
    """Drains on the skin, too thin for the coarse body; their far side must not be crossed, and the needle is short."""
    grid = oblique_grid((24, 110, 110), np.array([1.5, 1.5, 4.0]))
    local = (np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
             - (np.array(grid.shape) - 1) / 2.0) * grid.spacing_kji_mm
    beyond = np.hypot(local[..., 2], local[..., 1]) - 60.0
    around = np.degrees(np.arctan2(local[..., 1], local[..., 2]))
    tube = (beyond > 0) & (beyond <= 6.5) & (np.abs((around + 7) % 14 - 7) < 2.5)
    ct = Volume(np.where((beyond <= 0) | tube, 30.0, -1000.0).astype(np.float32), grid, "drains")
    far_side = Mask(tube & (beyond > 4.0), grid, "drain")
    options = EntryOptions(top=60, apart_deg=3, apart_mm=3, length_weight=0, room_weight=0, skin_weight=0)
    plan = plan_entries(ct, TARGET, {"drain": Obstacle(far_side, 0.0)}, options=options)
    assert len(plan.paths) > 20
    assert not any(crosses(far_side, np.array(path.entry_ras), TARGET) for path in plan.paths)
    short = plan_entries(ct, TARGET, {}, options=replace(options, max_length_mm=60.0))
    assert len(short.paths) > 20
    assert max(path.length_mm for path in short.paths) <= 60.0


def test_values_that_are_not_hounsfield_units_are_named() -> None:
    with pytest.raises(RefusedError, match="in HU"):
        EntryPlanner(Volume((CT.array + 1024).astype(np.uint16), GRID, "stored values"), {})
