"""The tracked slice through volumes of the plan, and the plan's structures as lines on the tracked slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..geometry import InputError, LinearTransform, Mask, Surface, Volume
from .reconstruction import check_image_matrices
from .slice_lines import clip_lines, contour_lines, cut_surface

BLOCK_ROWS = 64
EDGE = 1e-3  # voxels
MAX_VOLUMES = 3
LARGEST_PX = 8192


def reslice(volume: Volume, ras_from_pixel: object, size_px: tuple[int, int], *, order: int = 1,
            outside: float = float("nan"), volume_from_ras: object = None) -> np.ndarray:
    """A slice of a volume at the place of an image.

    Args:
        volume: any number type; a C-contiguous array is read in place, another is copied at every call.
        ras_from_pixel: (4, 4), pixel (column, row, 0, 1) to RAS mm; may be scaled and oblique.
        size_px: (columns, rows). order: 0 nearest, 1 linear, 3 cubic spline (slow).
        outside: value where the volume has none. volume_from_ras: (4, 4) or LinearTransform from the image's frame to
            the volume's, where they differ (a registered MR).
    Returns: (rows, columns) float32. Raises InputError.
    Between the outermost voxel centres and the border of the volume there is no value; a volume of one layer holds
    for half a voxel on both sides.
    """
    matrix, (columns, rows) = _ijk_from_pixel(volume, ras_from_pixel, volume_from_ras), _size(size_px)
    if order not in (0, 1, 3):
        raise InputError(f"interpolation of order {order} is not there; 0, 1 or 3 is")
    if volume.array.size == 0:
        return np.full((rows, columns), outside, np.float32)
    out = np.empty((rows, columns), np.float32)
    flat = np.ascontiguousarray(volume.array).ravel() if order < 3 else None
    for first in range(0, rows, BLOCK_ROWS):
        part = out[first:first + BLOCK_ROWS]
        places, inside = _places(matrix, volume.array.shape, columns, first, len(part))
        if flat is None:
            from scipy import ndimage

            part[...] = ndimage.map_coordinates(volume.array, places[::-1], output=np.float32, order=3, mode="nearest")
        elif order == 0:
            part[...] = _nearest(flat, volume.array.shape, places)
        else:
            part[...] = _linear(flat, volume.array.shape, places)
        if inside is not None:
            part[~inside] = outside
    return out


def _ijk_from_pixel(volume: Volume, ras_from_pixel: object, volume_from_ras: object) -> np.ndarray:
    pose = check_image_matrices(np.asarray(ras_from_pixel, float)[None])[0]
    if volume_from_ras is None:
        return volume.grid.ijk_from_ras @ pose
    other = volume_from_ras.matrix if isinstance(volume_from_ras, LinearTransform) else volume_from_ras
    other = np.asarray(other, float)
    if other.shape != (4, 4) or not np.isfinite(other).all():
        raise InputError("volume_from_ras must be a 4x4 matrix of finite numbers")
    return volume.grid.ijk_from_ras @ other @ pose


def _size(size_px: Sequence[int]) -> tuple[int, int]:
    columns, rows = (int(n) for n in size_px)
    if not (0 < columns <= LARGEST_PX and 0 < rows <= LARGEST_PX):
        raise InputError(f"a slice of {columns} x {rows} pixels can't be made; 1 to {LARGEST_PX} each can")
    return columns, rows


def _places(matrix: np.ndarray, shape: tuple[int, ...], columns: int, first: int, rows: int
            ) -> tuple[list[np.ndarray], np.ndarray | None]:
    """([i, j, k] (rows, columns) float32, moved to the nearest layer; bool of what is inside, None where all is)."""
    across, along = np.arange(columns, dtype=float), np.arange(first, first + rows, dtype=float)
    out, inside = [], None
    for axis, count in enumerate(shape[::-1]):
        u, v = matrix[axis, 0] * across, matrix[axis, 1] * along + matrix[axis, 3]
        place = u.astype(np.float32)[None] + v.astype(np.float32)[:, None]
        spare = EDGE if count > 1 else 0.5
        if u.min() + v.min() < 0 or u.max() + v.max() > count - 1:
            fits = (place >= -spare) & (place <= count - 1 + spare)
            inside = fits if inside is None else inside & fits
            np.clip(place, 0, count - 1, out=place)
        out.append(place)
    return out, inside


def _nearest(flat: np.ndarray, shape: tuple[int, ...], places: list[np.ndarray]) -> np.ndarray:
    i, j, k = (np.floor(place + np.float32(0.5)).astype(np.intp) for place in places)
    return flat.take(i + shape[2] * (j + shape[1] * k), mode="clip")


def _linear(flat: np.ndarray, shape: tuple[int, ...], places: list[np.ndarray]) -> np.ndarray:
    whole, share = [], []
    for place, count in zip(places, shape[::-1], strict=True):
        low = np.minimum(np.floor(place), max(count - 2, 0))
        whole.append(low.astype(np.intp))
        share.append(place - low)
    base = whole[0] + shape[2] * (whole[1] + shape[1] * whole[2])
    steps = [step if count > 1 else 0
             for step, count in zip((1, shape[2], shape[1] * shape[2]), shape[::-1], strict=True)]

    def along_i(offset: int) -> np.ndarray:
        low = flat[offset:].take(base, mode="clip").astype(np.float32)
        high = flat[offset + steps[0]:].take(base, mode="clip").astype(np.float32)
        high -= low
        high *= share[0]
        low += high
        return low

    def along_j(offset: int) -> np.ndarray:
        low, high = along_i(offset), along_i(offset + steps[1])
        high -= low
        high *= share[1]
        low += high
        return low

    low, high = along_j(0), along_j(steps[2])
    high -= low
    high *= share[2]
    low += high
    return low


class Reslicer:
    """Up to three volumes that follow the tracked slice. Holds their arrays ready; call it from one thread.

    Args: volumes: one to three. volume_from_ras: one (4, 4), LinearTransform or None for each. Raises InputError.
    """

    def __init__(self, volumes: Sequence[Volume], volume_from_ras: Sequence[object] | None = None) -> None:
        if not 1 <= len(volumes) <= MAX_VOLUMES:
            raise InputError(f"{len(volumes)} volumes to reslice; one to {MAX_VOLUMES} can be shown")
        self.volumes = [v.with_array(np.ascontiguousarray(v.array)) for v in volumes]
        self.volume_from_ras = list(volume_from_ras) if volume_from_ras is not None else [None] * len(volumes)
        if len(self.volume_from_ras) != len(volumes):
            raise InputError(f"{len(self.volume_from_ras)} transforms for {len(volumes)} volumes")

    def slices(self, ras_from_pixel: object, size_px: tuple[int, int], *, order: int = 1) -> list[np.ndarray]:
        """(rows, columns) float32 of each volume, NaN outside it. Raises InputError."""
        return [reslice(volume, ras_from_pixel, size_px, order=order, volume_from_ras=transform)
                for volume, transform in zip(self.volumes, self.volume_from_ras, strict=True)]


def outlines(structure: Mask | Surface, ras_from_pixel: object, size_px: tuple[int, int]) -> list[np.ndarray]:
    """Where the slice cuts a structure of the plan: lines in pixels (x column, y row), cut at the image's border.

    Args: as `reslice`. A mask is taken as its linearly interpolated half level, which is within half a voxel.
    Returns: list of (n, 2) float64; a closed line ends in its first point. Nothing cut: an empty list.
    Raises InputError.
    """
    pose, size = check_image_matrices(np.asarray(ras_from_pixel, float)[None])[0], _size(size_px)
    if isinstance(structure, Surface):
        return clip_lines(cut_surface(structure, pose), size)
    if not structure.array.any():
        return []
    # a pixel more on each side, so that lines reach the border and what touches it isn't closed along it
    shift = np.eye(4)
    shift[:2, 3] = -1.0
    level = reslice(Volume(structure.array.view(np.uint8), structure.grid), pose @ shift, (size[0] + 2, size[1] + 2),
                    outside=0.0)
    return clip_lines([line - 1.0 for line in contour_lines(level, 0.5)], size)


def label_outlines(labels: Volume, ras_from_pixel: object, size_px: tuple[int, int]) -> dict[int, list[np.ndarray]]:
    """{label: lines} of every label that the slice cuts, 0 left out; lines as `outlines`. Raises InputError."""
    present = np.unique(reslice(labels, ras_from_pixel, size_px, order=0, outside=0.0))
    found = {int(n): outlines(Mask(labels.array == n, labels.grid), ras_from_pixel, size_px) for n in present if n != 0}
    return {n: lines for n, lines in found.items() if lines}
