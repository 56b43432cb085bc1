"""Interpolation to a grid that shares its centre and its axes with the old one, by windows.

As the IBSI manual asks (section 2.4, "align grid centres"): ceil(n s / s') new voxels along an axis, the middle of
the old and the new axis at the same place. Beyond the outermost centres the outermost value holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_SPLINE_REACH = 16
"""Voxels after which the cubic spline's prefilter has forgotten (0.27^16 < 1e-9)."""


@dataclass(frozen=True)
class Axis:
    """One axis of both grids.

    Attributes:
        n, new_n: voxels before and after.
        mm, new_mm: their size.
    """

    n: int
    mm: float
    new_n: int
    new_mm: float

    @property
    def step(self) -> float:
        """Old voxels in a new one."""
        return self.new_mm / self.mm

    @property
    def first(self) -> float:
        """Old index of the first new centre."""
        return 0.5 * (self.n - 1) - 0.5 * (self.new_n - 1) * self.step

    @property
    def kept(self) -> bool:
        """Whether nothing changes along it."""
        return self.n == self.new_n and abs(self.step - 1.0) < 1e-9

    def window(self, low: int, high: int, margin: int | None) -> tuple[int, int]:
        """New voxels (first, one after the last) that old voxels low...high can reach; None: the whole axis."""
        if margin is None:
            return 0, self.new_n
        start = math.floor((low - 1 - self.first) / self.step) - margin
        stop = math.ceil((high + 1 - self.first) / self.step) + 1 + margin
        start = min(max(0, start), self.new_n - 1)
        return start, min(self.new_n, max(stop, start + 1))

    def source(self, window: tuple[int, int], interpolation: str) -> slice:
        """Old voxels that a window needs."""
        if self.kept:
            return slice(*window)
        reach = _SPLINE_REACH if interpolation == "cubic" else 1
        low = math.floor(self.first + self.step * window[0]) - reach
        high = math.ceil(self.first + self.step * (window[1] - 1)) + reach
        return slice(min(max(0, low), self.n - 1), max(min(self.n, high + 1), 1))

    def places(self, window: tuple[int, int]) -> np.ndarray:
        """Old index of each new centre of a window."""
        return self.first + self.step * np.arange(*window)


def axes_for(shape: tuple[int, ...], spacing_mm: np.ndarray, new_mm: tuple[float, ...] | None) -> list[Axis]:
    """The three axes (k, j, i); a pair in `new_mm` leaves k as it is, and so does an image of one slice."""
    wanted: list[float | None] = [None] * 3 if new_mm is None else [None, *new_mm] if len(new_mm) == 2 else [*new_mm]
    axes = []
    for n, mm, new in zip(shape, (float(s) for s in spacing_mm), wanted, strict=True):
        same = new is None or n == 1 or abs(new - mm) < 1e-6 * mm
        axes.append(Axis(n, mm, n, mm) if same or new is None else Axis(n, mm, math.ceil(n * mm / new - 1e-6), new))
    return axes


def interpolate(array: np.ndarray, axes: list[Axis], windows: list[tuple[int, int]], interpolation: str) -> np.ndarray:
    """(k, j, i) float64 of the windows of the new grid."""
    need = tuple(axis.source(window, interpolation) for axis, window in zip(axes, windows, strict=True))
    out = np.asarray(array[need], np.float64)
    for number, (axis, window, part) in enumerate(zip(axes, windows, need, strict=True)):
        if not axis.kept:
            out = _along(out, number, axis.places(window) - part.start, interpolation)
    return out if out.base is None and out is not array else out.copy()


def _along(values: np.ndarray, axis: int, places: np.ndarray, interpolation: str) -> np.ndarray:
    last = values.shape[axis] - 1
    places = np.clip(places, 0.0, last)
    if interpolation == "nearest":
        return values.take(np.minimum(np.floor(places + 0.5 - 1e-9).astype(int), last), axis)
    if interpolation == "cubic" and last > 0:
        return _cubic(values, axis, places)
    low = np.minimum(np.floor(places).astype(int), max(last - 1, 0))
    weight = (places - low).reshape([-1 if a == axis else 1 for a in range(3)])
    return values.take(low, axis) * (1.0 - weight) + values.take(np.minimum(low + 1, last), axis) * weight


def _cubic(values: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    coefficients = np.asarray(ndimage.spline_filter1d(values, 3, axis=axis, mode="mirror"))
    last = values.shape[axis] - 1
    low = np.floor(places).astype(int)
    t = (places - low).reshape([-1 if a == axis else 1 for a in range(3)])
    weights = ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
    out = np.zeros([len(places) if a == axis else n for a, n in enumerate(values.shape)])
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        index = np.abs(low + offset)
        out += coefficients.take(np.where(index > last, 2 * last - index, index), axis) * weight
    return out
