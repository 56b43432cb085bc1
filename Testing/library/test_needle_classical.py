"""The classical detector on lines drawn by formula into speckle; its line sums against a loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from IRAILib.geometry import InputError
from IRAILib.needle.ultrasound import Detector, FrameDetection
from IRAILib.needle.ultrasound.classical import ClassicalDetector, _clipped, _profile
from IRAILib.needle.ultrasound.lines import line_pieces, refine_line, ridge_image, sample_band, strip_sums
from IRAILib.needle.ultrasound.region import whole_picture
from scipy import ndimage

SHAPE = (384, 512)


def speckle(seed: int, level: float = 60.0) -> np.ndarray:
    """(h, w) log-compressed fully developed speckle."""
    generator = np.random.default_rng(seed)
    real, imaginary = (ndimage.gaussian_filter(generator.normal(size=SHAPE), (2.0, 3.5)) for _ in range(2))
    decibel = 10 * np.log10(real**2 + imaginary**2)
    return level + 3.0 * (decibel - decibel.mean())


def with_shaft(image: np.ndarray, entry, tip, brightness: float = 130.0, half: float = 2.5) -> np.ndarray:
    """The image with a straight shaft from entry to tip (x, y)."""
    entry, tip = np.asarray(entry, float), np.asarray(tip, float)
    length = np.linalg.norm(tip - entry)
    axis = (tip - entry) / length
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    along = (x - entry[0]) * axis[0] + (y - entry[1]) * axis[1]
    across = (x - entry[0]) * -axis[1] + (y - entry[1]) * axis[0]
    shaft = np.exp(-0.5 * (across / half) ** 2) * (along >= 0) / (1 + np.exp((along - length) / 1.5))
    return image + brightness * shaft


def as_frame(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 255).astype(np.uint8)[None]


def found(image: np.ndarray) -> FrameDetection:
    return ClassicalDetector(region=whole_picture(SHAPE)).detect(as_frame(image))


def test_strip_sums_are_sums_along_lines() -> None:
    image = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)
    levels = strip_sums(image)
    assert [level.shape[:2] for level in levels] == [(8, 2), (4, 4), (2, 8), (1, 16)]
    ones = strip_sums(np.ones((24, 16), np.float32))
    np.testing.assert_allclose(levels[-1][0, 0, :24], image.sum(1), rtol=1e-4, atol=1e-5)  # level lines
    np.testing.assert_allclose(levels[-1][0, 15, 3], sum(image[3 + k, k] for k in range(16)), rtol=1e-4)
    np.testing.assert_allclose(levels[1][2, 3, 5], sum(image[5 + k, 8 + k] for k in range(4)), rtol=1e-4)
    for level in range(4):  # a line takes one pixel of every column, and rows outside count as nothing
        assert ones[level][:, :, :8].min() == pytest.approx(2 ** (level + 1))
        assert ones[level].max() == pytest.approx(2 ** (level + 1))


def test_a_drawn_line_has_the_highest_integral_and_is_refined_to_a_tenth() -> None:
    entry, tip = np.array([20.0, 60.0]), np.array([460.0, 300.0])
    image = with_shaft(speckle(1), entry, tip)
    best = line_pieces(ridge_image(image[::4, ::4], 1.2))[0]
    line = refine_line(ndimage.gaussian_filter(image, 1.0), best.start * 4, best.end * 4, 12.0)
    axis = (tip - entry) / np.linalg.norm(tip - entry)
    assert np.degrees(np.arccos(min(abs(line.direction @ axis), 1.0))) < 0.3
    offset = (line.point - entry) @ np.array([-axis[1], axis[0]])
    assert abs(offset) < 0.5
    assert line.sigma_across < 0.5


def test_a_band_is_sampled_where_it_lies() -> None:
    y, x = np.mgrid[:50, :60]
    values, along, across = sample_band(x + 100.0 * y, np.array([10.0, 5.0]), np.array([0.6, 0.8]), 20.0, 2.0)
    truth = (10 + 0.6 * along[:, None] - 0.8 * across) + 100 * (5 + 0.8 * along[:, None] + 0.6 * across)
    np.testing.assert_allclose(values, truth, atol=1e-6)


@pytest.mark.parametrize(("entry", "tip"), [((0, 60), (300, 210)), ((511, 80), (200, 250)), ((0, 30), (240, 290))])
def test_a_shaft_that_ends_in_speckle_is_found_to_its_tip(entry, tip) -> None:
    for seed in (0, 1):
        detection = found(with_shaft(speckle(seed), entry, tip))
        assert detection.found
        assert detection.confidence >= 0.5
        assert np.linalg.norm(detection.tip_px - np.array(tip, float)) < 8.0
        axis = np.subtract(tip, entry) / np.linalg.norm(np.subtract(tip, entry))
        assert np.degrees(np.arccos(detection.direction @ axis)) < 1.0
        assert detection.direction[1] > 0
        assert detection.sigma_px < 15.0


def test_speckle_alone_holds_no_needle() -> None:
    assert sum(found(speckle(seed)).found for seed in range(10, 18)) == 0


def test_a_line_from_edge_to_edge_is_a_layer() -> None:
    assert not found(with_shaft(speckle(2), (0, 150), (511, 190))).found
    black = with_shaft(np.zeros(SHAPE), (0, 150), (511, 170))
    assert not found(black).found


def test_black_and_dots_hold_no_needle() -> None:
    assert not found(np.zeros(SHAPE)).found
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    dots = sum(250 * np.exp(-((x - a) / 10) ** 2 - ((y - b) / 4) ** 2) for a, b in ((100, 90), (300, 95), (180, 220)))
    assert not found(dots).found


def test_what_is_no_frame_is_refused() -> None:
    detector = ClassicalDetector()
    assert isinstance(detector, Detector)
    for wrong in (np.zeros((1, 64, 64)), np.zeros((0, 64, 64), np.uint8), np.zeros((1, 64, 64, 3), np.uint8),
                  np.zeros((1, 8, 8), np.uint8)):
        with pytest.raises(InputError):
            detector.detect(wrong)
    with pytest.raises(InputError):
        FrameDetection(found=True)
    with pytest.raises(InputError):
        FrameDetection(found=True, tip_px=np.array([np.nan, 1]), direction=np.ones(2), covariance_px=np.eye(2))
    with pytest.raises(InputError):
        FrameDetection(found=False, confidence=2.0)


def test_a_line_without_direction_has_no_profile() -> None:
    """Two equal ends give no direction: it must not be followed for a thousand million pixels."""
    image = np.zeros((64, 64), np.float32)
    place = np.array([30.0, 30.0])
    line = refine_line(image, place, place, 4.0)
    for direction in (line.direction, np.array([np.nan, 0.0])):
        assert _clipped(line.point, direction, image.shape) == (0.0, 0.0)
    assert _profile(image, whole_picture(image.shape).mask, replace(line, direction=np.zeros(2)), 2.0) is None
