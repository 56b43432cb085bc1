"""Point transforms into transform nodes and back.

A Transform `moving_from_fixed` becomes a node's *from parent* transform: putting the moving volume under the
node then shows it on the fixed one, as every Slicer registration module does, and as an ITK file stores it.
"""

from __future__ import annotations

import numpy as np

from ..geometry import CompositeTransform, Grid, GridTransform, InputError, LinearTransform, Transform
from .nodes import matrix_from_vtk, matrix_to_vtk


def transform_to_node(transform: Transform, node, fixed_node=None, moving_node=None):
    """Write `moving_from_fixed` into a transform node and let it reference its two volumes.

    Args:
        transform: linear, grid or a chain of both.
        node: vtkMRMLTransformNode (a vtkMRMLLinearTransformNode takes linear ones only).
        fixed_node, moving_node: kept as the node's spatial registration references.
    Raises InputError for another kind of transform.
    """
    if isinstance(transform, LinearTransform):
        node.SetMatrixTransformFromParent(matrix_to_vtk(transform.matrix))
    else:
        node.SetAndObserveTransformFromParent(_vtk_transform(transform))
    if fixed_node is not None:
        node.SetNodeReferenceID(node.GetFixedNodeReferenceRole(), fixed_node.GetID())
    if moving_node is not None:
        node.SetNodeReferenceID(node.GetMovingNodeReferenceRole(), moving_node.GetID())
    return node


def transform_from_node(node, to_frame: str = "moving", from_frame: str = "fixed") -> Transform:
    """The node's *from parent* point map, `moving_from_fixed` for a registration result.

    Linear and grid transforms and chains of them are taken. Raises InputError for others (B-spline, thin
    plate: convert it to a grid in the Transforms module) and for a node under another transform.
    """
    import slicer
    import vtk

    if node.GetParentTransformNode() is not None:
        raise InputError(f"{node.GetName()}: lies under another transform; harden it or take it out first")
    if node.IsLinear():
        matrix = vtk.vtkMatrix4x4()
        node.GetMatrixTransformFromParent(matrix)
        return LinearTransform(matrix_from_vtk(matrix), to_frame, from_frame)
    parts = vtk.vtkCollection()
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(parts, node.GetTransformFromParent())
    count = parts.GetNumberOfItems()
    # the collection lists first what is applied to a point first
    names = [from_frame, *[f"{to_frame}~{n}" for n in range(count - 1, 0, -1)], to_frame]
    chain = [_from_vtk(parts.GetItemAsObject(n), node.GetName(), names[n + 1], names[n]) for n in range(count)][::-1]
    if not chain:
        return LinearTransform.identity(to_frame, from_frame)
    return chain[0] if count == 1 else CompositeTransform(chain)


def _vtk_transform(transform: Transform):
    import vtk

    if isinstance(transform, LinearTransform):
        out = vtk.vtkTransform()
        out.SetMatrix(matrix_to_vtk(transform.matrix))
        return out
    if isinstance(transform, GridTransform):
        return _vtk_grid(transform)
    if isinstance(transform, CompositeTransform):
        out = vtk.vtkGeneralTransform()
        out.PostMultiply()
        for part in reversed(transform.parts):
            out.Concatenate(_vtk_transform(part))
        return out
    raise InputError(f"{transform}: a {type(transform).__name__} can't be kept in a transform node")


def _vtk_grid(transform: GridTransform):
    """With one rim of zeros: VTK holds the outermost vector beyond the grid, ITK and the library move nothing there."""
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    k, j, i = transform.grid.shape
    grid = transform.grid.cropped_grid((-1, -1, -1), (k + 2, j + 2, i + 2))
    vectors = np.pad(transform.displacement, ((1, 1), (1, 1), (1, 1), (0, 0)))
    image = vtk.vtkImageData()
    image.SetDimensions(*grid.shape[::-1])
    image.SetSpacing(*grid.spacing_mm)
    image.SetOrigin(*grid.ras_from_ijk[:3, 3])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(vectors, np.float32).reshape(-1, 3), deep=True))
    directions = np.eye(4)
    directions[:3, :3] = grid.directions
    out = slicer.vtkOrientedGridTransform()
    out.SetGridDirectionMatrix(matrix_to_vtk(directions))
    out.SetDisplacementGridData(image)
    out.SetInterpolationModeToLinear()
    return out


def _from_vtk(transform, name: str, to_frame: str, from_frame: str) -> Transform:
    import vtk

    if transform.IsA("vtkLinearTransform"):
        matrix = vtk.vtkMatrix4x4()
        transform.GetMatrix(matrix)
        return LinearTransform(matrix_from_vtk(matrix), to_frame, from_frame)
    if not transform.IsA("vtkOrientedGridTransform"):
        raise InputError(f"{name}: is a {transform.GetClassName()}; convert it to a grid transform in the "
                         "Transforms module first")
    if transform.GetInverseFlag():
        raise InputError(f"{name}: the grid is stored for the other direction; invert the node in the "
                         "Transforms module first")
    return _grid_from_vtk(transform, to_frame, from_frame)


def _grid_from_vtk(transform, to_frame: str, from_frame: str) -> GridTransform:
    from vtk.util.numpy_support import vtk_to_numpy

    image = transform.GetDisplacementGrid()
    shape = image.GetDimensions()[::-1]
    matrix = np.eye(4)
    directions = transform.GetGridDirectionMatrix()
    axes = np.eye(3) if directions is None else matrix_from_vtk(directions)[:3, :3]
    matrix[:3, :3] = axes * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    vectors = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*shape, 3).astype(np.float32)
    vectors = vectors * transform.GetDisplacementScale() + transform.GetDisplacementShift()
    return GridTransform(Grid(shape, matrix), vectors, to_frame, from_frame)
