"""Where the skin got how much: a map of skin dose from the beams of a procedure, and its peak.

    dose = air kerma at the reference point x (reference distance / skin distance)^2 x backscatter x table x f

Air kerma at the reference point (15 cm from the isocentre towards the source): IEC 60601-2-43, which lets a display
be off by 35 %. The chain and its factors: Jones, Pasciak, J Appl Clin Med Phys 12 (2011) 3670 (part I). An estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..geometry import CArmGeometry, InputError, RefusedError, Surface, geometry_from_angles
from ..images.rdsr import DoseEvent
from ..images.xa import XARun

VALIDATED_ON = "doses calculated by hand on a plane and an ellipse; not against film or dosimeters"
REFERENCE_FROM_ISOCENTRE_MM = 150.0
SOURCE_TEXT = "IEC 60601-2-43 (reference point, display within 35 %); Jones, Pasciak 2011 (factors)"


@dataclass(frozen=True)
class DoseFactors:
    """Factors, and their relative standard uncertainties.

    backscatter: 1.3, it grows with field and kV. table: transmission of table and pad for a beam at right angles, 0.8;
    measure yours. table_width_mm: a beam that passes beside the table isn't weakened by it; measure yours. f_factor:
    soft tissue to air, 1.06. kerma_uncertainty: the display's limit.
    """

    backscatter: float = 1.3
    table: float = 0.8
    f_factor: float = 1.06
    table_width_mm: float = 450.0
    kerma_uncertainty: float = 0.35
    backscatter_uncertainty: float = 0.1
    table_uncertainty: float = 0.1
    place_uncertainty: float = 0.1

    def __post_init__(self) -> None:
        if not (1.0 <= self.backscatter <= 2.0 and 0.3 <= self.table <= 1.0 and 0.8 <= self.f_factor <= 1.3):
            raise InputError("skin dose: backscatter must lie in 1 to 2, table transmission in 0.3 to 1, f in 0.8 to "
                             "1.3")
        if not 0.0 <= self.table_width_mm <= 2000.0:
            raise InputError(f"skin dose: a table {self.table_width_mm:g} mm wide; 0 to 2000 mm can be")

    @property
    def uncertainty(self) -> float:
        """Relative, all in quadrature."""
        return math.sqrt(self.kerma_uncertainty**2 + self.backscatter_uncertainty**2 + self.table_uncertainty**2
                         + self.place_uncertainty**2)

    def to_dict(self) -> dict[str, Any]:
        return {"backscatter": self.backscatter, "table": self.table, "f_factor": self.f_factor,
                "table_width_mm": self.table_width_mm,
                "relative_uncertainty": round(self.uncertainty, 3), "source": SOURCE_TEXT}


@dataclass(frozen=True, eq=False)
class Exposure:
    """A beam that stood still: its field as a geometry whose picture (columns x rows) is the field on the detector.

    kerma_mgy: air kerma at the reference point, without table and patient. reference_mm: its distance from the source.
    shift_mm: (3,) how far the patient lay from his first place, in the table frame. extra_uncertainty: relative, where
    the kerma was derived from the dose-area product.
    """

    geometry: CArmGeometry
    kerma_mgy: float
    reference_mm: float
    shift_mm: np.ndarray = field(default_factory=lambda: np.zeros(3))
    extra_uncertainty: float = 0.0
    kind: str = ""


@dataclass(frozen=True, eq=False)
class Skin:
    """Patches of skin: points (n, 3) mm, outward normals (n, 3), areas (n,) mm^2, in the table frame; shape: of a
    picture of them (rows along the patient, columns round him), or None. table_y_mm: height of the table's top."""

    points_mm: np.ndarray
    normals: np.ndarray
    area_mm2: np.ndarray
    table_y_mm: float
    shape: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class SkinDose:
    """dose_mgy (n,) of the skin's patches; relative_uncertainty one standard deviation."""

    dose_mgy: np.ndarray
    skin: Skin
    relative_uncertainty: float
    factors: DoseFactors
    notes: list[str]

    @property
    def peak_mgy(self) -> float:
        return float(self.dose_mgy.max(initial=0.0))

    @property
    def picture(self) -> np.ndarray | None:
        """(along the patient, round him) mGy, or None where the skin has no such picture."""
        return None if self.skin.shape is None else self.dose_mgy.reshape(self.skin.shape)

    def area_above_cm2(self, dose_mgy: float) -> float:
        """Skin that got more than a dose."""
        return float(self.skin.area_mm2[self.dose_mgy > dose_mgy].sum() / 100.0)

    def to_dict(self) -> dict[str, Any]:
        at = int(np.argmax(self.dose_mgy)) if self.dose_mgy.size else 0
        place = self.skin.points_mm[at].tolist() if self.peak_mgy > 0 else None
        sd = self.peak_mgy * self.relative_uncertainty
        return {"peak_skin_dose_mgy": self.peak_mgy, "standard_uncertainty_mgy": sd, "peak_at_mm": place,
                "area_above_2000_mgy_cm2": self.area_above_cm2(2000.0), "factors": self.factors.to_dict(),
                "frame": "Table (RAS of a patient head first, supine; isocentre as origin)",
                "notes": list(self.notes), "validated_on": VALIDATED_ON}


