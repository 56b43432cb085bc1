"""Calibrations of the PLUS toolkit's test data against the results that PLUS published with them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from IRAILib.cli.main import main
from IRAILib.geometry import RefusedError
from IRAILib.images.sequences import TrackedSequence, read_sequence
from IRAILib.link.replay_frames import read_plus_config
from IRAILib.navigation.line_signal import line_rows
from IRAILib.navigation.nwire import calibrate_nwire, middle_points
from IRAILib.navigation.pivot import calibrate_pivot
from IRAILib.navigation.plus_files import chained, read_patterns, read_phantom_landmarks, read_published, read_results
from IRAILib.navigation.probe import ProbeCalibration
from IRAILib.navigation.spin import calibrate_spin
from IRAILib.navigation.temporal import TemporalCalibration, calibrate_lag

CORNERS = np.array([[0, 0], [819, 0], [0, 615], [819, 615], [410, 308]], float)
PUBLISHED_ERROR_MM = {"CalibrationData": 0.479116, "ValidationData": 0.539932}
"""ReprojectionError3DStatistics of the results.xml: mean of the best 95 % of the middle wires' 3D errors."""


@pytest.fixture(scope="module")
def plus(data: Path) -> Path:
    return data / "tracked_ultrasound" / "plus"


@pytest.fixture(scope="module")
def config(plus: Path) -> Path:
    return plus / "config" / "PlusDeviceSet_fCal_Sim_SpatialCalibration_2.0.xml"


@pytest.fixture(scope="module")
def results(plus: Path) -> Path:
    return plus / "FreehandCalibration3NWires_fCal2.0.results.xml"


@pytest.fixture(scope="module")
def probe(results: Path, config: Path) -> ProbeCalibration:
    patterns = read_patterns(config)
    frames = read_results(results, patterns)
    poses, valid = chained("PhantomToProbe", len(frames), frames.poses, frames.valid, read_plus_config(config))
    return calibrate_nwire(frames.points_px, patterns, poses, valid, size_px=frames.size_px)


def tracked(plus: Path, name: str, wanted: str) -> tuple[TrackedSequence, np.ndarray, np.ndarray]:
    sequence = read_sequence(plus / name, mapped=True)
    poses, valid = chained(wanted, len(sequence), sequence.transforms,
                           {key: sequence.valid(key) for key in sequence.transforms})
    return sequence, poses, valid


