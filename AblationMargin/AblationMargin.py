"""AblationMargin: did the ablation cover the tumour, with what margin, and how sure are we?"""

import logging

import slicer
from AblationMarginLib.Actions import AblationMarginActions
from AblationMarginLib.Parameters import AblationMarginParameters
from AblationMarginLib.Samples import registerSamples
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

RESEARCH_USE = _("Research software, not a medical device. Not for clinical decisions.")


class AblationMargin(ScriptedLoadableModule):
    """The module's card: what Slicer shows before anyone opens it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Ablation Margin")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "IGT")]
        self.parent.dependencies = []
        self.parent.contributors = ["IRAI contributors"]
        self.parent.helpText = _(
            "Measures the ablative margin: the distance between tumour and ablation zone over the whole tumour "
            "surface, with its uncertainty and the thinnest place. Segment, register, accept, measure, report."
        ) + " " + RESEARCH_USE
        self.parent.acknowledgementText = _("Part of IRAI, AI for interventional radiology.")
        slicer.app.connect("startupCompleted()", registerSamples)


class AblationMarginWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Sets the panel up and keeps it in step with the parameter node; the parts hold the five steps."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = None

    def setup(self):
        from AblationMarginLib.Panel import Panel

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/AblationMargin.ui"))
        self.layout.addWidget(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = AblationMarginLogic()
        self.panel = Panel(slicer.util.childWidgetVariables(uiWidget), self.logic, RESEARCH_USE)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        self.enter()

    def cleanup(self):
        """Slicer takes the module away (exit or reload)."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.cancel()
            self.panel.setParameters(None)

    def enter(self):
        """The user opens the module."""
        if self.panel is not None:
            self.panel.setParameters(self.logic.getParameterNode())

    def exit(self):
        """The user goes to another module; a running job goes on."""
        if self.panel is not None:
            self.panel.setParameters(None)

    def onSceneStartClose(self, caller=None, event=None):
        self.panel.cancel()
        self.panel.setParameters(None)

    def onSceneEndClose(self, caller=None, event=None):
        if self.parent.isEntered:
            self.enter()

    def onReload(self):
        """Reload the parts too, so that a developer sees a change in any of them."""
        import importlib
        import sys

        for name in [name for name in sys.modules if name.startswith("AblationMarginLib.")]:
            importlib.reload(sys.modules[name])
        ScriptedLoadableModuleWidget.onReload(self)


class AblationMarginLogic(ScriptedLoadableModuleLogic, AblationMarginActions):
    """The module without its window, for scripts: `AblationMarginLogic().measureMargin(parameters)`."""

    def getParameterNode(self):
        return AblationMarginParameters(super().getParameterNode())


class AblationMarginTest(ScriptedLoadableModuleTest):
    """Run by Slicer's own test runner, and headless by `irai selftest`."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_sample_case()
        self.setUp()
        self.test_refusal_leaves_no_number()
        self.setUp()

    def test_sample_case(self):
        """The sample case through registration to a margin that is known."""
        from IRAILib.scene.ablation_selftest import check_sample_case

        self.delayDisplay(_("Registering and measuring the sample case"))
        logic = AblationMarginLogic()
        error = check_sample_case(logic.getParameterNode(), logic)
        logging.getLogger("IRAI").info("sample case: margin error %.2f mm", error)
        self.delayDisplay(_("Test passed"))

    def test_refusal_leaves_no_number(self):
        """A registration that nobody accepted gives no margin and no node."""
        from IRAILib.geometry import RefusedError

        logic = AblationMarginLogic()
        parameters = logic.getParameterNode()
        logic.loadSample(parameters)
        before = slicer.mrmlScene.GetNumberOfNodes()
        parameters.registration = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "not accepted")
        with self.assertRaises(RefusedError):  # noqa: PT027 (Slicer has no pytest)
            logic.measureMargin(parameters)
        assert parameters.margin is None
        assert slicer.mrmlScene.GetNumberOfNodes() == before + 1
