"""How a simulated scan looks: contrast phase, lesion and zone painted finer than the voxels, scanner noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..geometry import Grid, Transform, Volume, resample
from .shapes import StarShape, Zone
from .source import AIR_HU, Source

EDGE_MM = 0.7
"""Width of the scanner's blur across an edge."""
FINEST_SLICE_MM = 1.25
IN_PLANE_SAMPLES = 2
NOISE_PEAK_PER_MM = 0.28
"""Spatial frequency at which an abdominal kernel's noise is strongest."""

PHASES: dict[str, dict[str, float]] = {
    "arterial": {"organ": 0.0, "vessels": 1.0, "organ_only": 0.0},
    "portal": {"organ": 28.0, "vessels": 1.0, "organ_only": 24.0},
    "native": {"organ": -16.0, "vessels": 0.12, "organ_only": -30.0},
}
"""Change of the organ in HU and of its vessels' contrast as a share, from a late arterial source; `organ_only`
is the change where the source's phase isn't known (no label map)."""

BLOOD: dict[str, dict[tuple[int, ...], float]] = {
    "portal": {(51, 52, 54, 55, 56, 57, 58, 61, 62): 0.34, (1,): 0.62, (2, 3): 0.75, (53,): 0.4},
    "native": {(51, 52, 53, 54, 55, 56, 57, 58, 61, 62, 64): 0.03, (1,): 0.08, (2, 3): 0.05},
}
"""Labels of the wheel's map whose enhancement above 40 HU is multiplied, by phase (the source is arterial)."""


def in_phase(source: Source, phase: str) -> Volume:
    """The clean CT as another contrast phase would show it, HU float32. "arterial" is the wheel's own phase."""
    from scipy import ndimage

    array = source.ct.array
    if phase == "arterial":
        return source.ct
    rule = PHASES[phase]
    width = 1.5 / source.ct.grid.spacing_kji_mm
    outside = resample(source.organ_distance, source.ct.grid, outside=50.0).array
    inside = np.clip(0.5 - outside / 2.0, 0.0, 1.0)
    above = np.maximum(array - source.parenchyma_hu, 0.0)
    change = inside * (rule["organ" if source.labels is not None else "organ_only"] + (rule["vessels"] - 1.0) * above)
    if source.labels is not None:
        for labels, share in BLOOD.get(phase, {}).items():
            region = ndimage.binary_dilation(np.isin(source.labels, labels), iterations=2)
            weight = np.minimum(1.0, 1.3 * ndimage.gaussian_filter(region.astype(np.float32), width)) * (1.0 - inside)
            change += weight * (share - 1.0) * np.maximum(array - 40.0, 0.0)
    return source.ct.with_array((array + change).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Texture:
    """Smooth unevenness: a few plane waves. `__call__`: (n, 3) RAS mm to (n,) about +-1."""

    waves_per_mm: np.ndarray
    phases: np.ndarray

    @classmethod
    def random(cls, rng: np.random.Generator, wavelength_mm: float, count: int = 6) -> Texture:
        waves = rng.standard_normal((count, 3))
        waves *= (2.0 * np.pi / wavelength_mm / np.linalg.norm(waves, axis=1) * rng.uniform(0.6, 1.4, count))[:, None]
        return cls(waves, rng.uniform(0.0, 2.0 * np.pi, count))

    def __call__(self, points_ras: np.ndarray) -> np.ndarray:
        return np.cos(points_ras @ self.waves_per_mm.T + self.phases).sum(axis=1) / np.sqrt(len(self.phases) / 2.0)


@dataclass(frozen=True, eq=False)
class TumorPaint:
    """A tumour in the pre frame: HU beside the organ's, with an uneven inside and, if hypodense, a faint rim."""

    shape: StarShape
    contrast_hu: float
    parenchyma_hu: float
    texture: Texture

    def over(self, points_ras: np.ndarray, below_hu: np.ndarray) -> np.ndarray:
        level = self.shape.level(points_ras)
        value = self.parenchyma_hu + self.contrast_hu + 5.0 * self.texture(points_ras)
        if self.contrast_hu < 0.0:
            value = value - 10.0 * np.clip(-level / self.shape.mean_radius_mm, 0.0, 1.0)
        share = _covered(level)
        return below_hu * (1.0 - share) + value * share


@dataclass(frozen=True, eq=False)
class ZonePaint:
    """An ablation zone in the post frame.

    Coagulated tissue at about 45 HU whatever the phase, a denser core along the antenna, the tumour as a ghost, gas
    bubbles, and outside it a thin hyperaemic rim (Radiology criteria for tumour ablation, Ahmed 2014).
    """

    zone: Zone
    antenna: np.ndarray
    texture: Texture
    bubbles_ras: np.ndarray
    bubble_radii_mm: np.ndarray
    rim_hu: float
    ghost: Callable[[np.ndarray], np.ndarray]
    base_hu: float = 44.0
    core_hu: float = 34.0

    def over(self, points_ras: np.ndarray, below_hu: np.ndarray) -> np.ndarray:
        level = self.zone.level(points_ras)
        away = points_ras - self.zone.star.centre_ras
        along = away @ self.antenna
        aside = np.sqrt(np.maximum((away**2).sum(axis=1) - along**2, 0.0))
        radius = self.zone.star.mean_radius_mm
        value = self.base_hu + 6.0 * self.texture(points_ras) + self.ghost(points_ras)
        value = value + self.core_hu * np.exp(-0.5 * (aside / (0.22 * radius))**2 - 0.5 * (along / (0.55 * radius))**2)
        for centre, size in zip(self.bubbles_ras, self.bubble_radii_mm, strict=True):
            gas = _covered(np.linalg.norm(points_ras - centre, axis=1) - size)
            value = value * (1.0 - gas) - 450.0 * gas
        rim = self.rim_hu * np.exp(-0.5 * ((level - 1.5) / 1.2) ** 2)
        if self.zone.outside_organ_mm is not None:
            rim = rim * _covered(self.zone.outside_organ_mm(points_ras) + 1.0)
        share = _covered(level)
        return (below_hu + rim) * (1.0 - share) + (value + 0.1 * (below_hu - self.base_hu)) * share

    @property
    def reach_mm(self) -> float:
        return self.zone.star.reach_mm + 6.0


def _covered(level_mm: np.ndarray) -> np.ndarray:
    return np.clip(0.5 - level_mm / (2.0 * EDGE_MM), 0.0, 1.0)


def scan(tissue: Volume, grid: Grid, tissue_from_scan: Transform | None,
         paints: list[tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], np.ndarray, float]]) -> np.ndarray:
    """(k, j, i) float32 HU, noise-free: the tissue moved and painted, averaged over every slice's thickness.

    Args:
        tissue: clean CT.
        grid: voxels of the scan; contiguous slices.
        tissue_from_scan: where the tissue at a point of the scan is found, or None.
        paints: (over(points_ras, below_hu), (3,) centre in the scan's frame, reach in mm), bottom layer first.
    """
    step = grid.spacing_mm[2]
    count = max(1, int(np.ceil(step / FINEST_SLICE_MM)))
    mean = np.zeros(grid.shape, np.float32)
    for n in range(count):
        shifted = _shifted(grid, np.array([(n + 0.5) / count - 0.5, 0.0, 0.0]))
        part = resample(tissue, shifted, tissue_from_scan, interpolation="cubic", outside=AIR_HU).array
        for over, centre, reach in paints:
            _paint(part, shifted, over, centre, reach, step / count)
        mean += part
    return mean / count


