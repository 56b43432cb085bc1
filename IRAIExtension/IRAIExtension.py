"""IRAIExtension: the home of IRAI. What is installed, where the modules are, a case to try."""

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

MODULES = {
    "VirtualBiopsy": ("virtualBiopsy", _("Is this lesion worth a needle?")),
    "FusionNav": ("fusionNav", _("Where should the needle go?")),
    "NeedleTracking": ("needleTracking", _("Where is it now?")),
    "AblationMargin": ("ablationMargin", _("Did we get it all, with what margin, and how sure are we?")),
}


class IRAIExtension(ScriptedLoadableModule):
    """The module's card."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("IRAI")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "IGT")]
        self.parent.dependencies = []
        self.parent.contributors = ["IRAI contributors"]
        self.parent.helpText = _("AI for interventional radiology: what is installed, the modules, and a sample case. "
                                 "Research software, not a medical device. Not for clinical decisions.")
        self.parent.acknowledgementText = ""


class IRAIExtensionWidget(ScriptedLoadableModuleWidget):
    """Shows what the logic says."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        self.logic = self.ui = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/IRAIExtension.ui"))
        self.layout.addWidget(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        self.logic = IRAIExtensionLogic()
        from IRAILib import RESEARCH_NOTICE, __version__

        self.ui.noticeLabel.setText(f"IRAI {__version__}. " + _(RESEARCH_NOTICE))
        self.ui.sampleLabel.setText(_(
            "A synthetic CT pair: a tumour in a liver, then an ablation that misses one side. "
            "It is made on this computer."))
        for name, (widgetName, _question) in MODULES.items():
            button = getattr(self.ui, widgetName + "Button")
            button.connect("clicked(bool)", lambda *_args, module=name: slicer.util.selectModule(module))
        self.ui.sampleButton.connect("clicked(bool)", self.onSample)
        self.ui.installButton.connect("clicked(bool)", self.onInstall)
        self.ui.torchButton.connect("clicked(bool)", self.onTorch)
        self.refresh()

    def enter(self):
        self.refresh()

    def exit(self):
        """Nothing runs on behind this page."""

    def refresh(self):
        """Show modules and packages as they are now."""
        from IRAIExtensionLib.Tables import fillTable

        present = self.logic.presentModules()
        for name, (widgetName, question) in MODULES.items():
            getattr(self.ui, widgetName + "Button").setVisible(name in present)
            text = question if name in present else _("{name}: not in this version.").format(name=name)
            getattr(self.ui, widgetName + "Text").setText(text)
        rows = self.logic.packageRows()
        fillTable(self.ui.packagesTable, [_("Package"), _("Version"), _("Used for")], rows, stretch=2)
        self.ui.torchButton.setEnabled(self.logic.canInstallTorch())
        self.ui.installLabel.setText("" if self.logic.canInstallTorch() else _(
            "PyTorch comes through the PyTorch extension: install that in the Extensions Manager first."))

    def onSample(self):
        with slicer.util.tryWithErrorDisplay(_("The sample case could not be made."), waitCursor=True):
            self.logic.loadSample()
            slicer.util.selectModule("AblationMargin")

    def onInstall(self):
        with slicer.util.tryWithErrorDisplay(_("The packages could not be installed."), waitCursor=True):
            self.logic.installMissing()
        self.refresh()

    def onTorch(self):
        with slicer.util.tryWithErrorDisplay(_("PyTorch could not be installed.")):
            self.logic.installTorch()
        self.refresh()


class IRAIExtensionLogic(ScriptedLoadableModuleLogic):
    """The page without its window."""

    def presentModules(self):
        """Names of IRAI's modules that this Slicer has."""
        return [name for name in MODULES if hasattr(slicer.modules, name.lower())]

    def packageRows(self):
        """Rows (package, version, what for) of the table."""
        from IRAIExtensionLib.Packages import packages, slicerVersion

        rows = [(_("Slicer"), slicerVersion(), "")]
        return rows + [(p.title, p.version or _("not installed"), p.purpose) for p in packages()]

    def canInstallTorch(self):
        """Whether the PyTorch extension is there."""
        from IRAIExtensionLib.Packages import torchExtension

        return torchExtension() is not None

    def installMissing(self):
        """Install the optional packages; asks first where Slicer can."""
        from IRAIExtensionLib.Packages import installMissing

        installMissing()

    def installTorch(self):
        """Install PyTorch. Raises MissingPackageError without the PyTorch extension."""
        from IRAIExtensionLib.Packages import installTorch

        installTorch()

    def loadSample(self):
        """The sample case, chosen in AblationMargin when that module is there. Returns its case."""
        from IRAILib.scene.sample import load_sample_case

        case, _truth = load_sample_case()
        if "AblationMargin" in self.presentModules():
            from AblationMarginLib.Parameters import rememberCase

            import AblationMargin

            rememberCase(AblationMargin.AblationMarginLogic().getParameterNode(), case)
        return case


class IRAIExtensionTest(ScriptedLoadableModuleTest):
    """Run by Slicer's own test runner, and headless by `irai selftest`."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_page_says_what_is_there()
        self.setUp()
        self.test_sample_case_is_added()
        self.setUp()

    def test_page_says_what_is_there(self):
        rows = IRAIExtensionLogic().packageRows()
        assert all(version for _name, version, _purpose in rows)
        logging.getLogger("IRAI").info("%s", rows)

    def test_sample_case_is_added(self):
        case = IRAIExtensionLogic().loadSample()
        assert case.pre.GetScene() is slicer.mrmlScene
