"""What the module remembers in the scene, and the case it stands for."""

import pathlib
from typing import Annotated

from slicer import (
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTextNode,
)
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

SAME_FRAME, RIGID, DEFORMABLE = "same frame", "rigid", "deformable"
MODELS = [SAME_FRAME, RIGID, DEFORMABLE]
ENGINES = ["auto", "convex", "bspline", "greedy", "elastix"]
SEGMENTS = ["tumor", "ablation", "organPre", "organ", "vessels"]


@parameterNodeWrapper
class AblationMarginParameters:
    """One case: inputs, settings and the records of what was made (text nodes that reference everything else)."""

    preVolume: vtkMRMLScalarVolumeNode
    postVolume: vtkMRMLScalarVolumeNode
    tumorSegmentation: vtkMRMLSegmentationNode
    tumorSegmentID: str
    ablationSegmentation: vtkMRMLSegmentationNode
    ablationSegmentID: str
    organPreSegmentation: vtkMRMLSegmentationNode
    organPreSegmentID: str
    organSegmentation: vtkMRMLSegmentationNode
    organSegmentID: str
    vesselsSegmentation: vtkMRMLSegmentationNode
    vesselsSegmentID: str
    clicksTarget: Annotated[str, Choice(["tumor", "ablation"])] = "tumor"
    clicksInside: vtkMRMLMarkupsFiducialNode
    clicksOutside: vtkMRMLMarkupsFiducialNode
    landmarksPre: vtkMRMLMarkupsFiducialNode
    landmarksPost: vtkMRMLMarkupsFiducialNode
    model: Annotated[str, Choice(MODELS)] = DEFORMABLE
    engine: Annotated[str, Choice(ENGINES)] = "auto"
    thresholdMm: Annotated[float, WithinRange(1.0, 15.0)] = 5.0
    capsuleMm: Annotated[float, WithinRange(0.0, 15.0)] = 5.0
    vesselMm: Annotated[float, WithinRange(0.0, 15.0)] = 5.0
    registration: vtkMRMLTextNode
    margin: vtkMRMLTextNode
    reportFolder: pathlib.Path


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


def caseFrom(parameters):
    """The AblationCase that is chosen. Raises InputError when tumour or zone is missing."""
    from IRAILib.geometry import InputError
    from IRAILib.scene.ablation import AblationCase

    refs = {name: segmentOf(parameters, name) for name in SEGMENTS}
    for name, what in (("tumor", "the tumour's segment"), ("ablation", "the ablation zone's segment")):
        if refs[name] is None:
            raise InputError(f"no case yet: choose {what}")
    return AblationCase(
        tumor=refs["tumor"], ablation=refs["ablation"], pre=parameters.preVolume, post=parameters.postVolume,
        organ=refs["organ"], organ_pre=refs["organPre"], vessels=refs["vessels"],
        landmarks_pre=parameters.landmarksPre, landmarks_post=parameters.landmarksPost)


def rememberCase(parameters, case):
    """Choose every node of an AblationCase, and forget what was made from another one."""
    parameters.registration = None
    parameters.margin = None
    parameters.preVolume, parameters.postVolume = case.pre, case.post
    for name, ref in (("tumor", case.tumor), ("ablation", case.ablation), ("organPre", case.organ_pre),
                      ("organ", case.organ), ("vessels", case.vessels)):
        chooseSegment(parameters, name, ref)
    parameters.landmarksPre, parameters.landmarksPost = case.landmarks_pre, case.landmarks_post
