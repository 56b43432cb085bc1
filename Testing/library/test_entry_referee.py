"""Free or forbidden, against a voxel traversal and brute force written here: no disagreement may be left."""

from __future__ import annotations

import numpy as np
import pytest
from entry_cases import ball, body_ct, brute_distance, crosses, oblique_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from IRAILib.geometry import Mask
from IRAILib.navigation.entry_field import FORBIDDEN, FREE, BoxObstacle, Obstacle, ObstacleField, segment_to_boxes


def speckle(grid, seed: int, share: float = 0.004) -> Mask:
    """Single voxels, thrown at random: the thinnest obstacles there are."""
    return Mask(np.random.default_rng(seed).random(grid.shape) < share, grid, "speckle")


def rays(grid, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    reach = (np.array(grid.shape) - 1) / 2.0
    start = grid.points_ras(reach + rng.uniform(-4, 4, 3))[0]
    ends = grid.points_ras(reach + rng.uniform(-1, 1, (count, 3)) * reach)
    return start, ends


@pytest.mark.parametrize("seed", range(3))
def test_single_voxels_are_never_stepped_over(seed) -> None:
    grid = oblique_grid()
    mask = speckle(grid, seed)
    start, ends = rays(grid, 400, seed)
    array = mask.array.copy()
    array[tuple(np.rint(grid.indices_kji(start)[0]).astype(int))] = False
    mask = Mask(array, grid, "speckle")
    field = ObstacleField(grid, {"speckle": Obstacle(mask, 0.0)}, 0.0, (0, 0, 0), grid.shape)
    state, room, _ = field.trace(start, ends)
    boxes = BoxObstacle(mask, "speckle", 0.0)
    exact = np.array([boxes.clearance(start, end).distance_mm for end in ends])
    truth = np.array([crosses(mask, start, end) for end in ends])
    assert 20 < truth.sum() < 380
    assert np.array_equal(exact == 0.0, truth)
    assert not truth[state == FREE].any()
    assert truth[state == FORBIDDEN].all()
    assert (room <= exact + 1e-4).all()


def test_the_march_agrees_with_exact_boxes_where_margins_differ() -> None:
    grid = oblique_grid()
    obstacles = {"a": Obstacle(ball(grid, (30, 10, 10), 9.0), 5.0), "b": Obstacle(ball(grid, (-25, -20, 0), 6.0), 1.5),
                 "c": Obstacle(speckle(grid, 9, 0.0005), 2.0)}
    field = ObstacleField(grid, obstacles, 0.6, (0, 0, 0), grid.shape)
    start, ends = rays(grid, 500, 5)
    state, room, _ = field.trace(start, ends)
    boxes = [BoxObstacle(o.mask, n, float(o.margin_mm or 0), 0.6) for n, o in obstacles.items()]
    found = [[b.clearance(start, end) for b in boxes] for end in ends]
    free = np.array([all(c.free for c in row) for row in found])
    left = np.array([min(c.distance_mm - c.margin_mm for c in row) for row in found])
    assert free.any()
    assert (~free).any()
    assert free[state == FREE].all()
    assert not free[state == FORBIDDEN].any()
    assert (room[free] <= left[free] + 1e-4).all()
    assert (state == FREE).sum() > 0.3 * free.sum()


def test_an_obstacle_on_another_grid_keeps_the_bound() -> None:
    grid, other = oblique_grid(), oblique_grid((30, 50, 50), np.array([4.0, 3.5, 5.0]), -31.0)
    mask = speckle(other, 4, 0.003)
    field = ObstacleField(grid, {"s": Obstacle(mask, 2.0)}, 0.0, (0, 0, 0), grid.shape)
    start, ends = rays(grid, 300, 6)
    state, _, _ = field.trace(start, ends)
    boxes = BoxObstacle(mask, "s", 2.0)
    free = np.array([boxes.clearance(start, end).free for end in ends])
    assert free[state == FREE].all()
    assert not free[state == FORBIDDEN].any()


@pytest.mark.parametrize("seed", range(4))
def test_exact_distance_is_that_of_brute_force(seed) -> None:
    grid = oblique_grid((14, 16, 18))
    mask = speckle(grid, seed, 0.01)
    boxes = BoxObstacle(mask, "speckle", 0.0)
    start, ends = rays(grid, 12, seed + 50)
    for end in ends:
        found, brute = boxes.clearance(start, end), brute_distance(mask, start, end)
        assert found.distance_mm <= brute + 1e-3
        assert found.distance_mm >= brute - 0.06


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=9, max_size=9))
def test_segment_to_box_is_a_minimum(values) -> None:
    start, end, centre = np.array(values).reshape(3, 3)
    half = np.array([1.0, 0.5, 2.0])
    distance, t = segment_to_boxes(start, end - start, centre[None], half)
    points = start + np.linspace(0, 1, 2001)[:, None] * (end - start)
    brute = np.linalg.norm(np.maximum(np.abs(points - centre) - half, 0), axis=1)
    assert 0.0 <= t[0] <= 1.0
    assert distance[0] <= brute.min() + 1e-9
    assert distance[0] >= brute.min() - np.linalg.norm(end - start) / 2000


def test_a_sheet_of_one_voxel_blocks_everything_behind_it() -> None:
    grid = oblique_grid()
    array = np.zeros(grid.shape, bool)
    array[:, :, 50] = True
    mask = Mask(array, grid, "sheet")
    field = ObstacleField(grid, {"sheet": Obstacle(mask, 0.0)}, 0.0, (0, 0, 0), grid.shape)
    start, ends = rays(grid, 600, 3)
    behind = grid.indices_kji(ends)[:, 2] > 50.5
    state, _, _ = field.trace(start, ends)
    assert behind.sum() > 50
    assert (state[behind] != FREE).all()
    assert (state[grid.indices_kji(ends)[:, 2] < 45] == FREE).all()


def test_the_body_phantom_has_its_table_removed() -> None:
    from IRAILib.navigation.entry_body import find_skin

    grid = oblique_grid()
    skin = find_skin(body_ct(grid))
    local = (grid.indices_kji(skin.points_ras) - (np.array(grid.shape) - 1) / 2.0) * grid.spacing_kji_mm
    radius = np.hypot(local[:, 2] / 85.0, local[:, 1] / 70.0)
    assert np.percentile(np.abs(radius - 1.0), 80) < 0.06
    assert np.abs(radius - 1.0).max() < 0.13  # where the table touches
    assert np.median(np.abs(radius - 1.0)) < 0.02
    assert skin.surface().volume_ml() == pytest.approx(skin.body.volume_ml, rel=0.03)
    outward = skin.normals @ grid.directions
    assert ((outward[:, 0] * local[:, 2] + outward[:, 1] * local[:, 1]) > 0).all()
