"""From a vessel mask to its tree: skeleton, graph, smooth centrelines, and a diameter at each of their points."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from ..geometry import MissingPackageError
from .vessels_profile import Profiles, Tube, estimate_blur, fit_profiles, normals_of, spline_of

LEAST_BRANCH_PX = 8.0
SMOOTH_PX = 2.5
NEAR_JUNCTION = 1.5
"""In radii of the widest vessel there: so near to a junction a diameter isn't one vessel's."""
FIT_SHARE = 0.1
LEAST_FILL_POINTS = 10
GAP_PX, GAP_COSINE, MOST_ENDS = 8.0, 0.75, 400
EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Branch:
    """A vessel between two ends or junctions; n points about 1 px apart.

    Attributes:
        points_px: (n, 2) column and row of the vessel's middle.
        diameter_px, sigma_px: (n,) full width of the lumen and its standard error; NaN where it can't be told.
        half_width_px: (n,) the profile's full width at half depth (too wide for thin vessels).
        near_junction: (n,) bool, where branches meet or cross: no place to measure.
        nodes: numbers of the two ends in `VesselTree.nodes_px`.
    """

    points_px: np.ndarray
    diameter_px: np.ndarray
    sigma_px: np.ndarray
    half_width_px: np.ndarray
    near_junction: np.ndarray
    nodes: tuple[int, int]

    @property
    def arc_px(self) -> np.ndarray:
        """(n,) length along the branch."""
        return arc_length(self.points_px)

    @property
    def length_px(self) -> float:
        return float(self.arc_px[-1]) if len(self.points_px) else 0.0

    def to_dict(self, mm_per_px: float | None = None) -> dict[str, Any]:
        """Lists; mm beside px where the scale is known."""
        out: dict[str, Any] = {"nodes": list(self.nodes), "length_px": round(self.length_px, 2),
                               "points_px": np.round(self.points_px, 2).tolist(),
                               "diameter_px": listed(self.diameter_px), "diameter_sigma_px": listed(self.sigma_px),
                               "near_junction": self.near_junction.tolist()}
        if mm_per_px is not None:
            out |= {"length_mm": round(self.length_px * mm_per_px, 2),
                    "diameter_mm": listed(self.diameter_px * mm_per_px),
                    "diameter_sigma_mm": listed(self.sigma_px * mm_per_px)}
        return out


@dataclass(frozen=True)
class VesselTree:
    """`branches`; `nodes_px` (m, 2) column and row of ends and junctions; `degree` (m,) branches that meet there;
    `blur_px` of the frame as estimated."""

    branches: list[Branch] = field(default_factory=list)
    nodes_px: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    degree: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    blur_px: float = 1.0

    @property
    def length_px(self) -> float:
        return float(sum(b.length_px for b in self.branches))

    def to_dict(self, mm_per_px: float | None = None) -> dict[str, Any]:
        return {"nodes_px": np.round(self.nodes_px, 2).tolist(), "degree": self.degree.tolist(),
                "blur_px": round(self.blur_px, 2), "branches": [b.to_dict(mm_per_px) for b in self.branches]}


def listed(values: np.ndarray) -> list[float | None]:
    """Rounded numbers, None for NaN."""
    return [None if not np.isfinite(v) else round(float(v), 3) for v in values]


def arc_length(points: np.ndarray) -> np.ndarray:
    """(n,) length along (n, 2) points."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1) if len(points) > 1 else np.zeros(0)
    return np.concatenate([[0.0], np.cumsum(steps)])[:len(points)]


def make_tree(log: np.ndarray, mask: np.ndarray, *, blur_px: float | None = None) -> VesselTree:
    """The tree of a mask with diameters.

    Args: log (rows, columns) logarithm of the frame, vessels dark; mask (rows, columns) bool; blur_px of the frame
    (sigma), None: estimated. An empty mask gives an empty tree. Needs scikit-image.
    """
    if not mask.any():
        return VesselTree()
    radius = np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]
    paths, nodes, degree = trace(thinned(bridged(pruned(skeleton_of(mask), radius), radius)), radius)
    if not paths:
        return VesselTree()
    lines = [smooth_line(path) for path, _ in paths]
    picture = spline_of(log)
    places, normals = np.concatenate(lines), np.concatenate([normals_of(line) for line in lines])
    rough = np.maximum(ndimage.map_coordinates(radius, [places[:, 1], places[:, 0]], order=1, mode="nearest"), 0.7)
    near = near_junctions(places, nodes, degree, radius)
    blur = blur_px if blur_px is not None else estimate_blur(picture, places[~near], normals[~near], rough[~near], mask)
    first = fit_profiles(picture, places, normals, rough, mask, Tube(blur))
    owner = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
    fill = fill_of(first, near, owner, blur)
    fits = first if fill is None else fit_profiles(picture, places, normals, rough, mask, Tube(blur, fill))
    moved = recentred(places, normals, fits.shift_px, owner)
    branches = []
    for number, (_, ends) in enumerate(paths):
        own = owner == number
        branches.append(Branch(moved[own], fits.diameter_px[own], fits.sigma_px[own], fits.half_width_px[own],
                               near[own], ends))
    return VesselTree(branches, nodes, degree, blur)


