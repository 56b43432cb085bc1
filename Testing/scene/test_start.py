"""Headless Slicer starts once, answers as desktop does, and says what it can't do."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from IRAILib import headless
from IRAILib.headless import HeadlessUnavailableError


def test_start_twice_is_one_application(app):
    import slicer

    assert headless.start() is app is slicer.app
    assert slicer.mrmlScene is app.mrmlScene()
    assert not headless.is_desktop()


def test_start_leaves_desktop_slicer_alone(app, monkeypatch):
    import slicer

    class DesktopApplication:
        """What qSlicerApplication looks like from here: no mark of ours."""

    desktop = DesktopApplication()
    monkeypatch.setattr(slicer, "app", desktop)
    load_ui = slicer.util.loadUI
    assert headless.is_desktop()
    assert headless.start() is desktop
    assert slicer.util.loadUI is load_ui


@pytest.mark.parametrize(("module", "logic_class"), [
    ("volumes", "vtkSlicerVolumesLogic"), ("segmentations", "vtkSlicerSegmentationsModuleLogic"),
    ("markups", "vtkSlicerMarkupsLogic"), ("sequences", "vtkSlicerSequencesLogic"),
    ("transforms", "vtkSlicerTransformLogic"), ("cropvolume", "vtkSlicerCropVolumeLogic"),
    ("plots", "vtkSlicerPlotsLogic"), ("units", "vtkSlicerUnitsLogic")])
def test_module_logics_are_slicers_own(app, module, logic_class):
    import slicer

    logic = getattr(slicer.modules, module).logic()
    assert logic.IsA(logic_class)
    assert logic.GetMRMLScene() is slicer.mrmlScene
    assert slicer.util.getModuleLogic(getattr(slicer.modules, module).name) is logic
    assert app.applicationLogic().GetModuleLogic(slicer.util.getModule(module).name) is logic


@pytest.mark.parametrize(("expression", "named"), [
    ("slicer.modules.dicom", "IRAILib.images"),
    ("slicer.modules.brainsfit", "IRAILib.registration"),
    ("slicer.modules.volumes.widgetRepresentation()", "logic()"),
    ("slicer.util.selectModule('Volumes')", "logic"),
    ("slicer.util.getModuleWidget('Volumes')", "logic"),
    ("slicer.util.mainWindow().statusBar()", "views"),
    ("slicer.util.loadUI('a.ui')", "Qt"),
    ("slicer.util.confirmYesNoDisplay('sure?')", "decide"),
    ("slicer.util.openSaveDataDialog()", "saveScene"),
    ("slicer.util.createProgressDialog()", "progress"),
    ("slicer.app.layoutManager().threeDWidget(0)", "ThreeDView"),
    ("slicer.app.layoutManager().sliceWidget('Red').sliceView()", "SliceView"),
    ("slicer.app.pythonConsole()", "logging"),
    ("slicer.app.dicomDatabase", "pydicom"),
    ("slicer.dicomDatabase", "IRAILib.images"),
    ("slicer.cli.run(None)", "IRAILib.registration"),
    ("slicer.qMRMLNodeComboBox()", "Qt class"),
])
def test_what_is_missing_says_so_and_names_what_to_use(app, expression, named):
    import slicer

    with pytest.raises(HeadlessUnavailableError, match="desktop Slicer") as error:
        eval(expression, {"slicer": slicer})
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_asking_whether_something_is_there_still_works(app):
    import slicer

    assert not hasattr(slicer.modules, "dicom")
    assert not hasattr(slicer.app, "dicomDatabase")
    assert not slicer.util.mainWindow()
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = slicer.no_such_name


def test_displays_are_logged_and_errors_still_raised(app, caplog):
    import slicer

    caplog.set_level("INFO", "IRAI")
    slicer.util.infoDisplay("nothing to see")
    with pytest.raises(ValueError, match="broken"), slicer.util.tryWithErrorDisplay("It failed."), \
            slicer.util.WaitCursor():
        raise ValueError("broken")
    assert "nothing to see" in caplog.text
    assert "It failed." in caplog.text


def test_temporary_folder_is_made(app):
    import slicer

    folder = slicer.util.tempDirectory("irai")
    assert os.path.isdir(folder)
    assert folder.startswith(app.temporaryPath)


def test_a_fresh_scene_has_what_desktop_has(app, scene):
    import slicer

    assert scene.GetNodeByID("vtkMRMLSliceNodeRed").GetOrientationString() == "Axial"
    assert scene.GetNodeByID("vtkMRMLSliceNodeYellow").GetOrientationString() == "Sagittal"
    assert scene.GetNodeByID("vtkMRMLSliceNodeGreen").GetOrientationString() == "Coronal"
    for node_id in ("vtkMRMLColorTableNodeGrey", "vtkMRMLColorTableNodeRainbow", "vtkMRMLColorTableNodeLabels",
                    "vtkMRMLUnitNodeApplicationLength", "vtkMRMLInteractionNodeSingleton",
                    "vtkMRMLSelectionNodeSingleton"):
        assert scene.GetNodeByID(node_id) is not None, node_id
    assert slicer.app.applicationLogic().GetSliceLogics().GetNumberOfItems() == 3


def test_slice_layers_are_set_as_on_desktop(app, scene):
    import slicer

    volume = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16))
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    red = scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    assert red.GetBackgroundVolumeID() == volume.GetID()
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView


def test_new_segments_have_reproducible_distinct_colours(app, scene):
    colors = []
    for _ in range(2):
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        node.CreateDefaultDisplayNodes()
        ids = [node.GetSegmentation().AddEmptySegment("", name) for name in "abcdef"]
        colors.append([node.GetSegmentation().GetSegment(segment_id).GetColor() for segment_id in ids])
    assert colors[0] == colors[1]
    assert len(set(colors[0])) == 6


def test_loading_what_is_not_there_or_unknown_fails_clearly(app, tmp_path):
    import slicer

    with pytest.raises(RuntimeError, match=r"missing\.nrrd"):
        slicer.util.loadVolume(str(tmp_path / "missing.nrrd"))
    unknown = tmp_path / "strange.xyz"
    unknown.write_text("?")
    with pytest.raises(RuntimeError, match="no reader"):
        slicer.util.loadNodeFromFile(str(unknown))
    broken = tmp_path / "broken.nrrd"
    broken.write_text("NRRD0004\nthis is no header")
    with pytest.raises(RuntimeError, match="broken"):
        slicer.util.loadVolume(str(broken))


def test_importing_and_starting_needs_no_display(tmp_path):
    """In a process of its own, without DISPLAY; what VTK says doesn't reach the terminal."""
    code = ("from IRAILib import headless; headless.start(); import slicer, numpy as np; "
            "v = slicer.util.addVolumeFromArray(np.ones((2, 3, 4), 'int16')); "
            f"assert slicer.util.saveScene({str(tmp_path / 'a.mrb')!r}); print(v.GetID())")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False,
                            env={name: value for name, value in os.environ.items() if name != "DISPLAY"})
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "vtkMRMLScalarVolumeNode1"
    assert "ERR" not in result.stderr
