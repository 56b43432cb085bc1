"""Needle in 2D ultrasound by a small network, run by onnxruntime on the CPU: no torch, no training code.

The network (`training.model`) looks at three frames on a canvas of 256 x 192 and gives a map of the tip, a map of
the shaft, and six scalars. Here the tip is the centroid around that peak of its map that ends a shaft best, the line
a weighted quadratic fit to the shaft's map with its tangent at the tip, and the covariance what the network says of
itself, scaled by factors found on simulated sequences kept for that (`weights/needle_ultrasound.json`).
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...weights.network_file import open_session, read_card, require_onnxruntime
from .detection import FrameDetection, checked_frames
from .features import STACK, canvas_from_frame, frame_px_from_map

WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "needle_ultrasound.onnx"
VALIDATED_ON = "simulation"
WHAT = "the needle network"
SHAFT_FLOOR, NEAR_PX, WINDOW = 0.2, 3.5, 4
BEND_RIDGE = 3.0  # against a bend that the shaft's few pixels don't show
LEAST_SHAFT_PX, LEAST_SUPPORT = 6.0, 2.0
RAYS, RAY_STEPS, RAY_FLOOR = 240, 110, 0.15
LEAST_DOWN = -0.2  # the sine of a needle's slope: from the probe into the body, the probe on top
MOST_PEAKS, PEAK_DEPTH = 3, 5.0  # places for the tip that are looked at, and how much less likely they may be
SUPPORT_WEIGHT, AHEAD_WEIGHT = 1.5, 3.0
SIGNS = 13


def load_card(path: Path) -> dict[str, Any]:
    """The card beside the weights. Raises: InputError when it is missing, damaged, or of other weights."""
    names = ("threshold", "presence", "in_plane", "sigma_factor")
    return read_card(path, WHAT, "irai needle train", lambda card: [card["operation"][name] for name in names])


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
        require_onnxruntime(WHAT)
        self.path = Path(path) if path is not None else WEIGHTS
        self.card = load_card(self.path)
        self.validated_on = str(self.card.get("validated_on", VALIDATED_ON))
        self._session = open_session(self.path, WHAT, threads)
        self._canvases: OrderedDict[tuple, np.ndarray] = OrderedDict()

    def _canvas(self, frame: np.ndarray) -> np.ndarray:
        data = np.ascontiguousarray(frame)
        key = (data.shape, zlib.crc32(data.data))
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
        return self._read(frames, self.card["operation"])

    def candidate(self, frames: np.ndarray) -> FrameDetection:
        """What comes nearest to a needle, however little it is like one; `confidence` says how little."""
        return self._read(frames, {**self.card["operation"], "threshold": 0.0})

    def _read(self, frames: np.ndarray, operation: dict[str, Any]) -> FrameDetection:
        array = checked_frames(frames)
        if int(array[-1].max()) - int(array[-1].min()) < 8:
            return FrameDetection(found=False, method=self.method)
        maps, scalars = self.raw(array)
        return read_maps(maps, scalars, (array.shape[1], array.shape[2]), operation)


@dataclass(frozen=True)
class Ray:
    """A straight shaft that ends at a given tip: unit direction towards the tip, `support` sum of the shaft's map
    behind it, `ahead` its mean beyond the tip, `reach` length; map pixels."""

    direction: np.ndarray
    support: float
    ahead: float
    reach: float


@dataclass(frozen=True)
class Line:
    """A shaft with its tip, in map pixels: `tip` on the line, unit `direction` there, `entry`, sigma of the angle in
    degrees; `support` sum of the shaft's map behind the tip, `ahead` its mean beyond the tip."""

    tip: np.ndarray
    direction: np.ndarray
    entry: np.ndarray
    angle_sigma_deg: float
    support: float
    ahead: float


def read_maps(maps: np.ndarray, scalars: np.ndarray, shape: tuple[int, int],
              operation: dict[str, Any]) -> FrameDetection:
    """What the network's output says, in pixels of a picture of `shape` (h, w)."""
    tip, line, signs = decode(maps, scalars)
    confidence = chance(signs, operation["presence"])
    in_plane = chance(signs, operation["in_plane"])
    if line is None or confidence < operation["threshold"]:
        return FrameDetection(found=False, confidence=confidence, in_plane=in_plane, method=NetworkDetector.method)
    tip, direction = line.tip, line.direction
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
        entry_px=frame_px_from_map(line.entry, shape), covariance_px=covariance * per_px**2,
        direction_sigma_deg=line.angle_sigma_deg * operation["sigma_angle_factor"], confidence=confidence,
        visible_fraction=float(_sigmoid(scalars[2])), in_plane=bent, method=NetworkDetector.method)


