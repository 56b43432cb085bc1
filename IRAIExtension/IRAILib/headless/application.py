"""`slicer.app` without Qt: the scene, the logics, the I/O manager, and clear errors for the rest."""

from __future__ import annotations

import atexit
import importlib.metadata
import os
import shutil
import sys
import tempfile
from pathlib import Path

from .colors import add_default_tables
from .errors import HeadlessAttributeError, unavailable
from .hierarchy import HierarchyKeeper
from .iomanager import IOManager
from .layout import LayoutManager
from .modulelist import Module, ModuleManager, ModuleNamespace, create_logics

INSTEAD = {
    "pythonConsole": "standard output and the logging module",
    "pythonManager": "Python's own import and exec",
    "extensionsManagerModel": "extensions can't be installed; use pip in this environment",
    "dicomDatabase": "IRAILib.images.read_volume reads a DICOM folder, pydicom its headers",
    "errorLogModel": "the logging module",
    "mainWindow": "there is no window; render pictures with IRAILib.headless.views",
    "userSettings": "pass options as arguments or environment variables",
    "settings": "pass options as arguments or environment variables",
    "revisionUserSettings": "pass options as arguments or environment variables",
    "setRenderPaused": "views render only when they are asked to",
}


class CommandOptions:
    """What scripts read of qSlicerCommandOptions: no window, no splash, no pause on errors."""

    noMainWindow = True
    noSplash = True
    testingEnabled = False
    runPythonAndExit = False
    keepTemporarySettings = False
    pythonScript = ""


class Application:
    """The part of qSlicerApplication that works without Qt.

    Anything else raises HeadlessUnavailableError (an AttributeError too, so that `hasattr` stays useful).
    """

    applicationName = mainApplicationName = "Slicer"
    documentationBaseUrl = "https://slicer.readthedocs.io/en/latest/"
    revision = ""
    is_headless = True

    def __init__(self, share: Path | None = None) -> None:
        version = importlib.metadata.version("slicer-core")
        self.applicationVersion = version
        self.majorVersion, self.minorVersion = (int(part) for part in version.split(".")[:2])
        self.os = {"linux": "linux", "darwin": "macosx", "win32": "win"}.get(sys.platform, sys.platform)
        self.slicerHome = str(share or "")
        self.temporaryPath = tempfile.mkdtemp(prefix="Slicer-")
        atexit.register(shutil.rmtree, self.temporaryPath, ignore_errors=True)
        self._connections: list[tuple] = []
        self._options = CommandOptions()
        self._start_scene(share)
        self._start_remote_io()
        self.modules = ModuleNamespace("slicer.modules")
        for name, logic in self._logics.items():
            setattr(self.modules, name.lower(), Module(name, logic))
        self._module_manager = ModuleManager(self.modules)
        self._hierarchy = HierarchyKeeper(self._scene)
        self._layout = LayoutManager(self)
        self._io = IOManager(self)

    def _start_scene(self, share: Path | None) -> None:
        import slicer
        import vtk

        scene = self._scene = slicer.vtkMRMLScene()
        scene.SetVersion(f"{self.applicationName} {self.majorVersion}.{self.minorVersion}.0 00000")
        scene.SetRootDirectory(os.getcwd())
        command_line_node = slicer.vtkMRMLCommandLineModuleNode()
        scene.RegisterNodeClass(command_line_node)
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        scene.AddNode(crosshair)
        logic = self._logic = slicer.vtkSlicerApplicationLogic()
        logic.SetTemporaryPath(self.temporaryPath)
        if share is not None:
            logic.SetHomeDirectory(str(share))
            logic.SetShareDirectory(str(share))
        logic.SetMRMLScene(scene)
        logic.SetSliceLogics(vtk.vtkCollection())
        logic.SetViewLogics(vtk.vtkCollection())
        for factory in (slicer.vtkMRMLThreeDViewDisplayableManagerFactory,
                        slicer.vtkMRMLSliceViewDisplayableManagerFactory):
            factory.GetInstance().SetMRMLApplicationLogic(logic)
        self._logics = create_logics(logic, scene, share)
        colors = self._logics["Colors"]
        logic.SetColorLogic(colors)
        colors.AddDefaultColorNodes()
        add_default_tables(scene)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)

    def _start_remote_io(self) -> None:
        """Slicer's cache and data manager: reading .mrb and .seq.mrb goes through them."""
        import slicer

        remote = self._remote_io = slicer.vtkMRMLRemoteIOLogic()
        remote.SetMRMLApplicationLogic(self._logic)
        remote.GetCacheManager().SetRemoteCacheDirectory(self.temporaryPath)
        manager = self._data_io = slicer.vtkDataIOManagerLogic()
        manager.SetMRMLApplicationLogic(self._logic)
        manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
        self._logic.SetMRMLSceneDataIO(self._scene, remote, manager)

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        instead = INSTEAD.get(name, "it is no part of slicer-core; use the scene (slicer.mrmlScene), the module logics "
                                    "(slicer.modules.<name>.logic()) or IRAILib.headless.views")
        raise unavailable(f"slicer.app.{name}", instead, HeadlessAttributeError)

    def mrmlScene(self):
        return self._scene

    def applicationLogic(self):
        return self._logic

    def moduleLogic(self, name: str):
        return self._logics.get(name)

    def moduleManager(self) -> ModuleManager:
        return self._module_manager

    def coreIOManager(self) -> IOManager:
        return self._io

    ioManager = coreIOManager

    def layoutManager(self) -> LayoutManager:
        return self._layout

    def commandOptions(self) -> CommandOptions:
        return self._options

    def topLevelWidgets(self) -> list:
        return []

    def processEvents(self) -> None:
        """Run a Qt event loop once where a test has one; there is none of our own."""
        qt = sys.modules.get("qt")
        if qt is not None:
            qt.QApplication.processEvents()

    def connect(self, signal: str, *callback) -> bool:
        """Accepted and kept. `startupCompleted()` is over by the time a script runs, so that it is called at once."""
        self._connections.append((signal, callback))
        if signal.startswith("startupCompleted") and callback:
            callback[-1]()
        return True

    def disconnect(self, signal: str, *callback) -> bool:
        self._connections = [c for c in self._connections if c != (signal, callback)]
        return True

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    def translate(self, context: str, text: str) -> str:
        """The text as it is: no translation is installed."""
        return text

    def testingEnabled(self) -> bool:
        return self._options.testingEnabled

    def setOverrideCursor(self, *_) -> None:
        """No cursor to change."""

    def restoreOverrideCursor(self) -> None:
        """No cursor to change."""

    def pauseRender(self) -> None:
        """Views render only when they are asked to."""

    def resumeRender(self) -> None:
        """Views render only when they are asked to."""

    def exit(self, status: int = 0) -> None:
        """End the process, as slicer.util.exit asks for."""
        sys.exit(status)
