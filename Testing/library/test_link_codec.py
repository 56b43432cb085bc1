"""OpenIGTLink codec against other people's bytes, wire tables written out by hand, and pyigtl."""

from __future__ import annotations

import json
import logging
import struct
from pathlib import Path

import fastcrc
import link_cases as cases
import numpy as np
import pytest
from IRAILib.geometry import InputError
from IRAILib.link import framing
from IRAILib.link import messages as m
from IRAILib.link.framing import BodyLimitError, ChecksumError, ContentError, HeaderError

FIXTURES = 24


@pytest.fixture(scope="module")
def upstream(data: Path) -> dict[str, dict]:
    return json.loads((data / "openigtlink" / "upstream-fixtures.json").read_text(encoding="utf-8"))["fixtures"]


def by_hand(kind: bytes, device: bytes, body: bytes, version: int = 1, seconds: int = 5, fraction: int = 0) -> bytes:
    """A message from the wire table, with no help from the code under test."""
    return struct.pack(">H12s20sIIQQ", version, kind, device, seconds, fraction, len(body),
                       fastcrc.crc64.ecma_182(body)) + body


# --------------------------------------------------------------------------------------------- upstream's messages
def test_all_upstream_messages_survive_bit_by_bit(upstream: dict[str, dict]) -> None:
    assert len(upstream) == FIXTURES
    for name, fixture in upstream.items():
        wire = bytes.fromhex(fixture["wire_hex"])
        message = cases.received(wire)
        assert not isinstance(message, m.Unknown | m.Query), name
        assert message.wire_type == fixture["type_id"]
        assert message.device == fixture["device_name"]
        assert cases.wire_of(message, fixture["version"]) == wire, name


def test_upstream_contents_are_what_their_authors_wrote(upstream: dict[str, dict]) -> None:
    got = {name: cases.received(bytes.fromhex(fixture["wire_hex"])) for name, fixture in upstream.items()}
    pose = got["transform"].matrix
    np.testing.assert_allclose(pose[:3, 3], (46.0531, 19.4709, 46.0531), atol=1e-5)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-5)
    image = got["image"]
    assert (image.array.shape, image.array.dtype, image.coordinate) == ((1, 50, 50), np.uint8, "RAS")
    centre = image.ras_from_ijk @ (24.5, 24.5, 0, 1)
    np.testing.assert_allclose(centre[:3], pose[:3, 3], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(image.ras_from_ijk[:3, 0]), 1.0, atol=1e-5)
    assert got["transformFormat2"].metadata == {"First patient age": "22", "Second patient age": "25"}
    assert got["transformFormat2"].message_id == 1
    status = got["status"]
    assert (status.code, status.meaning, status.subcode, status.error_name, status.text) == (
        15, "disabled", 10, "ACTUATOR_DISABLED", "Actuator A is disabled.")
    assert got["string"].text == "Welcome to OpenIGTLink"
    assert [tool.name for tool in got["tdata"].tools] == ["Tracker0", "Tracker1", "Tracker2"]
    assert [child.type for child in got["bind"].children] == ["TRANSFORM", "IMAGE", "SENSOR"]
    np.testing.assert_array_equal(got["bind"].children[0].message().matrix, pose)
    assert got["bind"].children[0].message().device == "ChildTrans"
    assert got["point"].points[1].name == "POINT_DESCRIPTION_1"
    np.testing.assert_array_equal(got["point"].points[0].xyz, (10, 15, 20))
    assert (got["point"].points[0].radius, got["point"].points[0].rgba) == (5.0, (255, 0, 0, 255))
    np.testing.assert_array_equal(got["trajectory"].trajectories[0].target, (25, 30, 35))
    assert [len(cell) for cell in got["polydata"].cells("polygons")] == [4] * 6
    np.testing.assert_array_equal(got["polydata"].attributes[0].values[:, 0], np.arange(8))
    np.testing.assert_allclose(got["sensor"].values, [123456.78, 12345.678, 1234.5678, 123.45678, 12.345678, 1.2345678])
    assert got["ndarray"].array.shape == (5, 4, 3)
    assert got["ndarray"].array.ravel()[:3].tolist() == [0.0, 1.0, 2.0]
    assert (got["videometa"].videos[0].focal_length, got["videometa"].videos[0].size_ijk) == (50.0, (512, 512, 64))
    assert (got["imgmeta"].images[0].modality, got["imgmeta"].images[0].size_ijk) == ("CT", (512, 512, 64))
    assert got["lbmeta"].labels[1].label == 2
    assert got["commandFormat2"].text == "Start the tracking machine" == got["command"].text
    np.testing.assert_array_equal(got["colortable"].colors, np.arange(256))


