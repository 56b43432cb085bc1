"""Along the spine: which way it runs in the CT, and how far the next vertebra is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...geometry import InputError, Volume
from .drr import CORTICAL_PER_MM, WATER_PER_MM
from .patient import Patient

REACH_MM = 90.0
FOLLOWED = 7
LOCAL_MM = 50.0
DENSE_PER_MM = WATER_PER_MM + 0.26 * (CORTICAL_PER_MM - WATER_PER_MM)
"""About 430 HU: cortical bone, and more than vessels and heart filled with contrast mostly have."""
COLUMN_MM, ALONG_MM, THINNED_MM = 12.0, 22.0, 3.0
SHORTEST_MM, LONGEST_MM = 15.0, 42.0
USUAL_MM = 25.0
PERIODIC = 0.2


@dataclass(frozen=True, eq=False)
class Spine:
    """Attributes: point (3,) RAS mm on the spine; upwards (3,) RAS unit vector towards the head; up_mm, down_mm: to
    the next vertebra; source: "labels", "periodicity" or "usual distance"."""

    point: np.ndarray
    upwards: np.ndarray
    up_mm: float
    down_mm: float
    source: str


def find_spine(patient: Patient, near: np.ndarray, labels: Volume | None = None,
               vertebrae: Iterable[int] | None = None) -> Spine:
    """The spine near a point (3,) RAS mm.

    Args:
        labels: a label map with one number a vertebra; `vertebrae`: which numbers are vertebrae (default all).
    Raises: InputError for labels that hold fewer than two vertebrae.
    """
    if labels is not None:
        return _from_labels(labels, near, vertebrae)
    centres, profile, spacing = _column(patient, near)
    if len(centres) < 8:
        return Spine(np.asarray(near, float), np.array([0.0, 0.0, 1.0]), USUAL_MM, USUAL_MM, "usual distance")
    heights = np.arange(len(centres)) * spacing
    centre = heights[int(np.argmin(np.linalg.norm(centres - near, axis=1)))]
    centres = centres[np.abs(heights - centre) <= LOCAL_MM]
    middle = centres.mean(axis=0)
    upwards = np.linalg.svd(centres - middle)[2][0]
    upwards = upwards * (1.0 if upwards[2] >= 0 else -1.0)
    point = middle + upwards * float((near - middle) @ upwards)
    period = _period(profile, spacing)
    if period is None:
        return Spine(point, upwards, USUAL_MM, USUAL_MM, "usual distance")
    return Spine(point, upwards, period, period, "periodicity")


def _from_labels(labels: Volume, near: np.ndarray, vertebrae: Iterable[int] | None) -> Spine:
    from scipy import ndimage

    array = np.asarray(labels.array)
    numbers = sorted(int(n) for n in (np.unique(array) if vertebrae is None else vertebrae) if n)
    boxes = ndimage.find_objects(array.astype(np.int32), max_label=max(numbers, default=0))
    centres = []
    for number in numbers:
        box = boxes[number - 1] if number > 0 else None
        if box is not None:
            where = np.argwhere(array[box] == number) + [part.start for part in box]
            centres.append(labels.grid.points_ras(where.mean(axis=0)[None])[0])
    if len(centres) < 2:
        raise InputError(f"{labels.name or 'labels'}: fewer than two vertebrae; one number a vertebra is needed")
    points = np.array(centres)
    points = points[np.argsort(points[:, 2])]
    nearest = int(np.argmin(np.linalg.norm(points - near, axis=1)))
    low, high = max(nearest - 1, 0), min(nearest + 1, len(points) - 1)
    upwards = (points[high] - points[low]) / np.linalg.norm(points[high] - points[low])
    steps = [float(np.linalg.norm(points[n] - points[nearest])) for n in (high, low)]
    steps = [value if value > 1 else max(steps) for value in steps]
    return Spine(points[nearest], upwards, steps[0], steps[1], "labels")


def _column(patient: Patient, near: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(n, 3) RAS centres of the densest bone of each slice near a point, (n,) mean attenuation there, slice spacing."""
    from scipy import ndimage

    matrix = patient.ras_from_ijk
    axis = 2 - int(np.argmax(np.abs(matrix[2, :3] / np.linalg.norm(matrix[:3, :3], axis=0))))
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)[::-1]
    array = np.moveaxis(patient.mu_per_mm, axis, 0)
    place = (np.linalg.inv(matrix)[:3] @ np.append(near, 1.0))[::-1][axis]
    reach = REACH_MM / spacing[axis]
    low, high = max(0, round(place - reach)), min(len(array), round(place + reach) + 1)
    others = np.delete(spacing, axis)
    thin = np.maximum(np.round(THINNED_MM / others), 1).astype(int)
    bone = (array[low:high] > DENSE_PER_MM).astype(np.float32)[:, ::thin[0], ::thin[1]]
    if not len(bone):
        return np.zeros((0, 3)), np.zeros(0), float(spacing[axis])
    widths = (ALONG_MM / spacing[axis], *(COLUMN_MM / (others * thin)))
    modes: Any = ("nearest", "constant", "constant")
    dense = ndimage.gaussian_filter(bone, widths, mode=modes)
    step = spacing[axis] / (others * thin)
    paths = [_followed(dense, n, np.maximum(np.ceil(step), 1).astype(int))
             for n in np.linspace(0, len(dense) - 1, FOLLOWED).astype(int)]
    path = max(paths, key=lambda way: float(np.percentile(dense[np.arange(len(way)), way[:, 0], way[:, 1]], 20)))
    centres, profile = [], []
    half = np.ceil(18.0 / others).astype(int)
    for n, (row, column) in enumerate(path * thin):
        patch = array[low + n, max(0, row - half[0]):row + half[0] + 1, max(0, column - half[1]):column + half[1] + 1]
        profile.append(float(patch.mean()))
        index = np.insert(np.array([row, column], float), axis, low + n)
        centres.append(matrix[:3, :3] @ index[::-1] + matrix[:3, 3])
    return np.array(centres).reshape(-1, 3), np.array(profile), float(spacing[axis])


