"""Regions around a lesion: peri-tumoural shells, and what an ablation left of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...geometry import EmptyMaskError, FrameMismatchError, InputError, Mask, Volume
from ...geometry.distance import euclidean_distance_mm
from ...geometry.implicit import implicit_surface
from ...geometry.proximity import distance_to_surface_mm

CHUNK = 100_000
"""Voxels whose distance is computed at a time."""
DOUBT = 1.5
"""Voxels nearer to a limit than so many of the largest voxel edges are measured to the smooth surface."""
MOST_SURFACE_MM = 400.0
"""Structures longer than this are measured between voxel centres."""
VALIDATED_ON = "spheres at 1, 2, 0.8 x 0.8 x 3 and 0.7 x 0.7 x 5 mm (tests); not on histology"


def shell_name(outer_mm: float, inner_mm: float = 0.0) -> str:
    """`shell_0_5mm`: how a shell is named in feature keys; minus is written m."""
    def word(value: float) -> str:
        return f"{value:g}".replace("-", "m")

    return f"shell_{word(inner_mm)}_{word(outer_mm)}mm"


def shell(mask: Mask, outer_mm: float, inner_mm: float = 0.0, within: Mask | None = None, exclude: Mask | None = None,
          intensity_range: tuple[float | None, float | None] | None = None, *, image: Volume | None = None) -> Mask:
    """The voxels whose distance from a mask's surface lies between two limits.

    Args:
        mask: the lesion.
        outer_mm, inner_mm: limits of the signed distance, positive outside. With an inner limit from 0 on, no voxel
            of the lesion is in; a negative one takes the rim inside the surface along.
        within: only voxels of this mask (the organ).
        exclude: not the voxels of this mask (vessels, other lesions).
        intensity_range: (low, high) of `image`, both inside, either None: (-200, None) leaves out air.
        image: for the range, on the mask's grid.
    Returns: Mask on the same grid, named as `shell_name`; metadata `volume_ml_before_clipping`, `kept_share`,
        `warnings` (cut off by the image's edge; the lesion's surface couldn't be followed).
    Raises: EmptyMaskError for an empty lesion or when nothing is left, saying which condition took it;
        FrameMismatchError for masks on other grids; InputError for limits.
    """
    for name, value in (("outer_mm", outer_mm), ("inner_mm", inner_mm)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise InputError(f"shell: {name} must be a finite number of mm, got {value!r}")
    if not inner_mm < outer_mm:
        raise InputError(f"shell: outer_mm ({outer_mm:g}) must be above inner_mm ({inner_mm:g})")
    for other in (within, exclude, image):
        _same_grid(mask, other)
    if intensity_range is not None and image is None:
        raise InputError("shell: an intensity range needs the image")
    name = shell_name(outer_mm, inner_mm)
    if mask.array.all():
        raise EmptyMaskError(f"{name}: {mask.name or 'the mask'} fills the whole image, so it has no surface in it")
    distance, warnings = surface_distance_mm(mask, (inner_mm, outer_mm))
    chosen = (distance > inner_mm) & (distance <= outer_mm)
    if inner_mm >= 0:
        chosen = (distance <= outer_mm) & ~mask.array
        chosen &= (distance > inner_mm) if inner_mm > 0 else True
    elif outer_mm <= 0:
        chosen &= mask.array
    before = int(np.count_nonzero(chosen))
    if before == 0:
        raise EmptyMaskError(f"{name}: no voxel centre lies in it; voxels are "
                             f"{' x '.join(f'{s:.3g}' for s in mask.spacing_mm)} mm, take a wider shell")
    chosen = _clipped(chosen, name, within, exclude, image, intensity_range)
    if outer_mm > 0 and _reaches_edge(mask, outer_mm):
        warnings.append(f"{name} is cut off at the image's edge")
    if inner_mm < 0 and mask.touches_border():
        warnings.append(f"{mask.name or 'the lesion'} reaches the image's edge, which counts as its surface")
    share = float(np.count_nonzero(chosen)) / before
    metadata = {"warnings": tuple(warnings), "kept_share": share,
                "volume_ml_before_clipping": before * mask.grid.voxel_volume_ml, "validated_on": VALIDATED_ON}
    return Mask(chosen, mask.grid, name, mask.frame_of_reference, metadata)


def _clipped(chosen: np.ndarray, name: str, within: Mask | None, exclude: Mask | None, image: Volume | None,
             intensity_range: tuple[float | None, float | None] | None) -> np.ndarray:
    steps: list[tuple[str, np.ndarray]] = []
    if within is not None:
        steps.append((f"inside {within.name or 'the organ'}", within.array))
    if exclude is not None:
        steps.append((f"outside {exclude.name or 'what is excluded'}", ~exclude.array))
    if intensity_range is not None and image is not None:
        low, high = intensity_range
        if low is not None and high is not None and low > high:
            raise InputError(f"shell: intensity range {low:g} to {high:g} is upside down")
        keep = np.isfinite(image.array)
        keep &= True if low is None else image.array >= low
        keep &= True if high is None else image.array <= high
        steps.append((f"in the intensity range {intensity_range}", keep))
    for words, keep in steps:
        chosen = chosen & keep
        if not chosen.any():
            raise EmptyMaskError(f"{name}: no voxel of it lies {words}; check that mask, or take a wider shell")
    return chosen


def surface_distance_mm(mask: Mask, limits_mm: tuple[float, ...]) -> tuple[np.ndarray, list[str]]:
    """Signed distance of every voxel centre to the surface that the mask stands for, and warnings.

    It is measured to `geometry.implicit_surface`, so that thick slices don't make a shell too wide, where that could
    change on which side of a limit a voxel lies; elsewhere between voxels, right within half the largest voxel edge.
    Where no smooth surface agrees with the mask, all of it is. Returns (k, j, i) float64 mm, 1e6 far away.
    Raises EmptyMaskError.
    """
    mask.require_not_empty()
    spacing = mask.grid.spacing_kji_mm
    largest = float(spacing.max())
    start, shape = mask.bounding_box_kji(max(map(abs, limits_mm)) + 3.0 * largest)
    box = mask.crop(start, shape)
    rough = np.asarray(_voxel_distance_mm(box.array, spacing), np.float64)
    surface = _smooth_surface(box)
    warnings = []
    if surface is None:
        warnings.append(f"no smooth surface follows {mask.name or 'the mask'}; distances are between voxels, right "
                        f"within {0.5 * largest:.2g} mm")
    else:
        close = np.zeros(rough.shape, bool)
        for limit in limits_mm:
            close |= np.abs(rough - limit) <= DOUBT * largest
        near = np.argwhere(close)
        for first in range(0, len(near), CHUNK):
            part = near[first:first + CHUNK]
            points = box.grid.points_ras(part)
            length, _ = distance_to_surface_mm(points, surface[1])
            rough[tuple(part.T)] = np.where(surface[0].value(points) < 0, -length, length)
    out = np.full(mask.array.shape, 1e6)
    out[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))] = rough
    return out, warnings


def _smooth_surface(mask: Mask):
    """Implicit surface and its triangles, or None where it can't be trusted."""
    spacing = mask.grid.spacing_kji_mm
    _, shape = mask.bounding_box_kji()
    if (np.array(shape) * spacing).max() > MOST_SURFACE_MM or np.count_nonzero(mask.array) < 8:
        return None
    try:
        found = implicit_surface(mask)
        if not found.agrees and found.disagreement_mm > 0.5 * spacing.max():
            return None
        return found, found.surface(min(1.0, float(spacing.min()) * 2.0))
    except (ValueError, RuntimeError, np.linalg.LinAlgError):
        return None


def _voxel_distance_mm(inside: np.ndarray, spacing_kji_mm: np.ndarray) -> np.ndarray:
    """Signed distance to the boundary between voxels: centre to centre, less half a voxel along the way."""
    step = np.asarray(spacing_kji_mm, float)[:, None, None, None]

    def one_side(where: np.ndarray) -> np.ndarray:
        if where.all():
            return euclidean_distance_mm(where, spacing_kji_mm)
        nearest = _nearest_other(where, spacing_kji_mm)
        way = np.abs((np.indices(where.shape) - nearest) * step)
        length = np.sqrt(np.square(way).sum(axis=0))
        half = 0.5 * (way * step).max(axis=0) / np.maximum(length, 1e-9)
        return np.where(where, length - half, 0.0)

    return np.clip(one_side(~inside) - one_side(inside), -1e6, 1e6)


def _nearest_other(where: np.ndarray, spacing_kji_mm: np.ndarray) -> np.ndarray:
    """(3, k, j, i) index of the False voxel nearest to each voxel."""
    from scipy import ndimage

    found = ndimage.distance_transform_edt(where, sampling=tuple(spacing_kji_mm), return_distances=False,
                                           return_indices=True)
    return np.asarray(found)


def _reaches_edge(mask: Mask, reach_mm: float) -> bool:
    start, shape = mask.bounding_box_kji()
    free = np.minimum(start, np.array(mask.array.shape) - (np.array(start) + shape))
    return bool(((free + 0.5) * mask.grid.spacing_kji_mm < reach_mm)[np.array(mask.array.shape) > 1].any())


def _same_grid(mask: Mask, other: Volume | None) -> None:
    if other is not None and not other.grid.same_grid(mask.grid):
        raise FrameMismatchError(f"{other.name or 'a mask'} is not on the grid of {mask.name or 'the lesion'}; "
                                 "resample it first")


@dataclass(frozen=True, eq=False)
class AblationRegions:
    """What tumour and ablation zone make of each other.

    Attributes:
        masks: name to mask, only those with voxels: `ablated_margin` (zone without tumour), `covered` (tumour in the
            zone), `residual` (tumour outside it), `zone_rim` (tissue around the zone, where a local recurrence grows).
        empty: names without a voxel.
        volumes_ml: of all four.
        coverage: share of the tumour's volume in the zone.
        warnings: one line each.
    """

    masks: dict[str, Mask]
    empty: tuple[str, ...]
    volumes_ml: dict[str, float]
    coverage: float
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready numbers; the masks stay behind."""
        return {"volumes_ml": dict(self.volumes_ml), "coverage": self.coverage, "empty": list(self.empty),
                "frame": "RAS, the tumour mask's grid", "warnings": list(self.warnings), "validated_on": VALIDATED_ON}


def ablation_regions(tumour: Mask, zone: Mask, rim_mm: float = 5.0, *, within: Mask | None = None) -> AblationRegions:
    """The regions of an ablation, for features.

    Args:
        tumour, zone: in one frame on one grid, registered beforehand; both with voxels.
        rim_mm: width of the rim around the zone; tumour is left out of it.
        within: the organ, to which the rim is clipped.
    Raises: EmptyMaskError, FrameMismatchError, InputError for a rim that isn't positive.
    """
    tumour.require_not_empty()
    zone.require_not_empty()
    _same_grid(tumour, zone)
    warnings: list[str] = []
    arrays = {"ablated_margin": zone.array & ~tumour.array, "covered": zone.array & tumour.array,
              "residual": tumour.array & ~zone.array}
    try:
        rim = shell(zone, rim_mm, within=within, exclude=tumour)
        arrays["zone_rim"] = rim.array
        warnings += rim.metadata["warnings"]
    except EmptyMaskError as error:
        arrays["zone_rim"] = np.zeros_like(tumour.array)
        warnings.append(str(error))
    if not arrays["covered"].any():
        warnings.append("the ablation zone doesn't touch the tumour; check the registration")
    masks = {name: Mask(array, tumour.grid, name, tumour.frame_of_reference) for name, array in arrays.items()}
    volumes = {name: one.volume_ml for name, one in masks.items()}
    return AblationRegions({name: one for name, one in masks.items() if one.array.any()},
                           tuple(name for name, one in masks.items() if not one.array.any()), volumes,
                           float(np.count_nonzero(arrays["covered"]) / np.count_nonzero(tumour.array)),
                           tuple(warnings))
