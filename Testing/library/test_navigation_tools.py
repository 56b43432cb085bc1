"""Pivot and spin: analytic truth with noise, and every recording that must be refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IRAILib.geometry import InputError, RefusedError
from IRAILib.navigation.pivot import calibrate_pivot
from IRAILib.navigation.spin import calibrate_spin
from navigation_cases import PIVOT_MM, TIP_MM, pivoting, random_rigid
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation


def test_exact_poses_give_the_exact_tip() -> None:
    result = calibrate_pivot(pivoting(np.random.default_rng(3)))
    assert np.allclose(result.tip_mm, TIP_MM, atol=1e-6)
    assert np.allclose(result.pivot_mm, PIVOT_MM, atol=1e-6)
    assert result.outliers == ()
    assert 45 < result.spread_deg < 61


@pytest.mark.parametrize("seed", range(6))
def test_noise_and_a_twentieth_of_wild_poses_leave_the_tip_within_half_a_millimetre(seed: int) -> None:
    random = np.random.default_rng(seed)
    poses = pivoting(random, 200, half_cone_deg=25, noise_mm=0.3, noise_deg=0.05)
    wild = random.choice(200, 10, replace=False)
    poses[wild, :3, 3] += random.normal(0, 40, (10, 3))
    result = calibrate_pivot(poses)
    assert np.linalg.norm(result.tip_mm - TIP_MM) < 0.5
    assert set(wild) <= set(result.outliers)
    assert len(result.outliers) < 20


def test_the_covariance_is_as_large_as_the_error_over_many_recordings() -> None:
    squared = []
    for seed in range(50):
        result = calibrate_pivot(pivoting(np.random.default_rng(seed), 60, half_cone_deg=20, noise_mm=0.4))
        off = result.tip_mm - TIP_MM
        squared.append(off @ np.linalg.inv(result.covariance_mm2) @ off)
    assert 2.0 < np.mean(squared) < 4.5  # three degrees of freedom


def test_a_nonlinear_fit_of_scipy_finds_the_same_tip() -> None:
    poses = pivoting(np.random.default_rng(8), 80, noise_mm=0.2)
    ours = calibrate_pivot(poses)
    keep = np.setdiff1d(np.arange(80), ours.outliers)

    def misses(x):
        return (poses[keep, :3, :3] @ x[:3] + poses[keep, :3, 3] - x[3:]).ravel()
    theirs = least_squares(misses, np.zeros(6)).x
    assert np.allclose(ours.tip_mm, theirs[:3], atol=1e-4)


@pytest.mark.parametrize(("poses", "words"), [
    (pivoting(np.random.default_rng(1), half_cone_deg=0.5, noise_mm=0.1), "lean the tool"),
    (pivoting(np.random.default_rng(1), 6), "at least 10"),
    (np.empty((0, 4, 4)), "at least 10"),
])
def test_what_cannot_carry_a_pivot_is_refused(poses, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        calibrate_pivot(poses)


def test_rocking_about_one_axis_is_refused() -> None:
    turns = Rotation.from_rotvec(np.linspace(-0.6, 0.6, 80)[:, None] * np.array([[1.0, 0, 0]]))
    poses = np.tile(np.eye(4), (80, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = turns.as_matrix(), PIVOT_MM - turns.apply(TIP_MM)
    with pytest.raises(RefusedError, match="all sides"):
        calibrate_pivot(poses)


def test_a_tip_that_slides_is_refused() -> None:
    random = np.random.default_rng(4)
    poses = pivoting(random, 150)
    poses[:, :3, 3] += np.linspace(0, 40, 150)[:, None] * np.array([1.0, 0.4, 0])
    with pytest.raises(RefusedError, match="dimple"):
        calibrate_pivot(poses)


def test_unusable_matrices_are_named() -> None:
    poses = pivoting(np.random.default_rng(2), 30)
    poses[7, 0, 3] = np.nan
    with pytest.raises(InputError, match="number 7"):
        calibrate_pivot(poses)
    valid = np.arange(30) != 7
    assert calibrate_pivot(poses, valid).poses_used == 29
    poses[7] = np.diag([1.1, 1.1, 1.1, 1])
    with pytest.raises(InputError, match="no rigid pose"):
        calibrate_pivot(poses)


def rolled(axis, count=90, degrees=300.0, lean_deg=0.3, seed=5) -> np.ndarray:
    random = np.random.default_rng(seed)
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    across = np.cross(axis, random.normal(0, 1, 3))
    across /= np.linalg.norm(across)
    turns = Rotation.from_rotvec(np.radians(np.linspace(0, degrees, count))[:, None] * axis)
    leans = Rotation.from_rotvec(np.radians(random.normal(0, lean_deg, (count, 3))))
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = (Rotation.from_euler("xyz", [50, 10, -70], degrees=True) * leans * turns).as_matrix()
    return poses


def test_the_axis_of_a_roll_is_found_and_pointed_at_the_tip() -> None:
    axis = np.array([0.2, -0.1, 0.95]) / np.linalg.norm([0.2, -0.1, 0.95])
    result = calibrate_spin(rolled(axis), tip_mm=-180 * axis)
    angle = np.degrees(np.arccos(np.clip(-axis @ result.axis, -1, 1)))
    assert angle < 0.3
    assert result.signed
    assert 270 < result.rolled_deg < 310
    assert np.allclose(result.tool_from_tip(-180 * axis)[:3, 0], result.axis)
    exact = calibrate_spin(rolled(axis, lean_deg=1e-9))
    assert abs(abs(exact.axis @ axis) - 1) < 1e-12
    assert not exact.signed


def test_the_stated_error_of_the_axis_is_that_of_many_rolls() -> None:
    axis = np.array([0.0, 0.6, 0.8])
    ratio = []
    for seed in range(40):
        result = calibrate_spin(rolled(axis, degrees=200, seed=seed, lean_deg=0.8))
        ratio.append((np.degrees(np.arccos(min(abs(result.axis @ axis), 1.0))) / result.sigma_deg) ** 2)
    assert 0.3 < np.mean(ratio) < 3.0


@pytest.mark.parametrize(("poses", "words"), [
    (rolled([0, 0, 1], degrees=25), "rolled by"),
    (rolled([0, 0, 1], count=5), "at least 10"),
    (pivoting(np.random.default_rng(1), half_cone_deg=70), "groove|rolled"),
])
def test_what_cannot_carry_a_spin_is_refused(poses, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        calibrate_spin(poses)


def test_a_tip_beside_the_marker_gives_no_sense() -> None:
    with pytest.raises(InputError, match="beside"):
        calibrate_spin(rolled([0, 0, 1])).towards([50, 0, 0])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(20.0, 60.0))
def test_another_reference_frame_moves_the_dimple_and_not_the_tip(seed: int, cone_deg: float) -> None:
    random = np.random.default_rng(seed)
    poses = pivoting(random, 40, half_cone_deg=cone_deg, noise_mm=0.1)
    frame = random_rigid(random)
    here, there = calibrate_pivot(poses), calibrate_pivot(frame @ poses)
    assert np.allclose(here.tip_mm, there.tip_mm, atol=1e-6)
    assert np.allclose(frame[:3, :3] @ here.pivot_mm + frame[:3, 3], there.pivot_mm, atol=1e-6)
    assert here.sigma_mm == pytest.approx(there.sigma_mm, rel=1e-6)


def test_results_become_json_with_frame_and_units() -> None:
    values = json.loads(json.dumps(calibrate_pivot(pivoting(np.random.default_rng(3)), tool="Stylus",
                                                   reference="Reference").to_dict(), allow_nan=False))
    assert (values["units"], values["frame"], values["pivot_frame"]) == ("mm", "Stylus", "Reference")
    assert np.allclose(np.array(values["StylusTipToStylus"])[:3, 3], TIP_MM)
    assert values["uncertainty"]["sigma_mm"] >= 0
    assert values["validated_on"]
