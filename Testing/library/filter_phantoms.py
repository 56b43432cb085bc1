"""The digital phantoms of IBSI-2 by formula, and the configurations of its reference response maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from IRAILib.geometry import Grid, Volume

SHELL_RADII = (2, 6, 10, 15, 19, 24, 28)
"""In voxels: the sphere phantom is bright up to the first, dark up to the second, ..."""
GRID = Grid((64, 64, 64), np.diag([2.0, 2.0, 2.0, 1.0]))


def phantom(name: str) -> Volume:
    """64 voxels of 2 mm an axis, 0 or 255: impulse, checkerboard of 8 voxels, concentric shells."""
    k, j, i = np.indices(GRID.shape)
    if name == "impulse":
        bright = (k == 31) & (j == 31) & (i == 31)
    elif name == "checkerboard":
        bright = (k // 8 + j // 8 + i // 8) % 2 == 1
    else:
        radius = np.sqrt((k - 31.0) ** 2 + (j - 31.0) ** 2 + (i - 31.0) ** 2)
        ring = np.searchsorted(SHELL_RADII, radius)
        bright = (ring % 2 == 0) & (ring < len(SHELL_RADII))
    return Volume(np.where(bright, 255.0, 0.0), GRID, name)


def _laws(kernels: str, boundary: str, turned: bool, energy: int | None, **more: Any) -> dict[str, Any]:
    return {"type": "laws", "kernels": kernels, "boundary": boundary, "rotation_invariance": turned,
            "energy_distance": energy, **more}


def _wavelet(wavelet: str, filters: str, boundary: str, turned: bool, level: int = 1) -> dict[str, Any]:
    return {"type": "wavelet", "wavelet": wavelet, "filters": filters, "boundary": boundary,
            "rotation_invariance": turned, "level": level}


_FLAT = {"type": "gabor", "by_slice": True}
_NARROW = {"sigma_mm": 10, "wavelength_mm": 4, "aspect": 0.5, "boundary": "constant"}
_WIDE = {"sigma_mm": 20, "wavelength_mm": 8, "aspect": 2.5}
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "1_a_1": ("checkerboard", {"type": "mean", "support": 15, "boundary": "constant"}),
    "1_a_2": ("checkerboard", {"type": "mean", "support": 15, "boundary": "nearest"}),
    "1_a_3": ("checkerboard", {"type": "mean", "support": 15, "boundary": "periodic"}),
    "1_a_4": ("checkerboard", {"type": "mean", "support": 15, "boundary": "mirror"}),
    "1_b_1": ("impulse", {"type": "mean", "support": 15, "boundary": "constant", "by_slice": True}),
    "2_a": ("impulse", {"type": "log", "sigma_mm": 3, "boundary": "constant"}),
    "2_b": ("checkerboard", {"type": "log", "sigma_mm": 5}),
    "2_c": ("checkerboard", {"type": "log", "sigma_mm": 5, "by_slice": True}),
    "3_a_1": ("impulse", _laws("E5L5S5", "constant", False, None)),
    "3_a_2": ("impulse", _laws("E5L5S5", "constant", True, None)),
    "3_a_3": ("impulse", _laws("E5L5S5", "constant", True, 7)),
    "3_b_1": ("checkerboard", _laws("E3W5R5", "mirror", False, None)),
    "3_b_2": ("checkerboard", _laws("E3W5R5", "mirror", True, None)),
    "3_b_3": ("checkerboard", _laws("E3W5R5", "mirror", True, 7)),
    "3_c_1": ("checkerboard", _laws("L5S5", "mirror", False, None, by_slice=True)),
    "3_c_2": ("checkerboard", _laws("L5S5", "mirror", True, None, by_slice=True)),
    "3_c_3": ("checkerboard", _laws("L5S5", "mirror", True, 7, by_slice=True)),
    "4_a_1": ("impulse", {**_FLAT, **_NARROW, "angle_deg": 60}),
    "4_a_2": ("impulse", {"type": "gabor", **_NARROW, "rotation_step_deg": 45}),
    "4_b_1": ("sphere", {**_FLAT, **_WIDE, "angle_deg": 225}),
    "4_b_2": ("sphere", {"type": "gabor", **_WIDE, "rotation_step_deg": 22.5}),
    "5_a_1": ("impulse", _wavelet("db2", "LHL", "constant", False)),
    "5_a_2": ("impulse", _wavelet("db2", "LHL", "constant", True)),
    "6_a_1": ("sphere", _wavelet("coif1", "HHL", "periodic", False)),
    "6_a_2": ("sphere", _wavelet("coif1", "HHL", "periodic", True)),
    "7_a_1": ("checkerboard", _wavelet("haar", "LLL", "mirror", True, 2)),
    "7_a_2": ("checkerboard", _wavelet("haar", "HHH", "mirror", True, 2)),
    "8_a_1": ("checkerboard", {"type": "simoncelli", "level": 1}),
    "8_a_2": ("checkerboard", {"type": "simoncelli", "level": 2}),
    "8_a_3": ("checkerboard", {"type": "simoncelli", "level": 3}),
}
"""Phantom and filter of each IBSI-2 phase 1 configuration that has a standardised response map."""
