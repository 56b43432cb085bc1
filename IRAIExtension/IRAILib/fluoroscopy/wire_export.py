"""Writes the trained wire network as ONNX with its card: operating point and uncertainty from held-out simulation."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError, MissingPackageError, Volume
from .wire_decode import SIGNS, Course, confidence, sigmoid
from .wire_ground import random_grounds
from .wire_model import STRIDE
from .wire_network import WireNetwork
from .wire_simulator import DEVICES, SIMULATOR_VERSION, STACK, WireSample, simulate_wire

MAX_BYTES = 5_000_000
FALSE_ALARMS = 0.02
"""Of held-out simulated frames without a device: the threshold lets no more through."""
VISIBLE = 1.0
"""Depth over noise in a pixel from which a simulated device counts; fainter ones are neither right nor wrong."""
HIT_PX = 10.0
LIMITS = (
    "Trained on simulated fluoroscopy only: backgrounds from one CT's chest, devices painted as splines.",
    "One device a frame; of several the one whose end convinces most.",
    "Devices are 1.5 to 10 pixels wide; much wider or finer ones are missed.",
    "A pacing lead or an ECG lead that ends in the field looks like a guide-wire and is taken for one.",
    "In a filled vessel the end of a catheter may not be visible: it is then missed or placed in the vessel.",
    "Where a loop crosses itself the course may take the shorter way.",
    "Research software, not a medical device.",
)


def write_onnx(net: Any, path: Path) -> None:
    """The torch module to an ONNX file of free height and width. Raises: MissingPackageError without onnx, InputError
    over 5 MB."""
    import torch

    example = torch.zeros(1, STACK, 64, 64)
    try:
        torch.onnx.export(net.cpu().eval().to(memory_format=torch.contiguous_format), (example,), str(path),
                          input_names=["frames"], output_names=["maps"], opset_version=17, dynamo=False,
                          dynamic_axes={"frames": {2: "h", 3: "w"}, "maps": {2: "h2", 3: "w2"}})
    except ImportError as error:
        raise MissingPackageError(f"writing the network needs onnx: pip install onnx ({error})") from None
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are kept in the repository")


def write_card(path: Path, *, operation: dict[str, Any], held_out: dict[str, Any], training: dict[str, Any]
               ) -> dict[str, Any]:
    """The card of the ONNX file, written beside it as JSON; gives what was written."""
    card = {
        "name": "catheter and guide-wire in fluoroscopy",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
        "input": f"frames (1, {STACK}, H, W) float32, newest last, of wire_features.features; multiples of 32",
        "output": "maps (1, 2, H/2, W/2): logits of the device's axis and of its tip",
        "intended_use": "finding a catheter or guide-wire and its tip in live fluoroscopy, for research and teaching",
        "limits": list(LIMITS),
        "validated_on": "simulation",
        "operation": operation,
        "held_out_simulator": held_out,
        "simulator": {"version": SIMULATOR_VERSION},
        "training": training,
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    return card


def finish(net: Any, ct: Volume, path: Path, *, training: dict[str, Any], held_out: int, seed: int,
           part: tuple[float, float], threads: int = 1) -> dict[str, Any]:
    """ONNX, operating point on half of the held-out frames, figures on the other half, and the card; gives the card."""
    write_onnx(net, path)
    plain = {"threshold": 0.5, "presence": [0.0] * (SIGNS + 1), "sigma_along": 1.0, "sigma_across": 1.0,
             "sigma_angle_deg": 10.0}
    write_card(path, operation=plain, held_out={}, training=training)
    network = WireNetwork(path, threads=threads)
    looked = look(network, held_out_samples(ct, held_out, seed, part))
    operation = operating_point(looked[::2])
    return write_card(path, operation=operation, held_out=report(looked[1::2], operation), training=training)


def held_out_samples(ct: Volume, count: int, seed: int, part: tuple[float, float], size_px: int = 512
                     ) -> list[WireSample]:
    """Whole frames over a part of the CT that training hasn't seen, 40 % without a device, seeds of their own."""
    grounds = random_grounds(ct, max(4, count // 10), seed=777_000 + seed, part=part)
    out = []
    for n in range(count):
        rng = np.random.default_rng([seed, 777, n])
        out.append(simulate_wire(grounds[int(rng.integers(len(grounds)))], rng, size_px=size_px,
                                 device="" if n % 5 < 2 else DEVICES[n % 3]))
    return out


def look(network: WireNetwork, samples: list[WireSample]) -> list[tuple[WireSample, Course | None]]:
    """What the network's best course is in each."""
    return [(sample, network.course(sample.frames)) for sample in samples]


def tip_gap(sample: WireSample, course: Course | None) -> np.ndarray | None:
    """(2,) error of the tip along and across the course, picture pixels; None without a course or a device."""
    if course is None or sample.tip is None:
        return None
    gap = course.tip * STRIDE + 0.5 - sample.tip
    return np.array([gap @ course.direction, gap @ [-course.direction[1], course.direction[0]]])


def operating_point(looked: list[tuple[WireSample, Course | None]]) -> dict[str, Any]:
    """Weights of the signs by ridge logistic regression, the threshold for FALSE_ALARMS, the tip's spread."""
    signs, right, bare = [], [], []
    for sample, course in looked:
        if course is None or (sample.device and sample.contrast < VISIBLE):
            continue
        gap = tip_gap(sample, course)
        signs.append(course.signs)
        right.append(gap is not None and float(np.linalg.norm(gap)) < HIT_PX)
        bare.append(not sample.device)
    if len(signs) < 8 or not any(right):
        raise InputError(f"only {sum(right)} of the held-out devices were found: the network needs more training")
    weights = _logistic(np.array(signs), np.array(right, float))
    empty = sum(not sample.device for sample, _ in looked)
    alarms = sorted((confidence(s, weights) for s, is_bare in zip(signs, bare, strict=True) if is_bare), reverse=True)
    allowed = int(FALSE_ALARMS * empty)
    threshold = float(np.clip(alarms[allowed] + 0.02 if len(alarms) > allowed else 0.5, 0.5, 0.95))
    good = [(tip_gap(sample, course), course) for sample, course in looked
            if course is not None and confidence(course.signs, weights) >= threshold]
    ratios, angles = [], []
    for gap, course in good:
        if gap is None or np.linalg.norm(gap) >= HIT_PX:
            continue
        along, across = course.direction, np.array([-course.direction[1], course.direction[0]])
        wide = [max(float(axis @ course.spread @ axis), 0.25) for axis in (along, across)]
        ratios.append(np.square(gap / STRIDE) / wide)
    spread = np.sqrt(np.mean(ratios, axis=0)) if ratios else np.ones(2)
    for sample, course in looked:
        gap = tip_gap(sample, course)
        if gap is not None and course is not None and np.linalg.norm(gap) < HIT_PX:
            true = sample.course[-1] - sample.course[-10]
            cosine = true @ course.direction / max(float(np.linalg.norm(true)), 1e-9)
            angles.append(math.degrees(math.acos(float(np.clip(cosine, -1.0, 1.0)))))
    return {"threshold": round(threshold, 3), "presence": [round(float(w), 4) for w in weights],
            "sigma_along": round(float(spread[0]), 3), "sigma_across": round(float(spread[1]), 3),
            "sigma_angle_deg": round(float(np.sqrt(np.mean(np.square(np.minimum(angles, 45.0))))), 1)}


def _logistic(signs: np.ndarray, right: np.ndarray, ridge: float = 0.3) -> list[float]:
    """Weights and a constant by Newton's method; the ridge holds them where the two kinds don't overlap, each sign on
    the scale of its own spread."""
    middle, spread = signs.mean(axis=0), np.maximum(signs.std(axis=0), 1e-3)
    design = np.hstack([(signs - middle) / spread, np.ones((len(signs), 1))])
    weights = np.zeros(design.shape[1])
    for _ in range(30):
        chance = sigmoid(design @ weights)
        slope = design.T @ (right - chance) - ridge * weights
        curve = (design * (chance * (1.0 - chance))[:, None]).T @ design + ridge * np.eye(len(weights))
        weights = weights + np.linalg.solve(curve, slope)
    scaled = weights[:-1] / spread
    return [*(float(w) for w in scaled), float(weights[-1] - scaled @ middle)]


def report(looked: list[tuple[WireSample, Course | None]], operation: dict[str, Any]) -> dict[str, Any]:
    """Found, wrong and false alarms at the operating point; errors of the tip in pixels; the axis' distance."""
    visible = [(s, c) for s, c in looked if s.device and s.contrast >= VISIBLE]
    empty = [(s, c) for s, c in looked if not s.device]

    def told(course: Course | None) -> bool:
        return course is not None and confidence(course.signs, operation["presence"]) >= operation["threshold"]

    gaps = [float(np.linalg.norm(tip_gap(s, c))) for s, c in visible if told(c)]  # type: ignore[arg-type]
    hits = [gap for gap in gaps if gap < HIT_PX]
    lines = [line_gap(c.points * STRIDE + 0.5, s.course) for s, c in visible if c is not None and told(c)]
    return {"devices": len(visible), "found": len(hits), "tip_elsewhere": len(gaps) - len(hits),
            "without_device": len(empty), "false_alarms": sum(told(c) for _, c in empty),
            "tip_px_median_p95": [round(float(v), 2) for v in np.percentile(hits, [50, 95])] if hits else [],
            "axis_px_median": round(float(np.median(lines)), 2) if lines else None}


def line_gap(points: np.ndarray, course: np.ndarray) -> float:
    """Median distance of (n, 2) points to a course, pixels."""
    return float(np.median(np.linalg.norm(points[:, None] - course[None, ::2], axis=2).min(axis=1)))
