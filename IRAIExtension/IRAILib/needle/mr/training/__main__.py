"""`python -m IRAILib.needle.mr.training --scans FILE... --out FOLDER --minutes M`: the one training command."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from ....geometry import IRAIError, RefusedError
from .command import train_network


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 an input can't be used, 3 refused, 130 cancelled."""
    parser = argparse.ArgumentParser(prog="IRAILib.needle.mr.training", description=__doc__)
    parser.add_argument("--scans", required=True, nargs="+", type=Path, help="needle-free MR volumes")
    parser.add_argument("--out", required=True, type=Path, help="folder for needle_mr.onnx and its card")
    parser.add_argument("--count", type=int, default=800, help="samples to cut and paint")
    parser.add_argument("--minutes", type=float, default=25.0, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=Path, help="keep samples in this folder and use those already there")
    parser.add_argument("--start", type=Path, help="needle_mr.pt of an earlier run to go on from")
    parser.add_argument("--check", type=int, default=6, help="painted needles a scan for the operating point")
    parser.add_argument("--threads", type=int, default=1)
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        train_network(options.pop("out"), options.pop("scans"), **options)
    except KeyboardInterrupt:
        logging.getLogger("IRAI").error("training was cancelled")
        return 130
    except IRAIError as error:
        logging.getLogger("IRAI").error("%s", error)
        return 3 if isinstance(error, RefusedError) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
