"""`irai needle`: track, detect, simulate, train."""

from __future__ import annotations

import argparse
from pathlib import Path

from .needle_detect import run_detect
from .needle_simulate import run_simulate, run_train
from .needle_track import run_track

SMALLEST, LARGEST = 64, 4096  # pixels of a simulated picture's side
TRACK_HELP = """Follows a needle through an ultrasound recording (.igs.mha, .igs.nrrd, DICOM cine), a catheter through
an X-ray cine, or either, or a needle in MR or CT slices, in a live OpenIGTLink image stream (HOST or HOST:PORT), and
writes one line a frame:
time_s, tip_x, tip_y, tip_z, dir_x, dir_y, dir_z, sigma_mm, status, in_plane.
Lengths are mm in the image plane (x along columns, y along rows, from the first pixel's centre), or, with
--frame tracked, mm in the tracker's frame. Without a scale they are pixels, and the header says sigma_px.
Beside it OUT.csv.json says unit, frame, method, latency and what the detector was validated on.
status: seen, coasting (not seen now, predicted), lost, absent, out_of_plane; only the first two carry a tip."""
DETECT_HELP = """Finds the needle in one picture or volume: PNG, JPEG, DICOM, .mha, .nrrd, NIfTI, a DICOM folder.
Ultrasound pictures give pixels unless the file or you give a scale; volumes give RAS mm.
The JSON holds tip, direction, units, sigma, found and more; `needles` lists all that were found in a CT or MR.
Exit status: 0 (also when there is no needle: found is false), 2 bad input, 3 refused."""


def add_parser(commands) -> None:
    """Add `needle` to the commands."""
    group = commands.add_parser("needle", help="where is the needle: ultrasound, CT, MR, X-ray")
    sub = group.add_subparsers(dest="step", metavar="STEP", required=True)
    raw = argparse.RawDescriptionHelpFormatter
    track = sub.add_parser("track", help="follow a needle in a recording or live", description=TRACK_HELP,
                           formatter_class=raw)
    track.add_argument("source", metavar="FILE_OR_HOST", help="recording, or HOST[:PORT] of an OpenIGTLink server")
    track.add_argument("--out", type=Path, required=True, metavar="CSV")
    track.add_argument("--device", metavar="NAME", help="live: the image device (default: the first that sends)")
    track.add_argument("--modality", choices=("auto", "US", "MR", "CT", "XA"), default="auto",
                       help="default: what the DICOM file says, else US; CT slices are followed live only")
    track.add_argument("--send-planes", action="store_true",
                       help="live MR: send the next scan planes PLANE_0..2 through the measured needle to the sender")
    track.add_argument("--seconds", type=_positive, metavar="S", help="live: stop after so many seconds")
    track.add_argument("--frame", choices=("image", "tracked"), default="image")
    track.add_argument("--config", type=Path, metavar="XML", help="PLUS configuration with ImageToProbe (files)")
    _scale_options(track)
    track.set_defaults(run=run_track)
    detect = sub.add_parser("detect", help="find the needle in one picture or volume", description=DETECT_HELP,
                            formatter_class=raw)
    detect.add_argument("image", type=Path, metavar="IMAGE")
    detect.add_argument("--json", type=Path, required=True, metavar="OUT")
    detect.add_argument("--modality", choices=("auto", "US", "CT", "MR", "XA"), default="auto")
    detect.add_argument("--index", type=int, metavar="N", help="which frame of a film (default: the last)")
    detect.add_argument("--series", metavar="S", help="series number or UID, where a folder holds several")
    detect.add_argument("--expected", type=int, metavar="N", help="CT: how many needles there are")
    _scale_options(detect)
    detect.set_defaults(run=run_detect)
    _add_simulate(sub, raw)


def _add_simulate(sub, raw) -> None:
    simulate = sub.add_parser(
        "simulate", help="a simulated ultrasound recording with truth",
        description="Writes a recording of a simulated needle (marked SIMULATED in the pixels), and the truth beside "
                    "it: FILE.truth.csv in the columns of `irai needle track`, FILE.truth.json in full.",
        formatter_class=raw)
    simulate.add_argument("--frames", type=int, required=True, metavar="N")
    simulate.add_argument("--out", type=Path, required=True, metavar="FILE.igs.mha")
    simulate.add_argument("--seed", type=int, default=1)
    simulate.add_argument("--size", type=_size, default=(640, 480), metavar="WxH", help="default 640x480")
    simulate.add_argument("--fps", type=_positive, default=30.0, metavar="HZ", help="default 30")
    simulate.add_argument("--domain", choices=("train", "held-out"), default="held-out")
    simulate.add_argument("--any", action="store_true",
                          help="take the seed as it is; without this a seed is looked for whose needle can be seen")
    simulate.add_argument("--no-needle", action="store_true", help="tissue alone")
    simulate.set_defaults(run=run_simulate)
    train = sub.add_parser(
        "train", help="train the ultrasound needle network on simulated frames",
        description="Makes its own training frames; needs the extra `train` (torch, onnx). Writes the network and its "
                    "card into DIR.", formatter_class=raw)
    train.add_argument("--out", type=Path, required=True, metavar="DIR")
    train.add_argument("--minutes", type=_positive, default=50.0, metavar="M", help="of training (default 50)")
    train.add_argument("--seed", type=int, default=1)
    train.add_argument("--samples", type=Path, metavar="DIR", help="keep the simulated samples here, use those there")
    train.add_argument("--held-out", type=int, default=1600, metavar="N", help="frames to measure on (default 1600)")
    train.add_argument("--start", type=Path, metavar="PT", help="go on from the network.pt of an earlier run")
    train.add_argument("--threads", type=int, default=1)
    train.set_defaults(run=run_train)


def _scale_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mm-per-px", type=_positive, metavar="MM", help="size of a pixel")
    parser.add_argument("--depth-mm", type=_positive, metavar="MM", help="depth that the ultrasound region shows")
    parser.add_argument("--region", default="auto", metavar="auto|whole|X0,Y0,X1,Y1",
                        help="where the ultrasound lies in the picture (default auto: as DICOM says, found in "
                             "screenshots, else the whole picture)")
    parser.add_argument("--detector", choices=("auto", "network", "classical", "both"), default="auto",
                        help="of ultrasound; auto: detect asks both, where the network can run, track the network")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"'{text}' is no positive number")
    return value


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and SMALLEST <= int(part) <= LARGEST for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is no size from {SMALLEST}x{SMALLEST} to {LARGEST}x{LARGEST}; "
                                         "write for example 640x480")
    return int(parts[0]), int(parts[1])
