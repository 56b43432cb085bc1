"""Named points as Slicer writes them: .mrk.json, .fcsv; and CSV or JSON of one's own."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError

MAX_BYTES = 64 << 20
_FLIP = {"RAS": 1.0, "0": 1.0, "LPS": -1.0, "1": -1.0}


@dataclass(frozen=True)
class NamedPoints:
    """names: n words. points_mm: (n, 3) RAS mm (files in LPS are turned round)."""

    names: tuple[str, ...]
    points_mm: np.ndarray


def read_named_points(path: str | Path) -> NamedPoints:
    """Points of a Slicer markups file (.mrk.json, .json, .fcsv), or of a CSV whose header names x, y, z [, name].

    CSV is RAS mm. Points that the user hasn't placed are left out; unnamed ones are called by their number.
    Raises InputError: missing, no such file, unknown coordinate system, not a number, two points of one name.
    """
    path = Path(path)
    text = read_text(path)
    suffix = path.suffix.lower()
    if suffix == ".json":
        names, points = _markups(parse_json(text, path), path)
    elif suffix == ".fcsv":
        names, points = _fcsv(text, path)
    elif suffix in (".csv", ".txt"):
        names, points = _table(text, path)
    else:
        raise InputError(f"{path}: no list of points; .mrk.json, .fcsv or .csv is needed")
    array = np.array(points, float).reshape(-1, 3)
    if not np.isfinite(array).all():
        raise InputError(f"{path}: holds a coordinate that is not finite; place that point anew")
    labels = tuple(name.strip() or str(n + 1) for n, name in enumerate(names))
    double = next((name for name in labels if labels.count(name) > 1), None)
    if double is not None:
        raise InputError(f"{path}: two points are named '{double}'; give them different names")
    return NamedPoints(labels, array)


def read_text(path: str | Path) -> str:
    """A text file of a sane size. Raises InputError."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: is too large for a table")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read as text ({getattr(error, 'strerror', None) or error})") from error


def csv_rows(text: str, path: str | Path) -> list[list[str]]:
    """The rows of a CSV that hold anything. Raises InputError."""
    try:
        return [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"{path}: can't be read as a table ({error})") from error


def parse_json(text: str, path: str | Path) -> Any:
    """What a JSON text says. Raises InputError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON that can be read ({error})") from error


def _markups(value: Any, path: Path) -> tuple[list[str], list[list[float]]]:
    lists = value.get("markups") if isinstance(value, dict) else None
    if not isinstance(lists, list) or not lists or not isinstance(lists[0], dict):
        raise InputError(f"{path}: holds no markups; save the points from Slicer as .mrk.json")
    system = str(lists[0].get("coordinateSystem", "LPS")).upper()
    flip = _sign(system, path)
    names, points = [], []
    listed = lists[0].get("controlPoints")
    for point in listed if isinstance(listed, list) else []:
        if not isinstance(point, dict) or point.get("positionStatus", "defined") != "defined":
            continue
        names.append(str(point.get("label", "")))
        points.append(_three(point.get("position"), path, len(points) + 1, flip))
    return names, points


def _fcsv(text: str, path: Path) -> tuple[list[str], list[list[float]]]:
    columns = ["id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label"]
    flip, names, points = 1.0, [], []
    for row in csv_rows(text, path):
        if row[0].lstrip().startswith("#"):
            key, _, said = ",".join(row).lstrip("# ").partition("=")
            if key.strip() == "CoordinateSystem":
                flip = _sign(said.strip().upper(), path)
            elif key.strip() == "columns":
                columns = [cell.strip().lower() for cell in said.split(",")]
            continue
        cells = dict(zip(columns, row, strict=False))
        names.append(cells.get("label", ""))
        points.append(_three([cells.get(axis) for axis in "xyz"], path, len(points) + 1, flip))
    return names, points


def _table(text: str, path: Path) -> tuple[list[str], list[list[float]]]:
    rows = csv_rows(text, path)
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if not {"x", "y", "z"} <= set(header):
        raise InputError(f"{path}: the first line must name the columns x,y,z (RAS mm), and may name `name`")
    names, points = [], []
    for row in rows[1:]:
        cells = dict(zip(header, row, strict=False))
        names.append(cells.get("name", cells.get("label", "")))
        points.append(_three([cells.get(axis) for axis in "xyz"], path, len(points) + 1, 1.0))
    return names, points


def _sign(system: str, path: Path) -> float:
    if system not in _FLIP:
        raise InputError(f"{path}: the coordinate system '{system}' is unknown; RAS or LPS is needed")
    return _FLIP[system]


def _three(values: Any, path: Path, number: int, flip: float) -> list[float]:
    try:
        x, y, z = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: point {number} is not three numbers; correct it") from error
    return [flip * x, flip * y, z]
