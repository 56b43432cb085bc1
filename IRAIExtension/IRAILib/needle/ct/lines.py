"""Long thin lines among the candidate voxels: straight hypotheses, grown along the bend, judged on the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .candidates import SHELL_MM
from .curve import Curve, fit_points, refine, stretched
from .space import Space

TOLERANCE_MM = 1.6
"""Candidates this far from a straight hypothesis support it; slices widen it along their normal."""
GAP_MM = 7.0
"""A streak, a dark voxel or a marker may interrupt a needle for this long (or for 1.6 slices)."""
HYPOTHESES = 350
EXAMINED = 60
MOST_TRIES = 30
MOST_POINTS = 6000
METAL_HU, METAL_RING = 1450.0, 0.25
"""Median on the axis of a needle, and how bright the tissue beside it may be in parts of that: edges of bone
reach 1330 HU and 0.2 to 0.4 in real scans."""
LEAST_HU, LEAST_RING, LEAST_STRAIGHT = 1000.0, 0.17, 0.05
"""A thin needle diluted by a thick slice: accepted when it is straight, long and in soft tissue."""
LEAST_LENGTH_MM = 50.0
COVERAGE = 0.8
"""Part of the length that must look like metal with dark tissue round it."""
MOST_BOW = 0.16
"""Of the length: electrodes, drains and guide-wires in vessels bend more than a needle."""
MOST_EXPLAINED = 0.5
"""Part of a line that may run along needles found before: more is the same metal again, or a jump between two."""
SEED = 20260


@dataclass(frozen=True)
class Found:
    """A line that may be metal: its curve in grid mm, spread of its pieces (mm), median HU on the axis, median HU
    beside it (upper quartile of each ring), and the part of it that looks like metal."""

    curve: Curve
    spread_mm: float
    mean_hu: float
    beside_hu: float
    coverage: float


def find_lines(space: Space, points: np.ndarray, values: np.ndarray, level: float, *, min_length_mm: float,
               most: int, metal: float = METAL_HU) -> list[Found]:
    """Metal lines of at least `min_length_mm` among (n, 3) candidates in grid mm, brightest first.

    `level` is the HU of single voxels, `metal` the least median HU along a needle.
    """
    rng = np.random.default_rng(SEED)
    squeeze = TOLERANCE_MM / np.maximum(TOLERANCE_MM, 0.6 * space.spacing)
    gap = max(GAP_MM, 1.6 * float(space.spacing.max()))
    left, strong = np.ones(len(points), bool), values > 0.8 * LEAST_HU * metal / METAL_HU
    if np.count_nonzero(strong) > MOST_POINTS:
        strong = values >= np.partition(values, len(values) - MOST_POINTS)[len(values) - MOST_POINTS]
    found: list[Found] = []
    for _ in range(MOST_TRIES):
        index = np.flatnonzero(left & strong)
        if len(index) < 6 or len(found) >= most:
            break
        seed = _best_straight(points[index], values[index] * METAL_HU / metal, squeeze, gap, rng)
        if seed is None or seed[1] < 0.45 * min_length_mm:
            break
        inliers = index[seed[0]]
        line = _grown(space, points[left], points[inliers], values[inliers], gap, tuple(f.curve for f in found), level)
        accepted = (line is not None and _is_needle(space, line, min_length_mm, metal)
                    and _explained(space, line.curve, found) < MOST_EXPLAINED)
        if accepted and line is not None:
            found.append(line)
            t, offset = line.curve.local(points)
            near = (t > line.curve.ends[0] - 6.0) & (t < line.curve.ends[1] + 6.0)
            left &= ~(near & (stretched(offset, space.spacing, 2.2) < 1.0))
        left[inliers] = False
    return found


def _best_straight(points, values, squeeze, gap, rng) -> tuple[np.ndarray, float] | None:
    """Indices of the candidates on the best straight run, and its length (mm)."""
    scaled = points * squeeze
    starts, directions = _hypotheses(scaled, rng)
    if not len(starts):
        return None
    bright = np.minimum(values, 2500.0) - 0.8 * LEAST_HU
    t, near = _support(scaled, starts, directions)
    order = np.argsort(-(bright @ near))[:EXAMINED]
    best, best_score, best_length = None, 0.0, 0.0
    for column in order:
        member = np.flatnonzero(near[:, column])
        along = t[member, column]
        run = _longest_run(along, gap)
        if len(run) < 5:
            continue
        bins, first = np.unique(np.rint(along[run]), return_index=True)
        score = float(bright[member[run[first]]].sum())
        if score > best_score:
            stretch = float(np.linalg.norm(directions[column] / squeeze))
            best, best_score, best_length = member[run], score, float(bins[-1] - bins[0]) * stretch
    return None if best is None else (best, best_length)


def _support(scaled, starts, directions) -> tuple[np.ndarray, np.ndarray]:
    """(n, h) place along every hypothesis, and whether the point lies near it."""
    middle = scaled.mean(axis=0)
    p, s, d = ((x - o).astype(np.float32) for x, o in ((scaled, middle), (starts, middle), (directions, 0.0)))
    t = p @ d.T - np.einsum("ha,ha->h", s, d)
    square = np.einsum("na,na->n", p, p)[:, None] - 2.0 * (p @ s.T) + np.einsum("ha,ha->h", s, s)
    return t, square - t * t < TOLERANCE_MM**2


def _hypotheses(scaled: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray]:
    """Start points and unit directions: the main axis round single candidates, and pairs."""
    tree = cKDTree(scaled)
    chosen = rng.permutation(len(scaled))[:HYPOTHESES]
    starts, directions = [], []
    for point, near in zip(scaled[chosen], tree.query_ball_point(scaled[chosen], 8.0), strict=True):
        if len(near) < 5:
            continue
        relative = scaled[near] - scaled[near].mean(axis=0)
        value, vector = np.linalg.eigh(relative.T @ relative)
        if value[1] < 0.35 * value[2]:
            starts.append(scaled[near].mean(axis=0) if value[1] < 0.1 * value[2] else point)
            directions.append(vector[:, 2])
    for point, near in zip(scaled[chosen], tree.query_ball_point(scaled[chosen], 40.0), strict=True):
        other = scaled[near[int(rng.integers(len(near)))]]
        distance = np.linalg.norm(other - point)
        if distance > 10.0:
            starts.append(point)
            directions.append((other - point) / distance)
    return np.array(starts), np.array(directions)


def _longest_run(t: np.ndarray, gap: float) -> np.ndarray:
    """Indices into t of the longest stretch without a gap."""
    if len(t) < 2:
        return np.arange(len(t))
    order = np.argsort(t)
    cuts = np.flatnonzero(np.diff(t[order]) > gap) + 1
    parts = np.split(order, cuts)
    return max(parts, key=lambda part: t[part[-1]] - t[part[0]])


def _grown(space: Space, all_points, points, values, gap: float, others: tuple[Curve, ...],
           level: float) -> Found | None:
    """The straight piece as a curve that follows the metal to both ends; None where it comes to nothing."""
    curve = fit_points(points, np.minimum(values, 3071.0), (1, 1))
    for turn in range(12):
        reach = 10.0 + gap
        t, offset = curve.local(all_points)
        ahead = np.maximum(np.maximum(curve.ends[0] - t, t - curve.ends[1]), 0.0)
        wide = 0.75 + np.minimum(ahead, reach) / 12.0
        member = (ahead < reach) & (stretched(offset, space.spacing, TOLERANCE_MM) < wide)
        run = np.flatnonzero(member)[_longest_run(t[member], gap)]
        if len(run) < 5 or np.ptp(t[run]) < 8.0:
            return None
        length = curve.ends[1] - curve.ends[0]
        degree = 1 if np.ptp(t[run]) < 25.0 else 2 if np.ptp(t[run]) < 60.0 else 3
        slices = np.ptp(all_points[run][:, 2]) / space.spacing[2]
        curve = fit_points(all_points[run], np.ones(len(run)), (degree, degree if slices > 5.0 else 1))
        if turn and curve.ends[1] - curve.ends[0] < length + 0.5:
            break
    curve, _ = refine(space, curve, others)
    for _ in range(3):
        ends = metal_ends(space, curve, gap)
        if ends is None:
            return None
        grew = max(curve.ends[0] - ends[0], ends[1] - curve.ends[1])
        curve, spread = refine(space, Curve(curve.origin, curve.axes, curve.across, curve.scale, ends), others)
        if grew < 2.0:
            break
    return measured(space, curve, spread, level)


def metal_ends(space: Space, curve: Curve, gap: float, beyond: float = 14.0) -> tuple[float, float] | None:
    """First and last t with metal on the axis, looked for up to `beyond` mm outside the present ends."""
    t = np.arange(curve.ends[0] - beyond, curve.ends[1] + beyond, 0.5)
    core, ring = core_and_ring(space, curve, t)
    excess = core - np.maximum(ring, -200.0)
    inside = (t >= curve.ends[0]) & (t <= curve.ends[1])
    metal = np.flatnonzero(excess > 0.38 * np.median(excess[inside]))
    middle = 0.5 * (curve.ends[0] + curve.ends[1])
    parts = np.split(metal, np.flatnonzero(np.diff(t[metal]) > gap) + 1)
    parts = [p for p in parts if len(p) and t[p[-1]] - t[p[0]] > 5.0]
    if not parts:
        return None
    part = min(parts, key=lambda p: max(t[p[0]] - middle, middle - t[p[-1]], 0.0))
    return float(t[part[0]]), float(t[part[-1]])


def core_and_ring(space: Space, curve: Curve, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """HU on the axis (best of a small cross, so that a stair of thick slices doesn't hide it) and the upper
    quartile on a ring across it, both (n,)."""
    points = curve.points(t)
    across = curve.axes[1:]
    angle = np.arange(12) * np.pi / 6.0
    circle = np.outer(np.cos(angle), across[0]) + np.outer(np.sin(angle), across[1])
    thick = np.linalg.norm(circle * np.maximum(SHELL_MM, space.spacing), axis=1)
    ring = np.stack([space.values(points + c * r) for c, r in zip(circle, thick, strict=True)])
    near = 0.5 * np.linalg.norm(circle[::3] * np.maximum(1.5, space.spacing), axis=1)
    cores = [space.values(points)] + [space.values(points + c * r) for c, r in zip(circle[::3], near, strict=True)]
    return np.minimum(np.max(cores, axis=0), 3071.0), np.percentile(ring, 75, axis=0)


def measured(space: Space, curve: Curve, spread: float, level: float) -> Found:
    """The curve with what the image says along it."""
    t = np.arange(curve.ends[0] + 0.5, curve.ends[1], 1.0)
    if not len(t):
        return Found(curve, spread, 0.0, 0.0, 0.0)
    core, ring = core_and_ring(space, curve, t)
    good = (core > 0.75 * level) & (np.maximum(ring, -200.0) < 0.5 * core)
    return Found(curve, spread, float(np.median(core)), float(np.median(ring)), float(np.mean(good)))


def _explained(space: Space, curve: Curve, found: list[Found]) -> float:
    """Part of the curve that runs along lines found before, alone or in turn."""
    points = curve.points(np.arange(*curve.ends, 1.0))
    covered = np.zeros(len(points), bool)
    for other in found:
        t, offset = other.curve.local(points)
        beside = (t > other.curve.ends[0] - 3.0) & (t < other.curve.ends[1] + 3.0)
        covered |= beside & (np.linalg.norm(offset / np.maximum(2.4, 0.6 * space.spacing), axis=1) < 1.0)
    return float(covered.mean())


def _is_needle(space: Space, line: Found, min_length_mm: float, metal: float) -> bool:
    length = line.curve.length_mm
    if length < min_length_mm or line.coverage < COVERAGE or line.curve.bow_mm > MOST_BOW * length:
        return False
    if not np.isfinite(line.spread_mm) or line.spread_mm > 0.5 + 0.3 * space.spacing.max():
        return False
    bright = line.mean_hu > metal and line.beside_hu < METAL_RING * line.mean_hu
    thin = (line.mean_hu > LEAST_HU * metal / METAL_HU and line.beside_hu < LEAST_RING * line.mean_hu
            and line.curve.bow_mm < LEAST_STRAIGHT * length and length > LEAST_LENGTH_MM)
    if not (bright or thin):
        return False
    points = line.curve.points(np.arange(*line.curve.ends, 1.0))
    inside = space.depth_mm(points)
    return bool(np.count_nonzero(inside > 3.0) >= 0.5 * min_length_mm and float(inside.max()) >= 8.0)
