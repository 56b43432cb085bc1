"""Scripted modules' base classes and parameter nodes, as they are imported in desktop Slicer."""

import enum
import pathlib
import sys
import types
from typing import Annotated, Optional

import numpy as np
import pytest
from IRAILib.headless import HeadlessUnavailableError


class Mode(enum.Enum):
    RIGID = 1
    DEFORMABLE = 2


@pytest.fixture
def wrapped(app):
    """A wrapper class with every kind of parameter, made as a module makes it."""
    import slicer
    from slicer import vtkMRMLScalarVolumeNode
    from slicer.parameterNodeWrapper import Choice, Default, Minimum, WithinRange, parameterNodeWrapper, parameterPack

    @parameterPack
    class Limits:
        low: float
        high: Annotated[float, Default(10.0)]

    class Parameters:
        volume: vtkMRMLScalarVolumeNode
        threshold_mm: Annotated[float, WithinRange(0, 100)] = 5.0
        rounds: Annotated[int, Minimum(1), Default(3)]
        show: bool = True
        mode: Mode = Mode.DEFORMABLE
        engine: Annotated[str, Choice(["convex", "greedy"])] = "convex"
        names: list[str]
        radii: Annotated[list[float], Default([1.0, 2.0])]
        table: dict[str, int]
        pair: tuple[int, str]
        maybe: Optional[int]  # noqa: UP045  (both spellings occur)
        either: int | str
        file: pathlib.Path
        limits: Limits

    return parameterNodeWrapper(Parameters)(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))


def test_defaults(wrapped):
    assert wrapped.volume is None
    assert (wrapped.threshold_mm, wrapped.rounds, wrapped.show) == (5.0, 3, True)
    assert wrapped.mode is Mode.DEFORMABLE
    assert wrapped.radii == [1.0, 2.0]
    assert (wrapped.names, wrapped.table, wrapped.pair) == ([], {}, (0, ""))
    assert wrapped.maybe is None
    assert wrapped.limits.high == 10.0


def test_parameters_are_stored_as_slicer_stores_them(wrapped, scene):
    """Keys and texts read from Slicer's serializers: a scene saved here restores there."""
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    wrapped.volume, wrapped.threshold_mm, wrapped.show, wrapped.mode = volume, 7.5, False, Mode.RIGID
    wrapped.names = ["a", "b"]
    wrapped.table = {"x": 4}
    wrapped.pair, wrapped.maybe, wrapped.either = (2, "q"), 9, "text"
    wrapped.limits.low = 1.5
    node = wrapped.parameterNode
    expected = {"volume": "", "threshold_mm": "7.5", "show": "False", "mode": "RIGID", "names.len": "2", "names.0": "a",
                "names.1": "b", "table.len": "1", "table.0.0": "x", "table.0.1": "4", "pair.0": "2", "pair.1": "q",
                "maybe.0": "9", "either.1": "text", "limits.low": "1.5", "limits.high": "10.0", "file": "."}
    for name, text in expected.items():
        assert node.HasParameter(name), name
        assert node.GetParameter(name) == text, name
    assert node.GetNodeReferenceID("volume") == volume.GetID()
    assert not node.HasParameter("either.0")


def test_values_survive_a_scene_file(wrapped, scene, tmp_path):
    import slicer

    kind = type(wrapped)
    wrapped.volume = slicer.util.addVolumeFromArray(np.zeros((2, 3, 4)), name="ct")
    wrapped.names = ["ä;b", "c,d"]
    wrapped.limits.high = 12.25
    wrapped.maybe = 3
    wrapped.parameterNode.SetName("parameters")
    assert slicer.util.saveScene(str(tmp_path / "p.mrb"))
    scene.Clear(False)
    slicer.util.loadScene(str(tmp_path / "p.mrb"))
    restored = kind(slicer.util.getNode("parameters"))
    assert restored.volume.GetName() == "ct"
    assert restored.names == ["ä;b", "c,d"]
    assert restored.limits.high == 12.25
    assert restored.maybe == 3


