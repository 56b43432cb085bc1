"""Training leaves torch as it was: its threads and its random numbers belong to the whole program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..geometry import MissingPackageError


@contextmanager
def torch_kept() -> Iterator[None]:
    """What is set inside (threads, seeds) is undone at the end. Raises MissingPackageError without torch."""
    try:
        import torch
    except ImportError:
        raise MissingPackageError("training a network needs torch: pip install torch") from None
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
