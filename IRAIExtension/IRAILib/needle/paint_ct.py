"""Needles painted into real CT, with what metal does to a scan: blur, beam hardening, starvation, clipping.

The metal itself is a cloud of points through the true shape, blurred by the scan's own width in the plane and by the
slice. Its artefacts are computed where they arise, in the projections of each slice: two photon energies pass water and
metal, the scanner's water correction makes of their sum what it makes of water, and what that differs from the true
line integral is reconstructed by filtered back-projection. So dark bands lie between metal and metal and between metal
and bone, bright ones beside them, and noise streaks where few photons are left. Parallel beams stand for the scanner's
fan, and each slice is computed alone. Attenuation: NIST XCOM at 50 and 80 keV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..geometry import InputError, Volume
from .bowed import BowedAxis

WATER_PER_MM = np.array([0.02269, 0.01837])
METAL_PER_MM = {"steel": np.array([1.541, 0.4684]), "titanium": np.array([0.5472, 0.1827])}
SPECTRUM = np.array([0.45, 0.55])
"""Part of the photons at 50 and 80 keV, about a 120 kVp beam behind its filter."""
PHOTONS = 3.0e5
"""Per ray and view of the artefact's projections."""
FEWEST_PHOTONS = 8.0
"""Below, the detector reads its own noise; scanners bound the logarithm about here."""
VIEWS = 240
BIN_MM = 0.9
COARSE_MM = 3.0
POINT_MM = 0.22
"""Distance of the points that stand for metal."""


@dataclass(frozen=True)
class PaintedNeedle(BowedAxis):
    """What to paint.

    Attributes:
        tip: (3,) RAS mm. direction: (3,) from the entry to the tip, at the tip's side of the chord.
        length_mm: of the chord. radius_mm: outer. bend_mm: bow in the middle of the chord (a parabola).
        bend_direction: (3,) RAS; the part across the chord counts; None is any.
        material: "steel" or "titanium". cone_mm: length of the conical tip, 0 is blunt.
    """

    tip: np.ndarray
    direction: np.ndarray
    length_mm: float = 120.0
    radius_mm: float = 0.75
    bend_mm: float = 0.0
    bend_direction: np.ndarray | None = None
    material: str = "steel"
    cone_mm: float = 0.0

    def __post_init__(self) -> None:
        if self.material not in METAL_PER_MM:
            raise InputError(f"no metal '{self.material}'; choose from {', '.join(METAL_PER_MM)}")
        if not (self.length_mm > 0 and self.radius_mm > 0 and 0 <= self.cone_mm < self.length_mm):
            raise InputError("a needle needs a length and a radius over 0 and a cone shorter than itself")
        if not np.linalg.norm(self.direction) > 0:
            raise InputError("a needle's direction must not be zero")

    def cloud(self) -> tuple[np.ndarray, float]:
        """(n, 3) RAS mm evenly through the metal, and the volume (mm3) that each point stands for."""
        steps = max(3, int(np.ceil(2.0 * self.radius_mm / POINT_MM)))
        cell = 2.0 * self.radius_mm / steps
        side = (np.arange(steps) + 0.5) * cell - self.radius_mm
        a, b = (g.ravel() for g in np.meshgrid(side, side))
        radius = np.hypot(a, b)
        inside = radius <= self.radius_mm
        count = int(np.ceil(self.length_mm / POINT_MM))
        s = -(np.arange(count) + 0.5) * self.length_mm / count
        d, u, v = self.axes()
        axis = np.asarray(self.tip, float) + np.outer(s, d) + np.outer(self._bow(s), u)
        points = axis[:, None] + (np.outer(a[inside], u) + np.outer(b[inside], v))[None]
        piece = np.pi * self.radius_mm**2 / inside.sum() * self.length_mm / count
        if not self.cone_mm:
            return points.reshape(-1, 3), piece
        keep = radius[inside][None] <= self.radius_mm * np.minimum(1.0, -s[:, None] / self.cone_mm)
        return points[keep], piece