def decode(maps: np.ndarray, scalars: np.ndarray) -> tuple[np.ndarray, Line | None, np.ndarray]:
    """(tip (2,), line or None, signs): of the peaks of the tip's map the one that ends a shaft best."""
    shaft = _sigmoid(maps[1])
    wide, found = padded(shaft), []
    for tip, heat in peaks(maps[0]):
        ray = best_ray(wide, tip)
        found.append((heat + SUPPORT_WEIGHT * math.log1p(ray.support) - AHEAD_WEIGHT * ray.ahead, tip, ray))
    found.sort(key=lambda one: -one[0])
    margin = found[0][0] - found[1][0] if len(found) > 1 else PEAK_DEPTH + 2.0
    _, tip, ray = found[0]
    line = fit_line(shaft, tip, ray)
    return tip, line, evidence(maps, shaft, scalars, tip, line, margin)


def peaks(logits: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Up to MOST_PEAKS places (2,) of the tip's map with their logits over the greatest one, the greatest first."""
    left, places, top = logits.astype(float).copy(), [], float(logits.max())
    while len(places) < MOST_PEAKS:
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        height = float(left[row, column])
        if height < top - PEAK_DEPTH:
            break
        places.append((peak(logits, (int(row), int(column))), height - top))
        left[max(row - WINDOW, 0):row + WINDOW + 1, max(column - WINDOW, 0):column + WINDOW + 1] = -np.inf
    return places


@lru_cache(maxsize=4)
def _fan(width: int) -> tuple[np.ndarray, np.ndarray]:
    """(unit directions (RAYS, 2), offsets (RAYS, RAY_STEPS) in a padded map of rows of `width`: behind such a tip)."""
    angle = np.arange(RAYS) * (2 * np.pi / RAYS)
    way = np.stack([np.cos(angle), np.sin(angle)], -1)
    at = np.rint(-way[:, None] * np.arange(1.0, RAY_STEPS + 1)[None, :, None]).astype(np.intp)
    return way, at[..., 1] * width + at[..., 0]


def padded(shaft: np.ndarray) -> np.ndarray:
    """The map with RAY_STEPS + 1 zeros around it, so that no ray leaves it."""
    return np.pad(shaft.astype(np.float32), RAY_STEPS + 1)


def best_ray(wide: np.ndarray, tip: np.ndarray) -> Ray:
    """The straight shaft that ends at `tip` best. Args: wide: the `padded` map; tip (2,).

    Support is the sum of the map, less RAY_FLOOR a step, behind the tip to where it is greatest: gaps are bridged when
    enough follows. Ahead is the mean of the map just beyond the tip. A needle comes from the probe's side: rays that
    rise by more than LEAST_DOWN are not looked at.
    """
    way, offsets = _fan(wide.shape[1])
    column, row = (round(float(value)) + RAY_STEPS + 1 for value in tip)
    value = wide.ravel()[row * wide.shape[1] + column + offsets]
    gain = np.cumsum(value - np.float32(RAY_FLOOR), axis=1)
    reach = gain.argmax(1)
    support = np.maximum(gain[np.arange(RAYS), reach], 0.0)
    ahead = np.roll(value[:, 3:13].mean(1), RAYS // 2)
    best = int(np.where(way[:, 1] >= LEAST_DOWN, support - 6 * ahead, -np.inf).argmax())
    return Ray(way[best], float(support[best]), float(ahead[best]), float(reach[best] + 1))


def evidence(maps: np.ndarray, shaft: np.ndarray, scalars: np.ndarray, tip: np.ndarray, line: Line | None,
             margin: float) -> np.ndarray:
    """(SIGNS,) signs of a needle and of its tip: the network's scalars, how sharp the tip's map is, and the shaft's.

    They are weighed by `chance`; without a line the shaft's signs are 0. `margin` is by how much the second best
    place for the tip is worse.
    """
    heat = maps[0].astype(float) - float(maps[0].max())
    rows = slice(max(int(tip[1]) - WINDOW, 0), int(tip[1]) + WINDOW + 1)
    columns = slice(max(int(tip[0]) - WINDOW, 0), int(tip[0]) + WINDOW + 1)
    heat = np.exp(heat)
    sharp = math.log(float(heat[rows, columns].sum() / heat.sum()) + 1e-4)
    present, plane = (float(value) for value in np.clip(scalars[:2], -12, 12))
    signs = [*np.clip(scalars[:4], -12, 12), sharp, float(maps[0].max()) / 4, min(margin, 6.0) / 3,
             min(present, plane), 0.0, 0.0, 0.0, 0.0, 0.0]
    if line is not None:
        length = float(np.linalg.norm(line.tip - line.entry))

        def mean(back: np.ndarray) -> float:
            points = np.rint(line.tip - back[:, None] * line.direction).astype(int)
            return float(shaft[np.clip(points[:, 1], 0, shaft.shape[0] - 1),
                               np.clip(points[:, 0], 0, shaft.shape[1] - 1)].mean())

        signs[8:] = [mean(np.arange(1.0, 13.0)), min(length / 40, 1.5), line.ahead, math.log1p(line.support),
                     line.support / max(float(np.maximum(shaft.max(0), 0).sum()), float(shaft.max(1).sum()), 1.0)]
    return np.array(signs)


def chance(signs: np.ndarray, weights: list[float]) -> float:
    """Logistic combination of `evidence`: weights (SIGNS,) and a constant at the end."""
    return float(_sigmoid(signs @ np.asarray(weights[:-1]) + weights[-1]))


def peak(logits: np.ndarray, place: tuple[int, int] | None = None) -> np.ndarray:
    """(2,) x, y of the softmax centroid around `place` (row, column), or the greatest value, of (h, w) logits."""
    row, column = place or np.unravel_index(int(logits.argmax()), logits.shape)
    rows = np.arange(max(row - WINDOW, 0), min(row + WINDOW + 1, logits.shape[0]))
    columns = np.arange(max(column - WINDOW, 0), min(column + WINDOW + 1, logits.shape[1]))
    weight = np.exp(logits[np.ix_(rows, columns)].astype(float) - float(logits[row, column]))
    weight /= weight.sum()
    return np.array([weight.sum(0) @ columns, weight.sum(1) @ rows])


def heat_spread(logits: np.ndarray, tip: np.ndarray) -> np.ndarray:
    """(2, 2) second moment of the tip's map about `tip`: large where two places compete."""
    heat = np.exp(logits.astype(float) - float(logits.max()))
    rows, columns = np.nonzero(heat > 1e-3)
    weight = heat[rows, columns] / heat[rows, columns].sum()
    offset = np.stack([columns - tip[0], rows - tip[1]], -1)
    return (offset * weight[:, None]).T @ offset


def fit_line(shaft: np.ndarray, tip: np.ndarray, ray: Ray | None = None) -> Line | None:
    """The line of the shaft's map that ends at `tip`; None when there is no shaft by the tip.

    Args: shaft (h, w) probabilities; tip (2,); ray: what `best_ray` said, if it was asked already.
    A weighted quadratic v(u) in the frame of the ray, pixels far from it left out.
    """
    ray = ray or best_ray(padded(shaft), tip)
    axis = ray.direction
    if ray.support < LEAST_SUPPORT or ray.reach < LEAST_SHAFT_PX:
        return None
    rows, columns = np.nonzero(shaft > SHAFT_FLOOR)
    points = np.stack([columns, rows], -1).astype(float)
    weight = shaft[rows, columns].astype(float) ** 2
    normal = np.array([-axis[1], axis[0]])
    u, v = (points - tip) @ axis, (points - tip) @ normal
    bend = np.zeros(3)
    for cut in (2 * NEAR_PX, NEAR_PX, NEAR_PX):
        residual = v - (bend[0] + bend[1] * u + bend[2] * u * u)
        keep = (np.abs(residual) < cut) & (u < 4.0) & (u > -ray.reach - 3.0)
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
    return Line(tip + 0.7 * bend[0] * normal, direction / np.linalg.norm(direction), entry, sigma, ray.support,
                ray.ahead)
