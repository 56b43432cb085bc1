"""Training: samples are made in processes of their own while the network learns from those that are there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....geometry import CancelledError, InputError
from .model import build
from .samples import FIELDS, Samples, load

_log = logging.getLogger("IRAI.needle.ultrasound.training")
BATCH, PEAK_RATE, DECAY, EMA = 32, 2.5e-3, 0.02, 0.997
TIP_SIGMA = 1.1  # of the tip's target, map pixels
F = {name: number for number, name in enumerate(FIELDS)}


@dataclass
class Progress:
    """One line of progress: part done 0..1, steps, samples at hand, running losses."""

    part: float
    step: int
    samples: int
    losses: dict[str, float]

    def __str__(self) -> str:
        losses = " ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        return f"{100 * self.part:5.1f} %  step {self.step}  samples {self.samples}  {losses}"


class Pool:
    """The samples at hand; picks up new files as they appear, up to `limit` samples."""

    def __init__(self, folder: Path, limit: int = 60000):
        self._folder, self._limit, self._seen = folder, limit, set()
        self.parts: list[Samples] = []
        self.count = 0

    def refresh(self) -> int:
        for path in sorted(self._folder.glob("*.npz")):
            if path.name in self._seen or self.count >= self._limit:
                continue
            self._seen.add(path.name)
            self.parts.append(load(path))
            self.count += len(self.parts[-1].facts)
        return self.count

    def batch(self, rng: np.random.Generator, size: int, hard: dict[tuple[int, int], float]) -> tuple:
        """Random samples; an eighth of them from those that were hard lately. Gives (frames, shaft, facts, keys)."""
        keys = []
        names = list(hard)
        for n in range(size):
            if n < size // 8 and len(names) > 200:
                keys.append(names[int(rng.integers(len(names)))])
            else:
                part = int(rng.integers(len(self.parts)))
                keys.append((part, int(rng.integers(len(self.parts[part].facts)))))
        pick = [self.parts[part] for part, _ in keys]
        return (np.stack([part.frames[k] for part, (_, k) in zip(pick, keys, strict=True)]),
                np.stack([part.shaft[k] for part, (_, k) in zip(pick, keys, strict=True)]),
                np.stack([part.facts[k] for part, (_, k) in zip(pick, keys, strict=True)]), keys)


def augment(rng: np.random.Generator, frames: np.ndarray, shaft: np.ndarray, facts: np.ndarray) -> tuple:
    """Mirrors, moves by whole map pixels, changes grey levels, adds noise, repeats a frame; truth goes along."""
    result = np.empty(frames.shape, np.float32)
    shaft, facts = shaft.astype(np.float32) / 255, facts.copy()
    for n, stack in enumerate(frames):
        if rng.random() < 0.5:
            stack, shaft[n] = stack[:, :, ::-1], shaft[n, :, ::-1].copy()
            facts[n, F["tip_x"]] = shaft.shape[2] - 1 - facts[n, F["tip_x"]]
            facts[n, F["dir_x"]] *= -1
        if rng.random() < 0.3:
            dx, dy = int(rng.integers(-8, 9)), int(rng.integers(-6, 7))
            stack = _moved(stack, 2 * dx, 2 * dy)
            shaft[n] = _moved(shaft[n], dx, dy)
            facts[n, F["tip_x"]] += dx
            facts[n, F["tip_y"]] += dy
        result[n] = np.take(_greys(rng), stack)
        kind = rng.random()
        if kind < 0.12:
            result[n, :2] = result[n, 2]
        elif kind < 0.2:
            result[n, 0] = result[n, 1]
    if rng.random() < 0.3:
        result += rng.standard_normal(frames.shape, dtype=np.float32) * np.float32(rng.uniform(0, 0.04))
    gone = ((facts[:, F["tip_x"]] < 0) | (facts[:, F["tip_x"]] > shaft.shape[2] - 1) | (facts[:, F["tip_y"]] < 0)
            | (facts[:, F["tip_y"]] > shaft.shape[1] - 1))
    facts[gone, F["tip_in_image"]] = 0
    facts[gone, F["counted"]] = 0
    return result, shaft, facts


def _greys(rng: np.random.Generator) -> np.ndarray:
    """(256,) float32: another gain, offset and gamma; what is black stays so."""
    grey = np.arange(256, dtype=np.float32) / 255
    if rng.random() < 0.6:
        gain, offset = rng.uniform(0.6, 1.4), rng.normal(0, 0.05)
        grey = np.where(grey > 0.008, np.clip(grey * gain + offset, 0, 1) ** np.exp(rng.normal(0, 0.2)), grey)
    return grey.astype(np.float32)


def _moved(picture: np.ndarray, dx: int, dy: int) -> np.ndarray:
    result = np.zeros_like(picture)
    h, w = picture.shape[-2:]
    result[..., max(dy, 0):h + min(dy, 0), max(dx, 0):w + min(dx, 0)] = picture[
        ..., max(-dy, 0):h + min(-dy, 0), max(-dx, 0):w + min(-dx, 0)]
    return result


def losses_of(maps: Any, scalars: Any, shaft: Any, facts: Any) -> tuple[Any, Any, dict[str, Any]]:
    """(sum per sample (n,), total, parts). Tensors; `facts` as in FIELDS."""
    import torch
    from torch.nn import functional as nnf

    h, w = maps.shape[2:]
    column = {name: facts[:, index] for name, index in F.items()}
    has_tip = column["counted"]
    y, x = torch.meshgrid(torch.arange(h, dtype=torch.float32), torch.arange(w, dtype=torch.float32), indexing="ij")
    square = (x - column["tip_x"][:, None, None]) ** 2 + (y - column["tip_y"][:, None, None]) ** 2
    target = torch.exp(-square / (2 * TIP_SIGMA**2)).flatten(1) + 1e-12
    target = target / target.sum(1, keepdim=True)
    logits = maps[:, 0].flatten(1)
    tip = -(target * torch.log_softmax(logits, 1)).sum(1) * has_tip
    quiet = nnf.softplus(logits - 2.0).mean(1) * (1 - column["present"])
    line = nnf.binary_cross_entropy_with_logits(maps[:, 1], shaft, reduction="none") * (1 + 6 * shaft)
    chance = torch.sigmoid(maps[:, 1])
    overlap = 1 - (2 * (chance * shaft).sum((1, 2)) + 1) / ((chance**2 + shaft**2).sum((1, 2)) + 1)
    line = (6 * line.mean((1, 2)) + overlap * (shaft.amax((1, 2)) > 0)) * (1 - 0.7 * column["unclear"])
    # where an observer couldn't tell, nothing is asked; a needle of which nothing is seen is none
    seen = column["shaft_seen"]
    certain = 1 - column["present"] * (1 - seen) * (column["visible_fraction"] > 0.0)
    there = nnf.binary_cross_entropy_with_logits(scalars[:, 0], seen, reduction="none") * certain
    plane = nnf.binary_cross_entropy_with_logits(
        scalars[:, 1], column["in_plane"] * column["tip_in_image"], reduction="none") * seen
    fraction = nnf.binary_cross_entropy_with_logits(scalars[:, 2], column["visible_fraction"],
                                                    reduction="none") * column["present"]
    sure = _spread_loss(maps, scalars, column, has_tip)
    each = 0.6 * tip + 0.2 * quiet + 1.5 * line + 1.2 * there + 1.0 * plane + 0.2 * fraction
    parts = {"tip": tip.sum() / has_tip.sum().clamp(min=1), "line": line.mean(), "there": there.mean(),
             "plane": plane.sum() / seen.sum().clamp(min=1), "spread": sure}
    return each.detach(), each.mean() + 0.05 * sure, parts


def _spread_loss(maps: Any, scalars: Any, column: dict[str, Any], has_tip: Any) -> Any:
    """Gaussian log-likelihood of the heat map's own error along and across the shaft."""
    import torch

    with torch.no_grad():
        logits = maps[:, 0].flatten(1)
        peak = logits.argmax(1)
        w = maps.shape[3]
        ex, ey = (peak % w) - column["tip_x"], torch.div(peak, w, rounding_mode="floor") - column["tip_y"]
        along = (ex * column["dir_x"] + ey * column["dir_y"]).clamp(-15, 15)
        across = (-ex * column["dir_y"] + ey * column["dir_x"]).clamp(-15, 15)
    total = 0.0
    for error, log_sigma in ((along, scalars[:, 3]), (across, scalars[:, 4])):
        log_sigma = log_sigma.clamp(-3, 3.5)
        total = total + ((0.5 * (error**2 + 0.08) * torch.exp(-2 * log_sigma) + log_sigma) * has_tip).sum()
    return total / has_tip.sum().clamp(min=1)


