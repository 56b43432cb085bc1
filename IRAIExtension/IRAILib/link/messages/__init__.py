"""One dataclass a message type of OpenIGTLink, and the way between them and frames."""

from __future__ import annotations

from ..framing import Frame, pack
from .arrays import Bind, BindChild, ColorTable, NDArray
from .base import REGISTRY, Message, pose_from_quaternion, quaternion_from_pose
from .image import Image, Video
from .lists import (
    ImageMeta,
    ImageMetaItem,
    LabelMeta,
    LabelMetaItem,
    Point,
    PointItem,
    Trajectory,
    TrajectoryItem,
    VideoMeta,
    VideoMetaItem,
)
from .polydata import Attribute, PolyData
from .pose import Position, QTData, QuaternionTool, TData, Tool, Transform
from .text import (
    QUERY_PREFIXES,
    STATUS_NAMES,
    STATUS_OK,
    Capability,
    Command,
    CommandReply,
    Query,
    Sensor,
    Status,
    String,
    Unknown,
)


def decode(frame: Frame) -> Message:
    """The message in a checked frame; a type nobody knows becomes `Unknown`. Raises ContentError.

    Arrays of images and videos are views of the frame's content: keep them, and the received buffer stays alive.
    """
    is_query = frame.type.startswith(QUERY_PREFIXES) and len(frame.type) > len(QUERY_PREFIXES[0])
    kind = REGISTRY.get(frame.type) or (Query if is_query else Unknown)
    message = kind.from_content(frame.content, frame.type)
    message.device, message.time_s = frame.device, frame.time_s
    message.metadata, message.message_id = frame.metadata, frame.message_id
    return message


def encode(message: Message, *, version: int = 1) -> list[memoryview]:
    """The whole message, header first, ready for `socket.sendmsg`; raises InputError for what the wire can't hold.

    Pixels and other large arrays are viewed and not copied: leave them alone until the buffers are sent.
    """
    return pack(message.wire_type, message.device, message.parts(), time_s=message.time_s, version=version,
                metadata=message.metadata, message_id=message.message_id)


__all__ = [
    "QUERY_PREFIXES", "STATUS_NAMES", "STATUS_OK", "Attribute", "Bind", "BindChild", "Capability", "ColorTable",
    "Command", "CommandReply", "Image", "ImageMeta", "ImageMetaItem", "LabelMeta", "LabelMetaItem", "Message",
    "NDArray", "Point", "PointItem", "PolyData", "Position", "QTData", "QuaternionTool", "Query", "Sensor", "Status",
    "String", "TData", "Tool", "Trajectory", "TrajectoryItem", "Transform", "Unknown", "Video", "VideoMeta",
    "VideoMetaItem", "decode", "encode", "pose_from_quaternion", "quaternion_from_pose",
]
