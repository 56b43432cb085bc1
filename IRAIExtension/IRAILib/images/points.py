"""Tables of points: CSV with the columns x, y, z in RAS mm."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ..geometry import InputError
from .atomic import replacing


def read_points(path: str | Path) -> np.ndarray:
    """(n, 3) float64 RAS mm from a CSV whose header names x, y and z (any case, further columns ignored).

    Raises InputError: missing file, missing column, a cell that is not a finite number.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: can't be read as a table of points ({error})") from error
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if not {"x", "y", "z"} <= set(header):
        raise InputError(f"{path}: the first line must name the columns x,y,z (RAS mm)")
    columns = [header.index(name) for name in "xyz"]
    points = np.empty((len(rows) - 1, 3))
    for n, row in enumerate(rows[1:]):
        try:
            points[n] = [float(row[column]) for column in columns]
        except (ValueError, IndexError) as error:
            raise InputError(f"{path}: point {n + 1} is not three numbers; correct that line") from error
    if not np.isfinite(points).all():
        raise InputError(f"{path}: holds a coordinate that is not finite; correct that line")
    return points


def write_points(points: np.ndarray, path: str | Path) -> None:
    """(n, 3) RAS mm to a CSV with the header x,y,z. Values keep full double precision."""
    points = np.asarray(points, float).reshape(-1, 3)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow("xyz")
        writer.writerows([repr(float(v)) for v in point] for point in points)
