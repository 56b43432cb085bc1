"""What the module remembers in the scene, and the case it stands for."""

import json
import pathlib
from typing import Annotated

from slicer import (
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTextNode,
)
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

SEGMENTS = ["lesion", "organ"]
PRESETS, FILE = ["ct", "mr", "pet"], "file"
QUICK, USUAL, THOROUGH = "quick", "usual", "thorough"
RECORDS = ["size", "shell", "habitats", "features", "stability", "cohort", "prediction", "training"]
"""Records of what was made, in the order of the steps."""


@parameterNodeWrapper
class VirtualBiopsyParameters:
    """One case: inputs, settings, what was typed, and the records of what was made (text nodes)."""

    volume: vtkMRMLScalarVolumeNode
    lesionSegmentation: vtkMRMLSegmentationNode
    lesionSegmentID: str
    organSegmentation: vtkMRMLSegmentationNode
    organSegmentID: str
    clicksInside: vtkMRMLMarkupsFiducialNode
    clicksOutside: vtkMRMLMarkupsFiducialNode
    shellInnerMm: Annotated[float, WithinRange(0.0, 50.0)] = 0.0
    shellOuterMm: Annotated[float, WithinRange(0.5, 50.0)] = 10.0
    habitatsNumber: Annotated[int, WithinRange(1, 6)] = 1
    region: str
    preset: Annotated[str, Choice([*PRESETS, FILE])] = "ct"
    config: pathlib.Path
    perturbations: Annotated[int, WithinRange(3, 100)] = 10
    cohortTable: pathlib.Path
    cohortPatient: str
    hideUnstable: bool = False
    find: str
    score: str
    scoreValues: str
    modelFolder: pathlib.Path
    modelValues: str
    trainTable: pathlib.Path
    target: str
    time: str
    event: str
    patient: str
    site: str
    exclude: str
    baseline: str
    effort: Annotated[str, Choice([QUICK, USUAL, THOROUGH])] = USUAL
    trainFolder: pathlib.Path
    reportFolder: pathlib.Path
    link: str
    size: vtkMRMLTextNode
    shell: vtkMRMLTextNode
    habitats: vtkMRMLTextNode
    features: vtkMRMLTextNode
    stability: vtkMRMLTextNode
    cohort: vtkMRMLTextNode
    prediction: vtkMRMLTextNode
    training: vtkMRMLTextNode


def segmentOf(parameters, name):
    """SegmentRef of one of `SEGMENTS`, or None when nothing (that still exists) is chosen."""
    from IRAILib.scene.nodes import SegmentRef

    node = parameters.getValue(name + "Segmentation")
    segmentID = parameters.getValue(name + "SegmentID")
    if node is None or not segmentID or node.GetSegmentation().GetSegment(segmentID) is None:
        return None
    return SegmentRef(node, segmentID)


def chooseSegment(parameters, name, ref):
    """Remember a SegmentRef (or None) as one of `SEGMENTS`."""
    parameters.setValue(name + "Segmentation", ref.node if ref else None)
    parameters.setValue(name + "SegmentID", ref.segment_id if ref else "")


def regionOf(parameters):
    """SegmentRef of what features are measured of: the chosen part of the lesion's segmentation, else the lesion."""
    from IRAILib.scene.nodes import SegmentRef

    lesion = segmentOf(parameters, "lesion")
    if lesion is None or not parameters.region:
        return lesion
    there = lesion.node.GetSegmentation().GetSegment(parameters.region) is not None
    return SegmentRef(lesion.node, parameters.region) if there else lesion


def caseFrom(parameters):
    """The BiopsyCase that is chosen. Raises InputError when volume or lesion is missing."""
    from IRAILib.geometry import InputError
    from IRAILib.scene.biopsy_case import BiopsyCase

    lesion = segmentOf(parameters, "lesion")
    if parameters.volume is None:
        raise InputError("no case yet: choose the scan in step 1")
    if lesion is None:
        raise InputError("no case yet: choose the lesion's segment in step 1, or make it with a few clicks")
    return BiopsyCase(parameters.volume, lesion, segmentOf(parameters, "organ"), regionOf(parameters))


def rememberCase(parameters, case):
    """Choose every node of a BiopsyCase, and forget what was made from another one."""
    for name in RECORDS:
        parameters.setValue(name, None)
    parameters.region = ""
    parameters.volume = case.volume
    chooseSegment(parameters, "lesion", case.lesion)
    chooseSegment(parameters, "organ", case.organ)


def typedValues(text):
    """What was typed into a form, from the parameter node's JSON; {} for none or a damaged text."""
    try:
        values = json.loads(text or "{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def pathOf(value):
    """A path parameter as pathlib.Path, None where nothing is chosen."""
    return None if str(value or ".") in ("", ".") else pathlib.Path(value)


def namesOf(text):
    """Names with commas between them as a list."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]
