"""The checks that NeedleTracking's test runs in Slicer's test runner and headless."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..geometry import IRAIError, NeedleStatus
from .link_status import LOST, pose_of, status_of

TOLERANCE_MM = 3.0
"""Median tip error on the simulated sample, classical detector on a busy machine: a wrong frame is off by far more."""
MIN_TIPS = 5
PATIENCE_S = 40.0
LOST_WITHIN_S = 2.0


class SelfTestError(IRAIError):
    """The sample gave something else than its truth."""


def check_sample(parameters, logic, *, detector: str = "auto") -> float:
    """Press "Try the sample" and follow the needle. Returns the median tip error, mm. Raises SelfTestError."""
    parameters.detector = detector
    sample = logic.trySample(parameters)
    session, errors, seen = logic.session, [], set()
    truth = np.array([tip for tip in sample.tips_mm if tip is not None])
    end = time.monotonic() + PATIENCE_S
    while len(errors) < 3 * MIN_TIPS and time.monotonic() < end:
        logic.pump()
        if session.log and id(session.log[-1]) not in seen and session.log[-1].status is NeedleStatus.SEEN:
            seen.add(id(session.log[-1]))
            errors.append(float(np.linalg.norm(truth - session.log[-1].tip, axis=1).min()))
        time.sleep(0.01)
    _require(len(errors) >= MIN_TIPS, f"only {len(errors)} tips were seen; {session.problem or 'no problem was told'}")
    median = float(np.median(errors))
    _require(median <= TOLERANCE_MM, f"tip off by {median:.1f} mm from the way of the true tip")
    state = session.state()
    _require(state.guidance.distance_mm is not None or state.status is not NeedleStatus.SEEN, "no distance to the plan")
    _require(bool(state.validated_on), "the uncertainty doesn't say on what it was validated")
    return median


def check_unplugged(parameters, logic) -> None:
    """A tracker on this machine sends a pose, then its plug is pulled. Raises SelfTestError."""
    from ..link.messages import Transform
    from ..link.server import LinkServer

    pose = np.eye(4)
    pose[:3, 3] = 10.0, -20.0, 30.0
    server = LinkServer(0).start()
    try:
        parameters.source, parameters.host, parameters.port = "connect", "127.0.0.1", server.port
        logic.connect(parameters)
        node: Any = None
        end = time.monotonic() + PATIENCE_S
        while (node is None or pose_of(node) is None) and time.monotonic() < end:
            server.send(Transform(pose, device="NeedleToTracker"))
            logic.pump()
            node = logic.session.bridge.scene.GetFirstNode("NeedleToTracker", "vtkMRMLLinearTransformNode")
            time.sleep(0.01)
        found = pose_of(node) if node is not None else None
        _require(found is not None and bool(np.allclose(found, pose, atol=1e-4)), "the tracker's pose did not arrive")
    finally:
        server.close()
    began = time.monotonic()
    while status_of(node) != LOST and time.monotonic() - began < LOST_WITHIN_S:
        logic.pump()
        time.sleep(0.01)
    _require(status_of(node) == LOST and pose_of(node) is None, "the pose of a tracker that is gone is still believed")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise SelfTestError(f"self-test: {otherwise}")
