"""Slices and sweeps of a made-up body at known poses; what their geometry can't fix; the measure itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.geometry import CancelledError, Grid, InputError, Mask, Volume
from IRAILib.registration.local_fit import Slice, SliceScore
from IRAILib.registration.slice_to_volume import register_slices
from IRAILib.registration.sweep import cut, register_sweep
from multimodal_cases import body, contrast, distances, grid, known_pose
from scipy.spatial.transform import Rotation

CENTRE = np.array([-3.0, -3.0, 0.0])
CT = (-1000, -90, 50, 700, 35)
MR = (5, 900, 350, 60, 250)


@pytest.fixture(scope="module")
def images():
    kind = body()
    return contrast(kind, CT, 15, 1), contrast(kind, MR, 25, 2, shading=True)


def planes(count: int = 6, size: int = 36, mm: float = 2.5) -> np.ndarray:
    """(n, 4, 4) ras_from_pixel of a tilted fan of pictures through the body's middle."""
    out = []
    for n in range(count):
        angles = [90 * (n % 2), -35 + 70 * n / max(1, count - 1), 20]
        turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        pose = np.eye(4)
        pose[:3, :3] = turn * mm
        pose[:3, 3] = CENTRE - turn @ [mm * (size - 1) / 2, mm * (size - 1) / 2, 0]
        out.append(pose)
    return np.array(out)


def pictures(volume: Volume, poses: np.ndarray, size: int = 36) -> list[np.ndarray]:
    return [volume.sample(Slice(np.zeros((size, size)), pose, np.ones((size, size), bool)).points().reshape(-1, 3),
                          outside=0.0).reshape(size, size) for pose in poses]


def targets() -> np.ndarray:
    return CENTRE + np.random.default_rng(0).normal(size=(40, 3)) * 12


@pytest.mark.parametrize("measure", ["fit", "mind"])
def test_slices_of_another_contrast_come_home(images, measure):
    ct, mr = images
    poses = planes()
    away = known_pose(np.random.default_rng(3), CENTRE, 10.0, 8.0)
    seen = [np.ones((36, 36), bool)] * len(poses)
    found = register_slices(pictures(mr, poses), away @ poses, ct, seen=seen, measure=measure, starts=64)
    error = distances(found.volume_from_tracked.matrix @ away, np.eye(4), targets())
    assert error.mean() < 2.0, found.to_dict()
    if measure == "fit":  # self-similarity in the plane finds the place, too, but stands less above wrong ones
        assert found.accepted, found.reason
    document = json.loads(json.dumps(found.to_dict()))
    assert "RAS" in document["frame"]
    assert document["uncertainty"]["sigma_mm"] > 0
    assert "no tracked ultrasound of a patient" in document["validated_on"]


def test_slices_in_one_plane_are_refused(images):
    ct, mr = images
    poses = np.repeat(planes()[:1], 4, axis=0)
    poses[:, :3, 3] += np.arange(4)[:, None] * poses[0, :3, 0]
    found = register_slices(pictures(mr, poses), poses, ct, starts=8)
    assert not found.accepted
    assert "one plane" in found.reason


def test_foreign_slices_are_refused(images):
    ct, _ = images
    poses, rng = planes(), np.random.default_rng(5)
    noise = [rng.uniform(1, 200, (36, 36)) for _ in poses]
    other = pictures(contrast(body(7)[::-1, ::-1, ::-1], MR, 25, 9), poses)
    for wrong in (noise, other):
        found = register_slices(wrong, poses, ct, starts=64)
        assert not found.accepted, found.to_dict()


def test_a_sweep_is_laid_into_the_volume(images):
    ct, mr = images
    away = known_pose(np.random.default_rng(4), CENTRE, 8.0, 6.0)
    part = mr.crop((6, 8, 8), (22, 28, 32))
    sweep = Volume(part.array, Grid(part.array.shape, away @ part.grid.ras_from_ijk), "sweep")
    everything = Mask(np.ones(part.array.shape, bool), sweep.grid)
    found = register_sweep(sweep, ct, filled=everything, shift_mm=12.0, turn_deg=9.0)
    error = distances(found.volume_from_tracked.matrix @ away, np.eye(4), targets())
    assert error.mean() < 2.0, found.to_dict()
    assert found.accepted, found.reason


