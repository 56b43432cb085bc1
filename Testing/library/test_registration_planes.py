"""Planes with known truth; what too few of them leave open."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import InputError, RefusedError
from IRAILib.registration.planes import register_planes
from scipy.spatial.transform import Rotation

TRUTH = np.eye(4)
TRUTH[:3, :3] = Rotation.from_rotvec(np.radians([20.0, -35.0, 50.0])).as_matrix()
TRUTH[:3, 3] = (80.0, -9.0, 60.0)
POINTS = np.array([[10.0, 0, 5], [-20, 15, 0], [5, -30, 25]])
NORMALS = np.array([[1.0, 0, 0], [0, 1, 0], [0.1, 0.3, 1]])


def away(points: np.ndarray, normals: bool = False) -> np.ndarray:
    back = np.linalg.inv(TRUTH)
    return points @ back[:3, :3].T + (0 if normals else back[:3, 3])


def test_exact_planes_give_the_map_whatever_point_of_the_plane_is_named():
    along = np.cross(NORMALS, [0.3, 0.5, 0.7]) * 20
    found = register_planes(away(POINTS + along), away(NORMALS, True), POINTS, NORMALS)
    np.testing.assert_allclose(found.fixed_from_moving.matrix, TRUTH, atol=1e-9)
    assert found.accepted
    assert found.angle_deg.max() < 1e-4
    assert found.distance_mm.max() < 1e-9
    assert found.to_dict()["frame"] == "fixed"


def test_noise_gives_an_uncertainty_of_its_size():
    rng, ratios = np.random.default_rng(0), []
    for _ in range(30):
        normals = NORMALS / np.linalg.norm(NORMALS, axis=1, keepdims=True)
        found = register_planes(away(POINTS + rng.normal(size=(3, 3)) * 0.3),
                                away(normals + rng.normal(size=(3, 3)) * 0.01, True), POINTS, NORMALS)
        error = POINTS - found.fixed_from_moving.apply(away(POINTS))
        ratios.append((error**2).sum(axis=1).mean() / found.sigma_mm**2)
    assert 0.2 < np.median(ratios) < 5.0


def test_planes_that_do_not_span_are_refused_and_say_what_is_open():
    for normals, words in (([[1, 0, 0], [0, 1, 0], [1, 1, 0]], "shift along (0.00, 0.00, 1.00)"),
                           ([[1, 0, 0], [0, 1, 0]], "shift along (0.00, 0.00, 1.00)"), ([[1, 0, 0]], "turn")):
        normals = np.array(normals, float)
        points = POINTS[: len(normals)]
        with pytest.raises(RefusedError) as refused:
            register_planes(points, normals, points, normals)
        assert words in str(refused.value).replace("-0.00", "0.00")


def test_two_planes_and_a_point_or_three_points_alone_will_do():
    found = register_planes(away(POINTS[:2]), away(NORMALS[:2], True), POINTS[:2], NORMALS[:2],
                            moving_marks=away(POINTS[2:]), fixed_marks=POINTS[2:])
    np.testing.assert_allclose(found.fixed_from_moving.matrix, TRUTH, atol=1e-9)
    found = register_planes([], [], [], [], moving_marks=away(POINTS), fixed_marks=POINTS)
    np.testing.assert_allclose(found.fixed_from_moving.matrix, TRUTH, atol=1e-6)
    with pytest.raises(RefusedError):
        register_planes([], [], [], [], moving_marks=POINTS[:2], fixed_marks=POINTS[:2])


def test_a_wrong_pairing_or_a_flipped_normal_is_not_accepted():
    flipped = NORMALS * [[1], [1], [-1]]
    assert not register_planes(away(POINTS), away(flipped, True), POINTS, NORMALS).accepted
    order = [1, 0, 2]
    found = register_planes(away(POINTS), away(np.array([[1.0, 0, 0], [0.5, 1, 0], [0, 0.2, 1]]), True), POINTS,
                            np.array([[1.0, 0, 0], [0.5, 1, 0], [0, 0.2, 1]])[order])
    assert not found.accepted
    assert "plane" in found.reason


def test_hostile_input():
    for arguments in (([], [], [], []), (POINTS, NORMALS[:2], POINTS, NORMALS), (POINTS, NORMALS * 0, POINTS, NORMALS),
                      (POINTS * np.nan, NORMALS, POINTS, NORMALS), (POINTS[:, :2], NORMALS, POINTS, NORMALS)):
        with pytest.raises(InputError):
            register_planes(*arguments)
    with pytest.raises(InputError):
        register_planes(POINTS, NORMALS, POINTS, NORMALS, moving_marks=POINTS)
