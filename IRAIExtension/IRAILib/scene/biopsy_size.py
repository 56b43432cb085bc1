"""How large a lesion is: volume, longest axial diameter with its perpendicular, largest extent, and how sure."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, Mask

VALIDATED_ON = "spheres and ellipsoids on oblique grids, of known size; on no reader's measurements"


@dataclass(frozen=True)
class LesionSize:
    """A segment's measures. `*_ras`: ends of the long axis, RAS mm.

    long_axis_mm: the longest distance within one slice of the image (as RECIST 1.1 measures it in the plane of
    acquisition); short_axis_mm: the longest extent perpendicular to it in that slice; extent_mm: the longest distance
    in three dimensions. *_sigma: one standard deviation from half a voxel at each end and, where boundary_sigma_mm is
    known, the outline; a reader's habits are not in it. pieces: connected parts.
    """

    volume_ml: float
    volume_sigma_ml: float
    long_axis_mm: float
    short_axis_mm: float
    extent_mm: float
    diameter_sigma_mm: float
    boundary_sigma_mm: float | None
    slices: int
    pieces: int
    centre_ras: tuple[float, float, float]
    long_axis_ras: tuple[tuple[float, float, float], tuple[float, float, float]]
    touches_border: bool
    validated_on: str = VALIDATED_ON

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; names its frame."""
        return {**asdict(self), "frame": "RAS mm"}


def measure_lesion(mask: Mask, boundary_sigma_mm: float | None = None) -> LesionSize:
    """Measure a mask (k, j, i).

    Diameters run between the points midway between a voxel inside and its neighbour outside. Raises EmptyMaskError.
    """
    from scipy import ndimage

    mask.require_not_empty()
    cut = mask.crop_to_content()
    array = np.pad(cut.array, 1)
    grid = cut.grid.cropped_grid((-1, -1, -1), array.shape)
    edges = _edge_points(array, grid)
    long_axis, short_axis, ends = _axes_in_plane(edges)
    spacing = np.asarray(grid.spacing_kji_mm, float)
    voxel_sigma = 0.5 * float(spacing[1:].mean())
    outline = boundary_sigma_mm or 0.0
    labelled: Any = ndimage.label(array, np.ones((3, 3, 3)))
    centre = grid.points_ras(np.argwhere(array).astype(float)).mean(axis=0)
    return LesionSize(
        volume_ml=mask.volume_ml, volume_sigma_ml=_volume_sigma_ml(array, spacing, outline),
        long_axis_mm=long_axis, short_axis_mm=short_axis, extent_mm=_longest(np.concatenate(list(edges.values())))[0],
        diameter_sigma_mm=math.sqrt(2.0) * math.hypot(voxel_sigma, outline), boundary_sigma_mm=boundary_sigma_mm,
        slices=int(array.any(axis=(1, 2)).sum()), pieces=int(labelled[1]), centre_ras=_triple(centre),
        long_axis_ras=(_triple(ends[0]), _triple(ends[1])), touches_border=bool(mask.touches_border()))


def _triple(point) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])


def _edge_points(array: np.ndarray, grid) -> dict[int, np.ndarray]:
    """Per slice k, the (n, 3) RAS points midway between neighbours in that slice of which one is inside."""
    points: dict[int, list[np.ndarray]] = {}
    for axis in (1, 2):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        crossing = np.argwhere(array[tuple(low)] != array[tuple(high)]).astype(float)
        crossing[:, axis] += 0.5
        for k in np.unique(crossing[:, 0]):
            points.setdefault(int(k), []).append(grid.points_ras(crossing[crossing[:, 0] == k]))
    return {k: np.concatenate(parts) for k, parts in points.items()}


def _axes_in_plane(edges: dict[int, np.ndarray]) -> tuple[float, float, np.ndarray]:
    best, ends, points = 0.0, np.zeros((2, 3)), np.zeros((0, 3))
    for candidates in edges.values():
        length, pair = _longest(candidates)
        if length > best:
            best, ends, points = length, pair, candidates
    along = (ends[1] - ends[0]) / max(best, 1e-9)
    across = points - ends[0] - ((points - ends[0]) @ along)[:, None] * along
    return best, _longest(across)[0], ends


def _longest(points: np.ndarray) -> tuple[float, np.ndarray]:
    """(longest distance, its (2, 3) ends) of (n, 3) points; of the outermost along many directions when there are
    more than a few thousand, which is exact to a thousandth."""
    if len(points) > 600:
        points = points[_outermost(points)]
    gaps = np.linalg.norm(points[:, None, :] - points[None, :, :], axis=2)
    first, second = np.unravel_index(int(gaps.argmax()), gaps.shape)
    return float(gaps[first, second]), np.stack([points[first], points[second]])


def _outermost(points: np.ndarray) -> np.ndarray:
    """Indices of the convex hull's corners, or of the farthest along 800 directions where there is no hull."""
    from scipy.spatial import ConvexHull, QhullError

    centred = points - points.mean(axis=0)
    _u, size, axes = np.linalg.svd(centred, full_matrices=False)
    used = int((size > 1e-6 * max(float(size[0]), 1e-9)).sum())
    if used < 2:
        along = centred @ axes[0]
        return np.array([int(along.argmin()), int(along.argmax())])
    try:
        return ConvexHull(centred @ axes[:used].T).vertices
    except QhullError as error:
        raise InputError(f"the lesion's outline can't be measured ({str(error).splitlines()[0][:80]})") from error


def _volume_sigma_ml(array: np.ndarray, spacing_mm: np.ndarray, outline_mm: float) -> float:
    """From the outline (moved as a whole, the worst case) and from the voxels cut at the surface (independent)."""
    area = cells = 0.0
    volume = float(np.prod(spacing_mm))
    for axis in range(3):
        faces = float(np.count_nonzero(np.diff(array.astype(np.int8), axis=axis)))
        area += faces * volume / spacing_mm[axis]
        cells += faces
    return float(math.hypot(area * (2.0 / 3.0) * outline_mm, math.sqrt(cells / 12.0) * volume)) / 1000.0
