"""`irai biopsy drift`: a model in use, watched: other patients, more refusals, chances that no longer hold."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..images.atomic import replacing

ENDING = ("Exit status: 0 done, whatever was found (the verdict stands in the JSON), 2 bad input. A small change can "
          "stay unseen; a change of inputs alone doesn't say that the model is wrong, and events that differ from the "
          "expected may also be the error of a model made from few patients: look at the trend.")
MOST_LINES = 12


def add_step(commands) -> None:
    """Add `drift` to the steps of `irai biopsy`."""
    parser = commands.add_parser(
        "drift", help="watch a trained model: have patients or its calibration changed?", epilog=ENDING,
        description="Compares the patients of a table with those that the model was made from: each input and the "
                    "predicted chances (PSI beside its limit, Kolmogorov-Smirnov or chi-square, missing values; "
                    "corrected over all inputs), the share outside the likeness gate, and, where the table says what "
                    "happened, observed over expected events by period.")
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="folder with model.json")
    parser.add_argument("table", type=Path, metavar="TABLE", help=".csv, .xlsx, .parquet, or a cohort's folder")
    parser.add_argument("--period", metavar="COL", help="when: a date (becomes quarters), a year, or any word that "
                                                        "sorts in time; default: one period")
    parser.add_argument("--target", metavar="COL", help="what happened (default: the column of the training)")
    parser.add_argument("--time", metavar="COL", help="time to it or to the last contact (default: as trained)")
    parser.add_argument("--out", type=Path, metavar="JSON", help="everything as a file")
    parser.add_argument("--json", action="store_true", help="everything as JSON here")
    parser.set_defaults(run=run_drift)


def run_drift(arguments: argparse.Namespace) -> int:
    """Compare and say. Raises InputError (no reference in the model, no such column)."""
    from ..biopsy.outcome.model_file import load_model
    from ..biopsy.outcome.table import read_table
    from ..biopsy.outcome.watch import watch

    found = watch(load_model(arguments.model), read_table(arguments.table), period=arguments.period,
                  target=arguments.target, time=arguments.time)
    text = json.dumps(found.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    if arguments.out is not None:
        with replacing(arguments.out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if arguments.json:
        print(text, end="")
    else:
        _say(found)
    return 0


def _say(found: Any) -> None:
    for note in found.notes:
        print(f"note: {note}")
    for one in sorted(found.inputs.inputs, key=lambda one: (not one.drifted, one.p_corrected or 1.0))[:MOST_LINES]:
        numbers = "" if one.psi is None else f"PSI {one.psi:.2f} (without drift up to {one.psi_limit:.2f})"
        test = one.test.partition(" at the")[0]
        numbers += "" if one.p_corrected is None else f", {test} corrected p {one.p_corrected:.2g}"
        numbers += f", missing {one.missing_before:.0%} -> {one.missing_now:.0%}"
        print(f"{'MOVED' if one.drifted else 'same '} {one.name}: {numbers}{f' ({one.note})' if one.note else ''}")
    if len(found.inputs.inputs) > MOST_LINES:
        print(f"      and {len(found.inputs.inputs) - MOST_LINES} more, in the JSON")
    for label, curve in found.calibration.items():
        for one in curve.periods:
            ratio = one.note if one.o_e is None else (f"observed over expected {one.o_e:.2f} ({one.low:.2f} to "
                                                      f"{one.high:.2f})")
            print(f"{label}, {one.period}: {one.n} patients, {one.observed} events, {one.expected:.1f} expected; "
                  f"{ratio}")
    print(f"{found.n_outside} of {found.n_rows} patients lie outside the training cohort (about "
          f"{found.expected_outside:.0f} of like patients would); {found.n_refused} are refused")
    print("; ".join(found.alarms) if found.alarms else found.inputs.line)
