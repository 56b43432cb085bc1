"""The climb of X-ray registration: its derivatives against differences, its depth with a needle in view, its spread."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.registration.xray import prepare_patient
from IRAILib.registration.xray.drr import pixel_rays
from IRAILib.registration.xray.patient import cut_rays
from IRAILib.registration.xray.pose import apply, step
from IRAILib.registration.xray.refine import _jacobian, refine
from IRAILib.registration.xray.similarity import features, level_view, prepare_frame, slopes, smooth
from IRAILib.registration.xray.verdict import uncertainty
from xray_phantom import BODY_MM, SHAPE, VOXEL_MM, phantom, view

TRUTH = step(np.array([4.0, 40.0, -7.0, 0.03, -0.05, 0.04]), np.zeros(3))
SPINE = np.array([[0.0, -50.0, 0.0]])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def patient():
    return prepare_patient(phantom().ct())


def noisy_view(geometry, pivot, seed: int, needle: bool = True):
    """The phantom's frame by formula with photon noise and a steel needle across the spine, at the finest stage."""
    lines = phantom().lines(geometry, TRUTH)
    if needle:
        rows, columns = np.mgrid[:lines.shape[0], :lines.shape[1]]
        far = np.abs((rows - 60.0) - 0.4 * (columns - 60.0)) / np.hypot(1, 0.4)
        lines = lines + 1.5 * (far < 1.0) * (columns > 45)
    counts = np.random.default_rng(seed).poisson(2e4 * np.exp(-lines))
    image, valid = prepare_frame(-np.log(np.maximum(counts, 1.0)), geometry)
    return level_view(image, valid, geometry, 1.6, pivot)


def test_the_normalised_gradients_change_as_their_jacobian_says():
    """A picture plus t times another: the derivative by t at 0, also where the neighbourhood's size changes with it.

    Left out is the change of the picture's median gradient, under which a neighbourhood counts as flat.
    """
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    pictures = torch.as_tensor(np.cumsum(np.cumsum(rng.normal(size=(7, 60, 70)), 1), 2) / 50, dtype=torch.float64)
    pictures = pictures.float()
    valid = torch.ones(1, 60, 70)
    moving, good, size = features(pictures[:1], valid)
    changes = slopes(smooth(pictures[1:], valid))
    told = _jacobian(changes, moving[0], size, good)
    small = 1e-2
    plus, minus = (features(pictures[:1] + sign * small * pictures[1:], valid.expand(6, -1, -1))[0]
                   for sign in (1, -1))
    seen = (plus - minus) / (2 * small)
    inside = good[0].bool()
    for one, rough, other in zip(told, changes / size[:, None], seen, strict=True):
        a, r, b = (part[:, inside].numpy().ravel() for part in (one, rough, other))
        assert np.corrcoef(a, b)[0, 1] > 0.99
        assert np.abs(a - b).mean() < 0.2 * np.abs(b).mean()
        assert np.abs(a - b).mean() < 0.5 * np.abs(r - b).mean()


def test_rays_through_tissue_beyond_the_scan_are_left_out(patient):
    """A C-arm that looks past the scan's upper end: chords of the endless cylinder tell what each ray saw.

    Beyond the end the body counts as its bounding box, so rays beside a round body may be left out without need.
    """
    torch = pytest.importorskip("torch")
    geometry = view(secondary=12.0, pixels=60, mm=5.0)
    pose = TRUTH.copy()
    pose[:3, 3] -= 90.0 * TRUTH[:3, 2]
    source, away = pixel_rays(geometry)
    seen = cut_rays(patient, source, torch.as_tensor(away, dtype=torch.float32),
                    torch.as_tensor(pose, dtype=torch.float32)[None])[0].numpy()
    back = np.linalg.inv(pose)
    eye, ray = apply(back, source[None])[0], away @ back[:3, :3].T
    a, b = (ray[:, :2] ** 2).sum(axis=1), ray[:, :2] @ eye[:2]
    inner = np.sqrt(np.maximum(b**2 - a * (eye[:2] @ eye[:2] - BODY_MM**2), 0))
    ends = np.stack([eye[2] + ray[:, 2] * (-b + side * inner) / a for side in (-1, 1)])
    through, scanned_mm = inner > 0.15 * np.sqrt(a) * BODY_MM, SHAPE[0] * VOXEL_MM / 2
    beyond = through & (np.abs(ends).max(axis=0) > scanned_mm + 4)
    within = through & (np.abs(ends).max(axis=0) < scanned_mm - 6)
    assert beyond.sum() > 300
    assert within.sum() > 300
    assert seen[beyond].all()
    assert seen[within].mean() < 0.1
    assert not seen[within & (inner > 0.8 * np.sqrt(a) * BODY_MM) & (np.abs(ends).max(axis=0) < scanned_mm - 12)].any()


@pytest.mark.parametrize("off_mm", [-6.0, 6.0])
def test_the_depth_of_one_view_is_climbed_to_the_top(patient, off_mm):
    geometry = view(pixels=120, mm=2.25)
    pivot = apply(TRUTH, SPINE)[0]
    views = [noisy_view(geometry, pivot, 3)]
    off = step(np.array([*(off_mm * geometry.normal + 0.3), 0.01, -0.01, 0.01]), pivot) @ TRUTH
    end = refine(patient, 1.4, views, off, pivot, steps=12, settled_mm=0.02, robust=True)
    gap = apply(end.table_from_ras, SPINE)[0] - pivot
    depth = abs(float(gap @ geometry.normal))
    assert np.linalg.norm(gap - (gap @ geometry.normal) * geometry.normal) < 0.3
    assert depth < 1.5
    across, along = uncertainty(end.covariance, geometry.normal)
    assert across < along < 2.0
    assert depth < 4 * along


def test_nothing_measured_is_told_as_unknown(patient):
    geometry = view(pixels=60, mm=4.5)
    pivot = apply(TRUTH, SPINE)[0]
    away = TRUTH.copy()
    away[:3, 3] += [400.0, 0, 0]
    end = refine(patient, 3.0, [noisy_view(geometry, pivot, 1)], away, pivot, steps=1, robust=True)
    assert np.isinf(uncertainty(end.covariance, geometry.normal)).all()