@pytest.mark.parametrize(("name", "value"), [
    ("threshold_mm", 100.5), ("rounds", 0), ("engine", "magic"), ("show", "yes"), ("mode", "RIGID"), ("volume", 5),
    ("threshold_mm", None), ("either", 2.5), ("names", [1])])
def test_wrong_values_are_refused_and_the_old_one_stays(wrapped, name, value):
    before = getattr(wrapped, name)
    with pytest.raises((ValueError, TypeError)):
        setattr(wrapped, name, value)
    assert getattr(wrapped, name) == before


def test_lists_dicts_and_packs_write_themselves_back(wrapped):
    wrapped.names.append("x")
    wrapped.names += ["y"]
    wrapped.names.remove("x")
    wrapped.table["k"] = 1
    wrapped.limits.setValue("low", -2.0)
    assert wrapped.parameterNode.GetParameter("names.0") == "y"
    assert not wrapped.parameterNode.HasParameter("names.1")
    assert wrapped.getValue("limits.low") == -2.0
    assert dict(wrapped.table) == {"k": 1}


def test_one_event_a_change(wrapped):
    import vtk

    events = []
    wrapped.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: events.append(1))
    wrapped.names = ["a", "b", "c"]
    assert len(events) == 1


def test_gui_connectors_follow_both_ways(wrapped):
    from slicer.parameterNodeWrapper import GuiConnector

    class Connector(GuiConnector):
        value, callback = None, None

        def read(self):
            return self.value

        def write(self, value):
            self.value = value

        def onChanged(self, callback):
            self.callback = callback

    connector = Connector()
    tag = wrapped.connectParametersToGui({"threshold_mm": connector})
    assert connector.value == 5.0
    wrapped.threshold_mm = 8.0
    assert connector.value == 8.0
    connector.value = 9.0
    connector.callback()
    assert wrapped.threshold_mm == 9.0
    wrapped.disconnectGui(tag)
    assert connector.callback is None
    with pytest.raises(HeadlessUnavailableError, match="GuiConnector"):
        wrapped.connectParametersToGui({"threshold_mm": object()})


def test_parameter_node_is_one_a_scene_and_comes_back_after_close(app, scene):
    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

    class AblationMarginLogic(ScriptedLoadableModuleLogic):
        pass

    logic = AblationMarginLogic()
    node = logic.getParameterNode()
    assert node is logic.getParameterNode()
    assert node.IsA("vtkMRMLScriptedModuleNode")
    assert node.GetSingletonTag() == "AblationMargin"
    assert node.GetAttribute("ModuleName") == "AblationMargin"
    scene.Clear(False)
    assert logic.getParameterNode().GetAttribute("ModuleName") == "AblationMargin"
    assert logic.getAllParameterNodes() == [logic.getParameterNode()]


def test_module_and_its_test_are_found(app, monkeypatch):
    import slicer
    from IRAILib.headless.scripted import ModuleParent
    from slicer.i18n import tr as _
    from slicer.ScriptedLoadableModule import (
        ScriptedLoadableModule,
        ScriptedLoadableModuleTest,
        ScriptedLoadableModuleWidget,
    )
    from slicer.util import VTKObservationMixin

    ran = []
    module_file = types.ModuleType("Demo")

    class Demo(ScriptedLoadableModule):
        pass

    class DemoTest(ScriptedLoadableModuleTest):
        def test_first(self):
            self.delayDisplay("first")
            ran.append("first")

    Demo.__module__ = "Demo"
    module_file.DemoTest = DemoTest
    monkeypatch.setitem(sys.modules, "Demo", module_file)
    module = Demo(ModuleParent("/somewhere/Demo.py"))
    slicer.selfTests["Demo"]()
    assert ran == ["first"]
    assert module.resourcePath("Icons/Demo.png") == "/somewhere/Resources/Icons/Demo.png"
    assert _("text") == "text"
    assert VTKObservationMixin().Observations == []
    with pytest.raises(HeadlessUnavailableError, match="logic"):
        ScriptedLoadableModuleWidget()
    del module_file.DemoTest
    with pytest.raises(AssertionError, match="DemoTest"):
        module.runTest()
