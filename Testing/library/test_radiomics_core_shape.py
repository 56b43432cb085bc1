"""Shape features against geometry that is known: spheres, boxes, ellipsoids, sums over every pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from IRAILib.biopsy.radiomics import autocorrelation
from IRAILib.biopsy.radiomics.autocorrelation import moran_geary
from IRAILib.biopsy.radiomics.enclosing import box_area, ellipsoid_area, enclosing_ellipsoid, oriented_box
from IRAILib.biopsy.radiomics.extract import extract
from IRAILib.biopsy.radiomics.morphology import diameter, mesh
from IRAILib.biopsy.radiomics.settings import Settings
from IRAILib.geometry import Grid, Mask, Volume
from scipy import special
from scipy.spatial.transform import Rotation


def measured(mask: np.ndarray, spacing_ijk, image: np.ndarray | None = None) -> dict[str, float]:
    grid = Grid(mask.shape, np.diag([*spacing_ijk, 1.0]))
    image = np.arange(mask.size, dtype=float).reshape(mask.shape) if image is None else image
    return extract(Volume(image, grid), Mask(mask, grid), Settings(families=("morphology",))).values()


def ellipsoid(half_mm, spacing_ijk) -> np.ndarray:
    """Mask of an ellipsoid with half axes along (i, j, k)."""
    spacing = np.array(spacing_ijk)[::-1]
    half = np.array(half_mm)[::-1]
    n = (2 * np.ceil(half / spacing) + 5).astype(int)
    index = [(np.arange(m) - (m - 1) / 2) * s / h for m, s, h in zip(n, spacing, half, strict=True)]
    return index[0][:, None, None] ** 2 + index[1][:, None] ** 2 + index[2] ** 2 <= 1.0


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 1.3)])
def test_sphere(spacing):
    radius = 20.0
    found = measured(ellipsoid((radius,) * 3, spacing), spacing)
    volume = 4.0 / 3.0 * math.pi * radius**3
    assert found["morph_volume"] == pytest.approx(volume, rel=0.01)
    assert found["morph_vol_approx"] == pytest.approx(volume, rel=0.01)
    assert found["morph_diam"] == pytest.approx(2.0 * radius, rel=0.04)
    for axis in ("maj", "min", "least"):
        assert found[f"morph_pca_{axis}_axis"] == pytest.approx(4.0 * radius / math.sqrt(5.0), rel=0.02)
    assert found["morph_vol_dens_aabb"] == pytest.approx(math.pi / 6.0, rel=0.1)
    assert found["morph_vol_dens_ombb"] == pytest.approx(math.pi / 6.0, rel=0.07)
    assert found["morph_vol_dens_mvee"] == pytest.approx(1.0, abs=0.1)
    assert found["morph_vol_dens_conv_hull"] == pytest.approx(1.0, abs=0.05)


def test_mesh_of_one_voxel_is_an_octahedron():
    found = measured(np.ones((1, 1, 1), bool), (1.0, 2.0, 3.0))
    assert found["morph_volume"] == pytest.approx(4.0 / 3.0 * 0.5 * 1.0 * 1.5)
    assert found["morph_vol_approx"] == pytest.approx(6.0)
    assert math.isnan(found["morph_pca_elongation"])


def test_mesh_is_closed_and_has_the_spacing():
    mask = np.zeros((7, 8, 9), bool)
    mask[2:5, 1:6, 3:8] = True
    points, triangles = mesh(mask, np.array([3.0, 2.0, 1.0]))
    assert np.ptp(points, axis=0) == pytest.approx([9.0, 10.0, 5.0])
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_axes_of_an_ellipsoid():
    half, spacing = (30.0, 18.0, 12.0), (1.0, 1.0, 1.0)
    found = measured(ellipsoid(half, spacing), spacing)
    assert found["morph_pca_elongation"] == pytest.approx(18.0 / 30.0, rel=0.02)
    assert found["morph_pca_flatness"] == pytest.approx(12.0 / 30.0, rel=0.02)


def test_centre_of_mass_shift_and_integrated_intensity():
    mask = np.ones((1, 1, 4), bool)
    found = measured(mask, (2.0, 1.0, 1.0), np.array([[[0.0, 0.0, 0.0, 8.0]]]))
    assert found["morph_com"] == pytest.approx(3.0)
    assert found["morph_integ_int"] == pytest.approx(2.0 * found["morph_volume"])


@pytest.mark.parametrize("seed", range(6))
def test_oriented_box_finds_a_turned_box(seed):
    rng = np.random.default_rng(seed)
    sides = rng.uniform(5.0, 60.0, 3)
    corners = (rng.uniform(-0.5, 0.5, (200, 3)) * 0.98)
    corners = np.concatenate([corners, np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T]) * sides
    turned = corners @ Rotation.random(random_state=seed).as_matrix().T + rng.normal(size=3) * 100.0
    found = oriented_box(turned)
    assert np.prod(found) == pytest.approx(np.prod(sides), rel=0.002)
    assert found == pytest.approx(np.sort(sides), rel=0.01)
    assert np.prod(found) <= np.prod(np.ptp(turned, axis=0)) * (1 + 1e-9)


def test_enclosing_ellipsoid_of_a_box_and_of_an_ellipsoid():
    sides = np.array([10.0, 25.0, 40.0])
    corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T * sides
    turn = Rotation.random(random_state=3).as_matrix()
    assert enclosing_ellipsoid(corners @ turn.T) == pytest.approx(np.sort(sides)[::-1] * math.sqrt(3.0) / 2.0, rel=1e-3)
    points = np.random.default_rng(1).normal(size=(3000, 3))
    points = points / np.linalg.norm(points, axis=1, keepdims=True) * [9.0, 14.0, 30.0]
    inner = np.random.default_rng(2).normal(size=(300, 3))
    found = enclosing_ellipsoid(np.concatenate([points, inner]) @ turn.T + 50.0)
    assert found == pytest.approx([30.0, 14.0, 9.0], rel=0.01)


def test_enclosing_ellipsoid_holds_every_point_and_no_smaller_one_does():
    """The stated tolerance: about 1.5 times it in volume."""
    points = np.random.default_rng(5).normal(size=(60, 3)) * [1.0, 4.0, 9.0]
    tight, loose = enclosing_ellipsoid(points, 1e-7), enclosing_ellipsoid(points, 1e-4)
    assert math.prod(tight) <= math.prod(loose) <= math.prod(tight) * (1 + 3e-4)


@pytest.mark.parametrize("axes", [(3.0, 2.0, 1.0), (5.0, 5.0, 2.0), (8.0, 2.0, 2.0), (10.0, 4.0, 3.0)])
def test_ellipsoid_area_is_the_manuals_series(axes):
    """The manual's own words: 4 pi a b sum (alpha beta)^n / (1 - 4 n^2) P_n((alpha^2 + beta^2) / (2 alpha beta))."""
    a, b, c = axes
    alpha, beta = math.sqrt(1 - (b / a) ** 2) or 1e-6, math.sqrt(1 - (c / a) ** 2)
    order = np.arange(21)
    middle = (alpha**2 + beta**2) / (2 * alpha * beta)
    terms = (alpha * beta) ** order / (1 - 4 * order**2) * special.eval_legendre(order, middle)
    assert ellipsoid_area(a, b, c) == pytest.approx(4 * math.pi * a * b * terms.sum(), rel=1e-6)


