"""The camera overlay against boards rendered by numpy through a known lens (camera_render)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from camera_render import BROWN, MATRIX, SIZE, distorted, pose_of, rendered

pytest.importorskip("cv2", reason="needs OpenCV: pip install opencv-python-headless")

from IRAILib.geometry import InputError, RefusedError
from IRAILib.navigation.camera import CameraPath, CameraStatus, draw_path, find_pose
from IRAILib.navigation.camera_board import Board, BoardView
from IRAILib.navigation.camera_calibration import CameraCalibration, calibrate_camera

BOARD = Board()
LENS = CameraCalibration(MATRIX, np.array([*BROWN, 0.0]), SIZE, 0.1, 0.1, np.array([0.3, 0.3, 0.4, 0.4]), 16, 60.0, 2.0,
                         0.7)
PATH = CameraPath(np.array([90.0, 60.0, 0.0]), np.array([60.0, 90.0, 80.0]))


def seen(pose: np.ndarray, rng: np.random.Generator, noise: float = 0.15) -> BoardView:
    """Corners as a detector would give them, those inside the picture."""
    places = distorted(BOARD.corners_mm() @ pose[:3, :3].T + pose[:3, 3]) + rng.normal(scale=noise, size=(40, 2))
    inside = ((places > 4) & (places < np.array(SIZE) - 5)).all(axis=1)
    return BoardView(np.flatnonzero(inside), places[inside], SIZE)


def views(count=16, tilt=35.0, near=170.0, far=380.0, noise=0.15, seed=1) -> list[BoardView]:
    rng = np.random.default_rng(seed)
    return [seen(pose_of(rng.uniform(-1, 1, 3) * [tilt, tilt, 20], rng.uniform(near, far),
                         shift_mm=rng.uniform(-1, 1, 2) * [60, 45]), rng, noise) for _ in range(count)]


@pytest.fixture(scope="module")
def print_() -> np.ndarray:
    return BOARD.picture(6.0)


def test_corners_of_a_rendered_board_lie_where_the_lens_puts_them(print_):
    pose = pose_of((25, -20, 10), 240)
    view = BOARD.find(rendered(print_, 6.0, pose))
    assert len(view.numbers) == 40
    truth = distorted(BOARD.corners_mm()[view.numbers] @ pose[:3, :3].T + pose[:3, 3])
    assert np.abs(view.places_px - truth).max() < 0.35
    assert np.abs((view.places_px - truth).mean(axis=0)).max() < 0.06  # no half pixel between the conventions
    colour = BOARD.find(np.repeat(rendered(print_, 6.0, pose)[..., None], 3, axis=2))
    np.testing.assert_allclose(colour.places_px, view.places_px, atol=0.05)


def test_the_lens_comes_back_within_its_own_uncertainty():
    lens = calibrate_camera(views(), BOARD)
    found = np.array([lens.matrix[0, 0], lens.matrix[1, 1], lens.matrix[0, 2], lens.matrix[1, 2]])
    truth = np.array([MATRIX[0, 0], MATRIX[1, 1], MATRIX[0, 2], MATRIX[1, 2]])
    assert np.all(np.abs(found - truth) < 4.0 * lens.sigma_px)
    assert np.all(lens.sigma_px < 3.0)
    assert lens.held_out_px == pytest.approx(0.15 * np.sqrt(2.0), rel=0.3)
    assert lens.tilt_deg > 30.0
    rays = np.array([[0.3, 0.2, 1.0], [-0.35, -0.25, 1.0], [0.0, 0.0, 1.0]]) * 200.0
    shown, truth = lens.project(rays), distorted(rays)  # a shift of all is the pose's to take up
    np.testing.assert_allclose(shown - shown[2], truth - truth[2], atol=0.6)
    again = CameraCalibration.from_dict(json.loads(json.dumps(lens.to_dict())))
    np.testing.assert_allclose(again.project(rays), lens.project(rays))


def test_projection_is_the_lens_and_nothing_behind_or_far_outside():
    rays = np.random.default_rng(0).uniform((-60, -45, 100), (60, 45, 200), (50, 3))
    np.testing.assert_allclose(LENS.project(rays), distorted(rays), atol=1e-9)
    assert np.isnan(LENS.project(np.array([[0.0, 0.0, -1.0], [900.0, 0.0, 100.0], [0.0, 0.0, 0.0]]))).all()


@pytest.mark.parametrize(("pictures", "words"), [
    (lambda: views(5), "at least 8"),
    (lambda: views(tilt=2.0), "one side"),
    (lambda: views(near=240.0, far=241.0), "one distance"),
    (lambda: [BoardView(v.numbers, v.places_px * 0.3 + 100.0, v.size_px) for v in views()], "cover"),
    (lambda: views(noise=4.0), "left out of the fit"),
])
def test_views_that_cannot_carry_a_lens_are_refused(pictures, words):
    with pytest.raises(RefusedError, match=words):
        calibrate_camera(pictures(), BOARD)


def test_pictures_of_two_sizes_are_refused():
    both = views()
    both[0] = BoardView(both[0].numbers, both[0].places_px, (800, 600))
    with pytest.raises(InputError, match="size"):
        calibrate_camera(both, BOARD)


def test_the_pose_and_the_target_lie_within_what_is_said_of_them():
    rng, ratios, pixels = np.random.default_rng(7), [], []
    target = np.array([60.0, 90.0, 80.0])
    for _ in range(60):
        pose = pose_of(rng.uniform(-1, 1, 3) * [35, 35, 20], rng.uniform(220, 380))
        found = find_pose(seen(pose, rng, 0.2), BOARD, LENS)
        assert found.status is CameraStatus.GOOD
        gap = found.camera_points(target)[0] - (pose[:3, :3] @ target + pose[:3, 3])
        ratios.append(gap @ np.linalg.solve(found.covariance_at(target), gap) / 3.0)
        overlay = draw_path(np.zeros((SIZE[1], SIZE[0]), np.uint8), PATH, found, LENS, np.eye(4))
        shift = overlay.target_px - distorted((pose[:3, :3] @ target + pose[:3, 3])[None])[0]
        pixels.append(np.linalg.norm(shift) / overlay.target_sigma_px)
    assert 0.05 < np.mean(ratios) < 2.0  # the lens is known here, so the truth is nearer than the lens' part allows
    assert np.percentile(pixels, 90) < 2.5
    json.dumps(found.to_dict())


def test_the_path_is_drawn_bent_as_the_lens_bends_it(print_):
    pose = pose_of((15, -10, 5), 240)
    picture = rendered(print_, 6.0, pose)
    lens_pose = find_pose(picture, BOARD, LENS, time_s=3.0)
    path = CameraPath(np.array([-10.0, -15.0, 0.0]), np.array([180.0, -10.0, 0.0]), np.array([0.0, 100.0, -20.0]),
                      np.array([0.0, 130.0, -60.0]))
    overlay = draw_path(picture, path, lens_pose, LENS, np.eye(4))
    assert overlay.drawn
    assert overlay.pose.time_s == 3.0
    ends = distorted(np.array([path.entry_ras, path.target_ras]) @ pose[:3, :3].T + pose[:3, 3])
    np.testing.assert_allclose([overlay.entry_px, overlay.target_px], ends, atol=0.8)
    middle = distorted(((path.entry_ras + path.target_ras) / 2.0 @ pose[:3, :3].T + pose[:3, 3])[None])[0]
    straight = ends.mean(axis=0)
    assert np.linalg.norm(middle - straight) > 3.0  # the case can tell a bent line from a straight one
    green = (overlay.picture == (80, 220, 120)).all(axis=2)
    rows = np.flatnonzero(green[:, round(middle[0])])
    assert abs(rows.mean() - middle[1]) < 1.5
    assert not (overlay.picture[:24] == np.repeat(picture[:24, :, None], 3, axis=2)).all()  # the error in words
    np.testing.assert_array_equal(picture, rendered(print_, 6.0, pose))
    moved = np.eye(4)
    moved[:3, 3] = (10.0, 0.0, 0.0)
    shifted = draw_path(picture, path, lens_pose, LENS, moved)
    np.testing.assert_allclose(shifted.entry_px, distorted(
        ((path.entry_ras + moved[:3, 3]) @ pose[:3, :3].T + pose[:3, 3])[None])[0], atol=0.8)


def test_lost_or_poor_markers_grey_the_picture_and_draw_nothing():
    rng = np.random.default_rng(3)
    good = seen(pose_of((20, 10, 0), 260), rng)
    picture = np.full((SIZE[1], SIZE[0], 3), (200, 40, 40), np.uint8)
    few = BoardView(good.numbers[:4], good.places_px[:4], SIZE)
    line = BoardView(good.numbers[:8], good.places_px[:8], SIZE)
    wild = BoardView(good.numbers, good.places_px + rng.normal(scale=6.0, size=good.places_px.shape), SIZE)
    far = seen(pose_of((8, 5, 0), 4000), rng, 0.5)
    for view, status in ((few, CameraStatus.LOST), (line, CameraStatus.LOST), (wild, CameraStatus.POOR),
                         (far, CameraStatus.POOR)):
        pose = find_pose(view, BOARD, LENS)
        assert pose.status is status
        assert pose.reason
        overlay = draw_path(picture, PATH, pose, LENS, np.eye(4))
        assert not overlay.drawn
        assert overlay.target_px is None
        lower = overlay.picture[60:]
        assert (lower[..., 0] == lower[..., 1]).all()
        assert (lower[..., 1] == lower[..., 2]).all()
        json.dumps(overlay.to_dict())
    sure = find_pose(good, BOARD, LENS)
    deep = draw_path(picture, CameraPath(np.zeros(3), np.array([0.0, 0.0, 200.0])), sure, LENS, np.eye(4),
                     max_sigma_mm=0.01)
    assert not deep.drawn
    assert "mm" in deep.reason


def test_a_path_behind_the_camera_is_left_out():
    pose = find_pose(seen(pose_of((10, 20, 0), 250), np.random.default_rng(0)), BOARD, LENS)
    overlay = draw_path(np.zeros((SIZE[1], SIZE[0]), np.uint8),
                        CameraPath(np.array([90.0, 60.0, -500.0]), np.array([90.0, 60.0, 0.0])), pose, LENS, np.eye(4))
    assert overlay.entry_px is None
    assert overlay.target_px is not None


def test_hostile_input():
    black = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    assert find_pose(black, BOARD, LENS).status is CameraStatus.LOST
    for wrong in (np.zeros((4, 4), np.uint8), black.astype(float), np.zeros((480, 640, 4), np.uint8), np.array(3)):
        with pytest.raises(InputError):
            BOARD.find(wrong)
    with pytest.raises(InputError, match="calibrated for"):
        find_pose(np.zeros((600, 800), np.uint8), BOARD, LENS)
    pose = find_pose(seen(pose_of((10, 20, 0), 250), np.random.default_rng(0)), BOARD, LENS)
    for wrong in (np.diag([2.0, 1.0, 1.0, 1.0]), np.diag([-1.0, 1.0, 1.0, 1.0]), np.eye(4)[[0, 1, 2, 2]]):  # mirrored
        with pytest.raises(InputError, match="rigid"):
            draw_path(black, PATH, pose, LENS, wrong)
    with pytest.raises(InputError, match="finite"):
        CameraPath(np.array([np.nan, 0.0, 0.0]), np.zeros(3))
    with pytest.raises(InputError, match="3 x 3"):
        Board(columns=2)
    with pytest.raises(InputError, match="dictionary"):
        Board(dictionary="DICT_OF_MINE").find(black)
    with pytest.raises(InputError, match="calibrate again"):
        CameraCalibration.from_dict({})