def test_the_published_image_to_probe_is_met_at_the_corners(probe: ProbeCalibration, results: Path) -> None:
    name, published = read_published(results)
    assert name == "ImageToProbe"
    theirs = CORNERS @ published[:3, :2].T + published[:3, 3]
    assert np.linalg.norm(probe.points_mm(CORNERS) - theirs, axis=1).max() < 0.001
    assert np.allclose(probe.probe_from_image, published, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("part", ["CalibrationData", "ValidationData"])
def test_the_published_errors_are_met(probe: ProbeCalibration, results: Path, config: Path, part: str) -> None:
    patterns = read_patterns(config)
    frames = read_results(results, patterns, part=part)
    poses, _ = chained("PhantomToProbe", len(frames), frames.poses, frames.valid, read_plus_config(config))
    truth = np.einsum("nij,npj->npi", poses[:, :3, :3], middle_points(frames.points_px, patterns))
    truth += poses[:, None, :3, 3]
    errors = np.sort(np.linalg.norm(probe.points_mm(frames.points_px[:, 1::3].reshape(-1, 2)) - truth.reshape(-1, 3),
                                    axis=1))
    assert errors[:round(0.95 * len(errors))].mean() == pytest.approx(PUBLISHED_ERROR_MM[part], abs=5e-4)


def test_frames_that_were_held_out_err_as_much_as_the_calibration_says(probe: ProbeCalibration, results: Path,
                                                                       config: Path) -> None:
    patterns = read_patterns(config)
    frames = read_results(results, patterns, part="ValidationData")
    poses, _ = chained("PhantomToProbe", len(frames), frames.poses, frames.valid, read_plus_config(config))
    truth = np.einsum("nij,npj->npi", poses[:, :3, :3], middle_points(frames.points_px, patterns))
    truth += poses[:, None, :3, 3]
    off = probe.points_mm(frames.points_px[:, 1::3].reshape(-1, 2)) - truth.reshape(-1, 3)
    rms = np.sqrt(np.nanmean((off**2).sum(axis=1)))
    assert 0.8 < rms / probe.held_out_rms_mm < 1.2


def test_one_row_of_wires_alone_is_refused(results: Path, config: Path) -> None:
    patterns = read_patterns(config)
    frames = read_results(results, patterns)
    poses, valid = chained("PhantomToProbe", len(frames), frames.poses, frames.valid, read_plus_config(config))
    level = np.abs(frames.points_px[:, 4, 1] - 312) < 3
    with pytest.raises(RefusedError, match="one depth"):
        calibrate_nwire(frames.points_px[level][:, 3:6], patterns[1:2], poses[level], valid[level])


def test_another_depth_is_refused(probe: ProbeCalibration) -> None:
    assert "depth" in probe.check_image(size_px=(820, 616), mm_per_px=(0.0803, 0.0745))
    with pytest.raises(RefusedError, match="pixel size"):
        probe.check_image(size_px=(820, 616), mm_per_px=(0.107, 0.099))


@pytest.fixture(scope="module")
def lines(plus: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    video = read_sequence(plus / "WaterTankBottomTranslationVideoBuffer.igs.mha")
    assert video.frames is not None
    return video.time_s, *line_rows(video.frames)


def test_the_line_is_where_plus_found_it(plus: Path, lines) -> None:
    _, rows, tilts = lines
    middle = (82 + 820 - 82 - 1) / 2
    theirs, angles = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for frame in ElementTree.parse(plus / "LineSegmentationResultsBaseline.xml").getroot().iter("Frame"):
        if frame.get("SegmentationStatus") == "OK":
            x, y = (float(v) for v in frame.get("LineOriginPointPx", "").split())
            dx, dy = (float(v) for v in frame.get("LineDirectionVectorPx", "").split())
            number = int(frame.get("Index", -1))
            theirs[number], angles[number] = y + (middle - x) * dy / dx, np.degrees(np.arctan(dy / dx))
    off = np.abs(rows - theirs)
    assert np.isfinite(off).sum() > 190
    assert np.nanmedian(off) < 1.0
    assert np.nanmax(off) < 4.0
    assert np.nanmedian(np.abs(tilts - angles)) < 0.5


def test_the_published_lag_is_met(plus: Path, lines) -> None:
    times, rows, _ = lines
    baseline = ElementTree.parse(plus / "TemporalCalibrationResultsBaseline.xml").getroot()
    published = float(baseline.get("TrackerLagSec", "nan"))
    sequence, poses, valid = tracked(plus, "WaterTankBottomTranslationTrackerBuffer-trimmed.igs.mha",
                                     "ProbeToReference")
    result: TemporalCalibration = calibrate_lag(times, rows, sequence.time_s[valid], poses[valid][:, :3, 3])
    assert abs(result.lag_s - published) < 0.005
    assert abs(result.lag_s - published) < 3 * result.sigma_s
    assert result.correlation > 0.95


@pytest.mark.parametrize("name", ["ReferenceToRASCalibration.igs.mha", "SpinePhantomFreehand.igs.mha",
                                  "fCal_Test_Calibration_3NWires_fCal2.0.igs.mha",
                                  "WaterTankBottomTranslationTrackerBuffer-trimmed.igs.mha"])
def test_a_stylus_that_was_not_turned_in_a_dimple_gives_no_tip_and_no_shaft(plus: Path, name: str) -> None:
    _, poses, valid = tracked(plus, name, "StylusToReference")
    with pytest.raises(RefusedError):
        calibrate_pivot(poses, valid, tool="Stylus")
    with pytest.raises(RefusedError):
        calibrate_spin(poses, valid, tool="Stylus")


def test_landmarks_of_a_phantom_are_read(config: Path) -> None:
    names, points = read_phantom_landmarks(config)
    assert names == [f"#{n}" for n in range(1, 9)]
    assert np.allclose(points[0], [104.3, 5.0, 20.0])


def test_the_command_gives_the_same_and_names_its_frame(plus: Path, config: Path, results: Path, tmp_path: Path,
                                                        probe: ProbeCalibration) -> None:
    assert main(["fusion", "calibrate", "nwire", str(results), "--config", str(config), "--json",
                 str(tmp_path / "probe.json")]) == 0
    values = json.loads((tmp_path / "probe.json").read_text())
    assert (values["frame"], values["from_frame"], values["units"]) == ("Probe", "Image", "mm")
    assert np.array_equal(ProbeCalibration.from_dict(values).probe_from_image, probe.probe_from_image)
    stylus = plus / "ReferenceToRASCalibration.igs.mha"
    assert main(["fusion", "calibrate", "pivot", str(stylus), "--json", str(tmp_path / "x.json")]) == 3
