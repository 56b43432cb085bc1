"""VirtualBiopsy: is this lesion worth a needle, and what will happen if we treat it?"""

import logging

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin
from VirtualBiopsyLib.Actions import VirtualBiopsyActions
from VirtualBiopsyLib.Parameters import VirtualBiopsyParameters
from VirtualBiopsyLib.Samples import registerSamples

RESEARCH_USE = _("Research software, not a medical device. Not for clinical decisions.")


class VirtualBiopsy(ScriptedLoadableModule):
    """The module's card: what Slicer shows before anyone opens it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Virtual Biopsy")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "IGT")]
        self.parent.dependencies = []
        self.parent.contributors = ["IRAI contributors"]
        self.parent.helpText = _(
            "What the image and the chart say before the needle: size, image features with their stability and their "
            "place among other patients, clinical scores, outcome models with honest error bars, a page for the board."
        ) + " " + RESEARCH_USE
        self.parent.acknowledgementText = _("Part of IRAI, AI for interventional radiology.")
        slicer.app.connect("startupCompleted()", registerSamples)


class VirtualBiopsyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Sets the panel up and keeps it in step with the parameter node; the parts hold the six steps."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = None

    def setup(self):
        from VirtualBiopsyLib.Panel import Panel

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/VirtualBiopsy.ui"))
        self.layout.addWidget(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = VirtualBiopsyLogic()
        self.panel = Panel(slicer.util.childWidgetVariables(uiWidget), self.logic, RESEARCH_USE)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.onNodeRemoved)
        self.enter()

    def cleanup(self):
        """Slicer takes the module away (exit or reload)."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.cancelRuns()
            self.panel.setParameters(None)

    def enter(self):
        """The user opens the module: results may have gone out of date meanwhile."""
        if self.panel is not None:
            self.panel.setParameters(self.logic.getParameterNode())

    def exit(self):
        """The user goes to another module; a running job goes on."""
        if self.panel is not None:
            self.panel.setParameters(None)

    def onSceneStartClose(self, caller=None, event=None):
        self.panel.cancelRuns()
        self.panel.setParameters(None)

    def onSceneEndClose(self, caller=None, event=None):
        if self.parent.isEntered:
            self.enter()

    def onNodeRemoved(self, caller=None, event=None):
        """A result's input may be gone: what is shown says so."""
        if self.panel.parameters is not None and not slicer.mrmlScene.IsBatchProcessing():
            self.panel.refresh()

    def onReload(self):
        """Reload the parts too, so that a developer sees a change in any of them."""
        import importlib
        import sys

        for name in [name for name in sys.modules if name.startswith("VirtualBiopsyLib.")]:
            importlib.reload(sys.modules[name])
        ScriptedLoadableModuleWidget.onReload(self)


class VirtualBiopsyLogic(ScriptedLoadableModuleLogic, VirtualBiopsyActions):
    """The module without its window, for scripts: `VirtualBiopsyLogic().extract(parameters)`."""

    def getParameterNode(self):
        return VirtualBiopsyParameters(super().getParameterNode())


class VirtualBiopsyTest(ScriptedLoadableModuleTest):
    """Run by Slicer's own test runner, and headless by `irai selftest`."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_sample_case()
        self.setUp()
        self.test_stale_and_refused()
        self.setUp()

    def test_sample_case(self):
        """The sample from the lesion to the page, against what was painted."""
        from IRAILib.scene.biopsy_selftest import check_sample

        self.delayDisplay(_("Measuring the sample case"))
        logic = VirtualBiopsyLogic()
        error = check_sample(logic.getParameterNode(), logic)
        logging.getLogger("IRAI").info("sample case: volume off by %.1f %% (synthetic)", error)
        self.delayDisplay(_("Test passed"))

    def test_stale_and_refused(self):
        """A number whose lesion was changed is marked; a score without its unit is refused."""
        from IRAILib.scene.biopsy_selftest import check_stale_and_refused

        logic = VirtualBiopsyLogic()
        check_stale_and_refused(logic.getParameterNode(), logic)
