"""One BLAS thread for small matrices: two threads that wait for each other on a busy machine cost 100 times more."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache


@lru_cache(maxsize=1)
def _controller():
    import scipy.linalg  # noqa: F401  (loads the library whose threads are to be limited)

    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


def single_blas_thread() -> AbstractContextManager:
    """Context in which BLAS uses one thread; does nothing where `threadpoolctl` isn't installed."""
    controller = _controller()
    return nullcontext() if controller is None else controller.limit(limits=1, user_api="blas")
