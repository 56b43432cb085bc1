"""RTSTRUCT contours to masks."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from ..geometry import FrameMismatchError, Grid, InputError, Mask, Volume, resample_mask
from .labels import Label, choose_label

logger = logging.getLogger("IRAI.images")

ON_PLANE = 0.3
"""A contour may lie this share of a slice off the slice's plane."""
FLAT_MM = 0.5
"""The points of one contour may leave their plane by this much."""


@dataclass(frozen=True)
class Contour:
    """Points of one closed contour as (n, 2) fractional (i, j), at the fractional slice index `k`."""

    k: float
    points_ij: np.ndarray


def read_rtstruct(dataset, wanted: int | str | None, reference: Volume, shown: str) -> Mask:
    """One ROI, rasterised on the grid of the reference image.

    Inside is decided by the even-odd rule over all contours of a slice: a contour inside another is a hole, and
    a keyhole's double line cancels out. Contours on other planes than the reference's slices are
    rasterised on their own planes and then interpolated by signed distance.
    Raises: InputError (no such ROI, no closed contour, contours across the slices), FrameMismatchError.
    """
    try:
        regions = {int(r.ROINumber): r for r in dataset.get("StructureSetROISequence") or []}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{shown}: the list of regions is damaged; export the RTSTRUCT again") from error
    labels = [Label(n, str(r.get("ROIName", ""))) for n, r in regions.items()]
    label = choose_label(labels, wanted, shown)
    frame = str(regions[label.number].get("ReferencedFrameOfReferenceUID", "")) or None
    where = f"{shown} [{label.name or label.number}]"
    if frame and reference.frame_of_reference and frame != reference.frame_of_reference:
        raise FrameMismatchError(f"{where}: drawn in another DICOM frame of reference than {reference.name}; give the "
                                 "image that it was drawn on, or register first")
    contours = [_contour(points, reference.grid, where) for points in _closed(dataset, label.number, where)]
    array = _rasterise(contours, reference.grid, where)
    return Mask(array, reference.grid, where, reference.frame_of_reference or frame, {"segment": label.name})


def _closed(dataset, number: int, where: str) -> list[np.ndarray]:
    """(n, 3) RAS mm of every closed contour of a region."""
    out, other = [], set()
    for region in dataset.get("ROIContourSequence") or []:
        if str(region.get("ReferencedROINumber", "")) != str(number):
            continue
        for item in region.get("ContourSequence") or []:
            kind = str(item.get("ContourGeometricType", ""))
            try:
                points = np.array([float(v) for v in item.ContourData]).reshape(-1, 3)
                if len(points) != int(item.get("NumberOfContourPoints", len(points))):
                    raise ValueError("points are missing")
            except (AttributeError, TypeError, ValueError) as error:
                raise InputError(f"{where}: a contour's points are missing or damaged") from error
            if kind not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                other.add(kind or "?")
            elif len(points) >= 3:
                out.append(points * [-1.0, -1.0, 1.0])
    if not out:
        kinds = f" (only {', '.join(sorted(other))})" if other else ""
        raise InputError(f"{where}: holds no closed contour{kinds}; draw the structure or choose another one")
    if any(not np.isfinite(points).all() for points in out):
        raise InputError(f"{where}: a contour's points are not finite numbers; the file is damaged")
    return out


def _contour(points_ras: np.ndarray, grid: Grid, where: str) -> Contour:
    index = grid.indices_kji(points_ras)
    k = index[:, 0]
    if np.ptp(k) * grid.spacing_mm[2] > FLAT_MM:
        raise InputError(f"{where}: its contours are not parallel to the slices of the image; "
                         "give the image that it was drawn on")
    return Contour(float(k.mean()), index[:, :0:-1])


