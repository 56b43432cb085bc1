"""`irai selftest`: the tests of the modules, the same that Slicer's own runner runs, on headless Slicer."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time
from pathlib import Path

from ..geometry import InputError

TREE = Path(__file__).resolve().parents[3]
LOGGER = logging.getLogger("IRAI")


def add_parser(subparsers) -> None:
    """Add `selftest` to the sub-commands of `irai`."""
    parser = subparsers.add_parser(
        "selftest", help="run the modules' own tests without a desktop",
        description="Runs the <Module>Test class of every module of the source tree on headless Slicer.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="names of modules; default: all that are there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 when every test passes, 1 when one fails. Raises InputError for an unknown module."""
    present = module_files()
    unknown = [name for name in arguments.modules if name not in present]
    if not present or unknown:
        raise InputError(f"no module {', '.join(unknown) or 'at all'} in {TREE}; this command runs from a source tree, "
                         f"which holds: {', '.join(present) or 'none'}")
    from .. import headless

    headless.start()
    failed = [name for name in arguments.modules or present if not _passes(name, present[name])]
    return 1 if failed else 0


def module_files(tree: Path = TREE) -> dict[str, Path]:
    """Name and folder of every scripted module of the source tree."""
    folders = (path.parent for path in sorted(tree.glob("*/CMakeLists.txt")))
    return {folder.name: folder for folder in folders if (folder / f"{folder.name}.py").is_file()}


def _passes(name: str, folder: Path) -> bool:
    for path in (TREE / "IRAIExtension", folder):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    start = time.perf_counter()
    test = getattr(importlib.import_module(name), f"{name}Test")()
    test.messageDelay = 0
    try:
        test.runTest()
    except Exception:  # a failing test may raise anything; it is reported, not hidden
        LOGGER.exception("%s: self-test failed", name)
        print(f"{name}: FAILED")
        return False
    print(f"{name}: passed in {time.perf_counter() - start:.1f} s")
    return True
