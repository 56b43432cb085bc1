"""Two images and their masks, checked, and brought onto a common working grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..geometry import FrameMismatchError, Grid, InputError, Mask, Transform, Volume, resample
from ..geometry.distance import euclidean_distance_mm

SMALLEST_EXTENT_MM = 20.0
FEWEST_VOXELS = 4
LARGEST_SPACING_MM = 12.0
MAX_WORK_VOXELS = 1_600_000
WORK_SPACING_MM = 2.0
ORGAN_MARGIN_MM = 16.0
ORGAN_RIM_MM = 8.0
KEPT_ROUND_ORGAN_MM = 60.0
REDUCED_SPACING_MM = 1.4


@dataclass(frozen=True, eq=False)
class Pair:
    """Checked input. Masks are None where not given."""

    fixed: Volume
    moving: Volume
    fixed_organ: Mask | None = None
    moving_organ: Mask | None = None
    exclude_fixed: Mask | None = None
    exclude_moving: Mask | None = None

    @property
    def has_zone(self) -> bool:
        return self.exclude_fixed is not None or self.exclude_moving is not None


@dataclass(frozen=True, eq=False)
class Work:
    """Both images on one isotropic grid of the fixed frame, the moving one through a first map.

    Attributes:
        grid: (k, j, i) in the fixed frame.
        fixed, moving: float32, 0 to 1 over the organ's range of values.
        fixed_weight, moving_weight: float32 0 to 1, where the similarity counts.
        fixed_organ_mm, moving_organ_mm: signed distance to the organ's surface, or None.
    """

    grid: Grid
    fixed: np.ndarray
    moving: np.ndarray
    fixed_weight: np.ndarray
    moving_weight: np.ndarray
    fixed_organ_mm: np.ndarray | None
    moving_organ_mm: np.ndarray | None

    @property
    def spacing_mm(self) -> float:
        return float(self.grid.spacing_mm[0])

    @property
    def organ(self) -> np.ndarray:
        """(k, j, i) bool; everything, where no organ was given."""
        return np.ones(self.grid.shape, bool) if self.fixed_organ_mm is None else self.fixed_organ_mm < 0.0

    def swapped(self) -> Work:
        """The same pair, to be registered the other way."""
        return Work(self.grid, self.moving, self.fixed, self.moving_weight, self.fixed_weight, self.moving_organ_mm,
                    self.fixed_organ_mm)


def check_pair(pair: Pair) -> Pair:
    """The pair with clean values. Raises InputError with one line that says what to do."""
    fixed, moving = (_check_image(image, role) for image, role in ((pair.fixed, "fixed"), (pair.moving, "moving")))
    masks = {}
    for name, image in (("fixed_organ", fixed), ("moving_organ", moving), ("exclude_fixed", fixed),
                        ("exclude_moving", moving)):
        mask = getattr(pair, name)
        masks[name] = None if mask is None else _check_mask(mask, name.replace("_", " "), image)
    return Pair(fixed, moving, **masks)


def _check_image(image: Volume, role: str) -> Volume:
    name = image.name or f"{role} image"
    spacing, shape = image.grid.spacing_kji_mm, np.array(image.grid.shape)
    if (shape < FEWEST_VOXELS).any():
        raise InputError(f"{name}: only {min(shape)} voxels along one axis; registration needs a 3D image")
    if (spacing > LARGEST_SPACING_MM).any():
        raise InputError(f"{name}: voxels of {spacing.max():.1f} mm are too coarse to register; load thinner slices")
    if (spacing * shape < SMALLEST_EXTENT_MM).any():
        raise InputError(f"{name}: covers only {(spacing * shape).min():.0f} mm along one axis; at least "
                         f"{SMALLEST_EXTENT_MM:.0f} mm are needed")
    direction = image.grid.directions
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
        raise InputError(f"{name}: its axes are not at right angles; resample it to a straight grid first")
    array = np.asarray(image.array, np.float32)
    finite = np.isfinite(array)
    if not finite.all():
        if finite.mean() < 0.5:
            raise InputError(f"{name}: more than half of its values are not numbers")
        array = np.where(finite, array, array[finite].min())
    if float(array.max() - array.min()) < 1e-6:
        raise InputError(f"{name}: all voxels have the same value; there is nothing to register")
    return image.with_array(array)


def _check_mask(mask: Mask, role: str, image: Volume) -> Mask:
    name = mask.name or role
    mask.require_not_empty()
    if (mask.frame_of_reference and image.frame_of_reference
            and mask.frame_of_reference != image.frame_of_reference):
        raise FrameMismatchError(f"{name}: lies in another frame of reference than {image.name or 'its image'}; "
                                 "choose the mask drawn on that image")
    inside = image.grid.indices_kji(mask.grid.points_ras(np.argwhere(mask.array)[:: max(1, mask.array.sum() // 5000)]))
    seen = ((inside > -0.5) & (inside < np.array(image.grid.shape) - 0.5)).all(axis=1).mean()
    if seen < 0.5:
        raise InputError(f"{name}: only {100 * seen:.0f} % of it lies inside {image.name or 'its image'}; choose the "
                         "mask drawn on that image")
    return mask


def reduced(pair: Pair, spacing_mm: float) -> Pair:
    """The pair without what registration doesn't need: far from the organ, and detail below `spacing_mm`."""
    images = []
    for image, organ in ((pair.fixed, pair.fixed_organ), (pair.moving, pair.moving_organ)):
        near = crop_to(image, organ, KEPT_ROUND_ORGAN_MM)
        spacing = np.where(near.grid.spacing_mm < 0.8 * spacing_mm, spacing_mm, near.grid.spacing_mm)
        if (spacing > near.grid.spacing_mm).any():
            grid = near.grid.resampled_grid(spacing)
            near = Volume(smoothed_onto(near, grid), grid, image.name)
        images.append(Volume(np.asarray(near.array, np.float32), near.grid, image.name))
    return Pair(images[0], images[1], pair.fixed_organ, pair.moving_organ, pair.exclude_fixed, pair.exclude_moving)


