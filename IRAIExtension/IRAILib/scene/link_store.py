"""What a scene remembers of its connections, so that a saved scene opens disconnected, says so, and finds its nodes.

A connection is a hidden vtkMRMLScriptedModuleNode with the peer's address; live sockets are never stored. After a
load every pose is LOST until a bridge of the same connection name takes its nodes over again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..geometry import InputError
from .link_status import DEVICE, LOST, POSES, STALE, TYPE, is_renewed, set_status, show_status

MODULE = "IRAILink"
"""ModuleName of the nodes that hold a connection."""
CLIENT, SERVER = "client", "server"
PORT = 18944
"""The port that OpenIGTLink programs use when nobody says otherwise."""


@dataclass
class LinkSettings:
    """A connection as a user describes it.

    Attributes:
        name: of the connection; its nodes remember it.
        role: "client" goes to host:port, "server" waits on `port` (0: any free one) of `host`.
        host: name or address; a server listens on this one only, and on loopback unless told otherwise.
        stale_s: silence after which a pose is lost, seconds.
        static_devices: devices that send a pose once and mean it for good.
        use_slicer: let SlicerOpenIGTLink's connector node carry the data where that extension is installed.
    """

    name: str = "OpenIGTLink"
    role: str = CLIENT
    host: str = "127.0.0.1"
    port: int = PORT
    stale_s: float = 0.4
    static_devices: list[str] = field(default_factory=list)
    use_slicer: bool = True

    def __post_init__(self) -> None:
        if self.role not in (CLIENT, SERVER):
            raise InputError(f"a connection is a client or a server, not '{self.role}'")
        if not 0 <= self.port <= 65535 or (self.role == CLIENT and self.port == 0):
            raise InputError(f"{self.port} is no port to connect to; use 1 to 65535, usually {PORT}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def connect(settings: LinkSettings, scene=None, *, clock: Callable[[], float] = time.monotonic):
    """Start a connection and the bridge that carries it into the scene, and let the scene remember it.

    A client that finds no peer goes on trying. Where SlicerOpenIGTLink is installed its connector node carries the
    data, unless the settings say otherwise.
    Returns: a LinkBridge or a ConnectorBridge. Raises InputError for an address that can't be used.
    """
    from ..link.client import LinkClient
    from ..link.server import LinkServer
    from .link import LinkBridge
    from .link_connector import ConnectorBridge, has_connector

    if settings.use_slicer and has_connector():
        remember_link(settings, scene)
        return ConnectorBridge(settings, scene, clock=clock)
    if settings.role == CLIENT:
        source = LinkClient(settings.host, settings.port).start()
    else:
        source = LinkServer(settings.port, settings.host)
        source.start()
    remember_link(settings, scene)
    return LinkBridge(source, scene, name=settings.name, stale_s=settings.stale_s,
                      static_devices=settings.static_devices, clock=clock)


def remember_link(settings: LinkSettings, scene=None) -> Any:
    """Write the settings into the scene, in place of earlier ones of that name. Returns the node."""
    scene = _scene(scene)
    node = next((node for node in _link_nodes(scene) if node.GetParameter("name") == settings.name), None)
    if node is None:
        node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetModuleName(MODULE)
        node.SetAttribute("ModuleName", MODULE)
        node.SetName(f"Connection {settings.name}")
        node.SetHideFromEditors(True)
        scene.AddNode(node)
    was = node.StartModify()
    for name, value in settings.to_dict().items():
        node.SetParameter(name, ";".join(value) if isinstance(value, list) else str(value))
    node.EndModify(was)
    return node


def forget_link(name: str, scene=None) -> None:
    """Take a connection's settings out of the scene; its nodes stay."""
    scene = _scene(scene)
    for node in _link_nodes(scene):
        if node.GetParameter("name") == name:
            scene.RemoveNode(node)


def known_links(scene=None) -> list[LinkSettings]:
    """The connections that a scene remembers, in the order in which they were made. Damaged entries are left out."""
    out = []
    for node in _link_nodes(_scene(scene)):
        try:
            out.append(LinkSettings(
                name=node.GetParameter("name"), role=node.GetParameter("role"), host=node.GetParameter("host"),
                port=int(node.GetParameter("port")), stale_s=float(node.GetParameter("stale_s")),
                static_devices=[d for d in (node.GetParameter("static_devices") or "").split(";") if d],
                use_slicer=node.GetParameter("use_slicer") != "False"))
        except (ValueError, TypeError, InputError):
            continue
    return out


def mark_unconnected(scene=None) -> int:
    """After a scene was loaded: everything that no live bridge renews is lost. Returns how many nodes that are."""
    scene = _scene(scene)
    count = 0
    for index in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(index)
        if node.GetAttribute(DEVICE) is None or is_renewed(node):
            continue
        set_status(node, LOST if node.GetAttribute(TYPE) in POSES else STALE, "from a saved scene")
        count += 1
    show_status(scene)
    return count


def watch_loads(scene=None) -> Callable[[], None]:
    """Mark what comes from a file as lost, whenever a scene is loaded. Returns a function that ends the watch."""
    import slicer

    scene = _scene(scene)
    tag = scene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, lambda *_args: mark_unconnected(scene))
    return lambda: scene.RemoveObserver(tag)


def _scene(scene) -> Any:
    import slicer

    return scene if scene is not None else slicer.mrmlScene


def _link_nodes(scene) -> list[Any]:
    collection = scene.GetNodesByClass("vtkMRMLScriptedModuleNode")
    collection.UnRegister(None)
    nodes = [collection.GetItemAsObject(index) for index in range(collection.GetNumberOfItems())]
    return [node for node in nodes if node.GetModuleName() == MODULE]
