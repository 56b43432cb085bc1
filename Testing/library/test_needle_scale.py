"""The scale: read where it is stated, refused where it is contradictory, and never made up; and the region."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from IRAILib.geometry import InputError, RefusedError
from IRAILib.needle.ultrasound.region import find_region, grey_frames, region_from_box
from IRAILib.needle.ultrasound.scale import (
    PixelScale,
    agreed_scale,
    required_scale,
    scale_from_dicom,
    scale_from_matrix,
    scale_from_spacing,
    scale_from_user,
)


def region(x=0.02, y=0.02, units=3, **more) -> SimpleNamespace:
    return SimpleNamespace(**{"RegionSpatialFormat": 1, "RegionDataType": 1, "PhysicalDeltaX": x, "PhysicalDeltaY": y,
                              "PhysicalUnitsXDirection": units, "PhysicalUnitsYDirection": units, **more})


def dicom(*regions, spacing=None) -> SimpleNamespace:
    return SimpleNamespace(SequenceOfUltrasoundRegions=list(regions), PixelSpacing=spacing)


def test_a_matrix_gives_the_lengths_of_its_columns() -> None:
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([0.2, 0.1, 1.0])
    assert scale_from_matrix(matrix).mm_per_px == pytest.approx((0.2, 0.1))
    assert scale_from_matrix(np.eye(4)) is None  # 1 mm is what a sender says that doesn't know
    assert scale_from_spacing(1.0, 1.0) is None
    sheared = np.diag([0.2, 0.2, 1.0, 1.0])
    sheared[0, 1] = 0.1
    for wrong in (sheared, np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)):
        with pytest.raises(InputError):
            scale_from_matrix(wrong)


def test_dicom_regions_are_read_in_cm() -> None:
    scale = scale_from_dicom(dicom(region(0.02, -0.03)))
    assert scale.mm_per_px == pytest.approx((0.2, 0.3))
    assert scale.source == "dicom"
    assert scale_from_dicom(dicom()) is None
    assert scale_from_dicom(dicom(region(RegionSpatialFormat=2))) is None  # M-mode
    assert scale_from_dicom(dicom(spacing=[0.3, 0.2])).mm_per_px == pytest.approx((0.2, 0.3))
    assert scale_from_dicom(SimpleNamespace()) is None
    with pytest.raises(InputError, match="cm"):
        scale_from_dicom(dicom(region(units=4)))
    with pytest.raises(RefusedError):
        scale_from_dicom(dicom(region(), region(0.04, 0.04)))
    with pytest.raises(RefusedError):
        scale_from_dicom(dicom(region(), spacing=[0.3, 0.3]))


def test_the_user_gives_a_scale_or_a_depth() -> None:
    assert scale_from_user() is None
    assert scale_from_user(mm_per_px=0.1).mm_per_px == (0.1, 0.1)
    assert scale_from_user(depth_mm=50.0, height_px=500).mm_per_px == pytest.approx((0.1, 0.1))
    with pytest.raises(InputError):
        scale_from_user(depth_mm=50.0)
    with pytest.raises(InputError):
        scale_from_user(depth_mm=math.nan, height_px=500)
    with pytest.raises(RefusedError):
        scale_from_user(mm_per_px=0.2, depth_mm=50.0, height_px=500)


def test_sources_must_agree_and_none_is_refused_in_one_line() -> None:
    a, b = PixelScale(0.1, 0.1, "message"), PixelScale(0.101, 0.1, "user")
    assert agreed_scale([None, a, b]) is a
    assert agreed_scale([None]) is None
    with pytest.raises(RefusedError, match=r"message.*user"):
        agreed_scale([a, PixelScale(0.1, 0.2, "user")])
    with pytest.raises(RefusedError) as caught:
        required_scale(None)
    assert "\n" not in str(caught.value)
    assert "--mm-per-px" in str(caught.value)
    for wrong in ((0.0, 0.1, "user"), (-0.1, 0.1, "user"), (math.nan, 0.1, "user"), (9.0, 0.1, "user"),
                  (0.1, 0.1, "guess")):
        with pytest.raises(InputError):
            PixelScale(*wrong)


def test_pixels_become_mm() -> None:
    scale = PixelScale(0.1, 0.2, "user")
    np.testing.assert_allclose(scale.points_mm([10, 10]), [1, 2])
    np.testing.assert_allclose(scale.direction_mm([1, 1]), np.array([1, 2]) / math.sqrt(5))
    np.testing.assert_allclose(scale.covariance_mm(np.array([[1, 0.5], [0.5, 1]])), [[0.01, 0.01], [0.01, 0.04]])


def screenshot(fan: bool) -> np.ndarray:
    """(600, 800) speckle in a rectangle or a fan, with bars, a ruler and blocks that look like writing."""
    generator = np.random.default_rng(1)
    y, x = np.mgrid[:600, :800]
    if fan:
        radius, angle = np.hypot(x - 400, y + 60), np.degrees(np.arctan2(x - 400, y + 60))
        inside = (radius > 150) & (radius < 600) & (np.abs(angle) < 30)
    else:
        inside = (x >= 200) & (x <= 560) & (y >= 60) & (y <= 520)
    image = np.where(inside, generator.integers(20, 160, x.shape), 0).astype(np.uint8)
    image[200:400, 60:75] = np.linspace(255, 20, 200)[:, None]  # grey bar
    image[80:520:40, 720:730] = 200  # ruler
    image[10:22:3, 20:180:2] = 220  # writing
    image[580:596, 100:700] = 60  # buttons
    return image


def test_a_rectangle_is_found_among_the_machines_writing() -> None:
    found = find_region(screenshot(fan=False))
    assert found.kind == "linear"
    np.testing.assert_allclose(found.box, [200, 60, 560, 520], atol=3)
    assert found.height_px == pytest.approx(461, abs=6)


def test_a_fan_is_told_apart_and_its_apex_found() -> None:
    found = find_region(screenshot(fan=True))
    assert found.kind == "curvilinear"
    assert found.fan is not None
    np.testing.assert_allclose(found.fan.apex_px, [400, -60], atol=12)
    np.testing.assert_allclose(found.fan.radius_px, [150, 600], atol=8)
    np.testing.assert_allclose(np.degrees(found.fan.angle_rad), [-30, 30], atol=1.5)
    assert not found.mask[0, 0]


def test_what_never_moves_in_a_sequence_is_no_ultrasound() -> None:
    generator = np.random.default_rng(2)
    still = screenshot(fan=False)
    moving = np.stack([still] * 4)
    live = np.s_[:, 60:521, 200:561]
    moving[live] = generator.integers(20, 160, moving[live].shape)
    moving[:, 100:120, 300:400] = 250  # writing over the ultrasound
    found = find_region(moving)
    np.testing.assert_allclose(found.box, [200, 60, 560, 520], atol=5)
    assert not found.mask[110, 350]
    assert found.mask[300, 350]


def test_pictures_without_ultrasound_and_wrong_boxes_are_refused() -> None:
    for empty in (np.zeros((300, 400), np.uint8), np.eye(300, dtype=np.uint8) * 200):
        with pytest.raises(RefusedError):
            find_region(empty)
    with pytest.raises(InputError):
        find_region(np.zeros((300, 400)))
    with pytest.raises(InputError):
        region_from_box((10, 10, 500, 20), (300, 400))


def test_coloured_marks_become_black() -> None:
    colour = np.full((1, 64, 64, 3), 90, np.uint8)
    colour[0, 10, 10] = (0, 255, 0)
    grey = grey_frames(colour)
    assert grey[0, 10, 10] == 0
    assert grey[0, 20, 20] == 90
