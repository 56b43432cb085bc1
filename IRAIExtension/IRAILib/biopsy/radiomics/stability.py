"""Which features survive small changes of image and mask, and which to drop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...geometry import CancelledError, EmptyMaskError, InputError, Mask, Volume
from .extract import FeatureSet, extract
from .icc import FORMS, Icc, icc
from .perturb import Perturbations, noise_sd, perturb
from .region import on_grid_of
from .settings import Settings

LOG = logging.getLogger("IRAI.radiomics")
DEFAULT_FORM = "ICC(1,1)"
"""A perturbation is no rater with a habit: every measurement is one more draw. Zwanenburg 2019 uses the same."""
THRESHOLD = 0.75
"""Lower bound of the interval from which reliability is called good (Koo, Li, J Chiropr Med 2016; 15: 155)."""
CV_THRESHOLD = 0.10
FEW_CASES = 10
VALIDATED_ON = ("ICC: the worked table of Shrout and Fleiss 1979 and simulated variance components; perturbations: "
                "analytic bodies and noise of known level. Not validated against repeated scans of patients")


@dataclass(frozen=True)
class FeatureStability:
    """One feature under perturbation.

    Attributes:
        key, unit: of the feature.
        icc: by form, over a cohort; empty for one patient.
        mean, sd: for one patient, over the perturbations, in the feature's unit. For a cohort `sd` is the
            within-patient standard deviation, pooled.
        cv: sd / |mean| of one patient, None where the mean is within one sd of zero or for a cohort.
        undefined: measurements in which the feature had no value.
        measurements: all of them.
    """

    key: str
    unit: str
    icc: Mapping[str, Icc]
    mean: float | None
    sd: float | None
    cv: float | None
    undefined: int
    measurements: int

    def to_dict(self) -> dict[str, Any]:
        return {"key": self.key, "unit": self.unit, "icc": {form: one.to_dict() for form, one in self.icc.items()},
                "mean": self.mean, "sd": self.sd, "cv": self.cv, "undefined": self.undefined,
                "measurements": self.measurements}


@dataclass(frozen=True, eq=False)
class StabilityResult:
    """Stability of every feature.

    Attributes:
        features: by key.
        kind: "cohort" (ICC) or "patient" (coefficient of variation: one patient has no ICC, which compares the
            spread within patients to the spread between them).
        values: (cases, perturbations, features) numbers, NaN where not defined.
        cases: names. perturbations, n, seed, settings: what was done.
        noise_sd: of every case's image, in its unit.
        warnings: one line each.
    """

    features: Mapping[str, FeatureStability]
    kind: str
    values: np.ndarray
    cases: tuple[str, ...]
    perturbations: Perturbations
    n: int
    seed: int
    settings: Settings
    noise_sd: tuple[float, ...]
    warnings: tuple[str, ...] = field(default=())

    def unstable(self, threshold: float | None = None, form: str = DEFAULT_FORM) -> dict[str, str]:
        """Features to drop, each with the reason.

        Args:
            threshold: cohort: the lower bound of the ICC's interval must reach it (default 0.75). Patient: the
                coefficient of variation must not exceed it (default 0.10).
            form: which ICC.
        Raises: InputError for an unknown form or a threshold outside (0, 1].
        """
        if form not in FORMS:
            raise InputError(f"ICC form {form!r} is not known; give {', '.join(FORMS)}")
        limit = (THRESHOLD if self.kind == "cohort" else CV_THRESHOLD) if threshold is None else threshold
        if not isinstance(limit, int | float) or isinstance(limit, bool) or not 0.0 < limit <= 1.0:
            raise InputError(f"a stability threshold lies above 0 and at most at 1, got {threshold!r}")
        reasons = {key: self._reason(one, float(limit), form) for key, one in self.features.items()}
        return {key: reason for key, reason in reasons.items() if reason}

    def stable(self, threshold: float | None = None, form: str = DEFAULT_FORM) -> list[str]:
        """Keys of the features that are kept."""
        dropped = self.unstable(threshold, form)
        return [key for key in self.features if key not in dropped]

    def _reason(self, one: FeatureStability, limit: float, form: str) -> str:
        if one.undefined:
            return f"not defined in {one.undefined} of {one.measurements} measurements"
        if self.kind == "patient":
            if one.cv is None:
                return "" if one.sd == 0 else "its mean is within one standard deviation of zero"
            return f"coefficient of variation {one.cv:.3f} is above {limit:g}" if one.cv > limit else ""
        found = one.icc[form]
        if found.low is None:
            return found.reason
        if found.low < limit:
            return (f"lower bound of {form} {found.low:.3f} is below {limit:g} "
                    f"(estimate {found.estimate:.3f}, {found.confidence:.0%} interval to {found.high:.3f})")
        return ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `frame`: features have none, they are measured along the image's own axes."""
        return {"kind": self.kind, "features": [one.to_dict() for one in self.features.values()],
                "cases": list(self.cases), "perturbations": self.perturbations.to_dict(),
                "n_perturbations": self.n, "seed": self.seed, "settings": self.settings.to_dict(),
                "settings_hash": self.settings.hash, "noise_sd": list(self.noise_sd),
                "frame": "voxel axes of the image, turned in the slice by the perturbation",
                "warnings": list(self.warnings), "validated_on": VALIDATED_ON}


