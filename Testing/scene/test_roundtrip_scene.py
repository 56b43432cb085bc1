"""A scene with everything in it, saved as .mrb and opened by another process."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mrml_cases import asymmetric_array, blob, oblique_ras_from_ijk, points_ras
from test_roundtrip_models_tables import ball

DESCRIBE = """
import json, sys
sys.path.insert(0, {folder!r})
from IRAILib import headless
headless.start()
import slicer
from test_roundtrip_scene import describe
slicer.util.loadScene({path!r})
print("SCENE" + json.dumps(describe()))
"""


def build(scene) -> None:
    """A volume, a label map, a segmentation, a model, markups, transforms, a table, a plot, a text, a sequence."""
    import slicer

    volume = slicer.util.addVolumeFromArray(asymmetric_array(), oblique_ras_from_ijk(), "ct")
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevel(350, 40)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "registration")
    matrix = oblique_ras_from_ijk((1, 1, 1), (4, 5, 6), (0, 0, 15))
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    transform.AddNodeReferenceID("spatialRegistrationFixed", volume.GetID())
    labels = blob().astype(np.uint8)
    slicer.util.addVolumeFromArray(labels, oblique_ras_from_ijk(), "labels", "vtkMRMLLabelMapVolumeNode")
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "zones")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment_id = segmentation.GetSegmentation().AddEmptySegment("tumour", "tumour", (0.9, 0.2, 0.1))
    slicer.util.updateSegmentBinaryLabelmapFromArray(labels, segmentation, segment_id, volume)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    model = slicer.modules.models.logic().AddModel(ball())
    model.SetName("margin")
    model.GetDisplayNode().SetActiveScalarName("margin_mm")
    model.GetDisplayNode().SetScalarVisibility(True)
    model.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeRainbow")
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "landmarks")
    slicer.util.updateMarkupsControlPointsFromArray(points, points_ras(5))
    line = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "needle")
    slicer.util.updateMarkupsControlPointsFromArray(line, np.array([[0, 0, 0], [0, 60, 80.0]]))
    slicer.util.plot(np.array([[0, 4], [1, 9.0]]), 0, ["mm", "share"], "histogram", show=False)
    scene.AddNewNodeByClass("vtkMRMLTextNode", "notes").SetText("5 mm, Größe")
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")
    for number in range(2):
        frame = slicer.util.addVolumeFromArray(asymmetric_array((2, 3, 4)) + number)
        sequence.SetDataNodeAtValue(frame, str(number))
        scene.RemoveNode(frame)
    parameters = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "AblationMargin")
    parameters.SetParameter("threshold_mm", "5.0")
    parameters.SetNodeReferenceID("ct", volume.GetID())


def describe() -> dict:
    """What the scene holds, in numbers that a JSON file can carry."""
    import slicer

    segmentation = slicer.util.getNode("zones")
    segment = segmentation.GetSegmentation().GetSegment("tumour")
    volume, model = slicer.util.getNode("ct"), slicer.util.getNode("margin")
    transform = slicer.util.getNode("registration")
    sequence = slicer.util.getNode("cine")
    chart = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")[0]
    parameters = slicer.util.getNode("AblationMargin")
    bounds = np.zeros(6)
    volume.GetRASBounds(bounds)
    surface = model.GetPolyData()
    numbers = {
        "voxels": int(slicer.util.arrayFromVolume(volume).astype(np.int64).ravel() @ np.arange(volume.GetImageData().
                                                                                                GetNumberOfPoints())),
        "bounds": bounds.tolist(),
        "window": [volume.GetDisplayNode().GetWindow(), volume.GetDisplayNode().GetLevel()],
        "parent": volume.GetParentTransformNode().GetName(),
        "fixed": transform.GetNodeReference("spatialRegistrationFixed").GetName(),
        "matrix": slicer.util.arrayFromTransformMatrix(transform).ravel().tolist(),
        "labels": int(slicer.util.arrayFromVolume(slicer.util.getNode("labels")).sum()),
        "segment": [segment.GetName(), *np.round(segment.GetColor(), 4).tolist(),
                    int(slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentation, "tumour").sum())],
        "model": [surface.GetNumberOfPoints(), *surface.GetBounds(),
                  float(slicer.util.arrayFromModelPointData(model, "margin_mm").max()),
                  model.GetDisplayNode().GetActiveScalarName(), model.GetDisplayNode().GetColorNode().GetName()],
        "points": slicer.util.arrayFromMarkupsControlPoints(slicer.util.getNode("landmarks")).ravel().tolist(),
        "needle": slicer.util.getNode("needle").GetLineLengthWorld(),
        "chart": [chart.GetTitle(), chart.GetNumberOfPlotSeriesNodes()],
        "text": slicer.util.getNode("notes").GetText(),
        "cine": [int(slicer.util.arrayFromVolume(sequence.GetNthDataNode(n)).sum()) for n in range(2)],
        "parameters": [parameters.GetParameter("threshold_mm"), parameters.GetNodeReference("ct").GetName()],
        "items": slicer.mrmlScene.GetSubjectHierarchyNode().GetNumberOfItems(),
    }
    return json.loads(json.dumps(numbers))


def assert_equal(found, expected, where="scene") -> None:
    """Equal structures, numbers within the single precision of files."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_equal(a, b, f"{where}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-4), where
    else:
        assert found == expected, where


