"""Where the margin is thinnest, in words that a person at the table can use, and what would close the gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import Grid, Mask, Surface, Transform
from ..geometry.implicit import ImplicitSurface
from ..geometry.proximity import within_mm

WORDS = (("right", "left"), ("anterior", "posterior"), ("cranial", "caudal"))
"""For each RAS axis its positive and its negative end."""
NAMED_ABOVE = 0.35
"""A component of a unit vector is named when it is at least this large (about 20 degrees off the axis)."""
RISK_STEP_MM = 1.0


@dataclass(frozen=True)
class ThinnestPlace:
    """The thinnest margin on the tumour's surface, RAS mm.

    Attributes:
        point_ras: (3,) place on the tumour's surface.
        direction_ras: (3,) unit vector away from the tumour: where tissue would have to be ablated.
        margin_mm: margin there.
        words: the direction for a person, such as "cranial, left".
        clock: hour on an axial slice seen from the feet, tumour's centre in the middle, 12 anterior, 3 the
            patient's left; None when the direction is cranio-caudal.
        cranio_caudal_mm: how far above (+) or below (-) the tumour's centre the place lies.
        nearest_vessel_mm: distance to the vessel mask, None without one.
        nearest_vessel_ras: (3,) the vessel voxel that is nearest, None without one.
    """

    point_ras: tuple[float, float, float]
    direction_ras: tuple[float, float, float]
    margin_mm: float
    words: str
    clock: int | None
    cranio_caudal_mm: float
    nearest_vessel_mm: float | None = None
    nearest_vessel_ras: tuple[float, float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"point_ras": list(self.point_ras), "direction_ras": list(self.direction_ras),
                "margin_mm": self.margin_mm, "words": self.words, "clock": self.clock,
                "cranio_caudal_mm": self.cranio_caudal_mm, "nearest_vessel_mm": self.nearest_vessel_mm,
                "nearest_vessel_ras": None if self.nearest_vessel_ras is None else list(self.nearest_vessel_ras)}


@dataclass(frozen=True)
class Applicator:
    """A further zone that would close the thinnest place: geometry only, no physics, no path.

    Attributes:
        target_ras: (3,) centre of the zone, RAS mm, frame of the ablation scan.
        zone_radius_mm: radius of a sphere that covers the region at risk round the thinnest place.
        region_ml: volume of that region.
    """

    target_ras: tuple[float, float, float]
    zone_radius_mm: float
    region_ml: float

    def to_dict(self) -> dict[str, Any]:
        return {"target_ras": list(self.target_ras), "zone_radius_mm": self.zone_radius_mm,
                "region_ml": self.region_ml, "basis": "geometry only: no heat model, no access path"}


def describe_place(surface: Surface, margin_mm: np.ndarray, vertex: int, vessels: Mask | None = None) -> ThinnestPlace:
    """Direction, clock position and nearest vessel of one vertex of the tumour's surface (RAS mm)."""
    point = surface.points[vertex]
    normal = surface.point_normals()[vertex]
    weights = surface.point_areas_mm2()
    centre = (surface.points * weights[:, None]).sum(axis=0) / weights.sum()
    offset = point - centre
    vessel = _nearest_voxel(vessels, point)
    return ThinnestPlace(
        _triple(point), _triple(normal), float(margin_mm[vertex]), direction_words(normal), clock_hour(offset),
        float(offset[2]), None if vessel is None else float(np.linalg.norm(vessel - point)),
        None if vessel is None else _triple(vessel))


def direction_words(direction_ras: np.ndarray) -> str:
    """The main components of a RAS direction in words, largest first: "cranial, left"."""
    unit = np.asarray(direction_ras, float) / max(float(np.linalg.norm(direction_ras)), 1e-12)
    order = np.argsort(-np.abs(unit))
    named = [WORDS[axis][0 if unit[axis] > 0 else 1] for axis in order if abs(unit[axis]) >= NAMED_ABOVE]
    return ", ".join(named)


