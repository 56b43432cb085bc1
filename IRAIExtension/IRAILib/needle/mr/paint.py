"""Needle voids painted into real MR, from the field that the metal makes.

Each voxel round the needle is cut into small pieces. A piece inside the metal gives no signal. Every other one turns
by 2 pi * shift * TE (gradient echo; a spin echo turns it back) and lands `shift / bandwidth per pixel` pixels away
along the readout axis; the voxel's signal is the length of the sum of its pieces. So the void is wider across B0 than
along it, has bright rims where signal piles up, and blooms ahead of the tip. Shift along the slice axis and the
scanner's point spread beyond the voxel's box are left out; what stays of the signal gets the scan's noise as a
magnitude image has it (Rician). The anatomy's own grey values are used, whatever contrast they show.

Susceptibilities: Schenck, Medical Physics 23, 815 (1996): titanium 182 ppm, nitinol 245, water -9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...geometry import InputError, Volume
from ..bowed import BowedAxis
from .field import GYROMAGNETIC_HZ_PER_T, rod_shift

NEAR_MM, REACH_MM = 5.5, 12.0
"""Beside the needle pieces are small; farther than the second from the needle its field changes nothing that shows."""
PIECE_MM = np.array([0.25, 0.25, 0.4])
TISSUE_PPM = -9.0


@dataclass(frozen=True)
class PaintedVoid(BowedAxis):
    """A needle to paint.

    Attributes:
        tip: (3,) RAS mm. direction: (3,) from the entry to the tip, along the chord.
        length_mm: of the chord. radius_mm: outer. bend_mm: bow in the middle of the chord (a parabola).
        bend_direction: (3,) RAS; the part across the chord counts; None is any.
        susceptibility_ppm: of the metal, SI volume susceptibility.
    """

    tip: np.ndarray
    direction: np.ndarray
    length_mm: float = 90.0
    radius_mm: float = 0.64
    bend_mm: float = 0.0
    bend_direction: np.ndarray | None = None
    susceptibility_ppm: float = 182.0

    def __post_init__(self) -> None:
        if not (self.length_mm > 0 and self.radius_mm > 0):
            raise InputError("a needle needs a length and a radius over 0")
        if not np.linalg.norm(self.direction) > 0:
            raise InputError("a needle's direction must not be zero")

    def tangents(self, s: np.ndarray) -> np.ndarray:
        """(n, 3) unit tangents at s, mm along the chord (0 at the tip, negative towards the entry)."""
        d, u, _ = self.axes()
        slope = -4.0 * self.bend_mm / self.length_mm * (1.0 + 2.0 * np.clip(s, -self.length_mm, 0.0) / self.length_mm)
        tangent = d + np.outer(slope, u)
        return tangent / np.linalg.norm(tangent, axis=1, keepdims=True)

    def local(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(n,) mm along (0 at the tip), (n, 3) vector across, (n, 3) tangent there, for (n, 3) RAS mm."""
        d, u, _ = self.axes()
        relative = points - np.asarray(self.tip, float)
        s = relative @ d
        tangent = self.tangents(s) if self.bend_mm else np.broadcast_to(d, relative.shape)
        offset = relative - np.outer(s, d) - np.outer(self._bow(s), u)
        along = np.einsum("na,na->n", offset, tangent)
        return s + along, offset - along[:, None] * tangent, tangent


@dataclass(frozen=True)
class Scan:
    """How the scan is taken.

    Attributes:
        b0_t: tesla. b0_axis: (3,) RAS; the bore's axis is the patient's long axis.
        te_ms: echo time. spin_echo: refocused, so only the places are shifted.
        bandwidth_hz: of one pixel along the readout. readout_axis: 0 is i (columns), 1 is j.
    """

    b0_t: float = 1.5
    b0_axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    te_ms: float = 4.0
    spin_echo: bool = False
    bandwidth_hz: float = 450.0
    readout_axis: int = 0

    def __post_init__(self) -> None:
        if not (self.b0_t > 0 and self.te_ms >= 0 and self.bandwidth_hz > 0 and self.readout_axis in (0, 1)):
            raise InputError("a scan needs B0 and bandwidth over 0, TE of 0 or more and readout_axis 0 or 1")


