"""Points, lines and curves from views: known truth, OpenCV, and scatter against the covariance that is told."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import CArmGeometry, InputError, RefusedError, geometry_from_angles
from IRAILib.navigation.triangulation import (
    epipolar_distance,
    triangulate,
    triangulate_curve,
    triangulate_line,
)


def view(primary: float, secondary: float = 0.0) -> CArmGeometry:
    return geometry_from_angles(primary, secondary, 1100, 750, 0.3, (1024, 1024))


PAIR = [view(-10, 5), view(60, -8)]
POINTS = np.random.default_rng(1).uniform(-50, 50, (12, 3))


def images(points: np.ndarray, views=PAIR, sd: float = 0.0, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [g.project(points) + rng.normal(0, sd, (len(points), 2)) for g in views]


def test_exact_points_come_back_as_opencv_finds_them():
    found = triangulate(PAIR, images(POINTS))
    assert found.points_mm == pytest.approx(POINTS, abs=1e-6)
    assert found.epipolar_px.max() < 1e-6
    assert found.residual_px.max() < 1e-6
    cv2 = pytest.importorskip("cv2")
    noisy = images(POINTS, sd=0.5, seed=3)
    there = cv2.triangulatePoints(PAIR[0].matrix(), PAIR[1].matrix(), noisy[0].T, noisy[1].T)
    assert triangulate(PAIR, noisy).points_mm == pytest.approx((there[:3] / there[3]).T, abs=0.1)


def test_the_told_covariance_is_the_scatter():
    point = np.array([[12.0, -20.0, 31.0]])
    rng = np.random.default_rng(5)
    exact = [g.project(point) for g in PAIR]
    found = [triangulate(PAIR, [e + rng.normal(0, 0.8, (1, 2)) for e in exact], pixel_sd=0.8, max_epipolar_px=99)
             for _ in range(600)]
    scatter = np.cov(np.array([f.points_mm[0] for f in found]).T)
    told = found[0].covariance_mm2[0]
    assert np.sqrt(np.diag(told)) == pytest.approx(np.sqrt(np.diag(scatter)), rel=0.15)
    assert np.sqrt(np.linalg.eigvalsh(told)[-1]) == pytest.approx(np.sqrt(np.linalg.eigvalsh(scatter)[-1]), rel=0.15)


def test_depth_is_worse_where_the_views_are_close():
    sd = [triangulate([view(0), view(angle)], images(POINTS[:1], [view(0), view(angle)])).sd_mm[0]
          for angle in (15, 40, 90)]
    assert sd[0] > 1.8 * sd[1] > 1.8 * sd[2] / 1.2
    assert sd[0] / sd[2] == pytest.approx(np.sin(np.radians(45)) / np.sin(np.radians(7.5)), rel=0.25)


@pytest.mark.parametrize("angle", [20, 90])
def test_beams_that_are_off_make_depth_uncertain_as_pixels_do(angle):
    """Each view's beam passes the patient 0.5 mm off (1 SD), on its own: four times as much in depth at 20 degrees."""
    views, rng = [view(0), view(angle)], np.random.default_rng(4)
    found = []
    for _ in range(400):
        pixels = [g.project(POINTS[:1] + rng.normal(0, 0.5, 3)) + rng.normal(0, 0.3, (1, 2)) for g in views]
        found.append(triangulate(views, pixels, pixel_sd=0.3, geometry_mm=0.5, max_epipolar_px=99))
    scatter = np.cov(np.array([f.points_mm[0] for f in found]).T)
    told = np.median([f.sd_mm[0] for f in found])
    assert told == pytest.approx(np.sqrt(np.linalg.eigvalsh(scatter)[-1]), rel=0.15)


def test_three_views_are_better_and_gaps_are_left():
    views = [*PAIR, view(20, 25)]
    pixels = images(POINTS, views)
    pixels[2][0], pixels[1][1], pixels[2][1] = np.nan, np.nan, np.nan
    found = triangulate(views, pixels)
    assert found.points_mm[0] == pytest.approx(POINTS[0], abs=1e-6)
    assert np.isnan(found.points_mm[1]).all()
    assert found.to_dict()["points_mm"][1] is None
    assert found.sd_mm[2] < triangulate(PAIR, images(POINTS)).sd_mm[2]


def test_close_views_wrong_pairs_and_moved_patients_are_refused():
    with pytest.raises(RefusedError, match="degrees"):
        triangulate([view(0), view(6)], images(POINTS, [view(0), view(6)]))
    pixels = images(POINTS)
    pixels[1][4] += [0, 15]
    with pytest.raises(RefusedError, match="point 5"):
        triangulate(PAIR, pixels)
    moved = [PAIR[0].project(POINTS), PAIR[1].project(POINTS + [0, 0, 6.0])]
    with pytest.raises(RefusedError, match="moved"):
        triangulate(PAIR, moved)


