"""`irai fusion register`: CT, MR and PET rigidly onto each other, refused when the images don't determine the place."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError, LinearTransform, RefusedError
from ..registration.multimodal import METHODS, MultimodalOptions
from .progress import terminal_progress

POSE_HELP = """POSE: where to search round, moving from fixed (RAS mm): an ITK transform (.h5, .tfm) or JSON that holds
a 4x4 matrix (or 16 numbers) as moving_from_fixed, matrix or pose, or poses with a single one."""
ENDING = ("Exit status: 0 done, 2 bad input, 3 refused (nothing but --json is written; one line says why). T.h5 takes "
          "fixed points to moving ones, as `irai transform-points` and Slicer resample with.")
KEYS = ("moving_from_fixed", "matrix", "pose")


def add_step(commands) -> None:
    """Add `register` to the steps of `irai fusion`."""
    parser = commands.add_parser(
        "register", help="CT, MR, PET rigidly onto each other", epilog=ENDING,
        description="Registers MOVING to FIXED rigidly, whatever their modality. " + POSE_HELP)
    parser.add_argument("fixed", type=Path, metavar="FIXED", help="image: DICOM folder, NIfTI, NRRD, MetaImage")
    parser.add_argument("moving", type=Path, metavar="MOVING", help="image")
    parser.add_argument("--out", type=Path, required=True, metavar="T.h5", help="transform to write (.h5, .tfm)")
    parser.add_argument("--init", type=Path, metavar="POSE", help="where to search round (default: as the headers say)")
    parser.add_argument("--method", choices=METHODS, default="auto",
                        help="mutual: mutual information; mind: self-similarity refines it; auto: mutual information, "
                             "self-similarity where torch is installed only to check it")
    parser.add_argument("--target", type=Path, metavar="MASK",
                        help="(on FIXED) where the result will be used: the uncertainty is stated, and the second "
                             "measure asked, there; the whole body is still matched")
    parser.add_argument("--fixed-mask", type=Path, metavar="MASK", help="tissue to match in the fixed image, "
                        "an organ rather than a lesion: little tissue determines no place")
    parser.add_argument("--moving-mask", type=Path, metavar="MASK", help="tissue to match in the moving image")
    parser.add_argument("--shift", type=float, default=30.0, metavar="MM", help="how far to search (default 30 mm)")
    parser.add_argument("--turn", type=float, default=22.0, metavar="DEG",
                        help="how far to search (default 22 degrees)")
    parser.add_argument("--starts", type=int, default=512, metavar="N",
                        help="poses looked at before the best are followed (default 512; fewer for a short search)")
    parser.add_argument("--seed", type=int, default=1, help="of the drawn points and starts")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the result and the verdict there")
    parser.add_argument("--timeout", type=float, metavar="S", help="give up after so many seconds")
    parser.set_defaults(run=run_register)


def run_register(arguments: argparse.Namespace) -> int:
    """Read, register in a worker, write. Raises InputError, RefusedError."""
    from ..images import read_mask, read_volume, write_transform
    from ..images.transforms import SUFFIXES
    from ..jobs import run_job

    if arguments.out.suffix.lower() not in SUFFIXES:
        raise InputError(f"{arguments.out}: not a transform file by its name; use {' '.join(SUFFIXES[:3])}")
    options = MultimodalOptions(arguments.method, arguments.shift, arguments.turn, arguments.starts, arguments.seed)
    fixed, moving = read_volume(arguments.fixed), read_volume(arguments.moving)
    given: dict[str, Any] = {"fixed": fixed, "moving": moving, "options": options,
                             "init": None if arguments.init is None else read_pose(arguments.init)}
    for name, path, image in (("fixed_mask", arguments.fixed_mask, fixed),
                              ("moving_mask", arguments.moving_mask, moving), ("target", arguments.target, fixed)):
        given[name] = None if path is None else read_mask(path, reference=image)
    result = run_job("IRAILib.registration.multimodal:register_multimodal", given,
                     progress=terminal_progress("registration"), timeout_s=arguments.timeout)
    if arguments.json:
        _write_json(result.to_dict(), arguments.json)
    if not result.accepted:
        raise RefusedError(result.reason)
    write_transform(result.moving_from_fixed, arguments.out)
    for warning in result.warnings:
        print(f"note: {warning}")
    print(f"{arguments.out}: moved {result.moved_mm:.1f} mm, uncertain by {result.sigma_mm:.1f} mm, "
          f"{result.seconds:.0f} s; validated on {result.validated_on}")
    return 0


def read_pose(path: Path) -> np.ndarray:
    """(4, 4) from an ITK transform or JSON; see POSE_HELP. Raises InputError with the file's name."""
    if path.suffix.lower() != ".json":
        from ..images import read_transform

        transform = read_transform(path)
        if not isinstance(transform, LinearTransform):
            raise InputError(f"{path}: a rigid transform is needed to start from, not a deformation")
        return transform.matrix
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as JSON ({error})".splitlines()[0]) from error
    held = document if isinstance(document, dict) else {}
    if "LPS" in str(held.get("frame", "")).upper():
        raise InputError(f"{path}: is in LPS; give it in RAS, or as an ITK transform (.tfm, .h5), which is turned")
    poses = held.get("poses")
    found = next((held[key] for key in KEYS if key in held), poses[0] if isinstance(poses, list) and poses else None)
    try:
        matrix = np.asarray(found, float).reshape(4, 4)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: holds no 4x4 matrix as {', '.join(KEYS)} or poses") from error
    return matrix


def _write_json(document: dict, path: Path) -> None:
    from ..images import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
