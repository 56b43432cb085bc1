"""Needle in 2D ultrasound by a small network, run by onnxruntime on the CPU: no torch, no training code.

The network (`training.model`) looks at three frames on a canvas of 256 x 192 and gives a map of the tip, a map of
the shaft, and six scalars. Here the tip is the centroid around the map's peak, the line a weighted quadratic fit to
the shaft's map with its tangent at the tip, and the covariance what the network says of itself, scaled by factors
found on simulated sequences kept for that (`weights/needle_ultrasound.json`).
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from ...geometry import InputError, MissingPackageError
from .detection import FrameDetection, checked_frames
from .features import STACK, canvas_from_frame, frame_px_from_map

WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "needle_ultrasound.onnx"
VALIDATED_ON = "simulation"
SHAFT_FLOOR, NEAR_PX, WINDOW = 0.2, 3.5, 4
BEND_RIDGE = 3.0  # against a bend that the shaft's few pixels don't show
LEAST_SHAFT_PX = 6.0


def load_card(path: Path) -> dict[str, Any]:
    """The card beside the weights. Raises: InputError when it is missing, damaged, or of other weights."""
    card_path = path.with_suffix(".json")
    for needed in (path, card_path):
        if not needed.is_file():
            raise InputError(f"the needle network's file {needed} is missing; make it with: irai needle train")
    try:
        card = json.loads(card_path.read_text("utf-8"))
        operation = card["operation"]
        digest, _ = card["sha256"], [operation[name] for name in ("threshold", "presence", "in_plane", "sigma_factor")]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"the needle network's card {card_path} is damaged ({error})") from None
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise InputError(f"{path} is not the file that its card {card_path.name} describes: the checksum differs")
    return card


def _sigmoid(value: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(value, -40, 40)))


class NetworkDetector:
    """The needle of the newest frame of a stack, by the network; a `Detector`.

    Args:
        path: ONNX file with its card beside it; None: the one that comes with IRAI.
        threads: of onnxruntime.
    Raises: MissingPackageError without onnxruntime; InputError when the file or its card can't be used.
    """

    stack_length = STACK
    method = "network"

    def __init__(self, path: str | Path | None = None, *, threads: int = 2):
        try:
            import onnxruntime
        except ImportError:
            raise MissingPackageError("the needle network needs onnxruntime: pip install onnxruntime") from None
        self.path = Path(path) if path is not None else WEIGHTS
        self.card = load_card(self.path)
        self.validated_on = str(self.card.get("validated_on", VALIDATED_ON))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own kinds, without a common base
            raise InputError(f"the needle network {self.path} can't be loaded: {str(error).splitlines()[0]}") from None
        self._canvases: OrderedDict[tuple, np.ndarray] = OrderedDict()

    def _canvas(self, frame: np.ndarray) -> np.ndarray:
        data = np.ascontiguousarray(frame)
        key = (data.shape, zlib.crc32(data.data), zlib.adler32(data.data))
        if key not in self._canvases:
            self._canvases[key] = canvas_from_frame(data)
            while len(self._canvases) > STACK + 1:
                self._canvases.popitem(last=False)
        return self._canvases[key]

    def raw(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(maps (2, 96, 128): tip and shaft logits; scalars (6,)) for (t, h, w) uint8, newest last."""
        stack = [self._canvas(frame) for frame in frames[-STACK:]]
        stack = [stack[0]] * (STACK - len(stack)) + stack
        maps, scalars = self._session.run(None, {"frames": np.stack(stack)[None]})
        return np.asarray(maps)[0], np.asarray(scalars)[0]

    def detect(self, frames: np.ndarray, *, mm_per_px: tuple[float, float] | None = None) -> FrameDetection:
        """The needle in `frames[-1]`; see `Detector`. The scale isn't used: everything is in pixels.

        Fewer than three frames are repeated. A picture without contrast gives "not found".
        Raises: InputError for frames that aren't (t, h, w) uint8.
        """
        array = checked_frames(frames)
        if int(array[-1].max()) - int(array[-1].min()) < 8:
            return FrameDetection(found=False, method=self.method)
        maps, scalars = self.raw(array)
        return read_maps(maps, scalars, (array.shape[1], array.shape[2]), self.card["operation"])


