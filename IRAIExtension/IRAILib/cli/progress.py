"""Progress on a terminal: one line that is rewritten; a line a step where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable


def terminal_progress(label: str) -> Callable[[float, str], None]:
    """A function (share 0 to 1, text) for long work; writes to stderr."""
    last = [""]

    def tell(share: float, text: str) -> None:
        if sys.stderr.isatty():
            end = "\n" if share >= 1.0 else ""
            print(f"\r{label}: {100 * share:3.0f} % {text:<60.60}", end=end, file=sys.stderr, flush=True)
        elif text != last[0]:
            print(f"{label}: {100 * share:3.0f} % {text}", file=sys.stderr, flush=True)
        last[0] = text

    return tell
