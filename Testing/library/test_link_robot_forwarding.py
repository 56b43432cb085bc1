"""Tip forwarding with a dead-man switch: every reason not to send, with clocks of ours."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from IRAILib.geometry import InputError, NeedleStatus
from IRAILib.link.options import LinkState
from IRAILib.link.robot import ForwardLimits, TipForwarder
from IRAILib.link.robot.forwarding import pose_along
from robot_cases import needle, over_the_wire


class Client:
    """As much of a LinkClient as a forwarder asks for; it keeps what was sent."""

    def __init__(self):
        self.sent, self.connects, self.state = [], 1, LinkState.CONNECTED

    def status(self):
        return SimpleNamespace(state=self.state, connects=self.connects)

    def send(self, message, *, priority=False):
        self.sent.append(message)
        return True


class Forwarding:
    def __init__(self, **limits):
        self.now, self.client = 1000.0, Client()
        self.forwarder = TipForwarder(self.client, limits=ForwardLimits(**limits), clock=lambda: self.now,
                                      wall_clock=lambda: self.now)

    def tip(self, tip=(1, 2, 3), **values):
        self.now += 0.02
        return self.forwarder.forward(needle(**{"tip": tip, "time_s": self.now - 0.01, **values}))


def test_a_good_tip_is_forwarded_only_while_the_switch_is_held():
    forwarding = Forwarding()
    assert "isn't held" in forwarding.tip().reason
    forwarding.forwarder.hold()
    assert forwarding.tip(direction=np.array([0, 0.6, 0.8])).sent
    sent = over_the_wire(forwarding.client.sent[0])
    assert sent.device == "NeedleTip"
    assert np.allclose(sent.matrix[:3, 3], (1, 2, 3))
    assert np.allclose(sent.matrix[:3, 2], (0, 0.6, 0.8), atol=1e-6)
    forwarding.forwarder.release()
    assert not forwarding.tip().sent
    assert len(forwarding.client.sent) == 1


@pytest.mark.parametrize(("values", "words"), [
    ({"status": NeedleStatus.COASTING}, "coasting"), ({"status": NeedleStatus.LOST, "tip": None}, "lost"),
    ({"units": "px"}, "pixels"), ({"frame": "Image"}, "frame"), ({"time_s": 990.0}, "old"), ({"age_s": 1.0}, "old"),
    ({"time_s": 2000.0}, "future"), ({"covariance": None}, "unknown"), ({"covariance": np.eye(3) * 9}, "uncertainty"),
    ({"confidence": 0.1}, "confidence"), ({"confidence": math.nan}, "confidence"), ({"direction": None}, "direction")])
def test_every_reason_not_to_forward(values, words):
    forwarding = Forwarding()
    forwarding.forwarder.hold()
    refused = forwarding.tip(**values)
    assert not refused.sent
    assert words in refused.reason
    assert forwarding.client.sent == []
    assert forwarding.tip().sent  # a good one after it goes


def test_a_jump_lets_go_until_the_switch_is_pressed_anew():
    forwarding = Forwarding()
    forwarding.forwarder.hold()
    assert forwarding.tip((0, 0, 0)).sent
    assert "jumped by 6.0 mm" in forwarding.tip((6, 0, 0)).reason
    forwarding.forwarder.hold()  # still pressed
    assert not forwarding.tip((0, 0, 0)).sent
    forwarding.forwarder.release()
    forwarding.forwarder.hold()
    assert forwarding.tip((6, 0, 0)).sent


def test_the_same_image_is_forwarded_once():
    forwarding = Forwarding()
    forwarding.forwarder.hold()
    assert forwarding.tip(time_s=1000.0).sent
    assert "already" in forwarding.tip(time_s=1000.0).reason


def test_a_frozen_interface_lets_go():
    forwarding = Forwarding()
    forwarding.forwarder.hold()
    assert forwarding.tip().sent
    forwarding.now += 0.6
    assert "in time" in forwarding.tip().reason
    forwarding.forwarder.hold()
    assert not forwarding.tip().sent


@pytest.mark.parametrize("loss", ["gone", "back again"])
def test_a_lost_connection_lets_go(loss):
    forwarding = Forwarding()
    forwarding.forwarder.hold()
    assert forwarding.tip().sent
    forwarding.client.connects += 1
    if loss == "gone":
        forwarding.client.state = LinkState.DISCONNECTED
    assert "connection" in forwarding.tip().reason
    forwarding.client.state = LinkState.CONNECTED
    assert not forwarding.tip().sent
    assert len(forwarding.client.sent) == 1


def test_poses_along_a_needle_are_rigid():
    for direction in [*np.eye(3), *np.random.default_rng(2).normal(size=(20, 3))]:
        matrix = pose_along(np.array([1.0, 2, 3]), direction)
        assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3))
        assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1)
        assert np.allclose(matrix[:3, 2], direction / np.linalg.norm(direction))
    with pytest.raises(InputError):
        pose_along(np.zeros(3), np.zeros(3))
