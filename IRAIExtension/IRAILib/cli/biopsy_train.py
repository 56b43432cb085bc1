"""`irai biopsy train`: an outcome model from a table, with the report that says whether it is worth anything."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..geometry import InputError
from ..images.atomic import replacing
from .progress import terminal_progress

ENDING = ("Give TABLE first: an option that takes several columns takes all that follow. Exit status: 0 done (also "
          "when the model is no better than the baseline: that is a result), 2 bad input, "
          "3 refused (too few events to say anything, for one). MODEL_DIR appears whole or not at all.")
MODEL_FILE = "model.json"
SAME_NAME = ("time", "patient", "site", "kind", "time_unit", "exclude", "baseline", "repeats", "inner_folds", "seed",
             "harmonise", "permutations", "bootstraps", "selection", "imputation", "coverage", "intended_use",
             "licence", "censored", "max_features", "learning_curve", "unseen_site")


def add_step(commands) -> None:
    """Add `train` to the steps of `irai biopsy`."""
    parser = commands.add_parser(
        "train", help="an outcome model from a table, with its report", epilog=ENDING,
        description="Trains a model of a class or of the time to an event, by nested cross-validation that keeps each "
                    "patient on one side, beside a clinical baseline. Columns that leak are found, named and left out. "
                    "Writes model.json, weights, report.html, metrics.json, card.md, sheets.json and sheets.csv.")
    parser.add_argument("table", type=Path, metavar="TABLE", help=".csv, .xlsx, .parquet, or a cohort's folder")
    parser.add_argument("--target", required=True, metavar="COL", help="the class, or the event when --time is given")
    parser.add_argument("--time", metavar="COL", help="time to the event or to the last contact")
    parser.add_argument("--patient", metavar="COL", help="who a row belongs to; rows of one patient stay together")
    parser.add_argument("--out", type=Path, required=True, metavar="MODEL_DIR", help="folder to make")
    parser.add_argument("--force", action="store_true", help="replace MODEL_DIR when it holds a model")
    _outcome_options(parser)
    _column_options(parser)
    _procedure_options(parser)
    _deep_options(parser)
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="metrics as JSON (-, or nothing: here)")
    parser.add_argument("--predictions", type=Path, metavar="CSV",
                        help="also write every held-out prediction; this file names patients")
    parser.add_argument("--timeout", type=float, metavar="S", help="give up after so many seconds")
    parser.set_defaults(run=run_train)


def _outcome_options(parser: argparse.ArgumentParser) -> None:
    from ..biopsy.outcome.record import KINDS

    group = parser.add_argument_group("outcome")
    group.add_argument("--kind", choices=KINDS, help="default: seen from the target and --time")
    group.add_argument("--event-value", "--positive", dest="event", metavar="VALUE",
                       help="value of the target that counts: the event of interest, the positive class")
    group.add_argument("--censored-value", dest="censored", metavar="VALUE", help="value that means: no event seen")
    group.add_argument("--horizon", dest="horizons", type=float, nargs="+", action="extend", metavar="T",
                       help="times to predict survival at, in the unit of the time column")
    group.add_argument("--time-unit", metavar="WORD", help="as days or months; shown, never converted")


def _column_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("columns")
    group.add_argument("--exclude", nargs="+", action="extend", metavar="COL", help="leave these out (commas may part)")
    group.add_argument("--baseline", nargs="+", action="extend", metavar="COL",
                       help="columns of the clinical baseline, as BCLC; default: the clinical columns and scores")
    group.add_argument("--site", metavar="COL", help="hospital or scanner")
    group.add_argument("--allow-leak", dest="allow", nargs="+", action="extend", metavar="COL",
                       help="keep a column that looks like a leak; the report says so in red")
    group.add_argument("--role", action="append", default=[], metavar="COL=ROLE", help="set a column's role")
    group.add_argument("--group", action="append", default=[], metavar="COL=GROUP",
                       help="set a column's group (imaging, clinical, score)")


def _procedure_options(parser: argparse.ArgumentParser) -> None:
    from ..biopsy.outcome.record import MODELS, Plan

    default = {item.name: item.default for item in fields(Plan)}
    group = parser.add_argument_group("procedure")
    group.add_argument("--model", dest="models", nargs="+", action="extend", choices=MODELS,
                       help="the first is the model that is written (default: linear), others run beside it on the "
                            "same folds")
    group.add_argument("--rsf", action="store_true",
                       help="run a random survival forest beside the model (needs scikit-survival, which is GPL-3); "
                            "for a class: a random forest")
    group.add_argument("--folds", dest="outer_folds", type=int, help=f"outer folds (default {default['outer_folds']})")
    for name, words in (("repeats", "repeats of the cross-validation"), ("inner_folds", "inner folds, for tuning"),
                        ("seed", "of everything that is random"), ("permutations", "shuffled runs of the permutation "
                                                                   "test; 0: none"),
                        ("bootstraps", "resamples for the intervals"), ("max_features", "most columns a model may use"),
                        ("learning_curve", "points of a learning curve; 0: none")):
        group.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"{words} (default {default[name]})")
    group.add_argument("--by-site", action="store_true", help="hold out one site at a time (needs --site, three sites)")
    group.add_argument("--harmonise", nargs="?", const="combat", choices=("none", "combat"),
                       help="ComBat over sites, inside the fold, imaging columns only")
    group.add_argument("--unseen-site", choices=("refuse", "unharmonised"), help="a new site at prediction")
    group.add_argument("--selection", choices=("none", "univariate", "stability", "elastic-net"),
                       help="of columns ahead of the model, inside the fold (default none: the penalty selects)")
    group.add_argument("--imputation", choices=("median", "chained"),
                       help="of missing values, learnt in the training part: its median (default), or each column from "
                            "the others by ridge regression; both with an indicator of what was missing")
    group.add_argument("--power-transform", action="store_true",
                       help="Yeo-Johnson, inside the fold: for laboratory values with long tails, as bilirubin or AFP")
    balance = group.add_mutually_exclusive_group()
    balance.add_argument("--smote", action="store_true", help="SMOTE on the training part of each fold")
    balance.add_argument("--class-weights", action="store_true", help="weight classes by how rare they are")
    group.add_argument("--no-sensitivity", action="store_true",
                       help="no sensitivity analysis (each group of columns, as imaging, clinical, score, left out and "
                            "alone)")
    group.add_argument("--coverage", type=float, help=f"of the conformal sets (default {default['coverage']})")
    group.add_argument("--intended-use", metavar="TEXT", help="for the card")
    group.add_argument("--licence", metavar="TEXT", help="for the card")


def _deep_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "images", "A column more for the model, from a network trained on the lesions inside every fold (MONAI "
        "DenseNet, MixUp, CT physics as augmentation), or from a public network that stays as it is. Minutes to "
        "hours; the permutation test is left out unless it is asked for.")
    group.add_argument("--deep", choices=("3d", "2.5d"), help="the lesion's cube, or three planes through it")
    for name, default in (("image", "image"), ("mask", "mask")):
        group.add_argument(f"--{name}", metavar="COL", help=f"column of {name} files, from the table's folder (default "
                                                            f"{default})")
    group.add_argument("--mask-label", dest="label", metavar="COL", help="column of each mask's label")
    group.add_argument("--deep-side-mm", dest="side_mm", type=float, metavar="MM", help="side of the cube (default 64)")
    group.add_argument("--deep-epochs", dest="epochs", type=int, metavar="N", help="of each network (default 30)")
    group.add_argument("--backbone", metavar="FOLDER", help="a public network (backbone.json and its weights) in place "
                                                            "of training one")


def _deep(arguments: argparse.Namespace) -> dict[str, Any] | None:
    given = {name: getattr(arguments, name) for name in ("image", "mask", "label", "side_mm", "epochs", "backbone")}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.deep is None and "backbone" not in given:
        if given:
            raise InputError(f"{', '.join(given)}: only with --deep 3d or 2.5d, or --backbone FOLDER")
        return None
    if "backbone" in given:
        given["backbone"] = str(Path(given["backbone"]).expanduser().resolve())
    return given | ({} if arguments.deep is None else {"mode": arguments.deep})


def run_train(arguments: argparse.Namespace) -> int:
    """Train in a worker, then move the folder into place. Raises InputError, RefusedError, CancelledError."""
    from ..jobs import run_job

    out = Path(arguments.out).expanduser().resolve()
    check_place(out, arguments.force)
    aside = None if arguments.predictions is None else arguments.predictions.expanduser().resolve()
    if aside is not None and out in (aside, *aside.parents):
        raise InputError(f"--predictions {arguments.predictions}: this file names patients; put it outside of {out}")
    plan = _plan(arguments)
    with replacing(out) as temporary:
        found = run_job("IRAILib.report.outcome_folder:train_and_write",
                        {"table": str(arguments.table), "plan": plan, "folder": str(temporary),
                         "command": "irai " + " ".join(shlex.quote(word) for word in sys.argv[1:]),
                         "predictions": None if aside is None else str(aside)},
                        progress=terminal_progress("training"), timeout_s=arguments.timeout)
    warnings = found.pop("warnings", [])
    text = json.dumps(found, indent=1, allow_nan=False)
    if arguments.json == "-":
        print(text)
        return 0
    if arguments.json:
        with replacing(Path(arguments.json)) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    _say(found, warnings, out)
    return 0


def check_place(out: Path, force: bool) -> None:
    """Raises InputError where a model can't be written: a file, another folder, a model without --force."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder that isn't there yet")
    inside = list(out.iterdir())
    if inside and not (out / MODEL_FILE).is_file():
        raise InputError(f"{out}: this folder holds other things and no model; name a folder that isn't there yet")
    if inside and not force:
        raise InputError(f"{out}: holds a model already; name another folder, or replace it with --force")


