"""A lesion's features with what stands beside them: its habitats, an ablation zone, a second time point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ...geometry import EmptyMaskError, Mask, Volume
from .delta import delta
from .extract import Feature, FeatureSet, extract
from .habitats import habitat_features, habitats
from .merge import merged, plain_feature, prefixed
from .region import on_grid_of
from .regions import ablation_regions
from .settings import Settings

Progress = Callable[[float, str], None]


def lesion_features(image: Volume, mask: Mask, settings: Settings | None = None, *, zone: Mask | None = None,
                    rim_mm: float = 5.0, habitats_wanted: int | str | None = None,
                    second: tuple[Volume, Mask] | None = None, days: float | None = None,
                    progress: Progress | None = None, cancelled: Callable[[], bool] | None = None) -> FeatureSet:
    """`extract`, and more features in the same set.

    Args:
        image, mask, settings: see `extract`.
        zone: ablation zone in the image's frame: adds its parts (`residual__...`, see `regions.ablation_regions`),
            their volumes (`residual_ml`) and `coverage`.
        rim_mm: width of the rim around the zone.
        habitats_wanted: 2 to 6 or "auto": adds `habitats.habitat_features` and every habitat's own features.
        second: image and mask of a later time point: adds `delta_abs__...`, see `delta.delta`.
        days: between the time points, for changes per day.
        progress, cancelled: see `extract`.
    Returns: one FeatureSet. A region too small to be measured gives no features and a warning.
    Raises: as `extract`, `habitats`, `ablation_regions` and `delta`.
    """
    settings = settings or Settings()
    warnings: list[str] = []
    mask = on_grid_of(image, mask, settings, warnings)
    numbers: dict[str, Feature] = {}
    regions: dict[str, Mask] = {}
    if zone is not None:
        lines: list[str] = []
        parts = ablation_regions(mask, on_grid_of(image, zone, settings, lines), rim_mm)
        regions.update(parts.masks)
        numbers.update({f"{name}_ml": plain_feature(volume, name.replace("_", " "), "ablation zone", "ml")
                        for name, volume in parts.volumes_ml.items()})
        numbers["coverage"] = plain_feature(parts.coverage, "share of the tumour in the zone", "ablation zone", "1")
        warnings += [f"ablation zone: {line}" for line in (*lines, *parts.warnings)]
    if habitats_wanted is not None:
        found = habitats(image, mask, n=None if habitats_wanted == "auto" else int(habitats_wanted),
                         cancelled=cancelled)
        regions.update(found.masks())
        numbers.update(habitat_features(found))
        warnings += [f"habitats: {line}" for line in found.warnings]
    steps = _Steps(1 + len(regions) + (second is not None), progress)
    base = extract(image, mask, settings, progress=steps.next("lesion"), cancelled=cancelled)
    sets = [base, *_measured(image, regions, settings, warnings, steps, cancelled)]
    if second is not None:
        after = extract(*second, settings, progress=steps.next("second"), cancelled=cancelled)
        change = delta(base, after, days=days)
        sets.append(replace(change, warnings=tuple(f"second: {line}" for line in change.warnings
                                                   if line not in base.warnings)))
    whole = merged(sets)
    return replace(whole, features={**base.features, **numbers, **whole.features},
                   warnings=tuple(dict.fromkeys((*warnings, *whole.warnings))))


def _measured(image: Volume, regions: Mapping[str, Mask], settings: Settings, warnings: list[str], steps: _Steps,
              cancelled: Callable[[], bool] | None) -> list[FeatureSet]:
    sets = []
    for name, region in regions.items():
        try:
            sets.append(prefixed(extract(image, region, settings, progress=steps.next(name), cancelled=cancelled),
                                 name))
        except EmptyMaskError as error:
            warnings.append(f"{name}: not measured, {error}")
    return sets


class _Steps:
    """One progress over several extractions."""

    def __init__(self, count: int, progress: Progress | None) -> None:
        self.count, self.progress, self.done = count, progress, 0

    def next(self, name: str) -> Progress | None:
        start, self.done = self.done, self.done + 1
        if self.progress is None:
            return None
        report = self.progress
        return lambda share, text: report((start + share) / self.count, f"{name}: {text}")
