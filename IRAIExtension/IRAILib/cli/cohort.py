"""`irai cohort run`: many cases, on this machine or on a Dask cluster."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..geometry import InputError
from .progress import terminal_progress

RUN_HELP = """Works every row of a manifest through a task, in parallel, and writes one table. The manifest is a CSV
with a header; files are looked for from its own folder.
  radiomics         image, mask (and mask_label, image_series): every feature of the region
  margin            tumor, ablation (and organ, organ_pre, vessels, pre, post, landmarks_pre, landmarks_post):
                    with pre and post the scans are registered first, and a registration that fails is refused
  outcome-features  patient, image, mask (and ablation, organ): features of the region, of the tissue round it and of
                    the ablation zone, scores of columns with units, beside all other columns: what
                    `irai biopsy train DIR` takes
`case` names a row (needed where a patient has several), `patient` groups rows; other columns are carried along.
DIR then holds features.parquet and .csv (margins.* for margin), columns.json (units and names), errors.csv (cases
without a result, with the reason) and cases/ (one JSON each). The same command goes on where a run was ended: cases
done from the same files and settings are not done again, failed ones are."""
ENDING = ("Exit status: 0 every case done or refused by its own rules, 1 some failed (errors.csv), 2 bad input, "
          "130 interrupted.")


def add_parser(commands) -> None:
    """Add `cohort` to the commands."""
    group = commands.add_parser("cohort", help="many cases at once, here or on a Dask cluster")
    sub = group.add_subparsers(dest="step", metavar="STEP", required=True)
    parser = sub.add_parser("run", help="every case of a manifest", description=RUN_HELP, epilog=ENDING,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, metavar="MANIFEST.csv")
    parser.add_argument("--task", required=True, choices=("radiomics", "margin", "outcome-features"))
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the results (default: beside the manifest, "
                                                                "named as it is, with the task: MANIFEST-TASK)")
    parser.add_argument("--config", type=Path, metavar="YAML", help="settings: those of `irai biopsy features`; for "
                        "margin the groups margin: and registration:")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler (tcp://host:8786); its workers need "
                        "this version of IRAI and see the files under the same paths. Dask trusts whoever connects: "
                        "use it inside your own network, or with tls:// and certificates")
    parser.add_argument("--workers", type=int, metavar="N", help="processes on this machine (default: one a core)")
    parser.add_argument("--timeout", type=float, metavar="S", help="end a case after so many seconds")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run left in DIR")
    for name, what in (("ca", "authority"), ("cert", "certificate"), ("key", "key")):
        parser.add_argument(f"--tls-{name}", type=Path, metavar="PEM", help=f"{what} for a tls:// scheduler")
    parser.add_argument("--json", action="store_true", help="the counts as JSON on standard output")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it. Returns 0, or 1 where a case failed; raises InputError, CancelledError."""
    from ..cohort.run import run_cohort

    out = arguments.out or arguments.manifest.parent / f"{arguments.manifest.stem}-{arguments.task}"
    summary = run_cohort(arguments.manifest, arguments.task, out, config=arguments.config,
                         scheduler=arguments.scheduler, workers=arguments.workers, timeout_s=arguments.timeout,
                         fresh=arguments.fresh, tls=_tls(arguments), progress=terminal_progress(arguments.task))
    if arguments.json:
        print(json.dumps(summary.to_dict(), indent=2))
    else:
        parts = [f"{summary.done} of {summary.cases} cases done"]
        parts += [f"{summary.skipped} of them earlier"] if summary.skipped else []
        counts = ((summary.refused, "refused"), (summary.failed, "failed"))
        parts += [f"{count} {word}" for count, word in counts if count]
        trouble = f"; see {out / 'errors.csv'}" if summary.refused or summary.failed else ""
        print(f"{', '.join(parts)} in {summary.seconds:.1f} s; {summary.table}.parquet and .csv{trouble}")
    return 1 if summary.failed else 0


def _tls(arguments: argparse.Namespace) -> dict[str, str] | None:
    given = {name: getattr(arguments, f"tls_{name}") for name in ("ca", "cert", "key")}
    if not any(given.values()):
        return None
    for name, path in given.items():
        if path is None:
            raise InputError(f"--tls-{name} is missing; a tls:// scheduler needs --tls-ca, --tls-cert and --tls-key")
        if not path.is_file():
            raise InputError(f"--tls-{name} {path}: no such file")
    if not (arguments.scheduler or "").startswith("tls://"):
        raise InputError("certificates need the address of a scheduler that uses them: --scheduler tls://host:8786")
    return {name: str(path) for name, path in given.items()}
