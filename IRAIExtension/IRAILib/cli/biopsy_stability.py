"""`irai biopsy stability`: which features survive small changes of image and mask, over a cohort."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from ..geometry import InputError
from ..images.atomic import replacing
from .biopsy_features_more import DEFAULT_PERTURBATIONS, add_limit_options, check_limit, document_of
from .progress import terminal_progress

TEXT = """Measures every case of a manifest (CSV with image, mask and, where a patient has several rows, case; as for
`irai cohort run --task radiomics`) several times, each time turned, shifted, grown or shrunk, with another contour and
with noise at the image's own level, and gives each feature's intraclass correlation with its 95 % interval. A feature
is unstable where the lower bound lies below the limit. No outcome is looked at; take training patients only anyway.
`irai biopsy features --stable FILE.json` then leaves the unstable ones out."""
ENDING = "Exit status: 0 done, 2 bad input (the case is named), 3 refused (region too large)."


def add_step(commands) -> None:
    """Add `stability` to the steps of `irai biopsy`."""
    parser = commands.add_parser("stability", help="ICC of every feature under small changes of image and mask",
                                 description=TEXT, epilog=ENDING, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, metavar="MANIFEST.csv")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="result: .json or .csv")
    parser.add_argument("--config", type=Path, metavar="YAML", help="settings of `irai biopsy features`")
    parser.add_argument("-n", "--measurements", dest="stability", type=int, default=DEFAULT_PERTURBATIONS, metavar="N",
                        help="of each case (%(default)s)")
    add_limit_options(parser)
    parser.add_argument("--timeout", type=float, metavar="S", help="give up after so many seconds")
    parser.set_defaults(run=run_stability)


def run_stability(arguments: argparse.Namespace) -> int:
    """Measure in a worker, write. Raises InputError, RefusedError."""
    from ..biopsy.radiomics.stability import stability_table
    from ..jobs import run_job

    out = arguments.out
    if out.suffix.lower() not in (".json", ".csv"):
        raise InputError(f"{out}: the result is written as .json or .csv; choose one of these names")
    if out.exists() and arguments.manifest.exists() and out.samefile(arguments.manifest):
        raise InputError(f"{out}: is the manifest; choose another name for the result")
    check_limit(arguments)
    found = run_job("IRAILib.cohort.stability:stability_of_manifest",
                    {"manifest": arguments.manifest, "config": arguments.config, "n": arguments.stability,
                     "seed": arguments.seed}, progress=terminal_progress("stability"), timeout_s=arguments.timeout)
    drop = found.unstable(arguments.limit, arguments.icc)
    rows = stability_table(found, arguments.limit, arguments.icc)
    with replacing(out) as temporary:
        if out.suffix.lower() == ".json":
            document = document_of(found, drop, arguments)
            temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        else:
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    for warning in found.warnings:
        print(f"note: {warning}")
    print(f"{len(rows) - len(drop)} of {len(rows)} features are stable over {len(found.cases)} "
          f"case{'s' * (len(found.cases) != 1)}, {found.n} measurements each; {out}, settings {found.settings.hash}")
    return 0
