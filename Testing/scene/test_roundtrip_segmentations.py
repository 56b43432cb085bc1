"""Segmentations: voxels, names, colours, terminology and geometry survive .seg.nrrd and .seg.vtm."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from mrml_cases import MATRIX_TOLERANCE, blob, oblique_ras_from_ijk, sitk_ras_from_ijk

TERMINOLOGY = ("Segmentation category and type - 3D Slicer General Anatomy list~SCT^49755003^Morphologically Altered "
               "Structure~SCT^4147007^Mass~^^~Anatomic codes - DICOM master list~SCT^10200004^Liver~^^")
TAG = "TerminologyEntry"
SEGMENTS = {"tumour": ((0.9, 0.2, 0.1), (2, 3, 4)), "ablation zone": ((0.1, 0.7, 0.3), (1, 2, 1))}


@pytest.fixture
def volume(app):
    import slicer

    return slicer.util.addVolumeFromArray(np.zeros((20, 22, 24), np.int16), oblique_ras_from_ijk(), "ct")


@pytest.fixture
def segmentation(scene, volume):
    """Two segments that overlap, so that they need two layers."""
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "lesions")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name, (color, corner) in SEGMENTS.items():
        segment_id = node.GetSegmentation().AddEmptySegment(name, name, color)
        array = blob((20, 22, 24), corner, (9, 8, 11)).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segment_id, volume)
        node.GetSegmentation().GetSegment(segment_id).SetTag(TAG, TERMINOLOGY)
    return node


def segment_arrays(node, volume) -> dict[str, np.ndarray]:
    import slicer

    return {node.GetSegmentation().GetSegment(segment_id).GetName():
            slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume) for segment_id in
            node.GetSegmentation().GetSegmentIDs()}


def surface(node, segment_id):
    import vtk

    mesh = vtk.vtkPolyData()
    assert node.GetClosedSurfaceRepresentation(segment_id, mesh)
    return mesh


def assert_same_properties(loaded, node) -> None:
    assert loaded.GetSegmentation().GetSegmentIDs() == node.GetSegmentation().GetSegmentIDs()
    for segment_id in node.GetSegmentation().GetSegmentIDs():
        ours = node.GetSegmentation().GetSegment(segment_id)
        theirs = loaded.GetSegmentation().GetSegment(segment_id)
        assert theirs.GetName() == ours.GetName()
        np.testing.assert_allclose(theirs.GetColor(), ours.GetColor(), atol=1e-5)
        assert terminology(theirs) == TERMINOLOGY


def terminology(segment) -> str:
    import vtk

    text = vtk.reference("")
    assert segment.GetTag(TAG, text)
    return str(text)


def test_binary_labelmap(app, tmp_path, segmentation, volume):
    import slicer

    path = str(tmp_path / "lesions.seg.nrrd")
    assert slicer.util.saveNode(segmentation, path)
    loaded = slicer.util.loadSegmentation(path)
    assert_same_properties(loaded, segmentation)
    expected = segment_arrays(segmentation, volume)
    for name, array in segment_arrays(loaded, volume).items():
        np.testing.assert_array_equal(array, expected[name])
        np.testing.assert_array_equal(array != 0, blob((20, 22, 24), SEGMENTS[name][1], (9, 8, 11)))


def test_closed_surface(app, tmp_path, segmentation, volume):
    import slicer
    from vtk.util.numpy_support import vtk_to_numpy

    segmentation.CreateClosedSurfaceRepresentation()
    segmentation.SetSourceRepresentationToClosedSurface()
    segmentation.RemoveBinaryLabelmapRepresentation()
    path = str(tmp_path / "lesions.seg.vtm")
    assert slicer.util.saveNode(segmentation, path)
    loaded = slicer.util.loadSegmentation(path)
    assert_same_properties(loaded, segmentation)
    assert loaded.GetSegmentation().GetSourceRepresentationName() == "Closed surface"
    for segment_id in SEGMENTS:
        ours, theirs = surface(segmentation, segment_id), surface(loaded, segment_id)
        np.testing.assert_allclose(vtk_to_numpy(theirs.GetPoints().GetData()), vtk_to_numpy(ours.GetPoints().GetData()),
                                   atol=1e-4)
        assert theirs.GetNumberOfPolys() == ours.GetNumberOfPolys()


def test_surface_of_a_segment_lies_where_its_voxels_lie(app, segmentation, volume):
    import vtk

    segmentation.CreateClosedSurfaceRepresentation()
    mass = vtk.vtkMassProperties()
    mass.SetInputData(surface(segmentation, "tumour"))
    mask = blob((20, 22, 24), SEGMENTS["tumour"][1], (9, 8, 11))
    voxel_mm3 = abs(np.linalg.det(oblique_ras_from_ijk()[:3, :3]))
    assert mass.GetVolume() == pytest.approx(mask.sum() * voxel_mm3, rel=0.12)
    k, j, i = np.argwhere(mask).mean(axis=0)
    centre = (oblique_ras_from_ijk() @ (i, j, k, 1.0))[:3]
    np.testing.assert_allclose(surface(segmentation, "tumour").GetCenter(), centre, atol=1.0)


def test_surface_back_to_voxels(app, segmentation, volume):
    before = segment_arrays(segmentation, volume)["tumour"]
    segmentation.CreateClosedSurfaceRepresentation()
    segmentation.SetSourceRepresentationToClosedSurface()
    segmentation.RemoveBinaryLabelmapRepresentation()
    segmentation.CreateBinaryLabelmapRepresentation()
    after = segment_arrays(segmentation, volume)["tumour"]
    dice = 2 * np.logical_and(before, after).sum() / (before.astype(bool).sum() + after.astype(bool).sum())
    assert dice > 0.93


def test_a_foreign_reader_finds_the_segments(app, tmp_path, segmentation, volume):
    import slicer

    path = str(tmp_path / "lesions.seg.nrrd")
    assert slicer.util.saveNode(segmentation, path, {"useCompression": 1})
    image = sitk.ReadImage(path)
    layers = sitk.GetArrayFromImage(image)
    assert layers.ndim == 4  # overlapping segments: two layers
    for number in range(2):
        name = image.GetMetaData(f"Segment{number}_Name")
        layer, value = (int(image.GetMetaData(f"Segment{number}_{key}")) for key in ("Layer", "LabelValue"))
        mask = layers[..., layer] == value
        world = sitk_ras_from_ijk(image)
        found = (world @ np.append(np.argwhere(mask)[:, ::-1].mean(axis=0), 1))[:3]
        truth = blob((20, 22, 24), SEGMENTS[name][1], (9, 8, 11))
        expected = (oblique_ras_from_ijk() @ np.append(np.argwhere(truth)[:, ::-1].mean(axis=0), 1))[:3]
        assert mask.sum() == truth.sum()
        np.testing.assert_allclose(found, expected, atol=MATRIX_TOLERANCE * 10)


def test_export_to_label_map_and_import_again(app, scene, segmentation, volume):
    import slicer

    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    logic = slicer.modules.segmentations.logic()
    assert logic.ExportVisibleSegmentsToLabelmapNode(segmentation, labels, volume)
    array = slicer.util.arrayFromVolume(labels)
    assert array.shape == (20, 22, 24)
    assert set(np.unique(array)) == {0, 1, 2}
    again = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    again.CreateDefaultDisplayNodes()
    assert logic.ImportLabelmapToSegmentationNode(labels, again)
    masks = segment_arrays(again, volume)
    np.testing.assert_array_equal(masks["ablation zone"] != 0, array == 2)


def test_a_surface_file_becomes_a_segment(app, tmp_path):
    import slicer
    import vtk

    sphere = vtk.vtkSphereSource()
    sphere.SetRadius(12.0)
    sphere.SetCenter(10.0, -20.0, 30.0)
    sphere.Update()
    writer = vtk.vtkSTLWriter()
    writer.SetInputData(sphere.GetOutput())
    writer.SetFileName(str(tmp_path / "ball.stl"))
    writer.Write()
    node = slicer.util.loadSegmentation(str(tmp_path / "ball.stl"))
    # the file is LPS: right and left, front and back change signs
    np.testing.assert_allclose(surface(node, node.GetSegmentation().GetNthSegmentID(0)).GetCenter(),
                               (-10.0, 20.0, 30.0), atol=0.5)
