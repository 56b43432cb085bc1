"""The check that AblationMargin's test runs in Slicer's test runner and headless: the sample case against its truth."""

from __future__ import annotations

import numpy as np

from ..geometry import IRAIError
from .ablation import is_accepted
from .ablation_results import read_record
from .changes import part_of

MAM_TOLERANCE_MM = 0.8
"""Voxels of 2.5 mm and a registration from images: the exact masks alone are off by about 0.2 mm."""
PLACE_TOLERANCE_MM = 6.0
"""Along a sphere the thinnest place is flat: 0.3 mm of margin moves it this far."""
PARTS = ("model", "colors", "thinnest", "direction", "under", "table", "histogram", "series", "chart")


class SelfTestError(IRAIError):
    """The sample case gave something else than its truth."""


def check_sample_case(parameters, logic) -> float:
    """Do the job on the sample case as a user would, through the module's own logic.

    Args: parameters, logic: of the AblationMargin module. Returns: error of the MAM in mm.
    Raises SelfTestError with what was wrong.
    """
    truth = logic.loadSample(parameters)
    parameters.model = "rigid"
    logic.register(parameters)
    _require(not is_accepted(parameters.registration), "a new registration is accepted before anyone looked at it")
    logic.accept(parameters)
    transform = part_of(parameters.registration, "transform")
    moving = transform.GetNodeReference(transform.GetMovingNodeReferenceRole())
    _require(moving is parameters.preVolume, "the transform doesn't reference its moving volume")
    logic.measureMargin(parameters)
    document = read_record(parameters.margin)
    missing = [name for name in PARTS if part_of(parameters.margin, name) is None]
    _require(not missing, f"not in the scene: {', '.join(missing)}")
    error = float(document["mam_mm"] - truth.true_mam_mm)
    _require(abs(error) <= MAM_TOLERANCE_MM, f"margin off by {error:.2f} mm, at most {MAM_TOLERANCE_MM} mm")
    low, high = document["mam_ci95_mm"]
    _require(low <= truth.true_mam_mm <= high, "the 95 % interval misses the truth")
    away = float(np.linalg.norm(np.array(document["thinnest_point_ras"]) - truth.true_thinnest_ras))
    _require(away <= PLACE_TOLERANCE_MM, f"thinnest point off by {away:.1f} mm")
    return error


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise SelfTestError(f"self-test of the sample case: {otherwise}")
