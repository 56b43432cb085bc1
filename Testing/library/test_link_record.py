"""The recorder by itself: which pose belongs to an image, what is left out, what stays when the disk is full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from IRAILib.geometry import InputError
from IRAILib.images.sequences import read_sequence
from IRAILib.link import record
from IRAILib.link.client import LinkClient
from IRAILib.link.messages import Image, TData, Tool, Transform
from IRAILib.link.record import Recorder, record_options
from IRAILib.link.record_pairing import pair
from link_raw_peer import RawServer, transform, until
from link_raw_peer import image as raw_image
from scipy.spatial.transform import Rotation


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word.lower() in text.lower(), f"{word!r} not in {text!r}"


def pose(number: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec([0.02 * number, 0.1, -0.03 * number]).as_matrix()
    matrix[:3, 3] = 3.0, 0.25 * number, -7.5
    return matrix


# ---------------------------------------------------------------------------------------------- pairing
def turning(times_s):
    """A tool that turns with 0.8 rad/s about a slanted axis and moves with 50 mm/s: the truth at any time."""
    axis = np.array([1.0, 2.0, -0.5]) / np.linalg.norm([1.0, 2.0, -0.5])
    found = np.tile(np.eye(4), (len(times_s), 1, 1))
    found[:, :3, :3] = Rotation.from_rotvec(0.8 * np.asarray(times_s)[:, None] * axis).as_matrix()
    found[:, :3, 3] = np.asarray(times_s)[:, None] * [50.0, -20.0, 3.0]
    return found


def test_poses_between_two_that_hold_are_interpolated():
    tracker_s, images_s = np.arange(0, 2, 0.0101), np.arange(0.1, 1.8, 1 / 30)
    found, words = pair(images_s, tracker_s, turning(tracker_s), ["OK"] * len(tracker_s), max_gap_s=0.2)
    assert words == ["OK"] * len(images_s)
    np.testing.assert_allclose(found, turning(images_s), atol=1e-9)


def test_nothing_is_invented_where_a_tool_was_lost():
    tracker_s = np.concatenate([np.arange(0, 0.5, 0.01003), np.arange(1.0, 1.5, 0.01003)])
    words_in = ["OK"] * len(tracker_s)
    words_in[-20] = "OUT_OF_VIEW"
    images_s = np.array([-0.1, 0.25, 0.7, 1.2, float(tracker_s[-20]) + 0.004, 1.9])
    found, words = pair(images_s, tracker_s, turning(tracker_s), words_in, max_gap_s=0.2)
    assert words == ["MISSING", "OK", "MISSING", "OK", "OUT_OF_VIEW", "MISSING"]
    np.testing.assert_array_equal(found[[0, 2, 4, 5]], np.tile(np.eye(4), (4, 1, 1)))


def test_a_sender_that_stamps_alike_is_not_interpolated():
    images_s = np.arange(10) / 30
    held = np.delete(images_s, 5)
    found, words = pair(images_s, held, turning(held), ["OK"] * 9, max_gap_s=1.0)
    assert words == ["MISSING" if number == 5 else "OK" for number in range(10)]
    np.testing.assert_array_equal(np.delete(found, 5, 0), turning(held))


# ---------------------------------------------------------------------------------------------- the recorder alone
def image(number, shape=(4, 5), device="Image_Reference", **more):
    return Image(np.full((1, *shape), number, np.uint8), pose(number), device=device, time_s=50.0 + number, **more)


def test_what_does_not_fit_is_left_out_and_said(tmp_path):
    recorder = Recorder(None, tmp_path / "a.igs.mha")
    recorder.take([image(0), image(1, (6, 5)), image(2, device="Other_Reference"), image(3),
                   Image(np.zeros((3, 4, 5), np.uint8), device="Image", time_s=54.0), image(5),
                   Transform(np.diag([0.0, 1, 1, 1]), device="BrokenToTracker", time_s=50.0)])
    result = recorder.stop()
    found = read_sequence(tmp_path / "a.igs.mha")
    assert list(found.frames[:, 0, 0]) == [0, 3, 5]
    assert sorted(result.skipped.values()) == [1, 1, 1]
    assert found.status["BrokenToTracker"] == ["INVALID", "MISSING", "MISSING"]
    assert found.header["RecordingStartTime"].startswith("1970-01-01T00:00:50")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.igs.mha"]


def test_nothing_received_leaves_nothing(tmp_path):
    recorder = Recorder(None, tmp_path / "a.igs.mha")
    refused(recorder.stop, "nothing was recorded")
    recorder.cancel()
    recorder = Recorder(None, tmp_path / "a.igs.mha")
    recorder.take([image(0)])
    recorder.cancel()
    Recorder(None, tmp_path / "new" / "folder" / "a.igs.mha").cancel()
    refused(lambda: Recorder(None, tmp_path / "a.avi"), ".igs.mha")
    refused(lambda: Recorder(None, "/proc/nowhere/a.igs.mha"), "can't be recorded")
    assert not list(tmp_path.iterdir())


def test_a_place_that_fails_at_the_end_loses_nothing(tmp_path):
    place = tmp_path / "gone"
    recorder = Recorder(None, place / "a.seq.nrrd")  # Slicer's sequence needs images, so writing this one fails
    recorder.take([Transform(pose(k), device="ProbeToTracker", time_s=50.0 + k) for k in range(3)])
    refused(recorder.stop, "tracker-only")
    assert recorder.stop(tmp_path / "b.igs.mha").frames == 3
    np.testing.assert_array_equal(read_sequence(tmp_path / "b.igs.mha").transforms["ProbeToTracker"],
                                  [pose(k) for k in range(3)])
    assert not place.exists()


def test_two_devices_never_share_a_name(tmp_path):
    recorder = Recorder(None, tmp_path / "a.igs.mha")
    places = {"Probe-1": 1.0, "Probe 1": 2.0, "Probe1": 3.0, "": 4.0, "-": 5.0}
    for device, place in places.items():
        matrix = np.eye(4)
        matrix[0, 3] = place
        recorder.take([Transform(matrix, device=device, time_s=50.0)])
    recorder.stop()
    found = read_sequence(tmp_path / "a.igs.mha").transforms
    assert {name: matrices[0, 0, 3] for name, matrices in found.items()} == {
        "Probe1": 1, "Probe1_2": 2, "Probe1_3": 3, "Tool": 4, "Tool_2": 5}


def test_a_clock_that_was_set_is_told(tmp_path):
    recorder = Recorder(None, tmp_path / "a.igs.mha")
    for number, time_s in enumerate((3600.0, 3600.1, 50.0, 50.1)):
        one = image(number)
        one.time_s = time_s
        recorder.take([one])
    result = recorder.stop()
    assert result.frames == 4
    assert "backwards in 1 place" in result.note


def test_what_came_just_before_the_plug_was_pulled_is_recorded(tmp_path):
    """All of it arrives in one piece with the end, before anybody could fetch it."""
    sent = b"".join(transform("ProbeToTracker", number) + raw_image("Image", bytes([number]) * 48, (8, 6, 1))
                    for number in range(40))
    with RawServer() as server, LinkClient("127.0.0.1", server.port, **record_options()) as client:
        peer = server.accept()
        peer.sendall(sent + transform("ProbeToTracker")[:70])
        peer.close()
        assert until(lambda: client.status().errors == 1)
        recorder = Recorder(client, tmp_path / "a.igs.mha").start()
        assert until(lambda: recorder.frames == 40)
        assert "after 40 images" in recorder.stop().note
    assert [int(frame[0, 0]) for frame in read_sequence(tmp_path / "a.igs.mha").frames] == list(range(40))


def test_tools_of_tracking_data_and_the_limit(tmp_path):
    recorder = Recorder(None, tmp_path / "a.igs.mha", max_bytes=45)
    for number in range(5):
        recorder.take([TData([Tool("Probe", matrix=pose(number))], device="TDATA_1Elem", time_s=50.0 + number),
                       image(number)])
    assert recorder.ended
    assert recorder.stop().frames == 2
    found = read_sequence(tmp_path / "a.igs.mha")
    np.testing.assert_array_equal(found.transforms["ProbeToTracker"], [pose(0), pose(1)])


def test_a_full_disk_keeps_what_was_stored(tmp_path, monkeypatch):
    recorder = Recorder(None, tmp_path / "a.igs.mha")
    recorder.take([image(0), image(1)])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder._spool, "add_frame", full)
    recorder.take([image(2), image(3)])
    assert recorder.ended
    result = recorder.stop()
    assert result.frames == len(read_sequence(tmp_path / "a.igs.mha")) == 2
    assert "No space" in result.note


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
def test_a_full_disk_keeps_the_poses_too(tmp_path):
    """The system itself refuses, in a process of its own: a file may grow to 12 kB and no further."""
    script = """
