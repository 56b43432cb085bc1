"""Did the ablation cover the tumour, with what margin, and how sure are we?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..geometry import FrameMismatchError, Mask, Surface, Transform, signed_distance
from ..geometry.implicit import ImplicitSurface, implicit_surface
from ..geometry.proximity import distance_to_surface_mm
from .place import Applicator, ThinnestPlace, describe_place, propose_applicator, tissue_at_risk
from .uncertainty import MarginUncertainty, margin_uncertainty

SCREENING_SLICE_MM = 3.0
"""Above this slice distance the margin is labelled as screening only."""
SURFACE_STEP_SHARE = 1.0 / 22.0
SURFACE_STEP_MM = (0.5, 1.5)
"""Size of the triangles: a share of the longest side, within these limits."""
COVERAGE_SAMPLES = 15_000
VALIDATED_ON = ("analytic spheres and ellipsoids at 1, 2.5 and 5 mm slices; simulated ablations in one real CT "
                "(Docs/benchmarks.md); no patient outcome")


@dataclass(frozen=True)
class MarginOptions:
    """What may be set.

    Attributes:
        threshold_mm: the margin that is wanted; shares and the region at risk refer to it.
        capsule_distance_mm: tumour surface nearer than this to the organ's boundary counts as subcapsular and is
            left out of MAM, percentiles and shares (there is no tissue to ablate).
        vessel_distance_mm: tumour surface nearer than this to a vessel counts as perivascular (reported apart).
        segmentation_sigma_mm: 1-sigma error of each of the two outlines, along the normal. The default is that of
            a reader whose outline is shifted by up to 2 mm and too small or too large by 1 to 2 mm.
    """

    threshold_mm: float = 5.0
    capsule_distance_mm: float = 5.0
    vessel_distance_mm: float = 5.0
    segmentation_sigma_mm: float = 1.2


@dataclass(frozen=True, eq=False)
class MarginResult:
    """The answer. Lengths in mm, volumes in ml, coordinates RAS mm in the ablation scan's frame.

    Values that need evaluated surface are None when all of it is excluded (`note` says so).
    Positive margin: tissue ablated beyond the tumour; negative: tumour left.
    """

    mam_mm: float | None
    mam_ci95_mm: tuple[float, float] | None
    p1_mm: float | None
    p5_mm: float | None
    p50_mm: float | None
    surface_share: dict[str, float] | None
    coverage_percent: float
    residual_tumor_ml: float
    tumor_ml: float
    ablation_ml: float
    dice: float
    thinnest: ThinnestPlace | None
    subcapsular_share: float
    subcapsular_min_mm: float | None
    perivascular_share: float | None
    perivascular_min_mm: float | None
    probability_mam_below_threshold: float | None
    screening_only: bool
    options: MarginOptions
    uncertainty: MarginUncertainty | None
    applicator: Applicator | None
    surface: Surface
    margin_mm: np.ndarray
    evaluated: np.ndarray
    probability_below: np.ndarray
    ablation_surface: Surface
    under_mask: Mask
    notes: list[str] = field(default_factory=list)

    @property
    def thinnest_point_ras(self) -> list[float] | None:
        """[R, A, S] mm of the thinnest place on the tumour surface, in the ablation scan's frame."""
        return None if self.thinnest is None else [float(x) for x in self.thinnest.point_ras]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; arrays and surfaces are left out."""
        plain = {name: getattr(self, name) for name in (
            "mam_mm", "p1_mm", "p5_mm", "p50_mm", "surface_share", "coverage_percent", "residual_tumor_ml",
            "tumor_ml", "ablation_ml", "dice", "thinnest_point_ras", "subcapsular_share", "subcapsular_min_mm",
            "perivascular_share", "perivascular_min_mm", "probability_mam_below_threshold", "screening_only")}
        plain["mam_ci95_mm"] = None if self.mam_ci95_mm is None else list(self.mam_ci95_mm)
        plain["threshold_mm"] = self.options.threshold_mm
        plain["capsule_distance_mm"] = self.options.capsule_distance_mm
        plain["vessel_distance_mm"] = self.options.vessel_distance_mm
        plain["thinnest"] = None if self.thinnest is None else self.thinnest.to_dict()
        plain["applicator"] = None if self.applicator is None else self.applicator.to_dict()
        plain["tissue_at_risk_ml"] = self.under_mask.volume_ml
        plain["uncertainty"] = None if self.uncertainty is None else self.uncertainty.to_dict()
        plain["frame"] = "RAS mm, frame of the ablation scan"
        plain["validated_on"] = VALIDATED_ON
        plain["notes"] = list(self.notes)
        return plain


def ablative_margin(tumor: Mask, ablation: Mask, *, ablation_from_tumor: Transform | None = None,
                    organ: Mask | None = None, vessels: Mask | None = None, registration_sigma_mm: float = 0.0,
                    options: MarginOptions | None = None) -> MarginResult:
    """Signed distance from every point of the tumour's surface to the ablation's surface, area-weighted.

    Both surfaces are smooth zero levels that agree with the voxels (`implicit_surface`), so that the result
    doesn't hang on voxel centres or slice thickness.

    Args:
        tumor: mask before the ablation.
        ablation: mask after it; grids, spacings and obliquity may differ.
        ablation_from_tumor: where a point of the tumour's frame lies in the ablation's frame; None: same frame.
        organ: organ mask in the ablation's frame, for the subcapsular part; None: nothing is subcapsular.
        vessels: vessel mask in the ablation's frame; None: perivascular values are None.
        registration_sigma_mm: root mean square 3D error of the transform round the zone; 0 without one.
    Returns: MarginResult in the ablation's frame.
    Raises: EmptyMaskError; FrameMismatchError when both frames are known, differ, and no transform is given.
    Source: volumetric margin as in Laimer 2021 and Kaye 2019; own surfaces, see Docs/benchmarks.md for the bias.
    """
    options = options or MarginOptions()
    check_frames(tumor, ablation, ablation_from_tumor)
    tumor_shape, ablation_shape = implicit_surface(tumor), implicit_surface(ablation)
    surface = tumor_shape.surface(_step(tumor))
    seen = surface if ablation_from_tumor is None else surface.transformed(ablation_from_tumor)
    ablation_surface = ablation_shape.surface(_step(ablation))
    distance, _ = distance_to_surface_mm(seen.points, ablation_surface)
    margin = np.where(ablation_shape.value(seen.points) < 0.0, distance, -distance)
    subcapsular = _near_boundary(organ, seen.points, options.capsule_distance_mm)
    perivascular = None if vessels is None else _near(vessels, seen.points, options.vessel_distance_mm)
    area = seen.point_areas_mm2()
    evaluated = ~subcapsular & (area > 0.0)
    covered = _covered_share(tumor_shape, surface, ablation_shape, ablation_from_tumor)
    tumor_ml, ablation_ml = tumor.volume_ml, ablation.volume_ml
    risk = tissue_at_risk(seen, tumor_shape, ablation, ablation_shape, options.threshold_mm,
                          ablation_from_tumor=ablation_from_tumor, organ=organ)
    numbers = _numbers(margin, area, evaluated, options.threshold_mm)
    uncertainty = thinnest = applicator = None
    probability = np.full(len(margin), np.nan)
    if evaluated.any():
        worst = int(np.flatnonzero(evaluated)[margin[evaluated].argmin()])
        before = surface.points[worst][None]
        voxel = float(np.hypot(tumor_shape.sigma_mm(before)[0], ablation_shape.sigma_mm(seen.points[worst][None])[0]))
        uncertainty = margin_uncertainty(margin, seen.point_normals(), evaluated, options.threshold_mm,
                                         registration_mm=registration_sigma_mm, voxel_mm=voxel,
                                         segmentation_mm=options.segmentation_sigma_mm)
        probability = uncertainty.probability_below(margin, options.threshold_mm)
        thinnest = describe_place(seen, margin, worst, vessels)
        applicator = propose_applicator(risk, thinnest.point_ras)
    return MarginResult(
        **numbers, mam_ci95_mm=None if uncertainty is None else uncertainty.mam_ci95_mm,
        probability_mam_below_threshold=None if uncertainty is None else uncertainty.probability_mam_below,
        coverage_percent=100.0 * covered, residual_tumor_ml=tumor_ml * (1.0 - covered), tumor_ml=tumor_ml,
        ablation_ml=ablation_ml, dice=2.0 * covered * tumor_ml / (tumor_ml + ablation_ml), thinnest=thinnest,
        subcapsular_share=_share(area, subcapsular), subcapsular_min_mm=_least(margin, subcapsular),
        perivascular_share=None if perivascular is None else _share(area, perivascular),
        perivascular_min_mm=None if perivascular is None else _least(margin, perivascular),
        screening_only=_thickest(tumor, ablation) > SCREENING_SLICE_MM, options=options, uncertainty=uncertainty,
        applicator=applicator, surface=seen, margin_mm=margin, evaluated=evaluated, probability_below=probability,
        ablation_surface=ablation_surface, under_mask=risk,
        notes=_notes(tumor, ablation, tumor_shape, ablation_shape, evaluated, margin))


def check_frames(tumor: Mask, ablation: Mask, transform: Transform | None) -> None:
    """Raises EmptyMaskError, or FrameMismatchError when both frames are known and differ without a transform."""
    tumor.require_not_empty()
    ablation.require_not_empty()
    a, b = tumor.frame_of_reference, ablation.frame_of_reference
    if transform is None and a and b and a != b:
        raise FrameMismatchError(f"{tumor.name or 'tumour'} and {ablation.name or 'ablation'} lie in different "
                                 "frames of reference; register the two scans first")


def _step(mask: Mask) -> float:
    _, shape = mask.bounding_box_kji()
    longest = float((np.array(shape) * mask.grid.spacing_kji_mm).max())
    return float(np.clip(longest * SURFACE_STEP_SHARE, *SURFACE_STEP_MM))


def _near_boundary(organ: Mask | None, points: np.ndarray, distance_mm: float) -> np.ndarray:
    """(n,) bool: nearer than `distance_mm` to the organ's boundary, or outside the organ."""
    if organ is None:
        return np.zeros(len(points), bool)
    return _sampled_distance(organ, points, distance_mm) > -distance_mm


