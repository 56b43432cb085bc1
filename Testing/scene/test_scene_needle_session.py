"""A needle followed through real sockets into the scene, without a panel; slow, wrong and missing partners included."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from needle_cases import MM_PER_PX, DotDetector, dot_recording, probe_pose

PATIENCE_S = 20.0


@pytest.fixture
def session(scene):
    from IRAILib.scene.needle_session import NeedleSession

    session = NeedleSession(scene)
    yield session
    session.close()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("IRAI")]


def until(session, condition, what: str = "") -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}; {session.state()}"
        session.pump()
        time.sleep(0.005)


def test_the_tip_lies_on_its_true_way_in_the_tracked_frame(session, scene) -> None:
    """Against pixels mapped by hand through calibration and probe pose; the status, sigma and age go with it."""
    recording, tips, matrix = dot_recording()
    session.replay(recording, loop=True)
    session.start_tracking(detector=DotDetector())
    until(session, lambda: sum(e.tip is not None for e in session.log) > 8, "tips")
    truth = np.array([matrix[:3, :3] @ (x, y, 0.0) + matrix[:3, 3] for x, y in tips])
    seen = [e for e in session.log if e.tip is not None]
    assert max(np.linalg.norm(truth - e.tip, axis=1).min() for e in seen) < 0.8
    assert all(e.frame == "RAS" and e.units == "mm" for e in seen)
    way = matrix[:3, :3] @ (2.0, 1.0, 0.0)
    until(session, lambda: session.state().status is not None and session.state().status.value == "seen", "seen")
    np.testing.assert_allclose(seen[-1].direction, way / np.linalg.norm(way), atol=0.1)
    state = session.state()
    assert state.sigma is not None
    assert state.validated_on
    assert state.budget is not None
    assert state.rate_hz > 2
    image = scene.GetFirstNode("Image_Reference", "vtkMRMLScalarVolumeNode")
    np.testing.assert_allclose(image.GetSpacing()[:2], MM_PER_PX, atol=1e-4)
    pose = scene.GetFirstNode("ProbeToReference", "vtkMRMLLinearTransformNode")
    from mrml_cases import matrix_of

    np.testing.assert_allclose(matrix_of(pose, "GetMatrixTransformToParent"), probe_pose(), atol=1e-4)


def test_the_users_scale_lays_picture_and_needle_alike(session, scene) -> None:
    from IRAILib.needle.ultrasound.scale import PixelScale

    recording, tips, matrix = dot_recording(scale=False)
    session.replay(recording, loop=True)
    session.start_tracking(detector=DotDetector(), scale=PixelScale(0.2, 0.2, "user"))
    until(session, lambda: sum(e.tip is not None for e in session.log) > 5, "tips")
    image = scene.GetFirstNode("Image_Reference", "vtkMRMLScalarVolumeNode")
    np.testing.assert_allclose(image.GetSpacing()[:2], (0.2, 0.2), atol=1e-5)
    laid = matrix @ np.diag([0.2, 0.2, 1.0, 1.0])
    truth = np.array([laid[:3, :3] @ (x, y, 0.0) + laid[:3, 3] for x, y in tips])
    assert max(np.linalg.norm(truth - e.tip, axis=1).min() for e in session.log if e.tip is not None) < 0.5


def test_a_contradicting_scale_gives_no_mm(session) -> None:
    from IRAILib.needle.ultrasound.scale import PixelScale

    session.replay(dot_recording()[0], loop=True)
    session.start_tracking(detector=DotDetector(), scale=PixelScale(0.9, 0.9, "user"))
    until(session, lambda: session.stream.frames > 5, "frames")
    until(session, lambda: "give only the right one" in session.state().problem, "the contradiction is said")
    assert {e.units for e in session.log} <= {"px"}
    assert session.state().guidance.distance_mm is None
    assert session.forwardable() is None


def test_a_detector_that_hangs_does_not_hold_up_the_window(session) -> None:
    """The detector waits for an event that only comes after several pumps: a pump that waited for it would not end."""
    go, inside = threading.Event(), threading.Event()

    class Hanging(DotDetector):
        def detect(self, frames, *, mm_per_px=None):
            inside.set()
            go.wait(PATIENCE_S)
            return super().detect(frames, mm_per_px=mm_per_px)

    session.replay(dot_recording()[0], loop=True)
    session.start_tracking(detector=Hanging())
    until(session, inside.is_set, "the detector began")
    done = []
    for _ in range(5):
        session.pump()
        done.append(session.state().status_text)
    assert not go.is_set()
    assert done == ["NO DATA"] * 5
    go.set()


def test_a_detector_that_hangs_after_an_answer_lets_it_age_to_lost(session) -> None:
    """What was seen before turns lost while nobody looks any more."""
    go, hang = threading.Event(), threading.Event()

    class Hanging(DotDetector):
        def detect(self, frames, *, mm_per_px=None):
            if hang.is_set():
                go.wait(PATIENCE_S)
            return super().detect(frames, mm_per_px=mm_per_px)

    session.replay(dot_recording()[0], loop=True)
    session.start_tracking(detector=Hanging())
    until(session, lambda: session.state().status_text == "SEEN", "seen")
    hang.set()
    until(session, lambda: session.state().status_text.startswith("LOST"), "lost")
    assert not go.is_set()
    go.set()


def test_a_detector_that_fails_is_said_and_shows_nothing(session) -> None:
    class Failing(DotDetector):
        def detect(self, frames, *, mm_per_px=None):
            raise KeyError("presence")

    session.replay(dot_recording()[0], loop=True)
    session.start_tracking(detector=Failing())
    until(session, lambda: bool(session.state().problem), "the failure is said")
    assert session.state().status_text == "NO DATA"


def test_a_pulled_plug_is_lost_and_a_new_start_works(session) -> None:
    session.replay(dot_recording()[0], loop=True)
    session.start_tracking(detector=DotDetector())
    until(session, lambda: session.state().status_text == "SEEN", "seen")
    session.server.close()
    until(session, lambda: session.state().status_text.startswith("LOST"), "lost")
    assert session.view.node("tip").GetAttribute("IRAI.Needle.Status") == "lost", "panel and views say the same"
    assert session.state().sigma is None
    assert session.forwardable() is None
    session.replay(dot_recording()[0], loop=True)
    session.start_tracking(detector=DotDetector())
    until(session, lambda: session.state().status_text == "SEEN", "seen again")


def test_recording_holds_what_came_with_the_senders_times(session) -> None:
    from IRAILib.scene.link_record import sequence_times_s

    session.replay(dot_recording()[0], loop=True)
    until(session, lambda: bool(session.image_devices()), "pictures")
    session.start_recording()
    until(session, lambda: session.recorder.count >= 8, "frames")
    browser = session.stop_recording()
    steps = np.diff(sequence_times_s(browser))
    np.testing.assert_allclose(steps / 0.05, np.round(steps / 0.05), atol=0.05)
    assert browser.GetNumberOfSynchronizedSequenceNodes(True) >= 2


def test_what_can_not_be_done_is_refused_in_words(session, tmp_path) -> None:
    from IRAILib.geometry import InputError

    with pytest.raises(InputError, match="connect"):
        session.start_tracking()
    with pytest.raises(InputError, match="nothing to record"):
        session.start_recording()
    with pytest.raises(InputError, match="no tips"):
        session.save_tips(tmp_path / "t.csv")
    (tmp_path / "broken.igs.mha").write_bytes(b"no recording")
    with pytest.raises(InputError):
        session.replay(tmp_path / "broken.igs.mha")
    assert not session.connected


def test_needles_of_a_volume_are_shown_and_replace_the_ones_before(scene) -> None:
    import slicer
    from IRAILib.geometry import InputError
    from IRAILib.scene.needle_volume import detect_in_volume
    from test_scene_needle import estimate

    volume = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), name="CT")
    found = [estimate(confidence=0.6, tip=np.array([1.0, 2, 3])), estimate(confidence=0.9)]
    asked = []

    def run(target, kwargs, **_options):
        asked.append((target, kwargs["volume"].array.shape))
        return list(found)

    got = detect_in_volume(volume, "CT", run=run, scene=scene)
    assert asked == [("IRAILib.needle.ct:find_needles_ct", (4, 5, 6))]
    assert [e.confidence for e in got] == [0.9, 0.6]
    assert len(slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")) == 2
    found.pop()
    detect_in_volume(volume, "CT", run=run, scene=scene)
    tips = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    assert len(tips) == 1
    np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(tips[0]), [[1, 2, 3]])
    with pytest.raises(InputError, match="CT and MR"):
        detect_in_volume(volume, "XA", run=run)


def test_a_steel_needle_in_a_ct_node_is_found_where_it_was_painted(scene) -> None:
    """The real finder in its worker process, on a needle painted into soft tissue: oblique voxels, known tip."""
    import slicer
    from IRAILib.scene.needle_volume import detect_in_volume

    spacing, shape = np.array([0.8, 0.8, 1.0]), (70, 110, 110)
    k, j, i = np.mgrid[: shape[0], : shape[1], : shape[2]]
    points = np.stack([i, j, k], -1) * spacing
    array = np.where(np.hypot(points[..., 0] - 44, points[..., 1] - 44) < 40, 40.0, -1000.0)
    array += np.random.default_rng(1).normal(0, 8, shape)
    tip, way = np.array([44.0, 40.0, 34.0]), np.array([0.0, 0.97, 0.24])
    way /= np.linalg.norm(way)
    along = (points - tip) @ way
    off = np.linalg.norm(points - tip - along[..., None] * way, axis=-1)
    array = np.where((along > 0) & (along < 75) & (off < 1.0), 3000.0, array)
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = -40.0, 25.0, 100.0
    node = slicer.util.addVolumeFromArray(array.astype(np.int16), matrix, "CT")
    found = detect_in_volume(node, "CT", scene=scene)
    assert found
    assert np.linalg.norm(found[0].tip - (tip + matrix[:3, 3])) < 2.0


def test_live_mr_slices_give_a_tip_in_the_scene_and_planes_to_the_scanner(session) -> None:
    """A scanner that sends 1 mm slices and gets planes back: the tip's node lies at the needle, the planes hold it."""
    from IRAILib.link.messages import Image
    from IRAILib.link.server import LinkServer
    from IRAILib.scene.link_store import LinkSettings

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))
    from needle_live_cases import ENTRY, WAY, first_plane, mr_slice

    rng, plane = np.random.default_rng(7), first_plane()
    with LinkServer() as scanner:
        session.connect(LinkSettings(name="MR", host="127.0.0.1", port=scanner.port))
        until(session, lambda: bool(scanner.clients()), "the scanner's client")
        session.start_tracking(modality="MR", send_planes=True)
        for number in range(6):
            tip = ENTRY + (62.0 + 2.0 * number) * WAY
            array, matrix = mr_slice(plane, tip, rng)
            planes = {}

            def answered(planes=planes, frames=session.stream.frames + 1, wanted=3 if number > 1 else 0):
                planes.update({m.device: m.matrix for m in scanner.drain() if m.TYPE == "TRANSFORM"})
                return session.stream.frames >= frames and len(planes) >= wanted

            scanner.send(Image(array=array, ras_from_ijk=matrix, device="MR", time_s=1000.0 + 0.4 * number))
            until(session, answered, f"slice {number} and its planes: {session.planes.text}")
            plane = np.asarray(planes.get(f"PLANE_{number % 2}", plane), float)
        until(session, lambda: session.log[-1].time_s > 1001.9, "the last slice in the scene")
        assert session.log[-1].units == "mm"
        assert np.linalg.norm(session.log[-1].tip - tip) < 2.8
        assert session.state().planes_text.startswith("Scan planes sent: ")
        assert abs((tip - plane[:3, 3]) @ plane[:3, 2]) < 2.0
    until(session, lambda: session.state().status_text.startswith("LOST"), "lost with the scanner")


def test_live_modalities_that_do_not_exist_are_refused(session) -> None:
    from IRAILib.geometry import InputError

    session.replay(dot_recording()[0], loop=True)
    with pytest.raises(InputError, match="PET"):
        session.start_tracking(modality="PET")
    assert not session.state().tracking
