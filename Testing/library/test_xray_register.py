"""2D/3D registration on a phantom whose frames come from formulas; slipped levels, wrong pictures, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.geometry import CancelledError, Grid, InputError, Volume
from IRAILib.registration.xray import Rival, prepare_patient, register_xray
from IRAILib.registration.xray.levels import find_spine
from IRAILib.registration.xray.pose import apply, rotation, step
from IRAILib.registration.xray.similarity import prepare_frame
from IRAILib.registration.xray.verdict import judge, uncertainty
from xray_phantom import LEVEL_MM, phantom, view

TRUTH = step(np.array([4.0, 40.0, -7.0, 0.03, -0.05, 0.04]), np.zeros(3))
OFF = step(np.array([12.0, -14.0, 11.0, 0.08, -0.06, 0.1]), np.array([0.0, -10.0, 0.0]))
TARGETS = np.array([[0, -50, z] for z in (-40, -15, 0, 15, 40)] + [[50, 20, 10], [-50, 20, -10]], float)


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


def noisy(lines: np.ndarray, seed: int = 0, photons: float = 2e5) -> np.ndarray:
    counts = np.random.default_rng(seed).poisson(photons * np.exp(-lines))
    return -np.log(np.maximum(counts, 1))


def gaps(found: np.ndarray, geometry) -> tuple[float, float]:
    """In-plane and total error, mm, mean over the targets."""
    right = apply(TRUTH, TARGETS)
    gap = apply(found, TARGETS) - right
    ray = right - geometry.source_mm
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    across = gap - (gap * ray).sum(axis=1, keepdims=True) * ray
    return float(np.linalg.norm(across, axis=1).mean()), float(np.linalg.norm(gap, axis=1).mean())


@pytest.mark.parametrize("black", [False, True])
def test_one_view(patient, black):
    geometry = view(pixels=120, mm=2.25)
    image = noisy(phantom().lines(geometry, TRUTH))
    tell = []
    result = register_xray(patient, [-image if black else image], [geometry], OFF @ TRUTH,
                           progress=lambda share, text: tell.append(share))
    in_plane, total = gaps(result.table_from_ras, geometry)
    assert gaps(OFF @ TRUTH, geometry)[0] > 10
    assert in_plane < 1.0
    assert total < 4.0
    assert result.accepted, result.reason
    assert tell == sorted(tell)
    assert tell[-1] == 1.0
    document = json.loads(json.dumps(result.to_dict()))
    assert document["frame"] == "Table"
    assert np.array(document["pose"]) == pytest.approx(result.table_from_ras)
    assert "simulation" in document["validated_on"]


def test_two_views_know_the_depth(patient):
    geometries = [view(pixels=110, mm=2.45), view(88.0, -4.0, pixels=110, mm=2.45)]
    images = [noisy(phantom().lines(g, TRUTH), seed=n) for n, g in enumerate(geometries)]
    result = register_xray(patient, images, geometries, OFF @ TRUTH)
    assert gaps(result.table_from_ras, geometries[0])[1] < 1.0
    assert result.accepted, result.reason
    assert result.depth_mm < 1.0


def test_counts_are_read_as_counts(patient):
    geometry = view(pixels=100, mm=2.7)
    counts = np.random.default_rng(1).poisson(3e4 * np.exp(-phantom().lines(geometry, TRUTH))).astype(np.uint16)
    result = register_xray(patient, [counts], [geometry], OFF @ TRUTH)
    assert gaps(result.table_from_ras, geometry)[0] < 1.0


def test_a_spine_without_end_or_ribs_is_refused():
    """Every level fits: whatever comes out must not be accepted."""
    bare, geometry = phantom(ribs=False), view(pixels=90)
    image = noisy(bare.lines(geometry, TRUTH), seed=2)
    off = TRUTH.copy()
    off[:3, 3] += 0.5 * LEVEL_MM * TRUTH[:3, 2]
    result = register_xray(bare.ct(), [image], [geometry], off)
    assert not result.accepted
    assert "slipped" in result.reason
    assert any(abs(abs(rival.shift_mm) - LEVEL_MM) < 5 and not rival.fell_back for rival in result.rivals)


def test_a_picture_of_something_else_is_refused(patient):
    geometry = view(pixels=100, mm=2.7)
    wrong = noisy(phantom().lines(geometry, TRUTH))[::-1, ::-1]
    result = register_xray(patient, [wrong], [geometry], OFF @ TRUTH)
    assert not result.accepted
    assert result.reason


def test_labels_and_periodicity_find_the_next_vertebra(patient):
    near = np.array([5.0, -45.0, 3.0])
    found = find_spine(patient, near)
    assert abs(found.upwards @ [0, 0, 1]) > 0.98
    assert np.linalg.norm(found.point[:2] - [0, -50]) < 8
    if found.source == "periodicity":
        assert found.up_mm == pytest.approx(LEVEL_MM, abs=3)
    ct = phantom().ct()
    labels = np.zeros(ct.array.shape, np.uint8)
    for number, level in ((7, -1), (8, 0), (9, 1)):
        labels[np.linalg.norm(ct.grid.all_points_ras() - [0, -50, level * (LEVEL_MM + level)], axis=-1) < 10] = number
    spine = find_spine(patient, near, Volume(labels, ct.grid))
    assert spine.source == "labels"
    assert spine.up_mm == pytest.approx(LEVEL_MM + 1, abs=1)
    assert spine.down_mm == pytest.approx(LEVEL_MM - 1, abs=1)
    with pytest.raises(InputError, match="fewer than two"):
        find_spine(patient, near, Volume((labels == 8).astype(np.uint8), ct.grid))


def test_the_verdict():
    good = ([0.9], [Rival(27.0, 0.2, False)], [0.8], 0.8, (0.2, 1.0), (10.0, 5.0))
    assert judge(*good)[0]

    def but(**changed):
        names = ("similarities", "rivals", "coverage", "agreement", "spread", "moved")
        return judge(*(changed.get(name, value) for name, value in zip(names, good, strict=True)))

    for bad, word in (({"similarities": [0.9, 0.3]}, "resemble"), ({"rivals": [Rival(-27.0, 0.01, False)]}, "slipped"),
                      ({"coverage": [0.1]}, "frame"), ({"spread": (0.2, 9.0)}, "detail"), ({"moved": (90, 5)}, "start"),
                      ({"spread": (np.inf, np.inf)}, "detail")):
        accepted, reason = but(**bad)
        assert not accepted
        assert word in reason
        assert "\n" not in reason
    assert but(rivals=[Rival(-27.0, 0.001, True)])[0]


def test_uncertainty_of_a_known_covariance():
    """Along each axis alike and no turning: across the beam two axes, along it one; turns add with their lever."""
    normal = np.array([0.0, 1.0, 0.0])
    across, along = uncertainty(np.diag([4.0] * 3 + [0.0] * 3), normal)
    wide, deep = uncertainty(np.diag([9.0] * 3 + [0.0] * 3), normal)
    assert wide**2 - across**2 == pytest.approx(2 * (deep**2 - along**2), rel=1e-6)
    assert along >= 2.0
    turned = uncertainty(np.diag([4.0] * 3 + [0.01**2] * 3), normal)
    assert turned[0] > across
    assert turned[1] > along
    assert uncertainty(np.full((6, 6), np.inf), normal) == (np.inf, np.inf)


def test_a_collimated_border_is_left_out():
    geometry = view(pixels=100)
    image = np.random.default_rng(0).normal(10, 3, (100, 100))
    image[:, :20], image[85:] = 1.0, 1.0
    _, valid = prepare_frame(image, geometry)
    assert not valid[:, :20].any()
    assert not valid[85:].any()
    assert valid[5:80, 25:95].all()


def test_bad_input(patient):
    geometry = view(pixels=60, mm=4.5)
    image = noisy(phantom().lines(geometry, TRUTH))
    bad = [(patient, [], [], TRUTH), (patient, [image], [geometry, geometry], TRUTH),
           (patient, [image, image], [geometry, geometry], TRUTH), (patient, [image[:, :30]], [geometry], TRUTH),
           (patient, [np.full_like(image, np.nan)], [geometry], TRUTH),
           (patient, [np.full_like(image, 7)], [geometry], TRUTH), (patient, [image], [geometry], np.eye(3)),
           (patient, [image], [geometry], np.full((4, 4), np.nan))]
    grid = Grid((20, 40, 40), np.diag([5.0, 5, 5, 1]))
    for values in (np.full(grid.shape, -1000, np.int16), np.zeros(grid.shape, np.int16),
                   np.zeros(grid.shape, np.uint16), np.full(grid.shape, np.nan)):
        bad.append((Volume(values, grid), [image], [geometry], TRUTH))
    for arguments in bad:
        with pytest.raises(InputError):
            register_xray(*arguments)
    with pytest.raises(InputError, match="bone"):
        register_xray(patient, [image], [geometry], TRUTH, bone="grey")
    away = TRUTH.copy()
    away[:3, 3] += [2000.0, 0, 0]
    with pytest.raises(InputError, match="overlap"):
        register_xray(patient, [image], [geometry], away)
    with pytest.raises(CancelledError):
        register_xray(patient, [image], [geometry], TRUTH, cancelled=lambda: True)


def test_an_oblique_ct_gives_the_same_pose():
    geometry, ct = view(pixels=100, mm=2.7), phantom().ct()
    turn = np.eye(4)
    turn[:3, :3] = rotation(np.array([0.2, -0.1, 0.15]))
    turned = Volume(ct.array, Grid(ct.grid.shape, turn @ ct.ras_from_ijk), "turned")
    image = noisy(phantom().lines(geometry, TRUTH))
    result = register_xray(turned, [image], [geometry], OFF @ TRUTH @ np.linalg.inv(turn))
    assert gaps(result.table_from_ras @ turn, geometry)[0] < 1.0
