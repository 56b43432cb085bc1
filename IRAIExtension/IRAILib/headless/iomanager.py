"""What slicer.util.load*, save* and exportNode call: qSlicerCoreIOManager's methods without Qt."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

from .errors import HeadlessAttributeError, unavailable
from .filetypes import READER_EXTENSIONS, file_type, node_file_type
from .readers import Reader

LOGGER = logging.getLogger("IRAI")
STORAGE_BY_ENDING = {(".fcsv", "vtkMRMLMarkupsFiducialNode"): "vtkMRMLMarkupsFiducialStorageNode"}
"""Storage classes that a node doesn't name itself: (ending of the file, class of the node) to class."""


class IOManager:
    """Loads and saves nodes and scenes. Failures come back as False with the reason in the message collection."""

    def __init__(self, app) -> None:
        self._app = app
        self._default_scene_type = "Medical Reality Bundle (.mrb)"

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        raise unavailable(f"coreIOManager().{name}", "slicer.util.load*, saveNode, exportNode and saveScene",
                          HeadlessAttributeError)

    def fileType(self, path) -> str:
        return file_type(path)

    def fileWriterFileType(self, node, _format: str = "") -> str:
        return "SceneFile" if node is not None and node.IsA("vtkMRMLScene") else node_file_type(node)

    def registeredFileReaderCount(self, kind: str) -> int:
        return int(kind in READER_EXTENSIONS)

    registeredFileWriterCount = registeredFileReaderCount

    def defaultSceneFileType(self) -> str:
        return self._default_scene_type

    def setDefaultSceneFileType(self, kind: str) -> None:
        self._default_scene_type = kind

    def loadNodes(self, kind: str, properties: dict[str, Any], loaded=None, messages=None) -> bool:
        """Read a file into the scene; `loaded` (vtkCollection) takes the nodes."""
        import slicer

        messages = slicer.vtkMRMLMessageCollection() if messages is None else messages
        paths = properties["fileName"]
        if isinstance(paths, (list, tuple)):
            results = [self.loadNodes(kind, {**properties, "fileName": path}, loaded, messages) for path in paths]
            return all(results)
        if not Path(paths).exists():
            return self._fail(messages, f"{paths}: there is no such file")
        with _kept_working_directory():
            if kind == "SceneFile":
                return self._load_scene(properties, messages)
            nodes = Reader(self._app, properties, messages).read(kind)
        if nodes is None:
            return self._fail(messages, f"{paths}: no reader for this file in headless Slicer (its ending chooses the "
                                        f"reader; known: {', '.join(sorted(READER_EXTENSIONS))})")
        if not nodes:
            return self._fail(messages, f"{paths}: the file could not be read as {kind}")
        for node in nodes:
            if loaded is not None:
                loaded.AddItem(node)
        return True

    def loadNodesAndGetFirst(self, kind: str, properties: dict[str, Any], messages=None):
        import vtk

        loaded = vtk.vtkCollection()
        self.loadNodes(kind, properties, loaded, messages)
        return loaded.GetItemAsObject(0)

    def loadScene(self, path, clear: bool = True, messages=None) -> bool:
        return self.loadNodes("SceneFile", {"fileName": str(path), "clear": clear}, None, messages)

    def loadFile(self, path, messages=None) -> bool:
        return self.loadNodes(self.fileType(path), {"fileName": str(path)}, None, messages)

    def _load_scene(self, properties: dict[str, Any], messages) -> bool:
        scene = self._app.mrmlScene()
        path, clear = str(Path(properties["fileName"]).resolve()), bool(properties.get("clear", False))
        if path.lower().endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, clear, messages))
        scene.SetURL(path)
        return bool(scene.Connect(messages) if clear else scene.Import(messages))

    def saveNodes(self, kind: str, properties: dict[str, Any], messages=None, scene=None) -> bool:
        """Write one node (`nodeID`) or, for kind "SceneFile", the scene to `fileName`. Folders are made."""
        import slicer

        messages = slicer.vtkMRMLMessageCollection() if messages is None else messages
        scene = self._app.mrmlScene() if scene is None else scene
        path = Path(properties["fileName"]).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "SceneFile":
            with _kept_working_directory():
                return self._save_scene(scene, path, messages)
        node = scene.GetNodeByID(properties["nodeID"])
        if node is None or not node.IsA("vtkMRMLStorableNode"):
            return self._fail(messages, f"{path}: there is no node with the ID {properties['nodeID']} to save")
        storage = self._storage_for(scene, node, str(path))
        if storage is None:
            return self._fail(messages, f"{path}: a {node.GetClassName()} can't be saved to a file with this ending")
        if str(properties.get("fileFormat", "")).endswith(f"({path.suffix})"):
            storage.SetWriteFileFormat(properties["fileFormat"])
        storage.SetURI(None)
        if "useCompression" in properties:
            storage.SetUseCompression(int(properties["useCompression"]))
            if "compressionParameter" in properties:
                storage.SetCompressionParameter(str(properties["compressionParameter"]))
        with _kept_working_directory():
            written = bool(storage.WriteData(node))
        messages.AddMessages(storage.GetUserMessages())
        return written

    def _storage_for(self, scene, node, path: str):
        """The node's storage node if it writes files with this ending, else a new one that does. None: nothing does.

        The class can depend on the ending (.seq.nrrd and .seq.mrb differ), and a wrong one writes a broken file.
        """
        storage = node.GetStorageNode()
        if storage is None or not _writes(storage, path):
            if storage is not None:
                node.SetAndObserveStorageNodeID(None)
                scene.RemoveNode(storage)
            special = next((name for (ending, node_class), name in STORAGE_BY_ENDING.items()
                            if path.endswith(ending) and node.IsA(node_class)), None)
            if special is not None:
                node.SetAndObserveStorageNodeID(scene.AddNewNodeByClass(special).GetID())
            else:
                node.AddDefaultStorageNode(path)
            storage = node.GetStorageNode()
        if storage is None and node.IsA("vtkMRMLTextNode"):
            # A short text is kept in the scene itself and has no default storage node.
            storage = scene.AddNewNodeByClass("vtkMRMLTextStorageNode")
            node.SetAndObserveStorageNodeID(storage.GetID())
        if storage is None or not _writes(storage, path):
            return None
        storage.SetFileName(path)
        return storage

    def _save_scene(self, scene, path: Path, messages) -> bool:
        if path.suffix == ".mrml":
            scene.SetURL(str(path))
            scene.SetRootDirectory(str(path.parent))
            return bool(scene.Commit())
        if path.suffix == ".mrb":
            scene.SetURL(str(path))
            scene.SetRootDirectory(str(path.parent))
            # Slicer 5.13 takes a name that begins with a dot for a mere ending, and writes nothing.
            visible = path.with_name("bundle" + path.name) if path.name.startswith(".") else path
            written = bool(scene.WriteToMRB(str(visible), None, messages))
            if written and visible != path:
                os.replace(visible, path)
            scene.SetStorableNodesModifiedSinceRead()
            return written
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            return self._fail(messages, f"{path}: the folder is not empty; choose an empty one or a .mrb file")
        return bool(self._app.applicationLogic().SaveSceneToSlicerDataBundleDirectory(str(path), None, messages))

    def addDefaultStorageNodes(self) -> None:
        """Give every storable node of the scene a storage node, as before a save."""
        scene = self._app.mrmlScene()
        for index in range(scene.GetNumberOfNodes()):
            node = scene.GetNthNode(index)
            if node.IsA("vtkMRMLStorableNode") and node.GetSaveWithScene() and node.GetStorageNode() is None:
                node.AddDefaultStorageNode()

    def createAndAddDefaultStorageNode(self, node):
        node.AddDefaultStorageNode()
        return node.GetStorageNode()

    def fileWriterExtensions(self, node) -> list[str]:
        """File formats as Slicer writes them, for example "NRRD (.nrrd)"."""
        import slicer

        candidates = [node.GetStorageNode()] if node.GetStorageNode() is not None else []
        scene = slicer.vtkMRMLScene()  # storage nodes ask their scene's data manager for the formats
        scene.SetDataIOManager(self._app.mrmlScene().GetDataIOManager())
        candidates += [scene.AddNewNodeByClass(name) for name in dict.fromkeys(
            node.GetDefaultStorageNodeClassName(path) for path in ("", ".seq.nrrd", ".seq.mrb")) if name]
        candidates += [scene.AddNewNodeByClass(name) for (_, node_class), name in STORAGE_BY_ENDING.items()
                       if node.IsA(node_class)]
        formats: list[str] = []
        for storage in candidates:
            types = storage.GetSupportedWriteFileTypes()
            formats += [types.GetValue(n) for n in range(types.GetNumberOfValues())]
        return list(dict.fromkeys(formats))

    def extractKnownExtension(self, path, node) -> str:
        from slicer import vtkDataFileFormatHelper

        endings = (vtkDataFileFormatHelper.GetFileExtensionFromFormatString(text)
                   for text in self.fileWriterExtensions(node))
        return max((ending for ending in endings if ending and str(path).endswith(ending)), key=len, default="")

    def stripKnownExtension(self, path, node) -> str:
        path = str(path)
        ending = self.extractKnownExtension(path, node)
        while ending and path.endswith(ending):
            path = path[:-len(ending)]
        return path

    def exportNodes(self, node_ids, paths, properties: dict[str, Any] | None = None, harden: bool = False,
                    messages=None) -> bool:
        """Write copies of nodes, in world coordinates when `harden`; the scene's own storage nodes are untouched."""
        import slicer

        scene = self._app.mrmlScene()
        temporary = slicer.vtkMRMLScene()
        scene.CopyDefaultNodesToScene(temporary)
        scene.CopyRegisteredNodesToScene(temporary)
        scene.CopySingletonNodesToScene(temporary)
        temporary.SetDataIOManager(scene.GetDataIOManager())
        exported = True
        for node_id, path in zip(node_ids, paths, strict=True):
            node = scene.GetNodeByID(node_id)
            if node is None or not node.IsA("vtkMRMLStorableNode"):
                exported = self._fail(messages, f"{path}: there is no storable node with the ID {node_id}")
                continue
            copy = _copied(node, temporary, harden)
            parameters = {**(properties or {}), "nodeID": copy.GetID(), "fileName": str(path)}
            exported &= self.saveNodes(node_file_type(node), parameters, messages, temporary)
        return exported

    def _fail(self, messages, text: str) -> bool:
        import vtk

        if messages is not None:
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, text)
        LOGGER.error(text)
        return False


