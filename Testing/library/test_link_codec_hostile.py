"""OpenIGTLink codec against bytes that lie: a typed error, nothing else, and no memory beyond what came."""

from __future__ import annotations

import math
import struct
import tracemalloc

import fastcrc
import link_cases as cases
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IRAILib.geometry import InputError
from IRAILib.link import framing
from IRAILib.link import messages as m
from IRAILib.link.framing import ContentError, ProtocolError

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
EVERY = cases.every_message()
WIRES = [cases.wire_of(message, version) for message in EVERY for version in (1, 2)]
NAN, INF = math.nan, math.inf
ONE_LINE = r"^OpenIGTLink: [^\n]+$"
IMAGE = (1, 1, 3, 2, 1, 2, 2, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 2, 1)


def wire(kind: str, body: bytes, version: int = 1) -> bytes:
    return struct.pack(">H12s20sQQQ", version, kind.encode(), b"d", 0, len(body), fastcrc.crc64.ecma_182(body)) + body


def image(pixels: bytes = b"1234", **changed: float) -> bytes:
    values = list(IMAGE)
    for place, value in changed.items():
        values[int(place[1:])] = value
    return struct.pack(">HBBBBHHH12f6H", *values) + pixels


def poly(*header: int, rest: bytes = b"") -> bytes:
    return struct.pack(">10I", *(header + (0,) * (10 - len(header)))) + rest


THREE = struct.pack(">9f", *range(9))


def polygons(count: int, *row: int) -> bytes:
    """Three points and one row of polygons."""
    return poly(3, 0, 0, 0, 0, count, 4 * len(row), rest=THREE + struct.pack(f">{len(row)}I", *row))


def attribute(components: int, count: int, rest: bytes) -> bytes:
    return poly(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, rest=struct.pack(">BBI", 0, components, count) + rest)


def trajectory(kind: int, x: float) -> bytes:
    return struct.pack(">64s32sbb4B7f20s", b"", b"", kind, 0, 0, 0, 0, 0, x, *[0] * 6, b"")


def extended(own: int, index: int, payload: int, *entry: int, rest: bytes = b"") -> bytes:
    """Extended header, and the count and one entry of a metadata header."""
    return struct.pack(">HHII", own, index, payload, 0) + struct.pack(">HHHI"[:1 + len(entry)], *entry) + rest


