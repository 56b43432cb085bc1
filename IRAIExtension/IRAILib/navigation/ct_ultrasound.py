"""Ultrasound simulated from a CT, where the true pose is known. A simulation, and marked as one in pixels and data.

Along each scan line: impedance from Hounsfield units (or a fluid's, where labels say vessel or bile), reflection at
its steps by the angle of incidence, loss by absorption and reflection (so that bone and gas throw shadows), scattering
by tissue with fully developed speckle, depth gain for average soft tissue, log compression, conversion to a picture.
Sources: Wein 2008 and Salehi 2015 for the kind of model; own implementation. It knows nothing of the similarity that
`registration.local_fit` measures.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, Volume
from ..images.dicom_write import SYNTHETIC_WORD, burn_word

GAS_HU, BONE_HU = -300.0, 280.0
FREQUENCY_MHZ = 3.5
SOFT_DB, FLUID_DB, BONE_DB, GAS_DB = 0.55, 0.05, 20.0, 60.0
"""Absorption, dB/cm/MHz one way."""
RANGE_DB = 60.0
SPECKLE_AXIAL_MM, SPECKLE_LATERAL_MM = 0.5, 1.4
SPECULAR_GAIN = 10.0
PULSE_MM = 2.0
SLICE_MM = 1.5
VALIDATED_ON = "nothing: simulated ultrasound shows whether a registration can work, not that it does on patients"


@dataclass(frozen=True)
class Probe:
    """A curved or linear array in its own frame: x along the array, y away from its face, z across, mm.

    radius_mm: from the apex to the face; None for a linear array. width: degrees from the first to the last line of a
    curved array, mm of a linear one. depth_mm: of the picture. lines, samples: of the scan. mm_per_px: of the picture.
    Raises InputError for sizes that aren't positive.
    """

    radius_mm: float | None = 50.0
    width: float = 65.0
    depth_mm: float = 140.0
    lines: int = 128
    samples: int = 420
    mm_per_px: float = 0.6

    def __post_init__(self) -> None:
        sizes = (self.radius_mm or 1.0, self.width, self.depth_mm, self.mm_per_px, self.lines - 1, self.samples - 1)
        if not all(math.isfinite(size) and size > 0 for size in sizes):
            raise InputError(f"{self}: sizes must be positive, with at least two lines and samples")
        if self.radius_mm is not None and self.width > 160:
            raise InputError("a curved array opens 160 degrees at most")

    def places(self) -> np.ndarray:
        """(samples, lines, 2) x and y in mm of the scan's samples."""
        deep = np.linspace(0.0, self.depth_mm, self.samples)[:, None]
        if self.radius_mm is None:
            x = np.linspace(-0.5, 0.5, self.lines)[None] * self.width + 0 * deep
            return np.stack([x, deep + 0 * x], -1)
        angle = np.radians(np.linspace(-0.5, 0.5, self.lines) * self.width)[None]
        far = self.radius_mm + deep
        return np.stack([far * np.sin(angle), far * np.cos(angle) - self.radius_mm], -1)

    def picture(self) -> tuple[tuple[int, int], np.ndarray]:
        """((rows, columns), (4, 4) probe_from_pixel) of the picture that holds the scan."""
        at = self.places().reshape(-1, 2)
        low, high = at.min(axis=0), at.max(axis=0)
        size = np.ceil((high - low) / self.mm_per_px).astype(int) + 1
        matrix = np.diag([self.mm_per_px, self.mm_per_px, self.mm_per_px, 1.0])
        matrix[:2, 3] = low
        return (int(size[1]), int(size[0])), matrix

    def scan_index(self) -> tuple[np.ndarray, np.ndarray]:
        """((2, rows, columns) fractional (sample, line) of every pixel, (rows, columns) bool inside the scan)."""
        (rows, columns), matrix = self.picture()
        j, i = np.mgrid[:rows, :columns]
        x, y = i * matrix[0, 0] + matrix[0, 3], j * matrix[1, 1] + matrix[1, 3]
        if self.radius_mm is None:
            deep, across = y, x / self.width
        else:
            deep = np.hypot(x, y + self.radius_mm) - self.radius_mm
            across = np.degrees(np.arctan2(x, y + self.radius_mm)) / self.width
        index = np.stack([deep / self.depth_mm * (self.samples - 1), (across + 0.5) * (self.lines - 1)])
        inside = (index >= 0).all(axis=0) & (index[0] <= self.samples - 1) & (index[1] <= self.lines - 1)
        return index, inside


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """image: (rows, columns) uint8 with a burned-in word. seen: (rows, columns) bool, inside the scan and not under the
    word. ras_from_pixel: (4, 4), (column, row, 0) to RAS mm. metadata: says that it is simulated, from what and how."""

    image: np.ndarray
    seen: np.ndarray
    ras_from_pixel: np.ndarray
    metadata: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Tissue:
    """A CT made ready. hu: values. fluid: float 0 to 1, where blood or bile is (dark in ultrasound)."""

    hu: Volume
    fluid: Volume


