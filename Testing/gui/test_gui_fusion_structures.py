"""The structures that the panel warns of: they follow their transform, and what can't be read warns of nothing old."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import Grid, Mask


@pytest.fixture
def panel(host):
    return host("FusionNav")


@pytest.fixture
def structures(panel):
    """A ball about the origin, under a transform that doesn't move it yet; chosen in step 1."""
    import slicer
    from IRAILib.scene.write import mask_to_segment

    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = -19.0
    grid = Grid((20, 20, 20), matrix)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    mask_to_segment(node, Mask(np.linalg.norm(grid.all_points_ras(), axis=-1) < 9.0, grid), "Vein")
    above = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    node.SetAndObserveTransformNodeID(above.GetID())
    parameters = panel.widget.panel.parameters
    parameters.structures = node
    panel.widget.panel.refresh()
    return node


def distance_mm(panel) -> float:
    return float(panel.widget.logic.session.obstacles[0].at(np.zeros(3))[0])


def test_structures_follow_the_transform_they_lie_under(panel, structures) -> None:
    from IRAILib.scene.nodes import matrix_to_vtk

    assert distance_mm(panel) < -6.0
    matrix = np.eye(4)
    matrix[0, 3] = 20.0
    structures.GetParentTransformNode().SetMatrixTransformToParent(matrix_to_vtk(matrix))
    panel.widget.panel.refresh()
    assert distance_mm(panel) == pytest.approx(11.0, abs=2.0)


def test_structures_that_cannot_be_read_leave_none_of_before_and_are_said(panel, structures) -> None:
    """A deformable transform: no warning is better than one for the wrong place, and the panel goes on."""
    import slicer
    import vtk

    session = panel.widget.logic.session
    assert len(session.obstacles) == 1
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "bent")
    spline = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    moved = vtk.vtkPoints()
    for point in ((0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9), (9, 9, 9)):
        points.InsertNextPoint(point)
        moved.InsertNextPoint(point[0] + 0.1 * point[1] * point[2], point[1], point[2])
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(moved)
    spline.SetBasisToR()
    bent.SetAndObserveTransformToParent(spline)
    structures.SetAndObserveTransformNodeID(bent.GetID())
    for _ in range(2):
        panel.widget.panel.refresh()
        assert session.obstacles == []
        assert "deformable" in panel.ui.guideNeedsLabel.text
        assert panel.ui.statusLabel.text == "NOT CONNECTED"
    structures.SetAndObserveTransformNodeID(None)
    panel.widget.panel.refresh()
    assert len(session.obstacles) == 1


def test_a_tool_without_a_calibrated_tip_is_said(panel) -> None:
    from types import SimpleNamespace

    from FusionNavLib.Presenters import guideNeeds

    plan = SimpleNamespace(GetNumberOfDefinedControlPoints=lambda: 2)
    parameters = SimpleNamespace(plan=plan, tool="NeedleToReference")
    assert "not calibrated" in guideNeeds(parameters, SimpleNamespace(connected=True, tip_calibrated=False))
    assert guideNeeds(parameters, SimpleNamespace(connected=True, tip_calibrated=True)) == ""
    assert guideNeeds(parameters, SimpleNamespace(connected=False, tip_calibrated=False)) == ""
