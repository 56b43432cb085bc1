"""Asymmetric things for round trips: whatever is flipped, shifted or transposed on the way shows."""

from __future__ import annotations

import numpy as np

MATRIX_TOLERANCE = 1e-4
"""mm and unit vectors: NIfTI keeps its quaternion in single precision."""
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (7, 11, 13)


def rotation(degrees_xyz) -> np.ndarray:
    """(3, 3) from three angles, about z, y and x in turn."""
    x, y, z = np.radians(degrees_xyz)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def oblique_ras_from_ijk(spacing=(0.7, 1.1, 2.5), origin=(-31.5, 12.25, 47.0),
                         degrees=(11.0, -23.0, 37.0)) -> np.ndarray:
    """(4, 4) with three different spacings and no axis along the body."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(degrees) @ np.diag(spacing)
    matrix[:3, 3] = origin
    return matrix


def asymmetric_array(shape=SHAPE, dtype=np.int16) -> np.ndarray:
    """(k, j, i): every voxel has its own value."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def blob(shape=SHAPE, corner=(1, 2, 3), size=(3, 4, 6)) -> np.ndarray:
    """(k, j, i) bool box with one corner voxel missing, so that no flip maps it onto itself."""
    array = np.zeros(shape, bool)
    array[tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))] = True
    array[corner] = False
    return array


def matrix_of(node, getter: str = "GetIJKToRASMatrix") -> np.ndarray:
    """A 4x4 of a node as an array."""
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    getattr(node, getter)(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix).copy()


def sitk_ras_from_ijk(image) -> np.ndarray:
    """(4, 4) of a SimpleITK image, which speaks LPS."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return RAS_FROM_LPS @ matrix


def assert_same_voxels(array, ras_from_ijk, expected, expected_ras_from_ijk) -> None:
    """Each voxel lies where it lay and holds what it held, in whatever order the axes run now."""
    index = np.indices(array.shape).reshape(3, -1)[::-1]
    ras = ras_from_ijk @ np.vstack([index, np.ones(index.shape[1])])
    at = np.linalg.inv(expected_ras_from_ijk) @ ras
    np.testing.assert_allclose(at[:3], np.round(at[:3]), atol=1e-3)
    i, j, k = np.round(at[:3]).astype(int)
    np.testing.assert_array_equal(array.ravel(), expected[k, j, i])
    assert array.size == expected.size


def points_ras(count=50, seed=5, scale=40.0) -> np.ndarray:
    """(count, 3) random RAS mm round the origin."""
    return np.random.default_rng(seed).normal(size=(count, 3)) * scale
