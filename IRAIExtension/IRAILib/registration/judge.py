"""The finished map looked at from all sides."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..geometry import Grid, InputError, LinearTransform, Mask, Transform, resample_mask
from . import quality
from .fields import jacobian, warp
from .inputs import Pair, Work, signed_distance_on
from .options import RegistrationOptions
from .result import RegistrationQuality
from .rigid import organ_overlap

ZONE_POINTS = 1500
SHELL_POINTS = 4000
VOXEL_SHARE = 0.2
"""Registration finds a place to about this share of the coarser image's voxel diagonal at best."""
LEAST_SIGMA_MM = 0.3
RIGID_SIGMA_MM = 1.5
UNKNOWN_SIGMA_MM = 2.0
CONSISTENCY_FACTOR = 1.0


@dataclass(frozen=True)
class Verdict:
    """Quality so far, what `guard.refusal` needs besides, and notes."""

    quality: RegistrationQuality
    tumor_readable: bool
    gap_mm: float | None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LocalError:
    """Expected error round the zone, and what it was made from (None where not measured)."""

    sigma_mm: float
    consistency_mm: float | None = None
    consistency_zone_mm: float | None = None
    shift_mm: float | None = None


def zone_distance_mm(pair: Pair, grid: Grid, transform: Transform) -> np.ndarray:
    """(k, j, i) signed distance, fixed frame, to the union of the zone and the tumour brought home."""
    parts = []
    if pair.exclude_fixed is not None:
        parts.append(signed_distance_on(pair.exclude_fixed, grid))
    if pair.exclude_moving is not None:
        parts.append(quality.brought_home_mm(pair.exclude_moving, grid, transform))
    return np.minimum.reduce(parts)


def aligned_masks(pair: Pair, grid: Grid, rigid: LinearTransform) -> Pair:
    """The excluded zones as the backward registration sees them: the moving one, aligned, is its fixed one."""
    def on_grid(mask: Mask | None, transform: Transform | None) -> Mask | None:
        if mask is None:
            return None
        moved = resample_mask(mask.crop_to_content(6.0), grid, transform)
        return moved if moved.array.any() else None

    return Pair(pair.moving, pair.fixed, None, None, on_grid(pair.exclude_moving, rigid),
                on_grid(pair.exclude_fixed, None))


def judge(pair: Pair, work: Work, shift: np.ndarray, transform: Transform, rigid: LinearTransform) -> Verdict:
    """Everything that can be measured on the map itself."""
    grid, organ = work.grid, work.organ
    determinant = jacobian(shift, grid)
    folds = determinant <= 0.0
    zone_mm = zone_distance_mm(pair, grid, transform) if pair.has_zone else None
    change = None if pair.exclude_moving is None else quality.tumor_change(transform, pair.exclude_moving)
    moved, weight = warp(work.moving, shift, grid), warp(work.moving_weight, shift, grid)
    dice, distance = quality.organ_agreement(pair, grid, transform)
    near = zone_mm is not None and folds.any()
    found = RegistrationQuality(
        jacobian_min=float(determinant[organ].min()), folding_percent=100.0 * float(folds[organ].mean()),
        fold_distance_mm=float(np.maximum(zone_mm[folds], 0.0).min()) if near and zone_mm is not None else None,
        jacobian_mean_tumor=change.jacobian if change else None, tumor_stretch=change.stretch if change else None,
        tumor_volume_change_percent=change.volume_percent if change else None,
        organ_dice=dice, organ_distance_mm=distance, organ_dice_rigid=organ_overlap(pair, rigid.matrix),
        organ_dice_before=organ_overlap(pair, np.eye(4)),
        similarity_rigid=quality.similarity(work, work.moving, work.moving_weight),
        similarity_after=quality.similarity(work, moved, weight),
        shell_seen_percent=None if zone_mm is None else _seen(pair, zone_mm, grid, transform))
    return Verdict(found, change is not None or pair.exclude_moving is None, _gap_mm(pair, grid, transform),
                   _warnings(pair))


def _gap_mm(pair: Pair, grid: Grid, transform: Transform) -> float | None:
    if pair.exclude_fixed is None or pair.exclude_moving is None:
        return None
    points = _tumor_home(pair.exclude_moving, transform)
    if points is None:
        return None
    from .inputs import distance_at

    return float(np.maximum(distance_at(pair.exclude_fixed, points), 0.0).min())


