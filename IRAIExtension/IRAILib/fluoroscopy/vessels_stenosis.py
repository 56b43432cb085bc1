"""Narrow places of vessels as quantitative coronary angiography measures them: least and reference diameter, percent.

The reference is what the healthy vessel on both sides of the narrowing would have at its tightest place, interpolated.
Where branches meet or cross, at a vessel's open end, and without a healthy neighbour nothing is measured.

Source: Reiber et al., Circulation 71, 1985 (interpolated reference, percent diameter stenosis).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..geometry import InputError, RefusedError
from .vessels_profile import ALONG_PX
from .vessels_tree import VesselTree, arc_length

STRAIGHT_DEG = 55.0
"""Branches that turn by less are one vessel that goes on through the junction."""
SMOOTH_PX, WINDOW_PX = 1.2, 30.0
HEALTHY, NARROW = 0.93, 0.85
"""Of the vessel's usual diameter: from the first on it is healthy, below the second narrow."""
LEAST_HEALTHY, LEAST_LENGTH = 4, 20.0
REACH_PX, POINTED_PX = 12.0, 3.0
LEAST_REFERENCE = 2.5
"""Of the blur's sigma: a thinner vessel has no percent stenosis."""
SIGMA_FACTOR = 1.5
"""By which the fits' own errors were too small on drawn angiograms (not those of the tests or the benchmark)."""
ALONG_VARIANCE = float(np.mean(np.square(ALONG_PX)))
VALIDATED_ON = "drawn angiograms of round vessels with known diameters; not on patients"


@dataclass(frozen=True)
class Vessel:
    """Branches joined where one goes on as the other: n points about 1 px apart.

    `points_px` (n, 2); `arc_px`, `diameter_px`, `sigma_px` (n,) smoothed a little along the vessel, NaN where unknown;
    `raw_px`, `raw_sigma_px` (n,) as they were fitted; `usable` (n,) bool: known, not where branches meet, not at an
    open end; `branches` their numbers; `blur_px` of the frame.
    """

    points_px: np.ndarray
    arc_px: np.ndarray
    diameter_px: np.ndarray
    sigma_px: np.ndarray
    usable: np.ndarray
    branches: tuple[int, ...]
    raw_px: np.ndarray
    raw_sigma_px: np.ndarray
    blur_px: float


@dataclass(frozen=True)
class Stenosis:
    """A narrow place. Pixels of the frame, column and row; sigmas are standard errors.

    Attributes:
        place_px: the tightest place. vessel: number in `vessels_of`. arc_px: along that vessel.
        mld_px, reference_px: least diameter, and what it would be there if it were healthy.
        percent_diameter, percent_area: 100 (1 - d / D), and of the areas of circles.
        length_px: from healthy to healthy. sides: on how many a healthy neighbour was found (1: less sure).
        mm_per_px, mm_per_px_sigma: at the vessel, where known.
    """

    place_px: tuple[float, float]
    vessel: int
    arc_px: float
    mld_px: float
    mld_sigma_px: float
    reference_px: float
    reference_sigma_px: float
    length_px: float
    sides: int
    mm_per_px: float | None = None
    mm_per_px_sigma: float = 0.0
    validated_on: str = VALIDATED_ON

    @property
    def percent_diameter(self) -> float:
        return 100.0 * (1.0 - self.mld_px / self.reference_px)

    @property
    def percent_sigma(self) -> float:
        """Standard error of the percent diameter; it needs no scale."""
        ratio = self.mld_px / self.reference_px
        return 100.0 / self.reference_px * float(np.hypot(self.mld_sigma_px, ratio * self.reference_sigma_px))

    @property
    def percent_area(self) -> float:
        return 100.0 * (1.0 - (self.mld_px / self.reference_px) ** 2)

    @property
    def percent_area_sigma(self) -> float:
        return 2.0 * self.mld_px / self.reference_px * self.percent_sigma

    def to_dict(self) -> dict[str, Any]:
        """mm beside px where the scale is known."""
        out: dict[str, Any] = {
            "place_px": [round(v, 1) for v in self.place_px], "vessel": self.vessel,
            "mld_px": round(self.mld_px, 2), "mld_sigma_px": round(self.mld_sigma_px, 2),
            "reference_px": round(self.reference_px, 2), "reference_sigma_px": round(self.reference_sigma_px, 2),
            "percent_diameter": round(self.percent_diameter, 1), "percent_diameter_sigma": round(self.percent_sigma, 1),
            "percent_area": round(self.percent_area, 1), "percent_area_sigma": round(self.percent_area_sigma, 1),
            "length_px": round(self.length_px, 1), "healthy_sides": self.sides, "validated_on": self.validated_on}
        if self.mm_per_px is not None:
            share = self.mm_per_px_sigma / self.mm_per_px
            for name, value, sigma in (("mld", self.mld_px, self.mld_sigma_px),
                                       ("reference", self.reference_px, self.reference_sigma_px)):
                out[f"{name}_mm"] = round(value * self.mm_per_px, 3)
                out[f"{name}_sigma_mm"] = round(float(np.hypot(sigma * self.mm_per_px, share * value * self.mm_per_px)),
                                                3)
            out["length_mm"] = round(self.length_px * self.mm_per_px, 2)
        return out


