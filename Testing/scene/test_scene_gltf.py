"""Models, segments and markups written as glTF and read back by VTK's reader."""

from __future__ import annotations

import numpy as np
import pytest
import vtk
from IRAILib.geometry import Grid, InputError, Mask
from vtk.util.numpy_support import vtk_to_numpy


def moved(scene):
    from IRAILib.scene.nodes import matrix_to_vtk

    matrix = np.eye(4)
    matrix[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    matrix[:3, 3] = [100.0, 20.0, -5.0]
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "parent")
    node.SetMatrixTransformToParent(matrix_to_vtk(matrix))
    return node, matrix


def model(scene, name="liver"):
    source = vtk.vtkSphereSource()
    source.SetRadius(15.0)
    source.SetCenter(10.0, 0.0, 30.0)
    source.Update()
    node = scene.AddNewNodeByClass("vtkMRMLModelNode", name)
    node.SetAndObservePolyData(source.GetOutput())
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetColor(0.5, 0.25, 0.0)
    node.GetDisplayNode().SetOpacity(0.5)
    return node


def segmentation(scene):
    from IRAILib.scene.write import mask_to_segment

    matrix = np.diag([1.0, 1.0, 2.0, 1.0])
    matrix[:3, 3] = [-20.0, -10.0, 5.0]
    grid = Grid((20, 30, 30), matrix)
    array = np.zeros(grid.shape, bool)
    array[5:15, 8:22, 10:20] = True
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "seg")
    node.CreateDefaultDisplayNodes()
    mask_to_segment(node, Mask(array, grid, "tumour"), "tumour")
    return node, grid.points_ras(np.argwhere(array))


def read(path, report) -> list[np.ndarray]:
    """Points of every mesh in RAS mm."""
    reader = vtk.vtkGLTFReader()
    reader.SetFileName(str(path))
    reader.Update()
    blocks, out = reader.GetOutput().NewIterator(), []
    while not blocks.IsDoneWithTraversal():
        points = vtk_to_numpy(blocks.GetCurrentDataObject().GetPoints().GetData()).astype(float)
        out.append(points @ report.ras_mm_from_gltf[:3, :3].T + report.ras_mm_from_gltf[:3, 3])
        blocks.GoToNextItem()
    return out


def test_a_model_under_a_transform_lands_in_world_ras(scene, tmp_path):
    from IRAILib.scene.fusion_gltf import items_from_nodes, write_gltf

    node = model(scene)
    parent, matrix = moved(scene)
    node.SetAndObserveTransformNodeID(parent.GetID())
    report = write_gltf(tmp_path / "a.glb", [node, None])
    (points,) = read(tmp_path / "a.glb", report)
    centre = matrix[:3, :3] @ [10.0, 0.0, 30.0] + matrix[:3, 3]
    np.testing.assert_allclose(np.linalg.norm(points - centre, axis=1), 15.0, atol=1e-3)
    (item,) = items_from_nodes([node])
    assert item.color == (0.5, 0.25, 0.0)
    assert item.opacity == 0.5
    node.GetDisplayNode().SetVisibility(False)
    assert items_from_nodes([node]) == []


def test_segments_become_closed_surfaces_and_the_node_stays_as_it_was(scene, tmp_path):
    from IRAILib.scene.fusion_gltf import items_from_nodes, write_gltf

    node, inside = segmentation(scene)
    closed = node.GetSegmentation().ContainsRepresentation("Closed surface")
    report = write_gltf(tmp_path / "a.glb", [node])
    assert node.GetSegmentation().ContainsRepresentation("Closed surface") == closed
    (points,) = read(tmp_path / "a.glb", report)
    np.testing.assert_allclose((points.min(axis=0) + points.max(axis=0)) / 2, inside.mean(axis=0), atol=0.5)
    np.testing.assert_allclose(np.ptp(points, axis=0), np.ptp(inside, axis=0) + [1.0, 1.0, 2.0], atol=1.6)
    assert report.names == ("tumour",)
    node.GetDisplayNode().SetSegmentVisibility(node.GetSegmentation().GetNthSegmentID(0), False)
    assert items_from_nodes([node]) == []


def test_lines_curves_and_points(scene, tmp_path):
    from IRAILib.scene.fusion_gltf import items_from_nodes, write_gltf

    line = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "path 1")
    for place in ((0.0, 0.0, 0.0), (0.0, 80.0, 0.0)):
        line.AddControlPoint(vtk.vtkVector3d(*place))
    curve = scene.AddNewNodeByClass("vtkMRMLMarkupsCurveNode", "bent")
    for place in ((0.0, 0.0, 0.0), (30.0, 0.0, 0.0), (30.0, 30.0, 0.0)):
        curve.AddControlPoint(vtk.vtkVector3d(*place))
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "F")
    points.AddControlPoint(vtk.vtkVector3d(5.0, 6.0, 7.0), "target")
    parent, matrix = moved(scene)
    points.SetAndObserveTransformNodeID(parent.GetID())
    report = write_gltf(tmp_path / "a.gltf", [line, curve, points])
    assert report.names == ("path 1", "bent", "target")
    tube, bent, ball = read(tmp_path / "a.gltf", report)
    assert np.ptp(tube[:, 1]) == pytest.approx(80.0, abs=1e-3)
    np.testing.assert_allclose(np.hypot(tube[:-2, 0], tube[:-2, 2]), 1.0, atol=1e-3)
    assert len(bent) > 100  # the curve, not its three points
    np.testing.assert_allclose((ball.min(axis=0) + ball.max(axis=0)) / 2,
                               matrix[:3, :3] @ [5.0, 6.0, 7.0] + matrix[:3, 3], atol=1e-3)
    assert len(items_from_nodes([scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "empty")])) == 0


def test_other_nodes_and_nothing_are_refused(scene, tmp_path):
    from IRAILib.scene.fusion_gltf import write_gltf

    with pytest.raises(InputError, match="nothing"):
        write_gltf(tmp_path / "a.glb", [])
    with pytest.raises(InputError, match="models, segmentations and markups"):
        write_gltf(tmp_path / "a.glb", [scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "v")])
    with pytest.raises(InputError, match="nothing"):
        write_gltf(tmp_path / "a.glb", [scene.AddNewNodeByClass("vtkMRMLModelNode", "empty")])
    assert not list(tmp_path.iterdir())
