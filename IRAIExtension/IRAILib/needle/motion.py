"""How a needle's tip moves: an interacting-multiple-model filter of two motions, held and advancing.

State of each motion: tip (d) and its velocity (d), d = 2 in a picture, 3 in space. The noise of the velocity lies
along the shaft; across it there is little: a needle slides along itself. Held: the velocity dies out. Advancing: it
lasts. The mixing is that of Blom and Bar-Shalom 1988; tested against filterpy's estimator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..geometry import InputError


@dataclass(frozen=True)
class Motion:
    """One way to move. Accelerations are spectral densities' roots, mm / s**1.5; `decay_s` None: velocity lasts."""

    along: float
    across: float
    decay_s: float | None
    stay_s: float  # mean time until the needle moves in another way


HELD = Motion(along=3.0, across=1.5, decay_s=0.15, stay_s=1.5)
ADVANCING = Motion(along=40.0, across=8.0, decay_s=None, stay_s=1.0)
START_SPEED_MM_S = 15.0  # standard deviation of the velocity of a needle seen for the first time
START_ACROSS_MM_S = 4.0


def shaft_axes(direction: np.ndarray) -> np.ndarray:
    """(d, d) orthonormal columns, the first along the shaft. Raises: InputError for a direction without length."""
    vector = np.asarray(direction, float)
    length = float(np.linalg.norm(vector))
    if not (math.isfinite(length) and length > 1e-9):
        raise InputError("the needle's direction has no length")
    first = vector / length
    basis = np.column_stack([first, np.eye(len(first))])
    axes, _ = np.linalg.qr(basis)
    axes = axes[:, : len(first)]
    return axes * np.where(axes[:, 0] @ first < 0, -1.0, 1.0)


def transition(motion: Motion, dt: float, dimension: int) -> np.ndarray:
    """(2d, 2d) of the state over dt seconds."""
    eye, zero = np.eye(dimension), np.zeros((dimension, dimension))
    if motion.decay_s is None:
        return np.block([[eye, dt * eye], [zero, eye]])
    keep = math.exp(-dt / motion.decay_s)
    return np.block([[eye, motion.decay_s * (1.0 - keep) * eye], [zero, keep * eye]])


def process_noise(motion: Motion, dt: float, axes: np.ndarray, unit: float = 1.0) -> np.ndarray:
    """(2d, 2d) covariance that dt seconds of random acceleration add; `unit`: state units per mm."""
    dimension = len(axes)
    strength = np.array([motion.along] + [motion.across] * (dimension - 1)) * unit
    spectral = axes @ np.diag(strength**2) @ axes.T
    return np.block([[dt**3 / 3 * spectral, dt**2 / 2 * spectral], [dt**2 / 2 * spectral, dt * spectral]])


@dataclass(frozen=True)
class TipState:
    """Means (modes, 2d), covariances (modes, 2d, 2d) and probabilities (modes,) at one time."""

    means: np.ndarray
    covariances: np.ndarray
    probabilities: np.ndarray

    @property
    def dimension(self) -> int:
        return self.means.shape[1] // 2

    @property
    def mean(self) -> np.ndarray:
        """(2d,) tip and velocity over all motions."""
        return self.probabilities @ self.means

    @property
    def covariance(self) -> np.ndarray:
        """(2d, 2d) over all motions, the spread between them included."""
        apart = self.means - self.mean
        return np.einsum("m,mij->ij", self.probabilities,
                         self.covariances + np.einsum("mi,mj->mij", apart, apart))


