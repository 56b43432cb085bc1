"""`irai needle detect`: one picture or volume of any modality, one JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from .. import RESEARCH_NOTICE
from ..geometry import InputError, MissingPackageError, NeedleEstimate, Volume
from ..images import read_volume, replacing
from ..images.dicom_scan import is_dicom, read_header
from ..images.frames import is_picture
from ..images.sequences import read_sequence
from ..needle.ultrasound.detection import Detector
from .needle_inputs import Film, is_sequence, read_film

FILMS, VOLUMES = ("US", "XA", "RF"), ("CT", "MR")
AIR_HU = -500.0  # a CT holds air; an MR or ultrasound image has no such values


def run_detect(arguments: argparse.Namespace) -> int:
    """Find, write the JSON, say one line. Returns the exit status."""
    path: Path = arguments.image
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    modality = _modality(path, arguments)
    if modality in VOLUMES:
        found, notes = _in_volume(path, modality, arguments)
    else:
        found, notes = _in_film(path, modality, arguments)
    found.sort(key=lambda estimate: (not estimate.found, -estimate.confidence))
    document = _document(path, found, notes)
    with replacing(arguments.json) as temporary:
        Path(temporary).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(_line(document, arguments.json))
    return 0


def _modality(path: Path, arguments: argparse.Namespace) -> str:
    """What kind of image it is: said by the user, the DICOM header, or the shape of the file."""
    if arguments.modality != "auto":
        return arguments.modality
    if path.is_file() and is_dicom(path):
        said = str(read_header(path, str(path)).get("Modality", ""))
        if said in (*FILMS, *VOLUMES):
            return "XA" if said == "RF" else said
        raise InputError(f"{path}: DICOM modality '{said}': say which it is with --modality US, CT, MR or XA")
    if is_picture(path):
        return "US"
    if is_sequence(path) and (".igs." in path.name.lower() or _holds_frames(path)):
        return "US"
    return _modality_of(read_volume(path, series=_series(arguments)))


def _holds_frames(path: Path) -> bool:
    """A flat image or a PLUS recording, and no volume."""
    try:
        sequence = read_sequence(path, mapped=True)
    except InputError:
        return False
    return bool(sequence.transforms) or sequence.timed or len(sequence) == 1


def _modality_of(volume: Volume) -> str:
    said = str((volume.metadata or {}).get("Modality", "")).upper()
    if said in VOLUMES:
        return said
    return "CT" if float(np.min(volume.array)) < AIR_HU else "MR"


def _series(arguments: argparse.Namespace) -> int | str | None:
    text = arguments.series
    return int(text) if text is not None and text.isdigit() else text


def _in_volume(path: Path, modality: str, arguments: argparse.Namespace) -> tuple[list[NeedleEstimate], list[str]]:
    from .needle_slices import read_single_slice
    from .progress import terminal_progress

    single = read_single_slice(path)
    volume = single or read_volume(path, series=_series(arguments))
    flat = volume.array.shape[0] == 1
    progress = terminal_progress("needle")
    if modality == "CT":
        from ..needle.ct import find_needle_ct_slice, find_needles_ct

        found = find_needle_ct_slice(volume) if flat else find_needles_ct(volume, expected=arguments.expected,
                                                                           progress=progress)
    else:
        from ..needle.mr import find_needle_mr_slice, find_needles_mr

        found = find_needle_mr_slice(volume) if flat else find_needles_mr(volume, progress=progress)
    out: list[NeedleEstimate] = [found] if isinstance(found, NeedleEstimate) else [*found]
    return out, [f"read as {modality}" if arguments.modality == "auto" else f"{modality}, as you said"]


def _in_film(path: Path, modality: str, arguments: argparse.Namespace) -> tuple[list[NeedleEstimate], list[str]]:
    film = read_film(path, arguments)
    index = len(film.frames) - 1 if arguments.index is None else arguments.index
    if not 0 <= index < len(film.frames):
        raise InputError(f"{path}: has the frames 0 to {len(film.frames) - 1}, there is no frame {index}")
    if modality == "XA":
        from ..fluoroscopy.catheter import find_catheter
        from ..fluoroscopy.live import mean_mm_per_px

        spacing = mean_mm_per_px(None if film.scale is None else film.scale.mm_per_px)
        return [find_catheter(film.frames[max(index - 7, 0): index + 1], mm_per_px=spacing)], film.notes
    return [_in_ultrasound(film, index, arguments)], film.notes


def _in_ultrasound(film: Film, index: int, arguments: argparse.Namespace) -> NeedleEstimate:
    from ..needle.live import LivePipeline
    from ..needle.ultrasound.estimate import estimate_from_detection

    pipeline = LivePipeline(_detector(arguments.detector), scale=film.scale, region=film.region)
    first = max(index + 1 - pipeline.detector.stack_length, 0)
    detection = pipeline.detect(film.frames[first: index + 1])
    return estimate_from_detection(detection, float(film.time_s[index]), film.scale)


def _detector(name: str) -> Detector:
    """By name; "auto" is both detectors, or the classical one alone where the network can't run."""
    from ..needle.live import make_detector

    if name != "auto":
        return make_detector(name)
    try:
        return make_detector("both")
    except MissingPackageError:
        return make_detector("auto")


def _document(path: Path, found: list[NeedleEstimate], notes: list[str]) -> dict[str, Any]:
    if found:
        document = found[0].to_dict()
    else:
        document = {"found": False, "status": "absent", "tip": None, "direction": None, "units": None, "sigma": None}
    needles = [estimate.to_dict() for estimate in found if estimate.found]
    return {**document, "image": str(path), "needles": needles, "notes": notes, "notice": RESEARCH_NOTICE}


def _line(document: dict[str, Any], out: Path) -> str:
    if not document["found"]:
        return f"no needle found ({document['status']}); {out}"
    tip = ", ".join(f"{value:.2f}" for value in document["tip"])
    sigma = "unknown" if document["sigma"] is None else f"{document['sigma']:.2f}"
    more = f"; {len(document['needles'])} needles" if len(document["needles"]) > 1 else ""
    return f"tip {tip} {document['units']} in {document['frame']}, sigma {sigma} {document['units']}{more}; {out}"
