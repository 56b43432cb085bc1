"""Things to look at whose pixels are known beforehand."""

from __future__ import annotations

import numpy as np

SIZE = (300, 240)
BRIGHT = 200


def axial_matrix(spacing=(2.0, 3.0, 4.0)) -> np.ndarray:
    """i to the left, j to the back, k up, as CT has it; RAS 0 lies inside."""
    matrix = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    matrix[:3, 3] = 31.0, 40.0, -37.0
    return matrix


def dots(voxels, shape=(20, 26, 32), ras_from_ijk=None):
    """Volume node of single bright voxels (i, j, k), drawn as squares without interpolation."""
    import slicer

    array = np.zeros(shape, np.int16)
    for i, j, k in voxels:
        array[k, j, i] = 1000
    volume = slicer.util.addVolumeFromArray(array, axial_matrix() if ras_from_ijk is None else ras_from_ijk, "dots")
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().SetInterpolate(False)
    return volume


def centre_of(mask: np.ndarray) -> np.ndarray:
    """(row, column) of the middle of a pixel mask."""
    assert mask.any()
    return np.argwhere(mask).mean(axis=0)


def ras_of_voxel(matrix, ijk) -> np.ndarray:
    return (matrix @ (*ijk, 1.0))[:3]


def ball(center, radius=12.0, color=(1.0, 0.0, 0.0), opacity=1.0):
    import slicer
    import vtk

    source = vtk.vtkSphereSource()
    source.SetCenter(*center)
    source.SetRadius(radius)
    source.SetThetaResolution(64)
    source.SetPhiResolution(64)
    source.Update()
    model = slicer.modules.models.logic().AddModel(source.GetOutput())
    model.GetDisplayNode().SetColor(*color)
    model.GetDisplayNode().SetOpacity(opacity)
    return model


def segmentation_of_box(volume, low, high, color=(0.0, 1.0, 0.0)):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "box")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment_id = node.GetSegmentation().AddEmptySegment("box", "box", color)
    array = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    array[low[2]:high[2] + 1, low[1]:high[1] + 1, low[0]:high[0] + 1] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segment_id, volume)
    return node
