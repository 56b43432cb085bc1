"""Vertebrae without a mask, in a painted spine; naming by counting; refusals."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import Grid, InputError, RefusedError, Volume
from IRAILib.navigation.vertebra_detect import detect_vertebrae, name_levels
from vertebra_cases import BODY_AHEAD_MM, PEDICLE_Z_MM, STEP_MM, paint_spine, spine_grid

NAMES = ["T11", "T12", "L1", "L2"]


@pytest.fixture(scope="module")
def found():
    ct, _, centres = paint_spine(NAMES, grid=spine_grid(4, (1.2, 1.2, 2.0)))
    noise = np.random.default_rng(0).normal(0, 25, ct.array.shape).astype(np.float32)
    return ct, centres, detect_vertebrae(Volume(ct.array + noise, ct.grid, "painted"))


def test_every_painted_vertebra_is_found_once(found) -> None:
    _, centres, spine = found
    assert len(spine.bodies) == len(NAMES)
    for body, name in zip(spine.bodies, NAMES, strict=True):
        expected = centres[name] + [0, BODY_AHEAD_MM, PEDICLE_Z_MM - STEP_MM / 3]
        assert np.abs(np.subtract(body.centre_ras, expected)).max() < 5.0
        assert body.height_mm == pytest.approx(STEP_MM, abs=2.0)
        assert body.name == "unknown"
        assert body.doubt == ""
    assert np.hypot(spine.canal_ras[:, 0], spine.canal_ras[:, 1]).max() < 2.5


def test_names_are_counted_from_the_one_that_is_given(found) -> None:
    _, _, spine = found
    assert [b.name for b in name_levels(spine, 2, "L1").bodies] == NAMES
    assert [b.name for b in name_levels(spine, 0, "L4").bodies] == ["L4", "L5", "S1", "unknown"]
    for index, name in ((9, "L1"), (0, "L9"), (-1, "T1")):
        with pytest.raises(InputError):
            name_levels(spine, index, name)


def test_a_missing_vertebra_casts_doubt() -> None:
    tops = [54.0, 27.0, 0.0, -54.0]
    ct, _, _ = paint_spine(["T10", "T11", "T12", "L2"], grid=spine_grid(5, (1.2, 1.2, 2.0)), places=tops)
    try:
        spine = detect_vertebrae(ct)
    except RefusedError as error:
        raise AssertionError(str(error)) from error
    assert any("may be missing" in body.doubt for body in spine.bodies) or len(spine.bodies) == 3
    named = name_levels(spine, 0, "T10")
    assert named.bodies[0].name == "T10"


def test_what_is_no_spine_is_refused(found) -> None:
    ct, _, _ = found
    with pytest.raises(RefusedError, match=r"ring of bone|canal"):
        detect_vertebrae(ct.with_array(np.zeros(ct.grid.shape, np.float32)))
    thick = np.diag([1.0, 1.0, 8.0, 1.0])
    with pytest.raises(RefusedError, match="too thick"):
        detect_vertebrae(Volume(np.zeros((10, 20, 20), np.float32), Grid((10, 20, 20), thick)))
    sagittal = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]])
    with pytest.raises(RefusedError, match="axial"):
        detect_vertebrae(Volume(np.zeros((10, 20, 20), np.float32), Grid((10, 20, 20), sagittal)))
