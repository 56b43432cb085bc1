"""Moving a mask onto a live X-ray frame: one shift for all, or a smooth field that contrast medium doesn't pull.

The field sits on a grid of cells; its motion comes from the gradients inside each cell (Lucas, Kanade 1981), cells
share it where they show nothing themselves (quadratic smoothness), from coarse to fine, and what the mask can't explain
by moving (iodine, a wire) loses its weight (Welsch; darker is forgiven less). For why masks must be moved locally:
Meijering, Zuiderveld, Viergever, Int J Comput Vis 31 (1999) 227; for the shift: Guizar-Sicairos 2008, Opt Lett 33, 156.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from ..geometry import InputError

CELL = 16
"""Pixels of the estimating resolution (long side about 512) between the nodes of the field."""
LEVELS = ((16, 6), (8, 5), (4, 4))
"""(reduction, steps) from coarse to fine."""
STIFFNESS = 0.5
"""Weight of smoothness against the mean gradient energy of a cell."""
ROBUST = 3.0
"""Residuals beyond so many times the usual one lose their weight."""
LARGEST_STEP = 1.5
SWEEPS = 16


class MovingMask:
    """A mask frame, prepared for being moved onto many live frames.

    Args:
        mask: (rows, columns) logarithmic intensity. inside: (rows, columns) bool, the lit part of the detector.

    Raises: InputError for other shapes, a picture smaller than 64 pixels, values that aren't finite, an empty `inside`.
    """

    def __init__(self, mask: np.ndarray, inside: np.ndarray) -> None:
        mask, inside = np.asarray(mask, np.float32), np.asarray(inside, bool)
        if mask.ndim != 2 or mask.shape != inside.shape or min(mask.shape) < 64:
            raise InputError(f"DSA: a mask is one frame of 64 pixels or more with its field of view, not {mask.shape} "
                             f"and {inside.shape}")
        if not np.isfinite(mask).all() or not inside.any():
            raise InputError("DSA: the mask holds values that are no numbers, or its field of view is empty")
        self.shape, self.inside = mask.shape, inside
        self._whole = bool(inside.all())
        nearest = None if self._whole else ndimage.distance_transform_edt(~inside, return_distances=False,
                                                                          return_indices=True)
        self._nearest = None if nearest is None else np.ravel_multi_index(tuple(np.asarray(nearest)), self.shape)
        self.mask = self.filled(mask)
        self._reduce = max(1, round(max(self.shape) / 512))
        unit = 2 * CELL * self._reduce
        self._padded = tuple(-(-n // unit) * unit for n in self.shape)
        self._levels = [self._level(reduction) for reduction, _ in LEVELS]

    def filled(self, frame: np.ndarray) -> np.ndarray:
        """The frame with its dark border replaced by the nearest lit value, so that no border moves in."""
        return frame if self._nearest is None else frame.ravel().take(self._nearest)

    def _pad(self, frame: np.ndarray) -> np.ndarray:
        return np.pad(frame, [(0, p - n) for p, n in zip(self._padded, self.shape, strict=True)], mode="edge")

    def _level(self, reduction: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        k = reduction * self._reduce
        lit = _shrink(self._pad(self.inside.astype(np.float32)), k) > 0.99
        small = self._smooth(_shrink(self._pad(self.mask), k), lit)
        cell = max(2, CELL // reduction)
        return small, lit, (small.shape[0] // cell, small.shape[1] // cell)

    @staticmethod
    def _smooth(frame: np.ndarray, lit: np.ndarray) -> np.ndarray:
        level = np.median(frame[lit]) if lit.any() else np.float32(0.0)
        return ndimage.gaussian_filter(frame - level, 1.0, truncate=2.0)

    def field(self, live: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """(2, grid rows, grid columns) displacement (rows, columns) in pixels: mask(x + field(x)) looks as live(x).

        `live` is (rows, columns) logarithmic intensity; `start` a field to begin from. Raises InputError for another
        shape or values that aren't finite.
        """
        live = np.asarray(live, np.float32)
        if live.shape != self.shape or not np.isfinite(live).all():
            raise InputError(f"DSA: a live frame of {live.shape} doesn't fit a mask of {self.shape}, or isn't finite")
        shown = _shrink(self._pad(self.filled(live)), LEVELS[-1][0] * self._reduce)
        grid = np.zeros((2, *self._levels[0][2]), np.float32) if start is None else np.asarray(start, np.float32)
        for (reduction, steps), (mask, lit, size) in zip(LEVELS, self._levels, strict=True):
            if lit.any():
                small = self._smooth(_shrink(shown, reduction // LEVELS[-1][0]), lit)
                grid = _descend(mask, small, lit, _resize(grid, size), reduction * self._reduce, steps)
        return grid

    def moved(self, field: np.ndarray) -> np.ndarray:
        """(rows, columns) float32: the mask after `field` (2, grid rows, grid columns) or a shift (2,)."""
        return self.carry(self.mask, field)

    def carry(self, picture: np.ndarray, field: np.ndarray) -> np.ndarray:
        """Any picture on the mask's grid, moved as the mask is; linear interpolation, edges repeated."""
        field = np.asarray(field, np.float32)
        if field.ndim == 1:
            return shifted(picture, field)
        dense = self.dense(field)
        return sample(picture, dense)

    def dense(self, field: np.ndarray) -> np.ndarray:
        """(2, rows, columns) float32 displacement of every pixel."""
        return _spread(np.asarray(field, np.float32), self._padded)[:, :self.shape[0], :self.shape[1]]


