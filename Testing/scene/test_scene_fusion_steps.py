"""Registration, calibration, volumes and live views of FusionNav on real MRML."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from fusion_cases import (
    IMAGE_TO_PROBE,
    REGISTRATION,
    SIZE,
    calibration,
    corners_ras,
    point_list,
    ready,
    recording,
    registered,
    turned,
    until,
)
from IRAILib.geometry import (
    CancelledError,
    Grid,
    InputError,
    LinearTransform,
    Mask,
    RefusedError,
    Volume,
    signed_distance,
)
from IRAILib.scene import fusion_volumes
from IRAILib.scene.fusion_guide import Obstacle
from IRAILib.scene.fusion_registration import (
    find_registration,
    keep_registration,
    register_points,
    registration_from_node,
    residual_rows,
)
from IRAILib.scene.write import volume_to_node

PLACES = {"a": (0.0, 80.0, 30.0), "b": (70.0, 20.0, -30.0), "c": (-60.0, 30.0, 10.0), "d": (10.0, 70.0, -60.0),
          "e": (40.0, 50.0, 40.0)}


def touched(noise: dict | None = None) -> dict:
    back = np.linalg.inv(REGISTRATION)
    return {name: (back @ (*(np.array(point) + (noise or {}).get(name, 0.0)), 1.0))[:3]
            for name, point in PLACES.items()}


def box(scene, name: str, centre=(0.0, 0.0, 0.0), value: int = 100) -> object:
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = np.array(centre) - 19.0
    array = np.full((20, 20, 20), value, np.int16)
    array[5:15, 5:15, 5:15] += 50
    return volume_to_node(Volume(array, Grid((20, 20, 20), matrix), name),
                          scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name))


# ---- registration


def test_points_are_paired_by_name_whatever_their_order(scene) -> None:
    fixed = point_list(scene, "Fixed", PLACES)
    moving = point_list(scene, "Moving", dict(reversed(touched().items())))
    found = register_points(fixed, moving, hold_out=["e"])
    np.testing.assert_allclose(found.ras_from_reference, REGISTRATION, atol=1e-6)
    assert found.held_out[0][0] == "e"
    assert found.held_out[0][1] < 1e-6
    assert [row[3] for row in residual_rows(found)] == ["fitted"] * 4 + ["held out"]


def test_a_held_out_landmark_measures_and_is_never_fitted(scene) -> None:
    noise = {"e": np.array([0.0, 6.0, 0.0])}
    fixed, moving = point_list(scene, "Fixed", PLACES), point_list(scene, "Moving", touched(noise))
    found = register_points(fixed, moving, hold_out=["e"], target_ras=np.array(PLACES["a"]))
    np.testing.assert_allclose(found.ras_from_reference, REGISTRATION, atol=1e-6)
    assert found.held_out_rms_mm == pytest.approx(6.0)
    assert found.error_at(np.array([0.0, 0.0, 0.0])) == pytest.approx(6.0)


def test_unequal_lists_and_unknown_names_are_refused(scene) -> None:
    fixed = point_list(scene, "Fixed", PLACES)
    fewer = point_list(scene, "Fewer", dict(list(touched().items())[:4]))
    with pytest.raises(InputError, match="5 points and Fewer 4"):
        register_points(fixed, fewer)
    with pytest.raises(InputError, match="no landmark is named z"):
        register_points(fixed, point_list(scene, "Moving", touched()), hold_out=["z"])
    with pytest.raises(InputError, match="no point list"):
        register_points(fixed, None)


def test_a_registration_is_one_node_and_comes_back_from_it(scene) -> None:
    fixed, moving = point_list(scene, "Fixed", PLACES), point_list(scene, "Moving", touched())
    for _ in range(2):
        found = register_points(fixed, moving, hold_out=["e"])
        node = keep_registration(found)
    assert find_registration(scene) is node
    assert scene.GetNodesByName("ReferenceToRAS").GetNumberOfItems() == 1
    back = registration_from_node(node)
    np.testing.assert_allclose(back.ras_from_reference, REGISTRATION, atol=1e-6)
    assert back.method == found.method
    assert back.held_out == found.held_out


def test_the_node_moves_tracked_things_to_the_patient(scene) -> None:
    """A point in the tracker's frame under the node lies where the patient's is: as any module of Slicer reads it."""
    node = keep_registration(registered())
    points = point_list(scene, "P", {"p": touched()["b"]})
    points.SetAndObserveTransformNodeID(node.GetID())
    np.testing.assert_allclose(points.GetNthControlPointPositionWorld(0), PLACES["b"], atol=1e-6)


# ---- calibration


def test_a_calibration_is_read_from_json_and_from_a_plus_configuration(tmp_path) -> None:
    from IRAILib.scene.fusion_calibrate import read_probe_calibration

    (tmp_path / "probe.json").write_text(json.dumps(calibration().to_dict()))
    np.testing.assert_allclose(read_probe_calibration(tmp_path / "probe.json").probe_from_image, IMAGE_TO_PROBE)
    numbers = " ".join(f"{v:.9g}" for v in IMAGE_TO_PROBE.ravel())
    (tmp_path / "plus.xml").write_text(
        f'<PlusConfiguration><CoordinateDefinitions><Transform From="Image" To="Probe" Matrix="{numbers}"/>'
        '</CoordinateDefinitions></PlusConfiguration>')
    found = read_probe_calibration(tmp_path / "plus.xml")
    np.testing.assert_allclose(found.probe_from_image, IMAGE_TO_PROBE, atol=1e-6)
    assert found.size_px is None
    assert "not known" in found.validated_on
    (tmp_path / "other.json").write_text('{"kind": "pivot"}')
    for name, words in (("other.json", "no probe calibration"), ("none.json", "no such file")):
        with pytest.raises(InputError, match=words):
            read_probe_calibration(tmp_path / name)


def test_a_calibration_without_errors_makes_the_chain_say_so(scene) -> None:
    """From a PLUS configuration: the chain holds, its error is not known, and nothing is made up."""
    from IRAILib.scene.fusion_session import FusionSession

    session = FusionSession()
    nan = float("nan")
    bare = calibration(size_px=None, sigma_mm={"corner": nan, "centre": nan}, rms_mm=nan, mean_mm=nan,
                       held_out_rms_mm=nan)
    try:
        ready(session, recording())
        session.live.set_calibration(bare, check=False)
        until(session, lambda: session.image_chain().ok, "the chain")
        chain = session.image_chain()
        assert chain.error_mm is None
        assert "ImageToProbe" in chain.unknown
    finally:
        session.close()


def test_tip_and_shaft_from_collected_poses() -> None:
    from IRAILib.scene.fusion_calibrate import shaft_from_poses, tip_from_poses

    tip, random = np.array([1.0, -2.0, -150.0]), np.random.default_rng(4)
    poses = []
    for n in range(80):
        pose = turned((25.0 * np.sin(0.3 * n), 25.0 * np.cos(0.41 * n)), (0.0, 0.0, 0.0))
        pose[:3, 3] = (10.0, 20.0, 30.0) - pose[:3, :3] @ tip + random.normal(0.0, 0.05, 3)
        poses.append(pose)
    made, text = tip_from_poses("StylusToReference", poses)
    np.testing.assert_allclose(made.tip_mm, tip, atol=0.2)
    assert "Stylus: tip at" in text
    rolled = []
    for n in range(72):
        a = np.radians(5.0 * n)
        pose = np.eye(4)
        pose[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
        rolled.append(pose)
    spun, text = shaft_from_poses("StylusToReference", rolled, made)
    np.testing.assert_allclose(spun.axis, (0.0, 0.0, -1.0), atol=0.02)
    assert spun.tip_mm == made.tip_mm
    assert "sense is not known" not in text
    with pytest.raises(RefusedError):
        tip_from_poses("StylusToReference", rolled[:5])


# ---- volumes and refinement


def answer(matrix: np.ndarray, accepted: bool, **extra) -> SimpleNamespace:
    reason = "clear" if accepted else "another place fits as well"
    return SimpleNamespace(accepted=accepted, reason=reason, sigma_mm=1.2, moved_mm=5.0,
                           validated_on="nothing", slices=8, to_dict=lambda: {"accepted": accepted},
                           moving_from_fixed=LinearTransform(matrix, "moving", "fixed"),
                           volume_from_tracked=LinearTransform(matrix, "volume", "tracked"), **extra)


def test_an_accepted_volume_hangs_under_its_transform(scene, monkeypatch) -> None:
    fixed, moving = box(scene, "CT"), box(scene, "MR", (7.0, 0.0, 0.0))
    shift = np.eye(4)
    shift[0, 3] = 7.0
    monkeypatch.setattr(fusion_volumes, "run_job", lambda *_a, **_k: answer(shift, True))
    for _ in range(2):  # a second run replaces the first
        node, _result = fusion_volumes.register_volumes(fixed, moving)
    assert moving.GetParentTransformNode() is node
    bounds = np.zeros(6)
    moving.GetRASBounds(bounds)
    wanted = np.zeros(6)
    fixed.GetRASBounds(wanted)
    np.testing.assert_allclose(bounds, wanted, atol=1e-6)
    assert len([n for n in (scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes()))
                if n.GetAttribute("IRAI.Role") == "fusion.volumes"]) == 1


@pytest.mark.parametrize("how", ["refused", "cancelled"])
def test_a_volume_that_is_not_accepted_stays_where_it_was(scene, monkeypatch, how) -> None:
    fixed, moving = box(scene, "CT"), box(scene, "MR")
    monkeypatch.setattr(fusion_volumes, "run_job", lambda *_a, **_k: answer(np.eye(4), True))
    node, _result = fusion_volumes.register_volumes(fixed, moving)
    count = scene.GetNumberOfNodes()

    def fail(*_args, **_kwargs):
        if how == "refused":
            return answer(np.eye(4), False)
        raise CancelledError("cancelled")

    monkeypatch.setattr(fusion_volumes, "run_job", fail)
    with pytest.raises((RefusedError, CancelledError)):
        fusion_volumes.register_volumes(fixed, moving)
    assert moving.GetParentTransformNode() is node
    assert scene.GetNumberOfNodes() == count
    with pytest.raises(InputError, match="two different"):
        fusion_volumes.register_volumes(fixed, fixed)


def test_live_slices_refine_the_registration_and_the_held_out_landmarks_judge_it(scene, monkeypatch) -> None:
    from IRAILib.scene.fusion_session import FusionSession

    off = np.eye(4)
    off[:3, 3] = 4.0, 0.0, 0.0
    session = FusionSession()
    try:
        ready(session, recording())
        fixed = point_list(scene, "Fixed", {n: np.array(p) + (4.0, 0.0, 0.0) for n, p in PLACES.items()})
        session.registration = register_points(fixed, point_list(scene, "Moving", touched()), hold_out=["e"])
        with pytest.raises(InputError, match="6 at least"):
            fusion_volumes.refine_by_slices(session, box(scene, "CT"))
        until(session, lambda: len(session.live.kept) >= 6, "kept slices")
        seen = {}
        monkeypatch.setattr(fusion_volumes, "run_job",
                            lambda _target, kwargs, **_k: seen.update(kwargs) or answer(np.linalg.inv(off), True))
        fusion_volumes.refine_by_slices(session, box(scene, "CT"))
        assert len(seen["images"]) == len(seen["ras_from_pixel"]) >= 6
        np.testing.assert_allclose(session.registration.ras_from_reference, REGISTRATION, atol=1e-6)
        assert session.registration.held_out_rms_mm == pytest.approx(4.0, abs=1e-6)
        assert "TRE 4.0 mm" in session.state().tre_text
        assert "refined" in session.state().tre_text
    finally:
        session.close()


# ---- live views


def test_the_live_views_lie_in_the_live_plane_and_dim_when_it_goes(scene) -> None:
    import slicer
    from IRAILib.scene.fusion_views import LiveViews
    from IRAILib.scene.needle import image_to_ras

    views = LiveViews(clock=iter(np.arange(0.0, 1e4, 1.0)).__next__)
    views.volume = box(scene, "CT")
    matrix = turned((10.0, 20.0), (-10.0, -8.0, 1.0)) @ np.diag([0.4, 0.5, 1.0, 1.0])
    pixels = np.full((SIZE[1], SIZE[0]), 90, np.uint8)
    inside = np.zeros((20, 20, 20), bool)
    inside[5:15, 5:15, 5:15] = True
    grid = Grid((20, 20, 20), np.array([[2.0, 0, 0, -19], [0, 2.0, 0, -19], [0, 0, 2.0, -19], [0, 0, 0, 1.0]]))
    views.set_structures([Obstacle("Core", signed_distance(Mask(inside, grid)), (0.1, 0.2, 0.3))])
    for mode in ("side", "blend", "checker"):
        views.mode = mode
        views.show(pixels, matrix)
    for part in ("picture", "cut", "fused"):
        node = views.node(part)
        np.testing.assert_allclose(corners_ras(image_to_ras(node)), corners_ras(matrix), atol=1e-6)
    assert slicer.util.arrayFromVolume(views.node("picture")).shape == (1, SIZE[1], SIZE[0])
    outline = scene.GetFirstNode("Core on the live slice", "vtkMRMLModelNode")
    points = np.array([outline.GetPolyData().GetPoint(n) for n in range(outline.GetPolyData().GetNumberOfPoints())])
    assert len(points) > 4
    normal = np.cross(matrix[:3, 0], matrix[:3, 1])
    assert np.abs((points - matrix[:3, 3]) @ normal / np.linalg.norm(normal)).max() < 1e-3
    assert np.abs(points).max() < 11.0  # the core's faces are at 10 mm
    views.dim("gone")
    assert views.node("picture").GetAttribute("IRAI.Fusion.Status") == "STALE"
    assert "dimmed" in views.node("picture").GetDisplayNode().GetColorNode().GetName()
    assert not outline.GetDisplayNode().GetVisibility()
    dark = slicer.util.arrayFromVolume(views.node("fused")).max()
    views.show(pixels, matrix)
    assert outline.GetDisplayNode().GetVisibility()
    assert slicer.util.arrayFromVolume(views.node("fused")).max() > dark
    views.remove()
    assert scene.GetFirstNode("Live slice", "vtkMRMLScalarVolumeNode") is None


def test_the_cut_shows_the_volume_that_is_there(scene) -> None:
    """A plane through the middle: the core is brighter than the rest, outside there is nothing."""
    import slicer
    from IRAILib.scene.fusion_views import LiveViews

    views = LiveViews()
    views.volume = box(scene, "CT")
    views.volume.GetDisplayNode().SetAutoWindowLevel(False)
    views.volume.GetDisplayNode().SetWindowLevel(200.0, 125.0)
    matrix = np.diag([0.5, 0.5, 1.0, 1.0])
    matrix[:3, 3] = -25.0, -25.0, 0.0
    views.show(np.zeros((100, 100), np.uint8), matrix)
    cut = slicer.util.arrayFromVolume(views.node("cut"))[0]
    inside, rim, outside = cut[50, 50], cut[50, 15], cut[50, 5]
    assert (inside, rim) == (pytest.approx(160, abs=2), pytest.approx(96, abs=2))
    assert outside == 0


def test_the_cut_follows_a_volume_whose_transforms_move(scene) -> None:
    """Also a transform above the volume's own: neither tells the volume's node."""
    from IRAILib.scene.fusion_views import LiveViews
    from IRAILib.scene.nodes import matrix_to_vtk

    volume = volume_to_node(Volume(np.zeros((9, 9, 9), np.int16), Grid((9, 9, 9), np.eye(4)), "CT"),
                            scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT"))
    inner, outer = (scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name) for name in ("inner", "outer"))
    volume.SetAndObserveTransformNodeID(inner.GetID())
    inner.SetAndObserveTransformNodeID(outer.GetID())
    views = LiveViews()
    views.volume = volume
    np.testing.assert_allclose(views._library_volume().grid.centre_ras, (4.0, 4.0, 4.0))
    for node, shift in ((inner, (10.0, 0.0, 0.0)), (outer, (0.0, 20.0, 0.0))):
        matrix = np.eye(4)
        matrix[:3, 3] = shift
        node.SetMatrixTransformToParent(matrix_to_vtk(matrix))
    np.testing.assert_allclose(views._library_volume().grid.centre_ras, (14.0, 24.0, 4.0))
