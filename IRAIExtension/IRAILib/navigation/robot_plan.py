"""The chosen path as a robot's target: sanity checks, the user's confirmation of that very pose, and what was achieved.

The needle's frame: its origin is the tip at the target; z runs along the needle from the entry to the target; x lies
in the plane of z and a reference direction (default: the patient's anterior, RAS (0, 1, 0)); y = z cross x. A robot of
the prostate protocol reads the same: the columns of the rotation are the needle's axes in the robot's or the
scanner's frame.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..geometry import InputError, Mask, RefusedError
from ..link.robot import pose_difference
from ..link.robot.protocol import checked_pose
from .entry_field import BoxObstacle, require_orthogonal
from .poses import plain

MIN_LENGTH_MM, MAX_LENGTH_MM = 10.0, 250.0
NEAR_PLAN_MM, NEAR_PLAN_DEG = 0.5, 0.5
ENTRY_TOLERANCE_MM = 10.0
MAX_AGE_S = 1.0
DEFAULT_LIMITS_MM_DEG = (3.0, 2.0)
VALIDATED_ON = "analytic poses and the simulated robot of this project; no robot"


def target_pose(entry_mm: object, target_mm: object, *, up: object = (0.0, 1.0, 0.0)) -> np.ndarray:
    """(4, 4) ras_from_needle of a needle whose tip is at the target; see the module's text for its axes.

    Args: entry_mm, target_mm: (3,) RAS. up: (3,) direction whose part across the needle becomes x; where it lies
    along the needle, the axis of RAS least along it is taken instead.
    Raises InputError: not finite, or entry and target closer than 1 mm.
    """
    entry, target, upward = (np.asarray(v, float) for v in (entry_mm, target_mm, up))
    if any(v.shape != (3,) or not np.isfinite(v).all() for v in (entry, target, upward)):
        raise InputError("entry, target and direction must be three finite numbers each, RAS mm")
    length = np.linalg.norm(target - entry)
    if length < 1.0:
        raise InputError(f"entry and target are {length:.1f} mm apart; they give no direction")
    z = (target - entry) / length
    x = upward - (upward @ z) * z
    if np.linalg.norm(x) < 0.05 * max(np.linalg.norm(upward), 1e-9) or np.linalg.norm(upward) < 1e-9:
        other = np.eye(3)[np.abs(z).argmin()]
        x = other - (other @ z) * z
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = x, np.cross(z, x), z, target
    return pose


@dataclass(frozen=True)
class Link:
    """One transform of the chain from the plan to the robot: name, age of its newest value, its error, whether known.

    age_s: None for one that holds for good (a registration that was accepted). error_mm: None where unknown.
    """

    name: str
    age_s: float | None = None
    error_mm: float | None = None
    known: bool = True


@dataclass(frozen=True)
class Check:
    """One check: passed True, False, or None where it could not be done."""

    name: str
    passed: bool | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "passed": self.passed, "text": self.text}


@dataclass(frozen=True, eq=False)
class RobotPlan:
    """A path as a robot's target, with its checks.

    ras_from_needle: (4, 4). entry_mm, target_mm: (3,) RAS. checks: in order; `problems` are those that failed or
    could not be done. sigma_mm: root of the summed squares of the chain's errors; NaN where one is unknown.
    """

    ras_from_needle: np.ndarray
    entry_mm: np.ndarray
    target_mm: np.ndarray
    checks: tuple[Check, ...]
    sigma_mm: float
    frame: str = "RAS"
    validated_on: str = VALIDATED_ON
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)

    @property
    def depth_mm(self) -> float:
        return float(np.linalg.norm(self.target_mm - self.entry_mm))

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(check.text for check in self.checks if check.passed is not True)

    @property
    def ready(self) -> bool:
        """Whether the user may be asked to confirm."""
        return not self.problems

    def token(self) -> str:
        """What `confirm` gives: bound to this plan object and to every digit of its pose."""
        numbers = np.concatenate([self.ras_from_needle.ravel(), self.entry_mm, self.target_mm]).astype("<f8")
        return hmac.new(self.secret, self.frame.encode() + numbers.tobytes(), hashlib.sha256).hexdigest()[:32]

    def summary(self) -> str:
        """One line that the user confirms."""
        place = ", ".join(f"{v:.1f}" for v in self.target_mm)
        sure = f"+/- {self.sigma_mm:.1f} mm" if np.isfinite(self.sigma_mm) else "error of the chain unknown"
        return f"target at {place} mm ({self.frame}), {self.depth_mm:.0f} mm deep, {sure}"

    def to_dict(self) -> dict[str, Any]:
        return plain({"kind": "robot_plan", "frame": self.frame, "units": "mm", "ras_from_needle": self.ras_from_needle,
                      "entry_mm": self.entry_mm, "target_mm": self.target_mm, "depth_mm": self.depth_mm,
                      "ready": self.ready, "checks": [check.to_dict() for check in self.checks],
                      "uncertainty": {"sigma_mm": self.sigma_mm}, "validated_on": self.validated_on})


def plan_for_robot(entry_mm: object, target_mm: object, *, body: Mask | None, chain: Sequence[Link],
                   obstacles: Mapping[str, Mask] | None = None, clearance_mm: float = 0.0,
                   chosen: tuple[object, object] | None = None, pose: object = None,
                   reachable: Callable[[np.ndarray], bool | str] | None = None,
                   depth_range_mm: tuple[float, float] = (MIN_LENGTH_MM, MAX_LENGTH_MM), max_age_s: float = MAX_AGE_S,
                   up: object = (0.0, 1.0, 0.0)) -> RobotPlan:
    """The target for a robot, with every check done that can be done.

    Args:
        entry_mm, target_mm: (3,) RAS of what is to be sent. body: the patient, or None (then it is a problem).
        chain: transforms from the plan's frame to the robot's. obstacles: {"vessel": mask} that the path must miss by
            clearance_mm. chosen: (entry, target) of the path that the user chose, to compare with. pose: (4, 4)
            ras_from_needle if it isn't to be made from entry and target. reachable: says True, False or why not; None
            leaves it to the robot (its REACHABLE_TARGET), see `reachable_by_robot`.
    Raises InputError: shapes, a pose that isn't rigid and finite.
    """
    made = target_pose(entry_mm, target_mm, up=up) if pose is None else checked_pose(np.asarray(pose), "target")
    entry, target = np.asarray(entry_mm, float), np.asarray(target_mm, float)
    if entry.shape != (3,) or target.shape != (3,) or not np.isfinite([entry, target]).all():
        raise InputError("entry and target must be three finite numbers each, RAS mm")
    checks = [_pose_check(made, entry, target), _depth_check(entry, target, depth_range_mm),
              *_body_checks(body, entry, target), _plan_check(chosen, entry, target), *_chain_checks(chain, max_age_s)]
    checks += [_obstacle_check(name, mask, entry, target, clearance_mm) for name, mask in (obstacles or {}).items()]
    if reachable is not None:
        said = reachable(made)
        why = f" ({said})" if isinstance(said, str) else ""
        checks.append(Check("reach", said is True, "the robot reaches the target" if said is True else
                            f"the robot can't reach the target{why}; choose another path"))
    errors = [np.nan if link.error_mm is None else link.error_mm for link in chain]
    sigma = float(np.sqrt(np.square(errors).sum())) if errors else float("nan")
    return RobotPlan(made, entry, target, tuple(checks), sigma)


def _pose_check(pose: np.ndarray, entry: np.ndarray, target: np.ndarray) -> Check:
    way = target - entry
    angle = np.degrees(np.arccos(np.clip(pose[:3, 2] @ way / max(np.linalg.norm(way), 1e-9), -1, 1)))
    off = float(np.linalg.norm(pose[:3, 3] - target))
    good = off <= NEAR_PLAN_MM and angle <= NEAR_PLAN_DEG
    return Check("pose", bool(good), "the pose is the path's" if good else
                 f"the pose is {off:.1f} mm and {angle:.1f} degrees off the path; make it from entry and target")


def _depth_check(entry, target, limits) -> Check:
    depth = float(np.linalg.norm(target - entry))
    good = limits[0] <= depth <= limits[1]
    return Check("depth", bool(good), f"{depth:.0f} mm deep" if good else
                 f"{depth:.0f} mm from entry to target; {limits[0]:g} to {limits[1]:g} mm can be done")


def _body_checks(body: Mask | None, entry, target) -> list[Check]:
    if body is None or not body.array.any():
        return [Check("body", None, "the body is not segmented, so that entry and target can't be checked against it")]
    inside = body.sample(target[None], order=0)[0] > 0.5
    checks = [Check("target in body", bool(inside), "the target is in the body" if inside else
                    "the target lies outside the body; check the frames of plan and scan")]
    way = (entry - target) / max(np.linalg.norm(entry - target), 1e-9)
    reach = np.linalg.norm(entry - target) + np.array([-ENTRY_TOLERANCE_MM, ENTRY_TOLERANCE_MM])
    deeper, outside = (body.sample((target + max(r, 0.0) * way)[None], order=0)[0] > 0.5 for r in reach)
    near = bool(deeper) and not bool(outside)
    checks.append(Check("entry on skin", near, "the entry is on the skin" if near else
                        f"the entry is not within {ENTRY_TOLERANCE_MM:g} mm of the skin; choose it again"))
    return checks


def _plan_check(chosen, entry, target) -> Check:
    if chosen is None:
        return Check("near plan", None, "no path was chosen to compare the target with")
    a, b = (np.asarray(point, float) for point in chosen)
    if a.shape != (3,) or b.shape != (3,) or not np.isfinite([a, b]).all():
        raise InputError("the chosen path must be two points of three finite numbers, RAS mm")
    off = max(float(np.linalg.norm(entry - a)), float(np.linalg.norm(target - b)))
    return Check("near plan", off <= NEAR_PLAN_MM, "it is the chosen path" if off <= NEAR_PLAN_MM else
                 f"entry or target is {off:.1f} mm from the chosen path; send that, or choose this one")


def _chain_checks(chain: Sequence[Link], max_age_s: float) -> list[Check]:
    if not chain:
        return [Check("frames", None, "no transform leads from the plan to the robot; register or calibrate first")]
    checks = []
    for link in chain:
        stale = link.age_s is not None and not 0 <= link.age_s <= max_age_s
        good = link.known and not stale
        text = (f"{link.name} is known" if good else f"{link.name} is not known; register or calibrate first"
                if not link.known else f"{link.name} is {link.age_s:.1f} s old; {max_age_s:g} s are allowed")
        checks.append(Check(f"frame {link.name}", good, text))
    return checks


def _obstacle_check(name: str, mask: Mask, entry, target, clearance_mm: float) -> Check:
    """By the exact distance to the voxels as boxes: thick slices come nearer than their centres say."""
    require_orthogonal(mask.grid, name)
    found = BoxObstacle(mask, name, clearance_mm).clearance(entry, target)
    if not np.isfinite(found.distance_mm):
        return Check(f"misses {name}", True, f"{name} is empty")
    sure = f"{found.distance_mm:.1f} +/- {found.sigma_mm:.1f} mm"
    good = found.distance_mm > clearance_mm
    return Check(f"misses {name}", good, f"the path misses {name} by {sure} (voxel size only)" if good else
                 f"the path comes within {sure} of {name}; {clearance_mm:g} mm are asked for")


def reachable_by_robot(plan: RobotPlan, answered_pose: object, *, max_mm: float = 1.0, max_deg: float = 1.0) -> Check:
    """Whether what the robot answered (REACHABLE_TARGET) is the plan, within limits. Raises InputError."""
    pose = checked_pose(np.asarray(answered_pose), "reachable target")
    difference = pose_difference(pose, plan.ras_from_needle)
    good = difference.distance_mm <= max_mm and difference.axis_deg <= max_deg
    return Check("reach", bool(good), "the robot reaches the target" if good else
                 f"the robot would stop {difference.distance_mm:.1f} mm and {difference.axis_deg:.1f} degrees from the "
                 "target; choose another path, or accept its pose as a new plan")


def confirm(plan: RobotPlan, user_agreed: bool) -> str:
    """The token that `require_confirmed` asks for, once the user agreed to `plan.summary()`.

    Raises RefusedError: not agreed, or a check that isn't passed.
    """
    if not plan.ready:
        raise RefusedError(f"not sent: {plan.problems[0]}")
    if user_agreed is not True:
        raise RefusedError("not sent: the target was not confirmed")
    return plan.token()


def require_confirmed(plan: RobotPlan, token: str, pose: object, chain: Sequence[Link], *,
                      max_age_s: float = MAX_AGE_S) -> np.ndarray:
    """(4, 4) ras_from_needle that may be sent now. Call it right before sending.

    Args: token: of `confirm`. pose: (4, 4) that will be sent. chain: the transforms as they are now.
    Raises RefusedError: the plan has problems, the token is another plan's, the pose isn't the confirmed one to the
    last digit, the chain isn't made of the transforms it was confirmed with, or one of them is lost or old by now.
    """
    if not plan.ready:
        raise RefusedError(f"not sent: {plan.problems[0]}")
    if not isinstance(token, str) or not hmac.compare_digest(token.encode(), plan.token().encode()):
        raise RefusedError("not sent: the confirmation belongs to another plan; confirm this one")
    if not np.array_equal(np.asarray(pose, float), plan.ras_from_needle):
        raise RefusedError("not sent: the pose changed after it was confirmed; confirm it again")
    now = _chain_checks(chain, max_age_s)
    if not {check.name for check in now} == {c.name for c in plan.checks if c.name.startswith("frame")}:
        raise RefusedError("not sent: other transforms lead to the robot than when it was confirmed; confirm it again")
    lost = [check.text for check in now if check.passed is not True]
    if lost:
        raise RefusedError(f"not sent: {lost[0]}")
    return plan.ras_from_needle.copy()


@dataclass(frozen=True)
class Achieved:
    """Where the needle came to lie against the plan; mm and degrees in the plan's frame.

    tip_mm: distance of the tips. lateral_mm: across the planned path. depth_mm: along it, positive too deep. angle_deg:
    of the needles' axes. verdict: "within", "outside", or "unsure" where the error of the chain decides.
    """

    tip_mm: float
    lateral_mm: float
    depth_mm: float
    angle_deg: float
    verdict: str
    text: str
    sigma_mm: float
    frame: str
    validated_on: str = VALIDATED_ON

    def to_dict(self) -> dict[str, Any]:
        return plain({"kind": "robot_achieved", "frame": self.frame, "units": "mm, degrees", "tip_mm": self.tip_mm,
                      "lateral_mm": self.lateral_mm, "depth_mm": self.depth_mm, "angle_deg": self.angle_deg,
                      "verdict": self.verdict, "text": self.text, "uncertainty": {"sigma_mm": self.sigma_mm},
                      "validated_on": self.validated_on})


def compare_achieved(plan: RobotPlan, achieved_pose: object, *, sigma_mm: float = 0.0,
                     max_tip_mm: float = DEFAULT_LIMITS_MM_DEG[0], max_angle_deg: float = DEFAULT_LIMITS_MM_DEG[1]
                     ) -> Achieved:
    """The needle as it lies (ras_from_needle from the robot or from a control scan) against the plan.

    Args: sigma_mm: standard deviation of the achieved tip; the chain's is added unless unknown. Within: tip plus two
    standard deviations and angle are within the limits; outside: tip less two standard deviations, or the angle, is
    beyond them.
    Raises InputError: no rigid pose, limits.
    """
    if not (max_tip_mm > 0 and max_angle_deg > 0 and sigma_mm >= 0):
        raise InputError("limits must be positive, and a standard deviation not negative")
    pose = checked_pose(np.asarray(achieved_pose), "achieved pose")
    away = pose[:3, 3] - plan.ras_from_needle[:3, 3]
    axis = plan.ras_from_needle[:3, 2]
    depth = float(away @ axis)
    tip, lateral = float(np.linalg.norm(away)), float(np.linalg.norm(away - depth * axis))
    angle = pose_difference(pose, plan.ras_from_needle).axis_deg
    known = np.isfinite(plan.sigma_mm)
    sigma = float(np.hypot(sigma_mm, plan.sigma_mm)) if known else float("nan")
    spare = 2 * sigma if known else 0.0
    if tip - spare > max_tip_mm or angle > max_angle_deg:
        verdict = "outside"
    elif known and tip + spare <= max_tip_mm:
        verdict = "within"
    else:
        verdict = "unsure"
    text = (f"tip {tip:.1f} mm from the plan ({lateral:.1f} mm aside, {abs(depth):.1f} mm too "
            f"{'deep' if depth >= 0 else 'shallow'}), {angle:.1f} degrees; {verdict} {max_tip_mm:g} mm and "
            f"{max_angle_deg:g} degrees")
    return Achieved(tip, lateral, depth, float(angle), verdict, text, sigma, plan.frame)
