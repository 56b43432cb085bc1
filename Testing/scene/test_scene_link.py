"""What arrives over a real loopback connection lies in the scene as it was sent; what is sent arrives as it lies."""

from __future__ import annotations

import numpy as np
import pytest
from mrml_cases import asymmetric_array, matrix_of, oblique_ras_from_ijk, points_ras
from scene_link_cases import linked, named, received

TRANSFORM, VOLUME = "vtkMRMLLinearTransformNode", "vtkMRMLScalarVolumeNode"
RIGID = oblique_ras_from_ijk((1.0, 1.0, 1.0), (12.5, -30.25, 47.0))
QUARTER_TURN = np.array([[0.0, -1, 0, 10], [1, 0, 0, -20], [0, 0, 1, 30], [0, 0, 0, 1]])


def messages():
    from IRAILib.link import messages as module

    return module


def test_a_transform_is_to_parent_and_knows_its_frame(scene) -> None:
    with linked(scene) as (server, bridge, _):
        server.send(messages().Transform(RIGID, device="ProbeToTracker", time_s=1234.5))
        received(bridge, lambda: ("TRANSFORM", "ProbeToTracker") in bridge.streams)
        node = named(scene, "ProbeToTracker", TRANSFORM)
        np.testing.assert_allclose(matrix_of(node, "GetMatrixTransformToParent"), RIGID, atol=1e-5)
        assert node.GetAttribute("IRAI.Link.Frame") == "Tracker"
        assert node.GetAttribute("IRAI.Link.Status") == "OK"
        assert float(node.GetAttribute("IRAI.Link.Time")) == pytest.approx(1234.5)


def test_position_and_tools_have_a_node_each(scene) -> None:
    m = messages()
    quaternion = np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])  # a quarter turn about z
    with linked(scene) as (server, bridge, _):
        server.send(m.Position(QUARTER_TURN[:3, 3], quaternion, device="Stylus"))
        server.send(m.TData([m.Tool("Needle", matrix=RIGID), m.Tool("Probe", matrix=QUARTER_TURN)], device="Tools"))
        server.send(m.QTData([m.QuaternionTool("Pointer", position=QUARTER_TURN[:3, 3], quaternion=quaternion)],
                             device="QTools"))
        received(bridge, lambda: len(bridge.streams) == 4)
        for name, matrix in (("Stylus", QUARTER_TURN), ("Needle", RIGID), ("Probe", QUARTER_TURN),
                             ("Pointer", QUARTER_TURN)):
            got = matrix_of(named(scene, name, TRANSFORM), "GetMatrixTransformToParent")
            np.testing.assert_allclose(got, matrix, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, ">i2", ">f8"])
def test_an_oblique_image_keeps_its_voxels_and_its_place(scene, dtype) -> None:
    import slicer

    array = asymmetric_array().astype(dtype)
    with linked(scene) as (server, bridge, _):
        server.send(messages().Image(array, oblique_ras_from_ijk(), device="Image_Reference"))
        received(bridge, lambda: len(bridge.streams) == 1)
        node = named(scene, "Image_Reference", VOLUME)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), array.astype(array.dtype.newbyteorder("=")))
        np.testing.assert_allclose(matrix_of(node), oblique_ras_from_ijk(), atol=1e-4)


def test_a_2d_colour_picture_is_one_slice_of_a_vector_volume(scene) -> None:
    import slicer

    array = np.arange(1 * 5 * 7 * 3, dtype=np.uint8).reshape(1, 5, 7, 3)
    with linked(scene) as (server, bridge, _):
        server.send(messages().Image(array, oblique_ras_from_ijk(), device="Endoscope"))
        received(bridge, lambda: len(bridge.streams) == 1)
        node = named(scene, "Endoscope", "vtkMRMLVectorVolumeNode")
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), array)


def test_a_part_of_an_image_goes_where_it_belongs(scene) -> None:
    import slicer

    whole = asymmetric_array()
    part = np.full((2, 3, 4), -7, np.int16)
    with linked(scene) as (server, bridge, _):
        server.send(messages().Image(whole, oblique_ras_from_ijk(), device="I"))
        received(bridge, lambda: len(bridge.streams) == 1)
        server.send(messages().Image(part, oblique_ras_from_ijk(), device="I", size_ijk=whole.shape[::-1],
                                     offset_ijk=(5, 2, 1)))
        received(bridge, lambda: bridge.streams["IMAGE", "I"].count == 2)
        expected = whole.copy()
        expected[1:3, 2:5, 5:9] = -7
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(named(scene, "I", VOLUME)), expected)


