"""The volume under the C-arm on real MRML: where frames lie, what a refusal leaves, the path on the picture."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from IRAILib.geometry import CancelledError, Grid, InputError, Volume
from IRAILib.scene import fusion_carm, fusion_vessels
from IRAILib.scene.needle import image_to_ras
from IRAILib.scene.nodes import points_from_markups, volume_from_node
from IRAILib.scene.write import volume_to_node

CENTRE = np.array([12.0, -8.0, 30.0])
PLACE = {"primary_deg": 30.0, "secondary_deg": -12.0, "source_to_detector_mm": 1100.0, "source_to_isocentre_mm": 720.0,
         "mm_per_px": 1.5}


@pytest.fixture
def ct(scene):
    """Air with one ball of bone in the middle of a softer box."""
    matrix = np.diag([-3.0, -3.0, 3.0, 1.0])
    matrix[:3, 3] = CENTRE - matrix[:3, :3] @ (19.5, 19.5, 19.5)
    grid = Grid((40, 40, 40), matrix)
    away = np.linalg.norm(grid.all_points_ras() - (CENTRE + (15.0, 6.0, -9.0)), axis=-1)
    hu = np.where(away < 9.0, 1200.0, 20.0)
    hu[:2] = hu[-2:] = hu[:, :2] = hu[:, -2:] = hu[:, :, :2] = hu[:, :, -2:] = -1000.0
    return volume_to_node(Volume(hu.astype(np.int16), grid, "CT"),
                          scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT"))


@pytest.fixture
def frame(scene):
    geometry = fusion_carm.geometry_for((90, 70), **PLACE)
    pixels = np.random.default_rng(0).normal(100.0, 10.0, (70, 90)).astype(np.float32)
    return fusion_carm.add_frame("X", pixels, geometry, fusion_carm.isocentre_pose(CENTRE))


def test_a_frame_lies_where_its_rays_end(frame) -> None:
    """A point of the patient, its pixel, and the source lie on one line."""
    geometry = fusion_carm.geometry_of(frame)
    pose = fusion_carm.pose_of_frame(frame)
    point = CENTRE + (10.0, -14.0, 22.0)
    pixel = geometry.project((pose @ (*point, 1.0))[None, :3])[0]
    source = (np.linalg.inv(pose) @ (*geometry.source_mm, 1.0))[:3]
    seen = fusion_carm.to_ras(frame, pixel[None])[0]
    along, wanted = seen - source, point - source
    assert np.linalg.norm(np.cross(along, wanted)) / np.linalg.norm(wanted) < 1e-6
    assert np.linalg.norm(seen - source) > np.linalg.norm(point - source)
    corner = image_to_ras(frame) @ (0.0, 0.0, 0.0, 1.0)
    np.testing.assert_allclose((pose @ corner)[:3], geometry.pixel0_mm, atol=1e-6)


def test_the_isocentre_is_the_first_point_or_the_middle_of_the_volume(scene, ct) -> None:
    np.testing.assert_allclose(fusion_carm.isocentre_of(None, ct), CENTRE, atol=1e-6)
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "I")
    node.AddControlPoint([1.0, 2.0, 3.0])
    np.testing.assert_allclose(fusion_carm.isocentre_of(node, ct), (1.0, 2.0, 3.0))
    with pytest.raises(InputError, match="choose the CT"):
        fusion_carm.isocentre_of(None, None)


def test_a_drr_shows_the_ball_where_the_pinhole_puts_it(scene, ct) -> None:
    pytest.importorskip("torch")
    geometry = fusion_carm.geometry_for((120, 100), **PLACE)
    pose = fusion_carm.isocentre_pose(CENTRE)
    node = fusion_carm.compute_drr(ct, geometry, pose)
    import slicer

    image = slicer.util.arrayFromVolume(node)[0].astype(float)
    pixel = geometry.project((pose @ (*(CENTRE + (15.0, 6.0, -9.0)), 1.0))[None, :3])[0]
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert np.hypot(column - pixel[0], row - pixel[1]) < 3.0
    again = fusion_carm.compute_drr(ct, geometry, pose)
    assert len(fusion_carm._with_role(scene, fusion_carm.DRR_ROLE)) == 1
    assert again.GetName() == "DRR (computed) LAO 30° CAU 12°"


def test_a_view_that_misses_the_patient_is_said_and_leaves_nothing(scene, ct) -> None:
    pytest.importorskip("torch")
    before = scene.GetNumberOfNodes()
    with pytest.raises(InputError, match="sees nothing"):
        fusion_carm.compute_drr(ct, fusion_carm.geometry_for((20, 20), **PLACE),
                                fusion_carm.isocentre_pose(CENTRE + (900.0, 0.0, 900.0)))
    assert scene.GetNumberOfNodes() == before


def result_of(accepted: bool, pose: np.ndarray) -> SimpleNamespace:
    values = {"table_from_ras": pose, "accepted": accepted, "similarity": 0.5, "in_plane_mm": 0.4, "depth_mm": 3.0,
              "moved_mm": 7.0, "turned_deg": 2.0, "agreement": 0.8, "seconds": 9.0, "validated_on": "nothing",
              "reason": "a clear lead" if accepted else "another level fits as well"}
    return SimpleNamespace(**values, to_dict=lambda: {"accepted": accepted})


def test_an_accepted_registration_moves_the_frame_and_keeps_the_pose(scene, ct, frame, monkeypatch) -> None:
    pose = fusion_carm.isocentre_pose(CENTRE + (4.0, 5.0, -6.0))
    asked = {}
    monkeypatch.setattr(fusion_carm, "run_job", lambda target, kwargs, **_: asked.update(kwargs, target=target)
                        or result_of(True, pose))
    verdict = fusion_carm.register_frame(ct, frame, fusion_carm.isocentre_pose(CENTRE))
    assert verdict.accepted
    assert verdict.text.startswith("ACCEPTED: a clear lead")
    np.testing.assert_allclose(fusion_carm.pose_of_frame(frame), pose)
    node = scene.GetFirstNode("TableToRAS", "vtkMRMLLinearTransformNode")
    assert node is not None
    assert asked["target"] == "IRAILib.registration.xray:register_xray"
    assert asked["images"][0].shape == (70, 90)
    assert asked["geometries"][0].size == (90, 70)


def test_a_refused_registration_moves_nothing_and_says_why(scene, ct, frame, monkeypatch) -> None:
    before, nodes = image_to_ras(frame), scene.GetNumberOfNodes()
    monkeypatch.setattr(fusion_carm, "run_job", lambda *_args, **_kwargs: result_of(False, np.eye(4)))
    verdict = fusion_carm.register_frame(ct, frame, fusion_carm.isocentre_pose(CENTRE))
    assert not verdict.accepted
    assert "REFUSED, nothing was moved: another level fits as well" in verdict.text
    np.testing.assert_array_equal(image_to_ras(frame), before)
    assert scene.GetNumberOfNodes() == nodes
    assert json.loads(frame.GetAttribute(fusion_carm.VERDICT)) == {"accepted": False}


def test_cancelling_leaves_the_scene(scene, ct, frame) -> None:
    nodes = scene.GetNumberOfNodes()
    with pytest.raises(CancelledError):
        fusion_carm.register_frame(ct, frame, fusion_carm.isocentre_pose(CENTRE), cancelled=lambda: True)
    assert scene.GetNumberOfNodes() == nodes
    assert frame.GetAttribute(fusion_carm.VERDICT) is None


def test_a_plain_volume_needs_angles(scene, ct) -> None:
    with pytest.raises(InputError, match="projection is not known"):
        fusion_carm.register_frame(ct, ct, np.eye(4))
    with pytest.raises(InputError, match="choose the CT"):
        fusion_carm.register_frame(None, ct, np.eye(4))


def test_the_path_is_drawn_through_the_projections_of_its_ends(scene, frame) -> None:
    path = (CENTRE + (20.0, 10.0, 5.0), CENTRE + (-10.0, -5.0, 0.0))
    text = fusion_carm.draw_path_on(frame, path, sigma_mm=1.0)
    assert "foreshortened" in text
    node = scene.GetFirstNode("Path on the X-ray", "vtkMRMLModelNode")
    geometry, pose = fusion_carm.geometry_of(frame), fusion_carm.pose_of_frame(frame)
    ends = geometry.project(np.array([(pose @ (*point, 1.0))[:3] for point in path]))
    drawn = np.array([node.GetPolyData().GetPoint(n) for n in range(node.GetPolyData().GetNumberOfPoints())])
    for end in fusion_carm.to_ras(frame, ends):
        assert np.linalg.norm(drawn - end, axis=1).min() < 1e-3
    fusion_carm.draw_path_on(frame, None)
    assert scene.GetFirstNode("Path on the X-ray", "vtkMRMLModelNode") is None


def test_down_the_path_the_path_is_a_point() -> None:
    """The angles for a path, put into a geometry: entry and target fall on one pixel."""
    path = (CENTRE + (18.0, 52.0, 14.0), CENTRE)
    pose = fusion_carm.isocentre_pose(CENTRE)
    (primary, secondary), rows = fusion_carm.angles_for_path(path, pose)
    geometry = fusion_carm.geometry_for((200, 200), **{**PLACE, "primary_deg": primary, "secondary_deg": secondary})
    first, second = geometry.project(np.array([(pose @ (*point, 1.0))[:3] for point in path]))
    assert np.linalg.norm(first - second) < 0.5
    assert rows[0][0] == "Bull's eye"
    assert rows[0][1].startswith("RAO")
    assert "CRA" in rows[0][1]
    with pytest.raises(InputError, match="no length"):
        fusion_carm.angles_for_path((CENTRE, CENTRE), pose)


def test_a_path_that_the_arm_does_not_reach_says_so() -> None:
    _angles, rows = fusion_carm.angles_for_path((np.array([0.0, 0.0, 80.0]), np.zeros(3)), np.eye(4))
    assert "doesn't reach" in rows[0][1]


def test_a_subtracted_run_lies_on_its_frame(scene, frame) -> None:
    import slicer

    frames = np.random.default_rng(1).normal(0.0, 0.02, (5, 70, 90)).astype(np.float32)
    frames[3, 30:40] -= 0.5
    result = SimpleNamespace(frames=frames)
    for number in (3, 4):
        live, darkest = fusion_vessels.show_subtraction(frame, result, number)
    assert len(fusion_carm._with_role(scene, fusion_vessels.DSA_ROLE)) == 1
    np.testing.assert_allclose(image_to_ras(live), image_to_ras(frame))
    np.testing.assert_allclose(slicer.util.arrayFromVolume(live)[0], frames[4])
    assert slicer.util.arrayFromVolume(darkest)[0][35].mean() < -0.4
    with pytest.raises(InputError, match="no mask"):
        fusion_vessels.subtract_run(None)


def test_vessels_are_lines_on_the_frame_with_their_width(scene, frame) -> None:
    lines = [np.array([[10.0, 20.0], [30.0, 25.0], [50.0, 30.0]]), np.array([[5.0, 5.0]])]
    found = SimpleNamespace(centrelines=lines, diameters_px=[np.array([4.0, np.nan, 6.0]), np.array([1.0])])
    node = fusion_vessels.show_vessels(frame, found)
    mesh = node.GetPolyData()
    assert mesh.GetNumberOfPoints() == 3
    np.testing.assert_allclose(mesh.GetPoint(1), fusion_carm.to_ras(frame, lines[0][1:2])[0], atol=1e-3)
    widths = mesh.GetPointData().GetArray("Diameter_px")
    assert [widths.GetValue(n) for n in range(3)] == [4.0, 0.0, 6.0]


def test_no_file_is_a_run(tmp_path) -> None:
    path = tmp_path / "run.dcm"
    path.write_bytes(b"no DICOM")
    with pytest.raises(InputError):
        fusion_carm.load_run(path, np.eye(4))


def test_the_volume_is_handed_over_in_world_coordinates(scene, ct) -> None:
    """A volume under a transform is projected where it lies, not where its file had it."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 25.0)
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    node.SetMatrixTransformToParent(matrix)
    ct.SetAndObserveTransformNodeID(node.GetID())
    np.testing.assert_allclose(volume_from_node(ct).grid.centre_ras, CENTRE + (25.0, 0.0, 0.0), atol=1e-6)
    np.testing.assert_allclose(fusion_carm.isocentre_of(None, ct), CENTRE + (25.0, 0.0, 0.0), atol=1e-6)
    assert points_from_markups(None).shape == (0, 3)


