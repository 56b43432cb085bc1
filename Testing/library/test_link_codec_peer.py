"""OpenIGTLink codec and pyigtl, an independent one, understand each other where pyigtl follows the protocol."""

from __future__ import annotations

import link_cases as cases
import numpy as np
import pytest
from IRAILib.link import messages as m

pyigtl = pytest.importorskip("pyigtl")


def theirs(wire: bytes):
    """pyigtl's reading of a whole message."""
    header = pyigtl.MessageBase.parse_header(wire[:58])
    message = pyigtl.MessageBase.create_message(header["message_type"])
    message.unpack(header, wire[58:])
    return message


@pytest.mark.parametrize("version", [1, 2])
def test_transform(version: int) -> None:
    sent = m.Transform(cases.POSE, device="ProbeToTracker", time_s=1.7e9, metadata={"TransformStatus": "OK"})
    got = theirs(cases.wire_of(sent, version))
    np.testing.assert_array_equal(got.matrix, cases.POSE)
    assert (got.device_name, got.timestamp) == ("ProbeToTracker", 1.7e9)
    assert got.metadata == ({"TransformStatus": "OK"} if version == 2 else {})
    peer = pyigtl.TransformMessage(cases.POSE, timestamp=1.7e9 + 0.25, device_name="StylusToTracker")
    peer.header_version, peer.metadata = version, {"TransformStatus": "MISSING"}
    back = cases.received(peer.pack())
    np.testing.assert_array_equal(back.matrix, cases.POSE)
    assert back.device == "StylusToTracker"
    assert back.metadata == ({"TransformStatus": "MISSING"} if version == 2 else {})
    assert back.time_s == pytest.approx(1.7e9 + 0.25, abs=1e-6)


def test_string() -> None:
    assert theirs(cases.wire_of(m.String("Grüße aus MR", device="S"))).string == "Grüße aus MR"
    assert cases.received(pyigtl.StringMessage("STOP", device_name="CMD_1").pack()).text == "STOP"


def test_point() -> None:
    item = m.PointItem("T1", "Target", (1, 2, 3, 4), np.array([1.5, -2.0, 3.0]), 2.5, "MR")
    got = theirs(cases.wire_of(m.Point([item, m.PointItem("T2")], device="Planning")))
    assert (got.names, got.groups, got.owners, got.diameters) == (["T1", "T2"], ["Target", ""], ["MR", ""], [2.5, 0.0])
    assert (got.positions[0], got.rgba_colors[0]) == ((1.5, -2.0, 3.0), (1, 2, 3, 4))
    peer = pyigtl.PointMessage([[1, 2, 3], [4, 5, 6]], names=["a", "b"], rgba_colors=[[9, 8, 7, 6]] * 2,
                               diameters=[1, 2], groups="G", owners="O", device_name="P")
    back = cases.received(peer.pack()).points
    assert [(point.name, point.group, point.owner, point.rgba, point.radius) for point in back] == [
        ("a", "G", "O", (9, 8, 7, 6), 1.0), ("b", "G", "O", (9, 8, 7, 6), 2.0)]
    np.testing.assert_array_equal(back[1].xyz, (4, 5, 6))


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "<u2", "<i4", "<u4", "<f4", ">f4", "<f8"])
def test_image(dtype: str) -> None:
    voxels = np.arange(3 * 4 * 5).reshape(3, 4, 5).astype(dtype)
    place = np.array([[0.5, 0, 0, -7], [0, 0.75, 0, 8], [0, 0, 2, 9.5], [0, 0, 0, 1]])
    got = theirs(cases.wire_of(m.Image(voxels, place, device="Image_Reference")))
    np.testing.assert_array_equal(got.image, voxels)
    assert got.image.shape == voxels.shape
    np.testing.assert_allclose(got.ijk_to_world_matrix, place, atol=1e-6)
    if voxels.dtype.str[0] == ">":
        return  # pyigtl reads big-endian images but can't write them
    peer = pyigtl.ImageMessage(voxels, place, device_name="Image_Reference").pack()
    back = cases.received(peer)
    np.testing.assert_array_equal(back.array, voxels)
    np.testing.assert_allclose(back.ras_from_ijk, place, atol=1e-6)
    assert back.coordinate == "LPS"  # pyigtl's label
    assert cases.wire_of(back) == peer


def test_image_with_components() -> None:
    colors = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    np.testing.assert_array_equal(theirs(cases.wire_of(m.Image(colors))).image, colors)
    np.testing.assert_array_equal(cases.received(pyigtl.ImageMessage(colors).pack()).array, colors)


def test_polydata_written_by_the_peer() -> None:
    """One way only: pyigtl cannot read POLYDATA, and writes vertices in the wrong byte order."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=np.float32)
    faces, edge = np.array([3, 0, 1, 2, 4, 0, 1, 2, 3]), np.array([2, 0, 3])
    back = cases.received(pyigtl.PolyDataMessage(points=corners, lines=edge, polygons=faces, device_name="P").pack())
    np.testing.assert_array_equal(back.points, corners)
    assert [cell.tolist() for cell in back.cells("polygons")] == [[0, 1, 2], [0, 1, 2, 3]]
    assert [cell.tolist() for cell in back.cells("lines")] == [[0, 3]]
    ours = m.PolyData(corners, lines=edge, polygons=faces, device="P", time_s=back.time_s)
    assert cases.wire_of(ours) == cases.wire_of(back)