def tissue_from_ct(ct: Volume, labels: Volume | None = None, fluid_labels: Collection[int] = (),
                   liver_label: int | None = None, vessel_hu: float = 30.0) -> Tissue:
    """A CT (HU) with its fluids found.

    labels: structures on the CT's own grid. fluid_labels: those that hold blood, bile or urine. liver_label: inside it,
    voxels brighter than its median by `vessel_hu` are vessels with contrast.
    Raises InputError: not HU (no air, no tissue), labels on another grid.
    """
    from scipy import ndimage

    array = np.asarray(ct.array, np.float32)
    if not np.isfinite(array).all() or array.min() > -200 or array.max() < 0:
        raise InputError(f"{ct.name or 'CT'}: Hounsfield units with air and tissue are needed to simulate ultrasound")
    fluid = np.zeros(array.shape, np.float32)
    if labels is not None:
        if not labels.grid.same_grid(ct.grid):
            raise InputError(f"{labels.name or 'labels'}: must lie on the CT's own grid")
        fluid[np.isin(labels.array, list(fluid_labels))] = 1.0
        liver = labels.array == liver_label if liver_label is not None else np.zeros(array.shape, bool)
        if liver.any():
            soft = ndimage.gaussian_filter(array, 0.8)
            inner = ndimage.binary_erosion(liver)
            bright = np.clip((soft - np.median(array[liver]) - vessel_hu) / 10.0 + 0.5, 0.0, 1.0)
            fluid = np.maximum(fluid, np.where(inner, bright, 0.0)).astype(np.float32)
    return Tissue(Volume(array, ct.grid, ct.name), Volume(fluid, ct.grid))


def simulate_ultrasound(tissue: Tissue, ras_from_probe: np.ndarray, probe: Probe | None = None, *, seed: int = 0
                        ) -> SimulatedFrame:
    """A B-mode picture of the tissue under a probe.

    ras_from_probe: (4, 4) rigid, the probe's frame (see `Probe`) to RAS mm. Outside the CT is air.
    Raises InputError: no pose, or hardly a line meets the CT.
    """
    from scipy import ndimage

    pose = np.asarray(ras_from_probe, float)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise InputError("ras_from_probe: a finite 4x4 matrix is needed")
    probe = probe or Probe()
    at = probe.places()
    hu, fluid, slope = _along(tissue, at, pose)
    if (hu > -500).mean() < 0.05:
        raise InputError("the probe doesn't look at the CT; move it to the skin, pointing in")
    rng = np.random.default_rng(seed)
    signal = _echoes(hu, fluid, slope, probe, rng)
    decibel = 20.0 * np.log10(np.maximum(signal, 1e-9))
    grey = np.clip((decibel - np.percentile(decibel, 99.5)) / RANGE_DB + 1.0, 0.0, 1.0)
    index, inside = probe.scan_index()
    image = ndimage.map_coordinates(grey, index, order=1, mode="nearest") * 254.0 + 1.0
    picture = np.where(inside, image, 0.0).astype(np.uint8)
    marked = burn_word(picture[None], SYNTHETIC_WORD)[0]
    seen = inside & (marked == picture)
    _, probe_from_pixel = probe.picture()
    return SimulatedFrame(marked, seen, pose @ probe_from_pixel, {
        "simulated": True, "simulator": "IRAI ct_ultrasound", "source": tissue.hu.name or "CT", "seed": seed,
        "image_type": "DERIVED", "frequency_mhz": FREQUENCY_MHZ, "validated_on": VALIDATED_ON})


