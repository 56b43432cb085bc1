"""One valid message of every OpenIGTLink type, for tests, fuzzing and benchmarks of the link."""

from __future__ import annotations

import numpy as np
from IRAILib.link import messages as m
from IRAILib.link.framing import HEADER_SIZE, Frame, parse_header, unpack_body

POSE = np.array([[0.0, -1.0, 0.0, 10.5], [1.0, 0.0, 0.0, -20.25], [0.0, 0.0, 1.0, 30.0], [0.0, 0.0, 0.0, 1.0]])
TEXTS = {"Greeting": "Grüße", "Age": "22"}


def received(wire: bytes, *, max_body: int = 1 << 28) -> m.Message:
    """The message in the whole bytes of one."""
    return m.decode(received_frame(wire, max_body=max_body))


def received_frame(wire: bytes, *, max_body: int = 1 << 28) -> Frame:
    return unpack_body(parse_header(wire[:HEADER_SIZE], max_body=max_body), wire[HEADER_SIZE:])


def wire_of(message: m.Message, version: int = 1) -> bytes:
    return b"".join(m.encode(message, version=version))


def _pictures() -> list[m.Message]:
    voxels = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    return [
        m.Image(voxels, POSE, device="Image_Reference"),
        m.Image(voxels.astype(">f4"), POSE, device="Big", coordinate="LPS"),
        m.Image(np.zeros((1, 2, 3, 3), np.uint8), POSE, device="Rgb"),
        m.Image(voxels, POSE, size_ijk=(9, 8, 7), offset_ijk=(5, 5, 5), device="Part"),
        m.Video(b"\x00\x01\x02", "H264", 1, (640, 480, 1), POSE, device="Cine"),
        m.NDArray(np.arange(6.0).reshape(2, 3), device="Array"),
        m.NDArray(np.array([1 + 2j]), device="Complex"),
        m.ColorTable(np.arange(256, dtype=np.uint8), device="Grey"),
        m.ColorTable(np.zeros((256, 3), np.uint8), "COLORTABLE", device="Rgb"),
    ]


def _poses() -> list[m.Message]:
    half = np.sqrt(0.5)
    return [
        m.Transform(POSE, device="ProbeToTracker"),
        m.Position(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, half, half]), device="P"),
        m.Position(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, half, half]), 3, device="P"),
        m.Position(np.array([1.0, 2.0, 3.0]), quaternion_size=0, name="QTRANS", device="P"),
        m.TData([m.Tool("Probe", 2, POSE), m.Tool("Needle", 4, POSE)], device="TDATA_2Elem"),
        m.QTData([m.QuaternionTool("Probe", 2, np.arange(3.0), np.array([0.0, 0.0, half, half]))], device="Q"),
    ]


def _texts() -> list[m.Message]:
    return [
        m.String("Stop\n", device="CMD_1"), m.String("Größe", device="S"),
        m.Status(13, -5, "NOT_READY", "not calibrated", device="TARGETING"),
        m.Command(7, "Start", "<Command Name='x'/>", device="C"),
        m.CommandReply(7, "Start", "<CommandReply/>", device="C"),
        m.Capability(["IMAGE", "TRANSFORM"], device="Cap"),
        m.Sensor(np.array([1.5, -2.5]), 0x443E000000000000, device="Force"),
        m.Query("GET_TRANSFORM", device="X"), m.Query("STP_TDATA", device="X"),
        m.Query("STT_TDATA", 50, "Patient", device="X"), m.Query("STT_QTDATA", 20, "Tracker", device="X"),
        m.Query("STT_VIDEO", 33, codec="H264", device="X"), m.Query("RTS_TDATA", status=0, device="X"),
        m.Unknown("FUTURE", b"\x01\x02\x03", device="X"),
    ]


def _lists() -> list[m.Message]:
    triangles = np.array([3, 0, 1, 2, 3, 0, 2, 3], dtype=np.uint32)
    mixed = np.array([2, 0, 1, 3, 1, 2, 3], dtype=np.uint32)
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=np.float32)
    return [
        m.Point([m.PointItem("T1", "Target", (255, 0, 0, 255), np.array([1.0, 2.0, 3.0]), 2.0, "MR")],
                device="Planning"),
        m.Trajectory([m.TrajectoryItem("N1", "Needle", 3, (0, 255, 0, 255), np.zeros(3), np.ones(3) * 9, 0.5, "MR")],
                     device="Plan"),
        m.ImageMeta([m.ImageMetaItem("T2", "MR_T2", "MR", "Doe", "42", 1.5e9, (64, 64, 20), 4)], device="List"),
        m.LabelMeta([m.LabelMetaItem("Liver", "LB", 3, (1, 2, 3, 4), (64, 64, 20), "MR_T2")], device="List"),
        m.VideoMeta([m.VideoMetaItem("Cam", "V", "Doe", "42", 2, 50.0, (640, 480, 1), POSE, 3)], device="List"),
        m.PolyData(corners, lines=mixed, polygons=triangles,
                   attributes=[m.Attribute("height", 0, np.arange(4, dtype=np.float32)[:, None])], device="Surface"),
        m.Bind.of([m.Transform(POSE, device="ChildTrans"), m.Unknown("ODD", b"abc", device="Odd"), m.String("x")],
                  device="Bundle"),
    ]


def every_message() -> list[m.Message]:
    """At least one of each type, with a fixed time stamp."""
    found = [*_poses(), *_texts(), *_lists(), *_pictures()]
    for number, message in enumerate(found):
        message.time_s, message.message_id, message.metadata = 1.7e9 + number / 8, number, dict(TEXTS)
    return found
