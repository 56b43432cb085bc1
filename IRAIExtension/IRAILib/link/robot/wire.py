"""Between the protocol's `RobotMessage` and OpenIGTLink messages."""

from __future__ import annotations

from typing import Any

from IRAILib.geometry import InputError

from ..messages import Message, Status, String, Transform
from .protocol import RobotMessage


def to_link(message: RobotMessage) -> Message:
    """The OpenIGTLink message to send; raises InputError where a pose can't be put on the wire."""
    if message.kind == "STRING":
        return String(message.text, device=message.device)
    if message.kind == "STATUS":
        return Status(message.code, message.subcode, message.error_name, message.text, device=message.device)
    if message.matrix is None:
        raise InputError(f"robot: {message} has no pose to send")
    return Transform(message.matrix, device=message.device)


def from_link(message: Any) -> RobotMessage | None:
    """The protocol's message in a received one; None for types that the protocol doesn't use."""
    if isinstance(message, String):
        return RobotMessage("STRING", message.device, text=message.text)
    if isinstance(message, Status):
        return RobotMessage("STATUS", message.device, text=message.text, code=message.code, subcode=message.subcode,
                            error_name=message.error_name)
    if isinstance(message, Transform):
        return RobotMessage("TRANSFORM", message.device, matrix=message.matrix, time_s=message.time_s)
    return None