def read_maps(maps: np.ndarray, scalars: np.ndarray, shape: tuple[int, int],
              operation: dict[str, Any]) -> FrameDetection:
    """What the network's output says, in pixels of a picture of `shape` (h, w)."""
    fraction = float(_sigmoid(scalars[2]))
    tip = peak(maps[0])
    shaft = _sigmoid(maps[1])
    line = fit_line(shaft, tip)
    signs = evidence(maps, shaft, scalars, tip, line)
    confidence = chance(signs, operation["presence"])
    in_plane = chance(signs, operation["in_plane"])
    if line is None or confidence < operation["threshold"]:
        return FrameDetection(found=False, confidence=confidence, in_plane=in_plane, method=NetworkDetector.method)
    tip, direction, entry, angle_sigma = line
    per_px = float(np.linalg.norm(frame_px_from_map(tip + direction, shape) - frame_px_from_map(tip, shape)))
    along = math.exp(float(np.clip(scalars[3], -2.5, 3.0))) * operation["sigma_along_factor"]
    across = math.exp(float(np.clip(scalars[4], -2.5, 3.0))) * operation["sigma_across_factor"]
    normal = np.array([-direction[1], direction[0]])
    covariance = along**2 * np.outer(direction, direction) + across**2 * np.outer(normal, normal)
    covariance = (covariance + heat_spread(maps[0], tip)) * operation["sigma_factor"] ** 2
    # in_plane of the network crosses its own threshold where the tip counts as in the plane: 0.5 after this
    bent = in_plane ** (math.log(0.5) / math.log(min(max(operation["in_plane_threshold"], 0.02), 0.98)))
    return FrameDetection(
        found=True, tip_px=frame_px_from_map(tip, shape), direction=direction,
        entry_px=frame_px_from_map(entry, shape), covariance_px=covariance * per_px**2,
        direction_sigma_deg=angle_sigma * operation["sigma_angle_factor"], confidence=confidence,
        visible_fraction=fraction, in_plane=bent, method=NetworkDetector.method)


def evidence(maps: np.ndarray, shaft: np.ndarray, scalars: np.ndarray, tip: np.ndarray,
             line: tuple[np.ndarray, np.ndarray, np.ndarray, float] | None) -> np.ndarray:
    """(10,) signs of a needle and of its tip: the network's scalars, how sharp the tip's map is, and the shaft's.

    They are weighed by `chance`; without a line the shaft's signs are 0.
    """
    heat = maps[0].astype(float) - float(maps[0].max())
    rows = slice(max(int(tip[1]) - WINDOW, 0), int(tip[1]) + WINDOW + 1)
    columns = slice(max(int(tip[0]) - WINDOW, 0), int(tip[0]) + WINDOW + 1)
    heat = np.exp(heat)
    sharp = math.log(float(heat[rows, columns].sum() / heat.sum()) + 1e-4)
    signs = [*np.clip(scalars[:4], -12, 12), sharp, float(maps[0].max()) / 4, 0.0, 0.0, 0.0, 0.0]
    if line is not None:
        at, direction, entry, _ = line
        length = float(np.linalg.norm(at - entry))

        def mean(back: np.ndarray) -> float:
            points = np.rint(at - back[:, None] * direction).astype(int)
            return float(shaft[np.clip(points[:, 1], 0, shaft.shape[0] - 1),
                               np.clip(points[:, 0], 0, shaft.shape[1] - 1)].mean())

        signs[6:] = [mean(np.arange(1.0, 13.0)), min(length / 40, 1.5), mean(np.arange(-9.0, -3.0)),
                     mean(np.arange(0.0, max(length, 2.0))) * length / max(float(shaft.sum()), 1.0)]
    return np.array(signs)


def chance(signs: np.ndarray, weights: list[float]) -> float:
    """Logistic combination of `evidence`: weights (10,) and a constant at the end."""
    return float(_sigmoid(signs @ np.asarray(weights[:-1]) + weights[-1]))


