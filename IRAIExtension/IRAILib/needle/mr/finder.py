"""Needles in an MR volume: a dark, thin, straight tube with tissue all round, and where it ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...geometry import InputError, Mask, NeedleEstimate, NeedleStatus, Volume, resample_mask
from .lines import MOST_TRIES, Line, apart, find_lines
from .network import VoidNetwork, default_network
from .tip import tip_of, tip_sigma_mm
from .tubes import find_tubes, tubes_of
from .work import Work, make_work

METHOD, METHOD_NETWORK = "void model", "void model + network"
VALIDATED_ON = "voids computed from the needle's field, painted into real MR; no real needle MR"
MIN_LENGTH_MM = 25.0
SKIN_MM = 9.0
"""An end less deep than this goes out through the skin (the skin is known to about 6 mm)."""
LEAST_DEPTH, LEAST_COVERAGE, MOST_SPREAD_MM, BROKEN_SPREAD_MM = 0.3, 0.72, 0.75, 0.4
"""A void that isn't whole must at least be straight: the second spread goes for those."""
OVER_CLUTTER, WIDE_IS_BLACK = 0.7, 0.08
"""More loss of signal is asked where the tissue beside is uneven, and of each mm of radius over 2.5: partial volume
greys a thin void, never a wide one."""
SHARP_MM = 7.0
"""A void ends within so many mm at a tip; a vessel or a bone tapers."""
MOST_RADIUS_MM, LEAST_ROUNDNESS, MOST_BOW = 5.5, 0.845, 0.07
Box = tuple[tuple[float, float, float], tuple[float, float, float]]
UNSURE_END_MM = 12.0
"""Where both ends are as near to the outside as that, either may be the tip."""
ENTRY_MM = 18.0
"""Bone and air under the skin hide the first part of a void."""
MOST_BESIDE = 0.48


BEYOND_MM = 7.0
"""The network marks a shaft to its ends, give or take so much."""
WEAK_DEPTH, WEAK_COVERAGE, WEAK_ROUNDNESS = 0.2, 0.75, 0.76
"""What the void model asks of a line that the network proposes, and, below, the least that the network must say of a
line that the void model takes by itself."""
NOT_AGAINST, SECOND_TRIES = 0.5, 6
PLAIN_ROUNDNESS, PLAIN_LENGTH_MM = 0.9, 35.0
"""A clear void as long and as free as this is taken whatever the network says."""
NEXT_CELLS = ((0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))


