"""When in the breath to go: a window of the surrogate in which the target hardly moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, RefusedError
from .breathing import RANGE_MARGIN, VALIDATED_ON
from .breathing_signal import check_signal, cycle_starts, states
from .poses import plain

MIN_DUTY = 0.05
STEPS = 40
LEAST_OPEN = 20
MIN_CYCLES = 4


@dataclass(frozen=True)
class GatingWindow:
    """Open while low <= surrogate <= high and |rate| <= most_rate.

    residual_mm: of the motion while open: p95 distance from its mean place (place_mm) in there, one latency later, in
        the recording it was chosen on. whole_mm: the same of all the motion. duty: share of the time that it is open.
    mean_open_s: how long it stays open at a time.
    """

    low: float
    high: float
    most_rate: float
    residual_mm: float
    whole_mm: float
    duty: float
    mean_open_s: float
    place_mm: np.ndarray
    latency_s: float
    frame: str = "RAS"
    validated_on: str = VALIDATED_ON

    def is_open(self, time_s: object, surrogate: object, at_s: object) -> np.ndarray:
        """(m,) bool at times at_s, from the surrogate before them; shut where it is missing. Raises InputError."""
        times, signal = check_signal(time_s, surrogate, "surrogate")
        return _open(states(times, signal, np.atleast_1d(np.asarray(at_s, float))), self.low, self.high, self.most_rate)

    def to_dict(self) -> dict[str, Any]:
        return plain({"kind": "gating_window", "frame": self.frame, "units": "mm, s; surrogate's own", "low": self.low,
                      "high": self.high, "most_rate_per_s": self.most_rate, "residual_p95_mm": self.residual_mm,
                      "ungated_p95_mm": self.whole_mm, "duty_cycle": self.duty, "mean_open_s": self.mean_open_s,
                      "place_mm": self.place_mm, "latency_s": self.latency_s, "validated_on": self.validated_on})


def gating_window(surrogate_time_s: object, surrogate: object, motion_time_s: object, motion_mm: object, *,
                  most_residual_mm: float = 2.0, latency_s: float = 0.0, frame: str = "RAS") -> GatingWindow:
    """The window at one end of the breath that is open longest with the target within a residual motion (95 %).

    A window at an end, exhaled or inhaled, is left by one side only and covers half of the breath's depth at most, so
    that a belt that slips does less harm.

    Args: as `fit_breathing`; motion_mm: (m, 3) of the target. most_residual_mm: that may remain.
    Raises InputError; RefusedError: no breaths, or no window of at least 5 % of the time.
    """
    if not (np.isfinite(most_residual_mm) and most_residual_mm > 0 and np.isfinite(latency_s) and latency_s >= 0):
        raise InputError(f"a residual motion of {most_residual_mm} mm and a latency of {latency_s} s can't be gated")
    times, signal = check_signal(surrogate_time_s, surrogate, "surrogate")
    moved_at, motion = check_signal(motion_time_s, motion_mm, "motion")
    if motion.ndim != 2 or motion.shape[1:] != (3,):
        raise InputError(f"the target's motion must be (m, 3) mm, not {motion.shape}")
    state = states(times, signal, moved_at - latency_s)
    known = np.isfinite(state).all(axis=1)
    state, motion, moved_at = state[known], motion[known], moved_at[known]
    if len(times) < 2 or len(cycle_starts(times, signal)) < MIN_CYCLES or len(state) < 3 * LEAST_OPEN:
        raise RefusedError("too few breaths to choose a gating window; record half a minute of quiet breathing")
    best = None
    levels = np.quantile(state[:, 0], np.linspace(0, 1, STEPS))
    rates = np.quantile(np.abs(state[:, 1]), (0.3, 0.5, 0.7, 1.0))
    spare = RANGE_MARGIN * (levels[-1] - levels[0])
    middle = 0.5 * (levels[0] + levels[-1])
    ends = [(levels[0] - spare, high) for high in levels[1:] if high <= middle]
    ends += [(low, levels[-1] + spare) for low in levels[:-1] if low >= middle]
    for most in rates:
        for low, high in ends:
            inside = _open(state, low, high, most)
            duty = float(inside.mean())
            if inside.sum() < LEAST_OPEN or (best is not None and duty <= best[0]):
                continue
            residual = _p95(motion[inside])
            if residual <= most_residual_mm:
                best = (duty, low, high, most, residual, inside)
    if best is None or best[0] < MIN_DUTY:
        raise RefusedError(f"no window of the breath keeps the target within {most_residual_mm:g} mm for at least "
                           f"{100 * MIN_DUTY:.0f} % of the time; allow more, or use another surrogate")
    duty, low, high, most, residual, inside = best
    opens = int((np.diff(inside.astype(int)) == 1).sum() + inside[0])
    open_s = duty * float(moved_at[-1] - moved_at[0]) / max(opens, 1)
    return GatingWindow(float(low), float(high), float(most), residual, _p95(motion), duty, open_s,
                        motion[inside].mean(axis=0), float(latency_s), frame)


def judge_gate(window: GatingWindow, surrogate_time_s: object, surrogate: object, motion_time_s: object,
               motion_mm: object) -> dict[str, float]:
    """What a window does in another recording: residual_p95_mm (from the planned place), duty_cycle, ungated_p95_mm.

    NaN residual where it never opens. Raises InputError.
    """
    times, motion = check_signal(motion_time_s, motion_mm, "motion")
    inside = window.is_open(surrogate_time_s, surrogate, times - window.latency_s)
    away = np.linalg.norm(motion - window.place_mm, axis=1)
    return {"residual_p95_mm": float(np.quantile(away[inside], 0.95)) if inside.any() else float("nan"),
            "duty_cycle": float(inside.mean()) if len(inside) else 0.0,
            "ungated_p95_mm": _p95(motion) if len(motion) else float("nan")}


def _open(state: np.ndarray, low: float, high: float, most_rate: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (state[:, 0] >= low) & (state[:, 0] <= high) & (np.abs(state[:, 1]) <= most_rate)


def _p95(motion: np.ndarray) -> float:
    return float(np.quantile(np.linalg.norm(motion - motion.mean(axis=0), axis=1), 0.95))