def vessels_of(tree: VesselTree) -> list[Vessel]:
    """The branches of a tree joined through its junctions, the longest first. An empty tree gives none."""
    partner = _partners(tree)
    left, out = set(range(len(tree.branches))), []
    for first in sorted(left, key=lambda n: -tree.branches[n].length_px):
        if first not in left:
            continue
        chain = [(first, False)]
        for forward in (True, False):
            number, turned = chain[-1] if forward else chain[0]
            end = int(forward != turned)
            while (number, end) in partner:
                number, end = partner[number, end]
                if number not in left or any(number == n for n, _ in chain):
                    break
                turned = end == (1 if forward else 0)
                chain = [*chain, (number, turned)] if forward else [(number, turned), *chain]
                end = 1 - end
        left -= {n for n, _ in chain}
        out.append(_joined(tree, chain))
    return sorted(out, key=lambda v: -float(v.arc_px[-1]))


def _partners(tree: VesselTree) -> dict[tuple[int, int], tuple[int, int]]:
    """(branch, end 0 or 1) to the one that goes on straight from there."""
    ends: dict[int, list[tuple[int, int, np.ndarray]]] = {}
    for number, branch in enumerate(tree.branches):
        points = branch.points_px
        if len(points) < 4:
            continue
        reach = min(len(points) - 1, 10)
        for end, way in ((0, points[reach] - points[0]), (1, points[-1 - reach] - points[-1])):
            ends.setdefault(branch.nodes[end], []).append((number, end, way / max(float(np.linalg.norm(way)), 1e-9)))
    partner = {}
    for found in ends.values():
        pairs = [(float(a[2] @ b[2]), a, b) for i, a in enumerate(found) for b in found[i + 1:] if a[0] != b[0]]
        for cosine, a, b in sorted(pairs, key=lambda p: p[0]):
            if cosine < -np.cos(np.radians(STRAIGHT_DEG)) and a[:2] not in partner and b[:2] not in partner:
                partner[a[0], a[1]], partner[b[0], b[1]] = (b[0], b[1]), (a[0], a[1])
    return partner


def _joined(tree: VesselTree, chain: list[tuple[int, bool]]) -> Vessel:
    parts = [(tree.branches[n], slice(None, None, -1) if turned else slice(None)) for n, turned in chain]
    points = np.concatenate([b.points_px[way] for b, way in parts])
    arc = arc_length(points)
    diameter, sigma = (np.concatenate([getattr(b, name)[way] for b, way in parts])
                       for name in ("diameter_px", "sigma_px"))
    near = np.concatenate([b.near_junction[way] for b, way in parts])
    for (number, turned), at, inward in ((chain[0], 0, 1), (chain[-1], 1, -1)):
        node = tree.branches[number].nodes[(1 - at) if turned else at]
        if tree.degree[node] == 1:
            reach = max(3.0, float(np.nanmedian(diameter)) if np.isfinite(diameter).any() else 3.0)
            near |= (arc if inward > 0 else arc[-1] - arc) < reach
    known = np.isfinite(diameter) & ~near
    smooth, error = _smoothed(diameter, sigma, known)
    return Vessel(points, arc, smooth, error, known & np.isfinite(smooth), tuple(n for n, _ in chain), diameter,
                  sigma, tree.blur_px)


