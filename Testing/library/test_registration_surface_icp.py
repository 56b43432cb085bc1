"""Shapes with known truth: what fits, what can't be fixed, and an independent program on the same points."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import CancelledError, InputError
from IRAILib.registration.surface_icp import register_icp
from scipy.spatial.transform import Rotation

TRUTH = np.eye(4)
TRUTH[:3, :3] = Rotation.from_rotvec(np.radians([6.0, -8.0, 5.0])).as_matrix()
TRUTH[:3, 3] = (8.0, -9.0, 6.0)


def on_sphere(rng, count: int) -> np.ndarray:
    v = rng.normal(size=(count, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def organ(rng, count: int) -> np.ndarray:
    """A liver-sized lump without symmetry."""
    v = on_sphere(rng, count)
    radius = 1 + 0.15 * np.sin(3 * v[:, 0] + 1) + 0.1 * np.cos(4 * v[:, 1]) + 0.12 * np.sin(3 * v[:, 2] * v[:, 0] + 0.3)
    return v * radius[:, None] * (60, 45, 35)


def away(points: np.ndarray) -> np.ndarray:
    """Points where they are before the truth brings them home."""
    back = np.linalg.inv(TRUTH)
    return points @ back[:3, :3].T + back[:3, 3]


def errors(found: np.ndarray, source: np.ndarray) -> np.ndarray:
    return np.linalg.norm(source @ (found - TRUTH)[:3, :3].T + (found - TRUTH)[:3, 3], axis=1)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def tree(count: int) -> np.ndarray:
    """Vessel centrelines that branch."""
    ends = [((0, 0, 0), (0, 5, 40)), ((0, 5, 40), (25, 10, 70)), ((0, 5, 40), (-20, 15, 75)),
            ((25, 10, 70), (45, -5, 85)), ((-20, 15, 75), (-45, 25, 80)), ((25, 10, 70), (28, 30, 95))]
    share = np.linspace(0, 1, count)[:, None]
    return np.concatenate([np.array(a, float) + (np.array(b, float) - a) * share for a, b in ends])


@pytest.mark.parametrize("part", ["whole", "half", "stray"])
def test_a_lump_is_found_from_parts_and_among_stray_points(rng, part):
    source = organ(rng, 300) + rng.normal(size=(300, 3)) * 0.3
    if part == "half":
        source = source[source[:, 0] > 0]
    if part == "stray":
        source[:45] += rng.normal(size=(45, 3)) * 15
    source = away(source)
    found = register_icp(source, organ(rng, 12000), starts=8)
    error = errors(found.target_from_source.matrix, source)
    assert found.accepted, found.reason
    assert error.mean() < 0.4
    assert error.mean() < 3 * found.sigma_mm  # the stated uncertainty is of the size of the error
    if part == "stray":
        assert found.kept[:45].mean() < 0.5 < found.kept[45:].mean()


def test_the_stated_uncertainty_covers_the_error(rng):
    """Over draws of noise, squared errors are about the stated variance."""
    target, ratios = organ(rng, 12000), []
    for _ in range(8):
        source = away(organ(rng, 80) + rng.normal(size=(80, 3)) * 0.5)
        found = register_icp(source, target, starts=2, shift_mm=4.0, turn_deg=3.0, init=TRUTH)
        ratios.append((errors(found.target_from_source.matrix, source)**2).mean() / found.sigma_mm**2)
    assert 0.2 < np.mean(ratios) < 4.0


def test_what_a_shape_leaves_open_is_named_and_refused(rng):
    angle, height = rng.uniform(0, 2 * np.pi, 4000), rng.uniform(-60, 60, 4000)
    cylinder = np.stack([15 * np.cos(angle), 15 * np.sin(angle), height], 1)
    flat = np.stack([rng.uniform(-80, 80, 6000), rng.uniform(-80, 80, 6000), np.zeros(6000)], 1)
    for target, words in ((30 * on_sphere(rng, 6000), ["turn"] * 3), (cylinder, ["shift", "turn"]),
                          (flat, ["shift", "shift", "turn"])):
        middle = target[np.linalg.norm(target, axis=1) < 45]
        source = middle[rng.choice(len(middle), 200, replace=False)] + rng.normal(size=(200, 3)) * 0.2
        found = register_icp(source, target, starts=3)
        assert not found.accepted
        assert sorted(word.split()[0] for word in found.free) == words, found.free
        assert not np.isfinite(found.sigma_mm)
        assert found.to_dict()["uncertainty"]["sigma_mm"] is None
    found = register_icp(np.array([[15.0, 0, 1]]) * 0 + cylinder[:150], cylinder, starts=2)
    assert "0.00, 0.00, 1.00" in found.reason


def test_centrelines(rng):
    source = away(tree(20) + rng.normal(size=(120, 3)) * 0.5)
    found = register_icp(source, tree(150), kind="centreline", starts=8)
    assert found.accepted, found.reason
    assert errors(found.target_from_source.matrix, source).mean() < 0.6
    straight = register_icp(away(tree(30)[5:25]), tree(150), kind="centreline", starts=4)
    assert not straight.accepted
    assert straight.free


def test_a_place_that_fits_as_well_is_not_chosen_in_silence(rng):
    """A box fits itself turned by 180 degrees: from a start between both nothing tells which."""
    faces = rng.uniform(-1, 1, (9300, 3))
    axis = rng.integers(0, 3, 9300)
    faces[np.arange(9300), axis] = np.sign(faces[np.arange(9300), axis])
    box = faces * (40, 40, 40)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", 45, degrees=True).as_matrix()
    found = register_icp(box[:300], box[300:], init=turn, starts=12, turn_deg=40.0)
    assert not found.accepted
    assert "another place" in found.reason


def test_small_gicp_ends_at_the_same_place(rng):
    small_gicp = pytest.importorskip("small_gicp")
    target, source = organ(rng, 12000), away(organ(rng, 400) + rng.normal(size=(400, 3)) * 0.2)
    ours = register_icp(source, target, starts=6)
    theirs = small_gicp.align(target, source, init_T_target_source=TRUTH, registration_type="PLANE_ICP",
                              downsampling_resolution=0.5, max_correspondence_distance=10.0, num_threads=1)
    assert errors(ours.target_from_source.matrix, source).mean() < 0.3
    assert errors(ours.target_from_source.matrix, source).mean() \
        < errors(theirs.T_target_source, source).mean() + 0.1


def test_hostile_input(rng):
    good = organ(rng, 100)
    for bad in ([], np.full((20, 3), np.nan), np.zeros((20, 2)), good[:5]):
        with pytest.raises(InputError):
            register_icp(bad, good)
        with pytest.raises(InputError):
            register_icp(good, bad)
    for options in ({"kind": "mesh"}, {"overlap": 0.0}, {"starts": 0}, {"init": np.eye(3)},
                    {"target_normals": np.zeros((3, 3))}):
        with pytest.raises(InputError):
            register_icp(good, good, **options)
    with pytest.raises(CancelledError):
        register_icp(good, good, cancelled=lambda: True)
    same = register_icp(np.repeat(good[:1], 30, axis=0), good, starts=2)
    assert not same.accepted