def paint_needle_ct(volume: Volume, tip: np.ndarray, direction: np.ndarray, length_mm: float = 120.0,
                    radius_mm: float = 0.75, bend_mm: float = 0.0, **options) -> Volume:
    """One needle; see PaintedNeedle for the needle and paint_needles_ct for psf_mm, streaks, noise and seed."""
    scan = {key: options.pop(key) for key in ("psf_mm", "streaks", "noise", "seed", "clip_hu") if key in options}
    return paint_needles_ct(volume, [PaintedNeedle(np.asarray(tip, float), np.asarray(direction, float), length_mm,
                                                   radius_mm, bend_mm, **options)], **scan)


def paint_needles_ct(volume: Volume, needles: Sequence[PaintedNeedle], *, psf_mm: float | None = None,
                     streaks: bool = True, noise: bool = True, seed: int = 0, clip_hu: float = 3071.0) -> Volume:
    """The CT as it would look with these needles in it.

    Args:
        volume: real CT in HU, slices along k.
        psf_mm: sigma of the scan's blur in the plane; None measures it (`scan_psf_mm`). Across slices the blur is the
            slice itself.
        streaks: beam hardening; noise: of the photons that the metal leaves (only with streaks).
        clip_hu: the scanner's highest value.
    Returns: float32 volume on the same grid. Without a needle: the input, clipped.
    Raises: InputError for shapes that can't be.
    """
    array = volume.array.astype(np.float32, copy=True)
    width = scan_psf_mm(volume) if psf_mm is None else float(psf_mm)
    clouds = [(n.material, *n.cloud()) for n in needles]
    for material, points, piece in clouds:
        linear = 1000.0 * (_effective(METAL_PER_MM[material]) / _effective(WATER_PER_MM) - 1.0)
        _add_metal(array, volume, points, piece, linear, width)
    if streaks and clouds:
        _add_artefacts(array, volume, clouds, np.random.default_rng(seed) if noise else None)
    return volume.with_array(np.minimum(array, np.float32(clip_hu)))


def scan_psf_mm(volume: Volume) -> float:
    """Sigma (mm) of the blur in the plane, from the sharpest edges between air and skin.

    An edge of height h blurred by sigma has the slope h / (sigma sqrt(2 pi)); the steepest tenth of the skin's pixels
    is taken. The pixel (its width / sqrt(12)) is part of the result. 0.8 pixel where there is no skin.
    """
    pixel = float(np.mean(volume.spacing_mm[:2]))
    sigma = []
    for k in np.linspace(0, volume.array.shape[0] - 1, 9).astype(int):
        plane = np.clip(volume.array[k].astype(np.float32), -1000.0, 100.0)
        high, low = ndimage.maximum_filter(plane, 7), ndimage.minimum_filter(plane, 7)
        rows, columns = np.gradient(plane, pixel)
        slope = np.hypot(rows, columns)
        edge = (low < -950.0) & (high > -50.0) & (np.abs(plane + 450.0) < 200.0)
        if edge.sum() > 50:
            sigma.append(float(np.percentile((high - low)[edge] / (np.sqrt(2 * np.pi) * slope[edge]), 10)))
    return float(np.clip(np.median(sigma), 0.5 * pixel, 2.5 * pixel)) if sigma else 0.8 * pixel


def _effective(per_mm: np.ndarray) -> float:
    """One attenuation for both energies: what thin layers show."""
    return float(SPECTRUM @ per_mm)


