"""A peer on this machine and a bridge to it, for tests of the link in the scene."""

from __future__ import annotations

import time
from contextlib import contextmanager

PATIENCE_S = 10.0


class Clock:
    """The monotonic clock, which a test can move on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@contextmanager
def linked(scene, **options):
    """(server, bridge, clock): a real LinkServer and a LinkBridge with a real client connected to it."""
    from IRAILib.link.client import LinkClient
    from IRAILib.link.server import LinkServer
    from IRAILib.scene.link import LinkBridge

    clock = Clock()
    server = LinkServer(0).start()
    bridge = LinkBridge(LinkClient("127.0.0.1", server.port, backoff_s=(0.02, 0.1)).start(), scene, clock=clock,
                        **options)
    try:
        assert bridge.pump_until(lambda: bridge.connected and bool(server.clients()), PATIENCE_S)
        yield server, bridge, clock
    finally:
        bridge.close()
        server.close()


def received(bridge, condition) -> None:
    assert bridge.pump_until(condition, PATIENCE_S), f"not received: {bridge.streams} {bridge.last_error}"


def named(scene, name: str, class_name: str):
    return scene.GetFirstNode(name, class_name)