@contextlib.contextmanager
def _kept_working_directory():
    """Slicer changes into a folder to zip or unzip it, and after a failure stays there, even when it is gone."""
    before = os.getcwd()
    try:
        yield
    finally:
        os.chdir(before)


def _writes(storage, path: str) -> bool:
    ending = storage.GetSupportedFileExtension(path, False, True)
    return bool(ending) or storage.IsA("vtkMRMLTextStorageNode")


def _copied(node, temporary, harden: bool):
    """A copy of the node with its display in a scene of its own, in world coordinates when `harden`."""
    import vtk

    copy = temporary.AddNewNodeByClass(node.GetClassName())
    copy.CopyContent(node, harden)
    parent = node.GetParentTransformNode() if harden and node.IsA("vtkMRMLTransformableNode") else None
    if parent is not None:
        from_world = vtk.vtkGeneralTransform()
        parent.GetTransformFromWorld(from_world)
        transform = temporary.AddNewNodeByClass("vtkMRMLTransformNode")
        transform.SetAndObserveTransformFromParent(from_world)
        copy.SetAndObserveTransformNodeID(transform.GetID())
        copy.HardenTransform()
    display = node.GetDisplayNode() if node.IsA("vtkMRMLDisplayableNode") else None
    if display is not None:
        display_copy = temporary.AddNewNodeByClass(display.GetClassName())
        display_copy.CopyContent(display, False)
        copy.SetAndObserveDisplayNodeID(display_copy.GetID())
    return copy