LIES = {
    "NaN in a transform": ("TRANSFORM", struct.pack(">12f", *[1.0] * 11, NAN)),
    "infinity in a transform": ("TRANSFORM", struct.pack(">12f", INF, *[1.0] * 11)),
    "short transform": ("TRANSFORM", bytes(47)),
    "NaN position": ("POSITION", struct.pack(">3f", 0, NAN, 0)),
    "quaternion of zeros": ("POSITION", bytes(28)),
    "three quaternion numbers too long": ("POSITION", struct.pack(">6f", 0, 0, 0, 1, 1, 0)),
    "position of 20 bytes": ("POSITION", bytes(20)),
    "NaN in a tool": ("TDATA", struct.pack(">20sBB12f", b"t", 2, 0, *[NAN] * 12)),
    "half a tool": ("TDATA", bytes(71)),
    "tool name not UTF-8": ("TDATA", struct.pack(">20sBB12f", b"\xff\xfe", 2, 0, *[0.0] * 12)),
    "NaN in a quaternion tool": ("QTDATA", struct.pack(">20sBB7f", b"t", 2, 0, 0, 0, 0, NAN, 0, 0, 1)),
    "string longer than its body": ("STRING", struct.pack(">HH", 3, 100) + b"short"),
    "string shorter than its body": ("STRING", struct.pack(">HH", 3, 1) + b"long"),
    "string in an unknown encoding": ("STRING", struct.pack(">HH", 999, 1) + b"x"),
    "string not UTF-8": ("STRING", struct.pack(">HH", 106, 2) + b"\xff\xff"),
    "status too short": ("STATUS", bytes(29)),
    "command that lies": ("COMMAND", struct.pack(">I128sHI", 1, b"x", 3, 1 << 31) + b"x"),
    "sensor that lies": ("SENSOR", struct.pack(">BBQd", 255, 0, 0, 1.0)),
    "capability of 13 bytes": ("CAPABILITY", b"x" * 13),
    "start of tracking, short": ("STT_TDATA", bytes(4)),
    "image without pixels": ("IMAGE", image(b"")),
    "image with too many pixels": ("IMAGE", image(b"12345")),
    "image of scalar type 9": ("IMAGE", image(_2=9)),
    "image of complex numbers": ("IMAGE", image(_2=13)),
    "image of byte order 3": ("IMAGE", image(_3=3)),
    "image of coordinate system 0": ("IMAGE", image(_4=0)),
    "image without components": ("IMAGE", image(_1=0)),
    "image with NaN in its matrix": ("IMAGE", image(_9=NAN)),
    "image without voxels": ("IMAGE", image(b"", _22=0)),
    "huge image": ("IMAGE", image(_1=255, _5=65535, _6=65535, _7=65535, _23=65535, _24=65535, _25=65535)),
    "part outside its image": ("IMAGE", image(_20=2)),
    "video too short": ("VIDEO", bytes(75)),
    "point that is NaN": ("POINT", struct.pack(">64s32s4B4f20s", b"", b"", 0, 0, 0, 0, NAN, 0, 0, 0, b"")),
    "half a point": ("POINT", bytes(137)),
    "trajectory that is infinite": ("TRAJ", trajectory(3, INF)),
    "trajectory of kind 7": ("TRAJ", trajectory(7, 0)),
    "more points than bytes": ("POLYDATA", poly(1 << 31)),
    "NaN point in a surface": ("POLYDATA", poly(1, rest=struct.pack(">3f", NAN, 0, 0))),
    "cell beyond the points": ("POLYDATA", polygons(1, 3, 0, 1, 3)),
    "cell longer than its row": ("POLYDATA", polygons(1, 9, 0, 1, 2)),
    "cell without points": ("POLYDATA", polygons(2, 0, 2, 1, 2)),
    "more cells than numbers": ("POLYDATA", polygons(1 << 30, 3, 0, 1, 2)),
    "cells of 3 bytes": ("POLYDATA", poly(3, 1, 3, rest=THREE + b"abc")),
    "a million attributes": ("POLYDATA", poly(0, 0, 0, 0, 0, 0, 0, 0, 0, 1_000_000, rest=bytes(7_000_000))),
    "attribute without end of name": ("POLYDATA", attribute(1, 1, b"n")),
    "attribute that lies": ("POLYDATA", attribute(255, 1 << 31, b"n\0")),
    "bytes after a surface": ("POLYDATA", poly(0, rest=b"x")),
    "array of 200 dimensions": ("NDARRAY", b"\x03\xc8" + b"\xff\xff" * 200),
    "huge array": ("NDARRAY", b"\x0b\x20" + b"\xff\xff" * 32),
    "array of no dimension": ("NDARRAY", b"\x03\x00"),
    "colour table of 5 bytes": ("COLORT", b"\x03\x03abc"),
    "colour table of unknown kind": ("COLORT", b"\x04\x03" + bytes(256)),
    "bundle that lies about its count": ("BIND", b"\xff\xff" + bytes(40)),
    "bundle that lies about a size": ("BIND", struct.pack(">H12sQH", 1, b"STRING", 1 << 63, 2) + b"a\0"),
    "bundle with a message without type": ("BIND", struct.pack(">H12sQH", 1, b"", 0, 2) + b"a\0"),
    "bundle with too few names": ("BIND", struct.pack(">H12sQ12sQH", 2, b"A", 0, b"B", 0, 2) + b"a\0"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_body_that_lies_is_a_content_error(name: str) -> None:
    with pytest.raises(ContentError, match=ONE_LINE):
        cases.received(wire(*LIES[name]))


@pytest.mark.parametrize("body", [
    bytes(11), extended(11, 0, 0), extended(12, 0, 1), extended(12, 1, 0, rest=b"x"), extended(65535, 0, 0),
    extended(12, 2, 1 << 31, 0), extended(12, 2, 0, 5), extended(12, 10, 0, 1, 1, 3, 1 << 31),
    extended(12, 10, 2, 1, 1, 3, 1, rest=b"\xff\xff"), extended(12, 10, 2, 1, 1, 77, 1, rest=b"kv"),
    extended(12, 10, 17, 1, 16, 3, 1, rest=b"IGTL_DEVICE_NAME\n"),
])
def test_extended_headers_and_metadata_that_lie(body: bytes) -> None:
    with pytest.raises(ContentError):
        cases.received(wire("FUTURE", body, 2))


def test_a_liar_costs_no_more_memory_than_its_body() -> None:
    for name, lie in LIES.items():
        whole = wire(*lie)
        tracemalloc.start()
        with pytest.raises(ContentError):
            cases.received(whole)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10 * len(whole) + 200_000, name


def test_what_is_accepted_costs_a_small_multiple_of_its_body() -> None:
    many = m.Point([m.PointItem(f"{i}") for i in range(5000)])
    cells = np.tile([3, 0, 1, 2, 2, 0, 1], 20000)
    for message in (many, m.PolyData(np.eye(3), polygons=cells), m.TData([m.Tool(str(i)) for i in range(5000)]),
                    m.Capability(["A"] * 20000), m.Bind([m.BindChild("A", "", b"")] * 20000)):
        whole = cases.wire_of(message)
        tracemalloc.start()
        cases.received(whole)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 24 * len(whole), message.wire_type


@pytest.mark.parametrize("message", [
    m.Transform(np.full((4, 4), NAN)), m.Transform(np.zeros((4, 4))), m.Transform(np.eye(3)),
    m.Position(np.zeros(3), np.zeros(4)), m.Position(np.array([NAN, 0, 0])), m.TData([m.Tool("x" * 21)]),
    m.String("x" * 65536), m.String("ä", encoding=999), m.String("\ud800"), m.Status(70000),
    m.Status(error_name="e" * 21), m.Image(np.zeros((0, 1, 1), np.uint8)),
    m.Image(np.zeros((1, 1, 1), np.int64)), m.Image(np.zeros((1, 1, 70000), np.uint8)),
    m.Image(np.zeros(4, np.uint8)), m.Image(coordinate="RSA"), m.Image(offset_ijk=(1, 0, 0)), m.Sensor(np.zeros(256)),
    m.Point([m.PointItem(rgba=(256, 0, 0, 0))]), m.Point([m.PointItem(radius=INF)]), m.PolyData(np.zeros((2, 2))),
    m.PolyData(np.zeros((2, 3)), lines=np.array([2, 0, 2])), m.PolyData(np.zeros((2, 3)), lines=np.array([2, 0])),
    m.ColorTable(np.zeros(255, np.uint8)), m.NDArray(np.array(["x"])), m.Query("TRANSFORM"), m.Command(-1),
    m.Transform(device="a\nb"), m.Transform(time_s=-1.0), m.Transform(time_s=NAN),
], ids=lambda message: message.wire_type)
def test_what_the_wire_can_not_hold_is_refused_before_it_is_sent(message: m.Message) -> None:
    with pytest.raises(InputError, match=ONE_LINE):
        m.encode(message)


def test_a_prefix_alone_is_no_query() -> None:
    got = cases.received(wire("GET_", b""))
    assert isinstance(got, m.Unknown)
    assert cases.wire_of(got)[2:14] == b"GET_".ljust(12, b"\0")


def never_anything_else(data: bytes) -> None:
    try:
        header = framing.parse_header(data[:58], max_body=1 << 20)
        m.decode(framing.unpack_body(header, data[58:]))
    except ProtocolError:
        return


@QUICK
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    never_anything_else(data)


@settings(QUICK, max_examples=600)
@given(st.sampled_from(WIRES), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
       st.floats(0, 1), st.booleans(), st.binary(max_size=12))
def test_mutated_messages(whole: bytes, changes: list, cut: float, shorten: bool, more: bytes) -> None:
    body = bytearray(whole[58:])
    for place, value in changes:
        if body:
            body[min(int(place ** 2 * len(body)), len(body) - 1)] = value
    new = bytes(body[:int(cut * len(body))] if shorten else body) + more
    never_anything_else(whole[:42] + struct.pack(">QQ", len(new), fastcrc.crc64.ecma_182(new)) + new)
