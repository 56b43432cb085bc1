"""Landmark registration against analytic truth, SimpleITK, VTK and a published registration; what must be refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
import vtk
from IRAILib.geometry import InputError, LinearTransform, RefusedError
from IRAILib.navigation.landmarks import register_landmarks
from navigation_cases import random_rigid
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

PHANTOM = np.array([[104.3, 5, 20], [104.3, 45, 20], [104.3, 45, 0], [104.3, -5, 0], [-34.3, 45, 15], [-34.3, -5, 20],
                    [-34.3, -5, 0], [-34.3, 45, 0]])
"""Landmarks of the fCal 2.0 phantom as PLUS's configurations give them."""
TOUCHED = np.array([[2.307, -36.239, 130.05], [2.067, 4.028, 130.377], [22.424, 3.883, 130.592],
                    [22.205, -46.078, 130.243], [8.017, 5.862, -8.326], [2.882, -44.144, -8.868],
                    [22.934, -44.201, -8.818], [22.997, 5.731, -8.163]])
"""The same, touched with a stylus, in Reference: tip of PlusLibData's recording EightLandmarkPointsTrackedForPhantom-
Registration.igs.mha (its configuration's StylusTip), mean of the first second of each dwell, as PLUS detects them."""
PUBLISHED = np.array([[-0.00479115, 0.00329566, -0.999983, 22.7064], [-0.0127965, 0.999912, 0.00335674, -39.7536],
                      [0.999907, 0.0128124, -0.00474856, 25.6504], [0, 0, 0, 1]])
PUBLISHED_ERROR_MM = 0.198046
"""PhantomToReference and its error in PlusLibData's PhantomRegistrationLandmarkDetection.results.xml."""


def cloud(seed: int, count: int = 8, size_mm: float = 60.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size_mm, (count, 3))


def moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def matrix_of(result) -> np.ndarray:
    assert isinstance(result.transform, LinearTransform)
    return result.transform.matrix


def test_the_published_registration_of_a_tracked_stylus_is_met() -> None:
    result = register_landmarks(PHANTOM, TOUCHED, moving="Phantom", fixed="Reference")
    found = matrix_of(result)
    assert np.linalg.norm(found[:3, 3] - PUBLISHED[:3, 3]) < 0.1
    turn = Rotation.from_matrix(found[:3, :3] @ np.linalg.inv(PUBLISHED[:3, :3])).magnitude()
    assert np.degrees(turn) < 0.2
    assert abs(result.residual_mm.mean() - PUBLISHED_ERROR_MM) < 0.02
    assert result.outliers == ()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_exact_points_give_the_exact_map(kind: str, seed: int) -> None:
    truth = random_rigid(np.random.default_rng(seed))
    truth[:3, :3] *= 1.0 if kind == "rigid" else 0.8 + 0.1 * seed
    points = cloud(seed, 3 + seed)
    result = register_landmarks(points, moved(truth, points), kind=kind)
    assert np.allclose(matrix_of(result), truth, atol=1e-8)
    assert result.rms_mm < 1e-8


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_simpleitk_finds_the_same_map(kind: str) -> None:
    random = np.random.default_rng(11)
    points = cloud(12, 7)
    target = moved(random_rigid(random), points) * (1.07 if kind == "similarity" else 1.0) + random.normal(0, 1, (7, 3))
    peer = sitk.VersorRigid3DTransform() if kind == "rigid" else sitk.Similarity3DTransform()
    peer = sitk.LandmarkBasedTransformInitializer(peer, points.ravel().tolist(), target.ravel().tolist())
    theirs = np.array([peer.TransformPoint(p.tolist()) for p in points])
    result = register_landmarks(points, target, kind=kind)
    ours = result.transform.apply(points)
    if kind == "rigid":
        assert np.abs(ours - theirs).max() < 1e-3
    else:  # ITK takes Horn's symmetric scale, not the one of least residual
        assert np.abs(ours - theirs).max() < 0.2
        assert result.rms_mm <= np.sqrt(((theirs - target) ** 2).sum(axis=1).mean())


def test_a_nonlinear_fit_of_scipy_finds_the_same_similarity() -> None:
    points = cloud(12, 7)
    random = np.random.default_rng(3)
    target = 1.07 * moved(random_rigid(random), points) + random.normal(0, 1, (7, 3))

    def mapped(x):
        return x[3] * Rotation.from_rotvec(x[:3]).apply(points) + x[4:]
    start = Rotation.from_matrix(matrix_of(register_landmarks(points, target))[:3, :3]).as_rotvec()
    found = least_squares(lambda x: (mapped(x) - target).ravel(), [*start, 1.0, 0, 0, 0]).x
    ours = register_landmarks(points, target, kind="similarity").transform.apply(points)
    assert np.abs(ours - mapped(found)).max() < 1e-3