def _plan(arguments: argparse.Namespace) -> dict[str, Any]:
    plan: dict[str, Any] = {"target": arguments.target}
    for name in (*SAME_NAME, "event", "horizons", "allow", "models", "outer_folds"):
        value = getattr(arguments, name)
        if value is not None:
            plan[name] = value
    if arguments.rsf:
        plan["models"] = [*plan.get("models", ["linear"]), *([] if "forest" in plan.get("models", []) else ["forest"])]
    if arguments.by_site:
        plan["validation"] = "site"
    if arguments.smote or arguments.class_weights:
        plan["balance"] = "smote" if arguments.smote else "weights"
    if arguments.power_transform:
        plan["power_transform"] = True
    if arguments.no_sensitivity:
        plan["sensitivity"] = False
    deep = _deep(arguments)
    if deep is not None:
        plan |= {"deep": deep, "permutations": arguments.permutations or 0}
    for key, words in (("roles", arguments.role), ("groups", arguments.group)):
        if words:
            plan[key] = dict(_pair(key.rstrip("s"), word) for word in words)
    return plan


def _pair(option: str, word: str) -> tuple[str, str]:
    name, equals, value = word.rpartition("=")
    if not (equals and name and value):
        raise InputError(f"--{option} {word}: write it as COLUMN={option.upper()}")
    return name, value


def _say(found: dict[str, Any], warnings: list[str], out: Path) -> None:
    for warning in warnings:
        print(f"note: {warning}")
    named: dict[tuple[str, str], list[str]] = {}
    for leak in found.get("leaks", []):
        named.setdefault((leak["action"], leak["kind"]), []).append(leak["column"])
    for (action, kind), columns in named.items():
        print(f"leak {action} ({kind}): {', '.join(columns)}")
    print(found["verdict"])
    print(f"{out}: model.json, report.html, metrics.json, card.md, sheets.csv")
