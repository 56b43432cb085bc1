"""Transforms: their files, their direction, and what hardening them does to points and voxels.

The judge is numpy and SimpleITK. ITK files hold the map "from parent" in LPS: a node's ToParent is its inverse.
"""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from mrml_cases import (
    MATRIX_TOLERANCE,
    RAS_FROM_LPS,
    asymmetric_array,
    matrix_of,
    oblique_ras_from_ijk,
    points_ras,
    rotation,
)

POINT_TOLERANCE_MM = 1e-3
CUBIC_AGAINST_LINEAR_MM = 0.05
"""Between grid nodes Slicer interpolates with cubics, ITK linearly: measured 0.03 mm on this field."""
GRID_SPACING = (8.0, 9.0, 10.0)


def rigid(degrees=(12.0, -7.0, 25.0), shift=(4.0, -9.0, 13.0)) -> np.ndarray:
    """(4, 4) parent_from_node in RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(degrees)
    matrix[:3, 3] = shift
    return matrix


def smooth_displacement(points: np.ndarray) -> np.ndarray:
    """(n, 3) mm: smooth, a few millimetres, different in each direction."""
    x, y, z = (np.asarray(points) / 60.0).T
    return np.stack([6.0 * np.sin(x + 0.3) * np.cos(y), 4.0 * np.cos(z - 0.5) * np.cos(x), 5.0 * np.sin(y + z)], axis=1)


def grid_image() -> sitk.Image:
    """LPS displacement field on an oblique grid that covers the test points: fixed (parent) to moving (node)."""
    shape = (40, 44, 48)
    image = sitk.Image(shape[::-1], sitk.sitkVectorFloat64, 3)
    image.SetSpacing(GRID_SPACING)
    image.SetDirection(rotation((5.0, -4.0, 8.0)).ravel().tolist())
    centre = np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
    image.SetOrigin((-centre).tolist())
    index = np.indices(shape).reshape(3, -1)[::-1].T
    lps = index * GRID_SPACING @ np.array(image.GetDirection()).reshape(3, 3).T + image.GetOrigin()
    flip = np.array([-1.0, -1.0, 1.0])
    field = sitk.GetImageFromArray((smooth_displacement(lps * flip) * flip).reshape(*shape, 3), isVector=True)
    field.CopyInformation(image)
    return field


def lattice_points_ras(count=60) -> np.ndarray:
    """(count, 3) RAS of inner grid nodes, where every interpolation gives the stored vector."""
    image = grid_image()
    index = np.random.default_rng(2).integers(4, np.array(image.GetSize()) - 4, (count, 3))
    return np.array([image.TransformIndexToPhysicalPoint(at.tolist()) for at in index]) * [-1.0, -1.0, 1.0]


def assert_same_map(node, itk) -> None:
    """A grid transform node's FromParent is the ITK map: exactly on its nodes, within interpolation between them."""
    transform = node.GetTransformFromParent()
    transform.Update()
    for points, tolerance in ((lattice_points_ras(), POINT_TOLERANCE_MM), (points_ras(), CUBIC_AGAINST_LINEAR_MM)):
        ours = np.array([transform.TransformPoint(point) for point in points])
        np.testing.assert_allclose(ours, itk_points_ras(itk, points), atol=tolerance)


def fiducials(points: np.ndarray):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    slicer.util.updateMarkupsControlPointsFromArray(node, points)
    return node


def load_grid_transform(tmp_path):
    import slicer

    field = grid_image()
    path = str(tmp_path / "grid.h5")
    sitk.WriteTransform(sitk.DisplacementFieldTransform(sitk.Image(field)), path)
    return slicer.util.loadTransform(path), sitk.DisplacementFieldTransform(sitk.Image(field))


def itk_points_ras(transform, points: np.ndarray) -> np.ndarray:
    """A SimpleITK (LPS) point map applied to RAS points."""
    flip = np.array([-1.0, -1.0, 1.0])
    return np.array([transform.TransformPoint((point * flip).tolist()) for point in points]) * flip


