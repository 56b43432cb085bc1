"""A board seen through a known lens, by numpy alone: every pixel's ray is undistorted, cut with the board's plane, and
the printed picture looked up. Nothing of OpenCV's or the library's projection is used."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SIZE = (640, 480)
MATRIX = np.array([[610.0, 0.0, 325.5], [0.0, 607.0, 236.0], [0.0, 0.0, 1.0]])
BROWN = (-0.22, 0.06, 0.0008, -0.0006)
"""k1, k2, p1, p2 of a cheap wide lens: 12 pixels at the corners."""


def turned(x_deg: float, y_deg: float, z_deg: float) -> np.ndarray:
    """(3, 3) about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate(np.radians([x_deg, y_deg, z_deg])):
        c, s = np.cos(angle), np.sin(angle)
        a, b = [(1, 2), (2, 0), (0, 1)][axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = c
        turn[a, b], turn[b, a] = -s, s
        out = turn @ out
    return out


def distorted(points_camera: np.ndarray, matrix: np.ndarray = MATRIX, brown=BROWN) -> np.ndarray:
    """(n, 2) pixels of (n, 3) points."""
    x, y = (points_camera[:, :2] / points_camera[:, 2:]).T
    k1, k2, p1, p2 = brown
    r2 = x**2 + y**2
    f = 1 + k1 * r2 + k2 * r2**2
    u, v = x * f + 2 * p1 * x * y + p2 * (r2 + 2 * x**2), y * f + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y
    return np.stack([matrix[0, 0] * u + matrix[0, 2], matrix[1, 1] * v + matrix[1, 2]], axis=1)


def undistorted_rays(size=SIZE, matrix=MATRIX, brown=BROWN) -> np.ndarray:
    """(h, w, 3) with z = 1, by fixed-point iteration."""
    column, row = np.meshgrid(np.arange(size[0], dtype=float), np.arange(size[1], dtype=float))
    u, v = (column - matrix[0, 2]) / matrix[0, 0], (row - matrix[1, 2]) / matrix[1, 1]
    x, y = u.copy(), v.copy()
    k1, k2, p1, p2 = brown
    for _ in range(40):
        r2 = x**2 + y**2
        f = 1 + k1 * r2 + k2 * r2**2
        x, y = ((u - 2 * p1 * x * y - p2 * (r2 + 2 * x**2)) / f, (v - p1 * (r2 + 2 * y**2) - 2 * p2 * x * y) / f)
    return np.stack([x, y, np.ones_like(x)], axis=2)


def rendered(print_: np.ndarray, px_per_mm: float, pose: np.ndarray, *, seed: int = 0, noise: float = 2.0,
             size=SIZE, matrix=MATRIX, brown=BROWN) -> np.ndarray:
    """(h, w) uint8: the printed board at camera_from_board (4, 4) before a grey wall, a little blurred and noisy."""
    rays = undistorted_rays(size, matrix, brown)
    turn, place = pose[:3, :3], pose[:3, 3]
    scale = (turn[:, 2] @ place) / (rays @ turn[:, 2])
    board = (rays * scale[..., None] - place) @ turn
    at = np.stack([board[..., 1], board[..., 0]]) * px_per_mm - 0.5
    blur = ndimage.gaussian_filter(print_.astype(float), 0.35 * px_per_mm * np.median(scale) / matrix[0, 0])
    image = ndimage.map_coordinates(blur, at, order=1, mode="constant", cval=110.0)
    image[(scale < 0)] = 110.0
    margin = ((at[0] < -0.5) | (at[0] > print_.shape[0] - 0.5) | (at[1] < -0.5) | (at[1] > print_.shape[1] - 0.5))
    near = np.abs(board[..., :2] - np.array(print_.shape[::-1]) / px_per_mm / 2) < np.array(
        print_.shape[::-1]) / px_per_mm / 2 + 12.0
    image[margin & near.all(axis=2)] = 235.0  # the paper's white rim
    image = ndimage.gaussian_filter(image, 0.6) * 0.8 + 20.0
    return np.clip(np.random.default_rng(seed).normal(image, noise), 0, 255).astype(np.uint8)


def pose_of(turn_deg, distance_mm: float, middle_mm=(90.0, 60.0, 0.0), shift_mm=(0.0, 0.0)) -> np.ndarray:
    """camera_from_board (4, 4): the board's middle at a distance on the axis, shifted sideways, turned."""
    pose = np.eye(4)
    pose[:3, :3] = turned(*turn_deg)
    pose[:3, 3] = np.array([*shift_mm, distance_mm]) - pose[:3, :3] @ np.asarray(middle_mm)
    return pose
