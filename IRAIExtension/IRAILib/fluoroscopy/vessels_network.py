"""Vessels by a small network, run by onnxruntime on the CPU: no torch, no training code.

The network (`vessels_train`) sees the frame at work (`vessels_work`) in three channels and gives the logit of vessel
in each pixel. It is fully convolutional: a frame of any size goes through in one piece, at about the size of its
training frames.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..weights.network_file import open_session, read_card, require_onnxruntime
from .vessels_work import Work, channels

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "vessels_xray.onnx"
MULTIPLE = 16
FLIPS = ((), (1,), (2,), (1, 2))
WHAT = "the vessel network"
COMMAND = "python -m IRAILib.fluoroscopy.vessels_train_command"


def load_card(path: Path) -> dict[str, Any]:
    """The card beside the weights. Raises: InputError when it is missing, damaged, or of other weights."""
    names = ("threshold", "seed", "least_px")
    return read_card(path, WHAT, COMMAND, lambda card: [float(card["operation"][name]) for name in names])


class VesselNetwork:
    """The network and its card.

    Args:
        path: ONNX file with its card beside it; None: the one that comes with IRAI.
        threads: of onnxruntime.
    Raises: MissingPackageError without onnxruntime; InputError when the file or its card can't be used.
    """

    def __init__(self, path: str | Path | None = None, *, threads: int = 2):
        require_onnxruntime(WHAT, "or take the classical method: frangi")
        self.path = Path(path) if path is not None else WEIGHTS
        self.card = load_card(self.path)
        self.validated_on = str(self.card["validated_on"])
        self._session = open_session(self.path, WHAT, threads)

    @property
    def operation(self) -> dict[str, float]:
        """`threshold` and `seed` of the hysteresis on the probability, `least_px` of a piece, pixels at work."""
        return {key: float(value) for key, value in self.card["operation"].items()}

    def probability(self, work: Work, ridges: np.ndarray, *, flips: bool = True) -> np.ndarray:
        """(h, w) float32 at work, 0 outside the field. `flips`: the mean over four mirrored frames; slower, better."""
        values = channels(work, ridges)
        h, w = values.shape[1:]
        padded = np.pad(values, [(0, 0), (0, -h % MULTIPLE), (0, -w % MULTIPLE)], mode="edge")
        total = np.zeros(padded.shape[1:], np.float64)
        chosen = FLIPS if flips else FLIPS[:1]
        for axes in chosen:
            turned = np.ascontiguousarray(np.flip(padded, axes))[None]
            logits = np.asarray(self._session.run(None, {"frame": turned})[0])
            one = 1.0 / (1.0 + np.exp(-np.clip(logits[0, 0].astype(np.float64), -30.0, 30.0)))
            total += np.flip(one, tuple(axis - 1 for axis in axes))
        return np.where(work.field, (total / len(chosen))[:h, :w], 0.0).astype(np.float32)


@lru_cache(maxsize=1)
def default_network() -> VesselNetwork:
    """The network that comes with IRAI, loaded once. Raises as `VesselNetwork`."""
    return VesselNetwork()
