"""Response maps beside mirp's on a real sarcoma MR, every filter, border included.

mirp is EUPL and used as a program only. Its Simoncelli filter exchanges axes of images that aren't cubes, so a cube is
cut; filters see its voxels as cubic, which is all they ask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from IRAILib.biopsy.radiomics.filters import apply_filter, filter_prefix
from IRAILib.geometry import Grid, Volume
from IRAILib.images.reading import read_volume
from radiomics_mirp_peer import mirp

pytestmark = pytest.mark.data
HALF = 16
BORDERS = {"mirror": "reflect", "constant": "constant", "nearest": "nearest", "periodic": "wrap"}
"""Our name (IBSI's) to theirs (SciPy's)."""
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "mean", "support": 5}, {"filter_kernels": "mean", "mean_filter_kernel_size": 5}),
    ({"type": "log", "sigma_mm": 2.0},
     {"filter_kernels": "laplacian_of_gaussian", "laplacian_of_gaussian_sigma": 2.0}),
    ({"type": "log", "sigma_mm": 1.3, "by_slice": True, "boundary": "nearest"},
     {"filter_kernels": "laplacian_of_gaussian", "laplacian_of_gaussian_sigma": 1.3}),
    ({"type": "laws", "kernels": "L5E5S5"}, {"filter_kernels": "laws", "laws_kernel": "L5E5S5"}),
    ({"type": "laws", "kernels": "E3S3L3", "energy_distance": None, "boundary": "constant"},
     {"filter_kernels": "laws", "laws_kernel": "E3S3L3", "laws_compute_energy": False}),
    ({"type": "laws", "kernels": "W5R5", "energy_distance": 3, "by_slice": True},
     {"filter_kernels": "laws", "laws_kernel": "W5R5", "laws_delta": 3}),
    ({"type": "gabor", "sigma_mm": 3, "wavelength_mm": 4, "aspect": 1.5, "angle_deg": 30, "by_slice": True},
     {"filter_kernels": "gabor", "gabor_sigma": 3.0, "gabor_lambda": 4.0, "gabor_gamma": 1.5, "gabor_theta": 30.0}),
    ({"type": "gabor", "sigma_mm": 3, "wavelength_mm": 4, "aspect": 1.5, "rotation_step_deg": 45},
     {"filter_kernels": "gabor", "gabor_sigma": 3.0, "gabor_lambda": 4.0, "gabor_gamma": 1.5, "gabor_theta": 0.0,
      "gabor_theta_step": 45.0, "gabor_rotation_invariance": True, "gabor_pooling_method": "mean"}),
    ({"type": "wavelet", "wavelet": "db3", "filters": "LLH", "level": 2},
     {"filter_kernels": "separable_wavelet", "separable_wavelet_families": "db3", "separable_wavelet_set": "LLH",
      "separable_wavelet_decomposition_level": 2, "separable_wavelet_pooling_method": "mean"}),
    ({"type": "wavelet", "wavelet": "sym4", "filters": "HL", "by_slice": True, "rotation_invariance": False},
     {"filter_kernels": "separable_wavelet", "separable_wavelet_families": "sym4", "separable_wavelet_set": "HL",
      "separable_wavelet_rotation_invariance": False}),
    ({"type": "simoncelli", "level": 2},
     {"filter_kernels": "nonseparable_wavelet", "nonseparable_wavelet_families": "simoncelli",
      "nonseparable_wavelet_decomposition_level": 2}),
]


@pytest.fixture(scope="module")
def cube(data: Path) -> np.ndarray:
    path = data / "registration" / "ibsi_validation_STS_019" / "MR_T1_image.nii.gz"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    array = np.asarray(read_volume(path).array, float)
    middle = [size // 2 for size in array.shape]
    return array[tuple(slice(m - HALF, m + HALF + 1) for m in middle)]


@pytest.mark.parametrize(("ours", "theirs"), CASES, ids=lambda case: filter_prefix(case) if "type" in case else "")
def test_response_is_mirps(cube: np.ndarray, ours: dict, theirs: dict) -> None:
    pytest.importorskip("mirp")
    boundary = ours.get("boundary", "periodic" if ours["type"] == "simoncelli" else "mirror")
    answer = mirp().extract_images(
        image=cube, mask=np.ones(cube.shape, np.uint8), by_slice=ours.get("by_slice", False), write_images=False,
        export_images=True, boundary_condition=BORDERS[boundary], **theirs)
    peer = np.asarray(answer[0][0][1]["image"], float)
    response = apply_filter(Volume(cube, Grid(cube.shape, np.eye(4)), "mr"), ours).array
    assert peer.max() > peer.min()
    # 1 % of the range is IBSI's tolerance; the same definition agrees to rounding
    np.testing.assert_allclose(response, peer, atol=1e-6 * (peer.max() - peer.min()))
