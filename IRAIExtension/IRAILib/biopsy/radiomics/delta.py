"""What changed between two time points, feature by feature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from ...geometry import InputError, Mask, Volume
from .extract import Feature, FeatureSet, extract
from .settings import Settings

SMALLEST_SHARE = 1e-6
"""A first value below this share of the second counts as zero: relative to it, a change has no size."""
INTERVAL_UNITS = ("HU", "intensity")
"""Units whose zero is a convention, so that a relative change depends on it."""


def delta(before: FeatureSet, after: FeatureSet, *, days: float | None = None) -> FeatureSet:
    """Change of every feature from one time point to the next.

    Args:
        before, after: measured with the same settings; each on its own image and mask.
        days: between them; must be positive. None gives no change per day.
    Returns: FeatureSet with `delta_abs__KEY` (after - before, in the feature's unit), `delta_rel__KEY` ((after -
        before) / |before|; not defined where only before is zero) and `delta_per_day__KEY`. Where either value is
        missing, so is its change, with the reason. Image, mask, volume and voxels are the second's.
    Raises: InputError for different settings, units or features, or for days that aren't positive.
    """
    if before.settings.hash != after.settings.hash:
        differ = [key for key, value in before.settings.to_dict().items() if after.settings.to_dict()[key] != value]
        raise InputError(f"delta: the two time points were measured with different settings ({', '.join(differ)}); "
                         "measure both with the same")
    if set(before.features) != set(after.features):
        odd = sorted(set(before.features) ^ set(after.features))
        raise InputError(f"delta: {len(odd)} features are in one time point only ({odd[0]}, ...)")
    if days is not None and (isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days < math.inf):
        raise InputError(f"delta: days must be a positive number, got {days!r}; give the earlier study first")
    features: dict[str, Feature] = {}
    for key, first in before.features.items():
        second = after.features[key]
        if first.unit != second.unit:
            raise InputError(f"delta: {key} is in {first.unit} before and in {second.unit} after; bring both images "
                             "to one unit")
        features.update(_changes(key, first, second, days))
    return replace(after, features=dict(sorted(features.items(), key=lambda item: _order(item[0]))),
                   warnings=(*before.warnings, *after.warnings, *_notes(before, after)))


def _order(key: str) -> int:
    return ("delta_abs__", "delta_rel__", "delta_per_day__").index(key.split("__")[0] + "__")


def _changes(key: str, first: Feature, second: Feature, days: float | None) -> dict[str, Feature]:
    def one(value: float | None, unit: str, reason: str) -> Feature:
        return replace(second, value=value, unit=unit, reason=reason)

    per_day = f"{second.unit}/d" if second.unit not in ("", "1") else "1/d"
    units = {"delta_abs": second.unit, "delta_rel": "1"} | ({"delta_per_day": per_day} if days else {})
    if first.value is None or second.value is None:
        when = "before" if first.value is None else "after"
        reason = f"{when}: {first.reason if first.value is None else second.reason}"
        return {f"{name}__{key}": one(None, unit, reason) for name, unit in units.items()}
    change = second.value - first.value
    out = {f"delta_abs__{key}": one(change, second.unit, "")}
    if abs(first.value) <= SMALLEST_SHARE * max(abs(second.value), 1e-300):
        same = change == 0
        out[f"delta_rel__{key}"] = one(0.0 if same else None, "1", "" if same else "the first value is zero")
    else:
        out[f"delta_rel__{key}"] = one(change / abs(first.value), "1", "")
    if days:
        out[f"delta_per_day__{key}"] = one(change / float(days), per_day, "")
    return out


def _notes(before: FeatureSet, after: FeatureSet) -> list[str]:
    lines = []
    pairs = zip(before.spacing_mm, after.spacing_mm, strict=True)
    if any(abs(a - b) > 0.01 * max(a, b) for a, b in pairs):
        lines.append("delta: the voxel sizes differ between the time points; set spacing_mm, or textures differ for "
                     "that reason alone")
    if any(one.unit in INTERVAL_UNITS for one in after.features.values()):
        lines.append("delta: relative changes of intensities in HU or arbitrary units depend on where the scale has "
                     "its zero; prefer the absolute change")
    return lines


def delta_features(before: tuple[Volume, Mask], after: tuple[Volume, Mask], settings: Settings | None = None, *,
                   days: float | None = None, progress: Callable[[float, str], None] | None = None,
                   cancelled: Callable[[], bool] | None = None) -> FeatureSet:
    """Measure both time points, each on its own grid, and give the change; see `delta` and `extract`."""
    sets = []
    for n, (image, mask) in enumerate((before, after)):

        def tell(share: float, text: str, n: int = n) -> None:
            if progress is not None:
                progress((n + share) / 2, f"{('before', 'after')[n]}: {text}")

        sets.append(extract(image, mask, settings, progress=tell, cancelled=cancelled))
    return delta(sets[0], sets[1], days=days)
