"""A volume from tracked ultrasound frames, at once or frame by frame while the probe moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import CancelledError, Grid, InputError, Mask, RefusedError, Volume
from . import paste
from .holes import REACH
from .holes import fill_holes as close_holes
from .paste_running import RunningTarget, paste_running
from .poses import plain

INTERPOLATIONS = ("nearest", "linear")
COMPOUNDINGS = ("mean", "max", "latest", "running_mean")
MAX_VOXELS = 300_000_000
VALIDATED_ON = ("spine and N-wire phantoms of the PLUS test data, against the volumes that PLUS made of them; painted "
                "volumes with known content")


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A freehand volume and where it holds.

    volume: (k, j, i) uint8 for 8-bit frames, else float32; 0 where nothing was seen or filled. Frame: that of the
        poses (RAS mm).
    covered: voxels that pixels reached. filled: holes that were closed from their neighbours, which is a guess.
    confidence: (k, j, i) float32, 0 to 1: pixels that reached the voxel against those that one frame through its
        middle gives; 0 where it was filled or is unknown. It says how much was seen, not how true it is.
    outside_share: of the pixels of the region, how many fell outside the grid. frames_used, frames_left_out.
    """

    volume: Volume
    covered: Mask
    filled: Mask
    confidence: Volume
    interpolation: str
    compounding: str
    frames_used: int
    frames_left_out: int
    outside_share: float
    frame: str = "RAS"
    validated_on: str = VALIDATED_ON

    def to_dict(self) -> dict[str, Any]:
        grid, known = self.volume.grid, self.covered.array.sum()
        return plain({
            "kind": "freehand_reconstruction", "frame": self.frame, "units": "mm", "spacing_mm": grid.spacing_mm,
            "size": grid.shape[::-1], "first_voxel_mm": grid.ras_from_ijk[:3, 3],
            "interpolation": self.interpolation, "compounding": self.compounding,
            "frames_used": self.frames_used, "frames_left_out": self.frames_left_out,
            "covered_ml": self.covered.volume_ml, "filled_ml": self.filled.volume_ml,
            "covered_share": known / self.covered.array.size,
            "median_confidence": float(np.median(self.confidence.array[self.covered.array])) if known else None,
            "outside_share": self.outside_share,
            "uncertainty": "a voxel lies where tracker and calibration put it; their errors are not in here",
            "validated_on": self.validated_on})


class Reconstructor:
    """Frames into a volume one by one, as they come. Not for several threads at once.

    Args:
        grid: of the result; RAS mm, may be oblique. interpolation: "nearest": a pixel goes into one voxel; "linear":
            into the eight round it. compounding: "mean" of the pixels, "max", "latest", or "running_mean": rounded to
            whole grey levels at every pixel, as PLUS does (8-bit frames only; slower).
        region_px: (x0, y0, x1, y1), end not included, or (rows, columns) bool (see `fan_mask`); None: all pixels.
    Raises InputError; RefusedError: more voxels than can be held.
    """

    def __init__(self, grid: Grid, *, interpolation: str = "linear", compounding: str = "mean",
                 region_px: object = None) -> None:
        if interpolation not in INTERPOLATIONS or compounding not in COMPOUNDINGS:
            raise InputError(f"{interpolation} with {compounding} can't be reconstructed; one of "
                             f"{', '.join(INTERPOLATIONS)} with one of {', '.join(COMPOUNDINGS)} can")
        # holes are closed in a volume with a rim as wide as they may be, which is most of one with a short side
        if np.prod([float(n + 2 * REACH + 2) for n in grid.shape]) > MAX_VOXELS:
            raise RefusedError(f"a volume of {' x '.join(str(n) for n in grid.shape[::-1])} voxels is too large; take "
                               "a larger spacing or a smaller region, and check that no pose is far off")
        self.grid, self.interpolation, self.compounding = grid, interpolation, compounding
        self.region_px = region_px
        running = compounding == "running_mean"
        self._target = RunningTarget(grid.shape) if running else paste.Target.empty(grid.shape)
        self.frames_used, self._pixels, self._landed, self._frame_worth = 0, 0, 0, 1.0
        self._type: np.dtype | None = None

    def add(self, frame: object, ras_from_image: object) -> int:
        """Paste a frame. Returns how many of its pixels lie in the grid.

        Args: frame: (rows, columns) grey. ras_from_image: (4, 4), pixel (column, row, 0, 1) to RAS mm.
        Raises InputError: no grey frame, values or a matrix that aren't finite, another type than the frames before.
        """
        image = check_frame(frame)
        if self._type is not None and image.dtype != self._type:
            raise InputError(f"a frame of {image.dtype} after frames of {self._type}; convert them to one type")
        if self.compounding == "running_mean" and image.dtype != np.uint8:
            raise InputError(f"running_mean is for 8-bit frames, not {image.dtype}; use mean")
        matrix = check_image_matrices(np.asarray(ras_from_image, float)[None])[0]
        self._type = image.dtype
        region, keep = region_of(self.region_px, image.shape)
        voxels = self.grid.ijk_from_ras @ matrix
        area = np.linalg.norm(np.cross(voxels[:3, 0], voxels[:3, 1]))
        self._frame_worth = 1.0 / max(float(area), 1e-9)
        landed = self._paste(image, keep, voxels, region)
        x0, y0, x1, y1 = region
        self._pixels += (x1 - x0) * (y1 - y0) if keep is None else int(keep[y0:y1, x0:x1].sum())
        self._landed += landed
        self.frames_used += 1
        return landed

    def _paste(self, image, keep, voxels, region) -> int:
        linear = self.interpolation == "linear"
        target = self._target
        if isinstance(target, RunningTarget):
            return paste_running(target, image, keep, voxels, region, linear=linear)
        if self.compounding == "mean":
            return sum(paste.paste_mean(target, tile, linear=linear)
                       for tile in paste.tiles(image, keep, voxels, target.size, region))
        latest = self.compounding == "latest"
        size = {"rows": paste.STRIP_ROWS, "columns": image.shape[1]} if latest else {}
        return sum(paste.paste_one(target, tile, linear=linear, latest=latest)
                   for tile in paste.tiles(image, keep, voxels, target.size, region, **size))

    def result(self, *, fill_holes: bool = True, left_out: int = 0) -> Reconstruction:
        """The volume so far; more frames may follow. Nothing pasted: an empty volume."""
        value, weight = self._target.value(), self._target.weight()
        covered = weight > 1e-6
        level = value / np.where(covered, weight, 1.0) if self.compounding == "mean" else value
        level = np.where(covered, level, 0.0).astype(np.float32)
        filled = np.zeros(covered.shape, bool)
        if fill_holes:
            level, filled = close_holes(level, covered, whole=self.compounding == "running_mean")
        if self._type == np.uint8:
            level = np.clip(np.rint(level), 0, 255).astype(np.uint8)
        confidence = np.where(covered, np.minimum(weight / self._frame_worth, 1.0), 0.0).astype(np.float32)
        outside = 1.0 - self._landed / self._pixels if self._pixels else 0.0
        return Reconstruction(
            Volume(level, self.grid, "reconstruction"), Mask(covered, self.grid, "covered"),
            Mask(filled, self.grid, "filled"), Volume(confidence, self.grid, "confidence"), self.interpolation,
            self.compounding, self.frames_used, left_out, outside)


