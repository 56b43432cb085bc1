"""The `irai` command. Exit status: 0 done, 2 bad input (one line on stderr), 3 refused, 130 interrupted."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys

from .. import RESEARCH_NOTICE, __version__
from ..geometry import CancelledError, InputError, IRAIError, RefusedError

OK, BAD_INPUT, REFUSED, FAILED, INTERRUPTED = 0, 2, 3, 1, 130


MODULES = ("ablation", "register", "segment", "needle", "fusion", "biopsy", "cohort", "federated", "link", "demo",
           "selftest")
ELSEWHERE = {"transform-points": "register"}
"""Commands that don't stand in the module of their name."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The whole command line; only `command`'s part where that is known, so that a link starts in a blink."""
    home = ELSEWHERE.get(command or "", command)
    parser = argparse.ArgumentParser(prog="irai", description=f"IRAI for interventional radiology. {RESEARCH_NOTICE}")
    parser.add_argument("--version", action="version", version=f"irai {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more on stderr, and show tracebacks")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in (home,) if home in MODULES else MODULES:
        importlib.import_module(f".{name}", __package__).add_parser(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns the exit status (argparse itself exits with 2 on a wrong option)."""
    words = sys.argv[1:] if argv is None else argv
    verbose = False
    try:
        arguments = build_parser(next((word for word in words if not word.startswith("-")), None)).parse_args(words)
        verbose = arguments.verbose
        logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s: %(message)s",
                            stream=sys.stderr)
        return int(arguments.run(arguments) or OK)
    except RefusedError as error:
        return _say(error, REFUSED, verbose)
    except InputError as error:
        return _say(error, BAD_INPUT, verbose)
    except (CancelledError, KeyboardInterrupt) as error:
        return _say(error if str(error) else "interrupted", INTERRUPTED, False)
    except IRAIError as error:
        return _say(error, FAILED, verbose)


def _say(error: BaseException | str, status: int, verbose: bool) -> int:
    if verbose and isinstance(error, BaseException):
        logging.getLogger("IRAI").exception("traceback")
    print(f"irai: {' '.join(str(error).split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
