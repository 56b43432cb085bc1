"""Catheter and guide-wire in fluoroscopy by a small network, run by onnxruntime on the CPU: no torch, no training code.

The network (wire_model) looks at four frames and says of every second pixel how likely it lies on a device's axis and
how likely a device ends there. The course is the cheapest path that ends at the tip, smoothed by a spline; how much the
tip may be off was found on simulated frames kept for that (`weights/wire_xray.json`).
"""

from __future__ import annotations

import logging
import math
import zlib
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import MissingPackageError, NeedleEstimate, NeedleStatus
from ..weights.network_file import open_session, read_card, require_onnxruntime
from .catheter import checked_frames
from .wire_decode import SIGNS, Course, confidence, read_maps
from .wire_features import features
from .wire_model import STRIDE
from .wire_simulator import STACK

_log = logging.getLogger("IRAI.fluoroscopy")
METHOD = "wire network"
WHAT, COMMAND = "the wire network", "python -m IRAILib.fluoroscopy.wire_train"
WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "wire_xray.onnx"
MOST_PX = 768
"""Larger frames are averaged over whole pixels until they are no larger."""


def load_card(path: Path) -> dict[str, Any]:
    """The card beside the weights. Raises: InputError when it is missing, damaged, or of other weights."""
    return read_card(path, WHAT, COMMAND, _check)


def _check(card: dict[str, Any]) -> None:
    operation = card["operation"]
    weights = [float(value) for value in operation["presence"]]
    numbers = [float(operation[name]) for name in ("threshold", "sigma_along", "sigma_across", "sigma_angle_deg")]
    if len(weights) != SIGNS + 1 or not np.isfinite([*weights, *numbers]).all():
        raise ValueError("operation")


class WireNetwork:
    """The device of the newest frame of a stack.

    Args:
        path: ONNX file with its card beside it; None: the one that comes with IRAI. threads: of onnxruntime.
    Raises: MissingPackageError without onnxruntime; InputError when the file or its card can't be used.
    """

    def __init__(self, path: str | Path | None = None, *, threads: int = 2) -> None:
        require_onnxruntime(WHAT)
        self.path = Path(path) if path is not None else WEIGHTS
        self.card = load_card(self.path)
        self.validated_on = str(self.card.get("validated_on", "simulation"))
        self._session = open_session(self.path, WHAT, threads)
        self._seen: OrderedDict[tuple, np.ndarray] = OrderedDict()

    def _features(self, frame: np.ndarray) -> np.ndarray:
        data = np.ascontiguousarray(frame)
        key = (data.shape, data.dtype.str, zlib.crc32(data.data))
        if key not in self._seen:
            self._seen[key] = features(data)
            while len(self._seen) > STACK + 1:
                self._seen.popitem(last=False)
        return self._seen[key]

    def maps(self, frames: np.ndarray) -> np.ndarray:
        """(2, H / 2, W / 2) logits of axis and tip for (t, h, w), newest last; fewer than four frames are repeated.
        H, W: h, w up to multiples of 32."""
        seen = [self._features(frame) for frame in frames[-STACK:]]
        seen = [seen[0]] * (STACK - len(seen)) + seen
        return np.asarray(self._session.run(None, {"frames": np.stack(seen)[None]})[0])[0]

    def course(self, frames: np.ndarray, previous_tip: np.ndarray | None = None) -> Course | None:
        """The most convincing device, however little it convinces, in map pixels; None where no line has an end."""
        shape = (math.ceil(frames.shape[1] / STRIDE), math.ceil(frames.shape[2] / STRIDE))
        return read_maps(self.maps(frames), shape, previous_tip)


@lru_cache(maxsize=1)
def default_network() -> WireNetwork | None:
    """The network that comes with IRAI; None, said once in the log, without onnxruntime or the weights."""
    if not WEIGHTS.is_file():
        _log.warning("%s is missing: catheters are traced classically (make it with %s)", WEIGHTS.name, COMMAND)
        return None
    try:
        return WireNetwork()
    except MissingPackageError:
        _log.warning("onnxruntime is missing: catheters are traced classically (pip install onnxruntime)")
        return None


