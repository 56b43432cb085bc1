"""Models with scalars, tables, plots and texts."""

from __future__ import annotations

import numpy as np
import pytest
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy


def ball(center=(10.0, -20.0, 30.0)):
    """vtkPolyData of an ellipsoid with the point array "margin_mm": the point's height above the centre."""
    import vtk

    source = vtk.vtkSphereSource()
    source.SetRadius(15.0)
    source.SetThetaResolution(24)
    source.SetPhiResolution(16)
    source.Update()
    mesh = source.GetOutput()
    points = vtk_to_numpy(mesh.GetPoints().GetData()) * [1.0, 0.7, 0.5] + center
    mesh.GetPoints().SetData(numpy_to_vtk(points.astype(np.float32), deep=True))
    margin = numpy_to_vtk((points[:, 2] - center[2]).astype(np.float32), deep=True)
    margin.SetName("margin_mm")
    mesh.GetPointData().AddArray(margin)
    return mesh


@pytest.fixture
def model(app):
    import slicer

    node = slicer.modules.models.logic().AddModel(ball())
    node.SetName("margin")
    display = node.GetDisplayNode()
    display.SetActiveScalar("margin_mm", 0)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeRainbow")
    display.SetScalarVisibility(True)
    display.SetColor(0.2, 0.5, 0.8)
    display.SetOpacity(0.6)
    return node


@pytest.mark.parametrize("ending", ["vtp", "vtk", "ply", "stl", "obj"])
def test_model_points(app, tmp_path, model, ending):
    import slicer

    path = str(tmp_path / f"m.{ending}")
    assert slicer.util.saveNode(model, path)
    loaded = slicer.util.loadModel(path)
    ours, theirs = (slicer.util.arrayFromModelPoints(node) for node in (model, loaded))
    np.testing.assert_allclose(theirs.min(axis=0), ours.min(axis=0), atol=1e-3)
    np.testing.assert_allclose(theirs.max(axis=0), ours.max(axis=0), atol=1e-3)
    assert loaded.GetPolyData().GetNumberOfPolys() == model.GetPolyData().GetNumberOfPolys()


@pytest.mark.parametrize("ending", ["vtp", "vtk"])
def test_model_scalars(app, tmp_path, model, ending):
    import slicer

    path = str(tmp_path / f"m.{ending}")
    assert slicer.util.saveNode(model, path)
    loaded = slicer.util.loadModel(path)
    np.testing.assert_allclose(slicer.util.arrayFromModelPointData(loaded, "margin_mm"),
                               slicer.util.arrayFromModelPointData(model, "margin_mm"), atol=1e-6)


@pytest.mark.parametrize("ending", ["vtp", "ply"])
def test_model_files_are_lps(app, tmp_path, model, ending):
    """A foreign VTK reader finds the ball where LPS says."""
    import slicer
    import vtk

    path = str(tmp_path / f"m.{ending}")
    assert slicer.util.saveNode(model, path)
    reader = vtk.vtkXMLPolyDataReader() if ending == "vtp" else vtk.vtkPLYReader()
    reader.SetFileName(path)
    reader.Update()
    np.testing.assert_allclose(reader.GetOutput().GetCenter(), (-10.0, 20.0, 30.0), atol=0.5)


def test_model_under_a_transform_hardens_its_points(app, scene, model):
    import slicer

    before = slicer.util.arrayFromModelPoints(model).copy()
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.array([[0, -1, 0, 3.0], [1, 0, 0, -4.0], [0, 0, 1, 5.0], [0, 0, 0, 1]])
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    model.SetAndObserveTransformNodeID(node.GetID())
    assert slicer.vtkSlicerTransformLogic.hardenTransform(model)
    expected = (matrix @ np.c_[before, np.ones(len(before))].T)[:3].T
    np.testing.assert_allclose(slicer.util.arrayFromModelPoints(model), expected, atol=1e-4)


