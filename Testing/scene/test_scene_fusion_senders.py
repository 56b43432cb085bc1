"""What a sender may send beside pictures and tools: second words on what the user gave, frames onto themselves, poses
that don't reach the picture. Nothing of it may end the beat, and nothing contradictory may be believed."""

from __future__ import annotations

import numpy as np
import pytest
from fusion_cases import REGISTRATION, calibration, needle_pose, probe_pose, registered, turned
from IRAILib.link.messages import Image, Transform
from IRAILib.scene.fusion_guide import ToolTip

BEGIN_S = 1000.0


@pytest.fixture
def session(scene):
    """The session without a socket: its live input is fed by hand, its clock is ours."""
    from IRAILib.scene.fusion_session import FusionSession

    made = FusionSession(clock=lambda: BEGIN_S)
    made.live.set_calibration(calibration(), check=False)
    made.registration = registered()
    made.tool = "NeedleToReference"
    feed(made)
    return made


def feed(session, *more, image_s: float = BEGIN_S, received_s: float = BEGIN_S) -> None:
    poses = {"ProbeToReference": probe_pose(0.3), "NeedleToReference": needle_pose(0.3), **dict(more)}
    for time_s in (BEGIN_S - 0.01, BEGIN_S + 0.01):
        for name, matrix in poses.items():
            session.live.take(Transform(device=name, matrix=matrix, time_s=time_s, received_s=BEGIN_S))
        session.live.take(Image(device="Image", array=np.zeros((1, 48, 64), np.uint8), ras_from_ijk=np.eye(4),
                                time_s=image_s, received_s=received_s))
    session.live.pair()


def test_the_fixture_guides(session) -> None:
    state = session.state()
    assert (state.stale, state.image.ok, state.tool.ok) == (False, True, True)
    assert not state.tip_calibrated
    session.tips["Needle"] = ToolTip()
    assert session.state().tip_calibrated


@pytest.mark.parametrize("word", ["ImageToProbe", "ProbeToProbe"])
def test_a_senders_own_calibration_or_a_frame_onto_itself_ends_no_beat(session, word) -> None:
    """PLUS can send ImageToProbe as a transform, with the pixel size in it."""
    feed(session, (word, calibration().probe_from_image if word == "ImageToProbe" else np.eye(4)))
    state = session.state()
    assert state.image.ok
    assert state.image.error_mm is not None


@pytest.mark.parametrize("name", ["ReferenceToRAS", "ReferenceToProbe", "ImageToProbe"])
def test_a_contradicting_sender_is_not_believed_and_said(session, name) -> None:
    feed(session, (name, np.eye(4)))
    state = session.state()
    assert not state.image.ok
    assert name in state.image.problem
    if name == "ReferenceToRAS":
        assert (state.stale, state.guidance.distance_mm, state.estimate.tip) == (True, None, None)


def test_a_sender_that_says_the_same_registration_is_no_contradiction(session) -> None:
    feed(session, ("ReferenceToRAS", turned((25.0, -40.0), (30.0, -60.0, 100.5))))
    state = session.state()
    assert state.image.ok
    link = next(link for link in state.image.links if link.name == "ReferenceToRAS")
    assert np.allclose(link.matrix, REGISTRATION)
    assert link.error_mm == 1.0


def test_a_picture_whose_pose_is_not_known_is_no_live_slice(session) -> None:
    """Tools are live, but the picture was taken when nobody saw them: its chain is broken, and says why."""
    session.tool = ""
    session.live.clear()
    feed(session, image_s=BEGIN_S - 10.0, received_s=BEGIN_S - 0.3)
    assert session.live.frame.reference_from_pixel is None
    state = session.state()
    assert not state.image.ok
    assert state.stale
    assert "seen" in state.why_stale
