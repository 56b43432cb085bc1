"""Catheter or guide-wire in fluoroscopy: the network, the classical tracer where it can't run, is no good or doubts."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..geometry import NeedleEstimate, NeedleStatus
from .catheter import find_catheter
from .wire_network import WireNetwork, default_network, find_wire

DOUBT = 0.25
"""Of the network, under which nothing confirms a device."""
SAME_PX, SAME_COSINE = 8.0, 0.8
"""Two tips, and the cosine between two directions, of one device."""
LEAST_FOUND, MOST_WRONG, MOST_ALARMS, LEAST_FRAMES = 0.7, 0.1, 0.05, 20
"""A network answers by itself only when its card says so of held-out simulation: devices found, tips elsewhere of all
devices, alarms of frames without one, each of at least so many frames."""
_log = logging.getLogger("IRAI.fluoroscopy")
CONFIRMED = "wire network, confirmed by line tracing"


def trusted(card: dict[str, Any]) -> bool:
    """Whether a network's card shows that it finds devices well enough to answer without being asked for."""
    seen = card.get("held_out_simulator") or {}
    try:
        devices, empty = int(seen["devices"]), int(seen["without_device"])
        found, wrong, alarms = int(seen["found"]), int(seen["tip_elsewhere"]), int(seen["false_alarms"])
    except (KeyError, TypeError, ValueError):
        return False
    return (min(devices, empty) >= LEAST_FRAMES and found >= LEAST_FOUND * devices and wrong <= MOST_WRONG * devices
            and alarms <= MOST_ALARMS * empty)


@lru_cache(maxsize=1)
def trusted_network() -> WireNetwork | None:
    """The network that comes with IRAI when it is there and `trusted`; None, said once in the log, else."""
    network = default_network()
    if network is not None and not trusted(network.card):
        _log.warning("%s found too little in simulation: catheters are traced classically", network.path.name)
        return None
    return network


def find_device(frames: np.ndarray, *, mm_per_px: float | None = None, previous: NeedleEstimate | None = None,
                time_s: float = 0.0, network: WireNetwork | None = None, confirm: bool = False) -> NeedleEstimate:
    """Tip and course of a catheter or guide-wire in the newest of (t, h, w) frames; arguments as `find_wire`.

    Without onnxruntime or a network that is `trusted` the classical tracer alone answers; `method` says who did.
    Args: confirm: where the network doubts, the classical tracer is asked too (0.5 s at 512 x 512) and a device counts
        when both name one tip; the covariance then holds the distance between them.
    Raises: InputError as `find_wire`.
    """
    network = network or trusted_network()
    options = {"mm_per_px": mm_per_px, "previous": previous, "time_s": time_s}
    if network is None:
        return find_catheter(frames, **options)  # type: ignore[arg-type]
    found = find_wire(frames, network=network, **options)  # type: ignore[arg-type]
    if found.found or not confirm or found.confidence < DOUBT:
        return found
    doubted = find_wire(frames, network=network, threshold=DOUBT, **options)  # type: ignore[arg-type]
    line = find_catheter(frames, **options)  # type: ignore[arg-type]
    if doubted.tip is None or line.tip is None or doubted.direction is None or line.direction is None \
            or doubted.covariance is None:
        return found
    apart = line.tip - doubted.tip
    unit = 1.0 if mm_per_px is None else float(mm_per_px)
    if np.linalg.norm(apart) > SAME_PX * unit or float(line.direction @ doubted.direction) < SAME_COSINE:
        return found
    return replace(doubted, status=NeedleStatus.SEEN, covariance=doubted.covariance + np.outer(apart, apart),
                   method=CONFIRMED)