def test_own_colour_table_file(app, scene, tmp_path):
    import slicer

    table = slicer.vtkMRMLColorTableNode()
    table.SetTypeToUser()
    table.SetName("traffic light")
    table.SetNumberOfColors(3)
    for index, (name, color) in enumerate({"missed": (0.8, 0.1, 0.1), "thin": (0.95, 0.75, 0.1),
                                           "good": (0.1, 0.6, 0.2)}.items()):
        table.SetColor(index, name, *color, 1.0)
    scene.AddNode(table)
    path = str(tmp_path / "traffic.ctbl")
    assert slicer.util.saveNode(table, path)
    loaded = slicer.util.loadColorTable(path)
    assert [loaded.GetColorName(n) for n in range(3)] == ["missed", "thin", "good"]
    color = np.zeros(4)
    loaded.GetColor(1, color)
    np.testing.assert_allclose(color[:3], (0.95, 0.75, 0.1), atol=2 / 255)


@pytest.mark.parametrize("ending", ["tsv", "csv"])
def test_table(app, scene, tmp_path, ending):
    import slicer

    table = scene.AddNewNodeByClass("vtkMRMLTableNode", "results")
    slicer.util.updateTableFromArray(table, [np.array([1.5, -2.25, 3e-7]), np.array([1, 2, 3])], ["mm", "count"])
    path = str(tmp_path / f"results.{ending}")
    assert slicer.util.saveNode(table, path)
    loaded = slicer.util.loadTable(path)
    np.testing.assert_allclose(slicer.util.arrayFromTableColumn(loaded, "mm").astype(float), [1.5, -2.25, 3e-7])
    np.testing.assert_allclose(slicer.util.arrayFromTableColumn(loaded, "count").astype(float), [1, 2, 3])


def test_text_column_keeps_its_text(app, scene, tmp_path):
    import slicer
    import vtk

    table = scene.AddNewNodeByClass("vtkMRMLTableNode")
    column = vtk.vtkStringArray()
    column.SetName("measure")
    for text in ("MAM", "covered, %", "Größe"):
        column.InsertNextValue(text)
    table.AddColumn(column)
    path = str(tmp_path / "t.tsv")
    assert slicer.util.saveNode(table, path)
    loaded = slicer.util.loadTable(path)
    assert [loaded.GetCellText(row, 0) for row in range(3)] == ["MAM", "covered, %", "Größe"]


def test_plot_of_a_histogram(app, scene, tmp_path):
    """Chart, series and table keep pointing at each other through a scene file."""
    import slicer

    nodes: dict = {}
    chart = slicer.util.plot(np.array([[0, 4], [1, 9], [2, 16]], float), xColumnIndex=0, columnNames=["mm", "share"],
                             title="margin", show=False, nodes=nodes)
    series = nodes["series"][0]
    series.SetPlotType(series.PlotTypeScatterBar)
    series.SetColor(0.1, 0.6, 0.2)
    chart.SetXAxisTitle("margin, mm")
    assert slicer.util.saveScene(str(tmp_path / "plot.mrb"))
    scene.Clear(False)
    slicer.util.loadScene(str(tmp_path / "plot.mrb"))
    chart = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")[0]
    assert chart.GetTitle() == "margin"
    assert chart.GetXAxisTitle() == "margin, mm"
    series = chart.GetNthPlotSeriesNode(0)
    assert series.GetPlotType() == series.PlotTypeScatterBar
    np.testing.assert_allclose(series.GetColor(), (0.1, 0.6, 0.2), atol=1e-6)
    assert series.GetYColumnName() == "share"
    shares = slicer.util.arrayFromTableColumn(series.GetTableNode(), "share")
    np.testing.assert_allclose(shares.astype(float), [4, 9, 16])


@pytest.mark.parametrize("ending", ["txt", "json", "xml"])
def test_text(app, scene, tmp_path, ending):
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLTextNode", "notes")
    node.SetText("first line\nzweite Zeile: 5 mm\n")
    path = str(tmp_path / f"notes.{ending}")
    assert slicer.util.saveNode(node, path)
    assert slicer.util.loadText(path).GetText() == "first line\nzweite Zeile: 5 mm\n"
