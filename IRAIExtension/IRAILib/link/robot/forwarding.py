"""Forwards a tracked needle tip to a robot, only while a person holds the dead-man switch and the tip deserves it.

Every doubt stops the forwarding, with a reason; nothing that was refused is sent later. After a jump, a lost
connection or an emergency the switch must be let go and pressed again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from IRAILib.geometry import InputError, IRAIError, NeedleEstimate, NeedleStatus

from ..messages import Transform
from ..options import LinkState

log = logging.getLogger("IRAI.link.robot")

DEVICE = "NeedleTip"
CLOCK_SLACK_S = 0.05


@dataclass(frozen=True)
class ForwardLimits:
    """What a tip must be to guide a robot.

    Attributes:
        age_s: of the measurement; sigma_mm: along its worst axis; jump_mm: from the tip forwarded before.
        held_s: the switch must be confirmed this often (a frozen user interface lets go).
        confidence: smallest probability that a needle is there.
    """

    age_s: float = 0.2
    sigma_mm: float = 2.0
    jump_mm: float = 5.0
    held_s: float = 0.5
    confidence: float = 0.5
    frame: str = "RAS"

    def __post_init__(self) -> None:
        values = (self.age_s, self.sigma_mm, self.jump_mm, self.held_s)
        if not all(math.isfinite(v) and v > 0 for v in values) or not 0 <= self.confidence <= 1:
            raise InputError("tip forwarding: every limit must be a positive number, the confidence 0 to 1")


@dataclass(frozen=True)
class Forwarded:
    """What became of one estimate: sent, or why not."""

    sent: bool
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"sent": self.sent, "reason": self.reason}


class TipForwarder:
    """Sends tips through `send` as TRANSFORM `NeedleTip` (z along the needle), or through a RobotSession as NPOS_.

    Args:
        client: a LinkClient; where `session` (a RobotSession) is given its client is used, tips go as acknowledged
            NPOS_, and its emergency stop lets go of the switch.
        clock: monotonic seconds, for the switch; wall_clock: seconds since 1970, for the age of estimates.
    """

    def __init__(self, client: Any = None, *, session: Any = None, limits: ForwardLimits | None = None,
                 clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time) -> None:
        if client is None and session is None:
            raise InputError("tip forwarding: give a client or a robot session")
        self._client = session.client if client is None else client
        self._session = session
        self.limits = limits or ForwardLimits()
        self._clock, self._wall_clock = clock, wall_clock
        self._held_until: float | None = None
        self._connects: int | None = None
        self._last_tip: np.ndarray | None = None
        self._last_time_s = -math.inf
        self.last = Forwarded(False, "the dead-man switch isn't held")

    @property
    def held(self) -> bool:
        """The switch is held, and was confirmed in time."""
        return self._held_until is not None and self._clock() <= self._held_until

    def hold(self) -> None:
        """The switch is pressed, or still is; call it again at least every `held_s`. The first press begins anew.

        A press that ended by itself (time-out, fault) counts again only after `release`.
        """
        now = self._clock()
        if self._held_until is None:
            self._last_tip, self._last_time_s, self._connects = None, -math.inf, self._connection()
        elif now > self._held_until:
            return
        self._held_until = now + self.limits.held_s

    def release(self) -> None:
        """The switch is let go: nothing is forwarded any more."""
        self._held_until = None

    def forward(self, estimate: NeedleEstimate) -> Forwarded:
        """Send the tip of this estimate, or say why not. Never raises for a tip that isn't good enough."""
        reason = self._why_not(estimate)
        if reason is None:
            reason = self._sent(estimate)
        self.last = Forwarded(reason is None, reason or "")
        return self.last

    # ------------------------------------------------------------------------------------------------ private
    def _why_not(self, estimate: NeedleEstimate) -> str | None:
        if self._held_until is None:
            return "the dead-man switch isn't held"
        if not self.held:
            return self._drop("the dead-man switch wasn't confirmed in time; let go and press again")
        connection = self._connection()
        if connection is None or connection != self._connects:
            return self._drop("the connection was lost; let go and press again")
        if self._session is not None and self._session.emergency:
            return self._drop("locked by the emergency stop")
        return self._why_not_tip(estimate)

    def _why_not_tip(self, estimate: NeedleEstimate) -> str | None:
        limits = self.limits
        if estimate.status is not NeedleStatus.SEEN or estimate.tip is None:
            return f"the tip is {estimate.status.value}, not seen now"
        if estimate.units != "mm":
            return "the tip is in pixels, not in mm"
        if estimate.frame != limits.frame:
            return f"the tip is in frame '{estimate.frame}', not in '{limits.frame}'"
        age = self._wall_clock() - estimate.time_s
        if age < -CLOCK_SLACK_S:
            return f"the image is dated {-age:.2f} s in the future; set the clocks of both computers alike"
        if not max(age, estimate.age_s) <= limits.age_s:
            return f"the tip is {max(age, estimate.age_s):.2f} s old, the limit is {limits.age_s:g} s"
        if estimate.time_s <= self._last_time_s:
            return "this image, or a later one, was forwarded already"
        sigma = estimate.sigma
        if sigma is None or not sigma <= limits.sigma_mm:
            text = "unknown" if sigma is None else f"{sigma:.1f} mm"
            return f"the tip's uncertainty is {text}, the limit is {limits.sigma_mm:g} mm"
        if not estimate.confidence >= limits.confidence:
            return f"the confidence is {estimate.confidence:.2f}, at least {limits.confidence:g} is needed"
        if estimate.direction is None:
            return "the needle's direction isn't known"
        if self._last_tip is not None:
            jump = float(np.linalg.norm(estimate.tip - self._last_tip))
            if not jump <= limits.jump_mm:
                return self._drop(f"the tip jumped by {jump:.1f} mm, the limit is {limits.jump_mm:g} mm; let go and "
                                  "press again")
        return None

    def _sent(self, estimate: NeedleEstimate) -> str | None:
        assert estimate.tip is not None
        assert estimate.direction is not None
        pose = pose_along(estimate.tip, estimate.direction)
        try:
            if self._session is not None:
                self._session.send_needle_position(pose)
            elif not self._client.send(Transform(pose, device=DEVICE, time_s=estimate.time_s)):
                return self._drop("it could not be sent; let go and press again")
        except IRAIError as error:
            return str(error)
        self._last_tip, self._last_time_s = estimate.tip, estimate.time_s
        return None

    def _drop(self, reason: str) -> str:
        """Let go for the user: the switch must be released and pressed again."""
        self._held_until = -math.inf
        log.warning("tip forwarding: %s", reason)
        return reason

    def _connection(self) -> int | None:
        """Number of the connection that stands; None without one."""
        status = self._client.status()
        return status.connects if status.state is LinkState.CONNECTED else None


def pose_along(tip: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(4, 4) rigid pose at `tip` whose z axis is `direction`; x lies as near to the frame's x (or y) as it can.

    Raises InputError for a zero or non-finite direction.
    """
    z = np.asarray(direction, float)
    length = float(np.linalg.norm(z))
    if not (math.isfinite(length) and length > 1e-9 and np.isfinite(tip).all()):
        raise InputError("a pose along a needle needs a finite tip and a direction")
    z = z / length
    x = np.eye(3)[0] if abs(z[0]) < 0.9 else np.eye(3)[1]
    x = x - (x @ z) * z
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([x, np.cross(z, x), z])
    pose[:3, 3] = tip
    return pose
