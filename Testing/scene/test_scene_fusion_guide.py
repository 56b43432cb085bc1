"""Guidance numbers against spheres and lines of known place, and where the views stand."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import Grid, InputError, Mask, NeedleStatus, signed_distance
from IRAILib.scene.fusion_chain import LOST, ChainLink, chain_state
from IRAILib.scene.fusion_eyes import bulls_eye_plane, live_plane, path_planes, plane
from IRAILib.scene.fusion_guide import Obstacle, ToolTip, breach, breach_text, obstacles_from_node, tool_estimate

CENTRE, RADIUS = np.array([12.0, -7.0, 30.0]), 10.0


def sphere(name: str = "Vessel", centre: np.ndarray = CENTRE) -> Obstacle:
    """A sphere on an oblique grid with unequal voxels."""
    a = np.radians(25.0)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.diag(
        [0.8, 0.8, 1.0])
    matrix[:3, 3] = centre - matrix[:3, :3] @ (24.0, 24.0, 20.0)
    grid = Grid((41, 49, 49), matrix)
    inside = np.linalg.norm(grid.all_points_ras() - centre, axis=-1) < RADIUS
    return Obstacle(name, signed_distance(Mask(inside, grid, name)))


def estimate_at(point, direction=(0.0, 0.0, 1.0), error: float | None = 0.9):
    matrix = np.eye(4)
    matrix[:3, 3] = point
    chain = chain_state([ChainLink("Needle", "RAS", matrix, error_mm=error)], "Needle", "RAS")
    return tool_estimate(chain, ToolTip((0.0, 0.0, 0.0), direction, 0.4, 0.5, "test"))


@pytest.mark.parametrize("offset", [(25.0, 0.0, 0.0), (0.0, -14.0, 5.0), (60.0, 40.0, -30.0), (1.0, 2.0, 3.0)])
def test_distance_to_a_sphere(offset) -> None:
    """Inside its box exact to a voxel; beyond it never more than the truth."""
    truth = float(np.linalg.norm(offset)) - RADIUS
    found = float(sphere().at(CENTRE + offset)[0])
    if np.linalg.norm(offset) < 18.0:
        assert found == pytest.approx(truth, abs=0.9)
    else:
        assert truth * 0.7 <= found <= truth + 0.9


def test_a_structure_cut_by_the_border_is_no_hole_beyond_it() -> None:
    grid = Grid((10, 10, 10), np.eye(4))
    cut = Obstacle("cut", signed_distance(Mask(grid.all_points_ras()[..., 0] > 4.5, grid)))
    assert float(cut.at([8.0, 5.0, 5.0])[0]) < 0
    assert 0.0 <= float(cut.at([29.0, 5.0, 5.0])[0]) <= 20.0


def test_clear_near_and_breach() -> None:
    ball = [sphere()]
    away = breach(estimate_at(CENTRE + (30.0, 0.0, 0.0)), ball, margin_mm=5.0)
    assert (away.status, away.name) == ("clear", "Vessel")
    near = breach(estimate_at(CENTRE + (14.0, 0.0, 0.0)), ball, margin_mm=5.0)
    assert near.status == "near"
    assert near.distance_mm == pytest.approx(4.0, abs=0.9)
    inside = breach(estimate_at(CENTRE + (4.0, 0.0, 0.0)), ball, margin_mm=5.0)
    assert inside.status == "breach"
    assert "BREACH" in breach_text(inside)
    assert "6." in breach_text(inside) or "5." in breach_text(inside)


def test_doubt_makes_a_structure_near_sooner() -> None:
    """At 7 mm with a margin of 5 mm: a sure tip is clear, one of 2 mm a direction is not."""
    ball, point = [sphere()], CENTRE + (17.5, 0.0, 0.0)
    assert breach(estimate_at(point, error=0.1), ball).status == "clear"
    assert breach(estimate_at(point, error=2.0 * np.sqrt(3.0)), ball).status == "near"


def test_what_lies_ahead_is_told_before_it_is_near() -> None:
    value = breach(estimate_at(CENTRE - (0.0, 0.0, 32.0)), [sphere(), sphere("Bone", CENTRE + (40.0, 0.0, -30.0))],
                   ahead_mm=30.0)
    assert value.name == "Vessel"
    assert value.ahead_mm == pytest.approx(22.0, abs=1.5)
    assert "hit in 2" in breach_text(value)


def test_without_tip_or_structures_nothing_is_claimed() -> None:
    lost = tool_estimate(chain_state([ChainLink("Needle", "RAS", None, LOST)], "Needle", "RAS"), ToolTip())
    assert lost.status is NeedleStatus.LOST
    assert breach(lost, [sphere()]).status == "unknown"
    assert breach(estimate_at(CENTRE), []).status == "unknown"
    assert breach_text(breach(lost, [sphere()])) == ""
    with pytest.raises(InputError, match="margin"):
        breach(estimate_at(CENTRE), [sphere()], margin_mm=-1.0)


def test_the_tips_doubt_is_the_sum_of_the_chain() -> None:
    estimate = estimate_at((0.0, 0.0, 0.0), error=0.9)
    assert np.trace(estimate.covariance) == pytest.approx(0.9**2 + 0.4**2)
    assert estimate_at((0.0, 0.0, 0.0), error=None).covariance is None
    assert "not known" in breach_text(breach(estimate_at(CENTRE + (14.0, 0.0, 0.0), error=None), [sphere()]))


def test_a_tip_is_carried_by_the_tools_pose() -> None:
    pose = np.array([[0.0, -1.0, 0.0, 5.0], [1.0, 0.0, 0.0, 6.0], [0.0, 0.0, 1.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
    chain = chain_state([ChainLink("Needle", "RAS", pose)], "Needle", "RAS")
    estimate = tool_estimate(chain, ToolTip((0.0, 0.0, -100.0), (1.0, 0.0, 0.0)))
    np.testing.assert_allclose(estimate.tip, (5.0, 6.0, -93.0))
    np.testing.assert_allclose(estimate.direction, (0.0, 1.0, 0.0))


def test_the_bulls_eye_is_seen_from_the_entry() -> None:
    """Who stands at the patient's right and looks left, the front up, has the feet on the right hand."""
    entry, target = np.array([80.0, 0.0, 0.0]), np.array([10.0, 0.0, 0.0])
    matrix = bulls_eye_plane(entry, target, np.array([40.0, 5.0, 5.0]))
    np.testing.assert_allclose(matrix[:3, 3], (40.0, 0.0, 0.0), atol=1e-9)
    np.testing.assert_allclose(matrix[:3, 1], (0.0, 1.0, 0.0), atol=1e-9)
    np.testing.assert_allclose(np.cross(matrix[:3, 0], matrix[:3, 1]), -(target - entry) / 70.0, atol=1e-9)
    np.testing.assert_allclose(matrix[:3, 0], (0.0, 0.0, -1.0), atol=1e-9)


