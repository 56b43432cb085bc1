"""The axis of a painted needle: a chord from entry to tip, bowed as a parabola. The painters' common truth."""

from __future__ import annotations

import numpy as np

from ..geometry import InputError


class BowedAxis:
    """What a painted needle of CT or MR has in common; RAS mm."""

    tip: np.ndarray
    direction: np.ndarray
    length_mm: float
    bend_mm: float
    bend_direction: np.ndarray | None

    def axes(self) -> np.ndarray:
        """(3, 3) rows: chord from entry to tip, the bow's direction, the third."""
        d = np.asarray(self.direction, float) / np.linalg.norm(self.direction)
        wish = np.eye(3)[int(np.argmin(np.abs(d)))] if self.bend_direction is None else np.asarray(self.bend_direction)
        u = wish - (wish @ d) * d
        if np.linalg.norm(u) < 1e-6:
            raise InputError("bend_direction must not lie along the needle")
        u /= np.linalg.norm(u)
        return np.stack([d, u, np.cross(d, u)])

    def curve(self, count: int = 101) -> np.ndarray:
        """(count, 3) RAS mm on the axis, from the entry to the tip: the truth."""
        d, u, _ = self.axes()
        s = np.linspace(-self.length_mm, 0.0, count)
        return np.asarray(self.tip, float) + np.outer(s, d) + np.outer(self._bow(s), u)

    def tip_direction(self) -> np.ndarray:
        """(3,) unit tangent at the tip: the truth."""
        d, u, _ = self.axes()
        tangent = d - 4.0 * self.bend_mm / self.length_mm * u
        return tangent / np.linalg.norm(tangent)

    def _bow(self, s: np.ndarray) -> np.ndarray:
        """(n,) mm off the chord at s, mm along it (0 at the tip, negative towards the entry); straight on beyond."""
        x = -np.minimum(s, 0.0) / self.length_mm
        ahead = -4.0 * self.bend_mm / self.length_mm * np.maximum(s, 0.0)
        return 4.0 * self.bend_mm * x * (1.0 - x) + ahead
