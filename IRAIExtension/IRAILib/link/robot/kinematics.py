"""A needle guide with five joints: stage x and y, yaw and pitch of the guide, insertion along the needle.

Base frame ("Z-frame"): millimetres, the guide's pivot moves in the plane z = 0, an untilted needle points along +z.
Joints (x_mm, y_mm, yaw_deg, pitch_deg, depth_mm): tip = (x, y, 0) + depth * direction, direction = Ry(yaw) Rx(pitch) z.
The needle is round: its roll about its own axis is whatever the target asks for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import lsq_linear

from IRAILib.geometry import InputError

JOINTS = ("x", "y", "yaw", "pitch", "depth")
DEFAULT_LIMITS = {"x": (-40.0, 40.0), "y": (-40.0, 40.0), "yaw": (-20.0, 20.0), "pitch": (-20.0, 20.0),
                  "depth": (0.0, 150.0)}
HOME_MM = 0.05


@dataclass(frozen=True)
class Obstacle:
    """A ball that the tip may not enter, in the base frame."""

    center_mm: tuple[float, float, float]
    radius_mm: float


@dataclass(frozen=True, eq=False)
class Reach:
    """Joints of the nearest reachable pose; `exact` when it is the pose that was asked for; `blocked`: by what."""

    joints: np.ndarray
    pose: np.ndarray
    exact: bool
    distance_mm: float
    blocked: str = ""


def _rotation_y(deg: float) -> np.ndarray:
    c, s = math.cos(math.radians(deg)), math.sin(math.radians(deg))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _rotation_x(deg: float) -> np.ndarray:
    c, s = math.cos(math.radians(deg)), math.sin(math.radians(deg))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@dataclass
class NeedleGuide:
    """Limits and geometry. `limits`: {joint: (low, high)}, mm and degrees; raises InputError for impossible ones."""

    limits: dict[str, tuple[float, float]] = field(default_factory=lambda: dict(DEFAULT_LIMITS))
    obstacles: tuple[Obstacle, ...] = ()

    def __post_init__(self) -> None:
        self.limits = {**DEFAULT_LIMITS, **self.limits}
        for name, (low, high) in self.limits.items():
            if name not in JOINTS:
                raise InputError(f"robot: there is no joint '{name}'; joints: {', '.join(JOINTS)}")
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise InputError(f"robot: joint {name} can't have limits {low} .. {high}")
        if max(abs(v) for j in ("yaw", "pitch") for v in self.limits[j]) >= 80:
            raise InputError("robot: yaw and pitch must stay below 80 degrees")
        if self.limits["depth"][0] != 0:
            raise InputError("robot: the depth starts at 0, the home position of the needle")

    @property
    def low(self) -> np.ndarray:
        return np.array([self.limits[j][0] for j in JOINTS])

    @property
    def high(self) -> np.ndarray:
        return np.array([self.limits[j][1] for j in JOINTS])

    def home(self) -> np.ndarray:
        """(5,) joints: needle out, stage and angles as near zero as the limits allow."""
        return np.clip(np.zeros(5), self.low, self.high)

    def pose(self, joints: np.ndarray, roll_deg: float = 0.0) -> np.ndarray:
        """(4, 4) base_from_tip of (5,) joints; z of the tip frame runs along the needle."""
        x, y, yaw, pitch, depth = np.asarray(joints, float)
        rotation = _rotation_y(yaw) @ _rotation_x(pitch)
        out = np.eye(4)
        c, s = math.cos(math.radians(roll_deg)), math.sin(math.radians(roll_deg))
        out[:3, :3] = rotation @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        out[:3, 3] = np.array([x, y, 0.0]) + depth * rotation[:, 2]
        return out

    def reach(self, base_from_target: np.ndarray) -> Reach:
        """Nearest reachable pose to a rigid (4, 4) target: the direction is limited first, then the tip, then roll.

        For the limited direction the tip is the exact minimum of its distance to the target inside the limits (a
        bounded linear least-squares problem in x, y and depth).
        """
        target = np.asarray(base_from_target, float)
        wanted = target[:3, 2]
        yaw = math.degrees(math.atan2(wanted[0], wanted[2]))
        pitch = math.degrees(math.asin(float(np.clip(-wanted[1], -1, 1))))
        low, high = self.low, self.high
        angles = np.clip([yaw, pitch], low[2:4], high[2:4])
        direction = (_rotation_y(angles[0]) @ _rotation_x(angles[1]))[:, 2]
        system = np.column_stack([[1.0, 0, 0], [0, 1.0, 0], direction])
        free = np.linalg.solve(system, target[:3, 3])
        bounds = low[[0, 1, 4]], high[[0, 1, 4]]
        if ((free >= bounds[0] - 1e-9) & (free <= bounds[1] + 1e-9)).all():
            best = np.clip(free, *bounds)
        else:
            wide = np.maximum(bounds[1], bounds[0] + 1e-9)  # lsq_linear wants room between the limits
            best = np.clip(lsq_linear(system, target[:3, 3], (bounds[0], wide), method="bvls").x, *bounds)
        joints = np.array([best[0], best[1], angles[0], angles[1], best[2]])
        pose = self.pose(joints, self.roll_towards(joints, target))
        distance = float(np.linalg.norm(pose[:3, 3] - target[:3, 3]))
        turned = float(np.linalg.norm(pose[:3, 2] - wanted))
        exact = distance < 1e-3 and turned < 1e-4
        blocked = next((f"ball of {o.radius_mm:g} mm at {o.center_mm}" for o in self.obstacles
                        if np.linalg.norm(pose[:3, 3] - o.center_mm) < o.radius_mm), "")
        return Reach(joints, target.copy() if exact else pose, exact, distance, blocked)

    def roll_towards(self, joints: np.ndarray, base_from_target: np.ndarray) -> float:
        """Roll in degrees that turns the tip frame of `joints` nearest to the target's orientation."""
        relative = self.pose(joints)[:3, :3].T @ np.asarray(base_from_target, float)[:3, :3]
        return math.degrees(math.atan2(relative[1, 0] - relative[0, 1], relative[0, 0] + relative[1, 1]))


