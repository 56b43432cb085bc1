"""`irai biopsy score`: clinical scores from values with units."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from ..geometry import InputError
from ..images.atomic import replacing

ENDING = "Exit status: 0 done, 2 bad input (a value or unit is missing or wrong), 3 refused by the score's rules."


def add_step(commands) -> None:
    """Add `score` to the steps of `irai biopsy`."""
    from ..biopsy.scores import SCORES

    parser = commands.add_parser("score", help="clinical scores: MELD, Child-Pugh, BCLC, RECIST, Y-90 activity, ...",
                                 epilog=ENDING, description="Works a score out; `irai biopsy score NAME --help` "
                                 "says what it needs. A value that has a unit needs it, it is never guessed.")
    parser.add_argument("--list", action="store_true", dest="list_scores", help="every score and its inputs")
    parser.set_defaults(run=run_list)
    names = parser.add_subparsers(dest="name", metavar="NAME")
    for name, entry in SCORES.items():
        _add_score(names, name, entry)


def _add_score(names, name: str, entry) -> None:
    lines = [entry.title, "", "inputs:", *_input_lines(entry), "", f"formula: {entry.formula}",
             f"source: {entry.source}", f"validated on: {entry.validated_on}"]
    parser = names.add_parser(name, help=entry.title, epilog=ENDING, description="\n".join(lines).replace("%", "%%"),
                              formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="INPUT=VALUE", dest="values",
                        help="one value with its unit, as bilirubin=2.1mg/dL; once for each input")
    parser.add_argument("--input", type=Path, metavar="FILE.json", help="values as a JSON object; --set goes before it")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="the result as JSON (-, or nothing: here)")
    parser.set_defaults(run=run_score, name=name)


def _input_lines(entry) -> list[str]:
    lines = []
    for item in entry.inputs:
        takes = " | ".join(item.units or item.choices) or {"count": "whole number", "flag": "yes | no",
                                                           "lesions": "lesions"}.get(item.kind, "number without a unit")
        extra = f" (default {item.default})" if item.default is not None else " (optional)" if item.optional else ""
        lines.append(f"  {item.name}: {takes}{extra}: {item.what}")
    return lines + [f"  exactly one of {' and '.join(group)}" for group in entry.either]


def run_list(arguments: argparse.Namespace) -> int:
    """List the scores. Raises InputError where neither a score nor --list was given."""
    from ..biopsy.scores import SCORES

    if not arguments.list_scores:
        raise InputError(f"say which score: {', '.join(SCORES)}; --list shows what each needs")
    for name, entry in SCORES.items():
        print(f"{name}: {entry.title}")
        print("\n".join(_input_lines(entry)))
    return 0


def run_score(arguments: argparse.Namespace) -> int:
    """Work it out and show it. Raises InputError, RefusedError."""
    from ..biopsy.scores import score

    result = score(arguments.name, _values(arguments))
    if arguments.json is not None:
        text = json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n"
        if arguments.json == "-":
            print(text, end="")
            return 0
        with replacing(Path(arguments.json)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(f"{result.title}: {_shown(result)}")
    for used in result.inputs:
        value = f"{used.value:.6g} {used.unit}".strip() if isinstance(used.value, float) else used.given
        print(f"  {used.name}: {value}" + (f" ({used.note})" if used.note else ""))
    for name, value in result.details.items():
        print(f"  {name}: {f'{value:.4g}' if isinstance(value, float) else value}")
    for warning in result.warnings:
        print(f"warning: {warning}")
    print(f"source: {result.source}")
    return 0


def _shown(result) -> str:
    number = "" if result.value is None else f"{result.value:d}" if isinstance(result.value, int) else \
        f"{result.value:.{max(2, 3 - math.floor(math.log10(abs(result.value) or 1)) - 1)}f}"
    return ", ".join(part for part in (f"{number} {result.unit}".strip() if number else "", result.grade) if part)


def _values(arguments: argparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if arguments.input is not None:
        try:
            values = json.loads(arguments.input.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{arguments.input}: can't be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{arguments.input}: is no JSON ({error})") from None
        if not isinstance(values, dict):
            raise InputError(f"{arguments.input}: must hold one JSON object, input: value")
    seen: set[str] = set()
    for pair in arguments.values:
        name, equals, value = pair.partition("=")
        name = name.strip()
        if not (equals and name and (value.strip() or name == "targets")):
            raise InputError(f"--set {pair}: write it as INPUT=VALUE, as bilirubin=2.1mg/dL")
        if name in seen:
            raise InputError(f"--set {name}: given twice")
        seen.add(name)
        values[name] = value
    return values
