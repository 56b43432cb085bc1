"""Opens a scripted module as Slicer does: description, panel, enter, exit, scene close, clean-up."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from PySide6 import QtWidgets

SPARE_HEIGHT = 24
"""Word-wrapped labels tell a layout too little: without it the last rows of a picture overlap."""
ROOT = Path(__file__).resolve().parents[3]


class ScriptedLoadableModuleWidget:
    """Base of a module's panel, as in slicer.ScriptedLoadableModule."""

    folder = ROOT

    def __init__(self, parent=None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent
        self.layout = parent.layout()
        self.developerMode = False

    def resourcePath(self, filename: str) -> str:
        return os.path.join(self.folder, self.moduleName, "Resources", filename)

    def setup(self) -> None:
        """Slicer adds its developer section here."""

    def cleanup(self) -> None:
        """For sub-classes."""

    def onReload(self) -> None:
        self.reloaded = True


class ModuleHost:
    """One module with its panel in a window that is never shown on a screen.

    Attributes: module (the imported file), widget (its <Name>Widget), ui (its widgets by name).
    """

    def __init__(self, name: str, width: int = 440) -> None:
        import slicer

        for folder in (ROOT / "IRAIExtension", ROOT / name):
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
        self.module = importlib.import_module(name)
        self.parent = slicer.qSlicerScriptedLoadableModuleWidget()
        self.parent.setLayout(QtWidgets.QVBoxLayout())
        self.parent.setMRMLScene(slicer.mrmlScene)
        self.parent.resize(width, 900)
        self.widget = getattr(self.module, f"{name}Widget")(self.parent)
        self.widget.setup()
        self.parent.show()
        self.process()

    @property
    def ui(self):
        return self.widget.panel.ui if getattr(self.widget, "panel", None) else self.widget.ui

    def enter(self) -> None:
        self.parent.setProperty("isEntered", True)
        self.widget.enter()
        self.process()

    def exit(self) -> None:
        self.parent.setProperty("isEntered", False)
        self.widget.exit()
        self.process()

    def close(self) -> None:
        self.widget.cleanup()
        self.parent.hide()
        self.parent.deleteLater()
        self.process()

    def process(self) -> None:
        for _ in range(3):
            QtWidgets.QApplication.processEvents()

    def picture(self, path: Path, width: int = 440) -> Path:
        """The whole panel as PNG."""
        self.parent.setFixedWidth(width)
        self.process()
        height = self.parent.layout().heightForWidth(width)
        self.parent.resize(width, max(height, self.parent.minimumSizeHint().height()) + SPARE_HEIGHT)
        self.process()
        self.parent.grab().save(str(path))
        return path