def _tumor_home(tumor: Mask, transform: Transform) -> np.ndarray | None:
    """(n, 3) tumour points in the fixed frame, or None where the map folds."""
    indices = np.argwhere(tumor.array)
    points = tumor.grid.points_ras(indices[:: max(1, len(indices) // ZONE_POINTS)])
    try:
        return transform.inverse_apply(points)
    except InputError:
        return None


def _seen(pair: Pair, zone_mm: np.ndarray, grid: Grid, transform: Transform) -> float:
    """Percent of the tissue 4 to 25 mm from the zone that both images hold."""
    shell = grid.points_ras(np.argwhere((zone_mm > 4.0) & (zone_mm < 25.0)))
    if not len(shell):
        return 0.0
    shell = shell[:: max(1, len(shell) // SHELL_POINTS)]

    def held(volume, points: np.ndarray) -> np.ndarray:
        index = volume.grid.indices_kji(points)
        return ((index > -0.5) & (index < np.array(volume.grid.shape) - 0.5)).all(axis=1)

    return 100.0 * float((held(pair.fixed, shell) & held(pair.moving, transform.apply(shell))).mean())


def _warnings(pair: Pair) -> list[str]:
    out = []
    for mask, what in ((pair.exclude_fixed, "ablation zone"), (pair.exclude_moving, "tumour")):
        if mask is not None and mask.touches_border():
            out.append(f"{mask.name or what}: the {what} reaches the edge of its image and may be cut off")
    if pair.fixed_organ is None or pair.moving_organ is None:
        out.append("no organ masks on both images: the overlap of the organs can't be checked")
    same = pair.fixed.array.shape == pair.moving.array.shape and np.array_equal(pair.fixed.array, pair.moving.array)
    if same:
        out.append("both images hold the same values; was one scan loaded twice?")
    return out


def local_error(pair: Pair, work: Work, rigid: LinearTransform, forward, back, options: RegistrationOptions
                ) -> LocalError:
    """One standard deviation of the 3D error round the zone, without knowing the truth.

    What two searches in opposite directions disagree by inside the zone (or organ), the standard error of the local
    model, and what the voxels allow, added in squares. A rigid map is wrong by what the deformable one finds besides.
    """
    voxel = max(float(np.linalg.norm(image.grid.spacing_mm)) for image in (pair.fixed, pair.moving))
    parts = [max(LEAST_SIGMA_MM, VOXEL_SHARE * voxel / np.sqrt(3.0))]
    if forward is None:
        return LocalError(float(np.hypot(parts[0], UNKNOWN_SIGMA_MM)))
    points = _points_of_interest(pair, work, forward.transform)
    shift = _rms(forward.transform.apply(points) - rigid.apply(points))
    if options.model == "rigid":
        return LocalError(float(np.linalg.norm([*parts, RIGID_SIGMA_MM / 2.0, shift])), shift_mm=shift)
    if forward.model is not None:
        parts.append(forward.model.error_mm(points))
    if back is None:
        return LocalError(float(np.linalg.norm([*parts, UNKNOWN_SIGMA_MM])), shift_mm=shift)
    aligned = rigid.inverse()

    def round_trip(at: np.ndarray) -> np.ndarray:
        return np.linalg.norm(back.transform.apply(aligned.apply(forward.transform.apply(at))) - at, axis=1)

    trips = round_trip(points)
    organ = work.grid.points_ras(np.argwhere(work.organ & (work.fixed_weight > 0.5)))
    everywhere = round_trip(organ[:: max(1, len(organ) // SHELL_POINTS)])
    zone = float(np.sqrt((trips**2).mean()))
    parts.append(CONSISTENCY_FACTOR * zone)
    return LocalError(float(np.linalg.norm(parts)), float(np.median(everywhere)), zone, shift)


def _points_of_interest(pair: Pair, work: Work, transform: Transform) -> np.ndarray:
    """(n, 3) fixed points: the tumour brought home, else the zone, else the organ."""
    if pair.exclude_moving is not None:
        home = _tumor_home(pair.exclude_moving, transform)
        if home is not None:
            return home
    if pair.exclude_fixed is not None:
        found = pair.exclude_fixed.grid.points_ras(np.argwhere(pair.exclude_fixed.array))
    else:
        found = work.grid.points_ras(np.argwhere(work.organ))
    return found[:: max(1, len(found) // ZONE_POINTS)]


def _rms(vectors: np.ndarray) -> float:
    return float(np.sqrt((vectors**2).sum(axis=1).mean()))
