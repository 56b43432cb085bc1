"""Beam grid of linear and curved probes, and where it lies in the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .simulator_domain import Domain, draw

SAMPLES, LINES = 288, 144  # of one frame before scan conversion
MARGIN_SAMPLES, MARGIN_LINES = 20, 10  # tissue beyond the frame, for motion
MAX_MM_PER_PX = 0.36  # coarser only where the field of view fills the picture
FRAME_SIZES = ((640, 480), (820, 616), (800, 600), (1280, 960), (512, 512), (1024, 768), (640, 480), (720, 576))


@dataclass(frozen=True)
class BeamGeometry:
    """Sampling of a probe: sample index along the beam, line index across.

    Points are (x, z) mm: x across, z = 0 at the middle of the probe's face, growing with depth. A linear probe has
    `radius_mm` = 0 and `half_width` in mm; a curved one has its face's radius and `half_width` in radians.
    """

    depth_mm: float
    half_width: float
    radius_mm: float = 0.0

    @property
    def curved(self) -> bool:
        return self.radius_mm > 0

    def beam_from_mm(self, x, z) -> tuple[np.ndarray, np.ndarray]:
        """(sample, line), fractional, of points in mm."""
        x, z = np.asarray(x, float), np.asarray(z, float)
        if self.curved:
            x, z = np.arctan2(x, z + self.radius_mm), np.hypot(x, z + self.radius_mm) - self.radius_mm
        return z / self.depth_mm * (SAMPLES - 1), (x / self.half_width + 1) / 2 * (LINES - 1)

    def mm_from_beam(self, sample, line) -> tuple[np.ndarray, np.ndarray]:
        """(x, z) mm of fractional samples and lines."""
        z = np.asarray(sample, float) / (SAMPLES - 1) * self.depth_mm
        x = (np.asarray(line, float) / (LINES - 1) * 2 - 1) * self.half_width
        if self.curved:
            return (z + self.radius_mm) * np.sin(x), (z + self.radius_mm) * np.cos(x) - self.radius_mm
        return x, z

    def inside(self, x, z) -> np.ndarray:
        """Whether points lie in the field of view."""
        sample, line = self.beam_from_mm(x, z)
        return (sample >= 0) & (sample <= SAMPLES - 1) & (line >= 0) & (line <= LINES - 1)

    def beam_angle(self, x, z) -> np.ndarray:
        """Angle (radians) between the beam through a point and the z axis."""
        if not self.curved:
            return np.zeros(np.shape(x))
        return np.arctan2(np.asarray(x, float), np.asarray(z, float) + self.radius_mm)

    def extent_mm(self) -> tuple[float, float, float]:
        """(half width, least z, greatest z) of the field of view."""
        if not self.curved:
            return self.half_width, 0.0, self.depth_mm
        half = (self.radius_mm + self.depth_mm) * np.sin(min(self.half_width, np.pi / 2))
        return float(half), float(self.radius_mm * (np.cos(self.half_width) - 1)), self.depth_mm

    def sample_mm(self) -> float:
        return self.depth_mm / (SAMPLES - 1)

    def line_mm(self, z: float | np.ndarray) -> np.ndarray:
        """Distance between neighbouring lines at depth `z`, mm."""
        step = 2 * self.half_width / (LINES - 1)
        return np.asarray(step * (self.radius_mm + np.asarray(z, float)) if self.curved else step + 0.0 * np.asarray(z))


@dataclass(frozen=True)
class Layout:
    """The picture: size in pixels, scale, and the pixel at which the middle of the probe's face lies."""

    width: int
    height: int
    mm_per_px: float
    origin_px: tuple[float, float]

    def px_from_mm(self, x, z) -> np.ndarray:
        """(..., 2) pixels (x, y)."""
        return np.stack([np.asarray(x) / self.mm_per_px + self.origin_px[0],
                         np.asarray(z) / self.mm_per_px + self.origin_px[1]], -1)

    def resized(self, width: int, height: int) -> Layout:
        """The same picture fitted into (width, height) with its proportions kept, centred."""
        factor, shift = letterbox((self.height, self.width), (height, width))
        origin = tuple((value + 0.5) * factor - 0.5 + off for value, off in zip(self.origin_px, shift, strict=True))
        return Layout(width, height, self.mm_per_px / factor, (origin[0], origin[1]))


