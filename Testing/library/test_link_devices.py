"""Tracked tools, C-arm, needle shapes, scan planes: against formulas, recordings and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from IRAILib.geometry import InputError, LinearTransform, NeedleStatus, RefusedError
from IRAILib.link.carm import CArmReceiver, beam_direction, carm_messages, geometry_of, read_values
from IRAILib.link.messages import Image, Point, PointItem, String, TData, Tool, Transform
from IRAILib.link.needle_shape import NeedleShapeReceiver, planning_message, shape_messages
from IRAILib.link.probe import ImagePairing, TrackedTools, frames_of, image_frames
from IRAILib.link.scan_planes import ImageTimes, acquired_s, plane_messages, planes_along, sequence_command
from robot_cases import needle, over_the_wire
from scipy.spatial.transform import Rotation, Slerp


def pose(shift=(0, 0, 0), rotvec=(0, 0, 0)) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = Rotation.from_rotvec(rotvec).as_matrix(), shift
    return out


# --------------------------------------------------------------------------------------------------------------- probe
class Tools(TrackedTools):
    """Tools with a clock that the test winds."""

    def __init__(self, *fixed):
        self.now = 100.0
        super().__init__(list(fixed), clock=lambda: self.now)

    def tell(self, name, matrix, time_s=None, version=2, **metadata):
        time_s = self.now if time_s is None else time_s
        message = Transform(matrix, device=name, time_s=time_s, metadata=metadata, received_s=self.now)
        return self.update(over_the_wire(message, version))


@pytest.mark.parametrize(("name", "frames"), [
    ("ProbeToTracker", ("Probe", "Tracker")), ("StylusTipToStylus", ("StylusTip", "Stylus")),
    ("ToolToTracker", ("Tool", "Tracker")), ("ImageToReference", ("Image", "Reference"))])
def test_plus_names(name, frames):
    assert frames_of(name) == frames


@pytest.mark.parametrize("name", ["", "Probe", "ToTracker", "ProbeTo", "probetotracker", "AToBToC", "CURRENT_POSITION"])
def test_names_that_are_none(name):
    with pytest.raises(InputError):
        frames_of(name)


def test_image_devices():
    assert image_frames("Image_Reference") == ("Image", "Reference")
    with pytest.raises(InputError):
        image_frames("Image")


def test_a_long_name_arrives_in_full():
    tools = Tools()
    assert tools.tell("VeryLongProbeNameToReferenceFrame", pose((1, 2, 3)))
    assert [t.name for t in tools.tools()] == ["VeryLongProbeNameToReferenceFrame"]


def test_silence_is_lost_within_half_a_second_and_shows_no_pose():
    tools = Tools()
    tools.tell("ProbeToTracker", pose((1, 2, 3)))
    tools.now += 0.49
    assert np.allclose(tools.transform("Tracker", "Probe").matrix[:3, 3], (1, 2, 3))
    tools.now += 0.02
    assert tools.transform("Tracker", "Probe") is None
    assert tools.state("ProbeToTracker").lost
    tools.tell("ProbeToTracker", pose((4, 5, 6)))
    assert np.allclose(tools.transform("Tracker", "Probe").matrix[:3, 3], (4, 5, 6))


@pytest.mark.parametrize("metadata", [{"TransformStatus": "MISSING"}, {"TransformStatus": "OUT_OF_VIEW"},
                                      {"TransformStatus": "INVALID"}, {"TransformValid": "0"}])
def test_a_bad_status_is_lost_at_once(metadata):
    tools = Tools()
    tools.tell("ProbeToTracker", pose((1, 2, 3)), TransformStatus="OK")
    tools.now += 0.05
    tools.tell("ProbeToTracker", pose((1, 2, 3)), **metadata)
    assert tools.transform("Tracker", "Probe") is None
    assert tools.state("ProbeToTracker").status != "OK"


def test_the_same_time_again_is_no_news():
    """A tracker that repeats its last measurement doesn't see the tool anew."""
    tools = Tools()
    tools.tell("ProbeToTracker", pose(), time_s=50.0)
    for _ in range(20):
        tools.now += 0.05
        assert not tools.tell("ProbeToTracker", pose(), time_s=50.0)
    assert tools.state("ProbeToTracker").lost


