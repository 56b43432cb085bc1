"""From image and mask to the voxels that are measured: interpolation, rounding, re-segmentation.

The chain and its order are those of the IBSI reference manual (section 2, arXiv:1612.07003v11): the new grid shares
its centre with the old one, the mask is interpolated and cut at one half, the shape is measured on that
morphological mask, everything else on the intensity mask that is left of it after re-segmentation. Only the box
around the mask is interpolated, so that the cost doesn't grow with the scan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ...geometry import EmptyMaskError, FrameMismatchError, Grid, InputError, Mask, RefusedError, Volume, resample_mask
from ...images.masks import check_pair
from .interpolate import Axis, axes_for, interpolate
from .settings import Settings

PEAK_RADIUS_MM = (3.0 / (4.0 * math.pi)) ** (1.0 / 3.0) * 10.0
"""Of a sphere of 1 cm3: 6.2 mm; the local peak looks so far beyond the mask."""
_SHEAR = 1e-3
_ANISOTROPY = 1.5
_OFF_VOXEL = 0.02
"""Voxels of a cut-out mask may lie so far, in voxels, from those of the image."""
_MOST_PARTS_NAMED = 5
_LARGEST = 1e60
"""Intensities beyond can't be raised to the fourth power; no scanner makes them."""


@dataclass(frozen=True, eq=False)
class Region:
    """A box of voxels with what is inside.

    Attributes:
        image: (k, j, i) float64; finite.
        morphological, intensity: (k, j, i) bool, both with at least one voxel; intensity lies in morphological.
        spacing_mm: (k, j, i).
        grid: of the box, RAS.
        warnings: what was found on the way.
        filtered: the image is a filter's response.
    """

    image: np.ndarray
    morphological: np.ndarray
    intensity: np.ndarray
    spacing_mm: tuple[float, float, float]
    grid: Grid
    warnings: tuple[str, ...] = ()
    filtered: bool = False

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return math.prod(self.spacing_mm)

    def box(self, margin_mm: float = 0.0) -> tuple[slice, slice, slice]:
        """Slices around the morphological mask, grown and cut at the array."""
        return _box(self.morphological, [math.ceil(margin_mm / s) for s in self.spacing_mm])

    def near(self) -> Region:
        """The same cut to what the features look at: the mask and `PEAK_RADIUS_MM` around it."""
        window = self.box(PEAK_RADIUS_MM)
        if all(s.start == 0 and s.stop == n for s, n in zip(window, self.image.shape, strict=True)):
            return self
        start = tuple(s.start for s in window)
        shape = tuple(s.stop - s.start for s in window)
        return replace(self, image=self.image[window], morphological=self.morphological[window],
                       intensity=self.intensity[window], grid=self.grid.cropped_grid(start, shape))


def prepare(image: Volume, mask: Mask, settings: Settings, *, reach: tuple[int, ...] | None = (0, 0, 0)) -> Region:
    """The region that the features are measured on.

    Args:
        image, mask: see `extract`.
        reach: (k, j, i) voxels after interpolation that are needed beyond the mask and its local peak, for filters;
            None for the whole image.
    Raises: EmptyMaskError, FrameMismatchError, InputError, RefusedError.
    """
    warnings: list[str] = []
    mask = on_grid_of(image, mask, settings, warnings)
    _check_axes(image)
    inside = _parts(mask, settings, warnings)
    axes = axes_for(image.array.shape, image.grid.spacing_kji_mm, settings.spacing_mm)
    box = _box(inside, (0, 0, 0))
    windows = [axis.window(b.start, b.stop - 1, None if reach is None else _margin(axis) + reach[number])
               for number, (axis, b) in enumerate(zip(axes, box, strict=True))]
    _check_size(axes, windows, settings, image)
    values = _finite(image, inside, windows, axes, settings, warnings)
    grid_box = interpolate(values, axes, windows, settings.interpolation)
    if np.abs(grid_box).max() > _LARGEST:
        raise InputError(f"{image.name or 'image'}: intensities up to {np.abs(grid_box).max():.3g} can't be measured; "
                         "check the image's scaling")
    if settings.round_intensity:
        grid_box = np.rint(grid_box)
    morphological = interpolate(inside, axes, windows, settings.mask_interpolation) >= settings.mask_threshold - 1e-9
    if not morphological.any():
        raise EmptyMaskError(f"{mask.name or 'mask'}: no voxel is left after interpolation to "
                             f"{_sizes(tuple(a.new_mm for a in axes))} mm; choose a finer spacing_mm")
    intensity = resegment(grid_box, morphological, settings, mask.name or "mask")
    grid = _grid(image.grid, axes, windows)
    spacing = tuple(float(axis.new_mm) for axis in axes)
    _notes(morphological, intensity, spacing, image, mask, settings, warnings)
    return Region(grid_box, morphological, intensity, spacing, grid, tuple(warnings))  # type: ignore[arg-type]