def elliptic_skin(width_mm: float = 340.0, thickness_mm: float = 220.0, length_mm: float = 800.0, *,
                  center_mm: Sequence[float] = (0.0, 0.0, 0.0), step_mm: float = 5.0) -> Skin:
    """A trunk as an elliptic cylinder along the table, its lowest line on the table's top. Raises InputError."""
    sizes = np.array([width_mm, thickness_mm, length_mm, step_mm], float)
    if not (np.isfinite(sizes).all() and sizes.min() > 0 and np.isfinite(center_mm).all()):
        raise InputError("patient model: width, thickness, length and step must be positive numbers of mm")
    a, b = width_mm / 2, thickness_mm / 2
    round_mm = math.pi * (3 * (a + b) - math.sqrt((3 * a + b) * (a + 3 * b)))
    count, rows = max(16, round(round_mm / step_mm)), max(2, round(length_mm / step_mm))
    angle = (np.arange(count) + 0.5) / count * 2 * math.pi
    ring = np.column_stack([a * np.sin(angle), b * np.cos(angle), np.zeros(count)])
    normal = np.column_stack([ring[:, 0] / a**2, ring[:, 1] / b**2, np.zeros(count)])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    along = (np.arange(rows) + 0.5) / rows * length_mm - length_mm / 2
    points = ring[None] + np.array([0, 0, 1.0]) * along[:, None, None] + np.asarray(center_mm, float)
    arc = np.hypot(a * np.cos(angle), b * np.sin(angle)) * 2 * math.pi / count
    return Skin(points.reshape(-1, 3), np.tile(normal, (rows, 1)), np.tile(arc * length_mm / rows, rows),
                float(center_mm[1]) - b, (rows, count))


def skin_of_surface(surface: Surface, table_from_ras: np.ndarray) -> Skin:
    """Skin of a CT's surface (RAS mm), brought into the table frame by (4, 4); the table's top is its lowest point.

    Patches shaded by other parts of the body (arms) are not known as such. Raises InputError for an empty surface.
    """
    if not len(surface.points):
        raise InputError("skin: the surface is empty")
    matrix = np.asarray(table_from_ras, float)
    points = surface.points @ matrix[:3, :3].T + matrix[:3, 3]
    normals = surface.point_normals() @ matrix[:3, :3].T
    return Skin(points, normals, surface.point_areas_mm2(), float(points[:, 1].min()))


def skin_dose(exposures: Sequence[Exposure], skin: Skin, factors: DoseFactors | None = None) -> SkinDose:
    """Dose of every patch from all exposures. No exposure gives zero dose everywhere. Raises InputError."""
    factors = factors or DoseFactors()
    dose = np.zeros(len(skin.points_mm))
    weights, extra = 0.0, 0.0
    for exposure in exposures:
        if not (np.isfinite(exposure.kerma_mgy) and exposure.kerma_mgy >= 0 and exposure.reference_mm > 0):
            raise InputError("skin dose: air kerma must be zero or more, and its distance positive")
        dose += _one(exposure, skin, factors)
        weights += exposure.kerma_mgy
        extra += exposure.kerma_mgy * exposure.extra_uncertainty
    uncertainty = math.hypot(factors.uncertainty, extra / weights if weights else 0.0)
    notes = ["no beam met the skin"] if exposures and not dose.any() else []
    return SkinDose(dose, skin, uncertainty, factors, notes)