def _near(mask: Mask, points: np.ndarray, distance_mm: float) -> np.ndarray:
    if not mask.array.any():
        return np.zeros(len(points), bool)
    return _sampled_distance(mask, points, distance_mm) < distance_mm


def _sampled_distance(mask: Mask, points: np.ndarray, reach_mm: float) -> np.ndarray:
    """(n,) signed distance to the mask's boundary at points, exact within `reach_mm`; mm."""
    from scipy import ndimage

    mask.require_not_empty()
    index = mask.grid.indices_kji(points)
    grow = np.ceil((reach_mm + 5.0) / mask.grid.spacing_kji_mm)
    low = np.maximum(np.floor(index.min(axis=0)) - grow, 0).astype(int)
    high = np.minimum(np.ceil(index.max(axis=0)) + grow + 1, mask.array.shape).astype(int)
    if (high - low < 1).any():
        return np.full(len(points), 1e6)
    window = mask.crop(tuple(low), tuple(high - low))
    if not window.array.any():
        return np.full(len(points), 1e6)
    field_mm = signed_distance(window).array
    return ndimage.map_coordinates(field_mm, (index - low).T, order=1, mode="nearest")


def _numbers(margin: np.ndarray, area: np.ndarray, evaluated: np.ndarray, threshold: float) -> dict[str, Any]:
    """MAM, area-weighted percentiles and shares of the evaluated surface."""
    if not evaluated.any():
        return {"mam_mm": None, "p1_mm": None, "p5_mm": None, "p50_mm": None, "surface_share": None}
    values, weights = margin[evaluated], area[evaluated]
    order = np.argsort(values)
    rank = (np.cumsum(weights[order]) - 0.5 * weights[order]) / weights.sum()
    p1, p5, p50 = np.interp([0.01, 0.05, 0.5], rank, values[order])
    below = float(weights[values < 0.0].sum() / weights.sum())
    above = float(weights[values > threshold].sum() / weights.sum())
    name = f"{threshold:g}"
    return {"mam_mm": float(values.min()), "p1_mm": float(p1), "p5_mm": float(p5), "p50_mm": float(p50),
            "surface_share": {"below_0": below, f"0_to_{name}": 1.0 - below - above, f"above_{name}": above}}


