"""Blocks of real MR with and without painted voids, and which cells hold a shaft.

A needle-free scan is turned, scaled, cut into other slices and given another contrast, so that few scans show many
anatomies; dark vessels that wind are drawn as well, because they are what a void is most easily taken for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ....geometry import Grid, Volume
from ..paint import PaintedVoid, Scan, paint_voids_mr
from ..work import Work, make_work

SIZE_MM = 98.0
SHAFT_MM, NEAR_MM = 2.6, 5.0
"""Cells nearer to the axis are shaft; up to the second they may be either."""
AHEAD_MM = 6.0
LEAST_LOSS, LEAST_GROUND = 0.3, 0.35
"""A piece of shaft that took away less signal, or where there was less to take, can't be told and isn't asked for."""
NOTHING, SHAFT, UNASKED = 0, 1, 2


@dataclass(frozen=True)
class Sample:
    """`cells` (2, K, J, I) float16: see `network.channels`; `label` (K, J, I) uint8: NOTHING, SHAFT or UNASKED."""

    cells: np.ndarray
    label: np.ndarray


def random_sample(scan: Volume, rng: np.random.Generator) -> Sample | None:
    """A block of `scan`; None where the block that was drawn holds too little tissue."""
    block = _block(scan, rng)
    if block is None:
        return None
    work = make_work(block)
    count = int(rng.choice(4, p=[0.2, 0.3, 0.3, 0.2]))
    voids = [v for v in (random_void(work, rng) for _ in range(count)) if v is not None]
    painted = paint_voids_mr(block, voids, scan=random_scan(rng), noise_sigma=None, seed=int(rng.integers(1 << 30)))
    from ..network import channels

    seen = make_work(painted)
    label = _label(block, painted, work, seen, voids)
    return Sample(channels(seen).astype(np.float16), label)


def _turn(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) columns i, j, k: any main plane, either way round, and up to about 12 degrees off it."""
    axes = np.eye(3)[:, rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)
    vector = np.deg2rad(rng.normal(0.0, 8.0, 3))
    skew = np.array([[0, -vector[2], vector[1]], [vector[2], 0, -vector[0]], [-vector[1], vector[0], 0]])
    q, r = np.linalg.qr(np.eye(3) + skew)
    return (q * np.sign(np.diag(r))) @ axes


def _block(scan: Volume, rng: np.random.Generator) -> Volume | None:
    thick = float(rng.choice([2.0, 3.0, 3.0, 3.0, 4.0, 5.0]))
    spacing = np.array([1.0, 1.0, 0.0]) * rng.uniform(0.8, 1.4) + [0.0, 0.0, thick]
    shape = np.array([int(SIZE_MM * rng.uniform(0.65, 0.85) / thick), *(2 * [int(SIZE_MM / spacing[0])])])
    zoom = rng.uniform(0.75, 1.25)
    body = np.argwhere(scan.array[::4, ::4, ::4] > 0.3 * np.percentile(scan.array, 99)) * 4
    centre = scan.grid.points_ras(body[rng.integers(len(body))][None])[0]
    turn = _turn(rng)
    coarse = spacing * [1.0, 1.0, 2.0 if thick == 3.0 and rng.random() < 0.4 else 1.0]
    planes = int(np.ceil(shape[0] * spacing[2] / coarse[2])) + 1
    offsets = (-0.25, 0.25) if coarse[2] > 2.0 * scan.spacing_mm.max() else (0.0,)
    parts = [_cut(scan, turn * (coarse * zoom), centre + turn[:, 2] * off * coarse[2] * zoom,
                  (planes, int(shape[1]), int(shape[2]))) for off in offsets]
    array = np.mean(parts, axis=0)
    if planes != shape[0]:
        at = (np.arange(shape[0]) + 0.5) * spacing[2] / coarse[2]
        array = ndimage.map_coordinates(array, np.stack(np.meshgrid(
            at, np.arange(shape[1]), np.arange(shape[2]), indexing="ij")), order=1, mode="nearest")
    array = _contrast(np.maximum(array, 0.0).astype(np.float32), rng)
    if (array > 0.2).mean() < 0.25:
        return None
    matrix = np.eye(4)
    matrix[:3, :3] = turn * spacing
    grid = Grid((int(shape[0]), int(shape[1]), int(shape[2])), matrix)
    return _vessels(Volume(array, grid, "block"), rng)


