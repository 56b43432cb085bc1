"""The ultrasound needle network: the file that comes with IRAI, and what it does with simple and bad pictures."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys

import numpy as np
import pytest
from IRAILib.geometry import InputError, MissingPackageError
from IRAILib.needle.ultrasound import network
from IRAILib.needle.ultrasound.features import canvas_from_frame, frame_px_from_map, map_from_frame_px
from IRAILib.needle.ultrasound.network import WEIGHTS, NetworkDetector, decode, fit_line, peak
from IRAILib.needle.ultrasound.simulator import simulate_sequence

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def detector():
    return NetworkDetector()


def test_the_card_is_that_of_the_file():
    card = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert card["sha256"] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert card["licence"] == "Apache-2.0"
    assert card["limits"]
    assert card["held_out_simulator"]["frames"] >= 300
    assert WEIGHTS.stat().st_size < 5_000_000


def test_fresh_needles_are_found(detector):
    """Seeds beyond those of the card's figures; a loose bound, the figures are in the benchmark."""
    errors, given, counted, false, free = [], 0, 0, 0, 0
    for seed in range(50_000, 50_040):
        sequence = simulate_sequence(3, seed, domain="held-out", size=(640, 480))
        truth, found = sequence.truth[-1], detector.detect(sequence.frames)
        tip = found.found and found.in_plane >= 0.5
        if truth.counted:
            counted += 1
            given += tip
            if tip:
                errors.append(np.linalg.norm(found.tip_px - truth.tip_px) * sequence.mm_per_px)
        elif not truth.present:
            free += 1
            false += tip
    assert counted >= 10
    assert given >= 0.7 * counted
    assert np.median(errors) < 1.0
    assert false <= 0.1 * free


def test_nothing_is_found_where_nothing_is(detector):
    rng = np.random.default_rng(1)
    for frames in (np.zeros((3, 480, 640), np.uint8), np.full((3, 480, 640), 200, np.uint8),
                   rng.integers(0, 256, (3, 480, 640), dtype=np.uint8),
                   np.clip(rng.normal(60, 20, (1, 300, 400)), 0, 255).astype(np.uint8)):
        found = detector.detect(frames)
        assert not (found.found and found.in_plane >= 0.5)


@pytest.mark.parametrize("frames", [np.zeros((3, 480, 640)), np.zeros((2, 3, 480, 640), np.uint8),
                                    np.zeros((0, 480, 640), np.uint8), np.zeros((1, 8, 8), np.uint8)])
def test_other_arrays_are_refused(detector, frames):
    with pytest.raises(InputError):
        detector.detect(frames)


def test_another_file_than_the_card_s_is_refused(tmp_path):
    copy = tmp_path / "net.onnx"
    shutil.copy(WEIGHTS, copy)
    with pytest.raises(InputError, match="missing"):
        NetworkDetector(copy)
    shutil.copy(WEIGHTS.with_suffix(".json"), copy.with_suffix(".json"))
    NetworkDetector(copy)
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    with pytest.raises(InputError, match="checksum"):
        NetworkDetector(copy)
    copy.with_suffix(".json").write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        NetworkDetector(copy)


def test_without_onnxruntime_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match="pip install onnxruntime"):
        NetworkDetector()


def test_torch_is_not_needed_to_detect():
    assert "torch" not in vars(network)


@pytest.mark.parametrize("angle", [-8, 0, 10, 37, 80, 130, 185])
def test_a_drawn_line_is_fitted_to_a_tenth_of_a_pixel(angle):
    y, x = np.mgrid[0:96, 0:128].astype(float)
    direction = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    tip = np.array([64.3, 47.8])
    along = (x - tip[0]) * direction[0] + (y - tip[1]) * direction[1]
    across = -(x - tip[0]) * direction[1] + (y - tip[1]) * direction[0]
    shaft = np.exp(-across**2 / 2) * (along < 0) * (along > -38)
    heat = -((x - tip[0]) ** 2 + (y - tip[1]) ** 2) / (2 * 1.1**2)
    assert np.allclose(peak(heat), tip, atol=0.05)
    found = fit_line(shaft, peak(heat))
    assert found is not None
    assert np.allclose(found.tip, tip, atol=0.1)
    assert np.degrees(np.arccos(np.clip(found.direction @ direction, -1, 1))) < 0.3
    assert np.linalg.norm(found.entry - (tip - 38 * direction)) < 3.5
    assert 0 < found.angle_sigma_deg < 5
    assert found.ahead < 0.05