def _add_metal(array: np.ndarray, volume: Volume, points: np.ndarray, piece: float, linear_hu: float,
               width: float) -> None:
    """Metal instead of tissue, blurred; partial volumes by construction. Works on `array` in place."""
    index = volume.grid.indices_kji(points)
    fine = np.array([max(1, int(np.ceil(volume.spacing_mm[2] / 0.5))), 3, 3])
    margin = np.ceil(4.0 * width / volume.spacing_mm[:2].min()) + 2
    low = np.maximum(np.floor(index.min(axis=0)) - [2, margin, margin], 0).astype(int)
    high = np.minimum(np.ceil(index.max(axis=0)) + [3, margin + 1, margin + 1], volume.array.shape).astype(int)
    if (high <= low).any():
        return
    shape = (high - low) * fine
    cell = np.floor((index - low + 0.5) * fine).astype(int)
    cell = cell[((cell >= 0) & (cell < shape)).all(axis=1)]
    filled = np.bincount(np.ravel_multi_index(tuple(cell.T), tuple(shape)), minlength=int(np.prod(shape)))
    part = filled.reshape(shape).astype(np.float32)
    part = part.reshape(high[0] - low[0], fine[0], shape[1], shape[2]).sum(axis=1)
    blur = np.sqrt(np.maximum((width / volume.spacing_mm[1::-1]) ** 2 - 1.0 / 12.0, 0.04))
    part = ndimage.gaussian_filter(part, (0.0, blur[0] * 3, blur[1] * 3), truncate=5.0)
    part = part.reshape(high[0] - low[0], high[1] - low[1], 3, high[2] - low[2], 3).sum(axis=(2, 4))
    part *= piece / (1000.0 * volume.grid.voxel_volume_ml)
    window = array[low[0]:high[0], low[1]:high[1], low[2]:high[2]]
    window += part * (linear_hu - np.clip(window, -1000.0, 200.0))


def _add_artefacts(array, volume: Volume, clouds, rng) -> None:
    """Reconstructed difference between what the scanner measures and what a linear one would, slice by slice."""
    shape, spacing = volume.array.shape, volume.spacing_mm
    cells = []
    for material, points, piece in clouds:
        index = volume.grid.indices_kji(points)
        cells.append((material, np.rint(index[:, 0]).astype(int), index[:, 2] * spacing[0], index[:, 1] * spacing[1],
                      piece / spacing[2]))
    slices = np.unique(np.concatenate([k for _, k, *_ in cells]))
    slices = slices[(slices >= 0) & (slices < shape[0])]
    if not len(slices):
        return
    size = np.array([shape[2] * spacing[0], shape[1] * spacing[1]])
    reach = 0.5 * float(np.hypot(*size)) + 4.0
    bins = 2 * int(np.ceil(reach / BIN_MM)) + 1
    angles = np.arange(VIEWS) * np.pi / VIEWS
    middle = (size - spacing[:2]) / 2.0
    water = _water_path(volume.array[slices], spacing, angles, bins, middle)
    metal = {name: np.zeros_like(water) for name in METAL_PER_MM}
    for material, k, x, y, area in cells:
        for row, wanted in enumerate(slices):
            here = k == wanted
            metal[material][row] += _paths(x[here] - middle[0], y[here] - middle[1], area, angles, bins)
    error = _measured(water, metal, rng) - water - sum(
        metal[m] * _effective(METAL_PER_MM[m]) / _effective(WATER_PER_MM) for m in metal)
    _back_project(array, slices, error, spacing, angles, middle)


def _paths(x, y, area: float, angles, bins: int) -> np.ndarray:
    """(views, bins) mm of metal on each ray, from points (mm) that stand for `area` mm2 of the slice each."""
    out = np.empty((len(angles), bins), np.float32)
    for row, angle in zip(out, angles, strict=True):
        t = (x * np.cos(angle) + y * np.sin(angle)) / BIN_MM + bins // 2
        low = np.floor(t).astype(int)
        part = t - low
        sums = np.bincount(np.clip(low, 0, bins - 1), 1.0 - part, bins)
        row[:] = sums + np.bincount(np.clip(low + 1, 0, bins - 1), part, bins)
    return ndimage.gaussian_filter1d(out, 0.5, axis=1) * (area / BIN_MM)