def test_vtk_bends_the_same_thin_plate() -> None:
    random = np.random.default_rng(5)
    points = cloud(6, 12)
    target = moved(random_rigid(random), points) + random.normal(0, 6, (12, 3))
    peer, lists = vtk.vtkThinPlateSplineTransform(), []
    for array in (points, target):
        lists.append(vtk.vtkPoints())
        for p in array:
            lists[-1].InsertNextPoint(*p)
    peer.SetSourceLandmarks(lists[0])
    peer.SetTargetLandmarks(lists[1])
    peer.SetBasisToR()
    peer.Update()
    result = register_landmarks(points, target, kind="thin_plate")
    assert result.rms_mm < 1e-6
    probe = cloud(7, 20)
    theirs = np.array([peer.TransformPoint(p) for p in probe])
    assert np.abs(result.transform.apply(probe) - theirs).max() < 1e-3


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_the_expected_error_at_a_target_is_that_of_many_registrations(kind: str) -> None:
    points, target_at = cloud(1, 6), np.array([[90.0, -40.0, 120.0], [0.0, 0.0, 0.0]])
    errors, said = [], []
    for seed in range(150):
        noise = np.random.default_rng(seed).normal(0, 1.2, points.shape)
        result = register_landmarks(points, points + noise, kind=kind)
        errors.append(((result.transform.apply(target_at) - target_at) ** 2).sum(axis=1))
        said.append(result.tre_mm(target_at) ** 2)
    ratio = np.sqrt(np.mean(errors, axis=0) / np.mean(said, axis=0))
    assert np.all((ratio > 0.85) & (ratio < 1.15))
    known = register_landmarks(points, points, kind=kind).tre_mm(target_at, fle_mm=1.2 * np.sqrt(3))
    assert np.allclose(known, np.sqrt(np.mean(errors, axis=0)), rtol=0.15)


def test_leave_one_out_is_what_a_fit_without_the_point_misses() -> None:
    random = np.random.default_rng(3)
    points = cloud(3, 6)
    target = points + random.normal(0, 2, points.shape)
    result = register_landmarks(points, target)
    for n in range(6):
        rest = [k for k in range(6) if k != n]
        peer = sitk.LandmarkBasedTransformInitializer(sitk.VersorRigid3DTransform(), points[rest].ravel().tolist(),
                                                      target[rest].ravel().tolist())
        missed = np.linalg.norm(np.array(peer.TransformPoint(points[n].tolist())) - target[n])
        assert result.left_out_mm[n] == pytest.approx(missed, abs=1e-3)
    assert (result.left_out_mm > result.residual_mm).all()


def test_wrong_points_are_named_and_excluded_only_when_asked() -> None:
    names = ["liver dome", "portal fork", "T12 left", "T12 right", "gallbladder", "kidney", "cava", "tip"]
    random = np.random.default_rng(9)
    points = cloud(9)
    target = moved(random_rigid(random), points) + random.normal(0, 0.7, points.shape)
    target[[2, 5]] += [[14.0, 3.0, -6.0], [-5.0, 12.0, 8.0]]
    result = register_landmarks(points, target, names=names)
    assert set(result.outliers) == {"T12 left", "kidney"}
    assert result.used.all()
    without = register_landmarks(points, target, names=names, exclude=result.outliers)
    assert without.outliers == ()
    assert without.rms_mm < 1.5 < result.rms_mm
    assert without.residual_mm[2] > 10  # still told


def test_good_points_are_seldom_called_wrong() -> None:
    called = sum(bool(register_landmarks(cloud(seed), cloud(seed) + np.random.default_rng(seed).normal(0, 1, (8, 3))
                                         ).outliers) for seed in range(60))
    assert called <= 3


LINE = np.linspace(0, 100, 4)[:, None] * np.array([[1.0, 0.5, 0.2]])
FLAT = np.column_stack([cloud(1, 7)[:, :2], np.zeros(7)])


@pytest.mark.parametrize(("points", "target", "kind", "words"), [
    (LINE, LINE, "rigid", "one line"),
    (LINE[:3], LINE[:3] + 5, "similarity", "one line"),
    (cloud(1, 2), cloud(1, 2), "rigid", "at least 3"),
    (np.empty((0, 3)), np.empty((0, 3)), "rigid", "at least 3"),
    (FLAT, FLAT, "thin_plate", "one plane"),
    (cloud(1, 4), cloud(1, 4), "thin_plate", "at least 5"),
    (cloud(1)[[0, 1, 2, 2]], cloud(1)[[0, 1, 2, 3]], "rigid", "one place"),
    (cloud(1), cloud(1) * [-1, 1, 1], "rigid", "swapped"),
])
def test_what_cannot_carry_a_registration_is_refused(points, target, kind: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        register_landmarks(points, target, kind=kind)


def test_lists_that_do_not_pair_are_bad_input() -> None:
    with pytest.raises(InputError, match="5 moving and 4 fixed"):
        register_landmarks(cloud(1, 5), cloud(1, 4))
    with pytest.raises(InputError, match="not a number"):
        register_landmarks(cloud(1, 4) * np.nan, cloud(1, 4))
    with pytest.raises(InputError, match="no landmark is named liver"):
        register_landmarks(cloud(1, 4), cloud(1, 4), exclude=["liver"])
    with pytest.raises(InputError, match="affine"):
        register_landmarks(cloud(1, 4), cloud(1, 4), kind="affine")


def test_flat_points_are_enough_for_a_rigid_map() -> None:
    truth = random_rigid(np.random.default_rng(2))
    assert np.allclose(matrix_of(register_landmarks(FLAT, moved(truth, FLAT))), truth, atol=1e-8)


def test_json_names_frames_points_and_targets() -> None:
    result = register_landmarks(PHANTOM, TOUCHED, moving="Phantom", fixed="Reference", targets_moving=[[30, 20, 10]])
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (values["frame"], values["from_frame"], values["units"]) == ("Reference", "Phantom", "mm")
    assert np.allclose(values["PhantomToReference"], matrix_of(result))
    assert len(values["points"]) == 8
    (target,) = values["uncertainty"]["targets"]
    assert target["tre_mm"] == pytest.approx(values["uncertainty"]["fle_mm"] / np.sqrt(8), rel=0.15)  # at the centre
    plate = json.loads(json.dumps(register_landmarks(PHANTOM, TOUCHED, kind="thin_plate").to_dict(), allow_nan=False))
    assert plate["uncertainty"]["fle_mm"] is None
    assert plate["uncertainty"]["left_out_rms_mm"] > 0
