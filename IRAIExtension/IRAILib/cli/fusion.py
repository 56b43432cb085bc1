"""`irai fusion`: calibrate; where the plan lies in the live image."""

from __future__ import annotations

from .fusion_calibrate import add_calibrate


def add_parser(commands) -> None:
    """Add `fusion` to the commands."""
    group = commands.add_parser("fusion", help="the plan in the live image: calibrate tools, probes and clocks")
    sub = group.add_subparsers(dest="step", metavar="STEP", required=True)
    add_calibrate(sub)
