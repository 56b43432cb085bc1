"""Paths of FusionNav on real MRML: the skin map, pedicles, the robot; and a recorded sweep as a volume."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from fusion_cases import (
    IMAGE_TO_PROBE,
    RATE_HZ,
    REGISTRATION,
    calibration,
    corners_ras,
    point_list,
    probe_pose,
    recording,
    registered,
)
from IRAILib.geometry import Grid, InputError, Mask, RefusedError, Volume, signed_distance
from IRAILib.scene.fusion_guide import Obstacle
from IRAILib.scene.write import volume_to_node

# ---- robot


@pytest.fixture
def robot():
    from IRAILib.link.robot.simulator import RobotSimulator
    from IRAILib.scene.needle_robot import RobotLink

    with RobotSimulator() as simulator:
        link = RobotLink("127.0.0.1", simulator.port)
        try:
            assert link.session.wait(lambda session: link.connected, 15.0)
            yield link
        finally:
            link.close()


def body(scene):
    matrix = np.diag([3.0, 3.0, 3.0, 1.0])
    matrix[:3, 3] = -90.0
    grid = Grid((60, 60, 60), matrix)
    hu = np.where(np.linalg.norm(grid.all_points_ras(), axis=-1) < 75.0, 40, -1000).astype(np.int16)
    return volume_to_node(Volume(hu, grid, "Body"), scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Body"))


def path(scene, entry=(0.0, 75.0, 0.0), target=(0.0, 20.0, 0.0)):
    line = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "Path")
    for point in (entry, target):
        line.AddControlPoint([float(v) for v in point])
    return line


def test_nothing_goes_to_a_robot_that_does_not_know_where_it_stands(scene, robot) -> None:
    from IRAILib.scene.fusion_robot import prepare_target

    with pytest.raises(RefusedError, match="CalibrationToRAS is not known"):
        prepare_target(path(scene), body(scene), robot, [])


def test_a_path_beside_the_body_is_refused_with_its_reason(scene, robot) -> None:
    from IRAILib.scene.fusion_robot import prepare_target

    with pytest.raises(RefusedError, match="outside the body"):
        prepare_target(path(scene, (0.0, 200.0, 0.0), (0.0, 130.0, 0.0)), body(scene), robot, [])
    with pytest.raises(InputError, match="draw a path"):
        prepare_target(None, body(scene), robot, [])


def test_a_target_is_sent_only_when_the_user_agreed(scene, robot) -> None:
    """Through the simulated robot's protocol: start, stand, target; then the answer and where the needle is."""
    from IRAILib.link.robot import Phase
    from IRAILib.scene import fusion_robot
    from IRAILib.scene.link_status import set_attribute

    def phase(wanted: Phase) -> None:
        assert robot.session.wait(lambda session: session.why_not(wanted) is None, 15.0), robot.session.why_not(wanted)
        robot.session.request(wanted)
        assert robot.session.wait(lambda session: session.phase is wanted, 15.0), robot.session.last_error

    phase(Phase.START_UP)
    phase(Phase.CALIBRATION)
    stands = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Robot stands")
    set_attribute(stands, "test", "1")
    fusion_robot.send_frame(stands, robot)
    assert robot.session.wait(lambda session: session.machine.calibrated, 15.0), robot.session.last_error
    phase(Phase.PLANNING)
    phase(Phase.TARGETING)
    prepared = fusion_robot.prepare_target(path(scene), body(scene), robot, [], registration=registered())
    assert "55 mm deep" in prepared.question
    assert "the target is in the body" in prepared.question
    with pytest.raises(RefusedError, match="not confirmed"):
        fusion_robot.send_target(prepared, False, robot)
    assert robot.session.machine.target is None
    line = prepared.path_node
    line.SetNthControlPointPosition(1, 0.0, 20.0, 1.0)
    with pytest.raises(RefusedError, match="path was changed after"):
        fusion_robot.send_target(prepared, True, robot, registered())
    assert robot.session.machine.target is None
    line.SetNthControlPointPosition(1, 0.0, 20.0, 0.0)
    sent = fusion_robot.send_target(prepared, True, robot, registered())
    np.testing.assert_allclose(sent[:3, 3], (0.0, 20.0, 0.0), atol=1e-6)
    np.testing.assert_allclose(sent[:3, 2], (0.0, -1.0, 0.0), atol=1e-6)
    end = time.monotonic() + 15.0
    while fusion_robot.answered(prepared, robot) is None and not robot.session.last_error:
        assert time.monotonic() < end
        time.sleep(0.02)
    check = fusion_robot.answered(prepared, robot)
    assert check is None or check.text
    scene.RemoveNode(line)
    with pytest.raises(RefusedError, match="path was changed after"):
        fusion_robot.send_target(prepared, True, robot, registered())


def test_an_obstacle_on_the_path_stops_it(scene, robot) -> None:
    from IRAILib.scene.fusion_robot import prepare_target

    grid = Grid((20, 20, 20), np.array([[2.0, 0, 0, -19], [0, 2.0, 0, 31], [0, 0, 2.0, -19], [0, 0, 0, 1.0]]))
    inside = np.zeros((20, 20, 20), bool)
    inside[7:13, 7:13, 7:13] = True
    wall = Obstacle("Vessel", signed_distance(Mask(inside, grid)))
    with pytest.raises(RefusedError, match="of Vessel"):
        prepare_target(path(scene), body(scene), robot, [wall])


# ---- the sweep as a volume, the skin map, pedicles


