"""Models, segments and markups of the scene as one glTF file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError, Surface
from ..navigation.gltf import MAX_MEGABYTES, MAX_TRIANGLES, GltfItem, GltfPath, GltfPoint, GltfReport, GltfSurface
from ..navigation.gltf import write_gltf as write_items
from .nodes import points_from_markups, world_from_node

PATH_CLASSES = ("vtkMRMLMarkupsLineNode", "vtkMRMLMarkupsCurveNode")


def items_from_nodes(nodes: Sequence[Any]) -> list[GltfItem]:
    """What the nodes show, in world RAS: models, the visible segments of segmentations, lines and curves as paths, the
    placed points of other markups; names and colours as in the scene. Empty nodes are left out.

    Raises: InputError for a node of another class, or a model under a deformable transform.
    """
    items: list[GltfItem] = []
    for node in nodes:
        if node is None:
            continue
        if node.IsA("vtkMRMLModelNode"):
            items += _model(node)
        elif node.IsA("vtkMRMLSegmentationNode"):
            items += _segments(node)
        elif node.IsA("vtkMRMLMarkupsNode"):
            items += _markups(node)
        else:
            raise InputError(f"{node.GetName()}: models, segmentations and markups can be written as glTF, not a "
                             f"{node.GetNodeTagName()}")
    return items


def write_gltf(path: str | Path, nodes: Sequence[Any], *, max_triangles: int = MAX_TRIANGLES,
               max_megabytes: float = MAX_MEGABYTES) -> GltfReport:
    """The nodes as one .glb or .gltf; see navigation.gltf. Raises InputError, RefusedError."""
    return write_items(path, items_from_nodes(nodes), max_triangles=max_triangles, max_megabytes=max_megabytes)


def _surface(mesh: Any, matrix: np.ndarray) -> Surface | None:
    """The triangles of a vtkPolyData (strips and polygons cut up), moved; None without any."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    if mesh is None or not mesh.GetNumberOfPoints():
        return None
    cut = vtk.vtkTriangleFilter()
    cut.SetInputData(mesh)
    cut.PassLinesOff()
    cut.PassVertsOff()
    cut.Update()
    out = cut.GetOutput()
    if not out.GetNumberOfPolys():
        return None
    points = vtk_to_numpy(out.GetPoints().GetData()).astype(float) @ matrix[:3, :3].T + matrix[:3, 3]
    triangles = vtk_to_numpy(out.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
    return Surface(points, triangles[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else triangles)


def _model(node: Any) -> list[GltfItem]:
    surface = _surface(node.GetPolyData(), world_from_node(node))
    if surface is None:
        return []
    display = node.GetDisplayNode()
    if display is None:
        return [GltfSurface(surface, node.GetName())]
    if not display.GetVisibility() or display.GetOpacity() <= 0.0:
        return []
    return [GltfSurface(surface, node.GetName(), tuple(display.GetColor()), min(float(display.GetOpacity()), 1.0))]


def _segments(node: Any) -> list[GltfItem]:
    """Closed surfaces of a copy: the node's own representations stay as they were."""
    import slicer
    import vtk

    own = node.GetSegmentation()
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(own)
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    if copy.GetNumberOfSegments() and not copy.CreateRepresentation(name):
        raise InputError(f"{node.GetName()}: no surface can be made from the segmentation")
    matrix, display, items = world_from_node(node), node.GetDisplayNode(), []
    for number in range(copy.GetNumberOfSegments()):
        segment_id = copy.GetNthSegmentID(number)
        segment = copy.GetSegment(segment_id)
        if display is not None and not display.GetSegmentVisibility(segment_id):
            continue
        surface = _surface(vtk.vtkPolyData.SafeDownCast(segment.GetRepresentation(name)), matrix)
        if surface is not None:
            opacity = 1.0 if display is None else float(np.clip(display.GetSegmentOpacity3D(segment_id), 0.05, 1.0))
            items.append(GltfSurface(surface, segment.GetName(), tuple(segment.GetColor()), opacity))
    return items


def _markups(node: Any) -> list[GltfItem]:
    display = node.GetDisplayNode()
    if display is not None and not display.GetVisibility():
        return []
    color = (1.0, 0.3, 0.3) if display is None else tuple(display.GetSelectedColor())
    points = points_from_markups(node)
    if any(node.IsA(kind) for kind in PATH_CLASSES):
        if len(points) < 2:
            return []
        return [GltfPath(_curve(node, points), node.GetName(), color)]
    placed = [n for n in range(node.GetNumberOfControlPoints())
              if node.GetNthControlPointPositionStatus(n) == node.PositionDefined]
    return [GltfPoint(point, node.GetNthControlPointLabel(n) or f"{node.GetName()} {n + 1}", color)
            for n, point in zip(placed, points, strict=True)]


def _curve(node: Any, points: np.ndarray) -> np.ndarray:
    """The interpolated curve where the node has one, in world RAS."""
    from vtk.util.numpy_support import vtk_to_numpy

    curve = node.GetCurvePointsWorld()
    if curve is None or curve.GetNumberOfPoints() < 2:
        return points
    return vtk_to_numpy(curve.GetData()).astype(float)
