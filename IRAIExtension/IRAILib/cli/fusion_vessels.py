"""`irai fusion vessels`: vessels of an angiogram, their diameters and their narrow places."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError, RefusedError
from ..images.atomic import replacing
from .fusion_drr import check_output, write_picture
from .fusion_inputs import positive
from .progress import terminal_progress

ENDING = "Exit status: 0 done, 2 bad input, 3 refused (no catheter where one was said to be)."
ABOUT_ISOCENTRE_MM = 50.0
"""How far a vessel may lie from the isocentre, for the scale's standard error."""
STACKS = (".mha", ".mhd", ".nrrd", ".nhdr")
COLOURED = 0.005


@dataclass
class Run:
    """`frames` (n, rows, columns); the scale of the header, mm a pixel at the isocentre, with its standard error; the
    vessels' polarity, where the file's kind tells it."""

    frames: np.ndarray
    mm_per_px: float | None = None
    mm_per_px_sigma: float = 0.0
    polarity: str = "auto"
    notes: list[str] = field(default_factory=list)


def add_step(commands) -> None:
    """Add `vessels` to the steps of `irai fusion`."""
    from ..fluoroscopy.vessels import METHODS

    parser = commands.add_parser(
        "vessels", help="vessels, diameters and stenoses in an angiogram", epilog=ENDING,
        description="Marks the vessels of an X-ray angiogram (picture, DICOM XA or RF, or the frames of `irai fusion "
                    "dsa`), measures their diameters, and lists narrow places with percent stenosis.")
    parser.add_argument("picture", type=Path, metavar="PNG_OR_DCM")
    parser.add_argument("--out", type=Path, required=True, metavar="MASK.png", help="0 and 255; with --frame all .mha")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--overlay", type=Path, metavar="PNG", help="the frame with centrelines and narrow places")
    parser.add_argument("--method", choices=METHODS, default="network")
    parser.add_argument("--frame", metavar="N|all", help="counted from 0 (default: where most vessel is seen)")
    parser.add_argument("--vessels", choices=("auto", "dark", "bright"), default="auto", help="in the picture")
    parser.add_argument("--least-stenosis", type=float, default=30.0, metavar="PERCENT",
                        help="of the diameter; narrow places that are as tight two standard errors less, between "
                             "healthy stretches, are listed, others are \"unsure\" (default 30)")
    parser.add_argument("--at", metavar="X,Y", action="append", default=[], help="measure the narrowing here (px)")
    parser.add_argument("--mm-per-px", type=positive, metavar="MM", help="at the vessel")
    parser.add_argument("--catheter-french", type=positive, metavar="F", help="scale from a catheter; needs --catheter")
    parser.add_argument("--catheter", metavar="X0,Y0,X1,Y1", help="a straight stretch of it (px)")
    parser.add_argument("--timeout", type=float, metavar="S", help="give up after so many seconds")
    parser.set_defaults(run=run_vessels)


def run_vessels(arguments: argparse.Namespace) -> int:
    """Read, find in a worker, write. Raises InputError, RefusedError, CancelledError."""
    from ..jobs import run_job

    every = arguments.frame == "all"
    check_output(arguments.out, (".mha",) if every else (".png",))
    check_output(arguments.json, (".json",))
    if arguments.overlay is not None:
        check_output(arguments.overlay, (".png",))
        if every:
            raise InputError("--overlay shows one frame; leave it out with --frame all")
    places = [_numbers(text, 2, "--at") for text in arguments.at]
    run = read_run(arguments.picture)
    numbers = list(range(len(run.frames))) if every else [_frame(arguments, run)]
    scale = _scale(arguments, run, numbers[0])
    maps = run_job("IRAILib.fluoroscopy.vessels:find_vessels_in",
                   {"frames": run.frames, "numbers": numbers, "method": arguments.method, **scale,
                    "polarity": run.polarity if arguments.vessels == "auto" else arguments.vessels},
                   progress=terminal_progress("vessels"), timeout_s=arguments.timeout)
    documents = [_document(found, number, arguments, places) for found, number in zip(maps, numbers, strict=True)]
    head = {"in": str(arguments.picture), "out": str(arguments.out), "notes": run.notes}
    document = head | ({"frames": documents} if every else documents[0])
    if arguments.overlay is not None:
        write_picture(overlay(run.frames[numbers[0]], maps[0], documents[0]["stenoses"]), arguments.overlay)
    _write_masks(np.stack([found.mask for found in maps]), arguments.out, every)
    with replacing(arguments.json) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for note in run.notes:
        print(f"note: {note}")
    print(f"{arguments.out}: {_line(maps, documents)}")
    print(f"validated on {next((found.validated_on for found in maps if found.found), maps[0].validated_on)}")
    return 0


