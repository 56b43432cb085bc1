"""Shape of the morphological mask (IBSI manual, section 3.1): mesh, voxels, axes, densities, autocorrelation.

Mesh: marching cubes at one half between voxel centres, in voxel axes with their spacing. Measured on the whole
mask, all its parts together.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .autocorrelation import moran_geary
from .enclosing import box_area, ellipsoid_area, enclosing_ellipsoid, oriented_box
from .region import Region

Check = Callable[[], None]
_FLAT_AXIS = "the region has no extent along its {} axis"


def morphology(region: Region, *, check: Check = lambda: None) -> dict[str, float | str]:
    """The 29 features by tag; a text says why one isn't defined.

    Args:
        region: any size; see `autocorrelation` for the memory of the slowest two.
        check: called between the steps, may raise CancelledError.
    Not defined: the axes' ratios and the ellipsoid of a single voxel, row or layer; the centre of mass shift where
    the intensities add up to zero; Moran's I and Geary's C of equal intensities or of one voxel.
    """
    spacing = np.array(region.spacing_mm)
    window = region.box()
    mask = region.morphological[window]
    points, triangles = mesh(mask, spacing)
    check()
    values = region.image[window][region.intensity[window]]
    out = _surface(points, triangles, float(np.count_nonzero(mask)) * region.voxel_mm3)
    volume, area = float(out["morph_volume"]), float(out["morph_area_mesh"])
    voxels = np.argwhere(mask) * spacing
    out |= _centre_shift(voxels, np.argwhere(region.intensity[window]) * spacing, values)
    out["morph_integ_int"] = float(values.mean()) * volume
    out |= _axes(voxels, volume, area)
    check()
    out |= _hull(points, volume, area, check)
    moran, geary = moran_geary(region.image[window], region.intensity[window], region.spacing_mm, check)
    out |= {"morph_moran_i": moran, "morph_geary_c": geary}
    return out


def mesh(mask: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (n, 3) in mm along (k, j, i) and triangles (m, 3) of a mask with at least one voxel."""
    from skimage.measure import marching_cubes

    points, triangles, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5)
    return points.astype(np.float64) * spacing, triangles


def _surface(points: np.ndarray, triangles: np.ndarray, counted_mm3: float) -> dict[str, float | str]:
    centred = points - points.mean(axis=0)
    a, b, c = (centred[triangles[:, corner]] for corner in range(3))
    volume = abs(float(np.einsum("ij,ij->", a, np.cross(b, c)))) / 6.0
    area = float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) / 2.0
    ratio = 36.0 * math.pi * volume**2 / area**3
    return {"morph_volume": volume, "morph_vol_approx": counted_mm3, "morph_area_mesh": area,
            "morph_av": area / volume, "morph_comp_1": volume / (math.sqrt(math.pi) * area**1.5),
            "morph_comp_2": ratio, "morph_sph_dispr": ratio ** (-1.0 / 3.0), "morph_sphericity": ratio ** (1.0 / 3.0),
            "morph_asphericity": ratio ** (-1.0 / 3.0) - 1.0}


def _centre_shift(voxels: np.ndarray, inside: np.ndarray, values: np.ndarray) -> dict[str, float | str]:
    total = float(values.sum())
    if abs(total) <= 1e-12 * float(np.abs(values).sum()) or not np.any(values):
        return {"morph_com": "the intensities add up to zero, so they have no centre of mass"}
    return {"morph_com": float(np.linalg.norm(voxels.mean(axis=0) - values @ inside / total))}


def _axes(voxels: np.ndarray, volume: float, area: float) -> dict[str, float | str]:
    """Principal axes of the voxel centres (covariance of a sample, n - 1), and the ellipsoid that they span."""
    centred = voxels - voxels.mean(axis=0)
    eigen = np.linalg.eigvalsh(centred.T @ centred / max(len(voxels) - 1, 1))[::-1]
    eigen = np.where(eigen > 1e-12 * max(eigen[0], 1e-300), eigen, 0.0)
    major, minor, least = (4.0 * math.sqrt(float(e)) for e in eigen)
    out: dict[str, float | str] = {"morph_pca_maj_axis": major, "morph_pca_min_axis": minor,
                                   "morph_pca_least_axis": least}
    out["morph_pca_elongation"] = minor / major if major else _FLAT_AXIS.format("major")
    out["morph_pca_flatness"] = least / major if major else _FLAT_AXIS.format("major")
    if not least:
        flat = _FLAT_AXIS.format("least" if minor else "minor" if major else "major")
        return out | {"morph_vol_dens_aee": flat, "morph_area_dens_aee": flat}
    semi = (major / 2.0, minor / 2.0, least / 2.0)
    out["morph_vol_dens_aee"] = volume / (4.0 / 3.0 * math.pi * math.prod(semi))
    out["morph_area_dens_aee"] = area / ellipsoid_area(*semi)
    return out


def _hull(points: np.ndarray, volume: float, area: float, check: Check) -> dict[str, float | str]:
    """Diameter and what encloses the mesh."""
    from scipy.spatial import ConvexHull

    hull = ConvexHull(points)
    corners = points[hull.vertices]
    sides = np.ptp(points, axis=0)
    check()
    best = oriented_box(corners)
    check()
    semi = enclosing_ellipsoid(corners)
    return {"morph_diam": diameter(corners),
            "morph_vol_dens_aabb": volume / float(np.prod(sides)), "morph_area_dens_aabb": area / box_area(sides),
            "morph_vol_dens_ombb": volume / float(np.prod(best)), "morph_area_dens_ombb": area / box_area(best),
            "morph_vol_dens_mvee": volume / (4.0 / 3.0 * math.pi * math.prod(semi)),
            "morph_area_dens_mvee": area / ellipsoid_area(*semi),
            "morph_vol_dens_conv_hull": volume / float(hull.volume),
            "morph_area_dens_conv_hull": area / float(hull.area)}


def diameter(corners: np.ndarray) -> float:
    """Longest distance between two of (n, 3) points; a block of rows at a time."""
    longest = 0.0
    for start in range(0, len(corners), 512):
        difference = corners[start:start + 512, None] - corners[None, start:]
        longest = max(longest, float(np.einsum("abc,abc->ab", difference, difference).max()))
    return math.sqrt(longest)