def letterbox(shape: tuple[int, int], target: tuple[int, int]) -> tuple[float, tuple[float, float]]:
    """(factor, (shift x, shift y)): how a picture of `shape` (h, w) lies in `target` (h, w), proportions kept.

    A pixel centre p goes to (p + 0.5) * factor - 0.5 + shift.
    """
    factor = min(target[0] / shape[0], target[1] / shape[1])
    return factor, ((target[1] - round(shape[1] * factor)) // 2, (target[0] - round(shape[0] * factor)) // 2)


def random_geometry(rng: np.random.Generator) -> BeamGeometry:
    """A linear (55 %), curved (35 %) or phased-array (10 %) probe."""
    kind = rng.random()
    if kind < 0.55:
        depth = draw(rng, (22, 80))
        return BeamGeometry(depth, draw(rng, (11, 28)))
    if kind < 0.90:
        return BeamGeometry(draw(rng, (50, 140)), np.radians(draw(rng, (22, 35))), draw(rng, (30, 65)))
    return BeamGeometry(draw(rng, (70, 150)), np.radians(draw(rng, (30, 44))), draw(rng, (2, 12)))


def random_layout(rng: np.random.Generator, geometry: BeamGeometry, size: tuple[int, int] | None = None) -> Layout:
    """The field of view in a picture: filling it, or with room for a user interface."""
    width, height = size or FRAME_SIZES[int(rng.integers(len(FRAME_SIZES)))]
    half, top, bottom = geometry.extent_mm()
    fill = draw(rng, (0.93, 1.0)) if rng.random() < 0.55 else draw(rng, (0.62, 0.93))
    scale = max(2 * half / width, (bottom - top) / height)
    scale /= fill if scale / fill < MAX_MM_PER_PX else 1.0
    free_x, free_y = width - 2 * half / scale, height - (bottom - top) / scale
    left, above = free_x * draw(rng, (0.3, 0.7)), free_y * draw(rng, (0.2, 0.8))
    return Layout(width, height, float(scale), (float(left + half / scale), float(above - top / scale)))


class ScanConverter:
    """Bilinear beam-to-picture map, made once a sequence.

    `convert` takes (SAMPLES, LINES) and gives (height, width); outside the field of view it gives 0.
    """

    def __init__(self, geometry: BeamGeometry, layout: Layout):
        y, x = np.mgrid[0:layout.height, 0:layout.width].astype(np.float32)
        sample, line = geometry.beam_from_mm((x - layout.origin_px[0]) * layout.mm_per_px,
                                             (y - layout.origin_px[1]) * layout.mm_per_px)
        self.shape = (layout.height, layout.width)
        self.mask = (sample >= 0) & (sample <= SAMPLES - 1.001) & (line >= 0) & (line <= LINES - 1.001)
        sample, line = sample[self.mask], line[self.mask]
        row, column = sample.astype(np.int32), line.astype(np.int32)
        self._index = row * LINES + column
        self._down, self._right = (sample - row).astype(np.float32), (line - column).astype(np.float32)

    def convert(self, beam: np.ndarray) -> np.ndarray:
        flat, i = beam.ravel(), self._index
        upper = flat[i] * (1 - self._right) + flat[i + 1] * self._right
        lower = flat[i + LINES] * (1 - self._right) + flat[i + LINES + 1] * self._right
        picture = np.zeros(self.shape, np.float32)
        picture[self.mask] = upper * (1 - self._down) + lower * self._down
        return picture


def psf_samples(geometry: BeamGeometry, domain: Domain, rng: np.random.Generator) -> tuple[float, float, float]:
    """(axial sigma in samples, lateral sigma in lines in focus, the same far from focus)."""
    depth_factor = np.sqrt(geometry.depth_mm / 40.0)
    axial_mm = draw(rng, domain.axial_mm) * depth_factor
    lateral_mm = axial_mm * draw(rng, domain.lateral_ratio)
    focus = geometry.line_mm(0.4 * geometry.depth_mm)
    axial = max(axial_mm / geometry.sample_mm(), 0.6)
    lateral = float(np.clip(lateral_mm / focus, 0.7, 5.0))
    return axial, lateral, float(np.clip(lateral * draw(rng, (1.2, 2.6)), 0.8, 8.0))
