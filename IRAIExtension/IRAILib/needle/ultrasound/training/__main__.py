"""`python -m IRAILib.needle.ultrasound.training --out FOLDER --minutes M --seed S`: the one training command."""

from __future__ import annotations

import argparse
import logging
import sys

from ....geometry import CancelledError, IRAIError, RefusedError
from .command import train_network


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 an input can't be used, 3 refused, 130 cancelled."""
    parser = argparse.ArgumentParser(prog="IRAILib.needle.ultrasound.training", description=__doc__)
    parser.add_argument("--out", required=True, help="folder for needle_ultrasound.onnx and its card")
    parser.add_argument("--minutes", type=float, default=50.0, help="of training (CPU or GPU)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", help="keep simulated samples in this folder and use those already there")
    parser.add_argument("--held-out", type=int, default=1600, help="simulated frames to measure on")
    parser.add_argument("--start", help="checkpoint (network.pt) of an earlier run to go on from")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        train_network(options.out, minutes=options.minutes, seed=options.seed, samples=options.samples,
                      held_out=options.held_out, start=options.start, threads=options.threads)
    except (CancelledError, KeyboardInterrupt):
        logging.getLogger("IRAI").error("training was cancelled")
        return 130
    except IRAIError as error:
        logging.getLogger("IRAI").error("%s", error)
        return 3 if isinstance(error, RefusedError) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
