"""Guidance against a path: the tool as an estimate with its whole chain's doubt, and how near a structure it comes.

Plain numbers in world RAS mm; nodes are read by `obstacles_from_node` alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, NeedleEstimate, NeedleStatus, SignedDistance, Volume, signed_distance
from .fusion_chain import ChainState

CLEAR, NEAR, BREACH, UNKNOWN = "clear", "near", "breach", "unknown"
SIGMAS = 2.0
"""A structure counts as near while this many standard deviations reach into the margin."""
STEP_MM = 0.25
"""Between the points ahead that are looked at: under a voxel, so that a vessel one voxel thick isn't stepped over."""
VALIDATED_ON = ("distances: spheres of known radius; the uncertainty is the sum of the chain's parts and was not "
                "checked on patients")


@dataclass(frozen=True)
class ToolTip:
    """A tool's tip and shaft in its own frame, mm: from a pivot and a spin calibration, or as the user says.

    axis: unit vector towards the tip. sigma_mm (rms, 3D), sigma_deg: standard deviations, None where not known.
    """

    tip_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    axis: tuple[float, float, float] = (1.0, 0.0, 0.0)
    sigma_mm: float | None = None
    sigma_deg: float | None = None
    validated_on: str = "the tool's own origin and x axis: not calibrated here"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "units": "mm", "frame": "the tool's own"}


def tool_estimate(chain: ChainState, tip: ToolTip, time_s: float = 0.0,
                  extra_mm: float | None = None) -> NeedleEstimate:
    """The tool in world RAS with the doubt of its chain and of its tip.

    Args: chain: from the tool's frame to RAS. extra_mm: a further error (rms, 3D), as the target's registration error.
    Returns: LOST while the chain is broken. Without a known error of every part there is no covariance: "not known".
    """
    common = {"time_s": time_s, "frame": "RAS", "units": "mm", "modality": "tracker", "method": "tracked tool",
              "validated_on": VALIDATED_ON}
    if not chain.ok or chain.matrix is None:
        return NeedleEstimate(NeedleStatus.LOST, **common)
    point = chain.matrix[:3, :3] @ np.array(tip.tip_mm) + chain.matrix[:3, 3]
    direction = chain.matrix[:3, :3] @ np.array(tip.axis)
    parts = [chain.error_mm, tip.sigma_mm, *([extra_mm] if extra_mm is not None else [])]
    covariance = None
    if all(part is not None and math.isfinite(part) for part in parts):
        covariance = np.eye(3) * sum(float(part or 0.0) ** 2 for part in parts) / 3.0
    return NeedleEstimate(NeedleStatus.SEEN, tip=point, direction=direction / np.linalg.norm(direction),
                          covariance=covariance, direction_sigma_deg=tip.sigma_deg, confidence=1.0,
                          age_s=chain.age_s or 0.0, **common)


@dataclass(frozen=True, eq=False)
class Obstacle:
    """A structure that must not be hit: its signed distance, mm, negative inside."""

    name: str
    distance: SignedDistance
    color: tuple[float, float, float] = (0.8, 0.2, 0.2)

    def at(self, points_ras: np.ndarray) -> np.ndarray:
        """(n,) mm from (n, 3) RAS points to its surface; beyond its box the distance is a lower bound."""
        points = np.asarray(points_ras, float).reshape(-1, 3)
        grid = self.distance.grid
        index = grid.indices_kji(points)
        clamped = grid.points_ras(np.clip(index, 0.0, np.array(grid.shape, float) - 1.0))
        inside = Volume(self.distance.array, grid).sample(clamped, order=1, outside=0.0)
        away = np.linalg.norm(points - clamped, axis=1)
        return np.where(inside < 0.0, np.where(away > 1e-6, away, inside), np.hypot(inside, away))


@dataclass(frozen=True)
class Breach:
    """How near the nearest structure is. Lengths mm, world RAS.

    status: clear, near, breach, unknown. name: of the structure. distance_mm: tip to its surface, negative inside;
    sigma_mm: standard deviation, None when not known. ahead_mm: how far ahead along the shaft a structure is hit, None:
    none is; ahead_name: which one.
    """

    status: str = UNKNOWN
    name: str = ""
    distance_mm: float | None = None
    sigma_mm: float | None = None
    ahead_mm: float | None = None
    ahead_name: str = ""
    validated_on: str = VALIDATED_ON

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "units": "mm", "frame": "RAS"}