def _followed(dense: np.ndarray, first: int, reach: np.ndarray) -> np.ndarray:
    """(n, 2) densest place of each slice, from the densest of slice `first`, moving at most `reach` a slice."""
    path = np.zeros((len(dense), 2), int)
    path[first] = np.unravel_index(int(np.argmax(dense[first])), dense[first].shape)
    for ways in (range(first + 1, len(dense)), range(first - 1, -1, -1)):
        place = path[first]
        for n in ways:
            low = np.maximum(place - reach, 0)
            window = dense[n, low[0]:place[0] + reach[0] + 1, low[1]:place[1] + reach[1] + 1]
            place = low + np.array(np.unravel_index(int(np.argmax(window)), window.shape))
            path[n] = place
    return path


def _period(profile: np.ndarray, spacing: float) -> float | None:
    """Lag of the autocorrelation's highest peak between the shortest and longest vertebra, mm; None without one."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter1d(profile, 2.0 / spacing)
    wave = smooth - ndimage.gaussian_filter1d(profile, 20.0 / spacing)
    power = float(wave @ wave)
    lags = np.arange(int(SHORTEST_MM / spacing), min(int(LONGEST_MM / spacing) + 2, len(wave) - 4))
    if power <= 0 or len(lags) < 3:
        return None
    values = np.array([wave[lag:] @ wave[:-lag] / power * len(wave) / (len(wave) - lag) for lag in lags])
    peaks = [n for n in range(1, len(lags) - 1) if values[n] >= values[n - 1] and values[n] > values[n + 1]]
    if not peaks or values[max(peaks, key=lambda n: values[n])] < PERIODIC:
        return None
    return float(lags[max(peaks, key=lambda n: values[n])] * spacing)
