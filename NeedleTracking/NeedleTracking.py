"""NeedleTracking: where is the needle now, how sure is that, and how old is it?"""

import logging

import slicer
from NeedleTrackingLib.Actions import NeedleTrackingActions
from NeedleTrackingLib.Parameters import NeedleTrackingParameters
from NeedleTrackingLib.Samples import registerSamples, watchLoads
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


class NeedleTracking(ScriptedLoadableModule):
    """The module's card: what Slicer shows before anyone opens it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Needle Tracking")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "IGT")]
        self.parent.dependencies = []
        self.parent.contributors = ["IRAI contributors"]
        self.parent.helpText = _(
            "Follows a needle live in ultrasound over OpenIGTLink, or finds it in a CT or MR volume: tip, shaft, "
            "uncertainty and age, distance and angle to the plan. Lost is shown as lost."
        ) + " " + RESEARCH_USE
        self.parent.acknowledgementText = _("Part of IRAI, AI for interventional radiology.")
        slicer.app.connect("startupCompleted()", registerSamples)
        slicer.app.connect("startupCompleted()", watchLoads)


class NeedleTrackingWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Sets the panel up and keeps it in step with the parameter node; the parts hold the six steps."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = None

    def setup(self):
        from NeedleTrackingLib.Panel import Panel

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/NeedleTracking.ui"))
        self.layout.addWidget(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = NeedleTrackingLogic()
        self.panel = Panel(slicer.util.childWidgetVariables(uiWidget), self.logic, RESEARCH_USE)
        self.panel.robot.listen()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.enter()

    def cleanup(self):
        """Slicer takes the module away (exit or reload): nothing stays connected."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.halt()
            self.panel.robot.deafen()
            self.panel.setParameters(None)
            self.logic.close()

    def enter(self):
        """The user opens the module."""
        if self.panel is not None:
            self.panel.setParameters(self.logic.getParameterNode())
            self.panel.run()

    def exit(self):
        """The user goes to another module: link, needle and the emergency key go on; the robot's switch is let go."""
        if self.panel is not None:
            self.panel.robot.letGo()
            self.panel.setParameters(None)

    def onSceneStartClose(self, caller=None, event=None):
        """A connection belongs to its scene; the robot's does not, and its stop must go on working."""
        self.panel.robot.letGo()
        self.logic.disconnect()
        self.panel.setParameters(None)

    def onSceneEndClose(self, caller=None, event=None):
        self.logic.forgetScene()
        if self.parent.isEntered:
            self.enter()

    def onSceneEndImport(self, caller=None, event=None):
        from IRAILib.scene.link_store import mark_unconnected

        mark_unconnected()
        if self.parent.isEntered:
            self.enter()

    def onReload(self):
        """Reload the parts too, so that a developer sees a change in any of them."""
        import importlib
        import sys

        for name in [name for name in sys.modules if name.startswith("NeedleTrackingLib.")]:
            importlib.reload(sys.modules[name])
        ScriptedLoadableModuleWidget.onReload(self)


class NeedleTrackingLogic(ScriptedLoadableModuleLogic, NeedleTrackingActions):
    """The module without its window, for scripts: connect, startTracking, then pump() in a loop."""

    def getParameterNode(self):
        return NeedleTrackingParameters(super().getParameterNode())


class NeedleTrackingTest(ScriptedLoadableModuleTest):
    """Run by Slicer's own test runner, and headless by `irai selftest`."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_sample_needle()
        self.setUp()
        self.test_unplugged_is_lost()
        self.setUp()

    def test_sample_needle(self):
        """The sample recording, played and followed, against its truth."""
        from IRAILib.scene.needle_selftest import check_sample

        self.delayDisplay(_("Playing and following the sample recording"))
        logic = NeedleTrackingLogic()
        try:
            error = check_sample(logic.getParameterNode(), logic)
        finally:
            logic.close()
        logging.getLogger("IRAI").info("sample recording: median tip error %.2f mm (simulated)", error)
        self.delayDisplay(_("Test passed"))

    def test_unplugged_is_lost(self):
        """A tracker whose plug is pulled leaves no pose that claims to be seen."""
        from IRAILib.scene.needle_selftest import check_unplugged

        logic = NeedleTrackingLogic()
        try:
            check_unplugged(logic.getParameterNode(), logic)
        finally:
            logic.close()
