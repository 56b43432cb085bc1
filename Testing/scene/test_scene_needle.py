"""The needle in the scene: where it is drawn, in which colour, how far from its plan; by numbers and by pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mrml_cases import oblique_ras_from_ijk

GREEN, AMBER, GREY = (0.20, 0.85, 0.35), (1.00, 0.70, 0.10), (0.55, 0.55, 0.55)


def estimate(status="seen", **changes):
    from IRAILib.geometry import NeedleEstimate, NeedleStatus

    values = {"status": NeedleStatus(status), "time_s": 5.0, "frame": "RAS", "units": "mm", "modality": "US",
              "method": "test", "validated_on": "a test", "tip": np.array([10.0, 20.0, 30.0]),
              "direction": np.array([1.0, 0.0, 0.0]), "curve": np.array([[-30.0, 20, 30], [10, 20, 30]]),
              "covariance": np.diag([1.0, 4.0, 0.25]), "confidence": 0.9} | changes
    if status in ("lost", "absent", "out_of_plane"):
        values |= {"tip": None, "covariance": None, "direction": None, "curve": None}
    return NeedleEstimate(**values)


def visible(node) -> bool:
    return bool(node.GetDisplayNode().GetVisibility())


def points_of(node) -> np.ndarray:
    import slicer

    return slicer.util.arrayFromMarkupsControlPoints(node)


@pytest.fixture
def view(scene):
    from IRAILib.scene.needle import NeedleView

    return NeedleView(scene)


def test_tip_and_shaft_lie_where_the_estimate_says(view) -> None:
    view.show(estimate(), 0.0)
    np.testing.assert_allclose(points_of(view.node("tip")), [[10, 20, 30]])
    np.testing.assert_allclose(points_of(view.node("shaft")), [[-30, 20, 30], [10, 20, 30]])
    assert not visible(view.node("curve"))
    assert view.node("tip").GetAttribute("IRAI.Needle.ValidatedOn") == "a test"
    assert float(view.node("tip").GetAttribute("IRAI.Needle.Sigma")) == pytest.approx(2.0)


def test_the_uncertainty_is_an_ellipsoid_of_two_deviations(view) -> None:
    view.show(estimate(), 0.0)
    low, high = np.array(view.node("doubt").GetPolyData().GetBounds()).reshape(3, 2).T
    np.testing.assert_allclose((low + high) / 2, [10, 20, 30], atol=1e-3)
    np.testing.assert_allclose((high - low) / 2, [2.0, 4.0, 1.0], rtol=0.06)


def test_a_bent_needle_is_a_curve_and_a_straight_one_a_line(view) -> None:
    t = np.linspace(0, 1, 9)[:, None]
    bent = np.hstack([40 * t - 30, 20 + 4 * t * (1 - t), np.full_like(t, 30.0)])
    view.show(estimate(curve=bent), 0.0)
    assert (visible(view.node("curve")), visible(view.node("shaft"))) == (True, False)
    np.testing.assert_allclose(points_of(view.node("curve")), bent)
    view.show(estimate(), 0.1)
    assert (visible(view.node("curve")), visible(view.node("shaft"))) == (False, True)


@pytest.mark.parametrize(("status", "color", "parts"), [
    ("seen", GREEN, {"tip", "shaft", "doubt"}), ("coasting", AMBER, {"tip", "shaft", "doubt"}),
    ("lost", GREY, {"tip", "shaft"}), ("absent", None, set()), ("out_of_plane", None, set())])
def test_each_status_has_its_colour(view, status, color, parts) -> None:
    view.show(estimate(), 0.0)
    view.show(estimate(status, age_s=0.4), 0.1)
    assert {part for part in view.PARTS if visible(view.node(part))} == parts
    if color is not None:
        np.testing.assert_allclose(view.node("tip").GetDisplayNode().GetSelectedColor(), color, atol=1e-6)
        np.testing.assert_allclose(view.node("shaft").GetDisplayNode().GetSelectedColor(), color, atol=1e-6)


def test_an_estimate_that_nobody_renews_turns_grey_then_goes(view) -> None:
    from IRAILib.geometry import NeedleStatus

    view.show(estimate(), 100.0)
    assert view.tick(100.4) is NeedleStatus.SEEN
    assert view.tick(100.6) is NeedleStatus.LOST
    np.testing.assert_allclose(view.node("tip").GetDisplayNode().GetSelectedColor(), GREY, atol=1e-6)
    assert view.node("tip").GetNthControlPointLabel(0) == "LOST"
    assert not visible(view.node("doubt"))
    view.tick(104.0)
    assert not any(visible(view.node(part)) for part in view.PARTS)
    view.show(estimate(), 105.0)
    assert visible(view.node("tip"))
    np.testing.assert_allclose(view.node("tip").GetDisplayNode().GetSelectedColor(), GREEN, atol=1e-6)


def test_a_source_that_is_gone_loses_it_at_once(view) -> None:
    from IRAILib.geometry import NeedleStatus

    view.lose(0.0)
    view.show(estimate(), 100.0)
    view.lose(100.1)
    assert view.tick(100.1) is NeedleStatus.LOST
    np.testing.assert_allclose(view.node("tip").GetDisplayNode().GetSelectedColor(), GREY, atol=1e-6)
    assert not visible(view.node("doubt"))
    assert view.age_s(100.2) == pytest.approx(0.2)
    view.lose(103.5)
    assert not visible(view.node("tip"))


def test_thousands_of_updates_leave_no_node_behind(view, scene) -> None:
    view.show(estimate(), 0.0)
    before = scene.GetNumberOfNodes()
    for number in range(2000):
        view.show(estimate(("seen", "coasting", "lost", "absent")[number % 4]), 0.01 * number)
    assert scene.GetNumberOfNodes() == before


def test_a_reloaded_scene_has_one_needle(scene, view, tmp_path) -> None:
    import slicer
    from IRAILib.scene.needle import NeedleView

    view.show(estimate(), 0.0)
    count = scene.GetNumberOfNodes()
    assert slicer.util.saveScene(str(tmp_path / "n.mrb"))
    scene.Clear(False)
    slicer.util.loadScene(str(tmp_path / "n.mrb"))
    again = NeedleView(scene)
    again.show(estimate(tip=np.array([1.0, 2, 3])), 0.0)
    assert len(again.existing()) == 4
    np.testing.assert_allclose(points_of(again.node("tip")), [[1, 2, 3]])
    assert len(slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")) == 1
    assert count


@pytest.mark.parametrize("parent", [False, True])
def test_pixels_go_through_the_pictures_matrix_with_their_doubt(scene, parent) -> None:
    """Against a point and a covariance mapped by hand; under a parent transform too."""
    import slicer
    from IRAILib.scene.needle import in_ras

    matrix = oblique_ras_from_ijk((0.4, 0.3, 1.0))
    volume = slicer.util.addVolumeFromArray(np.zeros((1, 60, 80), np.uint8), matrix, "US")
    if parent:
        turn = np.array([[0.0, -1, 0, 10], [1, 0, 0, -20], [0, 0, 1, 30], [0, 0, 0, 1]])
        node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
        volume.SetAndObserveTransformNodeID(node.GetID())
        matrix = turn @ matrix
    pixels = estimate(frame="Image", units="px", tip=np.array([50.0, 20, 0]), direction=np.array([0.6, 0.8, 0]),
                      covariance=np.diag([4.0, 9.0, 0.0]), curve=np.array([[20.0, 0, 0], [50, 20, 0]]))
    expected = matrix[:3, :3] @ (50, 20, 0) + matrix[:3, 3]
    got = in_ras(pixels, volume)
    np.testing.assert_allclose(got.tip, expected, atol=1e-6)
    assert got.sigma == pytest.approx(3 * 0.3, rel=1e-6)
    assert np.linalg.norm(got.direction) == pytest.approx(1.0)
    mm = replace(pixels, units="mm", tip=np.array([20.0, 6, 0]), covariance=None, curve=None)
    np.testing.assert_allclose(in_ras(mm, volume).tip, expected, atol=1e-6)


def test_guidance_against_a_hand_calculation() -> None:
    from IRAILib.scene.needle_guidance import guidance

    plan = (np.array([0.0, 0, 0]), np.array([0.0, 0, 100]))
    direction = np.array([0.0, np.sin(np.radians(10)), np.cos(np.radians(10))])
    got = guidance(estimate(tip=np.array([3.0, 4, 60]), direction=direction, curve=None,
                            covariance=np.diag([0.0, 0.0, 4.0])), plan)
    assert got.distance_mm == pytest.approx(np.sqrt(25 + 1600))
    assert got.distance_sigma_mm == pytest.approx(2 * 40 / np.sqrt(1625))
    assert got.off_line_mm == pytest.approx(5.0)
    assert got.off_line_sigma_mm is None, "the covariance says nothing of that way, which is no certainty"
    assert got.depth_left_mm == pytest.approx(40.0)
    assert got.depth_left_sigma_mm == pytest.approx(2.0)
    assert got.angle_deg == pytest.approx(10.0)
    assert got.time_to_target_s is None


@pytest.mark.parametrize(("speed", "expected"), [(5.0, 8.0), (-5.0, None), (0.0, None)])
def test_time_to_target_only_while_the_tip_comes_nearer(speed, expected) -> None:
    from IRAILib.scene.needle_guidance import TipHistory, guidance

    history, rng = TipHistory(), np.random.default_rng(3)
    axis = np.array([0.0, 0.0, 1.0])
    for number in range(30):
        time_s = number / 20
        tip = np.array([0.0, 0, 60 + speed * (time_s - 29 / 20)]) + rng.normal(0, 0.05, 3)
        last = estimate(tip=tip, direction=axis, time_s=time_s, covariance=np.eye(3) * 0.01, curve=None)
        history.add(last)
    got = guidance(last, (np.zeros(3), np.array([0.0, 0, 100])), history)
    assert got.speed_mm_s == pytest.approx(speed, abs=0.2)
    assert got.time_to_target_s == (None if expected is None else pytest.approx(expected, rel=0.05))
    if expected is not None:  # 30 tips of 0.1 mm at 20 a second: the speed to 0.042 mm/s; 8 s to 0.02 and 0.068 s
        assert got.time_to_target_sigma_s == pytest.approx(0.070, rel=0.1)
    history.add(estimate("lost", time_s=2.0))
    assert history.speed_mm_s(axis) is None


def test_nothing_is_told_in_mm_without_a_scale_or_a_plan_of_some_length() -> None:
    from IRAILib.geometry import InputError
    from IRAILib.scene.needle_guidance import guidance

    with pytest.raises(InputError, match="no scale"):
        guidance(estimate(units="px"), None)
    with pytest.raises(InputError, match="no length"):
        guidance(estimate(), (np.ones(3), np.ones(3)))
    assert guidance(estimate("lost"), (np.zeros(3), np.ones(3))).distance_mm is None


@pytest.mark.parametrize(("seconds", "status"), [(0.1, "seen"), (0.4, "coasting"), (0.8, "lost")])
def test_an_answer_ages(seconds, status) -> None:
    from IRAILib.scene.needle import aged, status_text

    got = aged(estimate(), seconds)
    assert got.status.value == status
    assert (got.tip is None) == (status == "lost")
    assert status_text(got, got.status, got.age_s) == {"seen": "SEEN", "coasting": "COASTING 0.4 s",
                                                       "lost": "LOST 0.8 s"}[status]


def test_the_needle_is_seen_on_its_slice_green_then_grey(scene, view) -> None:
    """In the rendered picture: the tip's colour where the tip falls, on an oblique tracked picture."""
    import slicer
    from IRAILib.headless.views import SliceView
    from IRAILib.scene.needle import in_ras

    matrix = oblique_ras_from_ijk((0.5, 0.5, 1.0), (-20.0, 10.0, 5.0))
    volume = slicer.util.addVolumeFromArray(np.full((1, 120, 160), 60, np.uint8), matrix, "US")
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().AutoWindowLevelOff()
    volume.GetDisplayNode().SetWindowLevel(255, 127)
    pixels = estimate(frame="Image", units="px", tip=np.array([100.0, 70, 0]), direction=np.array([0.8, 0.6, 0]),
                      covariance=np.diag([9.0, 9.0, 0]), curve=np.array([[20.0, 10, 0], [100, 70, 0]]))
    mapped = in_ras(pixels, volume)
    view.show(mapped, 0.0)
    with SliceView("Axial", 400) as picture:
        picture.show(volume)
        picture.node.SetSliceToRASByNTP(*matrix[:3, 2], *(matrix[:3, 0] / 0.5), *mapped.tip, 0)
        picture.centre_on(mapped.tip).field_of_view(80.0)
        row, column = (round(value) for value in picture.pixel_of(mapped.tip))
        live = picture.image()
        view.tick(0.7)
        stale = picture.image()
    around = (slice(row - 25, row + 26), slice(column - 25, column + 26))
    assert greenish(live[around]).sum() > 30
    assert greenish(stale).sum() == 0
    assert np.abs(live[around].astype(int) - stale[around]).sum() > 1000
    far = (slice(5, 60), slice(5, 60))
    np.testing.assert_array_equal(live[far], stale[far])


def test_the_time_that_drawing_took_is_taken_from_the_views(scene) -> None:
    from IRAILib.headless.views import SliceView
    from IRAILib.scene.needle_render import desktop_render_ms, last_render_ms

    with SliceView("Axial", 200) as view:
        assert last_render_ms([view.window]) is None
        view.image()
        assert last_render_ms([view.window]) > 0.0
    assert desktop_render_ms() is None, "there is no desktop here"


def greenish(picture: np.ndarray) -> np.ndarray:
    red, green, blue = (picture[..., c].astype(int) for c in range(3))
    return (green > red + 60) & (green > blue + 40)
