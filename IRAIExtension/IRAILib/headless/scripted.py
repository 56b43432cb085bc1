"""Stand-ins for the Python modules that scripted modules import and that Slicer's wheel leaves out.

`slicer.ScriptedLoadableModule` (module, logic, test; the widget is Qt), `slicer.i18n`, `slicer.parameterNodeWrapper`.
A GUI test harness may put its own `ScriptedLoadableModuleWidget` into the module.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import types
import unittest

from . import parameters
from .errors import unavailable

LOGGER = logging.getLogger("IRAI")
NODE_CLASS = "vtkMRMLScriptedModuleNode"
NAME_ATTRIBUTE = "ModuleName"


class ModuleParent:
    """What Slicer hands to a scripted module's constructor: the place for its title, categories and help."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.title = self.helpText = self.acknowledgementText = ""
        self.categories: list[str] = []
        self.dependencies: list[str] = []
        self.contributors: list[str] = []
        self.icon = None
        self.hidden = False


class ScriptedLoadableModule:
    """Base of a module's description. Registers the module's test in slicer.selfTests."""

    def __init__(self, parent) -> None:
        import slicer

        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories, parent.dependencies, parent.contributors = [], [], []
        parent.helpText = parent.acknowledgementText = ""
        if "selfTests" not in vars(slicer):
            slicer.selfTests = {}
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        """Path of a file in the module's Resources folder."""
        return os.path.join(os.path.dirname(self.parent.path), "Resources", filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        import slicer

        app = slicer.app
        page = app.documentationBaseUrl + docPage if docPage else app.moduleDocumentationUrl(self.moduleName)
        return f'<p>For more information see the <a href="{page}">online documentation</a>.</p>'

    def runTest(self, msec: int = 100, **kwargs) -> None:
        """Run <ModuleName>Test of the module's file. Raises AssertionError where there is no such class."""
        test_class = getattr(importlib.import_module(type(self).__module__), f"{self.moduleName}Test", None)
        if test_class is None:
            raise AssertionError(f"{type(self).__module__} has no class {self.moduleName}Test")
        test = test_class()
        test.messageDelay = msec
        test.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """A module's page is made of Qt widgets: making one raises HeadlessUnavailableError."""

    def __init__(self, parent=None) -> None:
        raise unavailable(f"the page {type(self).__name__}", "use the module's logic class")


class ScriptedLoadableModuleLogic:
    """Base of a module's logic. One parameter node a scene, unless `isSingletonParameterNode` is switched off."""

    def __init__(self, parent=None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        """The first parameter node of this module in the scene, made when there is none."""
        import slicer

        scene = slicer.mrmlScene
        if self.isSingletonParameterNode:
            node = scene.GetSingletonNode(self.moduleName, NODE_CLASS)
            if node is not None and node.GetAttribute(NAME_ATTRIBUTE) != self.moduleName:
                node.SetAttribute(NAME_ATTRIBUTE, self.moduleName)  # closing the scene takes it away
        else:
            node = next(iter(self.getAllParameterNodes()), None)
        return node if node is not None else scene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list:
        """Every parameter node of this module in the scene."""
        import slicer

        return [node for node in slicer.util.getNodesByClass(NODE_CLASS)
                if node.GetAttribute(NAME_ATTRIBUTE) == self.moduleName]

    def createParameterNode(self):
        """A new parameter node, not yet in the scene."""
        import slicer

        node = slicer.mrmlScene.CreateNodeByClass(NODE_CLASS)
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute(NAME_ATTRIBUTE, self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of a module's test: runTest runs every method whose name holds "test"."""

    def __init__(self, *args, **kwargs) -> None:
        self.moduleTestNames: list[str] = []
        super().__init__(*args, **kwargs)
        self.enableScreenshots = False
        self.screenshotScaleFactor = 1.0
        if not self.moduleTestNames:
            self.moduleTestNames = [name for name in dir(self) if "test" in name and callable(getattr(self, name))]

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        """The message is logged; nobody waits."""
        LOGGER.info(message)

    def takeScreenshot(self, name: str, description: str, type: int = -1) -> None:
        """The description is logged. Raises HeadlessUnavailableError when `enableScreenshots` is on."""
        LOGGER.info(description)
        if self.enableScreenshots:
            raise unavailable("takeScreenshot", "render with IRAILib.headless.views")

    def setUp(self) -> None:
        """Nothing to prepare."""

    def tearDown(self) -> None:
        """Nothing to clean."""

    def runTest(self) -> None:
        """Run the module's tests in one go."""
        if not self.moduleTestNames:
            LOGGER.warning("%s has no test", type(self).__name__)
            return
        self.setUpClass()
        for name in self.moduleTestNames:
            LOGGER.info("running %s", name)
            self.setUp()
            getattr(self, name)()
            self.tearDown()
        self.tearDownClass()


def tr(text: str) -> str:
    """The text as it is: headless has no translations."""
    return text


def translate(context: str, text: str) -> str:
    """The text as it is: headless has no translations."""
    return text


def install_scripted_modules() -> None:
    """Make `import slicer.ScriptedLoadableModule`, `slicer.i18n` and `slicer.parameterNodeWrapper` work."""
    import slicer

    module = types.ModuleType("slicer.ScriptedLoadableModule")
    names = ["ScriptedLoadableModule", "ScriptedLoadableModuleWidget", "ScriptedLoadableModuleLogic",
             "ScriptedLoadableModuleTest"]
    for name in names:
        setattr(module, name, globals()[name])
    module.__all__ = names  # type: ignore[attr-defined]
    translation = types.ModuleType("slicer.i18n")
    translation.tr, translation.translate = tr, translate  # type: ignore[attr-defined]
    for name, stand_in in (("ScriptedLoadableModule", module), ("i18n", translation),
                           ("parameterNodeWrapper", parameters)):
        sys.modules[f"slicer.{name}"] = stand_in
        setattr(slicer, name, stand_in)