def test_a_c_arms_frame_comes_over_the_link_with_its_geometry(scene) -> None:
    """By its messages over a real socket; it is no ultrasound picture, and without geometry it is refused in words."""
    import time

    from IRAILib.link.carm import carm_messages
    from IRAILib.link.messages import Image
    from IRAILib.link.server import LinkServer
    from IRAILib.scene.fusion_session import FusionSession
    from IRAILib.scene.link_store import LinkSettings

    geometry = fusion_carm.geometry_for((60, 40), **PLACE)
    pixels = np.arange(2400, dtype=np.uint16).reshape(40, 60)
    session, server = FusionSession(), LinkServer(0).start()

    def until(send, condition) -> None:
        end = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < end
            send()
            session.pump()
            time.sleep(0.02)

    def frames() -> None:
        for message in carm_messages(pixels, geometry, {}, time_s=time.time(), v2=False):
            server.send(message)

    try:
        with pytest.raises(InputError, match="no frame of a C-arm"):
            fusion_carm.take_live(session.xray, np.eye(4))
        session.connect(LinkSettings(name="FusionNav", port=server.port))
        until(frames, lambda: session.xray is not None and session.xray.geometry is not None)
        node = fusion_carm.take_live(session.xray, fusion_carm.isocentre_pose(CENTRE))
        np.testing.assert_allclose(fusion_carm.geometry_of(node).source_mm, geometry.source_mm, atol=0.01)
        assert node.GetName() == "Live X-ray LAO 30° CAU 12°"
        assert session.live.frame is None
        until(lambda: server.send(Image(pixels[None], device="Fluoro_Detector", time_s=time.time() + 5.0)),
              lambda: session.xray.geometry is None)
        with pytest.raises(InputError, match="C-arm"):
            fusion_carm.take_live(session.xray, np.eye(4))
    finally:
        session.close()
        server.close()


