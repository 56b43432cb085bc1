"""The target registration error now, measured at landmarks that the registration never saw."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..geometry import InputError, RefusedError, Transform
from .poses import check_points, plain

SAME_MM = 0.5
OLD_S = 600.0
NONE = "none held out"
VALIDATED_ON = "points with known truth and noise"


@dataclass(frozen=True)
class HeldOut:
    """A landmark kept from the registration: where it is in the plan, and where the tracker or the image shows it.

    fixed_mm: (3,) RAS mm in the plan. moving_mm: (3,) mm in the tracked frame. sigma_mm: of pointing at it, both sides
    together (rms, 3D). time_s: when it was pointed at (clock of `LiveTre`).
    """

    name: str
    fixed_mm: tuple[float, float, float]
    moving_mm: tuple[float, float, float]
    sigma_mm: float
    time_s: float


@dataclass(frozen=True)
class Tre:
    """What the read-out shows.

    tre_mm: root mean square over the held-out landmarks, None when none is held out (never 0 for want of points).
    low_mm, high_mm: 95 % interval of the registration's own error at such points, pointing taken off. sigma_mm: of
    pointing. each: name and error, worst first. age_s: since the oldest landmark was pointed at. worst_name, worst_mm.
    old: True when a landmark was pointed at longer ago than `OLD_S`, or before the registration.
    """

    tre_mm: float | None
    low_mm: float | None
    high_mm: float | None
    sigma_mm: float | None
    count: int
    age_s: float | None
    each: tuple[tuple[str, float], ...] = ()
    old: bool = False
    frame: str = ""
    validated_on: str = field(default=VALIDATED_ON)

    @property
    def text(self) -> str:
        """One line for the screen."""
        if self.tre_mm is None or self.low_mm is None or self.high_mm is None or self.age_s is None:
            return f"TRE: {NONE}"
        age = f"{self.age_s:.0f} s" if self.age_s < 120 else f"{self.age_s / 60:.0f} min"
        points = f"{self.count} held-out landmark{'s' if self.count > 1 else ''}"
        warning = "; point at them again" if self.old else ""
        return (f"TRE {self.tre_mm:.1f} mm (95 % {self.low_mm:.1f} to {self.high_mm:.1f}; {points}, {age} old"
                f"{warning})")

    def to_dict(self) -> dict[str, Any]:
        return plain({"kind": "TRE at held-out landmarks", "units": "mm", "frame": self.frame, "tre_mm": self.tre_mm,
                      "text": self.text, "count": self.count, "age_s": self.age_s, "old": self.old,
                      "uncertainty": {"low_mm": self.low_mm, "high_mm": self.high_mm, "pointing_mm": self.sigma_mm},
                      "landmarks": [{"name": name, "error_mm": error} for name, error in self.each],
                      "validated_on": self.validated_on})


class LiveTre:
    """Keeps held-out landmarks and tells the error of whatever registration is in force.

    clock: seconds; default the monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._held: dict[str, HeldOut] = {}
        self._transform: Transform | None = None
        self._since = -math.inf
        self._used = (np.empty((0, 3)), np.empty((0, 3)))

    @property
    def held(self) -> tuple[HeldOut, ...]:
        return tuple(self._held.values())

    def set_registration(self, fixed_from_moving: Transform | None, fixed_mm: object = (), moving_mm: object = (), *,
                         renewed: bool = True) -> tuple[str, ...]:
        """The registration in force, and the (n, 3) landmarks it was made from, in both frames.

        Returns the names of held-out landmarks that it was made from: they are dropped. renewed: the patient or the
        reference may have moved, so that earlier landmarks count as old; False for a mere refinement.
        Raises InputError: points that aren't (n, 3) or not finite.
        """
        self._used = (check_points(fixed_mm, 3, "fixed landmarks"), check_points(moving_mm, 3, "moving landmarks"))
        self._transform = fixed_from_moving
        if renewed:
            self._since = self.clock()
        gone = tuple(name for name, mark in self._held.items() if self._was_used(mark))
        for name in gone:
            del self._held[name]
        return gone

    def hold_out(self, name: str, fixed_mm: Sequence[float], moving_mm: Sequence[float], *, sigma_mm: float = 0.5
                 ) -> HeldOut:
        """Add or renew a landmark. Raises InputError (not three finite numbers, a sigma that isn't positive);
        RefusedError when the registration was made from it: its error would say nothing."""
        fixed = check_points([list(fixed_mm)], 3, f"landmark {name}")
        moving = check_points([list(moving_mm)], 3, f"landmark {name}")
        if not name or not math.isfinite(sigma_mm) or sigma_mm <= 0:
            raise InputError(f"landmark {name!r}: a name and a positive pointing error are needed")
        mark = HeldOut(name, tuple(fixed[0].tolist()), tuple(moving[0].tolist()), float(sigma_mm), self.clock())
        if self._was_used(mark):
            raise RefusedError(f"landmark {name}: the registration was made from it, so its residual is no TRE; hold "
                               "out another point")
        self._held[name] = mark
        return mark

    def hold_out_pixel(self, name: str, fixed_mm: Sequence[float], pixel: Sequence[float],
                       tracked_from_pixel: np.ndarray, *, sigma_mm: float = 1.0) -> HeldOut:
        """The same with a (column, row) in a tracked image. tracked_from_pixel: (4, 4), pixel to mm, tracked frame."""
        matrix = np.asarray(tracked_from_pixel, float)
        at = np.asarray(pixel, float)
        if matrix.shape != (4, 4) or at.shape != (2,):
            raise InputError(f"landmark {name}: a pixel (column, row) and a 4x4 matrix are needed")
        place = matrix[:3, 0] * at[0] + matrix[:3, 1] * at[1] + matrix[:3, 3]
        return self.hold_out(name, fixed_mm, place.tolist(), sigma_mm=sigma_mm)

    def drop(self, name: str) -> None:
        """Forget a landmark. Raises InputError for an unknown one."""
        if name not in self._held:
            raise InputError(f"landmark {name}: isn't held out")
        del self._held[name]

    def now(self) -> Tre:
        """The error at this moment. Without a registration, or without held-out landmarks: None, in words."""
        if self._transform is None or not self._held:
            return Tre(None, None, None, None, 0, None, frame="" if self._transform is None else
                       self._transform.to_frame)
        marks = self.held
        moving, fixed = np.array([m.moving_mm for m in marks]), np.array([m.fixed_mm for m in marks])
        errors = np.linalg.norm(self._transform.apply(moving) - fixed, axis=1)
        sigma = float(np.sqrt(np.mean([m.sigma_mm**2 for m in marks])))
        low, high = _interval(errors, sigma)
        oldest = min(m.time_s for m in marks)
        age = self.clock() - oldest
        each = sorted(((m.name, float(e)) for m, e in zip(marks, errors, strict=True)), key=lambda item: -item[1])
        return Tre(float(np.sqrt((errors**2).mean())), low, high, sigma, len(marks), age, tuple(each),
                   age > OLD_S or oldest < self._since, self._transform.to_frame)

    def renew(self, name: str, moving_mm: Sequence[float]) -> HeldOut:
        """Point at a known landmark again."""
        if name not in self._held:
            raise InputError(f"landmark {name}: isn't held out")
        mark = self._held[name]
        at = check_points([list(moving_mm)], 3, f"landmark {name}")
        self._held[name] = replace(mark, moving_mm=tuple(at[0].tolist()), time_s=self.clock())
        return self._held[name]

    def _was_used(self, mark: HeldOut) -> bool:
        return any(len(used) and float(np.linalg.norm(used - np.array(at), axis=1).min()) < SAME_MM
                   for used, at in zip(self._used, (mark.fixed_mm, mark.moving_mm), strict=True))


def _interval(errors: np.ndarray, sigma_mm: float) -> tuple[float, float]:
    """95 % interval of the rms error that the registration itself makes at such points (3D).

    The measured sum of squares is (registration's variance + pointing's) times a chi square of 3n degrees, as if the
    error differed from point to point; pointing's variance is taken off.
    """
    from scipy import stats

    count = 3 * len(errors)
    total = float((errors**2).sum())
    bounds = [3.0 * total / stats.chi2.ppf(share, count) - sigma_mm**2 for share in (0.975, 0.025)]
    return math.sqrt(max(0.0, bounds[0])), math.sqrt(max(0.0, bounds[1]))
