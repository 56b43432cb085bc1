"""`irai ablation margin` and `irai ablation simulate`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
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
FILES = ("margin.json", "margin.csv", "report.html", "scene.mrb")


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
    from ..scene.ablation import accept_registration, measure_margin, register_case
    from ..scene.case_nodes import load_case
    from ..scene.changes import remove_node
    from ..scene.console import registration_facts

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
        document = {**empty_document(refused), "registration": registration_facts(registration)}
    try:
        _write(case, margin, registration, document, arguments)
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
    pre = read_volume(arguments.pre) if arguments.pre else None
    post = read_volume(arguments.post) if arguments.post else None

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


def _write(case, margin, registration, document: dict[str, Any], arguments: argparse.Namespace) -> None:
    """All four files, made beside the folder first and moved in together."""
    from ..report import margin_histogram, write_csv, write_json, write_margin_report
    from ..scene.ablation_pictures import render_case
    from ..scene.ablation_results import table_rows
    from ..scene.console import evaluated_margin, save_scene

    out = arguments.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: can't be written to ({error.strerror}); choose another --out") from error
    mark = "SYNTHETIC" if arguments.synthetic else None
    with tempfile.TemporaryDirectory(prefix=".irai-", dir=out) as name:
        work = Path(name)
        write_json(document, work / "margin.json")
        write_csv(document, work / "margin.csv")
        pictures = render_case(case, margin, work, registration=registration, mark=mark)
        if margin is not None and document.get("mam_mm") is not None:
            values, areas = evaluated_margin(margin)
            path = margin_histogram(values, areas, arguments.threshold_mm, work / "histogram.png",
                                    document.get("mam_ci95_mm"))
            pictures["histogram"] = (path, "Margin over the tumour's surface, by area")
        write_margin_report(document, table_rows(document, arguments.threshold_mm), pictures, work / "report.html",
                            synthetic=arguments.synthetic)
        save_scene(work / "scene.mrb")
        if not arguments.synthetic:
            pictures = {}
        for file in (*FILES, *(path.name for path, _ in pictures.values())):
            os.replace(work / file, out / file)


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
