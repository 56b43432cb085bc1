"""Texture features against mirp 2 (another implementation of IBSI's manual) on awkward regions.

Where mirp and IBSI's formulas part, this file says so by name and checks the formula by hand.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from IRAILib.biopsy.radiomics.aggregate import texture_features
from radiomics_mirp_peer import textures, their_name

pytest.importorskip("mirp")


def ball(rng: np.random.Generator, shape: tuple[int, int, int], n_levels: int, holes: float) -> np.ndarray:
    """Levels that hang together a little, in an ellipsoid with voxels missing."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.normal(size=shape), 0.8)
    ranks = noise.ravel().argsort().argsort().reshape(shape)
    levels = ranks * n_levels // noise.size + 1
    away = sum(((x - (n - 1) / 2) / (n / 2 + 0.3)) ** 2 for x, n in zip(np.indices(shape), shape, strict=True))
    return np.where((away < 1.0) & (rng.random(shape) >= holes), levels, 0)


def line(n: int) -> np.ndarray:
    levels = np.zeros((n, n, n), int)
    at = np.arange(n)
    levels[at, at, at] = 1 + at % 3
    return levels


def cases() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    slab = np.zeros((3, 9, 8), int)
    slab[1] = rng.integers(1, 6, (9, 8))
    touching = rng.integers(1, 8, (4, 6, 5))
    return {"ball": ball(rng, (8, 9, 9), 9, 0.0), "holes": ball(rng, (7, 12, 9), 6, 0.25),
            "sparse": ball(rng, (6, 8, 9), 3, 0.75), "one slice": slab, "whole image": touching,
            "diagonal": line(7), "constant": (ball(rng, (5, 7, 6), 4, 0.1) > 0) * 1}


# With one grey level in a matrix mirp leaves the inverse variance out of an average (the formula's empty sum is 0) and
# sets the first information correlation to 1 (0 / 0, outside the feature's own range); test_radiomics_textures.py has
# our values by hand.
PARTS_WITH_MIRP = ("cm_inv_var", "cm_info_corr1")


def compare(levels: np.ndarray, parted: bool = False, **parameters) -> None:
    ours = texture_features(levels, int(levels.max()), **parameters)
    theirs = textures(levels, **parameters)
    wrong, parts = [], set()
    for key, value in ours.items():
        peer = theirs[their_name(key, **parameters)]
        if math.isclose(value, peer, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(value) and math.isnan(peer)):
            continue
        if key.startswith(PARTS_WITH_MIRP):
            parts.add(key)
        else:
            wrong.append(f"{key}: {value} against {peer}")
    assert len(ours) == 408
    assert not wrong, f"{len(wrong)} of {len(ours)} differ: " + "; ".join(wrong)
    assert bool(parts) == parted, parts


ONE_LEVEL = ("sparse", "constant")  # cases with a matrix of one level, or of no two levels side by side


@pytest.mark.parametrize("name", list(cases()))
def test_all_features_agree(name: str) -> None:
    compare(cases()[name], parted=name in ONE_LEVEL)


@pytest.mark.parametrize("parameters", [{"glcm_distance": 2, "ngldm_alpha": 1.0},
                                        {"glcm_distance": 3, "ngldm_distance": 2, "ngldm_alpha": 2.0}])
def test_distances_and_tolerance_agree(parameters: dict) -> None:
    compare(cases()["ball"], **parameters)