def test_a_lost_connection_takes_all_poses():
    tools = Tools(LinearTransform(pose((0, 0, 5)), "Probe", "Image"))
    tools.tell("ProbeToTracker", pose())
    assert tools.transform("Tracker", "Image") is not None
    tools.disconnect()
    with pytest.raises(InputError, match="no transforms lead"):
        tools.transform("Tracker", "Image")


def test_frames_are_composed_the_right_way_round():
    probe_from_image = pose((0, 10, 0), (0.1, 0, 0))
    tracker_from_probe, tracker_from_reference = pose((1, 2, 3), (0, 0.4, 0.1)), pose((7, 8, 9), (0.3, 0.2, 0))
    tools = Tools(LinearTransform(probe_from_image, "Probe", "Image"))
    tools.tell("ProbeToTracker", tracker_from_probe)
    message = TData([Tool("ReferenceToTracker", 3, tracker_from_reference)], device="TDATA_1Elem", time_s=tools.now,
                    received_s=tools.now)
    tools.update(over_the_wire(message))
    expected = np.linalg.inv(tracker_from_reference) @ tracker_from_probe @ probe_from_image
    found = tools.transform("Reference", "Image")
    assert (found.to_frame, found.from_frame) == ("Reference", "Image")
    assert np.allclose(found.matrix, expected, atol=1e-5)
    tools.now += 0.4
    tools.tell("ProbeToTracker", tracker_from_probe)
    tools.now += 0.2  # the reference is lost, the probe isn't: so is what needs both
    assert tools.transform("Tracker", "Probe") is not None
    assert tools.transform("Reference", "Image") is None


def test_images_get_the_pose_of_their_own_time():
    """Interpolated poses against scipy's Slerp."""
    tools = Tools()
    times = 100 + np.array([0, 0.05, 0.1])
    turns = Rotation.from_rotvec([[0, 0, 0], [0.3, 0.2, 0], [0.1, -0.4, 0.2]])
    pairing = ImagePairing(tools, "Tracker", "Probe", clock=lambda: tools.now)
    image = Image(np.zeros((1, 2, 2), np.uint8), device="Image_Probe", time_s=100.06, received_s=100.06)
    pairing.push(image)
    for i, t in enumerate(times):
        tools.now = t
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turns[i].as_matrix(), (100 * (t - 100), 0, 0)
        tools.tell("ProbeToTracker", matrix)
        if i < 2:
            assert pairing.pop() == []
    paired, = pairing.pop()
    assert paired.image is image
    assert np.allclose(paired.transform.matrix[:3, :3], Slerp(times, turns)(100.06).as_matrix(), atol=1e-5)
    assert np.allclose(paired.transform.matrix[:3, 3], (6, 0, 0), atol=1e-4)


def test_no_pose_is_made_across_a_gap():
    tools = Tools()
    pairing = ImagePairing(tools, "Tracker", "Probe", clock=lambda: tools.now)
    tools.tell("ProbeToTracker", pose(), time_s=100.0)
    pairing.push(Image(np.zeros((1, 2, 2), np.uint8), device="Image_Probe", time_s=100.2, received_s=100.2))
    tools.now = 100.4
    tools.tell("ProbeToTracker", pose((1, 0, 0)), time_s=100.4)
    tools.now = 100.5
    paired, = pairing.pop()
    assert paired.transform is None
    assert "wasn't seen" in paired.reason


