"""Markups: positions, labels, measurements and the coordinate system of their files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mrml_cases import points_ras, rotation

POSITION_TOLERANCE_MM = 1e-6


def add(scene, node_class: str, points, name="m"):
    import slicer

    node = scene.AddNewNodeByClass(node_class, name)
    node.CreateDefaultDisplayNodes()
    slicer.util.updateMarkupsControlPointsFromArray(node, np.asarray(points, float))
    return node


def saved_and_loaded(node, path):
    import slicer

    assert slicer.util.saveNode(node, str(path))
    loaded = slicer.util.loadMarkups(str(path))
    assert loaded is not node
    assert loaded.GetClassName() == node.GetClassName()
    return loaded


@pytest.mark.parametrize("node_class", [
    "vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsLineNode", "vtkMRMLMarkupsAngleNode", "vtkMRMLMarkupsCurveNode",
    "vtkMRMLMarkupsClosedCurveNode"])
def test_positions(app, scene, tmp_path, node_class):
    import slicer

    count = {"vtkMRMLMarkupsLineNode": 2, "vtkMRMLMarkupsAngleNode": 3}.get(node_class, 6)
    points = points_ras(count)
    loaded = saved_and_loaded(add(scene, node_class, points), tmp_path / "m.mrk.json")
    np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(loaded), points, atol=POSITION_TOLERANCE_MM)


def test_the_file_is_lps_and_says_so(app, scene, tmp_path):
    import slicer

    node = add(scene, "vtkMRMLMarkupsFiducialNode", [[10.0, 20.0, 30.0]])
    assert slicer.util.saveNode(node, str(tmp_path / "p.mrk.json"))
    markup = json.loads((tmp_path / "p.mrk.json").read_text())["markups"][0]
    assert markup["coordinateSystem"] == "LPS"
    assert markup["controlPoints"][0]["position"] == [-10.0, -20.0, 30.0]


def test_ras_files_are_read_as_ras(app, tmp_path):
    import slicer

    (tmp_path / "p.mrk.json").write_text(json.dumps({"markups": [{
        "type": "Fiducial", "coordinateSystem": "RAS",
        "controlPoints": [{"id": "1", "label": "tip", "position": [1.5, -2.5, 3.5]}]}]}))
    node = slicer.util.loadMarkups(str(tmp_path / "p.mrk.json"))
    np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(node), [[1.5, -2.5, 3.5]])
    assert node.GetNthControlPointLabel(0) == "tip"


def test_labels_descriptions_and_display(app, scene, tmp_path):
    node = add(scene, "vtkMRMLMarkupsFiducialNode", points_ras(3), "landmarks")
    for number, label in enumerate(("portal", "Leberspitze", "dôme")):
        node.SetNthControlPointLabel(number, label)
        node.SetNthControlPointDescription(number, f"about {label}")
    node.SetNthControlPointSelected(1, False)
    node.GetDisplayNode().SetSelectedColor(0.2, 0.4, 0.9)
    loaded = saved_and_loaded(node, tmp_path / "landmarks.mrk.json")
    assert [loaded.GetNthControlPointLabel(n) for n in range(3)] == ["portal", "Leberspitze", "dôme"]
    assert loaded.GetNthControlPointDescription(2) == "about dôme"
    assert not loaded.GetNthControlPointSelected(1)
    np.testing.assert_allclose(loaded.GetDisplayNode().GetSelectedColor(), (0.2, 0.4, 0.9), atol=1e-6)


def test_length_is_measured_in_mm(app, scene, tmp_path):
    line = add(scene, "vtkMRMLMarkupsLineNode", [[0, 0, 0], [3.0, 4.0, 12.0]])
    loaded = saved_and_loaded(line, tmp_path / "l.mrk.json")
    for node in (line, loaded):
        assert node.GetLineLengthWorld() == pytest.approx(13.0)
        measurement = node.GetMeasurement("length")
        assert measurement.GetValue() == pytest.approx(13.0)
        assert "13" in measurement.GetValueWithUnitsAsPrintableString()
        assert "mm" in measurement.GetValueWithUnitsAsPrintableString()


def test_angle_is_measured_in_degrees(app, scene, tmp_path):
    node = add(scene, "vtkMRMLMarkupsAngleNode", [[10, 0, 0], [0, 0, 0], [0, 10, 10]])
    loaded = saved_and_loaded(node, tmp_path / "a.mrk.json")
    assert loaded.GetAngleDegrees() == pytest.approx(90.0)


def test_curve_length_follows_the_spline(app, scene, tmp_path):
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = 20 * np.stack([np.cos(angle), np.sin(angle), np.zeros(24)], axis=1)
    node = add(scene, "vtkMRMLMarkupsClosedCurveNode", circle)
    loaded = saved_and_loaded(node, tmp_path / "c.mrk.json")
    assert loaded.GetCurveLengthWorld() == pytest.approx(2 * np.pi * 20, rel=2e-3)


def test_oblique_roi(app, scene, tmp_path):
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((10, 20, 30))
    matrix[:3, 3] = 12.0, -34.0, 56.0
    node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(matrix))
    node.SetSize(30.0, 20.0, 10.0)
    loaded = saved_and_loaded(node, tmp_path / "box.mrk.json")
    np.testing.assert_allclose(loaded.GetSize(), (30.0, 20.0, 10.0), atol=1e-6)
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(loaded.GetObjectToWorldMatrix()), matrix, atol=1e-6)
    inside, outside = matrix @ (14.9, 9.9, 4.9, 1), matrix @ (15.1, 0, 0, 1)
    assert loaded.IsPointInROIWorld(inside[:3])
    assert not loaded.IsPointInROIWorld(outside[:3])


def test_plane(app, scene, tmp_path):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "plane")
    normal = rotation((10, 20, 30))[:, 2]
    node.SetOrigin(5.0, -6.0, 7.0)
    node.SetNormal(*normal)
    node.SetSize(40.0, 25.0)
    loaded = saved_and_loaded(node, tmp_path / "plane.mrk.json")
    np.testing.assert_allclose(loaded.GetNormal(), normal, atol=1e-6)
    np.testing.assert_allclose(loaded.GetOrigin(), (5.0, -6.0, 7.0), atol=1e-6)
    np.testing.assert_allclose(loaded.GetSize(), (40.0, 25.0), atol=1e-6)


def test_fcsv(app, scene, tmp_path):
    import slicer

    points = points_ras(4)
    loaded = saved_and_loaded(add(scene, "vtkMRMLMarkupsFiducialNode", points), tmp_path / "p.fcsv")
    np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(loaded), points, atol=1e-3)