def _cut(scan: Volume, columns: np.ndarray, centre: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The scan on a grid of `shape` (k, j, i) about `centre` (RAS mm) whose steps along i, j, k are the columns."""
    matrix = (scan.grid.ijk_from_ras[:3, :3] @ columns)[::-1, ::-1]
    middle = scan.grid.indices_kji(centre[None])[0]
    return ndimage.affine_transform(scan.array.astype(np.float32, copy=False), matrix,
                                    middle - matrix @ ((np.array(shape) - 1) / 2.0), shape, order=1)


def _contrast(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """About 0 to 1.5: another gamma, at times bright and dark tissue changed over, a coil's slope and noise."""
    array = array / max(float(np.percentile(array, 97)), 1e-6)
    if rng.random() < 0.3:
        tissue = ndimage.gaussian_filter(array, 2.0) > 0.2
        array = np.where(tissue, np.clip(1.2 - array, 0.05, None), array)
    array = np.clip(array, 0.0, 3.0) ** rng.uniform(0.5, 1.5)
    slope = sum(np.linspace(-1, 1, n).reshape([-1 if a == axis else 1 for a in range(3)]) * rng.normal(0.0, 0.15)
                for axis, n in enumerate(array.shape))
    array = array * np.exp(slope)
    sigma = rng.uniform(0.005, 0.06)
    return np.hypot(array + rng.normal(0.0, sigma, array.shape), rng.normal(0.0, sigma, array.shape)).astype(np.float32)


def _vessels(block: Volume, rng: np.random.Generator) -> Volume:
    """Up to three dark tubes that wind, taper or are short."""
    array = block.array.copy()
    size = np.array(array.shape) * block.grid.spacing_kji_mm
    for _ in range(int(rng.choice(4, p=[0.5, 0.2, 0.2, 0.1]))):
        t = np.linspace(0.0, 1.0, 120)
        step = rng.normal(size=3)
        step *= rng.uniform(15.0, 90.0) / np.linalg.norm(step)
        path = rng.uniform(0.1, 0.9, 3) * size + np.outer(t - 0.5, step)
        for wave in (1, 2, 3):
            swing = np.sin(2 * np.pi * (wave * 0.7 * t + rng.random()))
            path = path + np.outer(swing, rng.normal(0.0, 6.0 / wave, 3))
        radius = rng.uniform(0.8, 3.0) * np.linspace(1.0, rng.uniform(0.4, 1.0), len(t))
        index = np.unique(np.rint(np.clip(path / block.grid.spacing_kji_mm, 0, np.array(array.shape) - 1)).astype(int),
                          axis=0)
        low, high = np.maximum(index.min(0) - 5, 0), np.minimum(index.max(0) + 6, array.shape)
        box = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), -1)
        distance, which = cKDTree(path).query(box * block.grid.spacing_kji_mm, distance_upper_bound=5.0)
        inside = np.clip(0.5 + radius[np.minimum(which, len(t) - 1)] - distance, 0.0, 1.0)
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        array[window] *= 1.0 - rng.uniform(0.6, 0.95) * np.where(np.isfinite(distance), inside, 0.0)
    return block.with_array(array)


def random_void(work: Work, rng: np.random.Generator) -> PaintedVoid | None:
    """A needle whose tip lies in tissue, with at least 25 mm of it in the block."""
    grid = work.volume.grid
    shape = np.array(grid.shape)
    for _ in range(60):
        tip = grid.points_ras((rng.uniform(0.05, 0.95, 3) * shape)[None])[0]
        direction = grid.directions @ (rng.normal(size=3) * [1.0, 1.0, 0.7 if rng.random() < 0.7 else 3.0])
        length = float(rng.uniform(40.0, 140.0))
        void = PaintedVoid(tip, direction / np.linalg.norm(direction), length, float(rng.uniform(0.45, 0.85)),
                           float(rng.choice([0.0, 0.0, rng.uniform(0.0, 0.025) * length])), rng.normal(size=3),
                           float(rng.choice([182.0, 182.0, 245.0])))
        near = void.curve(int(length) + 1)[-26:]
        index = grid.indices_kji(near)
        if ((index > 0) & (index < shape - 1)).all() and (work.values(work.grid_mm(near)) > 0.4).mean() > 0.85:
            return void
    return None


def random_scan(rng: np.random.Generator) -> Scan:
    b0 = float(rng.choice([1.5, 3.0]))
    axis = rng.normal(0.0, 0.1, 3) + np.eye(3)[rng.choice(3, p=[0.2, 0.2, 0.6])]
    return Scan(b0_t=b0, b0_axis=tuple(axis), te_ms=float(rng.uniform(1.2, 3.5 if b0 == 3.0 else 6.0)),
                spin_echo=bool(rng.random() < 0.25), bandwidth_hz=float(rng.uniform(250.0, 900.0)),
                readout_axis=int(rng.integers(2)))


def _label(block: Volume, painted: Volume, before: Work, seen: Work, voids: list[PaintedVoid]) -> np.ndarray:
    shape = seen.cells.shape
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1).reshape(-1, 3)
    points = seen.ras(seen.cell_points(index))
    label = np.zeros(len(points), np.uint8)
    for void in voids:
        at, across, _ = void.local(points)
        near = np.linalg.norm(across, axis=1)
        beside = (near < NEAR_MM) & (at > -void.length_mm - 3.0) & (at < AHEAD_MM)
        label[beside] = np.maximum(label[beside], UNASKED * (label[beside] != SHAFT))
        path = void.curve(int(void.length_mm) + 1)
        lost = 1.0 - painted.sample(path) / np.maximum(block.sample(path), 1e-4)
        there = before.values(before.grid_mm(path), outside=0.0) > LEAST_GROUND
        told = ndimage.median_filter((lost > LEAST_LOSS) & there, 9)
        s = np.clip(np.rint(at + void.length_mm), 0, len(path) - 1).astype(int)
        label[(near < SHAFT_MM) & (at <= 0.0) & (at > -void.length_mm) & told[s]] = SHAFT
    return label.reshape(shape)
