"""Step 4's robot on nodes: the path as a target, checked, confirmed by the user, sent, compared with what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, Mask, RefusedError
from ..navigation.entry_body import find_skin
from ..navigation.robot_plan import (
    Achieved,
    Check,
    Link,
    RobotPlan,
    compare_achieved,
    confirm,
    plan_for_robot,
    reachable_by_robot,
    require_confirmed,
)
from .fusion_guide import Obstacle
from .needle_guidance import plan_from_node
from .nodes import matrix_from_vtk, volume_from_node

CALIBRATION = "CalibrationToRAS"


@dataclass(frozen=True, eq=False)
class PreparedTarget:
    """A path made ready for a robot: nothing was sent yet. question: what the user is asked, with every check.
    path_node, path: the line, and its (entry, target) when it was checked."""

    plan: RobotPlan
    question: str
    path_node: Any = None
    path: tuple[np.ndarray, np.ndarray] | None = None


def chain_of(robot, registration=None) -> list[Link]:
    """From the plan's frame to the robot's: what the robot was calibrated to, and the registration if there is one."""
    calibrated = bool(robot is not None and robot.connected and robot.session.machine.calibrated)
    links = [Link(CALIBRATION, None, None, calibrated)]
    if registration is not None:
        links.append(Link(f"{registration.reference}ToRAS", None, registration.error_mm, True))
    return links


def prepare_target(path_node, volume_node, robot, obstacles: list[Obstacle], *, clearance_mm: float = 5.0,
                   registration=None) -> PreparedTarget:
    """The path as a target with every check that can be done; nothing is sent.

    Args: volume_node: the CT whose body entry and target are checked against. robot: a connected RobotLink.
    Raises InputError (no path, no volume), RefusedError with every check that isn't passed.
    """
    path = plan_from_node(path_node)
    if path is None:
        raise InputError("choose or draw a path first: the entry, then the target")
    if volume_node is None:
        raise InputError("choose the CT in step 1: entry and target are checked against the body")
    body = find_skin(volume_from_node(volume_node)).body
    masks = {entry.name: Mask(entry.distance.array < 0.0, entry.distance.grid, entry.name) for entry in obstacles}
    plan = plan_for_robot(path[0], path[1], body=body, chain=chain_of(robot, registration), obstacles=masks,
                          clearance_mm=clearance_mm, chosen=path)
    if not plan.ready:
        raise RefusedError("not sent: " + "; ".join(plan.problems))
    lines = "\n".join(f"- {check.text}" for check in plan.checks)
    return PreparedTarget(plan, f"Send this target to the robot?\n{plan.summary()}\n\n{lines}\n\nValidated on: "
                                f"{plan.validated_on}", path_node, path)


def send_target(prepared: PreparedTarget, agreed: bool, robot, registration=None) -> np.ndarray:
    """Send a confirmed target. Returns the pose (4, 4) RAS from the needle that left.

    Raises RefusedError: not agreed, the path is another by now, no connection, a link lost since, a phase in which no
    target is taken.
    """
    token = confirm(prepared.plan, agreed)
    _require_same_path(prepared)
    pose = require_confirmed(prepared.plan, token, prepared.plan.ras_from_needle, chain_of(robot, registration))
    if robot is None or not robot.connected:
        raise RefusedError("not sent: the robot is not connected")
    robot.session.send_target(pose)
    return pose


def _require_same_path(prepared: PreparedTarget) -> None:
    """Raises RefusedError where the line was moved or taken away while the user was asked."""
    if prepared.path is None:
        return
    node, now = prepared.path_node, None
    if node.GetScene() is not None:
        try:
            now = plan_from_node(node)
        except InputError:
            now = None
    if now is None or not np.array_equal(np.array(now), np.array(prepared.path)):
        raise RefusedError("not sent: the path was changed after it was checked; send it again")


def send_frame(transform_node, robot) -> None:
    """Send a transform node (robot's base to RAS) as the robot's calibration. Raises InputError, RefusedError."""
    import vtk

    if transform_node is None:
        raise InputError("choose the transform from the robot's base to RAS")
    if not transform_node.IsTransformToWorldLinear():
        raise InputError(f"{transform_node.GetName()}: is deformable; a rigid transform is needed")
    if robot is None or not robot.connected:
        raise RefusedError("the robot is not connected")
    matrix = vtk.vtkMatrix4x4()
    transform_node.GetMatrixTransformToWorld(matrix)
    robot.session.send_calibration(matrix_from_vtk(matrix))


def answered(prepared: PreparedTarget | None, robot) -> Check | None:
    """Whether the robot reaches the target that was sent; None before it answered."""
    if prepared is None or robot is None or robot.session.reachable is None:
        return None
    return reachable_by_robot(prepared.plan, robot.session.reachable.matrix)


def achieved(prepared: PreparedTarget | None, robot) -> Achieved | None:
    """Where the needle is now against the plan, by the robot's own word; None while it isn't known or is old."""
    position: Any = None if prepared is None or robot is None else robot.session.position()
    if prepared is None or position is None or position[2]:
        return None
    return compare_achieved(prepared.plan, position[0])
