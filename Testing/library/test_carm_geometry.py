"""C-arm geometry from angles: against directions written by hand, the link's own reading, and OpenCV's pinhole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from IRAILib.geometry import CArmGeometry, InputError, angles_of, beam_direction, geometry_from_angles
from IRAILib.link.carm import geometry_of
from IRAILib.link.messages import Image

SIZE = (64, 48)


def arm(primary: float = 0.0, secondary: float = 0.0, **options) -> CArmGeometry:
    return geometry_from_angles(primary, secondary, 1100.0, 750.0, (0.4, 0.5), SIZE, **options)


@pytest.mark.parametrize(("angles", "beam", "column", "row"), [
    ((0, 0), (0, 1, 0), (-1, 0, 0), (0, 0, -1)),       # frontal: to the patient's left, to the feet
    ((90, 0), (-1, 0, 0), (0, -1, 0), (0, 0, -1)),     # LAO 90: detector at the left, columns to the back
    ((-90, 0), (1, 0, 0), (0, 1, 0), (0, 0, -1)),      # RAO 90: detector at the right, columns to the front
    ((0, 90), (0, 0, 1), (-1, 0, 0), (0, 1, 0)),       # CRA 90: detector at the head, rows to the front
    ((0, -90), (0, 0, -1), (-1, 0, 0), (0, -1, 0)),
    ((180, 0), (0, -1, 0), (1, 0, 0), (0, 0, -1)),     # tube above
])
def test_axes_as_written_by_hand(angles, beam, column, row):
    geometry = arm(*angles)
    assert geometry.normal == pytest.approx(np.array(beam), abs=1e-12)
    assert geometry.column_mm == pytest.approx(0.4 * np.array(column), abs=1e-12)
    assert geometry.row_mm == pytest.approx(0.5 * np.array(row), abs=1e-12)
    assert geometry.source_mm == pytest.approx(-750.0 * np.array(beam), abs=1e-9)
    assert geometry.center_mm == pytest.approx(350.0 * np.array(beam), abs=1e-9)
    assert geometry.source_to_detector_mm == pytest.approx(1100.0)


def test_frontal_picture_shows_the_patient_facing_the_viewer():
    """Magnification 1100/750; the patient's left to the picture's right, the head up."""
    pixels = arm().project([[0, 0, 0], [-15, 0, 0], [0, 0, 15], [0, 100, 0]])
    shift = 15 * 1100 / 750
    assert pixels == pytest.approx(np.array([[31.5, 23.5], [31.5 + shift / 0.4, 23.5], [31.5, 23.5 - shift / 0.5],
                                             [31.5, 23.5]]))


@pytest.mark.parametrize("angles", [(0, 0), (30, -20), (-45, 25), (100, 15), (-179, 5), (12, 89)])
def test_angles_come_back_and_axes_are_square(angles):
    geometry = arm(*angles, detector_rotation_deg=17.0, principal_px=(10.0, 40.0))
    assert angles_of(geometry.normal) == pytest.approx(angles)
    assert geometry.normal == pytest.approx(beam_direction(*angles))
    assert geometry.column_mm @ geometry.row_mm == pytest.approx(0, abs=1e-12)
    assert np.cross(geometry.column_mm, geometry.row_mm) @ geometry.normal < 0, "seen from the detector"
    assert geometry.project([[0, 0, 0]])[0] == pytest.approx((10.0, 40.0))


@pytest.mark.parametrize("angles", [(0, 0), (28.5, -19), (-110, 25)])
def test_the_link_reads_the_same_geometry(angles):
    geometry = arm(*angles)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 3] = geometry.column_mm, geometry.row_mm, geometry.pixel0_mm
    matrix[:3, 2] = geometry.normal
    image = Image(np.zeros((1, SIZE[1], SIZE[0]), np.uint16), matrix, device="Fluoro_Detector")
    read = geometry_of(image, {"PositionerPrimaryAngle": angles[0], "PositionerSecondaryAngle": angles[1],
                               "DistanceSourceToDetector": 1100.0, "DistanceSourceToPatient": 750.0,
                               "ImagerPixelSpacing": [0.5, 0.4]})
    assert read.matrix() == pytest.approx(geometry.matrix(), abs=1e-9)


def test_opencv_projects_to_the_same_pixels():
    cv2 = pytest.importorskip("cv2")
    geometry = arm(25, -15, detector_rotation_deg=8)
    axes = np.stack([geometry.column_mm / 0.4, geometry.row_mm / 0.5, geometry.normal])
    camera = np.array([[1100 / 0.4, 0, 31.5], [0, 1100 / 0.5, 23.5], [0, 0, 1]])
    points = np.random.default_rng(3).uniform(-60, 60, (20, 3))
    own = geometry.project(points)
    # Column, row and beam are left-handed, so no rotation vector holds them: the points go to the source's axes first.
    seen = (points - geometry.source_mm) @ axes.T
    there, _ = cv2.projectPoints(seen, np.zeros(3), np.zeros(3), camera, np.zeros(5))
    assert own == pytest.approx(there[:, 0], abs=1e-6)


def test_detector_turns_clockwise_in_the_picture():
    """A quarter turn of the detector: what was at the top of the picture is at its left."""
    head = np.array([[0, 0, 10.0]])
    straight, turned = arm().project(head)[0], arm(detector_rotation_deg=90).project(head)[0]
    assert straight[1] < 23.5
    assert straight[0] == pytest.approx(31.5)
    assert turned[0] < 31.5
    assert turned[1] == pytest.approx(23.5)


@pytest.mark.parametrize("change", [{"source_to_isocentre_mm": 1200}, {"source_to_isocentre_mm": 0}, {"size": (0, 4)},
                                    {"primary_deg": math.nan}, {"mm_per_px": -0.2}, {"mm_per_px": math.inf}])
def test_impossible_geometry_is_refused(change):
    values = {"primary_deg": 0, "secondary_deg": 0, "source_to_detector_mm": 1000, "source_to_isocentre_mm": 700,
              "mm_per_px": 0.3, "size": (10, 10)} | change
    with pytest.raises(InputError):
        geometry_from_angles(**values)


def test_no_angles_of_nothing():
    for direction in ([0, 0, 0], [math.nan, 0, 1], [1, 0]):
        with pytest.raises(InputError):
            angles_of(np.array(direction))