def describe_elsewhere(path) -> dict:
    """describe() of a scene file in a fresh process."""
    code = DESCRIBE.format(folder=str(Path(__file__).parent), path=str(path))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.split("SCENE")[1])


def test_everything_in_a_bundle_opens_in_another_process(app, scene, tmp_path):
    import slicer

    build(scene)
    expected = describe()
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    with zipfile.ZipFile(tmp_path / "case.mrb") as bundle:
        names = bundle.namelist()
    assert sum(name.endswith(".mrml") for name in names) == 1
    assert any(name.endswith("ct.nrrd") for name in names)
    (tmp_path / "moved").mkdir()
    moved = (tmp_path / "case.mrb").rename(tmp_path / "moved" / "other name.mrb")
    assert_equal(describe_elsewhere(moved), expected)


def test_everything_in_a_folder_opens_again(app, scene, tmp_path):
    import slicer

    build(scene)
    expected = describe()
    folder = tmp_path / "case"
    assert slicer.util.saveScene(str(folder))
    scene.Clear(False)
    slicer.util.loadScene(str(next(folder.glob("*.mrml"))))
    assert_equal(describe(), expected)


def test_a_hidden_name_is_a_name(app, scene, tmp_path):
    """Files that are moved into place later are written under such names."""
    import slicer

    slicer.util.addVolumeFromArray(asymmetric_array(), name="ct")
    assert slicer.util.saveScene(str(tmp_path / ".writing-scene.mrb"))
    assert [path.name for path in tmp_path.iterdir()] == [".writing-scene.mrb"]
    slicer.util.loadScene(str(tmp_path / ".writing-scene.mrb"), {"clear": True})
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(slicer.util.getNode("ct")), asymmetric_array())


def test_a_full_folder_is_not_written_over(app, scene, tmp_path):
    import slicer

    (tmp_path / "mine.txt").write_text("keep")
    assert not slicer.util.saveScene(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_loading_adds_to_the_scene_or_replaces_it(app, scene, tmp_path):
    import slicer

    slicer.util.addVolumeFromArray(asymmetric_array(), name="first")
    assert slicer.util.saveScene(str(tmp_path / "first.mrb"))
    scene.Clear(False)
    slicer.util.addVolumeFromArray(asymmetric_array(), name="second")
    slicer.util.loadScene(str(tmp_path / "first.mrb"))
    assert {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")} == {"first", "second"}
    slicer.util.loadScene(str(tmp_path / "first.mrb"), {"clear": True})
    assert [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")] == ["first"]


def test_a_damaged_bundle_is_an_error(app, scene, tmp_path):
    import slicer

    (tmp_path / "broken.mrb").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(RuntimeError, match=r"broken\.mrb"):
        slicer.util.loadScene(str(tmp_path / "broken.mrb"))


def test_slice_views_open_as_they_were_left(app, scene, tmp_path):
    import slicer

    volume = slicer.util.addVolumeFromArray(asymmetric_array(), name="ct")
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    assert slicer.util.saveScene(str(tmp_path / "view.mrb"))
    scene.Clear(False)
    assert scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed").GetBackgroundVolumeID() is None
    slicer.util.loadScene(str(tmp_path / "view.mrb"), {"clear": True})
    for name in ("Red", "Yellow", "Green"):
        composite = scene.GetNodeByID(f"vtkMRMLSliceCompositeNode{name}")
        assert scene.GetNodeByID(composite.GetBackgroundVolumeID()).GetName() == "ct"