@pytest.mark.parametrize("ending", ["h5", "tfm"])
def test_linear_transform_file(app, scene, tmp_path, ending):
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(rigid()))
    path = str(tmp_path / f"t.{ending}")
    assert slicer.util.saveNode(node, path)
    loaded = slicer.util.loadTransform(path)
    assert loaded.IsLinear()
    np.testing.assert_allclose(matrix_of(loaded, "GetMatrixTransformToParent"), rigid(), atol=1e-9)
    itk = sitk.ReadTransform(path)
    np.testing.assert_allclose(itk_points_ras(itk, points_ras()),
                               (np.linalg.inv(rigid()) @ np.c_[points_ras(), np.ones(50)].T)[:3].T, atol=1e-6)


def test_slicer_reads_an_itk_transform_as_from_parent(app, tmp_path):
    import slicer

    fixed_to_moving = rigid()
    lps = RAS_FROM_LPS @ fixed_to_moving @ RAS_FROM_LPS
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(lps[:3, :3].ravel().tolist())
    affine.SetTranslation(lps[:3, 3].tolist())
    sitk.WriteTransform(affine, str(tmp_path / "t.h5"))
    node = slicer.util.loadTransform(str(tmp_path / "t.h5"))
    np.testing.assert_allclose(matrix_of(node, "GetMatrixTransformFromParent"), fixed_to_moving, atol=1e-9)
    moved = fiducials(points_ras())
    moved.SetAndObserveTransformNodeID(node.GetID())
    expected = (np.linalg.inv(fixed_to_moving) @ np.c_[points_ras(), np.ones(50)].T)[:3].T
    np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(moved, world=True), expected, atol=1e-6)


def test_grid_transform_from_parent_is_the_file(app, tmp_path):
    node, itk = load_grid_transform(tmp_path)
    assert not node.IsLinear()
    assert_same_map(node, itk)
    transform = node.GetTransformFromParent()
    ours = np.array([transform.TransformPoint(point) for point in points_ras()])
    # the analytic field, within what cubic interpolation on this grid costs
    np.testing.assert_allclose(ours, points_ras() + smooth_displacement(points_ras()), atol=0.01)


def test_grid_transform_saved_again_is_the_same_map(app, tmp_path):
    import slicer

    node, itk = load_grid_transform(tmp_path)
    path = str(tmp_path / "again.h5")
    assert slicer.util.saveNode(node, path)
    again = sitk.ReadTransform(path)
    np.testing.assert_allclose(itk_points_ras(again, points_ras()), itk_points_ras(itk, points_ras()),
                               atol=POINT_TOLERANCE_MM)


@pytest.mark.parametrize("ending", ["nrrd", "nii.gz"])
def test_grid_transform_as_a_displacement_image(app, tmp_path, ending):
    import slicer

    node, itk = load_grid_transform(tmp_path)
    path = str(tmp_path / f"field.{ending}")
    assert slicer.util.saveNode(node, path)
    assert_same_map(slicer.util.loadTransform(path), itk)


def test_hardening_moves_points_by_the_matrix(app, scene):
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(rigid()))
    moved = fiducials(points_ras())
    moved.SetAndObserveTransformNodeID(node.GetID())
    assert slicer.vtkSlicerTransformLogic.hardenTransform(moved)
    assert moved.GetParentTransformNode() is None
    expected = (rigid() @ np.c_[points_ras(), np.ones(50)].T)[:3].T
    np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(moved), expected, atol=1e-9)


def test_hardening_moves_points_by_the_inverse_of_the_grid(app, tmp_path):
    """ToParent inverts the file's map: mapping the result back through SimpleITK gives the points again."""
    import slicer

    node, itk = load_grid_transform(tmp_path)
    moved = fiducials(points_ras())
    moved.SetAndObserveTransformNodeID(node.GetID())
    assert slicer.vtkSlicerTransformLogic.hardenTransform(moved)
    result = slicer.util.arrayFromMarkupsControlPoints(moved)
    assert np.linalg.norm(result - points_ras(), axis=1).max() > 3.0
    np.testing.assert_allclose(itk_points_ras(itk, result), points_ras(), atol=5e-2)


