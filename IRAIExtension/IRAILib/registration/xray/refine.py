"""Gauss-Newton on the gradient correlation: the pose's six derivatives of the radiograph, six unknowns, few steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import pose as poses
from .drr import derivatives, integrate, require_torch
from .patient import Patient, cut_rays
from .similarity import SPREAD_PX, LevelView, blur, correlation, features, slopes, smooth

TUKEY = 4.685
FIRST_DAMPING = 1e-2
GAIN = 1e-5
FARTHEST_MM = 50.0
"""A climb that leads farther away has lost its hill."""
LEVER_MM = 100.0
"""A radian counts as so many mm."""
BLOCK_PX = 16


@dataclass(frozen=True, eq=False)
class Refined:
    """Attributes: table_from_ras (4, 4); similarities and coverage (share of the frame that could be compared), one a
    view; covariance: (6, 6) of the pose (mm along, rad about the table's axes through the pivot), from the scatter of
    the residuals' pull over blocks of the frame, infinite where nothing was measured; steps: taken."""

    table_from_ras: np.ndarray
    similarities: tuple[float, ...]
    coverage: tuple[float, ...]
    covariance: np.ndarray
    steps: int

    @property
    def similarity(self) -> float:
        """Mean over the views."""
        return float(np.mean(self.similarities))


def refine(patient: Patient, spacing_mm: float, views: Sequence[LevelView], start: np.ndarray, pivot: np.ndarray, *,
           steps: int = 10, settled_mm: float = 0.03, robust: bool = False,
           cancelled: Callable[[], None] = lambda: None) -> Refined:
    """Climb from one start: Levenberg's damping, Tukey's weights. All in the table frame.

    robust: a step counts by Tukey's loss, which a needle or a bed's edge hardly enters, not by the correlation, whose
    top they move: from far the correlation leads better, near the top it stops a step early in the depth of one view.
    """
    here, damping, taken = np.array(start, float), 1e-3 if robust else FIRST_DAMPING, 0
    best = _linearised(patient, spacing_mm, views, here, pivot)
    spreads = best.spreads if robust else None
    for _ in range(steps):
        cancelled()
        scale = np.array([1, 1, 1, *[1 / LEVER_MM] * 3])
        normal, slope = best.normal * np.outer(scale, scale), best.slope * scale
        floor = 0.0 if robust else 0.05
        ridge = damping * (np.diag(np.diag(normal)) + floor * np.trace(normal) / 6 * np.eye(6))
        move = np.linalg.solve(normal + ridge + 1e-9 * np.eye(6), slope)
        size = float(np.linalg.norm(move))
        if size > 12.0:
            move *= 12.0 / size
        there = poses.step(move * scale, pivot) @ here
        taken += 1
        far = np.linalg.norm(poses.apply(there @ np.linalg.inv(start), pivot[None])[0] - pivot) > FARTHEST_MM
        tried = best if far else _linearised(patient, spacing_mm, views, there, pivot, spreads)
        gained = best.loss - tried.loss if robust else tried.mean - best.mean
        if gained > 0:
            here, best, damping = there, tried, max(damping / 5, 1e-4)
            if size < settled_mm or (not robust and gained < GAIN and size < 10 * settled_mm):
                break
        else:
            damping *= 8
            if damping > 50 or size < settled_mm:
                break
    return Refined(here, best.similarities, best.coverage, _sandwich(best), taken)


@dataclass(frozen=True, eq=False)
class _Linear:
    """normal (6, 6) and slope (6,) of the least squares; scatter (6, 6) of the slope; loss: Tukey's, 0 to 1, mean over
    the views; spreads: of each view's residuals."""

    similarities: tuple[float, ...]
    coverage: tuple[float, ...]
    normal: np.ndarray
    slope: np.ndarray
    scatter: np.ndarray
    loss: float
    spreads: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.similarities))


