"""The training itself: random parts of the samples, turned over at random."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from ....geometry import InputError
from .model import build
from .samples import SHAFT, UNASKED

_log = logging.getLogger("IRAI.needle.mr.training")
PART, BATCH, PEAK_RATE, DECAY = (32, 48, 48), 4, 3e-3, 0.02
SHAFT_WEIGHT = 3.0
LEAST_SAMPLES, REFRESH_STEPS = 20, 50


class Pool:
    """The samples of a folder; `refresh` takes up those that have come."""

    def __init__(self, folder: Path):
        self._folder, self._seen = folder, set[str]()
        self.samples: list[tuple[np.ndarray, np.ndarray]] = []

    def refresh(self) -> int:
        """Number of samples at hand."""
        for path in sorted(self._folder.glob("[!.]*.npz")):
            if path.name not in self._seen:
                self._seen.add(path.name)
                with np.load(path) as file:
                    self.samples.append((file["cells"], file["label"]))
        return len(self.samples)


def part_of(cells: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random part of PART cells, at three times in four round a place on a shaft where there is one."""
    short = [max(0, n - m) for n, m in zip(PART, label.shape, strict=True)]
    if any(short):
        pad = [(0, n) for n in short]
        cells = np.pad(cells, [(0, 0), *pad], mode="edge")
        label = np.pad(label, pad, constant_values=UNASKED)
    room = np.array(label.shape, int) - np.array(PART, int)
    low = rng.integers(0, room + 1)
    shaft = np.argwhere(label == SHAFT)
    if len(shaft) and rng.random() < 0.75:
        low = np.clip(shaft[rng.integers(len(shaft))] - rng.integers(0, PART), 0, room)
    window = tuple(slice(a, a + n) for a, n in zip(low, PART, strict=True))
    cells, label = cells[(slice(None), *window)].astype(np.float32), label[window]
    if rng.random() < 0.5:
        cells, label = cells.swapaxes(2, 3), label.swapaxes(1, 2)
    for axis in range(3):
        if rng.random() < 0.5:
            cells, label = np.flip(cells, axis + 1), np.flip(label, axis)
    cells = (cells + 1.0) * rng.uniform(0.85, 1.15) - 1.0
    return np.ascontiguousarray(cells), np.ascontiguousarray(label)


def train(pool: Pool, *, minutes: float, seed: int = 0, threads: int = 1, keep: Path | None = None,
          start: Path | None = None) -> tuple[Any, dict]:
    """(network, what was done); the rate of learning falls with the time that is left.

    Args: keep, a file that gets the state now and then; start, such a file of an earlier run to go on from.
    Raises: InputError for fewer than LEAST_SAMPLES samples, MissingPackageError without torch.
    """
    if pool.refresh() < LEAST_SAMPLES:
        raise InputError(f"{len(pool.samples)} samples are too few to train on; {LEAST_SAMPLES} are the least")
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = build()
    if start is not None:
        net.load_state_dict(torch.load(start, weights_only=True))
    net.train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=DECAY)
    begun, step, running, told = time.monotonic(), 0, float("nan"), 0
    while (passed := (time.monotonic() - begun) / (60.0 * minutes)) < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * min(1.0, (step + 1) / 60.0) * (0.02 + 0.98 * (1.0 - passed) ** 1.2)
        if step % REFRESH_STEPS == 0:
            pool.refresh()
        samples = pool.samples
        parts = [part_of(*samples[rng.integers(len(samples))], rng) for _ in range(BATCH)]
        cells = torch.from_numpy(np.stack([p[0] for p in parts]))
        label = torch.from_numpy(np.stack([p[1] for p in parts])[:, None])
        loss = _loss(net(cells), label)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        step += 1
        now = float(loss.detach())
        running = now if step == 1 else 0.98 * running + 0.02 * now
        if int(50 * passed) > told:
            told = int(50 * passed)
            if keep is not None:
                torch.save(net.state_dict(), keep)
            _log.info("%3.0f %%  step %d  loss %.4f", 100.0 * passed, step, running)
    done = {"steps": step, "batch": BATCH, "minutes": minutes, "samples": len(pool.samples), "loss": round(running, 4)}
    return net.eval(), done


def _loss(logits, label):
    """Cross entropy over what is asked, and the overlap (Dice) of the shafts."""
    import torch

    asked = (label != UNASKED).float()
    shaft = (label == SHAFT).float()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, shaft, weight=asked * (1.0 + (SHAFT_WEIGHT - 1.0) * shaft), reduction="sum") / asked.sum()
    p = torch.sigmoid(logits) * asked
    overlap = 1.0 - (2.0 * (p * shaft).sum() + 20.0) / (p.sum() + shaft.sum() + 20.0)
    return 10.0 * entropy + overlap
