"""`irai fusion calibrate`: pivot, spin, landmarks, nwire, pointer, temporal."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..images.atomic import replacing
from . import fusion_inputs as inputs

POSES_HELP = """IN: a tracker recording (.igs.mha, .igs.nrrd, Slicer's .seq.nrrd) with --transform, for example
StylusToReference (chained from what it holds); or a table of poses: CSV with the columns m00,m01,m02,m03,m10..m23
or x,y,z,qw,qx,qy,qz (mm) and perhaps status and time_s; or JSON {"poses": [[16 numbers], ...]}."""
POINTS_HELP = """IN with --fixed FILE: moving and fixed points as .mrk.json, .fcsv (Slicer), or CSV with x,y,z and
perhaps name (RAS mm); paired by name where all names agree, else in their order. Or IN alone: CSV with the columns
name,moving_x,moving_y,moving_z,fixed_x,fixed_y,fixed_z, or JSON {"moving": [[x,y,z], ...], "fixed": [...],
"names": [...]}. The map takes moving points to fixed ones."""
NWIRE_HELP = """IN: a results.xml of fCal (its CalibrationData), or a PLUS recording with --points: CSV with the columns
frame,wire,x,y (frame from 0, the wire's name as in the configuration, px). --config is the PLUS configuration with the
phantom's N-wires and PhantomToReference."""
POINTER_HELP = """IN: a PLUS recording of the probe and the pointer; --points: CSV with the columns frame,x,y, where the
image shows the pointer's tip; --tip: x,y,z in the pointer's frame (mm), or the JSON of `calibrate pivot`."""
TEMPORAL_HELP = """IN: a recording of the bottom of a water tank while the probe is moved up and down; the poses are in
IN or in --tracker. IN may be a CSV of time_s,row_px instead, and --tracker a table of poses with time_s.
lag_s is the tracker's time stamp less the image's of one instant."""
ENDING = "Exit status: 0 done, 2 bad input, 3 refused (the data can't carry a calibration; one line says what to do)."


def add_step(commands) -> None:
    """Add `calibrate` to the steps of `irai fusion`."""
    group = commands.add_parser("calibrate", help="tip, shaft, landmarks, image-to-probe, clocks")
    sub = group.add_subparsers(dest="what", metavar="WHAT", required=True)
    pivot = _add(sub, "pivot", "tip of a tool that was tilted about it", POSES_HELP, run_pivot)
    _pose_options(pivot)
    spin = _add(sub, "spin", "shaft of a tool that was rolled about it", POSES_HELP, run_spin)
    _pose_options(spin)
    spin.add_argument("--tip", metavar="X,Y,Z|JSON", help="tip in the tool's frame, gives the axis its sense")
    landmarks = _add(sub, "landmarks", "registration by pairs of points", POINTS_HELP, run_landmarks)
    landmarks.add_argument("--fixed", type=Path, metavar="FILE", help="the fixed points, if IN holds the moving ones")
    landmarks.add_argument("--model", choices=("rigid", "similarity", "thin_plate"), default="rigid")
    landmarks.add_argument("--exclude", default="", metavar="NAME,...", help="points to leave out of the fit")
    landmarks.add_argument("--targets", type=Path, metavar="FILE", help="moving points where the error is asked for")
    landmarks.add_argument("--fle-mm", type=inputs.positive, metavar="MM",
                           help="localisation error to expect (default: from the residuals)")
    landmarks.add_argument("--moving-frame", default="Moving", metavar="NAME", help="for example Reference")
    landmarks.add_argument("--fixed-frame", default="Fixed", metavar="NAME", help="for example RAS")
    nwire = _add(sub, "nwire", "image-to-probe from an N-wire phantom", NWIRE_HELP, run_nwire)
    nwire.add_argument("--config", type=Path, required=True, metavar="XML")
    nwire.add_argument("--points", type=Path, metavar="CSV")
    _image_options(nwire, "PhantomToProbe")
    pointer = _add(sub, "pointer", "image-to-probe from a tracked pointer", POINTER_HELP, run_pointer)
    pointer.add_argument("--points", type=Path, required=True, metavar="CSV")
    pointer.add_argument("--tip", required=True, metavar="X,Y,Z|JSON")
    pointer.add_argument("--config", type=Path, metavar="XML")
    _image_options(pointer, "StylusToProbe")
    temporal = _add(sub, "temporal", "lag between images and tracker", TEMPORAL_HELP, run_temporal)
    temporal.add_argument("--tracker", type=Path, metavar="FILE")
    temporal.add_argument("--transform", default="ProbeToReference", metavar="NAME")
    temporal.add_argument("--config", type=Path, metavar="XML")
    temporal.add_argument("--region", type=inputs.region, metavar="X0,Y0,X1,Y1", help="where the line moves, px")
    temporal.add_argument("--max-lag", type=inputs.positive, default=0.5, metavar="S", help="default 0.5")


def _add(sub, name: str, text: str, description: str, run) -> argparse.ArgumentParser:
    parser = sub.add_parser(name, help=text, description=f"{description}\n{ENDING}",
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.set_defaults(run=run)
    return parser


def _pose_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--transform", default="StylusToReference", metavar="NAME",
                        help="in a recording: the tool's pose (default StylusToReference)")
    parser.add_argument("--config", type=Path, metavar="XML", help="PLUS configuration with further transforms")
    parser.add_argument("--frames", type=inputs.frame_range, metavar="A:B", help="take frames A to B (B not included)")


def _image_options(parser: argparse.ArgumentParser, transform: str) -> None:
    parser.add_argument("--transform", default=transform, metavar="NAME", help=f"default {transform}")
    parser.add_argument("--depth-mm", type=inputs.positive, metavar="MM",
                        help="the scanner's depth, kept with the result")
    parser.add_argument("--preset", metavar="NAME", help="the scanner's preset, kept with the result")


def run_pivot(arguments: argparse.Namespace) -> int:
    """Raises InputError, RefusedError."""
    from ..navigation.pivot import calibrate_pivot

    poses, valid, tool, reference = inputs.tool_poses(arguments)
    result = calibrate_pivot(poses, valid, tool=tool, reference=reference)
    x, y, z = result.tip_mm
    return _done(arguments, result.to_dict(), f"tip at {x:.2f}, {y:.2f}, {z:.2f} mm in {tool}, sigma "
                 f"{result.sigma_mm:.2f} mm, rms {result.rms_mm:.2f} mm, {result.poses_used} poses")


def run_spin(arguments: argparse.Namespace) -> int:
    """Raises InputError, RefusedError."""
    from ..navigation.spin import calibrate_spin

    poses, valid, tool, _ = inputs.tool_poses(arguments)
    result = calibrate_spin(poses, valid, tool=tool, tip_mm=inputs.tip(arguments.tip) if arguments.tip else None)
    x, y, z = result.axis
    return _done(arguments, result.to_dict(), f"shaft along {x:.4f}, {y:.4f}, {z:.4f} in {tool}"
                 f"{'' if result.signed else ' (sense unknown)'}, sigma {result.sigma_deg:.2f} degrees")


def run_landmarks(arguments: argparse.Namespace) -> int:
    """Raises InputError, RefusedError."""
    from ..images.markups import read_named_points
    from ..navigation.landmarks import register_landmarks

    names, moving, fixed = inputs.landmark_pairs(arguments.source, arguments.fixed)
    targets = read_named_points(arguments.targets).points_mm if arguments.targets else None
    exclude = [name.strip() for name in arguments.exclude.split(",") if name.strip()]
    result = register_landmarks(moving, fixed, kind=arguments.model, names=names, exclude=exclude,
                                moving=arguments.moving_frame, fixed=arguments.fixed_frame,
                                targets_moving=targets, fle_mm=arguments.fle_mm)
    note = f"; doubtful: {', '.join(result.outliers)}" if result.outliers else ""
    return _done(arguments, result.to_dict(), f"{int(result.used.sum())} points, rms {result.rms_mm:.2f} mm{note}")


def run_nwire(arguments: argparse.Namespace) -> int:
    """Raises InputError, RefusedError."""
    from ..link.replay_frames import read_plus_config
    from ..navigation.nwire import calibrate_nwire
    from ..navigation.plus_files import chained, read_patterns

    patterns = read_patterns(arguments.config)
    frames, orientation = inputs.segmented(arguments.source, arguments.points, patterns)
    poses, valid = chained(arguments.transform, len(frames), frames.poses, frames.valid,
                           read_plus_config(arguments.config))
    result = calibrate_nwire(frames.points_px, patterns, poses, valid, size_px=frames.size_px,
                             depth_mm=arguments.depth_mm, preset=arguments.preset, orientation=orientation)
    return _done(arguments, result.to_dict(), _probe_line(result))


def run_pointer(arguments: argparse.Namespace) -> int:
    """Raises InputError, RefusedError."""
    from ..navigation.nwire import calibrate_pointer, pointer_tips

    pixels, poses, valid, size, orientation = inputs.pointer_points(arguments)
    tips, numbers = pointer_tips(poses, inputs.tip(arguments.tip), valid)
    result = calibrate_pointer(pixels[numbers], tips, size_px=size, depth_mm=arguments.depth_mm,
                               preset=arguments.preset, orientation=orientation)
    return _done(arguments, result.to_dict(), _probe_line(result))


def run_temporal(arguments: argparse.Namespace) -> int:
    """Raises InputError, RefusedError."""
    from ..navigation.temporal import calibrate_lag

    image_time_s, rows = inputs.image_signal(arguments)
    tracker_time_s, positions = inputs.tracker_positions(arguments)
    result = calibrate_lag(image_time_s, rows, tracker_time_s, positions, max_lag_s=arguments.max_lag)
    return _done(arguments, result.to_dict(), f"lag {1000 * result.lag_s:.1f} ms, sigma {1000 * result.sigma_s:.1f} "
                 f"ms, correlation {result.correlation:.3f}")


def _probe_line(result) -> str:
    x, y = result.mm_per_px
    return (f"pixels of {x:.4f} x {y:.4f} mm, rms {result.rms_mm:.2f} mm, {result.held_out_rms_mm:.2f} mm on points "
            f"not seen, {result.points_used} points")


def _done(arguments: argparse.Namespace, values: dict[str, Any], line: str) -> int:
    with replacing(arguments.json) as temporary:
        temporary.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{arguments.json}: {line}")
    return 0