@pytest.mark.parametrize("target", [(40.0, 10.0, 4.0), (70.0, 39.0, 50.0), (84.0, 10.0, -3.0), (60.0, 60.0, -40.0)])
def test_the_bulls_eye_is_at_right_angles_to_any_path(target) -> None:
    entry = np.array([84.0, 37.0, -3.3])
    matrix = bulls_eye_plane(entry, np.array(target))
    axis = (np.array(target) - entry) / np.linalg.norm(np.array(target) - entry)
    np.testing.assert_allclose(matrix[:3, 2], -axis, atol=1e-9)
    np.testing.assert_allclose(matrix[:3, :3].T @ matrix[:3, :3], np.eye(3), atol=1e-9)


def test_the_path_lies_in_both_path_planes_and_runs_down() -> None:
    entry, target = np.array([60.0, 40.0, -10.0]), np.array([20.0, 5.0, 15.0])
    for matrix in path_planes(entry, target):
        normal = matrix[:3, 2]
        assert abs((entry - matrix[:3, 3]) @ normal) < 1e-9
        assert abs((target - matrix[:3, 3]) @ normal) < 1e-9
        assert matrix[:3, 1] @ (target - entry) < 0
    first, second = (matrix[:3, 2] for matrix in path_planes(entry, target))
    assert abs(first @ second) < 1e-9


