"""The training command: simulate, train, find the operating point, measure on held-out samples, write."""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ....geometry import CancelledError, InputError
from ....weights.torch_state import torch_kept
from ..features import STACK
from ..simulator_domain import HELD_OUT, TRAIN
from .evaluate import measured, operating_point, predicted
from .export import write_card, write_int8, write_onnx
from .loop import Pool, Progress, train
from .samples import Samples, generate, load

NAME = "needle_ultrasound.onnx"
FIRST_SEED_STEP = 10_000_000  # training seeds of run S start at S times this
MOST_SAMPLES = 60_000
CALIBRATION = 240  # held-out frames, of the half that isn't reported, that set the ranges of the 8-bit layers
_log = logging.getLogger("IRAI.needle.ultrasound.training")


def onnx_predictor(path: Path, threads: int = 1) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(n, 3, 192, 256) -> (maps, scalars), frame by frame as in use."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        results = [session.run(None, {"frames": frame[None]}) for frame in frames.reshape(-1, STACK, *frames.shape[2:])]
        return (np.concatenate([np.asarray(maps) for maps, _ in results]),
                np.concatenate([np.asarray(scalars) for _, scalars in results]))

    return predict


def collected(folder: Path, most: int) -> Samples:
    """All samples of a folder. Raises: InputError when there are none."""
    parts = [load(path) for path in sorted(folder.glob("*.npz"))]
    if not parts:
        raise InputError(f"no simulated samples in {folder}")
    return Samples(np.concatenate([part.frames for part in parts])[:most],
                   np.concatenate([part.shaft for part in parts])[:most],
                   np.concatenate([part.facts for part in parts])[:most])


def finish(net: Any, out: Path, held: Samples, *, seed: int, training: dict[str, Any]) -> dict[str, Any]:
    """Writes network and card. Of the held-out samples one half sets the operating point, the other is reported."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / NAME
    write_onnx(net, path)
    write_int8(path, held.frames[:min(CALIBRATION, len(held.facts) // 2)])
    maps, scalars = predicted(onnx_predictor(path), held)
    half = len(held.facts) // 2
    first, second = (Samples(held.frames[part], held.shaft[part], held.facts[part])
                     for part in (slice(0, half), slice(half, None)))
    point = operating_point(maps[:half], scalars[:half], first)
    figures = measured(maps[half:], scalars[half:], second, point)
    figures["note"] = f"held-out simulator; operating point from {half} other held-out frames"
    return write_card(path, operation=point, held_out=figures, training=training, seed=seed)


def train_network(out: str | Path, *, minutes: float = 50.0, seed: int = 0, samples: str | Path | None = None,
                  held_out: int = 1600, start: str | Path | None = None, threads: int = 1,
                  progress: Callable[[float, str], None] | None = None,
                  cancelled: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Trains, measures and writes `needle_ultrasound.onnx` with its card into `out`; gives the card.

    Args:
        minutes: of training. Simulation runs beside it in processes of its own. seed: of samples and training.
        samples: folder that keeps simulated samples; None: a temporary one. start: `network.pt` to go on from.
        progress: called with (part of the training done, text).
    Raises: InputError, MissingPackageError, CancelledError (nothing is written then).
    """
    if minutes <= 0 or held_out < 100:
        raise InputError("training needs a time above 0 minutes and at least 100 held-out frames")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="irai-needle-") as scratch:
        folder = Path(samples) if samples is not None else Path(scratch)
        context = multiprocessing.get_context("spawn")
        first = seed * FIRST_SEED_STEP
        workers = [context.Process(target=generate, args=(folder / TRAIN, range(first, first + MOST_SAMPLES), TRAIN)),
                   context.Process(target=generate, args=(folder / HELD_OUT, range(held_out), HELD_OUT))]
        for number in range(max((os.cpu_count() or 2) - threads - 2, 0)):  # more of them where there are cores
            more = first + (number + 1) * MOST_SAMPLES
            workers.append(context.Process(target=generate, args=(folder / TRAIN, range(more, more + MOST_SAMPLES),
                                                                  TRAIN)))
        for worker in workers:
            worker.start()
        try:
            net, facts = _trained(folder / TRAIN, minutes, seed, threads, start, progress, cancelled)
            workers[0].terminate()
            while workers[1].is_alive():
                if cancelled():
                    raise CancelledError("training was cancelled")
                workers[1].join(1.0)
            held = collected(folder / HELD_OUT, held_out)
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()
        training = facts | {
            "command": f"irai needle train --minutes {minutes:g} --seed {seed}", "from_checkpoint": start is not None,
            "minutes": round(minutes, 1), "total_minutes": round((time.monotonic() - began) / 60, 1)}
        card = finish(net, Path(out), held, seed=seed, training=training)
    _save(net, Path(out) / "network.pt")
    _log.info("%s written; held-out simulator: %s", Path(out) / NAME, card["held_out_simulator"])
    return card


def _trained(folder: Path, minutes: float, seed: int, threads: int, start: str | Path | None,
             tell: Callable[[float, str], None] | None,
             cancelled: Callable[[], bool]) -> tuple[Any, dict[str, float]]:
    state = None
    if start is not None:
        if not Path(start).is_file():
            raise InputError(f"the checkpoint {start} does not exist")
        import torch

        state = torch.load(start, weights_only=True)

    def said(now: Progress) -> None:
        _log.info("%s", now)
        if tell is not None:
            tell(now.part, f"step {now.step}, {now.samples} simulated samples so far")

    with torch_kept():
        return train(Pool(folder), minutes, seed, threads=threads, start=state, cancelled=cancelled, progress=said)


def _save(net: Any, path: Path) -> None:
    import torch

    torch.save(net.state_dict(), path)
