"""What `irai fusion calibrate` reads: recordings, tables of poses and points."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..geometry import InputError
from ..images.markups import csv_rows, parse_json, read_named_points, read_text
from ..images.poses import read_poses
from ..images.sequences import SUFFIXES, TrackedSequence, read_sequence
from ..link.replay_frames import read_plus_config, split_name
from ..navigation.nwire import NPattern
from ..navigation.plus_files import SegmentedFrames, chained, read_results


def positive(text: str) -> float:
    """argparse type: a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"'{text}' is no positive number")
    return value


def region(text: str) -> tuple[int, int, int, int]:
    """argparse type: X0,Y0,X1,Y1."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is no region; write X0,Y0,X1,Y1 in pixels")
    x0, y0, x1, y1 = (int(part) for part in parts)
    return x0, y0, x1, y1


def frame_range(text: str) -> tuple[int, int]:
    """argparse type: A:B."""
    parts = text.split(":")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts) or int(parts[0]) >= int(parts[1]):
        raise argparse.ArgumentTypeError(f"'{text}' is no range of frames; write A:B")
    return int(parts[0]), int(parts[1])


def is_recording(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def tool_poses(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, str, str]:
    """((n, 4, 4), (n,) bool, tool, reference) of IN, --transform, --config, --frames."""
    pair = split_name(arguments.transform)
    if pair is None:
        raise InputError(f"--transform {arguments.transform}: is no name like StylusToReference")
    if is_recording(arguments.source):
        poses, valid = sequence_poses(read_sequence(arguments.source), arguments.transform, arguments.config)
    else:
        table = read_poses(arguments.source)
        poses, valid = table.poses, table.valid
    if arguments.frames:
        poses, valid = (a[slice(*arguments.frames)] for a in (poses, valid))
    return poses, valid, *pair


def sequence_poses(sequence: TrackedSequence, name: str, config: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """((n, 4, 4), (n,) bool) of a transform of a recording, chained where needed."""
    static = read_plus_config(config) if config else {}
    return chained(name, len(sequence), sequence.transforms, {key: sequence.valid(key) for key in sequence.transforms},
                   static)


def tip(text: str) -> np.ndarray:
    """(3,) from "x,y,z" or from the JSON of a pivot calibration. Raises InputError."""
    if text.lower().endswith(".json"):
        values = parse_json(read_text(text), text)
        found = values.get("tip_mm") if isinstance(values, dict) else None
        if not isinstance(found, list):
            raise InputError(f"{text}: holds no tip_mm; give the JSON of `irai fusion calibrate pivot`")
        numbers = found
    else:
        numbers = text.split(",")
    try:
        point = np.array([float(number) for number in numbers])
    except (TypeError, ValueError) as error:
        raise InputError(f"--tip {text}: is not three numbers x,y,z") from error
    if point.shape != (3,) or not np.isfinite(point).all():
        raise InputError(f"--tip {text}: is not three finite numbers x,y,z")
    return point


def landmark_pairs(source: Path, fixed: Path | None) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(names, (n, 3) moving, (n, 3) fixed)."""
    if fixed is not None:
        a, b = read_named_points(source), read_named_points(fixed)
        if set(a.names) == set(b.names):
            order = [b.names.index(name) for name in a.names]
            return list(a.names), a.points_mm, b.points_mm[order]
        return list(a.names), a.points_mm, b.points_mm
    if source.suffix.lower() == ".json":
        value = parse_json(read_text(source), source)
        if not isinstance(value, dict) or not {"moving", "fixed"} <= set(value):
            raise InputError(f"{source}: holds no lists `moving` and `fixed`; give the fixed points with --fixed")
        try:
            moving, partner = (np.array(value[key], float) for key in ("moving", "fixed"))
        except (TypeError, ValueError) as error:
            raise InputError(f"{source}: its points aren't lists of three numbers") from error
        names = value.get("names") or [str(n + 1) for n in range(moving.size // 3)]
        if not isinstance(names, list):
            raise InputError(f"{source}: its names aren't a list")
        return [str(name) for name in names], moving, partner
    columns = [f"{which}_{axis}" for which in ("moving", "fixed") for axis in "xyz"]
    rows = table(source, columns)
    values = np.array([[number(row, column, source, n) for column in columns] for n, row in enumerate(rows)])
    values = values.reshape(-1, 6)
    return [row.get("name", "").strip() or str(n + 1) for n, row in enumerate(rows)], values[:, :3], values[:, 3:]


def table(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """The rows of a CSV whose header names the columns (any case, others may follow). Raises InputError."""
    rows = csv_rows(read_text(path), path)
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if not set(columns) <= set(header):
        raise InputError(f"{path}: the first line must name the columns {','.join(columns)}")
    return [dict(zip(header, row, strict=False)) for row in rows[1:]]


def number(row: dict[str, str], column: str, path: Path, index: int) -> float:
    """A finite number of a row. Raises InputError."""
    try:
        value = float(row.get(column, ""))
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise InputError(f"{path}: {column} of row {index + 1} is not a number; correct that line")
    return value


def segmented(source: Path, points: Path | None, patterns: list[NPattern]) -> tuple[SegmentedFrames, str]:
    """Frames with their dots, and the orientation of the image, from a results.xml or a recording with a table."""
    if not is_recording(source):
        if points is not None:
            raise InputError("--points goes with a recording; a results.xml holds its own points")
        return read_results(source, patterns), "MF"
    if points is None:
        raise InputError(f"{source}: give the segmented points with --points CSV (frame,wire,x,y)")
    sequence = read_sequence(source, mapped=True)
    names = [name for pattern in patterns for name in pattern.names]
    dots = np.full((len(sequence), len(names), 2), np.nan)
    for n, row in enumerate(table(points, ["frame", "wire", "x", "y"])):
        wire = row.get("wire", "").strip()
        if wire not in names:
            raise InputError(f"{points}: row {n + 1} names the wire '{wire}'; the phantom has {', '.join(names)}")
        dots[_frame(row, points, n, len(sequence)), names.index(wire)] = (number(row, "x", points, n),
                                                                         number(row, "y", points, n))
    seen = np.nonzero(np.isfinite(dots).all(axis=2).max(axis=1))[0]
    size = None if sequence.frames is None else (sequence.frames.shape[2], sequence.frames.shape[1])
    poses = {name: matrices[seen] for name, matrices in sequence.transforms.items()}
    valid = {name: sequence.valid(name)[seen] for name in sequence.transforms}
    return SegmentedFrames(dots[seen], seen, poses, valid, size), sequence.orientation[:2]


def pointer_points(arguments: argparse.Namespace):
    """((n, 2) pixels, (n, 4, 4) poses, (n,) bool, size or None, orientation)."""
    sequence = read_sequence(arguments.source, mapped=True)
    poses, valid = sequence_poses(sequence, arguments.transform, arguments.config)
    rows = table(arguments.points, ["frame", "x", "y"])
    frames = np.array([_frame(row, arguments.points, n, len(sequence)) for n, row in enumerate(rows)], int)
    pixels = np.array([[number(row, axis, arguments.points, n) for axis in "xy"] for n, row in enumerate(rows)])
    size = None if sequence.frames is None else (sequence.frames.shape[2], sequence.frames.shape[1])
    return pixels.reshape(-1, 2), poses[frames], valid[frames], size, sequence.orientation[:2]


def image_signal(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """((n,) time_s, (n,) row px) of the images."""
    if not is_recording(arguments.source):
        rows = table(arguments.source, ["time_s", "row_px"])
        both = np.array([[number(row, name, arguments.source, n) for name in ("time_s", "row_px")]
                         for n, row in enumerate(rows)]).reshape(-1, 2)
        return both[:, 0], both[:, 1]
    from ..navigation.line_signal import line_rows
    from .progress import terminal_progress

    sequence = read_sequence(arguments.source)
    if sequence.frames is None or not sequence.timed:
        raise InputError(f"{arguments.source}: holds no images with time stamps")
    good = sequence.image_valid()
    return sequence.time_s[good], line_rows(sequence.frames[good], region=arguments.region,
                                            progress=terminal_progress("line"))[0]


def tracker_positions(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """((m,) time_s, (m, 3) mm) of the tracked probe, where it was seen."""
    source = arguments.tracker or arguments.source
    if is_recording(source):
        sequence = read_sequence(source, mapped=True)
        if not sequence.timed:
            raise InputError(f"{source}: its poses have no time stamps")
        poses, valid = sequence_poses(sequence, arguments.transform, arguments.config)
        return sequence.time_s[valid], poses[valid][:, :3, 3]
    if arguments.tracker is None:
        raise InputError("the poses are needed too: --tracker FILE")
    read = read_poses(source)
    if read.time_s is None:
        raise InputError(f"{source}: needs the column time_s")
    return read.time_s[read.valid], read.poses[read.valid][:, :3, 3]


def _frame(row: dict[str, str], path: Path, index: int, count: int) -> int:
    value = number(row, "frame", path, index)
    if value != int(value) or not 0 <= value < count:
        raise InputError(f"{path}: frame of row {index + 1} is {value:g}; the recording has frames 0 to {count - 1}")
    return int(value)
