"""What the module remembers in the scene. Nothing live: a reloaded scene opens disconnected."""

import pathlib
from typing import Annotated

from slicer import vtkMRMLMarkupsLineNode, vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

CONNECT, REPLAY = "connect", "replay"
ULTRASOUND, CT, MR, FLUOROSCOPY = "US", "CT", "MR", "XA"
MR_LIVE, CT_LIVE = "MR-live", "CT-live"
LIVE = {ULTRASOUND: "US", MR_LIVE: "MR", CT_LIVE: "CT", FLUOROSCOPY: "XA"}
"""What can be followed live, and the modality that the session knows it by; the others are volumes."""
DETECTORS = ["auto", "network", "classical"]


@parameterNodeWrapper
class NeedleTrackingParameters:
    """Where from, what kind of picture, which scale, against which plan, which robot."""

    source: Annotated[str, Choice([CONNECT, REPLAY])] = CONNECT
    host: str = "127.0.0.1"
    port: Annotated[int, WithinRange(1, 65535)] = 18944
    recording: pathlib.Path
    speed: Annotated[float, WithinRange(0.1, 4.0)] = 1.0
    loop: bool = False
    modality: Annotated[str, Choice([ULTRASOUND, MR_LIVE, CT_LIVE, FLUOROSCOPY, CT, MR])] = ULTRASOUND
    detector: Annotated[str, Choice(DETECTORS)] = "auto"
    volume: vtkMRMLScalarVolumeNode
    scaleMmPerPx: Annotated[float, WithinRange(0.0, 5.0)] = 0.0
    device: str
    sendPlanes: bool = False
    plan: vtkMRMLMarkupsLineNode
    tipsFile: pathlib.Path
    robotHost: str = "127.0.0.1"
    robotPort: Annotated[int, WithinRange(1, 65535)] = 18945