def sample(picture: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """picture(x + displacement(x)) with linear interpolation, edges repeated; (rows, columns), (2, rows, columns)."""
    rows, columns = picture.shape
    y = np.clip(displacement[0] + np.arange(rows, dtype=np.float32)[:, None], 0, np.float32(rows - 1.001))
    x = np.clip(displacement[1] + np.arange(columns, dtype=np.float32), 0, np.float32(columns - 1.001))
    i, j = y.astype(np.int32), x.astype(np.int32)
    y -= i
    x -= j
    flat, at = np.ascontiguousarray(picture, np.float32).ravel(), i * columns + j
    top = flat.take(at)
    top += (flat.take(at + 1) - top) * x
    at += columns
    low = flat.take(at)
    low += (flat.take(at + 1) - low) * x
    return top + (low - top) * y


def shifted(picture: np.ndarray, shift_px: np.ndarray) -> np.ndarray:
    """picture(x + shift), shift (rows, columns) in pixels; linear interpolation, edges repeated."""
    offset = [float(v) for v in np.asarray(shift_px, float).reshape(2)]
    return ndimage.shift(np.asarray(picture, np.float32), [-v for v in offset], order=1, mode="nearest")


def pixel_shift(live: np.ndarray, mask: np.ndarray, inside: np.ndarray | None = None, *,
                largest_px: float = 24.0, upsample: int = 20) -> np.ndarray:
    """(2,) shift (rows, columns) in pixels so that mask(x + shift) looks as live(x); by phase correlation.

    Both (rows, columns) logarithmic; `inside` is the lit part. Steps of 1/upsample pixel. Zero when there is nothing to
    hold on to. Raises InputError when shapes differ.
    """
    live, mask = np.asarray(live, np.float32), np.asarray(mask, np.float32)
    if live.shape != mask.shape or live.ndim != 2:
        raise InputError(f"DSA: a live frame of {live.shape} can't be compared with a mask of {mask.shape}")
    rows, columns = live.shape
    window = np.hanning(rows + 2)[1:-1, None] * np.hanning(columns + 2)[1:-1]
    if inside is not None:
        window = window * ndimage.gaussian_filter(ndimage.binary_erosion(inside, iterations=8).astype(np.float32), 4)
    window = window.astype(np.float32)
    a, b = (fft.fft2((f - ndimage.uniform_filter(f, 25)) * window) for f in (live, mask))
    cross = np.asarray(b) * np.conj(np.asarray(a))
    size = np.abs(cross)
    if not size.max() > 0:
        return np.zeros(2)
    fy, fx = (np.fft.fftfreq(n).astype(np.float32) for n in (rows, columns))
    cross = cross / (size + 1e-3 * size.max()) * np.exp(-((fy[:, None] ** 2 + fx**2) / (2 * 0.15**2)))
    surface = np.asarray(fft.ifft2(cross)).real
    near = (np.abs(fy * rows)[:, None] <= largest_px) & (np.abs(fx * columns) <= largest_px)
    peak = np.unravel_index(np.argmax(np.where(near, surface, -np.inf)), surface.shape)
    center = np.array([np.fft.fftfreq(n)[p] * n for n, p in zip(surface.shape, peak, strict=True)])
    fine = np.arange(-upsample, upsample + 1) / upsample
    left = np.exp(2j * np.pi * np.outer(center[0] + fine, fy))
    right = np.exp(2j * np.pi * np.outer(fx, center[1] + fine))
    at = np.unravel_index(np.argmax((left @ cross @ right).real), (fine.size, fine.size))
    return center + fine[list(at)]


def _descend(mask: np.ndarray, live: np.ndarray, lit: np.ndarray, grid: np.ndarray, k: int, steps: int) -> np.ndarray:
    """Steps at one level; `grid` in full pixels, pictures reduced by k."""
    size = grid.shape[1:]
    spots = np.flatnonzero(lit)[::7]
    weight = lit.astype(np.float32)
    for _ in range(steps):
        moved = sample(mask, _spread(grid, mask.shape) / np.float32(k))
        dy, dx = np.gradient(moved)
        rest = (live - moved) * weight
        scale = ROBUST * (2.1 * np.percentile(np.abs(rest.ravel()[spots]), 60) + 1e-6)
        w = weight * np.exp(-np.square(rest / np.where(rest < 0, np.float32(scale), np.float32(1.5 * scale))))
        w = ndimage.minimum_filter(w, 3)  # the blurred rim of what contrast covers pulls, too
        wy, wx = w * dy, w * dx
        yy, xy, xx, by, bx = (_blur(_sum_cells(v, size)) for v in (wy * dy, wy * dx, wx * dx, wy * rest, wx * rest))
        smooth = STIFFNESS * float(np.mean(xx + yy)) / 2 + 1e-12
        step = _solve(yy, xy, xx, by, bx, grid / k, smooth)
        grid = grid + np.float32(k) * np.clip(step, -LARGEST_STEP, LARGEST_STEP)
    return grid


def _solve(yy: np.ndarray, xy: np.ndarray, xx: np.ndarray, by: np.ndarray, bx: np.ndarray, grid: np.ndarray,
           smooth: float) -> np.ndarray:
    """Step d of least A d.d - 2 b.d + smooth |grad(grid + d)|^2, by damped Jacobi sweeps over 2x2 blocks."""
    count = _neighbours(np.ones_like(yy))
    a, c = yy + smooth * count, xx + smooth * count
    scale = 0.9 / (a * c - xy * xy)
    a, c, xy = a * scale, c * scale, xy * scale
    rest = np.stack([by, bx]) - smooth * (count * grid - _neighbours(grid))
    framed = np.zeros((2, grid.shape[1] + 2, grid.shape[2] + 2), np.float32)
    step = framed[:, 1:-1, 1:-1]
    for _ in range(SWEEPS):
        pull = framed[:, :-2, 1:-1] + framed[:, 2:, 1:-1]
        pull += framed[:, 1:-1, :-2]
        pull += framed[:, 1:-1, 2:]
        pull *= smooth
        pull += rest
        step *= 0.1
        step[0] += c * pull[0] - xy * pull[1]
        step[1] += a * pull[1] - xy * pull[0]
    return step.copy()


def _neighbours(field: np.ndarray) -> np.ndarray:
    out = np.zeros_like(field)
    out[..., 1:, :] += field[..., :-1, :]
    out[..., :-1, :] += field[..., 1:, :]
    out[..., 1:] += field[..., :-1]
    out[..., :-1] += field[..., 1:]
    return out


def _shrink(frame: np.ndarray, k: int) -> np.ndarray:
    rows, columns = frame.shape
    return frame if k == 1 else frame.reshape(rows // k, k, columns // k, k).mean((1, 3), dtype=np.float32)


def _sum_cells(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    rows, columns = values.shape
    return values.reshape(size[0], rows // size[0], size[1], columns // size[1]).sum((1, 3))


def _blur(cells: np.ndarray) -> np.ndarray:
    padded = np.pad(cells, 1)
    rows = 0.25 * (padded[:-2] + padded[2:]) + 0.5 * padded[1:-1]
    return 0.25 * (rows[:, :-2] + rows[:, 2:]) + 0.5 * rows[:, 1:-1]


def _stretch(nodes: np.ndarray, pixels: int) -> np.ndarray:
    """(..., nodes, n) to (..., pixels, n), linear from cell centres to pixel centres."""
    count = nodes.shape[-2]
    at = np.clip((np.arange(pixels) + 0.5) * count / pixels - 0.5, 0, count - 1)
    first = np.minimum(at.astype(int), max(count - 2, 0))
    share = (at - first).astype(np.float32)[:, None]
    low = nodes[..., first, :]
    return low + (nodes[..., np.minimum(first + 1, count - 1), :] - low) * share


def _spread(grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(2, rows, columns) of a field on nodes, linear in between."""
    wide = _stretch(grid.swapaxes(1, 2), shape[1]).swapaxes(1, 2)
    return _stretch(wide, shape[0])


def _resize(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return grid if grid.shape[1:] == size else _spread(grid, size)
