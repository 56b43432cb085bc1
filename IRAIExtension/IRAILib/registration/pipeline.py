"""Rigid, then deformable with both zones left out, then the local affine, then the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..geometry import Grid, LinearTransform, Mask, Transform, Volume
from . import guard, quality
from .fields import jacobian, placed
from .inputs import Pair, Work, check_pair, prepare, working_grid
from .local import LocalAffine, blend, fit_affine
from .options import RegistrationOptions, choose_engine
from .result import RegistrationQuality, RegistrationResult
from .rigid import organ_overlap, register_rigid

Progress = Callable[[float, str], None]


def register(fixed: Volume, moving: Volume, *, options: RegistrationOptions | None = None,
             fixed_organ: Mask | None = None, moving_organ: Mask | None = None, exclude_fixed: Mask | None = None,
             exclude_moving: Mask | None = None, fixed_landmarks: np.ndarray | None = None,
             moving_landmarks: np.ndarray | None = None, progress: Progress | None = None) -> RegistrationResult:
    """The map that takes points of the fixed image to the same tissue in the moving image.

    Args:
        fixed, moving: images of the same organ, RAS mm. For an ablation: fixed after, moving before.
        options: how; see `RegistrationOptions`.
        fixed_organ, moving_organ: the organ in each; the deformation is judged and best inside.
        exclude_fixed: what is new in the fixed image (ablation zone). exclude_moving: what is gone (tumour).
        progress: told (share, text).
    Returns: the result with its quality; `refused` says why not to use it.
    Raises: InputError (images or masks unfit, one line), MissingPackageError.
    """
    began = time.monotonic()
    options = options or RegistrationOptions()
    tell = progress or (lambda share, text: None)
    pair = check_pair(Pair(fixed, moving, fixed_organ, moving_organ, exclude_fixed, exclude_moving))
    exclusion_mm = options.exclusion_mm if options.respect_exclusion else None
    engine = choose_engine(options.engine) if options.model == "deformable" else "rigid"
    rigid, _before, _after = register_rigid(pair, exclusion_mm, options.seed, _part(tell, 0.02, 0.3))
    grid = working_grid(pair, options.spacing_mm)
    work = prepare(pair, grid, rigid, exclusion_mm)
    field = np.zeros((*grid.shape, 3), np.float32)
    affine = None
    if options.model == "deformable":
        field = _deform(engine, work, options.seed, _part(tell, 0.3, 0.85))
        field, affine = _local(field, work, pair, rigid, options)
    tell(0.88, "judging the result")
    transform: Transform = rigid if options.model == "rigid" else placed(field, grid, rigid)
    found, gap, readable = _judge(pair, work, field, transform, rigid, affine)
    sigma = 1.0
    reason = guard.refusal(found, options, local_tre_mm=sigma, tumor_readable=readable, gap_mm=gap,
                           has_zone=exclude_fixed is not None or exclude_moving is not None)
    tell(1.0, "registration done")
    method = "rigid" if options.model == "rigid" else f"deformable ({engine})"
    return RegistrationResult(transform, rigid, found, reason, sigma, method, time.monotonic() - began)


def _part(tell: Progress, low: float, high: float) -> Progress:
    return lambda share, text: tell(low + (high - low) * share, text)


def _deform(engine: str, work: Work, seed: int, tell: Progress) -> np.ndarray:
    from . import bspline

    return bspline.deform(work, None, seed, tell)


def _zone_mm(pair: Pair, grid: Grid, transform: Transform) -> np.ndarray | None:
    """Signed distance to the union of the zone and the tumour brought home; None without either."""
    from .inputs import signed_distance_on

    parts = []
    if pair.exclude_fixed is not None:
        parts.append(signed_distance_on(pair.exclude_fixed, grid))
    if pair.exclude_moving is not None:
        parts.append(quality.brought_home_mm(pair.exclude_moving, grid, transform))
    return np.minimum.reduce(parts) if parts else None


def _local(field: np.ndarray, work: Work, pair: Pair, rigid: LinearTransform, options: RegistrationOptions
           ) -> tuple[np.ndarray, LocalAffine | None]:
    zone_mm = _zone_mm(pair, work.grid, placed(field, work.grid, rigid))
    if zone_mm is None:
        return field, None
    usable = work.fixed_weight > 0.5
    if work.fixed_organ_mm is not None:
        usable &= work.fixed_organ_mm < 0.0
    affine = fit_affine(field, work.grid, zone_mm, usable, options.shell_mm)
    if affine is None or not options.local_affine:
        return field, affine
    return blend(field, work.grid, zone_mm, affine), affine


def _judge(pair: Pair, work: Work, field: np.ndarray, transform: Transform, rigid: LinearTransform,
           affine: LocalAffine | None) -> tuple[RegistrationQuality, float | None, bool]:
    from .fields import warp

    grid = work.grid
    determinant = jacobian(field, grid)
    organ = work.fixed_organ_mm < 0.0 if work.fixed_organ_mm is not None else np.ones(grid.shape, bool)
    folds = determinant <= 0.0
    zone_mm = _zone_mm(pair, grid, transform)
    change = quality.tumor_change(transform, pair.exclude_moving) if pair.exclude_moving is not None else None
    gap = None
    if pair.exclude_fixed is not None and pair.exclude_moving is not None:
        from .inputs import signed_distance_on

        home = quality.brought_home_mm(pair.exclude_moving, grid, transform) < 0.0
        gap = float(np.maximum(signed_distance_on(pair.exclude_fixed, grid)[home], 0.0).min()) if home.any() else 99.0
    moved, weight = warp(work.moving, field, grid), warp(work.moving_weight, field, grid)
    dice, distance = quality.organ_agreement(pair, grid, transform)
    found = RegistrationQuality(
        jacobian_min=float(determinant[organ].min()), folding_percent=100.0 * float(folds[organ].mean()),
        fold_distance_mm=float(np.maximum(zone_mm[folds], 0.0).min()) if zone_mm is not None and folds.any() else None,
        jacobian_mean_tumor=change[1] if change else None, tumor_volume_change_percent=change[0] if change else None,
        tumor_stretch=change[2] if change else None, organ_dice=dice, organ_distance_mm=distance,
        organ_dice_rigid=organ_overlap(pair, rigid.matrix), organ_dice_before=organ_overlap(pair, np.eye(4)),
        similarity_rigid=quality.similarity(work, work.moving, work.moving_weight),
        similarity_after=quality.similarity(work, moved, weight),
        affine_residual_mm=affine.residual_mm if affine else None)
    return found, gap, change is not None or pair.exclude_moving is None
