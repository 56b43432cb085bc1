"""`irai segment seeded` and `irai segment bundle`: masks from clicks and from local models."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..geometry import InputError


def add_parser(subparsers) -> None:
    """Add `segment` to the commands of `irai`."""
    parser = subparsers.add_parser("segment", help="tumour, zone or organ as a mask")
    kinds = parser.add_subparsers(dest="segment_command", required=True)
    seeded = kinds.add_parser("seeded", help="from a few clicks")
    seeded.add_argument("image", type=Path, help="DICOM folder, NIfTI, NRRD, MHA")
    seeded.add_argument("--inside", action="append", required=True, metavar="X,Y,Z",
                        help="a point in the structure, RAS mm; may be repeated (write --inside=-1,2,3 for negatives)")
    seeded.add_argument("--outside", action="append", default=[], metavar="X,Y,Z", help="a point outside, RAS mm")
    seeded.add_argument("--max-radius", type=float, default=60.0, metavar="MM", help="look no further (default 60)")
    seeded.add_argument("--out", type=Path, required=True, help="mask: .nii.gz, .nrrd, .seg.nrrd")
    seeded.set_defaults(run=run_seeded)
    bundle = kinds.add_parser("bundle", help="with a MONAI bundle or nnU-Net v2 (TotalSegmentator) model, offline")
    bundle.add_argument("folder", type=Path, help="the model's top folder")
    bundle.add_argument("image", type=Path, help="DICOM folder, NIfTI, NRRD, MHA")
    bundle.add_argument("--label", help="write only this label (name or number) as a mask")
    bundle.add_argument("--trust", action="store_true", help="let the model's folder run its own code")
    bundle.add_argument("--device", default="cpu", help="torch device (default cpu)")
    bundle.add_argument("--out", type=Path, required=True, help="labels or mask: .nii.gz, .nrrd")
    bundle.set_defaults(run=run_bundle)


def run_seeded(arguments: argparse.Namespace) -> int:
    """Segment from clicks; prints volume, boundary uncertainty and time. Returns the exit status."""
    from ..images import read_volume, write_mask
    from ..segmentation import SeededOptions, segment_seeded

    if not arguments.max_radius > 0:
        raise InputError("--max-radius must be above 0 mm")
    inside, outside = (_points(getattr(arguments, side), side) for side in ("inside", "outside"))
    volume = read_volume(arguments.image)
    result = segment_seeded(volume, inside, outside, options=SeededOptions(max_radius_mm=arguments.max_radius))
    write_mask(result.mask, arguments.out)
    print(f"{arguments.out}: {result.mask.volume_ml:.2f} ml, boundary +-{result.boundary_sigma_mm:.1f} mm (1 sigma), "
          f"{result.seconds:.1f} s; validated on {result.validated_on}")
    if result.doubt:
        print(f"Check: {result.doubt}")
    return 0


def run_bundle(arguments: argparse.Namespace) -> int:
    """Show the model's card, run it, write its labels. Returns the exit status."""
    from ..images import read_volume, write_mask, write_volume
    from ..segmentation import read_card, segment_bundle

    print("\n".join(read_card(arguments.folder).lines()))
    result = segment_bundle(read_volume(arguments.image), arguments.folder, trust=arguments.trust,
                            device=arguments.device)
    if arguments.label is None:
        write_volume(result.labels, arguments.out)
    else:
        label = int(arguments.label) if arguments.label.isdigit() else arguments.label
        write_mask(result.mask(label).require_not_empty(), arguments.out)
    found = ", ".join(f"{value} {name}" for value, name in result.names().items()) or "nothing"
    print(f"{arguments.out}: found {found}; validated {result.validated_on}")
    return 0


def _points(texts: list[str], side: str) -> np.ndarray:
    points = []
    for text in texts:
        try:
            point = [float(part) for part in text.split(",")]
        except ValueError:
            point = []
        if len(point) != 3 or not np.isfinite(point).all():
            raise InputError(f"--{side} {text!r}: give three numbers, x,y,z in RAS mm")
        points.append(point)
    return np.array(points, float).reshape(-1, 3)