def _linearised(patient: Patient, spacing_mm: float, views: Sequence[LevelView], here: np.ndarray,
                pivot: np.ndarray, spreads: Sequence[float] | None = None) -> _Linear:
    """Similarities, and the least squares of target - b (moving + J step), weighted."""
    torch = require_torch()
    matrix = torch.as_tensor(here, dtype=torch.float32, device=patient.device)[None]
    normal, slope, scatter = np.zeros((6, 6)), np.zeros(6), np.zeros((6, 6))
    similarities, coverage, losses, widths = [], [], [], []
    with torch.no_grad():
        for number, view in enumerate(views):
            columns, rows = view.geometry.size
            source = view.geometry.source_mm
            stack = derivatives(patient.at(spacing_mm), source, view.away, matrix, pivot)[0].reshape(7, rows, columns)
            cut = cut_rays(patient, source, view.away, matrix).reshape(1, rows, columns)
            valid = (~cut).float()
            moving, good, size = features(stack[:1], valid)
            weight = (good * view.valid)[0]
            similarities.append(float(correlation(view.target, moving, weight[None])[0]))
            coverage.append(float(weight.sum() / view.valid.sum().clamp(min=1)))
            jacobian = _jacobian(slopes(smooth(stack[1:], valid)), moving[0], size, good)
            part = _normal_equations(view.target[0], moving[0], jacobian, weight, spreads[number] if spreads else None)
            normal, slope, scatter = normal + part[0], slope + part[1], scatter + part[2]
            losses.append(part[3])
            widths.append(part[4])
    return _Linear(tuple(similarities), tuple(coverage), normal, slope, scatter, float(np.mean(losses)), tuple(widths))


def _jacobian(changes: Any, moving: Any, size: Any, good: Any) -> Any:
    """torch (6, 2, rows, columns): change of the normalised gradient `moving` (2, rows, columns), from that of the
    gradient; the neighbourhood's `size` (1, rows, columns) changes with it."""
    length = moving.square().sum(dim=0).sqrt().clamp(min=1e-9)
    growth = (changes * moving).sum(dim=1) / length * good
    growth = blur(growth, SPREAD_PX) / blur(good, SPREAD_PX).clamp(min=1e-3)
    return (changes - moving[None] * growth[:, None]) / size[:, None]


def _normal_equations(target: Any, moving: Any, jacobian: Any, weight: Any, spread: float | None
                      ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """(6, 6), (6,) of the weighted least squares, (6, 6) scatter of the latter, Tukey's loss, and the spread of the
    residuals, which `spread` overrules in the weights."""
    kept = weight > 0
    if int(kept.sum()) < 50:
        return np.zeros((6, 6)), np.zeros(6), np.zeros((6, 6)), 1.0, 1.0
    robust, own, gain, residual, inside = weight, 1.0, 1.0, target, weight
    for _ in range(3):
        gain = float((robust * target * moving).sum() / (robust * moving.square()).sum().clamp(min=1e-9))
        residual = target - max(gain, 0.2) * moving
        length = residual.square().sum(dim=0).sqrt()
        own = float(length[kept].median()) / 1.18 + 1e-6
        inside = (1 - (length / (TUKEY * (spread or own))).square()).clamp(min=0)
        robust = weight * inside.square()
    flat = (max(gain, 0.2) * jacobian).double()
    pulls = (flat * (robust.double() * residual.double())[None]).sum(dim=1)
    flat, both = flat.reshape(6, -1), robust.double().reshape(-1).repeat(2)
    normal = (flat * both) @ flat.T
    loss = float((weight * (1 - inside**3)).sum() / weight.sum())
    return normal.cpu().numpy(), pulls.sum(dim=(1, 2)).cpu().numpy(), _scatter(pulls), loss, own


def _scatter(pulls: Any) -> np.ndarray:
    """(6, 6) sum over blocks of the squared pull (6, rows, columns) of each, mean over how the blocks may lie.

    Neighbouring pixels of a smoothed image share their noise and the radiograph's own faults: only blocks larger than
    that are as good as independent.
    """
    torch = require_torch()
    out, places = np.zeros((6, 6)), range(0, BLOCK_PX, BLOCK_PX // 2)
    for down in places:
        for right in places:
            wide = torch.nn.functional.pad(pulls[None], (right, BLOCK_PX, down, BLOCK_PX))
            sums = (torch.nn.functional.avg_pool2d(wide, BLOCK_PX) * BLOCK_PX**2).reshape(6, -1).cpu().numpy()
            out += sums @ sums.T / len(places) ** 2
    return out


def _sandwich(end: _Linear) -> np.ndarray:
    """(6, 6) covariance: the inverse of the normal equations on both sides of the scatter (Huber 1967)."""
    scale = np.array([1, 1, 1, *[LEVER_MM] * 3])
    normal = end.normal / np.outer(scale, scale)
    if np.linalg.matrix_rank(normal) < 6 or np.linalg.cond(normal) > 1e10:
        return np.full((6, 6), np.inf)
    half = np.linalg.inv(normal)
    return half @ (end.scatter / np.outer(scale, scale)) @ half / np.outer(scale, scale)


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