import resource, signal, sys
import numpy as np
from IRAILib.link.messages import Transform
from IRAILib.link.record import Recorder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recorder = Recorder(None, sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, resource.RLIM_INFINITY))
for number in range(1000):
    matrix = np.eye(4)
    matrix[0, 3] = number
    recorder.take([Transform(matrix, device="ProbeToTracker", time_s=50.0 + number)])
assert recorder.ended
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(recorder.poses, recorder.stop().note)
"""
    path = os.pathsep.join([str(Path(record.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.igs.mha")], capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": path}, timeout=60)
    assert done.returncode == 0, done.stderr
    count = int(done.stdout.split()[0])
    assert count >= 12_000 // 128
    assert "disk" in done.stdout
    found = read_sequence(tmp_path / "a.igs.mha").transforms["ProbeToTracker"]
    np.testing.assert_array_equal(found[:, 0, 3], np.arange(count))


def test_a_place_in_no_named_frame_is_kept(tmp_path):
    recorder = Recorder(None, tmp_path / "a.igs.mha")
    recorder.take([Image(np.zeros((1, 4, 5), np.uint8), pose(3), device="Picture", time_s=1.0),
                   Image(np.zeros((1, 4, 5), np.uint8), np.diag([0.2, 0.3, 1.0, 1.0]), device="Picture", time_s=2.0)])
    recorder.stop()
    found = read_sequence(tmp_path / "a.igs.mha")
    assert found.status["ImageToRAS"] == ["OK", "MISSING"]
    np.testing.assert_array_equal(found.transforms["ImageToRAS"][0], pose(3))
    assert found.spacing == pytest.approx((0.2, 0.3))


def test_colour_and_byte_order(tmp_path):
    pixels = (np.arange(60).reshape(1, 4, 5, 3) * 900).astype(">u2")
    recorder = Recorder(None, tmp_path / "a.igs.nrrd")
    recorder.take([Image(pixels, device="Image", time_s=1.0)])
    recorder.stop()
    np.testing.assert_array_equal(read_sequence(tmp_path / "a.igs.nrrd").frames, pixels)
