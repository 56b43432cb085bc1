"""Links that are alive: closed when Python ends, forgotten by a forked child."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol


class Closable(Protocol):
    def closing(self) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


_alive: weakref.WeakSet = weakref.WeakSet()


def began(link: Closable) -> None:
    _alive.add(link)


def ended(link: Closable) -> None:
    _alive.discard(link)


def _close_all() -> None:
    """All are told before any is closed: one end's goodbye is no loss to the other end in the same program."""
    links = list(_alive)
    for link in links:
        link.closing()
    for link in links:
        link.close()


def _abandon_all() -> None:
    """The child has the sockets and none of the threads: its copies are closed, the parent's connections live on."""
    for link in list(_alive):
        link.abandon()
    _alive.clear()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
