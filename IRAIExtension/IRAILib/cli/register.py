"""`irai register` and `irai transform-points`: a map between two scans that anyone's landmarks can judge."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

from ..geometry import InputError, RefusedError
from ..registration.options import ENGINES, MODELS, RegistrationOptions
from .progress import terminal_progress

MASKS = {"fixed_organ": "organ in the fixed image", "moving_organ": "organ in the moving image",
         "exclude_fixed": "what is new in the fixed image (ablation zone)",
         "exclude_moving": "what is gone from the fixed image (tumour)"}
_FLAGS = {"fixed_organ": "--fixed-mask", "moving_organ": "--moving-mask", "exclude_fixed": "--exclude-fixed",
          "exclude_moving": "--exclude-moving"}


def add_parser(subparsers) -> None:
    """Add `register` and `transform-points`."""
    default = {f.name: f.default for f in fields(RegistrationOptions)}
    parser = subparsers.add_parser(
        "register", help="find the map from one scan to another",
        description="Registers MOVING to FIXED and writes the map that takes fixed points to moving points, as ITK "
                    "and Slicer resample with. For an ablation FIXED is the scan after. Exit status 3: the result "
                    "refused itself and was not written (see --keep-refused).")
    parser.add_argument("fixed", type=Path, metavar="FIXED", help="image: DICOM folder, NIfTI, NRRD, MetaImage")
    parser.add_argument("moving", type=Path, metavar="MOVING", help="image")
    parser.add_argument("--out", type=Path, required=True, metavar="T.h5", help="transform to write (.h5, .tfm)")
    for name, text in MASKS.items():
        parser.add_argument(_FLAGS[name], dest=name, type=Path, metavar="MASK", help=text)
    parser.add_argument("--fixed-landmarks", type=Path, metavar="CSV", help="points x,y,z (RAS mm) in the fixed image")
    parser.add_argument("--moving-landmarks", type=Path, metavar="CSV", help="the same points in the moving image")
    parser.add_argument("--model", choices=MODELS, default=default["model"])
    parser.add_argument("--engine", choices=("auto", *ENGINES), default=default["engine"])
    parser.add_argument("--seed", type=int, default=default["seed"], help="of the random samples")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the quality and the verdict there")
    parser.add_argument("--timeout", type=float, metavar="S", help="give up after so many seconds")
    parser.add_argument("--keep-refused", action="store_true", help="write the transform even when it refused itself")
    parser.set_defaults(run=run_register)
    points = subparsers.add_parser(
        "transform-points", help="take points from the fixed to the moving image",
        description="Maps a table of points (columns x, y, z in RAS mm) with a transform file: fixed to moving.")
    points.add_argument("transform", type=Path, metavar="T.h5")
    points.add_argument("points", type=Path, metavar="IN.csv")
    points.add_argument("out", type=Path, metavar="OUT.csv")
    points.add_argument("--inverse", action="store_true", help="moving to fixed instead")
    points.set_defaults(run=run_transform_points)


def run_register(arguments: argparse.Namespace) -> int:
    """Read, register in a worker, write. Raises InputError, RefusedError."""
    from ..images import write_transform
    from ..jobs import run_job

    result = run_job("IRAILib.registration:register", _arguments(arguments),
                     progress=terminal_progress("registration"), timeout_s=arguments.timeout)
    if arguments.json:
        _write_json(result.to_dict(), arguments.json)
    if result.refused is None or arguments.keep_refused:
        write_transform(result.moving_from_fixed, arguments.out)
    if result.refused:
        raise RefusedError(result.refused)
    for warning in result.warnings:
        print(f"note: {warning}")
    print(f"{arguments.out}: {result.method}, {result.seconds:.0f} s, expected error {result.local_tre_mm:.1f} mm")
    return 0


def run_transform_points(arguments: argparse.Namespace) -> int:
    """Map the points of a table."""
    from ..images import read_points, read_transform, write_points

    transform = read_transform(arguments.transform)
    points = read_points(arguments.points)
    write_points(transform.inverse_apply(points) if arguments.inverse else transform.apply(points), arguments.out)
    return 0


def _arguments(arguments: argparse.Namespace) -> dict:
    from ..images import read_mask, read_points, read_volume

    fixed, moving = read_volume(arguments.fixed), read_volume(arguments.moving)
    out = {"fixed": fixed, "moving": moving,
           "options": RegistrationOptions(model=arguments.model, engine=arguments.engine, seed=arguments.seed)}
    for name in MASKS:
        path = getattr(arguments, name)
        if path is not None:
            out[name] = read_mask(path, reference=fixed if "fixed" in name else moving)
    tables = (arguments.fixed_landmarks, arguments.moving_landmarks)
    if any(tables) and not all(tables):
        raise InputError("landmarks are needed in both images: give --fixed-landmarks and --moving-landmarks")
    if all(tables):
        out["fixed_landmarks"], out["moving_landmarks"] = (read_points(table) for table in tables)
    return out


def _write_json(document: dict, path: Path) -> None:
    from ..images import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
