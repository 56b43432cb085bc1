"""`irai needle track`: a recording or a live stream to a table of tips."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError, NeedleEstimate, NeedleStatus, RefusedError
from ..images.sequences import TrackedSequence
from ..needle.live import LivePipeline, LiveResult, make_detector
from ..needle.live_slices import SlicePipeline
from ..needle.tips import write_tips
from ..needle.ultrasound.scale import scale_from_user
from ..scene.needle_slices import slice_pipeline
from .needle_inputs import Film, read_film
from .progress import terminal_progress

WAIT_S = 10.0  # for the first image of a live stream
FRAMES = ("Reference", "Tracker", "RAS")  # of --frame tracked, in this order
QUIET_S = 5.0  # a live stream that stops for so long ends the run


def run_track(arguments: argparse.Namespace) -> int:
    """Track, write table and card, say one line. Returns the exit status."""
    path = Path(arguments.source)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a recording, or HOST:PORT")
    looks_like_file = path.exists() or path.suffix.lower() in (".mha", ".mhd", ".nrrd", ".nhdr", ".dcm", ".png")
    results, card = _from_file(path, arguments) if looks_like_file else _from_host(arguments)
    estimates = [estimate for estimate, _ in results]
    write_tips(arguments.out, estimates, {"source": arguments.source, **card, **_latency([r for _, r in results])})
    found = sum(estimate.found for estimate in estimates)
    units = estimates[0].units if estimates else "px"
    print(f"{arguments.out}: {len(estimates)} frames, tip in {found}, {units}, by {card['detector']}")
    if card.get("unusable_images"):
        print(f"{card['unusable_images']} images could not be used; the last one: {card['last_refusal']}")
    return 0


def _from_file(path: Path, arguments: argparse.Namespace) -> tuple[list[tuple[NeedleEstimate, LiveResult]], dict]:
    film = read_film(path, arguments)
    modality = film.modality if arguments.modality == "auto" else arguments.modality
    pipeline = _pipeline("XA" if modality == "RF" else modality, arguments, film)
    progress = terminal_progress("track")
    matrices, frame = _matrices(film, arguments)
    out = []
    for number, image in enumerate(film.frames):
        result = pipeline.process(image, float(film.time_s[number]), matrix=_plain(pipeline, film))
        estimate = result.estimate
        if frame is not None:
            estimate = _placed(estimate, result, matrices[number], frame)
        out.append((estimate, result))
        if number % 20 == 0:
            progress(number / len(film.frames), f"frame {number} of {len(film.frames)}")
    progress(1.0, "done")
    return out, {"detector": pipeline.detector.method, "notes": film.notes,
                 "scale": None if film.scale is None else film.scale.to_dict()}


def _plain(pipeline: Any, film: Film) -> np.ndarray | None:
    """The matrix of a file's pictures: for slices, whose spacing counts; ultrasound has its scale in the film."""
    if isinstance(pipeline, LivePipeline) or film.scale is None:
        return None
    return np.diag([*film.scale.mm_per_px, 1.0, 1.0])


def _pipeline(modality: str, arguments: argparse.Namespace, film: Film | None) -> LivePipeline | SlicePipeline:
    """What follows the needle in pictures of this kind. Raises InputError where nothing can."""
    if arguments.send_planes and (film is not None or modality != "MR"):
        raise InputError("--send-planes belongs to live MR: HOST:PORT with --modality MR")
    scale = film.scale if film is not None else scale_from_user(mm_per_px=arguments.mm_per_px)
    if modality == "US":
        region = None if film is None else film.region
        return LivePipeline(make_detector(arguments.detector), scale=scale, region=region)
    if arguments.detector != "auto":
        raise InputError(f"--detector {arguments.detector} is for ultrasound; {modality} has one finder")
    if film is not None and modality == "CT":
        raise InputError("a recording's pictures are read as 8 bits, without HU: follow CT slices live, or use "
                         "`irai needle detect` for a slice or volume")
    return slice_pipeline(modality, scale)


def _matrices(film: Film, arguments: argparse.Namespace) -> tuple[list[np.ndarray | None], str | None]:
    """With --frame tracked: the frame's name, and its matrix from image pixels for each frame (None: lost)."""
    if arguments.frame == "image":
        return [], None
    if film.sequence is None:
        raise InputError("--frame tracked needs a tracked recording (.igs.mha, .igs.nrrd)")
    if film.scale is None:
        raise RefusedError("--frame tracked needs a calibrated recording: no ImageTo... matrix or scale was found")
    return _tracked_matrices(film.sequence)