def test_a_rotational_runs_frame_lies_where_its_own_detector_was(scene, frame) -> None:
    """Frame 7 was taken 40 degrees further on: its node goes there; a frame that says nothing changes nothing."""
    turned = fusion_carm.geometry_for((90, 70), **{**PLACE, "primary_deg": 70.0})

    def geometry(number):
        if number != 7:
            raise InputError("no projection geometry without PositionerPrimaryAngle")
        return turned

    before = image_to_ras(frame)
    fusion_carm.turn_to(frame, SimpleNamespace(geometry=geometry), 7)
    np.testing.assert_allclose(fusion_carm.geometry_of(frame).source_mm, turned.source_mm, atol=1e-6)
    assert np.abs(image_to_ras(frame) - before).max() > 0.1
    now = image_to_ras(frame)
    with pytest.raises(InputError, match="PositionerPrimaryAngle"):
        fusion_carm.turn_to(frame, SimpleNamespace(geometry=geometry), 3)
    np.testing.assert_allclose(image_to_ras(frame), now)


def test_an_accepted_registration_leaves_its_doubt_on_the_frame(scene, ct, frame, monkeypatch) -> None:
    def found(accepted: bool):
        return SimpleNamespace(accepted=accepted, table_from_ras=fusion_carm.isocentre_pose(CENTRE), similarity=0.6,
                               in_plane_mm=0.8, depth_mm=4.0, moved_mm=1.0, turned_deg=1.0, agreement=1.0, seconds=1.0,
                               reason="because", validated_on="nothing", to_dict=dict)

    for accepted, sigma in ((False, None), (True, 0.8), (False, 0.8)):
        result = found(accepted)
        monkeypatch.setattr(fusion_carm, "run_job", lambda *_a, given=result, **_k: given)
        fusion_carm.register_frame(ct, frame, np.eye(4))
        assert fusion_carm.registered_sigma_mm(frame) == sigma
