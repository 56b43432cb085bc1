"""Which values belong to the lesion, which to what surrounds it: learned from the clicks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .rays import Rays, boundary_radii

CLICK_RADIUS_MM = 2.5
EVIDENCE_LIMIT = 3.0
BEYOND_THE_IMAGE = -0.05
INSIDE_SHARES, OUTSIDE_SHARES = (0.1, 0.5), (0.08, 0.25)
HETEROGENEITY = 2.0
OTHER_SIGMAS = 3.0
"""A value between the two tissues, but this many spreads from the lesion, is a third tissue as well."""
OTHER_TISSUE = 0.9
"""A value further from the lesion than this many contrasts, on either side, is another tissue (fat, air, bone)."""
STEP_WIDTH_MM, STEEPNESS = 2.0, 3.0
"""A step between two tissues is blurred over about this width; how much each contrast above it counts."""
SEED_EVIDENCE, SEED_RADIUS_MM = 12.0, 1.5


@dataclass(frozen=True)
class Tissue:
    """Two classes in the image's own unit.

    Attributes:
        inside, outside: medians. inside_spread, outside_spread: robust standard deviations.
    """

    inside: float
    inside_spread: float
    outside: float
    outside_spread: float

    @property
    def contrast(self) -> float:
        return abs(self.inside - self.outside)

    @property
    def spreads(self) -> tuple[float, float]:
        """Inside and outside standard deviation, held within shares of the contrast so that no class wins all."""
        c = max(self.contrast, 1e-6)
        inside = HETEROGENEITY * self.inside_spread
        return (float(np.clip(inside, INSIDE_SHARES[0] * c, INSIDE_SHARES[1] * c)),
                float(np.clip(self.outside_spread, OUTSIDE_SHARES[0] * c, OUTSIDE_SHARES[1] * c)))

    def evidence(self, values: np.ndarray, slope_per_mm: np.ndarray | None = None) -> np.ndarray:
        """Log-likelihood ratio inside : outside, clipped to +-`EVIDENCE_LIMIT`; nan (beyond the image) says
        next to nothing.

        A slope much steeper than the step between the two classes is the partial volume of a third tissue
        (the capsule between liver and fat passes through the lesion's values), and counts against.
        """
        s_in, s_out = self.spreads
        inside = -0.5 * ((values - self.inside) / s_in) ** 2 - np.log(s_in)
        outside = -0.5 * ((values - self.outside) / s_out) ** 2 - np.log(s_out)
        far_limit = OTHER_TISSUE * self.contrast / s_in
        between = (values - self.inside) * (self.outside - self.inside) > 0
        limit = np.where(between, min(far_limit, OTHER_SIGMAS), far_limit)
        other = -0.5 * limit**2 - np.log(s_in)
        if slope_per_mm is not None:
            excess = slope_per_mm * STEP_WIDTH_MM / max(self.contrast, 1e-6) - 1.0
            other = other + STEEPNESS * np.clip(excess, 0.0, 2.0)
        ratio = np.clip(inside - np.maximum(outside, other), -EVIDENCE_LIMIT, EVIDENCE_LIMIT)
        return np.nan_to_num(ratio, nan=BEYOND_THE_IMAGE).astype(np.float32)

    def relearned(self, rays: Rays, radii_mm: np.ndarray, *, careful: bool) -> Tissue:
        """The classes again, from the samples in and round a first surface.

        The ring only takes values nearer to the known outside than to the lesion, so that neighbouring
        lesions and fat don't enter.
        """
        t, r = rays.distances_mm[None, :], radii_mm[:, None]
        core = rays.values[(t > 0.5 * r) & (t < 0.9 * r) & np.isfinite(rays.values)]
        ring = rays.values[(t > r + 1.5) & (t < r + np.maximum(4.0, 0.4 * r)) & np.isfinite(rays.values)]
        new = self
        if len(core) > 50:
            middle, spread = median_and_spread(core)
            new = replace(new, inside=0.5 * (middle + self.inside) if careful else middle, inside_spread=spread)
        ring = ring[np.abs(ring - self.outside) < max(0.5 * self.contrast, 2.0 * self.outside_spread)]
        if len(ring) > 200:
            middle, spread = median_and_spread(ring)
            new = replace(new, outside=middle, outside_spread=spread)
        keeps_sign = (new.inside - new.outside) * (self.inside - self.outside) > 0
        return new if keeps_sign and new.contrast > 0.4 * self.contrast else self


def median_and_spread(values: np.ndarray) -> tuple[float, float]:
    """Median and the standard deviation that the median absolute deviation stands for."""
    middle = float(np.median(values))
    return middle, float(1.4826 * np.median(np.abs(values - middle)))


def values_near(image: np.ndarray, spacing_kji_mm: np.ndarray, points_mm: np.ndarray,
                radius_mm: float = CLICK_RADIUS_MM) -> np.ndarray:
    """Voxels of `image` (k, j, i) within `radius_mm` (or just over a voxel) of any of the (n, 3) k j i mm points."""
    radius = max(radius_mm, 1.1 * float(np.min(spacing_kji_mm)))
    out = []
    for point in points_mm:
        low = np.maximum(np.ceil((point - radius) / spacing_kji_mm), 0).astype(int)
        high = np.minimum(np.floor((point + radius) / spacing_kji_mm) + 1, image.shape).astype(int)
        low = np.minimum(low, np.minimum(np.round(point / spacing_kji_mm).astype(int), np.array(image.shape) - 1))
        high = np.maximum(high, low + 1)
        window = image[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        axes = [np.arange(a, b) * s - p for a, b, s, p in zip(low, high, spacing_kji_mm, point, strict=True)]
        k, j, i = np.meshgrid(*axes, indexing="ij", sparse=True)
        ball = k * k + j * j + i * i <= radius**2
        out.append(window[ball] if ball.any() else window.ravel())
    return np.concatenate(out)


def guess_outside(rays: Rays, inside: float, inside_spread: float, smallest_mm: float) -> Tissue:
    """The surrounding tissue when nobody clicked it: the peak of the histogram round the click that gives the
    surface with the clearest step.

    Candidates are the histogram's peaks that differ from the inside; each is tried, and scored by the step
    across its surface, median over all rays, in units of its spread over the rays.
    """
    values = rays.values[np.isfinite(rays.values)]
    low, high = np.percentile(values, [1, 99])
    floor = max(1.5 * inside_spread, 0.02 * (high - low), 1e-3)
    best, best_score = Tissue(inside, inside_spread, inside - floor, inside_spread), -np.inf
    for peak in _histogram_peaks(values, low, high):
        if abs(peak - inside) < floor:
            continue
        tissue = Tissue(inside, inside_spread, peak, inside_spread)
        for _ in range(2):
            radii = boundary_radii(tissue.evidence(rays.values), rays.distances_mm, smallest_mm)
            tissue = tissue.relearned(rays, radii, careful=True)
        score = _step_score(rays, radii)
        if score > best_score:
            best, best_score = tissue, score
    return best


def _histogram_peaks(values: np.ndarray, low: float, high: float) -> list[float]:
    from scipy import ndimage

    counts, edges = np.histogram(values, bins=96, range=(low, max(high, low + 1e-3)))
    smooth = ndimage.gaussian_filter1d(counts.astype(float), 2.0, mode="nearest")
    top = (smooth == ndimage.maximum_filter1d(smooth, 9)) & (smooth > 0.01 * smooth.sum() / 3.0)
    order = np.argsort(-smooth[top])[:5]
    return [float(p) for p in (0.5 * (edges[:-1] + edges[1:]))[top][order]]


def _step_score(rays: Rays, radii_mm: np.ndarray) -> float:
    """How clear the step across a surface is: its median over the rays against its spread."""
    t, r = rays.distances_mm[None, :], radii_mm[:, None]
    inner = np.nanmean(np.where((t > 0.5 * r) & (t < r - 0.5) | (t < 1.0), rays.values, np.nan), axis=1)
    outer_zone = (t > r + 1.0) & (t < r + 4.0)
    has = np.isfinite(np.where(outer_zone, rays.values, np.nan)).any(axis=1)
    if has.mean() < 0.5:
        return -np.inf
    outer = np.nanmean(np.where(outer_zone[has], rays.values[has], np.nan), axis=1)
    middle, spread = median_and_spread(outer - inner[has])
    return abs(middle) / max(spread, 0.1 * abs(middle), 1e-6)
