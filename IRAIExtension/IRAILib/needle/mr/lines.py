"""Straight hypotheses among tube cells, followed along the void on the scan's own voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ct.curve import Curve
from .fit import fitted
from .tubes import Tubes
from .work import Work

TOLERANCE_MM = 2.8
ALIGNED = 0.92
"""A cell supports a line when its own direction agrees this well (cosine)."""
GAP_MM = 9.0
HYPOTHESES, EXAMINED, MOST_TRIES, MOST_TRIES_FLAT = 600, 24, 18, 3
STEP_MM = 1.5
RADII_MM = np.arange(0.0, 9.1, 1.0)
ANGLES = 16
CORE_MM, BESIDE_MM = 1.5, (6.5, 9.0)
"""The void's middle, and the tissue that it is compared with."""
LEAST_DARK = 0.3
WIDE_MM, REACH_OF_RADIUS, LEAST_REACH_MM = 5.0, 1.2, 2.5
"""Round the axis the middle of the void is looked for: at first, and, of its radius, once the axis is about right."""
LEAST_BESIDE = 0.3
"""Relative signal beside the void; where it is lower, there is air."""
SEED = 20261


@dataclass(frozen=True)
class Line:
    """A dark line: its curve in grid mm and what the scan says along it.

    Attributes:
        curve: ends where the void is half as deep as in its middle.
        depth: loss of signal in the middle of the void, 0..1, median. radius_mm: of the void, median.
        end_radius_mm: (2,) of the void near the low and the high end. coverage: part of the length that is dark with
            bright tissue round it. spread_mm: of the void's centres about the curve.
        fade_mm: (2,) length over which the void fades at either end.
        beside: spread of the tissue beside the void, in parts of its own level. roundness: part of the directions
            across in which there is tissue beside it.
    """

    curve: Curve
    depth: float
    radius_mm: float
    end_radius_mm: tuple[float, float]
    coverage: float
    spread_mm: float
    fade_mm: tuple[float, float]
    beside: float
    roundness: float


def find_lines(work: Work, tubes: Tubes, min_length_mm: float, most: int, accept,
               beyond_mm: float = np.inf, tries: int = MOST_TRIES) -> list[Line]:
    """Lines that `accept(line)` takes, best supported first, at most `most`, of so many tries; `beyond_mm`: see
    `followed`."""
    runs = Runs(tubes, min_length_mm)
    left = np.ones(len(tubes.points), bool)
    found: list[Line] = []
    for _ in range(MOST_TRIES_FLAT if work.flat else tries):
        member = runs.best(left) if len(found) < most else None
        if member is None:
            break
        left[member] = False
        line = followed(work, tubes.points[member], tubes.strength[member], min_length_mm, beyond_mm)
        if line is not None and accept(line):
            if all(apart(line.curve, other.curve) for other in found):
                found.append(line)
            t, offset = line.curve.local(tubes.points)
            near = (t > line.curve.ends[0] - 5.0) & (t < line.curve.ends[1] + 5.0)
            left &= ~(near & (np.linalg.norm(offset, axis=1) < max(4.0, 1.6 * line.radius_mm)))
    return found