def resegment(values: np.ndarray, morphological: np.ndarray, settings: Settings, name: str = "mask") -> np.ndarray:
    """The intensity mask: voxels of the morphological mask within the range and within the outlier limits.

    Both are judged on the morphological mask and both must hold. Raises EmptyMaskError.
    """
    kept = morphological
    inside = values[morphological]
    if settings.resegment is not None:
        low, high = settings.resegment
        kept = kept & (values >= (-np.inf if low is None else low)) & (values <= (np.inf if high is None else high))
    if settings.outlier_sigma is not None:
        mean, reach = inside.mean(), settings.outlier_sigma * inside.std()
        kept = kept & (values >= mean - reach) & (values <= mean + reach)
    if not kept.any():
        raise EmptyMaskError(f"{name}: re-segmentation leaves no voxel; intensities inside go from {inside.min():g} to "
                             f"{inside.max():g}, so check `resegment` and the image's unit")
    return kept


def on_grid_of(image: Volume, mask: Mask, settings: Settings, warnings: list[str]) -> Mask:
    """The mask on the image's grid. Raises EmptyMaskError, FrameMismatchError."""
    if np.ndim(mask.array) != 3:
        raise InputError(f"{mask.name or 'mask'}: must be a volume")
    mask.require_not_empty()
    check_pair(mask, image)
    if mask.grid.same_grid(image.grid):
        return mask
    if not settings.resample_mask:
        raise FrameMismatchError(
            f"{mask.name or 'mask'}: is on another grid ({_shape(mask)}) than {image.name or 'image'} "
            f"({_shape(image)}); segment on this image, or ask for resampling (resample_mask: true, --resample-mask)")
    part = cut_out_in_place(image, mask)
    if part is not None:
        return part
    resampled = resample_mask(mask, image.grid).require_not_empty()
    warnings.append(f"the mask was resampled to the image's grid: {mask.volume_ml:.4g} ml before, "
                    f"{resampled.volume_ml:.4g} ml after")
    return resampled


def cut_out_in_place(image: Volume, mask: Mask) -> Mask | None:
    """A mask whose voxels are voxels of the image (a cut-out, as segment files often are), on the image's grid.

    None where its voxels are others. Raises EmptyMaskError where no voxel of it lies in the image.
    """
    corners = image.grid.indices_kji(mask.grid.corners_ras())
    start = np.rint(corners[0]).astype(int)
    box = Grid(mask.grid.shape, np.eye(4)).corners_ras()[:, ::-1] + start
    if np.abs(corners - box).max() > _OFF_VOXEL:
        return None
    out = np.zeros(image.array.shape, bool)
    to = tuple(slice(max(0, s), max(0, min(n, s + m)))
               for s, n, m in zip(start, out.shape, mask.array.shape, strict=True))
    out[to] = mask.array[tuple(slice(t.start - s, t.stop - s) for t, s in zip(to, start, strict=True))]
    return Mask(out, image.grid, mask.name, mask.frame_of_reference, mask.metadata).require_not_empty()


def _check_axes(image: Volume) -> None:
    directions = image.grid.directions
    if np.abs(directions.T @ directions - np.eye(3)).max() > _SHEAR:
        raise RefusedError(f"{image.name or 'image'}: its axes aren't at right angles (gantry tilt?); "
                           "resample it to a regular grid first")
    if image.array.dtype.kind not in "buif":
        raise InputError(f"{image.name or 'image'}: holds {image.array.dtype} values; one number a voxel is needed")


def _parts(mask: Mask, settings: Settings, warnings: list[str]) -> np.ndarray:
    """The mask's voxels; unconnected parts are named, or all but the largest dropped."""
    from scipy import ndimage

    box = _box(mask.array, (0, 0, 0))
    labels, count = ndimage.label(mask.array[box], np.ones((3, 3, 3), int))  # type: ignore[misc]
    if count < 2:
        return mask.array
    sizes = np.bincount(labels.ravel())[1:]
    ordered = np.sort(sizes)[::-1]
    named = ", ".join(str(n) for n in ordered[:_MOST_PARTS_NAMED]) + (", ..." if count > _MOST_PARTS_NAMED else "")
    if settings.regions == "all":
        warnings.append(f"the mask has {count} unconnected parts ({named} voxels), measured together as one region; "
                        "regions: largest keeps one")
        return mask.array
    warnings.append(f"the mask has {count} unconnected parts ({named} voxels); only the largest was measured")
    out = np.zeros_like(mask.array)
    out[box] = labels == 1 + int(sizes.argmax())
    return out


