"""What the console needs of the scene beyond the steps of the job: files out, landmarks in, arrays back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..geometry import InputError
from ..images.atomic import replacing
from .ablation_results import EVALUATED
from .changes import part_of
from .traffic_light import SCALAR


def points_to_markups(points_ras: np.ndarray, name: str):
    """(n, 3) RAS mm to a vtkMRMLMarkupsFiducialNode, labelled 1 to n."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for number, point in enumerate(np.asarray(points_ras, float).reshape(-1, 3), start=1):
        node.AddControlPoint([float(x) for x in point], str(number))
    return node


def evaluated_margin(record) -> tuple[np.ndarray, np.ndarray]:
    """(n,) margin in mm and (n,) area in mm2 of the vertices that count, from a margin record's model."""
    from vtk.util.numpy_support import vtk_to_numpy

    from ..geometry import Surface

    mesh = part_of(record, "model").GetPolyData()
    scalars = mesh.GetPointData()
    points = vtk_to_numpy(mesh.GetPoints().GetData()).astype(float)
    triangles = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    keep = vtk_to_numpy(scalars.GetArray(EVALUATED)) > 0.5
    return vtk_to_numpy(scalars.GetArray(SCALAR))[keep], Surface(points, triangles).point_areas_mm2()[keep]


def save_scene(path: Path) -> Path:
    """The whole scene as .mrb, whole or not at all. Raises InputError when Slicer can't write it."""
    import slicer

    with replacing(path) as temporary:
        if not slicer.util.saveScene(str(temporary)):
            raise InputError(f"{path}: the scene couldn't be written; is there space on the disk?")
    return path
