"""A tool that is lost is never shown as if it were still there: silence, its sender's word, a pulled plug, a file."""

from __future__ import annotations

import types

import numpy as np
import pytest
from mrml_cases import asymmetric_array, matrix_of, oblique_ras_from_ijk
from scene_link_cases import linked, named, received
from view_cases import ball

TRANSFORM, VOLUME = "vtkMRMLLinearTransformNode", "vtkMRMLScalarVolumeNode"
HALF_SECOND = 0.5
PUMP_S = 0.05


def send_pose(server, device="ToolToTracker", **options) -> None:
    from IRAILib.link.messages import Transform

    server.send(Transform(oblique_ras_from_ijk((1, 1, 1)), device=device, **options))


def test_silence_is_lost_within_half_a_second_and_hides_what_hangs_on_it(scene) -> None:
    from IRAILib.scene.link_status import pose_of, status_of

    with linked(scene) as (server, bridge, clock):
        send_pose(server)
        received(bridge, lambda: len(bridge.streams) == 1)
        node = named(scene, "ToolToTracker", TRANSFORM)
        model, hidden = ball((0, 0, 0)), ball((1, 0, 0))
        hidden.GetDisplayNode().SetVisibility(False)
        for child in (model, hidden):
            child.SetAndObserveTransformNodeID(node.GetID())
        stream = bridge.streams["TRANSFORM", "ToolToTracker"]
        clock.ahead_s += 0.2 - bridge.age_s(node)
        bridge.pump()
        assert (status_of(node), bool(model.GetDisplayNode().GetVisibility())) == ("OK", True)
        np.testing.assert_allclose(pose_of(node), oblique_ras_from_ijk((1, 1, 1)), atol=1e-5)
        clock.ahead_s += HALF_SECOND - PUMP_S - (clock() - stream.received_s)
        bridge.pump()
        assert (status_of(node), bool(model.GetDisplayNode().GetVisibility())) == ("LOST", False)
        assert pose_of(node) is None
        assert node.GetAttribute("IRAI.Link.Why") == "no data"
        late = ball((2, 0, 0))
        late.SetAndObserveTransformNodeID(node.GetID())
        clock.ahead_s += 1.0
        bridge.pump()
        assert not late.GetDisplayNode().GetVisibility(), "hung under a lost pose afterwards"
        clock.ahead_s = 0.0
        send_pose(server)
        received(bridge, lambda: stream.count == 2)
        assert [bool(m.GetDisplayNode().GetVisibility()) for m in (model, late, hidden)] == [True, True, False]


@pytest.mark.parametrize("metadata", [{"TransformStatus": "OUT_OF_VIEW"}, {"TransformValid": "false"},
                                      {"TransformStatus": "MISSING"}])
def test_a_sender_that_calls_it_missing_is_believed_at_once(scene, metadata) -> None:
    """With version 2, which alone carries the word: the client speaks it first, as PLUS expects."""
    from IRAILib.link.client import LinkClient
    from IRAILib.link.server import LinkServer
    from IRAILib.scene.link import LinkBridge
    from IRAILib.scene.link_status import status_of

    with LinkServer(0) as server:
        bridge = LinkBridge(LinkClient("127.0.0.1", server.port, announce_v2=True).start(), scene)
        try:
            received(bridge, lambda: bridge.connected and any(server.peer_v2(c) for c in server.clients()))
            send_pose(server, metadata={"TransformStatus": "OK"})
            received(bridge, lambda: len(bridge.streams) == 1)
            node = named(scene, "ToolToTracker", TRANSFORM)
            assert status_of(node) == "OK"
            send_pose(server, metadata=metadata)
            received(bridge, lambda: bridge.streams["TRANSFORM", "ToolToTracker"].count == 2)
            assert status_of(node) == "LOST"
            assert next(iter(metadata.values())) in node.GetAttribute("IRAI.Link.Why")
        finally:
            bridge.close()


def test_a_pulled_plug_loses_everything_at_the_next_pump(scene) -> None:
    from IRAILib.link.messages import Image
    from IRAILib.scene.link_status import status_of

    with linked(scene, static_devices=["ReferenceToRas"]) as (server, bridge, clock):
        send_pose(server)
        send_pose(server, "ReferenceToRas")
        server.send(Image(asymmetric_array(), oblique_ras_from_ijk(), device="US"))
        received(bridge, lambda: len(bridge.streams) == 3)
        clock.ahead_s += 3.0
        bridge.pump()
        registration = named(scene, "ReferenceToRas", TRANSFORM)
        assert status_of(registration) == "OK", "meant for good while the peer is there"
        server.close()
        assert bridge.pump_until(lambda: not bridge.connected, 5.0)
        assert [status_of(named(scene, *which)) for which in (
            ("ToolToTracker", TRANSFORM), ("ReferenceToRas", TRANSFORM), ("US", VOLUME))] == ["LOST", "LOST", "STALE"]


