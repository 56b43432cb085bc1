"""`irai ablation margin` and `irai ablation simulate`."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from ..geometry import EmptyMaskError, InputError, Mask, RefusedError, Volume
from .ablation_simulate import add_simulate_parser
from .progress import terminal_progress

MARGIN_HELP = """Measures the margin of an ablation. The tumour is drawn on the scan before, the ablation on the scan
after. With --pre and --post the scans are registered first; without them both masks must lie in one frame.
Writes margin.json, margin.csv, report.html (one file, with pictures) and scene.mrb (for 3D Slicer) into DIR.
Coordinates are RAS mm in the frame of the ablation. Exit status: 0 result, 2 bad input, 3 refused."""


def add_parser(commands) -> None:
    """Add `ablation` to the commands."""
    group = commands.add_parser("ablation", help="margin of an ablation; simulated cases")
    sub = group.add_subparsers(dest="step", metavar="STEP", required=True)
    parser = sub.add_parser("margin", help="did the ablation cover the tumour?", description=MARGIN_HELP)
    parser.add_argument("--tumor", type=Path, required=True, metavar="A", help="tumour mask, on the scan before")
    parser.add_argument("--ablation", type=Path, required=True, metavar="B", help="ablation zone, on the scan after")
    parser.add_argument("--organ", type=Path, metavar="O",
                        help="organ mask, on the scan after (or before: told by its grid); its edge is the capsule")
    parser.add_argument("--organ-pre", type=Path, metavar="O", help="organ mask on the scan before")
    parser.add_argument("--vessels", type=Path, metavar="V", help="vessel mask, on the scan after")
    for name in ("tumor", "ablation", "organ", "organ-pre", "vessels"):
        parser.add_argument(f"--{name}-label", metavar="L", help=f"label or segment name in the file of --{name}")
    parser.add_argument("--pre", type=Path, metavar="P", help="scan before: DICOM folder or archive, NIfTI, NRRD, MHA")
    parser.add_argument("--post", type=Path, metavar="Q", help="scan after")
    for name in ("pre", "post"):
        parser.add_argument(f"--{name}-series", metavar="S", help=f"series number or UID, where --{name} holds several")
    parser.add_argument("--register", choices=("none", "rigid", "deformable"),
                        help="default: deformable with --pre and --post, else none")
    parser.add_argument("--engine", default="auto", help="auto, convex, bspline, greedy or elastix")
    parser.add_argument("--landmarks-pre", type=Path, metavar="CSV", help="columns x,y,z, RAS mm, same order as after")
    parser.add_argument("--landmarks-post", type=Path, metavar="CSV")
    parser.add_argument("--threshold-mm", type=float, default=5.0, help="margin that is wanted (default 5)")
    parser.add_argument("--capsule-mm", type=float, default=5.0, help="nearer to the capsule is left out (default 5)")
    parser.add_argument("--vessel-mm", type=float, default=5.0, help="nearer to a vessel is perivascular (default 5)")
    parser.add_argument("--outline-sigma-mm", type=float, default=1.2,
                        help="1-sigma error of each outline, for the interval (default 1.2)")
    parser.add_argument("--timeout", type=float, metavar="S", help="end the registration after so many seconds")
    parser.add_argument("--synthetic", action="store_true", help="mark report and pictures as synthetic")
    parser.add_argument("--keep-pictures", action="store_true", help="also leave the report's pictures as PNG files")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.set_defaults(run=run_margin)
    add_simulate_parser(sub)


def run_margin(arguments: argparse.Namespace) -> int:
    """Read, register, measure, write. Returns 0, or 3 when no margin can be given; raises InputError."""
    inputs, model = _inputs(arguments)
    options = _margin_options(arguments)
    _require_slicer_core()
    from ..jobs import run_job
    from ..report import empty_document
    from ..scene.ablation import accept_registration, measure_margin, register_case, registration_facts
    from ..scene.ablation_report import write_case_report
    from ..scene.case_nodes import load_case
    from ..scene.changes import remove_node

    case = load_case(**inputs)
    registration = margin = None
    try:
        if model != "none":
            case = _with_landmarks(case, arguments)
            registration = register_case(case, _registration_options(arguments, model),
                                         progress=terminal_progress("registration"),
                                         run=partial(run_job, timeout_s=arguments.timeout))
            accept_registration(registration)
        margin = measure_margin(case, registration, options)
        document, refused = _document(margin), None
    except RefusedError as error:
        refused = str(error)
        document = {**empty_document(refused),
                    "registration": None if registration is None else registration_facts(_document(registration))}
    try:
        if arguments.synthetic and case.post is not None:
            case.post.SetAttribute("IRAI.Synthetic", "1")
        write_case_report(case, margin, arguments.out, registration=registration, document=document,
                          keep_pictures=arguments.keep_pictures)
    finally:
        _forget(case, margin, registration, remove_node)
    if refused:
        print(f"irai: {' '.join(refused.split())}", file=sys.stderr)
        return 3
    _print(document, arguments.out)
    return 0


def _inputs(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Volumes and masks as `load_case` takes them, and the registration model."""
    from ..ablation.margin import check_frames
    from ..images import read_mask, read_volume

    if arguments.register in ("rigid", "deformable") and not (arguments.pre and arguments.post):
        raise InputError(f"--register {arguments.register} needs both scans: give --pre and --post, "
                         "or --register none for masks in one frame")
    model = arguments.register or ("deformable" if arguments.pre and arguments.post else "none")
    pre = read_volume(arguments.pre, series=_label(arguments.pre_series)) if arguments.pre else None
    post = read_volume(arguments.post, series=_label(arguments.post_series)) if arguments.post else None

    def mask(name: str, reference: Volume | None) -> Mask | None:
        path = getattr(arguments, name)
        if path is None:
            return None
        out = read_mask(path, label=_label(getattr(arguments, f"{name}_label")), reference=reference)
        if not out.array.any():
            raise EmptyMaskError(f"{path}: the mask is empty; segment the structure or choose another label")
        return out

    tumor, ablation = mask("tumor", pre), mask("ablation", post)
    assert tumor is not None
    assert ablation is not None
    if model == "none":
        check_frames(tumor, ablation, None)
    inputs = {"tumor": tumor, "ablation": ablation, "pre": pre, "post": post, "vessels": mask("vessels", post),
              "organ_pre": mask("organ_pre", pre)}
    return {**inputs, **_organ(arguments, inputs, mask, model)}, model