def _water_path(planes: np.ndarray, spacing, angles, bins: int, middle) -> np.ndarray:
    """(slices, views, bins) mm of water on each ray, from the patient on cells of about 3 mm: it is smooth."""
    step = [max(1, round(COARSE_MM / s)) for s in spacing[1::-1]]
    rows, columns = (n // s for n, s in zip(planes.shape[1:], step, strict=True))
    cut = planes[:, :rows * step[0], :columns * step[1]]
    coarse = np.clip(cut.reshape(len(planes), rows, step[0], columns, step[1]).mean(axis=(2, 4)), -1000.0, 2000.0)
    density = (coarse / 1000.0 + 1.0).reshape(len(planes), -1)
    y = ((np.arange(rows) + 0.5) * step[0] - 0.5) * spacing[1] - middle[1]
    x = ((np.arange(columns) + 0.5) * step[1] - 0.5) * spacing[0] - middle[0]
    y, x = (g.ravel() for g in np.meshgrid(y, x, indexing="ij"))
    area = step[0] * step[1] * spacing[0] * spacing[1]
    out = np.empty((len(planes), len(angles), bins), np.float32)
    for a, angle in enumerate(angles):
        t = (x * np.cos(angle) + y * np.sin(angle)) / BIN_MM + bins // 2
        cell = np.clip(np.rint(t).astype(int), 0, bins - 1)
        for n in range(len(planes)):
            out[n, a] = np.bincount(cell, density[n], bins)
    return ndimage.gaussian_filter1d(out, 0.5 * COARSE_MM / BIN_MM, axis=2) * (area / BIN_MM)


def _measured(water: np.ndarray, metal: dict[str, np.ndarray], rng) -> np.ndarray:
    """Water path (mm) that the scanner reads from two energies, its water correction applied."""
    left = np.zeros_like(water)
    for energy, part in enumerate(SPECTRUM):
        depth = water * WATER_PER_MM[energy]
        for name, path in metal.items():
            depth = depth + path * METAL_PER_MM[name][energy]
        left += part * np.exp(-depth)
    if rng is not None:
        touched = sum(metal.values()) > 0.0
        counts = left * PHOTONS
        shaken = rng.poisson(counts).astype(np.float32) + rng.normal(0.0, 2.0, counts.shape).astype(np.float32)
        left = np.where(touched, np.maximum(shaken, FEWEST_PHOTONS) / PHOTONS, left)
    table = np.linspace(0.0, 4000.0, 4001)
    logs = -np.log(np.exp(-np.outer(table, WATER_PER_MM)) @ SPECTRUM)
    return np.interp(-np.log(np.maximum(left, 1e-30)), logs, table).astype(np.float32)


def _back_project(array, slices, error: np.ndarray, spacing, angles, middle) -> None:
    """Adds the filtered back-projection of (slices, views, bins) mm of water to `array`, in HU."""
    bins = error.shape[2]
    padded = 1 << int(np.ceil(np.log2(2 * bins)))
    n = np.fft.fftfreq(padded, 1.0 / padded)
    ramp = np.where(n == 0, 0.25, np.where(n.astype(int) % 2 == 1, -1.0 / np.where(n == 0, 1, np.pi * n) ** 2, 0.0))
    response = np.real(np.fft.fft(ramp)) * (0.5 + 0.5 * np.cos(np.pi * np.fft.fftfreq(padded) * 2.0))
    filtered = np.fft.ifft(np.fft.fft(error, padded, axis=2) * response, axis=2).real[:, :, :bins] / BIN_MM
    filtered = filtered.astype(np.float32) * (1000.0 * np.pi / len(angles))
    skip = 2 if max(spacing[:2]) < 1.0 else 1
    x = np.arange(0, array.shape[2], skip) * spacing[0] - middle[0]
    y = np.arange(0, array.shape[1], skip) * spacing[1] - middle[1]
    sums = np.zeros((len(slices), len(y), len(x)), np.float32)
    for a, angle in enumerate(angles):
        t = (x[None] * np.cos(angle) + y[:, None] * np.sin(angle)) / BIN_MM + bins // 2
        low = np.clip(t.astype(np.int32), 0, bins - 2)
        part = (t - low).astype(np.float32)
        for plane, profile in zip(sums, filtered[:, a], strict=True):
            plane += profile[low] + np.diff(profile)[low] * part
    for plane, k in zip(sums, slices, strict=True):
        if skip == 1:
            array[k] += plane
            continue
        rows, columns = (np.minimum(np.arange(n) / skip, m - 1)
                         for n, m in zip(array.shape[1:], plane.shape, strict=True))
        array[k] += ndimage.map_coordinates(plane, np.meshgrid(rows, columns, indexing="ij"), order=1)
