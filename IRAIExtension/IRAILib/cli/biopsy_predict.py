"""`irai biopsy predict`: a trained model on new patients; who is unlike its cohort is refused, with the reason."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from ..geometry import RefusedError
from ..images.atomic import replacing

ENDING = "Exit status: 0 done (refused rows stand in the CSV with their reason), 2 bad input, 3 every row was refused."
N_REASONS = 5


def add_step(commands) -> None:
    """Add `predict` to the steps of `irai biopsy`."""
    parser = commands.add_parser(
        "predict", help="a trained outcome model on new patients", epilog=ENDING,
        description="Runs the model of a folder made by `irai biopsy train` on each row of a table: probability or "
                    "risk, conformal set or bounds, likeness to the training cohort, what drove it. A row that the "
                    "model "
                    "can't answer for is refused and says why.")
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="folder with model.json")
    parser.add_argument("table", type=Path, metavar="TABLE", help=".csv, .xlsx, .parquet, or a cohort's folder")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="predictions, a row for each of the "
                                                                               "table")
    parser.add_argument("--patient", metavar="COL", help="column of names (default: the model's own)")
    parser.add_argument("--backbone", type=Path, metavar="FOLDER", help="the public network that the model was trained "
                                                                        "with, where it was")
    parser.add_argument("--no-gate", action="store_true",
                        help="answer also for patients unlike the training cohort (research only; said in the CSV)")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="everything as JSON (-, or nothing: here)")
    parser.set_defaults(run=run_predict)


def run_predict(arguments: argparse.Namespace) -> int:
    """Predict and write. Raises InputError; RefusedError when no row could be answered (the CSV is written)."""
    from ..biopsy.outcome.model_file import load_model
    from ..biopsy.outcome.predict import predict
    from ..biopsy.outcome.table import read_table

    model = load_model(arguments.model, arguments.backbone)
    found = predict(model, read_table(arguments.table), patient=arguments.patient, gate=not arguments.no_gate)
    head = header(found)
    with replacing(arguments.out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows([_cells(found, row, head, not arguments.no_gate) for row in found.rows])
    if arguments.json is not None:
        text = json.dumps(found.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        if arguments.json == "-":
            print(text, end="")
        else:
            with replacing(Path(arguments.json)) as temporary:
                temporary.write_text(text, encoding="utf-8")
    if arguments.json != "-":
        _say(found, arguments.out)
    if found.rows and found.n_refused == len(found.rows):
        raise RefusedError(f"{arguments.table}: every row was refused; the first: {found.rows[0].refusals[0]} "
                           f"({arguments.out} has the reasons)")
    return 0


def header(found: Any) -> list[str]:
    """Column names of the CSV for this kind of model."""
    names = ["patient", "refused", "reason"]
    horizons = [f"{horizon:g}" for horizon in found.horizons]
    if found.kind in ("binary", "multiclass"):
        names += [f"probability {name}" for name in found.classes] + ["set"]
    else:
        names += ["risk"]
        names += [f"{'incidence' if found.kind == 'competing' else 'survival'}@{horizon}" for horizon in horizons]
        names += ["not before", "interval low", "interval high"]
    return names + ["set or bound means", "coverage", "similarity distance", "similarity gate", "similarity percentile",
                    *(f"top {n + 1}" for n in range(N_REASONS)), "contribution scale", "warnings", "validated on"]


def _cells(found: Any, row: Any, head: list[str], gate: bool) -> list[Any]:
    """The cells of one row, in the order of `head`; nothing is predicted in a refused row."""
    bound = row.conformal or {}
    like = row.similarity or {}
    values: dict[str, Any] = {"patient": row.patient, "refused": "yes" if row.refused else "no",
                              "reason": "; ".join(row.refusals), "risk": row.risk}
    values |= {f"probability {name}": share for name, share in (row.probability or {}).items()}
    values |= {f"survival@{time}": share for time, share in (row.survival or {}).items()}
    values |= {f"incidence@{time}": share for time, share in (row.incidence or {}).items()}
    values |= {"set": " | ".join(bound["labels"]) if "labels" in bound else None,
               "not before": bound.get("lower_bound"),
               "interval low": bound.get("low"), "interval high": bound.get("high"),
               "set or bound means": bound.get("meaning"), "coverage": bound.get("level"),
               "similarity distance": like.get("distance"), "similarity gate": like.get("gate"),
               "similarity percentile": like.get("percentile"), "validated on": found.validated_on}
    if not row.refused:
        values["contribution scale"] = found.scale
    for place, reason in enumerate(row.reasons[:N_REASONS]):
        given = "missing" if reason.value is None else f"{reason.value:.4g}" if isinstance(reason.value, float) \
            else reason.value
        values[f"top {place + 1}"] = f"{reason.name} = {given}: {reason.contribution:+.3g}"
    said = list(row.warnings)
    if not gate:
        said += ["the likeness gate was switched off"] + [f"unlike the training cohort: {text}"
                                                          for text in like.get("reasons") or []]
    values["warnings"] = "; ".join(said)
    return [_text(values.get(name)) for name in head]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _say(found: Any, out: Path) -> None:
    ending = "is not in the table; it carries no weight in this model"
    idle = [warning for warning in found.warnings if warning.endswith(ending)]
    for warning in found.warnings:
        if warning not in idle or len(idle) <= 3:
            print(f"note: {warning}")
    if len(idle) > 3:
        print(f"note: {len(idle)} of the model's columns are not in the table; they carry no weight in this model")
    answered = [row for row in found.rows if not row.refused]
    if answered and not any(row.reasons for row in answered):
        print("note: this model weighs no column: every patient gets the same answer, that of the training cohort")
    refused = f", {found.n_refused} refused" if found.n_refused else ""
    print(f"{out}: {len(found.rows)} rows{refused}; validated on: {found.validated_on}. Research software, not for "
          "clinical decisions.")
