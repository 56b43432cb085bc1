"""The session on real MRML over real sockets: where the live slice lies, what a lag does, what is refused and when."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fusion_cases import (
    IMAGE_TO_PROBE,
    RATE_HZ,
    REGISTRATION,
    SIZE,
    TIP,
    calibration,
    corners_ras,
    frame_number,
    needle_pose,
    probe_pose,
    ready,
    recording,
    registered,
    until,
)
from IRAILib.geometry import InputError, RefusedError


@pytest.fixture
def session(scene):
    from IRAILib.scene.fusion_session import FusionSession

    made = FusionSession()
    yield made
    made.close()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("IRAI")]


def off_mm(session, frame) -> float:
    """Largest distance of the live slice's corners from where the picture truly was."""
    truth = REGISTRATION @ probe_pose(frame_number(frame) / RATE_HZ) @ IMAGE_TO_PROBE
    return float(np.linalg.norm(corners_ras(session.ras_from_pixel(frame)) - corners_ras(truth), axis=1).max())


def worst(session, count: int = 15) -> float:
    """Over so many paired pictures."""
    errors: dict[int, float] = {}

    def enough() -> bool:
        frame = session.live.frame
        if frame is not None and frame.reference_from_pixel is not None:
            errors[frame_number(frame)] = off_mm(session, frame)
        return len(errors) >= count

    until(session, enough, "enough live slices")
    return max(errors.values())


def test_the_live_slice_lies_where_the_picture_was_taken(session) -> None:
    ready(session, recording())
    assert worst(session) < 0.05


def test_a_lag_moves_the_slice_and_setting_it_puts_it_right(session) -> None:
    ready(session, recording(lag_s=0.08))
    assert worst(session) > 1.5
    session.live.set_lag(0.08)
    session.live.frame = None
    assert worst(session) < 0.35  # poses between samples are interpolated; the way turns back at its ends


def test_the_senders_own_calibration_is_believed_but_its_error_is_not_known(session) -> None:
    session.registration = registered()
    session.replay(recording(calibrated=True), loop=True)
    assert worst(session) < 0.05
    chain = session.image_chain()
    assert chain.ok
    assert chain.error_mm is None
    assert chain.unknown == ("ImageToReference",)


@pytest.mark.parametrize(("changes", "what"), [({"size_px": (128, 48)}, "image size"),
                                               ({"orientation": "UN"}, "")])
def test_a_calibration_of_another_setting_is_refused_with_the_live_image(session, changes, what) -> None:
    ready(session, recording())
    until(session, lambda: session.live.frame is not None, "a picture")
    if what:
        with pytest.raises(RefusedError, match=what):
            session.live.set_calibration(calibration(**changes))
        assert session.live.calibration.size_px == SIZE
    else:
        session.live.set_calibration(calibration(**changes))
        until(session, lambda: session.live.not_compared, "compared")
        assert "orientation" in session.live.not_compared


def test_a_setting_that_changes_while_live_breaks_the_chain(session) -> None:
    """The depth is turned at the scanner: pictures of another size come, the numbers go."""
    ready(session, recording())
    session.live.set_calibration(calibration(size_px=(99, 48)), check=False)
    until(session, lambda: session.live.calibration_problem, "the mismatch is seen")
    state = session.state()
    assert not state.image.ok
    assert "image size" in state.image.problem
    assert "set the scanner back" in state.calibration_problem


def test_the_tool_is_guided_and_its_doubt_is_the_chains(session, scene) -> None:
    line = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "Plan")
    target = np.array([10.0, 20.0, 30.0])
    for point in ((0.0, 0.0, 0.0), target):
        line.AddControlPoint([float(v) for v in point])
    session.plan = line
    ready(session, recording())
    until(session, lambda: session.state().guidance.distance_mm is not None, "a distance")
    tips = np.array([(REGISTRATION @ needle_pose(n / RATE_HZ) @ (*TIP, 1.0))[:3] for n in range(50)])
    for _ in range(5):
        session.pump()
        state = session.state()
        assert np.linalg.norm(tips - state.estimate.tip, axis=1).min() < 0.05
        assert state.guidance.distance_mm == pytest.approx(np.linalg.norm(state.estimate.tip - target), abs=1e-6)
    total = 0.5**2 + 1.0**2 + 0.3**2  # tracker (assumed), registration, tip
    assert np.trace(state.estimate.covariance) == pytest.approx(total)
    assert "1.0 mm" in state.tre_text


def test_no_registration_no_number(session, scene) -> None:
    ready(session, recording())
    session.registration = None
    until(session, lambda: session.live.frame is not None, "a picture")
    state = session.state()
    assert state.stale
    assert "register in step 3" in state.why_stale
    assert state.guidance.distance_mm is None
    assert state.estimate.tip is None
    assert "not registered" in state.tre_text
    assert session.ras_from_pixel(session.live.frame) is None