def _organ(arguments, inputs, mask, model: str) -> dict[str, Mask | None]:
    """--organ goes to the scan whose grid it lies on; to the one after where that is open."""
    if arguments.organ is None:
        return {"organ": None}
    loose = mask("organ", None)
    before, after = inputs["pre"] or inputs["tumor"], inputs["post"] or inputs["ablation"]
    is_before = loose.grid.same_grid(before.grid) and not loose.grid.same_grid(after.grid)
    if model != "none" and is_before and inputs["organ_pre"] is None:
        return {"organ": None, "organ_pre": loose}
    return {"organ": loose if model == "none" else mask("organ", inputs["post"])}


def _label(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.lstrip("-").isdigit() else text


def _margin_options(arguments: argparse.Namespace):
    from ..ablation import MarginOptions

    return MarginOptions(threshold_mm=arguments.threshold_mm, capsule_distance_mm=arguments.capsule_mm,
                         vessel_distance_mm=arguments.vessel_mm, segmentation_sigma_mm=arguments.outline_sigma_mm)


def _registration_options(arguments: argparse.Namespace, model: str):
    from ..registration import RegistrationOptions

    return RegistrationOptions(model=model, engine=arguments.engine)


def _with_landmarks(case, arguments: argparse.Namespace):
    from dataclasses import replace

    from ..images import read_points
    from ..scene.console import points_to_markups

    if arguments.landmarks_pre is None and arguments.landmarks_post is None:
        return case
    if arguments.landmarks_pre is None or arguments.landmarks_post is None:
        raise InputError("landmarks need both --landmarks-pre and --landmarks-post, the same points in the same order")
    return replace(case, landmarks_pre=points_to_markups(read_points(arguments.landmarks_pre), "Landmarks before"),
                   landmarks_post=points_to_markups(read_points(arguments.landmarks_post), "Landmarks after"))


def _require_slicer_core() -> None:
    from ..headless import start

    start()


def _document(record) -> dict[str, Any]:
    from ..scene.ablation_results import read_record

    return read_record(record)


def _forget(case, margin, registration, remove_node) -> None:
    """Take the case out of the scene again, for callers that go on (tests, notebooks)."""
    from ..scene.changes import parts_of

    owned = [case.tumor.node, case.ablation.node, case.pre, case.post, case.landmarks_pre, case.landmarks_post]
    for node in (*parts_of(margin), *parts_of(registration), *owned):
        if node is not None:
            remove_node(node)


def _print(document: dict[str, Any], out: Path) -> None:
    mam, interval = document["mam_mm"], document["mam_ci95_mm"]
    if mam is None:
        print(f"no margin: all of the tumour's surface is subcapsular; covered {document['coverage_percent']:.1f} %; "
              f"{out}")
        return
    place = document["thinnest"]
    label = ", screening only" if document["screening_only"] else ""
    print(f"MAM {mam:.2f} mm (95 % interval {interval[0]:.1f} to {interval[1]:.1f}){label}; thinnest {place['words']}; "
          f"covered {document['coverage_percent']:.1f} %; {out}")
