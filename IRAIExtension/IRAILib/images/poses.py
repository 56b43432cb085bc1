"""Tables of poses of a tracked tool: CSV and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError
from .markups import csv_rows, parse_json, read_text

MATRIX_COLUMNS = tuple(f"m{row}{column}" for row in range(3) for column in range(4))
QUATERNION_COLUMNS = ("x", "y", "z", "qw", "qx", "qy", "qz")


@dataclass(frozen=True)
class PoseTable:
    """poses: (n, 4, 4) mm. valid: (n,) bool, False where the file says MISSING or the like. time_s: (n,) or None."""

    poses: np.ndarray
    valid: np.ndarray
    time_s: np.ndarray | None


def read_poses(path: str | Path) -> PoseTable:
    """Poses of one tool.

    CSV: the header names m00,m01,m02,m03,m10,...,m23 (rows of the matrix) or x,y,z,qw,qx,qy,qz (mm, unit
    quaternion), and may name status (OK or another word) and time_s.
    JSON: {"poses": [[16 numbers], ...]}, rows of the matrices, and may hold "status" and "time_s" lists.
    Raises InputError: no such file, a missing column, not a number (in a row whose status is OK).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _from_json(parse_json(read_text(path), path), path)
    if suffix in (".csv", ".txt"):
        return _from_csv(read_text(path), path)
    raise InputError(f"{path}: no table of poses; .csv, .json or a recording (.igs.mha, .igs.nrrd) is needed")


def _from_csv(text: str, path: Path) -> PoseTable:
    rows = [row for row in csv_rows(text, path) if not row[0].lstrip().startswith("#")]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    columns = next((c for c in (MATRIX_COLUMNS, QUATERNION_COLUMNS) if set(c) <= set(header)), None)
    if columns is None:
        raise InputError(f"{path}: the first line must name m00,m01,...,m23, or x,y,z,qw,qx,qy,qz")
    poses, valid, times = [], [], []
    for number, row in enumerate(rows[1:]):
        cells = dict(zip(header, row, strict=False))
        good = cells.get("status", "OK").strip().upper() in ("OK", "")
        values = _floats([cells.get(c) for c in columns], f"{path}: row {number + 1}") if good else []
        poses.append(_matrix(values, f"{path}: row {number + 1}") if good else np.eye(4))
        valid.append(good)
        if "time_s" in header:
            times.append(_floats([cells.get("time_s")], f"{path}: time_s of row {number + 1}")[0])
    return PoseTable(np.array(poses).reshape(-1, 4, 4), np.array(valid, bool), np.array(times) if times else None)


def _from_json(value: Any, path: Path) -> PoseTable:
    listed = value.get("poses") if isinstance(value, dict) else None
    if not isinstance(listed, list):
        raise InputError(f'{path}: holds no poses; {{"poses": [[16 numbers], ...]}} is needed')
    words, times = value.get("status") or ["OK"] * len(listed), value.get("time_s")
    if not isinstance(words, list) or not isinstance(times, list | None):
        raise InputError(f"{path}: status and time_s must be lists")
    if len(words) != len(listed) or (times is not None and len(times) != len(listed)):
        raise InputError(f"{path}: {len(listed)} poses need as many entries in status and time_s")
    valid = np.array([str(word).upper() == "OK" for word in words], bool)
    poses = [_matrix(_floats(np.ravel(np.array(entry, object)), f"{path}: pose {n + 1}"), f"{path}: pose {n + 1}")
             if good else np.eye(4) for n, (entry, good) in enumerate(zip(listed, valid, strict=True))]
    return PoseTable(np.array(poses).reshape(-1, 4, 4), valid,
                     None if times is None else np.array(_floats(times, f"{path}: time_s")))


def _floats(values: Any, where: str) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: is not made of numbers; correct it, or give it the status MISSING") from error
    if not np.isfinite(numbers).all():
        raise InputError(f"{where}: holds a number that is not finite; correct it, or give it the status MISSING")
    return numbers


def _matrix(values: list[float], where: str) -> np.ndarray:
    matrix = np.eye(4)
    if len(values) == 16:
        return np.array(values).reshape(4, 4)
    if len(values) == 12:
        matrix[:3] = np.array(values).reshape(3, 4)
        return matrix
    if len(values) != 7:
        raise InputError(f"{where}: has {len(values)} numbers; 16, 12 (matrix) or 7 (position and quaternion) are "
                         "needed")
    quaternion = np.array(values[3:])
    length = np.linalg.norm(quaternion)
    if not 0.9 < length < 1.1:
        raise InputError(f"{where}: its quaternion has length {length:.3g}, not 1")
    w, x, y, z = quaternion / length
    matrix[:3, :3] = [[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                      [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                      [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]
    matrix[:3, 3] = values[:3]
    return matrix
