"""Step 6 on a run of frames: subtraction and vessels as nodes that lie on their frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..geometry import InputError
from ..jobs import run_job
from .changes import ROLE, SceneChange, put_in_folder
from .fusion_carm import FOLDER, GEOMETRY, POSE, _with_role, to_ras, write_frame
from .fusion_eyes import only_in_green
from .fusion_views import polylines

DSA_ROLE, MINIP_ROLE, VESSEL_ROLE = "fusion.dsa", "fusion.minip", "fusion.vessels"
Progress = Callable[[float, str], None] | None
Cancelled = Callable[[], bool] | None


def subtract_run(run, *, method: str = "motion", progress: Progress = None, cancelled: Cancelled = None) -> Any:
    """A run less its mask, in a worker. Returns a DSAResult.

    Raises InputError without a run, RefusedError when no frame is bare, CancelledError.
    """
    if run is None:
        raise InputError("load a DICOM run first: a single frame has no mask")
    return run_job("IRAILib.fluoroscopy.dsa:subtract", {"run": run, "method": method}, progress=progress,
                   cancelled=cancelled)


def show_subtraction(frame_node, result, number: int) -> tuple[Any, Any]:
    """(subtracted frame, minimum over time) as nodes on the frame; those of before are replaced."""
    import slicer

    from ..fluoroscopy.dsa import minip

    scene = slicer.mrmlScene
    old = [*_with_role(scene, DSA_ROLE), *_with_role(scene, MINIP_ROLE)]
    low = float(np.percentile(result.frames[:, ::4, ::4], 0.1))
    window = (min(low, -1e-3), -0.25 * min(low, -1e-3))
    with SceneChange(replaces=old) as change:
        made = []
        for name, role, pixels in (("DSA", DSA_ROLE, result.frames[number]),
                                   ("DSA, minimum over time", MINIP_ROLE, minip(result.frames))):
            node = change.add("vtkMRMLScalarVolumeNode", f"{frame_node.GetName()}: {name}", role)
            write_frame(node, pixels, window)
            on_frame(node, frame_node)
            made.append(node)
        put_in_folder(change.added, FOLDER)
    return made[0], made[1]


def on_frame(node, frame_node) -> None:
    """Lay a picture where its frame lies."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    frame_node.GetIJKToRASMatrix(matrix)
    node.SetIJKToRASMatrix(matrix)
    for name in (GEOMETRY, POSE):
        node.SetAttribute(name, frame_node.GetAttribute(name))


def dsa_rows(result, number: int) -> list[tuple[str, str]]:
    """(quantity, value) for a table."""
    said = result.to_dict()
    rows = [("Method", said["method"]), ("Frames", f"{said['frames']}"),
            ("Mask of this frame", "mean of several" if result.mask_of[number] < 0 else f"{result.mask_of[number]}"),
            ("Mask moved by", f"{result.motion_px[number]:.1f} px"), ("Validated on", str(said["validated_on"]))]
    return rows + [("Note", note) for note in result.notes[:2]]


def find_in_frame(frame_node, *, progress: Progress = None, cancelled: Cancelled = None) -> Any:
    """Vessels of a frame, in a worker. Returns a VesselMap. Raises InputError, CancelledError, MissingPackageError."""
    import slicer

    if frame_node is None:
        raise InputError("choose an X-ray frame first")
    pixels = np.array(slicer.util.arrayFromVolume(frame_node)[0])
    found = run_job("IRAILib.fluoroscopy.vessels:find_vessels_in", {"frames": pixels[None], "numbers": [0]},
                    progress=progress, cancelled=cancelled)
    return found[0]


def show_vessels(frame_node, found) -> Any:
    """Centrelines on the frame as a model whose colour is the diameter; the one of before is replaced."""
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    old = _with_role(slicer.mrmlScene, VESSEL_ROLE)
    lines = [line for line in found.centrelines if len(line) > 1]
    widths = [width for line, width in zip(found.centrelines, found.diameters_px, strict=True) if len(line) > 1]
    with SceneChange(replaces=old) as change:
        node = change.add("vtkMRMLModelNode", f"{frame_node.GetName()}: vessels", VESSEL_ROLE)
        mesh = polylines([to_ras(frame_node, line) for line in lines])
        if widths:
            array = numpy_to_vtk(np.nan_to_num(np.concatenate(widths)).astype(np.float32), deep=True)
            array.SetName("Diameter_px")
            mesh.GetPointData().AddArray(array)
        node.SetAndObservePolyData(mesh)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetLineWidth(3)
        display.SetColor(0.95, 0.35, 0.30)
        display.SetVisibility2D(True)
        display.SetSliceDisplayModeToProjection()
        only_in_green(node)
        if widths:
            display.SetActiveScalar("Diameter_px", vtk.vtkAssignAttribute.POINT_DATA)
            display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeFileViridis.txt")
            display.SetScalarVisibility(True)
        put_in_folder([node], FOLDER)
    assert node.GetAttribute(ROLE) == VESSEL_ROLE
    return node


def vessel_rows(found) -> list[tuple[str, str]]:
    """(quantity, value) for a table."""
    said = found.to_dict()
    if not found.found:
        return [("Vessels", "none found"), ("Validated on", found.validated_on)]
    known = np.concatenate([width[np.isfinite(width)] for width in found.diameters_px] or [np.zeros(0)])
    rows = [("Branches", f"{len(found.centrelines)}"), ("Length", f"{said['length_px']:.0f} px")]
    if len(known):
        rows.append(("Diameters", f"{np.percentile(known, 5):.1f} to {np.percentile(known, 95):.1f} px"))
    return [*rows, ("Method", found.method), ("Validated on", found.validated_on)]
