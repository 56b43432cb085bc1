"""The table of tips that `irai needle track` writes and benchmarks read: one line a frame, and a card beside it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError, NeedleEstimate, NeedleStatus
from ..images import replacing

COLUMNS = ("time_s", "tip_x", "tip_y", "tip_z", "dir_x", "dir_y", "dir_z", "sigma_mm", "status", "in_plane")
SIGMA = COLUMNS.index("sigma_mm")


def columns(units: str) -> tuple[str, ...]:
    """The header line; `sigma_px` instead of `sigma_mm` says that every length is in pixels."""
    return COLUMNS if units == "mm" else (*COLUMNS[:SIGMA], "sigma_px", *COLUMNS[SIGMA + 1:])


def row(estimate: NeedleEstimate) -> list[str]:
    """One line of the table; what isn't known stays empty."""
    tip = [""] * 3 if estimate.tip is None else [f"{value:.4f}" for value in estimate.tip]
    known = estimate.tip is not None and estimate.direction is not None
    direction = [f"{value:.5f}" for value in np.asarray(estimate.direction)] if known else [""] * 3
    sigma = "" if estimate.sigma is None else f"{estimate.sigma:.4f}"
    in_plane = "" if estimate.in_plane is None else f"{estimate.in_plane:.3f}"
    return [f"{estimate.time_s:.6f}", *tip, *direction, sigma, estimate.status.value, in_plane]


def write_tips(path: str | Path, estimates: Sequence[NeedleEstimate], card: dict[str, Any] | None = None) -> None:
    """Write the table, and `<path>.json` with unit, frame, method, what it was validated on, and `card`.

    All estimates must share unit and frame (InputError). An empty list gives a header line alone.
    """
    path = Path(path)
    units = {estimate.units for estimate in estimates} or {"px"}
    frames = {estimate.frame for estimate in estimates} or {"Image"}
    if len(units) > 1 or len(frames) > 1:
        raise InputError(f"{path}: a table of tips has one unit and one frame, not {sorted(units)} in {sorted(frames)}")
    unit = units.pop()
    with replacing(path) as temporary, Path(temporary).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns(unit))
        writer.writerows(row(estimate) for estimate in estimates)
    document = {"units": unit, "frame": frames.pop(), "rows": len(estimates),
                "status": _counts(estimates), "method": sorted({e.method for e in estimates}),
                "validated_on": sorted({e.validated_on for e in estimates}), **(card or {})}
    with replacing(path.with_name(path.name + ".json")) as temporary:
        Path(temporary).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_tips(path: str | Path) -> tuple[dict[str, np.ndarray], str]:
    """Columns by name and the unit, "mm" or "px". Numbers that are missing are NaN; `status` is an array of texts.

    Raises InputError for a file that is no such table.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read as a table of tips ({error.__class__.__name__})") from error
    units = next((unit for unit in ("mm", "px") if lines and tuple(lines[0]) == columns(unit)), None)
    if units is None:
        raise InputError(f"{path}: no table of tips; its first line should be {','.join(COLUMNS)}")
    table: dict[str, np.ndarray] = {}
    for place, name in enumerate(columns(units)):
        texts = [line[place] if place < len(line) else "" for line in lines[1:]]
        table[name] = np.array(texts) if name == "status" else np.array([_number(text, path) for text in texts])
    return table, units


def _number(text: str, path: Path) -> float:
    if not text:
        return math.nan
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{path}: '{text}' is no number") from error


def _counts(estimates: Iterable[NeedleEstimate]) -> dict[str, int]:
    found = [estimate.status for estimate in estimates]
    return {status.value: found.count(status) for status in NeedleStatus if status in found}