def _smoothed(diameter: np.ndarray, sigma: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means weighed by certainty along the vessel; the error doesn't fall below what neighbours share."""
    weight = np.where(known, 1.0 / np.square(np.maximum(np.nan_to_num(sigma, nan=1.0), 0.03)), 0.0)
    total = ndimage.gaussian_filter1d(weight, SMOOTH_PX, mode="constant")
    value = ndimage.gaussian_filter1d(weight * np.nan_to_num(diameter), SMOOTH_PX, mode="constant")
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(known, value / total, np.nan)
        error = np.where(known, 1.0 / np.sqrt(total), np.nan)
    return mean, error


def usual_diameter(vessel: Vessel) -> np.ndarray:
    """(n,) the upper quartile of the diameters within WINDOW_PX along the vessel; NaN where none is known."""
    out = np.full(len(vessel.arc_px), np.nan)
    arc, values = vessel.arc_px[vessel.usable], vessel.diameter_px[vessel.usable]
    if len(arc) >= LEAST_HEALTHY:
        window = max(WINDOW_PX, 6.0 * float(np.median(values)))
        for n, at in enumerate(vessel.arc_px):
            near = np.abs(arc - at) <= window
            if near.sum() >= LEAST_HEALTHY:
                out[n] = np.percentile(values[near], 75)
    return out


def find_stenoses(tree: VesselTree, *, least_percent: float = 30.0, sigmas: float = 2.0, least_sides: int = 2,
                  mm_per_px: float | None = None, mm_per_px_sigma: float = 0.0
                  ) -> tuple[list[Stenosis], list[dict[str, Any]]]:
    """(narrow places, first what is tightest for sure: percent less `sigmas` standard errors; refused places with
    `place_px` and `reason`).

    Args: least_percent of the diameter: a place is listed when it is as tight even `sigmas` standard errors less, and
    has a healthy neighbour on `least_sides` sides (1 or 2). Noise and overlap make narrow places in every vessel: 0
    sigmas and one side list them all. An empty tree gives ([], []).
    """
    if not 0.0 <= least_percent < 100.0:
        raise InputError(f"the least stenosis of {least_percent:g} % isn't between 0 and 100")
    if not sigmas >= 0.0:
        raise InputError(f"{sigmas:g} standard errors: give 0 or more")
    found, refused = [], []
    for number, vessel in enumerate(vessels_of(tree)):
        usual = usual_diameter(vessel)
        with np.errstate(invalid="ignore"):
            narrow = vessel.usable & (vessel.diameter_px < np.minimum(NARROW, 1 - 0.006 * least_percent) * usual)
        labels, count = ndimage.label(ndimage.binary_closing(narrow, iterations=2) | narrow)  # type: ignore[misc]
        for piece in range(1, count + 1):
            own = np.flatnonzero((labels == piece) & vessel.usable)
            at = int(own[np.argmin(vessel.diameter_px[own])])
            try:
                one = _measured(vessel, number, at, usual, mm_per_px, mm_per_px_sigma)
            except RefusedError as error:
                refused.append({"place_px": [round(float(v), 1) for v in vessel.points_px[at]], "reason": str(error)})
                continue
            if one.percent_diameter - sigmas * one.percent_sigma >= least_percent and one.sides >= least_sides:
                found.append(one)
    return _apart(sorted(found, key=lambda s: sigmas * s.percent_sigma - s.percent_diameter)), refused


def _apart(found: list[Stenosis]) -> list[Stenosis]:
    """Of narrow places nearer to each other than the vessel is wide, the tightest."""
    out: list[Stenosis] = []
    for one in found:
        if all(np.hypot(*np.subtract(one.place_px, other.place_px)) > max(one.reference_px, 6.0) for other in out):
            out.append(one)
    return out


def measure_stenosis(tree: VesselTree, place_px: tuple[float, float], *, mm_per_px: float | None = None,
                     mm_per_px_sigma: float = 0.0) -> Stenosis:
    """The narrowest place within REACH_PX along the vessel from where the user points (column, row).

    Raises: InputError for a place that isn't two numbers; RefusedError where no vessel is near, branches meet or cross,
    the vessel is too short, or no healthy neighbour is left.
    """
    place = np.asarray(place_px, float).ravel()
    if place.shape != (2,) or not np.isfinite(place).all():
        raise InputError(f"the place {place_px} is no column and row")
    best: tuple[float, int, int, Vessel] | None = None
    for number, vessel in enumerate(vessels_of(tree)):
        gaps = np.linalg.norm(vessel.points_px - place, axis=1)
        at = int(np.argmin(gaps))
        if best is None or gaps[at] < best[0]:
            best = float(gaps[at]), number, at, vessel
    if best is None or best[0] > REACH_PX:
        raise RefusedError(f"no vessel within {REACH_PX:g} px of column {place[0]:.0f}, row {place[1]:.0f}")
    gap, number, at, vessel = best
    if gap > POINTED_PX and at in (0, len(vessel.arc_px) - 1):
        raise RefusedError("the vessel that was found ends before that place; a tight narrowing may have broken it")
    near = vessel.usable & (np.abs(vessel.arc_px - vessel.arc_px[at]) <= REACH_PX)
    if not (near & (np.abs(vessel.arc_px - vessel.arc_px[at]) <= POINTED_PX)).any():
        raise RefusedError("branches meet or cross there, or the vessel ends: no diameter of one vessel can be told")
    index = np.flatnonzero(near)
    tightest = int(index[np.argmin(vessel.diameter_px[index])])
    return _measured(vessel, number, tightest, usual_diameter(vessel), mm_per_px, mm_per_px_sigma)


def _measured(vessel: Vessel, number: int, at: int, usual: np.ndarray, mm_per_px: float | None,
              mm_per_px_sigma: float) -> Stenosis:
    if float(vessel.arc_px[-1]) < max(LEAST_LENGTH, 3.0 * float(usual[at])):
        raise RefusedError("the vessel in view is too short to have a healthy neighbour")
    if usual[at] < LEAST_REFERENCE * vessel.blur_px:
        raise RefusedError(f"the vessel is {usual[at]:.1f} px wide, too thin for this picture's blur")
    sides = [_healthy(vessel, at, usual, way) for way in (-1, 1)]
    good = [s for s in sides if s is not None]
    if not good:
        raise RefusedError("no healthy vessel beside the narrowing: junctions, crossings or the ends are too near")
    arc = vessel.arc_px[at]
    mld, own_sigma = _least(vessel, at)
    if len(good) == 2:
        (a, da, sa, ea), (b, db, sb, eb) = good
        share = (arc - a) / max(b - a, 1e-9)
        reference, sigma = (1 - share) * da + share * db, float(np.hypot((1 - share) * sa, share * sb))
        length = float(eb - ea)
    else:
        a, reference, sigma, edge = good[0]
        sigma = float(np.hypot(sigma, 0.1 * reference))  # a vessel tapers, and the other side isn't known
        length = 2.0 * abs(float(arc - edge))
    x, y = (float(v) for v in vessel.points_px[at])
    return Stenosis((x, y), number, float(arc), mld, own_sigma, float(reference), sigma, length, len(good), mm_per_px,
                    mm_per_px_sigma)


def _least(vessel: Vessel, at: int) -> tuple[float, float]:
    """(least diameter, its error) of a parabola along the vessel round a place.

    A short narrowing is seen too wide: profiles are averaged along the vessel, and the blur is as long as it is wide.
    What that adds grows with the parabola's bend and is taken off.
    """
    window = vessel.usable & (np.abs(vessel.arc_px - vessel.arc_px[at]) <= max(3.0, 0.35 * vessel.diameter_px[at]))
    smooth, error = float(vessel.diameter_px[at]), float(vessel.sigma_px[at])
    if window.sum() < 5:
        return smooth, SIGMA_FACTOR * error
    s = vessel.arc_px[window] - vessel.arc_px[at]
    weight = 1.0 / np.maximum(vessel.raw_sigma_px[window], 0.03)
    design = np.stack([np.ones_like(s), s, s * s], 1) * weight[:, None]
    values, *_ = np.linalg.lstsq(design, vessel.raw_px[window] * weight, rcond=None)
    covariance = np.linalg.inv(design.T @ design + 1e-9 * np.eye(3))
    bend = float(np.clip(2.0 * values[2], 0.0, 0.5))
    if bend <= 0.0:
        return smooth, SIGMA_FACTOR * error
    off = float(np.clip(-values[1] / bend, -1.5, 1.5))
    bottom = float(values[0] + values[1] * off + 0.5 * bend * off**2)
    taken = 0.5 * bend * (ALONG_VARIANCE + vessel.blur_px**2)
    mean_error = float(np.sqrt(covariance[0, 0]))
    least = max(bottom - taken, 0.25 * bottom, 0.1)
    unresolved = 0.3 * vessel.blur_px if least < 2.0 * vessel.blur_px else 0.0
    return least, SIGMA_FACTOR * float(np.sqrt(mean_error**2 + (0.4 * taken) ** 2 + unresolved**2 + 0.05**2))


def _healthy(vessel: Vessel, at: int, usual: np.ndarray, way: int) -> tuple[float, float, float, float] | None:
    """(middle arc, diameter, its error, arc of the near edge) of the healthy stretch on one side; None without."""
    order = range(at, len(vessel.arc_px)) if way > 0 else range(at, -1, -1)
    edge, chosen = None, []
    wanted = max(8.0, 2.5 * float(usual[at]))
    for n in order:
        if not vessel.usable[n]:
            continue
        healthy = vessel.diameter_px[n] >= HEALTHY * usual[n]
        if edge is None and healthy:
            edge = n
        if edge is not None:
            if abs(vessel.arc_px[n] - vessel.arc_px[edge]) > wanted or vessel.diameter_px[n] < NARROW * usual[n]:
                break
            chosen.append(n)
    if edge is None or len(chosen) < LEAST_HEALTHY:
        return None
    values = vessel.diameter_px[chosen]
    error = float(np.hypot(1.25 * values.std() / np.sqrt(max(len(chosen) / 3.0, 1.0)),
                           np.median(vessel.sigma_px[chosen]) / np.sqrt(max(len(chosen) / 3.0, 1.0))))
    return (float(np.mean(vessel.arc_px[chosen])), float(np.median(values)), SIGMA_FACTOR * error,
            float(vessel.arc_px[edge]))
