"""An OpenIGTLink connection in the scene: what arrives becomes nodes, what is asked for is sent.

A LinkClient or LinkServer receives in its own threads; `LinkBridge.pump()` carries what is new into nodes, in the
thread that owns the scene: a Qt timer calls it in Slicer, a loop (`pump_until`) without a desktop. Nodes are named
by device and are of the classes that SlicerOpenIGTLink makes. Every node says whether it may be believed
(`link_status`): a pose is LOST when its sender says so, when nothing came for `stale_s`, and when the connection is
gone; a picture or a sensor that is no longer renewed is STALE.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..geometry import InputError
from .link_nodes import NODE_WRITERS, RENEWED_TYPES, Target, said_status
from .link_send import message_from_node
from .link_status import (
    AGE,
    DEVICE,
    LOST,
    OK,
    PEER,
    POSES,
    SESSION,
    STALE,
    TIME,
    TYPE,
    begin_session,
    end_session,
    set_attribute,
    set_status,
    show_status,
)
from .nodes import matrix_to_vtk

LOGGER = logging.getLogger("IRAI.link")
STALE_S = 0.4
"""Silence after which a pose is lost: with a pump every 50 ms it is shown as lost within half a second."""
LATE_FRAMES = 3.0
LONGEST_STALE_S = 5.0
"""A picture is stale after three of its own intervals, at least `stale_s` and at most this."""
RECHECK_S = 0.25
"""While something is lost the views are checked this often: what a user hangs under a lost pose is hidden too."""
MAX_NODES = 256
DESCRIPTION = "Received by OpenIGTLink"
COMMAND_PREFIXES = ("ACK_", "CLB_", "TGT_", "NPOS_", "CMD_")
"""Devices of one answer each: they go to the listeners, a node for each would fill the scene."""


@dataclass
class Stream:
    """One node that a link keeps up to date. Times are of the bridge's clock, seconds."""

    node_id: str
    type: str
    device: str
    received_s: float
    interval_s: float | None = None
    count: int = 0
    said: str = OK
    why: str = ""
    client: Any = None


@dataclass
class PumpResult:
    """What one `pump()` did."""

    messages: int = 0
    nodes: set[str] = field(default_factory=set)
    status_changed: bool = False