def clock_hour(offset_ras: np.ndarray) -> int | None:
    """Hour 1 to 12 on an axial slice seen from the feet: 12 anterior, 3 the patient's left, 9 the right.

    None when the offset is within about 20 degrees of the cranio-caudal axis or is zero.
    """
    offset = np.asarray(offset_ras, float)
    in_plane = float(np.hypot(offset[0], offset[1]))
    if in_plane < NAMED_ABOVE * max(float(np.linalg.norm(offset)), 1e-9):
        return None
    degrees = np.degrees(np.arctan2(-offset[0], offset[1])) % 360.0
    return round(degrees / 30.0) % 12 or 12


def tissue_at_risk(seen: Surface, tumor_shape: ImplicitSurface, ablation: Mask, ablation_shape: ImplicitSurface,
                   threshold_mm: float, *, ablation_from_tumor: Transform | None = None,
                   organ: Mask | None = None) -> Mask:
    """The region under the threshold: within `threshold_mm` of the tumour, or in it, and not ablated.

    Args:
        seen: the tumour's surface in the ablation's frame, RAS mm.
        tumor_shape: the same surface as a function, in the tumour's own frame.
        organ: in the ablation's frame; tissue outside it is left out.
    Returns: mask on a fine grid (at most `RISK_STEP_MM`) along the ablation's axes, just around the region.
    """
    reach = threshold_mm + 1.0
    spacing = ablation.grid.spacing_kji_mm
    local = ablation.grid.indices_kji(seen.points) * spacing
    low, high = local.min(axis=0) - reach, local.max(axis=0) + reach
    step = np.minimum(spacing, RISK_STEP_MM)
    shape = np.ceil((high - low) / step).astype(int) + 1
    matrix = np.eye(4)
    matrix[:3, :3] = ablation.grid.directions * step[::-1]
    matrix[:3, 3] = ablation.grid.points_ras((low / spacing)[None])[0]
    grid = Grid((int(shape[0]), int(shape[1]), int(shape[2])), matrix)
    points = grid.all_points_ras().reshape(-1, 3)
    left = np.flatnonzero(ablation_shape.value(points) >= 0.0)
    if organ is not None:
        left = left[organ.sample(points[left], order=0) > 0.5]
    points = points[left]
    at_home = points if ablation_from_tumor is None else ablation_from_tumor.inverse_apply(points)
    keep = tumor_shape.value(at_home) < 0.0
    keep[~keep] = within_mm(points[~keep], seen, threshold_mm)
    out = np.zeros(int(np.prod(grid.shape)), bool)
    out[left[keep]] = True
    return Mask(out.reshape(grid.shape), grid, "tissue at risk", ablation.frame_of_reference)


def propose_applicator(risk: Mask, thinnest_ras) -> Applicator | None:
    """The smallest sphere round that part of the region at risk which is nearest to the thinnest place.

    None when nothing is at risk.
    """
    from scipy import ndimage

    if not risk.array.any():
        return None
    labels = np.asarray(ndimage.label(risk.array)[0])  # type: ignore[index]
    index = np.argwhere(labels)
    points = risk.grid.points_ras(index)
    nearest = index[np.linalg.norm(points - np.asarray(thinnest_ras), axis=1).argmin()]
    part = labels == labels[tuple(nearest)]
    cloud = risk.grid.points_ras(np.argwhere(part & np.logical_not(ndimage.binary_erosion(part))))
    centre, radius = smallest_sphere(cloud)
    return Applicator(_triple(centre), float(radius), float(part.sum()) * risk.grid.voxel_volume_ml)


def smallest_sphere(points: np.ndarray, rounds: int = 150) -> tuple[np.ndarray, float]:
    """Centre (3,) and radius of a sphere that holds all (n, 3) points, within about 1 % of the smallest.

    Source: Badoiu and Clarkson, Smaller core-sets for balls, SODA 2003.
    """
    centre = points.mean(axis=0)
    for n in range(1, rounds + 1):
        farthest = points[np.linalg.norm(points - centre, axis=1).argmax()]
        centre = centre + (farthest - centre) / (n + 1.0)
    return centre, float(np.linalg.norm(points - centre, axis=1).max())


def _nearest_voxel(mask: Mask | None, point: np.ndarray) -> np.ndarray | None:
    if mask is None or not mask.array.any():
        return None
    points = mask.grid.points_ras(np.argwhere(mask.array))
    return points[np.linalg.norm(points - point, axis=1).argmin()]


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
