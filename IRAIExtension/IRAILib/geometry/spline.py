"""Penalised cubic B-splines on a 3D lattice: the smoothest function through scattered data.

A penalty on all third derivatives leaves every quadric unpunished, so that spheres and ellipsoids come back
as they are, however thick the slices. Everything here is in the coordinates of the lattice (mm along its axes).
"""

from __future__ import annotations

from copy import copy
from functools import lru_cache
from math import factorial

import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import cholesky, solve_triangular

REACH = 3
"""A cubic B-spline overlaps its neighbours up to this many knots away."""


@lru_cache(maxsize=256)
def _gram(knots: int, derivative: int) -> np.ndarray:
    """(n, 7) integrals of B_i^(d) B_(i+a)^(d), a = -3..3, over `knots - 1` unit intervals; n = knots + 2."""
    count = knots + 2
    nodes, weights = np.polynomial.legendre.leggauss(4)
    x = (np.arange(knots - 1)[:, None] + 0.5 + 0.5 * nodes).ravel()
    values = _basis(x, knots, derivative) * np.sqrt(np.tile(0.5 * weights, knots - 1))[:, None]
    full = values.T @ values
    out = np.zeros((count, 2 * REACH + 1))
    for a in range(-REACH, REACH + 1):
        rows = np.arange(max(0, -a), min(count, count - a))
        out[rows, a + REACH] = full[rows, rows + a]
    return out


def _basis(x: np.ndarray, knots: int, derivative: int = 0) -> np.ndarray:
    """(len(x), knots + 2) dense values of the cubic B-splines with integer knots, x in [0, knots - 1]."""
    lattice = np.arange(-REACH, knots + REACH, dtype=float)
    spline = BSpline(lattice, np.eye(knots + 2), 3)
    inside = np.clip(x, 0.0, knots - 1 - 1e-9)
    return spline.derivative(derivative)(inside) if derivative else spline(inside)


