"""Sequences: frames, index values, proxies, and both of their file types."""

from __future__ import annotations

import numpy as np
import pytest
from mrml_cases import asymmetric_array, matrix_of, oblique_ras_from_ijk, points_ras

TIMES = ("0.000", "0.250", "0.750")


def frame(number: int) -> np.ndarray:
    return asymmetric_array() + 1000 * number


def volume_sequence(scene):
    import slicer

    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "perfusion")
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    for number, time in enumerate(TIMES):
        volume = slicer.util.addVolumeFromArray(frame(number), oblique_ras_from_ijk(), "frame")
        sequence.SetDataNodeAtValue(volume, time)
        scene.RemoveNode(volume)
    return sequence


def browser_of(sequence):
    import slicer

    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return browser


@pytest.mark.parametrize("ending", ["seq.nrrd", "seq.mrb"])
def test_volume_sequence(app, scene, tmp_path, ending):
    import slicer

    path = str(tmp_path / f"perfusion.{ending}")
    assert slicer.util.saveNode(volume_sequence(scene), path)
    scene.Clear(False)
    loaded = slicer.util.loadSequence(path)
    assert loaded.GetNumberOfDataNodes() == 3
    assert [float(loaded.GetNthIndexValue(n)) for n in range(3)] == [float(time) for time in TIMES]
    for number in range(3):
        node = loaded.GetNthDataNode(number)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), frame(number))
        np.testing.assert_allclose(matrix_of(node), oblique_ras_from_ijk(), atol=1e-4)


def test_loading_gives_a_browser_that_steps(app, scene, tmp_path):
    import slicer

    path = str(tmp_path / "perfusion.seq.nrrd")
    assert slicer.util.saveNode(volume_sequence(scene), path)
    scene.Clear(False)
    loaded = slicer.util.loadSequence(path)
    browser = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")[0]
    for number in (2, 0, 1):
        browser.SetSelectedItemNumber(number)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(browser.GetProxyNode(loaded)), frame(number))


@pytest.mark.parametrize("kind", ["transforms", "markups"])
def test_sequence_of_other_nodes(app, scene, tmp_path, kind):
    import slicer

    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", kind)
    for number, time in enumerate(TIMES):
        if kind == "transforms":
            node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
            matrix = oblique_ras_from_ijk((1, 1, 1), (number, 2, 3))
            node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        else:
            node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "F")
            slicer.util.updateMarkupsControlPointsFromArray(node, points_ras(4) + number)
        sequence.SetDataNodeAtValue(node, time)
        scene.RemoveNode(node)
    path = str(tmp_path / f"{kind}.seq.mrb")
    assert slicer.util.saveNode(sequence, path)
    scene.Clear(False)
    loaded = slicer.util.loadSequence(path)
    last = loaded.GetNthDataNode(2)
    if kind == "transforms":
        np.testing.assert_allclose(matrix_of(last, "GetMatrixTransformToParent"),
                                   oblique_ras_from_ijk((1, 1, 1), (2, 2, 3)), atol=1e-6)
    else:
        np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(last), points_ras(4) + 2, atol=1e-6)


def test_proxies_survive_a_scene(app, scene, tmp_path):
    import slicer

    sequence = volume_sequence(scene)
    browser = browser_of(sequence)
    browser.SetSelectedItemNumber(1)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    browser.GetProxyNode(sequence).SetName("now")
    assert slicer.util.saveScene(str(tmp_path / "s.mrb"))
    scene.Clear(False)
    slicer.util.loadScene(str(tmp_path / "s.mrb"))
    browser = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")[0]
    sequence = browser.GetMasterSequenceNode()
    assert sequence.GetIndexUnit() == "s"
    assert browser.GetSelectedItemNumber() == 1
    browser.SetSelectedItemNumber(2)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(browser.GetProxyNode(sequence)), frame(2))


def test_a_failed_sequence_does_not_break_the_next_scene(app, scene, tmp_path):
    """A .seq.mrb that holds no sequence must leave the working directory and later .mrb reads alone."""
    import os

    import slicer

    (tmp_path / "broken.seq.mrb").write_bytes(b"no archive at all")
    before = os.getcwd()
    with pytest.raises(RuntimeError, match=r"broken\.seq\.mrb"):
        slicer.util.loadSequence(str(tmp_path / "broken.seq.mrb"))
    assert os.getcwd() == before
    slicer.util.addVolumeFromArray(frame(0), name="ct")
    assert slicer.util.saveScene(str(tmp_path / "good.mrb"))
    scene.Clear(False)
    slicer.util.loadScene(str(tmp_path / "good.mrb"))
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(slicer.util.getNode("ct")), frame(0))