def test_a_stream_of_pictures_uses_the_nodes_memory_again(scene) -> None:
    import slicer

    with linked(scene) as (server, bridge, _):
        places, nodes = set(), None
        for number in range(20):
            server.send(messages().Image(np.full((1, 40, 50), number, np.uint8), np.eye(4), device="US"))
            received(bridge, lambda n=number: ("IMAGE", "US") in bridge.streams
                     and bridge.streams["IMAGE", "US"].count == n + 1)
            array = slicer.util.arrayFromVolume(named(scene, "US", VOLUME))
            assert (array == number).all()
            places.add(array.ctypes.data)
            nodes = nodes or scene.GetNumberOfNodes()
        assert len(places) == 1
        assert scene.GetNumberOfNodes() == nodes


def test_texts_numbers_and_lists(scene) -> None:
    m = messages()
    with linked(scene) as (server, bridge, _):
        server.send(m.String("Grüße", device="ROBOT"))
        server.send(m.Status(13, 7, "NOT_CALIBRATED", "calibrate first", device="ROBOT"))
        server.send(m.Sensor(np.array([1.5, -2.25]), device="Force"))
        server.send(m.ImageMeta([m.ImageMetaItem("T2", "IMG1", "MR", size_ijk=(1, 2, 3))], device="List"))
        server.send(m.LabelMeta([m.LabelMetaItem("Liver", "LBL1", 4)], device="Labels"))
        received(bridge, lambda: len(bridge.streams) == 5)
        text, status = (scene.GetNodeByID(bridge.streams[kind, "ROBOT"].node_id) for kind in ("STRING", "STATUS"))
        assert text is not status
        assert text.GetText() == "Grüße"
        assert status.GetAttribute("IRAI.Link.StatusCode") == "13"
        assert status.GetAttribute("IRAI.Link.StatusMeaning") == "not ready"
        assert "calibrate first" in status.GetText()
        table = named(scene, "Force", "vtkMRMLTableNode")
        assert [table.GetTable().GetValue(row, 1).ToDouble() for row in range(2)] == [1.5, -2.25]
        assert named(scene, "List", "vtkMRMLTableNode").GetCellText(0, 1) == "IMG1"
        assert named(scene, "Labels", "vtkMRMLTableNode").GetCellText(0, 0) == "Liver"


def test_points_lines_surfaces_and_colours(scene) -> None:
    import slicer

    m = messages()
    with linked(scene) as (server, bridge, _):
        server.send(m.Point([m.PointItem(f"T{n}", "targets", (255, 0, 0, 255), xyz)
                             for n, xyz in enumerate(points_ras(3))], device="Targets"))
        server.send(m.Trajectory([m.TrajectoryItem("way", entry=points_ras(2)[0], target=points_ras(2)[1])],
                                 device="Plan"))
        corners = points_ras(4).astype(np.float32)
        server.send(m.PolyData(corners, polygons=np.array([3, 0, 1, 2, 4, 0, 1, 2, 3], np.uint32),
                               lines=np.array([2, 0, 3], np.uint32), device="Surface",
                               attributes=[m.Attribute("height", 0, np.array([[1.0], [2], [3], [4]], np.float32))]))
        ramp = np.stack([np.arange(256), np.arange(256)[::-1], np.full(256, 9)], 1).astype(np.uint8)
        server.send(m.ColorTable(ramp, device="Colours"))
        received(bridge, lambda: len(bridge.streams) == 4)
        points = named(scene, "Targets", "vtkMRMLMarkupsFiducialNode")
        np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(points), points_ras(3), atol=1e-3)
        assert points.GetNthControlPointLabel(2) == "T2"
        line = named(scene, "Plan", "vtkMRMLMarkupsLineNode")
        np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(line), points_ras(2), atol=1e-3)
        mesh = named(scene, "Surface", "vtkMRMLModelNode").GetPolyData()
        assert (mesh.GetNumberOfPolys(), mesh.GetNumberOfLines(), mesh.GetCell(2).GetNumberOfPoints()) == (2, 1, 4)
        np.testing.assert_allclose([mesh.GetPoint(n) for n in range(4)], corners, atol=1e-4)
        assert mesh.GetPointData().GetArray("height").GetValue(3) == 4.0
        color = [0.0] * 4
        named(scene, "Colours", "vtkMRMLColorTableNode").GetColor(200, color)
        np.testing.assert_allclose(color[:3], [200 / 255, 55 / 255, 9 / 255], atol=1e-6)


