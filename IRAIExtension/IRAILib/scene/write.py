"""Library objects into MRML nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import Grid, InputError, Mask, Surface, Volume
from .nodes import matrix_to_vtk


def volume_to_node(volume: Volume, node):
    """Copy a Volume into a scalar volume node (RAS, any direction) and give it a display. Returns the node."""
    import slicer

    array = np.ascontiguousarray(volume.array)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    node.SetIJKToRASMatrix(matrix_to_vtk(volume.grid.ras_from_ijk))
    slicer.util.updateVolumeFromArray(node, array)
    node.CreateDefaultDisplayNodes()
    return node


def mask_to_segment(node, mask: Mask, name: str, color: tuple[float, float, float] | None = None) -> str:
    """Add a Mask as a segment of a segmentation node. Returns the segment's ID.

    The node's reference geometry is set from the first mask, so that saving keeps the grid.
    """
    import slicer

    segmentation = node.GetSegmentation()
    if not segmentation.GetNumberOfSegments():
        geometry = slicer.vtkSegmentationConverter.SerializeImageGeometry(oriented_image(mask.grid, None))
        segmentation.SetConversionParameter(
            slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(), geometry)
    content = mask.crop_to_content() if mask.array.any() else mask
    segment_id = node.AddSegmentFromBinaryLabelmapRepresentation(
        oriented_image(content.grid, content.array), name, color or (0.5, 0.5, 0.5))
    if not segment_id:
        raise InputError(f"{name}: could not be added to {node.GetName()}; does it hold another representation only?")
    return segment_id


def oriented_image(grid: Grid, array: np.ndarray | None):
    """vtkOrientedImageData on a grid; `array` (k, j, i) becomes unsigned char, None leaves it without voxels."""
    import slicer
    from vtk.util.numpy_support import numpy_to_vtk

    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*grid.shape[::-1])
    image.SetImageToWorldMatrix(matrix_to_vtk(grid.ras_from_ijk))
    if array is not None:
        flat = np.ascontiguousarray(array, np.uint8).ravel()
        image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True))
    return image


def surface_to_model(surface: Surface, node, scalars: dict[str, np.ndarray]):
    """Write a Surface with named (n,) point scalars into a model node and give it a display. Returns the node."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    mesh = surface.to_vtk()
    for name, values in scalars.items():
        array = numpy_to_vtk(np.ascontiguousarray(values, np.float32), deep=True)
        array.SetName(name)
        mesh.GetPointData().AddArray(array)
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputData(mesh)
    normals.SplittingOff()
    normals.ConsistencyOff()
    normals.Update()
    node.SetAndObservePolyData(normals.GetOutput())
    node.CreateDefaultDisplayNodes()
    return node


def rows_to_table(node, header: list[str], rows: list[list]):
    """Fill a table node: numbers become number columns, everything else text. Returns the node."""
    import vtk

    was = node.StartModify()
    node.RemoveAllColumns()
    for column, title in enumerate(header):
        values = [row[column] for row in rows]
        numeric = bool(values) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        array: Any = vtk.vtkDoubleArray() if numeric else vtk.vtkStringArray()
        array.SetName(title)
        for value in values:
            array.InsertNextValue(float(value) if numeric else str(value))
        node.AddColumn(array)
    node.EndModify(was)
    node.SetUseColumnTitleAsColumnHeader(True)
    return node
