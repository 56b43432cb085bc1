"""Slices with a place each, put together to a volume, or an error that says why they don't fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..geometry import Grid, InputError
from ..geometry.itk import LPS_FROM_RAS
from .checks import check_matrix, check_shape

SAME_DIRECTION = 1e-3
"""Direction cosines of one series may differ by this much (rounded decimal strings)."""
POSITION_TOLERANCE_MM = 0.1
"""Slice positions are often rounded to 0.1 mm; further off the regular place a series is not regular."""
MISSING_GAP = 1.5
"""A gap over this many times the smallest one means a missing slice, if all gaps are whole multiples of it."""
TILT_TOLERANCE_DEGREES = 0.1


@dataclass(frozen=True, eq=False)
class Slice:
    """One image plane.

    Attributes:
        position_lps: (3,) mm, centre of the first pixel.
        row_lps, column_lps: (3,) unit directions in which the column index and the row index grow.
        spacing_mm: between rows, between columns.
        shape: rows, columns.
        load: gives the (rows, columns) pixels with the rescale applied.
        shown: file (and frame), for messages.
    """

    position_lps: np.ndarray
    row_lps: np.ndarray
    column_lps: np.ndarray
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    load: Callable[[], np.ndarray]
    shown: str

    @property
    def normal_lps(self) -> np.ndarray:
        return np.cross(self.row_lps, self.column_lps)


def make_slice(position, orientation, spacing, shape, load, shown: str) -> Slice:
    """A Slice from DICOM values (any may be None). Raises InputError for what is missing or impossible."""
    values = {"ImagePositionPatient": (position, 3), "ImageOrientationPatient": (orientation, 6),
              "PixelSpacing": (spacing, 2)}
    numbers = {}
    for name, (value, count) in values.items():
        try:
            array = np.array([float(v) for v in value], float)
        except (TypeError, ValueError):
            array = np.empty(0)
        if array.size != count or not np.isfinite(array).all():
            raise InputError(f"{shown}: {name} is missing or damaged, so its place in the patient is unknown; "
                             "export the series again")
        numbers[name] = array
    row, column = numbers["ImageOrientationPatient"].reshape(2, 3)
    lengths = np.linalg.norm([row, column], axis=1)
    if np.abs(lengths - 1.0).max() > 0.01 or abs(row @ column) > 0.01:
        raise InputError(f"{shown}: ImageOrientationPatient is wrong (its two directions must be unit vectors at a "
                         "right angle); export the series again")
    gaps = numbers["PixelSpacing"]
    if (gaps <= 0.0).any():
        raise InputError(f"{shown}: PixelSpacing is zero or negative; the header is damaged, export the series again")
    return Slice(numbers["ImagePositionPatient"], row / lengths[0], column / lengths[1],
                 (float(gaps[0]), float(gaps[1])), shape, load, shown)


def sort_slices(slices: list[Slice], shown: str) -> tuple[list[Slice], Grid]:
    """Slices in the order of their position along the normal, and the grid (RAS) that they fill.

    Raises InputError: single slice, mixed sizes, spacings or orientations, several images at one place,
    missing slices, uneven gaps, tilted gantry, absurd spacing.
    """
    if len(slices) < 2:
        raise InputError(f"{shown}: is a single slice; a volume needs the whole series")
    _require_alike(slices, shown)
    normal = slices[0].normal_lps
    along = np.array([s.position_lps @ normal for s in slices])
    order = np.argsort(along, kind="stable")
    ordered = [slices[n] for n in order]
    gap = _even_gap(ordered, along[order], shown)
    step = _step(ordered, normal, gap, shown)
    matrix = np.eye(4)
    first = ordered[0]
    matrix[:3, 0] = first.row_lps * first.spacing_mm[1]
    matrix[:3, 1] = first.column_lps * first.spacing_mm[0]
    matrix[:3, 2] = step
    matrix[:3, 3] = first.position_lps
    shape = (len(ordered), *first.shape)
    check_shape(shape, shown)
    check_matrix(matrix, shape, shown)
    return ordered, Grid(shape, LPS_FROM_RAS @ matrix)


def _require_alike(slices: list[Slice], shown: str) -> None:
    first = slices[0]
    for other in slices[1:]:
        if other.shape != first.shape:
            raise InputError(f"{shown}: slices of mixed size in one series ({first.shape[1]} x {first.shape[0]} and "
                             f"{other.shape[1]} x {other.shape[0]} in {other.shown}); separate them")
        turned = max(np.abs(other.row_lps - first.row_lps).max(), np.abs(other.column_lps - first.column_lps).max())
        if turned > SAME_DIRECTION:
            raise InputError(f"{shown}: slices of mixed orientation in one series ({other.shown} differs from "
                             f"{first.shown}); separate them")
        if np.abs(np.subtract(other.spacing_mm, first.spacing_mm)).max() > 1e-4:
            raise InputError(f"{shown}: slices of mixed PixelSpacing in one series ({other.shown}); separate them")


def _even_gap(ordered: list[Slice], along: np.ndarray, shown: str) -> float:
    gaps = np.diff(along)
    twice = np.flatnonzero(gaps < 1e-3)
    if len(twice):
        places = len(along) - len(twice)
        at = ordered[twice[0]], ordered[twice[0] + 1]
        if len(along) % places == 0 and len(along) // places > 1:
            raise InputError(f"{shown}: holds {len(along) // places} images at every slice position (phases, echoes or "
                             "time points); export one of them as its own series")
        raise InputError(f"{shown}: duplicated slice position ({at[0].shown} and {at[1].shown} lie at the same place); "
                         "remove one of them")
    usual = float(gaps.min())
    wide = np.flatnonzero(gaps > MISSING_GAP * usual)
    whole = np.abs(gaps - np.round(gaps / usual) * usual).max() <= 2 * POSITION_TOLERANCE_MM
    if len(wide) and whole:
        where = ", ".join(f"{gaps[n]:.4g} mm between {along[n]:.4g} and {along[n + 1]:.4g}" for n in wide[:3])
        count = int(sum(max(1, round(gaps[n] / usual) - 1) for n in wide))
        raise InputError(f"{shown}: {count} missing slice{'s' * (count > 1)}: a gap of {where} where {usual:.4g} mm is "
                         "usual; export the whole series again")
    even = np.polyval(np.polyfit(np.arange(len(along)), along, 1), np.arange(len(along)))
    if np.abs(along - even).max() > POSITION_TOLERANCE_MM:
        raise InputError(f"{shown}: uneven gaps between slices ({gaps.min():.4g} to {gaps.max():.4g} mm); "
                         "export the whole series at one spacing")
    return float((along[-1] - along[0]) / (len(along) - 1))


def _step(ordered: list[Slice], normal: np.ndarray, gap: float, shown: str) -> np.ndarray:
    """(3,) LPS mm from one slice to the next. Raises InputError for a sheared stack."""
    positions = np.array([s.position_lps for s in ordered])
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    sideways = step - (step @ normal) * normal
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(sideways), gap)))
    drift = np.linalg.norm(sideways) * (len(ordered) - 1)
    if drift > 3 * POSITION_TOLERANCE_MM or (tilt > TILT_TOLERANCE_DEGREES and drift > POSITION_TOLERANCE_MM):
        raise InputError(f"{shown}: gantry tilt or sheared stack: the slices are shifted against each other by "
                         f"{tilt:.1f} degrees; correct the tilt (resample to an upright volume) before use")
    off = np.linalg.norm(positions - positions[0] - np.arange(len(ordered))[:, None] * step, axis=1)
    if off.max() > 2 * POSITION_TOLERANCE_MM:
        bad = ordered[int(off.argmax())]
        raise InputError(f"{shown}: {bad.shown} lies {off.max():.1f} mm beside the stack of the other slices; "
                         "export the series again")
    return normal * gap
