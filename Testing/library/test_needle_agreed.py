"""Two detectors for one picture: who is asked when, and what counts as the same needle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from IRAILib.needle.ultrasound.agreed import AgreedDetector, same_needle
from IRAILib.needle.ultrasound.detection import FrameDetection

FRAMES = np.zeros((3, 300, 400), np.uint8)  # its diagonal is 500 pixels
WAY = np.array([0.8, 0.6])
NEEDLE = FrameDetection(True, np.array([200.0, 150.0]), WAY, np.array([40.0, 30.0]), np.eye(2), 1.0, 0.9, 0.8, 0.2)


class Saying:
    """A detector that says what it is told, and counts how often it was asked."""

    stack_length, method = 3, "saying"

    def __init__(self, said: FrameDetection, best: FrameDetection = NEEDLE) -> None:
        self.said, self.best, self.asked = said, best, 0

    def detect(self, _frames, *, mm_per_px=None) -> FrameDetection:
        self.asked += 1
        return self.said

    def candidate(self, _frames) -> FrameDetection:
        return self.best


def nothing(confidence: float) -> FrameDetection:
    return FrameDetection(False, confidence=confidence, method="network")


def moved(along_px: float, across_px: float, turn_deg: float = 0.0) -> FrameDetection:
    turn = np.deg2rad(turn_deg)
    way = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ WAY
    tip = NEEDLE.tip_px + along_px * WAY + across_px * np.array([-WAY[1], WAY[0]])
    return replace(NEEDLE, tip_px=tip, direction=way)


def test_a_network_that_is_sure_is_not_asked_twice() -> None:
    line = Saying(NEEDLE)
    assert AgreedDetector(Saying(NEEDLE), line).detect(FRAMES) is NEEDLE
    clear = nothing(0.1)
    assert AgreedDetector(Saying(clear), line).detect(FRAMES) is clear
    assert line.asked == 0


def test_a_doubt_is_settled_by_the_same_line_and_by_no_other() -> None:
    found = AgreedDetector(Saying(nothing(0.6)), Saying(moved(30.0, 4.0, 2.0))).detect(FRAMES)
    assert found.found
    assert found.in_plane is None
    np.testing.assert_allclose(found.tip_px, NEEDLE.tip_px)
    assert found.sigma_px > 30.0  # the two tips lie that far apart
    for other in (nothing(0.0), moved(0.0, 30.0), moved(100.0, 0.0), moved(0.0, 0.0, 20.0)):
        assert not AgreedDetector(Saying(nothing(0.6)), Saying(other)).detect(FRAMES).found


@pytest.mark.parametrize(("along", "across", "turn", "same"), [
    (39.0, 0.0, 0.0, True), (41.0, 0.0, 0.0, False), (0.0, 9.5, 0.0, True), (0.0, -10.5, 0.0, False),
    (0.0, 0.0, 4.9, True), (0.0, 0.0, 5.1, False), (0.0, 0.0, 180.0, False)])
def test_what_is_the_same_needle(along, across, turn, same) -> None:
    assert same_needle(NEEDLE, moved(along, across, turn), 500.0) is same
