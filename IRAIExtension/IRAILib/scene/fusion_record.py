"""A whole session into a Sequences browser and back: pictures, poses with their status, calibration, registration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError
from ..images.sequences import TrackedSequence
from ..link.probe import frames_of, image_frames
from ..navigation.probe import ProbeCalibration
from .fusion_guide import ToolTip
from .fusion_registration import PatientRegistration, given_registration
from .link_record import SequenceRecorder, sequence_times_s
from .link_status import DEVICE, OK, STATUS, TYPE
from .nodes import matrix_from_vtk

SESSION = "IRAI.Fusion.Session"
"""Attribute of a browser node: calibration, registration, tips and lag, as JSON."""
KINDS = ("vtkMRMLVolumeNode", "vtkMRMLTransformNode", "vtkMRMLMarkupsNode")


def begin(session) -> SequenceRecorder:
    """Start to record what comes over the session's link. Raises InputError when nothing comes yet."""
    bridge = session.bridge
    nodes = [] if bridge is None else [bridge.scene.GetNodeByID(s.node_id) for s in bridge.streams.values()]
    nodes = [node for node in nodes if node is not None and any(node.IsA(name) for name in KINDS)]
    if session.plan is not None and nodes:
        nodes.append(session.plan)
    recorder = SequenceRecorder(nodes, session.scene, name="Fusion recording")
    recorder.browser.SetAttribute(SESSION, json.dumps(document_of(session)))
    return recorder


def document_of(session) -> dict[str, Any]:
    """What besides pictures and poses makes the session."""
    live, registration = session.live, session.registration
    return {"calibration": None if live.calibration is None else live.calibration.to_dict(), "lag_s": live.lag_s,
            "tracker_error_mm": live.tracker_error_mm, "tool": session.tool,
            "tips": {name: tip.to_dict() for name, tip in session.tips.items()},
            "registration": None if registration is None else registration.to_dict()}


@dataclass(frozen=True, eq=False)
class Recorded:
    """What a session was when its recording was made."""

    calibration: ProbeCalibration | None
    registration: PatientRegistration | None
    lag_s: float
    tracker_error_mm: float | None
    tips: dict[str, ToolTip]
    tool: str


