"""A navigation and a robot in any phase, a needle, a message as a peer gets it: for the tests of the devices."""

from __future__ import annotations

import time

import numpy as np
from IRAILib.geometry import NeedleEstimate, NeedleStatus
from IRAILib.link.framing import HEADER_SIZE, parse_header, unpack_body
from IRAILib.link.messages import decode, encode
from IRAILib.link.robot.controller import RobotController
from IRAILib.link.robot.kinematics import Motion, NeedleGuide
from IRAILib.link.robot.machine import ReachableTarget, RobotMachine
from IRAILib.link.robot.protocol import Phase, pose_difference
from scipy.spatial.transform import Rotation


def pose(*shift, rotvec=(0, 0, 0)) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = Rotation.from_rotvec(rotvec).as_matrix()
    out[:3, 3] = shift or (0, 0, 0)
    return out


def machine_in(phase: str, **values) -> RobotMachine:
    machine = RobotMachine(connected=True, phase=Phase(phase), ready=True, calibrated=True)
    machine.reachable = ReachableTarget(pose(1, 2, 3), pose_difference(pose(), pose()), True)
    for name, value in values.items():
        setattr(machine, name, value)
    return machine


def robot_in(phase: str, depth=50.0, **values) -> RobotController:
    guide = NeedleGuide()
    joints = guide.home()
    joints[4] = depth
    robot = RobotController(guide, Motion(guide, joints, 20.0), phase=Phase(phase), **values)
    robot.ras_from_base = np.eye(4)
    return robot


def texts(messages) -> list[str]:
    return [str(getattr(m, "message", m)) for m in messages]


def needle(tip: tuple | None = (1, 2, 3), **values) -> NeedleEstimate:
    defaults = {"status": NeedleStatus.SEEN, "time_s": time.time(), "frame": "RAS", "units": "mm", "modality": "US",
                "method": "test", "validated_on": "nothing", "confidence": 0.9,
                "tip": None if tip is None else np.array(tip, float),
                "direction": np.array([0, 0, 1.0]), "covariance": np.eye(3) * 0.25}
    return NeedleEstimate(**{**defaults, **values})


def over_the_wire(message, version=1):
    """Encoded and decoded: what a peer would get."""
    octets = memoryview(b"".join(encode(message, version=version)))
    out = decode(unpack_body(parse_header(octets[:HEADER_SIZE], max_body=1 << 24), octets[HEADER_SIZE:]))
    out.received_s = message.received_s
    return out
