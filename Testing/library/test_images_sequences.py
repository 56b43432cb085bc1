"""Sequence files: every quirk of PLUS's writers by hand-made bytes, SimpleITK as the other program, damaged copies."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IRAILib.geometry import InputError
from IRAILib.images.sequences import TrackedSequence, read_sequence, write_sequence

EYE = "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"
PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4) * 7


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word.lower() in text.lower(), f"{word!r} not in {text!r}"


def mha(frames: str = "", *, size="4 3 2", kind="MET_UCHAR", packed=True, extra="", data: bytes | None = None) -> bytes:
    body = (zlib.compress(PIXELS.tobytes()) if packed else PIXELS.tobytes()) if data is None else data
    head = (f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
            f"CompressedData = {packed}\nCompressedDataSize = {len(body)}           \nDimSize = {size}       \n"
            f"Kinds = domain domain list\nElementSpacing = 1 1 1\nElementType = {kind}\n{extra}"
            f"UltrasoundImageOrientation = MFA\n{frames}ElementDataFile = LOCAL\n")
    return head.encode() + body


def frames_text(status="OK", matrix=EYE, times=("0.5", "0.75"), key="ImageStatus") -> str:
    tool = "ProbeToTrackerTransform"
    return "".join(f"Seq_Frame{n:04d}_{tool} = {matrix} \nSeq_Frame{n:04d}_{tool}Status = {status}\n"
                   f"Seq_Frame{n:04d}_Timestamp = {time}\nSeq_Frame{n:04d}_{key} = OK\n"
                   for n, time in enumerate(times))


def put(tmp_path, data: bytes, name="a.igs.mha"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def sample(dtype=np.uint8, channels=0, n=5) -> TrackedSequence:
    rng = np.random.default_rng(3)
    shape = (n, 6, 8, *([channels] if channels else []))
    frames = (rng.normal(size=shape) if np.dtype(dtype).kind == "f" else rng.integers(0, 120, shape)).astype(dtype)
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :3, 3] = rng.normal(scale=100, size=(n, 3))
    return TrackedSequence(frames, 12.0 + np.cumsum(rng.uniform(0.01, 0.1, n)), {"ProbeToTracker": poses},
                           {"ProbeToTracker": ["OK", "MISSING", "OUT_OF_VIEW", "OK", "INVALID"][:n]}, "MFA",
                           [{"ImageStatus": "OK", "FrameNumber": str(40 + k)} for k in range(n)],
                           {"UltrasoundImageType": "BRIGHTNESS", "Operator": "a = b? no: c"[:8]}, (0.25, 0.5))


def same(a: TrackedSequence, b: TrackedSequence) -> None:
    if a.frames is None:
        assert b.frames is None
    else:
        assert b.frames.dtype == a.frames.dtype
        np.testing.assert_array_equal(b.frames, a.frames)
    np.testing.assert_array_equal(b.time_s, a.time_s)
    assert (b.status, b.fields, b.orientation, b.spacing, b.timed) == (
        a.status, a.fields, a.orientation, a.spacing, a.timed)
    assert b.transforms.keys() == a.transforms.keys()
    for name, matrices in a.transforms.items():
        np.testing.assert_array_equal(b.transforms[name], matrices)


# ---------------------------------------------------------------------------------------------- what PLUS writes
def test_a_hand_made_file_reads_as_written(tmp_path):
    matrix = "0 -1 0 2.2e-016 1 0 0 -8.43482e-005 0 0 1 -190.886 -0 0 -0 1"
    found = read_sequence(put(tmp_path, mha(frames_text(matrix=matrix, key="Status"))))
    np.testing.assert_array_equal(found.frames, PIXELS)
    np.testing.assert_array_equal(found.time_s, [0.5, 0.75])
    truth = [[0, -1, 0, 2.2e-16], [1, 0, 0, -8.43482e-5], [0, 0, 1, -190.886], [0, 0, 0, 1]]
    np.testing.assert_array_equal(found.transforms["ProbeToTracker"], [truth, truth])
    assert found.status == {"ProbeToTracker": ["OK", "OK"]}
    assert found.fields == [{"ImageStatus": "OK"}] * 2
    assert found.timed
    assert found.image_valid().all()
    assert found.to_dict()["tools"] == {"ProbeToTracker": 2}


def test_windows_line_ends_and_uncompressed(tmp_path):
    data = mha(frames_text(), packed=False)
    head, mark, body = data.partition(b"LOCAL\n")
    found = read_sequence(put(tmp_path, head.replace(b"\n", b"\r\n") + mark.replace(b"\n", b"\r\n") + body))
    np.testing.assert_array_equal(found.frames, PIXELS)
    mapped = read_sequence(put(tmp_path, data), mapped=True)
    assert isinstance(mapped.frames, np.memmap)
    np.testing.assert_array_equal(mapped.frames, PIXELS)


@pytest.mark.parametrize("kind", ["MET_OTHER", "MET_UCHAR"])
def test_tracker_only(tmp_path, kind):
    found = read_sequence(put(tmp_path, mha(frames_text(), size="0 0 2", kind=kind, packed=False, data=b"")))
    assert found.frames is None
    assert len(found) == 2
    assert not found.image_valid().any()
    for name in ("b.igs.mha", "b.igs.nrrd", "b.igs.mhd"):
        write_sequence(tmp_path / name, found)
        again = read_sequence(tmp_path / name)
        same(found, again)
    refused(lambda: write_sequence(tmp_path / "b.seq.nrrd", found), "tracker-only")


def test_big_endian_and_colour(tmp_path):
    big = (np.arange(24).reshape(2, 3, 4) * 1001).astype(">u2")
    text = mha(frames_text(), kind="MET_USHORT", data=zlib.compress(big.tobytes()))
    found = read_sequence(put(tmp_path, text.replace(b"ByteOrderMSB = False", b"ByteOrderMSB = True")))
    assert found.frames.dtype.isnative
    np.testing.assert_array_equal(found.frames, big)
    colour = np.arange(72, dtype=np.uint8).reshape(2, 3, 4, 3)
    found = read_sequence(put(tmp_path, mha(frames_text(), extra="ElementNumberOfChannels = 3\n",
                                            data=zlib.compress(colour.tobytes()))))
    np.testing.assert_array_equal(found.frames, colour)


def test_lost_tools_keep_their_status(tmp_path):
    text = frames_text() + ("Seq_Frame0000_StylusToTrackerTransform = " + EYE.replace("1", "nan", 1) + "\n"
                            "Seq_Frame0000_StylusToTrackerTransformStatus = OUT_OF_VIEW\n")
    found = read_sequence(put(tmp_path, mha(text)))
    assert found.status["StylusToTracker"] == ["OUT_OF_VIEW", "MISSING"]
    assert found.pose("StylusToTracker", 0) is None
    assert found.pose("NothingToTracker", 1) is None
    assert not found.valid("StylusToTracker").any()
    assert found.valid("ProbeToTracker").all()
    assert np.isfinite(found.transforms["StylusToTracker"]).all()
    older = read_sequence(put(tmp_path, mha("".join(line + "\n" for line in frames_text().splitlines()
                                                    if "TransformStatus" not in line))))
    assert older.status["ProbeToTracker"] == ["OK", "OK"]


def test_a_plain_image_has_no_times(tmp_path):
    image = sitk.GetImageFromArray(PIXELS)
    image.SetSpacing((0.2, 0.3, 1))
    for name in ("plain.mha", "plain.nrrd"):
        sitk.WriteImage(image, str(tmp_path / name), useCompression=True)
        found = read_sequence(tmp_path / name)
        assert not found.timed
        assert found.transforms == {}
        assert found.spacing == (0.2, 0.3)
        np.testing.assert_array_equal(found.time_s, [0, 1])
        np.testing.assert_array_equal(found.frames, PIXELS)


def test_header_transform(tmp_path):
    found = read_sequence(put(tmp_path, mha(frames_text(), extra=f"ImageToProbeTransform = {EYE} \n")))
    np.testing.assert_array_equal(found.header_transform("ImageToProbe"), np.eye(4))
    assert found.header_transform("ImageToTracker") is None
    write_sequence(tmp_path / "b.igs.nrrd", found)
    np.testing.assert_array_equal(read_sequence(tmp_path / "b.igs.nrrd").header_transform("ImageToProbe"), np.eye(4))


@pytest.mark.parametrize(("said", "rows", "columns"), [("MF", 1, 1), ("UF", 1, -1), ("MN", -1, 1), ("UN", -1, -1)])
def test_orientation(said, rows, columns):
    found = TrackedSequence(PIXELS, np.arange(2.0), orientation=said + "A").oriented("MF")
    assert found.orientation == "MFA"
    np.testing.assert_array_equal(found.frames, PIXELS[:, ::rows, ::columns])
    refused(lambda: TrackedSequence(PIXELS, np.arange(2.0), orientation="FM").oriented("MF"), "FM")


# ---------------------------------------------------------------------------------------------- NRRD
def nrrd(lines: str, body: bytes) -> bytes:
    return f"NRRD0004\n# a comment\n{lines}\n\n".encode() + body


def test_plus_nrrd(tmp_path):
    lines = ("type: unsigned char\ndimension: 3\nspace dimension: 2\nsizes: 4 3 2\nspace directions: (0.1,0) "
             "(0,0.2) none\nkinds: domain domain list\nendian: little\nencoding: gz\nspace origin: (0,0)\n"
             "ultrasound image orientation:=UFA\n"
             f"Seq_Frame0000_Timestamp:=0.5\nSeq_Frame0001_Timestamp:=0.75\n"
             f"Seq_Frame0001_ProbeToTrackerTransform:={EYE} \n"
             "Seq_Frame0001_ProbeToTrackerTransformStatus:=OK\nSeq_Frame0001_Status:=INVALID")
    half = PIXELS.tobytes()
    body = gzip.compress(half[:10]) + gzip.compress(half[10:])  # several members, as appending writers leave
    found = read_sequence(put(tmp_path, nrrd(lines, body), "a.igs.nrrd"))
    np.testing.assert_array_equal(found.frames, PIXELS)
    assert found.orientation == "UFA"
    assert found.spacing == (0.1, 0.2)
    assert found.status["ProbeToTracker"] == ["MISSING", "OK"]
    assert list(found.image_valid()) == [True, False]


def test_colour_nrrd_and_its_detached_data(tmp_path):
    colour = np.arange(72, dtype=np.uint8).reshape(2, 3, 4, 3)
    lines = ("type: uint8\ndimension: 4\nsizes: 3 4 3 2\nkinds: RGB-color domain domain list\nencoding: raw\n"
             "data file: a.raw")
    put(tmp_path, colour.tobytes(), "a.raw")
    found = read_sequence(put(tmp_path, nrrd(lines, b""), "a.nhdr"))
    np.testing.assert_array_equal(found.frames, colour)
    refused(lambda: read_sequence(put(tmp_path, nrrd(lines.replace("a.raw", "../a.raw"), b""), "b.nhdr")), "beside")
    refused(lambda: read_sequence(put(tmp_path, nrrd(lines.replace("a.raw", "c.raw"), b""), "b.nhdr")), "missing")


@pytest.mark.parametrize(("unit", "scale"), [("s", 1.0), ("ms", 1e-3)])
def test_slicers_sequence(tmp_path, unit, scale):
    lines = ("type: unsigned char\ndimension: 4\nspace: left-posterior-superior\nsizes: 2 4 3 1\n"
             "space directions: none (0.1,0,0) (0,0,-0.2) (0,1,0)\nkinds: list domain domain domain\n"
             f'labels: "time" "" "" ""\nunits: "{unit}" "" "" ""\nendian: little\nencoding: gzip\n'
             "axis 0 index type:=numeric\naxis 0 index values:=1.5 2%2e25")
    body = gzip.compress(np.moveaxis(PIXELS, 0, -1).tobytes())
    found = read_sequence(put(tmp_path, nrrd(lines, body), "a.seq.nrrd"))
    np.testing.assert_array_equal(found.frames, PIXELS)
    np.testing.assert_allclose(found.time_s, np.array([1.5, 2.25]) * scale, rtol=1e-12)
    assert found.timed
    assert found.spacing == (0.1, 0.2)
    four = nrrd(lines.replace("sizes: 2 4 3 1", "sizes: 2 2 3 2"), body)
    refused(lambda: read_sequence(put(tmp_path, four, "b.seq.nrrd")), "2D frames")


# ---------------------------------------------------------------------------------------------- written and read again
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("name", ["a.igs.mha", "a.mha", "a.igs.mhd", "a.igs.nrrd", "a.seq.nrrd"])
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 0), (np.int16, 0), (np.uint8, 3), (np.float32, 0)])
def test_round_trip_with_simpleitk_as_witness(tmp_path, name, compress, dtype, channels):
    sequence = sample(dtype, channels)
    write_sequence(tmp_path / name, sequence, compress=compress)
    again = read_sequence(tmp_path / name)
    same(sequence, again)
    assert {key: again.header[key] for key in sequence.header} == sequence.header
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name)))
    if name.endswith(("mha", "mhd")):
        np.testing.assert_array_equal(array, sequence.frames)
    elif channels == 0:  # ITK turns the list axis of a NRRD into components
        np.testing.assert_array_equal(np.moveaxis(array.reshape(6, 8, 5), -1, 0), sequence.frames)
    leftovers = {path.name for path in tmp_path.iterdir()} - {name, "a.igs.zraw", "a.igs.raw"}
    assert not leftovers


def test_nothing_half_written(tmp_path):
    path = tmp_path / "a.igs.mha"
    write_sequence(path, sample())
    before = path.read_bytes()
    for change in ({"header": {"Note": "two\nlines"}}, {"header": {"a=b": "c"}}, {"time_s": np.full(5, np.nan)},
                   {"fields": [{}]}, {"frames": np.zeros((4, 6, 8), np.uint8)},
                   {"frames": np.zeros((5, 6, 8), complex)},
                   {"transforms": {"ProbeToTracker": np.full((5, 4, 4), np.nan)}},
                   {"transforms": {"ProbeToTracker": np.zeros((5, 4, 4))}}, {"status": {}}):
        broken = sample()
        for key, value in change.items():
            setattr(broken, key, value)
        refused(lambda bad=broken: write_sequence(path, bad))
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
    refused(lambda: write_sequence(tmp_path / "a.avi", sample()), ".igs.mha")


def test_big_recordings_are_written_frame_by_frame(tmp_path):
    shape = (64, 256, 512)
    pixels = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=shape)
    pixels[:, ::3, 7] = 200
    sequence = TrackedSequence(pixels, np.arange(64) / 30)
    tracemalloc.start()
    write_sequence(tmp_path / "big.igs.mha", sequence)
    written = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    found = read_sequence(tmp_path / "big.igs.mha")
    read = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found.frames, pixels)
    assert written < pixels.nbytes / 4
    assert read < pixels.nbytes * 1.6


# ---------------------------------------------------------------------------------------------- damaged files
GOOD = frames_text()
DAMAGED = {
    "truncated inside the zlib block": (mha(GOOD)[:-6], "truncated"),
    "zlib block flipped": (mha(GOOD)[:-10] + b"\xff" * 10, "damaged"),
    "no pixels at all": (mha(GOOD, data=b""), "truncated"),
    "more frames than data": (mha(GOOD, size="4 3 3"), "truncated"),
    "fewer frames than fields": (mha(GOOD, size="4 3 1"), "frame 1"),
    "more pixels than frames": (mha(GOOD, size="4 2 2"), "more pixels"),
    "raw and too short": (mha(GOOD, packed=False)[:-1], "truncated"),
    "raw and too long": (mha(GOOD, packed=False) + b"x", "more pixels"),
    "a time stamp missing": (mha(GOOD.replace("Seq_Frame0001_Timestamp = 0.75\n", "")), "frame 1 has no Timestamp"),
    "a time stamp of letters": (mha(GOOD.replace("0.75", "soon")), "numbers"),
    "an infinite time stamp": (mha(GOOD.replace("0.75", "inf")), "not finite"),
    "letters in a matrix": (mha(frames_text(matrix=EYE.replace("0", "x", 1))), "numbers"),
    "15 numbers in a matrix": (mha(frames_text(matrix=EYE[:-2])), "15 instead of 16"),
    "a matrix that is not finite": (mha(frames_text(matrix=EYE.replace("1", "nan", 1))), "not finite"),
    "a singular matrix": (mha(frames_text(matrix=EYE.replace("1", "0", 1))), "singular"),
    "a wrong last row": (mha(frames_text(matrix=EYE[:-1] + "2")), "last row"),
    "no DimSize": (mha(GOOD).replace(b"DimSize", b"DimSiez"), "DimSize"),
    "letters in DimSize": (mha(GOOD, size="4 3 two"), "DimSize"),
    "negative DimSize": (mha(GOOD, size="-4 3 2"), "size [-4, 3, 2]"),
    "an image, no sequence": (mha(GOOD, size="4 3"), "2D frames"),
    "an unknown type": (mha(GOOD, kind="MET_FANCY"), "MET_FANCY"),
    "text as pixels": (mha(GOOD).replace(b"BinaryData = True", b"BinaryData = False"), "text"),
    "tracker-only with lost frames": (mha(GOOD, size="0 0 900000000", packed=False, data=b""), "frames"),
    "neither pixels nor times": (mha("Seq_Frame0000_A = b\n", size="0 0 1", packed=False, data=b""), "neither"),
    "ends in its header": (mha(GOOD)[:300], "header"),
    "not a MetaImage": (b"\x89PNG\r\n" + bytes(200), "MetaImage"),
    "empty": (b"", "MetaImage"),
    "zero spacing": (mha(GOOD).replace(b"ElementSpacing = 1 1 1", b"ElementSpacing = 0 1 1"), "positive"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_files_give_one_line(tmp_path, what):
    data, word = DAMAGED[what]
    refused(lambda: read_sequence(put(tmp_path, data)), "a.igs.mha", word)


def test_wrong_places(tmp_path):
    refused(lambda: read_sequence(tmp_path / "none.mha"), "no such file")
    refused(lambda: read_sequence(put(tmp_path, b"", "a.avi")), ".mha")
    refused(lambda: read_sequence(put(tmp_path, b"NRRD0004\ntype: uchar\n", "a.nrrd")), "truncated")
    tools = "".join(f"Seq_Frame0000_T{n}ToTrackerTransform = {EYE}\n" for n in range(300))
    refused(lambda: read_sequence(put(tmp_path, mha(GOOD + tools))), "256")


def test_a_small_file_cannot_fill_the_memory(tmp_path):
    bomb = zlib.compress(bytes(64 << 20), 9)  # 64 MB in 64 kB
    path = put(tmp_path, mha(GOOD, data=bomb))
    lie = put(tmp_path, mha(GOOD, size="40000 40000 2", data=zlib.compress(PIXELS.tobytes())), "lie.mha")
    tracemalloc.start()
    refused(lambda: read_sequence(path), "more pixels")
    refused(lambda: read_sequence(lie), "promises")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(cuts=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=0, max_size=6)), min_size=1, max_size=4),
       which=st.sampled_from(["a.igs.mha", "a.igs.nrrd"]))
def test_any_damage_is_an_input_error_or_readable(tmp_path, cuts, which):
    source = tmp_path / which
    if not source.exists():
        write_sequence(source, sample())
    data = bytearray(source.read_bytes())
    for place, new in cuts:
        place %= len(data)
        data[place:place + len(new)] = new
        if not new:
            del data[place:]
            data += b"\n"
    found, said = None, ""
    try:
        found = read_sequence(put(tmp_path, bytes(data), "z" + which))
    except InputError as error:
        said = str(error)
    assert "\n" not in said
    if found is not None:
        assert np.isfinite(found.time_s).all()
        assert len(found) == len(found.frames)
