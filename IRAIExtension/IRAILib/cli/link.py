"""`irai link`: play recordings to others, record what others send, watch a link, stand in for a robot."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..geometry import InputError
from .link_robot import add_robot_sim_parser

DEFAULT_PORT = 18944


def add_parser(subparsers) -> None:
    """Add `link` to the commands of `irai`."""
    parser = subparsers.add_parser("link", help="OpenIGTLink: replay, record, monitor, robot simulator")
    kinds = parser.add_subparsers(dest="link_command", metavar="KIND", required=True)
    _add_replay(kinds)
    _add_record(kinds)
    _add_monitor(kinds)
    add_robot_sim_parser(kinds)


def _kind(kinds, name: str, help_text: str, example: str) -> argparse.ArgumentParser:
    return kinds.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.",
                            epilog=f"example: {example}")


def _add_replay(kinds) -> None:
    parser = _kind(kinds, "replay", "serve a recording as a PLUS server would",
                   "irai link replay SpinePhantomFreehand.igs.mha --config PlusDeviceSet.xml --loop")
    parser.add_argument("file", type=Path, help="PLUS .igs.mha or .igs.nrrd, plain .mha or .nrrd, Slicer .seq.nrrd")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes any free one (default %(default)s)")
    parser.add_argument("--host", default="127.0.0.1",
                        help="address to listen on; 0.0.0.0 lets other machines in (default %(default)s)")
    parser.add_argument("--speed", type=float, default=1.0, help="2 is twice as fast (default 1)")
    parser.add_argument("--fps", type=float, help="frames a second instead of the recorded time stamps")
    parser.add_argument("--loop", action="store_true", help="begin again after the end")
    parser.add_argument("--config", type=Path, metavar="XML",
                        help="PLUS configuration whose CoordinateDefinitions (ImageToProbe...) calibrate the recording")
    parser.add_argument("--transform", action="append", default=[], metavar="AToB",
                        help="send this one too, composed of the others; may be repeated")
    parser.add_argument("--send-invalid", action="store_true", help="send lost tools too, with their status")
    parser.add_argument("--now", action="store_true", help="begin at once; otherwise with the first client")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after so long")
    parser.set_defaults(run=run_replay)


def _add_record(kinds) -> None:
    parser = _kind(kinds, "record", "write what a server sends to a sequence file",
                   "irai link record 192.168.0.7:18944 --out scan.igs.mha --seconds 30")
    parser.add_argument("peer", metavar="HOST[:PORT]", help=f"the server (port {DEFAULT_PORT} if none is given)")
    parser.add_argument("--out", type=Path, required=True, help=".igs.mha, .igs.mhd, .igs.nrrd or .seq.nrrd")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after so long (else with Ctrl-C)")
    parser.add_argument("--max-gb", type=float, metavar="N", help="end when the pixels reach so many gigabytes")
    parser.add_argument("--uncompressed", action="store_true", help="larger files, written faster")
    parser.add_argument("--reconnect", action="store_true", help="go on when the peer is lost and comes back")
    _add_client_options(parser)
    parser.set_defaults(run=run_record)


def _add_monitor(kinds) -> None:
    parser = _kind(kinds, "monitor", "show rates, latency, age and lost tools of a server, live",
                   "irai link monitor localhost --once --json")
    parser.add_argument("peer", metavar="HOST[:PORT]", help=f"the server (port {DEFAULT_PORT} if none is given)")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after so long (else with Ctrl-C)")
    parser.add_argument("--once", action="store_true", help="listen for 2 s (or --seconds), print once, end")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    parser.add_argument("--stale", type=float, default=0.5, metavar="S", help="older is lost (default %(default)s s)")
    _add_client_options(parser)
    parser.set_defaults(run=run_monitor)


def _add_client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", type=float, default=5.0, metavar="S",
                        help="give up when nothing answers for so long (default %(default)s s)")
    parser.add_argument("--v2", action="store_true", help="ask for version 2 (statuses, metadata): PLUS answers it, "
                        "programs of OpenIGTLink before version 2 lose step by it")


def run_replay(arguments: argparse.Namespace) -> int:
    """Play to the end, until --seconds or Ctrl-C. Returns the exit status."""
    from .link_run import printing, replay

    with printing():
        return replay(arguments)
    return 0


def run_record(arguments: argparse.Namespace) -> int:
    """Record until --seconds, Ctrl-C or the end of the peer. Returns the exit status."""
    from .link_run import printing, record

    with printing():
        return record(arguments, *split_peer(arguments.peer))
    return 0


def run_monitor(arguments: argparse.Namespace) -> int:
    """Show the link until --seconds or Ctrl-C. Returns the exit status."""
    from .link_run import monitor, printing

    with printing():
        return monitor(arguments, *split_peer(arguments.peer))
    return 0


def split_peer(text: str) -> tuple[str, int]:
    """("host", port) of HOST, HOST:PORT, [::1]:PORT or ::1. Raises InputError."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if closed and rest[:1] in ("", ":") else "?"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise InputError(f"{text!r} is no HOST or HOST:PORT (port 1 to 65535)")
    return host, int(port or DEFAULT_PORT)