def test_hardening_a_volume_linearly_moves_its_matrix_only(app, scene):
    import slicer

    volume = slicer.util.addVolumeFromArray(asymmetric_array(), oblique_ras_from_ijk())
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(rigid()))
    volume.SetAndObserveTransformNodeID(node.GetID())
    assert slicer.vtkSlicerTransformLogic.hardenTransform(volume)
    np.testing.assert_allclose(matrix_of(volume), rigid() @ oblique_ras_from_ijk(), atol=MATRIX_TOLERANCE)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), asymmetric_array())


def test_hardening_a_volume_through_the_grid_equals_simpleitk(app, tmp_path):
    """The hardened volume at a parent point shows the old volume at FromParent(point), as sitk.Resample does."""
    import slicer

    shape = (30, 34, 38)
    k, j, i = np.indices(shape)
    array = (100 * np.sin(i / 5.0) + 80 * np.cos(j / 4.0) + 60 * np.sin(k / 3.0)).astype(np.float32)
    matrix = np.diag([-2.0, -2.1, 2.4, 1.0])
    matrix[:3, 3] = 37.0, 34.0, -35.0
    volume = slicer.util.addVolumeFromArray(array, matrix, "wave")
    node, itk = load_grid_transform(tmp_path)
    volume.SetAndObserveTransformNodeID(node.GetID())
    assert slicer.vtkSlicerTransformLogic.hardenTransform(volume)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.1, 2.4))
    image.SetOrigin((-37.0, -34.0, -35.0))
    hardened = slicer.util.arrayFromVolume(volume)
    world = matrix_of(volume)
    index = np.indices(hardened.shape).reshape(3, -1)[::-1]
    ras = (world @ np.vstack([index, np.ones(index.shape[1])]))[:3].T
    values = hardened.ravel()
    picked = np.random.default_rng(1).choice(len(values), 3000, replace=False)
    sources = itk_points_ras(itk, ras[picked])
    voxel = (np.linalg.inv(matrix) @ np.c_[sources, np.ones(len(sources))].T)[:3]
    inside = np.all((voxel > 1) & (voxel < np.array(shape[::-1])[:, None] - 2), axis=0)
    assert inside.sum() > 500
    expected = [image.EvaluateAtContinuousIndex(at.tolist(), sitk.sitkLinear) for at in voxel.T[inside]]
    np.testing.assert_allclose(values[picked][inside], expected, atol=0.5)


def test_a_chain_of_transforms_composes(app, scene):
    import slicer

    inner = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    outer = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    first, second = rigid(), rigid((3, 40, -8), (-2, 5, 1))
    inner.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(first))
    outer.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(second))
    inner.SetAndObserveTransformNodeID(outer.GetID())
    moved = fiducials(points_ras())
    moved.SetAndObserveTransformNodeID(inner.GetID())
    world = slicer.util.arrayFromMarkupsControlPoints(moved, world=True)
    np.testing.assert_allclose(world, (second @ first @ np.c_[points_ras(), np.ones(50)].T)[:3].T, atol=1e-9)


def test_our_library_writes_what_slicer_reads(app, tmp_path):
    """IRAILib's fixed-to-moving file, loaded in Slicer, brings the moving image's points onto the fixed image's."""
    import slicer
    from IRAILib.geometry import LinearTransform
    from IRAILib.images import write_transform

    moving_from_fixed = LinearTransform(rigid(), "moving", "fixed")
    write_transform(moving_from_fixed, tmp_path / "reg.h5")
    node = slicer.util.loadTransform(str(tmp_path / "reg.h5"))
    fixed = points_ras()
    moving = fiducials(moving_from_fixed.apply(fixed))
    moving.SetAndObserveTransformNodeID(node.GetID())
    np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(moving, world=True), fixed, atol=1e-6)