def _one(exposure: Exposure, skin: Skin, factors: DoseFactors) -> np.ndarray:
    geometry = exposure.geometry
    points = skin.points_mm + exposure.shift_mm
    away = points - geometry.source_mm
    distance = np.linalg.norm(away, axis=1)
    pixels = geometry.project(points)
    columns, rows = geometry.size
    with np.errstate(invalid="ignore"):
        hit = (np.abs(pixels - [(columns - 1) / 2, (rows - 1) / 2]) <= [columns / 2, rows / 2]).all(axis=1)
    hit &= (away * skin.normals).sum(1) < 0
    before_detector = away @ geometry.normal < geometry.source_to_detector_mm
    hit &= before_detector
    dose = np.zeros(len(points))
    table_y = skin.table_y_mm + exposure.shift_mm[1]
    slope = np.abs(away[hit, 1]) / distance[hit]
    through: Any = 1.0
    if geometry.source_mm[1] < table_y - 1e-6:
        # the beam may pass beside the table, which stands under the patient's middle
        middle = 0.5 * (points[:, 0].min() + points[:, 0].max())
        share = (table_y - geometry.source_mm[1]) / np.maximum(away[hit, 1], 1e-9)
        beside = np.abs(geometry.source_mm[0] + share * away[hit, 0] - middle) > factors.table_width_mm / 2
        through = np.where(beside, 1.0, factors.table ** (1.0 / np.maximum(slope, 0.2)))
    dose[hit] = exposure.kerma_mgy * (exposure.reference_mm / distance[hit]) ** 2 * factors.backscatter \
        * factors.f_factor * through
    return dose


def exposures_of_report(events: Sequence[DoseEvent]) -> list[Exposure]:
    """Beams of an RDSR's events. An event without kerma is passed over when it has no dose at all.

    The patient moves with the table: lateral positive towards the patient's left, longitudinal towards the head,
    height downwards (PS3.16, for a patient head first, supine), from the first event's place. A turning arm is taken at
    11 angles. Raises RefusedError naming what an event lacks.
    """
    out: list[Exposure] = []
    first: np.ndarray | None = None
    for number, event in enumerate(events):
        v = event.values
        if not v.get("dose_rp_mgy") and not v.get("dap_gy_cm2"):
            continue
        if "dose_rp_mgy" not in v:
            raise RefusedError(f"skin dose: event {number + 1} has no Dose (RP), the air kerma at the reference point")
        needed = [k for k in ("primary_deg", "secondary_deg", "source_to_isocentre_mm", "source_to_detector_mm")
                  if k not in v]
        field_mm = _field_of_event(v)
        if needed or field_mm is None:
            lacks = ", ".join([*needed, *([] if field_mm else ["the collimated field or the dose-area product"])])
            raise RefusedError(f"skin dose: event {number + 1} has no {lacks}; its place on the skin isn't known")
        place = np.array([-v.get("table_lateral_mm", 0.0), -v.get("table_height_mm", 0.0),
                          v.get("table_longitudinal_mm", 0.0)])
        first = place if first is None else first
        reference = v.get("source_to_reference_mm", v["source_to_isocentre_mm"] - REFERENCE_FROM_ISOCENTRE_MM)
        ends = [(v[f"{k}_deg"], v.get(f"{k}_end_deg", v[f"{k}_deg"])) for k in ("primary", "secondary")]
        steps = 11 if any(abs(b - a) > 1 for a, b in ends) else 1
        for t in np.linspace(0, 1, steps) if steps > 1 else (0.0,):
            angles = [a + t * (b - a) for a, b in ends]
            out.append(Exposure(_beam(angles, v["source_to_detector_mm"], v["source_to_isocentre_mm"], field_mm),
                                v["dose_rp_mgy"] / steps, reference, place - first, kind=event.kind))
    if not out:
        raise RefusedError("skin dose: no event of the report has a dose")
    return out