def test_plus_recordings_go_through(data):
    """Real recordings: every pose comes out as the file has it, and a stylus that was never seen has none."""
    from IRAILib.images.sequences import read_sequence

    folder, counts = data / "tracked_ultrasound" / "plus", {"OK": 0, "INVALID": 0}
    for file in ("NwirePhantomFreehand.igs.mha", "ReferenceToRASCalibration.igs.mha"):
        sequence = read_sequence(folder / file)
        for name in sequence.transforms.keys() & {"ProbeToTracker", "ReferenceToTracker", "StylusToTracker"}:
            tools, (source, goal) = Tools(), frames_of(name)
            for t, matrix, status in zip(sequence.time_s, sequence.transforms[name], sequence.status[name],
                                         strict=True):
                counts[status] += 1
                tools.now = 100.0 + t
                tools.tell(name, matrix, time_s=tools.now, TransformStatus=status)
                found = tools.transform(goal, source)
                assert (found is not None) == (status == "OK")
                assert found is None or np.allclose(found.matrix, matrix, atol=1e-3)
    assert counts == {"OK": 2 * 97 + 2 * 93, "INVALID": 97}


# --------------------------------------------------------------------------------------------------------------- C-arm
VALUES = {"PositionerPrimaryAngle": 30.0, "PositionerSecondaryAngle": -20.0, "DistanceSourceToDetector": 1200.0,
          "DistanceSourceToPatient": 800.0, "ImagerPixelSpacing": [0.4, 0.3]}  # DICOM: rows first


def carm_image(primary=30.0, secondary=-20.0, shape=(100, 200)) -> tuple[Image, np.ndarray, np.ndarray]:
    """An image 400 mm from the isocentre along the beam, and source and centre, from the angles by scipy alone."""
    turn = Rotation.from_euler("ZX", [primary, secondary], degrees=True)  # about S: A goes left; about R: A goes down
    beam = turn.apply([0, 1, 0])
    right, up = turn.apply([1, 0, 0]), turn.apply([0, 0, 1])
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = right * 0.3, -up * 0.4, np.cross(right, -up)
    matrix[:3, 3] = 400 * beam - right * 0.3 * (shape[1] - 1) / 2 + up * 0.4 * (shape[0] - 1) / 2
    image = Image(np.zeros((1, *shape), np.uint16), matrix, device="Fluoro_Detector", time_s=1000.0)
    return image, -800 * beam, 400 * beam


@pytest.mark.parametrize(("primary", "secondary", "towards"), [
    (0, 0, (0, 1, 0)), (90, 0, (-1, 0, 0)), (0, 90, (0, 0, 1)), (-90, 0, (1, 0, 0))])
def test_angles_as_dicom_has_them(primary, secondary, towards):
    """LAO: the detector goes to the patient's left (R is +x); CRA: towards the head."""
    assert np.allclose(beam_direction(primary, secondary), towards, atol=1e-12)


def test_projection_from_angles_meets_a_ray_formula():
    image, source, center = carm_image()
    geometry = geometry_of(image, VALUES)
    assert np.allclose(geometry.source_mm, source, atol=1e-6)
    assert np.allclose(geometry.center_mm, center, atol=1e-6)
    points = np.random.default_rng(1).uniform(-60, 60, (20, 3))
    inverse = np.linalg.inv(image.ras_from_ijk)
    for point, pixel in zip(points, geometry.project(points), strict=True):
        normal = image.ras_from_ijk[:3, 2]
        share = normal @ (center - source) / (normal @ (point - source))
        hit = inverse @ np.append(source + share * (point - source), 1)
        assert np.allclose(pixel, hit[:2], atol=1e-6)
        assert abs(hit[2]) < 1e-6
        ray = geometry.rays(pixel)[0]
        assert np.linalg.norm(np.cross(point - source, ray)) < 1e-6
    assert np.isnan(geometry.project(source - 10 * (center - source) / 1200)).all()


