"""The words of the MRI-guided prostate-robot protocol: phases, who may go where, names on the wire, time-outs.

Both sides use this file, and neither knows a socket: messages are `RobotMessage`, which `wire.py` turns into
OpenIGTLink messages and back. Two dialects are spoken: the one of 2013 (with a published tester) and the one of 2024,
which adds the table of forbidden transitions, REACHABLE_TARGET, NPOS_ and RETRACT_NEEDLE.

Source: ProstateBRP OpenIGTLink communication protocol (June 2013) and the robots that speak it since.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from IRAILib.geometry import InputError

MAX_ID = 16  # characters; with the prefix they fill the 20 bytes of a device name
RIGID_TOLERANCE = 1e-3
ECHO_TOLERANCE_MM = 1e-2  # an echo differs by the rounding of float32 only
ECHO_TOLERANCE_DEG = 0.05
_ID = re.compile(r"[0-9A-Za-z_.-]{1,16}")


class Phase(StrEnum):
    """The robot's phase. UNDEFINED: not started, not connected, or not known any more."""

    UNDEFINED = "UNDEFINED"
    START_UP = "START_UP"
    PLANNING = "PLANNING"
    CALIBRATION = "CALIBRATION"
    TARGETING = "TARGETING"
    MOVE_TO_TARGET = "MOVE_TO_TARGET"
    MANUAL = "MANUAL"
    STOP = "STOP"
    EMERGENCY = "EMERGENCY"


class Code:
    """STATUS codes that this protocol uses."""

    OK = 1
    ACCESS_DENIED = 5
    CONFIGURATION = 10
    UNKNOWN_INSTRUCTION = 12
    NOT_READY = 13
    HARDWARE = 18


INVALID_TARGET, DIFFERENT_TARGET = 1, 3  # sub-codes of CONFIGURATION in answer to a target
SAFE_PHASES = frozenset({Phase.STOP, Phase.EMERGENCY})
_P = Phase
FORBIDDEN: dict[Phase, frozenset[Phase]] = {
    _P.UNDEFINED: frozenset(_P) - {_P.START_UP, _P.STOP, _P.EMERGENCY},
    _P.START_UP: frozenset({_P.START_UP, _P.PLANNING, _P.TARGETING, _P.MOVE_TO_TARGET}),
    _P.PLANNING: frozenset({_P.PLANNING, _P.MOVE_TO_TARGET}),
    _P.CALIBRATION: frozenset({_P.CALIBRATION, _P.TARGETING, _P.MOVE_TO_TARGET}),
    _P.TARGETING: frozenset({_P.TARGETING}),
    _P.MOVE_TO_TARGET: frozenset(),
    _P.MANUAL: frozenset({_P.MANUAL, _P.CALIBRATION, _P.PLANNING, _P.TARGETING, _P.MOVE_TO_TARGET}),
    _P.STOP: frozenset({_P.STOP, _P.TARGETING, _P.MOVE_TO_TARGET}),
    _P.EMERGENCY: frozenset({_P.EMERGENCY, _P.TARGETING, _P.MOVE_TO_TARGET}),
}


@dataclass(frozen=True)
class Dialect:
    """What differs between the robots of 2013 and of 2024.

    Attributes:
        strict: the table of forbidden transitions holds.
        reachable_device: device name under which the reachable target comes back.
        not_calibrated_code: STATUS code of TARGETING on a robot that isn't calibrated.
    """

    name: str
    strict: bool
    reachable_device: str
    not_calibrated_code: int


DIALECT_2013 = Dialect("2013", False, "TARGET", Code.NOT_READY)
DIALECT_2024 = Dialect("2024", True, "REACHABLE_TARGET", Code.ACCESS_DENIED)
DIALECTS = {d.name: d for d in (DIALECT_2013, DIALECT_2024)}


@dataclass(frozen=True)
class Timeouts:
    """How long each answer may take, each counted from the answer before it; the reference tester's values."""

    ack_s: float = 0.5
    status_s: float = 1.0
    result_s: float = 5.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) and v > 0 for v in (self.ack_s, self.status_s, self.result_s)):
            raise InputError("robot: every time-out must be a positive number of seconds")


@dataclass(frozen=True, eq=False)
class RobotMessage:
    """One message of the protocol; `kind` is STRING (text), STATUS (code, subcode, error_name, text) or TRANSFORM.

    `time_s`: the sender's time stamp, seconds since 1970, or None.
    """

    kind: str
    device: str
    text: str = ""
    code: int = 0
    subcode: int = 0
    error_name: str = ""
    matrix: np.ndarray | None = None
    time_s: float | None = None

    def __str__(self) -> str:
        if self.kind == "STATUS":
            name = f":{self.error_name}" if self.error_name else ""
            return f"STATUS({self.device}, {self.code}:{self.subcode}{name})"
        return f"STRING({self.device}, {self.text})" if self.kind == "STRING" else f"TRANSFORM({self.device})"


