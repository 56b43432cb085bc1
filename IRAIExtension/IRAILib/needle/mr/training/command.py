"""The one training command's work: samples, training, the operating point, and the files."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ....geometry import InputError, Volume
from ....images import read_volume
from ....weights.torch_state import torch_kept
from ..finder import MIN_LENGTH_MM, marked_lines
from ..network import VoidNetwork
from ..paint import PaintedVoid, paint_voids_mr
from ..work import make_work
from .export import write_card, write_onnx
from .loop import Pool, train
from .samples import random_sample, random_scan, random_void

_log = logging.getLogger("IRAI.needle.mr.training")
LOWEST, HIGHEST, MARGIN = 0.6, 0.9, 0.03
"""The operating point lies by the margin over the best false line, within these."""
SPACING_MM = (1.0, 1.0, 3.0)


def train_network(out: Path, scans: list[Path], *, count: int = 800, minutes: float = 25.0, seed: int = 0,
                  threads: int = 1, samples: Path | None = None, start: Path | None = None,
                  check: int = 6) -> dict[str, Any]:
    """Makes `count` samples of needle-free scans, trains, finds the operating point, and writes needle_mr.onnx and its
    card into `out`; returns the card.

    Args: samples, a folder that keeps them (those already there are used); check, needles a scan for the operating
    point. Raises: InputError for scans that can't be read or used, MissingPackageError without torch or onnx.
    """
    volumes = {path.name: read_volume(path) for path in scans}
    if not volumes:
        raise InputError("name at least one needle-free MR scan to train on")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = samples or Path(scratch)
        make_samples(folder, volumes, count, seed)
        with torch_kept():
            net, done = train(Pool(folder), minutes=minutes, seed=seed, threads=threads, start=start,
                              keep=out / "needle_mr.pt")
    path = out / "needle_mr.onnx"
    write_onnx(net, path)
    training = done | {"seed": seed, "scans": sorted(volumes)}
    write_card(path, operation={"least_shaft": 1.0}, calibration={}, training=training)
    least, found = operating_point(VoidNetwork(path, threads=threads), volumes, check, seed)
    return write_card(path, operation={"least_shaft": least}, calibration=found, training=training)


def make_samples(folder: Path, volumes: dict[str, Volume], count: int, seed: int) -> None:
    """Fills the folder up to `count` samples."""
    folder.mkdir(parents=True, exist_ok=True)
    have, names = len(list(folder.glob("[!.]*.npz"))), sorted(volumes)
    for number in range(20 * count):
        if have >= count:
            return
        rng = np.random.default_rng([seed, number])
        name = names[int(rng.integers(len(names)))]
        path = folder / f"{seed}_{number:05d}.npz"
        sample = None if path.exists() else random_sample(volumes[name], rng)
        if sample is not None:
            np.savez(path, cells=sample.cells, label=sample.label)
            have += 1
            if have % 50 == 0:
                _log.info("%d of %d samples", have, count)
    raise InputError(f"only {have} samples of {count} could be cut from the scans: do they show tissue?")


def operating_point(network: VoidNetwork, volumes: dict[str, Volume], check: int, seed: int
                    ) -> tuple[float, dict[str, Any]]:
    """(least mean probability of a line, what was seen) from needles painted into the whole scans at SPACING_MM."""
    true, false = [], []
    for name in sorted(volumes):
        scan = volumes[name]
        grid = scan.grid.resampled_grid(np.array(SPACING_MM))
        values = scan.sample(grid.all_points_ras().reshape(-1, 3)).reshape(grid.shape)
        whole = Volume(np.maximum(values, 0.0).astype(np.float32), grid, name)
        work = make_work(whole)
        for number in range(check + 1):
            rng = np.random.default_rng([seed, 99, number])
            void = random_void(work, rng) if number else None
            if number and void is None:
                continue
            painted = whole if void is None else paint_voids_mr(whole, [void], scan=random_scan(rng), seed=number)
            hits, others = _scores(network, painted, void)
            true += hits
            false += others
    most = max(false, default=0.0)
    least = round(float(np.clip(most + MARGIN, LOWEST, HIGHEST)), 3)
    _log.info("operating point %.3f: %d of %d true lines, %d of %d false ones", least, sum(s >= least for s in true),
              len(true), sum(s >= least for s in false), len(false))
    return least, {"true": [round(s, 2) for s in sorted(true)], "false": [round(s, 2) for s in sorted(false)[-12:]],
                   "volumes": len(volumes) * (check + 1), "note": "needles painted into the training scans"}


def _scores(network: VoidNetwork, volume: Volume, void: PaintedVoid | None) -> tuple[list[float], list[float]]:
    """Scores of the lines on the needle and of all others."""
    work = make_work(volume)
    true, false = [], []
    for line, score in marked_lines(work, network, None, MIN_LENGTH_MM, least=0.3):
        points = work.ras(line.curve.points(np.linspace(*line.curve.ends, 9)))
        on = void is not None and np.median(np.linalg.norm(
            points[:, None] - void.curve(201)[None], axis=2).min(axis=1)) < 4.0
        (true if on else false).append(score)
    return true, false
