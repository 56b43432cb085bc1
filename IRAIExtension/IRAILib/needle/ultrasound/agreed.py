"""Two detectors for one picture, where time does not matter: what the network doubts, the line integrals may confirm.

Trained on simulation, the network is less sure of real pictures than it is right: where it doubts, but its line and the
classical detector's, which knows no simulator, are the same line, the needle is taken for found.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .classical import ClassicalDetector
from .detection import FrameDetection
from .network import NetworkDetector

DOUBT = 0.4  # of the network, under which nothing confirms a needle
SAME_DEG = 5.0
SAME_PART = 0.02  # of the picture's diagonal: how far apart the two lines may lie at the tip
TIP_PART = 0.08  # and the two tips along the line


class AgreedDetector:
    """The network, and where it doubts the classical detector too; a `Detector`, a few times slower than live.

    Raises: MissingPackageError without onnxruntime.
    """

    method = "network, doubts settled by line integrals"

    def __init__(self, network: NetworkDetector | None = None, classical: ClassicalDetector | None = None) -> None:
        self.network, self.classical = network or NetworkDetector(), classical or ClassicalDetector()
        self.stack_length = max(self.network.stack_length, self.classical.stack_length)

    def detect(self, frames: np.ndarray, *, mm_per_px: tuple[float, float] | None = None) -> FrameDetection:
        """The needle in `frames[-1]`; see `Detector`. A confirmed one has no `in_plane`, and its covariance holds the
        distance between the two tips."""
        sure = self.network.detect(frames, mm_per_px=mm_per_px)
        if sure.found or sure.confidence < DOUBT:
            return sure
        height, width = frames.shape[-2:]
        doubted = self.network.candidate(frames)
        line = self.classical.detect(frames, mm_per_px=mm_per_px)
        if not (doubted.found and line.found and same_needle(doubted, line, math.hypot(height, width))):
            return sure
        assert doubted.tip_px is not None
        assert doubted.covariance_px is not None
        assert line.tip_px is not None
        apart = line.tip_px - doubted.tip_px
        return replace(doubted, covariance_px=doubted.covariance_px + np.outer(apart, apart), in_plane=None,
                       method="network, confirmed by line integrals")


def same_needle(one: FrameDetection, other: FrameDetection, diagonal_px: float) -> bool:
    """Whether two found needles are one: nearly the same direction, line and tip."""
    if one.tip_px is None or other.tip_px is None or one.direction is None or other.direction is None:
        return False
    angle = math.degrees(math.acos(float(np.clip(one.direction @ other.direction, -1.0, 1.0))))
    apart = other.tip_px - one.tip_px
    along = abs(float(apart @ one.direction))
    across = abs(float(apart @ np.array([-one.direction[1], one.direction[0]])))
    return angle <= SAME_DEG and across <= SAME_PART * diagonal_px and along <= TIP_PART * diagonal_px