def string(device: str, text: str) -> RobotMessage:
    return RobotMessage("STRING", device, text=text)


def status(device: str, code: int, subcode: int = 0, error_name: str = "", text: str = "") -> RobotMessage:
    return RobotMessage("STATUS", device, text=text, code=code, subcode=subcode, error_name=error_name)


def transform(device: str, matrix: np.ndarray) -> RobotMessage:
    return RobotMessage("TRANSFORM", device, matrix=np.array(matrix, float))


def why_forbidden(current: Phase, wanted: Phase, *, needle_home: bool | None,
                  dialect: Dialect = DIALECT_2024) -> str | None:
    """Reason why a robot in `current` may not be sent to `wanted`; None when it may.

    `needle_home`: None where it isn't known, which counts as not home. The dialect of 2013 has no table; its robots
    answer "not ready" instead.
    """
    if wanted is Phase.UNDEFINED:
        return "UNDEFINED can't be commanded"
    if not dialect.strict:
        return None
    if current is Phase.MOVE_TO_TARGET and wanted not in SAFE_PHASES and not needle_home:
        return f"MOVE_TO_TARGET to {wanted.value} only with the needle home; allowed now: STOP, EMERGENCY"
    if wanted in FORBIDDEN[current]:
        allowed = ", ".join(p.value for p in Phase if p not in FORBIDDEN[current] and p is not Phase.UNDEFINED)
        return f"{current.value} to {wanted.value} is forbidden; allowed: {allowed}"
    return None


def phase_named(text: str) -> Phase | None:
    """The phase of that name, or None."""
    return Phase.__members__.get(text.strip())


def checked_id(text: str) -> str:
    """`text` when it can be an id (1 to 16 ASCII letters, digits, `_ . -`); raises InputError otherwise."""
    if not _ID.fullmatch(text):
        raise InputError(f"robot: '{text[:40]}' can't be a command id; use 1 to {MAX_ID} letters or digits")
    return text


def checked_pose(matrix: np.ndarray, what: str) -> np.ndarray:
    """(4, 4) float64 rigid pose in mm; raises InputError for NaN, scaling, mirroring or another shape."""
    pose = np.asarray(matrix, float)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise InputError(f"robot: the {what} must be a 4x4 matrix of finite numbers")
    rotation = pose[:3, :3]
    if (np.abs(rotation.T @ rotation - np.eye(3)).max() > RIGID_TOLERANCE or np.linalg.det(rotation) < 0
            or np.abs(pose[3] - (0, 0, 0, 1)).max() > RIGID_TOLERANCE):
        raise InputError(f"robot: the {what} isn't rigid (scaled, sheared or mirrored)")
    return pose.copy()


@dataclass(frozen=True)
class PoseDifference:
    """How far apart two poses are: of their origins in mm, of their orientations and of their z axes in degrees."""

    distance_mm: float
    angle_deg: float
    axis_deg: float

    def to_dict(self) -> dict[str, float]:
        return {"distance_mm": self.distance_mm, "angle_deg": self.angle_deg, "axis_deg": self.axis_deg}

    def __str__(self) -> str:
        return f"{self.distance_mm:.2f} mm and {self.angle_deg:.2f} degrees"


def pose_difference(a: np.ndarray, b: np.ndarray) -> PoseDifference:
    """Difference of two rigid (4, 4) poses; NaN in either gives infinities, never a small number."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return PoseDifference(math.inf, math.inf, math.inf)
    relative = a[:3, :3].T @ b[:3, :3]
    sine = np.linalg.norm([relative[2, 1] - relative[1, 2], relative[0, 2] - relative[2, 0],
                           relative[1, 0] - relative[0, 1]]) / 2
    angle = math.degrees(math.atan2(sine, (np.trace(relative) - 1) / 2))
    axis = math.degrees(math.atan2(float(np.linalg.norm(np.cross(a[:3, 2], b[:3, 2]))), float(a[:3, 2] @ b[:3, 2])))
    return PoseDifference(float(np.linalg.norm(a[:3, 3] - b[:3, 3])), angle, axis)


def same_pose(sent: np.ndarray, received: np.ndarray) -> bool:
    """True when an echo is what was sent, but for the rounding to float32; elements count, not the rigid parts only."""
    sent, received = np.asarray(sent, float), np.asarray(received, float)
    if received.shape != (4, 4) or not np.isfinite(received).all():
        return False
    shift = float(np.abs(sent[:3, 3] - received[:3, 3]).max())
    turn = float(np.abs(sent[:3, :3] - received[:3, :3]).max())
    return shift <= ECHO_TOLERANCE_MM and turn <= math.radians(ECHO_TOLERANCE_DEG)
