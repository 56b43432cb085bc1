"""What a node that comes over a link is worth: OK, LOST or STALE, as attributes and as what the views show.

A tool that is lost must never stand in a view as if it were still where it was last seen: everything under its
transform is hidden, and shown again when the tool is back. A picture that is no longer renewed is dimmed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .nodes import matrix_from_vtk

OK, LOST, STALE = "OK", "LOST", "STALE"
PREFIX = "IRAI.Link."
STATUS, WHY, DEVICE, TYPE, FRAME = (PREFIX + name for name in ("Status", "Why", "Device", "Type", "Frame"))
TIME, AGE, PEER = PREFIX + "Time", PREFIX + "Age", PREFIX + "Connection"
SESSION = PREFIX + "Session"
"""Attribute: which live bridge renews a node. A file may say OK; without its bridge nobody believes it."""
HIDDEN = PREFIX + "Hidden"
"""Attribute of a display node that was hidden because the pose it hangs on is lost: only it is shown again."""
DIMMED = PREFIX + "Colors"
"""Attribute of a volume's display node: ID of the colours it had before it was dimmed."""
DIM_COLORS = "IRAI stale image (dimmed)"
DIM_TOP = 0.35
POSES = frozenset({"TRANSFORM", "POSITION", "TDATA", "QTDATA"})
"""Types of messages that say where an instrument is: LOST when nothing comes. All others become STALE."""
_live: dict[str, set[str]] = {}


def begin_session(session: str) -> set[str]:
    """A bridge begins: the set of node IDs that it vouches for, which it keeps up to date."""
    return _live.setdefault(session, set())


def end_session(session: str) -> None:
    """A bridge ends: what it vouched for is lost."""
    _live.pop(session, None)


def is_renewed(node) -> bool:
    """Whether a live bridge vouches for a node."""
    return node.GetID() in _live.get(node.GetAttribute(SESSION) or "", ())


def status_of(node) -> str | None:
    """OK, LOST or STALE of a node that comes over a link; None for any other node.

    What a loaded scene says is not believed: without a live bridge a pose is LOST, everything else STALE.
    """
    if node is None:
        return None
    status = node.GetAttribute(STATUS)
    if status == OK and not is_renewed(node):
        return LOST if node.GetAttribute(TYPE) in POSES else STALE
    return status


def is_live(node) -> bool:
    """Whether a node and every transform above it may be believed: no link node among them is LOST or STALE."""
    while node is not None:
        if status_of(node) not in (None, OK):
            return False
        node = node.GetParentTransformNode() if hasattr(node, "GetParentTransformNode") else None
    return True


def pose_of(node) -> np.ndarray | None:
    """(4, 4) world RAS from a transform node's own frame, or None when it or a transform above it is lost."""
    import vtk

    if node is None or not is_live(node) or not node.IsTransformToWorldLinear():
        return None
    matrix = vtk.vtkMatrix4x4()
    node.GetMatrixTransformToWorld(matrix)
    return matrix_from_vtk(matrix)


def set_attribute(node, name: str, value: str | None) -> bool:
    """Set an attribute only where it differs (each change is an event to every widget). Returns whether it did."""
    if node.GetAttribute(name) == value:
        return False
    node.SetAttribute(name, value)
    return True


def set_status(node, status: str, why: str = "") -> bool:
    """Note a status and its reason on a node. Returns whether the status changed; the views need `show_status` then."""
    changed = set_attribute(node, STATUS, status)
    set_attribute(node, WHY, why or None)
    return changed


def show_status(scene) -> None:
    """Bring every view in step with the statuses: hide what hangs on a lost pose, dim pictures that are stale."""
    for node in _nodes(scene, "vtkMRMLDisplayableNode"):
        if node.IsA("vtkMRMLVolumeNode"):
            _dim(node, not is_live(node))
        elif node.GetParentTransformNode() is not None or status_of(node) is not None or _was_hidden(node):
            _hide(node, not is_live(node))


def _nodes(scene, class_name: str) -> list[Any]:
    collection = scene.GetNodesByClass(class_name)
    collection.UnRegister(None)
    return [collection.GetItemAsObject(index) for index in range(collection.GetNumberOfItems())]


def _displays(node) -> list[Any]:
    every = (node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes()))
    return [display for display in every if display is not None]


def _was_hidden(node) -> bool:
    return any(display.GetAttribute(HIDDEN) for display in _displays(node))


def _hide(node, hide: bool) -> None:
    for display in _displays(node):
        if hide and display.GetVisibility():
            display.SetAttribute(HIDDEN, "1")
            display.SetVisibility(False)
        elif not hide and display.GetAttribute(HIDDEN):
            display.SetAttribute(HIDDEN, None)
            display.SetVisibility(True)


def _dim(volume, dim: bool) -> None:
    display = volume.GetDisplayNode()
    if display is None or not display.IsA("vtkMRMLScalarVolumeDisplayNode"):
        return
    before = display.GetAttribute(DIMMED)
    if dim and before is None:
        display.SetAttribute(DIMMED, display.GetColorNodeID() or "vtkMRMLColorTableNodeGrey")
        display.SetAndObserveColorNodeID(dim_colors(volume.GetScene()).GetID())
    elif not dim and before is not None:
        display.SetAttribute(DIMMED, None)
        display.SetAndObserveColorNodeID(before)


def dim_colors(scene) -> Any:
    """The colour table of pictures that are no longer renewed: grey that never gets bright. Made on first use."""
    node = scene.GetFirstNode(DIM_COLORS, "vtkMRMLColorTableNode")
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLColorTableNode", DIM_COLORS)
        node.SetTypeToUser()
        node.SetNumberOfColors(256)
        for index in range(256):
            node.SetColor(index, f"{index}", *([DIM_TOP * index / 255.0] * 3), 1.0)
        if hasattr(node, "SetAllColorsDefined"):
            node.SetAllColorsDefined()
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(True)
    return node


def connection_text(bridge, server=None) -> str:
    """One line on a live bridge's connection. server: the replay that it listens to, if it is one."""
    if bridge is None or bridge.source is None:
        return "Not connected"
    status = bridge.source.status()
    if bridge.connected and server is not None and server.finished:
        return "Replay: at its end"
    if bridge.connected:
        return f"Connected to {status.peer}" if status.peer else "Connected"
    return f"No connection{': ' + status.last_error if status.last_error else ''}"
