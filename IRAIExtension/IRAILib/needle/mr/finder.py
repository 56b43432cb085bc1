"""Needles in an MR volume: a dark, thin, straight tube with tissue all round, and where it ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...geometry import InputError, Mask, NeedleEstimate, NeedleStatus, Volume, resample_mask
from .lines import Line, find_lines
from .tip import tip_of, tip_sigma_mm
from .tubes import find_tubes
from .work import Work, make_work

METHOD = "void model"
VALIDATED_ON = "voids computed from the needle's field, painted into real MR; no real needle MR"
MIN_LENGTH_MM = 25.0
SKIN_MM = 9.0
"""An end less deep than this goes out through the skin (the skin is known to about 6 mm)."""
LEAST_DEPTH, LEAST_COVERAGE, MOST_SPREAD_MM = 0.3, 0.72, 0.75
OVER_CLUTTER, WIDE_IS_BLACK = 0.7, 0.08
"""More loss of signal is asked where the tissue beside is uneven, and of each mm of radius over 2.5: partial volume
greys a thin void, never a wide one."""
SHARP_MM = 7.0
"""A void ends within so many mm at a tip; a vessel or a bone tapers."""
MOST_RADIUS_MM, LEAST_ROUNDNESS, MOST_BOW = 5.5, 0.845, 0.07
Box = tuple[tuple[float, float, float], tuple[float, float, float]]
ENTRY_MM = 18.0
"""Bone and air under the skin hide the first part of a void."""
MOST_BESIDE = 0.48


def find_needles_mr(volume: Volume, *, expected: int | None = None, region: Box | Mask | None = None,
                    min_length_mm: float = MIN_LENGTH_MM, time_s: float = 0.0,
                    progress: Callable[[float, str], None] | None = None) -> list[NeedleEstimate]:
    """Needles in an MR volume, each with its tip, its curve and how sure that is.

    A needle is a signal void that is long (`min_length_mm`), up to about 9 mm wide, nearly straight and has tissue all
    round. The tip is the end inside the body, moved back by how far the void blooms ahead of the metal
    (`tip.blooming_mm`). Where both ends are inside, the deeper one is given and the covariance spans both; where both
    leave the volume, the status is OUT_OF_PLANE and no tip is given.

    Args:
        volume: magnitude image, (k, j, i), any spacing and direction.
        expected: number of needles that were placed: at most so many (the most convincing) are returned.
        region: where to look: two corners in RAS mm, or a mask in the same frame; None is everywhere.
        time_s: acquisition time that the result carries.
        progress: called with (part done, text).
    Returns: needles, most convincing first (frame "RAS", mm); an empty list when there is none.
    Raises: InputError for what is no MR volume, an empty region or a region outside the volume.
    Source: own method; figures in Docs/benchmarks.md.
    """
    tell = progress or (lambda part, text: None)
    if expected is not None and expected < 1:
        raise InputError(f"expected={expected}: give the number of needles, 1 or more, or leave it out")
    tell(0.0, "finding the body")
    work = make_work(volume)
    inside = _inside(volume, region)
    tell(0.3, "looking for dark tubes")
    tubes = find_tubes(work, inside)
    tell(0.6, f"{len(tubes.points)} cells may lie in tubes")
    lines = find_lines(work, tubes, min_length_mm, 12, lambda line: is_needle(work, line, min_length_mm))
    needles = [estimate(work, line, time_s) for line in lines]
    needles.sort(key=lambda needle: (not needle.found, -needle.confidence))
    tell(1.0, f"{len(needles)} found")
    return needles[:expected]


def _inside(volume: Volume, region: Box | Mask | None) -> np.ndarray | None:
    if region is None:
        return None
    if isinstance(region, Mask):
        inside = (region if region.grid.same_grid(volume.grid) else resample_mask(region, volume.grid)).array
    else:
        corners = np.asarray(region, float)
        if corners.shape != (2, 3) or not np.isfinite(corners).all():
            raise InputError("a region is two corners in RAS mm, or a mask")
        points = volume.grid.all_points_ras()
        inside = ((points >= corners.min(axis=0)) & (points <= corners.max(axis=0))).all(axis=-1)
    if not inside.any():
        raise InputError(f"{volume.name or 'MR'}: the region to search holds no voxel of the volume")
    return inside


def is_needle(work: Work, line: Line, min_length_mm: float) -> bool:
    """Whether a dark line looks like a needle's void. One that comes from outside is believed sooner."""
    length = line.curve.length_mm
    least = LEAST_DEPTH + OVER_CLUTTER * line.beside + WIDE_IS_BLACK * max(0.0, line.radius_mm - 2.5)
    plain = (length >= min_length_mm and line.depth >= least and line.coverage >= LEAST_COVERAGE
             and line.spread_mm <= MOST_SPREAD_MM and line.radius_mm <= MOST_RADIUS_MM
             and line.roundness >= LEAST_ROUNDNESS and line.curve.bow_mm <= MOST_BOW * length)
    if not plain or not (work.flat or _ends_sharply(work, line)):
        return False
    clear = line.depth >= least + 0.1 and line.coverage >= 0.9 and line.beside <= 0.3 and line.spread_mm <= 0.5
    return bool(clear or (comes_from_outside(work, line) and line.beside <= MOST_BESIDE))


