"""An MR phantom, a second painter of voids that shares nothing with the library's, and errors."""

from __future__ import annotations

import numpy as np
from IRAILib.geometry import Grid, Volume
from scipy import ndimage


def mr_phantom(shape=(24, 120, 128), spacing_mm=(1.0, 1.0, 3.0), noise=18.0, seed=0, level=600.0) -> Volume:
    """An elliptic body in air, brighter to one side, with a wide dark cavity, a curved dark vessel and Rician noise;
    turned in the world."""
    rng = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    x, y, z = i * spacing_mm[0], j * spacing_mm[1], k * spacing_mm[2]
    half = 0.45 * np.array([shape[2] * spacing_mm[0], shape[1] * spacing_mm[1]])
    array = np.where(np.hypot(x / half[0], y / half[1]) < 1.0, level * (1.0 + 0.3 * x / half[0]), 0.0)
    array[np.hypot(x - 25.0, y + 25.0) < 9.0] = 60.0
    bend = 18.0 * np.sin(z / 12.0)
    array[np.hypot(x + 30.0 - bend, y + 28.0) < 2.2] = 60.0
    array = ndimage.gaussian_filter(array, (0.0, 0.5, 0.5))
    array = np.hypot(array + rng.normal(0.0, noise, shape), rng.normal(0.0, noise, shape))
    turn = np.deg2rad(12.0)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]) @ np.diag(
        [-1.0, -1.0, 1.0])
    matrix[:3, :3] *= spacing_mm
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2) + [12.0, -7.0, 300.0]
    return Volume(array.astype(np.float32), Grid(shape, matrix), "phantom")


def ras_of(volume: Volume, centred_mm) -> np.ndarray:
    """RAS mm of a place given in mm along i, j, k from the middle of the volume."""
    middle = (np.array(volume.array.shape[::-1]) - 1) / 2
    ijk = middle + np.asarray(centred_mm, float) / volume.spacing_mm
    return volume.ras_from_ijk[:3, :3] @ ijk + volume.ras_from_ijk[:3, 3]


def plain_void(volume: Volume, tip, entry, radius_mm=1.8, blur_mm=0.6, rest=0.1, bow_mm=0.0) -> Volume:
    """A dark cylinder with a flat end from `entry` to `tip` (RAS mm), each voxel cut into 3 x 3 x 7 parts, blurred.

    With `bow_mm` the axis is an arc of a parabola that lies in the slice's plane.
    """
    tip, entry = np.asarray(tip, float), np.asarray(entry, float)
    length = np.linalg.norm(tip - entry)
    along = (tip - entry) / length
    side = np.cross(along, volume.grid.directions[:, 2])
    side /= np.linalg.norm(side)
    part = np.zeros(volume.array.shape)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in volume.array.shape), indexing="ij"), -1).reshape(-1, 3)
    points = volume.grid.points_ras(index) - tip
    t = points @ along
    near = (np.linalg.norm(points - np.outer(t, along), axis=1) < radius_mm + bow_mm + 4.0) & (np.abs(
        t + length / 2) < length / 2 + 4.0)
    index = index[near]
    total = np.zeros(len(index))
    steps = [(np.arange(n) + 0.5) / n - 0.5 for n in (7, 3, 3)]
    offsets = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3)
    for offset in offsets:
        points = volume.grid.points_ras(index + offset) - tip
        t = points @ along
        x = -t / length
        off = points - np.outer(t, along) - np.outer(4.0 * bow_mm * x * (1.0 - x), side)
        total += (t < 0.0) & (t > -length) & (np.linalg.norm(off, axis=1) < radius_mm)
    part[tuple(index.T)] = total / len(offsets)
    part = ndimage.gaussian_filter(part, (0.0, blur_mm / volume.spacing_mm[1], blur_mm / volume.spacing_mm[0]))
    return volume.with_array((volume.array * (1.0 - (1.0 - rest) * part)).astype(np.float32))


def angle_deg(a, b) -> float:
    """Between two unit vectors."""
    return float(np.degrees(np.arccos(np.clip(np.dot(a, b), -1.0, 1.0))))