def reconstruct(frames: object, ras_from_image: object, *, valid: object = None, spacing_mm: object = 0.5,
                interpolation: str = "linear", compounding: str = "mean", region_px: object = None,
                fill_holes: bool = True, grid: Grid | None = None,
                progress: Callable[[float, str], None] | None = None,
                cancelled: Callable[[], bool] | None = None) -> Reconstruction:
    """A volume of a recorded sweep.

    Args:
        frames: (n, rows, columns) grey, any number type. ras_from_image: (n, 4, 4), pixel (column, row) to RAS mm.
        valid: (n,) bool; frames without a pose are left out. grid: of the result; default: round all pixels of the
            region, along the axes of RAS, voxels of spacing_mm (one number or three).
        Others as `Reconstructor`. progress: called with (share, text). cancelled: True ends the work.
    Raises InputError: no frames, shapes, matrices; RefusedError: no frame with a pose, a volume that can't be held
    (a pose far off makes one), no pixel in the grid; CancelledError.
    Source: pixels are distributed over voxels and holes filled as in PLUS (Lasso 2014).
    """
    stack, poses = np.asarray(frames), np.asarray(ras_from_image, float)
    if stack.ndim != 3 or stack.size == 0 or poses.shape != (len(stack), 4, 4):
        raise InputError(f"grey frames (n, rows, columns) and as many 4x4 matrices are needed, not {stack.shape} and "
                         f"{poses.shape}")
    good = np.ones(len(stack), bool) if valid is None else np.asarray(valid, bool)
    if good.shape != (len(stack),):
        raise InputError(f"{len(stack)} frames need as many marks of validity, not {good.shape}")
    numbers = np.nonzero(good)[0]
    if len(numbers) == 0:
        raise RefusedError("no frame has a pose; check that the tracker saw the probe and the reference")
    poses = check_image_matrices(np.where(good[:, None, None], poses, np.eye(4)))[numbers]
    region, _ = region_of(region_px, stack.shape[1:])
    if grid is None:
        grid = grid_round(poses, region, spacing_mm)
    worker = Reconstructor(grid, interpolation=interpolation, compounding=compounding, region_px=region_px)
    for done, (number, pose) in enumerate(zip(numbers, poses, strict=True)):
        if cancelled is not None and cancelled():
            raise CancelledError("the reconstruction was cancelled")
        if progress is not None:
            progress(0.95 * done / len(numbers), "frames into the volume")
        worker.add(stack[number], pose)
    if progress is not None:
        progress(0.95, "closing holes" if fill_holes else "finishing")
    result = worker.result(fill_holes=fill_holes, left_out=len(stack) - len(numbers))
    if not result.covered.array.any():
        raise RefusedError("no pixel falls into the grid; check the transforms and the grid")
    return result