def _margin(axis: Axis) -> int:
    """Voxels of the new grid beyond the mask that the local peak may look at."""
    return math.ceil(PEAK_RADIUS_MM / axis.new_mm) + 1


def _check_size(axes: list[Axis], windows: list[tuple[int, int]], settings: Settings, image: Volume) -> None:
    shape = [high - low for low, high in windows]
    if math.prod(shape) > settings.most_voxels:
        raise RefusedError(f"{image.name or 'image'}: {_sizes(shape[::-1])} voxels of "
                           f"{_sizes(tuple(a.new_mm for a in axes)[::-1])} mm would be measured, more than "
                           f"{settings.most_voxels}; choose a coarser spacing_mm or raise most_voxels")


def _finite(image: Volume, inside: np.ndarray, windows: list[tuple[int, int]], axes: list[Axis], settings: Settings,
            warnings: list[str]) -> np.ndarray:
    """The image's array; values near the mask that are no numbers are replaced by the nearest number."""
    if image.array.dtype.kind != "f":
        return image.array
    need = tuple(axis.source(window, settings.interpolation) for axis, window in zip(axes, windows, strict=True))
    part = image.array[need]
    bad = ~np.isfinite(part)
    if not bad.any():
        return image.array
    wrong = int(np.count_nonzero(bad & inside[need]))
    if wrong:
        raise InputError(f"{image.name or 'image'}: {wrong} of {int(inside.sum())} voxels inside the mask are no "
                         "numbers (NaN or infinite); repair the image or cut them from the mask")
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(bad, image.grid.spacing_kji_mm, return_distances=False,
                                             return_indices=True)
    array = image.array.copy()
    array[need] = part[tuple(nearest)]  # type: ignore[arg-type]
    warnings.append(f"{int(bad.sum())} voxels beside the mask are no numbers (NaN or infinite); "
                    "the nearest number was taken in their place")
    return array


def _grid(grid: Grid, axes: list[Axis], windows: list[tuple[int, int]]) -> Grid:
    matrix = grid.ras_from_ijk.copy()
    first = np.array([axis.first + axis.step * low for axis, (low, _) in zip(axes, windows, strict=True)])
    matrix[:3, 3] = grid.points_ras(first[None])[0]
    matrix[:3, :3] = grid.ras_from_ijk[:3, :3] * np.array([axis.step for axis in axes])[::-1]
    return Grid(tuple(high - low for low, high in windows), matrix)  # type: ignore[arg-type]


def _notes(morphological: np.ndarray, intensity: np.ndarray, spacing: tuple[float, ...], image: Volume, mask: Mask,
           settings: Settings, warnings: list[str]) -> None:
    if mask.touches_border():
        warnings.append("the mask touches the image's border: the structure may be cut off there")
    count = int(np.count_nonzero(intensity))
    if count == 1:
        warnings.append("the region is a single voxel: most textures and spreads aren't defined")
    elif intensity.any(axis=(1, 2)).sum() == 1:
        warnings.append("the region lies in one slice: take 2D textures; across slices 3D ones see single voxels only")
    lost = 1.0 - count / np.count_nonzero(morphological)
    if lost > 0.5:
        warnings.append(f"re-segmentation left out {100 * lost:.0f} % of the region")
    if any(way.startswith("3D") for way in settings.aggregations) and max(spacing) > _ANISOTROPY * min(spacing) and \
            image.array.shape[0] > 1:
        warnings.append(f"voxels of {_sizes(spacing[::-1])} mm: 3D textures depend on the direction; "
                        "set spacing_mm, or use 2D and 2_5D")


def _box(mask: np.ndarray, margin) -> tuple[slice, slice, slice]:
    out = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        out.append(slice(max(0, int(hit[0]) - margin[axis]), min(mask.shape[axis], int(hit[-1]) + 1 + margin[axis])))
    return tuple(out)  # type: ignore[return-value]


def _sizes(values) -> str:
    return "x".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)


def _shape(volume: Volume) -> str:
    return f"{_sizes(volume.array.shape[::-1])} voxels of {_sizes([float(s) for s in volume.spacing_mm])} mm"
