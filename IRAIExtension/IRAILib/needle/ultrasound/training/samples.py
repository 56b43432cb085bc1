"""Training samples from the simulator: frame stacks on the network's canvas with target maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..features import CANVAS, STACK, STRIDE, canvas_from_frame, map_from_frame_px
from ..simulator import NeedleTruth, simulate_sequence
from ..simulator_domain import DOMAINS, TRAIN, generator

MAP = (CANVAS[1] // STRIDE, CANVAS[0] // STRIDE)
LINE_SIGMA = 1.0  # of the shaft's target, map pixels
FIELDS: tuple[str, ...] = ("present", "tip_x", "tip_y", "dir_x", "dir_y", "visible_fraction", "off_sigmas",
                           "in_plane", "tip_in_image", "mm_per_map_px", "counted", "shaft_seen", "unclear")
UNCLEAR_PART = 0.25  # of the frames that teach nothing clear so many are kept for training


@dataclass
class Samples:
    """frames (n, 3, 192, 256) uint8, shaft (n, 96, 128) uint8 (255 on the line), facts (n, len(FIELDS)) float32."""

    frames: np.ndarray
    shaft: np.ndarray
    facts: np.ndarray

    def fact(self, name: str) -> np.ndarray:
        return self.facts[:, FIELDS.index(name)]


def shaft_map(points: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(96, 128) uint8: a line through `points` (n, 2; map pixels) where `wanted` (n,), 255 at its middle."""
    result = np.zeros(MAP, np.float32)
    steps = np.linspace(0, len(points) - 1, min(len(points), 160)).astype(int)
    for (x, y), keep in zip(points[steps], wanted[steps], strict=True):
        if not keep:
            continue
        column, row = round(float(x)), round(float(y))
        rows, columns = slice(max(row - 3, 0), row + 4), slice(max(column - 3, 0), column + 4)
        if row < -3 or column < -3:
            continue
        patch = result[rows, columns]
        v = np.arange(patch.shape[0])[:, None] + rows.start - y
        u = np.arange(patch.shape[1])[None] + columns.start - x
        np.maximum(patch, np.exp(-(u * u + v * v) / (2 * LINE_SIGMA**2)), out=patch)
    return np.rint(result * 255).astype(np.uint8)


def facts_of(truth: NeedleTruth, shape: tuple[int, int], mm_per_px: float) -> tuple[np.ndarray, np.ndarray]:
    """(facts, shaft map) of the newest frame."""
    scale = float(np.hypot(*(frame := map_from_frame_px(np.array([[0.0, 0.0], [1.0, 0.0]]), shape))[1] - frame[0]))
    mm = mm_per_px / scale
    if not truth.present or truth.tip_px is None or truth.direction is None or truth.curve_px is None:
        return np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, mm, 0, 0, 0], np.float32), np.zeros(MAP, np.uint8)
    tip = map_from_frame_px(truth.tip_px, shape)
    wanted = wanted_part(truth)
    line = shaft_map(map_from_frame_px(truth.curve_px, shape), wanted)
    return np.array([1, *tip, *truth.direction, truth.visible_fraction, truth.off_plane_sigmas, truth.in_plane,
                     truth.tip_in_image, mm, truth.counted, truth.shaft_seen, truth.unclear], np.float32), line


def wanted_part(truth: NeedleTruth) -> np.ndarray:
    """(n,) bool: the points of the curve that the shaft's map should show: through gaps, from where it is first seen.

    A counted needle is drawn to its tip, another one to where it is last seen, and one that hardly is, in pieces.
    """
    assert truth.visible is not None
    seen = np.flatnonzero(truth.visible)
    if not truth.shaft_seen or not len(seen):
        return truth.visible
    at = np.arange(len(truth.visible))
    return (at >= seen[0]) & (truth.counted | (at <= seen[-1]))


def make_samples(seeds: range, domain: str, full_part: float = 0.1) -> Samples:
    """One sample a seed. `full_part` of them is rendered at full resolution and reduced as in use.

    Of the training domain's frames in which the needle can't be told, three quarters are left out.
    """
    frames, shafts, facts = [], [], []
    for seed in seeds:
        rng = generator(DOMAINS[domain], seed + 2**40)
        if rng.random() < full_part:
            size = (640, 480) if rng.random() < 0.6 else None
            sequence = simulate_sequence(STACK, seed, domain=domain, size=size, judge_all=False)
            stack = np.stack([np.rint(canvas_from_frame(frame) * 255) for frame in sequence.frames]).astype(np.uint8)
        else:
            sequence = simulate_sequence(STACK, seed, domain=domain, canvas=CANVAS, judge_all=False)
            stack = sequence.frames
        if domain == TRAIN and sequence.truth[-1].unclear and rng.random() > UNCLEAR_PART:
            continue
        fact, shaft = facts_of(sequence.truth[-1], sequence.frames.shape[1:], sequence.mm_per_px)
        frames.append(stack)
        shafts.append(shaft)
        facts.append(fact)
    return Samples(np.stack(frames), np.stack(shafts), np.stack(facts))


def generate(folder: Path, seeds: range, domain: str, chunk: int = 100) -> None:
    """Writes samples in files of `chunk`; files that are there already are kept. Runs in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(seeds.start, seeds.stop, chunk):
        path = folder / f"{domain}-{start:08d}.npz"
        if path.exists():
            continue
        made = make_samples(range(start, min(start + chunk, seeds.stop)), domain)
        part = path.with_suffix(".part")
        with part.open("wb") as stream:
            np.savez(stream, frames=made.frames, shaft=made.shaft, facts=made.facts)
        part.rename(path)


def load(path: Path) -> Samples:
    """One file of `generate`."""
    with np.load(path) as data:
        return Samples(data["frames"], data["shaft"], data["facts"])
