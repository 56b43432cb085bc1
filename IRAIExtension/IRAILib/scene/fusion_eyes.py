"""Where the views stand: in the live plane, in the probe's eye, on the bull's eye, along the path."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import InputError
from .changes import ROLE, put_in_folder, remove_node
from .fusion_views import CUT, FUSED, PICTURE, SIDE_BY_SIDE, LiveViews

PROBES_EYE, BULLS_EYE, DOWN_THE_PATH = "probe", "bullseye", "path"
EYES = (PROBES_EYE, BULLS_EYE, DOWN_THE_PATH)
RED, YELLOW, GREEN = "Red", "Yellow", "Green"
RING_MM = (3.0, 10.0)
"""Radii of the tubes round the path: circles on the bull's eye, lanes along the path."""
RING_ROLE = "fusion.rings"
BACK_MM, BULLS_EYE_WIDTH_MM, PATH_MARGIN_MM = 150.0, 80.0, 30.0


def plane(right: np.ndarray, up: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(4, 4) SliceToRAS of a view whose x is `right` and y the part of `up` at right angles to it.

    Raises InputError for directions that don't span a plane.
    """
    right, up = np.asarray(right, float), np.asarray(up, float)
    right = right / np.linalg.norm(right)
    up = up - (up @ right) * right
    if not np.linalg.norm(up) > 1e-6:
        raise InputError("two directions that differ are needed to place a view")
    up /= np.linalg.norm(up)
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([right, up, np.cross(right, up)])
    matrix[:3, 3] = centre
    return matrix


def live_plane(ras_from_pixel: np.ndarray, size_px: tuple[int, int]) -> tuple[np.ndarray, float]:
    """(SliceToRAS (4, 4), width in mm) of a view that shows a picture as it is on the scanner: first row on top."""
    matrix = np.asarray(ras_from_pixel, float)
    columns, rows = size_px
    centre = matrix[:3, :3] @ ((columns - 1) / 2.0, (rows - 1) / 2.0, 0.0) + matrix[:3, 3]
    return plane(matrix[:3, 0], -matrix[:3, 1], centre), float(columns * np.linalg.norm(matrix[:3, 0]))


def bulls_eye_plane(entry: np.ndarray, target: np.ndarray, depth_point: np.ndarray | None = None) -> np.ndarray:
    """(4, 4) SliceToRAS at right angles to the path, seen from the entry; through the foot of `depth_point` on the path
    (the tool's tip), else through the target. The path stands in the middle. Anterior, or superior, points up."""
    axis = _axis(entry, target)
    foot = np.asarray(target, float)
    if depth_point is not None:
        foot = entry + ((np.asarray(depth_point, float) - entry) @ axis) * axis
    up = np.array([0.0, 1.0, 0.0]) if abs(axis[1]) < 0.8 else np.array([0.0, 0.0, 1.0])
    return plane(np.cross(axis, up), up - (up @ axis) * axis, foot)


def path_planes(entry: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two (4, 4) SliceToRAS that hold the path, at right angles to each other; the path runs down in both."""
    axis = _axis(entry, target)
    aside = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    middle = (np.asarray(entry, float) + np.asarray(target, float)) / 2.0
    return plane(aside, -axis, middle), plane(np.cross(axis, aside), -axis, middle)


def _axis(entry: np.ndarray, target: np.ndarray) -> np.ndarray:
    axis = np.asarray(target, float) - np.asarray(entry, float)
    length = np.linalg.norm(axis)
    if not length > 1e-6:
        raise InputError("the path has no length: its two points lie on each other")
    return axis / length


def place(slice_node, slice_to_ras: np.ndarray, width_mm: float | None = None) -> None:
    """Stand a slice view in a plane; keep its field of view unless a width is given."""
    was = slice_node.StartModify()
    try:
        matrix = slice_node.GetSliceToRAS()
        for row in range(4):
            for column in range(4):
                matrix.SetElement(row, column, float(slice_to_ras[row, column]))
        if width_mm:
            columns, rows, _ = slice_node.GetDimensions()
            depth = slice_node.GetFieldOfView()[2]
            slice_node.SetFieldOfView(width_mm, width_mm * max(rows, 1) / max(columns, 1), depth)
        slice_node.UpdateMatrices()
    finally:
        slice_node.EndModify(was)


def look(camera_node, eye: np.ndarray, at: np.ndarray, up: np.ndarray) -> None:
    """Stand a 3D view's camera at a point, RAS mm."""
    camera_node.SetPosition(*(float(v) for v in eye))
    camera_node.SetFocalPoint(*(float(v) for v in at))
    camera_node.SetViewUp(*(float(v) for v in up))
    camera_node.ResetClippingRange()


def eye_camera(eye: str, views: LiveViews, path: tuple[np.ndarray, np.ndarray] | None
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(camera, focal point, up) of the 3D view for an eye, RAS mm; None while its picture or its path isn't there."""
    if eye == PROBES_EYE:
        if views.ras_from_pixel is None:
            return None
        matrix, (columns, rows) = views.ras_from_pixel, views.size_px
        top = matrix[:3, :3] @ ((columns - 1) / 2.0, 0.0, 0.0) + matrix[:3, 3]
        deep = matrix[:3, :3] @ ((columns - 1) / 2.0, rows - 1.0, 0.0) + matrix[:3, 3]
        along = (deep - top) / np.linalg.norm(deep - top)
        normal = np.cross(matrix[:3, 0], matrix[:3, 1])
        back = 0.65 * BACK_MM * (normal / np.linalg.norm(normal) - along)
        return top + back, (top + deep) / 2.0, -along
    if path is None:
        return None
    entry, target = path
    axis = _axis(entry, target)
    up = np.array([0.0, 1.0, 0.0]) if abs(axis[1]) < 0.8 else np.array([0.0, 0.0, 1.0])
    if eye == BULLS_EYE:
        return entry - BACK_MM * axis, target, up
    return (entry + target) / 2.0 + BACK_MM * np.cross(axis, up), (entry + target) / 2.0, -axis


def show_eye(eye: str, views: LiveViews, path, tip: np.ndarray | None, slice_nodes: dict[str, Any],
             composites: dict[str, Any], camera=None) -> str:
    """Bring the views in step with what is live. Returns what could not be shown and why, or nothing.

    Red: the live picture (fused as chosen). Yellow: the volume in the live plane. Green: bull's eye or path.
    slice_nodes, composites: of the views that are there, by layout name. Raises InputError for an unknown eye.
    """
    if eye not in EYES:
        raise InputError(f"there is no view '{eye}'; one of {', '.join(EYES)}")
    problem = ""
    if views.ras_from_pixel is not None:
        side = views.mode == SIDE_BY_SIDE or views.volume is None
        for name, part in ((RED, PICTURE if side else FUSED), (YELLOW, CUT)):
            if name in slice_nodes:
                shown = part if part in views.planes else PICTURE
                place(slice_nodes[name], *live_plane(*views.planes[shown]))
                _background(composites.get(name), views.node(shown))
    else:
        problem = "no live picture"
    if eye != PROBES_EYE:
        problem = "" if path is not None else "choose or draw a path first"
    if path is not None and GREEN in slice_nodes:
        entry, target = path
        if eye == DOWN_THE_PATH:
            length = float(np.linalg.norm(target - entry))
            place(slice_nodes[GREEN], path_planes(entry, target)[0], length + 2 * PATH_MARGIN_MM)
        else:
            place(slice_nodes[GREEN], bulls_eye_plane(entry, target, tip), BULLS_EYE_WIDTH_MM)
        _background(composites.get(GREEN), views.volume)
    views.only_in([slice_nodes[name].GetID() for name in (RED, YELLOW) if name in slice_nodes])
    if camera is not None:
        found = eye_camera(eye, views, path)
        if found is not None:
            look(camera, *found)
    return problem


def _background(composite, node) -> None:
    if composite is None or node is None:
        return
    if composite.GetBackgroundVolumeID() != node.GetID():
        composite.SetBackgroundVolumeID(node.GetID())
    composite.SetForegroundVolumeID(None)


def scene_views(scene) -> tuple[dict[str, Any], dict[str, Any]]:
    """({layout name: slice node}, {layout name: composite node}) of a scene's standard views."""
    out: list[dict[str, Any]] = []
    for class_name in ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode"):
        collection = scene.GetNodesByClass(class_name)
        collection.UnRegister(None)
        nodes = [collection.GetItemAsObject(n) for n in range(collection.GetNumberOfItems())]
        out.append({node.GetLayoutName(): node for node in nodes if node.GetLayoutName() in (RED, YELLOW, GREEN)})
    return out[0], out[1]


def draw_rings(path: tuple[np.ndarray, np.ndarray] | None, scene, color=(1.0, 0.85, 0.2)) -> Any:
    """Tubes of `RING_MM` round the path as a model node, one of them; removed without a path. Returns the node."""
    import vtk

    collection = scene.GetNodesByClass("vtkMRMLModelNode")
    collection.UnRegister(None)
    nodes = [collection.GetItemAsObject(n) for n in range(collection.GetNumberOfItems())]
    node = next((entry for entry in nodes if entry.GetAttribute(ROLE) == RING_ROLE), None)
    if path is None:
        if node is not None:
            remove_node(node)
        return None
    entry, target = (np.asarray(point, float) for point in path)
    axis = _axis(entry, target)
    both = vtk.vtkAppendPolyData()
    for radius in RING_MM:
        line = vtk.vtkLineSource()
        line.SetPoint1(*(entry - 20.0 * axis))
        line.SetPoint2(*(target + 10.0 * axis))
        tube = vtk.vtkTubeFilter()
        tube.SetInputConnection(line.GetOutputPort())
        tube.SetRadius(radius)
        tube.SetNumberOfSides(48)
        both.AddInputConnection(tube.GetOutputPort())
    both.Update()
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLModelNode", "Path lanes 3 and 10 mm")
        node.SetAttribute(ROLE, RING_ROLE)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetColor(*color)
        display.SetOpacity(0.15)
        display.SetVisibility2D(True)
        display.SetSliceIntersectionThickness(2)
        put_in_folder([node], "FusionNav")
    node.SetAndObservePolyData(both.GetOutput())
    return node


def only_in_green(node) -> None:
    """What is drawn on an X-ray frame belongs to the green view: projected into the others it would lie anywhere."""
    slices, _composites = scene_views(node.GetScene())
    display = node.GetDisplayNode()
    display.RemoveAllViewNodeIDs()
    if GREEN in slices:
        display.AddViewNodeID(slices[GREEN].GetID())


def show_frame(frame_node) -> None:
    """An X-ray frame in the green view, as its detector sees it; nothing without such a view (headless)."""
    from .needle import image_to_ras

    slices, composites = scene_views(frame_node.GetScene())
    if GREEN not in slices:
        return
    columns, rows, _ = frame_node.GetImageData().GetDimensions()
    slice_to_ras, width = live_plane(image_to_ras(frame_node), (columns, rows))
    place(slices[GREEN], slice_to_ras, width)
    _background(composites.get(GREEN), frame_node)
