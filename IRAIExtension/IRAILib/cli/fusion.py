"""`irai fusion`: calibrate; where the plan lies in the live image."""

from __future__ import annotations

import importlib

STEPS = ("calibrate", "reconstruct", "register", "drr", "xray", "dsa", "vessels", "plan")
"""Each step's module is `fusion_STEP` and has `add_step(commands)`."""


def add_parser(commands) -> None:
    """Add `fusion` to the commands."""
    group = commands.add_parser("fusion", help="the plan in the live image: calibrate tools, probes and clocks")
    sub = group.add_subparsers(dest="step", metavar="STEP", required=True)
    for step in STEPS:
        importlib.import_module(f".fusion_{step}", __package__).add_step(sub)
