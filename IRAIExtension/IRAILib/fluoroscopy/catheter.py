"""The tip of a catheter or guide-wire in X-ray frames, without training.

Dark thin lines are followed from the border of the field inwards along the cheapest path; every step earns what the
line stands out of the clutter less a fee. Where the sum is largest the line ends. The tip is then placed between
pixels where the contrast of the line falls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.optimize import least_squares
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.special import ndtr

from ..geometry import InputError, NeedleEstimate, NeedleStatus
from .ridges import Ridges, dark_ridges

METHOD = "classical line tracing"
VALIDATED_ON = "spline catheters painted into real X-ray frames; one real cine, tips marked by eye"
FEE = 2.0
"""Strength a step must have to earn: ends are where the line no longer stands out."""
LEAST_LENGTH_PX = 45.0
LEAST_STRENGTH = 3.8
"""Median strength along a device; lines of ribs, vessels and noise in bare frames stay below."""
LEAST_WEAKEST = 1.4
"""Lower decile: a device has no gaps, a chain of chance lines has."""
FAINTER, CORNER = 0.42, 0.45
"""A device ends where the line falls below that part of its own strength, or turns by 63 degrees within 10 px."""
RIM_PX = 14.0
MOST_TRIES = 4
CELL = 2
"""Pixels of one node of the path search."""


def find_catheter(frames: np.ndarray, *, mm_per_px: float | None = None, previous: NeedleEstimate | None = None,
                  time_s: float = 0.0) -> NeedleEstimate:
    """Tip and course of the most convincing thin dark device that enters the field from its border.

    Args:
        frames: (t, h, w) or (h, w), grey values that grow with the dose (bone and metal dark), newest last; t = 1 is
            enough, three and more help when the device moves.
        mm_per_px: at the device's depth; None leaves the result in pixels.
        previous: the last estimate in the same frame and units: lines near its curve are preferred.
        time_s: acquisition time of the newest frame, seconds.
    Returns: modality "XA", frame "Detector"; z = 0, (x, y) = (column, row) from the centre of the first pixel. ABSENT
        where no line is long, dark and whole enough or all of them cross the field. Contrast in a vessel is a dark
        line too: in filled vessels the end found is the vessel's.
    Raises: InputError for frames that aren't (t, h, w), are smaller than 64 pixels or hold no signal.
    """
    stack = checked_frames(frames, mm_per_px)
    scale = 1.0 if mm_per_px is None else float(mm_per_px)
    ridges = dark_ridges(stack)
    strength = ridges.strength
    if previous is not None and previous.curve is not None:
        strength = strength + _near(previous.curve[:, :2] / scale, strength.shape) * (strength > 1.0)
    base = {"time_s": time_s, "frame": "Detector", "units": "px" if mm_per_px is None else "mm", "modality": "XA",
            "method": METHOD, "validated_on": VALIDATED_ON}
    line = _best_line(Ridges(strength, ridges.contrast, ridges.angle, ridges.field))
    if line is None:
        return NeedleEstimate(NeedleStatus.ABSENT, **base)
    tip = _tip(stack[-1], line.path)
    curve = np.zeros((len(line.path) + 1, 3))
    curve[:, :2] = _ended(line.path, tip.place, tip.direction, len(curve))
    covariance = np.zeros((3, 3))
    covariance[:2, :2] = tip.covariance
    return NeedleEstimate(
        NeedleStatus.SEEN, **base, tip=np.append(tip.place, 0.0) * scale, direction=np.append(tip.direction, 0.0),
        curve=curve * scale, covariance=covariance * scale**2, direction_sigma_deg=tip.direction_sigma_deg,
        confidence=float(np.clip(1.0 - np.exp(-(line.median - LEAST_STRENGTH + 0.8) / 1.2), 0.05, 0.99)),
        visible_fraction=line.seen)


@dataclass(frozen=True)
class _Line:
    path: np.ndarray  # (n, 2) x, y, about one pixel a step, from the border to the end
    median: float
    seen: float


@dataclass(frozen=True)
class _Tip:
    place: np.ndarray
    direction: np.ndarray
    covariance: np.ndarray
    direction_sigma_deg: float


def checked_frames(frames: np.ndarray, mm_per_px: float | None) -> np.ndarray:
    """(t, h, w) of X-ray frames; (h, w) is one. Raises InputError for what can't be looked at, or for a bad scale."""
    stack = np.asarray(frames)
    stack = stack[None] if stack.ndim == 2 else stack
    if stack.ndim != 3 or min(stack.shape[1:], default=0) < 64 or not len(stack):
        raise InputError(f"X-ray frames must be (t, h, w) of at least 64x64 grey values, not {np.shape(frames)}")
    if not np.isfinite(stack[-1]).all() or np.ptp(stack[-1]) <= 0 or stack[-1].min() < 0:
        raise InputError("the X-ray frame is empty, negative or not finite; give grey values that grow with the dose")
    if mm_per_px is not None and not (np.isfinite(mm_per_px) and mm_per_px > 0):
        raise InputError(f"mm_per_px={mm_per_px}: give the pixel's size at the device in mm, or leave it out")
    return stack