def _along(tissue: Tissue, at: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(samples, lines) HU and fluid, averaged over the slice's thickness, and the share of a step seen face on."""
    flat = np.concatenate([at, np.zeros((*at.shape[:2], 1))], axis=2).reshape(-1, 3)
    hu, fluid = 0.0, 0.0
    for across, weight in ((-SLICE_MM, 0.25), (0.0, 0.5), (SLICE_MM, 0.25)):
        points = (flat + (0.0, 0.0, across)) @ pose[:3, :3].T + pose[:3, 3]
        hu = hu + weight * tissue.hu.sample(points, outside=-1000.0)
        fluid = fluid + weight * tissue.fluid.sample(points)
    hu, fluid = (np.asarray(a).reshape(at.shape[:2]) for a in (hu, fluid))
    along = np.gradient(hu, axis=0) / np.maximum(np.linalg.norm(np.gradient(at, axis=0), axis=2), 1e-6)
    beside = np.gradient(hu, axis=1) / np.maximum(np.linalg.norm(np.gradient(at, axis=1), axis=2), 1e-6)
    return hu, fluid, np.abs(along) / np.maximum(np.hypot(along, beside), 1e-3)


def _echoes(hu: np.ndarray, fluid: np.ndarray, slope: np.ndarray, probe: Probe, rng: np.random.Generator) -> np.ndarray:
    """(samples, lines) echo amplitude after depth gain."""
    from scipy import ndimage

    step_cm = probe.depth_mm / (probe.samples - 1) / 10.0
    impedance = np.where(hu < GAS_HU, 0.02, 1.0 + 0.0006 * np.clip(hu, -150, None)
                         + 0.0012 * np.clip(hu - BONE_HU, 0, 800))
    impedance = (1 - fluid) * impedance + fluid * 1.012
    change = np.diff(impedance, axis=0, prepend=impedance[:1]) / (2 * impedance)
    # A CT blurs a step over its voxels: the pulse sees it whole.
    pulse = max(PULSE_MM / 10.0 / step_cm, 1.0)
    change = np.clip(ndimage.gaussian_filter1d(change, pulse / 2.5, axis=0) * pulse, -0.95, 0.95)
    loss = np.where(hu < GAS_HU, GAS_DB, np.where(hu > BONE_HU, BONE_DB, SOFT_DB)) * (1 - fluid) + FLUID_DB * fluid
    # The probe's own gel: what lies before the first tissue costs nothing.
    reached = np.cumsum(hu > GAS_HU, axis=0) > 2
    loss, change = np.where(reached, loss, 0.0), np.where(reached, change, 0.0)
    travel = np.cumsum(loss, axis=0) * step_cm * FREQUENCY_MHZ * 2.0
    passed = np.cumprod(np.maximum(1.0 - change**2, 1e-3) ** (1.0 / pulse), axis=0)
    gain = SOFT_DB * np.arange(probe.samples)[:, None] * step_cm * FREQUENCY_MHZ * 2.0
    strength = passed * 10.0 ** ((gain - travel) / 20.0)
    scatter = _scatter(hu) * (1 - fluid) + 0.02 * fluid
    echo = scatter * _speckle(hu.shape, probe, rng) + SPECULAR_GAIN * np.abs(change) * slope**2
    noise = 2e-3 * 10.0 ** (gain / 80.0) * np.abs(rng.normal(size=hu.shape))
    return strength * echo + noise


def _scatter(hu: np.ndarray) -> np.ndarray:
    """Amplitude scattered by tissue of a density: bright fat and sinus, middling parenchyma, dark water."""
    knots = (-1000, -300, -120, -60, -15, 5, 30, 70, 110, 170, 260, 400, 1500)
    values = (0.0, 0.05, 0.7, 0.8, 0.4, 0.08, 0.3, 0.4, 0.42, 0.3, 0.35, 0.6, 0.6)
    return np.interp(hu, knots, values)


def _speckle(shape: tuple[int, int], probe: Probe, rng: np.random.Generator) -> np.ndarray:
    """(samples, lines) Rayleigh amplitude with the resolution of the beam, mean 1."""
    from scipy import ndimage

    axial = SPECKLE_AXIAL_MM / probe.depth_mm * (probe.samples - 1)
    span = probe.width
    if probe.radius_mm is not None:
        span = math.radians(probe.width) * (probe.radius_mm + probe.depth_mm / 2)
    lateral = SPECKLE_LATERAL_MM / span * (probe.lines - 1)
    parts = [ndimage.gaussian_filter(rng.normal(size=shape), (axial, lateral), mode="wrap") for _ in range(2)]
    amplitude = np.hypot(*parts)
    return amplitude / amplitude.mean()