@dataclass
class Motion:
    """Joints that travel at a limited speed. The stage moves only while the needle is out of the patient."""

    guide: NeedleGuide
    joints: np.ndarray
    speed_mm_s: float
    speed_deg_s: float = 20.0
    goal: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.speed_mm_s) and self.speed_mm_s > 0):
            raise InputError(f"robot: the speed must be positive, not {self.speed_mm_s} mm/s")

    @property
    def home(self) -> bool:
        """The needle is out."""
        return bool(self.joints[4] <= HOME_MM)

    @property
    def moving(self) -> bool:
        return self.goal is not None

    def halt(self) -> None:
        self.goal = None

    def go(self, joints: np.ndarray) -> None:
        """Head for (5,) joints; they are limited again here, whatever was computed before."""
        self.goal = np.clip(np.asarray(joints, float), self.guide.low, self.guide.high)

    def retract(self) -> None:
        self.go(np.append(self.joints[:4], 0.0))

    def step(self, dt_s: float) -> bool:
        """Travel for `dt_s`; True when the goal was reached in this step. Never faster than the speed limits."""
        if self.goal is None:
            return False
        left = max(dt_s, 0.0)
        while left > 1e-12:
            part = self._next_part()
            if part is None:
                self.goal = None
                return True
            indices, there, speed = part
            offset = there - self.joints[indices]
            length = float(np.linalg.norm(offset))
            share = min(1.0, speed * left / length)
            self.joints[indices] = there if share >= 1.0 else self.joints[indices] + share * offset
            left -= length * share / speed
        return False

    def _next_part(self) -> tuple[list[int], np.ndarray, float] | None:
        """(joints, where to, speed) of what moves next: needle out, angles, stage, needle in; None at the goal."""
        assert self.goal is not None
        away = np.abs(self.goal - self.joints) > 1e-6
        if away[:4].any() and not self.home:
            return [4], np.zeros(1), self.speed_mm_s
        for indices, speed in (([2, 3], self.speed_deg_s), ([0, 1], self.speed_mm_s), ([4], self.speed_mm_s)):
            if away[indices].any():
                return indices, self.goal[indices], speed
        return None
