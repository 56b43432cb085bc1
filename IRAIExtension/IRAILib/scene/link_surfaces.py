"""POLYDATA as a model node and back, COLORT as a colour node, NDARRAY as a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import InputError

CELLS = (("vertices", "SetVerts", "GetVerts"), ("lines", "SetLines", "GetLines"),
         ("polygons", "SetPolys", "GetPolys"), ("triangle_strips", "SetStrips", "GetStrips"))
CELL_DATA = 0x10
MAX_COLORS = 256
"""Slicer's widgets list every colour: a table of 65536 is shown in so many steps."""
MAX_ARRAY_ROWS = 4096


def write_polydata(node, message) -> None:
    """Put a POLYDATA into a model node, its numbers as point and cell arrays; the first time it gets a display."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray

    mesh = vtk.vtkPolyData()
    points = vtk.vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(message.points, np.float32), deep=True))
    mesh.SetPoints(points)
    for name, setter, _getter in CELLS:
        row = np.asarray(getattr(message, name))
        if row.size:
            cells = vtk.vtkCellArray()
            count = _count(row)
            cells.SetCells(count, numpy_to_vtkIdTypeArray(row.astype(np.int64), deep=True))
            getattr(mesh, setter)(cells)
    for attribute in message.attributes:
        values = np.ascontiguousarray(attribute.values, np.float32)
        data = mesh.GetCellData() if attribute.kind & CELL_DATA else mesh.GetPointData()
        wanted = mesh.GetNumberOfCells() if attribute.kind & CELL_DATA else mesh.GetNumberOfPoints()
        if len(values) != wanted:
            raise InputError(f"the numbers '{attribute.name}' are {len(values)}, the surface has {wanted}")
        array = numpy_to_vtk(values, deep=True)
        array.SetName(attribute.name)
        data.AddArray(array)
    node.SetAndObservePolyData(mesh)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()


def _count(row: np.ndarray) -> int:
    count, at = 0, 0
    while at < row.size:
        at += int(row[at]) + 1
        count += 1
    return count


def message_from_model(node, name: str):
    """A model node as POLYDATA, in world RAS, with its point and cell arrays of numbers. Raises InputError when empty
    or under a deformable transform."""
    from vtk.util.numpy_support import vtk_to_numpy

    from ..link.messages import PolyData
    from .nodes import world_from_node

    mesh = node.GetPolyData()
    if mesh is None or not mesh.GetNumberOfPoints():
        raise InputError(f"{node.GetName()}: the model is empty")
    matrix = world_from_node(node)
    points = vtk_to_numpy(mesh.GetPoints().GetData()).astype(float) @ matrix[:3, :3].T + matrix[:3, 3]
    rows: dict[str, Any] = {}
    for kind, _setter, getter in CELLS:
        cells = getattr(mesh, getter)()
        if cells.GetNumberOfCells():
            rows[kind] = _row(cells)
    return PolyData(points, attributes=_attributes(mesh), device=name, **rows)


def _row(cells) -> np.ndarray:
    """Counts and indices in one row, as the wire and VTK's old layout have them."""
    from vtk.util.numpy_support import vtk_to_numpy

    starts = vtk_to_numpy(cells.GetOffsetsArray()).astype(np.int64)
    indices = vtk_to_numpy(cells.GetConnectivityArray()).astype(np.int64)
    return np.insert(indices, starts[:-1], np.diff(starts)).astype(np.uint32)


def _attributes(mesh) -> list[Any]:
    from vtk.util.numpy_support import vtk_to_numpy

    from ..link.messages import Attribute

    out = []
    for offset, data in ((0, mesh.GetPointData()), (CELL_DATA, mesh.GetCellData())):
        for index in range(data.GetNumberOfArrays()):
            array = data.GetArray(index)
            if array is None:
                continue
            values = vtk_to_numpy(array).astype(np.float32)
            values = values[:, None] if values.ndim == 1 else values
            if values.shape[1] > 255 or not np.isfinite(values).all():
                continue
            kind = {1: 0, 3: 1, 4: 4, 9: 3}.get(values.shape[1], 0) + offset
            if array is data.GetNormals():
                kind = 2 + offset
            out.append(Attribute(array.GetName() or f"array{index}", kind, values))
    return out


def write_colors(node, message) -> None:
    """Put a colour table into a colour table node: grey values of 8 or 16 bits, or red, green and blue."""
    colors = np.asarray(message.colors)
    top = 65535.0 if colors.dtype == np.uint16 else 255.0
    table = (np.repeat(colors[:, None], 3, axis=1) if colors.ndim == 1 else colors) / top
    if len(table) > MAX_COLORS:
        table = table[np.linspace(0, len(table) - 1, MAX_COLORS).round().astype(int)]
    node.SetTypeToUser()
    node.SetNumberOfColors(len(table))
    for index, color in enumerate(table):
        node.SetColor(index, f"{index}", *(float(value) for value in color), 1.0)
    if hasattr(node, "SetAllColorsDefined"):
        node.SetAllColorsDefined()


def array_rows(message) -> tuple[list[str], list[list]]:
    """(header, rows) of an NDARRAY: the last index along the columns, the others counted in the first column.

    Raises InputError for one that is too long for a table.
    """
    array = np.asarray(message.array)
    if np.iscomplexobj(array):
        raise InputError("an array of complex numbers has no table")
    table = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(-1, 1)
    if len(table) > MAX_ARRAY_ROWS or table.shape[1] > MAX_ARRAY_ROWS:
        raise InputError(f"an array of {' x '.join(map(str, array.shape))} is too large for a table")
    return ["Row", *[f"{n}" for n in range(table.shape[1])]], [[n, *map(float, row)] for n, row in enumerate(table)]
