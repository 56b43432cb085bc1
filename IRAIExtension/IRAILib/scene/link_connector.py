"""A connection carried by SlicerOpenIGTLink's connector node, where that extension is installed.

The connector makes and fills the nodes; what it doesn't do is added here: a pose that is no longer renewed, or that
its sender calls missing, is LOST and hidden, as with our own link. Robots never hang on this one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..geometry import InputError, MissingPackageError
from .link_status import (
    AGE,
    DEVICE,
    LOST,
    OK,
    PEER,
    SESSION,
    STALE,
    TYPE,
    begin_session,
    end_session,
    set_attribute,
    set_status,
    show_status,
)

CLASS = "vtkMRMLIGTLConnectorNode"
TYPE_OF = {"vtkMRMLLinearTransformNode": "TRANSFORM", "vtkMRMLScalarVolumeNode": "IMAGE",
           "vtkMRMLVectorVolumeNode": "IMAGE", "vtkMRMLStreamingVolumeNode": "VIDEO", "vtkMRMLTextNode": "STRING",
           "vtkMRMLModelNode": "POLYDATA", "vtkMRMLMarkupsFiducialNode": "POINT"}
STATUS_ATTRIBUTES = ("TransformStatus", "TransformValid")
GOOD_WORDS = {"OK", "TRUE", "1", "VALID"}


def has_connector() -> bool:
    """Whether this Slicer has SlicerOpenIGTLink."""
    import slicer

    return hasattr(slicer, CLASS)


class ConnectorBridge:
    """A connector node with the truth about age added. Same use as a LinkBridge: `pump()`, `send_node`, `close`.

    Args: settings: a LinkSettings. clock: seconds that go forward.
    Raises MissingPackageError without SlicerOpenIGTLink, InputError when the connector can't be started.
    """

    def __init__(self, settings, scene=None, *, clock: Callable[[], float] = time.monotonic) -> None:
        import slicer

        if not has_connector():
            raise MissingPackageError("SlicerOpenIGTLink is not installed; get it in the Extensions Manager, or use "
                                      "the link of IRAI itself")
        self.scene, self.settings, self.clock = scene or slicer.mrmlScene, settings, clock
        self.name, self.stale_s = settings.name, settings.stale_s
        self.node: Any = self.scene.GetFirstNode(settings.name, CLASS)
        if self.node is None:
            self.node = self.scene.AddNewNodeByClass(CLASS, settings.name)
        if settings.role == "client":
            self.node.SetTypeClient(settings.host, settings.port)
        else:
            self.node.SetTypeServer(settings.port)
        self.session = f"connector {self.node.GetID()}"
        self._vouched = begin_session(self.session)
        self._seen: dict[str, float] = {}
        self._observed: dict[str, tuple[Any, list[int]]] = {}
        self._closing = self.scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, lambda *_args: self.close())
        if self.node.Start() != 1:
            self.close()
            raise InputError(f"the connector {settings.name} can't be started on {settings.host}:{settings.port}; "
                             "is the port in use?")

    @property
    def connected(self) -> bool:
        """Whether a peer is there now."""
        return self.node is not None and self.node.GetState() == self.node.StateConnected

    def pump(self):
        """Watch new nodes, judge all of them. The connector fills them by its own timer."""
        from .link import PumpResult

        result = PumpResult()
        if self.node is None:
            return result
        for index in range(self.node.GetNumberOfIncomingMRMLNodes()):
            node = self.node.GetIncomingMRMLNode(index)
            if node is not None and node.GetID() not in self._observed:
                self._observe(node)
        now, connected = self.clock(), self.connected
        for node_id in list(self._observed):
            node = self.scene.GetNodeByID(node_id)
            if node is None:
                self._observed.pop(node_id)
                continue
            status, why = self._judge(node, now, connected)
            result.status_changed |= set_status(node, status, why)
            set_attribute(node, AGE, None if status == OK else f"{now - self._seen[node_id]:.1f}")
            if self._seen[node_id] == now:
                result.nodes.add(node_id)
        if result.status_changed:
            show_status(self.scene)
        return result

    def _observe(self, node) -> None:
        import slicer
        import vtk

        events = [vtk.vtkCommand.ModifiedEvent]
        if node.IsA("vtkMRMLTransformNode"):
            events = [slicer.vtkMRMLTransformableNode.TransformModifiedEvent]
        elif node.IsA("vtkMRMLVolumeNode"):
            events = [slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent]
        node_id = node.GetID()
        tags = [node.AddObserver(event, lambda *_args: self._seen.__setitem__(node_id, self.clock()))
                for event in events]
        self._observed[node_id] = (node, tags)
        self._seen[node_id] = self.clock()
        self._vouched.add(node_id)
        for name, value in ((DEVICE, node.GetName()), (TYPE, TYPE_OF.get(node.GetClassName(), "")),
                            (PEER, self.name), (SESSION, self.session)):
            set_attribute(node, name, value)

    def _judge(self, node, now: float, connected: bool) -> tuple[str, str]:
        pose = node.IsA("vtkMRMLTransformNode")
        bad = LOST if pose else STALE
        if not connected:
            return bad, "the connection is gone"
        for name in STATUS_ATTRIBUTES:
            said = node.GetAttribute(name)
            if said is not None and said.upper() not in GOOD_WORDS:
                return bad, f"{name} {said}"
        fixed = node.GetName() in self.settings.static_devices
        if pose and not fixed and now - self._seen[node.GetID()] > self.stale_s:
            return LOST, "no data"
        return OK, ""

    def age_s(self, node) -> float | None:
        """Seconds since a node was renewed; None for a node that is not of this connection."""
        seen = self._seen.get(node.GetID())
        return None if seen is None else max(self.clock() - seen, 0.0)

    def send_node(self, node, device: str | None = None, *, priority: bool = False) -> bool:
        """Push a node through the connector, under its own name. Returns whether a peer is there."""
        if self.node is None or not self.connected:
            return False
        self.node.RegisterOutgoingMRMLNode(node)
        self.node.PushNode(node)
        return True

    def close(self) -> None:
        """Stop the connector: everything it showed is lost. A second call does nothing."""
        if self.node is None:
            return
        node, self.node = self.node, None
        self.scene.RemoveObserver(self._closing)
        for observed, tags in self._observed.values():
            for tag in tags:
                observed.RemoveObserver(tag)
        node.Stop()
        end_session(self.session)
        for node_id in self._observed:
            found = self.scene.GetNodeByID(node_id)
            if found is not None:
                set_status(found, LOST if found.IsA("vtkMRMLTransformNode") else STALE, "the connection is gone")
        self._observed.clear()
        show_status(self.scene)
