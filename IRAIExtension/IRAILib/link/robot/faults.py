"""Faults that the simulated robot makes on request: KIND, KIND@SECONDS (from then on), KIND@PHASE (from its entry)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from IRAILib.geometry import InputError

from .protocol import Phase, RobotMessage, phase_named, string, transform

KINDS = {
    "no-ack": "acknowledges nothing",
    "late-ack": "acknowledges 0.8 s late",
    "wrong-ack": "acknowledges another phase, and other poses than it got",
    "nan": "streams a position that isn't a number",
    "freeze": "stops streaming its position",
    "drop": "closes the connection (once)",
    "bad-crc": "sends one message with a wrong checksum",
    "hardware": "reports a hardware failure (once)",
    "jump": "its encoder jumps by 40 mm",
    "not-ready": "fails its self-test",
}
LATE_S = 0.8
JUMP_MM = 40.0


@dataclass
class Fault:
    """One fault; `from_s` after the start, or from the entry of `phase`; `active` once that has come."""

    kind: str
    from_s: float = 0.0
    phase: Phase | None = None
    active: bool = False
    done: bool = False

    @classmethod
    def parse(cls, text: str) -> Fault:
        """`KIND[@SECONDS|@PHASE]`; raises InputError that names the kinds."""
        kind, _, when = text.partition("@")
        if kind not in KINDS:
            raise InputError(f"robot-sim: there is no fault '{kind}'; choose from {', '.join(KINDS)}")
        if not when:
            return cls(kind)
        phase = phase_named(when.upper())
        if phase is not None and phase is not Phase.UNDEFINED:
            return cls(kind, phase=phase)
        try:
            seconds = float(when)
        except ValueError:
            seconds = math.nan
        if not (math.isfinite(seconds) and seconds >= 0):
            raise InputError(f"robot-sim: '{text}': give seconds or a phase after the @")
        return cls(kind, from_s=seconds)

    def update(self, elapsed_s: float, phases: set[Phase]) -> bool:
        """True when it becomes active now; `phases`: those asked for or entered in this step."""
        begins = not self.active and (elapsed_s >= self.from_s if self.phase is None else self.phase in phases)
        self.active = self.active or begins
        return begins


def falsified(message: RobotMessage, kind: str) -> RobotMessage:
    """The message as a robot with fault `wrong-ack` or `jump` sends it."""
    if kind == "wrong-ack" and message.device.startswith("ACK_"):
        if message.kind == "STRING":
            other = Phase.PLANNING if message.text != Phase.PLANNING.value else Phase.STOP
            return string(message.device, other.value)
        if message.kind == "TRANSFORM" and message.matrix is not None:
            return transform(message.device, _shifted(message.matrix, 1.0))
    if kind == "jump" and message.device == "CURRENT_POSITION" and message.matrix is not None:
        return transform(message.device, _shifted(message.matrix, JUMP_MM))
    return message


def _shifted(matrix: np.ndarray, by_mm: float) -> np.ndarray:
    out = np.array(matrix, float)
    out[0, 3] += by_mm
    return out
