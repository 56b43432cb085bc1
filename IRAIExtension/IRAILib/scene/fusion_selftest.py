"""The checks that FusionNav's test runs in Slicer's test runner and headless."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..geometry import IRAIError

SLICE_MM, TIP_MM, TRE_MM = 2.5, 3.0, 3.0
"""Registration by seven landmarks with 0.6 mm scatter leaves about a millimetre: a wrong frame is off by far more."""
PATIENCE_S = 40.0
MIN_PICTURES = 10
LOST_WITHIN_S = 2.0


class SelfTestError(IRAIError):
    """The sample gave something else than its truth."""


def check_sample(parameters, logic) -> float:
    """Press "Try the sample" and look where the live slice lies. Returns its worst error, mm. Raises SelfTestError."""
    from .fusion_sample import image_poses, size_px

    sample = logic.trySample(parameters)
    session, errors, tips = logic.session, [], []
    truth = image_poses(len(sample.sequence))
    columns, rows = size_px()
    corners = np.array([(x, y, 0.0, 1.0) for x in (0, columns - 1) for y in (0, rows - 1)])
    wanted = np.einsum("nij,cj->nci", truth, corners)[..., :3]
    end = time.monotonic() + PATIENCE_S
    while len(errors) < MIN_PICTURES and time.monotonic() < end:
        fresh = logic.pump()
        state = session.state()
        if fresh and session.views.ras_from_pixel is not None and not session.views.dimmed:
            found = (corners @ session.views.ras_from_pixel.T)[:, :3]
            errors.append(float(np.linalg.norm(wanted - found, axis=2).max(axis=1).min()))
            if state.estimate.tip is not None:
                tips.append(float(np.linalg.norm(sample.tips_ras - state.estimate.tip, axis=1).min()))
        time.sleep(0.01)
    _require(len(errors) >= MIN_PICTURES, f"only {len(errors)} live slices; {session.views.why or session.problem}")
    _require(max(errors) <= SLICE_MM, f"the live slice is off by {max(errors):.1f} mm")
    _require(bool(tips) and max(tips) <= TIP_MM, "the needle is not where it was simulated")
    _wait(logic, lambda: session.state().guidance.distance_mm is not None, "no distance to the path's target")
    state = session.state()
    _require(state.tre_mm is not None and state.tre_mm <= TRE_MM, "no believable registration error on screen")
    return max(errors)


def check_refusals(parameters, logic) -> None:
    """No registration: no number, and the missing link is named. A pulled plug: grey within two seconds."""
    logic.trySample(parameters)
    session = logic.session
    _wait(logic, lambda: session.state().guidance.distance_mm is not None, "no guidance before the plug is pulled")
    registration, session.registration = session.registration, None
    state = session.state()
    _require(state.stale and state.guidance.distance_mm is None, "numbers without a registration")
    _require("register in step 3" in state.why_stale, f"the missing link is not named: {state.why_stale}")
    session.registration = registration
    _wait(logic, lambda: not session.state().stale, "the guidance did not come back with the registration")
    session.server.close()
    began = time.monotonic()
    while not (session.state().stale and session.views.dimmed) and time.monotonic() - began < LOST_WITHIN_S:
        logic.pump()
        time.sleep(0.01)
    state = session.state()
    _require(state.stale and state.guidance.distance_mm is None and session.views.dimmed,
             "a tool whose tracker is gone is still believed")


def _wait(logic, condition: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        _require(time.monotonic() < end, otherwise)
        logic.pump()
        time.sleep(0.01)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise SelfTestError(f"self-test: {otherwise}")