def exposures_of_run(run: XARun, kerma_mgy: float | None = None) -> list[Exposure]:
    """Beams of an X-ray run, one for each angle.

    The air kerma at the reference point for the whole run is `kerma_mgy`, or the file's dose-area product over the
    field there, which adds 10 % of uncertainty. Raises RefusedError without either or without the beam's geometry.
    """
    try:
        geometries = [run.geometry(n) for n in range(len(run.frames))]
    except InputError as error:
        raise RefusedError(f"skin dose: {error}") from error
    edges = _collimator(run)
    width, height = edges[1] - edges[0], edges[3] - edges[2]
    detector = run.values["DistanceSourceToDetector"]
    reference = run.values["DistanceSourceToPatient"] - REFERENCE_FROM_ISOCENTRE_MM
    rows_mm, columns_mm = run.values["ImagerPixelSpacing"]
    extra = 0.0
    if kerma_mgy is None:
        product = next((run.values[k] for k in ("ImageAndFluoroscopyAreaDoseProduct", "AcquiredImageAreaDoseProduct")
                        if run.values.get(k)), None)
        if product is None:
            raise RefusedError(f"{run.source}: no dose-area product in the file; give the run's air kerma at the "
                               "reference point (from the station or the RDSR)")
        area_cm2 = width * columns_mm * height * rows_mm * (reference / detector) ** 2 / 100.0
        kerma, extra = product * 100.0 / area_cm2, 0.1  # the file's unit is dGy cm^2
    else:
        kerma = float(kerma_mgy)
    if not (math.isfinite(kerma) and kerma >= 0) or reference <= 0:
        raise RefusedError(f"{run.source}: air kerma {kerma} mGy at {reference:g} mm from the source isn't usable")
    out: list[Exposure] = []
    seen: dict[tuple[float, ...], list[CArmGeometry]] = {}
    for n, geometry in enumerate(geometries):
        seen.setdefault(tuple(np.round(run.angles_deg[n], 1)), []).append(geometry)
    for group in seen.values():
        g = group[0]
        cut = CArmGeometry(g.source_mm, g.pixel0_mm + edges[0] * g.column_mm + edges[2] * g.row_mm, g.column_mm,
                           g.row_mm, (int(width), int(height)), g.frame)
        out.append(Exposure(cut, kerma * len(group) / len(geometries), reference, extra_uncertainty=extra))
    return out


def _collimator(run: XARun) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) in pixels of the picture, right and bottom beyond the field."""
    columns, rows = run.size
    v = run.values
    left, right = v.get("CollimatorLeftVerticalEdge", 0), v.get("CollimatorRightVerticalEdge", columns + 1)
    top, bottom = v.get("CollimatorUpperHorizontalEdge", 0), v.get("CollimatorLowerHorizontalEdge", rows + 1)
    # DICOM counts from 1, and edges are the last blocked columns and rows
    edges = int(max(left, 0)), int(min(right - 1, columns)), int(max(top, 0)), int(min(bottom - 1, rows))
    if edges[1] - edges[0] < 2 or edges[3] - edges[2] < 2:
        raise RefusedError(f"{run.source}: its collimator leaves no field; the header is damaged")
    return edges


def _field_of_event(v: dict[str, float]) -> tuple[float, float] | None:
    """(width, height) in mm on the detector."""
    if v.get("field_width_mm", 0) > 0 and v.get("field_height_mm", 0) > 0:
        return v["field_width_mm"], v["field_height_mm"]
    if v.get("field_area_cm2", 0) > 0:
        side = 10.0 * math.sqrt(v["field_area_cm2"])
        return side, side
    if v.get("dap_gy_cm2", 0) > 0 and v.get("dose_rp_mgy", 0) > 0 and "source_to_detector_mm" in v:
        reference = v.get("source_to_reference_mm", v.get("source_to_isocentre_mm", 0) - REFERENCE_FROM_ISOCENTRE_MM)
        if reference > 0:
            there = 10.0 * math.sqrt(v["dap_gy_cm2"] * 1000.0 / v["dose_rp_mgy"])
            side = there * v["source_to_detector_mm"] / reference
            return side, side
    return None


def _beam(angles: Sequence[float], detector_mm: float, isocentre_mm: float,
          field_mm: tuple[float, float]) -> CArmGeometry:
    size = max(1, round(field_mm[0])), max(1, round(field_mm[1]))
    return geometry_from_angles(angles[0], angles[1], detector_mm, isocentre_mm,
                                (field_mm[0] / size[0], field_mm[1] / size[1]), size)
