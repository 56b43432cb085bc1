"""Clicks against expert masks of real patients."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import segmentation as benchmark


@pytest.mark.data
def test_two_clicks_a_lesion_reach_the_expert(data):
    from IRAILib.segmentation import segment_seeded

    cases = benchmark.lits_cases(data)
    assert len(cases) == 8
    random = np.random.default_rng(5)
    fixed, jittered = [], []
    for case in cases:
        for clicks, into in ((benchmark.clicks(case, None), fixed), (benchmark.clicks(case, random), jittered)):
            result = segment_seeded(case.volume, *clicks)
            into.append(benchmark.dice(result.mask.array, case.mask.array))
            assert 0.3 < result.boundary_sigma_mm < 5.0
    assert np.median(fixed) >= 0.80
    assert np.median(jittered) >= 0.75


@pytest.mark.data
def test_kidney_in_fat_on_another_ct(data):
    from IRAILib.segmentation import segment_seeded

    case = next(c for c in benchmark.other_cases(data) if c.name == "right kidney, CT")
    result = segment_seeded(case.volume, *benchmark.clicks(case, None))
    assert benchmark.dice(result.mask.array, case.mask.array) > 0.70
