"""PLUS's own recordings: read as SimpleITK reads them, written and read again without a change, and by Slicer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from IRAILib.images.sequences import read_sequence, write_sequence
from IRAILib.link.client import LinkClient
from IRAILib.link.record import Recorder, record_options
from IRAILib.link.replay import ReplayServer
from IRAILib.link.replay_frames import read_plus_config

pytestmark = pytest.mark.data

EXPECTED = {  # file: (frames, size, tools seen in how many frames); from the headers, read by eye
    "SpinePhantomFreehand.igs.mha": (21, [616, 820], {"Probe": 21, "Reference": 21, "Stylus": 21}),
    "NwirePhantomFreehand.igs.mha": (97, [616, 820], {"Probe": 97, "Reference": 97, "Stylus": 0}),
    "fCal_Test_Calibration_3NWires_fCal2.0.igs.mha": (190, [616, 820], {"Probe": 190, "Reference": 190, "Stylus": 190}),
    "WaterTankBottomTranslationVideoBuffer.igs.mha": (201, [616, 820], {}),
    "WaterTankBottomTranslationTrackerBuffer-trimmed.igs.mha": (801, None, {"Probe": 801, "Reference": 801,
                                                                           "Stylus": 801}),
    "ReferenceToRASCalibration.igs.mha": (93, None, {"Reference": 93, "Stylus": 93}),
    "SpinePhantomFreehandReconstructed.mha": (104, [106, 147], {}),
    "NwirePhantomFreehandReconstructed.mha": (74, [104, 101], {}),
}


@pytest.fixture(scope="session")
def plus(data) -> Path:
    return data / "tracked_ultrasound" / "plus"


def printed(path: Path) -> dict[str, str]:
    """The frame fields as they stand in the file, taken with another tool than the reader (a regular expression)."""
    head = path.read_bytes().partition(b"ElementDataFile")[0].decode("latin-1")
    return {key: value.strip() for key, value in re.findall(r"(Seq_Frame\d+_\w+) = ([^\r\n]*)", head)}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_recording_is_what_its_header_says(plus, name):
    count, size, tools = EXPECTED[name]
    found = read_sequence(plus / name)
    said = found.to_dict()
    assert (said["frames"], said["size"]) == (count, size)
    assert said["tools"] == {f"{tool}ToTracker": seen for tool, seen in tools.items()}
    texts = printed(plus / name)
    for number in (0, count // 2, count - 1) if texts else ():
        assert found.time_s[number] == float(texts[f"Seq_Frame{number:04d}_Timestamp"])
        for tool in tools:
            text = texts[f"Seq_Frame{number:04d}_{tool}ToTrackerTransform"]
            assert found.transforms[f"{tool}ToTracker"][number].reshape(-1).tolist() == [float(n) for n in text.split()]
    if size:
        np.testing.assert_array_equal(found.frames, sitk.GetArrayFromImage(sitk.ReadImage(str(plus / name))))


@pytest.mark.parametrize("suffix", [".igs.mha", ".igs.nrrd", ".igs.mhd"])
@pytest.mark.parametrize("name", ["SpinePhantomFreehand.igs.mha", "NwirePhantomFreehand.igs.mha",
                                  "ReferenceToRASCalibration.igs.mha"])
def test_written_and_read_again(plus, tmp_path, name, suffix):
    first = read_sequence(plus / name)
    write_sequence(tmp_path / f"a{suffix}", first)
    again = read_sequence(tmp_path / f"a{suffix}")
    if first.frames is None:
        assert again.frames is None
    else:
        np.testing.assert_array_equal(again.frames, first.frames)
    np.testing.assert_array_equal(again.time_s, first.time_s)
    assert (again.status, again.fields, again.orientation) == (first.status, first.fields, first.orientation)
    for tool, matrices in first.transforms.items():
        np.testing.assert_array_equal(again.transforms[tool], matrices)
    if suffix == ".igs.mha":  # the file's own words are the same numbers
        ours = printed(tmp_path / "a.igs.mha")
        for key, text in printed(plus / name).items():
            if key.endswith("Transform"):
                assert [float(n) for n in ours[key].split()] == [float(n) for n in text.split()]
            elif not key.endswith(("Timestamp", "UnfilteredTimestamp")):
                assert ours[key] == text


SLICER = textwrap.dedent("""
    import json, sys
    import numpy as np, slicer
    from vtk.util.numpy_support import vtk_to_numpy
    scene = slicer.vtkMRMLScene()
    for name in ("vtkMRMLScalarVolumeNode", "vtkMRMLSequenceNode", "vtkMRMLVolumeSequenceStorageNode"):
        scene.RegisterNodeClass(getattr(slicer, name)())
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    store = scene.AddNewNodeByClass("vtkMRMLVolumeSequenceStorageNode")
    store.SetFileName(sys.argv[1])
    assert store.ReadData(sequence)
    nodes = [sequence.GetNthDataNode(n) for n in range(sequence.GetNumberOfDataNodes())]
    frames = [vtk_to_numpy(n.GetImageData().GetPointData().GetScalars()).reshape(
        n.GetImageData().GetDimensions()[1::-1]) for n in nodes]
    np.save(sys.argv[2], np.stack(frames))
    store.SetFileName(sys.argv[3])
    assert store.WriteData(sequence)
    print(json.dumps({"times": [float(sequence.GetNthIndexValue(n)) for n in range(len(nodes))],
                      "unit": sequence.GetIndexUnit(), "spacing": list(nodes[0].GetSpacing())}))
