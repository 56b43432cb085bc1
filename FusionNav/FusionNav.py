"""FusionNav: where should the needle go, and does the live picture agree?"""

import logging

import slicer
from FusionNavLib.Actions import FusionNavActions
from FusionNavLib.Parameters import FusionNavParameters
from FusionNavLib.Samples import registerSamples, watchLoads
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


class FusionNav(ScriptedLoadableModule):
    """The module's card: what Slicer shows before anyone opens it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Fusion Nav")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "IGT")]
        self.parent.dependencies = []
        self.parent.contributors = ["IRAI contributors"]
        self.parent.helpText = _(
            "Shows the plan in the live picture: tracked ultrasound in CT, MR and PET, and the volume under the C-arm. "
            "Calibrates, registers, proposes paths and guides along one, with the age and the error of every transform."
        ) + " " + RESEARCH_USE
        self.parent.acknowledgementText = _("Part of IRAI, AI for interventional radiology.")
        slicer.app.connect("startupCompleted()", registerSamples)
        slicer.app.connect("startupCompleted()", watchLoads)


class FusionNavWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Sets the panel up and keeps it in step with the parameter node; the parts hold the six steps."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = None

    def setup(self):
        from FusionNavLib.Panel import Panel

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/FusionNav.ui"))
        self.layout.addWidget(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = FusionNavLogic()
        self.panel = Panel(slicer.util.childWidgetVariables(uiWidget), self.logic, RESEARCH_USE)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.enter()

    def cleanup(self):
        """Slicer takes the module away (exit or reload): nothing stays connected, no timer, no worker."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.halt()
            self.panel.setParameters(None)
            self.logic.close()

    def enter(self):
        """The user opens the module."""
        if self.panel is not None:
            self.panel.setParameters(self.logic.getParameterNode())
            self.panel.run()

    def exit(self):
        """The user goes to another module: link and live slice go on, the views are left alone."""
        if self.panel is not None:
            self.panel.setParameters(None)

    def onSceneStartClose(self, caller=None, event=None):
        """A connection belongs to its scene, and so does a run."""
        self.panel.cancelRuns()
        self.logic.forgetScene()
        self.panel.setParameters(None)

    def onSceneEndClose(self, caller=None, event=None):
        if self.parent.isEntered:
            self.enter()

    def onSceneEndImport(self, caller=None, event=None):
        from IRAILib.scene.link_store import mark_unconnected

        mark_unconnected()
        self.logic.findRegistration()
        if self.parent.isEntered:
            self.enter()

    def onReload(self):
        """Reload the parts too, so that a developer sees a change in any of them."""
        import importlib
        import sys

        for name in [name for name in sys.modules if name.startswith("FusionNavLib.")]:
            importlib.reload(sys.modules[name])
        ScriptedLoadableModuleWidget.onReload(self)


class FusionNavLogic(ScriptedLoadableModuleLogic, FusionNavActions):
    """The module without its window, for scripts: trySample or connect, then pump() in a loop."""

    def getParameterNode(self):
        return FusionNavParameters(super().getParameterNode())


class FusionNavTest(ScriptedLoadableModuleTest):
    """Run by Slicer's own test runner, and headless by `irai selftest`."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_sample_session()
        self.setUp()
        self.test_broken_chain_gives_no_number()
        self.setUp()

    def test_sample_session(self):
        """The sample, played and guided, against its truth."""
        from IRAILib.scene.fusion_selftest import check_sample

        self.delayDisplay(_("Playing the sample and guiding along its path"))
        logic = FusionNavLogic()
        try:
            error = check_sample(logic.getParameterNode(), logic)
        finally:
            logic.close()
        logging.getLogger("IRAI").info("sample: live slice off by %.2f mm (simulated)", error)
        self.delayDisplay(_("Test passed"))

    def test_broken_chain_gives_no_number(self):
        """Without a registration, and after the plug is pulled, the guidance refuses its numbers."""
        from IRAILib.scene.fusion_selftest import check_refusals

        logic = FusionNavLogic()
        try:
            check_refusals(logic.getParameterNode(), logic)
        finally:
            logic.close()
