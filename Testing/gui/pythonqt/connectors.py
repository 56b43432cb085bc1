"""What parameterNodeWrapper's connectGui does for the widgets here: one connector for each kind, as in Slicer."""

from __future__ import annotations

import pathlib
import typing

from PySide6 import QtWidgets
from slicer.parameterNodeWrapper import GuiConnector

from .widgets_ctk import ctkPathLineEdit, ctkSliderWidget
from .widgets_mrml import qMRMLNodeComboBox


class WidgetConnector(GuiConnector):
    """Reads and writes a widget through two functions and listens to one signal."""

    def __init__(self, signal, read, write) -> None:
        self._signal, self._read, self._write = signal, read, write
        self._callback = None

    def read(self):
        return self._read()

    def write(self, value) -> None:
        self._write(value)

    def onChanged(self, callback) -> None:
        if self._callback is not None:
            self._signal.disconnect(self._callback)
        self._callback = (lambda *_args: callback()) if callback else None
        if self._callback is not None:
            self._signal.connect(self._callback)


def connector_for(widget, annotation) -> GuiConnector:
    """The connector of a widget for a type. Raises TypeError where Slicer has none."""
    kind = typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation
    if type(widget) is qMRMLNodeComboBox and isinstance(kind, type) and kind.__name__.startswith("vtkMRML"):
        widget.setProperty("nodeTypes", [kind.__name__])
        return WidgetConnector(widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode)
    if type(widget) is ctkSliderWidget and kind in (int, float):
        return WidgetConnector(widget.valueChanged, lambda: kind(widget.value), widget.setValue)
    if type(widget) in (QtWidgets.QSpinBox, QtWidgets.QDoubleSpinBox) and kind in (int, float):
        return WidgetConnector(widget.valueChanged, lambda: kind(widget.value), widget.setValue)
    if type(widget) is QtWidgets.QCheckBox and kind is bool:
        return WidgetConnector(widget.toggled, lambda: widget.checked, widget.setChecked)
    if type(widget) is QtWidgets.QLineEdit and kind is str:
        return WidgetConnector(widget.textChanged, lambda: widget.text, widget.setText)
    if type(widget) is ctkPathLineEdit and isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return WidgetConnector(widget.currentPathChanged, lambda: kind(widget.currentPath),
                               lambda value: widget.setCurrentPath(str(value)))
    raise TypeError(f"{type(widget).__name__} can't be bound to a parameter of type {annotation}")
