"""OpenIGTLink messages of any content: what is sent comes back, for every type."""

from __future__ import annotations

import link_cases as cases
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from IRAILib.link import messages as m
from IRAILib.link.framing import WireTime

COMMON = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
numbers = st.floats(-1e6, 1e6, width=32)
bytes_ = st.integers(0, 255)
sizes = st.tuples(*[st.integers(1, 65535)] * 3)
colors = st.tuples(bytes_, bytes_, bytes_, bytes_)
xyz = hnp.arrays(np.float64, 3, elements=numbers)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


stamps = st.builds(WireTime, st.integers(0, 2**64 - 1))


def names(size: int) -> st.SearchStrategy[str]:
    """Printable names that fit into `size` bytes of UTF-8."""
    letters = st.characters(categories=["L", "N", "P"])
    return st.text(letters, max_size=size).filter(lambda text: text.isprintable() and len(text.encode()) <= size)


@st.composite
def poses(draw: st.DrawFn) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3] = draw(hnp.arrays(np.float32, (3, 4), elements=numbers))
    return matrix


@st.composite
def quaternions(draw: st.DrawFn) -> np.ndarray:
    raw = draw(hnp.arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 0.1))
    return np.float64((raw / np.linalg.norm(raw)).astype(np.float32))


def items(made: type, /, **fields: st.SearchStrategy) -> st.SearchStrategy[list]:
    return st.lists(st.builds(made, **fields), max_size=4)


surfaces = st.builds(
    lambda points, lines, values: m.PolyData(
        points, lines=np.array([n for a, b in lines for n in (2, a, b)], dtype=np.uint32),
        polygons=np.array([3, 0, 1, 2] if lines else [], dtype=np.uint32),
        attributes=[m.Attribute("värde", 1, values)]),
    hnp.arrays(np.float32, (5, 3), elements=numbers), st.lists(st.tuples(*[st.integers(0, 4)] * 2), max_size=5),
    hnp.arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 9)), elements=numbers))
arrays = hnp.arrays(st.sampled_from(["i1", "u1", "<i2", ">i2", "<u2", "<i4", ">u4", "<f4", ">f8"]),
                    hnp.array_shapes(min_dims=2, max_dims=4, max_side=4), elements={"allow_nan": False})
MESSAGES = {
    "TRANSFORM": st.builds(m.Transform, poses()),
    "POSITION": st.builds(m.Position, xyz, quaternions(), st.just(4), st.sampled_from(["POSITION", "QTRANS"])),
    "TDATA": st.builds(m.TData, items(m.Tool, name=names(20), kind=bytes_, matrix=poses())),
    "QTDATA": st.builds(m.QTData, items(m.QuaternionTool, name=names(20), position=xyz, quaternion=quaternions())),
    "STRING": st.builds(m.String, texts),
    "STATUS": st.builds(m.Status, st.integers(0, 65535), st.integers(-2**63, 2**63 - 1), names(20), texts),
    "COMMAND": st.builds(m.Command, st.integers(0, 2**32 - 1), names(128), texts),
    "RTS_COMMAND": st.builds(m.CommandReply, st.integers(0, 2**32 - 1), names(128), texts),
    "CAPABILITY": st.builds(m.Capability, st.lists(names(12), max_size=9)),
    "SENSOR": st.builds(m.Sensor, hnp.arrays(np.float64, st.integers(0, 255)), st.integers(0, 2**64 - 1), bytes_),
    "STT_TDATA": st.builds(m.Query, st.sampled_from(["STT_TDATA", "STT_QTDATA"]), st.integers(0, 2**32 - 1), names(32)),
    "RTS_TDATA": st.builds(m.Query, st.sampled_from(["RTS_TDATA", "RTS_BIND"]), status=bytes_),
    "POINT": st.builds(m.Point, items(m.PointItem, name=names(64), group=names(32), rgba=colors, xyz=xyz,
                                      radius=numbers, owner=names(20))),
    "TRAJ": st.builds(m.Trajectory, items(m.TrajectoryItem, name=names(64), group=names(32), kind=st.integers(1, 3),
                                          rgba=colors, entry=xyz, target=xyz, radius=numbers, owner=names(20))),
    "IMGMETA": st.builds(m.ImageMeta, items(m.ImageMetaItem, name=names(64), device=names(20), modality=names(32),
                                            patient_name=names(64), time_s=stamps,
                                            size_ijk=sizes, scalar_type=bytes_)),
    "LBMETA": st.builds(m.LabelMeta, items(m.LabelMetaItem, name=names(64), device=names(20), label=bytes_, rgba=colors,
                                           size_ijk=sizes, owner=names(20))),
    "VIDEOMETA": st.builds(m.VideoMeta, items(m.VideoMetaItem, name=names(64), device=names(64), patient_id=names(64),
                                              zoom_level=st.integers(-9, 9), focal_length=numbers, size_ijk=sizes,
                                              matrix=poses())),
    "POLYDATA": surfaces,
    "IMAGE": st.builds(m.Image, arrays.filter(lambda a: a.ndim > 2), poses(), st.sampled_from(["RAS", "LPS"])),
    "VIDEO": st.builds(m.Video, st.binary(max_size=50), names(4), st.integers(0, 65535), sizes, poses()),
    "NDARRAY": st.builds(m.NDArray, arrays),
    "COLORT": st.builds(m.ColorTable, hnp.arrays(st.sampled_from(["u1", "u2"]), 256)),
    "BIND": st.builds(lambda a, b: m.Bind.of([a, b]), st.builds(m.Transform, poses(), device=names(40)),
                      st.builds(m.String, texts, device=names(40))),
    "FUTURE": st.builds(m.Unknown, st.just("FUTURE"), st.binary(max_size=50)),
}
COMMON_FIELDS = {"encoding", "_placement", "size_ijk", "part_ijk", "terminated", "endian"}  # filled in by the wire


