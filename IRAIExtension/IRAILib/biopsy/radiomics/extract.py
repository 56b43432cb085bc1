"""From an image and a mask to named features: one call, one result that says how it was made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...geometry import CancelledError, InputError, Mask, Volume
from .discretise import Levels, discretise
from .interpolate import axes_for
from .names import FAMILIES, keys_of, parse_key
from .region import Region, prepare
from .settings import Settings

VALIDATED_ON = ("IBSI-1 consensus values: digital phantom and CT phantom, configurations A, B and C "
                "(Docs/validation.md); filter responses: see Docs/radiomics_filters.md")
_NOT_DEFINED = "not defined for this region (too few voxels or grey levels)"
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Feature:
    """One number.

    Attributes:
        value: the number, or None where it is not defined for this region; `reason` says why.
        name: of the IBSI manual.
        family: key of `names.FAMILIES`.
        aggregation: of a texture, as "3D_comb"; "" else.
        unit: "1", "mm3", "HU", "level", ...
        ibsi_code: of the IBSI manual.
    """

    value: float | None
    name: str
    family: str
    aggregation: str
    unit: str
    ibsi_code: str
    reason: str = ""


@dataclass(frozen=True)
class FeatureSet:
    """What was measured and how.

    Attributes:
        features: by key, in a fixed order (that of the IBSI tables, filters after the image itself).
        settings: that gave them.
        image, mask: names.
        volume_ml: of the mask as given; voxels times voxel volume.
        voxels: of the intensity mask after interpolation and re-segmentation.
        spacing_mm: (k, j, i) after interpolation.
        warnings: what a reader must know, one line each.
    """

    features: Mapping[str, Feature]
    settings: Settings
    image: str
    mask: str
    volume_ml: float
    voxels: int
    spacing_mm: tuple[float, float, float]
    warnings: tuple[str, ...] = field(default=())

    def values(self) -> dict[str, float]:
        """Numbers by key; NaN where a feature is not defined (`undefined` says why)."""
        return {key: math.nan if f.value is None else f.value for key, f in self.features.items()}

    def undefined(self) -> dict[str, str]:
        """Why a feature has no value, by key."""
        return {key: f.reason for key, f in self.features.items() if f.value is None}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: no NaN, features that are not defined are None and named in `undefined` with the reason."""
        return {
            "features": {key: f.value for key, f in self.features.items()},
            "undefined": self.undefined(),
            "definitions": {key: {"name": f.name, "family": f.family, "aggregation": f.aggregation, "unit": f.unit,
                                  "ibsi_code": f.ibsi_code} for key, f in self.features.items()},
            "frame": "voxel axes of the image with their spacing; nothing is rotated to patient axes",
            "image": self.image, "mask": self.mask, "mask_volume_ml": self.volume_ml,
            "voxels": self.voxels, "spacing_kji_mm": list(self.spacing_mm),
            "settings": self.settings.to_dict(), "settings_hash": self.settings.hash, "versions": _versions(),
            "warnings": list(self.warnings), "validated_on": VALIDATED_ON,
        }


def extract(image: Volume, mask: Mask, settings: Settings | None = None, *, progress: Progress | None = None,
            cancelled: Callable[[], bool] | None = None) -> FeatureSet:
    """Radiomics features of the voxels of a mask.

    Args:
        image: any spacing and direction; the work is done along its voxel axes, nothing is rotated.
        mask: on the image's grid, at least one voxel (`Settings.resample_mask` puts another grid right).
        settings: None for the default.
        progress: called with (share done, text).
        cancelled: asked between families and inside the long loops.
    Raises:
        EmptyMaskError: no voxel, or none left after interpolation or re-segmentation.
        FrameMismatchError: the mask is on another grid or in another frame.
        InputError: NaN or infinity inside the mask, or values that are no numbers.
        RefusedError: the region is larger than `Settings.most_voxels`.
        CancelledError: when `cancelled` says so.
    Source: see `names`.
    """
    settings = settings or Settings()
    work = _Work(settings, progress, cancelled)
    work.tell("preparing the region")
    specs = [settings.filter, *settings.filters]
    region = prepare(image, mask, settings, reach=_reach(image, [s for s in specs if s is not None], settings))
    work.steps = len(specs) * len(settings.families) + 1
    features: dict[str, Feature] = {}
    for spec in specs:
        prefix, seen = _filtered(region, spec, cancelled)
        if any(key.startswith(prefix) for key in features) and prefix:
            raise InputError(f"filters: {prefix.removesuffix('__')} is given twice")
        for family in settings.families:
            if family == "morphology" and spec is not None:
                continue
            _add(features, prefix, family, seen, settings, work)
    if not features:
        raise InputError("families: morphology alone can't be measured on a filter's response; leave the filter out")
    work.done()
    return FeatureSet(features, settings, image.name or "image", mask.name or "mask", mask.volume_ml,
                      int(np.count_nonzero(region.intensity)), region.spacing_mm,
                      (*region.warnings, *dict.fromkeys(work.warnings)))