def _rasterise(contours: list[Contour], grid: Grid, where: str) -> np.ndarray:
    places = np.array([c.k for c in contours])
    planes = _planes(places)
    gap = float(np.min(np.diff(planes))) if len(planes) > 1 else 1.0
    on_slices = np.abs(planes - np.round(planes)).max() <= ON_PLANE
    if on_slices and gap < 1.5:
        _warn_about_holes(planes, where)
        out = np.zeros(grid.shape, bool)
        for k in sorted({round(c.k) for c in contours}):
            if 0 <= k < grid.shape[0]:
                out[k] = fill([c.points_ij for c in contours if round(c.k) == k], grid.shape[1:])
        _require_inside(contours, grid, where)
        return out
    steps = (planes - planes[0]) / gap
    if np.abs(steps - np.round(steps)).max() > ON_PLANE:
        raise InputError(f"{where}: its contours lie at uneven distances; give the image that it was drawn on")
    _warn_about_holes(steps, where)
    count = round(float(steps[-1])) + 1
    own = _own_grid(grid, planes[0], gap, count)
    stack = np.zeros(own.shape, bool)
    for n in range(count):
        near = [c.points_ij for c in contours if round((c.k - planes[0]) / gap) == n]
        if near:
            stack[n + 1] = fill(near, grid.shape[1:])
    _require_inside(contours, grid, where)
    return resample_mask(Mask(stack, own, where), grid).array


def _planes(places: np.ndarray) -> np.ndarray:
    """Sorted slice indices, those within a tenth of a slice taken as one."""
    ordered = np.sort(places)
    groups = np.split(ordered, np.flatnonzero(np.diff(ordered) > 0.1) + 1)
    return np.array([g.mean() for g in groups])


def _own_grid(grid: Grid, first: float, gap: float, count: int) -> Grid:
    """The reference grid with slices at the contours' planes and one empty slice at either end."""
    matrix = grid.ras_from_ijk.copy()
    matrix[:3, 3] = grid.points_ras(np.array([[first - gap, 0.0, 0.0]]))[0]
    matrix[:3, 2] *= gap
    return Grid((count + 2, *grid.shape[1:]), matrix)


def _warn_about_holes(steps: np.ndarray, where: str) -> None:
    gaps = int(np.count_nonzero(np.diff(steps) > 1.5))
    if gaps:
        logger.warning("%s: %d gap(s) between its contours along the slices are left empty", where, gaps)


def _require_inside(contours: list[Contour], grid: Grid, where: str) -> None:
    """Raise FrameMismatchError when contours reach beyond the image by more than a voxel."""
    low = np.array([[*c.points_ij.min(axis=0), c.k] for c in contours]).min(axis=0)
    high = np.array([[*c.points_ij.max(axis=0), c.k] for c in contours]).max(axis=0)
    if (low < -1.0).any() or (high > np.array(grid.shape[::-1])).any():
        raise FrameMismatchError(f"{where}: its contours reach beyond the image; give the image that it was drawn on")


def fill(polygons_ij: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """(rows, columns) bool: voxel centres inside polygons by the even-odd rule over all of them.

    Each polygon is (n, 2) fractional (i, j), closed by itself. Every edge toggles, in each row of centres that it
    crosses, all voxels to its right. A centre exactly on a left or upper edge counts as inside.
    """
    toggles = np.zeros((shape[0], shape[1] + 1), np.int32)
    for polygon in polygons_ij:
        start, end = polygon, np.roll(polygon, -1, axis=0)
        swap = start[:, 1] > end[:, 1]
        upper, lower = np.where(swap[:, None], end, start), np.where(swap[:, None], start, end)
        first = np.maximum(np.ceil(upper[:, 1]), 0).astype(int)
        last = np.minimum(np.ceil(lower[:, 1]), shape[0]).astype(int)
        counts = np.maximum(last - first, 0)
        edge = np.repeat(np.arange(len(polygon)), counts)
        if not len(edge):
            continue
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        slope = (lower[edge, 0] - upper[edge, 0]) / (lower[edge, 1] - upper[edge, 1])
        x = upper[edge, 0] + (row - upper[edge, 1]) * slope
        np.add.at(toggles, (row, np.clip(np.ceil(x), 0, shape[1]).astype(int)), 1)
    return (np.cumsum(toggles, axis=1)[:, :-1] % 2).astype(bool)
