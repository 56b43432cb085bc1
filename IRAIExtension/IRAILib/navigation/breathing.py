"""Where the target is in the breath: a motion model driven by a surrogate, predicted over the latency."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, RefusedError
from .breathing_signal import LONGEST_CYCLE_S, WINDOW_S, check_signal, cycle_starts, states
from .poses import check_points, check_poses, plain

MIN_CYCLES = 5
MIN_SAMPLES = 60
MIN_MOTION_MM = 1.0
MIN_EXPLAINED = 0.7
COMPONENT_SHARE = 0.97
MAX_COMPONENTS = 3
FOLDS = 5
RIDGE = 1e-3
RANGE_MARGIN = 0.1
LONGEST_LATENCY_S = 1.5
BINS = 3
LEAST_IN_BIN = 25
VALIDATED_ON = "simulated breathing only (analytic cycles of changing depth and length, drift, noise); no patient"


def displacements_of_poses(poses: object, points: object, valid: object = None) -> tuple[np.ndarray, np.ndarray]:
    """((m, p, 3) mm by which poses carry points away from their mean place, (m,) numbers of the valid poses).

    Args: poses: (n, 4, 4) of what moves (ReferenceFromOrgan). points: (p, 3) mm in its frame. Raises InputError.
    """
    matrices, numbers = check_poses(poses, valid)
    carried = np.einsum("nij,pj->npi", matrices[:, :3, :3], check_points(points, 3, "points")) \
        + matrices[:, None, :3, 3]
    return carried - carried.mean(axis=0) if len(carried) else carried, numbers


@dataclass(frozen=True)
class BreathingPrediction:
    """Where the points are predicted to be, or why that can't be said.

    displacement_mm: (p, 3), counted from where the training's displacements are counted, or None. sigma_mm: (p,)
    standard deviation (3D), from breaths that the model hadn't seen. time_s: for when. reason: "" or one line.
    """

    displacement_mm: np.ndarray | None
    sigma_mm: np.ndarray | None
    time_s: float
    reason: str
    frame: str
    validated_on: str = VALIDATED_ON

    @property
    def valid(self) -> bool:
        return self.displacement_mm is not None

    def to_dict(self) -> dict[str, Any]:
        return plain({"kind": "breathing_prediction", "frame": self.frame, "units": "mm, s", "time_s": self.time_s,
                      "displacement_mm": self.displacement_mm, "sigma_mm": self.sigma_mm, "reason": self.reason,
                      "validated_on": self.validated_on})


@dataclass(frozen=True, eq=False)
class BreathingModel:
    """Motion of points as a function of a surrogate's level and rate (which carries the hysteresis).

    mean_mm: (3p,). components: (c, 3p). weights: (6, c) of 1, s, r, s^2, s r, r^2, with s and r less `centre` over
    `scale`. low, high: (2,) level and rate seen in the training. sigma_mm: (2, BINS, p) by the rate's sign and the
    level; level_edges: (BINS - 1,). explained: share of the motion's variance explained in breaths held out.
    """

    mean_mm: np.ndarray
    components: np.ndarray
    weights: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    sigma_mm: np.ndarray
    level_edges: np.ndarray
    latency_s: float
    explained: float
    held_out_rms_mm: float
    motion_rms_mm: float
    cycles: int
    samples: int
    frame: str = "RAS"
    validated_on: str = VALIDATED_ON

    def displacement_mm(self, state: np.ndarray) -> np.ndarray:
        """(n, p, 3) mm for (n, 2) levels and rates."""
        scores = _features((np.atleast_2d(state) - self.centre) / self.scale) @ self.weights
        return (self.mean_mm + scores @ self.components).reshape(len(scores), -1, 3)

    def why_not(self, state: np.ndarray) -> str:
        """Why the model doesn't hold for a level and rate; empty where it does."""
        if not np.isfinite(state).all():
            return "the surrogate has too few recent samples"
        spread = self.high - self.low
        level, rate = (state - self.high) / spread, (self.low - state) / spread
        if level[0] > RANGE_MARGIN or rate[0] > RANGE_MARGIN:
            side = "above" if level[0] > 0 else "below"
            return (f"the breath is {100 * max(level[0], rate[0]):.0f} % {side} the range that the model was "
                    "trained on; wait for quiet breathing, or train again")
        if max(level[1], rate[1]) > 3 * RANGE_MARGIN:
            return "the breath is faster than those that the model was trained on; wait for quiet breathing"
        return ""

    def predict(self, time_s: object, surrogate: object, now_s: float | None = None) -> BreathingPrediction:
        """Where the points will be at now_s + latency_s.

        Args: time_s, surrogate: (n,) the last second or more. now_s: default the newest sample. Raises InputError.
        """
        times, signal = check_signal(time_s, surrogate, "surrogate")
        now = float(times[-1]) if now_s is None and len(times) else float(now_s if now_s is not None else np.nan)
        state = states(times, signal, np.array([now]))[0] if np.isfinite(now) else np.full(2, np.nan)
        reason = self.why_not(state)
        if reason:
            return BreathingPrediction(None, None, now + self.latency_s, reason, self.frame)
        place = int(np.searchsorted(self.level_edges, state[0]))
        return BreathingPrediction(self.displacement_mm(state)[0], self.sigma_mm[int(state[1] >= 0), place],
                                   now + self.latency_s, "", self.frame)

    def to_dict(self) -> dict[str, Any]:
        return plain({
            "kind": "breathing_model", "frame": self.frame, "units": "mm, s", "points": len(self.mean_mm) // 3,
            "components": len(self.components), "latency_s": self.latency_s, "cycles": self.cycles,
            "samples": self.samples, "motion_rms_mm": self.motion_rms_mm, "explained_held_out": self.explained,
            "uncertainty": {"held_out_rms_mm": self.held_out_rms_mm, "sigma_mm_by_rate_and_level": self.sigma_mm},
            "trained_range": {"level": [self.low[0], self.high[0]], "rate_per_s": [self.low[1], self.high[1]]},
            "validated_on": self.validated_on})