def _near(curve: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) up to 1 near the last curve."""
    mark = np.ones(shape, bool)
    at = np.rint(curve[:, ::-1]).astype(int)
    mark[tuple(np.clip(at, 0, np.array(shape) - 1).T)] = False
    return np.exp(-np.square(np.asarray(ndimage.distance_transform_edt(mark)) / 15.0)).astype(np.float32)


def _best_line(ridges: Ridges) -> _Line | None:
    """The strongest line that starts at the border and ends inside."""
    strength = ridges.strength.copy()
    rim = np.asarray(ndimage.distance_transform_edt(np.pad(ridges.field, 1)))[1:-1, 1:-1]
    for _ in range(MOST_TRIES):
        path = _traced(strength, rim)
        if path is None:
            return None
        whole = path
        path = _cut(path, ndimage.map_coordinates(ridges.contrast, path[:, ::-1].T, order=1))
        along = ndimage.map_coordinates(ridges.strength, path[:, ::-1].T, order=1)
        inside = ndimage.map_coordinates(rim, path[-1][::-1, None], order=1)[0]
        ends = len(path) >= LEAST_LENGTH_PX and inside > RIM_PX and not _goes_on(path, ridges.contrast)
        if ends and np.median(along) > LEAST_STRENGTH \
                and np.percentile(along, 10) > LEAST_WEAKEST:
            return _Line(path, float(np.median(along)), float(np.mean(along > FEE)))
        mask = np.ones(strength.shape, bool)
        at = np.clip(np.rint(whole[:, ::-1]).astype(int), 0, np.array(strength.shape) - 1)
        mask[tuple(at.T)] = False
        strength[np.asarray(ndimage.distance_transform_edt(mask)) < 7.0] = 0.0
    return None


def _cut(path: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The path up to where it is no longer the same device: far fainter than before, or round a sharp corner."""
    running = ndimage.uniform_filter1d(along, 9, mode="nearest")
    reach = 10
    for n in range(int(LEAST_LENGTH_PX), len(path) - 4):
        fainter = running[n:n + 7].max() < FAINTER * np.median(along[:n - 5])
        before, after = path[n] - path[n - reach], path[min(n + reach, len(path) - 1)] - path[n]
        cosine = before @ after / (np.linalg.norm(before) * np.linalg.norm(after) + 1e-9)
        if fainter or cosine < CORNER:
            return path[:n + 1]
    return path


