"""`flwr-clientapp` as a site runs it: the site's own code, never the code that the coordinator ships.

Flower sends the run's app (a FAB) from the SuperLink to every SuperNode and runs it beside the data: whoever may
start a run could read the table. This stand-in for the `flwr-clientapp` program takes the message and hands it to the
IRAI that the site itself has installed. The shipped app is neither unpacked nor loaded.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run as Flower's `flwr-clientapp`, same arguments. Ends with 3 when this Flower can't be held to it."""
    from flwr.supernode.cli.flwr_clientapp import flwr_clientapp
    from flwr.supernode.runtime import run_clientapp

    from .client_app import app

    replaced = {"install_from_fab": lambda *_, **__: None, "get_project_dir": lambda *_, **__: None,
                "get_load_client_app_fn": lambda **_: lambda *_: app}
    if not all(hasattr(run_clientapp, name) for name in replaced):
        sys.stderr.write("irai: this version of Flower can't be kept from running shipped code; install flwr 1.41\n")
        return 3
    for name, stand_in in replaced.items():
        setattr(run_clientapp, name, stand_in)
    flwr_clientapp()
    return 0


if __name__ == "__main__":
    sys.exit(main())
