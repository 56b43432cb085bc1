"""A camera's lens from pictures of a board: focal lengths, centre, distortion, checked on pictures left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, RefusedError
from .camera_board import Board, BoardView, opencv
from .poses import plain

MIN_VIEWS, MIN_CORNERS = 8, 12
MIN_TILT_DEG = 20.0
"""Between the two views that differ most: from one angle, focal length and distance can't be told apart."""
MIN_DEPTH_RATIO = 1.2
MIN_COVER = 0.35
"""Of the picture's area, by all corners' hull: distortion is largest where no corner was."""
MAX_HELD_OUT_PX = 1.5
HELD_OUT_EVERY = 4
VALIDATED_ON = "boards rendered through known lenses; no real camera"


@dataclass(frozen=True, eq=False)
class CameraCalibration:
    """A pinhole with Brown's distortion.

    matrix: (3, 3) focal lengths and centre, pixels. distortion: (5,) k1, k2, p1, p2, k3 as OpenCV has them.
    size_px: (columns, rows) that it holds for. rms_px: of all corners used. held_out_px: root mean square distance of
    corners that neither the lens nor the picture's own pose was fitted to. sigma: standard deviations of fx, fy, cx,
    cy, pixels. tilt_deg, depth_ratio, cover: how much the views differ.
    """

    matrix: np.ndarray
    distortion: np.ndarray
    size_px: tuple[int, int]
    rms_px: float
    held_out_px: float
    sigma_px: np.ndarray
    views: int
    tilt_deg: float
    depth_ratio: float
    cover: float
    validated_on: str = VALIDATED_ON

    def to_dict(self) -> dict[str, Any]:
        return plain({"kind": "camera", "units": "px", "frame": "Camera", "matrix": self.matrix,
                      "distortion": self.distortion, "size_px": self.size_px,
                      "uncertainty": {"rms_px": self.rms_px, "held_out_px": self.held_out_px,
                                      "sigma_fx_fy_cx_cy_px": self.sigma_px},
                      "views": self.views, "tilt_deg": self.tilt_deg, "depth_ratio": self.depth_ratio,
                      "cover": self.cover, "validated_on": self.validated_on})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CameraCalibration:
        """What `to_dict` gave; raises InputError, naming what is wrong."""
        try:
            spread = values["uncertainty"]
            matrix, distortion = np.asarray(values["matrix"], float), np.asarray(values["distortion"], float)
            sigma = np.asarray(spread["sigma_fx_fy_cx_cy_px"], float)
            columns, rows = (int(n) for n in values["size_px"])
            numbers = [float(spread["rms_px"]), float(spread["held_out_px"])]
            extent = [float(values[name]) for name in ("tilt_deg", "depth_ratio", "cover")]
            views = int(values["views"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"camera calibration: {type(error).__name__}: {error}; calibrate again") from None
        if matrix.shape != (3, 3) or distortion.shape != (5,) or not np.isfinite([*matrix.ravel(), *distortion]).all() \
                or min(matrix[0, 0], matrix[1, 1], columns, rows) <= 0:
            raise InputError("camera calibration: the matrix must be 3x3 and the distortion 5 finite numbers")
        return cls(matrix, distortion, (columns, rows), numbers[0], numbers[1], sigma, views, extent[0], extent[1],
                   extent[2])

    def project(self, points_camera_mm: np.ndarray) -> np.ndarray:
        """(n, 3) in frame "Camera" (x right, y down, z ahead; mm) to (n, 2) pixels; NaN behind or far outside the
        picture, where the distortion's polynomial means nothing."""
        points = np.asarray(points_camera_mm, float).reshape(-1, 3)
        depth = np.where(points[:, 2] > 1e-6, points[:, 2], np.nan)
        x, y = points[:, 0] / depth, points[:, 1] / depth
        k1, k2, p1, p2, k3 = self.distortion
        square = x * x + y * y
        edge = np.array([[0, 0], [self.size_px[0], 0], [0, self.size_px[1]], self.size_px], float)
        far = np.square((edge - self.matrix[:2, 2]) / [self.matrix[0, 0], self.matrix[1, 1]]).sum(axis=1).max()
        radial = np.where(square > 2.25 * far, np.nan, 1.0 + square * (k1 + square * (k2 + square * k3)))
        u = x * radial + 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x)
        v = y * radial + p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y
        return np.stack([u, v], axis=1) @ self.matrix[:2, :2].T + self.matrix[:2, 2]

    def lens_slopes(self, points_camera_mm: np.ndarray) -> np.ndarray:
        """(n, 2, 4) how a projected point moves with fx, fy, cx and cy, pixels a pixel."""
        flat = (self.project(points_camera_mm) - self.matrix[:2, 2]) / [self.matrix[0, 0], self.matrix[1, 1]]
        out = np.zeros((len(flat), 2, 4))
        out[:, 0, 0], out[:, 1, 1] = flat[:, 0], flat[:, 1]
        out[:, 0, 2] = out[:, 1, 3] = 1.0
        return out