def comes_from_outside(work: Work, line: Line) -> bool:
    """Whether an end lies near the skin or near the edge of the volume: a needle was pushed in from there."""
    ends = line.curve.points(np.array(line.curve.ends))
    outward = [-line.curve.tangent(line.curve.ends[0]), line.curve.tangent(line.curve.ends[1])]
    leaves = any(work.leaves_volume(e, o, 8.0) for e, o in zip(ends, outward, strict=True))
    return leaves or bool(work.depth_mm(ends).min() < ENTRY_MM)


def _tip_end(work: Work, line: Line) -> tuple[bool, list[bool], np.ndarray]:
    """(whether the high end is the tip, which ends are inside, (2,) depth of the ends)."""
    ends = line.curve.points(np.array(line.curve.ends))
    outward = [-line.curve.tangent(line.curve.ends[0]), line.curve.tangent(line.curve.ends[1])]
    cut = [work.leaves_volume(e, o, 3.0) for e, o in zip(ends, outward, strict=True)]
    depth = work.depth_mm(ends)
    inner = [not c and d > SKIN_MM for c, d in zip(cut, depth, strict=True)]
    return bool(inner[1] and (not inner[0] or depth[1] >= depth[0])), inner, depth


def _ends_sharply(work: Work, line: Line) -> bool:
    high, inner, _ = _tip_end(work, line)
    fade = min(line.fade_mm) if all(inner) else line.fade_mm[int(high)]
    return not any(inner) or fade <= SHARP_MM


def estimate(work: Work, line: Line, time_s: float) -> NeedleEstimate:
    """One accepted line as a result: which end is the tip, and where it is."""
    curve = line.curve
    ends = curve.points(np.array(curve.ends))
    outward = [-curve.tangent(curve.ends[0]), curve.tangent(curve.ends[1])]
    high, inner, depth = _tip_end(work, line)
    chosen = int(high)
    direction = outward[chosen] if any(inner) else outward[1]
    t = np.linspace(*curve.ends, 2 if curve.degree == 1 else 41)
    path = curve.points(t if high or not any(inner) else t[::-1])
    length = curve.length_mm
    sigma = float(np.degrees(np.sqrt(12.0) * (line.spread_mm + 0.1) / length / np.sqrt(max(length / 6.0, 2.0))))
    common = {"time_s": time_s, "frame": "RAS", "units": "mm", "modality": "MR", "method": METHOD,
              "validated_on": VALIDATED_ON, "direction": work.directions_ras(direction),
              "direction_sigma_deg": max(sigma * curve.degree**1.5, 0.15), "confidence": _confidence(line),
              "visible_fraction": line.coverage}
    if not any(inner):
        return NeedleEstimate(status=NeedleStatus.OUT_OF_PLANE, curve=work.ras(path), **common)
    tip = tip_of(work, line, high)
    along = np.outer(direction, direction)
    slices = np.square(0.25 * work.spacing)
    covariance = along * tip_sigma_mm(line, high) ** 2 + (np.eye(3) - along) * 0.6**2 + np.diag(slices)
    if all(inner):
        other = ends[1 - chosen]
        covariance = covariance + 0.25 * np.outer(other - tip, other - tip) * (abs(depth[1] - depth[0]) < 12.0)
    path[-1] = tip
    axes = work.volume.grid.directions
    return NeedleEstimate(status=NeedleStatus.SEEN, curve=work.ras(path), tip=work.ras(tip[None])[0],
                          covariance=axes @ covariance @ axes.T, **common)


def _confidence(line: Line) -> float:
    parts = (1.0 - np.exp(-line.curve.length_mm / 18.0), np.clip(line.coverage, 0, 1),
             np.clip((line.depth - 0.2) / 0.5, 0, 1), np.clip(1.4 - 0.6 * line.spread_mm, 0.2, 1),
             np.clip(1.2 - line.beside, 0.3, 1), np.clip(4.0 * line.roundness - 2.8, 0.3, 1))
    return float(np.prod(parts))