def test_a_stream_of_pictures_that_stops_is_dimmed(scene) -> None:
    from IRAILib.link.messages import Image

    with linked(scene) as (server, bridge, clock):
        for number in range(5):
            server.send(Image(np.full((1, 4, 5), 200, np.uint8), np.eye(4), device="US"))
            received(bridge, lambda n=number: ("IMAGE", "US") in bridge.streams
                     and bridge.streams["IMAGE", "US"].count == n + 1)
        display = named(scene, "US", VOLUME).GetDisplayNode()
        grey = display.GetColorNodeID()
        clock.ahead_s += 6.0
        bridge.pump()
        assert display.GetColorNode().GetName() == "IRAI stale image (dimmed)"
        clock.ahead_s = 0.0
        server.send(Image(np.full((1, 4, 5), 200, np.uint8), np.eye(4), device="US"))
        received(bridge, lambda: bridge.streams["IMAGE", "US"].count == 6)
        assert display.GetColorNodeID() == grey


def test_a_volume_that_was_sent_once_stays_as_it_is(scene) -> None:
    from IRAILib.link.messages import Image
    from IRAILib.scene.link_status import status_of

    with linked(scene) as (server, bridge, clock):
        server.send(Image(asymmetric_array(), oblique_ras_from_ijk(), device="CT"))
        received(bridge, lambda: len(bridge.streams) == 1)
        clock.ahead_s += 60.0
        bridge.pump()
        assert status_of(named(scene, "CT", VOLUME)) == "OK"


@pytest.mark.parametrize("ending", ["mrb", "mrml"])
def test_a_saved_live_scene_opens_lost_and_takes_up_its_nodes_again(scene, tmp_path, ending) -> None:
    import slicer
    from IRAILib.scene.link_status import pose_of, status_of
    from IRAILib.scene.link_store import LinkSettings, known_links, remember_link, watch_loads

    settings = LinkSettings("Tracker", "client", "127.0.0.1", 18999, 0.3, ["A", "B"])
    path = str(tmp_path / f"live.{ending}")
    with linked(scene, name="Tracker") as (server, bridge, _):
        send_pose(server)
        received(bridge, lambda: len(bridge.streams) == 1)
        node = named(scene, "ToolToTracker", TRANSFORM)
        ball((0, 0, 0)).SetAndObserveTransformNodeID(node.GetID())
        remember_link(settings, scene)
        remember_link(settings, scene)
        send_pose(server)
        bridge.pump()
        assert status_of(node) == "OK"
        assert slicer.util.saveScene(path)
        scene.Clear(False)
        assert bridge.source is None, "closing the scene ends the connection"
        bridge.pump()
    stop = watch_loads(scene)
    try:
        slicer.util.loadScene(path)
    finally:
        stop()
    assert known_links(scene) == [settings]
    node = named(scene, "ToolToTracker", TRANSFORM)
    model = slicer.util.getNodesByClass("vtkMRMLModelNode")[-1]
    assert status_of(node) == "LOST"
    assert pose_of(node) is None
    assert model.GetParentTransformNode() is node
    assert not model.GetDisplayNode().GetVisibility()
    count = scene.GetNumberOfNodes()
    with linked(scene, name="Tracker") as (server, bridge, _):
        send_pose(server)
        received(bridge, lambda: len(bridge.streams) == 1)
        assert scene.GetNumberOfNodes() == count, "the same device got a second node"
        assert status_of(node) == "OK"
        assert model.GetDisplayNode().GetVisibility()


def test_what_a_file_says_is_not_believed_even_before_anyone_looks(scene) -> None:
    from IRAILib.scene.link_status import pose_of, status_of

    node = scene.AddNewNodeByClass(TRANSFORM, "T")
    for name, value in (("Status", "OK"), ("Device", "T"), ("Type", "TRANSFORM"), ("Session", "of another day")):
        node.SetAttribute(f"IRAI.Link.{name}", value)
    assert status_of(node) == "LOST"
    assert pose_of(node) is None


def test_two_connections_with_one_device_name_have_a_node_each(scene) -> None:
    with linked(scene, name="A") as (server_a, a, _), linked(scene, name="B") as (server_b, b, _):
        send_pose(server_a)
        send_pose(server_b)
        received(a, lambda: len(a.streams) == 1)
        received(b, lambda: len(b.streams) == 1)
        ids = {bridge.streams["TRANSFORM", "ToolToTracker"].node_id for bridge in (a, b)}
        assert len(ids) == 2


