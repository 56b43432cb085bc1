"""Points, lines and curves in space from two or more X-ray views of known geometry, with their uncertainty.

Points: rays meet in the middle (Hartley, Sturm 1997), then least squares of the reprojection (Hartley, Zisserman,
Multiple View Geometry, 2nd ed., 12.2 to 12.5); lines: planes through source and line (13.4.1). All geometries must be
in one frame, and the patient must not have moved in between: the epipolar distance shows it when he did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import CArmGeometry, InputError, RefusedError

VALIDATED_ON = "computed views with known points and noise; OpenCV's triangulation"
LEAST_ANGLE_DEG = 10.0
"""Below this angle between two views depth is six times less certain than width."""
MAX_EPIPOLAR_SD = 4.0
STEPS = 12


@dataclass(frozen=True, eq=False)
class Triangulation:
    """Points from views.

    Attributes:
        points_mm: (n, 3), NaN where a point isn't seen in two views. covariance_mm2: (n, 3, 3), of pixel noise and
            `geometry_mm`. epipolar_px: (n,) largest distance to another view's epipolar line. residual_px: (n,) RMS of
            the reprojection. angle_deg: (n,) largest angle between two of its rays. frame: as the geometries'.
    """

    points_mm: np.ndarray
    covariance_mm2: np.ndarray
    epipolar_px: np.ndarray
    residual_px: np.ndarray
    angle_deg: np.ndarray
    frame: str

    @property
    def sd_mm(self) -> np.ndarray:
        """(n,) standard deviation along the worst direction."""
        out = np.full(len(self.points_mm), np.nan)
        known = np.isfinite(self.points_mm[:, 0])
        if known.any():
            out[known] = np.sqrt(np.linalg.eigvalsh(self.covariance_mm2[known])[:, -1])
        return out

    def to_dict(self) -> dict[str, Any]:
        def plain(values: np.ndarray) -> list:
            return [None if not np.isfinite(v).all() else np.round(v, 4).tolist() for v in values]

        return {"points_mm": plain(self.points_mm), "sd_mm": plain(self.sd_mm), "epipolar_px": plain(self.epipolar_px),
                "residual_px": plain(self.residual_px), "angle_deg": plain(self.angle_deg), "frame": self.frame,
                "validated_on": VALIDATED_ON}


@dataclass(frozen=True, eq=False)
class LineInSpace:
    """A straight thing (needle) seen in views: a point of it, its direction, their uncertainty.

    covariance_mm2: (3, 3) of the point; direction_sd_deg: worst standard deviation of the direction.
    """

    point_mm: np.ndarray
    direction: np.ndarray
    covariance_mm2: np.ndarray
    direction_sd_deg: float
    frame: str

    def to_dict(self) -> dict[str, Any]:
        return {"point_mm": self.point_mm.tolist(), "direction": self.direction.tolist(),
                "covariance_mm2": self.covariance_mm2.tolist(), "direction_sd_deg": self.direction_sd_deg,
                "frame": self.frame, "validated_on": VALIDATED_ON}


def triangulate(geometries: Sequence[CArmGeometry], pixels: Sequence[np.ndarray], *, pixel_sd: float = 1.0,
                geometry_mm: float = 0.0, least_angle_deg: float = LEAST_ANGLE_DEG,
                max_epipolar_px: float | None = None) -> Triangulation:
    """Points seen in several views.

    Args:
        pixels: for each view (n, 2) (column, row), the same points in the same order; NaN where a view misses one.
        pixel_sd: of a point's place in the image, in pixels. geometry_mm: SD of where a view's beam truly is at the
            patient, on its own in each view and direction (the arm's bending, calibration): at a small angle between
            the views it makes the depth as uncertain as the pixels do.
        max_epipolar_px: refuse beyond that distance; from pixel_sd and geometry_mm if None.

    Raises: InputError for fewer than two views or shapes that differ; RefusedError when the views are too close to each
    other, or a point lies too far from the other view's epipolar line (wrong pair, or the patient moved). No points
    give an empty result.
    """
    frame, seen = _check(geometries, pixels, pixel_sd)
    count = seen.shape[1]
    points, covariance = np.full((count, 3), np.nan), np.full((count, 3, 3), np.nan)
    epipolar, residual, angle = (np.full(count, np.nan) for _ in range(3))
    for n in range(count):
        views = [v for v in range(len(geometries)) if np.isfinite(seen[v, n]).all()]
        if len(views) < 2:
            continue
        used = [geometries[v] for v in views]
        rays = np.array([g.rays(seen[v, n])[0] for g, v in zip(used, views, strict=True)])
        angle[n] = max(_between(a, b) for i, a in enumerate(rays) for b in rays[:i])
        if angle[n] < least_angle_deg:
            raise RefusedError(f"two views: point {n + 1} is seen under {angle[n]:.1f} degrees at most; turn the arm "
                               f"by {least_angle_deg:g} degrees or more between the views")
        points[n], covariance[n], residual[n] = _point(used, seen[views, n], rays, pixel_sd, geometry_mm)
        epipolar[n] = max(float(epipolar_distance(used[i], used[j], seen[a, n], seen[b, n])[0])
                          for i, a in enumerate(views) for j, b in enumerate(views) if i != j)
        limit = max_epipolar_px if max_epipolar_px is not None else MAX_EPIPOLAR_SD * math.sqrt(2) * math.hypot(
            pixel_sd, geometry_mm / _mm_per_px(used[0], points[n]))
        if epipolar[n] > limit:
            raise RefusedError(f"two views: point {n + 1} lies {epipolar[n]:.1f} px from where the other view allows "
                               f"it (limit {limit:.1f} px); it is another point, or the patient or arm moved")
    return Triangulation(points, covariance, epipolar, residual, angle, frame)


def triangulate_line(geometries: Sequence[CArmGeometry], lines: Sequence[np.ndarray], *,
                     pixel_sd: float = 1.0, least_angle_deg: float = LEAST_ANGLE_DEG) -> LineInSpace:
    """A straight line seen in several views.

    Args:
        lines: for each view (2, 2), two points (column, row) anywhere on its image; they need not be the same in
            different views. The result's point is the one nearest to the middle of the first view's two.

    Raises: InputError; RefusedError when the planes through the sources are too alike (the line lies along the plane of
    the two beams), or more than two views contradict each other.
    """
    frame, ends = _check(geometries, lines, pixel_sd)
    if ends.shape[1] != 2 or not np.isfinite(ends).all() or (np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) < 1).any():
        raise InputError("line: two points a pixel or more apart are needed in every view")
    start, direction, spread = _line(geometries, ends)
    if spread < least_angle_deg:
        raise RefusedError(f"line: the views' planes through it differ by {spread:.1f} degrees only; turn the arm "
                           f"out of the plane of needle and beam, until they differ by {least_angle_deg:g}")
    rest = [_off_line(g, e, start, direction) for g, e in zip(geometries, ends, strict=True)]
    if max(rest) > MAX_EPIPOLAR_SD * 2 * pixel_sd:
        raise RefusedError(f"line: the views contradict each other by {max(rest):.1f} px; it moved, or isn't straight")
    jacobian = []
    for view, end, axis in np.ndindex(ends.shape):
        moved = ends.copy()
        moved[view, end, axis] += 0.25
        p, d, _ = _line(geometries, moved)
        d = d if d @ direction > 0 else -d
        jacobian.append(np.concatenate([(p - start) / 0.25, (d - direction) / 0.25]))
    covariance = np.array(jacobian).T @ np.array(jacobian) * pixel_sd**2
    sd = math.degrees(math.sqrt(float(np.linalg.eigvalsh(covariance[3:, 3:])[-1])))
    return LineInSpace(start, direction, covariance[:3, :3], sd, frame)


def triangulate_curve(geometries: Sequence[CArmGeometry], curves: Sequence[np.ndarray], *, pixel_sd: float = 1.0,
                      step_px: float = 2.0, least_angle_deg: float = LEAST_ANGLE_DEG,
                      smooth: float = 0.15) -> Triangulation:
    """A curve (needle, catheter, vessel) from its course in two views.

    Points of the first course meet the second where it crosses their epipolar line; the order along both is kept
    (dynamic programming), which also decides where it crosses more than once or runs along the line.

    Args:
        curves: two arrays (n, 2), (m, 2) of (column, row) from the same end (tip) on. step_px: between points.
        smooth: cost of matching at an uneven pace, per pixel of epipolar distance.

    Returns: points in order from that end. Raises InputError, and RefusedError as `triangulate`.
    """
    if len(geometries) != 2 or len(curves) != 2:
        raise InputError(f"curve: two views are needed, {len(geometries)} geometries and {len(curves)} courses came")
    first, second = (_even(np.asarray(c, float), s) for c, s in zip(curves, (step_px, step_px / 2), strict=True))
    distance = _epipolar_table(geometries[0], geometries[1], first, second)
    match = _in_order(distance, smooth)
    limit = MAX_EPIPOLAR_SD * math.sqrt(2) * pixel_sd + step_px / 2
    fits = distance[np.arange(len(first)), match] <= limit
    if fits.sum() < max(3, 0.5 * len(first)):
        raise RefusedError(f"curve: only {int(fits.sum())} of {len(first)} points have a partner in the other view; "
                           "the courses start at different ends, or the patient or arm moved")
    return triangulate(geometries, [first[fits], second[match[fits]]], pixel_sd=pixel_sd,
                       least_angle_deg=least_angle_deg, max_epipolar_px=2 * limit)


def epipolar_distance(a: CArmGeometry, b: CArmGeometry, pixels_a: np.ndarray, pixels_b: np.ndarray) -> np.ndarray:
    """(n,) pixels of view b between its points and the epipolar lines of view a's points; both (n, 2)."""
    pixels_a, pixels_b = (np.asarray(p, float).reshape(-1, 2) for p in (pixels_a, pixels_b))
    lines = _epipolar_lines(a, b, pixels_a)
    return np.abs((lines[:, :2] * pixels_b).sum(1) + lines[:, 2])


def _epipolar_lines(a: CArmGeometry, b: CArmGeometry, pixels: np.ndarray) -> np.ndarray:
    """(n, 3) normalised lines in view b."""
    matrix = b.matrix()
    source = matrix[:, :3] @ a.source_mm + matrix[:, 3]
    lines = np.cross(source, a.rays(pixels) @ matrix[:, :3].T)
    return lines / np.maximum(np.linalg.norm(lines[:, :2], axis=1, keepdims=True), 1e-15)


def _epipolar_table(a: CArmGeometry, b: CArmGeometry, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    lines = _epipolar_lines(a, b, first)
    return np.abs(lines[:, :2] @ second.T + lines[:, 2:])


def _in_order(distance: np.ndarray, smooth: float) -> np.ndarray:
    """(n,) index of the second course for each point of the first, never going back; ends are free by their cost."""
    n, m = distance.shape
    pace, reach = (m - 1) / max(n - 1, 1), max(3, int(4 * m / n) + 1)
    steps = np.arange(reach + 1)
    toll = smooth * np.abs(steps - pace)
    cost, back = np.empty((n, m)), np.zeros((n, m), int)
    cost[0] = distance[0] + smooth * np.arange(m)
    for i in range(1, n):
        before = np.stack([np.concatenate([np.full(s, np.inf), cost[i - 1, :m - s]]) + t
                           for s, t in zip(steps, toll, strict=True)])
        back[i] = np.argmin(before, axis=0)
        cost[i] = distance[i] + before[back[i], np.arange(m)]
    at = int(np.argmin(cost[-1] + smooth * (m - 1 - np.arange(m))))
    out = np.empty(n, int)
    for i in range(n - 1, -1, -1):
        out[i] = at
        at -= back[i, at]
    return out


def _even(curve: np.ndarray, step_px: float) -> np.ndarray:
    if curve.ndim != 2 or curve.shape[1] != 2 or len(curve) < 2 or not np.isfinite(curve).all():
        raise InputError(f"curve: two or more finite points (column, row) are needed, {curve.shape} came")
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    if along[-1] < 3 * step_px:
        raise InputError(f"curve: {along[-1]:.1f} px long; too short to be matched between views")
    wanted = np.linspace(0, along[-1], max(4, round(along[-1] / step_px) + 1))
    keep = np.concatenate([[True], np.diff(along) > 0])
    return np.column_stack([np.interp(wanted, along[keep], curve[keep, axis]) for axis in range(2)])


def _point(geometries: Sequence[CArmGeometry], pixels: np.ndarray, rays: np.ndarray, pixel_sd: float,
           geometry_mm: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Middle of the rays, then Gauss-Newton on the reprojection; (point, covariance, RMS residual in px)."""
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    sources = np.array([g.source_mm for g in geometries])
    point = np.linalg.solve(across.sum(0), np.einsum("nij,nj->i", across, sources))
    for _ in range(STEPS):
        residual, jacobian = _reprojection(geometries, pixels, point)
        step = np.linalg.lstsq(jacobian, residual, rcond=None)[0]
        point = point + step
        if np.linalg.norm(step) < 1e-9:
            break
    residual, jacobian = _reprojection(geometries, pixels, point)
    sd = np.repeat([math.hypot(pixel_sd, geometry_mm / _mm_per_px(g, point)) for g in geometries], 2)
    inverse = np.linalg.pinv(jacobian)
    covariance = inverse @ np.diag(sd**2) @ inverse.T
    return point, covariance, float(np.sqrt(np.mean(residual**2)))


def _reprojection(geometries: Sequence[CArmGeometry], pixels: np.ndarray,
                  point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rest, rows = [], []
    for geometry, pixel in zip(geometries, pixels, strict=True):
        matrix = geometry.matrix()
        u, v, w = matrix[:, :3] @ point + matrix[:, 3]
        if w <= 1e-9:
            raise RefusedError("two views: the rays meet behind a source; the pair is wrong")
        rest.append(pixel - np.array([u, v]) / w)
        rows.append((matrix[:2, :3] - np.outer([u / w, v / w], matrix[2, :3])) / w)
    return np.concatenate(rest), np.concatenate(rows)


def _line(geometries: Sequence[CArmGeometry], ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(point, unit direction, largest angle between two of the planes in degrees)."""
    rays = [g.rays(e) for g, e in zip(geometries, ends, strict=True)]
    normals = np.array([np.cross(r[0], r[1]) / np.linalg.norm(np.cross(r[0], r[1])) for r in rays])
    offsets = np.array([n @ g.source_mm for n, g in zip(normals, geometries, strict=True)])
    direction = np.linalg.svd(normals)[2][-1]
    spread = max(min(_between(a, b), 180 - _between(a, b)) for i, a in enumerate(normals) for b in normals[:i])
    middle = geometries[0].rays(ends[0].mean(0))[0]
    start = np.linalg.lstsq(np.vstack([normals, direction]), np.append(offsets, 0.0), rcond=None)[0]
    # the point of the line that is nearest to the ray through the first view's middle
    apart = geometries[0].source_mm - start
    cosine = direction @ middle
    along = (direction @ apart - cosine * (middle @ apart)) / max(1 - cosine**2, 1e-9)
    start = start + along * direction
    far, near = geometries[0].project(start + 0.5 * direction)[0], geometries[0].project(start - 0.5 * direction)[0]
    return start, direction if (far - near) @ (ends[0, 1] - ends[0, 0]) >= 0 else -direction, spread


def _off_line(geometry: CArmGeometry, ends: np.ndarray, start: np.ndarray, direction: np.ndarray) -> float:
    """Largest distance in px of two image points from the projected line."""
    a, b = geometry.project(np.stack([start - 5 * direction, start + 5 * direction]))
    along = (b - a) / np.linalg.norm(b - a)
    return float(np.abs((ends - a) @ np.array([-along[1], along[0]])).max())


def _mm_per_px(geometry: CArmGeometry, point: np.ndarray) -> float:
    depth = geometry.normal @ (point - geometry.source_mm)
    return float(np.linalg.norm(geometry.column_mm) * depth / geometry.source_to_detector_mm)


def _between(a: np.ndarray, b: np.ndarray) -> float:
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b)))


def _check(geometries: Sequence[CArmGeometry], pixels: Sequence[np.ndarray], pixel_sd: float) -> tuple[str, np.ndarray]:
    if len(geometries) < 2 or len(geometries) != len(pixels):
        raise InputError(f"views: two or more with their points are needed, {len(geometries)} geometries and "
                         f"{len(pixels)} lists of points came")
    frames = {g.frame for g in geometries}
    if len(frames) != 1:
        raise InputError(f"views: the geometries are in different frames ({', '.join(sorted(frames))})")
    arrays = [np.asarray(p, float) for p in pixels]
    if any(a.shape != arrays[0].shape or a.ndim != 2 or a.shape[1] != 2 or np.isinf(a).any() for a in arrays):
        raise InputError("views: every view needs the same number of points (column, row)")
    if not pixel_sd > 0:
        raise InputError("views: the uncertainty of a pixel must be positive")
    return frames.pop(), np.array(arrays)
