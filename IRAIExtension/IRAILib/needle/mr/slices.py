"""The needle in one MR slice, fast enough for real-time imaging."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...geometry import InputError, NeedleEstimate, NeedleStatus, Volume
from .finder import METHOD, VALIDATED_ON, estimate, is_needle
from .lines import Line, find_lines
from .tubes import Tubes, find_tubes
from .work import Work, make_work

MIN_LENGTH_MM = 20.0
NEAR_PREVIOUS_MM, NEAR_PREVIOUS_COSINE = 15.0, 0.85
FADE_MM = 9.0
"""A void that takes longer than this to fade leaves the slice; one that ends at a tip fades within about 5 mm."""


def find_needle_mr_slice(volume: Volume, *, previous: NeedleEstimate | None = None,
                         min_length_mm: float = MIN_LENGTH_MM, time_s: float = 0.0) -> NeedleEstimate:
    """The needle in a single slice.

    Args:
        volume: one slice (1, j, i); its third spacing is the slice's thickness.
        previous: the estimate of the frame before, in RAS: the needle is looked for near it first.
    Returns: frame "RAS", mm. The covariance says that across the slice only its thickness is known. OUT_OF_PLANE,
        without a tip, when the void fades slowly at its inner end (the shaft leaves the slice) or runs through the
        whole image; ABSENT when there is none.
    Raises: InputError for more than one slice or what is no MR image.
    """
    if volume.array.shape[0] != 1:
        raise InputError(f"{volume.name or 'MR'}: {volume.array.shape[0]} slices are a volume; use find_needles_mr")
    work = make_work(volume)
    tubes = find_tubes(work)
    best = None
    if previous is not None and previous.curve is not None and previous.frame == "RAS":
        best = _best(work, _near(work, tubes, previous), min_length_mm)
    best = best or _best(work, tubes, min_length_mm)
    if best is None:
        return NeedleEstimate(NeedleStatus.ABSENT, time_s, "RAS", "mm", "MR", METHOD, VALIDATED_ON)
    return _in_slice(work, best, estimate(work, best, time_s))


def _near(work: Work, tubes: Tubes, previous: NeedleEstimate) -> Tubes:
    """The cells round the line of the previous estimate that run its way."""
    assert previous.curve is not None
    path = work.grid_mm(previous.curve)
    along = path[-1] - path[0]
    along = along / max(float(np.linalg.norm(along)), 1e-9)
    relative = tubes.points - path[-1]
    off = np.linalg.norm((relative - np.outer(relative @ along, along))[:, :2], axis=1)
    return tubes.part((off < NEAR_PREVIOUS_MM) & (np.abs(tubes.direction @ along) > NEAR_PREVIOUS_COSINE))


def _best(work: Work, tubes: Tubes, min_length_mm: float) -> Line | None:
    lines = find_lines(work, tubes, min_length_mm, 3, lambda line: is_needle(work, line, min_length_mm))
    return max(lines, key=lambda line: line.depth * line.coverage * min(line.curve.length_mm, 60.0), default=None)


def _in_slice(work: Work, line: Line, found: NeedleEstimate) -> NeedleEstimate:
    """The same estimate with what a single slice can't tell."""
    thick = float(work.spacing[2])
    normal = work.volume.grid.directions[:, 2]
    lean = float(np.degrees(np.arctan((thick + line.radius_mm) / line.curve.length_mm)) / np.sqrt(3.0))
    sigma = float(np.hypot(found.direction_sigma_deg or 0.0, lean))
    if found.tip is None or found.covariance is None:
        return replace(found, direction_sigma_deg=sigma, in_plane=0.0)
    ends = work.ras(line.curve.points(np.array(line.curve.ends)))
    high = bool(np.linalg.norm(ends[1] - found.tip) < np.linalg.norm(ends[0] - found.tip))
    fade = line.fade_mm[int(high)]
    inside = float(np.clip(1.3 - 0.8 * fade / FADE_MM, 0.05, 0.95))
    if fade > FADE_MM:
        return replace(found, status=NeedleStatus.OUT_OF_PLANE, tip=None, covariance=None, direction_sigma_deg=sigma,
                       in_plane=min(inside, 0.4))
    covariance = found.covariance + np.outer(normal, normal) * (thick + line.radius_mm) ** 2 / 12.0
    return replace(found, covariance=covariance, direction_sigma_deg=sigma, in_plane=inside)
