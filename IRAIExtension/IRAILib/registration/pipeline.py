"""Rigid, then deformable with both zones left out, then the local model inside them, then the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..geometry import LinearTransform, Mask, Transform, Volume
from . import guard, judge, landmarks
from .engines import deform
from .fields import placed
from .inputs import REDUCED_SPACING_MM, Pair, Work, check_pair, prepare, reduced, working_grid
from .local import LocalModel, blend, fit_local
from .options import RegistrationOptions, choose_engine
from .result import RegistrationQuality, RegistrationResult
from .rigid import register_rigid

Progress = Callable[[float, str], None]
ZONE_UPDATES = 2


@dataclass(frozen=True, eq=False)
class Found:
    """One direction's map: field on the working grid, the local model in it, and where both apply."""

    field: np.ndarray
    model: LocalModel | None
    transform: Transform


def register(fixed: Volume, moving: Volume, *, options: RegistrationOptions | None = None,
             fixed_organ: Mask | None = None, moving_organ: Mask | None = None, exclude_fixed: Mask | None = None,
             exclude_moving: Mask | None = None, fixed_landmarks: np.ndarray | None = None,
             moving_landmarks: np.ndarray | None = None, progress: Progress | None = None) -> RegistrationResult:
    """The map that takes points of the fixed image to the same tissue in the moving image.

    Args:
        fixed, moving: images of the same organ, RAS mm. For an ablation: fixed after, moving before.
        options: how; see `RegistrationOptions`.
        fixed_organ, moving_organ: the organ in each; the deformation is judged, and best, inside.
        exclude_fixed: what is new in the fixed image (ablation zone). exclude_moving: what is gone (tumour).
        fixed_landmarks, moving_landmarks: (n, 3) RAS mm, the same tissue in the same order. They judge the result,
            each held out of its own correction, and correct it when there are enough and it helps.
        progress: told (share, text).
    Returns: the result with its quality; `refused` says why not to use it.
    Raises: InputError (images, masks or landmarks unfit, one line), MissingPackageError.
    """
    began = time.monotonic()
    options = options or RegistrationOptions()
    tell = progress or (lambda share, text: None)
    tell(0.0, "checking the images")
    engine = choose_engine(options.engine)
    whole = check_pair(Pair(fixed, moving, fixed_organ, moving_organ, exclude_fixed, exclude_moving))
    marks = landmarks.check_landmarks(fixed_landmarks, moving_landmarks)
    pair = reduced(whole, REDUCED_SPACING_MM)
    exclusion_mm = options.exclusion_mm if options.respect_exclusion else None
    start = None if marks is None else landmarks.rigid_fit(*marks)
    rigid, before, after = register_rigid(pair, exclusion_mm, options.seed, _part(tell, 0.02, 0.25), start)
    work = prepare(pair, working_grid(pair, options.spacing_mm), rigid, exclusion_mm)
    held_out = None if marks is None else landmarks.errors(rigid, *marks)
    forward = _forward(engine, work, pair, rigid, options, _part(tell, 0.28, 0.62))
    if options.model == "deformable" and marks is not None and forward is not None:
        forward, held_out = _with_landmarks(forward, work, pair, rigid, marks, options)
    back = _backward(engine, work, pair, rigid, options, _part(tell, 0.62, 0.9))
    tell(0.9, "judging the result")
    result = _conclude(whole, work, rigid, forward, back, options, held_out, (before, after))
    tell(1.0, "registration done")
    method = "rigid" if options.model == "rigid" else f"deformable ({engine})"
    return replace(result, method=method, seconds=time.monotonic() - began)


def _part(tell: Progress, low: float, high: float) -> Progress:
    return lambda share, text: tell(low + (high - low) * share, text)


def _forward(engine: str, work: Work, pair: Pair, rigid: LinearTransform, options: RegistrationOptions,
             tell: Progress) -> Found | None:
    """The deformation; for a rigid registration it only tells how wrong rigid is, when that is asked for."""
    if options.model == "rigid" and not options.estimate_error:
        return None
    field = deform(engine, work, options.seed, options.search_mm, tell)
    return _with_local(field, work, pair, rigid, options)


def _with_local(field: np.ndarray, work: Work, pair: Pair, rigid: LinearTransform, options: RegistrationOptions
                ) -> Found:
    """The local model put inside the zone. The tumour's place depends on the map, so the zone is found again."""
    shaped, model = field, None
    for _ in range(ZONE_UPDATES if pair.has_zone else 0):
        zone_mm = judge.zone_distance_mm(pair, work.grid, placed(shaped, work.grid, rigid))
        usable = (work.fixed_weight > 0.5) & work.organ
        model = fit_local(field, work.grid, zone_mm, usable, options.shell_mm)
        if model is None or not options.local_model:
            break
        shaped = blend(field, work.grid, zone_mm, model)
    return Found(shaped, model, placed(shaped, work.grid, rigid))


def _with_landmarks(found: Found, work: Work, pair: Pair, rigid: LinearTransform, marks, options
                    ) -> tuple[Found, np.ndarray]:
    field, errors, corrected = landmarks.correct(found.field, work.grid, found.transform, rigid, *marks)
    if not corrected:
        return found, errors
    return _with_local(field, work, pair, rigid, options), errors


def _backward(engine: str, work: Work, pair: Pair, rigid: LinearTransform, options: RegistrationOptions,
              tell: Progress) -> Found | None:
    """The same from the other side: aligned moving to fixed, with other random samples."""
    if options.model == "rigid" or not options.estimate_error:
        return None
    home = LinearTransform(np.eye(4), "moving", "fixed")
    other = work.swapped()
    field = deform(engine, other, options.seed + 1, options.search_mm, tell)
    aligned = judge.aligned_masks(pair, work.grid, rigid)
    return _with_local(field, other, aligned, home, options)


def _conclude(pair: Pair, work: Work, rigid: LinearTransform, forward: Found | None, back: Found | None,
              options: RegistrationOptions, held_out: np.ndarray | None, information: tuple[float, float]
              ) -> RegistrationResult:
    deformed = options.model == "deformable" and forward is not None
    transform = forward.transform if deformed and forward is not None else rigid
    field = forward.field if deformed and forward is not None else np.zeros((*work.grid.shape, 3), np.float32)
    verdict = judge.judge(pair, work, field, transform, rigid)
    error = judge.local_error(pair, work, rigid, forward, back, options)
    quality: RegistrationQuality = replace(
        verdict.quality, inverse_consistency_mm=error.consistency_mm, zone_shift_mm=error.shift_mm,
        inverse_consistency_zone_mm=error.consistency_zone_mm,
        local_residual_mm=forward.model.residual_mm if deformed and forward and forward.model else None,
        information_before=information[0], information_rigid=information[1],
        tre_mm=None if held_out is None else float(held_out.mean()),
        tre_points=0 if held_out is None else len(held_out))
    reason = guard.refusal(quality, options, local_tre_mm=error.sigma_mm, tumor_readable=verdict.tumor_readable,
                           gap_mm=verdict.gap_mm, has_zone=pair.has_zone)
    return RegistrationResult(transform, rigid, quality, reason, error.sigma_mm, "", warnings=verdict.warnings)