def test_a_node_that_the_user_removed_is_made_again(scene) -> None:
    with linked(scene) as (server, bridge, _):
        send_pose(server)
        received(bridge, lambda: len(bridge.streams) == 1)
        scene.RemoveNode(named(scene, "ToolToTracker", TRANSFORM))
        bridge.pump()
        send_pose(server)
        received(bridge, lambda: named(scene, "ToolToTracker", TRANSFORM) is not None)


def test_a_recording_holds_pictures_and_poses_together_by_time(scene, tmp_path) -> None:
    import slicer
    from IRAILib.link.messages import Image, Transform
    from IRAILib.scene.link_record import SequenceRecorder, sequence_times_s, show_item

    with linked(scene) as (server, bridge, _):
        recorder = None
        for number in range(6):
            pose = np.eye(4)
            pose[0, 3] = number
            server.send(Transform(pose, device="T", time_s=100.0 + 0.1 * number))
            server.send(Image(np.full((1, 4, 5), 10 * number, np.uint8), np.eye(4), device="US",
                              time_s=100.0 + 0.1 * number))
            received(bridge, lambda n=number: all(
                key in bridge.streams and bridge.streams[key].count == n + 1 for key in (("IMAGE", "US"),
                                                                                         ("TRANSFORM", "T"))))
            image = named(scene, "US", VOLUME)
            if recorder is None:
                recorder = SequenceRecorder([named(scene, "T", TRANSFORM), image], scene, name="Run")
            assert recorder.take(100.0 + 0.1 * number, {image.GetID()})
            assert not recorder.take(100.0 + 0.1 * number, {"something else"})
        browser = recorder.finish()
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(image), 50)
        np.testing.assert_allclose(sequence_times_s(browser), 0.1 * np.arange(6), atol=1e-9)
        for number in (4, 1):
            show_item(browser, number)
            proxies = {s.GetName(): browser.GetProxyNode(s) for s in recorder.sequences.values()}
            np.testing.assert_array_equal(slicer.util.arrayFromVolume(proxies["Run: US"]), 10 * number)
            assert matrix_of(proxies["Run: T"], "GetMatrixTransformToParent")[0, 3] == number
        assert {image.GetID()}.isdisjoint(p.GetID() for p in proxies.values()), "playing must not move live nodes"
    assert slicer.util.saveScene(str(tmp_path / "run.mrb"))
    scene.Clear(False)
    slicer.util.loadScene(str(tmp_path / "run.mrb"))
    browser = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")[0]
    show_item(browser, 3)
    proxy = browser.GetProxyNode(scene.GetFirstNode("Run: US", "vtkMRMLSequenceNode"))
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(proxy), 30)


def test_with_slicers_own_connector_lost_is_said_too(scene, monkeypatch) -> None:
    """SlicerOpenIGTLink can't run here: a stand-in with its methods, so this shows our side of it only."""
    import slicer
    from IRAILib.scene import link_connector
    from IRAILib.scene.link_status import status_of
    from IRAILib.scene.link_store import LinkSettings

    made = scene.AddNewNodeByClass("vtkMRMLTextNode", "stand-in")
    tool = scene.AddNewNodeByClass(TRANSFORM, "Tool")
    calls = []
    fake = types.SimpleNamespace(
        StateConnected=2, GetID=made.GetID, SetTypeClient=lambda *a: calls.append(a), Start=lambda: 1,
        Stop=lambda: calls.append("stop"), GetState=lambda: 2, GetNumberOfIncomingMRMLNodes=lambda: 1,
        GetIncomingMRMLNode=lambda _n: tool, RegisterOutgoingMRMLNode=lambda n: calls.append(n.GetName()),
        PushNode=lambda n: 1)
    monkeypatch.setattr(slicer, "vtkMRMLIGTLConnectorNode", object, raising=False)
    proxy = types.SimpleNamespace(GetFirstNode=lambda *_a: fake, AddObserver=scene.AddObserver,
                                  RemoveObserver=scene.RemoveObserver, GetNodeByID=scene.GetNodeByID,
                                  GetNodesByClass=scene.GetNodesByClass)
    now = [10.0]
    bridge = link_connector.ConnectorBridge(LinkSettings("C", port=18944), proxy, clock=lambda: now[0])
    bridge.pump()
    assert calls == [("127.0.0.1", 18944)]
    assert status_of(tool) == "OK"
    now[0] += 0.45
    bridge.pump()
    assert status_of(tool) == "LOST"
    tool.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(oblique_ras_from_ijk((1, 1, 1))))
    bridge.pump()
    assert status_of(tool) == "OK"
    tool.SetAttribute("TransformStatus", "MISSING")
    bridge.pump()
    assert status_of(tool) == "LOST"
    assert bridge.send_node(tool)
    bridge.close()
    assert calls[-1] == "stop"