class Runs:
    """Straight hypotheses, each through one cell along that cell's direction, and the cells that support them."""

    def __init__(self, tubes: Tubes, min_length_mm: float):
        count = len(tubes.points)
        self._least_mm, self._strength = 0.6 * min_length_mm, tubes.strength.astype(np.float32)
        order = np.random.default_rng(SEED).permutation(count)[:HYPOTHESES // 2]
        self._seeds = np.unique(np.concatenate([np.argsort(-tubes.strength)[:HYPOTHESES // 2], order]).astype(int))
        p = (tubes.points - tubes.points.mean(axis=0)).astype(np.float32) if count else np.empty((0, 3), np.float32)
        d = tubes.direction[self._seeds].astype(np.float32)
        s = p[self._seeds]
        self._t = p @ d.T - np.einsum("ha,ha->h", s, d)
        square = -2.0 * (p @ s.T) + np.einsum("na,na->n", p, p)[:, None] + np.einsum("ha,ha->h", s, s)
        wide = TOLERANCE_MM + 0.02 * np.abs(self._t)
        near = square - self._t * self._t < wide * wide
        near &= np.abs(tubes.direction.astype(np.float32) @ d.T) > ALIGNED
        self._near = near.astype(np.float32)

    def best(self, left: np.ndarray) -> np.ndarray | None:
        """Indices of the cells of `left` (bool) on the best straight run, None where all are short."""
        support = (self._strength * left) @ self._near
        support[~left[self._seeds]] = 0.0
        best, best_score = None, 0.0
        for column in np.argsort(-support)[:EXAMINED]:
            member = np.flatnonzero((self._near[:, column] > 0.0) & left)
            run = member[_longest_run(self._t[member, column], GAP_MM)]
            t = self._t[run, column]
            if len(run) < 5 or np.ptp(t) < self._least_mm:
                continue
            bins = np.rint(t / 3.0).astype(int)
            peak = np.zeros(np.ptp(bins) + 1)
            np.maximum.at(peak, bins - bins.min(), np.minimum(self._strength[run], 0.25))
            score = float(peak.sum() * (peak > 0).mean() ** 2)
            if score > best_score:
                best, best_score = run, score
        return best


def _longest_run(t: np.ndarray, gap: float) -> np.ndarray:
    """Indices into t of the longest stretch without a gap."""
    if len(t) < 2:
        return np.arange(len(t))
    order = np.argsort(t)
    parts = np.split(order, np.flatnonzero(np.diff(t[order]) > gap) + 1)
    return max(parts, key=lambda part: t[part[-1]] - t[part[0]])


def apart(curve: Curve, other: Curve) -> bool:
    """Whether less than half of the curve lies on the other one."""
    t, offset = other.local(curve.points(np.linspace(*curve.ends, 20)))
    on = (np.linalg.norm(offset, axis=1) < 4.0) & (t > other.ends[0] - 3.0) & (t < other.ends[1] + 3.0)
    return float(on.mean()) < 0.5


def followed(work: Work, points: np.ndarray, weights: np.ndarray, min_length_mm: float,
             beyond_mm: float = np.inf) -> Line | None:
    """The void round a run of cells as a curve, up to `beyond_mm` past its first and last cell; None where it comes to
    nothing."""
    curve = fitted(points, weights)
    spread = np.inf
    for turn in range(5):
        curve = _centred(work, curve, straight=turn < 2)[0]
        ends = _ends(work, curve)
        if ends is not None and np.isfinite(beyond_mm):
            t = curve.local(points)[0]
            ends = max(ends[0], float(t.min()) - beyond_mm), min(ends[1], float(t.max()) + beyond_mm)
        if ends is None or ends[1] - ends[0] < 0.6 * min_length_mm:
            return None
        moved = max(abs(ends[0] - curve.ends[0]), abs(ends[1] - curve.ends[1]))
        curve = Curve(curve.origin, curve.axes, curve.across, curve.scale, ends)
        if turn >= 3 and moved < 0.5:
            break
    spread = _centred(work, curve, straight=False, wide=True)[1]
    return _measured(work, _centred(work, curve, straight=False)[0], spread)


@dataclass(frozen=True)
class Discs:
    """Samples across a curve: t (n,), positions across (m, 2) mm, share of area (m,), values (n, m), tissue beside
    each disc (n,)."""

    t: np.ndarray
    across: np.ndarray
    area: np.ndarray
    values: np.ndarray
    beside: np.ndarray

    @property
    def dark(self) -> np.ndarray:
        """(n, m) loss of signal, 0..1."""
        return np.clip(1.0 - self.values / self.beside[:, None], 0.0, 1.0)

    @property
    def radius(self) -> np.ndarray:
        return np.linalg.norm(self.across, axis=1)


def discs(work: Work, curve: Curve, t: np.ndarray) -> Discs:
    """The scan on discs across the curve at t; in a single slice on a line across it."""
    across, area = _spots(work.flat)
    points = curve.points(t)[:, None] + (across @ curve.axes[1:])[None]
    values = work.values(points.reshape(-1, 3), outside=np.nan).reshape(len(t), -1)
    radius = np.linalg.norm(across, axis=1)
    ring = values[:, (radius >= BESIDE_MM[0]) & (radius <= BESIDE_MM[1])]
    beside = np.full(len(t), 1.0)
    seen = np.isfinite(ring).sum(axis=1) > 3
    beside[seen] = _median(ring[seen])
    values = np.where(np.isfinite(values), values, beside[:, None])
    return Discs(t, across, area, values, np.maximum(beside, 0.05))


def _median(rows: np.ndarray) -> np.ndarray:
    """(n,) median of each row; NaN is left out."""
    count = np.isfinite(rows).sum(axis=1)
    rows = np.sort(rows, axis=1)
    n = np.arange(len(rows))
    return 0.5 * (rows[n, (count - 1) // 2] + rows[n, count // 2])


def _spots(flat: bool) -> tuple[np.ndarray, np.ndarray]:
    """(m, 2) places across a curve, mm, and the area (or length) that each stands for."""
    width = float(RADII_MM[1])
    if flat:
        x = np.arange(-RADII_MM[-1], RADII_MM[-1] + 0.1, 0.5)
        return np.stack([x, np.zeros_like(x)], axis=1), np.full(len(x), 0.5)
    angle = np.arange(ANGLES) * 2.0 * np.pi / ANGLES
    across = np.concatenate([[[0.0, 0.0]]] + [
        r * np.stack([np.cos(angle), np.sin(angle)], axis=1) for r in RADII_MM[1:]])
    return across, np.concatenate([[np.pi * width**2 / 4.0],
                                   np.repeat(RADII_MM[1:], ANGLES) * width * 2.0 * np.pi / ANGLES])


def _centred(work: Work, curve: Curve, straight: bool, wide: bool = False) -> tuple[Curve, float]:
    """The curve through the middles of the void, and the spread of those about it (mm)."""
    low, high = curve.ends
    t = np.linspace(low, high, max(6, int((high - low) / STEP_MM)))
    d = discs(work, curve, t)
    taper = np.clip(1.5 - d.radius / (WIDE_MM if straight or wide else _reach(d)), 0.0, 1.0)
    weight = np.clip(d.dark - LEAST_DARK, 0.0, None) * (d.area * taper)
    total = weight.sum(axis=1)
    use = total > 0.25 * np.median(total) + 1e-6
    if use.sum() < 5:
        return curve, np.inf
    middle = (weight[use] @ d.across) / total[use, None]
    points = curve.points(t[use]) + middle @ curve.axes[1:]
    trust = np.minimum(total[use], 1.5 * np.median(total[use]))
    for _ in range(3):
        new = fitted(points, trust, not straight and high - low > 30.0, curve.axes[0])
        rest = np.linalg.norm(new.local(points)[1], axis=1)
        scale = np.median(rest) + 0.1
        trust = trust / (1.0 + (rest / (3.0 * scale)) ** 4)
    return new, float(np.sqrt(np.average(rest**2 / 2.0, weights=trust)))


def _reach(d: Discs) -> float:
    """mm from the axis within which the void's middle is looked for: what lies beside it mustn't pull."""
    area = (d.dark > 0.5) @ np.where(d.radius < 6.5, d.area, 0.0)
    radius = float(np.median(area / 2.0 if len(d.area) < 2 * ANGLES else np.sqrt(area / np.pi)))
    return float(np.clip(REACH_OF_RADIUS * radius, LEAST_REACH_MM, WIDE_MM))


def profile(work: Work, curve: Curve, t: np.ndarray) -> tuple[np.ndarray, Discs]:
    """(n,) loss of signal in the middle of the void at t, and the discs."""
    d = discs(work, curve, t)
    core = d.radius <= CORE_MM
    return (d.dark[:, core] @ d.area[core]) / d.area[core].sum(), d


def _ends(work: Work, curve: Curve, beyond: float = 14.0) -> tuple[float, float] | None:
    """First and last t where the void is half as deep as inside, up to `beyond` mm outside the present ends."""
    t = np.arange(curve.ends[0] - beyond, curve.ends[1] + beyond, 0.5)
    loss, d = profile(work, curve, t)
    points = curve.points(t)
    loss[~_in_volume(work, points) | (work.depth_mm(points) <= 0.0) | (d.beside < LEAST_BESIDE)] = 0.0
    inside = (t >= curve.ends[0]) & (t <= curve.ends[1])
    half = 0.5 * float(np.percentile(loss[inside], 60))
    if half < 0.1:
        return None
    dark = np.flatnonzero(loss > half)
    parts = np.split(dark, np.flatnonzero(np.diff(t[dark]) > 4.0) + 1)
    part = max(parts, key=lambda p: np.count_nonzero(inside[p]) if len(p) else 0)
    if len(part) < 5:
        return None
    low, high = part[0], part[-1]
    return _crossing(t, loss, half, low, -1), _crossing(t, loss, half, high, 1)


def _crossing(t: np.ndarray, loss: np.ndarray, half: float, at: int, step: int) -> float:
    if not 0 <= at + step < len(t):
        return float(t[at])
    a, b = loss[at], loss[at + step]
    return float(t[at] + (t[at + step] - t[at]) * np.clip((a - half) / max(a - b, 1e-6), 0.0, 1.0))


def _in_volume(work: Work, points: np.ndarray) -> np.ndarray:
    index = points / work.spacing
    return np.asarray(((index > -0.5) & (index < np.array(work.relative.shape[::-1]) - 0.5)).all(axis=1))


def _measured(work: Work, curve: Curve, spread: float) -> Line | None:
    low, high = curve.ends
    t = np.arange(low + 1.0, high - 1.0, 1.0)
    if len(t) < 5:
        return None
    loss, d = profile(work, curve, t)
    depth = float(np.median(loss))
    area = (d.dark > 0.5 * depth) @ np.where(d.radius < 6.5, d.area, 0.0)
    radius = area / 2.0 if work.flat else np.sqrt(area / np.pi)
    ring = d.values[:, (d.radius >= 5.5) & (d.radius <= 8.0)]
    bright = ring > 0.6 * d.beside[:, None]
    good = (loss > 0.5 * depth) & (bright.mean(axis=1) > 0.7)
    ends = tuple(float(np.median(r)) for r in (radius[:6], radius[-6:]))
    return Line(curve, depth, float(np.median(radius)), (ends[0], ends[1]), float(good.mean()), spread,
                (_fade(work, curve, 0, depth), _fade(work, curve, 1, depth)),
                float(np.std(ring) / max(float(np.mean(ring)), 1e-3)), float(bright.mean()))


def _fade(work: Work, curve: Curve, end: int, depth: float) -> float:
    """mm from 80 % to 25 % of the void's depth."""
    sign = 1.0 if end else -1.0
    s = np.arange(-25.0, 12.0, 0.5)
    loss, _ = profile(work, curve, curve.ends[end] + sign * s)
    below = np.flatnonzero((loss < 0.25 * depth) & (s > -1.0))
    above = np.flatnonzero((loss > 0.8 * depth) & (s < 2.0))
    first = s[below[0]] if len(below) else s[-1]
    last = s[above[-1]] if len(above) else s[0]
    return float(max(first - last, 0.0))
