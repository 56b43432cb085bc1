"""`irai fusion reconstruct`: a volume from a recording of tracked ultrasound."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from ..geometry import InputError
from ..images import replacing
from . import fusion_inputs as inputs

DESCRIPTION = """Puts the frames of SEQ (.igs.mha, .igs.nrrd, .seq.nrrd) where the tracker says they were. Where the
pixels are in the probe's frame comes from --image-to-probe (the JSON of `irai fusion calibrate nwire|pointer`, or 16
numbers), which stands for whatever else says it, or from the recording, or from --config (a PLUS configuration). A
JSON that doesn't hold for these images (other size, scale, depth, preset) is refused. With --config what isn't given
here is taken from its VolumeReconstruction. The volume's axes are those of the frame that --transform ends in, taken
as RAS.
Exit status: 0 done, 2 bad input, 3 refused."""


def add_step(commands) -> None:
    """Add `reconstruct` to the steps of `irai fusion`."""
    parser = commands.add_parser("reconstruct", help="a volume from tracked ultrasound", description=DESCRIPTION,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="SEQ")
    parser.add_argument("--out", type=Path, required=True, metavar="VOL.nrrd", help=".nrrd, .mha, .nii.gz")
    parser.add_argument("--spacing", type=inputs.positive, metavar="MM", help="of the voxels, default 0.5")
    parser.add_argument("--interpolation", choices=("nearest", "linear"), help="default linear")
    parser.add_argument("--compounding", choices=("mean", "max", "latest"), help="default mean")
    parser.add_argument("--arithmetic", choices=("exact", "plus"),
                        help="of the mean: exact, or rounded to whole grey levels at every pixel as PLUS does (8-bit "
                             "frames; slower); default: plus where --config asks for a reconstruction, else exact")
    parser.add_argument("--no-fill", action="store_true", help="leave holes open")
    parser.add_argument("--clip", type=inputs.region, metavar="X0,Y0,X1,Y1", help="pixels to use (end not included)")
    parser.add_argument("--config", type=Path, metavar="XML", help="PLUS configuration")
    parser.add_argument("--image-to-probe", metavar="JSON|MATRIX", help="calibration, or 16 numbers row by row")
    parser.add_argument("--transform", default="ImageToReference", metavar="NAME", help="default ImageToReference")
    parser.add_argument("--frames", type=inputs.frame_range, metavar="A:B", help="take frames A to B (B not included)")
    parser.add_argument("--lag", type=float, default=0.0, metavar="S",
                        help="tracker's less image's time stamp of one instant, as `calibrate temporal` gives it")
    parser.add_argument("--depth-mm", type=inputs.positive, metavar="MM", help="the scanner's depth in SEQ")
    parser.add_argument("--preset", metavar="NAME", help="the scanner's preset in SEQ")
    parser.add_argument("--confidence", type=Path, metavar="OUT", help="write there how much was seen of each voxel")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write what was done there")
    parser.add_argument("--timeout", type=inputs.positive, metavar="S", help="give up after so many seconds")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, reconstruct in a worker, write. Raises InputError, RefusedError."""
    from ..images.itkfiles import WRITE_SUFFIXES, image_suffix, write_volume
    from ..jobs import run_job
    from ..link.replay_frames import split_name
    from .progress import terminal_progress

    for path in (arguments.out, arguments.confidence):
        if path is not None and image_suffix(path) not in WRITE_SUFFIXES:
            raise InputError(f"{path}: can't be written as an image; use one of {' '.join(WRITE_SUFFIXES)}")
    job, notes = _job(arguments)
    result = run_job("IRAILib.navigation.reconstruction:reconstruct", job,
                     progress=terminal_progress("reconstruction"), timeout_s=arguments.timeout)
    write_volume(result.volume, arguments.out)
    if arguments.confidence is not None:
        write_volume(result.confidence, arguments.confidence)
    if arguments.json is not None:
        ends_in = (split_name(arguments.transform) or ("", "unknown"))[1]
        document = result.to_dict() | {
            "frame": "RAS" if ends_in == "RAS" else f"{ends_in}, its axes written as RAS",
            "transform": arguments.transform, "lag_s": arguments.lag, "notes": notes}
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for note in notes:
        print(f"note: {note}")
    values = result.to_dict()
    print(f"{arguments.out}: {' x '.join(str(n) for n in values['size'])} voxels from {result.frames_used} frames, "
          f"{100 * values['covered_share']:.0f} % seen, {values['filled_ml']:.1f} ml filled")
    return 0