def stability(images: Volume | Iterable[Volume], masks: Mask | Iterable[Mask], settings: Settings | None = None, *,
              perturbations: Perturbations | None = None, n: int = 10, seed: int = 0, confidence: float = 0.95,
              progress: Callable[[float, str], None] | None = None,
              cancelled: Callable[[], bool] | None = None) -> StabilityResult:
    """Every feature measured `n` times a patient, each time with another small change of image and mask.

    No outcome is looked at; choose features by it on training patients only all the same. The intervals are those of
    the F distribution and assume that a feature is about normal between patients.

    Args:
        images, masks: one patient, or a cohort as two sequences of equal length (read lazily, one held at a time;
            give lists where progress should know the number).
        settings: of the features; None for the default. Interpolation happens together with the perturbation.
        perturbations: what and how far; None for the default.
        n: perturbations a patient, at least 2. Perturbation j turns, shifts and grows alike in every patient.
        seed: the same seed gives the same result.
        confidence: of the intervals.
        progress: called with (share done, text).
    Returns: `StabilityResult`; with one patient there is no ICC in it.
    Raises: InputError for no patient or unequal numbers; EmptyMaskError and FrameMismatchError naming the case;
        CancelledError.
    """
    settings, perturbations = settings or Settings(), perturbations or Perturbations()
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise InputError(f"n: at least 2 perturbations are needed, got {n!r}")
    one = isinstance(images, Volume)
    if one != isinstance(masks, Mask):
        raise InputError("give one image and one mask, or as many masks as images")
    pairs: Iterable[tuple[Volume, Mask]]
    pairs = [(images, masks)] if one else _pairs(images, masks)  # type: ignore[list-item, arg-type]
    total = 1 if one else (len(images) if isinstance(images, Sequence) else 0)
    tables, names, noises, warnings, units = [], [], [], [], {}
    for case, (image, mask) in enumerate(pairs):
        name = image.name or f"case {case + 1}"
        mask = on_grid_of(image, mask, settings, warnings)
        sd = noise_sd(image, mask) if perturbations.noise > 0 else 0.0
        if perturbations.noise > 0 and sd == 0:
            warnings.append(f"{name}: no noise could be measured, so none was added")

        def tell(j: int, case: int = case, name: str = name) -> None:
            if cancelled is not None and cancelled():
                raise CancelledError("stability cancelled")
            if progress is not None:
                done = (case + j / n) / max(total, case + 1)
                progress(min(done, 1.0), f"{name}: perturbation {j + 1} of {n}")

        rows = _measure(image, mask, settings, perturbations, n, seed, case, sd, tell, warnings, units, cancelled)
        tables.append(rows)
        names.append(name)
        noises.append(sd)
    if not tables:
        raise InputError("stability: no patient was given")
    if progress is not None:
        progress(1.0, "done")
    return _result(tables, names, noises, warnings, units, settings, perturbations, n, seed, confidence)


def _pairs(images: Iterable[Volume], masks: Iterable[Mask]) -> Iterable[tuple[Volume, Mask]]:
    try:
        yield from zip(images, masks, strict=True)
    except ValueError:
        raise InputError("stability: as many masks as images are needed") from None


def _measure(image: Volume, mask: Mask, settings: Settings, perturbations: Perturbations, n: int, seed: int, case: int,
             sd: float, tell: Callable[[int], None], warnings: list[str], units: dict[str, str],
             cancelled: Callable[[], bool] | None) -> list[dict[str, float]]:
    """The features of one patient under each perturbation; {} where the perturbed mask can't be measured."""
    plain = settings.with_(spacing_mm=None)
    reach = filter_reach_mm(image, settings)
    rows: list[dict[str, float]] = []
    failed: list[str] = []
    for j in range(n):
        tell(j)
        try:
            seen, inside = perturb(image, mask, perturbations.draw(seed, j), settings, seed=[seed, case, j],
                                   image_noise_sd=sd, reach_mm=reach)
            found = extract(seen, inside, plain, cancelled=cancelled)
        except EmptyMaskError as error:
            failed.append(str(error))
            rows.append({})
            continue
        units.update({key: feature.unit for key, feature in found.features.items()})
        rows.append(found.values())
    if len(failed) == n:
        raise EmptyMaskError(f"{mask.name or 'mask'}: no perturbation leaves anything to measure; {failed[0]}")
    if failed:
        warnings.append(f"{image.name or f'case {case + 1}'}: {len(failed)} of {n} perturbations left nothing to "
                        f"measure ({failed[0]})")
    return rows


