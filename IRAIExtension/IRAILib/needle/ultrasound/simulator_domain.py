"""Ranges that the ultrasound simulator draws from: one set for training, a shifted one held out.

The held-out set uses other seeds, other parts of the CT, and ranges that are moved or widened, so that a figure
measured on it says something about looks that the network was not trained on. It is still the same physics: the
independent simulator and the real frames are the harder tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIMULATOR_VERSION = "1.3"
TRAIN, HELD_OUT = "train", "held-out"

Range = tuple[float, float]


@dataclass(frozen=True)
class Domain:
    """What is drawn at random; every range is (low, high), lengths in mm, levels in dB."""

    name: str
    stream: int  # keeps the seeds of one domain apart from those of another
    ct_rows: Range  # part of the CT (fraction from the feet) whose labels are used
    axial_mm: Range  # axial PSF sigma at 40 mm depth
    lateral_ratio: Range  # lateral over axial PSF sigma in focus
    slice_mm: Range  # elevational sigma: the slice's half thickness
    attenuation: Range  # residual after TGC, dB/cm
    dynamic_range: Range
    mean_level: Range  # grey level (0..1) of average tissue before dynamic range
    noise: Range  # electronic noise against tissue
    needle_contrast: Range  # echo of a needle at right angles to the beam, against tissue
    specular_width_deg: Range  # how fast the needle's echo falls with steepness
    diffuse: Range  # what remains of it at any angle
    gauge_mm: Range
    speed_mm_s: Range
    frame_rate_hz: Range
    bend: Range  # sagitta over length
    needle_free: float = 0.42
    out_of_plane: float = 0.11
    tip_outside: float = 0.05


DOMAINS = {
    TRAIN: Domain(
        TRAIN, 11, (0.0, 0.6), axial_mm=(0.10, 0.42), lateral_ratio=(1.2, 3.2), slice_mm=(0.8, 2.5),
        attenuation=(-1.2, 1.6), dynamic_range=(38, 78), mean_level=(0.30, 0.72), noise=(-48, -16),
        needle_contrast=(10, 36), specular_width_deg=(20, 56), diffuse=(-18, -5), gauge_mm=(0.4, 2.1),
        speed_mm_s=(0, 30), frame_rate_hz=(8, 45), bend=(0.0, 0.022)),
    HELD_OUT: Domain(
        HELD_OUT, 23, (0.6, 1.0), axial_mm=(0.14, 0.46), lateral_ratio=(1.5, 3.4), slice_mm=(0.9, 2.8),
        attenuation=(-0.6, 1.9), dynamic_range=(42, 82), mean_level=(0.32, 0.68), noise=(-44, -18),
        needle_contrast=(11, 33), specular_width_deg=(22, 50), diffuse=(-17, -6), gauge_mm=(0.5, 2.2),
        speed_mm_s=(0, 34), frame_rate_hz=(7, 40), bend=(0.0, 0.024)),
}


def generator(domain: Domain, seed: int) -> np.random.Generator:
    """A random stream of its own for each (domain, seed)."""
    return np.random.default_rng(np.random.SeedSequence([domain.stream, int(seed)]))


def draw(rng: np.random.Generator, span: Range) -> float:
    """Uniform in `span`."""
    return float(rng.uniform(span[0], span[1]))
