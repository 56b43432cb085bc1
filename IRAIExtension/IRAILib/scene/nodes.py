"""From MRML nodes to library objects, always in world RAS: a parent transform is applied or refused, never ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import EmptyMaskError, Grid, InputError, Mask, Volume, resample_mask

SHEAR_TOLERANCE = 1e-3
"""Cosine between two voxel axes above which a parent transform has sheared the image, so that it can't be used."""
PADDING_VOXELS = 3
"""Zeros put round a segment that comes without a reference geometry: Slicer cuts its labelmaps to the segment."""


@dataclass(frozen=True)
class SegmentRef:
    """One segment: its vtkMRMLSegmentationNode and the segment's ID."""

    node: Any
    segment_id: str

    @property
    def name(self) -> str:
        """What a user calls it: "segmentation / segment"."""
        segment = self.node.GetSegmentation().GetSegment(self.segment_id)
        return f"{self.node.GetName()} / {segment.GetName() if segment else self.segment_id}"


def matrix_from_vtk(matrix) -> np.ndarray:
    """vtkMatrix4x4 to a (4, 4) array."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrix_to_vtk(matrix: np.ndarray):
    """(4, 4) array to vtkMatrix4x4."""
    import vtk

    out = vtk.vtkMatrix4x4()
    out.DeepCopy(np.asarray(matrix, float).ravel().tolist())
    return out


def world_from_node(node) -> np.ndarray:
    """(4, 4) from a node's own coordinates to world RAS; identity without a parent transform.

    Raises InputError when the node lies under a deformable transform: it must be hardened first.
    """
    import vtk

    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        raise InputError(f"{node.GetName()}: lies under the deformable transform {parent.GetName()}; "
                         "harden the transform (Data module, right click) or take the node out of it")
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return matrix_from_vtk(matrix)


def _world_grid(node, shape, node_from_ijk: np.ndarray) -> Grid:
    grid = Grid(shape, world_from_node(node) @ node_from_ijk)
    cosines = grid.directions.T @ grid.directions - np.eye(3)
    if np.abs(cosines).max() > SHEAR_TOLERANCE:
        raise InputError(f"{node.GetName()}: its voxel axes are not perpendicular (a shear in its parent "
                         "transform or a gantry tilt); harden the transform and resample the volume first")
    return grid


def grid_from_node(node) -> Grid:
    """Where the voxels of a volume node are, in world RAS. Raises InputError as `volume_from_node`."""
    import vtk

    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise InputError(f"{node.GetName()}: the volume holds no image; load it again or choose another")
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return _world_grid(node, image.GetDimensions()[::-1], matrix_from_vtk(matrix))


def volume_from_node(node) -> Volume:
    """vtkMRMLScalarVolumeNode to Volume: a view of the node's voxels, not a copy.

    Raises InputError for no node, an empty or a colour volume, a deformable or shearing parent transform.
    """
    import slicer

    if node is None:
        raise InputError("no volume is selected; choose one")
    grid = grid_from_node(node)
    array = slicer.util.arrayFromVolume(node)
    if array.ndim != 3:
        raise InputError(f"{node.GetName()}: has {array.shape[-1]} values a voxel; a single-channel volume is needed")
    return Volume(array, grid, node.GetName(), metadata={"modality": node.GetAttribute("DICOM.Modality") or ""})


def points_from_markups(node) -> np.ndarray:
    """(n, 3) world RAS mm of the placed control points of a markups node; (0, 3) for no node."""
    if node is None:
        return np.zeros((0, 3))
    placed = [n for n in range(node.GetNumberOfControlPoints())
              if node.GetNthControlPointPositionStatus(n) == node.PositionDefined]
    points = np.zeros((len(placed), 3))
    for row, n in enumerate(placed):
        node.GetNthControlPointPositionWorld(n, points[row])
    return points


def mask_from_segment(ref: SegmentRef, reference: Volume | Grid | None = None) -> Mask:
    """A segment as a Mask.

    With `reference` the mask lies on that grid (pasted when the voxels agree, resampled otherwise); without,
    on the segmentation's own reference geometry when it has one, else on its own voxels with a rim of zeros.

    Raises InputError (no such segment, nothing to convert, deformable parent), EmptyMaskError.
    """
    if ref.node is None:
        raise InputError("no segmentation is selected; choose one")
    if ref.node.GetSegmentation().GetSegment(ref.segment_id) is None:
        raise InputError(f"{ref.node.GetName()}: has no segment '{ref.segment_id}'; choose another segment")
    image = _binary_labelmap(ref)
    array, start = _image_array(image)
    if array is None or not array.any():
        raise EmptyMaskError(f"{ref.name}: the segment is empty; segment the structure or choose another")
    lattice = _oriented_grid(ref.node, image, array.shape, start)
    own = Mask(array, lattice, ref.name)
    target = reference.grid if isinstance(reference, Volume) else reference
    if target is None:
        target = _reference_geometry(ref.node)
        if target is None or _paste(own, target) is None:
            return _padded(own)
    pasted = _paste(own, target)
    return pasted if pasted is not None else resample_mask(own, target)


def _binary_labelmap(ref: SegmentRef):
    """The segment alone as vtkOrientedImageData, converted on a copy when it is only a surface."""
    import slicer

    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segmentation = ref.node.GetSegmentation()
    image = slicer.vtkOrientedImageData()
    if segmentation.ContainsRepresentation(name):
        ref.node.GetBinaryLabelmapRepresentation(ref.segment_id, image)
        return image
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(segmentation)
    if not copy.CreateRepresentation(name):
        raise InputError(f"{ref.name}: can't be converted to a labelmap; check its surface")
    image.DeepCopy(copy.GetSegment(ref.segment_id).GetRepresentation(name))
    return image


def _image_array(image):
    """((k, j, i) bool copy, (i, j, k) index of its first voxel); (None, ...) when there is no voxel."""
    from vtk.util.numpy_support import vtk_to_numpy

    extent = image.GetExtent()
    shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
    scalars = image.GetPointData().GetScalars()
    if min(shape) < 1 or scalars is None:
        return None, (0, 0, 0)
    return vtk_to_numpy(scalars).reshape(shape) != 0, extent[::2]


def _oriented_grid(node, image, shape, start_ijk) -> Grid:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    node_from_ijk = matrix_from_vtk(matrix)
    node_from_ijk[:3, 3] += node_from_ijk[:3, :3] @ np.array(start_ijk, float)
    return _world_grid(node, shape, node_from_ijk)


def _reference_geometry(node) -> Grid | None:
    import slicer

    text = node.GetSegmentation().GetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName())
    image = slicer.vtkOrientedImageData()
    if not text or not slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, image, False):
        return None
    extent = image.GetExtent()
    shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
    return _oriented_grid(node, image, shape, extent[::2]) if min(shape) > 0 else None


def _paste(mask: Mask, target: Grid) -> Mask | None:
    """The mask on `target` when both share a lattice and the mask lies inside, else None."""
    if np.abs(mask.grid.ras_from_ijk[:3, :3] - target.ras_from_ijk[:3, :3]).max() > 1e-4:
        return None
    offset = target.indices_kji(mask.grid.points_ras(np.zeros((1, 3))))[0]
    start = np.round(offset).astype(int)
    if np.abs(offset - start).max() > 1e-2 or (start < 0).any() or (start + mask.array.shape > target.shape).any():
        return None
    array = np.zeros(target.shape, bool)
    array[tuple(slice(a, a + n) for a, n in zip(start, mask.array.shape, strict=True))] = mask.array
    return Mask(array, target, mask.name)


def _padded(mask: Mask) -> Mask:
    padded = np.pad(mask.array, PADDING_VOXELS)
    start = (-PADDING_VOXELS, -PADDING_VOXELS, -PADDING_VOXELS)
    return Mask(padded, mask.grid.cropped_grid(start, padded.shape), mask.name)