def _line(maps: list[Any], documents: list[dict[str, Any]]) -> str:
    if len(maps) > 1:
        return f"{len(maps)} frames, vessels in {sum(found.found for found in maps)}"
    found, stenoses = maps[0], documents[0]["stenoses"]
    if not found.found:
        return f"frame {documents[0]['frame_number']}, no vessel found"
    text = f"frame {documents[0]['frame_number']}, {found.tree.length_px:.0f} px of {found.polarity} vessels"
    if stenoses:
        worst = stenoses[0]
        text += (f", {len(stenoses)} narrow places, the tightest {worst['percent_diameter']:.0f} % "
                 f"(sigma {worst['percent_diameter_sigma']:.0f} %) at {worst['place_px'][0]:.0f}, "
                 f"{worst['place_px'][1]:.0f}")
    return text


def _document(found: Any, number: int, arguments: argparse.Namespace, places: list[list[float]]) -> dict[str, Any]:
    from ..fluoroscopy.vessels_stenosis import find_stenoses, measure_stenosis

    scale = {"mm_per_px": found.mm_per_px, "mm_per_px_sigma": found.mm_per_px_sigma}
    sure, refused = find_stenoses(found.tree, least_percent=arguments.least_stenosis, **scale)
    every, _ = find_stenoses(found.tree, least_percent=arguments.least_stenosis, sigmas=0.0, least_sides=1, **scale)
    measured = []
    for x, y in places:
        try:
            measured.append(measure_stenosis(found.tree, (x, y), **scale).to_dict())
        except RefusedError as error:
            if arguments.frame != "all":
                raise
            measured.append({"place_px": [x, y], "refused": str(error)})
    known = {s.place_px for s in sure}
    return {"frame_number": number, "stenoses": [s.to_dict() for s in sure],
            "unsure": [s.to_dict() for s in every if s.place_px not in known], "refused": refused,
            "measured": measured, **found.to_dict()}


def read_run(path: Path) -> Run:
    """The frames of a picture, a DICOM run, or a stack of frames. Raises InputError."""
    from ..images.dicom_scan import is_dicom
    from ..images.frames import is_picture, read_frames
    from ..images.sequences import read_sequence
    from ..images.xa import read_xa

    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: is a folder; give one file")
    if is_picture(path):
        _refuse_colours(path)
        return Run(read_frames(path).array)
    if path.suffix.lower() in STACKS:
        frames = read_sequence(path).frames
        if frames is None or frames.ndim != 3:
            raise InputError(f"{path}: holds no grey frames")
        return Run(frames)
    if not is_dicom(path):
        raise InputError(f"{path}: not a picture, a DICOM run or a stack of frames (.mha, .nrrd)")
    run = read_xa(path)
    notes, scale, sigma = list(run.notes), None, 0.0
    spacing, source = run.values.get("ImagerPixelSpacing"), run.values.get("DistanceSourceToPatient")
    detector = run.values.get("DistanceSourceToDetector")
    if spacing and source and detector:
        scale = float(np.mean(spacing)) * float(source) / float(detector)
        sigma = scale * ABOUT_ISOCENTRE_MM / float(source)
        notes.append(f"{scale:.3f} mm a pixel from the header, true at the isocentre")
    frames = run.frames
    if run.relationship == "LOG":
        frames = frames.astype(np.float32) - float(frames.max()) - 1.0  # below 0: taken as a logarithm
    return Run(frames, scale, sigma, "dark", notes)


