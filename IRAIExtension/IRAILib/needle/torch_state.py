"""Training leaves torch as it was: its threads and its random numbers belong to the whole program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_kept() -> Iterator[None]:
    """What is set inside (threads, seeds) is undone at the end. Raises ImportError without torch."""
    import torch

    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
