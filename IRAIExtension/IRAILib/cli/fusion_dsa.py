"""`irai fusion dsa`: a contrast run less its mask."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from ..geometry import InputError
from ..images.atomic import replacing
from .progress import terminal_progress

SCALE = 1000.0
"""Stored values of OUT per unit of logarithm."""
ENDING = "Exit status: 0 done, 2 bad input, 3 refused (no frame without contrast was found)."


def add_step(commands) -> None:
    """Add `dsa` to the steps of `irai fusion`."""
    from ..fluoroscopy.dsa import METHODS

    parser = commands.add_parser(
        "dsa", help="subtract the bare frames of an angiogram", epilog=ENDING,
        description="Subtracts a mask from every frame of an X-ray run (DICOM XA or RF), as logarithms; contrast is "
                    f"negative in OUT, {SCALE:.0f} a unit. Masks are the last frames before contrast arrives.")
    parser.add_argument("run_file", type=Path, metavar="XA.dcm")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT.mha",
                        help="frames (.mha, .igs.nrrd, Slicer's .seq.nrrd)")
    parser.add_argument("--method", choices=METHODS, default="motion",
                        help="plain: the mask where it is; shift: one shift a frame; motion: a smooth field (default)")
    parser.add_argument("--mask-frames", metavar="N,N-N,...|file",
                        help="mask frames counted from 0, or 'file' for the file's own (default: found)")
    parser.add_argument("--shift", metavar="ROWS,COLUMNS", help="a shift by hand in px, with plain or shift")
    parser.add_argument("--minip", type=Path, metavar="PNG", help="the darkest of all frames: the whole vessel tree")
    parser.add_argument("--maps", type=Path, metavar="FOLDER",
                        help="arrival_s, peak_s, peak and area there, each a .mha (NaN: no contrast)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="masks, motion and notes")
    parser.add_argument("--timeout", type=float, metavar="S", help="give up after so many seconds")
    parser.set_defaults(run=run_dsa)


def run_dsa(arguments: argparse.Namespace) -> int:
    """Read, subtract in a worker, write. Raises InputError, RefusedError, CancelledError."""
    from ..images.sequences import TrackedSequence, write_sequence
    from ..images.xa import read_xa
    from ..jobs import run_job

    if arguments.minip is not None and arguments.minip.suffix.lower() != ".png":
        raise InputError(f"{arguments.minip}: the MINIP is written as .png")
    if arguments.out.suffix.lower() not in (".mha", ".mhd", ".nrrd"):
        raise InputError(f"{arguments.out}: frames are written as .mha, .igs.nrrd or .seq.nrrd")
    shift = None
    if arguments.shift is not None:
        if arguments.method == "motion":
            raise InputError("--shift goes with --method plain or shift; a motion field isn't shifted by hand")
        shift = _numbers(arguments.shift)
    run = read_xa(arguments.run_file)
    if arguments.maps is not None and run.time_s is None:
        raise InputError(f"{arguments.run_file}: says nothing of time; no maps can be made of it")
    result = run_job("IRAILib.fluoroscopy.dsa:subtract",
                     {"run": run, "method": arguments.method, "mask_frames": _frames(arguments.mask_frames),
                      "shift_px": shift}, progress=terminal_progress("dsa"), timeout_s=arguments.timeout)
    document = {"in": str(arguments.run_file), "out": str(arguments.out), "stored_values_per_unit": SCALE,
                **result.to_dict()}
    if arguments.maps is not None:
        document["maps"] = _write_maps(result, arguments.maps)
    if arguments.minip is not None:
        _write_minip(result, arguments.minip)
    times = np.arange(len(result.frames), dtype=float) if result.time_s is None else result.time_s
    spacing = run.values.get("ImagerPixelSpacing", [1.0, 1.0])
    stored = np.clip(np.round(result.frames * SCALE), -32768, 32767).astype(np.int16)
    write_sequence(arguments.out, TrackedSequence(
        stored, times, orientation="XX", spacing=(spacing[1], spacing[0]), timed=result.time_s is not None,
        header={"Subtraction": f"{result.method}, logarithm times {SCALE:.0f}, contrast negative"}))
    if arguments.json is not None:
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for note in result.notes:
        print(f"note: {note}")
    print(f"{arguments.out}: {len(result.frames)} frames, {result.method}, mask moved by up to "
          f"{float(result.motion_px.max()):.1f} px")
    return 0


def _frames(text: str | None) -> list[int] | str | None:
    if text is None or text.strip() == "file":
        return None if text is None else "file"
    out: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or (last and not last.isdigit()) or (last and int(last) - int(first) > 10_000):
            raise InputError(f"--mask-frames {text}: write numbers from 0, as 3,5 or 2-8, or 'file'")
        out.extend(range(int(first), int(last or first) + 1))
    return out


def _numbers(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 2 or not np.isfinite(values).all():
        raise InputError(f"--shift {text}: write rows,columns in px, as 0.5,-1")
    return values


def _write_minip(result, path: Path) -> None:
    from PIL import Image

    from ..fluoroscopy.dsa import minip

    picture = minip(result.frames)
    low = float(np.percentile(picture[result.inside], 0.5)) if result.inside.any() else -1.0
    grey = np.clip(1.0 - picture / min(low, -1e-6), 0, 1)
    with replacing(path) as temporary:
        Image.fromarray((grey * 255).round().astype(np.uint8)).save(temporary)


def _write_maps(result, folder: Path) -> dict:
    import SimpleITK as sitk

    from ..fluoroscopy.perfusion_maps import perfusion_maps

    first = min(result.bare) if result.bare else 0
    keep = slice(first, None)
    maps = perfusion_maps(result.frames[keep], result.time_s[keep])
    with replacing(folder) as temporary:
        temporary.mkdir()
        for name in ("arrival_s", "peak_s", "peak", "area"):
            sitk.WriteImage(sitk.GetImageFromArray(getattr(maps, name)), str(temporary / f"{name}.mha"), True)
    return maps.to_dict()