@pytest.mark.parametrize("version", [1, 2])
def test_a_c_arm_both_ways(version):
    image, source, _ = carm_image()
    geometry = geometry_of(image, VALUES)
    pixels = np.arange(20000, dtype=np.uint16).reshape(100, 200)
    receiver, frame = CArmReceiver(), None
    for message in carm_messages(pixels, geometry, VALUES, time_s=1000.0, v2=version == 2):
        frame = receiver.update(over_the_wire(message, version))
    assert frame.geometry is not None, frame.reason
    assert np.array_equal(np.squeeze(frame.image.array), pixels)
    assert np.allclose(frame.geometry.source_mm, source, atol=1e-2)
    assert np.allclose(frame.geometry.project(np.eye(3) * 30), geometry.project(np.eye(3) * 30), atol=0.05)
    assert frame.values == VALUES


@pytest.mark.parametrize(("change", "words"), [
    ({"PositionerPrimaryAngle": None}, "PositionerPrimaryAngle"), ({"DistanceSourceToDetector": None}, "Distance"),
    ({"PositionerPrimaryAngle": 33.0}, "degrees off"), ({"ImagerPixelSpacing": [0.3, 0.4]}, "ImagerPixelSpacing"),
    ({"DistanceSourceToPatient": 1300.0}, "between"), ({"DistanceSourceToDetector": -5}, "positive"),
    ({"PositionerPrimaryAngle": "thirty"}, "not a number"), ({"TablePosition": [1, 2]}, "3 finite")])
def test_an_incomplete_or_contradicting_c_arm_gives_a_reason_and_no_geometry(change, words):
    image, _, _ = carm_image()
    values = {k: v for k, v in {**VALUES, **change}.items() if v is not None}
    receiver = CArmReceiver()
    image.metadata = {k: "\\".join(map(str, np.atleast_1d(v))) for k, v in values.items()}
    frame = receiver.update(over_the_wire(image, 2))
    assert frame.geometry is None
    assert words in frame.reason


def test_transforms_that_contradict_the_distance_are_refused():
    image, _, _ = carm_image()
    with pytest.raises(InputError, match=r"1000.0 mm by the transforms"):
        geometry_of(image, VALUES, carm_from_source=pose(), carm_from_detector=pose((0, 0, 1000)))


def test_json_of_another_time_is_not_used():
    image, _, _ = carm_image()
    receiver = CArmReceiver()
    receiver.update(over_the_wire(String('{"PositionerPrimaryAngle": 30}', device="Fluoro_Detector", time_s=999.0)))
    assert "no geometry without" in receiver.update(over_the_wire(image)).reason
    receiver.update(over_the_wire(String("[1, 2", device="Fluoro_Detector", time_s=1000.0)))
    assert "JSON" in receiver.update(over_the_wire(image)).reason
    assert read_values({"Other": "1"}) == {}


# -------------------------------------------------------------------------------------------------------- needle shape
def test_needle_shapes_there_and_back():
    depth = np.linspace(0, 100, 50)
    curve = np.column_stack([0.001 * depth**2, np.zeros(50), depth])
    receiver, found = NeedleShapeReceiver(sigma_mm=0.5), None
    for message in shape_messages(curve, package=7, time_s=1.7e9):
        found = receiver.update(over_the_wire(message))
    assert np.allclose(found.tip, (10, 0, 100), atol=1e-4)
    slope = 0.001 * (depth[-1] + depth[-2])
    assert np.allclose(found.direction, np.array([slope, 0, 1]) / math.hypot(slope, 1), atol=1e-4)
    assert np.allclose(found.curve, curve, atol=1e-4)
    assert (found.frame, found.units, found.sigma) == ("zFrame", "mm", pytest.approx(0.5))
    assert found.time_s == pytest.approx(1.7e9)


def points(n, device="NeedleShapeZ"):
    return Point([PointItem(xyz=np.array([0, 0, float(i)])) for i in range(n)], device=device)


@pytest.mark.parametrize(("header", "count", "words"), [
    ("1;2;3;z", 4, "header says 3"), ("1;2;3", 3, "isn't timestamp"), ("1;2;x;z", 3, "whole"), ("1;2;1;z", 1, "2 to"),
    (None, 3, "without a header")])