def recorded(browser) -> Recorded | None:
    """Calibration, registration, tips and lag of a recording's session; None for a plain recording.

    Raises InputError for a damaged one.
    """
    if browser is None or not browser.GetAttribute(SESSION):
        return None
    text = browser.GetAttribute(SESSION)
    try:
        document = json.loads(text)
        calibration = document["calibration"] and ProbeCalibration.from_dict(document["calibration"])
        tips = {name: ToolTip(tuple(tip["tip_mm"]), tuple(tip["axis"]), tip["sigma_mm"], tip["sigma_deg"],
                              tip["validated_on"]) for name, tip in document["tips"].items()}
        registration = document["registration"] and _registration(document["registration"])
        return Recorded(calibration or None, registration or None, float(document["lag_s"]),
                        document.get("tracker_error_mm"), tips, str(document["tool"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{browser.GetName()}: what it says of its session is damaged "
                         f"({type(error).__name__}: {error})") from None


def restore(session, then: Recorded) -> None:
    """The session as it was when the recording was made; also without a registration, if there was none."""
    session.live.set_calibration(then.calibration, check=False)
    session.live.set_lag(then.lag_s)
    session.live.tracker_error_mm = then.tracker_error_mm
    session.tips, session.tool, session.registration = dict(then.tips), then.tool, then.registration


def present(session) -> Recorded:
    """The session as it is now, to be put back when a replay ends."""
    live = session.live
    return Recorded(live.calibration, session.registration, live.lag_s, live.tracker_error_mm, dict(session.tips),
                    session.tool)


def put_back(session, before: Recorded, then: Recorded) -> None:
    """The replay of `then` ends: what was before is back, but for what the user made during the replay."""
    now = present(session)
    made = {name: tip for name, tip in now.tips.items() if then.tips.get(name) is not tip}
    restore(session, Recorded(
        before.calibration if now.calibration is then.calibration else now.calibration,
        before.registration if now.registration is then.registration else now.registration,
        before.lag_s if now.lag_s == then.lag_s else now.lag_s, before.tracker_error_mm,
        {**before.tips, **made}, before.tool))


def _registration(values: dict[str, Any]) -> PatientRegistration:
    reference = values["from_frame"]
    found = given_registration(np.array(values[f"{reference}ToRAS"], float), reference=reference,
                               method=values["method"], error_mm=values["error_mm"],
                               validated_on=values["validated_on"], assumed=bool(values.get("assumed")))
    held = tuple((str(entry["name"]), float(entry["error_mm"])) for entry in values.get("held_out", []))
    return PatientRegistration(found.ras_from_reference, reference, found.method, found.error_mm, found.validated_on,
                               None, held, float(values.get("time_s", 0.0)), found.assumed)


def sequence_from_browser(browser) -> TrackedSequence:
    """A recording of the scene as a TrackedSequence, so that it is replayed as any recording is.

    Pictures of the leading sequence, every transform whose name leads from one frame to another, with the status that
    it had. Raises InputError: no browser, nothing recorded, pictures of several sizes.
    """
    import vtk

    if browser is None:
        raise InputError("no recorded session is chosen")
    master = browser.GetMasterSequenceNode()
    times = np.array(sequence_times_s(browser)) if master is not None else np.zeros(0)
    if master is None or not len(times):
        raise InputError("this sequence browser holds no recording; choose one that FusionNav made")
    sequences = [master]
    collection: Any = vtk.vtkCollection()
    browser.GetSynchronizedSequenceNodes(collection, False)
    sequences += [collection.GetItemAsObject(n) for n in range(collection.GetNumberOfItems())]
    frames, header, spacing = _frames(master, len(times))
    transforms, status = _image_poses(master, len(times))
    for sequence in sequences:
        first = sequence.GetNthDataNode(0)
        if first is None or not first.IsA("vtkMRMLLinearTransformNode"):
            continue
        name = first.GetAttribute(DEVICE) or first.GetName()
        try:
            frames_of(name)
        except InputError:
            continue
        matrices = np.tile(np.eye(4), (len(times), 1, 1))
        words = ["MISSING"] * len(times)
        for number, time_s in enumerate(times):
            node = sequence.GetDataNodeAtValue(f"{time_s:.3f}")
            if node is not None:
                matrices[number], words[number] = _pose(node)
        transforms[name], status[name] = matrices, words
    if frames is None and not transforms:
        raise InputError(f"{browser.GetName()}: holds neither pictures nor poses of tools")
    return TrackedSequence(frames, times, transforms, status, "XX" if frames is None else "MFA",
                           [{} for _ in times], header, spacing)


def _frames(master, count: int) -> tuple[np.ndarray | None, dict[str, str], tuple[float, float]]:
    import slicer

    first = master.GetNthDataNode(0)
    if first is None or not first.IsA("vtkMRMLVolumeNode"):
        return None, {}, (1.0, 1.0)
    pictures = [np.array(slicer.util.arrayFromVolume(master.GetNthDataNode(n)))[0] for n in range(count)]
    if len({picture.shape for picture in pictures}) > 1:
        raise InputError(f"{master.GetName()}: its pictures have several sizes; record one setting at a time")
    spacing = first.GetSpacing()
    return np.stack(pictures), _sent(first), (float(spacing[0]), float(spacing[1]))


def _image_poses(master, count: int) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Where the sender placed each picture, under the name ImageTo<Frame>, when its name says in which frame."""
    import vtk

    first = master.GetNthDataNode(0)
    if first is None or not first.IsA("vtkMRMLVolumeNode"):
        return {}, {}
    try:
        frame = image_frames(first.GetAttribute(DEVICE) or first.GetName())[1]
    except InputError:
        return {}, {}
    matrices, words, matrix = np.zeros((count, 4, 4)), [], vtk.vtkMatrix4x4()
    for number in range(count):
        node = master.GetNthDataNode(number)
        node.GetIJKToRASMatrix(matrix)
        matrices[number] = matrix_from_vtk(matrix)
        words.append(OK if node.GetAttribute(STATUS) in (None, OK) else "INVALID")
    return {f"ImageTo{frame}": matrices}, {f"ImageTo{frame}": words}


def _sent(volume) -> dict[str, str]:
    """Where the pictures came from."""
    return {"ImageType": "recorded in Slicer", "Sender": volume.GetAttribute(DEVICE) or volume.GetName(),
            "Type": volume.GetAttribute(TYPE) or ""}


def _pose(node) -> tuple[np.ndarray, str]:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetMatrixTransformToParent(matrix)
    word = node.GetAttribute(STATUS)
    return matrix_from_vtk(matrix), OK if word in (None, OK) else word
