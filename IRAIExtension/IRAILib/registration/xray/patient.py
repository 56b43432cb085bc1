"""A CT made ready for many radiographs: the body without its table, pooled voxels at several sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...geometry import CArmGeometry, InputError, Volume
from .drr import CORTICAL_PER_MM, WATER_PER_MM, DrrVolume, attenuation, prepare_volume, require_torch

BASE_MM = 1.4
BODY_MM = 3.0
BODY_PER_MM = 0.5 * WATER_PER_MM
BONE_PER_MM = WATER_PER_MM + 0.12 * (CORTICAL_PER_MM - WATER_PER_MM)
OPENING_MM = 6.0
SMALLEST_BODY_ML = 500.0
SMALLEST_CUT_MM2 = 500.0
BEYOND_MM = 1000.0


@dataclass(frozen=True, eq=False)
class Patient:
    """Attributes:
        mu_per_mm: (k, j, i) float32, 1/mm, air where the body isn't. ras_from_ijk: (4, 4).
        beyond: (n, 2, 3) boxes, lowest and highest i, j, k, where the body goes on after the scan cut it off.
        bone_centre: (3,) RAS mm. device: of the tensors.
        levels: what `at` made.
    """

    mu_per_mm: np.ndarray
    ras_from_ijk: np.ndarray
    beyond: np.ndarray
    bone_centre: np.ndarray
    device: str = "cpu"
    levels: dict[float, DrrVolume] = field(default_factory=dict)

    def at(self, spacing_mm: float) -> DrrVolume:
        """Attenuation with derivatives, voxels of about `spacing_mm`; made once."""
        if spacing_mm not in self.levels:
            self.levels[spacing_mm] = prepare_volume(self.mu_per_mm, self.ras_from_ijk, spacing_mm=spacing_mm,
                                                     step_mm=1.2 * spacing_mm, with_derivatives=True,
                                                     device=self.device)
        return self.levels[spacing_mm]


def prepare_patient(ct: Volume, device: str = "cpu") -> Patient:
    """Take the table away (it isn't the angiography suite's), crop to the body.

    Raises InputError for what is no CT in HU of at least half a litre of a body.
    """
    hu = np.asarray(ct.array)
    if min(hu.shape) < 4 or not np.isfinite(hu).any():
        raise InputError(f"{ct.name or 'CT'}: too few slices or no numbers; a CT in HU is needed")
    pooled = prepare_volume(attenuation(hu), ct.ras_from_ijk, spacing_mm=BASE_MM)
    mu = pooled.values[0, 0].numpy()
    small = prepare_volume(mu, pooled.ras_from_ijk, spacing_mm=BODY_MM)
    body = _body(small.values[0, 0].numpy(), small.ras_from_ijk)
    litres = body.sum() * abs(np.linalg.det(small.ras_from_ijk[:3, :3])) / 1000.0
    if litres < SMALLEST_BODY_ML:
        raise InputError(f"{ct.name or 'CT'}: holds no body ({litres:.0f} ml of tissue); are the values HU?")
    factor = np.round(np.diag(np.linalg.inv(pooled.ras_from_ijk) @ small.ras_from_ijk)[2::-1]).astype(int)
    full = body
    for axis in range(3):
        full = np.repeat(full, factor[axis], axis=axis)
    full = full[tuple(slice(n) for n in mu.shape)]
    mu = np.where(full, mu, np.float32(0))
    window = _window(full)
    matrix = pooled.ras_from_ijk.copy()
    matrix[:3, 3] += matrix[:3, :3] @ np.array([window[2].start, window[1].start, window[0].start], float)
    mu = np.ascontiguousarray(mu[window])
    bone = np.argwhere(mu > BONE_PER_MM)
    if len(bone) < 100:
        raise InputError(f"{ct.name or 'CT'}: holds no bone; X-ray registration needs some")
    centre = matrix[:3, :3] @ bone.mean(axis=0)[::-1] + matrix[:3, 3]
    ends = [(axis, high) for axis in range(3) for high in (False, True)
            if (window[axis].stop == full.shape[axis] if high else window[axis].start == 0)]
    return Patient(mu, matrix, _beyond(full[window], matrix, ends), centre, device)


def _beyond(inside: np.ndarray, ras_from_ijk: np.ndarray, ends: list[tuple[int, bool]]) -> np.ndarray:
    """(n, 2, 3) boxes i, j, k: the body's bounds at each end of the scan, drawn out of the scan.

    inside: (k, j, i) bool, the body. ends: (axis of k, j, i; whether its high side) that are the scan's.
    """
    spacing = np.linalg.norm(ras_from_ijk[:3, :3], axis=0)[::-1]
    out = []
    for axis, high in ends:
        count, deep = inside.shape[axis], int(np.ceil(BODY_MM / spacing[axis]))
        layers = np.take(inside, range(max(count - deep, 0), count) if high else range(min(deep, count)), axis=axis)
        cut = layers.any(axis=axis)
        others = [n for n in range(3) if n != axis]
        if cut.sum() * spacing[others[0]] * spacing[others[1]] < SMALLEST_CUT_MM2:
            continue
        where = np.argwhere(cut)
        box = np.zeros((2, 3))
        box[0, others], box[1, others] = where.min(axis=0) - 0.5, where.max(axis=0) + 0.5
        reach = BEYOND_MM / spacing[axis]
        box[:, axis] = (count - 1.0, count + reach) if high else (-reach, 0.0)
        out.append(box[:, ::-1])
    return np.array(out).reshape(-1, 2, 3)


def _body(mu: np.ndarray, ras_from_ijk: np.ndarray) -> np.ndarray:
    """Largest piece of tissue that an opening leaves in one, slices filled, grown by a voxel."""
    from scipy import ndimage

    spacing = np.linalg.norm(ras_from_ijk[:3, :3], axis=0)[::-1]
    reach = max(1, round(OPENING_MM / 2 / float(np.median(spacing))))
    opened = ndimage.binary_opening(mu > BODY_PER_MM, iterations=reach)
    if not opened.any():
        return np.zeros(mu.shape, bool)
    pieces = np.asarray(ndimage.label(opened)[0])  # pyright: ignore[reportIndexIssue]
    largest = int(np.argmax(np.bincount(pieces.ravel())[1:])) + 1
    body = ndimage.binary_dilation(pieces == largest, iterations=reach + 1)
    axis = int(np.argmin(mu.shape)) if min(mu.shape) < 0.5 * max(mu.shape) else 0
    for n in range(mu.shape[axis]):
        part: list[Any] = [slice(None)] * 3
        part[axis] = n
        body[tuple(part)] = ndimage.binary_fill_holes(body[tuple(part)])
    return body


def _window(mask: np.ndarray) -> tuple[slice, slice, slice]:
    sides = []
    for axis in range(3):
        filled = np.nonzero(mask.any(axis=tuple(n for n in range(3) if n != axis)))[0]
        sides.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return sides[0], sides[1], sides[2]


def covered(ct: Volume, geometry: CArmGeometry, table_from_ras: np.ndarray) -> np.ndarray:
    """(rows, columns) bool: the frame shows there only what the CT holds, no tissue beyond the scan's ends.

    Raises InputError as `prepare_patient` does.
    """
    from .drr import pixel_rays

    torch = require_torch()
    source, away = pixel_rays(geometry)
    matrix = torch.as_tensor(table_from_ras, dtype=torch.float32)[None]
    cut = cut_rays(prepare_patient(ct), source, torch.as_tensor(away, dtype=torch.float32), matrix)
    return ~cut[0].reshape(geometry.size[1], geometry.size[0]).numpy()


def cut_rays(patient: Patient, source: np.ndarray, away: Any, table_from_ras: Any) -> Any:
    """torch (b, n) bool: the ray passes where the body goes on beyond the scan: part of what it saw isn't in the CT."""
    from .drr import clip_to_box

    torch = require_torch()
    kind = {"dtype": torch.float32, "device": away.device}
    ijk_from_table = torch.as_tensor(np.linalg.inv(patient.ras_from_ijk), **kind) @ torch.linalg.inv(table_from_ras)
    start = (ijk_from_table[:, :3, :3] @ torch.as_tensor(source, **kind) + ijk_from_table[:, :3, 3])[:, None]
    along = away @ ijk_from_table[:, :3, :3].transpose(1, 2)
    out = torch.zeros(along.shape[:2], dtype=torch.bool, device=away.device)
    for low, high in torch.as_tensor(patient.beyond, **kind):
        first, last = clip_to_box(start, along, high, low)
        out |= last > first
    return out