def _covered_share(tumor: ImplicitSurface, surface: Surface, ablation: ImplicitSurface,
                   transform: Transform | None) -> float:
    """Share of the tumour's volume inside the ablation, by a lattice of about `COVERAGE_SAMPLES` points."""
    low, high = surface.points.min(axis=0), surface.points.max(axis=0)
    step = float((np.prod(high - low) / COVERAGE_SAMPLES) ** (1.0 / 3.0))
    axes = [np.arange(a + 0.5 * step, b, step) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points = points[tumor.value(points) < 0.0]
    if not len(points):
        points = surface.points.mean(axis=0)[None]
    seen = points if transform is None else transform.apply(points)
    return float(np.mean(ablation.value(seen) < 0.0))


def _share(area: np.ndarray, which: np.ndarray) -> float:
    return float(area[which].sum() / max(area.sum(), 1e-12))


def _least(margin: np.ndarray, which: np.ndarray) -> float | None:
    return float(margin[which].min()) if which.any() else None


def _thickest(*masks: Mask) -> float:
    return max(float(mask.spacing_mm.max()) for mask in masks)


def _notes(tumor: Mask, ablation: Mask, tumor_shape: ImplicitSurface, ablation_shape: ImplicitSurface,
           evaluated: np.ndarray, margin: np.ndarray) -> list[str]:
    notes = []
    if not evaluated.any():
        notes.append("all of the tumour's surface is subcapsular: no margin can be given")
    if _thickest(tumor, ablation) > SCREENING_SLICE_MM:
        notes.append(f"slices of {_thickest(tumor, ablation):.1f} mm: screening only")
    for mask, shape, what in ((tumor, tumor_shape, "tumour"), (ablation, ablation_shape, "ablation")):
        if mask.touches_border():
            notes.append(f"the {what} mask touches the edge of its image and may be cut off")
        if not shape.agrees:
            notes.append(f"the {what} outline is rougher than its surface can follow "
                         f"({shape.disagreement_mm:.1f} mm at the 99th percentile)")
    if margin.max() < 0.0:
        notes.append("no part of the tumour's surface lies in the ablation: check the masks and the registration")
    return notes
