"""Which cells hold a needle's shaft, by a small network run by onnxruntime on the CPU: no torch, no training code.

The network (`training.model`) sees the scan's cells of about 2 mm (`work.Work`) and gives, for each, the probability
that a straight void's shaft runs through it. It was trained on voids painted into real MR; see the card beside the
weights.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ...geometry import MissingPackageError
from ...weights.network_file import open_session, read_card
from .work import COARSE, Work

WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "needle_mr.onnx"
MULTIPLE = 4
WHAT = "the MR needle network"
COMMAND = "python -m IRAILib.needle.mr.training"
_log = logging.getLogger("IRAI.needle.mr")


def channels(work: Work) -> np.ndarray:
    """(2, K, J, I) float32: mean and least of each cell's voxels, in parts of the tissue round it; 0 is that level."""
    return np.stack([2.0 * work.cells - work.least, work.least]).astype(np.float32) - 1.0


class VoidNetwork:
    """The network and its card.

    Args:
        path: ONNX file with its card beside it; None: the one that comes with IRAI.
    Raises: InputError when the file or its card can't be used; MissingPackageError without onnxruntime.
    """

    def __init__(self, path: str | Path | None = None, *, threads: int = 2):
        self.path = Path(path) if path is not None else WEIGHTS
        self.card = load_card(self.path)
        self._session = open_session(self.path, WHAT, threads)

    @property
    def least_shaft(self) -> float:
        """Mean probability along a line from which it is taken for a needle."""
        return float(self.card["operation"]["least_shaft"])

    def shaft(self, work: Work) -> np.ndarray:
        """(K, J, I) float32 probability of a shaft in each cell; 0 outside the body."""
        cells = channels(work)
        window = _body_window(work)
        part = cells[(slice(None), *window)]
        pad = [(0, 0)] + [(0, -n % MULTIPLE) for n in part.shape[1:]]
        logits = np.asarray(self._session.run(None, {"cells": np.pad(part, pad, mode="edge")[None]})[0])[0, 0]
        out = np.zeros(cells.shape[1:], np.float32)
        part_shape = tuple(slice(0, n) for n in part.shape[1:])
        out[window] = 1.0 / (1.0 + np.exp(-np.clip(logits[part_shape], -30.0, 30.0)))
        return out


def _body_window(work: Work) -> tuple[slice, ...]:
    """Cells that hold the body and a little round it."""
    found = ndimage.find_objects((work.depth > 0.0).astype(np.int8))
    if not found or found[0] is None:
        return tuple(slice(0, n) for n in work.cells.shape)
    return tuple(slice(max(0, s.start * COARSE - 4), min(n, s.stop * COARSE + 4))
                 for s, n in zip(found[0], work.cells.shape, strict=True))


def load_card(path: Path) -> dict[str, Any]:
    """The card beside the weights. Raises: InputError when it is missing, damaged, or of other weights."""
    return read_card(path, WHAT, COMMAND, lambda card: float(card["operation"]["least_shaft"]))


@lru_cache(maxsize=1)
def default_network() -> VoidNetwork | None:
    """The network that comes with IRAI; None, said once in the log, without onnxruntime or the weights."""
    alone = "needles in MR are looked for by the void model alone"
    if not WEIGHTS.is_file():
        _log.warning("%s is missing: %s (make it with %s)", WEIGHTS.name, alone, COMMAND)
        return None
    try:
        return VoidNetwork()
    except MissingPackageError:
        _log.warning("onnxruntime is missing: %s (pip install onnxruntime)", alone)
        return None
