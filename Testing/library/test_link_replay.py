"""Replay, record, monitor: what was played is what is recorded, a lost tool is never its last pose.

Truth: the sequence itself, formulas, and pyigtl as a client that isn't ours.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from IRAILib.geometry import InputError
from IRAILib.images.sequences import TrackedSequence, read_sequence
from IRAILib.link.client import LinkClient
from IRAILib.link.messages import Image, Status, Transform
from IRAILib.link.monitor import LinkMonitor, monitor_options, render_table
from IRAILib.link.record import Recorder, record_options
from IRAILib.link.replay import ReplayServer
from IRAILib.link.replay_frames import find_chain, read_plus_config, split_name
from scipy.spatial.transform import Rotation

IMAGE_TO_PROBE = np.array([[0.0, 0.08, 0, 15.0], [-0.084, 0, 0, 49.0], [0, 0, 0.08, -8.6], [0, 0, 0, 1]])
DEADLINE_S = 60.0


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word.lower() in text.lower(), f"{word!r} not in {text!r}"


def until(condition, seconds=DEADLINE_S):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)


def pose(number: int, shift: float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec([0.02 * number, 0.1, -0.03 * number + shift]).as_matrix()
    matrix[:3, 3] = 3.0 + shift, 0.25 * number, -7.5
    return matrix


def recording(n=12, step_s=0.03, shape=(24, 40), seed=0) -> TrackedSequence:
    rng = np.random.default_rng(seed)
    poses = {"ProbeToTracker": np.stack([pose(k) for k in range(n)]),
             "ReferenceToTracker": np.stack([pose(2 * k, 1.5) for k in range(n)]),
             "StylusToTracker": np.stack([pose(-k, 4.0) for k in range(n)])}
    return TrackedSequence(rng.integers(0, 256, (n, *shape), dtype=np.uint8),
                           100.0 + np.cumsum(rng.uniform(0.5, 1.5, n)) * step_s, poses,
                           {name: ["OK"] * n for name in poses}, "MFA", [{"ImageStatus": "OK"} for _ in range(n)])


def record_all(sequence, path, *, announce_v2=True, **options):
    """(recording as read, messages in order) of a whole replay."""
    heard = []
    with (ReplayServer(sequence, wait_client=True, fifo_types={"IMAGE", "TRANSFORM"}, **options) as server,
          LinkClient("127.0.0.1", server.port, announce_v2=announce_v2, **record_options()) as client):
        recorder = Recorder(client, path, listen=heard.extend).start()
        assert server.wait(DEADLINE_S)
        wanted = int(sequence.image_valid().sum())
        until(lambda: recorder.frames >= wanted)
        assert server.error == ""
        result = recorder.stop()
    assert not [entry for entry in path.parent.iterdir() if entry.name.startswith(".")]
    found = read_sequence(path)
    assert result.frames == len(found)
    return found, heard


def expected_in_reference(sequence, number):
    poses = sequence.transforms
    return np.linalg.inv(poses["ReferenceToTracker"][number]) @ poses["ProbeToTracker"][number] @ IMAGE_TO_PROBE


# ---------------------------------------------------------------------------------------------- replay and record
@pytest.mark.parametrize("version2", [True, False])
def test_what_is_played_is_what_is_recorded(tmp_path, version2):
    first = recording()
    found, _ = record_all(first, tmp_path / "a.igs.mha", announce_v2=version2, image_to_probe=IMAGE_TO_PROBE,
                          transforms=["ProbeToReference"])
    np.testing.assert_array_equal(found.frames, first.frames)
    np.testing.assert_allclose(np.diff(found.time_s), np.diff(first.time_s), atol=2e-6)
    for name, matrices in first.transforms.items():
        assert found.status[name] == ["OK"] * len(first)
        np.testing.assert_array_equal(found.transforms[name], matrices.astype(np.float32))
        assert np.abs(found.transforms[name] - matrices).max() < 1e-5
    for number in range(len(first)):
        truth = expected_in_reference(first, number)
        np.testing.assert_allclose(found.transforms["ImageToReference"][number], truth, atol=1e-5)
        np.testing.assert_allclose(found.transforms["ProbeToReference"][number] @ IMAGE_TO_PROBE, truth, atol=1e-5)
    if version2:
        assert [float(fields["OriginalTimestamp"]) for fields in found.fields] == list(first.time_s)


def test_lost_tools_are_silence_and_recorded_as_missing(tmp_path):
    first = recording()
    first.status["StylusToTracker"][3:5] = ["MISSING", "OUT_OF_VIEW"]
    first.status["StylusToTracker"][8] = "INVALID"  # a single frame: nothing may be interpolated over it
    first.status["ReferenceToTracker"][6] = "OUT_OF_VIEW"
    found, heard = record_all(first, tmp_path / "a.igs.nrrd", image_to_probe=IMAGE_TO_PROBE,
                              transforms=["ProbeToReference"])
    for name, bad in (("StylusToTracker", {3, 4, 8}), ("ReferenceToTracker", {6}), ("ProbeToReference", {6}),
                      ("ImageToReference", {6}), ("ProbeToTracker", set())):
        words = ["MISSING" if number in bad else "OK" for number in range(len(first))]
        assert found.status[name] == words
        np.testing.assert_array_equal(found.transforms[name][sorted(bad)], np.tile(np.eye(4), (len(bad), 1, 1)))
    np.testing.assert_array_equal(found.frames, first.frames)  # the picture goes on without a pose
    devices = [message.device for message in heard if isinstance(message, Image)]
    assert devices == ["Image" if number == 6 else "Image_Reference" for number in range(len(first))]
    assert sum(message.device == "StylusToTracker" for message in heard) == len(first) - 3
    assert all(message.metadata["TransformStatus"] == "OK" for message in heard if isinstance(message, Transform))


def test_lost_tools_on_request_come_with_their_status(tmp_path):
    first = recording()
    first.status["StylusToTracker"][3:5] = ["MISSING", "OUT_OF_VIEW"]
    found, heard = record_all(first, tmp_path / "a.igs.mha", valid_only=False)
    assert found.status == {**first.status}
    said = [message.metadata["TransformValid"] for message in heard if message.device == "StylusToTracker"]
    assert said == ["false" if number in (3, 4) else "true" for number in range(len(first))]


@pytest.mark.parametrize("speed", [0.5, 4.0])
def test_speed_by_the_messages_time_stamps(tmp_path, speed):
    first = recording(n=8)
    began_s = time.time()
    _, heard = record_all(first, tmp_path / "a.igs.mha", speed=speed)
    stamps = np.array([message.time_s for message in heard if isinstance(message, Image)], dtype=float)
    np.testing.assert_allclose(np.diff(stamps) * speed, np.diff(first.time_s), atol=1e-5)
    assert began_s - 0.1 <= stamps[0] <= time.time()  # of now, not of the recording
    poses = np.array([message.time_s for message in heard if message.device == "ProbeToTracker"], dtype=float)
    np.testing.assert_array_equal(poses, stamps)


def test_a_tracker_only_recording(tmp_path):
    first = recording()
    first.frames, first.orientation = None, "XX"
    with (ReplayServer(first, wait_client=True, fifo_types={"TRANSFORM"}) as server,
          LinkClient("127.0.0.1", server.port, **record_options()) as client):
        recorder = Recorder(client, tmp_path / "t.igs.mha").start()
        assert server.wait(DEADLINE_S)
        until(lambda: recorder.poses == 3 * len(first))
        recorder.stop()
    found = read_sequence(tmp_path / "t.igs.mha")
    assert found.frames is None
    np.testing.assert_allclose(np.diff(found.time_s), np.diff(first.time_s), atol=2e-6)
    np.testing.assert_array_equal(found.transforms["StylusToTracker"],
                                  first.transforms["StylusToTracker"].astype(np.float32))


def test_a_server_that_dies_leaves_a_readable_recording(tmp_path):
    first = recording(n=400, step_s=0.01)
    path = tmp_path / "a.igs.mha"
    server = ReplayServer(first, wait_client=True).start()
    with LinkClient("127.0.0.1", server.port, **record_options()) as client:
        recorder = Recorder(client, path).start()
        until(lambda: recorder.frames >= 10)
        server.close()
        until(lambda: recorder.losses == 1)
        result = recorder.stop()
    found = read_sequence(path)
    assert 10 <= len(found) == result.frames < len(first)
    assert "lost" in result.note
    played = [next(k for k in range(len(first)) if np.array_equal(first.frames[k], frame)) for frame in found.frames]
    assert played == sorted(set(played))
    for number, source in enumerate(played):
        truth = first.transforms["ProbeToTracker"][source].astype(np.float32)
        if found.status["ProbeToTracker"][number] == "OK":
            np.testing.assert_array_equal(found.transforms["ProbeToTracker"][number], truth)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_late_client_starts_in_the_middle_and_all_get_the_same():
    first = recording(n=200, step_s=0.01)
    options = {"announce_v2": True, **record_options()}
    with (ReplayServer(first, loop=True, fifo_types={"IMAGE"}) as server,
          LinkClient("127.0.0.1", server.port, **options) as early):
        until(lambda: server.frame_number >= 20)
        with LinkClient("127.0.0.1", server.port, **options) as late:
            got = {}
            end = time.monotonic() + DEADLINE_S
            while (len(got.get("late", [])) < 20 or len(got.get("early", [])) < 20) and time.monotonic() < end:
                for name, client in (("early", early), ("late", late)):
                    got.setdefault(name, []).extend(m for m in client.drain() if isinstance(m, Image) and m.metadata)
                time.sleep(0.01)
    for messages in got.values():
        assert len(messages) >= 20
        for message in messages:
            np.testing.assert_array_equal(message.array[0], first.frames[int(message.metadata["FrameNumber"])])
    assert int(got["late"][0].metadata["FrameNumber"]) >= 20
    assert int(got["early"][0].metadata["FrameNumber"]) < int(got["late"][0].metadata["FrameNumber"])


def test_an_idle_server_says_that_it_lives():
    with (ReplayServer(recording(n=2), keepalive_s=0.05) as server,
          LinkClient("127.0.0.1", server.port) as client):
        assert server.wait(DEADLINE_S)
        heard = []
        until(lambda: heard.extend(m for m in client.drain() if isinstance(m, Status)) or len(heard) >= 3)
    assert {message.code for message in heard} == {1}


def test_pyigtl_reads_the_replay():
    pyigtl = pytest.importorskip("pyigtl")
    first = recording(n=6, step_s=0.05)
    with ReplayServer(first, loop=True, image_to_probe=IMAGE_TO_PROBE, fps=20) as server:
        client = pyigtl.OpenIGTLinkClient("127.0.0.1", server.port)
        try:
            seen, poses, end = {}, [], time.monotonic() + DEADLINE_S
            while (len(seen) < 6 or len(poses) < 6) and time.monotonic() < end:
                for message in client.get_latest_messages():
                    if message.device_name == "Image_Reference":
                        number = next(k for k in range(6) if np.array_equal(message.image[0], first.frames[k]))
                        seen[number] = np.array(message.ijk_to_world_matrix)
                    elif message.device_name == "ProbeToTracker":
                        poses.append(np.array(message.matrix))
                time.sleep(0.005)
        finally:
            client.stop()
    assert sorted(seen) == list(range(6))
    truths = first.transforms["ProbeToTracker"]
    assert all(np.abs(truths - found).max(axis=(1, 2)).min() < 1e-5 for found in poses)
    for number, matrix in seen.items():
        np.testing.assert_allclose(matrix, expected_in_reference(first, number), atol=1e-4)


def test_what_can_not_be_played_is_refused():
    plain = TrackedSequence(np.zeros((2, 3, 4), np.uint8), np.arange(2.0), timed=False)
    refused(lambda: ReplayServer(plain), "fps")
    for wrong in ({"speed": 0}, {"speed": -1}, {"fps": float("nan")}, {"transforms": ["ProbeToMoon"]},
                  {"image_frame": "Moon"}, {"image_to_probe": np.zeros((4, 4))}, {"calibration": {"ImageToProbe": [1]}},
                  {"calibration": {"ImageToProbe": np.full((4, 4), np.nan)}}):
        refused(lambda wrong=wrong: ReplayServer(recording(n=2), **wrong), "replay")
    with ReplayServer(recording(n=2)) as server:
        refused(ReplayServer(recording(n=2), server.port).start, "port")


def test_the_recordings_own_calibration_and_orientation():
    sequence = recording(n=2)
    sequence.header["ImageToProbeTransform"] = " ".join(str(n) for n in IMAGE_TO_PROBE.reshape(-1))
    sequence.orientation = "UNA"
    server = ReplayServer(sequence)
    assert server.image_device == "Image_Reference"
    image = server.messages(1)[-1]
    np.testing.assert_allclose(image.ras_from_ijk, expected_in_reference(sequence, 1), atol=1e-12)
    np.testing.assert_array_equal(image.array[0], sequence.frames[1, ::-1, ::-1])
    assert ReplayServer(sequence, image_frame="Probe").image_device == "Image_Probe"
    assert ReplayServer(recording(n=2)).image_device == "Image"


# ---------------------------------------------------------------------------------------------- names and files
def test_names_and_chains():
    assert split_name("TransducerOriginPixelToTransducerOrigin") == ("TransducerOriginPixel", "TransducerOrigin")
    assert split_name("ToolToTracker") == ("Tool", "Tracker")
    assert split_name("StylusTipToStylus") == ("StylusTip", "Stylus")
    assert [split_name(name) for name in ("Probe", "AToBToC", "ToTracker", "Atop", "AToB C", "ProbeTo")] == [None] * 6
    rng = np.random.default_rng(1)
    known = {name: (pose(int(rng.integers(50)), float(rng.normal())), "OK")
             for name in ("ImageToProbe", "ProbeToTracker", "ReferenceToTracker", "NeedleToTracker")}
    chain = find_chain("ReferenceToImage", known)
    truth = np.linalg.inv(known["ImageToProbe"][0]) @ np.linalg.inv(known["ProbeToTracker"][0]) @ known[
        "ReferenceToTracker"][0]
    np.testing.assert_allclose(chain.of(known)[0], truth, atol=1e-12)
    known["ProbeToTracker"] = (known["ProbeToTracker"][0], "OUT_OF_VIEW")
    assert chain.of(known)[1] == "OUT_OF_VIEW"
    assert find_chain("NeedleToMoon", known) is None
    assert find_chain("NeedleToNeedle", known) is None


CONFIG = ('<PlusConfiguration version="2.1"><CoordinateDefinitions><Transform From="Image" To="Probe" Matrix="'
          "0 0.08 0 15  -0.084 0 0 49  0 0 0.08 -8.6  0 0 0 1\" Error=\"1\"/></CoordinateDefinitions>"
          "</PlusConfiguration>")


def test_plus_configurations(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(CONFIG)
    np.testing.assert_array_equal(read_plus_config(path)["ImageToProbe"], IMAGE_TO_PROBE)
    twice = CONFIG.replace("<CoordinateDefinitions>", '<CoordinateDefinitions><Transform From="Image" To="Probe" '
                           'Matrix="1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"/>')
    for text, word in ((CONFIG[:-30], "XML"), (CONFIG.replace("49", "x"), "numbers"), (CONFIG.replace("49", ""), "15"),
                       (CONFIG.replace("0.08 0 15", "0 0 15"), "singular"), (CONFIG.replace("49", "inf"), "finite"),
                       (CONFIG.replace('To="Probe"', ""), "To"), ("<a/>", "CoordinateDefinitions"), (twice, "twice"),
                       ('<!DOCTYPE a [<!ENTITY b "c">]>' + CONFIG, "entities"), ("", "XML")):
        path.write_text(text)
        refused(lambda: read_plus_config(path), "a.xml", word)
    refused(lambda: read_plus_config(tmp_path / "none.xml"), "none.xml")


def test_a_client_of_version_1_gets_long_names_cut_and_never_two_tools_under_one(tmp_path):
    long, twins = "TransducerOriginPixelToTracker", ("StylusCalibratedTipToTracker", "StylusCalibratedTipToReference")
    sequence = recording(n=40)
    poses = sequence.transforms["ProbeToTracker"]
    for name in (long, *twins):
        sequence.transforms[name], sequence.status[name] = poses + 0, ["OK"] * 40
    for version2, expected in ((False, {long[:20]}), (True, {long, *twins})):
        _, heard = record_all(sequence, tmp_path / "out.igs.mha", announce_v2=version2)
        names = {message.device for message in heard if message.wire_type == "TRANSFORM"}
        assert {name for name in names if name.startswith(("Tra", "StylusC"))} == expected
        assert "ProbeToTracker" in names


# ---------------------------------------------------------------------------------------------- monitor
def states(monitor):
    return {device.device: device.state for device in monitor.report().devices if device.type != "STATUS"}


def test_the_monitor_shows_a_lost_tool_as_lost():
    sequence = recording(n=3000, step_s=0.02)
    sequence.status["StylusToTracker"][100:] = ["MISSING"] * 2900
    server = ReplayServer(sequence, wait_client=True).start()
    with LinkClient("127.0.0.1", server.port, **monitor_options()) as client:
        monitor = LinkMonitor(client, stale_s=0.3)
        until(lambda: monitor.look(0.02) is not None and states(monitor).get("StylusToTracker") == "ok")
        expected = {"Image": "ok", "ProbeToTracker": "ok", "ReferenceToTracker": "ok", "StylusToTracker": "lost"}
        until(lambda: monitor.look(0.02) is not None and states(monitor) == expected)
        report = monitor.report()
        stylus = next(device for device in report.devices if device.device == "StylusToTracker")
        assert stylus.losses >= 1
        assert stylus.lost_s >= 0.3
        line = next(line for line in render_table(report).splitlines() if "StylusToTracker" in line)
        assert "lost" in line
        assert " mm" not in line
        assert "StylusToTracker" in report.lost()
        probe = next(device for device in report.devices if device.device == "ProbeToTracker")
        assert 0 < probe.rate_hz < 100
        assert probe.latency_p50_ms <= probe.latency_p95_ms
        server.close()
        until(lambda: monitor.look(0.02) is not None and set(states(monitor).values()) == {"lost"})
        assert "nothing" not in render_table(monitor.report())
        assert monitor.report().to_dict()["devices"]


def test_the_monitor_believes_a_senders_word():
    sequence = recording(n=60, step_s=0.02)
    sequence.status["StylusToTracker"] = ["OUT_OF_VIEW"] * 60
    with (ReplayServer(sequence, wait_client=True, valid_only=False) as server,
          LinkClient("127.0.0.1", server.port, announce_v2=True, **monitor_options()) as client):
        monitor = LinkMonitor(client, stale_s=5.0)
        until(lambda: monitor.look(0.02) is not None and states(monitor).get("StylusToTracker") == "OUT_OF_VIEW")
        assert states(monitor)["ProbeToTracker"] == "ok"
