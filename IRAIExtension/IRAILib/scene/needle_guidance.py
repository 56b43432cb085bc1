"""From a needle and a plan line to what a hand needs: distance, angle, depth left, time to target, each with its doubt.

Plain numbers in world RAS mm; no node here.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, NeedleEstimate, NeedleStatus

WINDOW_S = 1.5
"""Speed is fitted over the tips of so many seconds: one breath is longer, one advance is not."""
MIN_TIPS = 4
MIN_SPAN_S = 0.3
MIN_SPEED_MM_S = 0.3
UNKNOWN_PART = 0.5
"""A way that leaves the picture by more than 30 degrees (this is the sine) has no known uncertainty."""
SIGMAS = 2.0
"""A speed below this many of its standard deviations is no movement: no time to target is given."""


@dataclass(frozen=True)
class Guidance:
    """Where the needle stands to its plan. None where it can't be told. Lengths mm, world RAS.

    Attributes:
        distance_mm: tip to target; `distance_sigma_mm` its standard deviation from the tip's covariance.
        off_line_mm: tip to the plan line, at right angles. depth_left_mm: along the plan from the tip's foot to the
            target; negative past it. Both with the tip's standard deviation that way.
        angle_deg: between shaft and plan, 0 to 180.
        speed_mm_s: along the shaft, positive forwards; with its standard deviation.
        time_to_target_s: distance along the shaft over the speed; only while the tip moves towards the target. Its
            standard deviation holds those of the tip and the speed.
    """

    distance_mm: float | None = None
    distance_sigma_mm: float | None = None
    off_line_mm: float | None = None
    depth_left_mm: float | None = None
    angle_deg: float | None = None
    angle_sigma_deg: float | None = None
    speed_mm_s: float | None = None
    speed_sigma_mm_s: float | None = None
    time_to_target_s: float | None = None
    off_line_sigma_mm: float | None = None
    depth_left_sigma_mm: float | None = None
    time_to_target_sigma_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


class TipHistory:
    """The measured tips of the last `window_s`, for the speed along the shaft. Forgets all when the needle is lost."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        if not window_s > 0.0:
            raise InputError(f"a speed needs a window of time, not {window_s:g} s")
        self.window_s = window_s
        self._tips: deque[tuple[float, np.ndarray, float]] = deque()

    def add(self, estimate: NeedleEstimate) -> None:
        """Take an estimate in mm. Only SEEN tips count; a clock that runs backwards starts anew."""
        if estimate.status is not NeedleStatus.SEEN or estimate.tip is None:
            if estimate.status in (NeedleStatus.LOST, NeedleStatus.ABSENT, NeedleStatus.OUT_OF_PLANE):
                self.clear()
            return
        if self._tips and estimate.time_s <= self._tips[-1][0]:
            if estimate.time_s < self._tips[-1][0]:
                self.clear()
            else:
                return
        self._tips.append((estimate.time_s, np.array(estimate.tip), estimate.sigma or 0.0))
        while estimate.time_s - self._tips[0][0] > self.window_s:
            self._tips.popleft()

    def clear(self) -> None:
        """Forget every tip."""
        self._tips.clear()

    def speed_mm_s(self, direction: np.ndarray) -> tuple[float, float] | None:
        """(speed, standard deviation) along a unit vector by a straight-line fit; None for too few tips.

        The deviation is the larger of the fit's own scatter and what the tips' sigmas give.
        """
        if len(self._tips) < MIN_TIPS:
            return None
        times = np.array([entry[0] for entry in self._tips])
        if times[-1] - times[0] < MIN_SPAN_S:
            return None
        along = np.array([entry[1] for entry in self._tips]) @ np.asarray(direction, float)
        centred = times - times.mean()
        spread = float(centred @ centred)
        speed = float(centred @ along) / spread
        rest = along - along.mean() - speed * centred
        scatter = math.sqrt(float(rest @ rest) / max(len(times) - 2, 1))
        told = float(np.mean([entry[2] for entry in self._tips]))
        return speed, max(scatter, told) / math.sqrt(spread)