def _shifted(grid: Grid, by_kji: np.ndarray) -> Grid:
    matrix = grid.ras_from_ijk.copy()
    matrix[:3, 3] = grid.points_ras(by_kji[None])[0]
    return Grid(grid.shape, matrix)


def _paint(array: np.ndarray, grid: Grid, over, centre: np.ndarray, reach: float, thickness_mm: float) -> None:
    """Paint into `array` in place, each voxel sampled 2 x 2 in its plane and up to twice along the slice."""
    middle = grid.indices_kji(centre[None])[0]
    half = (reach + 2.0) / grid.spacing_kji_mm
    low = np.maximum(np.floor(middle - half).astype(int), 0)
    high = np.minimum(np.ceil(middle + half).astype(int) + 1, grid.shape)
    if (low >= high).any():
        return
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    box = grid.cropped_grid(tuple(low), tuple(high - low))
    points = box.all_points_ras().reshape(-1, 3)
    near = ((points - centre) ** 2).sum(axis=1) < (reach + 2.0) ** 2
    points, below = points[near], array[window].ravel()[near]
    offsets = (np.arange(IN_PLANE_SAMPLES) + 0.5) / IN_PLANE_SAMPLES - 0.5
    through = [-0.25, 0.25] if thickness_mm > 0.8 else [0.0]
    i_axis, j_axis, k_axis = (grid.ras_from_ijk[:3, a] for a in range(3))
    k_axis = k_axis / np.linalg.norm(k_axis) * thickness_mm
    steps = [di * i_axis + dj * j_axis + dk * k_axis for dk in through for dj in offsets for di in offsets]
    painted = array[window].ravel()
    painted[near] = np.mean([over(points + step, below) for step in steps], axis=0)
    array[window] = painted.reshape(box.shape)


def ct_noise(rng: np.random.Generator, grid: Grid, sigma_hu: float) -> np.ndarray:
    """(k, j, i) float32 noise of standard deviation `sigma_hu` with a CT's grain.

    In the plane the spectrum rises with frequency and falls off above the kernel's peak (filtered back-projection);
    slices closer than 2 mm share part of it.
    """
    from scipy import ndimage

    dj, di = grid.spacing_kji_mm[1:]
    f = np.hypot(np.fft.fftfreq(grid.shape[1], dj)[:, None], np.fft.rfftfreq(grid.shape[2], di)[None])
    amplitude = np.sqrt(f * np.exp(-((f / NOISE_PEAK_PER_MM) ** 2)) + 0.002)
    out = np.empty(grid.shape, np.float32)
    for k in range(grid.shape[0]):
        white = rng.standard_normal(grid.shape[1:]).astype(np.float32)
        out[k] = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=grid.shape[1:])
    width = 0.6 / float(grid.spacing_kji_mm[0])
    if width > 0.25:
        out = ndimage.gaussian_filter1d(out, width, axis=0, mode="wrap")
    return out * (sigma_hu / max(float(out.std()), 1e-6))


def with_noise(clean: np.ndarray, grid: Grid, rng: np.random.Generator, sigma_hu: float) -> np.ndarray:
    """(k, j, i) int16 HU: noise strongest in the middle of the body, a third of it in air."""
    from scipy import ndimage

    coarse = np.asarray(ndimage.zoom((clean > -300.0).astype(np.float32), (1, 0.25, 0.25), order=0))
    depth = ndimage.gaussian_filter(coarse, (0, 6, 6))
    strength = np.asarray(ndimage.zoom(depth, np.array(clean.shape) / np.array(depth.shape), order=1))
    scale = 0.35 + 0.65 * np.minimum(np.maximum(strength, 0.0), 1.0)
    return np.clip(np.round(clean + scale * ct_noise(rng, grid, sigma_hu)), -1024, 3071).astype(np.int16)