def find_needles_mr(volume: Volume, *, expected: int | None = None, region: Box | Mask | None = None,
                    min_length_mm: float = MIN_LENGTH_MM, time_s: float = 0.0,
                    network: VoidNetwork | bool = True,
                    progress: Callable[[float, str], None] | None = None) -> list[NeedleEstimate]:
    """Needles in an MR volume, each with its tip, its curve and how sure that is.

    A needle is a signal void that is long (`min_length_mm`), up to about 9 mm wide, nearly straight and has tissue all
    round. The tip is the end inside the body, moved back by how far the void blooms ahead of the metal
    (`tip.blooming_mm`). Where both ends are inside, the one with the longer way out is given, and where the ways are
    alike the covariance spans both; where both leave the volume, the status is OUT_OF_PLANE and no tip is given.

    Args:
        volume: magnitude image, (k, j, i), any spacing and direction.
        expected: number of needles that were placed: at most so many (the most convincing) are returned.
        region: where to look: two corners in RAS mm, or a mask in the same frame; None is everywhere.
        time_s: acquisition time that the result carries.
        network: proposes and judges the voids; True: the one that comes with IRAI, or, where onnxruntime is missing,
            none; False: none. `method` of the results says which it was.
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
    tell(0.2, "looking for dark tubes")
    judge = _judge(work, network)
    if judge is not None:
        needles = [estimate(work, line, time_s, likely=score)
                   for line, score in marked_lines(work, judge, inside, min_length_mm)]
    else:
        lines = find_lines(work, find_tubes(work, inside), min_length_mm, 12,
                           lambda line: is_needle(work, line, min_length_mm))
        needles = [estimate(work, line, time_s) for line in lines]
    needles.sort(key=lambda needle: (not needle.found, -needle.confidence))
    tell(1.0, f"{len(needles)} found")
    return needles[:expected]


def _judge(work: Work, network: VoidNetwork | bool) -> VoidNetwork | None:
    """The network learned from volumes: in one slice the void model looks alone."""
    if work.flat or network is False:
        return None
    return default_network() if network is True else network


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


def marked_lines(work: Work, network: VoidNetwork, inside: np.ndarray | None, min_length_mm: float,
                 least: float | None = None) -> list[tuple[Line, float]]:
    """Lines that the network proposes, then those of the void model that it doesn't speak against, each with the mean
    probability along it.

    `least`: of that mean, for the network's own lines; None is the card's.
    """
    shaft = network.shaft(work)
    least = network.least_shaft if least is None else least

    def accept(line: Line) -> bool:
        return (line.curve.length_mm >= 0.9 * min_length_mm and line.depth >= WEAK_DEPTH
                and line.coverage >= WEAK_COVERAGE and line.roundness >= WEAK_ROUNDNESS
                and marked(work, line, shaft) >= least)

    def second(line: Line) -> bool:
        plain = line.roundness >= PLAIN_ROUNDNESS and line.curve.length_mm >= PLAIN_LENGTH_MM and is_clear(line, 0.0)
        return (is_needle(work, line, min_length_mm) and (plain or marked(work, line, shaft) >= NOT_AGAINST)
                and all(apart(line.curve, other.curve) for other in lines))

    lines = find_lines(work, tubes_of(work, shaft, inside), min_length_mm, 12, accept, BEYOND_MM)
    more = find_lines(work, find_tubes(work, inside), min_length_mm, 12, second,
                      tries=SECOND_TRIES if lines else MOST_TRIES)
    return [(line, marked(work, line, shaft)) for line in (*lines, *more)]


def marked(work: Work, line: Line, shaft: np.ndarray) -> float:
    """Mean over the line of the greatest probability within a cell of it."""
    low, high = line.curve.ends
    t = np.linspace(low, high, max(8, int(high - low)))
    index = work.cell_index(line.curve.points(t))
    near = [shaft[tuple(np.clip(index + step, 0, np.array(shaft.shape) - 1).T)] for step in NEXT_CELLS]
    return float(np.max(near, axis=0).mean())


def is_needle(work: Work, line: Line, min_length_mm: float) -> bool:
    """Whether a dark line looks like a needle's void. One that comes from outside is believed sooner."""
    length = line.curve.length_mm
    least = _least_depth(line)
    spread = MOST_SPREAD_MM if line.coverage >= 0.9 else BROKEN_SPREAD_MM
    plain = (length >= min_length_mm and line.depth >= least and line.coverage >= LEAST_COVERAGE
             and line.spread_mm <= spread and line.radius_mm <= MOST_RADIUS_MM
             and line.roundness >= LEAST_ROUNDNESS and line.curve.bow_mm <= MOST_BOW * length)
    if not plain or not (work.flat or _ends_sharply(work, line)):
        return False
    return bool(is_clear(line) or (comes_from_outside(work, line) and line.beside <= MOST_BESIDE))


def _least_depth(line: Line) -> float:
    return LEAST_DEPTH + OVER_CLUTTER * line.beside + WIDE_IS_BLACK * max(0.0, line.radius_mm - 2.5)


def is_clear(line: Line, darker: float = 0.1) -> bool:
    """Whether nothing about the void is doubtful: darker than it must be, whole, straight, in even tissue."""
    return (line.depth >= _least_depth(line) + darker and line.coverage >= 0.9 and line.beside <= 0.3
            and line.spread_mm <= 0.5)


def comes_from_outside(work: Work, line: Line) -> bool:
    """Whether an end lies near the skin or near the edge of the volume: a needle was pushed in from there."""
    ends = line.curve.points(np.array(line.curve.ends))
    outward = [-line.curve.tangent(line.curve.ends[0]), line.curve.tangent(line.curve.ends[1])]
    leaves = any(work.leaves_volume(e, o, 8.0) for e, o in zip(ends, outward, strict=True))
    return leaves or bool(work.depth_mm(ends).min() < ENTRY_MM)


