"""Small changes to an image and its mask that a feature should survive.

After Zwanenburg, Sci Rep 2019; 9: 614: the image is turned and shifted, gets noise at its own level, the mask is
grown or shrunk and its contour randomised. Turning, shifting and interpolation are one resampling, so that nothing
is interpolated twice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ...geometry import EmptyMaskError, Grid, InputError, Mask, Volume
from ...geometry.distance import euclidean_distance_mm
from .region import on_grid_of
from .settings import Settings

ORDER = {"nearest": 0, "linear": 1, "cubic": 3}
MARGIN_MM = 10.0
"""Of the image around the region that comes along, beside what a filter needs."""
CONTOUR_LENGTH_MM = 5.0
"""Distance over which a randomised contour keeps its shift."""
NORMAL_MEDIAN = 0.6744897501960817
"""Median of the absolute value of a standard normal number."""


@dataclass(frozen=True)
class Perturbations:
    """What is done, and how far at most. Zero switches one off.

    Attributes:
        rotation_deg: in the slice, about the region's middle, uniform to either side.
        translation_voxels: along every axis, uniform from 0; 0.5 is half a voxel of the grid that is measured on.
        volume_share: the mask's volume grows or shrinks by up to this share, uniform.
        contour_mm: standard deviation of a smooth random shift of the contour.
        noise: standard deviation of Gaussian noise, in multiples of the image's own.
    Raises: InputError at construction.
    """

    rotation_deg: float = 10.0
    translation_voxels: float = 0.75
    volume_share: float = 0.15
    contour_mm: float = 0.5
    noise: float = 1.0

    def __post_init__(self) -> None:
        for name, high in (("rotation_deg", 180.0), ("translation_voxels", 10.0), ("volume_share", 0.9),
                           ("contour_mm", 50.0), ("noise", 100.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= high:
                raise InputError(f"perturbation {name}: must be a number from 0 to {high:g}, got {value!r}")
        if not any(asdict(self).values()):
            raise InputError("every perturbation is switched off; leave at least one on")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def draw(self, seed: int, number: int) -> Perturbation:
        """Perturbation `number` of a series: the same for every patient, so that patients and perturbations cross."""
        rng = np.random.default_rng([seed, number])
        turn, grow, *shift = rng.uniform(-1.0, 1.0, 5)
        shift_kji = tuple(float(0.5 * (s + 1.0) * self.translation_voxels) for s in shift)
        return Perturbation(float(turn * self.rotation_deg), shift_kji, float(grow * self.volume_share),
                            float(self.contour_mm), float(self.noise))


@dataclass(frozen=True)
class Perturbation:
    """One change. `translation_kji` in voxels of the grid measured on, `volume_share` signed, `noise` in multiples."""

    rotation_deg: float = 0.0
    translation_kji: tuple[float, ...] = (0.0, 0.0, 0.0)
    volume_share: float = 0.0
    contour_mm: float = 0.0
    noise: float = 0.0


def noise_sd(image: Volume, mask: Mask | None = None, margin_mm: float = MARGIN_MM) -> float:
    """Standard deviation of an image's noise, in its own unit; 0 for an image without any.

    Median magnitude of each slice's second differences along both of its axes (Immerkaer, Comput Vis Image Underst
    1996; 64: 300), in the box around the mask. Noise that an interpolation or a reconstruction kernel has smoothed
    is under-estimated. Raises InputError where there are fewer than 3 x 3 voxels in a slice.
    """
    array = image.array
    if mask is not None:
        start, shape = mask.bounding_box_kji(margin_mm)
        array = array[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))]
    if array.shape[1] < 3 or array.shape[2] < 3:
        raise InputError(f"{image.name or 'image'}: noise can't be estimated in slices of fewer than 3 x 3 voxels")
    array = np.nan_to_num(np.asarray(array, np.float64), posinf=0.0, neginf=0.0)
    twice = array[:, 2:] - 2 * array[:, 1:-1] + array[:, :-2]
    twice = twice[:, :, 2:] - 2 * twice[:, :, 1:-1] + twice[:, :, :-2]
    return float(np.median(np.abs(twice))) / (6.0 * NORMAL_MEDIAN)


def perturb(image: Volume, mask: Mask, change: Perturbation, settings: Settings | None = None, *,
            seed: int | list[int] = 0, image_noise_sd: float | None = None,
            reach_mm: float = 0.0) -> tuple[Volume, Mask]:
    """A changed image and mask, cut to the region, on the grid of `settings.spacing_mm`, turned and shifted.

    Args:
        image, mask: on one grid; image finite around the mask.
        change: what to do. Nothing at all gives back the cut image, voxel for voxel (without `spacing_mm`).
        settings: for spacing and interpolation; None for the default.
        seed: of noise and contour.
        image_noise_sd: noise of this image, in its unit; None estimates it.
        reach_mm: that a filter looks beyond the region.
    Returns: image (float64) and mask on one grid; measure them without further interpolation.
    Raises: EmptyMaskError, also where the change leaves nothing; FrameMismatchError; InputError for NaN in the mask.
    """
    settings = settings or Settings()
    mask = on_grid_of(image, mask, settings, [])
    rng = np.random.default_rng(seed)
    margin = MARGIN_MM + reach_mm
    start, shape = mask.bounding_box_kji(1.5 * margin)
    source, inside = image.crop(start, shape), mask.crop(start, shape)
    array = np.asarray(source.array, np.float64)
    finite = np.isfinite(array)
    if not finite[inside.array].all():
        raise InputError(f"{image.name or 'image'}: NaN or infinite voxels inside {mask.name or 'the mask'}")
    array = np.where(finite, array, array[inside.array].mean())
    if change.noise > 0:
        sd = noise_sd(image, mask) if image_noise_sd is None else image_noise_sd
        array = array + rng.normal(0.0, 1.0, array.shape) * sd * change.noise
    grid, matrix, offset = _turned_grid(inside, change, settings, margin)
    where = offset.tolist()
    out = ndimage.affine_transform(array, matrix, where, grid.shape, order=ORDER[settings.interpolation],
                                   mode="nearest")
    share = ndimage.affine_transform(inside.array.astype(np.float64), matrix, where, grid.shape,
                                     order=ORDER[settings.mask_interpolation], mode="constant", cval=0.0)
    moved = share >= settings.mask_threshold
    if not moved.any():
        raise EmptyMaskError(f"{mask.name or 'mask'}: nothing is left of it on the perturbed grid; it is too small")
    moved = _changed_mask(moved, change, grid, rng)
    return (Volume(out, grid, image.name, image.frame_of_reference, image.metadata),
            Mask(moved, grid, mask.name, mask.frame_of_reference, mask.metadata))


def _target_spacing(grid: Grid, settings: Settings) -> np.ndarray:
    spacing = grid.spacing_kji_mm.copy()
    if settings.spacing_mm is not None:
        asked = tuple(settings.spacing_mm)
        spacing[3 - len(asked):] = asked
    return spacing


def _turned_grid(inside: Mask, change: Perturbation, settings: Settings,
                 margin_mm: float) -> tuple[Grid, np.ndarray, np.ndarray]:
    """The grid to measure on, and the affine map from its indices to those of `inside`, both (k, j, i)."""
    old, new = inside.grid.spacing_kji_mm, _target_spacing(inside.grid, settings)
    angle = np.deg2rad(change.rotation_deg)
    turn = np.eye(3)
    turn[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    start, shape = inside.bounding_box_kji()
    middle = np.array(start) + np.array(shape) // 2
    corner_mm = np.abs(turn.T) @ (np.array(shape) * old / 2)
    half = np.ceil((corner_mm + margin_mm) / new).astype(int)
    if len(settings.spacing_mm or ()) == 2:
        half[0] = int(np.ceil(shape[0] / 2 + margin_mm / old[0]))
    shift = np.array(change.translation_kji, float)
    if inside.array.shape[0] == 1:  # one slice has nothing above or below to sample
        half[0], shift[0], new[0] = 0, 0.0, old[0]
    matrix = (turn * new[None, :]) / old[:, None]
    offset = middle - matrix @ (half - shift)
    count = (int(2 * half[0] + 1), int(2 * half[1] + 1), int(2 * half[2] + 1))
    ras = np.eye(4)
    columns = inside.grid.ras_from_ijk[:3, 2::-1]  # k, j, i steps in RAS
    ras[:3, :3] = (columns @ matrix)[:, ::-1]
    ras[:3, 3] = columns @ offset + inside.grid.ras_from_ijk[:3, 3]
    return Grid(count, ras), matrix, offset


def signed_distance_mm(inside: np.ndarray, spacing_kji_mm: np.ndarray) -> np.ndarray:
    """Negative inside; between voxel centres either side, for ranking voxels by depth."""
    return euclidean_distance_mm(~inside, spacing_kji_mm) - euclidean_distance_mm(inside, spacing_kji_mm)


def _changed_mask(inside: np.ndarray, change: Perturbation, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Grown or shrunk to a volume, its contour shifted by a smooth random field; never emptied."""
    if change.volume_share == 0 and change.contour_mm == 0:
        return inside
    spacing = grid.spacing_kji_mm
    depth = np.clip(signed_distance_mm(inside, spacing), -1e6, 1e6)
    wanted = max(1, round(np.count_nonzero(inside) * (1.0 + change.volume_share)))
    if change.contour_mm > 0:
        depth = depth + change.contour_mm * _random_field(inside.shape, spacing, rng)
    # Whole layers share a depth; within a layer chance decides, not the order of the voxels.
    depth = depth + rng.uniform(0.0, 0.5 * spacing.min(), depth.shape)
    wanted = min(wanted, depth.size)
    limit = np.partition(depth.ravel(), wanted - 1)[wanted - 1]
    return depth <= limit


def _random_field(shape: tuple[int, ...], spacing_kji_mm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Smooth Gaussian field of mean 0 and standard deviation 1 at every voxel."""
    sigma = CONTOUR_LENGTH_MM / np.asarray(spacing_kji_mm)
    field = ndimage.gaussian_filter(rng.normal(0.0, 1.0, shape), sigma, mode="wrap", truncate=3.0)
    norm = 1.0
    for one, size in zip(sigma, shape, strict=True):
        impulse = np.zeros(size)
        impulse[size // 2] = 1.0
        norm *= float(np.square(ndimage.gaussian_filter1d(impulse, one, mode="wrap", truncate=3.0)).sum())
    return field / np.sqrt(norm)
