"""Gauss-Newton on the gradient correlation: the pose's six derivatives of the radiograph, six unknowns, few steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import pose as poses
from .drr import derivatives, integrate, require_torch
from .patient import Patient, cut_rays
from .similarity import LevelView, correlation, features, slopes, smooth

TUKEY = 4.685
FIRST_DAMPING = 1e-2
GAIN = 1e-5
FARTHEST_MM = 50.0
"""A climb that leads farther away has lost its hill."""
LEVER_MM = 100.0
"""A radian counts as so many mm."""


@dataclass(frozen=True, eq=False)
class Refined:
    """Attributes: table_from_ras (4, 4); similarities and coverage (share of the frame that could be compared), one a
    view; information: (6, 6) of the pose (mm along, rad about the table's axes through the pivot), from the least
    squares; steps: taken."""

    table_from_ras: np.ndarray
    similarities: tuple[float, ...]
    coverage: tuple[float, ...]
    information: np.ndarray
    steps: int

    @property
    def similarity(self) -> float:
        """Mean over the views."""
        return float(np.mean(self.similarities))


def refine(patient: Patient, spacing_mm: float, views: Sequence[LevelView], start: np.ndarray, pivot: np.ndarray, *,
           steps: int = 10, settled_mm: float = 0.03, cancelled: Callable[[], None] = lambda: None) -> Refined:
    """Climb from one start: Levenberg's damping, Tukey's weights. All in the table frame."""
    here, damping, taken = np.array(start, float), FIRST_DAMPING, 0
    best = _linearised(patient, spacing_mm, views, here, pivot)
    for _ in range(steps):
        cancelled()
        scale = np.array([1, 1, 1, *[1 / LEVER_MM] * 3])
        normal, slope = best.normal * np.outer(scale, scale), best.slope * scale
        ridge = damping * (np.diag(np.diag(normal)) + 0.05 * np.trace(normal) / 6 * np.eye(6))
        move = np.linalg.solve(normal + ridge + 1e-9 * np.eye(6), slope)
        size = float(np.linalg.norm(move))
        if size > 12.0:
            move *= 12.0 / size
        there = poses.step(move * scale, pivot) @ here
        taken += 1
        far = np.linalg.norm(poses.apply(there @ np.linalg.inv(start), pivot[None])[0] - pivot) > FARTHEST_MM
        tried = best if far else _linearised(patient, spacing_mm, views, there, pivot)
        if tried.mean > best.mean:
            gained = tried.mean - best.mean
            here, best, damping = there, tried, max(damping / 5, 1e-4)
            if size < settled_mm or (gained < GAIN and size < 10 * settled_mm):
                break
        else:
            damping *= 8
            if damping > 50 or size < settled_mm:
                break
    return Refined(here, best.similarities, best.coverage, best.information, taken)


@dataclass(frozen=True, eq=False)
class _Linear:
    similarities: tuple[float, ...]
    coverage: tuple[float, ...]
    normal: np.ndarray
    slope: np.ndarray
    information: np.ndarray

    @property
    def mean(self) -> float:
        return float(np.mean(self.similarities))


def _linearised(patient: Patient, spacing_mm: float, views: Sequence[LevelView], here: np.ndarray,
                pivot: np.ndarray) -> _Linear:
    """Similarities, and the least squares of target - b (moving + J step), weighted."""
    torch = require_torch()
    matrix = torch.as_tensor(here, dtype=torch.float32, device=patient.device)[None]
    normal, slope, information = np.zeros((6, 6)), np.zeros(6), np.zeros((6, 6))
    similarities, coverage = [], []
    with torch.no_grad():
        for view in views:
            columns, rows = view.geometry.size
            source = view.geometry.source_mm
            stack = derivatives(patient.at(spacing_mm), source, view.away, matrix, pivot)[0].reshape(7, rows, columns)
            cut = cut_rays(patient, source, view.away, matrix).reshape(1, rows, columns)
            valid = (~cut).float()
            moving, good, size = features(stack[:1], valid)
            weight = (good * view.valid)[0]
            similarities.append(float(correlation(view.target, moving, weight[None])[0]))
            coverage.append(float(weight.sum() / view.valid.sum().clamp(min=1)))
            jacobian = slopes(smooth(stack[1:], valid)) / size[:, None]
            n, s, i = _normal_equations(view.target[0], moving[0], jacobian, weight)
            normal, slope, information = normal + n, slope + s, information + i
    return _Linear(tuple(similarities), tuple(coverage), normal, slope, information)


def _normal_equations(target: Any, moving: Any, jacobian: Any, weight: Any) -> tuple[np.ndarray, ...]:
    """(6, 6), (6,) of the weighted least squares, and (6, 6) information: the same over the residual's variance."""
    gain = float((weight * target * moving).sum() / (weight * moving.square()).sum().clamp(min=1e-9))
    gain = max(gain, 0.2)
    residual = (target - gain * moving)
    length = residual.square().sum(dim=0).sqrt()
    kept = weight > 0
    if int(kept.sum()) < 50:
        return np.zeros((6, 6)), np.zeros(6), np.zeros((6, 6))
    spread = float(length[kept].median()) / 1.18 + 1e-6
    robust = (weight * (1 - (length / (TUKEY * spread)).square()).clamp(min=0).square()).double()
    flat = (gain * jacobian).double().reshape(6, -1)
    both = robust.reshape(-1).repeat(2)
    normal = (flat * both) @ flat.T
    slope = (flat * both) @ residual.double().reshape(-1)
    variance = float((robust * residual.square().sum(dim=0)).sum() / (2 * robust.sum()).clamp(min=1e-9))
    return normal.cpu().numpy(), slope.cpu().numpy(), normal.cpu().numpy() / max(variance, 1e-9)


def measure(patient: Patient, spacing_mm: float, views: Sequence[LevelView], starts: np.ndarray) -> np.ndarray:
    """(b,) mean similarity over the views at (b, 4, 4) poses; no derivatives."""
    torch = require_torch()
    out = np.zeros(len(starts))
    with torch.no_grad():
        for view in views:
            columns, rows = view.geometry.size
            matrix = torch.as_tensor(starts, dtype=torch.float32, device=patient.device)
            image = integrate(patient.at(spacing_mm), view.geometry.source_mm, view.away, matrix)[:, 0]
            cut = cut_rays(patient, view.geometry.source_mm, view.away, matrix)
            moving, good, _ = features(image.reshape(-1, rows, columns), (~cut).float().reshape(-1, rows, columns))
            out += correlation(view.target.expand_as(moving), moving, good * view.valid).cpu().numpy()
    return out / len(views)