def _refuse_colours(path: Path) -> None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode in ("1", "L", "I", "I;16", "F", "LA"):
                return
            values = np.asarray(image.convert("RGB")).astype(int)
    except Exception:  # read_frames says what is wrong with a damaged picture
        return
    share = float((np.ptp(values, axis=2) > 24).mean())
    if share > COLOURED:
        raise InputError(f"{path}: {100 * share:.0f} % of its pixels are coloured; colours are no X-ray intensities, "
                         "give the grey frame")


def _frame(arguments: argparse.Namespace, run: Run) -> int:
    from ..fluoroscopy.vessels import fullest_frame

    if arguments.frame is None:
        return fullest_frame(run.frames) if len(run.frames) > 1 else 0
    if not arguments.frame.isdigit() or int(arguments.frame) >= len(run.frames):
        raise InputError(f"--frame {arguments.frame}: {arguments.picture} has the frames 0 to {len(run.frames) - 1}, "
                         "or write all")
    return int(arguments.frame)


def _scale(arguments: argparse.Namespace, run: Run, number: int) -> dict[str, Any]:
    from ..fluoroscopy.vessels import scale_from_catheter

    if (arguments.catheter_french is None) != (arguments.catheter is None):
        raise InputError("--catheter-french and --catheter X0,Y0,X1,Y1 go together: its size, and where it lies")
    if arguments.mm_per_px is not None and arguments.catheter is not None:
        raise InputError("give the scale by --mm-per-px or by the catheter, not both")
    if arguments.catheter is not None:
        x0, y0, x1, y1 = _numbers(arguments.catheter, 4, "--catheter")
        scale = scale_from_catheter(run.frames[number], [(x0, y0), (x1, y1)], arguments.catheter_french,
                                    polarity="bright" if arguments.vessels == "bright" else "dark")
        run.notes.append(f"{scale.mm_per_px:.3f} mm a pixel from a catheter {scale.width_px:.1f} px wide")
        return {"mm_per_px": scale.mm_per_px, "mm_per_px_sigma": scale.sigma}
    if arguments.mm_per_px is not None:
        return {"mm_per_px": arguments.mm_per_px}
    return {"mm_per_px": run.mm_per_px, "mm_per_px_sigma": run.mm_per_px_sigma}


def _numbers(text: str, count: int, name: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(f"{name} {text}: write {count} numbers with commas, in pixels (column,row)")
    return values


def overlay(frame: np.ndarray, found: Any, stenoses: list[dict[str, Any]]) -> np.ndarray:
    """(rows, columns, 3) uint8: the frame, the vessel's edges (cyan), centrelines (yellow), narrow places (red)."""
    from scipy import ndimage

    low, high = np.percentile(frame, [0.5, 99.5])
    grey = np.clip((frame.astype(float) - low) / max(float(high - low), 1e-12), 0, 1) * 255
    out = np.repeat(grey[..., None], 3, axis=2)
    out[found.mask & np.logical_not(ndimage.binary_erosion(found.mask))] = (0, 190, 210)
    for line in found.centrelines:
        column, row = np.rint(line).astype(int).T
        out[np.clip(row, 0, out.shape[0] - 1), np.clip(column, 0, out.shape[1] - 1)] = (255, 210, 0)
    rows, columns = np.mgrid[:out.shape[0], :out.shape[1]]
    for one in stenoses:
        away = np.hypot(columns - one["place_px"][0], rows - one["place_px"][1])
        out[np.abs(away - max(8.0, 2 * one["reference_px"])) < 1.0] = (255, 40, 40)
    return out.round().astype(np.uint8)


def _write_masks(masks: np.ndarray, path: Path, every: bool) -> None:
    values = masks.astype(np.uint8) * 255
    if not every:
        write_picture(values[0], path)
        return
    import SimpleITK as sitk

    with replacing(path) as temporary:
        sitk.WriteImage(sitk.GetImageFromArray(values), str(temporary), True)
