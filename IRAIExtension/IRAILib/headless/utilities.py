"""The functions of `slicer.util` that call Qt, replaced by an equal without Qt or, where there is none, by an error."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .errors import HeadlessAttributeError, unavailable

LOGGER = logging.getLogger("IRAI")

ASK_INSTEAD = "a question can't be asked; decide in the script (headless code takes options as arguments)"
FILE_DIALOG_INSTEAD = "name the file: slicer.util.load*, saveNode, saveScene"
WIDGET_INSTEAD = "use the module's logic: slicer.modules.<name>.logic() or slicer.util.getModuleLogic"
RAISING = {
    "selectModule": WIDGET_INSTEAD,
    "selectedModule": WIDGET_INSTEAD,
    "moduleSelector": WIDGET_INSTEAD,
    "getModuleGui": WIDGET_INSTEAD,
    "getModuleWidget": WIDGET_INSTEAD,
    "getNewModuleGui": WIDGET_INSTEAD,
    "getNewModuleWidget": WIDGET_INSTEAD,
    "reloadScriptedModule": "importlib.reload the module",
    "pythonShell": "standard output and the logging module",
    "lookupTopLevelWidget": "there is no window",
    "findChild": "there is no window",
    "loadUI": "there is no Qt; the logic of a module works without its widget",
    "startQtDesigner": "there is no Qt",
    "setViewControllersVisible": "render pictures with IRAILib.headless.views",
    "forceRenderAllViews": "render pictures with IRAILib.headless.views",
    "openAddDataDialog": FILE_DIALOG_INSTEAD,
    "openAddVolumeDialog": FILE_DIALOG_INSTEAD,
    "openAddModelDialog": FILE_DIALOG_INSTEAD,
    "openAddScalarOverlayDialog": FILE_DIALOG_INSTEAD,
    "openAddSegmentationDialog": FILE_DIALOG_INSTEAD,
    "openAddTransformDialog": FILE_DIALOG_INSTEAD,
    "openAddColorTableDialog": FILE_DIALOG_INSTEAD,
    "openAddFiducialDialog": FILE_DIALOG_INSTEAD,
    "openAddMarkupsDialog": FILE_DIALOG_INSTEAD,
    "openAddFiberBundleDialog": FILE_DIALOG_INSTEAD,
    "openAddShaderPropertyDialog": FILE_DIALOG_INSTEAD,
    "openSaveDataDialog": FILE_DIALOG_INSTEAD,
    "messageBox": ASK_INSTEAD,
    "confirmOkCancelDisplay": ASK_INSTEAD,
    "confirmYesNoDisplay": ASK_INSTEAD,
    "confirmRetryCloseDisplay": ASK_INSTEAD,
    "createProgressDialog": "pass a progress function, as IRAILib.jobs does",
    "clickAndDrag": "there is no window",
    "restart": "end the process and start it again",
    "loadFiberBundle": "tractography needs the SlicerDMRI extension",
    "loadAnnotationFiducial": "slicer.util.loadMarkups",
    "loadAnnotationRuler": "slicer.util.loadMarkups",
    "loadAnnotationROI": "slicer.util.loadMarkups",
    "loadScalarOverlay": "add the array to the model: slicer.util.arrayFromModelPointData",
}
"""Functions that only a window could do, and what to use in their place."""


class NoWindow:
    """What mainWindow() gives: false, and an error for whoever asks it for a part of the window."""

    def __bool__(self) -> bool:
        return False

    def __getattr__(self, name: str):
        raise unavailable(f"slicer.util.mainWindow().{name}",
                          "there is no window; render pictures with IRAILib.headless.views", HeadlessAttributeError)


class NoCursor:
    """slicer.util.WaitCursor without a cursor."""

    def __init__(self, show: bool = True) -> None:
        self.show = show

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        """Nothing to restore."""


class LoggedMessage:
    """slicer.util.MessageDialog: the message is logged, no box is shown."""

    def __init__(self, message: str, show: bool = True, logLevel: int | None = None) -> None:
        self.message, self.level = message, logging.INFO if logLevel is None else logLevel

    def __enter__(self):
        LOGGER.log(self.level, self.message)
        return self

    def __exit__(self, *_) -> None:
        """No box to close."""


def _raising(name: str, instead: str):
    def function(*_args, **_kwargs):
        raise unavailable(f"slicer.util.{name}", instead)

    function.__name__ = name
    function.__doc__ = f"Raises HeadlessUnavailableError: {instead}."
    return function


def _logging(name: str, level: int):
    def function(text="", *_args, **_kwargs) -> None:
        LOGGER.log(level, text)

    function.__name__ = name
    function.__doc__ = "Log the text, as desktop Slicer does without a main window."
    return function


def tempDirectory(key: str = "__SlicerTemp__", tempDir=None, includeDateTime: bool = True) -> str:
    """Make a folder below `tempDir` (default: the application's, which goes when the process ends); gives its path."""
    import slicer

    name = key
    if includeDateTime:
        name += datetime.datetime.now().strftime("%Y-%m-%d_%H+%M+%S.%f")[:-3]
    folder = Path(tempDir or slicer.app.temporaryPath).absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def settingsValue(key, default, converter=lambda value: value, settings=None):
    """The default: there are no saved settings."""
    return default


def getModuleLogic(module):
    """Logic of a module, by name or object. Raises RuntimeError for a module that isn't there."""
    import slicer

    found = slicer.util.getModule(module) if isinstance(module, str) else module
    return found.logic()


def moduleNames() -> list[str]:
    """Names of the modules whose logics are there."""
    import slicer

    return slicer.app.moduleManager().modulesNames()


def modulePath(moduleName: str) -> str:
    """File of a scripted module that a test or `irai selftest` registered; empty for a C++ logic."""
    import slicer

    return getattr(slicer.modules, moduleName.lower()).path


def startupEnvironment() -> dict[str, str]:
    """The process's environment: no launcher changed it."""
    return dict(os.environ)


def pip_install(requirements, **_kwargs) -> None:
    """Install into this Python. Raises subprocess.CalledProcessError."""
    _pip("install", requirements)


def pip_uninstall(requirements, **_kwargs) -> None:
    """Uninstall from this Python. Raises subprocess.CalledProcessError."""
    _pip("uninstall", requirements, "--yes")


def _pip(command: str, requirements, *options: str) -> None:
    import shlex

    words = shlex.split(requirements) if isinstance(requirements, str) else list(requirements)
    subprocess.run([sys.executable, "-m", "pip", command, *words, *options], check=True)


@contextlib.contextmanager
def tryWithErrorDisplay(message: str | None = None, show: bool = True, waitCursor: bool = False):
    """Log what goes wrong, then raise it again, as desktop does without a window."""
    try:
        yield
    except Exception as error:
        if show:
            LOGGER.error(f"{message}\n\n{error}" if message else str(error))
        raise


@contextlib.contextmanager
def displayPythonShell(display: bool = True):
    """There is no console to show; the code runs."""
    yield


def replace_qt_functions(util) -> None:
    """Put the functions of this module into `slicer.util`. Only names that `util` has are replaced."""
    own: dict[str, Any] = {function.__name__: function for function in (
        tempDirectory, settingsValue, getModuleLogic, moduleNames, modulePath, startupEnvironment, pip_install,
        pip_uninstall, tryWithErrorDisplay, displayPythonShell)}
    own.update({name: _raising(name, instead) for name, instead in RAISING.items()})
    own.update({name: _logging(name, level) for name, level in (
        ("infoDisplay", logging.INFO), ("warningDisplay", logging.WARNING), ("errorDisplay", logging.ERROR),
        ("delayDisplay", logging.INFO), ("showStatusMessage", logging.INFO))})
    own.update(WaitCursor=NoCursor, MessageDialog=LoggedMessage, mainWindow=lambda: NO_WINDOW)
    for name, replacement in own.items():
        if hasattr(util, name):
            setattr(util, name, replacement)


NO_WINDOW = NoWindow()
