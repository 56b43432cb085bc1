"""Real ultrasound with a needle in it, and the independent simulator: what the classical detector makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from IRAILib.geometry import NeedleStatus
from IRAILib.needle.track import NeedleTracker
from IRAILib.needle.ultrasound import required_scale
from IRAILib.needle.ultrasound.classical import ClassicalDetector
from IRAILib.needle.ultrasound.region import find_region
from IRAILib.needle.ultrasound.scale import scale_from_dicom, scale_from_user

# Read from the picture by eye: end and axis of the bright shaft; the 0 and 5 cm marks of the ruler are 593 rows apart
GE_TIP_PX, GE_TIP_ERROR_PX, GE_ANGLE_DEG, GE_ANGLE_ERROR_DEG = np.array([813.0, 423.0]), 6.0, 22.7, 1.5
GE_MM_PER_PX = 50.0 / 593.0


@pytest.fixture(scope="module")
def ge(data: Path) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    return np.array(image.open(data / "needle/us_needle/jw34_linear_probe_needle.png").convert("L"))


def test_region_of_a_real_screen_gives_the_scale_of_its_ruler(ge: np.ndarray) -> None:
    region = find_region(ge)
    assert region.kind == "linear"
    np.testing.assert_allclose(region.box, [462, 110, 918, 703], atol=4)
    scale = required_scale(scale_from_user(depth_mm=50.0, height_px=region.height_px))
    assert scale.mm_per_px_y == pytest.approx(GE_MM_PER_PX, rel=0.01)


def test_the_needle_of_a_real_frame_is_found_among_the_machines_writing(ge: np.ndarray) -> None:
    scale = required_scale(scale_from_user(mm_per_px=GE_MM_PER_PX))
    detection = ClassicalDetector().detect(ge, mm_per_px=scale.mm_per_px)
    assert detection.found
    angle = np.degrees(np.arctan2(detection.direction[1], detection.direction[0]))
    assert abs(angle - GE_ANGLE_DEG) < 1.0 + GE_ANGLE_ERROR_DEG
    away = detection.tip_px - GE_TIP_PX
    normal = np.array([-np.sin(np.radians(GE_ANGLE_DEG)), np.cos(np.radians(GE_ANGLE_DEG))])
    assert abs(away @ normal) * GE_MM_PER_PX < 1.0 + GE_TIP_ERROR_PX * GE_MM_PER_PX
    assert np.linalg.norm(away) * GE_MM_PER_PX < 4.0  # the shaft fades towards its tip


def test_a_frozen_screen_is_tracked_in_mm(ge: np.ndarray) -> None:
    detector, tracker = ClassicalDetector(), NeedleTracker()
    scale = scale_from_user(mm_per_px=GE_MM_PER_PX)
    for k in range(4):
        estimate = tracker.update(detector.detect(ge), k / 20.0, scale)
    assert estimate.status is NeedleStatus.SEEN
    assert estimate.units == "mm"
    assert np.linalg.norm(estimate.tip[:2] - GE_TIP_PX * GE_MM_PER_PX) < 4.0


def test_dicom_states_its_own_scale(data: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    scale = scale_from_dicom(pydicom.dcmread(data / "dicom/US_multiframe_30fr_examples_ybr_color.dcm"))
    assert scale.mm_per_px == pytest.approx((0.5105, 0.5105), rel=1e-3)


def test_wires_are_no_needles(data: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path = data / "tracked_ultrasound/plus/fCal_Test_Calibration_3NWires_fCal2.0.igs.mha"
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[::4]
    detector, tracker, shown = ClassicalDetector(), NeedleTracker(), 0
    for k in range(len(frames)):
        estimate = tracker.update(detector.detect(frames[max(0, k - 3):k + 1]), k / 20.0)
        shown += estimate.found
    assert shown <= len(frames) // 20
