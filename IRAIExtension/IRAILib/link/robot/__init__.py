"""The MRI-guided prostate-robot protocol: state machines of both sides, session, tip forwarding, simulated robot."""

from .forwarding import ForwardLimits, TipForwarder
from .machine import Outgoing, Pending, ReachableTarget, RobotMachine
from .protocol import (
    DIALECT_2013,
    DIALECT_2024,
    DIALECTS,
    FORBIDDEN,
    Dialect,
    Phase,
    PoseDifference,
    RobotMessage,
    Timeouts,
    pose_difference,
    why_forbidden,
)
from .session import RobotSession

__all__ = [
    "DIALECTS", "DIALECT_2013", "DIALECT_2024", "FORBIDDEN", "Dialect", "ForwardLimits", "Outgoing", "Pending", "Phase",
    "PoseDifference", "ReachableTarget", "RobotMachine", "RobotMessage", "RobotSession", "Timeouts", "TipForwarder",
    "pose_difference", "why_forbidden",
]
