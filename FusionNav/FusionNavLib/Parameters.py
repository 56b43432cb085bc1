"""What the module remembers in the scene. Nothing live: a reloaded scene opens disconnected."""

import pathlib
from typing import Annotated

from slicer import (
    vtkMRMLLinearTransformNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLMarkupsLineNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLSequenceBrowserNode,
)
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

CONNECT, REPLAY, SESSION = "connect", "replay", "session"
LANDMARKS, GIVEN, VOLUMES, REFINE = "landmarks", "transform", "volumes", "slice"
SIDE, BLEND, CHECKER = "side", "blend", "checker"
PROBE, BULLSEYE, PATH = "probe", "bullseye", "path"


@parameterNodeWrapper
class FusionNavParameters:
    """Which volumes, where from, how registered, along which path, what is shown."""

    volume1: vtkMRMLScalarVolumeNode
    volume2: vtkMRMLScalarVolumeNode
    volume3: vtkMRMLScalarVolumeNode
    structures: vtkMRMLSegmentationNode
    leaveOut: str
    source: Annotated[str, Choice([CONNECT, REPLAY, SESSION])] = CONNECT
    host: str = "127.0.0.1"
    port: Annotated[int, WithinRange(1, 65535)] = 18944
    recording: pathlib.Path
    browser: vtkMRMLSequenceBrowserNode
    speed: Annotated[float, WithinRange(0.1, 4.0)] = 1.0
    loop: bool = False
    calibration: pathlib.Path
    lagMs: Annotated[float, WithinRange(-2000.0, 2000.0)] = 0.0
    trackerErrorMm: Annotated[float, WithinRange(0.0, 10.0)] = 0.5
    tool: str
    method: Annotated[str, Choice([LANDMARKS, GIVEN, VOLUMES, REFINE])] = LANDMARKS
    fixedPoints: vtkMRMLMarkupsFiducialNode
    movingPoints: vtkMRMLMarkupsFiducialNode
    exclude: str
    holdOut: str
    transform: vtkMRMLLinearTransformNode
    target: vtkMRMLMarkupsFiducialNode
    organ: str
    marginMm: Annotated[float, WithinRange(0.0, 50.0)] = 5.0
    plan: vtkMRMLMarkupsLineNode
    liveRank: bool = False
    vertebra: str
    robotHost: str = "127.0.0.1"
    robotPort: Annotated[int, WithinRange(1, 65535)] = 18945
    robotFrame: vtkMRMLLinearTransformNode
    eye: Annotated[str, Choice([PROBE, BULLSEYE, PATH])] = BULLSEYE
    mode: Annotated[str, Choice([SIDE, BLEND, CHECKER])] = BLEND
    shownVolume: Annotated[int, WithinRange(0, 2)] = 0
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    follow: bool = True
    drawStructures: bool = True
    sound: bool = True
    saveFile: pathlib.Path
    xray: vtkMRMLScalarVolumeNode
    xrayFile: pathlib.Path
    primaryDeg: Annotated[float, WithinRange(-180.0, 180.0)] = 0.0
    secondaryDeg: Annotated[float, WithinRange(-90.0, 90.0)] = 0.0
    sourceToDetectorMm: Annotated[float, WithinRange(300.0, 2000.0)] = 1100.0
    sourceToIsocentreMm: Annotated[float, WithinRange(200.0, 1500.0)] = 720.0
    detectorMmPerPx: Annotated[float, WithinRange(0.05, 5.0)] = 1.2
    isocentre: vtkMRMLMarkupsFiducialNode


def volumesOf(parameters):
    """The chosen volumes, in order, each once."""
    found = []
    for node in (parameters.volume1, parameters.volume2, parameters.volume3):
        if node is not None and node not in found:
            found.append(node)
    return found


def namesOf(text):
    """Names that a user typed with commas between them."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]