@lru_cache(maxsize=16)
def _penalty(knots: tuple[int, int, int]) -> np.ndarray:
    """Block rows (see `_empty_blocks`) of the integral of all squared third derivatives, unit knots."""
    terms = [(6 // (factorial(a) * factorial(b) * factorial(3 - a - b)), a, b, 3 - a - b)
             for a in range(4) for b in range(4 - a)]
    weight = np.array([t[0] for t in terms], float)
    grams = [np.stack([_gram(knots[axis], t[axis + 1]) for t in terms]) for axis in range(3)]
    count = [k + 2 for k in knots]
    blocks = _empty_blocks(count)
    rows = np.arange(int(np.prod(count)))
    group, local = np.divmod(rows, blocks.shape[1])
    reach = range(-REACH, REACH + 1)
    for a, b, c in ((a, b, c) for a in reach for b in reach for c in reach):
        value = np.einsum("t,ti,tj,tk->ijk", weight, grams[0][:, :, a + REACH], grams[1][:, :, b + REACH],
                          grams[2][:, :, c + REACH]).ravel()
        column = local + (a * count[1] + b) * count[2] + c
        hit = (value != 0.0) & (column >= 0) & (column < blocks.shape[2])
        blocks[group[hit], local[hit], column[hit]] += value[hit]
    return blocks


def _empty_blocks(count) -> np.ndarray:
    """Zeros for a symmetric block-tridiagonal matrix: (groups, B, 2B), row block g holds columns g and g + 1.

    A group is `REACH` slabs of the first axis, so that nothing reaches further than the next group.
    """
    size = REACH * int(count[1]) * int(count[2])
    return np.zeros((int(count[0]) // REACH, size, 2 * size))


class _BlockCholesky:
    """Factor of a positive definite block-tridiagonal matrix in the layout of `_empty_blocks`."""

    def __init__(self, blocks: np.ndarray) -> None:
        size = blocks.shape[1]
        self.diagonal: list[np.ndarray] = []
        self.below: list[np.ndarray] = []
        for group, row in enumerate(blocks):
            middle = row[:, :size]
            if group:
                middle = middle - self.below[-1] @ self.below[-1].T
            factor = cholesky(middle, lower=True, check_finite=False)
            self.diagonal.append(factor)
            self.below.append(solve_triangular(factor, row[:, size:], lower=True, check_finite=False).T)

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Solution for (n,) or (n, m) right sides."""
        size = len(self.diagonal[0])
        parts = list(right.reshape(len(self.diagonal), size, *right.shape[1:]))
        for group, factor in enumerate(self.diagonal):
            if group:
                parts[group] = parts[group] - self.below[group - 1] @ parts[group - 1]
            parts[group] = solve_triangular(factor, parts[group], lower=True, check_finite=False)
        for group in range(len(parts) - 1, -1, -1):
            if group + 1 < len(parts):
                parts[group] = parts[group] - self.below[group].T @ parts[group + 1]
            parts[group] = solve_triangular(self.diagonal[group], parts[group], lower=True, trans=1,
                                            check_finite=False)
        return np.concatenate(parts)


class SplineLattice:
    """A lattice of B-spline coefficients over a box.

    Args:
        low_mm: (3,) first corner of the box.
        extent_mm: (3,) its size.
        knot_mm: distance of the knots, the same along all axes.
    """

    def __init__(self, low_mm: np.ndarray, extent_mm: np.ndarray, knot_mm: float) -> None:
        self.low_mm, self.knot_mm = np.asarray(low_mm, float), float(knot_mm)
        self.knots = np.maximum(4, np.ceil(np.asarray(extent_mm) / knot_mm).astype(int) + 1)
        self.order = np.argsort(-self.knots, kind="stable")  # longest axis first: the smallest blocks
        self.knots[self.order[0]] += -(self.knots[self.order[0]] + 2) % REACH
        self.count = self.knots[self.order] + 2
        self.coefficients = np.zeros(self.knots + 2)
        self._factor: _BlockCholesky | None = None

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return int(np.prod(self.count))

    def _rows(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, 64) coefficient indices (ascending) and (n, 64) basis values, in the internal axis order."""
        u = ((np.asarray(points_mm) - self.low_mm) / self.knot_mm)[:, self.order]
        u = np.clip(u, 0.0, self.knots[self.order] - 1 - 1e-9)
        cell = np.floor(u).astype(np.int64)
        t = u - cell
        # the four uniform cubic B-splines that overlap a cell, each as a polynomial of the place in it
        b = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=-1) / 6.0
        value = b[:, 0, :, None, None] * b[:, 1, None, :, None] * b[:, 2, None, None, :]
        step = np.arange(4)
        n = self.count
        index = (((cell[:, 0, None] + step)[:, :, None, None] * n[1]
                  + (cell[:, 1, None] + step)[:, None, :, None]) * n[2]
                 + (cell[:, 2, None] + step)[:, None, None, :])
        return index.reshape(len(u), 64), value.reshape(len(u), 64)

    def normal_equations(self, points_mm: np.ndarray, targets: np.ndarray,
                         weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted normal matrix (block rows) and right side of `value(points) = targets`."""
        index, value = self._rows(points_mm)
        empty = _empty_blocks(self.count)
        size = empty.shape[1]
        right = np.bincount(index.ravel(), weights=(value * (weights * targets)[:, None]).ravel(),
                            minlength=self.size)
        order = np.argsort(index[:, 0], kind="stable")
        chunks = np.split(order, np.flatnonzero(np.diff(index[order, 0], prepend=-1))[1:])
        products = np.stack([(value[c] * weights[c, None]).T @ value[c] for c in chunks])
        rows = index[[c[0] for c in chunks]]
        group = rows // size
        column = rows[:, None, :] - (group * size)[:, :, None]
        flat = (rows * (2 * size))[:, :, None] + column
        products[column < 0] = 0.0
        flat[column < 0] = 0
        blocks = np.bincount(flat.ravel(), weights=products.ravel(), minlength=empty.size)
        return blocks.reshape(empty.shape), right

    def solved(self, normal: np.ndarray, right: np.ndarray, smoothness: float) -> SplineLattice:
        """A lattice whose coefficients minimise the weighted squares plus `smoothness` times the penalty."""
        out = copy(self)
        penalty = _penalty(tuple(int(k) for k in self.knots[self.order]))
        system = normal + smoothness * self.knot_mm**-3 * penalty
        size = system.shape[1]
        diagonal = system[:, np.arange(size), np.arange(size)]
        system[:, np.arange(size), np.arange(size)] += 1e-9 * diagonal.mean()
        out._factor = _BlockCholesky(system)
        solution = out._factor.solve(right)
        out.coefficients = np.ascontiguousarray(solution.reshape(self.count).transpose(np.argsort(self.order)))
        return out

    def value(self, points_mm: np.ndarray) -> np.ndarray:
        """(n,) the function at (n, 3) points."""
        from scipy import ndimage

        u = (np.asarray(points_mm) - self.low_mm) / self.knot_mm
        u = np.clip(u, 0.0, self.knots - 1)
        return ndimage.map_coordinates(self.coefficients, u.T + 1.0, order=3, prefilter=False, mode="nearest")

    def gradient(self, points_mm: np.ndarray, value: np.ndarray | None = None, step_mm: float = 0.02) -> np.ndarray:
        """(n, 3) forward differences; `value` saves evaluating the function where it is known already."""
        here = self.value(points_mm) if value is None else value
        return np.stack([self.value(points_mm + s) - here for s in np.eye(3) * step_mm], axis=1) / step_mm

    def on_lattice(self, step_mm: float) -> np.ndarray:
        """The function on a regular lattice from `low_mm` in steps of `step_mm` over the whole box."""
        bases = [_basis(np.arange(0.0, (k - 1) * self.knot_mm + 1e-6, step_mm) / self.knot_mm, int(k))
                 for k in self.knots]
        out = self.coefficients
        for basis in bases:
            out = np.tensordot(out, basis, axes=(0, 1))
        return out

    def standard_deviation(self, points_mm: np.ndarray) -> np.ndarray:
        """(n,) posterior standard deviation of the value at (n, 3) points, for the weights as 1/variance.

        A solve for each point: meant for tens of points. Raises RuntimeError before `solved`.
        """
        if self._factor is None:
            raise RuntimeError("solve the lattice first")
        index, value = self._rows(np.asarray(points_mm, float).reshape(-1, 3))
        right = np.zeros((self.size, len(index)))
        np.put_along_axis(right, index.T, value.T, axis=0)
        solution = self._factor.solve(right)
        return np.sqrt(np.maximum((right * solution).sum(axis=0), 0.0))