def test_ellipsoid_area_of_a_sphere_is_exact():
    assert ellipsoid_area(2.5, 2.5, 2.5) == pytest.approx(4 * math.pi * 2.5**2)


def test_box_area_and_diameter():
    assert box_area(np.array([1.0, 2.0, 3.0])) == 22.0
    points = np.random.default_rng(0).normal(size=(1500, 3))
    every = np.linalg.norm(points[:, None] - points[None], axis=2).max()
    assert diameter(points) == pytest.approx(every, rel=1e-12)


def by_pairs(image, mask, spacing_kji):
    """Moran's I and Geary's C as the manual writes them, over every pair."""
    place, x = np.argwhere(mask) * spacing_kji, image[mask].astype(float)
    away = np.linalg.norm(place[:, None] - place[None], axis=2)
    w = np.divide(1.0, away, out=np.zeros_like(away), where=away > 0)
    z = x - x.mean()
    moran = len(x) / w.sum() * (w * np.outer(z, z)).sum() / (z**2).sum()
    geary = (len(x) - 1) / (2 * w.sum()) * (w * (x[:, None] - x[None]) ** 2).sum() / (z**2).sum()
    return moran, geary


@pytest.mark.parametrize(("shape", "blocks"), [((5, 6, 7), None), ((4, 9, 8), 4), ((1, 11, 6), 3), ((7, 1, 2), None),
                                               ((9, 8, 10), 5)])
def test_moran_and_geary_against_every_pair(monkeypatch, shape, blocks):
    rng = np.random.default_rng(sum(shape))
    image, mask = rng.normal(5.0, 2.0, shape).cumsum(axis=2), rng.random(shape) < 0.6
    if blocks:
        monkeypatch.setattr(autocorrelation, "ONE_GO", 1)
        monkeypatch.setattr(autocorrelation, "BLOCK", blocks)
    found = moran_geary(image, mask, (2.5, 1.0, 0.8))
    assert found == pytest.approx(by_pairs(image, mask, np.array([2.5, 1.0, 0.8])), rel=3e-5 if blocks else 1e-9)


def test_checkerboard_is_anticorrelated_and_a_ramp_correlated():
    shape = (8, 8, 8)
    mask, board = np.ones(shape, bool), np.indices(shape).sum(axis=0) % 2.0
    ramp = np.indices(shape)[0].astype(float)
    board_found, ramp_found = (moran_geary(image, mask, (1.0,) * 3) for image in (board, ramp))
    assert board_found[0] < 0 < ramp_found[0]
    assert ramp_found[1] < 1 < board_found[1]
