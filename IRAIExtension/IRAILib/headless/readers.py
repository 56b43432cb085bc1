"""One function a file type: from a file to nodes of the scene, through Slicer's own logics and storage nodes."""

from __future__ import annotations

from typing import Any

from .filetypes import base_name

VOLUME_OPTIONS = {"labelmap": 1, "center": 2, "singleFile": 4, "autoWindowLevel": 8, "discardOrientation": 16}
"""Bits of vtkSlicerVolumesLogic.AddArchetypeVolume."""
SURFACE_SEGMENTATIONS = (".stl", ".obj")


class Reader:
    """Reads one file with the options of slicer.util.load*; each method gives the loaded nodes, none on failure.

    `messages` collects what storage nodes say.
    """

    def __init__(self, app, properties: dict[str, Any], messages) -> None:
        self.app = app
        self.scene = app.mrmlScene()
        self.path = str(properties["fileName"])
        self.properties = properties
        self.messages = messages
        self.name = properties.get("name") or base_name(self.path)

    def read(self, file_type: str) -> list | None:
        """Loaded nodes; None when the file type has no reader here."""
        method = getattr(self, "_" + file_type[0].lower() + file_type[1:], None) if file_type else None
        return None if method is None else [node for node in method() if node is not None]

    def _unique(self, name: str) -> str:
        return self.scene.GetUniqueNameByString(name)

    def _renamed(self, node) -> list:
        if node is not None and self.properties.get("name"):
            node.SetName(self._unique(self.properties["name"]))
        return [node]

    def _by_storage(self, node_class: str, storage_class: str = "", display: bool = False) -> list:
        """Read with a storage node of the given class, or the one the file's ending asks the node for."""
        node = self.scene.AddNewNodeByClass(node_class, self._unique(self.name))
        if storage_class:
            storage = self.scene.AddNewNodeByClass(storage_class)
            node.SetAndObserveStorageNodeID(storage.GetID())
        else:
            node.AddDefaultStorageNode(self.path)
            storage = node.GetStorageNode()
        storage.SetFileName(self.path)
        if not storage.ReadData(node):
            self.messages.AddMessages(storage.GetUserMessages())
            self.scene.RemoveNode(storage)
            self.scene.RemoveNode(node)
            return []
        if display:
            node.CreateDefaultDisplayNodes()
        return [node]

    def _volumeFile(self) -> list:
        import vtk

        options = sum(bit for key, bit in VOLUME_OPTIONS.items()
                      if self.properties.get(key, key == "autoWindowLevel"))
        files = None
        if self.properties.get("fileNames"):
            files = vtk.vtkStringArray()
            for file in self.properties["fileNames"]:
                files.InsertNextValue(str(file))
        node = self.app.moduleLogic("Volumes").AddArchetypeVolume(self.path, self.name, options, files)
        if node is None:
            return []
        if self.properties.get("colorNodeID") and node.GetDisplayNode():
            node.GetDisplayNode().SetAndObserveColorNodeID(self.properties["colorNodeID"])
        if self.properties.get("show", True):
            self._show_volume(node)
        return [node]

    def _show_volume(self, node) -> None:
        logic = self.app.applicationLogic()
        selection = logic.GetSelectionNode()
        if node.IsA("vtkMRMLLabelMapVolumeNode"):
            selection.SetActiveLabelVolumeID(node.GetID())
        else:
            selection.SetActiveVolumeID(node.GetID())
        logic.PropagateVolumeSelection()

    def _segmentationFile(self) -> list:
        if self.path.lower().endswith(SURFACE_SEGMENTATIONS):
            return self._surface_segmentation()
        name = self.properties.get("name") or ""
        color_node = self.scene.GetNodeByID(self.properties.get("colorNodeID") or "")
        return [self.app.moduleLogic("Segmentations").LoadSegmentationFromFile(
            self.path, bool(self.properties.get("autoOpacities", True)), name, color_node, self.messages)]

    def _surface_segmentation(self) -> list:
        """A surface file becomes a segmentation of one closed-surface segment."""
        import slicer

        storage, model = slicer.vtkMRMLModelStorageNode(), slicer.vtkMRMLModelNode()
        storage.SetFileName(self.path)
        if not storage.ReadData(model) or model.GetPolyData() is None:
            return []
        surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        segment = slicer.vtkSegment()
        segment.SetName(self.name)
        segment.AddRepresentation(surface, model.GetPolyData())
        node = self.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", self._unique(self.name))
        node.SetSourceRepresentationToClosedSurface()
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetPreferredDisplayRepresentationName2D(surface)
        node.GetSegmentation().AddSegment(segment)
        return [node]

    def _markupsFile(self) -> list:
        ids = self.app.moduleLogic("Markups").LoadMarkups(self.path, self.properties.get("name"), self.messages) or ""
        return [self.scene.GetNodeByID(node_id) for node_id in ids.split(",") if node_id]

    def _modelFile(self) -> list:
        import slicer

        system = self.properties.get("coordinateSystem", slicer.vtkMRMLStorageNode.CoordinateSystemLPS)
        return self._renamed(self.app.moduleLogic("Models").AddModel(self.path, system, self.messages))

    def _transformFile(self) -> list:
        return self._renamed(self.app.moduleLogic("Transforms").AddTransform(self.path, self.scene, self.messages))

    def _tableFile(self) -> list:
        node = self.app.moduleLogic("Tables").AddTable(self.path, self._unique(self.name), True, "", self.messages)
        if node is not None:
            self.app.applicationLogic().GetSelectionNode().SetActiveTableID(node.GetID())
        return [node]

    def _textFile(self) -> list:
        return self._by_storage("vtkMRMLTextNode", "vtkMRMLTextStorageNode")

    def _sequenceFile(self) -> list:
        logic = self.app.moduleLogic("Sequences")
        node = logic.AddSequence(self.path, self.messages)
        if node is None:
            return []
        self._renamed(node)
        if not self.properties.get("show", True):
            return [node]
        browser = self.scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{node.GetName()} browser")
        browser.SetAndObserveMasterSequenceNodeID(node.GetID())
        logic.UpdateProxyNodesFromSequences(browser)
        proxy = browser.GetProxyNode(node)
        display = proxy.GetDisplayNode() if proxy is not None and hasattr(proxy, "GetDisplayNode") else None
        if display is not None and self.properties.get("colorNodeID"):
            display.SetAndObserveColorNodeID(self.properties["colorNodeID"])
        if proxy is not None and proxy.IsA("vtkMRMLVolumeNode"):
            self._show_volume(proxy)
        return [node, browser]

    def _colorTableFile(self) -> list:
        logic = self.app.moduleLogic("Colors")
        return [logic.LoadColorFile(self.path, self.properties.get("name"), self.messages, True)]

    def _transferFunctionFile(self) -> list:
        return [self.app.moduleLogic("VolumeRendering").AddVolumePropertyFromFile(self.path)]

    def _shaderPropertyFile(self) -> list:
        return [self.app.moduleLogic("VolumeRendering").AddShaderPropertyFromFile(self.path)]
