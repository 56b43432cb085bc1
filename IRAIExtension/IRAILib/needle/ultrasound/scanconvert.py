"""Scan conversion both ways: samples along scan lines to a picture in mm, and back.

Probe frame, mm: x along the array, y away from its face; (0, 0) is the middle of the face. Scan data are (samples,
lines): the first sample of every line lies on the face. A picture's pixel centres are at integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...geometry import InputError


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"a scan's {name} must be a positive number, not {value}")


@dataclass(frozen=True)
class LinearScan:
    """Parallel lines. Raises: InputError for sizes that are not positive, or a steering of 60 degrees and more.

    Attributes:
        lines, samples: how many; at least 2 each.
        width_mm: from the first to the last line. depth_mm: length of a line.
        steer_deg: all lines lean by this from straight down, positive towards larger x.
    """

    lines: int
    samples: int
    width_mm: float
    depth_mm: float
    steer_deg: float = 0.0

    def __post_init__(self) -> None:
        _positive(width_mm=self.width_mm, depth_mm=self.depth_mm, lines=self.lines - 1, samples=self.samples - 1)
        if not abs(self.steer_deg) < 60.0:
            raise InputError(f"lines can't be steered by {self.steer_deg} degrees (less than 60 either way)")

    def mm_from_scan(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) (line, sample) indices, fractions allowed, to (..., 2) mm."""
        points = np.asarray(points, float)
        along = points[..., 1] * self.depth_mm / (self.samples - 1)
        angle = math.radians(self.steer_deg)
        x = points[..., 0] * self.width_mm / (self.lines - 1) - 0.5 * self.width_mm + along * math.sin(angle)
        return np.stack([x, along * math.cos(angle)], -1)

    def scan_from_mm(self, points: np.ndarray) -> np.ndarray:
        """The inverse; points outside the scan give indices outside 0..n - 1."""
        points = np.asarray(points, float)
        along = points[..., 1] / math.cos(math.radians(self.steer_deg))
        start = points[..., 0] - along * math.sin(math.radians(self.steer_deg))
        return np.stack([(start / self.width_mm + 0.5) * (self.lines - 1), along / self.depth_mm * (self.samples - 1)],
                        -1)


@dataclass(frozen=True)
class CurvedScan:
    """Lines that spread from an apex behind the face: a curved array, or (radius_mm near 0) a phased one.

    Attributes:
        radius_mm: from the apex to the face; 0 for a phased array. depth_mm: length of a line beyond the face.
        first_deg, last_deg: angle of the first and last line from straight down, first < last.
    Raises: InputError for sizes that are not positive, or angles out of order or beyond 90 degrees.
    """

    lines: int
    samples: int
    radius_mm: float
    depth_mm: float
    first_deg: float
    last_deg: float

    def __post_init__(self) -> None:
        _positive(depth_mm=self.depth_mm, lines=self.lines - 1, samples=self.samples - 1)
        if not (math.isfinite(self.radius_mm) and self.radius_mm >= 0):
            raise InputError(f"a curved array's radius must be 0 mm or more, not {self.radius_mm}")
        if not -90.0 <= self.first_deg < self.last_deg <= 90.0:
            raise InputError(f"a curved array's angles must rise within -90..90, not {self.first_deg}..{self.last_deg}")

    def mm_from_scan(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) (line, sample) indices, fractions allowed, to (..., 2) mm."""
        points = np.asarray(points, float)
        angle = np.radians(self.first_deg + points[..., 0] * (self.last_deg - self.first_deg) / (self.lines - 1))
        radius = self.radius_mm + points[..., 1] * self.depth_mm / (self.samples - 1)
        return np.stack([radius * np.sin(angle), radius * np.cos(angle) - self.radius_mm], -1)

    def scan_from_mm(self, points: np.ndarray) -> np.ndarray:
        """The inverse; points outside the scan give indices outside 0..n - 1."""
        points = np.asarray(points, float)
        down = points[..., 1] + self.radius_mm
        angle = np.degrees(np.arctan2(points[..., 0], down))
        along = np.hypot(points[..., 0], down) - self.radius_mm
        return np.stack([(angle - self.first_deg) / (self.last_deg - self.first_deg) * (self.lines - 1),
                         along / self.depth_mm * (self.samples - 1)], -1)


Scan = LinearScan | CurvedScan


@dataclass(frozen=True)
class Picture:
    """Grid of a scan-converted picture: mm per pixel (the same both ways), its size, and pixel (0, 0) in mm."""

    mm_per_px: float
    width_px: int
    height_px: int
    origin_mm: tuple[float, float]

    def px_from_mm(self, points: np.ndarray) -> np.ndarray:
        return (np.asarray(points, float) - np.array(self.origin_mm)) / self.mm_per_px

    def mm_from_px(self, points: np.ndarray) -> np.ndarray:
        return np.asarray(points, float) * self.mm_per_px + np.array(self.origin_mm)


def picture_around(scan: Scan, mm_per_px: float) -> Picture:
    """The smallest picture that holds the whole scan. Raises: InputError for a scale that is not positive."""
    _positive(mm_per_px=mm_per_px)
    lines, samples = np.linspace(0, scan.lines - 1, 181), np.linspace(0, scan.samples - 1, 31)
    corners = scan.mm_from_scan(np.stack(np.meshgrid(lines, samples), -1).reshape(-1, 2))
    low, high = corners.min(0), corners.max(0)
    width, height = np.ceil((high - low) / mm_per_px - 1e-9).astype(int) + 1
    return Picture(mm_per_px, int(width), int(height), (float(low[0]), float(low[1])))


def picture_from_scan(data: np.ndarray, scan: Scan, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    """(samples, lines) values to the picture, bilinear: ((h, w) float32, (h, w) bool inside the scan).

    Outside the scan the picture is 0. Raises: InputError when the data don't fit the scan.
    """
    if np.shape(data) != (scan.samples, scan.lines):
        raise InputError(f"scan data must be (samples, lines) = {(scan.samples, scan.lines)}, not {np.shape(data)}")
    y, x = np.mgrid[: picture.height_px, : picture.width_px]
    index = scan.scan_from_mm(picture.mm_from_px(np.stack([x, y], -1)))
    tolerance = 1e-6
    last = np.array([scan.lines - 1, scan.samples - 1])
    inside = np.asarray(((index >= -tolerance) & (index <= last + tolerance)).all(-1))
    values = ndimage.map_coordinates(np.asarray(data, np.float32), [index[..., 1], index[..., 0]], order=1,
                                     mode="nearest")
    return np.where(inside, values, 0.0).astype(np.float32), inside


def scan_from_picture(image: np.ndarray, picture: Picture, scan: Scan) -> np.ndarray:
    """(h, w) picture back to (samples, lines), bilinear; NaN where a line leaves the picture.

    Raises: InputError when the image doesn't have the picture's size.
    """
    if np.shape(image) != (picture.height_px, picture.width_px):
        raise InputError(f"the picture must be {(picture.height_px, picture.width_px)}, not {np.shape(image)}")
    samples, lines = np.mgrid[: scan.samples, : scan.lines]
    px = picture.px_from_mm(scan.mm_from_scan(np.stack([lines, samples], -1)))
    px = np.where(np.abs(px - np.round(px)) < 1e-6, np.round(px), px)
    return ndimage.map_coordinates(np.asarray(image, np.float32), [px[..., 1], px[..., 0]], order=1, mode="constant",
                                   cval=np.nan)