def grid_round(ras_from_image: np.ndarray, region: tuple[int, int, int, int], spacing_mm: object, *,
               whole: bool = True) -> Grid:
    """The grid along the axes of RAS that starts at the least coordinates of the region's corner pixels and holds all.

    Args: spacing_mm: one number or three (R, A, S). whole: False leaves out what is beyond the last whole voxel, as
        the reference volumes of PLUS do.
    Raises InputError: spacing not positive and finite.
    """
    spacing = np.asarray(spacing_mm, float)
    if spacing.shape not in ((), (3,)) or not ((spacing >= 1e-3) & (spacing <= 100)).all():
        raise InputError(f"a spacing of {spacing_mm} mm can't be used; 0.1 to 2 mm is usual")
    spacing = np.broadcast_to(spacing, (3,))
    x0, y0, x1, y1 = region
    corners = np.array([[x, y, 0.0, 1.0] for x in (x0, x1 - 1) for y in (y0, y1 - 1)])
    points = np.einsum("nij,cj->nci", ras_from_image, corners)[..., :3].reshape(-1, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = low
    last = np.ceil if whole else np.floor
    i, j, k = (int(last(min(extent, 1e7) + (-1e-6 if whole else 1e-6))) + 1 for extent in (high - low) / spacing)
    return Grid((k, j, i), matrix)


def check_frame(frame: object) -> np.ndarray:
    """(rows, columns) of finite numbers. Raises InputError."""
    image = np.asarray(frame)
    if image.ndim != 2 or image.size == 0 or image.dtype.kind not in "uifb":
        raise InputError(f"a grey frame (rows, columns) is needed, not an array of shape {image.shape}, {image.dtype}")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise InputError("a frame holds values that are not finite")
    return image


def check_image_matrices(matrices: np.ndarray) -> np.ndarray:
    """(n, 4, 4), unchanged. Raises InputError unless each is affine, finite, and its first two columns span a plane."""
    if matrices.ndim != 3 or matrices.shape[1:] != (4, 4):
        raise InputError(f"4x4 matrices of the image are needed, not an array of shape {matrices.shape}")
    bad = ~np.isfinite(matrices).all(axis=(1, 2))
    if not bad.any():
        bad = np.abs(matrices[:, 3] - (0, 0, 0, 1)).max(axis=1) > 1e-6
        normal = np.cross(matrices[:, :3, 0], matrices[:, :3, 1])
        lengths = np.linalg.norm(matrices[:, :3, 0], axis=1) * np.linalg.norm(matrices[:, :3, 1], axis=1)
        bad |= ~(np.linalg.norm(normal, axis=1) > 1e-3 * lengths) | (lengths < 1e-12)
    if bad.any():
        raise InputError(f"matrix {int(np.nonzero(bad)[0][0])} of the image is not finite, or doesn't span a plane")
    return matrices


def region_of(region_px: object, shape: tuple[int, ...]) -> tuple[tuple[int, int, int, int], np.ndarray | None]:
    """((x0, y0, x1, y1), mask or None) of a rectangle, a mask or None. Raises InputError."""
    rows, columns = shape
    if region_px is None:
        return (0, 0, columns, rows), None
    array = np.asarray(region_px)
    if array.dtype == bool and array.ndim == 2:
        if array.shape != (rows, columns) or not array.any():
            raise InputError(f"the mask of the region has {array.shape} pixels or is empty; the image has "
                             f"{(rows, columns)}")
        y, x = (np.flatnonzero(array.any(axis=axis)) for axis in (1, 0))
        return (int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1), array
    if array.shape != (4,) or array.dtype.kind not in "iu":
        raise InputError("the region is neither x0, y0, x1, y1 in pixels nor a mask of the image")
    x0, y0, x1, y1 = (int(n) for n in array)
    if not (0 <= x0 < x1 <= columns and 0 <= y0 < y1 <= rows):
        raise InputError(f"the region {x0},{y0},{x1},{y1} doesn't lie in an image of {columns} x {rows}")
    return (x0, y0, x1, y1), None


def fan_mask(size_px: tuple[int, int], apex_px: tuple[float, float], angles_deg: tuple[float, float],
             radius_px: tuple[float, float]) -> np.ndarray:
    """(rows, columns) bool: the fan of a curved probe.

    Args: size_px: (columns, rows). apex_px: (x, y) where its lines meet. angles_deg: from straight down, positive to
    larger x, -90 to 90. radius_px: nearest and furthest from the apex. Raises InputError.
    """
    (low, high), (near, far) = sorted(angles_deg), radius_px
    if not (-90 < low < high < 90 and 0 <= near < far):
        raise InputError(f"no fan has angles {low:g} to {high:g} degrees and radii {near:g} to {far:g} px")
    x, y = np.meshgrid(np.arange(size_px[0]) - apex_px[0], np.arange(size_px[1]) - apex_px[1])
    angle, radius = np.degrees(np.arctan2(x, y)), np.hypot(x, y)
    return (angle >= low) & (angle <= high) & (radius >= near) & (radius <= far)
