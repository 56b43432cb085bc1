"""The tip between the voxels: a line that ends, blurred by the scan, fitted to the voxels round the end.

A half-line blurred by a Gaussian that has another width along each axis of the scan has a closed form: a Gaussian
across (in the metric of the blur) times an error function along. It holds for any direction of the needle, for thick
slices, and, with the scanner's clipping applied to the model as well, for saturated metal, whose half-maximum
lies outside the metal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.special import ndtr

from .curve import Curve, tube_voxels
from .space import Space

FADE_LIMIT = 1.9
"""An edge so many times wider than the scan's blur isn't a tip: the needle leaves the slice."""
SHAPE_SIGMA_MM = 0.25
"""Of where a bevel or a cone puts the half-intensity, when the tip's shape isn't told."""
SLICE_STEPS = (-0.4, -0.2, 0.0, 0.2, 0.4)
"""Where the slice's profile is sampled, in parts of its width."""
CORRELATION = 6.0
"""Neighbouring voxels share noise and streaks: so many of them count for one."""


@dataclass(frozen=True)
class TipFit:
    """Tip in grid mm.

    Attributes:
        tip: (3,); direction: (3,) unit, towards the tip.
        covariance: (3, 3) mm2, grid axes.
        fade: width of the end over the scan's own width; 1 is a sharp end.
        contrast: HU of the metal over its surroundings, before clipping.
    """

    tip: np.ndarray
    direction: np.ndarray
    covariance: np.ndarray
    fade: float
    contrast: float


def fit_tip(space: Space, curve: Curve, at_high: bool, *, cone_mm: float = 0.0,
            others: tuple[Curve, ...] = ()) -> TipFit:
    """Where the metal ends at the high (or low) end of the curve.

    Args:
        cone_mm: length of a conical tip; the point lies two thirds of it beyond the blunt end that fits best.
    """
    end = curve.ends[1] if at_high else curve.ends[0]
    sign = 1.0 if at_high else -1.0
    slice_mm = float(space.spacing.max())
    back = min(max(14.0, 3.5 * slice_mm), 0.8 * (curve.ends[1] - curve.ends[0]))
    direction = sign * curve.tangent(end - sign * 0.3 * back)
    start = curve.points(end)[0]
    straight = _end_piece(curve, end, sign, back)
    points, value = tube_voxels(space, straight, max(7.0, 2.0 * slice_mm), tube_mm=3.6, others=others)
    t, offset = curve.local(points)
    relative = offset + np.outer(sign * (t - end), direction)
    keep = sign * (t - end) > -back
    relative, value = relative[keep], value[keep]
    ceiling = _ceiling(space.array)
    solver = _Model(relative, np.minimum(value, ceiling), direction, space.spacing, ceiling,
                    fade=space.array.shape[0] <= 8)
    fit = solver.solve()
    shift = solver.frame.T @ fit.x[:3]
    return TipFit(start + shift + direction * (2.0 / 3.0) * cone_mm, direction,
                  _covariance(solver, fit, space, curve, direction, cone_mm), float(np.exp(fit.x[7])),
                  float(np.exp(fit.x[3])))


def _end_piece(curve: Curve, end: float, sign: float, back: float) -> Curve:
    ends = (end - back, end) if sign > 0 else (end, end + back)
    return Curve(curve.origin, curve.axes, curve.across, curve.scale, ends)


def _ceiling(array: np.ndarray) -> float:
    """The value where this scan clips: its maximum when several voxels share it, else infinity."""
    top = array.max()
    return float(top) if top > 2000 and np.count_nonzero(array[:, ::2, ::2] == top) > 3 else float("inf")


class _Model:
    """Parameters: shift along, across u, across v (mm); log contrast; log blur in plane; log of the
    slice's width over the spacing; ground / 100 HU; log of the end's extra width."""

    def __init__(self, relative, value, direction, spacing, ceiling, fade: bool) -> None:
        helper = np.eye(3)[int(np.argmin(np.abs(direction)))]
        u = np.cross(direction, helper)
        u /= np.linalg.norm(u)
        self.frame = np.stack([direction, u, np.cross(direction, u)])
        self.relative, self.value, self.direction, self.ceiling = relative, value, direction, ceiling
        self.spacing = spacing
        self.noise = 60.0 + 0.05 * np.clip(value, 0.0, 3000.0)
        fine = float(np.sort(spacing)[:2].mean())
        self.middle = np.array([0, 0, 0, np.log(max(float(np.percentile(value, 97)), 300.0)),
                                np.log(max(0.75, 0.8 * fine)), 0.0, 0.5, 0.0])
        self.width = np.array([6.0, 2.0, 2.0, 2.0, 0.35, 0.12, 1.5, 0.45 if fade else 0.1])

    def predicted(self, x: np.ndarray) -> np.ndarray:
        """HU at every voxel: a blurred half-line, averaged over the slice."""
        thick = self.spacing[2] * np.exp(x[5])
        inverse = 1.0 / np.square([np.exp(x[4]), np.exp(x[4]), max(0.5, 0.2 * self.spacing[2])])
        weighted = self.direction * inverse
        along = weighted @ self.direction
        total = np.zeros(len(self.relative))
        for step in SLICE_STEPS:
            y = self.relative - self.frame.T @ x[:3] + [0.0, 0.0, step * thick]
            t = y @ weighted / along
            across = np.square(y) @ inverse - along * t * t
            total += np.exp(-0.5 * across) * ndtr(-t * np.sqrt(along) * np.exp(-x[7]))
        return np.minimum(100.0 * x[6] + np.exp(x[3]) * total / len(SLICE_STEPS), self.ceiling)

    def residuals(self, x: np.ndarray) -> np.ndarray:
        prior = (x - self.middle) / self.width
        return np.concatenate([(self.predicted(x) - self.value) / self.noise, prior])

    def solve(self):
        return least_squares(self.residuals, self.middle.copy(), loss="soft_l1", f_scale=2.0, max_nfev=60)


def _covariance(solver: _Model, fit, space: Space, curve: Curve, direction: np.ndarray, cone_mm: float) -> np.ndarray:
    """From the fit's curvature and residuals, plus what a fit can't know: tip shape and place within one slice."""
    rest = fit.fun[:-len(fit.x)]
    scale = max(1.0, float(np.median(rest**2) / 0.455)) * CORRELATION
    shifts = np.linalg.inv(fit.jac.T @ fit.jac + 1e-9 * np.eye(len(fit.x)))[:3, :3] * scale
    covariance = solver.frame.T @ shifts @ solver.frame
    covariance += np.outer(direction, direction) * (SHAPE_SIGMA_MM**2 + (0.1 * cone_mm) ** 2)
    covariance += np.diag((0.06 * space.spacing) ** 2)
    return covariance + np.diag(within_slice_mm(space, curve) ** 2)


def within_slice_mm(space: Space, curve: Curve) -> np.ndarray:
    """(3,) sigma in grid axes of where a needle lies within its slice: uniform when it stays in one, less with every
    slice that it crosses."""
    crossed = np.abs(curve.points(curve.ends[1])[0] - curve.points(curve.ends[0])[0]) / space.spacing
    return space.spacing / np.sqrt(12.0 * (1.0 + crossed**2))