def _tracked_matrices(sequence: TrackedSequence) -> tuple[list[np.ndarray | None], str]:
    """Image to Reference, Tracker or RAS, the first that the recording's transforms lead to."""
    from ..link.replay_frames import OK, find_chain

    static = {name: matrix for name in _header_names(sequence)
              if (matrix := sequence.header_transform(name)) is not None}
    for frame in FRAMES:
        chain = find_chain(f"ImageTo{frame}", [*static, *sequence.transforms])
        if chain is None:
            continue
        out: list[np.ndarray | None] = []
        for number in range(len(sequence)):
            poses = {name: (matrix, OK) for name, matrix in static.items()}
            poses |= {name: (sequence.transforms[name][number], sequence.status[name][number])
                      for name in sequence.transforms}
            matrix, status = chain.of(poses)
            out.append(matrix if status == OK else None)
        return out, frame
    raise InputError("--frame tracked: no chain of transforms leads from Image to " + ", ".join(FRAMES)
                     + "; the recording needs ImageToProbe and a tracked probe, or use --frame image")


def _header_names(sequence: TrackedSequence) -> list[str]:
    """Transforms that hold for the whole recording."""
    return [key[: -len("Transform")] for key in sequence.header if key.endswith("Transform") and "To" in key]


def _placed(estimate: NeedleEstimate, result: LiveResult, matrix: np.ndarray | None, frame: str) -> NeedleEstimate:
    """The needle in the tracker's frame; lost where the probe was."""
    from dataclasses import replace

    from ..needle.stream import tracked_estimate

    if matrix is None:
        status = NeedleStatus.LOST if estimate.found else estimate.status
        return replace(estimate, status=status, tip=None, curve=None, covariance=None, direction=None, frame=frame)
    return tracked_estimate(estimate, result, matrix, frame)


def _from_host(arguments: argparse.Namespace) -> tuple[list[tuple[NeedleEstimate, LiveResult]], dict]:
    """Follow a live stream until --seconds, Ctrl+C, or images stop. Raises InputError when none comes."""
    from ..link.client import LinkClient
    from ..needle.planes import PlaneSender
    from ..needle.stream import NeedleStream, StreamResult
    from .link import split_peer

    host, port = split_peer(arguments.source)
    if arguments.depth_mm is not None or arguments.region not in ("auto", "whole"):
        raise InputError("live images take --mm-per-px (or their own scale); --depth-mm and --region are for files")
    pipeline = _pipeline("US" if arguments.modality == "auto" else arguments.modality, arguments, None)
    planes = PlaneSender() if arguments.send_planes else None
    out: list[tuple[NeedleEstimate, LiveResult]] = []
    with LinkClient(host, port) as client:
        def take(found: StreamResult) -> None:
            tracked = arguments.frame == "tracked" and found.result.scale is not None
            out.append((found.tracked() if tracked else found.estimate, found.result))
            if planes is not None:
                planes.send(client, found)

        stream = NeedleStream(client, pipeline, arguments.device, take)
        with stream:
            stopped = _until_done(client, stream, arguments)
    if not out:
        raise InputError(f"{arguments.source}: no image came that can be used ({stopped}); is a server running on "
                         f"{host}, port {port}, and does it send IMAGE messages?")
    kept = _one_unit(out)
    return kept, {"detector": pipeline.detector.method, "ended": stopped, "dropped_for_units": len(out) - len(kept),
                  "unusable_images": stream.refused, "last_refusal": stream.last_refusal,
                  "scale": None if pipeline.scale is None else pipeline.scale.to_dict(),
                  **({} if planes is None else {"scan_planes": planes.text})}


def _one_unit(out: list) -> list:
    """The rows in the unit of the last: a scale may come after the first frames."""
    last = out[-1][0]
    return [pair for pair in out if (pair[0].units, pair[0].frame) == (last.units, last.frame)]


def _until_done(client: Any, stream: Any, arguments: argparse.Namespace) -> str:
    began = heard = time.monotonic()
    frames = 0
    try:
        while True:
            time.sleep(0.05)
            now = time.monotonic()
            if stream.frames != frames:
                frames, heard = stream.frames, now
            if arguments.seconds is not None and now - began >= arguments.seconds:
                return "time was up" if frames else _why(client, stream) or "time was up"
            if now - heard > (QUIET_S if frames else WAIT_S):
                return _why(client, stream) or "the images stopped"
    except KeyboardInterrupt:
        return "interrupted"


def _why(client: Any, stream: Any) -> str:
    return stream.problem or client.status().last_error or ""


def _latency(results: list[LiveResult]) -> dict[str, Any]:
    """Median and 95th percentile of each part of the budget, ms."""
    out = {}
    for name in ("receive_ms", "infer_ms", "filter_ms", "total_ms"):
        values = [value for value in (getattr(result.budget, name) for result in results) if value is not None]
        if values:
            out[name] = {"p50": round(float(np.median(values)), 3), "p95": round(float(np.percentile(values, 95)), 3)}
    return {"latency": out}