def test_a_pulled_plug_greys_everything(session) -> None:
    ready(session, recording())
    until(session, lambda: not session.state().stale, "guidance")
    session.server.close()
    until(session, lambda: session.state().stale, "stale", 3.0)
    assert session.state().estimate.tip is None
    assert not session.image_chain().ok


def test_a_probe_out_of_view_has_no_slice_but_the_needle_goes_on(session) -> None:
    ready(session, recording(lost=range(50)))
    until(session, lambda: session.live.frame is not None, "a picture")
    assert session.live.frame.reference_from_pixel is None
    assert not session.image_chain().ok
    until(session, lambda: session.state().estimate.tip is not None, "the needle")


def test_recorded_saved_and_played_again(session, scene) -> None:
    """A session in a Sequences browser, with calibration, registration and tips; played in an empty session."""
    from IRAILib.scene.fusion_record import sequence_from_browser
    from IRAILib.scene.fusion_session import FusionSession

    ready(session, recording())
    until(session, lambda: not session.state().stale, "guidance")
    session.start_recording()
    until(session, lambda: session.recorder.count >= 30, "thirty frames")
    browser = session.stop_recording()
    session.disconnect()
    sequence = sequence_from_browser(browser)
    assert len(sequence) >= 30
    assert set(sequence.transforms) == {"ProbeToReference", "NeedleToReference"}
    numbers = sequence.frames[:, 0, 0] // 4
    for number, pose in zip(numbers, sequence.transforms["NeedleToReference"], strict=True):
        np.testing.assert_allclose(pose, needle_pose(number / RATE_HZ), atol=1e-4)
    again = FusionSession()
    try:
        again.replay(browser, loop=True)
        assert again.live.calibration.size_px == SIZE
        assert again.registration.error_mm == 1.0
        assert again.tool == "NeedleToReference"
        assert worst(again, 8) < 1.5  # a pose recorded with a picture is the newest before it, not interpolated
    finally:
        again.close()


def test_a_replay_brings_its_registration_and_takes_it_away_again(session, scene) -> None:
    """The registration in force, and its node, are not lost to a look at an old session."""
    from IRAILib.scene.fusion_registration import find_registration, keep_registration, registration_from_node

    ready(session, recording())
    until(session, lambda: not session.state().stale, "guidance")
    session.start_recording()
    until(session, lambda: session.recorder.count >= 5, "frames")
    browser = session.stop_recording()
    session.disconnect()
    now = registered(error_mm=3.0)
    keep_registration(now)
    session.registration, session.tips = now, {}
    session.live.set_calibration(None)
    session.replay(browser, loop=True)
    assert session.as_recorded
    assert session.registration.error_mm == 1.0
    assert registration_from_node(find_registration(scene)).error_mm == 3.0
    session.disconnect()
    assert (session.registration, session.live.calibration, session.tips) == (now, None, {})
    assert not session.as_recorded
    session.replay(browser, loop=True)
    session.registration = made = registered(error_mm=2.0)
    session.disconnect()
    assert session.registration is made


def test_a_session_without_registration_is_replayed_without(session, scene) -> None:
    ready(session, recording())
    session.registration = None
    until(session, lambda: session.live.frame is not None, "a picture")
    session.start_recording()
    until(session, lambda: session.recorder.count >= 5, "frames")
    browser = session.stop_recording()
    session.disconnect()
    session.registration = registered()
    session.replay(browser, loop=True)
    until(session, lambda: session.live.frame is not None, "a picture")
    assert session.state().guidance.distance_mm is None
    assert "register in step 3" in session.state().why_stale


def test_a_browser_of_something_else_is_refused(session, scene) -> None:
    empty = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Empty")
    with pytest.raises(InputError, match="no recording"):
        session.replay(empty)
    assert session.bridge is None


def test_nothing_to_record_is_said(session) -> None:
    with pytest.raises(InputError, match="nothing to record"):
        session.start_recording()


def test_the_scene_closes_while_it_plays(session, scene) -> None:
    ready(session, recording())
    until(session, lambda: not session.state().stale, "guidance")
    session.start_recording()
    scene.Clear(False)
    session.pump()
    assert session.bridge is None
    assert session.state().stale


def test_poses_are_collected_once_each(session) -> None:
    ready(session, recording())
    until(session, lambda: session.state().estimate.tip is not None, "the needle")
    session.start_collecting()
    until(session, lambda: len(session.collected) >= 12, "poses")
    session.stop_collecting()
    times = [time_s for time_s, _pose in session.collected]
    assert np.diff(times).min() > 1e-3
    count = len(session.collected)
    session.pump()
    assert len(session.collected) == count


def test_collecting_without_a_tool_is_refused(session) -> None:
    with pytest.raises(InputError, match="choose the tool"):
        session.start_collecting()
