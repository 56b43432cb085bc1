"""`python -m IRAILib.fluoroscopy.vessels_train_command PAIRS --out FOLDER`: the one command that trains the network."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError, IRAIError, RefusedError
from .vessels import find_vessels, mask_of
from .vessels_frangi import FOR_NETWORK, FrangiOptions, frangi_mask, ridges
from .vessels_network import VesselNetwork
from .vessels_scores import auc, centreline_agreement, cl_dice, dice
from .vessels_train import STEPS, draw_fold, make_pair, read_frames, train, write_card, write_onnx
from .vessels_work import make_work

_log = logging.getLogger("IRAI.fluoroscopy.vessels_train")
OPERATION = {"threshold": 0.4, "seed": 0.8, "least_px": 100}
"""To begin with; `tune_operation` chooses among OPERATIONS on the frames that were trained on."""
OPERATIONS = [{"threshold": low, "seed": high, "least_px": 100} for low in (0.3, 0.4, 0.5, 0.6, 0.7)
              for high in (0.75, 0.85)]
TESTS = ("dice", "cl_dice", "precision", "recall", "auc")
Frames = dict[str, tuple[np.ndarray, np.ndarray]]


def score(frames: Frames, method: str, network: VesselNetwork | None = None, options: FrangiOptions | None = None
          ) -> dict[str, Any]:
    """Means of TESTS over the frames, and each frame's Dice as `each`; `dice_sd` over frames. Raises without frames."""
    if not frames:
        raise InputError("there are no frames to test on")
    rows = []
    for frame, truth in frames.values():
        found = find_vessels(frame, method=method, polarity="dark", network=network, options=options, diameters=False)
        precision, recall = centreline_agreement(found.mask, truth)
        rows.append((dice(found.mask, truth), cl_dice(found.mask, truth), precision, recall,
                     auc(found.probability, truth)))
    values = np.array(rows)
    out: dict[str, Any] = {name: round(float(v), 4) for name, v in zip(TESTS, values.mean(0), strict=True)}
    return out | {"dice_sd": round(float(values[:, 0].std()), 4),
                  "each": {name: round(float(v), 3) for name, v in zip(frames, values[:, 0], strict=True)}}


def tune_frangi(frames: Frames, grid: list[FrangiOptions]) -> FrangiOptions:
    """Of `grid` the options with the greatest mean Dice on these frames, which must not be those of the test."""
    return grid[int(np.argmax(np.mean(frangi_dice(frames, grid), axis=1)))]


def frangi_dice(frames: Frames, grid: list[FrangiOptions]) -> np.ndarray:
    """(options, frames) Dice of each of `grid` on each frame."""
    out = np.zeros((len(grid), len(frames)))
    for column, (frame, truth) in enumerate(frames.values()):
        work, known = make_work(frame, polarity="dark"), {}
        for row, options in enumerate(grid):
            key = options.sigmas_px, options.beta, options.gamma
            if key not in known:
                known[key] = ridges(work, options)
            out[row, column] = dice(frangi_mask(known[key], options), truth)
    return out


def tune_operation(frames: Frames, network: VesselNetwork) -> dict[str, float]:
    """Of OPERATIONS the one with the greatest mean Dice on these frames, which must not be those of the test."""
    totals = np.zeros(len(OPERATIONS))
    for frame, truth in frames.values():
        work = make_work(frame, polarity="dark")
        values, field = network.probability(work, ridges(work, FOR_NETWORK)), work.to_frame(work.field) > 0.5
        totals += [dice(mask_of(work.to_frame(values), field, o["threshold"], o["seed"], int(o["least_px"]),
                                work.scale), truth) for o in OPERATIONS]
    return OPERATIONS[int(np.argmax(totals))]


def train_network(source: Path, out: Path, *, fold: int | None = 0, steps: int = STEPS, seed: int | None = None,
                  threads: int = 1, bfloat16: bool = False, start: Path | None = None) -> dict[str, Any]:
    """Trains on the fold's 30 pairs (fold None: on all), tests on its 10, writes vessels_xray.onnx and its card into
    `out`; returns the card. Raises: InputError, MissingPackageError without torch or onnx."""
    frames = read_frames(source)
    out.mkdir(parents=True, exist_ok=True)
    names, held = (list(frames), []) if fold is None else draw_fold(list(frames), fold)
    number = seed if seed is not None else fold or 0
    net, done = train([make_pair(n, *frames[n]) for n in names], steps=steps, seed=number, threads=threads,
                      bfloat16=bfloat16, start=start, keep=out / "vessels_xray.pt",
                      progress=lambda _, text: _log.info("%s", text))
    return write_network(net, out / "vessels_xray.onnx", {n: frames[n] for n in names}, {n: frames[n] for n in held},
                         done | {"fold": fold} | how(fold, steps, number, bfloat16, start))


def how(fold: int | None, steps: int, seed: int, bfloat16: bool, start: Path | None) -> dict[str, Any]:
    """For the card: the command that does the same again."""
    command = (f"python -m IRAILib.fluoroscopy.vessels_train_command PAIRS --out FOLDER --fold "
               f"{-1 if fold is None else fold} --steps {steps} --seed {seed}{' --bfloat16' if bfloat16 else ''}"
               f"{' --start FILE' if start is not None else ''}")
    return {"bfloat16": bfloat16, "command": command}


def write_network(net: Any, path: Path, seen: Frames, held: Frames, done: dict[str, Any]) -> dict[str, Any]:
    """The ONNX file and its card: thresholds chosen on the frames seen, tested on those held out as it will be used."""
    write_onnx(net, path, half=True)
    write_card(path, operation=OPERATION, training=done, test={})
    operation = tune_operation(seen, VesselNetwork(path))
    write_card(path, operation=operation, training=done, test={})
    test = {"frames": list(held)} | score(held, "network", VesselNetwork(path)) if held else {}
    return write_card(path, operation=operation, training=done, test=test)


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 an input can't be used, 3 refused, 130 cancelled."""
    parser = argparse.ArgumentParser(prog="IRAILib.fluoroscopy.vessels_train_command", description=__doc__)
    parser.add_argument("source", type=Path, help="folder of NAME.png with NAME_gt.png")
    parser.add_argument("--out", required=True, type=Path, help="folder for vessels_xray.onnx and its card")
    parser.add_argument("--fold", type=int, default=0, help="which ten frames are held out; -1: none")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="on processors that have it: three times faster")
    parser.add_argument("--start", type=Path, help="vessels_xray.pt of an earlier run to go on from")
    options = vars(parser.parse_args(arguments))
    options["fold"] = None if options["fold"] < 0 else options["fold"]
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        train_network(options.pop("source"), options.pop("out"), **options)
    except KeyboardInterrupt:
        _log.error("training was cancelled")
        return 130
    except IRAIError as error:
        _log.error("%s", error)
        return 3 if isinstance(error, RefusedError) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
