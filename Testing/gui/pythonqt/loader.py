"""QUiLoader as PythonQt has it, and `install()`, which makes `qt`, `ctk` and `slicer.qMRML...` importable."""

from __future__ import annotations

import os
import sys
import types
import xml.etree.ElementTree as ET
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6 import QtCore, QtUiTools, QtWidgets
from PySide6.QtCore import QObject

from .habits import MODULES, apply_habits, bind

ONLY_IN_SLICER = {"filters"}
"""Properties of a type that only CTK's designer plug-ins know."""


class UiError(RuntimeError):
    """A .ui file that desktop Slicer would load with something missing."""


def install() -> QtWidgets.QApplication:
    """Start Qt and put the stand-ins in place, once a process. Headless Slicer must run already."""
    import slicer

    app = QtWidgets.QApplication.instance()
    if app is not None and "qt" in sys.modules:
        return app
    QtCore.qInstallMessageHandler(_message)
    app = app or QtWidgets.QApplication([])
    app.setStyle("Fusion")
    _require_sound_bindings()
    apply_habits()
    from .connectors import connector_for
    from .host import ScriptedLoadableModuleWidget
    from .widgets_ctk import CTK_WIDGETS
    from .widgets_mrml import MRML_WIDGETS

    qt, ctk = types.ModuleType("qt"), types.ModuleType("ctk")
    for module in MODULES:
        for name in dir(module):
            if not name.startswith("_"):
                setattr(qt, name, getattr(module, name))
    for cls in CTK_WIDGETS:
        setattr(ctk, cls.__name__, cls)
    for cls in MRML_WIDGETS:
        setattr(slicer, cls.__name__, cls)
    sys.modules["qt"], sys.modules["ctk"] = qt, ctk
    slicer.ScriptedLoadableModule.ScriptedLoadableModuleWidget = ScriptedLoadableModuleWidget
    slicer.util.loadUI = load_ui
    slicer.parameterNodeWrapper.setGuiConnectorFactory(connector_for)
    return app


def _require_sound_bindings() -> None:
    """PySide6 6.12 gives away a reference to None with every call on Python 3.11, which ends the process at last."""
    label, before = QtWidgets.QLabel(), sys.getrefcount(None)
    for _ in range(200):
        label.setText("")
    if sys.getrefcount(None) < before - 100:
        raise RuntimeError("this PySide6 loses references on this Python; pip install 'PySide6-Essentials<6.11'")


def _message(_kind, _context, text: str) -> None:
    """Qt's warnings on standard error, but for one of the offscreen platform that says nothing."""
    if "propagateSizeHints" not in text:
        sys.stderr.write(text + "\n")


class UiLoader(QtUiTools.QUiLoader):
    """Makes the stand-ins for CTK and Slicer classes, and refuses a class that has none."""

    def __init__(self) -> None:
        super().__init__()
        from .widgets_ctk import CTK_WIDGETS
        from .widgets_mrml import MRML_WIDGETS

        self.known = {cls.__name__: cls for cls in (*CTK_WIDGETS, *MRML_WIDGETS)}
        self.made: list[QObject] = []

    def createWidget(self, class_name, parent=None, name=""):
        known = self.known.get(class_name)
        widget = known(parent) if known else super().createWidget(class_name, parent, name)
        if widget is None:
            raise UiError(f"the .ui uses {class_name}, which has no stand-in in Testing/gui/pythonqt")
        widget.setObjectName(name)
        self.made.append(widget)
        return widget


def load_ui(path: str):
    """A .ui file as a widget, its mrmlSceneChanged connections made, as slicer.util.loadUI gives it."""
    root = ET.fromstring(Path(path).read_text(encoding="utf-8"))
    wanted = []
    for connections in root.findall("connections"):
        for entry in list(connections):
            wanted.append({key: entry.findtext(key) for key in ("sender", "signal", "receiver", "slot")})
            connections.remove(entry)
    for widget in root.iter("widget"):
        for prop in [prop for prop in widget.findall("property") if prop.get("name") in ONLY_IN_SLICER]:
            widget.remove(prop)
    buffer = QtCore.QBuffer()
    buffer.setData(ET.tostring(root))
    buffer.open(QtCore.QIODevice.ReadOnly)
    loader = UiLoader()
    widget = loader.load(buffer)
    named = {child.objectName: bind(child) for child in [widget, *widget.findChildren(QObject)]}
    widget.__dict__["_kept"] = (loader, list(named.values()))
    for entry in wanted:
        for end in ("sender", "receiver"):
            if entry[end] not in named:
                raise UiError(f"{path}: a connection names the widget '{entry[end]}', which is not there")
        named[entry["sender"]].connect(entry["signal"], named[entry["receiver"]], entry["slot"])
    return widget