def _strokes(*strokes):
    """(96, 128) map of straight strokes ((x, y) from, (x, y) to, level)."""
    y, x = np.mgrid[0:96, 0:128].astype(float)
    result = np.zeros((96, 128))
    for start, end, level in strokes:
        start, end = np.array(start, float), np.array(end, float)
        part = np.clip(((x - start[0]) * (end - start)[0] + (y - start[1]) * (end - start)[1])
                       / ((end - start) @ (end - start)), 0, 1)
        off = np.hypot(x - start[0] - part * (end - start)[0], y - start[1] - part * (end - start)[1])
        result = np.maximum(result, level * np.exp(-off**2 / 2))
    return result


def test_a_strand_far_away_does_not_turn_the_line():
    """Found on simulated frames: the moment of far pixels won over the shaft by the tip."""
    shaft = _strokes(((5, 50), (35, 60), 1.0), ((90, 5), (125, 25), 0.9))
    line = fit_line(shaft, np.array([35.0, 60.0]))
    assert line is not None
    truth = np.array([30.0, 10.0]) / np.hypot(30, 10)
    assert np.degrees(np.arccos(np.clip(line.direction @ truth, -1, 1))) < 1.0
    assert np.linalg.norm(line.entry - [5, 50]) < 4


@pytest.mark.parametrize("gap", [(60, 60), (40, 55)])
def test_of_two_places_for_the_tip_the_end_of_the_shaft_is_taken(gap):
    """The other place is where the shaft enters, or the edge of a gap: there the shaft goes on."""
    edges = [(x, x * 0.6 + 14) for x in gap]
    shaft = np.clip(_strokes(((10, 20), edges[0], 1.0), (edges[1], (90, 68), 1.0)), 1e-4, 1 - 1e-4)
    y, x = np.mgrid[0:96, 0:128].astype(float)
    heat = np.full((96, 128), -9.0)
    for at, height in (((90, 68), 5.0), ((10, 20), 6.0), (edges[0], 5.5)):
        heat = np.maximum(heat, height - ((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 1.1**2))
    tip, line, signs = decode(np.stack([heat, np.log(shaft / (1 - shaft))]), np.zeros(6))
    assert line is not None
    assert np.linalg.norm(tip - [90, 68]) < 0.5
    assert np.linalg.norm(line.entry - [10, 20]) < 4
    assert len(signs) == network.SIGNS


def test_no_shaft_by_the_tip_gives_no_line():
    assert fit_line(np.zeros((96, 128)), np.array([64.0, 48.0])) is None


@pytest.mark.parametrize("shape", [(480, 640), (616, 820), (960, 1280), (512, 512), (100, 60)])
def test_pixels_survive_the_way_to_the_canvas_and_back(shape):
    points = np.array([[0.0, 0.0], [shape[1] - 1, shape[0] - 1], [17.25, 31.5]])
    assert np.allclose(frame_px_from_map(map_from_frame_px(points, shape), shape), points)
    frame = np.zeros(shape, np.uint8)
    row, column = shape[0] // 3, shape[1] // 2
    frame[row - 2:row + 3, column - 2:column + 3] = 255
    canvas = canvas_from_frame(frame)
    y, x = np.mgrid[0:canvas.shape[0], 0:canvas.shape[1]]
    centre = np.array([(canvas * x).sum(), (canvas * y).sum()]) / canvas.sum()
    assert np.allclose((centre + 0.5) / 2 - 0.5, map_from_frame_px(np.array([column, row]), shape), atol=0.15)
