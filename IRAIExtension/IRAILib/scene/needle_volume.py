"""Needles in a CT or MR volume of the scene: found in a worker process, shown as nodes, one view a needle."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

from ..geometry import InputError, NeedleEstimate
from .needle import NeedleView
from .nodes import volume_from_node

FINDERS = {"CT": ("IRAILib.needle.ct", "find_needles_ct"), "MR": ("IRAILib.needle.mr", "find_needles_mr")}
MAX_SHOWN = 8


def detect_in_volume(node, modality: str, *, progress: Callable[[float, str], None] | None = None,
                     cancelled: Callable[[], bool] | None = None, run: Callable | None = None,
                     scene=None) -> list[NeedleEstimate]:
    """Find needles in a volume node and show them, the most convincing first; those of an earlier search go.

    Args:
        modality: "CT" or "MR". progress, cancelled: as `jobs.run_job` takes them. run: stands in for it (tests).
    Returns: the needles in world RAS mm; an empty list when there is none.
    Raises InputError (no volume, no finder for the modality), CancelledError; the scene is then as before.
    """
    if modality not in FINDERS:
        raise InputError(f"{modality}: volumes are searched for needles in CT and MR")
    module, function = FINDERS[modality]
    if importlib.util.find_spec(module) is None:
        raise InputError(f"this version has no needle finder for {modality} volumes")
    if run is None:
        from ..jobs import run_job as run
    found = run(f"{module}:{function}", {"volume": volume_from_node(node)}, progress=progress, cancelled=cancelled)
    found = sorted(found, key=lambda estimate: (not estimate.found, -estimate.confidence))
    show_needles(found, scene)
    return found


def show_needles(found: list[NeedleEstimate], scene=None) -> list[Any]:
    """Show the needles of a volume; views of an earlier search are taken away. Returns the views."""
    for number in range(1, MAX_SHOWN + 1):
        NeedleView(scene, f"Needle {number} in volume").remove()
    views = []
    for number, estimate in enumerate(found[:MAX_SHOWN], 1):
        view = NeedleView(scene, f"Needle {number} in volume")
        view.show(estimate, time.monotonic())
        views.append(view)
    return views