def peak(logits: np.ndarray) -> np.ndarray:
    """(2,) x, y of the softmax centroid around the greatest value of (h, w) logits."""
    row, column = np.unravel_index(int(logits.argmax()), logits.shape)
    rows = np.arange(max(row - WINDOW, 0), min(row + WINDOW + 1, logits.shape[0]))
    columns = np.arange(max(column - WINDOW, 0), min(column + WINDOW + 1, logits.shape[1]))
    weight = np.exp(logits[np.ix_(rows, columns)].astype(float) - float(logits.max()))
    weight /= weight.sum()
    return np.array([weight.sum(0) @ columns, weight.sum(1) @ rows])


def heat_spread(logits: np.ndarray, tip: np.ndarray) -> np.ndarray:
    """(2, 2) second moment of the tip's map about `tip`: large where two places compete."""
    heat = np.exp(logits.astype(float) - float(logits.max()))
    rows, columns = np.nonzero(heat > 1e-3)
    weight = heat[rows, columns] / heat[rows, columns].sum()
    offset = np.stack([columns - tip[0], rows - tip[1]], -1)
    return (offset * weight[:, None]).T @ offset


def fit_line(shaft: np.ndarray, tip: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float] | None:
    """(tip on the line, unit direction at the tip, entry, sigma of the angle in degrees), all in map pixels.

    Args: shaft (h, w) probabilities; tip (2,). None when there is no shaft by the tip.
    A weighted quadratic v(u) in the frame of the shaft's principal axis, pixels far from it left out.
    """
    rows, columns = np.nonzero(shaft > SHAFT_FLOOR)
    if len(rows) < 6:
        return None
    points = np.stack([columns, rows], -1).astype(float)
    weight = shaft[rows, columns].astype(float) ** 2
    centre, axis = _axis(points, weight, tip)
    if axis @ (tip - centre) < 0:
        axis = -axis
    normal = np.array([-axis[1], axis[0]])
    u, v = (points - tip) @ axis, (points - tip) @ normal
    bend = np.zeros(3)
    bend[0] = float((weight * v).sum() / weight.sum()) if len(v) else 0.0
    keep = np.ones(len(u), bool)
    for cut in (2 * NEAR_PX, NEAR_PX, NEAR_PX):
        residual = v - (bend[0] + bend[1] * u + bend[2] * u * u)
        keep = (np.abs(residual) < cut) & (u < 4.0)
        if keep.sum() < 6 or float(np.ptp(u[keep])) < LEAST_SHAFT_PX:
            return None
        span = max(float(-u[keep].min()), LEAST_SHAFT_PX)
        design = np.stack([np.ones(int(keep.sum())), u[keep] / span, (u[keep] / span) ** 2], -1)
        normal_matrix = design.T @ (design * weight[keep, None]) + np.diag([1e-6, 1e-6, BEND_RIDGE])
        solved = np.linalg.solve(normal_matrix, design.T @ (weight[keep] * v[keep]))
        bend = solved / np.array([1, span, span**2])
    residual = v - (bend[0] + bend[1] * u + bend[2] * u * u)
    spread = math.sqrt(float((weight[keep] * residual[keep] ** 2).sum() / weight[keep].sum()))
    direction = axis + bend[1] * normal
    start = float(u[keep].min())
    entry = tip + start * axis + (bend[0] + bend[1] * start + bend[2] * start**2) * normal
    sigma = math.degrees(math.sqrt(12) * max(spread, 0.3) / (span * math.sqrt(max(span, 1.0))))
    return tip + 0.7 * bend[0] * normal, direction / np.linalg.norm(direction), entry, sigma


def _axis(points: np.ndarray, weight: np.ndarray, tip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weighted centre, unit principal axis) of the pixels, those far off the line through the tip left out."""
    centre = (weight[:, None] * points).sum(0) / weight.sum()
    for _ in range(3):
        offset = points - centre
        axis = np.linalg.eigh((weight[:, None] * offset).T @ offset)[1][:, 1]
        off = np.abs(offset @ np.array([-axis[1], axis[0]]))
        use = weight * np.exp(-np.square(off / 6.0))
        centre = (use[:, None] * points).sum(0) / use.sum()
        offset = points - centre
        axis = np.linalg.eigh((use[:, None] * offset).T @ offset)[1][:, 1]
        weight = use
    return centre, axis
