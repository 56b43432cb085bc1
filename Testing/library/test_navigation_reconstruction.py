"""Volumes from tracked frames: fields with a formula, single pixels by hand, an independent slow sum."""

from __future__ import annotations

import json
from itertools import pairwise, product

import numpy as np
import pytest
from IRAILib.cli.main import main
from IRAILib.geometry import CancelledError, Grid, InputError, RefusedError
from IRAILib.images import TrackedSequence, read_volume, write_sequence
from IRAILib.navigation.holes import fill_holes
from IRAILib.navigation.reconstruction import Reconstructor, fan_mask, reconstruct
from IRAILib.navigation.reconstruction_plus import read_plus_settings

ROWS, COLUMNS, PIXEL_MM = 60, 80, 0.25


def field(points: np.ndarray) -> np.ndarray:
    """Grey levels round 120 with waves of 9 to 14 mm."""
    x, y, z = np.moveaxis(points, -1, 0)
    return 120 + 50 * np.sin(2 * np.pi * x / 11) * np.cos(2 * np.pi * y / 14) + 40 * np.sin(2 * np.pi * z / 9 + 0.7)


def turned(seed: int, degrees: float) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    axis = np.random.default_rng(seed).normal(size=3)
    return Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()


def sweep(count: int = 90, step_mm: float = 0.2, seed: int = 0) -> np.ndarray:
    """(n, 4, 4) oblique poses that move across the image and tilt by some degrees."""
    base, random = turned(3, 35.0), np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    for n, pose in enumerate(poses):
        turn = base @ turned(n, random.normal(0, 1.5))
        pose[:3, :3] = turn * PIXEL_MM
        pose[:3, 3] = (40, -25, 10) + base[:, 2] * n * step_mm + random.normal(0, 0.1, 3)
    return poses


def film(poses: np.ndarray) -> np.ndarray:
    x, y = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS))
    pixels = np.stack([x, y, 0 * x, 1 + 0 * x], axis=-1).reshape(-1, 4).T
    return np.array([field((pose @ pixels)[:3].T).reshape(ROWS, COLUMNS) for pose in poses])


@pytest.mark.parametrize(("interpolation", "compounding", "rms"), [
    ("linear", "mean", 2.0), ("nearest", "mean", 2.5), ("linear", "latest", 10.0), ("nearest", "latest", 8.0)])
def test_a_painted_field_comes_back(interpolation, compounding, rms):
    poses = sweep()
    result = reconstruct(film(poses), poses, spacing_mm=0.5, interpolation=interpolation, compounding=compounding)
    assert result.volume.array.dtype == np.float32
    truth = field(result.volume.grid.all_points_ras())
    seen = result.confidence.array > 0.5
    assert seen.sum() > 20000
    error = (result.volume.array - truth)[seen]
    assert np.sqrt((error**2).mean()) < rms
    assert abs(error.mean()) < 0.5
    closed = result.filled.array
    assert not (closed & result.covered.array).any()
    assert np.abs((result.volume.array - truth)[closed]).mean() < 12.0


def test_max_is_never_below_the_mean_and_bytes_stay_bytes():
    poses = sweep(30)
    frames = np.rint(film(poses)).astype(np.uint8)
    largest, mean = (reconstruct(frames, poses, compounding=c, interpolation="nearest", fill_holes=False)
                     for c in ("max", "mean"))
    np.testing.assert_array_equal(largest.covered.array, mean.covered.array)
    assert largest.volume.array.dtype == np.uint8
    assert (largest.volume.array >= mean.volume.array)[mean.covered.array].all()
    assert largest.volume.array.max() == frames.max()