class MotionFilter:
    """The filter itself; it holds no state, so that a prediction never changes the track.

    Args:
        motions: the ways to move. unit: state units per mm (1 for mm).
    """

    def __init__(self, motions: tuple[Motion, ...] = (HELD, ADVANCING), unit: float = 1.0) -> None:
        self.motions = motions
        self.unit = unit

    def start(self, tip: np.ndarray, covariance: np.ndarray, direction: np.ndarray) -> TipState:
        """A needle seen for the first time, at rest or not: (d,) tip, (d, d) covariance, (d,) direction."""
        dimension = len(tip)
        axes = shaft_axes(direction)
        speed = np.array([START_SPEED_MM_S] + [START_ACROSS_MM_S] * (dimension - 1)) * self.unit
        block = np.zeros((2 * dimension, 2 * dimension))
        block[:dimension, :dimension] = covariance
        block[dimension:, dimension:] = axes @ np.diag(speed**2) @ axes.T
        count = len(self.motions)
        mean = np.concatenate([np.asarray(tip, float), np.zeros(dimension)])
        return TipState(np.tile(mean, (count, 1)), np.tile(block, (count, 1, 1)), np.full(count, 1.0 / count))

    def change_matrix(self, dt: float) -> np.ndarray:
        """(modes, modes): probability to go from motion i to motion j within dt."""
        count = len(self.motions)
        matrix = np.zeros((count, count))
        for i, motion in enumerate(self.motions):
            stay = math.exp(-dt / motion.stay_s) if count > 1 else 1.0
            matrix[i] = (1.0 - stay) / max(count - 1, 1)
            matrix[i, i] = stay
        return matrix

    def predicted(self, state: TipState, dt: float, direction: np.ndarray) -> TipState:
        """The state dt >= 0 seconds later; dt = 0 gives it back unchanged."""
        if dt <= 0.0:
            return state
        axes = shaft_axes(direction)
        change = self.change_matrix(dt)
        probabilities = state.probabilities @ change
        weights = state.probabilities[:, None] * change / probabilities[None, :]  # from i, given now j
        means = weights.T @ state.means
        new_means, new_covariances = [], []
        for j, motion in enumerate(self.motions):
            apart = state.means - means[j]
            mixed = np.einsum("i,iab->ab", weights[:, j],
                              state.covariances + np.einsum("ia,ib->iab", apart, apart))
            step = transition(motion, dt, state.dimension)
            new_means.append(step @ means[j])
            new_covariances.append(step @ mixed @ step.T + process_noise(motion, dt, axes, self.unit))
        return TipState(np.array(new_means), np.array(new_covariances), probabilities)

    def distance(self, state: TipState, tip: np.ndarray, covariance: np.ndarray) -> float:
        """Squared Mahalanobis distance of a measured tip from the predicted one."""
        d = state.dimension
        total = state.covariance[:d, :d] + covariance
        apart = np.asarray(tip, float) - state.mean[:d]
        return float(apart @ np.linalg.solve(total, apart))

    def updated(self, state: TipState, tip: np.ndarray, covariance: np.ndarray) -> TipState:
        """The state after a tip was measured: (d,) and its (d, d) covariance."""
        d = state.dimension
        means, covariances, logs = [], [], []
        for mean, block in zip(state.means, state.covariances, strict=True):
            total = block[:d, :d] + covariance
            gain = np.linalg.solve(total, block[:d, :]).T
            apart = np.asarray(tip, float) - mean[:d]
            keep = np.eye(2 * d)
            keep[:, :d] -= gain
            means.append(mean + gain @ apart)
            covariances.append(keep @ block @ keep.T + gain @ covariance @ gain.T)  # Joseph: stays positive
            logs.append(-0.5 * (apart @ np.linalg.solve(total, apart) + np.linalg.slogdet(total)[1]))
        likelihood = np.exp(np.array(logs) - max(logs))
        probabilities = np.maximum(state.probabilities * likelihood, 1e-6)
        return TipState(np.array(means), np.array(covariances), probabilities / probabilities.sum())


@dataclass(frozen=True)
class DirectionState:
    """Unit direction (d,) and the variance of its angle, radians squared."""

    direction: np.ndarray
    variance: float


TURN_DEG = 4.0  # standard deviation of a needle's turn within a second, degrees


def turned(state: DirectionState, dt: float) -> DirectionState:
    """The direction dt seconds later: as before, less sure."""
    return replace(state, variance=state.variance + math.radians(TURN_DEG) ** 2 * max(dt, 0.0))


def direction_updated(state: DirectionState, direction: np.ndarray, sigma_deg: float) -> DirectionState:
    """The direction after one was measured with a standard deviation in degrees."""
    noise = math.radians(max(sigma_deg, 0.05)) ** 2
    gain = state.variance / (state.variance + noise)
    mixed = state.direction + gain * (np.asarray(direction, float) - state.direction)
    length = float(np.linalg.norm(mixed))
    if length < 1e-6:  # opposite directions: the new one counts
        return DirectionState(np.asarray(direction, float), noise)
    return DirectionState(mixed / length, (1.0 - gain) * state.variance)