def test_every_cut_of_an_upstream_message_is_refused(upstream: dict[str, dict]) -> None:
    """A body that ends early, its size and checksum made true: only variable-length types may still be whole."""
    lists = {"TDATA", "POINT", "TRAJ", "IMGMETA", "LBMETA", "CAPABILITY", "STATUS", "VIDEOMETA", "POSITION", "BIND"}
    for name, fixture in upstream.items():
        body = bytes.fromhex(fixture["wire_hex"])[58:]
        for size in range(0, len(body), max(1, len(body) // 97)):
            wire = by_hand(fixture["type_id"].encode(), b"x", body[:size], fixture["version"])
            if fixture["type_id"] in lists and fixture["version"] == 1:
                continue
            try:
                accepted = cases.received(wire)
            except ContentError:
                continue
            pytest.fail(f"{name} cut to {size} bytes was accepted: {accepted}")


# --------------------------------------------------------------------------------------------- by hand
def test_transform_by_hand() -> None:
    numbers = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30)
    wire = by_hand(b"TRANSFORM", b"ProbeToTracker", struct.pack(">12f", *numbers), seconds=7, fraction=1 << 31)
    message = cases.received(wire)
    np.testing.assert_array_equal(message.matrix, [[1, 4, 7, 10], [2, 5, 8, 20], [3, 6, 9, 30], [0, 0, 0, 1]])
    assert message.time_s == 7.5
    assert cases.wire_of(m.Transform(message.matrix, device="ProbeToTracker", time_s=7.5)) == wire


def test_position_in_its_three_sizes_by_hand() -> None:
    for name, numbers in (("POSITION", (1, 2, 3, 0, 0, 0.6, 0.8)), ("QTRANS", (1, 2, 3, 0, 0, 0.6)),
                          ("POSITION", (1, 2, 3))):
        wire = by_hand(name.encode(), b"P", struct.pack(f">{len(numbers)}f", *numbers))
        message = cases.received(wire)
        turn = np.eye(3) if len(numbers) == 3 else [[0.28, -0.96, 0], [0.96, 0.28, 0], [0, 0, 1]]
        np.testing.assert_allclose(message.matrix[:3, :3], turn, atol=1e-6)
        np.testing.assert_array_equal(message.matrix[:3, 3], (1, 2, 3))
        assert cases.wire_of(message) == wire


def test_status_string_command_and_tracking_by_hand() -> None:
    for wire, ours in (
        (by_hand(b"STATUS", b"TARGET", struct.pack(">Hq20s", 10, -3, b"TARGETING") + b"out of reach\0"),
         m.Status(10, -3, "TARGETING", "out of reach", device="TARGET", time_s=5.0)),
        (by_hand(b"STRING", b"CMD_1", struct.pack(">HH", 3, 4) + b"STOP"),
         m.String("STOP", device="CMD_1", time_s=5.0)),
        (by_hand(b"STRING", b"S", struct.pack(">HH", 106, 3) + "ß!".encode()), m.String("ß!", device="S", time_s=5.0)),
        (by_hand(b"COMMAND", b"C", struct.pack(">I128sHI", 9, b"Go", 3, 2) + b"<>"),
         m.Command(9, "Go", "<>", device="C", time_s=5.0)),
        (by_hand(b"RTS_COMMAND", b"C", struct.pack(">I128sHI", 9, b"Go", 3, 2) + b"<>"),
         m.CommandReply(9, "Go", "<>", device="C", time_s=5.0)),
        (by_hand(b"STT_TDATA", b"T", struct.pack(">I32s", 50, b"Patient")),
         m.Query("STT_TDATA", 50, "Patient", device="T", time_s=5.0)),
        (by_hand(b"RTS_TDATA", b"T", b"\1"), m.Query("RTS_TDATA", status=1, device="T", time_s=5.0)),
        (by_hand(b"GET_TRANSFOR", b"T", b""), m.Query("GET_TRANSFORM", device="T", time_s=5.0)),
        (by_hand(b"GET_CAPABIL", b"T", b""), m.Query("GET_CAPABILITY", device="T", time_s=5.0)),
        (by_hand(b"TDATA", b"T", struct.pack(">20sBB12f", b"Probe", 2, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 4, 5, 6)),
         m.TData([m.Tool("Probe", 2, np.array([[1.0, 0, 0, 4], [0, 1, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1]]))],
                 device="T", time_s=5.0)),
        (by_hand(b"QTDATA", b"T", struct.pack(">20sBB7f", b"Probe", 3, 0, 4, 5, 6, 0, 0, 1, 0)),
         m.QTData([m.QuaternionTool("Probe", 3, np.array([4.0, 5, 6]), np.array([0.0, 0, 1, 0]))],
                  device="T", time_s=5.0)),
        (by_hand(b"SENSOR", b"F", struct.pack(">BBQ2d", 2, 0, 77, 1.5, -2)),
         m.Sensor(np.array([1.5, -2.0]), 77, device="F", time_s=5.0)),
    ):
        assert cases.wire_of(ours) == wire, ours
        assert type(cases.received(wire)) is type(ours)
        assert cases.wire_of(cases.received(wire)) == wire


def test_image_by_hand_has_its_origin_in_the_first_voxel_and_its_centre_on_the_wire() -> None:
    """Spacing 2, 3, 4 mm along R, A, S; 4x3x2 voxels whose centre (1.5, 1, 0.5) lies at (100, 200, 300)."""
    voxels = np.arange(24, dtype="<i2")
    head = struct.pack(">HBBBBHHH12f6H", 1, 1, 4, 2, 1, 4, 3, 2, 2, 0, 0, 0, 3, 0, 0, 0, 4, 100, 200, 300,
                       0, 0, 0, 4, 3, 2)
    wire = by_hand(b"IMAGE", b"CT", head + voxels.tobytes())
    image = cases.received(wire)
    assert image.array.shape == (2, 3, 4)
    assert image.array[1, 2, 3] == 23
    np.testing.assert_array_equal(image.ras_from_ijk, [[2, 0, 0, 97], [0, 3, 0, 197], [0, 0, 4, 298], [0, 0, 0, 1]])
    again = m.Image(voxels.reshape(2, 3, 4), image.ras_from_ijk, device="CT", time_s=5.0)
    assert cases.wire_of(again) == wire
    big = by_hand(b"IMAGE", b"CT", struct.pack(">HBBB", 1, 1, 4, 1) + head[5:] + voxels.astype(">i2").tobytes())
    np.testing.assert_array_equal(cases.received(big).array, voxels.reshape(2, 3, 4))
    assert cases.wire_of(cases.received(big)) == big


def test_two_dimensional_and_partial_images() -> None:
    flat = m.Image(np.arange(6, dtype=np.uint8).reshape(2, 3), device="US", time_s=1.0)
    wire = cases.wire_of(flat)
    assert struct.unpack_from(">HHH", wire, 58 + 6) == (3, 2, 1)
    assert cases.received(wire).array.shape == (1, 2, 3)
    part = m.Image(np.zeros((1, 2, 3), np.uint8), np.diag([2.0, 2, 2, 1]), size_ijk=(10, 10, 10), offset_ijk=(4, 5, 6))
    got = cases.received(cases.wire_of(part))
    assert not got.is_whole
    np.testing.assert_allclose(got.ras_from_ijk, part.ras_from_ijk)
    np.testing.assert_allclose(got.array_ras_from_ijk[:3, 3], (8, 10, 12))


def test_video_bind_ndarray_and_polydata_by_hand() -> None:
    video = by_hand(b"VIDEO", b"V", struct.pack(">HB4sHBHHH12f6H", 1, 2, b"H264", 1, 1, 3, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0,
                                              1, 1, 0, 0, 0, 0, 0, 3, 1, 1) + b"frame")
    got = cases.received(video)
    assert (got.codec, bytes(got.data), got.size_ijk) == ("H264", b"frame", (3, 1, 1))
    np.testing.assert_array_equal(got.ras_from_ijk[:3, 3], 0)
    bind = by_hand(b"BIND", b"B", struct.pack(">H12sQ12sQ", 2, b"STRING", 5, b"X", 2)
                   + struct.pack(">H", 6) + b"ab\0cd\0" + struct.pack(">HH", 3, 1) + b"!" + b"\0" + b"zz")
    assert [child.device for child in cases.received(bind).children] == ["ab", "cd"]
    assert cases.received(bind).children[0].message().text == "!"
    array = by_hand(b"NDARRAY", b"A", struct.pack(">BBHH3i", 6, 2, 1, 3, 7, -8, 9))
    assert cases.received(array).array.tolist() == [[7, -8, 9]]
    poly = by_hand(b"POLYDATA", b"P", struct.pack(">10I9f4I", 3, 0, 0, 0, 0, 1, 16, 0, 0, 0, *range(9), 3, 0, 1, 2))
    assert cases.received(poly).cells("polygons")[0].tolist() == [0, 1, 2]
    for wire in (video, bind, array, poly):
        assert cases.wire_of(cases.received(wire)) == wire


def test_version_two_by_hand_with_a_long_name_in_metadata() -> None:
    full, content = "StylusTipToReferenceTransform", struct.pack(">HH", 3, 2) + b"ok"
    key = b"IGTL_DEVICE_NAME"
    index = struct.pack(">HHHIHHI", 2, len(key), 3, len(full), 1, 106, 2)
    body = struct.pack(">HHII", 12, len(index), len(key) + len(full) + 3, 42) + content + index
    body += key + full.encode() + b"k" + "ß".encode()
    wire = by_hand(b"STRING", full[:20].encode(), body, version=2)
    message = cases.received(wire)
    assert (message.device, message.text, message.message_id) == (full, "ok", 42)
    assert message.metadata == {"IGTL_DEVICE_NAME": full, "k": "ß"}
    assert cases.wire_of(message, 2) == wire
    fresh = m.String("ok", device=full)
    assert cases.received(cases.wire_of(fresh, 2)).device == full
    with pytest.raises(InputError, match="version 1"):
        m.encode(fresh)


# --------------------------------------------------------------------------------------------- framing
def test_checksum_without_fastcrc_is_the_same() -> None:
    assert framing._crc64_own(b"123456789") == 0x6C40DF5F0B497347  # the catalogue's check value of CRC-64/ECMA-182
    random = np.random.default_rng(1)
    for size in (0, 1, 7, 8, 1023, 1024, 1025, 4096, 70001):
        octets = random.integers(0, 256, size, dtype=np.uint8).tobytes()
        start = int(random.integers(0, 1 << 63))
        assert framing._crc64_own(octets, start) == fastcrc.crc64.ecma_182(octets, start), size
        assert framing.crc64(octets[3:], framing.crc64(octets[:3])) == framing.crc64(octets)


def test_an_image_is_neither_copied_on_the_way_out_nor_on_the_way_in() -> None:
    array = np.zeros((4, 8, 8), dtype=np.int16)
    buffers = m.encode(m.Image(array, np.eye(4)))
    assert any(np.shares_memory(np.frombuffer(view, np.uint8), array) for view in buffers[1:])
    wire = b"".join(buffers)
    body = bytearray(wire[58:])
    frame = framing.unpack_body(framing.parse_header(wire[:58], max_body=1 << 20), body)
    assert np.shares_memory(m.decode(frame).array, np.frombuffer(body, np.uint8))


def test_headers_that_can_not_be() -> None:
    good = cases.wire_of(m.String("x", device="d", time_s=1.0))
    for change in (lambda b: b[:57], lambda b: b"\0\0" + b[2:], lambda b: b"\0\x04" + b[2:],
                   lambda b: b[:2] + b"\0" * 12 + b[14:], lambda b: b[:2] + b"STR\x80" + b[6:],
                   lambda b: b[:14] + b"\xff\xfe" + b[16:], lambda b: b[:14] + b"a\nb" + b[17:]):
        with pytest.raises(HeaderError):
            framing.parse_header(change(good)[:58], max_body=100)
    with pytest.raises(BodyLimitError, match="limit"):
        framing.parse_header(good[:42] + struct.pack(">Q", 1 << 31) + good[50:58], max_body=1 << 28)
    with pytest.raises(ChecksumError):
        cases.received(good[:-1] + b"y")
    with pytest.raises(ContentError):
        framing.unpack_body(framing.parse_header(good[:58], max_body=100), good[58:-1])


def test_the_label_lps_is_said_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    from IRAILib.link.messages import image

    image._warn_of_lps.cache_clear()
    wire = cases.wire_of(m.Image(np.zeros((1, 1, 1), np.uint8), cases.POSE, coordinate="LPS"))
    with caplog.at_level(logging.WARNING, "IRAI.link"):
        got = cases.received(wire)
    assert "LPS" in caplog.text
    assert got.coordinate == "LPS"
    np.testing.assert_allclose(got.ras_from_ijk, cases.POSE)
