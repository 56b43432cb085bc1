"""From the wire network's two maps to a course with a tip. Coordinates: map pixels (column, row)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.interpolate import splev, splprep
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

FEE = 0.3
"""Chance of an axis that a step must have to earn: where less is seen for long, the device ends."""
OPEN, GAP = 0.12, 9
"""The path search stays within GAP // 2 of pixels with that chance."""
LEAST_TIP, MOST_TIPS, WINDOW = 0.04, 3, 5
LEAST_LENGTH = 14
SIGNS = 6
NEAR_BONUS, NEAR_PX = 1.0, 25.0
ALONE = 1.5
"""How much an end counts for less where no axis is near: a marker or a clip looks like an end."""


@dataclass(frozen=True)
class Course:
    """A device in map pixels: `points` (n, 2) about one apart, entry first, the tip last; `tip` (2,), unit
    `direction`; `spread` (2, 2) second moment of the tip's map about it; `signs` (SIGNS,) that it is one (see
    `confidence`)."""

    points: np.ndarray
    tip: np.ndarray
    direction: np.ndarray
    spread: np.ndarray
    signs: np.ndarray


def sigmoid(value: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-np.clip(value, -30.0, 30.0)))


def confidence(signs: np.ndarray, weights: list[float]) -> float:
    """Logistic combination: weights (SIGNS,) and a constant at the end."""
    return float(sigmoid(signs @ np.asarray(weights[:-1]) + weights[-1]))


def read_maps(maps: np.ndarray, shape: tuple[int, int], previous_tip: np.ndarray | None = None) -> Course | None:
    """The most convincing device of (2, h, w) logits of axis and tip; None without an end on a line.

    Args: shape: rows and columns of the map that picture lies under; the rest is padding. previous_tip: (2,) where it
    was last, which is preferred among equals.
    """
    axis = sigmoid(maps[0, :shape[0], :shape[1]]).astype(np.float32)
    ends = maps[1, :shape[0], :shape[1]]
    if float(axis.max(initial=0.0)) < 2 * FEE:
        return None
    best, best_score = None, -np.inf
    near = np.asarray(ndimage.maximum_filter(axis, WINDOW))
    places = _peaks(ends + ALONE * np.log(np.clip(near, 0.01, 0.5) / 0.5))
    graph = _graph(axis, places) if places else None
    for place, height in places:
        course = None if graph is None else _course(axis, ends, place, graph)
        if course is None:
            continue
        score = height + 3.0 * float(course.signs[1] + course.signs[3]) + 0.5 * float(course.signs[2])
        if previous_tip is not None and np.linalg.norm(course.tip - previous_tip) < NEAR_PX:
            score += NEAR_BONUS
        if score > best_score:
            best, best_score = course, score
    return best


def _peaks(logits: np.ndarray) -> list[tuple[tuple[int, int], float]]:
    """Up to MOST_TIPS places (row, column) where the tip's map peaks, with their logits, the highest first."""
    left = logits.astype(np.float32).copy()
    out, least = [], float(np.log(LEAST_TIP / (1.0 - LEAST_TIP)))
    while len(out) < MOST_TIPS:
        row, column = (int(n) for n in np.unravel_index(int(left.argmax()), left.shape))
        height = float(left[row, column])
        if height < least or (out and height < out[0][1] - 3.0):
            break
        out.append(((row, column), height))
        left[max(row - 8, 0):row + 9, max(column - 8, 0):column + 9] = -np.inf
    return out


@dataclass(frozen=True)
class _Graph:
    number: np.ndarray  # (h, w) of each open pixel, -1 elsewhere
    at: np.ndarray  # (n, 2) row, column
    links: Any


def _graph(axis: np.ndarray, places: list) -> _Graph | None:
    """Open pixels and what a step between neighbours costs."""
    open_ = np.asarray(ndimage.maximum_filter((axis > OPEN).astype(np.uint8), GAP)) > 0
    for (row, column), _ in places:
        open_[max(row - 4, 0):row + 5, max(column - 4, 0):column + 5] = True
    at = np.argwhere(open_)
    number = np.full(axis.shape, -1, np.int64)
    number[open_] = np.arange(len(at))
    cost = (1.0 / (0.04 + axis)).astype(np.float32)
    starts, stops, weights = [], [], []
    height, width = axis.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (slice(dy, height), slice(max(0, dx), width + min(0, dx)))
        a, b = number[here].ravel(), number[there].ravel()
        ok = (a >= 0) & (b >= 0)
        step = 0.5 * np.hypot(dx, dy) * (cost[here].ravel()[ok] + cost[there].ravel()[ok])
        starts += [a[ok], b[ok]]
        stops += [b[ok], a[ok]]
        weights += [step, step]
    links = coo_matrix((np.concatenate(weights), (np.concatenate(starts), np.concatenate(stops))),
                       shape=(len(at), len(at))).tocsr()
    return _Graph(number, at, links)