def breach(estimate: NeedleEstimate, obstacles: list[Obstacle], *, margin_mm: float = 5.0,
           ahead_mm: float = 30.0) -> Breach:
    """Whether the tip is in, or nearer than the margin to, a structure, and which one lies ahead. The structure that is
    named is the one that the status is of; with nothing near, the one ahead.

    Without a tip or without structures: unknown. Raises InputError for a margin below 0.
    """
    if margin_mm < 0 or ahead_mm < 0:
        raise InputError("the warning's margin and its look-ahead can't be below 0 mm")
    if estimate.tip is None or not obstacles:
        return Breach()
    sigma = None if estimate.covariance is None else math.sqrt(float(np.trace(estimate.covariance)) / 3.0)
    near = [(float(obstacle.at(estimate.tip)[0]), obstacle) for obstacle in obstacles]
    distance, nearest = min(near, key=lambda pair: pair[0])
    hit = _ahead(estimate, obstacles, ahead_mm)
    close = distance - SIGMAS * (sigma or 0.0) <= margin_mm
    if distance <= 0.0:
        status = BREACH
    elif close or (hit is not None and hit[0] <= margin_mm):
        status = NEAR
    else:
        status = CLEAR
    if hit is not None and not close:
        nearest, distance = hit[1], float(hit[1].at(estimate.tip)[0])
    return Breach(status, nearest.name, distance, sigma, None if hit is None else hit[0],
                  "" if hit is None else hit[1].name)


def _ahead(estimate: NeedleEstimate, obstacles: list[Obstacle], reach_mm: float) -> tuple[float, Obstacle] | None:
    if estimate.direction is None or estimate.tip is None or reach_mm <= 0:
        return None
    steps = np.arange(0.0, reach_mm + STEP_MM, STEP_MM)
    points = estimate.tip + steps[:, None] * estimate.direction
    first = [(float(steps[inside[0]]), obstacle) for obstacle in obstacles
             if len(inside := np.flatnonzero(obstacle.at(points) <= 0.0))]
    return min(first, key=lambda pair: pair[0]) if first else None


def breach_text(value: Breach) -> str:
    """One line for a panel; empty when nothing can be said."""
    if value.status == UNKNOWN or value.distance_mm is None:
        return ""
    doubt = f" ± {value.sigma_mm:.1f}" if value.sigma_mm is not None else " (uncertainty not known)"
    if value.status == BREACH:
        return f"BREACH: the tip is inside {value.name}, {-value.distance_mm:.1f}{doubt} mm deep"
    text = f"{value.name}: {value.distance_mm:.1f}{doubt} mm from the tip"
    if value.ahead_mm is not None:
        what = "it" if value.ahead_name == value.name else value.ahead_name
        text += f"; on this course {what} is hit in {value.ahead_mm:.0f} mm"
    return ("NEAR " if value.status == NEAR else "") + text


def obstacles_from_node(node, leave_out: tuple[str, ...] = ()) -> list[Obstacle]:
    """The visible segments of a segmentation node, except those of the given names, as obstacles; none for no node.

    A segment without voxels is left out. Of several segments with one name each counts: "Vein", "Vein (2)".
    """
    from ..geometry import EmptyMaskError
    from .nodes import SegmentRef, mask_from_segment

    out: list[Obstacle] = []
    if node is None:
        return out
    display = node.GetDisplayNode()
    for segment_id in node.GetSegmentation().GetSegmentIDs():
        segment = node.GetSegmentation().GetSegment(segment_id)
        if segment.GetName() in leave_out or (display is not None and not display.GetSegmentVisibility(segment_id)):
            continue
        try:
            mask = mask_from_segment(SegmentRef(node, segment_id)).crop_to_content(margin_mm=10.0)
        except EmptyMaskError:
            continue
        name = unlike(segment.GetName(), [entry.name for entry in out])
        out.append(Obstacle(name, signed_distance(mask), tuple(segment.GetColor())))
    return out


def unlike(name: str, taken: Collection[str]) -> str:
    """The name, with a number where another structure has it: Slicer allows two segments of one name."""
    number, made = 1, name
    while made in taken:
        number += 1
        made = f"{name} ({number})"
    return made
