"""Poses: TRANSFORM, POSITION (and QTRANS, its twin), TDATA, QTDATA.

Source: the OpenIGTLink protocol specification, chapters of the same names. Positions are in mm, in the frame that the
sender means (device names such as ProbeToTracker say which). A pose with NaN or infinity raises ContentError; a
transform may scale or shear, since peers send calibrations with it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from ..framing import BytesLike
from . import base
from .base import ContentError, InputError, Message, wire_types

TOOL_TRACKER, TOOL_6D, TOOL_3D, TOOL_5D = 1, 2, 3, 4
_TWELVE = struct.Struct(">12f")
_TOOL = struct.Struct(">20sBB12f")
_QUATERNION_TOOL = struct.Struct(">20sBB3f4f")


@wire_types()
@dataclass
class Transform(Message):
    """TRANSFORM: `matrix` (4, 4) float64, mm, last row 0 0 0 1; float32 on the wire."""

    TYPE = "TRANSFORM"

    matrix: np.ndarray = field(default_factory=lambda: np.eye(4))

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Transform:
        return cls(base.matrix_of(_TWELVE.unpack(base.exactly(content, _TWELVE.size, "TRANSFORM")), "TRANSFORM"))

    def parts(self) -> list[BytesLike]:
        return [base.matrix_bytes(self.matrix, f"the matrix of TRANSFORM {self.device!r}")]


@wire_types("POSITION", "QTRANS")
@dataclass
class Position(Message):
    """POSITION: a point and a rotation.

    Attributes:
        position: (3,) float64, mm.
        quaternion: (4,) float64 qx qy qz qw as received (its norm may differ a little from 1).
        quaternion_size: numbers of the quaternion on the wire: 4; 3 (qw follows from the norm 1 and is positive); or 0
            (position only, the quaternion is the identity).
        name: "POSITION" or "QTRANS", which have the same content.
    """

    TYPE = "POSITION"

    position: np.ndarray = field(default_factory=lambda: np.zeros(3))
    quaternion: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.0, 0.0, 1.0]))
    quaternion_size: int = 4
    name: str = "POSITION"

    @property
    def wire_type(self) -> str:
        return self.name

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4) rigid matrix of the position and the normalised quaternion."""
        return base.pose_from_quaternion(self.position, self.quaternion)

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Position:
        if content.nbytes not in (12, 24, 28):
            raise ContentError(f"OpenIGTLink: {wire_type} has {content.nbytes} bytes, the protocol says 28, 24 or 12")
        values = base.finite_floats(struct.unpack(f">{content.nbytes // 4}f", content), wire_type)
        given = values[3:]
        if given.size == 4:
            quaternion = base.quaternion_of(given, wire_type)
        elif given.size == 3:
            rest = 1.0 - float(given @ given)
            if rest < -1e-3:
                raise ContentError(f"OpenIGTLink: the three quaternion numbers of {wire_type} are longer than 1")
            quaternion = np.append(given, np.sqrt(max(rest, 0.0)))
        else:
            quaternion = np.array([0.0, 0.0, 0.0, 1.0])
        return cls(values[:3], quaternion, given.size, wire_type)

    def parts(self) -> list[BytesLike]:
        if self.quaternion_size not in (0, 3, 4) or self.name not in ("POSITION", "QTRANS"):
            raise InputError("OpenIGTLink: POSITION carries 4, 3 or 0 numbers of a quaternion and is named POSITION or "
                             "QTRANS")
        quaternion = base.outgoing_quaternion(self.quaternion, self.name)
        if self.quaternion_size == 3:
            unit = np.asarray(self.quaternion, dtype=np.float64)
            if abs(np.linalg.norm(unit) - 1) > 1e-3:
                raise InputError("OpenIGTLink: a quaternion of which three numbers are sent must have the norm 1")
            quaternion = base.outgoing_floats(unit[:3] if unit[3] >= 0 else -unit[:3], (3,), self.name)
        position = base.outgoing_floats(self.position, (3,), f"the position of {self.name}")
        return [position.tobytes() + quaternion[:self.quaternion_size].tobytes()]


@dataclass
class Tool:
    """One tracked instrument: name (20 bytes), kind (1 tracker, 2 6D, 3 3D, 4 5D), matrix (4, 4) float64, mm."""

    name: str = ""
    kind: int = TOOL_6D
    matrix: np.ndarray = field(default_factory=lambda: np.eye(4))


@wire_types()
@dataclass
class TData(Message):
    """TDATA: the poses of several instruments at one time; `tools` may be empty."""

    TYPE = "TDATA"

    tools: list[Tool] = field(default_factory=list)

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> TData:
        tools = []
        for name, kind, _, *numbers in base.elements(content, _TOOL, "TDATA"):
            text = base.text_field(name, "a tool's name in TDATA")
            tools.append(Tool(text, kind, base.matrix_of(numbers, f"the pose of {text!r} in TDATA")))
        return cls(tools)

    def parts(self) -> list[BytesLike]:
        return [b"".join(base.packed(_TOOL_HEAD, "a tool of TDATA", base.fixed(tool.name, 20, "the tool's name"),
                                     tool.kind, 0)
                         + base.matrix_bytes(tool.matrix, f"the matrix of tool {tool.name!r}") for tool in self.tools)]


_TOOL_HEAD = struct.Struct(">20sBB")


@dataclass
class QuaternionTool:
    """One tracked instrument: name, kind as in `Tool`, position (3,) mm, quaternion (4,) qx qy qz qw."""

    name: str = ""
    kind: int = TOOL_6D
    position: np.ndarray = field(default_factory=lambda: np.zeros(3))
    quaternion: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.0, 0.0, 1.0]))

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4) rigid matrix; the quaternion is normalised first."""
        return base.pose_from_quaternion(self.position, self.quaternion)


@wire_types()
@dataclass
class QTData(Message):
    """QTDATA: the poses of several instruments as positions and quaternions; `tools` may be empty."""

    TYPE = "QTDATA"

    tools: list[QuaternionTool] = field(default_factory=list)

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> QTData:
        tools = []
        for name, kind, _, *numbers in base.elements(content, _QUATERNION_TOOL, "QTDATA"):
            text = base.text_field(name, "a tool's name in QTDATA")
            what = f"the pose of {text!r} in QTDATA"
            position, quaternion = base.finite_floats(numbers[:3], what), base.quaternion_of(numbers[3:], what)
            tools.append(QuaternionTool(text, kind, position, quaternion))
        return cls(tools)

    def parts(self) -> list[BytesLike]:
        found = []
        for tool in self.tools:
            what = f"the pose of tool {tool.name!r}"
            found += [base.packed(_TOOL_HEAD, what, base.fixed(tool.name, 20, "the tool's name"), tool.kind, 0),
                      base.outgoing_floats(tool.position, (3,), what).tobytes(),
                      base.outgoing_quaternion(tool.quaternion, what).tobytes()]
        return [b"".join(found)]
