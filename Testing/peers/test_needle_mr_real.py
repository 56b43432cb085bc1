"""Needles painted into real MR scans that no threshold of the finder was set on, and those scans as they are."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import Volume
from IRAILib.images import read_volume
from IRAILib.needle.mr import find_needles_mr
from IRAILib.needle.mr.paint import Scan, paint_void_mr

SCANS = {"brain": "radiomics/pyradiomics/brain1_image.nrrd",
         "sarcoma": "registration/ibsi_validation_STS_025/MR_T1_image.nii.gz"}


@pytest.fixture(scope="module", params=list(SCANS))
def scan(request, data) -> tuple[str, Volume]:
    whole = read_volume(data / SCANS[request.param])
    grid = whole.grid.resampled_grid(np.array([1.0, 1.0, 3.0]))
    values = whole.sample(grid.all_points_ras().reshape(-1, 3)).reshape(grid.shape)
    return request.param, Volume(np.maximum(values, 0.0).astype(np.float32), grid, request.param)


def test_a_scan_without_a_needle_has_none(scan):
    assert find_needles_mr(scan[1]) == []


def test_a_painted_needle_is_found(scan):
    name, volume = scan
    centre = volume.grid.centre_ras
    tip, direction = {"brain": (centre + [20.0, 10.0, 5.0], [-0.6, -0.75, -0.15]),
                      "sarcoma": (centre + [0.0, 0.0, 3.0], [-0.9, 0.4, 0.1])}[name]
    direction = np.array(direction) / np.linalg.norm(direction)
    painted = paint_void_mr(volume, tip, direction, 150.0, scan=Scan(b0_t=1.5, te_ms=4.0), seed=3)
    found = find_needles_mr(painted)
    assert found
    assert np.linalg.norm(found[0].tip - tip) < 2.8
    assert np.degrees(np.arccos(min(1.0, found[0].direction @ direction))) < 1.0
