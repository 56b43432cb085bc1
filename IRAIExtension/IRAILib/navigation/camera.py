"""The plan drawn on a camera's picture: where the board is, how sure that is, and the path through a known lens.

Frames: "Board" and "Camera" (x right, y down, z ahead), mm; pixels are (column, row). The matrix `board_from_ras` comes
from touching landmarks with a tracked tool, or from the board's place on the patient.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy as np

from ..geometry import InputError, MissingPackageError
from .camera_board import Board, BoardView, checked_picture, opencv
from .camera_calibration import CameraCalibration
from .poses import check_poses, plain

MIN_CORNERS = 6
MAX_ERROR_PX = 1.5
MAX_SIGMA_MM = 3.0
AMBIGUITY = 1.6
"""A small or far board can lie in two ways: the second must fit that many times worse."""
VALIDATED_ON = "boards rendered through known lenses; no real camera"
ENTRY, TARGET, PATH, TOOL, GREY = (255, 200, 0), (255, 64, 64), (80, 220, 120), (90, 160, 255), (150, 150, 150)
STEPS = 48


class CameraStatus(StrEnum):
    """Whether a path may be drawn."""

    GOOD = "good"
    POOR = "poor"  # the board is seen, but its place isn't sure enough
    LOST = "lost"  # the board isn't seen


@dataclass(frozen=True, eq=False)
class CameraPose:
    """Where the board is in the camera's picture.

    camera_from_board: (4, 4) or None when lost. reprojection_px: root mean square of the corners' errors; None when
    lost. covariance: (6, 6) of a turn (rad, about the camera's axes through the board's origin) and a shift (mm), from
    the corners' errors, none smaller than the lens' own, and from the lens' uncertain focal lengths and centre.
    lens_gain: (6, 4) how the pose goes with fx, fy, cx, cy. corners: how many. reason: why it isn't good, "" else.
    """

    status: CameraStatus
    camera_from_board: np.ndarray | None = None
    reprojection_px: float | None = None
    covariance: np.ndarray | None = None
    lens_gain: np.ndarray | None = None
    corners: int = 0
    reason: str = ""
    time_s: float = 0.0
    validated_on: str = VALIDATED_ON

    def camera_points(self, points_board_mm: np.ndarray) -> np.ndarray:
        """(n, 3) from frame "Board" to frame "Camera", mm. Raises InputError when the board is lost."""
        if self.camera_from_board is None:
            raise InputError("the board is lost: nothing can be placed in the camera's picture")
        points = np.asarray(points_board_mm, float).reshape(-1, 3)
        return points @ self.camera_from_board[:3, :3].T + self.camera_from_board[:3, 3]

    def covariance_at(self, point_board_mm: np.ndarray) -> np.ndarray:
        """(3, 3) mm^2, frame "Camera", of a point fixed to the board; grows with its distance from the board."""
        if self.camera_from_board is None or self.covariance is None:
            raise InputError("the board is lost: nothing can be placed in the camera's picture")
        arm = self.camera_from_board[:3, :3] @ np.asarray(point_board_mm, float).reshape(3)
        jacobian = np.hstack([-_cross(arm), np.eye(3)])
        return jacobian @ self.covariance @ jacobian.T

    def to_dict(self) -> dict[str, Any]:
        return plain({"kind": "camera pose", "units": "mm", "frame": "Camera", "status": self.status.value,
                      "camera_from_board": self.camera_from_board, "reprojection_px": self.reprojection_px,
                      "covariance": self.covariance, "corners": self.corners, "reason": self.reason,
                      "time_s": self.time_s, "validated_on": self.validated_on})


def find_pose(picture: np.ndarray | BoardView, board: Board, lens: CameraCalibration, *, time_s: float = 0.0,
              max_error_px: float = MAX_ERROR_PX) -> CameraPose:
    """Where the board is in one picture, or its `board.find`.

    LOST with fewer than 6 corners; POOR with its reason when corners are off by more than `max_error_px` or the board
    may as well lie in another way.
    Raises: InputError for a picture of another size than the lens was calibrated for. MissingPackageError.
    Source: planar pose by IPPE (Collins and Bartoli 2014), then least squares.
    """
    view = picture if isinstance(picture, BoardView) else board.find(picture)
    if view.size_px != lens.size_px:
        raise InputError(f"the picture has {view.size_px[0]} x {view.size_px[1]} pixels, the lens was calibrated for "
                         f"{lens.size_px[0]} x {lens.size_px[1]}: calibrate for this size and zoom")
    count = len(view.numbers)
    if count < MIN_CORNERS:
        return CameraPose(CameraStatus.LOST, corners=count, time_s=time_s,
                          reason=f"{count} corners of the board are seen, {MIN_CORNERS} are needed")
    cv2 = opencv()
    points, matrix, distortion = board.corners_mm()[view.numbers], lens.matrix, lens.distortion
    if np.linalg.matrix_rank(points[:, :2] - points[:, :2].mean(axis=0), tol=1e-3) < 2:
        return CameraPose(CameraStatus.LOST, corners=count, time_s=time_s, reason="the corners seen lie on one line")
    solutions = []
    found = cv2.solvePnPGeneric(points, view.places_px, matrix, distortion, flags=cv2.SOLVEPNP_IPPE)
    for turn, place in zip(found[1], found[2], strict=True):
        turn, place = cv2.solvePnPRefineLM(points, view.places_px, matrix, distortion, turn.copy(), place.copy())
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(turn)[0], np.ravel(place)
        shown = lens.project(points @ pose[:3, :3].T + pose[:3, 3])
        error = float(np.sqrt(np.square(shown - view.places_px).sum(axis=1).mean()))
        if np.isfinite(error) and pose[2, 3] > 0:
            solutions.append((error, pose))
    if not solutions:
        return CameraPose(CameraStatus.LOST, corners=count, time_s=time_s, reason="no pose fits the corners")
    solutions.sort(key=lambda one: one[0])
    error, pose = solutions[0]
    covariance, gain = _covariance(points, pose, lens, max(error, lens.held_out_px))
    reason = ""
    others = [e for e, other in solutions[1:] if np.trace(other[:3, :3].T @ pose[:3, :3]) < 3.0 - 1e-3]
    if error > max_error_px:
        reason = f"the corners are off by {error:.1f} px (at most {max_error_px:g})"
    elif others and others[0] < AMBIGUITY * max(error, lens.held_out_px):
        reason = "the board could lie in two ways: bring the camera nearer or tilt it"
    status = CameraStatus.POOR if reason else CameraStatus.GOOD
    return CameraPose(status, pose, error, covariance, gain, count, reason, time_s)


def _cross(vector: np.ndarray) -> np.ndarray:
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def _covariance(points: np.ndarray, pose: np.ndarray, lens: CameraCalibration, sigma_px: float
                ) -> tuple[np.ndarray, np.ndarray]:
    """(6, 6) of turn and shift: corners' errors of `sigma_px` (root mean square distance) and the lens' own through the
    projection's slopes; (6, 4) the pose's change with the lens."""
    arms = points @ pose[:3, :3].T
    rows = []
    for column in range(6):
        step = 1e-5 if column < 3 else 1e-3
        moved = [arms @ _turned(column, sign * step).T if column < 3 else arms for sign in (1, -1)]
        shift = np.zeros(3) if column < 3 else step * np.eye(3)[column - 3]
        ahead, behind = lens.project(moved[0] + pose[:3, 3] + shift), lens.project(moved[1] + pose[:3, 3] - shift)
        rows.append(((ahead - behind) / (2.0 * step)).ravel())
    slopes = np.array(rows).T
    inverse = np.linalg.pinv(slopes.T @ slopes)
    gain = -inverse @ slopes.T @ lens.lens_slopes(arms + pose[:3, 3]).reshape(-1, 4)
    return sigma_px**2 / 2.0 * inverse + (gain * np.square(lens.sigma_px)) @ gain.T, gain


def _turned(axis: int, angle: float) -> np.ndarray:
    return np.eye(3) + _cross(angle * np.eye(3)[axis])


@dataclass(frozen=True, eq=False)
class CameraPath:
    """What is drawn: entry and target (3,), and the tool's tip and a point behind it, or None; RAS mm."""

    entry_ras: np.ndarray
    target_ras: np.ndarray
    tool_tip_ras: np.ndarray | None = None
    tool_back_ras: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("entry_ras", "target_ras", "tool_tip_ras", "tool_back_ras"):
            value = getattr(self, name)
            if value is not None and (np.shape(value) != (3,) or not np.isfinite(np.asarray(value, float)).all()):
                raise InputError(f"the camera path's {name} must be three finite numbers, RAS mm")


