"""Large receive buffers that come back when nobody looks at them any more (33 MB afresh cost 13 ms)."""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np

GRAIN = 1 << 16


class BufferPool:
    """Lends buffers; each returns by itself when the last view of it is gone, and never before.

    The lease is a numpy array whose life ends with its last view (memoryviews, arrays and their slices all keep it),
    so what somebody holds is never written again. Buffers lent are not counted: the caller limits them.
    """

    def __init__(self, keep: int = 4, keep_bytes: int = 256 << 20):
        self._keep, self._keep_bytes = keep, keep_bytes
        self._free: deque[np.ndarray] = deque()  # append and pop are atomic: a buffer may come back in any thread

    def lend(self, size: int) -> memoryview:
        """A writable view of `size` bytes, whatever they hold."""
        whole = self._fitting(size)
        if whole is None:
            whole = np.empty(-(-size // GRAIN) * GRAIN, np.uint8)
        lease = whole[:size]
        weakref.finalize(lease, self._take_back, whole).atexit = False
        return memoryview(lease)  # type: ignore[arg-type]

    def copy(self, part: memoryview) -> memoryview:
        """The same bytes in a buffer that nobody else writes."""
        if part.readonly:
            return part
        if part.nbytes < GRAIN:
            return memoryview(part.tobytes())
        view = self.lend(part.nbytes)
        view[:] = part
        return view

    def clear(self) -> None:
        """Give free buffers back to the system."""
        self._free.clear()

    @property
    def free(self) -> int:
        return len(self._free)

    def _fitting(self, size: int) -> np.ndarray | None:
        for _ in range(len(self._free)):
            try:
                whole = self._free.popleft()
            except IndexError:
                return None
            if size <= whole.nbytes <= 2 * size + GRAIN:
                return whole
            self._free.append(whole)
        return None

    def _take_back(self, whole: np.ndarray) -> None:
        if whole.nbytes <= self._keep_bytes // self._keep:
            self._free.append(whole)
            while len(self._free) > self._keep:
                try:
                    self._free.popleft()  # the one unused for longest
                except IndexError:
                    return
