"""Pictures of a measured case, rendered from real Slicer views without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .ablation import AblationCase
from .ablation_views import checkerboard
from .changes import part_of, remove_node
from .nodes import volume_from_node
from .write import volume_to_node

SLICE_PX = 460
SURFACE_PX = (760, 600)
AROUND_MM = 45.0
"""Field of view beyond the ablation zone's extent."""
ORIENTATIONS = ("Axial", "Coronal", "Sagittal")


def render_case(case: AblationCase, margin: Any, folder: Path, *, registration: Any = None,
                mark: str | None = None) -> dict[str, tuple[Path, str]]:
    """Draw the margin model in 3D, three slices through the thinnest place, and the registration's check.

    Args:
        case, margin, registration: nodes and records as `scene.ablation` made them; margin may be None (refused).
        folder: existing folder for PNG files.
        mark: a word for every picture, such as "SYNTHETIC".
    Returns: file and caption by name, in the order they should be read. The scene is left as it was.
    """
    pictures: dict[str, tuple[Path, str]] = {}
    model = part_of(margin, "model") if margin is not None else None
    place = _place(case, margin)
    width = _extent(case) + AROUND_MM
    if model is not None:
        pictures["surface"] = (_surface(case, model, folder / "surface.png", mark),
                               "The tumour's surface, coloured by margin, in the translucent ablation zone")
    if case.post is not None:
        overlays = [case.ablation.node, *(part_of(margin, name) for name in ("model", "thinnest", "direction")
                                          if margin is not None)]
        for name in ORIENTATIONS:
            path = _slice(case.post, name, place, width, folder / f"after_{name.lower()}.png", mark, overlays)
            pictures[f"after_{name.lower()}"] = (path, f"{name}, after: zone outline, tumour surface coloured "
                                                       "by margin, through the thinnest place")
    if registration is not None and case.pre is not None:
        pictures |= _registration(case, registration, place, width, folder, mark)
    return pictures


def _registration(case: AblationCase, registration: Any, place, width: float, folder: Path, mark) -> dict:
    registered = part_of(registration, "registered")
    if registered is None:
        return {}
    import slicer

    path = _slice(registered, "Axial", place, width, folder / "before_registered.png", mark, [])
    out = {"before_registered": (path, "Axial, before, moved onto the scan after")}
    mixed = checkerboard(volume_from_node(registered), volume_from_node(case.post))
    node = volume_to_node(mixed, slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Checkerboard"))
    try:
        shown = case.post.GetDisplayNode()
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevel(shown.GetWindow(), shown.GetLevel())
        for name in ("Axial", "Coronal"):
            path = _slice(node, name, place, width * 1.6, folder / f"checker_{name.lower()}.png", mark, [])
            out[f"checker_{name.lower()}"] = (path, f"{name} checkerboard of both scans: edges must run on")
    finally:
        remove_node(node)
    return out


def _surface(case: AblationCase, model, path: Path, mark: str | None) -> Path:
    from ..headless.views import ThreeDView

    display, zone = case.ablation.node.GetDisplayNode(), case.ablation.segment_id
    case.ablation.node.CreateClosedSurfaceRepresentation()
    before = display.GetSegmentOpacity3D(zone)
    display.SetSegmentOpacity3D(zone, 0.25)
    organ = case.organ.segment_id if case.organ is not None and case.organ.node is case.ablation.node else None
    organ_seen = organ is not None and display.GetSegmentVisibility3D(organ)
    if organ_seen:
        display.SetSegmentVisibility3D(organ, False)
    try:
        with ThreeDView(SURFACE_PX) as view:
            view.show_only(model, case.ablation.node)
            view.look_from(_towards_thinnest(model)).close_up(model, zoom=0.75)
            _mark(view, mark)
            view.save(path)
    finally:
        display.SetSegmentOpacity3D(zone, before)
        if organ_seen:
            display.SetSegmentVisibility3D(organ, True)
    return path


def _towards_thinnest(model) -> np.ndarray:
    """From the tumour's centre through its thinnest vertex, tilted forward: where the gap is seen best."""
    from vtk.util.numpy_support import vtk_to_numpy

    points = vtk_to_numpy(model.GetPolyData().GetPoints().GetData())
    margin = vtk_to_numpy(model.GetPolyData().GetPointData().GetArray("Margin_mm"))
    towards = points[margin.argmin()] - points.mean(axis=0)
    return towards / max(float(np.linalg.norm(towards)), 1e-6) + np.array([0.0, 0.6, 0.3])


def _slice(volume, orientation: str, place, width: float, path: Path, mark: str | None, overlays: list) -> Path:
    from ..headless.views import SliceView

    with SliceView(orientation, SLICE_PX) as view:
        view.show_only(volume, *(node for node in overlays if node is not None))
        view.show(volume).field_of_view(width).centre_on(place)
        view.ruler()
        _mark(view, mark)
        view.save(path)
    return path


def _mark(view, mark: str | None) -> None:
    if mark:
        view.caption(mark)


def _place(case: AblationCase, margin: Any) -> np.ndarray:
    point = part_of(margin, "thinnest") if margin is not None else None
    if point is not None:
        position = [0.0, 0.0, 0.0]
        point.GetNthControlPointPositionWorld(0, position)
        return np.array(position)
    return _bounds(case).mean(axis=1)


def _extent(case: AblationCase) -> float:
    bounds = _bounds(case)
    return float((bounds[:, 1] - bounds[:, 0]).max())


def _bounds(case: AblationCase) -> np.ndarray:
    from .nodes import mask_from_segment

    mask = mask_from_segment(case.ablation)
    start, shape = mask.bounding_box_kji()
    corners = mask.grid.cropped_grid(start, shape).corners_ras()
    return np.stack([corners.min(axis=0), corners.max(axis=0)], axis=1)