def calibrate_camera(pictures: Sequence[np.ndarray | BoardView], board: Board) -> CameraCalibration:
    """The lens from pictures of the board (or from their `board.find`), all of one size.

    A quarter of the views is left out of a first fit; there the pose comes from every second corner and the error from
    the others. The result is then fitted to all views.
    Raises: InputError for pictures of several sizes; RefusedError for fewer than 8 views with 12 corners, views from
        one angle or one distance, corners in a small part of the picture only, or a held-out error over 1.5 px.
    Source: Zhang 2000; the distortion is Brown's.
    """
    seen = [view if isinstance(view, BoardView) else board.find(view) for view in pictures]
    if len({view.size_px for view in seen}) > 1:
        raise InputError("the board's pictures differ in size: a calibration holds for one size and zoom")
    views = [view for view in seen if len(view.numbers) >= MIN_CORNERS]
    if len(views) < MIN_VIEWS:
        raise RefusedError(f"the board is seen well in {len(views)} of {len(seen)} pictures; take at least {MIN_VIEWS} "
                           f"with {MIN_CORNERS} corners, tilted differently, near and far")
    cover = _cover(views)
    if cover < MIN_COVER:
        raise RefusedError(f"the corners cover {cover:.0%} of the picture; bring the board into its corners too "
                           f"(at least {MIN_COVER:.0%})")
    kept_out = views[HELD_OUT_EVERY - 1::HELD_OUT_EVERY]
    first = _fit([view for n, view in enumerate(views) if (n + 1) % HELD_OUT_EVERY], board)
    tilt, ratio = _extent(first[3], first[4], board)
    _check_extent(tilt, ratio)
    held_out = _held_out(kept_out, board, first[1], first[2])
    if not held_out <= MAX_HELD_OUT_PX:
        raise RefusedError(f"corners left out of the fit are off by {held_out:.2f} px (at most {MAX_HELD_OUT_PX:g}): "
                           "is the board flat and printed to size, are the pictures sharp, focus and zoom fixed?")
    rms, matrix, distortion, turns, places, sigma = _fit(views, board)
    tilt, ratio = _extent(turns, places, board)
    return CameraCalibration(matrix, distortion, views[0].size_px, rms, held_out, sigma, len(views), tilt, ratio, cover)


def _fit(views: list[BoardView], board: Board) -> tuple[float, np.ndarray, np.ndarray, list, list, np.ndarray]:
    """(rms, matrix, distortion, rotations, translations, sigma of fx fy cx cy); k3 is held at 0."""
    cv2 = opencv()
    corners = board.corners_mm().astype(np.float32)
    objects = [corners[view.numbers][None] for view in views]
    images = [view.places_px.astype(np.float32)[None] for view in views]
    rms, matrix, distortion, turns, places, sigma, _, _ = cv2.calibrateCameraExtended(
        objects, images, views[0].size_px, None, None, flags=cv2.CALIB_FIX_K3)
    if not np.isfinite(matrix).all() or not np.isfinite(rms):
        raise RefusedError("no lens fits these views; take them tilted differently, near and far")
    return (float(rms), np.asarray(matrix), np.asarray(distortion).ravel()[:5], list(turns), list(places),
            np.asarray(sigma).ravel()[:4])


def _extent(turns: list, places: list, board: Board) -> tuple[float, float]:
    """(largest angle between two views' boards in degrees, farthest over nearest distance of their middles)."""
    cv2 = opencv()
    rotations, middle = np.array([cv2.Rodrigues(turn)[0] for turn in turns]), board.corners_mm().mean(axis=0)
    normals = rotations[:, :, 2]
    cosine = float(np.clip((normals @ normals.T).min(), -1.0, 1.0))
    depth = (rotations @ middle)[:, 2] + [float(np.ravel(place)[2]) for place in places]
    return math.degrees(math.acos(cosine)), float(depth.max() / max(depth.min(), 1e-9))


def _check_extent(tilt: float, ratio: float) -> None:
    if tilt < MIN_TILT_DEG:
        raise RefusedError(f"all views show the board from one side (within {tilt:.0f} degrees): tilt it by 30 to 45 "
                           "degrees in several directions, else focal length and distance can't be told apart")
    if ratio < MIN_DEPTH_RATIO:
        raise RefusedError(f"all views are from one distance (ratio {ratio:.2f}): take some nearer and some farther "
                           f"(at least {MIN_DEPTH_RATIO:g} times)")


def _held_out(views: list[BoardView], board: Board, matrix: np.ndarray, distortion: np.ndarray) -> float:
    """Root mean square error of every second corner of views that the lens wasn't fitted to, pixels."""
    cv2 = opencv()
    squares = []
    for view in views:
        points = board.corners_mm()[view.numbers]
        ok, turn, place = cv2.solvePnP(points[::2].copy(), view.places_px[::2].copy(), matrix, distortion)
        if ok:
            shown = cv2.projectPoints(points[1::2].copy(), turn, place, matrix, distortion)[0].reshape(-1, 2)
            squares.append(np.square(shown - view.places_px[1::2]).sum(axis=1))
    return float(np.sqrt(np.concatenate(squares).mean())) if squares else float("inf")


def _cover(views: list[BoardView]) -> float:
    """Part of the picture inside the hull of all corners."""
    from scipy.spatial import ConvexHull, QhullError

    columns, rows = views[0].size_px
    try:
        return float(ConvexHull(np.concatenate([view.places_px for view in views])).volume) / (columns * rows)
    except QhullError:
        return 0.0