def _tip_end(work: Work, line: Line) -> tuple[bool, list[bool], np.ndarray]:
    """(whether the high end is the tip, which ends are inside, (2,) mm from each end straight on to the outside).

    A needle came in along its own line, so the end that is nearer to the outside that way is not the tip.
    """
    ends = line.curve.points(np.array(line.curve.ends))
    outward = [-line.curve.tangent(line.curve.ends[0]), line.curve.tangent(line.curve.ends[1])]
    cut = [work.leaves_volume(e, o, 3.0) for e, o in zip(ends, outward, strict=True)]
    depth = work.depth_mm(ends)
    inner = [not c and d > SKIN_MM for c, d in zip(cut, depth, strict=True)]
    way = np.array([_way_out_mm(work, e, o) for e, o in zip(ends, outward, strict=True)])
    return bool(inner[1] and (not inner[0] or way[1] >= way[0])), inner, way


def _way_out_mm(work: Work, point: np.ndarray, outward: np.ndarray) -> float:
    s = np.arange(0.0, 200.0, 2.0)
    points = point + np.outer(s, outward)
    index = points / work.spacing
    out = ((index < -0.5) | (index > np.array(work.relative.shape[::-1]) - 0.5)).any(axis=1)
    out |= work.depth_mm(points) <= 0.0
    return float(s[int(np.argmax(out))] if out.any() else s[-1])


def _ends_sharply(work: Work, line: Line) -> bool:
    high, inner, _ = _tip_end(work, line)
    fade = min(line.fade_mm) if all(inner) else line.fade_mm[int(high)]
    return not any(inner) or fade <= SHARP_MM


def estimate(work: Work, line: Line, time_s: float, likely: float | None = None) -> NeedleEstimate:
    """One accepted line as a result: which end is the tip, and where it is. `likely`: what the network says of it."""
    curve = line.curve
    ends = curve.points(np.array(curve.ends))
    outward = [-curve.tangent(curve.ends[0]), curve.tangent(curve.ends[1])]
    high, inner, way = _tip_end(work, line)
    chosen = int(high)
    direction = outward[chosen] if any(inner) else outward[1]
    t = np.linspace(*curve.ends, 2 if curve.degree == 1 else 41)
    path = curve.points(t if high or not any(inner) else t[::-1])
    length = curve.length_mm
    sigma = float(np.degrees(np.sqrt(12.0) * (line.spread_mm + 0.1) / length / np.sqrt(max(length / 6.0, 2.0))))
    common = {"time_s": time_s, "frame": "RAS", "units": "mm", "modality": "MR",
              "method": METHOD if likely is None else METHOD_NETWORK,
              "validated_on": VALIDATED_ON, "direction": work.directions_ras(direction),
              "direction_sigma_deg": max(sigma * curve.degree**1.5, 0.15),
              "confidence": _confidence(line) if likely is None else likely,
              "visible_fraction": line.coverage}
    if not any(inner):
        return NeedleEstimate(status=NeedleStatus.OUT_OF_PLANE, curve=work.ras(path), **common)
    tip = tip_of(work, line, high)
    along = np.outer(direction, direction)
    slices = np.square(0.25 * work.spacing)
    covariance = along * tip_sigma_mm(line, high) ** 2 + (np.eye(3) - along) * 0.6**2 + np.diag(slices)
    if all(inner):
        other = ends[1 - chosen]
        covariance = covariance + 0.25 * np.outer(other - tip, other - tip) * (abs(way[1] - way[0]) < UNSURE_END_MM)
    path[-1] = tip
    axes = work.volume.grid.directions
    return NeedleEstimate(status=NeedleStatus.SEEN, curve=work.ras(path), tip=work.ras(tip[None])[0],
                          covariance=axes @ covariance @ axes.T, **common)


def _confidence(line: Line) -> float:
    parts = (1.0 - np.exp(-line.curve.length_mm / 18.0), np.clip(line.coverage, 0, 1),
             np.clip((line.depth - 0.2) / 0.5, 0, 1), np.clip(1.4 - 0.6 * line.spread_mm, 0.2, 1),
             np.clip(1.2 - line.beside, 0.3, 1), np.clip(4.0 * line.roundness - 2.8, 0.3, 1))
    return float(np.prod(parts))
