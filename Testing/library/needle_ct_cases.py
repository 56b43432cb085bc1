"""Needles at random where needles go, a second painter that shares nothing with the library's, and errors."""

from __future__ import annotations

import numpy as np
from IRAILib.geometry import Grid, Volume
from IRAILib.needle.paint_ct import PaintedNeedle
from scipy import ndimage


def water_phantom(spacing_mm=(0.8, 0.8, 2.5), shape=(40, 160, 200), noise_hu=12.0, seed=0, ribs=True) -> Volume:
    """An elliptic body of soft tissue in air with a spine, two ribs and a table under it, oblique in the world."""
    rng = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    x, y, z = i * spacing_mm[0], j * spacing_mm[1], k * spacing_mm[2]
    half = np.array([0.4 * shape[2] * spacing_mm[0], 0.38 * shape[1] * spacing_mm[1]])
    radius = np.hypot(x / half[0], y / half[1])
    array = np.where(radius < 1.0, 55.0, -1000.0)
    if ribs:
        spine = np.hypot(x / 14.0, (y - 0.55 * half[1]) / 12.0)
        array[spine < 1.0] = 250.0
        array[(spine < 1.0) & (spine > 0.85)] = 900.0
        rib = (np.abs(radius - 0.88) < 0.06) & (np.abs(z - 0.3 * x) % 36.0 < 7.0)
        array[rib] = 950.0
    array[(np.abs(y - 1.12 * half[1]) < 2.0)] = 300.0
    array = ndimage.gaussian_filter(array, (0.0, 0.7 / spacing_mm[1], 0.7 / spacing_mm[0]))
    array += rng.normal(0.0, noise_hu, array.shape)
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag([-1.0, -1.0, 1.0]) * spacing_mm
    matrix[:3, 3] = [30.0, -20.0, 400.0]
    return Volume(array.astype(np.float32), Grid(shape, matrix), "phantom")


def body_of(volume: Volume) -> np.ndarray:
    """(k, j, i) depth under the skin, mm, 0 outside: the largest thing that isn't air, holes of each slice filled."""
    half = volume.array[:, ::2, ::2]
    labels, _ = ndimage.label(ndimage.binary_opening(half > -300.0, np.ones((1, 3, 3), bool)))
    body = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    body = np.stack([ndimage.binary_fill_holes(plane) for plane in body])
    depth = ndimage.distance_transform_edt(body, sampling=volume.grid.spacing_kji_mm * [1, 2, 2])
    size = volume.array.shape
    return depth.astype(np.float32).repeat(2, axis=1).repeat(2, axis=2)[:, :size[1], :size[2]]


def random_needle(volume: Volume, body: np.ndarray, rng: np.random.Generator, *, bend_mm=0.0, radius_mm=None,
                  tilt=0.5, material=None, cone_mm=0.0) -> PaintedNeedle:
    """A needle from the air through the skin into soft tissue 25 to 90 mm deep, round bones."""
    inside = np.argwhere(body > 12.0)
    for _ in range(20000):
        tip = volume.grid.points_ras(inside[rng.integers(len(inside))] + rng.uniform(-0.5, 0.5, 3))[0]
        d = rng.normal(size=3) * [1.0, 1.0, tilt]
        d /= np.linalg.norm(d)
        depth = rng.uniform(30.0, 90.0)
        length = depth + rng.uniform(15.0, 60.0)
        needle = PaintedNeedle(tip, -d, length, rng.uniform(0.55, 1.2) if radius_mm is None else radius_mm, bend_mm,
                               rng.normal(size=3), material or str(rng.choice(["steel", "titanium"])), cone_mm)
        path = needle.curve(int(length) + 1)[::-1]
        index = np.rint(volume.grid.indices_kji(path)).astype(int)
        low_k, high_k = index[:, 0].min(), index[:, 0].max()
        if low_k < 1 or high_k > body.shape[0] - 2 or (index < 0).any() or (index >= body.shape).any():
            continue
        within = body[tuple(index.T)] > 0.0
        first = np.argmin(within) if not within.all() else len(within)
        if abs(first - depth) > 8.0 or within[first + 8:].any() or first > length - 8:
            continue
        values = volume.array[tuple(index.T)][:first]
        if body[tuple(index[0])] > 12.0 and values.max() < 350.0 and np.median(values[:15]) > -100.0:
            return needle
    raise AssertionError("no room for a needle in this volume")