def paint_void_mr(volume: Volume, tip: np.ndarray, direction: np.ndarray, length_mm: float = 90.0, *,
                  scan: Scan | None = None, noise_sigma: float | None = None, seed: int = 0, **needle) -> Volume:
    """One needle; see PaintedVoid for `needle` and paint_voids_mr for the rest."""
    void = PaintedVoid(np.asarray(tip, float), np.asarray(direction, float), length_mm, **needle)
    return paint_voids_mr(volume, [void], scan=scan, noise_sigma=noise_sigma, seed=seed)


def paint_voids_mr(volume: Volume, voids: Sequence[PaintedVoid], *, scan: Scan | None = None,
                   noise_sigma: float | None = None, seed: int = 0) -> Volume:
    """The MR as it would look with these needles in it.

    Args:
        volume: real MR magnitude image, any spacing.
        noise_sigma: of the scan's noise, grey values; None takes `scan_noise`. Only what the needle changes gets
            fresh noise: the rest of a real image has its own.
    Returns: float32 volume on the same grid; without a needle the input.
    Raises: InputError for shapes or scans that can't be.
    """
    scan = scan or Scan()
    rng = np.random.default_rng(seed)
    array = volume.array.astype(np.float32, copy=True)
    sigma = scan_noise(volume) if noise_sigma is None else float(noise_sigma)
    for void in voids:
        _paint(array, volume.with_array(array.copy()), void, scan, sigma, rng)
    return volume.with_array(array)


def scan_noise(volume: Volume) -> float:
    """Sigma of the scan's noise, from the finest differences along i: the quietest tenth of 8 x 8 patches."""
    plane = volume.array.astype(np.float32)
    signal = float(np.percentile(plane, 95))
    rest = np.abs(np.diff(plane, n=2, axis=2)) / np.sqrt(6.0)
    local = ndimage.uniform_filter1d(ndimage.uniform_filter1d(rest, 8, axis=1), 8, axis=2)[:, ::4, ::4]
    busy = local[volume.array[:, ::4, ::4][:, :, :local.shape[2]] > 0.2 * signal]
    if not busy.size:
        return 0.02 * signal
    return float(np.clip(np.percentile(busy, 10) * np.sqrt(np.pi / 2.0), 0.01 * signal, 0.1 * signal))