class LinkBridge:
    """Carries a link into a scene and nodes onto the link.

    Args:
        source: started LinkClient or LinkServer; the bridge closes it in `close()`.
        scene: vtkMRMLScene; None is slicer.mrmlScene.
        name: of this connection; nodes remember it, so that a reloaded scene finds its own again.
        stale_s: silence after which a pose counts as lost.
        static_devices: devices that send a pose once and mean it for good (a registration, a calibration); they
            are lost only with the connection.
        clock: seconds as time.monotonic gives them, the clock of the messages' `received_s`.
    """

    def __init__(self, source, scene=None, *, name: str = "OpenIGTLink", stale_s: float = STALE_S,
                 static_devices: Iterable[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        import slicer

        if not stale_s > 0.0:
            raise InputError(f"a link needs a time after which a pose is lost, not {stale_s:g} s")
        self.source, self.scene = source, scene if scene is not None else slicer.mrmlScene
        self.name, self.stale_s, self.clock = name, stale_s, clock
        self.static_devices = set(static_devices)
        self.listeners: list[Callable[[Any], None]] = []
        self.image_matrix: Callable[[Any], Any] | None = None  # a picture's (4, 4) as it is to lie in the scene
        self.streams: dict[tuple[str, str], Stream] = {}
        self.ignored: dict[str, int] = {}
        self.last_error = ""
        self._follows: dict[str, tuple[str, str, Any]] = {}
        self._changed: set[str] = set()
        self._checked_s = float("-inf")
        self._connected = False
        self.session = uuid.uuid4().hex
        self._vouched = begin_session(self.session)
        events = slicer.vtkMRMLScene
        self._observers = [self.scene.AddObserver(event, callback) for event, callback in (
            (events.StartCloseEvent, self._scene_closes), (events.StartSaveEvent, self._scene_saves),
            (events.EndSaveEvent, self._scene_saved))]

    # ---- in

    @property
    def connected(self) -> bool:
        """Whether a peer is there now."""
        return self.source is not None and _is_connected(self.source)

    def pump(self) -> PumpResult:
        """Carry what is new into nodes, note what is lost, send what was followed. Call it in the scene's thread."""
        result = PumpResult()
        if self.source is None:
            return result
        messages = [part for message in self.source.drain() for part in _parts(message)]
        held: list[tuple[Any, int]] = []
        try:
            for message in messages:
                self._take(message, held, result)
        finally:
            for node, was in held:
                node.EndModify(was)
        result.messages = len(messages)
        result.status_changed = self._watch()
        self._send_changed()
        return result

    def pump_until(self, condition: Callable[[], bool], timeout_s: float = 2.0) -> bool:
        """Pump until the condition holds. Returns whether it did in time. For programs without an event loop."""
        end = time.monotonic() + timeout_s
        while True:
            self.pump()
            if condition():
                return True
            left = end - time.monotonic()
            if left <= 0.0 or self.source is None:
                return False
            self.source.wait(min(left, 0.02))

    def _take(self, message, held: list, result: PumpResult) -> None:
        for listener in list(self.listeners):
            listener(message)
        writer = NODE_WRITERS.get(message.TYPE)
        if writer is None or not message.device or message.device.startswith(COMMAND_PREFIXES):
            self.ignored[message.TYPE] = self.ignored.get(message.TYPE, 0) + 1
            return
        try:
            for target in writer(message):
                self._write(target, message, held, result)
        except InputError as error:
            self.last_error = f"{message.TYPE} {message.device}: {error}"
            LOGGER.warning("%s", self.last_error)

    def _write(self, target: Target, message, held: list, result: PumpResult) -> None:
        key = (message.TYPE, target.name)
        stream = self.streams.get(key)
        node = self.scene.GetNodeByID(stream.node_id) if stream is not None else None
        if stream is None or node is None or not node.IsA(target.class_name):
            node = self._node(target, message)
            stream = self.streams[key] = Stream(node.GetID(), message.TYPE, target.name, self.clock())
        held.append((node, node.StartModify()))
        target.write(node)
        if message.TYPE == "IMAGE" and self.image_matrix is not None:
            node.SetIJKToRASMatrix(matrix_to_vtk(self.image_matrix(message.ras_from_ijk)))
        received = getattr(message, "received_s", None)
        received = self.clock() if received is None else received
        if stream.count:
            step = max(received - stream.received_s, 0.0)
            stream.interval_s = step if stream.interval_s is None else 0.8 * stream.interval_s + 0.2 * step
        stream.received_s, stream.count = received, stream.count + 1
        stream.client = getattr(message, "client", None)
        stream.said, stream.why = target.status or said_status(message)
        set_attribute(node, TIME, f"{message.time_s:.6f}" if message.time_s is not None else None)
        result.nodes.add(node.GetID())

    def _node(self, target: Target, message) -> Any:
        """The node of a device: one that this connection kept (also in a reloaded scene), one of that name, or new."""
        node = find_node(self.scene, target.class_name, target.name, message.TYPE, self.name)
        if node is None:
            if len(self.streams) >= MAX_NODES:
                raise InputError(f"more than {MAX_NODES} devices: this one gets no node; check what the peer sends")
            node = self.scene.AddNewNodeByClass(target.class_name, target.name)
            node.SetDescription(DESCRIPTION)
        for name, value in ((DEVICE, target.name), (TYPE, message.TYPE), (PEER, self.name), (SESSION, self.session)):
            set_attribute(node, name, value)
        self._vouched.add(node.GetID())
        for name, value in target.attributes.items():
            set_attribute(node, name, value)
        return node

    # ---- what it is worth

    def age_s(self, node) -> float | None:
        """Seconds since a node's last message; None for a node that is not of this link."""
        stream = next((s for s in self.streams.values() if s.node_id == node.GetID()), None)
        return None if stream is None else max(self.clock() - stream.received_s, 0.0)

    def _watch(self) -> bool:
        now, connected = self.clock(), self.connected
        clients = _client_ids(self.source)
        changed, any_lost = connected != self._connected, False
        self._connected = connected
        for stream in self.streams.values():
            node = self.scene.GetNodeByID(stream.node_id)
            if node is None:
                continue
            gone = not connected or (clients is not None and stream.client is not None
                                     and stream.client not in clients)
            status, why = self._judge(stream, now, gone)
            changed |= set_status(node, status, why)
            set_attribute(node, AGE, None if status == OK else f"{max(now - stream.received_s, 0.0):.1f}")
            any_lost |= status != OK
        if changed or (any_lost and now - self._checked_s >= RECHECK_S):
            self._checked_s = now
            show_status(self.scene)
        return changed

    def _judge(self, stream: Stream, now: float, gone: bool) -> tuple[str, str]:
        pose = stream.type in POSES
        if gone:
            return (LOST if pose else STALE), "the connection is gone"
        if stream.said != OK:
            return (LOST if pose else STALE), stream.why
        silent = now - stream.received_s
        if pose and stream.device not in self.static_devices and silent > self.stale_s:
            return LOST, "no data"
        if stream.type in RENEWED_TYPES and stream.interval_s is not None:
            limit = min(max(self.stale_s, LATE_FRAMES * stream.interval_s), LONGEST_STALE_S)
            if silent > limit:
                return STALE, "no new data"
        return OK, ""

    def _all_gone(self) -> None:
        for stream in self.streams.values():
            node = self.scene.GetNodeByID(stream.node_id)
            if node is not None:
                set_status(node, LOST if stream.type in POSES else STALE, "the connection is gone")
        show_status(self.scene)

    # ---- out

    def send(self, message, *, priority: bool = False) -> bool:
        """Send a message. Returns whether a peer took it; nothing is kept for a later connection."""
        return self.source is not None and bool(self.source.send(message, priority=priority))

    def send_node(self, node, device: str | None = None, *, priority: bool = False) -> bool:
        """Send a transform, volume, markups, model or text node as it is now, named `device` or as the node.

        Raises InputError for a node that has no message. Returns whether a peer took it.
        """
        return self.send(message_from_node(node, device), priority=priority)

    def follow(self, node, device: str | None = None) -> None:
        """Send a node now and whenever it changes, at most once a pump. Raises InputError as `send_node`."""
        import slicer
        import vtk

        message_from_node(node, device)
        self.unfollow(node)
        node_id = node.GetID()
        events = [vtk.vtkCommand.ModifiedEvent]
        if node.IsA("vtkMRMLTransformNode"):
            events.append(slicer.vtkMRMLTransformableNode.TransformModifiedEvent)
        elif node.IsA("vtkMRMLMarkupsNode"):
            events.append(slicer.vtkMRMLMarkupsNode.PointModifiedEvent)
        elif node.IsA("vtkMRMLVolumeNode"):
            events.append(slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent)
        tags = [node.AddObserver(event, lambda *_args: self._changed.add(node_id)) for event in events]
        self._follows[node_id] = (node_id, device or node.GetName(), (node, tags))
        self._changed.add(node_id)

    def unfollow(self, node) -> None:
        """Send a node no more by itself."""
        entry = self._follows.pop(node.GetID(), None)
        if entry is not None:
            followed, tags = entry[2]
            for tag in tags:
                followed.RemoveObserver(tag)

    def _send_changed(self) -> None:
        if not self._changed or not self.connected:
            return
        for node_id in list(self._changed):
            entry, node = self._follows.get(node_id), self.scene.GetNodeByID(node_id)
            if entry is None or node is None or self.send_node(node, entry[1]):
                self._changed.discard(node_id)

    # ---- the scene goes, is saved, is loaded

    def _scene_closes(self, *_args) -> None:
        self.close()

    def _scene_saves(self, *_args) -> None:
        """A file must not say that a tool is seen: nobody sees it when the file is opened."""
        for stream in self.streams.values():
            node = self.scene.GetNodeByID(stream.node_id)
            if node is not None:
                set_status(node, LOST if stream.type in POSES else STALE, "from a saved scene")
        show_status(self.scene)

    def _scene_saved(self, *_args) -> None:
        if self.source is not None:
            self._watch()
            show_status(self.scene)

    def close(self) -> None:
        """End the connection: everything it showed is lost. The nodes stay. A second call does nothing."""
        if self.source is None:
            return
        source, self.source = self.source, None
        for tag in self._observers:
            self.scene.RemoveObserver(tag)
        for _node_id, _device, (node, tags) in self._follows.values():
            for tag in tags:
                node.RemoveObserver(tag)
        self._follows.clear()
        self.listeners.clear()
        source.close()
        end_session(self.session)
        self._all_gone()
        self.streams.clear()


def find_node(scene, class_name: str, name: str, type_name: str, connection: str) -> Any:
    """The node that takes a device's messages, or None: its own of before, else one of that class and name.

    A node that another type of message writes (a STRING and a STATUS of one name are both texts) or another
    connection owns is left alone.
    """
    collection = scene.GetNodesByClass(class_name)
    collection.UnRegister(None)
    named = None
    for index in range(collection.GetNumberOfItems()):
        node = collection.GetItemAsObject(index)
        if node.GetClassName() != class_name:
            continue
        own = (node.GetAttribute(DEVICE), node.GetAttribute(TYPE), node.GetAttribute(PEER))
        if own == (name, type_name, connection):
            return node
        if own == (None, None, None) and node.GetName() == name and named is None:
            named = node
    return named


def _parts(message) -> list[Any]:
    """The messages inside a BIND, with its times; any other message alone."""
    if message.TYPE != "BIND":
        return [message]
    parts = [part for child in message.children if (part := child.message()) is not None]
    for part in parts:
        part.time_s, part.metadata = message.time_s, message.metadata
        part.received_s, part.received_time_s, part.client = (message.received_s, message.received_time_s,
                                                              message.client)
    return parts


def _is_connected(source) -> bool:
    clients = _client_ids(source)
    if clients is not None:
        return bool(clients)
    return getattr(source.state, "name", str(source.state)) == "CONNECTED"


def _client_ids(source) -> set | None:
    """IDs of a server's clients, None for a client."""
    clients = getattr(source, "clients", None)
    if clients is None:
        return None
    return {getattr(client, "id", client) for client in clients()}