def slow_mean(frames, poses, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The same sums pixel by pixel, corner by corner."""
    total, weight = np.zeros(grid.shape), np.zeros(grid.shape)
    for frame, pose in zip(frames, poses, strict=True):
        for row, column in product(range(frame.shape[0]), range(frame.shape[1])):
            place = grid.indices_kji((pose @ (column, row, 0, 1))[:3])[0]
            if (place < 0).any() or (place > np.array(grid.shape) - 1).any():
                continue
            for corner in product((0, 1), repeat=3):
                index = tuple(int(i) for i in np.floor(place) + corner)
                share = np.prod([1 - abs(p - i) for p, i in zip(place, index, strict=True)])
                if share > 0:
                    total[index] += share * float(frame[row, column])
                    weight[index] += share
    return total, weight


def test_sums_are_those_of_a_slow_program_on_an_oblique_grid():
    poses = sweep(4)
    frames = np.random.default_rng(1).integers(0, 255, (4, 25, 31)).astype(np.uint8)
    middle = (poses[1] @ (15, 12, 0, 1))[:3]
    matrix = np.eye(4)
    matrix[:3, :3] = turned(9, 50.0) * (0.7, 0.9, 0.6)
    matrix[:3, 3] = middle - matrix[:3, :3] @ (4, 4, 4)
    grid = Grid((9, 9, 9), matrix)
    total, weight = slow_mean(frames, poses, grid)
    result = reconstruct(frames.astype(float), poses, grid=grid, fill_holes=False)
    sure = weight > 0.01
    np.testing.assert_allclose(result.volume.array[sure], (total / np.maximum(weight, 1e-9))[sure], rtol=1e-3)
    assert not result.covered.array[weight == 0].any()
    assert 0.2 < result.outside_share < 1.0


def one_pixel(place_ijk, compounding: str, interpolation: str = "linear", values=(200,)) -> Reconstructor:
    worker = Reconstructor(Grid((4, 4, 4), np.eye(4)), interpolation=interpolation, compounding=compounding)
    pose = np.eye(4)
    pose[:3, 3] = place_ijk
    for value in values:
        worker.add(np.full((1, 1), value, np.uint8), pose)
    return worker


def test_a_single_pixel_reaches_eight_voxels_and_only_near_ones_for_max():
    place = (1.25, 1.5, 2.125)
    for compounding in ("mean", "running_mean"):
        result = one_pixel(place, compounding).result(fill_holes=False)
        assert result.covered.array.sum() == 8
        assert set(result.volume.array[result.covered.array]) == {200}
    near = one_pixel(place, "max").result(fill_holes=False).covered.array
    # weights 0.75 or 0.25, 0.5, 0.875 or 0.125: only those of 0.125 and more
    assert sorted(zip(*np.nonzero(near), strict=True)) == [(2, 1, 1), (2, 2, 1)]
    nearest = one_pixel(place, "latest", "nearest", values=(10, 20)).result(fill_holes=False)
    assert sorted(zip(*np.nonzero(nearest.covered.array), strict=True)) == [(2, 2, 1)]
    assert nearest.volume.array[2, 2, 1] == 20
    assert one_pixel((3, 3, 3), "mean").result().volume.array[3, 3, 3] == 200
    assert one_pixel((3.5, 3, 3), "mean").result().covered.array.sum() == 0


def test_the_running_mean_is_rounded_at_every_pixel():
    """By hand: 10, then (10 + 13) / 2 = 11.5, up to 12, 12 + 1/3, down to 12, 12 + 12/4 = 15; nearest cuts."""
    levels = (10, 13, 13, 24)
    assert one_pixel((1, 1, 1), "running_mean", values=levels).result().volume.array[1, 1, 1] == 15
    assert one_pixel((1, 1, 1), "running_mean", "nearest", levels).result().volume.array[1, 1, 1] == 14
    assert one_pixel((1, 1, 1), "mean", values=levels).result().volume.array[1, 1, 1] == 15
    stuck = one_pixel((1, 1, 1), "running_mean", values=[100] * 20 + [109] * 300).result().volume.array[1, 1, 1]
    moved = one_pixel((1, 1, 1), "mean", values=[100] * 20 + [109] * 300).result().volume.array[1, 1, 1]
    assert stuck == 100
    assert moved == 108


def test_running_mean_sees_the_pixels_in_order_but_for_few():
    """Against the same rule applied pixel by pixel."""
    poses = sweep(3)
    frames = np.rint(film(poses)).astype(np.uint8)[:, :40, :40]
    region = (0, 0, 40, 40)
    result = reconstruct(frames, poses, spacing_mm=1.0, compounding="running_mean", fill_holes=False, region_px=region)
    grid = result.volume.grid
    level, weight = np.zeros(grid.shape), np.zeros(grid.shape)
    for frame, pose in zip(frames, poses, strict=True):
        for row, column in product(range(40), range(40)):
            place = grid.indices_kji((pose @ (column, row, 0, 1))[:3])[0].clip(0)
            for corner in product((0, 1), repeat=3):
                index = tuple(int(i) for i in np.floor(place) + corner)
                share = np.prod([1 - abs(p - i) for p, i in zip(place, index, strict=True)])
                if share > 0 and all(i < n for i, n in zip(index, grid.shape, strict=True)):
                    a = weight[index] + share
                    level[index] = np.floor((share * frame[row, column] + weight[index] * level[index]) / a + 0.5)
                    weight[index] = min(np.round(a * 256) / 256, 65535 / 256)
    both = result.covered.array & (weight > 0)
    assert both.sum() > 300
    assert (np.abs(result.volume.array.astype(float) - level)[both] <= 2).mean() > 0.95


def test_frame_by_frame_is_the_same_as_at_once_and_may_be_looked_at_between():
    poses = sweep(12)
    frames = film(poses)
    whole = reconstruct(frames, poses)
    worker = Reconstructor(whole.volume.grid)
    for n, (frame, pose) in enumerate(zip(frames, poses, strict=True)):
        assert worker.add(frame, pose) == ROWS * COLUMNS
        if n == 5:
            assert worker.result().covered.array.sum() < whole.covered.array.sum()
    np.testing.assert_array_equal(worker.result().volume.array, whole.volume.array)


def test_region_fan_and_frames_without_pose():
    poses = sweep(10)
    frames = film(poses)
    valid = np.ones(10, bool)
    valid[[2, 7]] = False
    broken = poses.copy()
    broken[~valid] = np.nan
    a = reconstruct(frames, broken, valid=valid, region_px=(10, 5, 50, 40))
    b = reconstruct(frames[valid][:, 5:40, 10:50], poses[valid] @ np.array(
        [[1, 0, 0, 10], [0, 1, 0, 5], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    np.testing.assert_allclose(a.volume.array, b.volume.array, atol=1e-2)
    assert (a.frames_used, a.frames_left_out) == (8, 2)
    fan = fan_mask((COLUMNS, ROWS), (40, -10), (-25, 25), (20, 60))
    assert not fan[0, 0]
    assert fan[30, 40]
    assert fan[:, 39].sum() == fan[:, 41].sum()
    assert 0 < reconstruct(frames, poses, region_px=fan).covered.array.sum() < \
        reconstruct(frames, poses).covered.array.sum()


def test_holes_are_closed_between_and_not_beyond():
    k, j, i = np.meshgrid(*(np.arange(16.0),) * 3, indexing="ij")
    values = (5 * i + 3 * j - 2 * k + 60).astype(np.float32)
    known = np.ones(values.shape, bool)
    known[:, 6:9, :] = False
    known[:, :, 14:] = False
    out, filled = fill_holes(values, known)
    np.testing.assert_allclose(out[filled], values[filled], atol=1e-3)
    assert filled[:, 6:9, :14].all()
    assert not filled[:, :, 14:].any()
    np.testing.assert_array_equal(out[known], values[known])
    wide = np.zeros((3, 3, 40), bool)
    wide[..., [0, 39]] = True
    assert not fill_holes(np.ones(wide.shape), wide)[1].any()
    assert not fill_holes(np.ones((4, 4, 4)), np.zeros((4, 4, 4), bool))[1].any()


def test_hostile_input():
    poses, frames = sweep(3), film(sweep(3))
    for change in ({"frames": frames[:2]}, {"frames": frames[0]}, {"frames": np.empty((0, 5, 5))},
                   {"ras_from_image": np.zeros((3, 4, 4))}, {"ras_from_image": np.full((3, 4, 4), np.nan)},
                   {"frames": np.where(frames > 130, np.nan, frames)}, {"spacing_mm": 0.0}, {"spacing_mm": np.nan},
                   {"region_px": (5, 5, 5, 9)}, {"region_px": (0, 0, 900, 9)}, {"interpolation": "cubic"},
                   {"valid": [True]}, {"compounding": "running_mean"}, {"frames": np.zeros((3, 5, 5), complex)}):
        with pytest.raises(InputError):
            reconstruct(**{"frames": frames, "ras_from_image": poses, **change})
    with pytest.raises(RefusedError):
        reconstruct(frames, poses, valid=np.zeros(3, bool))
    far = poses.copy()
    far[1, :3, 3] = 1e9
    with pytest.raises(RefusedError, match="too large"):
        reconstruct(frames, far)
    far[1, :3, 3] = (0, 0, 2e6)  # a thin column: few voxels, but a wide rim of them when its holes are closed
    with pytest.raises(RefusedError, match="too large"):
        reconstruct(frames, far)
    far[2] = np.nan
    with pytest.raises(InputError, match="matrix 2"):  # as the frames are counted, those left out too
        reconstruct(frames, far, valid=[False, True, True])
    with pytest.raises(RefusedError, match="grid"):
        reconstruct(frames, poses, grid=Grid((4, 4, 4), np.eye(4)))
    with pytest.raises(CancelledError):
        reconstruct(frames, poses, cancelled=lambda: True)
    huge = reconstruct(np.full((1, 9, 9), 65535, np.uint16), np.eye(4)[None])
    assert huge.volume.array.max() == pytest.approx(65535)
    flat = reconstruct(np.full((1, 9, 9), 7, np.uint8), np.eye(4)[None], spacing_mm=1.0)  # one frame along the axes
    assert flat.volume.array.shape == (1, 9, 9)
    assert (flat.volume.array == 7).all()


def test_what_was_done_is_said():
    told = []
    result = reconstruct(film(sweep(3)), sweep(3), progress=lambda share, text: told.append((share, text)))
    document = result.to_dict()
    assert document["frame"] == "RAS"
    assert document["frames_used"] == 3
    assert document["validated_on"]
    assert told[0][0] == 0.0
    assert all(b >= a for (a, _), (b, _) in pairwise(told))


CONFIG = """<PlusConfiguration version="2.1"><CoordinateDefinitions>
<Transform From="Image" To="Probe" Matrix="0.5 0 0 0  0 0.5 0 0  0 0 0.5 0  0 0 0 1"/></CoordinateDefinitions>
<VolumeReconstruction {} /></PlusConfiguration>"""


def settings(tmp_path, attributes: str):
    path = tmp_path / "config.xml"
    path.write_text(CONFIG.format(attributes))
    return read_plus_settings(path)


def test_settings_of_a_plus_configuration(tmp_path):
    found = settings(tmp_path, 'OutputSpacing="0.5 0.6 0.7" Interpolation="NEAREST_NEIGHBOR" CompoundingMode="MAXIMUM" '
                               'FillHoles="OFF" ClipRectangleOrigin="10 20" ClipRectangleSize="30 500"')
    assert found.spacing_mm == (0.5, 0.6, 0.7)
    assert (found.interpolation, found.compounding, found.fill_holes) == ("nearest", "max", False)
    assert found.region((100, 80)) == (10, 20, 41, 80)
    fan = settings(tmp_path, 'FanAnglesDeg="-20 20" FanOriginPixel="50 -5" FanRadiusStartPixel="10" '
                             'FanRadiusStopPixel="60"').region((100, 80))
    np.testing.assert_array_equal(fan, fan_mask((100, 80), (50, -5), (-20, 20), (10, 60)))
    assert settings(tmp_path, "").region((100, 80)) is None
    for bad in ('OutputSpacing="1 2"', 'Interpolation="CUBIC"', 'ClipRectangleOrigin="a b" ClipRectangleSize="3 3"'):
        with pytest.raises(InputError):
            settings(tmp_path, bad)
    with pytest.raises(InputError, match="outside"):
        settings(tmp_path, 'ClipRectangleOrigin="500 0" ClipRectangleSize="9 9"').region((100, 80))


@pytest.mark.parametrize("orientation", ["MFA", "UFA", "MNA"])
def test_the_command_puts_pixels_where_the_probe_was(tmp_path, orientation):
    """Frames 2 mm apart along z, each brighter; one lost; the image stored flipped."""
    frames = np.zeros((6, 20, 30), np.uint8)
    for n in range(6):
        frames[n, :, :] = 40 * n + np.arange(30)
    flipped = frames[:, ::-1 if orientation[1] == "N" else 1, ::-1 if orientation[0] == "U" else 1]
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, 2, 3] = 2.0 * np.arange(6)
    status = ["OK"] * 6
    status[5] = "MISSING"
    sequence = TrackedSequence(flipped, np.arange(6) * 0.1, {"ProbeToReference": poses}, {"ProbeToReference": status},
                               orientation)
    path, out = tmp_path / "sweep.igs.mha", tmp_path / "volume.nrrd"
    write_sequence(path, sequence)
    (tmp_path / "config.xml").write_text(CONFIG.format('OutputSpacing="0.5 0.5 0.5"'))
    assert main(["fusion", "reconstruct", str(path), "--config", str(tmp_path / "config.xml"), "--out", str(out),
                 "--interpolation", "nearest", "--json", str(tmp_path / "done.json")]) == 0
    volume = read_volume(out)
    at = np.array([[5.0, 4.0, 2.0 * n] for n in range(5)])  # RAS mm of column 10, row 8
    np.testing.assert_allclose(volume.sample(at, order=0), 40 * np.arange(5) + 10, atol=0.5)
    between = volume.sample(np.array([[5.0, 4.0, 3.0]]), order=0)[0]
    assert 50 < between < 90  # a closed hole
    document = json.loads((tmp_path / "done.json").read_text())
    assert document["frames_left_out"] == 1
    assert document["frame"] == "Reference, its axes written as RAS"  # a tracker's frame is no patient's
    assert any("left out" in note for note in document["notes"])


@pytest.mark.parametrize("held", ["ImageToProbe", "ImageToReference", "header"])
def test_the_calibration_asked_for_stands_for_the_recorded_one(tmp_path, held, capsys):
    """Pixels of 0.5 mm by --image-to-probe, of 0.2 mm by the recording: 20 columns are 9.5 mm wide."""
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, 2, 3] = np.arange(4)
    recorded = poses @ np.diag([0.2, 0.2, 0.2, 1.0])
    transforms = {"ProbeToReference": poses}
    if held != "header":
        transforms[held] = recorded if held == "ImageToReference" else np.tile(np.diag([0.2, 0.2, 0.2, 1.0]), (4, 1, 1))
    header = {"ImageToProbeTransform": "0.2 0 0 0 0 0.2 0 0 0 0 0.2 0 0 0 0 1"} if held == "header" else {}
    path, out = tmp_path / "sweep.igs.mha", tmp_path / "volume.nrrd"

    def made(*more: str) -> int:
        write_sequence(path, TrackedSequence(np.full((4, 10, 20), 9, np.uint8), np.arange(4) * 0.1, transforms,
                                             {name: ["OK"] * 4 for name in transforms}, header=header))
        return main(["fusion", "reconstruct", str(path), "--out", str(out), *more])

    half = "0.5 0 0 0 0 0.5 0 0 0 0 0.5 0 0 0 0 1"
    assert made() == 0
    assert read_volume(out).grid.shape[::-1][:2] == (9, 5)
    assert made("--image-to-probe", half) == 0
    assert read_volume(out).grid.shape[::-1][:2] == (20, 10)
    assert made("--lag", "0.05") == (2 if held == "ImageToReference" else 0)
    assert "ImageToReference: poses" in capsys.readouterr().err or held != "ImageToReference"
    del transforms["ProbeToReference"]
    assert made("--image-to-probe", half) == 2  # never without the calibration that was asked for