def skeleton_of(mask: np.ndarray) -> np.ndarray:
    """(rows, columns) bool, one pixel wide; small holes and a ragged edge don't give branches."""
    labels: np.ndarray
    labels, count = ndimage.label(np.pad(~mask, 1, constant_values=True))  # type: ignore[misc]
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    small = sizes[labels] < 10
    filled = mask | (small & (labels > 0))[1:-1, 1:-1]
    smooth = ndimage.gaussian_filter(np.pad(filled, 4, mode="edge").astype(np.float32), 0.7) > 0.45
    return thinned(smooth)[4:-4, 4:-4] & filled


def thinned(mask: np.ndarray) -> np.ndarray:
    """(rows, columns) bool, one pixel wide. Raises MissingPackageError without scikit-image."""
    try:
        from skimage.morphology import skeletonize
    except ImportError:
        raise MissingPackageError("centrelines need scikit-image: pip install scikit-image") from None
    return skeletonize(mask)


def bridged(skeleton: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The skeleton with straight pieces between ends that face each other: a tight narrowing may break the mask."""
    around = ndimage.convolve(skeleton.astype(np.uint8), EIGHT.astype(np.uint8), mode="constant") - 1
    ends = np.argwhere(skeleton & (around == 1))
    out = skeleton.copy()
    if not 2 <= len(ends) <= MOST_ENDS:
        return out
    labels: np.ndarray
    labels, _ = ndimage.label(skeleton, structure=EIGHT)  # type: ignore[misc]
    ways, inner = (np.array(part) for part in zip(*(_way_out(labels, end) for end in ends), strict=True))
    pairs = []
    for i in range(len(ends)):
        for j in range(i + 1, len(ends)):
            gap = inner[j] - inner[i]
            length = float(np.linalg.norm(ends[j] - ends[i]))
            reach = GAP_PX + 2.0 * float(max(radius[tuple(ends[i])], radius[tuple(ends[j])]))
            same = labels[tuple(ends[i])] == labels[tuple(ends[j])]
            straight = min(ways[i] @ gap, -ways[j] @ gap) > GAP_COSINE * float(np.linalg.norm(gap))
            if not same and 1.5 < length <= reach and straight:
                pairs.append((length, i, j))
    used: set[int] = set()
    for length, i, j in sorted(pairs):
        if i not in used and j not in used:
            used |= {i, j}
            line = np.rint(ends[i] + np.linspace(0, 1, 2 * int(length) + 2)[:, None] * (ends[j] - ends[i])).astype(int)
            out[line[:, 0], line[:, 1]] = True
    return out


def _way_out(labels: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((2,) unit row, column from the skeleton about an end out of it; (2,) place a little inside).

    The last pixels don't count: a thinned mask turns into its corners there.
    """
    row, column = end
    low = max(row - 13, 0), max(column - 13, 0)
    near = np.argwhere(labels[low[0]:row + 14, low[1]:column + 14] == labels[row, column]) + low
    away = np.linalg.norm(near - end, axis=1)
    far, inner = near[(away > 8) & (away < 13)], near[(away > 2.5) & (away < 6)]
    inside = inner.mean(0) if len(inner) else end.astype(float)
    way = inside - (far.mean(0) if len(far) else near.mean(0))
    return way / max(float(np.linalg.norm(way)), 1e-9), inside


def trace(skeleton: np.ndarray, radius: np.ndarray) -> tuple[list[tuple[np.ndarray, tuple[int, int]]], np.ndarray,
                                                             np.ndarray]:
    """([((n, 2) x, y of a branch's pixels, its two nodes)], (m, 2) nodes, (m,) degree) of a skeleton.

    End branches that hardly leave the vessel they spring from are taken away, and the rest is joined again.
    """
    return _trace_once(pruned(skeleton, radius))


def pruned(skeleton: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The skeleton without end branches that hardly leave the vessel they spring from, and without specks."""
    current = skeleton
    for _ in range(4):
        paths, _, degree = _trace_once(current)
        spurs = [p for p, ends in paths if _is_spur(p, ends, degree, radius)]
        if not spurs:
            break
        current = current.copy()
        for path in spurs:
            current[path[:, 1], path[:, 0]] = False
        current = thinned(current)
    return current


def _is_spur(path: np.ndarray, ends: tuple[int, int], degree: np.ndarray, radius: np.ndarray) -> bool:
    loose = [n for n in ends if degree[n] == 1]
    if len(path) < LEAST_BRANCH_PX and len(loose) == 2:
        return True
    if len(loose) != 1:
        return False
    wide = float(radius[path[:, 1], path[:, 0]].max())
    return len(path) < max(LEAST_BRANCH_PX, 1.8 * wide)


def _trace_once(skeleton: np.ndarray) -> tuple[list[tuple[np.ndarray, tuple[int, int]]], np.ndarray, np.ndarray]:
    around = ndimage.convolve(skeleton.astype(np.uint8), EIGHT.astype(np.uint8), mode="constant") - 1
    knots, count = ndimage.label(skeleton & (around > 2), structure=EIGHT)  # type: ignore[misc]
    nodes = [tuple(np.mean(np.argwhere(knots == n + 1), axis=0)[::-1]) for n in range(count)]
    pieces, number = ndimage.label(skeleton & (around <= 2), structure=EIGHT)  # type: ignore[misc]
    paths: list[tuple[np.ndarray, tuple[int, int]]] = []
    for box, piece in zip(ndimage.find_objects(pieces), range(1, number + 1), strict=True):
        line = _ordered(np.argwhere(pieces[box] == piece) + [box[0].start, box[1].start])
        ends = []
        for row, column in (line[0], line[-1]):
            block = knots[max(row - 1, 0):row + 2, max(column - 1, 0):column + 2]
            touched = np.unique(block[block > 0])
            touched = touched if len(line) > 1 or not ends else touched[touched != ends[0] + 1]
            if len(touched):
                ends.append(int(touched[0]) - 1)
            else:
                nodes.append((float(column), float(row)))
                ends.append(len(nodes) - 1)
        paths.append((line[:, ::-1], (ends[0], ends[1])))
    degree = np.bincount(np.array([n for _, ends in paths for n in ends], int), minlength=len(nodes))
    return paths, np.array(nodes, float).reshape(-1, 2), degree


def _ordered(pixels: np.ndarray) -> np.ndarray:
    """The pixels (row, column) of a piece without junctions, from one end to the other."""
    left = {(int(r), int(c)) for r, c in pixels}
    steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
    steps.sort(key=lambda s: abs(s[0]) + abs(s[1]))

    def beside(at: tuple[int, int]) -> list[tuple[int, int]]:
        return [n for a, b in steps if (n := (at[0] + a, at[1] + b)) in left]

    start = next((p for p in sorted(left) if len(beside(p)) <= 1), min(left))
    order = [start]
    left.discard(start)
    while following := beside(order[-1]):
        order.append(following[0])
        left.discard(following[0])
    return np.array(order)


def smooth_line(path: np.ndarray, sigma_px: float = SMOOTH_PX) -> np.ndarray:
    """(n, 2) points about 1 px apart on a smooth line through the pixels (x, y) of a path; ends stay."""
    points = path.astype(float)
    if len(points) < 4:
        return points
    arc = arc_length(points)
    even = np.linspace(0.0, arc[-1], max(4, round(arc[-1]) + 1))
    points = np.stack([np.interp(even, arc, points[:, axis]) for axis in (0, 1)], 1)
    pad = int(3 * sigma_px)
    before = 2 * points[0] - points[1:min(pad, len(points) - 1) + 1][::-1]  # turned about the end, so that it stays
    after = 2 * points[-1] - points[-min(pad, len(points) - 1) - 1:-1][::-1]
    whole = ndimage.gaussian_filter1d(np.concatenate([before, points, after]), sigma_px, axis=0, mode="nearest")
    return whole[len(before):len(before) + len(points)]


def near_junctions(places: np.ndarray, nodes: np.ndarray, degree: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(n,) bool: within NEAR_JUNCTION radii (at least 3 px) of a node where three or more branches meet."""
    near = np.zeros(len(places), bool)
    for (x, y), count in zip(nodes, degree, strict=True):
        if count >= 3:
            row, column = (int(np.clip(round(v), 0, n - 1)) for v, n in zip((y, x), radius.shape, strict=True))
            reach = max(3.0, NEAR_JUNCTION * float(radius[row, column]) + 1.0)
            near |= np.linalg.norm(places - (x, y), axis=1) < reach
    return near


def fill_of(fits: Profiles, near: np.ndarray, owner: np.ndarray, blur_px: float) -> np.ndarray | None:
    """(n,) depth over diameter that wide, well fitted places of a branch show, else those of the whole tree."""
    good = np.isfinite(fits.diameter_px) & ~near & (fits.diameter_px > 2.5 * blur_px)
    good &= fits.sigma_px < FIT_SHARE * np.nan_to_num(fits.diameter_px, nan=1.0)
    if good.sum() < LEAST_FILL_POINTS:
        return None
    ratio = fits.depth / fits.diameter_px
    fill = np.full(len(owner), float(np.median(ratio[good])))
    for number in np.unique(owner[good]):
        own = good & (owner == number)
        if own.sum() >= LEAST_FILL_POINTS:
            fill[owner == number] = float(np.median(ratio[own]))
    return fill


def recentred(places: np.ndarray, normals: np.ndarray, shift: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """The places moved to the fitted middles, smoothed along each branch."""
    out = places.copy()
    for number in np.unique(owner):
        own = owner == number
        step = shift[own]
        known = np.isfinite(step)
        if known.sum() < 4:
            continue
        index = np.arange(len(step))
        filled = ndimage.median_filter(np.interp(index, index[known], step[known]), 5, mode="nearest")
        out[own] += ndimage.gaussian_filter1d(filled, 1.5, mode="nearest")[:, None] * normals[own]
    return out
