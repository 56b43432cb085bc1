"""Views for a path, patient positions, and a C-arm made metric: by hand, by computed phantoms, by OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import InputError, RefusedError, beam_direction, geometry_from_angles
from IRAILib.navigation.carm import ArmLimits, bulls_eye, nearest_reachable, progression, table_from_ras
from IRAILib.navigation.carm_calibration import carm_to_tracker, hand_eye, moved, resect
from scipy.spatial.transform import Rotation


def test_a_bulls_eye_looks_along_the_path():
    """From the left front downwards: LAO 40; the other end would need the tube above."""
    direction = -beam_direction(40, 12)
    first, second = bulls_eye(direction)
    assert (first.primary_deg, first.secondary_deg) == pytest.approx((40, 12))
    assert first.label == "LAO 40 CRA 12"
    assert first.reachable
    assert first.detector_at == "front, left"
    assert not second.reachable
    assert second.wanted_deg == pytest.approx((-140, -12))
    assert second.deviation_deg > 30


@pytest.mark.parametrize(("position", "label"), [
    ("HFS", "LAO 30"), ("HFP", "RAO 150"), ("FFS", "RAO 30"), ("FFP", "LAO 150"), ("HFDL", "LAO 120"),
    ("HFDR", "RAO 60")])
def test_the_same_path_in_patients_who_lie_otherwise(position, label):
    """A beam out of the patient's left front. Lying on the left side his front faces the table's left."""
    everything = ArmLimits((-180, 180), (-90, 90))
    beam = beam_direction(30, 0)
    labels = [view.label for view in bulls_eye(beam, position=position, limits=everything)]
    assert label in labels


def test_positions_are_rotations_that_bring_the_right_side_up():
    for position in ("HFS", "HFP", "FFS", "FFP", "HFDR", "HFDL", "FFDR", "FFDL"):
        matrix = table_from_ras(position)[:3, :3]
        assert np.linalg.det(matrix) == pytest.approx(1)
        up = matrix.T @ [0, 1, 0]
        side = {"S": [0, 1, 0], "P": [0, -1, 0], "R": [-1, 0, 0], "L": [1, 0, 0]}[position[-1]]
        assert up == pytest.approx(side), "decubitus right: the left side is up"
        assert (matrix @ [0, 0, 1])[2] == (1 if position[0] == "H" else -1)
    shifted = table_from_ras("FFS", np.array([10.0, 20.0, 30.0]))
    assert shifted @ [10, 20, 30, 1] == pytest.approx([0, 0, 0, 1])
    for wrong in ("", "XYZ", "HF", None):
        with pytest.raises(InputError, match="position"):
            table_from_ras(wrong)


def test_the_nearest_reachable_view_and_its_deviation():
    """Beyond a limit of the secondary angle at primary 0 the nearest view lies straight on the limit."""
    limits = ArmLimits((-90, 90), (-30, 30))
    assert nearest_reachable(beam_direction(0, 50), limits) == pytest.approx((0, 30, 20), abs=0.01)
    assert nearest_reachable(beam_direction(20, 10), limits) == pytest.approx((20, 10, 0))
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.linspace(-90, 90, 361), np.linspace(-30, 30, 121)), -1).reshape(-1, 2)
    beams = np.array([beam_direction(*pair) for pair in grid])
    for _ in range(10):
        wanted = rng.normal(size=3)
        wanted /= np.linalg.norm(wanted)
        by_hand = np.degrees(np.arccos(np.clip((beams @ wanted).max(), -1, 1)))
        primary, secondary, deviation = nearest_reachable(wanted, limits)
        assert deviation <= by_hand + 0.01
        assert limits.allows(primary, secondary)
    high = ArmLimits((100, 180), (-30, 30))
    assert nearest_reachable(beam_direction(-180, 0), high)[:2] == pytest.approx((180, 0)), "-180 is 180"


def test_progression_views_cross_the_path_and_each_other():
    path = beam_direction(35, 10)
    views = progression(path)
    beams = [beam_direction(v.primary_deg, v.secondary_deg) for v in views]
    assert len(views) == 2
    for view, beam in zip(views, beams, strict=True):
        assert view.reachable
        assert beam @ path == pytest.approx(0, abs=1e-6)
    assert abs(beams[0] @ beams[1]) < 0.7
    tight = ArmLimits((30, 40), (5, 15))
    off = progression(path, limits=tight)
    assert len(off) == 1
    assert not off[0].reachable
    beam = beam_direction(off[0].primary_deg, off[0].secondary_deg)
    assert off[0].deviation_deg == pytest.approx(90 - np.degrees(np.arccos(abs(beam @ path))), abs=0.01)


@pytest.mark.parametrize("call", [
    lambda: bulls_eye([0, 0, 0]), lambda: bulls_eye([np.nan, 0, 1]), lambda: bulls_eye([1, 0]),
    lambda: progression([0, 0, 0]), lambda: ArmLimits((50, 20), (0, 1)), lambda: ArmLimits((0, 1), (-100, 100)),
    lambda: bulls_eye([0, 1, 0], position="LYING")])
def test_nonsense_gives_one_line(call):
    with pytest.raises(InputError):
        call()


# --- calibration -----------------------------------------------------------------------------------------------------

BALLS = np.random.default_rng(2).uniform(-60, 60, (24, 3))


def rigid(seed: int) -> np.ndarray:
    out = np.eye(4)
    rng = np.random.default_rng(seed)
    out[:3, :3] = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    out[:3, 3] = rng.uniform(-400, 400, 3)
    return out


def arm(primary: float, secondary: float):
    return geometry_from_angles(primary, secondary, 1120, 760, 0.3, (1024, 1024), detector_rotation_deg=3)


@pytest.mark.parametrize("angles", [(0, 0), (40, -20), (-85, 10)])
def test_a_phantom_gives_the_projection(angles):
    true = arm(*angles)
    exact = resect(BALLS, true.project(BALLS), 0.3, (1024, 1024))
    assert exact.geometry.source_mm == pytest.approx(true.source_mm, abs=1e-3)
    assert exact.geometry.pixel0_mm == pytest.approx(true.pixel0_mm, abs=1e-3)
    assert exact.geometry.frame == "Phantom"
    rng = np.random.default_rng(6)
    seen = true.project(BALLS) + rng.normal(0, 0.2, (24, 2))
    noisy = resect(BALLS, seen, 0.3, (1024, 1024))
    assert 0.1 < np.sqrt(np.mean(noisy.residual_px**2)) < 0.35
    assert np.sqrt(np.mean(noisy.held_out_px**2)) > np.sqrt(np.mean(noisy.residual_px**2))
    fresh = np.random.default_rng(9).uniform(-50, 50, (50, 3))
    assert np.linalg.norm(noisy.geometry.project(fresh) - true.project(fresh), axis=1).max() < 0.5
    assert "held_out_rms_px" in noisy.to_dict()


def test_opencv_finds_the_same_source():
    cv2 = pytest.importorskip("cv2")
    true = arm(30, 15)
    seen = true.project(BALLS) + np.random.default_rng(1).normal(0, 0.1, (24, 2))
    found = resect(BALLS, seen, 0.3, (1024, 1024)).geometry
    mirrored = seen * [-1, 1] + [1023, 0]  # OpenCV's cameras look along right-handed axes
    camera = np.array([[1120 / 0.3, 0, 511.5], [0, 1120 / 0.3, 511.5], [0, 0, 1]])
    ok, turn, shift = cv2.solvePnP(BALLS, mirrored, camera, np.zeros(5))
    assert ok
    source = -cv2.Rodrigues(turn)[0].T @ shift[:, 0]
    assert np.linalg.norm(source - true.source_mm) < 5
    assert np.linalg.norm(found.source_mm - true.source_mm) < 8


def test_flat_few_and_swapped_balls_are_refused():
    true = arm(0, 0)
    flat = BALLS * [1, 1, 0.001]
    for balls, words in ((flat, "plane"), (BALLS[:6], "balls")):
        with pytest.raises(RefusedError, match=words):
            resect(balls, true.project(balls), 0.3, (1024, 1024))
    with pytest.raises(RefusedError):
        resect(BALLS, true.project(BALLS)[np.random.default_rng(0).permutation(24)], 0.3, (1024, 1024))
    for balls, pixels in ((BALLS, np.zeros((3, 2))), (BALLS * np.nan, np.zeros((24, 2))), (np.zeros(3), np.zeros(2))):
        with pytest.raises(InputError):
            resect(balls, pixels, 0.3, (1024, 1024))


def test_carm_to_tracker_from_a_tracked_phantom():
    expected, table_from_phantom = rigid(3), rigid(4)
    table_from_phantom[:3, 3] = 5.0, -8.0, 12.0
    balls_in_table = BALLS @ table_from_phantom[:3, :3].T + table_from_phantom[:3, 3]
    rng = np.random.default_rng(5)
    by_angles = [arm(*angles) for angles in ((0, 0), (40, 0), (-40, 10), (10, 30), (-20, -25))]
    by_phantom = []
    for true in by_angles:
        seen = true.project(balls_in_table) + rng.normal(0, 0.1, (24, 2))
        by_phantom.append(moved(resect(BALLS, seen, 0.3, (1024, 1024)).geometry, expected @ table_from_phantom,
                                "Tracker"))
    found = carm_to_tracker(by_angles, by_phantom)
    assert found.tracker_from_table[:3, 3] == pytest.approx(expected[:3, 3], abs=2.0)
    assert np.degrees(Rotation.from_matrix(found.tracker_from_table[:3, :3] @ expected[:3, :3].T).magnitude()) < 0.2
    assert found.held_out_target_mm < 2
    assert (found.held_out_mm > 0).all()
    with pytest.raises(RefusedError, match="degrees"):
        carm_to_tracker(by_angles[:1] * 3, by_phantom[:1] * 3)
    with pytest.raises(RefusedError, match="three"):
        carm_to_tracker(by_angles[:2], by_phantom[:2])
    with pytest.raises(InputError):
        carm_to_tracker(by_angles, by_phantom[:2])


def hand_eye_poses(sd_mm: float = 0.0, only_primary: bool = False):
    a_from_b, world = rigid(7), rigid(8)
    rng = np.random.default_rng(9)
    pairs = []
    for primary, secondary in ((0, 0), (40, 0), (-40, 15), (20, -30), (-10, 30), (60, -5), (5, 12)):
        b = np.eye(4)
        b[:3, :3] = Rotation.from_euler("zx", [primary, 0 if only_primary else secondary], degrees=True).as_matrix()
        b[:3, 3] = b[:3, :3] @ [0, 360, 0]
        a = world @ b @ np.linalg.inv(a_from_b)
        a[:3, 3] += rng.normal(0, sd_mm, 3)
        pairs.append((a, b))
    return *(np.array(p) for p in zip(*pairs, strict=True)), a_from_b, world


def test_hand_eye_of_exact_and_noisy_poses_as_opencv():
    a, b, a_from_b, world = hand_eye_poses()
    found = hand_eye(a, b)
    assert found.a_from_b == pytest.approx(a_from_b, abs=1e-6)
    assert found.world_a_from_world_b == pytest.approx(world, abs=1e-6)
    assert found.to_dict()["frame"].startswith("b to a")
    a, b, a_from_b, world = hand_eye_poses(0.3)
    noisy = hand_eye(a, b)
    assert noisy.a_from_b[:3, 3] == pytest.approx(a_from_b[:3, 3], abs=1.5)
    assert 0.05 < np.sqrt(np.mean(noisy.residual_mm**2)) < 1.0
    assert np.mean(noisy.held_out_mm) > np.mean(noisy.residual_mm)
    cv2 = pytest.importorskip("cv2")
    if hasattr(cv2, "calibrateHandEye"):
        back = np.linalg.inv(b)
        turn, shift = cv2.calibrateHandEye(a[:, :3, :3], a[:, :3, 3], back[:, :3, :3], back[:, :3, 3],
                                           method=cv2.CALIB_HAND_EYE_PARK)
        assert noisy.a_from_b[:3, :3] == pytest.approx(turn, abs=1e-3)
        assert noisy.a_from_b[:3, 3] == pytest.approx(shift[:, 0], abs=0.2)


def test_hand_eye_refuses_what_one_axis_leaves_open():
    a, b, *_ = hand_eye_poses(only_primary=True)
    with pytest.raises(RefusedError, match="axis"):
        hand_eye(a, b)
    with pytest.raises(RefusedError, match="four"):
        hand_eye(a[:3], b[:3])
    with pytest.raises(InputError):
        hand_eye(a, b[:-1])
    with pytest.raises(InputError):
        hand_eye(a * 2, b)