def _goes_on(path: np.ndarray, contrast: np.ndarray) -> bool:
    """Whether the same line continues past the end: it was followed from both sides, and has no tip."""
    ahead = np.arctan2(*(path[-1] - path[-12])[::-1])
    own = np.median(ndimage.map_coordinates(contrast, path[:, ::-1].T, order=1))
    steps = np.arange(12.0, 21.0)
    for turn in np.radians((-24, -16, -8, 0, 8, 16, 24)):
        places = path[-1] + steps[:, None] * [np.cos(ahead + turn), np.sin(ahead + turn)]
        if ndimage.map_coordinates(contrast, places[:, ::-1].T, order=1).mean() > 0.6 * own:
            return True
    return False


def _traced(strength: np.ndarray, rim: np.ndarray) -> np.ndarray | None:
    """(n, 2) x, y from the border along the cheapest path to where the earnings are highest; None without any."""
    height, width = (n // CELL for n in strength.shape)
    cut = strength[:height * CELL, :width * CELL].reshape(height, CELL, width, CELL)
    best = cut.max(axis=(1, 3))
    depth = rim[:height * CELL:CELL, :width * CELL:CELL]
    inside = depth > 0
    cost = 1.0 / (0.05 + np.clip(best, 0.0, 6.0) ** 2 / 9.0)
    order, parent = _tree(cost, inside, (depth > 0) & (depth < 6.0))
    earned = np.full(best.size, -np.inf)
    gain = np.clip(best.ravel() - FEE, -3.0, 4.0)
    earned[order[0]] = 0.0
    for node in order:
        before = parent[node]
        earned[node] = max(gain[node], 0.0) if before < 0 else earned[before] + gain[node]
    end = int(np.argmax(earned))
    if not np.isfinite(earned[end]) or earned[end] <= 0:
        return None
    nodes = [end]
    while parent[nodes[-1]] >= 0:
        nodes.append(int(parent[nodes[-1]]))
    nodes = np.array(nodes[::-1])
    path = np.stack([nodes % width, nodes // width], axis=1) * float(CELL) + (CELL - 1) / 2.0
    return _smooth(path, strength) if len(path) >= 8 else None


def _tree(cost: np.ndarray, inside: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes by growing distance from the border, and each node's parent (-1 at the border)."""
    number = np.where(inside, np.arange(cost.size).reshape(cost.shape), -1)
    rows, columns, weights = [], [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a = number[:number.shape[0] - dy, max(0, -dx):number.shape[1] - max(0, dx)].ravel()
        b = number[dy:, max(0, dx):number.shape[1] + min(0, dx)].ravel()
        ok = (a >= 0) & (b >= 0)
        a, b = a[ok], b[ok]
        rows.append(a)
        columns.append(b)
        weights.append(0.5 * np.hypot(dx, dy) * (cost.flat[a] + cost.flat[b]))
    start = number[sources & inside]
    extra = cost.size
    rows.append(np.full(len(start), extra))
    columns.append(start)
    weights.append(np.full(len(start), 1e-6))
    graph = coo_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))),
                       shape=(extra + 1, extra + 1)).tocsr()
    distance, parent = dijkstra(graph, directed=False, indices=extra, return_predecessors=True)
    distance, parent = distance[:-1], parent[:-1]
    order = np.argsort(distance)
    order = order[:np.count_nonzero(np.isfinite(distance))]
    return order, np.where(parent == extra, -1, parent)


def _smooth(path: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """The path on the crest of the line, about a pixel a step."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    s = np.arange(0.0, length[-1], 1.0)
    fine = np.stack([np.interp(s, length, path[:, a]) for a in (0, 1)], axis=1)
    for _ in range(2):
        fine = ndimage.gaussian_filter1d(fine, 4.0, axis=0, mode="nearest")
        tangent = np.gradient(fine, axis=0)
        normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) / (np.linalg.norm(tangent, axis=1)[:, None] + 1e-9)
        reach = np.arange(-3.0, 3.01, 0.5)
        places = fine[:, None] + reach[None, :, None] * normal[:, None]
        value = ndimage.map_coordinates(strength, [places[..., 1], places[..., 0]], order=1, mode="nearest")
        weight = np.maximum(value - value.min(axis=1, keepdims=True), 0.0) ** 3 + 1e-6
        fine = fine + ((weight * reach).sum(axis=1) / weight.sum(axis=1))[:, None] * normal
    fine[:4] = fine[4] if len(fine) < 9 else fine[:4]
    return ndimage.gaussian_filter1d(fine, 2.0, axis=0, mode="nearest")


def _tip(frame: np.ndarray, path: np.ndarray) -> _Tip:
    """Where the contrast of the line falls, along the path and straight on from its end."""
    count = min(26, len(path) - 8)
    piece = path[-8 - count:-8]
    steps = np.arange(len(piece)) - len(piece) / 2.0
    fit = np.polyfit(steps, piece, min(2, max(1, len(piece) // 12)))
    at = np.arange(steps[0], steps[-1] + 28.0, 0.5)
    last = steps[-1] + 6.0
    slope = np.stack([np.polyval(np.polyder(fit[:, a]), np.minimum(at, last)) for a in (0, 1)], axis=1)
    centre = np.stack([np.polyval(fit[:, a], np.minimum(at, last)) for a in (0, 1)], axis=1)
    centre += np.maximum(at - last, 0.0)[:, None] * slope
    slope /= np.linalg.norm(slope, axis=1)[:, None]
    normal = np.stack([-slope[:, 1], slope[:, 0]], axis=1)
    profile, noise = _contrast(np.log(np.maximum(frame.astype(float), 1.0)), centre, normal)
    start = [float(steps[-1] + 8.0), float(np.median(profile[at < steps[-1]])), 0.0, 1.5]

    def residual(x):
        model = x[2] + x[1] * ndtr((x[0] - at) / max(x[3], 0.3))
        return np.append((model - profile) / noise, [(x[3] - 1.5) / 1.0, x[2] / (2.0 * noise + 0.2 * abs(start[1]))])

    solved = least_squares(residual, start, loss="soft_l1", bounds=([at[0], -np.inf, -np.inf, 0.3],
                                                                      [at[-1], np.inf, np.inf, 6.0]))
    place = np.array([np.interp(solved.x[0], at, centre[:, a]) for a in (0, 1)])
    direction = slope[int(np.argmin(np.abs(at - solved.x[0])))]
    information = solved.jac.T @ solved.jac + 1e-9 * np.eye(4)
    along = 4.0 * np.linalg.inv(information)[0, 0] + 0.7**2
    beyond = max(0.0, solved.x[0] - last)
    side = 0.5**2 + (0.05 * beyond) ** 2
    across = np.array([-direction[1], direction[0]])
    return _Tip(place, direction, along * np.outer(direction, direction) + side * np.outer(across, across), 3.0)


def _contrast(log: np.ndarray, centre: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, float]:
    """(n,) how much darker the line is than both its sides, and the spread of that."""
    offsets = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    sides = np.array([-9.0, -8.0, -7.0, 7.0, 8.0, 9.0])
    places = centre[:, None] + np.concatenate([offsets, sides])[None, :, None] * normal[:, None]
    value = ndimage.map_coordinates(log, [places[..., 1], places[..., 0]], order=1, mode="nearest")
    profile = value[:, 5:].mean(axis=1) - value[:, :5].mean(axis=1)
    rough = profile - ndimage.gaussian_filter1d(profile, 2.0)
    return profile, float(1.4826 * np.median(np.abs(rough))) * 2.0 + 0.005


def _ended(path: np.ndarray, tip: np.ndarray, direction: np.ndarray, count: int) -> np.ndarray:
    """(count, 2) the path up to the tip: cut where it runs past, drawn on where it falls short."""
    keep = np.ones(len(path), bool)
    keep[-40:] = (path[-40:] - tip) @ direction < -0.5
    joined = np.vstack([path[keep], tip])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(joined, axis=0), axis=1))])
    s = np.linspace(0.0, length[-1], count)
    return np.stack([np.interp(s, length, joined[:, a]) for a in (0, 1)], axis=1)