def same_place(ours: np.ndarray, theirs: np.ndarray, size_ijk: tuple) -> None:
    """The axes exactly; the origin as far as float32 carries the centre, from which it is computed."""
    np.testing.assert_array_equal(theirs[:3, :3], ours[:3, :3])
    reach = np.abs(ours[:3]) @ (*size_ijk, 1)
    assert (np.abs(theirs - ours)[:3, 3] <= 1e-6 * reach + 1e-30).all()


def same(ours: object, theirs: object) -> None:
    """Equal, item by item; images compare their matrices as float32 carries them."""
    if isinstance(ours, np.ndarray):
        assert isinstance(theirs, np.ndarray)
        assert theirs.shape == ours.shape or ours.ndim == 4
        np.testing.assert_array_equal(theirs.reshape(ours.shape), ours)
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)  # type: ignore[arg-type]
        for one, other in zip(ours, theirs, strict=True):  # type: ignore[call-overload]
            same(one, other)
    elif hasattr(ours, "__dataclass_fields__"):
        for key in ours.__dataclass_fields__:
            if key == "ras_from_ijk":
                same_place(ours.ras_from_ijk, theirs.ras_from_ijk, theirs.size_ijk)
            elif key not in COMMON_FIELDS and not key.startswith("received"):
                same(getattr(ours, key), getattr(theirs, key))
    elif isinstance(ours, memoryview | bytes):
        assert bytes(ours) == bytes(theirs)  # type: ignore[call-overload]
    else:
        assert theirs == ours


@pytest.mark.parametrize("kind", MESSAGES)
def test_what_is_sent_comes_back(kind: str) -> None:
    @COMMON
    @given(MESSAGES[kind], names(60), st.dictionaries(names(30).filter(bool), texts, max_size=3),
           st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
    def check(message: m.Message, device: str, metadata: dict, stamp: int, number: int) -> None:
        message.device, message.metadata, message.message_id = device, metadata, number
        message.time_s = WireTime(stamp)
        wire = cases.wire_of(message, 2)
        got = cases.received(wire)
        assert (got.device, got.message_id, got.time_s) == (device, number, message.time_s)
        assert {key: got.metadata[key] for key in metadata} == metadata
        message.metadata = got.metadata
        same(message, got)
        assert cases.wire_of(got, 2) == wire

    check()
