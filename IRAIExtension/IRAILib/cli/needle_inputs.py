"""Ultrasound frames for `irai needle`: from recordings, cines and pictures, with scale and region."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..geometry import InputError
from ..images.frames import Frames, grey, is_picture, read_frames, to_uint8
from ..images.sequences import SUFFIXES, TrackedSequence, read_sequence
from ..needle.ultrasound.region import Region, find_region, region_from_box
from ..needle.ultrasound.scale import (
    PixelScale,
    agreed_scale,
    scale_from_dicom,
    scale_from_matrix,
    scale_from_spacing,
    scale_from_user,
)


@dataclass
class Film:
    """Grey frames (n, h, w) uint8 in time order, their scale and region, and the recording if it was one."""

    frames: np.ndarray
    time_s: np.ndarray
    scale: PixelScale | None
    region: Region | None
    sequence: TrackedSequence | None
    modality: str
    notes: list[str]


def is_sequence(path: Path) -> bool:
    """By its name: .mha, .mhd, .nrrd, .nhdr."""
    return path.suffix.lower() in SUFFIXES


def read_film(path: Path, arguments: argparse.Namespace) -> Film:
    """A recording, cine or picture as a film. Raises InputError (no frames, damaged), RefusedError (scales differ)."""
    config = getattr(arguments, "config", None)
    if is_sequence(path):
        sequence = read_sequence(path)
        if config is not None:
            sequence = _calibrated(sequence, config)
        return _film_of_sequence(sequence, path, arguments)
    if config is not None:
        raise InputError(f"{path}: --config belongs to a tracked recording (.igs.mha, .igs.nrrd)")
    read = read_frames(path)
    frames = to_uint8(read.array)
    time_s = np.arange(len(frames)) / 30.0 if read.time_s is None else read.time_s
    notes = list(read.notes)
    if read.time_s is None and len(frames) > 1:
        notes.append("the file says nothing of time: 30 frames a second are assumed")
    told, told_region = _dicom_says(read, frames.shape[1:], notes)
    region = _region(arguments.region, frames, told_region, screenshot=is_picture(path))
    scale = agreed_scale([_user_scale(arguments, frames, region), told])
    return Film(frames, time_s, scale, region, None, read.modality, notes)


def _calibrated(sequence: TrackedSequence, config: Path) -> TrackedSequence:
    """The recording with the fixed transforms of a PLUS configuration, where it has none of that name itself."""
    from ..link.replay_frames import read_plus_config

    texts = {f"{name}Transform": " ".join(f"{value:.17g}" for value in matrix.ravel())
             for name, matrix in read_plus_config(config).items() if name not in sequence.transforms}
    return replace(sequence, header={**texts, **sequence.header})


def _film_of_sequence(sequence: TrackedSequence, path: Path, arguments: argparse.Namespace) -> Film:
    if sequence.frames is None:
        raise InputError(f"{path}: a tracker-only recording, without images; give one with ultrasound frames")
    notes: list[str] = []
    if sequence.orientation[:2] not in ("MF", "XX") and len(sequence.orientation) >= 2:
        notes.append(f"frames were turned from {sequence.orientation} to MF, the orientation of ImageTo... matrices")
        sequence = sequence.oriented("MF")
    array = np.asarray(sequence.frames)
    frames = grey(array) if array.ndim == 4 and array.shape[-1] >= 3 else array[..., 0] if array.ndim == 4 else array
    frames = to_uint8(np.ascontiguousarray(frames))
    region = _region(arguments.region, frames, None, screenshot=False)
    told = [scale_from_spacing(*sequence.spacing), *_calibrations(sequence)]
    scale = agreed_scale([_user_scale(arguments, frames, region), *told])
    return Film(frames, sequence.time_s, scale, region, sequence, "US", notes)


def _calibrations(sequence: TrackedSequence) -> list[PixelScale | None]:
    """The scales of the ImageTo... matrices that hold for the whole recording."""
    names = [key[: -len("Transform")] for key in sequence.header if key.startswith("ImageTo")
             and key.endswith("Transform")]
    matrices = [sequence.header_transform(name) for name in names]
    return [scale_from_matrix(matrix, "recording") for matrix in matrices if matrix is not None]


def _dicom_says(read: Frames, shape: tuple[int, ...],
                notes: list[str]) -> tuple[PixelScale | None, Region | None]:
    """Scale and region of the first calibrated tissue region; none if it doesn't lie inside the picture."""
    if read.dataset is None or read.modality != "US":
        return (None, None) if read.dataset is None else (scale_from_dicom(read.dataset), None)
    regions = read.dataset.get("SequenceOfUltrasoundRegions") or []
    boxes = [tuple(int(region.get(f"RegionLocation{name}", -1)) for name in ("MinX0", "MinY0", "MaxX1", "MaxY1"))
             for region in regions if int(region.get("RegionDataType", 0) or 0) == 1]
    outside = [box for box in boxes if not (0 <= box[0] < box[2] <= shape[1] and 0 <= box[1] < box[3] <= shape[0])]
    if outside:
        notes.append(f"the DICOM region {outside[0]} does not lie inside the picture of {shape[1]}x{shape[0]} pixels: "
                     "the picture was resized after it was calibrated, so its scale is not used")
        return None, None
    box = boxes[0] if len(boxes) == 1 else None
    inside = None if box is None else (box[0], box[1], min(box[2], shape[1] - 1), min(box[3], shape[0] - 1))
    return scale_from_dicom(read.dataset), None if inside is None else region_from_box(inside, (shape[0], shape[1]))


def _region(said: str, frames: np.ndarray, told: Region | None, *, screenshot: bool) -> Region | None:
    if said == "whole":
        return None
    if said != "auto":
        try:
            x0, y0, x1, y1 = (int(part) for part in said.split(","))
        except ValueError as error:
            raise InputError(f"--region {said}: write auto, whole, or X0,Y0,X1,Y1 in pixels") from error
        return region_from_box((x0, y0, x1, y1), (frames.shape[1], frames.shape[2]))
    if told is not None or not screenshot:
        return told
    return find_region(frames[:: max(len(frames) // 8, 1)])


def _user_scale(arguments: argparse.Namespace, frames: np.ndarray, region: Region | None) -> PixelScale | None:
    height = frames.shape[1] if region is None else region.height_px
    return scale_from_user(mm_per_px=arguments.mm_per_px, depth_mm=arguments.depth_mm, height_px=height)