class _Work:
    """Progress, cancel and warnings of one extraction, and the grey levels that several families share."""

    def __init__(self, settings: Settings, progress: Progress | None, cancelled: Callable[[], bool] | None) -> None:
        self.settings, self.progress, self.cancelled = settings, progress, cancelled
        self.steps, self.step = 1, 0
        self.warnings: list[str] = []
        self.ivh_levels = False
        self._levels: dict[int, Levels] = {}
        self._textures: Mapping[str, float] | None = None

    def tell(self, text: str) -> None:
        self.check()
        if self.progress is not None:
            self.progress(min(self.step / self.steps, 1.0), text)
        self.step += 1

    def done(self) -> None:
        if self.progress is not None:
            self.progress(1.0, "done")

    def check(self) -> None:
        if self.cancelled is not None and self.cancelled():
            raise CancelledError("radiomics cancelled")

    def levels(self, region: Region) -> Levels:
        """Grey levels of a region's box, once."""
        if id(region) not in self._levels:
            how = self.settings.filtered_discretisation if region.filtered else self.settings.discretisation
            self._levels = {id(region): discretise(region, how, self.settings)}
            self.warnings.extend(self._levels[id(region)].warnings)
            self._textures = None
        return self._levels[id(region)]

    def textures(self, region: Region) -> Mapping[str, float]:
        """Every texture that is asked for, once: the families share their work."""
        levels = self.levels(region)
        if self._textures is None:
            from .aggregate import texture_features

            chosen = self.settings
            self._textures = texture_features(
                levels.array, levels.n, spacing_mm=region.spacing_mm,
                families=tuple(f for f in chosen.families if FAMILIES[f].texture), aggregations=chosen.aggregations,
                morphological=levels.morphological, ngldm_alpha=chosen.ngldm_alpha,
                glcm_distance=chosen.glcm_distance, check=self.check)
        return self._textures


def _reach(image: Volume, specs: list[Mapping[str, Any]], settings: Settings) -> tuple[int, ...] | None:
    """(k, j, i) voxels of the new grid that the filters look beyond the region; None for the whole image."""
    if not specs:
        return (0, 0, 0)
    from .filters import check_spec, filter_reach_kji

    axes = axes_for(image.array.shape, image.grid.spacing_kji_mm, settings.spacing_mm)
    spacing, shape = np.array([a.new_mm for a in axes]), tuple(a.new_n for a in axes)
    if any(check_spec(spec)["boundary"] == "periodic" for spec in specs):
        return None
    reach = np.max([filter_reach_kji(spec, spacing, shape) for spec in specs], axis=0)
    return tuple(int(r) for r in reach)


def _filtered(region: Region, spec: Mapping[str, Any] | None, cancelled: Callable[[], bool] | None
              ) -> tuple[str, Region]:
    """Prefix of the keys and the region with the filter's response in place of the image."""
    if spec is None:
        return "", region.near()
    from .filters import apply_filter, filter_prefix

    response = apply_filter(Volume(region.image, region.grid, "image"), spec, cancelled=cancelled).array
    return f"{filter_prefix(spec)}__", replace(region, image=np.asarray(response, np.float64), filtered=True).near()


def _add(features: dict[str, Feature], prefix: str, family: str, region: Region, settings: Settings,
         work: _Work) -> None:
    work.tell("Textures" if FAMILIES[family].texture else FAMILIES[family].title)
    found = _measure(family, region, settings, work)
    intensity = "response" if region.filtered else settings.intensity_unit or "intensity"
    for key in keys_of(family, settings.aggregations):
        features[prefix + key] = _feature(prefix + key, found.get(key, math.nan), intensity,
                                          "level" if work.ivh_levels else intensity)


def _measure(family: str, region: Region, settings: Settings, work: _Work) -> Mapping[str, float | str]:
    """A family's numbers by key; a text in place of a number says why there is none."""
    if family == "morphology":
        from .morphology import morphology

        return morphology(region, check=work.check)
    if family == "local_intensity":
        from .local_intensity import local_intensity

        return local_intensity(region, check=work.check)
    if family == "statistics":
        from .statistics import statistics

        return statistics(region.image[region.intensity])
    if family == "ivh":
        from .ivh import ivh

        found, work.ivh_levels = ivh(region, settings)
        return found
    levels = work.levels(region)
    if family == "histogram":
        from .histogram import histogram

        return histogram(levels.array[levels.array > 0], levels.n)
    return work.textures(region)


def _feature(key: str, value: float | str, intensity: str, ivh_unit: str) -> Feature:
    _, name, aggregation = parse_key(key)
    reason = ""
    if isinstance(value, str):
        value, reason = math.nan, value
    number = float(value)
    if not math.isfinite(number):
        reason = reason or _why(key, name.family)
    unit = ivh_unit if name.unit == "ivh" else name.unit.replace("intensity", intensity)
    return Feature(None if reason else number, name.name, name.family, aggregation, unit, name.code, reason)


def _why(key: str, family: str) -> str:
    """Why a feature without a reason of its own has no value."""
    if not FAMILIES[family].texture:
        return _NOT_DEFINED
    from .aggregate import why_undefined

    return why_undefined(key)


def _versions() -> dict[str, str]:
    import scipy

    from ... import __version__

    return {"irai": __version__, "numpy": np.__version__, "scipy": scipy.__version__}
