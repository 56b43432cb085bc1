"""Small cohorts of balls whose volumes and margins are known, and Dask clusters of their own on loopback."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from IRAILib.geometry import Grid, Mask
from IRAILib.images import write_mask

LIBRARY = Path(__file__).resolve().parents[2] / "IRAIExtension"
SIDE = 36


def ball(radius_mm: float, centre: tuple[float, float, float] = (18.0, 18.0, 18.0)) -> Mask:
    """A ball of 1 mm voxels in RAS."""
    k, j, i = np.mgrid[:SIDE, :SIDE, :SIDE]
    distance = np.sqrt((k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2)
    return Mask(distance <= radius_mm, Grid((SIDE, SIDE, SIDE), np.eye(4)))


def write_margin_cohort(folder: Path, count: int) -> Path:
    """`count` concentric cases with a margin of 4 mm; tumour radius 5 to 7 mm. Returns the manifest."""
    rows = []
    for number in range(count):
        radius = 5.0 + 2.0 * number / max(count - 1, 1)
        write_mask(ball(radius), folder / f"tumor{number}.nii.gz")
        write_mask(ball(radius + 4.0), folder / f"zone{number}.nii.gz")
        rows.append({"case": f"case {number}", "patient": f"{number // 2:03d}", "tumor": f"tumor{number}.nii.gz",
                     "ablation": f"zone{number}.nii.gz", "age": str(50 + number), "centre": "Nord"})
    return write_rows(folder / "manifest.csv", rows)


def write_rows(path: Path, rows: list[dict[str, str]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@contextmanager
def dask_cluster(folder: Path, workers: int, preload: Path | None = None
                 ) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A scheduler and workers as a user starts them, on loopback: (address, the workers' processes)."""
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1",
                   "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "2"}
    log = (folder / "scheduler.log").open("w")
    started: list[subprocess.Popen] = []
    try:
        started.append(_start(["dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                               "--dashboard-address", "127.0.0.1:0"], log, environment, folder))
        address = _address(folder / "scheduler.log")
        extra = ["--preload", str(preload)] if preload else []
        for number in range(workers):
            worker_log = (folder / f"worker{number}.log").open("w")
            started.append(_start(["dask_worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard",
                                   "--local-directory", str(folder / f"scratch{number}"), *extra], worker_log,
                                  environment, folder))
        yield address, started[1:]
    finally:
        for process in reversed(started):
            _end(process)


def _start(words: list[str], log, environment: dict[str, str], folder: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", f"distributed.cli.{words[0]}", *words[1:]], stdout=log,
                            stderr=subprocess.STDOUT, env=environment, cwd=folder, start_new_session=True)


def _address(log: Path) -> str:
    for _ in range(600):
        found = re.search(r"Scheduler at:\s+(tcp://127\.0\.0\.1:\d+)", log.read_text())
        if found:
            return found.group(1)
        time.sleep(0.1)
    raise AssertionError(f"the scheduler didn't start: {log.read_text()}")


def _end(process: subprocess.Popen) -> None:
    """The process and its group, which it leads."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            continue


def kill(process: subprocess.Popen) -> None:
    """As a machine that loses its power: the worker and the nanny that would start it again."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