def fit_breathing(surrogate_time_s: object, surrogate: object, motion_time_s: object, motion_mm: object, *,
                  latency_s: float = 0.0, frame: str = "RAS") -> BreathingModel:
    """A motion model from some breaths in which both the surrogate and the motion were watched.

    Args:
        surrogate_time_s, surrogate: (n,) vessel, diaphragm, belt or image signal; NaN left out.
        motion_time_s: (m,), the same clock. motion_mm: (m, p, 3) or (m, 3) displacements.
        latency_s: how far ahead the model predicts: the measured delay from acquisition to what is done with it.
    Raises InputError: shapes, latency; RefusedError: too few breaths, hardly any motion, or a surrogate that doesn't
    explain the motion (judged on breaths that were left out of the fit).
    Source: surrogate-driven models with rate (Low 2005, McClelland 2013), principal components (Zhang 2007).
    """
    if not 0 <= latency_s <= LONGEST_LATENCY_S:
        raise InputError(f"a latency of {latency_s} s can't be predicted over; 0 to {LONGEST_LATENCY_S} s can")
    times, signal = check_signal(surrogate_time_s, surrogate, "surrogate")
    moved_at, motion = check_signal(motion_time_s, motion_mm, "motion")
    motion = motion.reshape(len(moved_at), -1)
    if motion.shape[1] == 0 or motion.shape[1] % 3:
        raise InputError("the motion must be displacements (m, p, 3) in mm")
    state = states(times, signal, moved_at - latency_s)
    known = np.isfinite(state).all(axis=1)
    state, motion, moved_at = state[known], motion[known], moved_at[known]
    cycles = cycle_starts(times, signal) if len(times) else np.empty(0)
    if len(cycles) < MIN_CYCLES + 1 or len(state) < MIN_SAMPLES:
        raise RefusedError(f"{max(len(cycles) - 1, 0)} breaths with {len(state)} samples of motion; at least "
                           f"{MIN_CYCLES} breaths and {MIN_SAMPLES} samples are needed: record 30 s of quiet breathing")
    if np.diff(cycles).max() > LONGEST_CYCLE_S:
        raise RefusedError(f"{np.diff(cycles).max():.0f} s without a breath in the recording; train on quiet breathing")
    rms = _rms(motion - motion.mean(axis=0))
    if rms < MIN_MOTION_MM / 2:
        raise RefusedError(f"hardly any motion ({rms:.1f} mm rms); no model of breathing is needed or can be trained")
    residual = _held_out(state, motion, moved_at, cycles)
    explained = 1.0 - float((residual**2).sum() / ((motion - motion.mean(axis=0)) ** 2).sum())
    if explained < MIN_EXPLAINED:
        raise RefusedError(f"the surrogate explains {100 * max(explained, 0.0):.0f} % of the motion only (of breaths "
                           "left out of the fit); choose another surrogate, or check that both clocks agree")
    mean, components, weights, centre, scale = _fit(state, motion)
    edges = np.quantile(state[:, 0], np.linspace(0, 1, BINS + 1)[1:-1])
    return BreathingModel(mean, components, weights, centre, scale, state.min(axis=0), state.max(axis=0),
                          _sigmas(state, residual, edges), edges, float(latency_s), explained, _rms(residual), rms,
                          len(cycles) - 1, len(state), frame)


