"""Several needles for one zone: where they go so that their zones cover a tumour with its margin, and don't collide.

A needle's zone is an ellipsoid about a point on its axis; its semi-axes come from the maker's table or a simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..geometry import InputError, Mask, RefusedError
from ..geometry.distance import euclidean_distance_mm
from .entry_plan import EntryPlanner
from .entry_result import VALIDATED_ON, EntryPath

MOST_POINTS = 4000
ROUNDS = 12
DIRECTIONS_TRIED = 8
LEAST_GAP_MM = 3.0


@dataclass(frozen=True, eq=False)
class NeedleSet:
    """Needles that share a tumour.

    paths: one a needle, to the zone's centre. coverage_percent: of tumour with margin, tumour_percent: of the tumour
    alone, by the union of the zones as planned. gaps_mm: {(m, n): shortest distance between the needles' surfaces}.
    """

    paths: tuple[EntryPath, ...]
    centres_ras: np.ndarray
    semi_axes_mm: tuple[float, float]
    margin_mm: float
    coverage_percent: float
    tumour_percent: float
    gaps_mm: dict[tuple[int, int], float]
    parallel: bool

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "needle set", "frame": "RAS", "units": "mm", "needles": [p.to_dict() for p in self.paths],
                "zone": {"across_mm": self.semi_axes_mm[0], "along_mm": self.semi_axes_mm[1],
                         "centres_ras_mm": self.centres_ras.tolist()}, "margin_mm": self.margin_mm,
                "coverage_percent": self.coverage_percent, "tumour_percent": self.tumour_percent,
                "gaps_mm": [{"needles": list(pair), "gap_mm": gap} for pair, gap in self.gaps_mm.items()],
                "parallel": self.parallel, "uncertainty": "coverage of the zones as planned: no error of placing, no "
                "cooling by vessels", "validated_on": VALIDATED_ON}


def place_needles(planner: EntryPlanner, tumour: Mask, count: int, semi_axes_mm: tuple[float, float], *,
                  margin_mm: float = 5.0, parallel: bool = True, least_gap_mm: float = LEAST_GAP_MM) -> NeedleSet:
    """Place needles whose ellipsoids (semi-axes across, along the needle) cover a tumour with its margin.

    Starts from centres spread over the tumour (Lloyd 1982) and moves them to what they leave uncovered; parallel
    needles share the direction of the best path to the tumour's middle, others take their own best path.
    Raises: InputError (empty tumour, sizes), RefusedError (no free path for a needle, or needles collide).
    """
    tumour.require_not_empty()
    across, along = (float(v) for v in semi_axes_mm)
    if not 1 <= count <= 12 or not (1.0 <= across <= 100.0 and 1.0 <= along <= 100.0):
        raise InputError("needles: give 1 to 12 needles and semi-axes from 1 to 100 mm")
    if not 0.0 <= margin_mm <= 30.0:
        raise InputError(f"margin of {margin_mm:g} mm; give 0 to 30 mm")
    inner, wanted = _points(tumour, margin_mm)
    first = planner.plan(wanted.mean(axis=0))
    if first.refused:
        raise RefusedError(first.refused)
    problems: list[str] = []
    for guide in first.paths[:DIRECTIONS_TRIED]:
        unit = np.array(guide.target_ras) - np.array(guide.entry_ras)
        unit /= np.linalg.norm(unit)
        centres = _centres(wanted, count, unit, across, along)
        try:
            paths = _paths(planner, centres, unit if parallel else None)
        except RefusedError as error:
            problems.append(str(error))
            continue
        gaps = _gaps(paths, 2.0 * planner.options.needle_radius_mm)
        close = [pair for pair, gap in gaps.items() if gap < least_gap_mm]
        if close:
            problems.append(f"needles {close[0][0] + 1} and {close[0][1] + 1} come within "
                            f"{max(gaps[close[0]], 0.0):.1f} mm of each other")
            continue
        return NeedleSet(tuple(paths), centres, (across, along), margin_mm,
                         100.0 * float(_covered(wanted, centres, paths, across, along).mean()),
                         100.0 * float(_covered(inner, centres, paths, across, along).mean()), gaps, parallel)
    raise RefusedError(f"{count} needles can't be placed: {problems[0]}; use fewer needles, free directions or smaller "
                       "margins of the obstacles")


def _points(tumour: Mask, margin_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of the tumour, and of the tumour with its margin, RAS mm."""
    box = tumour.crop_to_content()
    pad = np.ceil(margin_mm / box.grid.spacing_kji_mm).astype(int) + 1
    padded = np.pad(box.array, [(int(p), int(p)) for p in pad])
    grid = box.grid.cropped_grid(tuple(int(-p) for p in pad), padded.shape)  # type: ignore[arg-type]
    near = euclidean_distance_mm(~padded, grid.spacing_kji_mm) <= margin_mm
    out = []
    for mask in (padded, near):
        index = np.argwhere(mask)
        out.append(grid.points_ras(index[::max(1, len(index) // MOST_POINTS)]))
    return out[0], out[1]


def _centres(points: np.ndarray, count: int, unit: np.ndarray, across: float, along: float) -> np.ndarray:
    """(count, 3) zone centres: spread by Lloyd's rounds in the zone's own measure, then pulled to what is uncovered."""
    squeezed = _squeezed(points, unit, across, along)
    rng = np.random.default_rng(count)
    best, most = squeezed[:count], -1.0
    for _ in range(4):
        centres = squeezed[rng.choice(len(squeezed), min(count, len(squeezed)), replace=False)]
        for round_ in range(ROUNDS):
            square = ((squeezed[:, None] - centres[None]) ** 2).sum(axis=-1)
            owner, inside = square.argmin(axis=1), square.min(axis=1) <= 1.0
            if inside.mean() > most:
                best, most = centres.copy(), float(inside.mean())
            weight = np.where(inside, 1.0, 1.0 + round_)
            for n in range(len(centres)):
                mine = owner == n
                if mine.any():
                    centres[n] = np.average(squeezed[mine], axis=0, weights=weight[mine])
    return best @ _stretch(unit, across, along)


def _stretch(unit: np.ndarray, across: float, along: float) -> np.ndarray:
    """(3, 3) from the zone's own measure (where it is a unit ball) to mm."""
    axis = np.outer(unit, unit)
    return along * axis + across * (np.eye(3) - axis)


def _squeezed(points: np.ndarray, unit: np.ndarray, across: float, along: float) -> np.ndarray:
    return points @ np.linalg.inv(_stretch(unit, across, along))


def _paths(planner: EntryPlanner, centres: np.ndarray, unit: np.ndarray | None) -> list[EntryPath]:
    out = []
    for n, centre in enumerate(centres):
        if unit is None:
            plan = planner.plan(centre)
            if plan.refused:
                raise RefusedError(f"needle {n + 1}: {plan.refused}")
            out.append(plan.paths[0])
        else:
            out.append(planner.path_along(centre, unit, name=f"needle {n + 1}"))
    return out


def _gaps(paths: list[EntryPath], diameter_mm: float) -> dict[tuple[int, int], float]:
    return {(m, n): segment_distance(*(np.array(v) for v in (paths[m].entry_ras, paths[m].target_ras,
                                                             paths[n].entry_ras, paths[n].target_ras))) - diameter_mm
            for m, n in combinations(range(len(paths)), 2)}


def _covered(points: np.ndarray, centres: np.ndarray, paths: list[EntryPath], across: float,
             along: float) -> np.ndarray:
    out = np.zeros(len(points), bool)
    for centre, path in zip(centres, paths, strict=True):
        unit = np.array(path.target_ras) - np.array(path.entry_ras)
        unit /= np.linalg.norm(unit)
        out |= (_squeezed(points - centre, unit, across, along) ** 2).sum(axis=1) <= 1.0
    return out


def segment_distance(a0: np.ndarray, a1: np.ndarray, b0: np.ndarray, b1: np.ndarray) -> float:
    """Shortest distance of two segments, mm (Ericson 2005: closest points, clamped)."""
    u, v, w = a1 - a0, b1 - b0, a0 - b0
    a, b, c, d, e = u @ u, u @ v, v @ v, u @ w, v @ w
    det = a * c - b * b
    best = np.inf
    options = [np.clip((b * e - c * d) / det, 0, 1)] if det > 1e-9 * max(a * c, 1e-9) else []
    for s in (*options, 0.0, 1.0):
        t = np.clip((b * s + e) / max(c, 1e-12), 0, 1)
        s = np.clip((b * t - d) / max(a, 1e-12), 0, 1)
        best = min(best, float(np.linalg.norm(w + s * u - t * v)))
    return best

