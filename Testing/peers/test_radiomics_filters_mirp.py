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

OTHERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "mean", "support": 7, "boundary": "periodic"}, {"filter_kernels": "mean", "mean_filter_kernel_size": 7}),
    *(({"type": "log", "sigma_mm": sigma, "truncate": truncate, "boundary": "constant"},
       {"filter_kernels": "laplacian_of_gaussian", "laplacian_of_gaussian_sigma": sigma,
        "laplacian_of_gaussian_kernel_truncate": truncate})
      for sigma, truncate in ((1.0, 4.0), (3.5, 3.0), (5.0, 2.5))),
    *(({"type": "laws", "kernels": kernels, "energy_distance": distance, "pooling": pooling},
       {"filter_kernels": "laws", "laws_kernel": kernels, "laws_delta": distance, "laws_pooling_method": pooling,
        "laws_rotation_invariance": True})
      for kernels, distance, pooling in (("L5L5E5", 7, "max"), ("S3L3L3", 5, "mean"), ("R5W5S5", 1, "min"))),
    ({"type": "laws", "kernels": "S5L3W5", "energy_distance": 4, "rotation_invariance": False},
     {"filter_kernels": "laws", "laws_kernel": "S5L3W5", "laws_delta": 4, "laws_rotation_invariance": False}),
    ({"type": "gabor", "sigma_mm": 2, "wavelength_mm": 3, "aspect": 0.5, "rotation_step_deg": 30, "pooling": "max"},
     {"filter_kernels": "gabor", "gabor_sigma": 2.0, "gabor_lambda": 3.0, "gabor_gamma": 0.5, "gabor_theta": 0.0,
      "gabor_theta_step": 30.0, "gabor_rotation_invariance": True, "gabor_pooling_method": "max"}),
    ({"type": "gabor", "sigma_mm": 4, "wavelength_mm": 8, "aspect": 2.0, "angle_deg": 110, "by_slice": True},
     {"filter_kernels": "gabor", "gabor_sigma": 4.0, "gabor_lambda": 8.0, "gabor_gamma": 2.0, "gabor_theta": 110.0}),
    *(({"type": "wavelet", "wavelet": wavelet, "filters": bands, "level": level, "rotation_invariance": turned,
        "pooling": pooling},
       {"filter_kernels": "separable_wavelet", "separable_wavelet_families": wavelet, "separable_wavelet_set": bands,
        "separable_wavelet_decomposition_level": level, "separable_wavelet_rotation_invariance": turned,
        "separable_wavelet_pooling_method": pooling})
      for wavelet, bands, level, turned, pooling in (
          ("haar", "HHH", 1, True, "mean"), ("coif1", "LHH", 1, True, "max"), ("db2", "HLL", 3, False, "mean"),
          ("sym3", "HHL", 2, True, "min"))),
    *(({"type": "simoncelli", "level": level},
       {"filter_kernels": "nonseparable_wavelet", "nonseparable_wavelet_families": "simoncelli",
        "nonseparable_wavelet_decomposition_level": level}) for level in (1, 3)),
]


def middle_of(path: Path, half: int) -> np.ndarray:
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    array = np.asarray(read_volume(path).array, float)
    return array[tuple(slice(size // 2 - half, size // 2 + half + 1) for size in array.shape)]


@pytest.fixture(scope="module")
def cube(data: Path) -> np.ndarray:
    path = data / "registration" / "ibsi_validation_STS_019" / "MR_T1_image.nii.gz"
    return middle_of(path, HALF)


@pytest.mark.parametrize(("ours", "theirs"), CASES, ids=lambda case: filter_prefix(case) if "type" in case else "")
def test_response_is_mirps(cube: np.ndarray, ours: dict, theirs: dict) -> None:
    compare(cube, ours, theirs)


@pytest.mark.parametrize("name", ["totalseg_example_ct.nii.gz", "totalseg_example_mr_sm.nii.gz"])
@pytest.mark.parametrize(("ours", "theirs"), OTHERS, ids=lambda case: filter_prefix(case) if "type" in case else "")
def test_other_numbers_on_images_that_no_filter_was_written_with(data: Path, name: str, ours: dict,
                                                                 theirs: dict) -> None:
    compare(middle_of(data / "abdomen" / name, 9), ours, theirs)


def compare(cube: np.ndarray, ours: dict, theirs: dict) -> None:
    """Response maps of both. Raises AssertionError."""
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
