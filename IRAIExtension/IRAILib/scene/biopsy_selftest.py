"""The checks that VirtualBiopsy's test runs in Slicer's test runner and headless."""

from __future__ import annotations

import math
import re
import tempfile
from pathlib import Path

import numpy as np

from ..geometry import InputError, IRAIError
from .ablation_results import read_record
from .biopsy_sources import find_node, stale_reasons
from .nodes import SegmentRef, mask_from_segment

PATIENTS = 6
VOLUME_PERCENT, DIAMETER_MM, MEAN_HU = 20.0, 4.0, 12.0
"""The painted surface wobbles by a tenth of the radius and is cut into voxels of 1.2 x 1.2 x 2 mm."""
CORE_HU = 42.0
LIVER_HU = 108.0
MELD_NA = {"bilirubin": ("2", "mg/dL"), "creatinine": ("1.5", "mg/dL"), "inr": ("1.5", ""), "sodium": ("130", "mmol/L")}
"""MELD 3.78 ln 2 + 11.2 ln 1.5 + 9.57 ln 1.5 + 6.43 = 17.5, rounded 17; + 1.32 x 7 - 0.033 x 17 x 7 = 22."""
MELD_NA_POINTS = 22


class SelfTestError(IRAIError):
    """The sample gave something else than what was painted."""


def check_sample(parameters, logic) -> float:
    """Take the sample from the lesion to the page. Returns the volume's error in percent. Raises SelfTestError."""
    painted = logic.trySample(parameters, patients=PATIENTS)
    size = read_record(logic.measureLesion(parameters))
    wanted = 4.0 / 3.0 * math.pi * painted.radius_mm**3 / 1000.0
    error = 100.0 * (size["volume_ml"] - wanted) / wanted
    _require(abs(error) < VOLUME_PERCENT, f"volume off by {error:.0f} %")
    _require(abs(size["long_axis_mm"] - 2 * painted.radius_mm) < DIAMETER_MM + 0.15 * painted.radius_mm,
             f"longest diameter {size['long_axis_mm']:.1f} mm, painted {2 * painted.radius_mm:.1f} mm")
    shell = read_record(logic.makeShell(parameters))
    outer = 4.0 / 3.0 * math.pi * (painted.radius_mm + parameters.shellOuterMm)**3 / 1000.0 - wanted
    _require(abs(shell["volume_ml"] / outer - 1.0) < 0.15, f"shell of {shell['volume_ml']:.1f} mL, {outer:.1f} wanted")
    habitats = read_record(logic.findHabitats(parameters))
    darkest = habitats["means"][0][0]
    _require(abs(darkest - CORE_HU) < MEAN_HU, f"darkest habitat of {darkest:.0f} HU, painted {CORE_HU:.0f}")
    features = read_record(logic.extract(parameters))["features"]
    mean = float(painted.volume.array[painted.lesion.array].mean())
    _require(abs(features["stat_mean"] - mean) < MEAN_HU, "the mean intensity is not the painted lesion's")
    parameters.cohortTable = parameters.trainTable
    places = read_record(logic.compare(parameters))["places"]
    _require(bool(places) and all(place["n"] <= PATIENTS for place in places.values()), "no place among the others")
    points = _score(parameters, logic)
    _require(points == MELD_NA_POINTS, f"MELD-Na {points}, {MELD_NA_POINTS} by hand")
    _check_page(parameters, logic)
    return error


def _score(parameters, logic) -> int:
    import json

    from ..biopsy.scores import find_score

    parameters.score = "meld-na"
    values = {f"{item.name}|{item.what}": dict(zip(("value", "unit"), MELD_NA[item.name], strict=True))
              for item in find_score("meld-na").inputs if item.name in MELD_NA}
    parameters.scoreValues = json.dumps(values)
    return int(read_record(logic.workOutScore(parameters))["value"])


def _check_page(parameters, logic) -> None:
    """Every number's link leads to a node that is in the scene and unchanged."""
    with tempfile.TemporaryDirectory() as name:
        parameters.reportFolder = Path(name)
        page = logic.writeBoard(parameters)[0].read_text(encoding="utf-8")
    links = re.findall(r'<a\s+href="(irai://[^"]+)"', page)
    _require(len(links) > 20, f"only {len(links)} linked numbers on the page")
    for link in set(links):
        found = find_node(link.replace("&amp;", "&"))
        _require(not found.changed, f"{found.node.GetName()}: its link says that it was changed")
    _require("SYNTHETIC" in page, "the page does not say that the case is synthetic")


def check_stale_and_refused(parameters, logic) -> None:
    """Change the lesion: its numbers are marked. A score without a unit, a damaged model: refused, nothing written."""
    import slicer

    from .write import oriented_image

    logic.trySample(parameters, patients=PATIENTS)
    record = logic.measureLesion(parameters)
    _require(not stale_reasons(record), "fresh numbers are called out of date")
    ref = SegmentRef(parameters.lesionSegmentation, parameters.lesionSegmentID)
    mask = mask_from_segment(ref)
    array = mask.array.copy()
    array[:, :, : int(np.flatnonzero(array.any(axis=(0, 1))).mean())] = False
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(
        oriented_image(mask.grid, array), ref.node, ref.segment_id)
    _require(bool(stale_reasons(record)), "the lesion was changed and its numbers still count")
    before = slicer.mrmlScene.GetNumberOfNodes()
    parameters.score, parameters.scoreValues = "albi", '{"bilirubin|total bilirubin in serum": {"value": "20"}}'
    _refused(lambda: logic.workOutScore(parameters), "a score without units")
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "model.json").write_text('{"format": "something else"}', encoding="utf-8")
        parameters.modelFolder = Path(name)
        _refused(lambda: logic.predict(parameters), "a damaged model")
    _require(slicer.mrmlScene.GetNumberOfNodes() == before, "a refusal left nodes behind")


def _refused(action, what: str) -> None:
    try:
        action()
    except InputError:
        return
    raise SelfTestError(f"self-test: {what} was not refused")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise SelfTestError(f"self-test: {otherwise}")