@dataclass(frozen=True, eq=False)
class CameraOverlay:
    """A picture with the plan on it.

    picture: (h, w, 3) uint8, red green blue. drawn: whether a path is on it; else the picture is grey and says why.
    entry_px, target_px: (2,) or None; target_sigma_px: standard deviation along the worst direction in the picture,
    target_sigma_mm: in space (worst axis), both of the camera's pose only, not of the registration.
    """

    picture: np.ndarray
    drawn: bool
    pose: CameraPose
    entry_px: np.ndarray | None = None
    target_px: np.ndarray | None = None
    target_sigma_px: float | None = None
    target_sigma_mm: float | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Without the picture."""
        return plain({"kind": "camera overlay", "drawn": self.drawn, "reason": self.reason, "entry_px": self.entry_px,
                      "target_px": self.target_px, "units": "px", "frame": "Camera",
                      "uncertainty": {"target_sigma_px": self.target_sigma_px,
                                      "target_sigma_mm": self.target_sigma_mm,
                                      "reprojection_px": self.pose.reprojection_px},
                      "pose": self.pose.to_dict(), "validated_on": VALIDATED_ON})


def draw_path(picture: np.ndarray, path: CameraPath, pose: CameraPose, lens: CameraCalibration,
              board_from_ras: np.ndarray, *, max_sigma_mm: float = MAX_SIGMA_MM) -> CameraOverlay:
    """The path on a picture, bent as the lens bends it, with the reprojection error in words.

    Nothing is drawn, and the picture is grey, when the pose isn't GOOD or the target's standard deviation is over
    `max_sigma_mm`.
    Args: picture: (h, w) or (h, w, 3) uint8, red green blue, not changed. board_from_ras: (4, 4) rigid, mm.
    Raises: InputError for another picture or matrix.
    """
    image = checked_picture(picture)
    if (image.shape[1], image.shape[0]) != lens.size_px:
        raise InputError(f"the picture has {image.shape[1]} x {image.shape[0]} pixels, the lens was calibrated for "
                         f"{lens.size_px[0]} x {lens.size_px[1]}")
    matrix = check_poses(np.asarray(board_from_ras, float)[None], what="board_from_ras")[0][0]
    canvas = np.ascontiguousarray(np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image.copy())
    if pose.status is not CameraStatus.GOOD:
        return CameraOverlay(_greyed(canvas, f"no path: {pose.reason}"), False, pose, reason=pose.reason)
    ends = np.array([path.entry_ras, path.target_ras], float) @ matrix[:3, :3].T + matrix[:3, 3]
    sigma_mm, sigma_px = _sigmas(ends[1], pose, lens)
    if not sigma_mm <= max_sigma_mm:
        reason = f"the target is known to {sigma_mm:.1f} mm only (at most {max_sigma_mm:g})"
        return CameraOverlay(_greyed(canvas, f"no path: {reason}"), False, pose, target_sigma_mm=sigma_mm,
                             target_sigma_px=sigma_px, reason=reason)
    entry_px, target_px = lens.project(pose.camera_points(ends))
    _line(canvas, ends[0], ends[1], pose, lens, PATH, 3)
    if path.tool_tip_ras is not None and path.tool_back_ras is not None:
        tool = np.array([path.tool_back_ras, path.tool_tip_ras], float) @ matrix[:3, :3].T + matrix[:3, 3]
        _line(canvas, tool[0], tool[1], pose, lens, TOOL, 2)
        _ring(canvas, lens.project(pose.camera_points(tool[1:]))[0], 4, TOOL)
    _ring(canvas, entry_px, 7, ENTRY)
    _ring(canvas, target_px, max(5, round(2.0 * sigma_px)) if np.isfinite(sigma_px) else 5, TARGET)
    error = f"board {pose.reprojection_px:.2f} px, target +- {sigma_mm:.1f} mm (camera only). Research."
    _words(canvas, error)
    return CameraOverlay(canvas, True, pose, _seen(entry_px), _seen(target_px), sigma_px, sigma_mm)


def _seen(place: np.ndarray) -> np.ndarray | None:
    return place if np.isfinite(place).all() else None


def _sigmas(point_board: np.ndarray, pose: CameraPose, lens: CameraCalibration) -> tuple[float, float]:
    """(mm along the worst axis, px along the worst direction) of a point fixed to the board. A wrong lens moves the
    pose so that the board still fits: in the picture the two errors nearly cancel by the board."""
    assert pose.camera_from_board is not None
    assert pose.covariance is not None
    assert pose.lens_gain is not None
    spread = pose.covariance_at(point_board)
    place = pose.camera_points(point_board)[0]
    step = 1e-3 * np.eye(3)
    slopes = ((lens.project(place + step) - lens.project(place - step)) / 2e-3).T
    arm = pose.camera_from_board[:3, :3] @ np.asarray(point_board, float)
    slopes = slopes @ np.hstack([-_cross(arm), np.eye(3)])
    variance = np.square(lens.sigma_px)
    corners = pose.covariance - (pose.lens_gain * variance) @ pose.lens_gain.T
    both = slopes @ pose.lens_gain + lens.lens_slopes(place[None])[0]
    flat = slopes @ corners @ slopes.T + (both * variance) @ both.T
    pixels = math.sqrt(max(float(np.linalg.eigvalsh(flat)[-1]), 0.0)) if np.isfinite(flat).all() else math.nan
    return math.sqrt(max(float(np.linalg.eigvalsh(spread)[-1]), 0.0)), pixels


def _line(canvas: np.ndarray, start: np.ndarray, stop: np.ndarray, pose: CameraPose, lens: CameraCalibration,
          color: tuple[int, int, int], width: int) -> None:
    """A straight line of space in short pieces; those behind the camera or far outside are left out."""
    part = np.linspace(0.0, 1.0, STEPS + 1)[:, None]
    places = lens.project(pose.camera_points(start + part * (stop - start)))
    cv2 = opencv()
    for a, b in pairwise(places):
        if np.isfinite([a, b]).all():
            cv2.line(canvas, _fixed(a), _fixed(b), color, width, cv2.LINE_AA, shift=4)


def _fixed(place: np.ndarray) -> tuple[int, int]:
    """Sixteenths of a pixel, for OpenCV."""
    return round(float(place[0]) * 16.0), round(float(place[1]) * 16.0)


def _ring(canvas: np.ndarray, place: np.ndarray, radius: int, color: tuple[int, int, int]) -> None:
    if np.isfinite(place).all():
        cv2 = opencv()
        cv2.circle(canvas, _fixed(place), radius * 16, color, 2, cv2.LINE_AA, shift=4)


def _words(canvas: np.ndarray, text: str) -> None:
    cv2 = opencv()
    size = max(0.4, canvas.shape[1] / 1600.0)
    base = int(24 * size) + 8
    canvas[:base + 8] //= 4
    cv2.putText(canvas, text, (8, base), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)


def _greyed(canvas: np.ndarray, text: str) -> np.ndarray:
    """The picture without colour and half as bright, with the reason on it."""
    grey = (canvas.astype(float).mean(axis=2, keepdims=True) * 0.5 + 0.25 * GREY[0]).astype(np.uint8)
    out = np.ascontiguousarray(np.repeat(grey, 3, axis=2))
    with suppress(MissingPackageError):  # the grey picture says it too
        _words(out, text)
    return out