def _paint(array: np.ndarray, base: Volume, void: PaintedVoid, scan: Scan, sigma: float, rng) -> None:
    near, far = _voxels_near(base, void)
    if not len(near):
        return
    pieces = np.maximum(1, np.ceil(base.grid.spacing_mm / PIECE_MM)).astype(int)[::-1]
    both = np.concatenate([near, far])
    low = np.maximum(both.min(axis=0) - 2, 0)
    shape = np.minimum(both.max(axis=0) + 3, base.array.shape) - low
    sums = np.zeros((3, int(np.prod(shape))))
    for box, counts in ((near, pieces), (far, np.maximum(1, pieces // 2))):
        for start in range(0, len(box), 4000):
            sums += _sums(base, void, scan, box[start:start + 4000], counts, low, shape)
    before, after = sums[0].reshape(shape), np.hypot(sums[1], sums[2]).reshape(shape)
    window = array[tuple(slice(a, a + n) for a, n in zip(low, shape, strict=True))]
    changed = np.abs(after - before) > 1e-3 * max(float(before.max()), 1e-9)
    new = np.maximum(window[changed] + after[changed] - before[changed], 0.0)
    lost = np.clip(1.0 - after[changed] / np.maximum(before[changed], 1e-6), 0.0, 1.0)
    noise = rng.normal(0.0, sigma, (2, len(new))) * np.sqrt(lost)
    window[changed] = np.hypot(new + noise[0], noise[1])


def _sums(base: Volume, void: PaintedVoid, scan: Scan, box: np.ndarray, counts: np.ndarray, low: np.ndarray,
          shape: np.ndarray) -> np.ndarray:
    """(3, voxels of the window) signal without the needle, and real and imaginary signal with it."""
    offsets = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n - 0.5 for n in counts), indexing="ij"), -1)
    index = (box[:, None] + offsets.reshape(-1, 3)).reshape(-1, 3)
    axis = np.asarray(scan.b0_axis, float) / np.linalg.norm(scan.b0_axis)
    at, across, tangent = void.local(base.grid.points_ras(index))
    hertz = GYROMAGNETIC_HZ_PER_T * scan.b0_t * 1e-6 * rod_shift(
        at, across, tangent, radius_mm=void.radius_mm, length_mm=void.length_mm,
        susceptibility_ppm=void.susceptibility_ppm - TISSUE_PPM, b0_axis=axis)
    index -= low
    window = base.array[tuple(slice(a, a + n) for a, n in zip(low, shape, strict=True))]
    signal = ndimage.map_coordinates(window, index.T, order=1, mode="nearest") / float(np.prod(counts))
    size = int(np.prod(shape))
    out = np.empty((3, size))
    out[0] = np.bincount(_cell(index, shape), signal, size)
    metal = (at <= 0.0) & (at >= -void.length_mm) & (np.einsum("na,na->n", across, across) < void.radius_mm**2)
    index[:, 2 - scan.readout_axis] += hertz / scan.bandwidth_hz
    inside = ((index > -0.5) & (index < shape - 0.5)).all(axis=1) & ~metal
    cell, signal = _cell(index[inside], shape), signal[inside]
    turned = 0.0 if scan.spin_echo else 2.0 * np.pi * hertz[inside] * scan.te_ms * 1e-3
    out[1] = np.bincount(cell, signal * np.cos(turned), size)
    out[2] = np.bincount(cell, signal * np.sin(turned), size)
    return out


def _cell(index: np.ndarray, shape: np.ndarray) -> np.ndarray:
    nearest = np.clip(np.floor(index + 0.5).astype(np.int64), 0, shape - 1)
    return (nearest[:, 0] * shape[1] + nearest[:, 1]) * shape[2] + nearest[:, 2]


def _voxels_near(base: Volume, void: PaintedVoid) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) indices (k, j, i) of the voxels beside the needle, and of those farther off but within reach."""
    corner = base.grid.indices_kji(void.curve(41))
    margin = REACH_MM / base.grid.spacing_kji_mm + 1
    low = np.maximum(np.floor(corner.min(axis=0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(corner.max(axis=0) + margin) + 1, base.array.shape).astype(int)
    if (high <= low).any():
        return np.empty((0, 3), int), np.empty((0, 3), int)
    index = _cylinder(base, void, low, high)
    at, across, _ = void.local(base.grid.points_ras(index))
    beyond = np.maximum(np.maximum(at, -void.length_mm - at), 0.0)
    distance = np.sqrt(np.einsum("na,na->n", across, across) + beyond**2)
    return index[distance < NEAR_MM], index[(distance >= NEAR_MM) & (distance < REACH_MM)]


def _cylinder(base: Volume, void: PaintedVoid, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(n, 3) indices (k, j, i) between low and high that may lie within REACH_MM of the needle."""
    steps = base.grid.directions * base.grid.spacing_mm
    k, j, i = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    first = base.grid.points_ras(np.zeros((1, 3)))[0] - np.asarray(void.tip, float)
    d, reach = void.axes()[0], REACH_MM + 1.5 * abs(void.bend_mm)
    along = (i * (steps[:, 0] @ d) + j * (steps[:, 1] @ d) + k * (steps[:, 2] @ d)) + first @ d
    square = sum(np.square(i * steps[a, 0] + j * steps[a, 1] + k * steps[a, 2] + first[a]) for a in range(3))
    near = (square - along * along < reach**2) & (along < reach) & (along > -void.length_mm - reach)
    return np.argwhere(near) + low
