"""Subject-hierarchy items follow the nodes, as a Qt class makes them do on desktop.

Without it `slicer.vtkMRMLSubjectHierarchyNode` stays empty and exports to a folder do nothing, silently.
"""

from __future__ import annotations

OWNER_PLUGINS = (
    ("vtkMRMLSegmentationNode", "Segmentations"),
    ("vtkMRMLLabelMapVolumeNode", "LabelMaps"),
    ("vtkMRMLDiffusionTensorVolumeNode", "DiffusionTensorVolumes"),
    ("vtkMRMLScalarVolumeNode", "Volumes"),
    ("vtkMRMLModelNode", "Models"),
    ("vtkMRMLMarkupsNode", "Markups"),
    ("vtkMRMLAnnotationNode", "Annotations"),
    ("vtkMRMLTransformNode", "Transforms"),
    ("vtkMRMLTableNode", "Tables"),
    ("vtkMRMLTextNode", "Texts"),
    ("vtkMRMLPlotChartNode", "Plots"),
    ("vtkMRMLPlotSeriesNode", "Plots"),
)
"""Node class and the desktop plugin that shows it, the first match counting; other nodes get no item there either."""

VIRTUAL_BRANCH = "VirtualBranch"
"""Level of the items that stand for segments."""


def owner_plugin(node) -> str | None:
    """Name of the desktop plugin that would own this node's item, None when it gets no item."""
    if node is None or node.GetHideFromEditors():
        return None
    return next((plugin for class_name, plugin in OWNER_PLUGINS if node.IsA(class_name)), None)


class HierarchyKeeper:
    """Watches a scene and keeps one subject-hierarchy item for each node that desktop would show."""

    IMPORT_PRIORITY = 10.0
    """Above the default 0, so that other observers of an import find the items made."""

    def __init__(self, scene) -> None:
        import vtk
        from slicer import vtkMRMLScene

        self._scene = scene
        self._watched: set[str] = set()

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def added(_scene, _event, node):
            self._node_added(node)

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def about_to_be_removed(_scene, _event, node):
            self._node_about_to_be_removed(node)

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def removed(_scene, _event, node):
            if node is not None and node.IsA("vtkMRMLSubjectHierarchyNode") and not scene.IsClosing():
                self.complete()

        scene.AddObserver(vtkMRMLScene.NodeAddedEvent, added)
        scene.AddObserver(vtkMRMLScene.NodeAboutToBeRemovedEvent, about_to_be_removed)
        scene.AddObserver(vtkMRMLScene.NodeRemovedEvent, removed)
        for event in (vtkMRMLScene.EndImportEvent, vtkMRMLScene.EndBatchProcessEvent):
            scene.AddObserver(event, lambda *_: self.complete(), self.IMPORT_PRIORITY)
        scene.AddObserver(vtkMRMLScene.EndCloseEvent, lambda *_: self._closed())
        scene.AddObserver(vtkMRMLScene.EndRestoreEvent, lambda *_: self._resolve())
        self.complete()

    def complete(self) -> None:
        """Give an item to every node that should have one and has none."""
        hierarchy = self._resolve()
        for index in range(self._scene.GetNumberOfNodes()):
            self._ensure_item(hierarchy, self._scene.GetNthNode(index))

    def _closed(self) -> None:
        self._watched.clear()  # node IDs are given again
        self._resolve()

    def _resolve(self):
        from slicer import vtkMRMLSubjectHierarchyNode

        return vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(self._scene)

    def _ensure_item(self, hierarchy, node) -> None:
        plugin = owner_plugin(node)
        if plugin is None or hierarchy is None:
            return
        item = hierarchy.GetItemByDataNode(node)
        if not item:
            item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
        if not hierarchy.GetItemOwnerPluginName(item):
            hierarchy.SetItemOwnerPluginName(item, plugin)
        if plugin == "Segmentations":
            self._watch_segments(node)

    def _watch_segments(self, node) -> None:
        """Give each segment a virtual item below its segmentation, now and when segments come and go."""
        from slicer import vtkSegmentation

        if node.GetID() not in self._watched:
            self._watched.add(node.GetID())
            events = vtkSegmentation.SegmentAdded, vtkSegmentation.SegmentRemoved, vtkSegmentation.SegmentModified
            for event in events:
                node.AddObserver(event, lambda caller, _event: self._match_segments(caller))
        self._match_segments(node)

    def _match_segments(self, node) -> None:
        import vtk

        hierarchy = self._scene.GetSubjectHierarchyNode()
        parent = hierarchy.GetItemByDataNode(node) if hierarchy and not self._scene.IsImporting() else 0
        if not parent:
            return
        attribute = node.GetSegmentIDAttributeName()
        children = vtk.vtkIdList()
        hierarchy.GetItemChildren(parent, children)
        items = {hierarchy.GetItemAttribute(child, attribute): child
                 for child in (children.GetId(n) for n in range(children.GetNumberOfIds()))}
        segmentation = node.GetSegmentation()
        for position, segment_id in enumerate(segmentation.GetSegmentIDs()):
            name = segmentation.GetSegment(segment_id).GetName() or ""
            item = items.pop(segment_id, 0)
            if not item:
                item = hierarchy.CreateHierarchyItem(parent, name, VIRTUAL_BRANCH, position)
                hierarchy.SetItemAttribute(item, attribute, segment_id)
                hierarchy.SetItemOwnerPluginName(item, "Segments")
            elif hierarchy.GetItemName(item) != name:
                hierarchy.SetItemName(item, name)
        for segment_id, item in items.items():
            if segment_id:
                hierarchy.RemoveItem(item, False, False)

    def _node_added(self, node) -> None:
        if node is None or self._scene.IsImporting():
            return
        if node.IsA("vtkMRMLSubjectHierarchyNode"):
            self._resolve()
        elif owner_plugin(node):
            self._ensure_item(self._scene.GetSubjectHierarchyNode() or self._resolve(), node)

    def _node_about_to_be_removed(self, node) -> None:
        if node is None or self._scene.IsClosing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
            return
        self._watched.discard(node.GetID())
        hierarchy = self._scene.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
        if item:
            hierarchy.RemoveItem(item, False, True)
