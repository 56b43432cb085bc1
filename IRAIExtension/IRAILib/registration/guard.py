"""Reasons not to believe a registration. Each is one line that a reader can act on."""

from __future__ import annotations

from .options import RegistrationOptions
from .result import RegistrationQuality

LEAST_DICE = {"rigid": 0.6, "deformable": 0.75}
LARGEST_DICE_LOSS = 0.03
LARGEST_INCONSISTENCY_MM = 3.0
LARGEST_STRETCH = 1.25
LEAST_SHELL_PERCENT = 50.0
LARGEST_FOLDING_PERCENT = 1.0
LARGEST_ERROR_MM = 4.0
LARGEST_TUMOR_ZONE_GAP_MM = 20.0
LARGEST_LOSS = 0.1


def refusal(quality: RegistrationQuality, options: RegistrationOptions, *, local_tre_mm: float,
            tumor_readable: bool, gap_mm: float | None, has_zone: bool) -> str | None:
    """The first reason to refuse, or None.

    Args:
        tumor_readable: False when the map folds inside the tumour, so that it has no volume.
        gap_mm: smallest distance between the mapped tumour and the zone; None without both.
        has_zone: whether an excluded zone or tumour was given.
    """
    checks = (_tumor(quality, options, tumor_readable), _folds(quality, options), _organ(quality, options),
              _overlap(quality, gap_mm), _consistency(quality), _similarity(quality), _error(local_tre_mm, has_zone))
    return next((reason for reason in checks if reason), None)


def _tumor(quality: RegistrationQuality, options: RegistrationOptions, readable: bool) -> str | None:
    if not readable:
        return "the deformation folds inside the tumour; no margin can be measured"
    change, limit = quality.tumor_volume_change_percent, options.max_volume_change_percent
    if change is not None and abs(change) > limit:
        return (f"the registration changes the tumour's volume by {change:+.0f} % (at most {limit:g} % is believed): "
                f"it {'stretches' if change > 0 else 'shrinks'} the tumour, so that the margin would be wrong; check "
                "the masks, or register rigidly")
    if quality.tumor_stretch is not None and quality.tumor_stretch > LARGEST_STRETCH:
        return (f"the registration makes the tumour {100 * (quality.tumor_stretch - 1):.0f} % longer or shorter in "
                "one direction; check the masks, or register rigidly")
    return None


def _folds(quality: RegistrationQuality, options: RegistrationOptions) -> str | None:
    near = quality.fold_distance_mm
    if near is not None and near <= options.fold_distance_mm:
        return (f"the deformation folds {near:.0f} mm from the tumour or the zone (at least "
                f"{options.fold_distance_mm:g} mm are needed); register rigidly or with another engine")
    if quality.folding_percent > LARGEST_FOLDING_PERCENT:
        return (f"the deformation folds in {quality.folding_percent:.1f} % of the organ; register rigidly or with "
                "another engine")
    return None


def _organ(quality: RegistrationQuality, options: RegistrationOptions) -> str | None:
    dice = quality.organ_dice
    if dice is not None and dice < LEAST_DICE[options.model]:
        return (f"the organs overlap only to Dice {dice:.2f} after registration (at least "
                f"{LEAST_DICE[options.model]:.2f} is needed); check that both masks show the same whole organ")
    rigid = quality.organ_dice_rigid
    if dice is not None and rigid is not None and dice < rigid - LARGEST_DICE_LOSS:
        return (f"the deformation makes the organs overlap worse (Dice {rigid:.2f} to "
                f"{dice:.2f}); register rigidly or with another engine")
    return None


def _consistency(quality: RegistrationQuality) -> str | None:
    apart = quality.inverse_consistency_mm
    if apart is not None and apart > LARGEST_INCONSISTENCY_MM:
        return (f"registering there and back ends {apart:.1f} mm off (median over the organ; at most "
                f"{LARGEST_INCONSISTENCY_MM:g} mm is accepted): the images don't determine the deformation; register "
                "rigidly or place landmarks")
    return None


def _overlap(quality: RegistrationQuality, gap_mm: float | None) -> str | None:
    seen = quality.shell_seen_percent
    if seen is not None and seen < LEAST_SHELL_PERCENT:
        return (f"only {seen:.0f} % of the tissue round the zone is seen in the other image; load scans that cover "
                "the whole region")
    if gap_mm is not None and gap_mm > LARGEST_TUMOR_ZONE_GAP_MM:
        return (f"the tumour lands {gap_mm:.0f} mm away from the ablation zone; check that the masks belong to the "
                "same lesion and the images to the same patient")
    return None


def _similarity(quality: RegistrationQuality) -> str | None:
    before, rigid = quality.information_before, quality.information_rigid
    worse = before is not None and rigid is not None and rigid < (1.0 - LARGEST_LOSS) * before
    first, last = quality.similarity_rigid, quality.similarity_after
    if worse or (first is not None and last is not None and last < (1.0 - LARGEST_LOSS) * first):
        return ("the images match worse after registration than before; check that they show the same patient, or "
                "place them by landmarks")
    return None


def _error(local_tre_mm: float, has_zone: bool) -> str | None:
    if has_zone and local_tre_mm > LARGEST_ERROR_MM:
        return (f"the registration is uncertain by {local_tre_mm:.1f} mm round the zone (at most "
                f"{LARGEST_ERROR_MM:g} mm is accepted); a margin would mean nothing")
    return None
