"""`irai demo`: a simulated case as two DICOM series, then everything a user would do with it."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from ..geometry import InputError

SEED = 12
CASE = ("--margin-mm", "0", "--tumor-radius-mm", "12", "--pre-slice-mm", "2", "--post-slice-mm", "1.5")
"""A zone too far to one side: the tumour just reaches its edge."""
OUTPUTS = ("report.html", "margin.json", "margin.csv", "scene.mrb")


def add_parser(commands) -> None:
    """Add `demo` to the commands."""
    parser = commands.add_parser(
        "demo", help="a simulated case, from DICOM to the report",
        description="Paints a tumour and an ablation into a real CT, writes two DICOM series, imports and registers "
                    "them, measures the margin and compares it with the truth. About two minutes.")
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="folder (default: demo)")
    parser.add_argument("--seed", type=int, default=SEED, help="another seed is another case")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit status of the margin step; prints MAM, truth and error."""
    from .main import main

    began = time.monotonic()
    out, case = arguments.out, arguments.out / "case"
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; choose another --out")
    if case.is_dir():
        shutil.rmtree(case)
    print("1/2  a tumour and an ablation, painted into a real CT that breathes in between")
    status = main(["ablation", "simulate", "--out", str(case), "--seed", str(arguments.seed), *CASE, "--dicom"])
    if status:
        return status
    print("2/2  import, register (rigid, then deformable), measure, draw")
    status = main(["ablation", "margin", "--pre", str(case / "pre"), "--post", str(case / "post"),
                   "--tumor", str(case / "tumor_reader.nii.gz"), "--ablation", str(case / "ablation_reader.nii.gz"),
                   "--organ", str(case / "organ_post_reader.nii.gz"),
                   "--organ-pre", str(case / "organ_pre_reader.nii.gz"),
                   "--synthetic", "--keep-pictures", "--out", str(out)])
    found = json.loads((out / "margin.json").read_text(encoding="utf-8"))
    truth = json.loads((case / "truth.json").read_text(encoding="utf-8"))
    _compare(found, truth)
    print(f"{out / 'report.html'}   ({time.monotonic() - began:.0f} s; synthetic: painted into a real CT)")
    return status


def _compare(found: dict, truth: dict) -> None:
    exact = truth["true_mam_beyond_capsule_mm"]
    if found["mam_mm"] is None:
        print(f"no margin: {found['refused']}; the truth is {exact:.2f} mm")
        return
    low, high = found["mam_ci95_mm"]
    print(f"MAM {found['mam_mm']:.2f} mm (95 % interval {low:.1f} to {high:.1f}); truth {exact:.2f} mm; "
          f"error {found['mam_mm'] - exact:+.2f} mm")
    facts = found["registration"]
    print(f"with the rigid registration alone it would read {facts['rigid_mam_mm']:.2f} mm; tumour volume change "
          f"{facts['tumor_volume_change_percent']:.1f} %, folding {facts['folding_percent']:.2f} %")