def second_painter(volume: Volume, needles: list[PaintedNeedle], *, blur_mm=0.75, metal_hu=9000.0, clip_hu=3071.0,
                   streaks=True) -> Volume:
    """Plain super-sampling of each voxel, and streaks from skimage's radon of the clipped metal.

    A beam through metal saturates: what a ray of length L reads is smaller than L by a part that grows with L. The
    difference is reconstructed with skimage's iradon and added. Nothing of the library's painter is used but the
    dataclass that names the needle.
    """
    out = volume.array.astype(float).copy()
    part = np.zeros(out.shape)
    spacing = volume.spacing_mm
    for needle in needles:
        path = needle.curve(400)
        index = volume.grid.indices_kji(path)
        pad = np.array([2, 8, 8])
        low = np.maximum(np.floor(index.min(axis=0) - pad), 0).astype(int)
        high = np.minimum(np.ceil(index.max(axis=0) + pad) + 1, out.shape).astype(int)
        cells = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), -1)
        flat = cells.reshape(-1, 3)
        from scipy.spatial import cKDTree

        tree = cKDTree(path)
        reach = needle.radius_mm + 0.6 * np.linalg.norm(spacing)
        near = tree.query(volume.grid.points_ras(flat), distance_upper_bound=reach)[0] < reach
        flat = flat[near]
        steps = [(np.arange(n) + 0.5) / n - 0.5 for n in (9, 4, 4)]
        total = np.zeros(len(flat))
        for offset in np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3):
            points = volume.grid.points_ras(flat + offset)
            distance, nearest = tree.query(points)
            beyond = (points - path[-1]) @ needle.tip_direction() > 0.0
            total += (distance <= needle.radius_mm) & ~(beyond & (nearest == len(path) - 1))
        part[tuple(flat.T)] = np.maximum(part[tuple(flat.T)], total / 144.0)
    part = ndimage.gaussian_filter(part, (0.0, blur_mm / spacing[1], blur_mm / spacing[0]))
    out += part * (metal_hu - np.clip(out, -1000.0, 200.0))
    if streaks:
        _skimage_streaks(out, part)
    return volume.with_array(np.minimum(out, clip_hu).astype(np.float32))


def _skimage_streaks(out: np.ndarray, part: np.ndarray) -> None:
    from skimage.transform import iradon, radon, resize

    angles = np.linspace(0.0, 180.0, 120, endpoint=False)
    for k in np.flatnonzero(part.max(axis=(1, 2)) > 0.02):
        size = max(part.shape[1:]) // 2
        small = resize(part[k], (size, size), anti_aliasing=True)
        thickness = radon(small, angles, circle=False)
        lost = 0.03 * thickness**2 / (1.0 + 0.1 * thickness)
        streak = iradon(-lost, angles, circle=False, output_size=size) * 9000.0
        out[k] += resize(streak, part.shape[1:])


def errors(found, needle: PaintedNeedle) -> tuple[float, float, float]:
    """Tip error (mm), angle at the tip (degrees), largest distance of the found curve from the true one (mm)."""
    if found.tip is None:
        return np.inf, np.inf, np.inf
    tip = float(np.linalg.norm(found.tip - needle.tip))
    angle = float(np.degrees(np.arccos(np.clip(found.direction @ needle.tip_direction(), -1.0, 1.0))))
    dense = needle.curve(1001)
    at = np.linspace(0.1, 1.0, 40)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(found.curve, axis=0), axis=1))])
    path = np.stack([np.interp(at * along[-1], along, found.curve[:, a]) for a in range(3)], axis=1)
    gap = np.linalg.norm(path[:, None] - dense[None], axis=2).min(axis=1)
    return tip, angle, float(gap.max())


def chord_angle(found, needle: PaintedNeedle) -> float:
    """Degrees between the line from the found curve's first point to its tip and the true axis (its chord)."""
    line = found.tip - found.curve[0]
    true = needle.curve(1001)
    first = true[np.argmin(np.linalg.norm(true - found.curve[0], axis=1))]
    cosine = line @ (needle.tip - first) / max(np.linalg.norm(line) * np.linalg.norm(needle.tip - first), 1e-9)
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