def _rms(vectors: np.ndarray) -> float:
    """3D root mean square over samples and points."""
    return float(np.sqrt((vectors.reshape(-1, 3) ** 2).sum(axis=1).mean()))


def _features(state: np.ndarray) -> np.ndarray:
    s, r = state[:, 0], state[:, 1]
    return np.stack([np.ones_like(s), s, r, s * s, s * r, r * r], axis=1)


def _fit(state: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, ...]:
    centre, scale = state.mean(axis=0), np.maximum(state.std(axis=0), 1e-12)
    mean = motion.mean(axis=0)
    _, s, vt = np.linalg.svd(motion - mean, full_matrices=False)
    share = np.cumsum(s**2) / max((s**2).sum(), 1e-300)
    count = min(int(np.searchsorted(share, COMPONENT_SHARE)) + 1, MAX_COMPONENTS, len(s))
    components = vt[:count]
    basis = _features((state - centre) / scale)
    scores = (motion - mean) @ components.T
    penalty = RIDGE * len(basis) * np.diag([0.0, 1, 1, 1, 1, 1])
    return mean, components, np.linalg.solve(basis.T @ basis + penalty, basis.T @ scores), centre, scale


def _held_out(state, motion, moved_at, cycles) -> np.ndarray:
    """(m, 3p) errors where whole runs of breaths were left out of the fit."""
    breath = np.searchsorted(cycles, moved_at)
    residual = np.empty_like(motion)
    for part in np.array_split(np.unique(breath), FOLDS):
        out = np.isin(breath, part)
        if (~out).sum() < 12 or not out.any():
            residual[out] = motion[out] - motion.mean(axis=0)
            continue
        mean, components, weights, centre, scale = _fit(state[~out], motion[~out])
        guess = mean + _features((state[out] - centre) / scale) @ weights @ components
        residual[out] = motion[out] - guess
    return residual


def _sigmas(state, residual, edges) -> np.ndarray:
    squared = (residual.reshape(len(residual), -1, 3) ** 2).sum(axis=2)
    overall = squared.mean(axis=0)
    out = np.empty((2, BINS, squared.shape[1]))
    place = np.searchsorted(edges, state[:, 0])
    for rising in (0, 1):
        for level in range(BINS):
            here = (place == level) & ((state[:, 1] >= 0) == bool(rising))
            out[rising, level] = squared[here].mean(axis=0) if here.sum() >= LEAST_IN_BIN else overall
    return np.sqrt(out)


class BreathingFollower:
    """A model fed with the live surrogate; remembers a few seconds only. Call it from one thread."""

    def __init__(self, model: BreathingModel, *, memory_s: float = 4 * WINDOW_S) -> None:
        self.model = model
        self._held: deque[tuple[float, float]] = deque(maxlen=4000)
        self._memory_s = max(float(memory_s), WINDOW_S)

    def add(self, time_s: float, value: float) -> None:
        """A sample of the surrogate; one that isn't finite, or not newer than the last, is dropped."""
        if np.isfinite(time_s) and np.isfinite(value) and (not self._held or time_s > self._held[-1][0]):
            self._held.append((float(time_s), float(value)))
            while self._held[0][0] < time_s - self._memory_s:
                self._held.popleft()

    def predict(self, now_s: float | None = None) -> BreathingPrediction:
        """Where the points will be one latency from now, or why that isn't known."""
        held = np.array(self._held).reshape(-1, 2)
        return self.model.predict(held[:, 0], held[:, 1], now_s)