@pytest.mark.parametrize("kind", ["transform", "volume", "points", "line", "model", "text"])
def test_what_is_sent_comes_back_the_same(scene, kind) -> None:
    """Out through the bridge, over the wire, decoded by the server: against the numbers, in world RAS."""
    import slicer
    from view_cases import ball

    parent = scene.AddNewNodeByClass(TRANSFORM, "parent")
    parent.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(QUARTER_TURN))
    if kind == "transform":
        node = scene.AddNewNodeByClass(TRANSFORM, "A")
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(RIGID))
    elif kind == "volume":
        node = slicer.util.addVolumeFromArray(asymmetric_array(), oblique_ras_from_ijk(), "A")
    elif kind in ("points", "line"):
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode" if kind == "points" else "vtkMRMLMarkupsLineNode")
        slicer.util.updateMarkupsControlPointsFromArray(node, points_ras(3 if kind == "points" else 2))
    elif kind == "model":
        node = ball((10.0, 20.0, 30.0))
    else:
        node = scene.AddNewNodeByClass("vtkMRMLTextNode", "A")
        node.SetText("Grüße")
    if kind not in ("transform", "text"):
        node.SetAndObserveTransformNodeID(parent.GetID())
    with linked(scene) as (server, bridge, _):
        assert bridge.send_node(node, "Sent")
        assert server.wait(5.0)
        got = server.drain()[0]
    world = QUARTER_TURN
    if kind == "transform":
        np.testing.assert_allclose(got.matrix, RIGID, atol=1e-5)
    elif kind == "volume":
        np.testing.assert_array_equal(got.array, asymmetric_array())
        np.testing.assert_allclose(got.ras_from_ijk, world @ oblique_ras_from_ijk(), atol=1e-3)
    elif kind == "points":
        expected = points_ras(3) @ world[:3, :3].T + world[:3, 3]
        np.testing.assert_allclose([item.xyz for item in got.points], expected, atol=1e-3)
    elif kind == "line":
        expected = points_ras(2) @ world[:3, :3].T + world[:3, 3]
        np.testing.assert_allclose([got.trajectories[0].entry, got.trajectories[0].target], expected, atol=1e-3)
    elif kind == "model":
        np.testing.assert_allclose(got.points.mean(axis=0), world[:3, :3] @ (10, 20, 30) + world[:3, 3], atol=0.1)
        assert len(got.cells("polygons")) == node.GetPolyData().GetNumberOfPolys()
    else:
        assert got.text == "Grüße"


def test_a_followed_node_is_sent_when_it_changes_and_not_otherwise(scene) -> None:
    import slicer

    node = scene.AddNewNodeByClass(TRANSFORM, "Target")
    with linked(scene) as (server, bridge, _):
        bridge.follow(node)
        bridge.pump()
        assert server.wait(5.0)
        assert len(server.drain()) == 1
        bridge.pump()
        assert not server.wait(0.1)
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(RIGID))
        bridge.pump()
        assert server.wait(5.0)
        np.testing.assert_allclose(server.drain()[-1].matrix, RIGID, atol=1e-5)
        bridge.unfollow(node)
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.eye(4)))
        bridge.pump()
        assert not server.wait(0.1)


def test_what_can_not_be_sent_is_refused_in_words(scene) -> None:
    from IRAILib.geometry import InputError
    from IRAILib.scene.link_send import message_from_node

    line = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "half")
    line.AddControlPoint([0.0, 0, 0])
    table = scene.AddNewNodeByClass("vtkMRMLTableNode", "numbers")
    empty = scene.AddNewNodeByClass(VOLUME, "nothing")
    for node, word in ((line, "two points"), (table, "can't be sent"), (empty, "no image"), (None, "choose")):
        with pytest.raises(InputError, match=word):
            message_from_node(node)


def test_thousands_of_updates_leave_no_node_behind(scene) -> None:
    """Poses of three tools, 3000 times, and answers of a robot, each with its own name."""
    m = messages()
    with linked(scene, static_devices=["Tool0"]) as (server, bridge, _):
        for number in range(1000):
            for tool in range(3):
                server.send(m.Transform(np.eye(4), device=f"Tool{tool}"))
            server.send(m.Transform(np.eye(4), device=f"ACK_{number}"))
            if number % 50 == 0:
                bridge.pump()
            if number == 100:
                received(bridge, lambda: len(bridge.streams) == 3)
                before = scene.GetNumberOfNodes()

        def newer() -> bool:  # a fast sender overwrites what waits: so few of the thousand may have been seen
            server.send(m.Transform(np.eye(4), device="Tool2"))
            return bridge.streams["TRANSFORM", "Tool2"].count > 5

        received(bridge, newer)
        assert scene.GetNumberOfNodes() == before
        assert bridge.ignored["TRANSFORM"] > 100
