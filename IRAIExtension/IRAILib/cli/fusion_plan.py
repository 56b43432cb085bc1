"""`irai fusion plan`: where the needle may go in, from a CT and its segments; ways through the pedicles."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from ..geometry import InputError, RefusedError, Volume
from ..images.atomic import replacing
from .fusion_structures import Structures, read_structures
from .progress import terminal_progress

HELP = """Straight ways from the skin to a target (RAS mm), ranked, that keep a margin to the segments of LABELS.
LABELS: Slicer's .seg.nrrd, or a label map with --names (CSV with the columns id,name; JSON {"1":"liver"}).
By its name a segment is bone, vessel, lung, bowel or nerve (hard, with a margin of its kind), organ or muscle (soft:
crossing costs), a tumour (left out), or else hard; --hard, --soft and --ignore say otherwise. With --vertebra instead
of --target: the ways through both pedicles, and the C-arm's angles.
Exit status: 0 done, 2 bad input, 3 refused (no free path; the line says what blocks most)."""


def add_step(commands) -> None:
    """Add `plan` to the steps of `irai fusion`."""
    parser = commands.add_parser("plan", help="entry points from a target; ways through pedicles", description=HELP,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser._negative_number_matcher = re.compile(r"^-[\d.]+(,|$)")  # "--target -10,20,-30" is no option of its own
    parser.add_argument("ct", type=Path, metavar="CT")
    parser.add_argument("--target", metavar="X,Y,Z", help="RAS mm")
    parser.add_argument("--obstacles", "--labels", dest="labels", type=Path, metavar="LABELS")
    parser.add_argument("--names", type=Path, metavar="CSV|JSON", help="what the numbers of a label map mean")
    parser.add_argument("--hard", action="append", default=[], metavar="NAME[=MM]", help="never crossed, margin in mm")
    parser.add_argument("--soft", action="append", default=[], metavar="NAME", help="crossing it costs")
    parser.add_argument("--ignore", action="append", default=[], metavar="NAME")
    parser.add_argument("--organ", metavar="NAME", help="holds the target: the angle to its capsule counts")
    parser.add_argument("--max-length", type=float, default=150.0, metavar="MM", help="of the needle (default 150)")
    parser.add_argument("--needle-diameter", type=float, metavar="MM", help="default 1.3; with --vertebra 2.4")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="paths wanted (default 5)")
    parser.add_argument("--candidates", type=int, default=10_000, metavar="N", help="skin points (default 10000)")
    parser.add_argument("--breathing", metavar="R,A,S", help="the target's motion by breathing, end to end, mm")
    parser.add_argument("--in-plane", type=float, default=0.0, metavar="WEIGHT", help="prefer paths in the slice plane")
    parser.add_argument("--max-tilt", type=float, metavar="DEG", help="largest angle out of the slice plane")
    parser.add_argument("--registration-sigma", type=float, default=0.0, metavar="MM", help="1 SD of the plan's place")
    parser.add_argument("--needles", type=int, metavar="N", help="place so many needles (with --tumour and --zone)")
    parser.add_argument("--tumour", metavar="NAME", help="the segment that they cover")
    parser.add_argument("--zone", metavar="ACROSS,ALONG", help="semi-axes of one needle's zone, mm")
    parser.add_argument("--margin", type=float, default=5.0, metavar="MM", help="round the tumour (default 5)")
    parser.add_argument("--free-directions", action="store_true", help="needles need not be parallel")
    parser.add_argument("--vertebra", metavar="L1", help="ways through its pedicles instead of --target")
    parser.add_argument("--canal", metavar="NAME", help="segment of the spinal canal (default: found in the bone)")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.set_defaults(run=run_plan)


def run_plan(arguments: argparse.Namespace) -> int:
    """Raises InputError, RefusedError."""
    from ..images import read_volume

    asked = [word for word in ("target", "vertebra", "needles") if getattr(arguments, word)]
    if len(asked) != 1:
        raise InputError("say what to plan: one of --target X,Y,Z, --needles N or --vertebra NAME")
    if arguments.labels is None:
        raise InputError("--obstacles is missing: a plan without obstacles would call every path free")
    target = _numbers(arguments.target, 3, "--target") if arguments.target else None
    ct = read_volume(arguments.ct)
    structures = read_structures(arguments.labels, arguments.names, ct)
    if arguments.vertebra:
        return _vertebra(arguments, ct, structures)
    planner = _planner(arguments, ct, structures)
    return _needles(arguments, planner, structures) if arguments.needles else _entries(arguments, planner, target)


def _planner(arguments: argparse.Namespace, ct: Volume, structures: Structures):
    from ..navigation.entry_cost import EntryOptions
    from ..navigation.entry_plan import EntryPlanner

    breathing = _numbers(arguments.breathing, 3, "--breathing") if arguments.breathing else (0.0, 0.0, 0.0)
    options = EntryOptions(max_length_mm=arguments.max_length, top=arguments.top, candidates=arguments.candidates,
                           needle_radius_mm=(1.3 if arguments.needle_diameter is None else
                                             arguments.needle_diameter) / 2.0,
                           breathing_ras_mm=(breathing[0], breathing[1], breathing[2]), tilt_weight=arguments.in_plane,
                           max_tilt_deg=arguments.max_tilt, registration_sigma_mm=arguments.registration_sigma)
    ignored = [*arguments.ignore, *([arguments.organ] if arguments.organ else []),
               *([arguments.tumour] if arguments.tumour else [])]
    obstacles = structures.obstacles(dict(_hard(word) for word in arguments.hard), arguments.soft, ignored)
    organ = structures.mask(arguments.organ) if arguments.organ else None
    return EntryPlanner(ct, obstacles, organ=organ, options=options, progress=terminal_progress("plan"))


def _entries(arguments: argparse.Namespace, planner, target) -> int:
    plan = planner.plan(target)
    _write({**plan.to_dict(), "obstacles": _told(planner)}, arguments.json)
    if plan.refused:
        raise RefusedError(plan.refused)
    best = plan.paths[0]
    closest = best.closest
    near = f", {closest.distance_mm:.1f} mm from '{closest.name}'" if closest else ""
    r, a, s = best.entry_ras
    print(f"{len(plan.paths)} paths; the best from {r:.1f}, {a:.1f}, {s:.1f} mm (RAS): {best.length_mm:.0f} mm{near}; "
          f"{arguments.json}")
    return 0


def _needles(arguments: argparse.Namespace, planner, structures: Structures) -> int:
    from ..navigation.entry_needles import place_needles

    if not (arguments.tumour and arguments.zone):
        raise InputError("--needles needs --tumour NAME and --zone ACROSS,ALONG (semi-axes in mm)")
    across, along = _numbers(arguments.zone, 2, "--zone")
    found = place_needles(planner, structures.mask(arguments.tumour), arguments.needles, (across, along),
                          margin_mm=arguments.margin, parallel=not arguments.free_directions)
    _write({**found.to_dict(), "obstacles": _told(planner)}, arguments.json)
    print(f"{len(found.paths)} needles cover {found.coverage_percent:.1f} % of the tumour with {arguments.margin:g} mm "
          f"round it, {found.tumour_percent:.1f} % of the tumour; {arguments.json}")
    return 0


def _vertebra(arguments: argparse.Namespace, ct: Volume, structures: Structures) -> int:
    from ..navigation.pedicle import PedicleOptions, plan_vertebra
    from ..navigation.vertebra_labels import read_labels

    tell = terminal_progress("vertebra")
    tell(0.0, "reading the labels")
    labels = read_labels(structures.spine())
    diameter = 2.4 if arguments.needle_diameter is None else arguments.needle_diameter
    if not 0.0 < diameter <= 10.0:
        raise InputError(f"--needle-diameter: {diameter:g} mm given; more than 0 and at most 10 mm can be used")
    canal = structures.mask(arguments.canal) if arguments.canal else None
    plan = plan_vertebra(labels, arguments.vertebra, ct=ct, canal=canal, progress=tell,
                         options=PedicleOptions(needle_radius_mm=diameter / 2.0))
    document = {**plan.to_dict(), "labels": labels.to_dict()}
    _write(document, arguments.json)
    if not plan.paths:
        raise RefusedError("; ".join(plan.refused.values()))
    for flag in plan.flags:
        print(f"note: {flag.reason}")
    for reason in plan.refused.values():
        print(f"refused: {reason}")
    for path in plan.paths:
        primary, secondary = path.bulls_eye_deg
        print(f"{plan.name} {path.side}: clearance {path.clearance.distance_mm:.1f} +/- {path.sigma_mm:.1f} mm "
              f"({path.towards}), bull's eye {'LAO' if primary >= 0 else 'RAO'} {abs(primary):.0f}, "
              f"{'CRA' if secondary >= 0 else 'CAU'} {abs(secondary):.0f}; {arguments.json}")
    return 0


def _told(planner) -> list[dict[str, Any]]:
    return [{"name": name, "kind": o.kind, "hard": o.hard, "margin_mm": o.margin_mm if o.hard else None}
            for name, o in planner.obstacles.items()]


def _hard(word: str) -> tuple[str, float | None]:
    name, equals, number = word.rpartition("=")
    if not equals:
        return word, None
    return name, _numbers(number, 1, f"--hard {word}")[0]


def _numbers(text: str, count: int, what: str) -> list[float]:
    import math

    try:
        values = [float(word) for word in text.replace(" ", ",").split(",") if word]
    except ValueError:
        values = []
    if len(values) != count or not all(math.isfinite(v) for v in values):
        raise InputError(f"{what}: {text!r} given; {count} number{'s' * (count > 1)} with commas between are needed")
    return values


def _write(document: dict[str, Any], path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