def smoothed_onto(volume: Volume, grid: Grid, transform: Transform | None = None, *, outside: float | None = None
                  ) -> np.ndarray:
    """(k, j, i) float32 of the volume on a coarser grid, low-passed first so that nothing aliases."""
    from scipy import ndimage

    target = np.abs(np.linalg.inv(volume.grid.directions) @ grid.directions) @ grid.spacing_mm
    sigma = [0.4 * np.sqrt(max(0.0, (t / s) ** 2 - 1.0))
             for t, s in zip(target[::-1], volume.grid.spacing_kji_mm, strict=True)]
    array = np.asarray(volume.array, np.float32)
    if max(sigma) > 0.15:
        array = ndimage.gaussian_filter(array, sigma, mode="nearest", truncate=2.5)
    low = float(array.min()) if outside is None else outside
    return resample(Volume(array, volume.grid), grid, transform, outside=low).array


def value_range(image: Volume, organ: Mask | None) -> tuple[float, float]:
    """Values that matter: the organ's, with some room; without an organ, everything between the extremes."""
    if organ is None:
        low, high = np.percentile(image.array[::2, ::2, ::2], [1.0, 99.5])
    else:
        step = max(1, int(np.count_nonzero(organ.array)) // 60000)
        points = organ.grid.points_ras(np.argwhere(organ.array)[::step])
        low, high = np.percentile(image.sample(points), [1.0, 99.0])
        room = 0.25 * (high - low)
        low, high = low - room, high + room
    if high - low < 1e-6:
        raise InputError(f"{image.name or 'image'}: its values are constant inside the organ; nothing to register")
    return float(low), float(high)


def box_mask(volume: Volume) -> Mask:
    """All of an image's field of view."""
    return Mask(np.ones(volume.grid.shape, bool), volume.grid)


def crop_to(volume: Volume, mask: Mask | None, margin_mm: float) -> Volume:
    """The part of the volume round the mask (given on any grid of the same frame)."""
    if mask is None:
        return volume
    start, shape = mask.bounding_box_kji()
    corners = mask.grid.cropped_grid(start, shape).corners_ras()
    index = volume.grid.indices_kji(corners)
    grow = margin_mm / volume.grid.spacing_kji_mm
    low = np.clip(np.floor(index.min(0) - grow), 0, np.array(volume.grid.shape) - 2).astype(int)
    high = np.clip(np.ceil(index.max(0) + grow) + 1, low + 2, volume.grid.shape).astype(int)
    return volume.crop(tuple(low), tuple(high - low))


def working_grid(pair: Pair, spacing_mm: float | None, margin_mm: float = ORGAN_MARGIN_MM) -> Grid:
    """Isotropic grid round the fixed organ (or all of the fixed image)."""
    box = crop_to(pair.fixed, pair.fixed_organ, margin_mm).grid
    if spacing_mm is None:
        extent = float(np.prod(box.spacing_mm * np.array(box.shape[::-1])))
        spacing_mm = max(WORK_SPACING_MM, (extent / MAX_WORK_VOXELS) ** (1 / 3))
    return box.resampled_grid(spacing_mm)


def signed_distance_on(mask: Mask, grid: Grid, transform: Transform | None = None, reach_mm: float = 40.0
                       ) -> np.ndarray:
    """(k, j, i) float32 signed distance in mm to the mask, negative inside, on another grid; far is `reach_mm`."""
    return resample(_distance_volume(mask, reach_mm), grid, transform, outside=reach_mm).array


@lru_cache(maxsize=6)
def _distance_volume(mask: Mask, reach_mm: float) -> Volume:
    """Beyond the field of view a mask that reaches its edge goes on: the edge is not the organ's surface."""
    start, shape = mask.bounding_box_kji()
    grow = np.ceil(reach_mm / mask.grid.spacing_kji_mm).astype(int)
    low, high = np.array(start) - grow, np.array(start) + shape + grow
    inner_low, inner_high = np.maximum(low, 0), np.minimum(high, mask.grid.shape)
    array = mask.crop(tuple(inner_low), tuple(inner_high - inner_low)).array
    array = np.pad(array, list(zip(inner_low - low, high - inner_high, strict=True)), mode="edge")
    start = low
    spacing = mask.grid.spacing_kji_mm
    distance = euclidean_distance_mm(~array, spacing) - euclidean_distance_mm(array, spacing)
    grid = mask.grid.cropped_grid(tuple(start), array.shape)
    return Volume(np.clip(distance, -reach_mm, reach_mm), grid)


def distance_at(mask: Mask, points_ras: np.ndarray, reach_mm: float = 40.0) -> np.ndarray:
    """(n,) signed distance in mm from RAS points to the mask, negative inside; far is `reach_mm`."""
    return _distance_volume(mask, reach_mm).sample(points_ras, outside=reach_mm)


def prepare(pair: Pair, grid: Grid, moving_from_fixed: Transform, exclusion_mm: float | None) -> Work:
    """Both images on the grid, the moving one through the map; `exclusion_mm` None leaves nothing out."""
    images, weights, organs = [], [], []
    sides = ((pair.fixed, pair.fixed_organ, pair.exclude_fixed, None),
             (pair.moving, pair.moving_organ, pair.exclude_moving, moving_from_fixed))
    for image, organ, exclude, transform in sides:
        low, high = value_range(image, organ)
        near = image if transform is not None else crop_to(image, pair.fixed_organ, 2 * ORGAN_MARGIN_MM)
        array = smoothed_onto(near, grid, transform, outside=low)
        images.append(np.clip((array - low) / (high - low), 0.0, 1.0).astype(np.float32))
        weight = resample(Volume(np.ones(image.grid.shape, np.float32), image.grid), grid, transform).array
        organ_mm = None if organ is None else signed_distance_on(organ, grid, transform)
        if organ_mm is not None:
            weight *= organ_mm < ORGAN_RIM_MM
        if exclude is not None and exclusion_mm is not None:
            weight *= signed_distance_on(exclude, grid, transform) > exclusion_mm
        weights.append(weight.astype(np.float32))
        organs.append(organ_mm)
    return Work(grid, images[0], images[1], weights[0], weights[1], organs[0], organs[1])
