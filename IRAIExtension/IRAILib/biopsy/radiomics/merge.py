"""Several feature sets in one: keys with a prefix, `shell_0_5mm__stat_mean`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ...geometry import EmptyMaskError, InputError, Mask, Volume
from .extract import Feature, FeatureSet, extract
from .settings import Settings


def prefixed(features: FeatureSet, prefix: str) -> FeatureSet:
    """The same features, every key (and warning) led by `prefix` and two underscores. Raises InputError for none."""
    if not prefix or "__" in prefix:
        raise InputError(f"a prefix is a word without two underscores, got {prefix!r}")
    return replace(features, features={f"{prefix}__{key}": one for key, one in features.features.items()},
                   warnings=tuple(f"{prefix}: {line}" for line in features.warnings))


def merged(sets: Iterable[FeatureSet]) -> FeatureSet:
    """One set of all features, in order; image, mask, volume and voxels are the first's.

    Raises: InputError for none, for a key that occurs twice, and for different settings.
    """
    sets = list(sets)
    if not sets:
        raise InputError("no feature set to merge")
    if len({one.settings.hash for one in sets}) > 1:
        raise InputError("feature sets that were measured with different settings can't be merged")
    features: dict[str, Feature] = {}
    for one in sets:
        twice = sorted(set(features) & set(one.features))
        if twice:
            raise InputError(f"feature {twice[0]} occurs in two sets; give them different prefixes")
        features.update(one.features)
    return replace(sets[0], features=features, warnings=tuple(line for one in sets for line in one.warnings))


def region_features(image: Volume, regions: Mapping[str, Mask], settings: Settings | None = None, *,
                    progress: Callable[[float, str], None] | None = None,
                    cancelled: Callable[[], bool] | None = None) -> FeatureSet:
    """Features of several regions of one image, keys led by the region's name.

    Args:
        image: see `extract`.
        regions: name to mask; a shell, an ablation zone, a habitat.
        settings: of all of them; None for the default.
    Raises: as `extract`, with the region named; InputError for no region.
    """
    if not regions:
        raise InputError("no region to measure was given")
    sets = []
    for n, (name, mask) in enumerate(regions.items()):

        def tell(share: float, text: str, n: int = n, name: str = name) -> None:
            if progress is not None:
                progress((n + share) / len(regions), f"{name}: {text}")

        try:
            one = extract(image, mask, settings, progress=tell, cancelled=cancelled)
        except EmptyMaskError as error:
            raise EmptyMaskError(f"region {name}: {error}") from None
        region_lines = tuple(str(line) for line in mask.metadata.get("warnings", ()))
        sets.append(prefixed(replace(one, warnings=(*one.warnings, *region_lines)), name))
    return merged(sets)


def plain_feature(value: float, name: str, family: str, unit: str, reason: str = "") -> Feature:
    """A feature that IBSI doesn't define; None with a reason where the value is no finite number."""
    good = math.isfinite(value)
    return Feature(float(value) if good else None, name, family, "", unit, "",
                   "" if good else reason or "not defined for this region")
