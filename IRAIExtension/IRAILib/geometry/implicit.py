"""The surface that a mask stands for, between and beyond its voxels.

A mask says only which voxel centres are inside. The surface runs somewhere between an inside voxel and its
outside neighbour; along an axis with spacing h every place in that interval is equally likely, so the middle has
the standard deviation h |n.e| / sqrt(12), n being the surface normal and e the axis. The surface returned is
the zero level of the smoothest function (third derivatives penalised) that agrees with those intervals, found by
trying strong smoothing first. Quadrics are never punished: a sphere cut into 5 mm slices comes back as a sphere.
Measured in Docs/benchmarks.md, section "Margin".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .distance import euclidean_distance_mm
from .spline import SplineLattice
from .surface import Surface
from .threads import single_blas_thread
from .volume import Grid, Mask

SMOOTHNESS = (1e3, 1e2, 1e1, 1e0)
"""Tried in this order until the function agrees with the voxels."""
KNOTS_ACROSS = (4, 7, 11)
"""Knots over the longest side of the mask, coarse first."""
SMALLEST_KNOT_MM = 2.5
PADDING_MM = 4.0
DISAGREEMENT = 0.25
"""Largest 99th percentile of how far voxel centres lie on the wrong side, in units of the smallest spacing."""
ANCHOR_CELL_MM = 2.5
"""One rough depth is kept in every cell of this size."""


@dataclass(frozen=True, eq=False)
class ImplicitSurface:
    """A smooth function, negative inside, whose zero level is the structure's surface.

    Attributes:
        grid: the mask's grid; lattice coordinates are (k, j, i) index times spacing.
        lattice: the spline.
        disagreement_mm: 99th percentile of how far voxel centres next to the surface lie on its wrong side.
        agrees: False when even the finest knots couldn't follow the mask; use with care.
    """

    grid: Grid
    lattice: SplineLattice
    disagreement_mm: float
    agrees: bool

    def _local(self, points_ras: np.ndarray) -> np.ndarray:
        return self.grid.indices_kji(points_ras) * self.grid.spacing_kji_mm

    def value(self, points_ras: np.ndarray) -> np.ndarray:
        """(n,) function at (n, 3) RAS mm: about the signed distance in mm near the surface, only a sign afar.

        Points outside the spline's box are positive.
        """
        local = self._local(points_ras)
        low, high = self.lattice.low_mm, self.lattice.low_mm + (self.lattice.knots - 1) * self.lattice.knot_mm
        outside = np.maximum(low - local, local - high).max(axis=1)
        return np.where(outside > 0.0, np.maximum(outside, PADDING_MM), self.lattice.value(local))

    def sigma_mm(self, points_ras: np.ndarray) -> np.ndarray:
        """(n,) 1-sigma error of the surface's position along its normal that the voxel size causes; mm.

        For tens of points (a solve each).
        """
        local = self._local(points_ras)
        slope = np.linalg.norm(self.lattice.gradient(local), axis=1)
        return self.lattice.standard_deviation(local) / np.maximum(slope, 0.2)

    def surface(self, step_mm: float = 1.0) -> Surface:
        """Triangles of the zero level, RAS mm, normals outward; at most `step_mm` coarse."""
        from skimage import measure

        field = self.lattice.on_lattice(step_mm)
        points, triangles, _, _ = measure.marching_cubes(field, 0.0, gradient_direction="ascent")
        local = points.astype(np.float64) * step_mm + self.lattice.low_mm
        value = self.lattice.value(local)
        slope = self.lattice.gradient(local, value)
        step = value / np.maximum((slope**2).sum(axis=1), 0.04)
        local -= np.clip(step, -0.3, 0.3)[:, None] * slope
        surface = Surface(self.grid.points_ras(local / self.grid.spacing_kji_mm), triangles.astype(np.int64))
        return surface if surface.volume_ml() >= 0.0 else Surface(surface.points, surface.triangles[:, ::-1])


def implicit_surface(mask: Mask) -> ImplicitSurface:
    """The smoothest surface that agrees with a mask.

    Args:
        mask: any spacing; axes must be orthogonal. Several components and holes are kept.
    Raises: EmptyMaskError.
    """
    start, shape = mask.require_not_empty().bounding_box_kji()
    spacing = mask.grid.spacing_kji_mm
    pad = np.ceil((PADDING_MM + spacing.max()) / spacing).astype(int) + 1
    box = np.pad(mask.array[tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))],
                 [(int(p), int(p)) for p in pad])
    origin = (np.array(start) - pad) * spacing
    data = _Data(box, spacing, origin)
    longest = float((np.array(shape) * spacing).max())
    low = (np.array(start) - 0.5) * spacing - PADDING_MM
    extent = np.array(shape) * spacing + 2 * PADDING_MM
    with single_blas_thread():
        return _fit(mask.grid, data, low, extent, longest)


def _fit(grid: Grid, data: _Data, low: np.ndarray, extent: np.ndarray, longest: float) -> ImplicitSurface:
    """The smoothest lattice that agrees with the data; the one that agrees best when none does."""
    best: ImplicitSurface | None = None
    for across in KNOTS_ACROSS:
        knot = max(SMALLEST_KNOT_MM, longest / across)
        lattice = SplineLattice(low, extent, knot)
        normal, right = data.normal_equations(lattice)
        for smoothness in SMOOTHNESS:
            lattice = lattice.solved(normal, right, smoothness)
            wrong = data.disagreement_mm(lattice)
            agrees = wrong <= DISAGREEMENT * float(data.spacing.min())
            if best is None or wrong < best.disagreement_mm:
                best = ImplicitSurface(grid, lattice, wrong, agrees)
            if agrees:
                return best
        if knot == SMALLEST_KNOT_MM:
            break
    assert best is not None
    return best


class _Data:
    """What a mask says of its surface: where it is crossed, how well that is known, and rough depths."""

    def __init__(self, box: np.ndarray, spacing: np.ndarray, origin: np.ndarray) -> None:
        from scipy import ndimage

        self.spacing = spacing
        distance = euclidean_distance_mm(~box, spacing) - euclidean_distance_mm(box, spacing)
        smooth = ndimage.gaussian_filter(distance, np.maximum(1.5, 0.6 * spacing) / spacing)
        index, axis = _crossings(box)
        slope = np.stack([ndimage.map_coordinates(np.gradient(smooth, spacing[a], axis=a), index.T, order=1)
                          for a in range(3)], axis=1)
        slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)
        self.points = index * spacing + origin
        boundary = np.asarray(ndimage.binary_dilation(box)) & ~box
        self.outside = np.argwhere(boundary) * spacing + origin
        self.inside = np.argwhere(box & np.logical_not(ndimage.binary_erosion(box))) * spacing + origin
        across = spacing[axis] * np.abs(slope[np.arange(len(axis)), axis])
        self.variance = across**2 / 12.0 + (0.1 * spacing.min()) ** 2
        self.anchors, self.depths, self.anchor_sigma = _anchors(smooth, spacing, origin)

    def normal_equations(self, lattice: SplineLattice) -> tuple[np.ndarray, np.ndarray]:
        """Both kinds of data on one lattice."""
        points = np.concatenate([self.points, self.anchors])
        targets = np.concatenate([np.zeros(len(self.points)), self.depths])
        weights = np.concatenate([1.0 / self.variance, 1.0 / self.anchor_sigma**2])
        return lattice.normal_equations(points, targets, weights)

    def disagreement_mm(self, lattice: SplineLattice) -> float:
        """How far (99th percentile) the voxel centres beside the mask's boundary lie on the wrong side."""
        wrong = np.concatenate([np.maximum(lattice.value(self.inside), 0.0),
                                np.maximum(-lattice.value(self.outside), 0.0)])
        points = np.concatenate([self.inside, self.outside])[wrong > 0.0]
        wrong[wrong > 0.0] /= np.maximum(np.linalg.norm(lattice.gradient(points), axis=1), 0.2)
        return float(np.percentile(wrong, 99.0))


def _crossings(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) fractional indices half-way between unlike neighbours, and (n,) the axis of each pair."""
    points, axes = [], []
    for axis in range(3):
        index = np.argwhere(np.diff(box, axis=axis)).astype(float)
        index[:, axis] += 0.5
        points.append(index)
        axes.append(np.full(len(index), axis))
    return np.concatenate(points), np.concatenate(axes)


def _anchors(smooth: np.ndarray, spacing: np.ndarray,
             origin: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels off the surface with their rough depth: they give the function its scale, at low weight."""
    away = np.argwhere(np.abs(smooth) > max(2.0, 0.6 * spacing.max()))
    cell = np.floor(away * spacing / ANCHOR_CELL_MM).astype(np.int64)
    key = (cell[:, 0] << 40) + (cell[:, 1] << 20) + cell[:, 2]
    away = away[np.unique(key, return_index=True)[1]]
    depth = smooth[tuple(away.T)].astype(float)
    return away * spacing + origin, depth, 1.0 + spacing.max() + 0.5 * np.abs(depth)
