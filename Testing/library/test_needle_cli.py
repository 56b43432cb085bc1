"""`irai needle` from the command line: files in, tables out, one line for whatever is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.cli.link import split_peer
from IRAILib.cli.main import main
from IRAILib.cli.needle_simulate import burned_in
from IRAILib.geometry import InputError
from IRAILib.images.sequences import TrackedSequence, read_sequence, write_sequence
from IRAILib.needle.tips import COLUMNS, read_tips
from needle_frames import insertion, speckle, with_line

MM = 0.25


@pytest.fixture
def recording(tmp_path):
    """A plain recording of an insertion, with pixel size and a tracked probe, and its tips in mm."""
    frames, tips = insertion()
    probe = np.eye(4)
    probe[:3, 3] = (100.0, 0.0, -50.0)
    calibration = np.diag([MM, MM, MM, 1.0])
    status = ["OK"] * len(frames)
    status[-1] = "MISSING"
    poses = np.tile(probe, (len(frames), 1, 1))
    poses[-1] = np.eye(4)
    sequence = TrackedSequence(frames, np.arange(len(frames)) / 20, {"ProbeToReference": poses},
                               {"ProbeToReference": status}, spacing=(MM, MM),
                               header={"ImageToProbeTransform": " ".join(map(str, calibration.ravel()))})
    path = tmp_path / "insertion.igs.mha"
    write_sequence(path, sequence)
    return path, tips * MM


def test_track_writes_the_documented_table(recording, tmp_path) -> None:
    path, tips = recording
    out = tmp_path / "tips.csv"
    assert main(["needle", "track", str(path), "--out", str(out), "--detector", "classical"]) == 0
    assert out.read_text().splitlines()[0] == ",".join(COLUMNS)
    table, units = read_tips(out)
    assert units == "mm"
    assert len(table["time_s"]) == len(tips)
    assert table["status"][-1] == "seen"
    assert np.hypot(table["tip_x"][-1] - tips[-1, 0], table["tip_y"][-1] - tips[-1, 1]) < 1.0
    np.testing.assert_allclose(np.arctan2(table["dir_y"][-1], table["dir_x"][-1]), 0.5, atol=np.deg2rad(2))
    card = json.loads((tmp_path / "tips.csv.json").read_text())
    assert (card["units"], card["frame"]) == ("mm", "Image")
    assert card["scale"]["source"] == "recording"
    assert card["validated_on"]


def test_track_in_the_trackers_frame_is_lost_where_the_probe_was(recording, tmp_path) -> None:
    path, tips = recording
    out = tmp_path / "tips.csv"
    assert main(["needle", "track", str(path), "--out", str(out), "--detector", "classical",
                 "--frame", "tracked"]) == 0
    table, _ = read_tips(out)
    assert table["status"][-1] == "lost"
    assert np.isnan(table["tip_x"][-1])
    assert abs(table["tip_x"][-2] - 100.0 - tips[-2, 0]) < 1.0
    assert abs(table["tip_z"][-2] + 50.0) < 1e-3


def test_without_a_scale_the_header_says_pixels(recording, tmp_path) -> None:
    sequence = read_sequence(recording[0])
    bare = TrackedSequence(sequence.frames, sequence.time_s)
    write_sequence(tmp_path / "bare.mha", bare)
    out = tmp_path / "bare.csv"
    assert main(["needle", "track", str(tmp_path / "bare.mha"), "--out", str(out), "--detector", "classical"]) == 0
    assert "sigma_px" in out.read_text().splitlines()[0]
    assert read_tips(out)[1] == "px"


@pytest.mark.parametrize(("options", "word"), [
    (["--mm-per-px", "0.5"], "scale"), (["--mm-per-px", "0"], "positive"), (["--region", "1,2,3"], "region"),
    (["--region", "0,0,9999,9999"], "inside")])
def test_scales_and_regions_that_cannot_be_are_refused(recording, tmp_path, capsys, options, word) -> None:
    out = tmp_path / "none.csv"
    arguments = ["needle", "track", str(recording[0]), "--out", str(out), "--detector", "classical", *options]
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code in (2, 3)
    assert word in capsys.readouterr().err
    assert not out.exists()


def test_nothing_to_connect_to_is_said(tmp_path, capsys, monkeypatch) -> None:
    import IRAILib.cli.needle_track as track

    monkeypatch.setattr(track, "WAIT_S", 0.3)
    assert main(["needle", "track", "127.0.0.1:1", "--out", str(tmp_path / "x.csv"), "--detector", "classical"]) == 2
    assert "no image came" in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()


def test_detect_in_a_picture_gives_pixels_and_with_a_scale_mm(tmp_path) -> None:
    from PIL import Image

    rng = np.random.default_rng(8)
    frame = with_line(speckle(rng), (4, 60), (200, 150))
    Image.fromarray(frame).save(tmp_path / "needle.png")
    out = tmp_path / "needle.json"
    common = ["needle", "detect", str(tmp_path / "needle.png"), "--json", str(out), "--detector", "classical",
              "--region", "whole"]
    assert main(common) == 0
    document = json.loads(out.read_text())
    assert document["found"] is True
    assert document["units"] == "px"
    assert np.hypot(document["tip"][0] - 200, document["tip"][1] - 150) < 6
    assert document["sigma"] > 0
    assert main([*common, "--mm-per-px", "0.1"]) == 0
    scaled = json.loads(out.read_text())
    assert scaled["units"] == "mm"
    np.testing.assert_allclose(np.array(scaled["tip"]), np.array(document["tip"]) / 10, atol=0.05)


def test_detect_says_when_there_is_none(tmp_path) -> None:
    from PIL import Image

    Image.fromarray(speckle(np.random.default_rng(1))).save(tmp_path / "empty.png")
    out = tmp_path / "empty.json"
    assert main(["needle", "detect", str(tmp_path / "empty.png"), "--json", str(out), "--detector", "classical",
                 "--region", "whole"]) == 0
    document = json.loads(out.read_text())
    assert document["found"] is False
    assert document["tip"] is None


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n broken", b"nothing at all"])
def test_detect_refuses_damaged_pictures(tmp_path, capsys, content) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    assert main(["needle", "detect", str(path), "--json", str(tmp_path / "x.json")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "x.json").exists()


def test_simulate_writes_a_recording_and_its_truth(tmp_path) -> None:
    out = tmp_path / "sim.igs.mha"
    assert main(["needle", "simulate", "--frames", "4", "--seed", "3", "--size", "320x240", "--out", str(out)]) == 0
    sequence = read_sequence(out)
    table, units = read_tips(tmp_path / "sim.truth.csv")
    full = json.loads((tmp_path / "sim.truth.json").read_text())
    assert sequence.frames.shape == (4, 240, 320)
    assert units == "mm"
    assert len(full["frames"]) == len(table["time_s"]) == 4
    scale = sequence.spacing[0]
    assert scale == pytest.approx(full["mm_per_px"], rel=1e-6)
    np.testing.assert_allclose(table["tip_x"][0] / scale, full["frames"][0]["tip_px"][0], atol=1e-2)
    word = burned_in(np.zeros((240, 320), np.uint8)) > 100  # the word SIMULATED
    assert word.sum() > 20
    assert (sequence.frames[:, word] > 60).all()
    again = tmp_path / "again.igs.mha"
    main(["needle", "simulate", "--frames", "4", "--seed", "3", "--size", "320x240", "--out", str(again)])
    np.testing.assert_array_equal(read_sequence(again).frames, sequence.frames)


def test_simulate_refuses_names_and_numbers_that_cannot_be(tmp_path, capsys) -> None:
    assert main(["needle", "simulate", "--frames", "0", "--out", str(tmp_path / "a.mha")]) == 2
    assert main(["needle", "simulate", "--frames", "2", "--out", str(tmp_path / "a.avi")]) == 2
    with pytest.raises(SystemExit) as ended:
        main(["needle", "simulate", "--frames", "2", "--size", "100000x100000", "--out", str(tmp_path / "a.mha")])
    assert ended.value.code == 2
    assert not list(tmp_path.iterdir())


def test_hosts_are_read_as_people_write_them() -> None:
    assert split_peer("robot") == ("robot", 18944)
    assert split_peer("10.0.0.7:1234") == ("10.0.0.7", 1234)
    assert split_peer("[::1]:99") == ("::1", 99)
    assert split_peer("::1") == ("::1", 18944)
    with pytest.raises(InputError, match="port"):
        split_peer("host:99999")


def test_train_writes_a_network_that_the_detector_takes(tmp_path, capsys) -> None:
    """Seconds of training: no good network, but a whole one, with its card."""
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    from IRAILib.needle.ultrasound.network import NetworkDetector

    out = tmp_path / "net"
    assert main(["needle", "train", "--out", str(out), "--minutes", "0.02", "--seed", "3", "--held-out", "100"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["frames"] == 50
    detector = NetworkDetector(out / "needle_ultrasound.onnx")
    assert detector.card["training"]["seed"] == 3
    assert isinstance(detector.detect(np.zeros((3, 96, 128), np.uint8)).found, bool)
    assert (out / "network.pt").is_file()


def test_train_without_time_writes_nothing(tmp_path, capsys) -> None:
    assert main(["needle", "train", "--out", str(tmp_path / "net"), "--held-out", "5"]) == 2
    assert "100 held-out" in capsys.readouterr().err
    assert not (tmp_path / "net").exists()