""")


def test_slicer_reads_it_and_we_read_slicers(plus, tmp_path):
    pytest.importorskip("slicer")
    first = read_sequence(plus / "SpinePhantomFreehand.igs.mha")
    first.spacing = (0.25, 0.5)
    write_sequence(tmp_path / "a.seq.nrrd", first)
    done = subprocess.run([sys.executable, "-c", SLICER, str(tmp_path / "a.seq.nrrd"), str(tmp_path / "a.npy"),
                           str(tmp_path / "b.seq.nrrd")], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), first.frames)
    np.testing.assert_allclose(said["times"], first.time_s, rtol=1e-12)
    assert said["unit"] == "s"
    np.testing.assert_allclose(said["spacing"], (0.25, 0.5, 1))
    again = read_sequence(tmp_path / "b.seq.nrrd")
    np.testing.assert_array_equal(again.frames, first.frames)
    np.testing.assert_allclose(again.time_s, first.time_s, rtol=1e-12)
    np.testing.assert_allclose(again.spacing, (0.25, 0.5))


# ---------------------------------------------------------------------------------------------- played and recorded
def numbers_of_config(path: Path, source: str, target: str) -> np.ndarray:
    """A matrix of a PLUS configuration, taken with a regular expression and not with the reader under test."""
    found = re.search(rf'From="{source}" To="{target}"\s+Matrix="([^"]*)"', path.read_text())
    assert found
    return np.array(found[1].split(), dtype=float).reshape(4, 4)


def test_a_recording_played_and_recorded_is_the_same(plus, tmp_path):
    """Bit for bit the pixels, to float32 the transforms; ImageToReference by the published calibration."""
    first = read_sequence(plus / "SpinePhantomFreehand.igs.mha")
    config = plus / "config" / "PlusDeviceSet_SpinePhantomFreehandReconstructionOnly.xml"
    with (ReplayServer(first, calibration=read_plus_config(config), wait_client=True,
                       fifo_types={"IMAGE", "TRANSFORM"}) as server,
          LinkClient("127.0.0.1", server.port, **record_options()) as client):
        recorder = Recorder(client, tmp_path / "a.igs.mha").start()
        assert server.wait(60)
        end = time.monotonic() + 60
        while recorder.frames < len(first) and time.monotonic() < end:
            time.sleep(0.01)
        recorder.stop()
    found = read_sequence(tmp_path / "a.igs.mha")
    np.testing.assert_array_equal(found.frames, first.frames)
    np.testing.assert_allclose(np.diff(found.time_s), np.diff(first.time_s), atol=2e-6)
    image_to_probe = numbers_of_config(config, "Image", "Probe")
    for tool, matrices in first.transforms.items():
        assert found.status[tool] == first.status[tool]
        np.testing.assert_array_equal(found.transforms[tool], matrices.astype(np.float32))
    poses = first.transforms
    truth = np.linalg.inv(poses["ReferenceToTracker"]) @ poses["ProbeToTracker"] @ image_to_probe
    corners = np.array([[0, 0, 0, 1], [819, 0, 0, 1], [0, 615, 0, 1], [819, 615, 0, 1]], dtype=float).T
    distance_mm = np.abs(found.transforms["ImageToReference"] @ corners - truth @ corners).max()
    assert distance_mm < 1e-3


def test_an_invalid_tool_of_a_recording_stays_silent(plus):
    """NwirePhantomFreehand's stylus is INVALID throughout: pyigtl hears probe and reference, never the stylus."""
    pyigtl = pytest.importorskip("pyigtl")
    first = read_sequence(plus / "NwirePhantomFreehand.igs.mha")
    heard: dict[str, list] = {}
    with ReplayServer(first, loop=True, image_to_probe=numbers_of_config(
            plus / "config" / "PlusDeviceSet_NwirePhantomFreehand_vtkVolumeReconstructorTest2.xml", "Image",
            "Probe")) as server:
        client = pyigtl.OpenIGTLinkClient("127.0.0.1", server.port)
        try:
            end = time.monotonic() + 60
            while len(heard.get("Image_Reference", [])) < 5 and time.monotonic() < end:
                for message in client.get_latest_messages():
                    heard.setdefault(message.device_name, []).append(message)
                time.sleep(0.01)
        finally:
            client.stop()
    assert "StylusToTracker" not in heard
    assert {"ProbeToTracker", "ReferenceToTracker"} <= set(heard)
    for message in heard["Image_Reference"]:
        assert any(np.array_equal(message.image[0], frame) for frame in first.frames)
