"""200 cases through `irai cohort run`: time with one and two workers, a plain loop beside them, memory as it runs."""

from __future__ import annotations

import csv
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from IRAILib.cohort.manifest import read_manifest
from IRAILib.cohort.run import run_cohort
from IRAILib.cohort.tasks import read_settings, run_case
from IRAILib.geometry import Grid, Mask, Volume
from IRAILib.images import write_mask, write_volume

CASES, SIDE, RADIUS = 200, 64, 15.0
"""About 14,100 voxels of 1 mm in each region."""
KINDS = 10
"""Different images; their 200 rows point to these in turn."""
SEED = 2026


def make(folder: Path) -> Path:
    """Images and the manifest."""
    rng = np.random.default_rng(SEED)
    k, j, i = np.mgrid[:SIDE, :SIDE, :SIDE] - SIDE / 2
    grid = Grid((SIDE, SIDE, SIDE), np.eye(4))
    for number in range(KINDS):
        texture = rng.normal(60.0, 25.0, (SIDE, SIDE, SIDE)).astype(np.int16)
        write_volume(Volume(texture, grid), folder / f"image{number}.nii.gz")
        radii = RADIUS * (1.0 + rng.uniform(-0.1, 0.1, 3))
        inside = (k / radii[0]) ** 2 + (j / radii[1]) ** 2 + (i / radii[2]) ** 2 <= 1.0
        write_mask(Mask(inside, grid), folder / f"mask{number}.nii.gz")
    path = folder / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "image", "mask"])
        writer.writerows([f"case {n}", f"image{n % KINDS}.nii.gz", f"mask{n % KINDS}.nii.gz"] for n in range(CASES))
    return path


def memory_mib() -> tuple[float, float]:
    """Resident memory of this process and of everything it started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [os.getpid()]
    while todo:
        pid = todo.pop()
        found.append(_resident(pid))
        todo += children.get(pid, [])
    return found[0], sum(found[1:])


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def measure(manifest: Path, out: Path, workers: int) -> tuple[float, float, dict[int, tuple[float, float]]]:
    """(seconds in all, seconds from the first result to the last, memory after so many cases)."""
    seen: dict[int, tuple[float, float]] = {}
    times: list[float] = []

    def tell(share: float, text: str) -> None:
        number = round(share * CASES)
        times.append(time.perf_counter())
        if number in (20, 50, 100, 150, 190):
            seen[number] = memory_mib()

    began = time.perf_counter()
    summary = run_cohort(manifest, "radiomics", out, workers=workers, progress=tell)
    assert summary.done == CASES
    return time.perf_counter() - began, times[-1] - times[1], seen


def run(data: Path) -> list[str]:
    """The section's lines; `data` is not needed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = make(folder)
        cases, settings = read_manifest(manifest, "radiomics"), read_settings("radiomics", None)
        run_case("radiomics", cases[0].to_dict(), settings)
        began = time.perf_counter()
        for case in cases[:20]:
            assert run_case("radiomics", case.to_dict(), settings)["status"] == "done"
        loop = (time.perf_counter() - began) / 20
        found = {workers: measure(manifest, folder / f"out{workers}", workers) for workers in (1, 2)}
    speed = (CASES - 1) / found[2][1] / ((CASES - 1) / found[1][1])
    lines = [f"{CASES} cases, every radiomics feature of about 14,100 voxels, read from .nii.gz:", "",
             "| | whole run, s | cases a second, once running |", "|---|---|---|",
             f"| a loop in one process (of 20 cases) | | {1 / loop:.2f} |"]
    lines += [f"| {workers} worker{'s' * (workers > 1)} | {whole:.0f} | {(CASES - 1) / steady:.2f} |"
              for workers, (whole, steady, _) in found.items()]
    lines += ["", f"From 1 to 2 workers: {speed:.2f} times as many cases a second.", "",
              "Resident memory in MiB (the run's own process / all workers) after so many cases:", "",
              "| workers | " + " | ".join(str(number) for number in found[1][2]) + " |",
              "|---" * (len(found[1][2]) + 1) + "|"]
    lines += [f"| {workers} | " + " | ".join(f"{own:.0f} / {rest:.0f}" for own, rest in seen.values()) + " |"
              for workers, (_, _, seen) in found.items()]
    return lines