@pytest.mark.parametrize("lag_s", [0.0, 0.08])
def test_a_sweeps_pictures_lie_where_they_were_taken(scene, lag_s) -> None:
    from IRAILib.scene.fusion_session import FusionSession
    from IRAILib.scene.fusion_sweep import sweep_poses

    session, sequence = FusionSession(), recording(lag_s=lag_s, lost=(7, 8))
    with pytest.raises(InputError, match="register first"):
        sweep_poses(session, sequence)
    session.live.set_calibration(calibration())
    session.live.set_lag(lag_s)
    session.registration = registered()
    poses, valid = sweep_poses(session, sequence)
    assert not valid[7:9].any() if lag_s == 0 else not valid[5:7].all()
    assert valid.sum() >= 40
    for number in np.flatnonzero(valid):
        truth = REGISTRATION @ probe_pose(number / RATE_HZ) @ IMAGE_TO_PROBE
        assert np.linalg.norm(corners_ras(poses[number]) - corners_ras(truth), axis=1).max() < 0.4


def test_a_session_becomes_one_volume(scene, monkeypatch) -> None:
    from IRAILib.navigation.reconstruction import reconstruct
    from IRAILib.scene import fusion_sweep
    from IRAILib.scene.fusion_session import FusionSession

    session = FusionSession()
    session.live.set_calibration(calibration())
    session.registration = registered()
    monkeypatch.setattr(fusion_sweep, "sequence_from_browser", lambda _browser: recording())
    monkeypatch.setattr(fusion_sweep, "run_job", lambda _target, kwargs, **_: reconstruct(**kwargs))
    for _ in range(2):
        node, made = fusion_sweep.reconstruct_session(session, None, spacing_mm=1.5)
    assert made.frames_used == 50
    assert scene.GetNodesByName("Volume of the sweep").GetNumberOfItems() == 1
    bounds = np.zeros(6)
    node.GetRASBounds(bounds)
    middle = (REGISTRATION @ probe_pose(0.5) @ IMAGE_TO_PROBE @ (32.0, 24.0, 0.0, 1.0))[:3]
    assert (bounds[::2] < middle).all()
    assert (bounds[1::2] > middle).all()


def test_a_sessions_volume_is_made_with_the_calibration_of_then(scene, monkeypatch) -> None:
    """Another probe, and another registration, are in hand by now."""
    import json

    from IRAILib.scene import fusion_sweep
    from IRAILib.scene.fusion_record import SESSION, document_of
    from IRAILib.scene.fusion_session import FusionSession

    session = FusionSession()
    session.live.set_calibration(calibration())
    session.registration = registered()
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAttribute(SESSION, json.dumps(document_of(session)))
    session.live.set_calibration(calibration(probe_from_image=IMAGE_TO_PROBE @ np.diag([2.0, 2.0, 2.0, 1.0])))
    session.registration = None
    got = {}
    monkeypatch.setattr(fusion_sweep, "sequence_from_browser", lambda _browser: recording())
    monkeypatch.setattr(fusion_sweep, "run_job", lambda _target, kwargs, **_: got.update(kwargs) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fusion_sweep.reconstruct_session(session, browser)
    np.testing.assert_allclose(got["ras_from_image"][3], REGISTRATION @ probe_pose(3 / RATE_HZ) @ IMAGE_TO_PROBE,
                               atol=1e-9)


def test_the_skin_map_belongs_to_a_proposal(scene) -> None:
    from IRAILib.scene.fusion_plan import PathPlanner, show_paths
    from IRAILib.scene.fusion_spine import show_skin_map

    planner = PathPlanner(body(scene), None)
    with pytest.raises(InputError, match="propose paths first"):
        show_skin_map(planner)
    with pytest.raises(InputError, match="place the target"):
        planner.propose(None)
    target = point_list(scene, "Target", {"t": (10.0, 40.0, 5.0)})
    plan = planner.propose(target)
    line = show_paths(plan)
    np.testing.assert_allclose(line.GetNthControlPointPositionWorld(1), (10.0, 40.0, 5.0), atol=1e-6)
    assert 68.0 < np.linalg.norm(line.GetNthControlPointPositionWorld(0)) < 82.0  # the body's radius is 75 mm
    for _ in range(2):
        node = show_skin_map(planner)
    assert scene.GetNodesByName("Skin map of entry points").GetNumberOfItems() == 1
    states = node.GetPolyData().GetPointData().GetArray("State")
    found = np.array([states.GetValue(n) for n in range(states.GetNumberOfTuples())])
    assert (found == 0).any()


def test_pedicles_are_lines_with_their_clearance(scene, monkeypatch) -> None:
    from IRAILib.scene import fusion_spine

    way = SimpleNamespace(side="left", skin_ras=None, entry_ras=(-20.0, -50.0, 0.0), tip_ras=(-5.0, -20.0, 2.0),
                          clearance=SimpleNamespace(distance_mm=2.4), sigma_mm=0.5, towards="the canal", canal_mm=3.1,
                          bulls_eye_deg=(20.0, 5.0), progression_deg=(-80.0, 3.0), warnings=("narrow",))
    plan = SimpleNamespace(name="L1", paths=(way,), refused={"right": "narrower than the needle"}, flags=(),
                           validated_on="nothing")
    for _ in range(2):
        lines = fusion_spine.show_pedicles(plan)
    assert [line.GetName() for line in lines] == ["L1 left"]
    assert scene.GetNodesByName("L1 left").GetNumberOfItems() == 1
    rows = dict(fusion_spine.pedicle_rows(plan))
    assert rows["left: bone left round the needle"] == "2.4 ± 0.5 mm, towards the canal"
    assert rows["left: bull's eye"] == "LAO 20° CRA 5°"
    assert rows["right: no way"] == "narrower than the needle"
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    with pytest.raises(InputError, match="no vertebra among"):
        fusion_spine.plan_pedicles(segmentation, "L1")
    with pytest.raises(InputError, match="choose the structures"):
        fusion_spine.plan_pedicles(None, "L1")