def test_the_live_plane_has_the_first_row_on_top_and_the_first_column_left() -> None:
    matrix = np.diag([0.4, -0.3, 0.35, 1.0])
    matrix[:3, 3] = 7.0, 8.0, 9.0
    slice_to_ras, width = live_plane(matrix, (101, 51))
    assert width == pytest.approx(40.4)
    np.testing.assert_allclose(slice_to_ras[:3, 3], (27.0, 0.5, 9.0))
    np.testing.assert_allclose(slice_to_ras[:3, 0], (1.0, 0.0, 0.0))
    np.testing.assert_allclose(slice_to_ras[:3, 1], (0.0, 1.0, 0.0))


def test_a_path_of_no_length_has_no_view() -> None:
    with pytest.raises(InputError, match="no length"):
        bulls_eye_plane(np.zeros(3), np.zeros(3))
    with pytest.raises(InputError, match="two directions"):
        plane(np.array([1.0, 0.0, 0.0]), np.array([2.0, 0.0, 0.0]), np.zeros(3))


def test_obstacles_are_the_visible_segments_that_are_not_left_out(scene) -> None:
    from IRAILib.scene.write import mask_to_segment

    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    node.CreateDefaultDisplayNodes()
    ball = sphere()
    mask = Mask(ball.distance.array < 0, ball.distance.grid, "ball")
    ids = {name: mask_to_segment(node, mask, name) for name in ("Vessel", "Tumour", "Hidden")}
    mask_to_segment(node, Mask(np.zeros_like(mask.array), mask.grid), "Empty")
    node.GetDisplayNode().SetSegmentVisibility(ids["Hidden"], False)
    found = obstacles_from_node(node, ("Tumour",))
    assert [entry.name for entry in found] == ["Vessel"]
    assert float(found[0].at(CENTRE + (15.0, 0.0, 0.0))[0]) == pytest.approx(5.0, abs=0.9)
    assert obstacles_from_node(None) == []


def test_the_structure_that_is_near_is_named_with_its_own_distance() -> None:
    """Near one vessel while the shaft points at a bone far ahead: both are told, neither under the other's number."""
    tip = CENTRE + (14.0, 0.0, 0.0)
    value = breach(estimate_at(tip), [sphere(), sphere("Bone", tip + (0.0, 0.0, 30.0))])
    assert (value.status, value.name, value.ahead_name) == ("near", "Vessel", "Bone")
    assert value.distance_mm == pytest.approx(4.0, abs=0.9)
    text = breach_text(value)
    assert text.startswith("NEAR Vessel: ")
    assert "Bone is hit in" in text


@pytest.mark.parametrize("shift", np.arange(0.0, 1.0, 0.1))
def test_a_sheet_one_thin_voxel_thick_is_not_stepped_over(shift) -> None:
    grid = Grid((80, 20, 20), np.diag([0.4, 0.4, 0.4, 1.0]))
    thin = np.zeros(grid.shape, bool)
    thin[50] = True
    sheet = Obstacle("Vein", signed_distance(Mask(thin, grid)))
    value = breach(estimate_at((4.0, 4.0, 8.0 + shift)), [sheet], margin_mm=1.0)
    assert value.ahead_mm == pytest.approx(20.0 - 8.0 - shift, abs=0.5)


def test_two_segments_of_one_name_are_two_structures(scene) -> None:
    from IRAILib.scene.fusion_plan import _segments
    from IRAILib.scene.write import mask_to_segment

    grid = Grid((20, 20, 20), np.diag([2.0, 2.0, 2.0, 1.0]))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    for number, middle in enumerate((10.0, 30.0)):
        inside = np.linalg.norm(grid.all_points_ras() - middle, axis=-1) < 5.0
        segment_id = mask_to_segment(node, Mask(inside, grid), f"Vein{number}")
        node.GetSegmentation().GetSegment(segment_id).SetName("Vein")
    assert [entry.name for entry in obstacles_from_node(node)] == ["Vein", "Vein (2)"]
    assert sorted(_segments(node)) == ["Vein", "Vein (2)"]
