"""Reading the wire network's maps: ridges and ends painted by formula on known curves."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.fluoroscopy.wire_decode import confidence, read_maps
from IRAILib.fluoroscopy.wire_features import features, padded_shape

SHAPE = (128, 160)


def curve(kind: str) -> np.ndarray:
    """(n, 2) x, y in map pixels, entry first."""
    t = np.linspace(0.0, 1.0, 900)[:, None]
    if kind == "straight":
        return np.hstack([-2.0 + 92.0 * t, 20.0 + 60.3 * t])
    if kind == "arc":
        angle = np.pi * (1.0 - 0.7 * t)
        return np.hstack([80.0 + 52.4 * np.cos(angle), 100.0 - 61.0 * np.sin(angle)])
    angle = np.pi * np.clip(2.2 * (t - 0.55), 0.0, None)  # a hook at the end
    straight = np.hstack([2.0 + 110.0 * np.minimum(t, 0.55), np.full_like(t, 70.0)])
    return straight + 12.0 * np.hstack([np.sin(angle), np.cos(angle) - 1.0])


def maps_of(course: np.ndarray, *, end: bool = True, gap: tuple[float, float] | None = None) -> np.ndarray:
    """(2, h, w) logits: 5 on the axis, falling off over a pixel and a half; an end as wide."""
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]].astype(float)
    seen = course if gap is None else course[[not gap[0] < n / len(course) < gap[1] for n in range(len(course))]]
    distance = np.sqrt(np.min([(x - a)**2 + (y - b)**2 for a, b in seen[::3]], axis=0))
    out = np.full((2, *SHAPE), -7.0)
    out[0] = np.maximum(-7.0, 4.0 - 2.2 * distance**2)
    if end:
        out[1] = np.maximum(-7.0, 3.0 - 0.6 * ((x - course[-1, 0])**2 + (y - course[-1, 1])**2))
    return out


@pytest.mark.parametrize("kind", ["straight", "arc", "hook"])
def test_course_tip_and_direction_come_back(kind):
    course = curve(kind)
    found = read_maps(maps_of(course), SHAPE)
    assert found is not None
    assert np.linalg.norm(found.tip - course[-1]) < 0.25
    np.testing.assert_allclose(found.points[-1], found.tip, atol=0.6)
    gap = np.linalg.norm(found.points[:, None] - course[None], axis=2).min(axis=1)
    assert np.median(gap) < 0.25
    assert gap.max() < 1.2
    heading = course[-1] - course[-40]
    assert found.direction @ heading / np.linalg.norm(heading) > 0.9
    assert np.linalg.norm(found.points[0] - np.maximum(course[0], 0.0)) < 4.0
    assert np.linalg.eigvalsh(found.spread).min() > 0


def test_a_gap_is_bridged_when_enough_follows():
    course = curve("arc")
    found = read_maps(maps_of(course, gap=(0.55, 0.6)), SHAPE)
    assert found is not None
    assert np.linalg.norm(found.points[0] - course[0]) < 5.0


def test_nothing_a_line_without_an_end_and_an_end_without_a_line():
    assert read_maps(np.full((2, *SHAPE), -7.0), SHAPE) is None
    assert read_maps(maps_of(curve("straight"), end=False), SHAPE) is None
    lonely = np.full((2, *SHAPE), -7.0)
    lonely[1, 60, 80] = 5.0
    assert read_maps(lonely, SHAPE) is None


def test_of_two_devices_the_one_seen_before_is_preferred():
    first, second = curve("straight"), curve("straight") * [1.0, -1.0] + [20.0, 120.0]
    both = np.maximum(maps_of(first), maps_of(second))
    for course in (first, second):
        found = read_maps(both, SHAPE, previous_tip=course[-1] + 3.0)
        assert found is not None
        assert np.linalg.norm(found.tip - course[-1]) < 0.5


def test_padding_is_not_looked_at():
    maps = np.full((2, *SHAPE), -7.0)
    maps[:, :, 120:] = 5.0
    assert read_maps(maps, (SHAPE[0], 118)) is None


def test_confidence_is_logistic():
    assert confidence(np.ones(6), [1.0] * 6 + [-6.0]) == pytest.approx(0.5)
    assert confidence(np.ones(6) * 99.0, [1.0] * 6 + [0.0]) == pytest.approx(1.0)


def test_features_don_t_depend_on_dose_and_bear_dull_frames():
    rng = np.random.default_rng(0)
    frame = rng.uniform(50.0, 200.0, (100, 130))
    assert padded_shape(frame.shape) == (128, 160)
    once, twice = features(frame), features(frame * 7.0)
    assert once.shape == (128, 160)
    np.testing.assert_allclose(once, twice, atol=1e-3)
    assert np.median(np.abs(once)) == pytest.approx(np.arcsinh(1.0 / 1.4826), rel=0.15)
    for dull in (np.zeros((64, 64)), np.full((64, 64), 9.0), np.full((64, 64), 65535, np.uint16)):
        assert np.isfinite(features(dull)).all()
        assert np.abs(features(dull)).max() < 1e-2