def test_cut_slices_show_the_voxels_they_say():
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [20, 30, 40], degrees=True).as_matrix() * (1.0, 2.0, 3.0)
    matrix[:3, 3] = (5, 6, 7)
    where = Grid((12, 14, 16), matrix)
    place = where.all_points_ras()
    for axis in range(3):  # every voxel holds one of its own coordinates
        images, poses, seen = cut(Volume(place[..., axis], where), np.ones(where.shape, bool))
        for image, pose, mask in zip(images, poses, seen, strict=True):
            np.testing.assert_allclose(Slice(image, pose, mask).points()[..., axis], image, atol=1e-9)


def test_a_coarser_slice_keeps_its_place():
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 3] = (0.5, 0, 0), (0, 0.4, 0.3), (3, 4, 5)
    plain = Slice(np.zeros((60, 50)), pose, np.ones((60, 50), bool))
    for axis in range(3):
        for mm in (1.0, 1.6, 2.1):
            coarse = Slice(plain.points()[..., axis], pose, plain.seen).coarser(mm)
            inner = (slice(1, -1), slice(1, -1))
            np.testing.assert_allclose(coarse.points()[..., axis][inner], coarse.image[inner], atol=1e-4)


def test_the_fit_explains_what_it_should_and_nothing_else(images):
    ct, _ = images
    pose = planes(1)
    plain = Slice(np.zeros((36, 36)), pose[0], np.ones((36, 36), bool))
    score = SliceScore([plain], ct, 2.5, "fit")
    points = plain.points().reshape(-1, 3)
    value, edge = (layer.sample(points).reshape(36, 36) for layer in (score.values, score.edges))
    rng = np.random.default_rng(0)
    made = Slice(3 * value - 40 * edge + 7, pose[0], plain.seen)
    assert SliceScore([made], ct, 2.5, "fit").score(np.eye(4)) > 0.95
    assert SliceScore([Slice(rng.normal(size=(36, 36)), pose[0], plain.seen)], ct, 2.5, "fit").score(np.eye(4)) < 0.25


def test_hostile_input(images):
    ct, mr = images
    poses = planes(3)
    good = pictures(mr, poses)
    for arguments, options in ((([], np.empty((0, 4, 4)), ct), {}), ((good, poses[:2], ct), {}),
                               ((good, poses * np.nan, ct), {}), (([np.zeros((3, 3))] * 3, poses, ct), {}),
                               ((good, poses, ct), {"init": np.eye(3)}), ((good, poses, ct), {"measure": "guess"}),
                               ((good, poses, ct), {"seen": [np.ones((2, 2), bool)] * 3}),
                               ((good, poses * 0, ct), {}), (([g * 0 for g in good], poses, ct), {}),
                               ((good, poses, ct.with_array(ct.array * np.nan)), {})):
        with pytest.raises(InputError):
            register_slices(*arguments, **options)
    far = np.eye(4)
    far[0, 3] = 2000.0
    with pytest.raises(InputError, match="don't meet"):
        register_slices(good, poses, ct, init=far)
    with pytest.raises(CancelledError):
        register_slices(good, poses, ct, cancelled=lambda: True)
    with pytest.raises(InputError, match="hold data"):
        register_sweep(Volume(np.zeros((20, 20, 20)), Grid((20, 20, 20), np.eye(4))), ct)
    with pytest.raises(InputError, match="own grid"):
        register_sweep(mr, ct, filled=Mask(np.ones((3, 3, 3), bool), Grid((3, 3, 3), np.eye(4))))
    assert np.isfinite(grid().ras_from_ijk).all()