def _course(axis: np.ndarray, ends: np.ndarray, place: tuple[int, int], graph: _Graph) -> Course | None:
    """The course that ends at a peak of the tip's map: back along the cheapest way to where most was earned."""
    source = int(graph.number[place])
    distance, parent = dijkstra(graph.links, indices=source, return_predecessors=True, limit=4000.0)
    reached = np.isfinite(distance)
    parent = np.where(parent < 0, source, parent)
    earned = np.where(reached, axis[graph.at[:, 0], graph.at[:, 1]] - FEE, 0.0)
    earned[source] = 0.0
    ancestor = parent
    for _ in range(12):  # sums along the ways back, doubling their length
        earned = earned + earned[ancestor]
        ancestor = ancestor[ancestor]
    far = int(np.argmax(np.where(reached, earned, -np.inf)))
    way = [far]
    while way[-1] != source and len(way) < 4096:
        way.append(int(parent[way[-1]]))
    if len(way) < LEAST_LENGTH:
        return None
    tip, spread = _tip(ends, place)
    points = _refined(axis, graph.at[way][:, ::-1].astype(float), tip)
    back = points[-1] - points[-min(8, len(points))]
    direction = back / max(float(np.linalg.norm(back)), 1e-9)
    along = ndimage.map_coordinates(axis, points[:, ::-1].T, order=1, mode="nearest")
    rim = min(points[0].min(), axis.shape[1] - 1 - points[0, 0], axis.shape[0] - 1 - points[0, 1])
    signs = np.array([float(np.clip(ends[place], -6.0, 8.0)) / 2.0, float(along.mean()), np.log(len(points) / 40.0),
                      float(along[-12:].mean()), float(np.percentile(along, 10)), float(rim < 12.0)])
    return Course(points, tip, direction, spread, signs)


def _tip(ends: np.ndarray, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Centroid (x, y) and second moment (2, 2) of the tip's map round its peak."""
    row, column = place
    rows = np.arange(max(row - WINDOW, 0), min(row + WINDOW + 1, ends.shape[0]))
    columns = np.arange(max(column - WINDOW, 0), min(column + WINDOW + 1, ends.shape[1]))
    heat = sigmoid(ends[np.ix_(rows, columns)].astype(float))
    heat = np.maximum(heat - 0.2 * heat.max(), 0.0)
    heat /= heat.sum()
    tip = np.array([heat.sum(axis=0) @ columns, heat.sum(axis=1) @ rows])
    x, y = columns - tip[0], rows - tip[1]
    xy = float(y @ heat @ x)
    return tip, np.array([[heat.sum(axis=0) @ x**2, xy], [xy, heat.sum(axis=1) @ y**2]])


def _refined(axis: np.ndarray, path: np.ndarray, tip: np.ndarray) -> np.ndarray:
    """(n, 2) the path on the crest of the axis' map, smoothed by a spline, with the tip as its end."""
    smooth = ndimage.gaussian_filter1d(path, 1.5, axis=0, mode="nearest")
    tangent = np.gradient(smooth, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) / (np.linalg.norm(tangent, axis=1)[:, None] + 1e-9)
    reach = np.arange(-2.0, 2.01, 0.5)
    places = smooth[:, None] + reach[None, :, None] * normal[:, None]
    weight = ndimage.map_coordinates(axis, [places[..., 1], places[..., 0]], order=1, mode="nearest") + 1e-3
    crest = smooth + ((weight * reach).sum(axis=1) / weight.sum(axis=1))[:, None] * normal
    keep = np.linalg.norm(crest - tip, axis=1) > 2.5
    keep[:2] = True
    crest = np.vstack([crest[keep], tip])
    step = np.linalg.norm(np.diff(crest, axis=0), axis=1)
    crest = crest[np.concatenate([[True], step > 1e-3])]
    weights = np.ones(len(crest))
    weights[-1] = 10.0
    spline, _ = splprep(crest.T, w=weights, s=0.05 * len(crest), k=3)
    length = float(np.linalg.norm(np.diff(crest, axis=0), axis=1).sum())
    return np.stack(splev(np.linspace(0.0, 1.0, max(int(length), 8)), spline), axis=1)