def _job(arguments: argparse.Namespace) -> tuple[dict, list[str]]:
    """Arguments of `reconstruct`, and what the user should know."""
    from ..images.frames import grey
    from ..images.sequences import read_sequence
    from ..navigation.reconstruction import grid_round, region_of
    from ..navigation.reconstruction_plus import PlusSettings, read_plus_settings

    wanted = read_plus_settings(arguments.config) if arguments.config else None
    settings = wanted or PlusSettings()
    sequence = read_sequence(arguments.source)
    if sequence.frames is None:
        raise InputError(f"{arguments.source}: holds no images")
    size_px = (sequence.frames.shape[2], sequence.frames.shape[1])
    static, given, notes, orientation = _static(arguments, sequence)
    if sequence.orientation[:2] not in ("XX", orientation):
        sequence = sequence.oriented(orientation)
    poses, valid = _poses(arguments, sequence, static, given)
    valid &= sequence.image_valid()
    frames = np.asarray(sequence.frames)
    if frames.ndim == 4:
        frames = frames[..., 0] if frames.shape[-1] < 3 else grey(frames)
    if arguments.frames:
        if arguments.frames[0] >= len(frames):
            raise InputError(f"{arguments.source}: has frames 0 to {len(frames) - 1}; --frames starts beyond")
        frames, poses, valid = (a[slice(*arguments.frames)] for a in (frames, poses, valid))
    if not valid.all():
        notes.append(f"{int((~valid).sum())} of {len(valid)} frames have no pose or no image and are left out")
    compounding = arguments.compounding or settings.compounding or "mean"
    arithmetic = arguments.arithmetic or ("plus" if wanted and frames.dtype == np.uint8 else "exact")
    if compounding == "mean" and arithmetic == "plus":
        compounding = "running_mean"
    fill = False if arguments.no_fill else settings.fill_holes is not False
    region = arguments.clip or settings.region(size_px)
    poses, spacing, grid = np.where(valid[:, None, None], poses, np.eye(4)), arguments.spacing, None
    spacing = spacing or settings.spacing_mm or 0.5
    if wanted and valid.any():  # the same voxels as PLUS makes
        grid = grid_round(poses[valid], region_of(region, size_px[::-1])[0], spacing, whole=False)
    return {"frames": np.ascontiguousarray(frames), "ras_from_image": poses, "valid": valid,
            "spacing_mm": spacing, "grid": grid,
            "interpolation": arguments.interpolation or settings.interpolation or "linear",
            "compounding": compounding, "region_px": region, "fill_holes": fill}, notes


def _static(arguments, sequence) -> tuple[dict[str, np.ndarray], str | None, list[str], str]:
    """(transforms that hold for all frames, name of the one that --image-to-probe gave, notes, orientation of the
    image that they hold for)."""
    from ..link.replay_frames import read_plus_config

    static: dict[str, np.ndarray] = {}
    header = sequence.header_transform("ImageToProbe")
    if header is not None:
        static["ImageToProbe"] = header
    if arguments.config:
        static |= read_plus_config(arguments.config)
    if arguments.image_to_probe is None:
        return static, None, [], "MF"
    if not arguments.image_to_probe.lower().endswith(".json"):
        return static | {"ImageToProbe": _matrix(arguments.image_to_probe)}, "ImageToProbe", [], "MF"
    return _calibrated(arguments, sequence, static)


def _calibrated(arguments, sequence, static) -> tuple[dict[str, np.ndarray], str, list[str], str]:
    from ..images.markups import parse_json, read_text
    from ..navigation.probe import ProbeCalibration

    path = arguments.image_to_probe
    values = parse_json(read_text(path), path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no calibration; give the JSON of `irai fusion calibrate nwire`")
    try:
        calibration = ProbeCalibration.from_dict(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    scaled = sequence.spacing != (1.0, 1.0)
    letters = None if sequence.orientation[:2] == "XX" else sequence.oriented(calibration.orientation).orientation
    unknown = calibration.check_image(
        size_px=(sequence.frames.shape[2], sequence.frames.shape[1]), mm_per_px=sequence.spacing if scaled else None,
        depth_mm=arguments.depth_mm, preset=arguments.preset, orientation=letters)
    notes = [f"the calibration could not be compared with the images in: {', '.join(unknown)}"] if unknown else []
    name = f"{calibration.image}To{calibration.probe}"
    return static | {name: calibration.probe_from_image}, name, notes, calibration.orientation[:2]


def _matrix(text: str) -> np.ndarray:
    from ..link.replay_frames import checked_matrix

    try:
        numbers = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) != 16:
        raise InputError(f"--image-to-probe {text[:40]}: is neither a .json nor 16 numbers")
    return checked_matrix(numbers, "--image-to-probe")


def _poses(arguments, sequence, static, given: str | None) -> tuple[np.ndarray, np.ndarray]:
    """((n, 4, 4), (n,) bool) of --transform, the tracker's clock set right; `given` replaces recorded calibrations."""
    from ..link.replay_frames import find_chain
    from ..navigation.plus_files import chained

    transforms = dict(sequence.transforms)
    if given is not None:
        image = given.split("To")[0] + "To"
        transforms = {name: poses for name, poses in transforms.items() if not name.startswith(image)}
    valid = {name: sequence.valid(name) for name in transforms}
    chain = find_chain(arguments.transform, [*transforms, *(name for name in static if name not in transforms)])
    used = [] if chain is None else [name for name, _ in chain.steps]
    if chain is None or (given is not None and given not in used):
        known = ", ".join(sorted({*transforms, *static})) or "none"
        raise InputError(f"{arguments.source}: {arguments.transform} doesn't follow from the transforms at hand "
                         f"({known}){' and --image-to-probe' if given else ''}; give --config XML or --image-to-probe "
                         "JSON, or another --transform")
    if arguments.lag:
        if not sequence.timed:
            raise InputError(f"{arguments.source}: has no time stamps; --lag can't be used")
        for name in used:
            known = transforms[name][valid[name]] if name in transforms else np.empty((0, 4, 4))
            if len(known) and np.ptp(known, axis=0).max() > 0:
                transforms[name], valid[name] = _later(arguments, sequence.time_s, name, transforms[name], valid[name])
    return chained(arguments.transform, len(sequence), transforms, valid, static)


def _later(arguments, time_s, name: str, poses: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from ..navigation.pairing import interpolate_poses

    try:
        moved, good = interpolate_poses(time_s, poses, time_s, valid, lag_s=arguments.lag)
    except InputError as error:
        raise InputError(f"{arguments.source}: --lag needs the tools' own poses; {name}: {error}") from error
    return np.where(good[:, None, None], moved, np.eye(4)), good
