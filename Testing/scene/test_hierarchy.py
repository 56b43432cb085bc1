"""Subject-hierarchy items come and go with their nodes."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def hierarchy(scene):
    return scene.GetSubjectHierarchyNode()


@pytest.mark.parametrize(("node_class", "plugin"), [
    ("vtkMRMLScalarVolumeNode", "Volumes"), ("vtkMRMLLabelMapVolumeNode", "LabelMaps"),
    ("vtkMRMLSegmentationNode", "Segmentations"), ("vtkMRMLModelNode", "Models"),
    ("vtkMRMLMarkupsFiducialNode", "Markups"), ("vtkMRMLMarkupsROINode", "Markups"),
    ("vtkMRMLLinearTransformNode", "Transforms"), ("vtkMRMLTableNode", "Tables"), ("vtkMRMLTextNode", "Texts"),
    ("vtkMRMLPlotChartNode", "Plots"), ("vtkMRMLPlotSeriesNode", "Plots")])
def test_a_node_gets_an_item_and_takes_it_along(scene, hierarchy, node_class, plugin):
    node = scene.AddNewNodeByClass(node_class, "thing")
    item = hierarchy.GetItemByDataNode(node)
    assert hierarchy.GetItemName(item) == "thing"
    assert hierarchy.GetItemParent(item) == hierarchy.GetSceneItemID()
    assert hierarchy.GetItemOwnerPluginName(item) == plugin
    before = hierarchy.GetNumberOfItems()
    scene.RemoveNode(node)
    assert hierarchy.GetNumberOfItems() == before - 1


def test_hidden_and_unowned_nodes_get_none(scene, hierarchy):
    import slicer

    hidden = slicer.vtkMRMLModelNode()
    hidden.SetHideFromEditors(True)
    scene.AddNode(hidden)
    parameters = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    assert not hierarchy.GetItemByDataNode(hidden)
    assert not hierarchy.GetItemByDataNode(parameters)


def test_segments_have_items_that_follow_their_names(scene, hierarchy):
    import vtk

    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation = node.GetSegmentation()
    first = segmentation.AddEmptySegment("", "tumour")
    segmentation.AddEmptySegment("", "zone")

    def names():
        children = vtk.vtkIdList()
        hierarchy.GetItemChildren(hierarchy.GetItemByDataNode(node), children)
        return [hierarchy.GetItemName(children.GetId(n)) for n in range(children.GetNumberOfIds())]

    assert names() == ["tumour", "zone"]
    segmentation.GetSegment(first).SetName("lesion")
    assert names() == ["lesion", "zone"]
    segmentation.RemoveSegment(first)
    assert names() == ["zone"]


def test_export_into_a_folder_makes_the_models(scene, hierarchy):
    """Without items this returns True and does nothing."""
    import slicer
    import vtk

    volume = slicer.util.addVolumeFromArray(np.zeros((20, 20, 20), np.uint8))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment_id = node.GetSegmentation().AddEmptySegment("", "ball")
    array = np.zeros((20, 20, 20), np.uint8)
    array[5:15, 5:15, 5:15] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segment_id, volume)
    node.CreateClosedSurfaceRepresentation()
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "models")
    logic = slicer.modules.segmentations.logic()
    assert logic.ExportAllSegmentsToModels(node, folder)
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(folder, children)
    assert [hierarchy.GetItemDataNode(children.GetId(n)).GetClassName() for n in range(children.GetNumberOfIds())] == [
        "vtkMRMLModelNode"]


def test_folders_survive_a_scene_file(scene, hierarchy, tmp_path):
    import slicer

    patient = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "case 7")
    volume = slicer.util.addVolumeFromArray(np.ones((3, 4, 5), np.int16), name="ct")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), patient)
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    scene.Clear(False)
    assert scene.GetSubjectHierarchyNode().GetNumberOfItems() == 0
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    loaded = scene.GetSubjectHierarchyNode()
    item = loaded.GetItemByDataNode(slicer.util.getNode("ct"))
    assert loaded.GetItemName(loaded.GetItemParent(item)) == "case 7"
    assert slicer.util.getNodesByClass("vtkMRMLSubjectHierarchyNode") == [loaded]


def test_scene_close_and_reuse_leaves_no_ghosts(scene):
    import slicer

    for _ in range(3):
        slicer.util.addVolumeFromArray(np.ones((3, 4, 5), np.int16))
        assert scene.GetSubjectHierarchyNode().GetNumberOfItems() == 1
        scene.Clear(False)
