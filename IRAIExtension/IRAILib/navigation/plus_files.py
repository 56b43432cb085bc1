"""What PLUS writes about calibrations: phantoms in a device set configuration, the results.xml of fCal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..geometry import InputError
from ..link.replay_frames import checked_matrix, find_chain, read_plus_xml
from .nwire import NPattern


@dataclass(frozen=True)
class SegmentedFrames:
    """Frames whose dots were found by someone else.

    points_px: (n, wires, 2), NaN where a wire wasn't found. numbers: (n,) of the frames in their recording.
    poses: {"ProbeToTracker": (n, 4, 4)}. valid: {"ProbeToTracker": (n,) bool}. size_px: (width, height) or None.
    """

    points_px: np.ndarray
    numbers: np.ndarray
    poses: dict[str, np.ndarray]
    valid: dict[str, np.ndarray]
    size_px: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.points_px)


def read_patterns(path: str | Path) -> list[NPattern]:
    """The N-wires of the phantom in a PLUS configuration, in its order. Raises InputError: none, or no numbers."""
    patterns = []
    for element in read_plus_xml(path).iterfind(".//PhantomDefinition//Pattern"):
        wires = element.findall("Wire")
        if element.get("Type", "NWire").lower() != "nwire":
            continue
        if len(wires) != 3:
            raise InputError(f"{path}: a pattern of {len(wires)} wires; an N has three")
        names = [wire.get("Name", f"wire {number + 1}") for number, wire in enumerate(wires)]
        ends = [[_numbers(wire.get(key, ""), 3, f"{path}: {key} of wire {name}")
                 for wire, name in zip(wires, names, strict=True)] for key in ("EndPointFront", "EndPointBack")]
        patterns.append(NPattern((names[0], names[1], names[2]), np.array(ends[0]), np.array(ends[1])))
    if not patterns:
        raise InputError(f"{path}: describes no N-wire phantom (PhantomDefinition, Pattern Type=\"NWire\")")
    return patterns


def read_phantom_landmarks(path: str | Path) -> tuple[list[str], np.ndarray]:
    """(names, (n, 3) mm in the phantom's frame) of the Landmarks in a PLUS configuration. Raises InputError."""
    found = [(element.get("Name", ""), _numbers(element.get("Position", ""), 3, f"{path}: landmark"))
             for element in read_plus_xml(path).iterfind(".//PhantomDefinition//Landmark")]
    if not found:
        raise InputError(f"{path}: its phantom has no landmarks")
    return [name for name, _ in found], np.array([point for _, point in found])


def read_results(path: str | Path, patterns: Sequence[NPattern], *, part: str = "CalibrationData") -> SegmentedFrames:
    """The frames, dots and poses in a results.xml of fCal; part: CalibrationData or ValidationData.

    Frames that fCal couldn't segment are left out. Raises InputError: not such a file, wires of another phantom.
    """
    root = read_plus_xml(path)
    names = [name for pattern in patterns for name in pattern.names]
    dots, numbers, fields, size = [], [], [], None
    for frame in root.iterfind(f".//{part}/Frame"):
        tracked = frame.find("TrackedFrame")
        if frame.get("SegmentationStatus") != "OK" or tracked is None:
            continue
        where = f"{path}: frame {frame.get('Index', '?')}"
        found = {point.get("WireName"): _numbers(point.get("Position", ""), 3, f"{where}: a point")[:2]
                 for point in frame.iterfind("SegmentedPoints/Point")}
        if found and not set(names) & set(found):
            raise InputError(f"{where}: names wires that the phantom hasn't ({next(iter(found))}); give the "
                             "configuration that was used")
        dots.append([found.get(name, [np.nan, np.nan]) for name in names])
        index = frame.get("Index", "")
        numbers.append(int(index) if index.isdigit() else len(numbers))
        fields.append({field.get("Name", ""): field.get("Value", "") for field in tracked.iter("CustomFrameField")})
        size = size or _size(tracked.get("FrameSize", ""))
    if not dots:
        raise InputError(f"{path}: holds no segmented frame in {part}; a results.xml of fCal's spatial calibration is "
                         "needed")
    transforms = [name for name in fields[0] if name.endswith("Transform")]
    poses, valid = {}, {}
    for name in transforms:
        short = name.removesuffix("Transform")
        poses[short] = np.array([_pose(frame.get(name), f"{path}: {name}") for frame in fields])
        valid[short] = np.array([frame.get(f"{name}Status", "OK") == "OK" and name in frame for frame in fields])
    return SegmentedFrames(np.array(dots, float), np.array(numbers), poses, valid, size)


def read_published(path: str | Path) -> tuple[str, np.ndarray]:
    """("ImageToProbe", (4, 4)) that a results.xml of fCal ends in. Raises InputError."""
    element = read_plus_xml(path).find(".//CalibrationResults/Transform")
    if element is None:
        raise InputError(f"{path}: holds no calibration result")
    name = f"{element.get('From', 'Image')}To{element.get('To', 'Probe')}"
    return name, checked_matrix(_numbers(element.get("Matrix", ""), 16, f"{path}: {name}"), f"{path}: {name}")


def chained(name: str, count: int, poses: dict[str, np.ndarray], valid: dict[str, np.ndarray],
            static: dict[str, np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """((n, 4, 4), (n,) bool) of a transform that follows from those of the frames and of a configuration.

    Args: name: like "PhantomToProbe". count: n. static: transforms that hold for all frames.
    Raises InputError when no chain leads there.
    """
    static = static or {}
    chain = find_chain(name, [*poses, *(key for key in static if key not in poses)])
    if chain is None:
        known = ", ".join(sorted({*poses, *static})) or "none"
        raise InputError(f"{name} can't be had from the transforms at hand ({known}); name others, or give the "
                         "configuration that defines what is missing")
    matrices = np.broadcast_to(np.eye(4), (count, 4, 4))
    good = np.ones(count, bool)
    for part, inverted in chain.steps:
        own = poses.get(part)
        matrix = np.broadcast_to(static[part], (count, 4, 4)) if own is None else own
        good &= True if own is None else valid[part]
        usable = np.where(good[:, None, None], matrix, np.eye(4))
        matrices = (np.linalg.inv(usable) if inverted else usable) @ matrices
    return matrices, good


def _pose(text: str | None, where: str) -> np.ndarray:
    return np.eye(4) if text is None else np.array(_numbers(text, 16, where)).reshape(4, 4)


def _size(text: str) -> tuple[int, int] | None:
    words = text.split()
    return (int(words[0]), int(words[1])) if len(words) >= 2 and all(word.isdigit() for word in words[:2]) else None


def _numbers(text: str, count: int, where: str) -> list[float]:
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError as error:
        raise InputError(f"{where}: isn't made of numbers") from error
    if len(numbers) < count or not np.isfinite(numbers).all():
        raise InputError(f"{where}: {count} finite numbers are needed")
    return numbers[:count]