def test_the_epipolar_line_runs_through_the_other_image():
    a, b = images(POINTS)
    assert epipolar_distance(*PAIR, a, b).max() < 1e-8
    assert epipolar_distance(*PAIR, a, b + [0, 10]).min() > 8, "the arm turned mostly about the patient's axis"


def test_a_needle_from_two_marks_in_each_view():
    start, direction = np.array([10.0, 5.0, -20.0]), np.array([0.3, 0.4, 0.866])
    direction = direction / np.linalg.norm(direction)
    ends = [g.project(start + np.outer(t, direction)) for g, t in zip(PAIR, ([0, 40], [-15, 70]), strict=True)]
    found = triangulate_line(PAIR, ends, pixel_sd=0.5)
    assert found.direction == pytest.approx(direction, abs=1e-9)
    away = found.point_mm - start
    assert np.linalg.norm(away - (away @ direction) * direction) < 1e-6
    assert 0 < away @ direction < 40
    rng = np.random.default_rng(8)
    tilts = []
    for _ in range(150):
        other = triangulate_line(PAIR, [e + rng.normal(0, 0.5, (2, 2)) for e in ends], pixel_sd=0.5)
        tilts.append(other.direction - direction)
    scatter = np.degrees(np.sqrt(np.linalg.eigvalsh(np.cov(np.array(tilts).T))[-1]))
    assert found.direction_sd_deg == pytest.approx(scatter, rel=0.25)


def test_a_needle_in_the_plane_of_both_beams_is_refused():
    start, direction = np.zeros(3), np.array([0.4, 0.9, 0.0])
    views = [view(-10), view(60)]
    ends = [g.project(start + np.outer([0, 40], direction)) for g in views]
    with pytest.raises(RefusedError, match="plane"):
        triangulate_line(views, ends)


def bent(count: int = 200) -> np.ndarray:
    t = np.linspace(0, 1, count)
    return np.column_stack([40 * t - 20, 25 * np.sin(2 * t), 60 * t - 30 + 6 * np.cos(5 * t)])


def away(points: np.ndarray, course: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - course, axis=2).min(1)


def test_a_bent_needle_from_two_courses():
    course = bent()
    found = triangulate_curve(PAIR, [PAIR[0].project(course), PAIR[1].project(course[::3])])
    assert np.percentile(away(found.points_mm, bent(4000)), 95) < 0.3
    assert np.linalg.norm(found.points_mm[0] - course[0]) < 1.0
    assert np.linalg.norm(found.points_mm[-1] - course[-1]) < 1.0


def test_a_noisy_course_and_a_loop():
    """A curve that crosses its epipolar lines more than once needs the order along it."""
    t = np.linspace(0, 1, 300)
    loop = np.column_stack([25 * np.cos(5 * t), 18 * np.sin(5 * t), 30 * t + 8 * np.sin(9 * t)])
    found = triangulate_curve(PAIR, images(loop, sd=0.4, seed=2))
    assert np.percentile(away(found.points_mm, loop), 90) < 1.0


def test_courses_of_different_things_are_refused():
    course = bent()
    with pytest.raises(RefusedError, match="partner"):
        triangulate_curve(PAIR, [PAIR[0].project(course), PAIR[1].project(course + [0, 0, 40])])


@pytest.mark.parametrize("call", [
    lambda: triangulate(PAIR[:1], images(POINTS)[:1]),
    lambda: triangulate(PAIR, [np.zeros((2, 2)), np.zeros((3, 2))]),
    lambda: triangulate(PAIR, [np.zeros((2, 3)), np.zeros((2, 3))]),
    lambda: triangulate(PAIR, images(POINTS), pixel_sd=0),
    lambda: triangulate(PAIR, [np.full((1, 2), np.inf)] * 2),
    lambda: triangulate_line(PAIR, [np.zeros((2, 2))] * 2),
    lambda: triangulate_curve(PAIR, [np.zeros((1, 2))] * 2),
    lambda: triangulate_curve(PAIR, [np.full((5, 2), np.nan)] * 2),
    lambda: triangulate([PAIR[0], CArmGeometry(*(np.eye(3)[i] for i in (0, 1, 2, 0)), (4, 4), "CArm")], images(POINTS)),
])
def test_nonsense_gives_one_line(call):
    with pytest.raises(InputError):
        call()


def test_no_points_give_none():
    assert triangulate(PAIR, [np.zeros((0, 2))] * 2).points_mm.shape == (0, 3)