def test_shapes_that_do_not_fit_their_header(header, count, words):
    receiver = NeedleShapeReceiver()
    if header is not None:
        receiver.update(String(header, device="NeedleShapeHeader"))
    assert receiver.update(points(count)) is None
    assert words in receiver.last_error or "without a header" in receiver.last_error


def test_one_header_is_good_for_one_shape_and_none_outlives_its_connection():
    receiver = NeedleShapeReceiver()
    receiver.update(String("1;2;3;z", device="NeedleShapeHeader"))
    assert receiver.update(points(3)).sigma is None
    assert receiver.update(points(3)) is None
    receiver.update(String("1;5;3;z", device="NeedleShapeHeader"))
    receiver.disconnect()
    assert receiver.update(points(3)) is None
    plan = over_the_wire(planning_message(np.array([1, 2, 3.0]), np.array([4, 5, 6.0])))
    assert [(p.name, tuple(p.xyz)) for p in plan.points] == [("TARGET", (1, 2, 3)), ("ENTRY", (4, 5, 6))]


# --------------------------------------------------------------------------------------------------------- scan planes
def test_scan_planes_hold_the_needle():
    random = np.random.default_rng(5)
    for along in [*np.eye(3), *-np.eye(3), *random.normal(size=(20, 3))]:
        tip = random.uniform(-50, 50, 3)
        planes = planes_along(tip, along * 7)
        unit = along / np.linalg.norm(along)
        for plane in planes:
            assert np.allclose(plane[:3, :3].T @ plane[:3, :3], np.eye(3))
            assert np.linalg.det(plane[:3, :3]) == pytest.approx(1)
            assert np.allclose(plane[:3, 3], tip)
        normals = np.array([plane[:3, 2] for plane in planes])
        assert np.allclose(normals @ normals.T, np.eye(3), atol=1e-9)
        assert np.allclose(normals @ unit, (0, 0, 1), atol=1e-9)  # along, along, across


def test_scan_planes_for_the_scanner():
    messages = [over_the_wire(m) for m in plane_messages(needle())]
    assert [m.device for m in messages] == ["PLANE_0", "PLANE_1", "PLANE_2"]
    assert np.allclose(messages[2].matrix[:3, 2], (0, 0, 1))
    assert over_the_wire(sequence_command(True)).text == "START_SEQUENCE"
    assert over_the_wire(sequence_command(False)).text == "STOP_SEQUENCE"


@pytest.mark.parametrize("values", [
    {"status": NeedleStatus.LOST, "tip": None, "covariance": None}, {"units": "px"}, {"frame": "Image"},
    {"direction": None}, {"covariance": None}, {"covariance": np.eye(3) * 400}])
def test_no_planes_for_a_needle_that_is_not_known(values):
    with pytest.raises(RefusedError, match="scan planes"):
        plane_messages(needle(**values))


def test_bad_directions():
    for direction in ((0, 0, 0), (math.nan, 0, 1), (1, 2)):
        with pytest.raises(InputError):
            planes_along(np.zeros(3), np.array(direction, float))


def test_images_get_their_own_timestamp():
    times = ImageTimes(max_images=2)

    def image(t):
        return Image(np.zeros((1, 2, 2), np.uint8), device="MR", time_s=t)

    assert times.update(image(10.0)) == []
    ready = times.update(String("1700000000.25", device="IMAGE_TIMESTAMP", time_s=10.0))
    assert [r.acquired_s for r in ready] == [1700000000.25]
    times.update(String("5.0", device="IMAGE_TIMESTAMP", time_s=11.0))
    assert [r.acquired_s for r in times.update(image(11.0))] == [5.0]
    ready = [r for t in (12.0, 13.0, 14.0) for r in times.update(image(t))]
    assert [r.acquired_s for r in ready] == [None]  # given up, and no other image's time taken
    assert acquired_s("2024-01-01T00:00:00") == 1704067200.0
    assert acquired_s("soon") is None
