"""What the features depend on, in one object that travels with them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any

from ...geometry import InputError, MissingPackageError
from .names import AGGREGATIONS, FAMILIES, ZONE_AGGREGATIONS

INTERPOLATIONS = ("nearest", "linear", "cubic")
DEFAULT_BINS = 32
EXPONENT = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?[eE][+-]?[0-9]+")
MOST_LEVELS = 2048
"""More grey levels than this make matrices that say nothing and fill the memory."""
MOST_DISTANCE = 100
"""Of the voxels of a pair; the matrices' box is padded by it."""
MOST_VOXELS = 20_000_000
"""Voxels of the box around the region after interpolation; more are refused by default."""


@dataclass(frozen=True)
class Settings:
    """How features are measured. The default is right for arbitrary intensities (MR): 32 levels in each region.

    Attributes:
        spacing_mm: voxel size to interpolate to: (k, j, i), or (j, i) for in the slice only, one number for all
            three; None keeps the image's own voxels.
        interpolation: of the image: "nearest", "linear" or "cubic" (spline).
        mask_interpolation: of the mask, "nearest" or "linear".
        mask_threshold: share of a voxel that makes it inside after interpolation.
        round_intensity: to whole numbers after interpolation; for HU.
        resegment: (low, high), both inside; one may be None. Voxels beyond leave the intensity mask, not the shape.
        outlier_sigma: voxels beyond mean +- so many standard deviations of the region leave the intensity mask.
        discretisation: ("fbn", n levels), ("fbs", width) or ("fbs", width, start), or ("none",) where intensities
            are levels already. Without start a fixed width begins at `resegment`'s low, else at the region's lowest
            intensity, with a warning.
        ivh_discretisation: the same for the intensity-volume histogram; ("none",): each whole intensity is a step.
            None chooses: as they are where `intensity_unit` is HU or intensities are whole numbers, else 1000 levels.
        families: of `names.FAMILIES`.
        aggregations: of `names.AGGREGATIONS`; "2D", "2_5D", "3D" stand for both of their kind.
        filter: one filter (see `filters`) applied after interpolation, None for the image as it is.
        filters: more filters; each gives its own features beside those of `filter`.
        filtered_discretisation: in place of `discretisation` for filter responses, whose unit is arbitrary.
        intensity_unit: "HU", "SUV", ...; "" if arbitrary.
        regions: "all" unconnected parts together, or the "largest" only.
        resample_mask: a mask on another grid is put on the image's (nearest voxel); else it is refused.
        glcm_distance, ngldm_alpha: voxels, levels.
        most_voxels: of the region's box after interpolation; more are refused.
    Raises: InputError, one line, at construction.
    """

    spacing_mm: tuple[float, ...] | None = None
    interpolation: str = "linear"
    mask_interpolation: str = "linear"
    mask_threshold: float = 0.5
    round_intensity: bool = False
    resegment: tuple[float | None, float | None] | None = None
    outlier_sigma: float | None = None
    discretisation: tuple = ("fbn", DEFAULT_BINS)
    ivh_discretisation: tuple | None = None
    families: tuple[str, ...] = tuple(FAMILIES)
    aggregations: tuple[str, ...] = tuple(AGGREGATIONS)
    filter: Mapping[str, Any] | None = None
    filters: tuple[Mapping[str, Any], ...] = ()
    filtered_discretisation: tuple = ("fbn", DEFAULT_BINS)
    intensity_unit: str = ""
    regions: str = "all"
    resample_mask: bool = False
    glcm_distance: int = 1
    ngldm_alpha: int = 0
    most_voxels: int = MOST_VOXELS

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "spacing_mm", _spacing(self.spacing_mm))
        set_(self, "resegment", _range(self.resegment))
        set_(self, "discretisation", _discretisation(self.discretisation, "discretisation"))
        set_(self, "filtered_discretisation", _discretisation(self.filtered_discretisation, "filtered_discretisation"))
        if self.ivh_discretisation is not None:
            set_(self, "ivh_discretisation", _discretisation(self.ivh_discretisation, "ivh_discretisation"))
        set_(self, "families", _choices(self.families, tuple(FAMILIES), "families"))
        set_(self, "aggregations", _choices(self.aggregations, (*AGGREGATIONS, *ZONE_AGGREGATIONS), "aggregations"))
        set_(self, "filters", _filters(self.filters))
        for name, choices in (("interpolation", INTERPOLATIONS), ("mask_interpolation", INTERPOLATIONS[:2]),
                              ("regions", ("all", "largest"))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name}: {getattr(self, name)!r} is none of {', '.join(choices)}")
        for name in ("round_intensity", "resample_mask"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name}: must be true or false, not {getattr(self, name)!r}")
        _check_number(self.mask_threshold, "mask_threshold", 0.0, 1.0)
        if self.outlier_sigma is not None:
            _check_number(self.outlier_sigma, "outlier_sigma", 0.0)
        for name, low, high in (("glcm_distance", 1, MOST_DISTANCE), ("ngldm_alpha", 0, MOST_LEVELS),
                                ("most_voxels", 1, 10**12)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"{name}: must be a whole number from {low} to {high}, not {value!r}")
        if not isinstance(self.intensity_unit, str):
            raise InputError(f"intensity_unit: must be a text as HU or SUV, not {self.intensity_unit!r}")
        if self.filter is not None and not isinstance(self.filter, Mapping):
            raise InputError(f"filter: must be one filter with its name and numbers, not {self.filter!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from plain values. Raises InputError that names keys which don't exist."""
        if not isinstance(values, Mapping):
            raise InputError(f"radiomics settings must be keys with values, not {type(values).__name__}")
        known = {f.name for f in fields(cls)}
        unknown = [str(key) for key in values if key not in known]
        if unknown:
            raise InputError(f"radiomics settings: no such key: {', '.join(unknown)}; there are: "
                             f"{', '.join(sorted(known))}")
        return cls(**values)

    @classmethod
    def read(cls, path: str | Path) -> Settings:
        """Settings of a YAML (or JSON) file. Raises InputError, one line that names the file."""
        try:
            return cls.from_dict(read_yaml(path))
        except InputError as error:
            text = str(error)
            raise type(error)(text if text.startswith(str(path)) else f"{path}: {text}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, JSON-ready; `from_dict` takes them back."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @property
    def hash(self) -> str:
        """16 hexadecimal digits: equal settings, equal hash."""
        text = json.dumps(self.to_dict(), sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def with_(self, **changes: Any) -> Settings:
        """The same but for some values."""
        return replace(self, **changes)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """One mapping from a YAML or JSON file; an empty file gives {}. Raises InputError."""
    try:
        import yaml
    except ImportError:
        raise MissingPackageError("YAML files need PyYAML: pip install pyyaml") from None

    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no YAML ({' '.join(str(error).split())[:200]})") from None
    if document is None:
        return {}
    document = _numbers(document)
    if not isinstance(document, dict):
        raise InputError(f"{path}: must hold keys with values, as `discretisation: [fbs, 25]`")
    return document


def _numbers(value: Any) -> Any:
    """The same with 1e-3 as a number: YAML 1.1 takes it for text where the point or the sign is missing."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value


def _check_number(value: Any, name: str, low: float, high: float = math.inf) -> float:
    number = _real(value)
    if not (math.isfinite(number) and low < number <= high):
        between = f" above {low:g}" if math.isfinite(low) else ""
        between += f" up to {high:g}" if math.isfinite(high) else ""
        raise InputError(f"{name}: must be a number{between}, not {value!r}")
    return number


def _real(value: Any) -> float:
    """A number of any kind as float; NaN for what is none."""
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan


def _spacing(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    if isinstance(value, Real):
        value = (value,) * 3
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) not in (2, 3):
        raise InputError(f"spacing_mm: must be one number, [j, i] or [k, j, i] in mm, not {value!r}")
    return tuple(_check_number(v, "spacing_mm", 0.0) for v in value)


def _range(value: Any) -> tuple[float | None, float | None] | None:
    if value is None:
        return None
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
        raise InputError(f"resegment: must be [low, high], not {value!r}")
    low, high = (None if v is None else _check_number(v, "resegment", -math.inf) for v in value)
    if low is None and high is None:
        return None
    if low is not None and high is not None and low >= high:
        raise InputError(f"resegment: low {low:g} must be below high {high:g}")
    return low, high


def _discretisation(value: Any, name: str) -> tuple:
    if isinstance(value, str):
        value = (value,)
    parts: list[Any] = list(value) if isinstance(value, list | tuple) else []
    kind: Any = parts[0] if parts else None
    numbers = parts[1:]
    if kind == "fbn" and len(numbers) == 1:
        n = _real(numbers[0])
        if not (2 <= n <= MOST_LEVELS and n == int(n)):
            raise InputError(f"{name}: the number of levels must be a whole number from 2 to {MOST_LEVELS}, "
                             f"not {numbers[0]!r}")
        return "fbn", int(n)
    if kind == "fbs" and len(numbers) in (1, 2):
        width = _check_number(numbers[0], f"{name} width", 0.0)
        start = numbers[1] if len(numbers) == 2 else None
        return "fbs", width, None if start is None else _check_number(start, f"{name} start", -math.inf)
    if kind == "none" and not numbers:
        return ("none",)
    raise InputError(f"{name}: must be [fbn, levels], [fbs, width], [fbs, width, start] or [none], not {value!r}")


def _choices(value: Any, known: tuple[str, ...], name: str) -> tuple[str, ...]:
    if not isinstance(value, str | list | tuple | set | frozenset | type(None)):
        raise InputError(f"{name}: must be a list of names, not {value!r}; there are: {', '.join(known)}")
    chosen = (value,) if isinstance(value, str) else tuple(value or ())
    wrong = [str(v) for v in chosen if v not in known]
    if wrong:
        raise InputError(f"{name}: no {', '.join(wrong)}; there are: {', '.join(known)}")
    if not chosen:
        raise InputError(f"{name}: none chosen; there are: {', '.join(known)}")
    return tuple(v for v in known if v in chosen)


def _filters(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, Mapping | list | tuple | type(None)):
        raise InputError(f"filters: must be a list of filters with type and numbers, not {value!r}")
    specs = (value,) if isinstance(value, Mapping) else tuple(value or ())
    for spec in specs:
        if not isinstance(spec, Mapping):
            raise InputError(f"filters: must be a list of filters with name and numbers, not {spec!r}")
    return specs


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