def guidance(estimate: NeedleEstimate, plan: tuple[np.ndarray, np.ndarray] | None,
             history: TipHistory | None = None) -> Guidance:
    """Needle against plan.

    Args:
        estimate: in mm, world RAS; without a tip everything is None.
        plan: (entry, target), (3,) RAS mm each, or None: then only the speed.
        history: tips up to now.
    Raises InputError for a needle in pixels, and for a plan of no length.
    """
    if estimate.units != "mm":
        raise InputError("no scale is known: a needle in pixels has no distance in mm")
    if estimate.tip is None:
        return Guidance()
    direction = estimate.direction
    speed = history.speed_mm_s(direction) if history is not None and direction is not None else None
    speed_value, speed_sigma = speed if speed is not None else (None, None)
    if plan is None:
        return Guidance(speed_mm_s=speed_value, speed_sigma_mm_s=speed_sigma)
    entry, target = (np.asarray(point, float) for point in plan)
    length = float(np.linalg.norm(target - entry))
    if not length > 1e-6:
        raise InputError("the plan line has no length: its two points lie on each other")
    axis = (target - entry) / length
    to_target = target - estimate.tip
    distance = float(np.linalg.norm(to_target))
    depth_left = float(to_target @ axis)
    away = to_target - depth_left * axis
    off_line = float(np.linalg.norm(away))
    sideways = away if off_line > 1e-6 else np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    angle = None if direction is None else float(np.degrees(np.arccos(np.clip(direction @ axis, -1.0, 1.0))))
    time_left, time_sigma = _time_left(estimate, to_target, speed)
    return Guidance(distance, _sigma_along(estimate, to_target if distance > 1e-9 else axis), off_line, depth_left,
                    angle, estimate.direction_sigma_deg, speed_value, speed_sigma, time_left,
                    _sigma_along(estimate, sideways), _sigma_along(estimate, axis), time_sigma)


def _sigma_along(estimate: NeedleEstimate, way: np.ndarray) -> float | None:
    """Standard deviation of the tip, mm, along a vector of any length; None where it isn't known: without covariance,
    and across a picture, of which the covariance says nothing (0 is no certainty)."""
    if estimate.covariance is None:
        return None
    unit = way / np.linalg.norm(way)
    values, axes = np.linalg.eigh(estimate.covariance)
    unknown = axes[:, values <= 1e-9]
    if np.linalg.norm(unknown.T @ unit) > UNKNOWN_PART:
        return None
    return math.sqrt(max(float(unit @ estimate.covariance @ unit), 0.0))


def _time_left(estimate: NeedleEstimate, to_target: np.ndarray,
               speed: tuple[float, float] | None) -> tuple[float | None, float | None]:
    """(s, standard deviation), both None while the tip doesn't surely move towards the target."""
    if estimate.direction is None or speed is None:
        return None, None
    ahead, (rate, rate_sigma) = float(to_target @ estimate.direction), speed
    if ahead <= 0.0 or rate < max(MIN_SPEED_MM_S, SIGMAS * rate_sigma):
        return None, None
    sigma = _sigma_along(estimate, estimate.direction)
    left = ahead / rate
    return left, None if sigma is None else math.hypot(sigma / rate, left * rate_sigma / rate)


def plan_from_node(node) -> tuple[np.ndarray, np.ndarray] | None:
    """(entry, target) of a markups line node, world RAS mm; None without two placed points."""
    from .nodes import points_from_markups

    if node is None:
        return None
    points = points_from_markups(node)
    return (points[0], points[1]) if len(points) >= 2 else None


def guidance_rows(value: Guidance) -> list[tuple[str, str]]:
    """(quantity, value with its doubt) for a panel; what isn't known is left out."""

    def with_sigma(number, sigma, unit, digits=1):
        return f"{number:.{digits}f}{f' ± {sigma:.{digits}f}' if sigma is not None else ''} {unit}"

    rows = []
    if value.distance_mm is not None:
        rows.append(("Tip to target", with_sigma(value.distance_mm, value.distance_sigma_mm, "mm")))
    if value.off_line_mm is not None:
        rows.append(("Tip off the plan line", with_sigma(value.off_line_mm, value.off_line_sigma_mm, "mm")))
    if value.depth_left_mm is not None:
        rows.append(("Depth left", with_sigma(value.depth_left_mm, value.depth_left_sigma_mm, "mm")))
    if value.angle_deg is not None:
        rows.append(("Angle to the plan", with_sigma(value.angle_deg, value.angle_sigma_deg, "°")))
    if value.speed_mm_s is not None:
        rows.append(("Speed along the shaft", with_sigma(value.speed_mm_s, value.speed_sigma_mm_s, "mm/s")))
    if value.time_to_target_s is not None:
        rows.append(("Time to target", with_sigma(value.time_to_target_s, value.time_to_target_sigma_s, "s", 0)))
    return rows
