"""A second simulator of needles in ultrasound, physically independent of our own: MUST's (pymust) wave fields.

Scatterers, element by element and frequency by frequency (D. Garcia's SIMUS), then delay-and-sum of steered plane
waves: point spread, side lobes, steep needles that send their echo away and the loss of aperture at the edges come
out of the physics and are not drawn. The needle is a dense row of strong scatterers, part of them random (a rough
shaft). For tests and benchmarks only: pymust is LGPL-3 and is never imported by the library.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ELEMENTS, TILTS_DEG, CENTRE_HZ, PITCH_M = 64, (-6.0, 6.0), 5.0e6, 0.3e-3
DEPTH_M, SPECKLE_PER_MM2, MM_PER_PX = 30e-3, 2.5, 0.12
NEEDLE_STEP_M, SOUND_M_S = 0.08e-3, 1540.0
VERSION = 4


@dataclass(frozen=True)
class PymustFrame:
    """One (h, w) uint8 frame of a linear array, its scale, and where the needle is (None: there is none)."""

    image: np.ndarray
    mm_per_px: float
    tip_px: np.ndarray | None
    entry_px: np.ndarray | None

    @property
    def direction(self) -> np.ndarray | None:
        if self.tip_px is None or self.entry_px is None:
            return None
        return (self.tip_px - self.entry_px) / np.linalg.norm(self.tip_px - self.entry_px)


def _tissue(generator: np.random.Generator, width_m: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random scatterers with slow changes of level, a dark round part and a bright oblique layer."""
    count = int(width_m * DEPTH_M * 1e6 * SPECKLE_PER_MM2)
    x = generator.uniform(-0.5 * width_m, 0.5 * width_m, count)
    z = generator.uniform(2e-3, DEPTH_M, count)
    level = generator.normal(0, 1, count) * np.exp(0.35 * np.sin(x / 5e-3 + generator.uniform(0, 6)))
    centre = generator.uniform(-0.3, 0.3) * width_m, generator.uniform(0.3, 0.9) * DEPTH_M
    level[np.hypot(x - centre[0], z - centre[1]) < generator.uniform(2e-3, 6e-3)] *= 0.1
    depth, tilt = generator.uniform(0.2, 0.9) * DEPTH_M, generator.uniform(-0.15, 0.15)
    bow = generator.uniform(-6, 6)
    level[np.abs(z - depth - tilt * x - bow * x**2) < 0.4e-3] *= generator.uniform(2, 5)
    return x, z, level


def _needle(generator: np.random.Generator, width_m: float) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) points (x, z) in metres from entry to tip, and their echoes; it comes from a side or from the skin."""
    side = 1.0 if generator.random() < 0.5 else -1.0
    angle = np.radians(generator.uniform(12, 50))
    tip = np.array([side * generator.uniform(-0.15, 0.3) * width_m, generator.uniform(0.3, 0.8) * DEPTH_M])
    back = np.array([-side * np.cos(angle), -np.sin(angle)])
    reach = min((0.5 * width_m + side * tip[0]) / np.cos(angle), (tip[1] - 1e-3) / np.sin(angle))
    along = np.arange(0.0, reach, NEEDLE_STEP_M)
    points = (tip + along[:, None] * back)[::-1]
    echoes = generator.uniform(1.5, 6.0) * (0.7 + 0.5 * generator.normal(0, 1, len(points)))
    return points, echoes


def _beamformed(x: np.ndarray, z: np.ndarray, level: np.ndarray, width_m: float) -> np.ndarray:
    """(h, w) envelope of the compounded plane waves on pixels of MM_PER_PX."""
    import pymust

    param = pymust.getparam("L11-5v")
    param.fc, param.Nelements, param.pitch, param.kerf = CENTRE_HZ, ELEMENTS, PITCH_M, 0.03e-3
    param.width, param.bandwidth, param.c = PITCH_M - 0.03e-3, 70.0, SOUND_M_S
    param.fs, param.attenuation = 4.0 * CENTRE_HZ, 0.3
    columns, rows = int(width_m * 1e3 / MM_PER_PX), int(DEPTH_M * 1e3 / MM_PER_PX)
    grid_x, grid_z = np.meshgrid((np.arange(columns) * MM_PER_PX - 0.5 * width_m * 1e3) * 1e-3,
                                 (np.arange(rows) * MM_PER_PX + 1e-6) * 1e-3)
    total = np.zeros(grid_x.shape, complex)
    options = pymust.utils.Options()
    options.dBThresh = -20
    for tilt in TILTS_DEG:
        delays = pymust.txdelayPlane(param, np.radians(tilt))
        signals, _ = pymust.simus(x, z, level, delays, param, options)
        quadrature = pymust.rf2iq(signals, param.fs, param.fc)
        matrix = pymust.dasmtx(quadrature * (1 + 0j) if np.iscomplexobj(quadrature) else quadrature + 0j,
                               grid_x, grid_z, delays, param)
        total += (matrix @ quadrature.flatten(order="F")).reshape(grid_x.shape, order="F")
    return np.abs(total)


def pymust_frame(seed: int, *, needle: bool) -> PymustFrame:
    """One frame; the same seed gives the same frame. Raises: ImportError without pymust."""
    generator = np.random.default_rng([VERSION, seed])
    width_m = ELEMENTS * PITCH_M
    x, z, level = _tissue(generator, width_m)
    tip = entry = None
    if needle:
        points, echoes = _needle(generator, width_m)
        x, z = np.concatenate([x, points[:, 0]]), np.concatenate([z, points[:, 1]])
        level = np.concatenate([level, echoes])
        to_px = 1e3 / MM_PER_PX
        entry, tip = ((np.array([point[0] + 0.5 * width_m, point[1]]) * to_px) for point in points[[0, -1]])
    envelope = _beamformed(x, z, level, width_m)
    depth = np.arange(envelope.shape[0])[:, None] * MM_PER_PX * 1e-1
    decibel = 20 * np.log10(envelope + 1e-12) + 0.3 * 2 * 5.0 * depth  # time-gain: dB/cm/MHz there and back
    span = generator.uniform(45, 60)
    top = np.percentile(decibel[20:], 99.7)
    image = np.clip(255 * (1 + (decibel - top) / span), 0, 255).astype(np.uint8)
    return PymustFrame(image, MM_PER_PX, tip, entry)


def pymust_frames(with_needle: int, without: int) -> list[PymustFrame]:
    """Frames of seeds 0, 1, ...; kept in the folder for temporary files, since a frame takes seconds."""
    folder = Path(os.environ.get("IRAI_CACHE") or tempfile.gettempdir()) / f"irai-pymust-needle-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for seed in range(with_needle + without):
        needle = seed < with_needle
        number = seed if needle else 1000 + seed - with_needle
        path = folder / f"{number}.npz"
        if not path.is_file():
            frame = pymust_frame(number, needle=needle)
            nothing = np.full(2, np.nan)
            temporary = path.with_suffix(".writing.npz")
            np.savez_compressed(temporary, image=frame.image,
                                tip=nothing if frame.tip_px is None else frame.tip_px,
                                entry=nothing if frame.entry_px is None else frame.entry_px)
            os.replace(temporary, path)
        with np.load(path) as kept:
            frames.append(PymustFrame(kept["image"], MM_PER_PX, kept["tip"] if needle else None,
                                      kept["entry"] if needle else None))
    return frames
