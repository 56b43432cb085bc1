"""`irai biopsy`: what image and chart say before the needle."""

from __future__ import annotations

import importlib

STEPS = ("features", "stability", "score", "train", "predict", "drift")
"""Each step's module is `biopsy_STEP` and has `add_step(commands)`."""


def add_parser(commands) -> None:
    """Add `biopsy` to the commands."""
    group = commands.add_parser("biopsy", help="what image and chart say before the needle: clinical scores")
    sub = group.add_subparsers(dest="step", metavar="STEP", required=True)
    for step in STEPS:
        importlib.import_module(f".biopsy_{step}", __package__).add_step(sub)