def find_wire(frames: np.ndarray, *, mm_per_px: float | None = None, previous: NeedleEstimate | None = None,
              time_s: float = 0.0, network: WireNetwork | None = None, threshold: float | None = None
              ) -> NeedleEstimate:
    """Tip and course of the most convincing catheter or guide-wire in the newest frame.

    Args:
        frames: (t, h, w) or (h, w), grey values that grow with the dose (metal dark), newest last; four are looked at.
        mm_per_px: at the device's depth; None leaves the result in pixels.
        previous: the last estimate in the same frame and units: an end near its tip is preferred.
        time_s: acquisition time of the newest frame, seconds. network: None for the one that comes with IRAI.
        threshold: least confidence of a device; None for the card's.
    Returns: modality "XA", frame "Detector"; z = 0, (x, y) = (column, row) from the centre of the first pixel. ABSENT
        with its confidence where no end of a line convinces. Where a loop crosses itself the course may take the
        shorter way.
    Raises: InputError for frames that aren't (t, h, w), are smaller than 64 pixels or hold no signal;
        MissingPackageError without onnxruntime.
    """
    stack = checked_frames(frames, mm_per_px)[-STACK:]
    network = network or default_network() or WireNetwork()
    factor = math.ceil(max(stack.shape[1:]) / MOST_PX)
    if factor > 1:
        stack = _averaged(stack, factor)
    unit = 1.0 if mm_per_px is None else float(mm_per_px)
    before = None
    if previous is not None and previous.tip is not None:
        before = ((previous.tip[:2] / unit - (factor - 1) / 2.0) / factor - 0.5) / STRIDE
    course = network.course(stack, before)
    operation = network.card["operation"]
    chance = 0.0 if course is None else confidence(course.signs, operation["presence"])
    base = {"time_s": time_s, "frame": "Detector", "units": "px" if mm_per_px is None else "mm", "modality": "XA",
            "method": METHOD, "validated_on": network.validated_on, "confidence": chance}
    if course is None or chance < (operation["threshold"] if threshold is None else threshold):
        return NeedleEstimate(NeedleStatus.ABSENT, **base)
    scale = STRIDE * factor * unit  # of a map pixel
    offset = (0.5 * factor + (factor - 1) / 2.0) * unit
    curve = np.zeros((len(course.points), 3))
    curve[:, :2] = course.points * scale + offset
    curve[-1, :2] = course.tip * scale + offset
    return NeedleEstimate(
        NeedleStatus.SEEN, **base, tip=curve[-1], direction=np.append(course.direction, 0.0), curve=curve,
        covariance=_covariance(course, operation) * scale**2, direction_sigma_deg=float(operation["sigma_angle_deg"]),
        visible_fraction=float(course.signs[1]))


def _covariance(course: Course, operation: dict[str, Any]) -> np.ndarray:
    """(3, 3) of the tip in map pixels: how widely the tip's map spreads, in the proportions seen in simulation."""
    along = course.direction
    across = np.array([-along[1], along[0]])
    out = np.zeros((3, 3))
    for axis, name in ((along, "sigma_along"), (across, "sigma_across")):
        wide = max(float(axis @ course.spread @ axis), 0.25)
        out[:2, :2] += wide * float(operation[name]) ** 2 * np.outer(axis, axis)
    return out


def _averaged(stack: np.ndarray, factor: int) -> np.ndarray:
    """(t, h // factor, w // factor) means of whole pixels."""
    height, width = stack.shape[1] // factor, stack.shape[2] // factor
    cut = stack[:, :height * factor, :width * factor].astype(np.float32)
    return cut.reshape(len(stack), height, factor, width, factor).mean(axis=(2, 4))
