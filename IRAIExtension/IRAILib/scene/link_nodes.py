"""Which node a message of OpenIGTLink becomes, and how it is written into it.

Classes and names are those of SlicerOpenIGTLink: the device's name is the node's name, an IMAGE is a scalar or a
vector volume, a TRANSFORM goes *to parent*. Coordinates are taken as RAS mm, as Slicer does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..geometry import InputError
from .link_status import FRAME, LOST, OK, POSES, PREFIX, STALE, set_attribute
from .nodes import matrix_to_vtk
from .write import rows_to_table

RENEWED_TYPES = frozenset({"IMAGE", "SENSOR", "NDARRAY"})
"""What is stale when it was sent again and again and then no more."""
TRANSFORM_STATUS = "TransformStatus"
GOOD_WORDS = {"OK", "TRUE", "1", "VALID"}
STATUS_KEYS = ("TransformStatus", "TransformValid", "ImageStatus", "Status")


@dataclass
class Target:
    """One node that a message is for.

    Attributes:
        name, class_name: of the node. write: puts the message into it.
        attributes: set when the node is made or taken over.
        status, why: of this node, where one message speaks of several instruments; None: the message's own.
    """

    name: str
    class_name: str
    write: Callable[[Any], None]
    attributes: dict[str, str] = field(default_factory=dict)
    status: str | None = None
    why: str = ""


def said_status(message) -> tuple[str, str]:
    """(OK or LOST or STALE, why) by what the sender says in the metadata (PLUS: TransformStatus, TransformValid)."""
    words = {key.lower(): value for key, value in message.metadata.items()}
    for key in STATUS_KEYS:
        value = words.get(key.lower())
        if value is not None and value.strip().upper() not in GOOD_WORDS:
            return (LOST if message.TYPE in POSES else STALE), f"{key} {value.strip()}"
    return OK, ""


def frames_of(device: str) -> str | None:
    """The frame that a pose or an image is given in, by PLUS's names: ProbeToTracker, Image_Reference; else None."""
    for mark in ("To", "_"):
        left, found, right = device.rpartition(mark)
        if found and left and right and (mark == "_" or right[0].isupper()):
            return right
    return None


# ---------------------------------------------------------------------------------------------- poses
def _set_matrix(node, matrix: np.ndarray) -> None:
    node.SetMatrixTransformToParent(matrix_to_vtk(matrix))


def _pose_target(name: str, matrix: np.ndarray, message) -> Target:
    def write(node) -> None:
        _set_matrix(node, matrix)
        status = message.metadata.get(TRANSFORM_STATUS)
        if status is not None:
            set_attribute(node, TRANSFORM_STATUS, status)

    frame = frames_of(name)
    return Target(name, "vtkMRMLLinearTransformNode", write, {FRAME: frame} if frame else {})


def _pose(message) -> list[Target]:
    return [_pose_target(message.device, message.matrix, message)]


def _tools(message) -> list[Target]:
    return [_pose_target(tool.name or f"{message.device}_{number}", tool.matrix, message)
            for number, tool in enumerate(message.tools)]


# ---------------------------------------------------------------------------------------------- pictures
def _image(message) -> list[Target]:
    array = message.array if message.array.ndim > 2 else message.array[None]
    components = array.shape[3] if array.ndim == 4 else 1
    class_name = "vtkMRMLVectorVolumeNode" if components > 1 else "vtkMRMLScalarVolumeNode"
    frame = frames_of(message.device)
    return [Target(message.device, class_name, lambda node: write_image(node, message, array),
                   {FRAME: frame} if frame else {})]


def write_image(node, message, array: np.ndarray) -> None:
    """Put an image's voxels and matrix into a volume node; the node's own memory is used again when the size is
    the same, so that a stream allocates nothing and no view of a receive buffer outlives it.

    Raises InputError for a part of an image that the node doesn't hold in that size.
    """
    whole = message.size_ijk or array.shape[2::-1]
    shape = (whole[2], whole[1], whole[0], *array.shape[3:])
    target = _voxels(node, shape, array.dtype.newbyteorder("="), may_make=message.is_whole)
    if target is None:
        raise InputError("a part of an image came before the whole one, or of another size; it is left out")
    i, j, k = message.offset_ijk if not message.is_whole else (0, 0, 0)
    np.copyto(target[k:k + array.shape[0], j:j + array.shape[1], i:i + array.shape[2]], array, casting="same_kind")
    node.SetIJKToRASMatrix(matrix_to_vtk(message.ras_from_ijk))
    image = node.GetImageData()
    image.GetPointData().GetScalars().Modified()
    image.Modified()
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
        if array.dtype == np.uint8 and array.ndim == 3:
            node.GetDisplayNode().AutoWindowLevelOff()
            node.GetDisplayNode().SetWindowLevel(255.0, 127.5)


def _voxels(node, shape: tuple[int, ...], dtype, may_make: bool) -> np.ndarray | None:
    """The node's own voxels as a writable (k, j, i[, c]) view, made anew when size or type differ."""
    import vtk
    from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

    image = node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image is not None else None
    components = shape[3] if len(shape) == 4 else 1
    kind = get_vtk_array_type(dtype)
    fits = (image is not None and scalars is not None and image.GetDimensions() == (shape[2], shape[1], shape[0])
            and scalars.GetNumberOfComponents() == components and scalars.GetDataType() == kind)
    if not fits:
        if not may_make:
            return None
        image = vtk.vtkImageData()
        image.SetDimensions(shape[2], shape[1], shape[0])
        image.AllocateScalars(kind, components)
        node.SetAndObserveImageData(image)
        scalars = image.GetPointData().GetScalars()
    return vtk_to_numpy(scalars).reshape(shape)