def filter_reach_mm(image: Volume, settings: Settings) -> float:
    """How far, in mm, the settings' filters look beyond the region on the grid that is measured on."""
    specs = [spec for spec in (settings.filter, *settings.filters) if spec is not None]
    if not specs:
        return 0.0
    from .filters import filter_reach_kji
    from .perturb import _target_spacing

    spacing = _target_spacing(image.grid, settings)
    extent = np.array(image.grid.shape) * image.grid.spacing_kji_mm
    shape = tuple(math.ceil(one) for one in extent / spacing)
    return float(max((filter_reach_kji(spec, spacing, shape) * spacing).max() for spec in specs))


def _result(tables: list[list[dict[str, float]]], names: list[str], noises: list[float], warnings: list[str],
            units: dict[str, str], settings: Settings, perturbations: Perturbations, n: int, seed: int,
            confidence: float) -> StabilityResult:
    keys = list(units)
    values = np.array([[[row.get(key, math.nan) for key in keys] for row in rows] for rows in tables])
    kind = "cohort" if len(tables) > 1 else "patient"
    features = {key: _one_feature(key, units[key], values[:, :, f], kind, confidence) for f, key in enumerate(keys)}
    if kind == "cohort" and len(tables) < FEW_CASES:
        warnings.append(f"{len(tables)} patients: intervals of an ICC are wide below {FEW_CASES}")
    if kind == "patient":
        warnings.append("one patient: variation within this patient only; an ICC needs a cohort")
    for line in warnings:
        LOG.warning("%s", line)
    return StabilityResult(features, kind, values, tuple(names), perturbations, n, seed, settings, tuple(noises),
                           tuple(warnings))


def _one_feature(key: str, unit: str, table: np.ndarray, kind: str, confidence: float) -> FeatureStability:
    undefined = int(np.count_nonzero(~np.isfinite(table)))
    forms = {form: icc(table, form, confidence) for form in FORMS} if kind == "cohort" else {}
    mean = sd = cv = None
    if kind == "patient":
        row = table[0][np.isfinite(table[0])]
        if row.size >= 2:
            mean, sd = float(row.mean()), float(row.std(ddof=1))
            if sd <= 1e-12 * abs(mean):
                sd = 0.0
            cv = sd / abs(mean) if abs(mean) > sd else None
    else:
        complete = table[np.isfinite(table).all(axis=1)]
        if complete.shape[0]:
            sd = float(np.sqrt(np.mean(complete.var(axis=1, ddof=1))))
    return FeatureStability(key, unit, forms, mean, sd, cv, undefined, table.size)


def stability_table(result: StabilityResult, threshold: float | None = None,
                    form: str = DEFAULT_FORM) -> list[dict[str, Any]]:
    """Rows for a table, one a feature: numbers, whether it is stable, and why not.

    Columns of a cohort: feature, unit, form, icc, icc_low, icc_high, sd, stable, reason; of one patient: feature,
    unit, mean, sd, cv, stable, reason. None where there is no value.
    """
    dropped = result.unstable(threshold, form)
    rows = []
    for key, one in result.features.items():
        row: dict[str, Any] = {"feature": key, "unit": one.unit}
        if result.kind == "cohort":
            found = one.icc[form]
            row.update(form=form, icc=found.estimate, icc_low=found.low, icc_high=found.high, sd=one.sd)
        else:
            row.update(mean=one.mean, sd=one.sd, cv=one.cv)
        rows.append({**row, "stable": key not in dropped, "reason": dropped.get(key, "")})
    return rows


def drop_unstable(features: FeatureSet, result: StabilityResult, threshold: float | None = None,
                  form: str = DEFAULT_FORM) -> FeatureSet:
    """The features without the unstable ones, which a warning counts. Other settings than the stability's are refused.

    Raises: InputError where the two were measured with different settings.
    """
    from dataclasses import replace

    if features.settings.hash != result.settings.hash:
        raise InputError("drop_unstable: these features and the stability were measured with different settings; "
                         "run the stability again with the features' settings")
    dropped = result.unstable(threshold, form)
    kept = {key: one for key, one in features.features.items() if key not in dropped}
    if not kept:
        raise InputError("drop_unstable: no feature is stable enough; lower the threshold")
    unknown = [key for key in kept if key not in result.features]
    lines = [f"{len(features.features) - len(kept)} of {len(features.features)} features dropped as unstable"]
    lines += [f"{len(unknown)} features were not part of the stability run and are kept"] if unknown else []
    return replace(features, features=kept, warnings=(*features.warnings, *lines))
