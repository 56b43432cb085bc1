"""Triangle surfaces in RAS mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Surface:
    """A triangle mesh.

    Attributes:
        points: (n, 3) float64 vertices, RAS mm.
        triangles: (m, 3) int64 vertex indices, normals outward.
    """

    points: np.ndarray
    triangles: np.ndarray

    def triangle_areas_mm2(self) -> np.ndarray:
        """(m,) area of every triangle."""
        a, b, c = (self.points[self.triangles[:, n]] for n in range(3))
        return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)

    def point_areas_mm2(self) -> np.ndarray:
        """(n,) a third of the area of the triangles round each vertex; sums to the surface's area."""
        areas = np.repeat(self.triangle_areas_mm2() / 3.0, 3)
        return np.bincount(self.triangles.ravel(), weights=areas, minlength=len(self.points))

    def point_normals(self) -> np.ndarray:
        """(n, 3) unit outward normals, area-weighted."""
        a, b, c = (self.points[self.triangles[:, n]] for n in range(3))
        face = np.cross(b - a, c - a)
        out = np.zeros_like(self.points)
        for n in range(3):
            np.add.at(out, self.triangles[:, n], face)
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)

    def volume_ml(self) -> float:
        """Enclosed volume of a closed surface, by the divergence theorem; millilitres."""
        if not len(self.triangles):
            return 0.0
        middle = self.points.mean(axis=0)
        a, b, c = (self.points[self.triangles[:, n]] - middle for n in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6000.0)

    def transformed(self, transform) -> Surface:
        """The mesh with its vertices moved by a point transform; a mirror keeps normals outward."""
        moved = Surface(transform.apply(self.points), self.triangles)
        if moved.volume_ml() < 0.0:
            return Surface(moved.points, self.triangles[:, ::-1])
        return moved

    def to_vtk(self):
        """vtkPolyData with the same points and triangles (RAS)."""
        import vtk
        from vtk.util import numpy_support

        points = vtk.vtkPoints()
        points.SetData(numpy_support.numpy_to_vtk(np.ascontiguousarray(self.points, np.float32), deep=True))
        cells = vtk.vtkCellArray()
        offsets = np.arange(0, 3 * len(self.triangles) + 1, 3, dtype=np.int64)
        cells.SetData(numpy_support.numpy_to_vtkIdTypeArray(offsets, deep=True),
                      numpy_support.numpy_to_vtkIdTypeArray(
                          np.ascontiguousarray(self.triangles.ravel(), np.int64), deep=True))
        mesh = vtk.vtkPolyData()
        mesh.SetPoints(points)
        mesh.SetPolys(cells)
        return mesh
