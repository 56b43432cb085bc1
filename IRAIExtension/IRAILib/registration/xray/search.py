"""Where to start: radiographs of many out-of-plane turns, each slid over the frame at once (FFT), rolled and zoomed.

A turn out of the plane changes the picture and needs a radiograph; what is left (shift, roll, distance) nearly only
moves and scales it, so one FFT finds the best shift among all of them, and its other peaks are the rival levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...geometry import CArmGeometry
from . import pose as poses
from .drr import integrate, pixel_rays, require_torch
from .patient import Patient, cut_rays
from .similarity import LevelView, features

TURNS_DEG = (-10.0, -5.0, 0.0, 5.0, 10.0)
ROLLS_DEG = (-10.0, -5.0, 0.0, 5.0, 10.0)
ZOOMS = (0.965, 1.0, 1.036)
SMALLEST_OVERLAP = 0.35
APART_MM = 7.0


@dataclass(frozen=True, eq=False)
class Candidate:
    """A start: pose (4, 4), score of the coarse match, sign of the contrast it was found with."""

    table_from_ras: np.ndarray
    score: float
    sign: float


def camera_axes(geometry: CArmGeometry) -> np.ndarray:
    """(3, 3) columns: along a row of the picture, down, along the beam; table frame."""
    x, y = (v / np.linalg.norm(v) for v in (geometry.column_mm, geometry.row_mm))
    return np.column_stack([x, y, geometry.normal])


def widened(geometry: CArmGeometry, margin: int) -> CArmGeometry:
    """The same detector with `margin` pixels more at each side."""
    first = geometry.pixel0_mm - margin * (geometry.column_mm + geometry.row_mm)
    return CArmGeometry(geometry.source_mm, first, geometry.column_mm, geometry.row_mm,
                        (geometry.size[0] + 2 * margin, geometry.size[1] + 2 * margin), geometry.frame)


def slide(patient: Patient, spacing_mm: float, view: LevelView, start: np.ndarray, pivot: np.ndarray, *,
          reach_mm: float, signs: tuple[float, ...], turns_deg=TURNS_DEG, rolls_deg=ROLLS_DEG, zooms=ZOOMS,
          keep: int = 40, cancelled: Callable[[], None] = lambda: None) -> list[Candidate]:
    """Best starts within `reach_mm` sideways of `start`, best first, apart from each other.

    pivot: (3,) table frame, a point of the patient about which turns are made (it moves along with the shifts).
    """
    torch = require_torch()
    axes, geometry = camera_axes(view.geometry), view.geometry
    depth = float(geometry.normal @ (pivot - geometry.source_mm))
    pixel = float(np.linalg.norm(geometry.column_mm)) * depth / geometry.source_to_detector_mm
    margin = int(np.ceil(reach_mm / pixel))
    wide = widened(geometry, margin)
    away = torch.as_tensor(pixel_rays(wide)[1], dtype=torch.float32, device=patient.device)
    variants = _variants(view, rolls_deg, zooms)
    matcher = _Matcher(variants, wide.size, margin, signs)
    found: list[tuple[float, float, int, tuple[float, float], np.ndarray]] = []
    for about_x in turns_deg:
        for about_y in turns_deg:
            cancelled()
            turn = axes @ poses.rotation(np.radians([about_x, about_y, 0.0])) @ axes.T
            turned = poses.step(np.zeros(6), pivot)
            turned[:3, :3], turned[:3, 3] = turn, pivot - turn @ pivot
            base = turned @ start
            for score, sign, variant, shift in matcher.peaks(_gradients(patient, spacing_mm, wide, away, base)):
                found.append((score, sign, variant, shift, base))
    found.sort(key=lambda entry: -entry[0])
    return _distinct(found, variants, geometry, pivot, keep)


def _distinct(found: list, variants: list, geometry: CArmGeometry, pivot: np.ndarray, keep: int) -> list[Candidate]:
    out: list[Candidate] = []
    places: list[np.ndarray] = []
    for score, sign, variant, shift, base in found:
        matrix = _moved(base, geometry, pivot, variants[variant][1:], shift)
        place = poses.apply(matrix @ np.linalg.inv(base), pivot[None])[0]
        sideways = [np.linalg.norm(_across(place - other, geometry.normal)) for other in places]
        if sum(gap < APART_MM for gap in sideways) >= 2:
            continue
        places.append(place)
        out.append(Candidate(matrix, score, sign))
        if len(out) == keep:
            break
    return out


def _across(vector: np.ndarray, normal: np.ndarray) -> np.ndarray:
    return vector - (vector @ normal) * normal


def _gradients(patient: Patient, spacing_mm: float, wide: CArmGeometry, away: Any, base: np.ndarray) -> tuple[Any, Any]:
    torch = require_torch()
    with torch.no_grad():
        matrix = torch.as_tensor(base, dtype=torch.float32, device=patient.device)[None]
        image = integrate(patient.at(spacing_mm), wide.source_mm, away, matrix)[0, 0].reshape(1, *wide.size[::-1])
        valid = (~cut_rays(patient, wide.source_mm, away, matrix)).float().reshape(1, *wide.size[::-1])
        gradient, good, _ = features(image, valid)
    return gradient[0] * good, good[0]


def _variants(view: LevelView, rolls_deg: tuple[float, ...], zooms: tuple[float, ...]) -> list[tuple]:
    """[((gradients (2, rows, columns), valid), roll, zoom)]: the frame rolled and zoomed back."""
    torch = require_torch()
    rows, columns = view.valid.shape[1:]
    half = torch.tensor([(columns - 1) / 2.0, (rows - 1) / 2.0], device=view.valid.device)
    y, x = torch.meshgrid(torch.arange(rows, device=view.valid.device), torch.arange(columns,
                          device=view.valid.device), indexing="ij")
    centred = torch.stack([x, y], dim=-1).float() - half
    out = []
    for roll in rolls_deg:
        c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
        turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float32, device=view.valid.device)
        for zoom in zooms:
            places = (zoom * centred @ turn.T) / half
            both = torch.cat([view.target[0] * view.valid, view.valid])
            seen = torch.nn.functional.grid_sample(both[None], places[None], align_corners=True)[0]
            target = torch.einsum("ab,brc->arc", turn.T, seen[:2])
            out.append(((target, (seen[2] > 0.5).float()), roll, zoom))
    return out


class _Matcher:
    """Normalised correlation of all variants with a wider radiograph, for all shifts."""

    def __init__(self, variants: list[tuple], wide: tuple[int, int], margin: int, signs: tuple[float, ...]) -> None:
        torch = require_torch()
        self.margin, self.signs = margin, signs
        self.size = (wide[1], wide[0])
        targets = torch.stack([entry[0][0] for entry in variants])
        valid = torch.stack([entry[0][1] for entry in variants])
        self.target = torch.fft.rfft2(targets * valid[:, None], s=self.size).conj()
        self.energy = torch.fft.rfft2((targets.square().sum(1) * valid), s=self.size).conj()
        self.valid = torch.fft.rfft2(valid, s=self.size).conj()
        self.total = float(valid.sum(dim=(1, 2)).max())

    def peaks(self, radiograph: tuple[Any, Any], count: int = 6) -> list[tuple[float, float, int, tuple[float, float]]]:
        """[(score, sign, variant, (columns, rows) shift)]: the best local maxima over variants and shifts."""
        torch = require_torch()
        gradient, good = radiograph
        back = lambda spectrum: torch.fft.irfft2(spectrum, s=self.size)  # noqa: E731
        moving, known = torch.fft.rfft2(gradient), torch.fft.rfft2(good)
        power = torch.fft.rfft2(gradient.square().sum(0))
        both = back((self.target * moving[None]).sum(1))
        norm = (back(self.energy * known[None]).clamp(min=1e-3) * back(self.valid * power[None]).clamp(min=1e-3)).sqrt()
        overlap = back(self.valid * known[None])
        score = torch.where(overlap > SMALLEST_OVERLAP * self.total, both / norm, torch.zeros_like(both))
        shifts = 2 * self.margin + 1
        score = score[:, :shifts, :shifts]
        out = []
        for sign in self.signs:
            best, variant = (sign * score).max(dim=0)
            top = torch.nn.functional.max_pool2d(best[None, None], 5, 1, 2)[0, 0]
            flat = torch.where(top == best, best, torch.full_like(best, -1)).reshape(-1)
            values, places = flat.topk(min(count, flat.numel()))
            for value, place in zip(values.tolist(), places.tolist(), strict=True):
                row, column = divmod(place, shifts)
                out.append((value, sign, int(variant[row, column]), (column - self.margin, row - self.margin)))
        return out


def _moved(base: np.ndarray, geometry: CArmGeometry, pivot: np.ndarray, variant: tuple[float, float],
           shift: tuple[float, float]) -> np.ndarray:
    """The pose that puts the radiograph of `base` where the frame's variant matched it.

    Frame pixel x0 + zoom R (x - x0) looks like radiograph pixel x + shift.
    """
    roll, zoom = variant
    x0 = (np.array(geometry.size, float) - 1) / 2
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    old = geometry.project(pivot[None])[0]
    new = x0 + zoom * np.array([[c, -s], [s, c]]) @ (old - np.asarray(shift, float) - x0)
    ray_old, ray_new = geometry.rays(np.stack([old, new]))
    depth = float(geometry.normal @ (pivot - geometry.source_mm)) / zoom
    target = geometry.source_mm + ray_new * depth / float(geometry.normal @ ray_new)
    axes = camera_axes(geometry)
    sense = np.sign(np.linalg.det(axes))
    out = np.eye(4)
    out[:3, :3] = poses.align(ray_old, ray_new) @ poses.rotation(np.radians(roll) * sense * axes[:, 2])
    out[:3, 3] = target - out[:3, :3] @ pivot
    return out @ base
