"""Nodes as messages, to be sent. Places are world RAS, but for a transform, which goes as it is to its parent."""

from __future__ import annotations

import numpy as np

from ..geometry import InputError
from .nodes import matrix_from_vtk, points_from_markups, world_from_node


def message_from_node(node, device: str | None = None):
    """The message that carries a node now.

    A linear transform becomes a TRANSFORM (to its parent), a scalar or vector volume an IMAGE, a markups line a
    TRAJ (entry, target), other markups a POINT, a model a POLYDATA, a text a STRING.
    Raises InputError for any other node, an empty volume, a deformable transform, an unfinished line.
    """
    if node is None:
        raise InputError("nothing to send: choose a node")
    name = device or node.GetName()
    for class_name, function in (("vtkMRMLTransformNode", _transform), ("vtkMRMLVolumeNode", _image),
                                 ("vtkMRMLMarkupsLineNode", _line), ("vtkMRMLMarkupsNode", _points),
                                 ("vtkMRMLModelNode", _model), ("vtkMRMLTextNode", _text)):
        if node.IsA(class_name):
            return function(node, name)
    raise InputError(f"{node.GetName()}: a {node.GetNodeTagName()} can't be sent over OpenIGTLink; send a transform, "
                     "volume, markups, model or text")


def _transform(node, name: str):
    import vtk

    from ..link.messages import Transform

    if not node.IsLinear():
        raise InputError(f"{node.GetName()}: is deformable, and OpenIGTLink carries linear transforms only")
    matrix = vtk.vtkMatrix4x4()
    node.GetMatrixTransformToParent(matrix)
    return Transform(matrix_from_vtk(matrix), device=name)


def _image(node, name: str):
    import slicer
    import vtk

    from ..link.messages import Image

    if node.GetImageData() is None or node.GetImageData().GetNumberOfPoints() == 0:
        raise InputError(f"{node.GetName()}: the volume holds no image")
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    array = slicer.util.arrayFromVolume(node)
    if array.dtype not in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64):
        array = array.astype(np.float32)
    return Image(array, world_from_node(node) @ matrix_from_vtk(matrix), device=name)


def _line(node, name: str):
    from ..link.messages import Trajectory, TrajectoryItem

    points = points_from_markups(node)
    if len(points) < 2:
        raise InputError(f"{node.GetName()}: the line has {len(points)} of its two points; place both")
    return Trajectory([TrajectoryItem(_cut(node.GetName(), 64), entry=points[0], target=points[1], rgba=_rgba(node))],
                      device=name)


def _points(node, name: str):
    from ..link.messages import Point, PointItem

    items = []
    for number, xyz in enumerate(points_from_markups(node)):
        label = node.GetNthControlPointLabel(number) or f"{number + 1}"
        items.append(PointItem(_cut(label, 64), _cut(node.GetName(), 32), _rgba(node), xyz))
    return Point(items, device=name)


def _model(node, name: str):
    from .link_surfaces import message_from_model

    return message_from_model(node, name)


def _text(node, name: str):
    from ..link.messages import String

    return String(node.GetText() or "", device=name)


def _rgba(node) -> tuple[int, int, int, int]:
    display = node.GetDisplayNode()
    color = display.GetSelectedColor() if display is not None else (1.0, 1.0, 1.0)
    return tuple(round(255 * value) for value in color) + (255,)  # type: ignore[return-value]


def _cut(text: str, size: int) -> str:
    """As much of a text as fits into so many bytes of UTF-8."""
    return text.encode("utf-8")[:size].decode("utf-8", errors="ignore")