def _await_samples(pool: Pool, cancelled: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while pool.refresh() < 500:
        if time.monotonic() > deadline:
            raise InputError("no training samples appeared within 5 minutes; see the simulator's messages")
        if cancelled():
            raise CancelledError("training was cancelled")
        time.sleep(1)


def _remember_hard(hard: dict, keys: list, losses: list[float]) -> None:
    """Samples whose loss is well over the batch's come again (`Pool.batch`)."""
    mean = sum(losses) / len(losses)
    for key, value in zip(keys, losses, strict=True):
        hard.pop(key, None)
        if value > 1.4 * mean:
            hard[key] = value
    while len(hard) > 2000:
        hard.pop(next(iter(hard)))


def train(pool: Pool, minutes: float, seed: int, *, threads: int = 1, start: dict | None = None,
          peak_rate: float = PEAK_RATE, progress: Callable[[Progress], None] | None = None,
          checkpoint: Callable[[Any], None] | None = None,
          cancelled: Callable[[], bool] = lambda: False) -> tuple[Any, dict[str, float]]:
    """Trains for `minutes` (learning rate follows the clock); gives (averaged network, what was done).

    Raises: InputError when no sample appears, CancelledError when `cancelled` says so.
    """
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = build().to(device=device, memory_format=torch.channels_last)
    if start is not None:
        net.load_state_dict(start)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA), use_buffers=True)
    optimiser = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=DECAY)
    step, hard = 0, {}
    _await_samples(pool, cancelled)
    began, running, told, looked = time.monotonic(), {}, 0.0, 0.0
    while (part := (time.monotonic() - began) / (60 * minutes)) < 1:
        if cancelled():
            raise CancelledError("training was cancelled")
        rate = peak_rate * min(1.0, (step + 1) / 100) * (0.5 * (1 + np.cos(np.pi * part)) + 0.005)
        for group in optimiser.param_groups:
            group["lr"] = rate
        frames, shaft, facts, keys = pool.batch(rng, BATCH, hard)
        frames, shaft, facts = (torch.from_numpy(np.ascontiguousarray(a)).to(device)
                                for a in augment(rng, frames, shaft, facts))
        with torch.autocast(device, dtype=torch.bfloat16):
            maps, scalars = net(frames.to(memory_format=torch.channels_last))
        each, loss, parts = losses_of(maps.float(), scalars.float(), shaft, facts)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        average.update_parameters(net)
        step += 1
        _remember_hard(hard, keys, each.tolist())
        for name, value in parts.items():
            running[name] = 0.97 * running.get(name, float(value.detach())) + 0.03 * float(value.detach())
        now = time.monotonic()
        if now - looked > 20:
            pool.refresh()
            looked = now
        if progress is not None and now - told > 15:
            progress(Progress(part, step, pool.count, dict(running)))
            told = now
        if checkpoint is not None and step % 400 == 0:
            checkpoint(average.module)
    return average.module.cpu().eval(), {"steps": step, "samples": pool.count, "batch": BATCH}