# ---------------------------------------------------------------------------------------------- texts and numbers
def _string(message) -> list[Target]:
    def write(node) -> None:
        if node.GetText() != message.text:
            node.SetText(message.text)

    return [Target(message.device, "vtkMRMLTextNode", write)]


def _status(message) -> list[Target]:
    def write(node) -> None:
        _string_into(node, f"{message.code}:{message.subcode}:{message.error_name} {message.text}".rstrip(": "))
        for name, value in (("StatusCode", message.code), ("StatusMeaning", message.meaning),
                            ("StatusSubcode", message.subcode), ("StatusError", message.error_name),
                            ("StatusText", message.text)):
            set_attribute(node, PREFIX + name, str(value))

    return [Target(message.device, "vtkMRMLTextNode", write)]


def _capability(message) -> list[Target]:
    return [Target(message.device, "vtkMRMLTextNode", lambda node: _string_into(node, "\n".join(message.types)))]


def _string_into(node, text: str) -> None:
    if node.GetText() != text:
        node.SetText(text)


def _sensor(message) -> list[Target]:
    rows = [[number, float(value)] for number, value in enumerate(message.values)]
    return [Target(message.device, "vtkMRMLTableNode",
                   lambda node: rows_to_table(node, ["Channel", "Value"], rows))]


def _image_meta(message) -> list[Target]:
    rows = [[item.name, item.device, item.modality, item.patient_name, item.patient_id, float(item.time_s),
             " x ".join(map(str, item.size_ijk))] for item in message.images]
    header = ["Name", "Device", "Modality", "Patient", "Patient ID", "Time (s)", "Size"]
    return [Target(message.device, "vtkMRMLTableNode", lambda node: rows_to_table(node, header, rows))]


def _label_meta(message) -> list[Target]:
    rows = [[item.name, item.device, item.label, " ".join(map(str, item.rgba)),
             " x ".join(map(str, item.size_ijk)), item.owner] for item in message.labels]
    header = ["Name", "Device", "Label", "Colour", "Size", "Image"]
    return [Target(message.device, "vtkMRMLTableNode", lambda node: rows_to_table(node, header, rows))]


# ---------------------------------------------------------------------------------------------- points and lines
def _points(message) -> list[Target]:
    def write(node) -> None:
        items = message.points
        if node.GetNumberOfControlPoints() != len(items):
            node.RemoveAllControlPoints()
            for item in items:
                node.AddControlPoint([float(value) for value in item.xyz], item.name)
        for index, item in enumerate(items):
            node.SetNthControlPointPosition(index, *(float(value) for value in item.xyz))
            node.SetNthControlPointLabel(index, item.name)
            node.SetNthControlPointDescription(index, item.group)
        _first_style(node, items)

    return [Target(message.device, "vtkMRMLMarkupsFiducialNode", write)]


def _trajectories(message) -> list[Target]:
    targets = []
    for number, item in enumerate(message.trajectories):
        name = message.device if len(message.trajectories) == 1 else f"{message.device} {item.name or number + 1}"
        ends = {1: [item.entry], 2: [item.target]}.get(item.kind, [item.entry, item.target])
        targets.append(Target(name, "vtkMRMLMarkupsLineNode",
                              lambda node, item=item, ends=ends: _write_line(node, item, ends)))
    return targets


def _write_line(node, item, ends) -> None:
    """First point the entry, second the target, as a plan is read everywhere here."""
    if node.GetNumberOfControlPoints() != len(ends):
        node.RemoveAllControlPoints()
        for point in ends:
            node.AddControlPoint([float(value) for value in point])
    for index, point in enumerate(ends):
        node.SetNthControlPointPosition(index, *(float(value) for value in point))
    _first_style(node, [item])


def _first_style(node, items) -> None:
    """The first item's colour for the whole node: markups have one colour a node."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    if items:
        color = [value / 255.0 for value in items[0].rgba[:3]]
        display = node.GetDisplayNode()
        if not np.allclose(display.GetSelectedColor(), color, atol=1e-3):
            display.SetColor(*color)
            display.SetSelectedColor(*color)
    if items and items[0].owner:
        set_attribute(node, PREFIX + "Owner", items[0].owner)


# ---------------------------------------------------------------------------------------------- surfaces, colours
def _model(message) -> list[Target]:
    from .link_surfaces import write_polydata

    return [Target(message.device, "vtkMRMLModelNode", lambda node: write_polydata(node, message))]


def _colors(message) -> list[Target]:
    from .link_surfaces import write_colors

    return [Target(message.device, "vtkMRMLColorTableNode", lambda node: write_colors(node, message))]


def _ndarray(message) -> list[Target]:
    from .link_surfaces import array_rows

    header, rows = array_rows(message)
    return [Target(message.device, "vtkMRMLTableNode", lambda node: rows_to_table(node, header, rows))]


NODE_WRITERS: dict[str, Callable[[Any], list[Target]]] = {
    "TRANSFORM": _pose, "POSITION": _pose, "TDATA": _tools, "QTDATA": _tools, "IMAGE": _image, "STRING": _string,
    "STATUS": _status, "CAPABILITY": _capability, "SENSOR": _sensor, "IMGMETA": _image_meta, "LBMETA": _label_meta,
    "POINT": _points, "TRAJ": _trajectories, "POLYDATA": _model, "COLORT": _colors, "NDARRAY": _ndarray,
}
"""{message type: function from a message to the nodes it is for}. What is not here becomes no node."""
