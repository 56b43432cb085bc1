"""The class decorator `@parameterNodeWrapper`: annotated fields become properties kept on a parameter node."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

from ..errors import unavailable
from .packs import ParameterInfo, collect_parameters, data_type
from .serializers import one_modification

SlicerParameterNamePropertyName = "SlicerParameterName"
"""Dynamic property of a widget in a .ui file that names the parameter it edits."""

_connector_factory: Callable | None = None


class GuiConnector(abc.ABC):
    """Between one widget and one parameter: what a test harness implements for its widgets."""

    @abc.abstractmethod
    def read(self):
        """The widget's value, in the parameter's type."""

    @abc.abstractmethod
    def write(self, value) -> None:
        """Show a value."""

    @abc.abstractmethod
    def onChanged(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` when the user changes the widget; None: no longer."""


def setGuiConnectorFactory(factory: Callable | None) -> None:
    """`factory(widget, annotation) -> GuiConnector` for connectGui; None takes it away."""
    global _connector_factory
    _connector_factory = factory


class ParameterNodeMethods:
    """What every wrapped class can do; one instance wraps one vtkMRMLScriptedModuleNode."""

    allParameters: dict[str, ParameterInfo] = {}
    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode, prefix: str | None = None) -> None:
        self.parameterNode = parameterNode
        self._prefix = prefix or ""
        self._connectors: dict[int, dict[str, GuiConnector]] = {}
        self._observers: dict[int, int] = {}
        self._next_tag = 0
        self._is_updating_gui = False
        with one_modification(parameterNode):
            for name, info in self.allParameters.items():
                if not info.serializer.isIn(parameterNode, self._prefix + name):
                    info.serializer.write(parameterNode, self._prefix + name, info.default.value)

    def _read(self, name: str) -> Any:
        info = self.allParameters[name]
        key = self._prefix + name
        if not info.serializer.isIn(self.parameterNode, key):
            info.serializer.write(self.parameterNode, key, info.default.value)
        return info.serializer.read(self.parameterNode, key)

    def _write(self, name: str, value) -> None:
        with one_modification(self.parameterNode):
            self.allParameters[name].serializer.write(self.parameterNode, self._prefix + name, value)

    def getValue(self, name: str):
        """Value of a parameter, by name; `pack.field` for a field of a pack. Raises ValueError for an unknown name."""
        self.dataType(name)
        first, _, rest = name.partition(".")
        value = self._read(first)
        return value.getValue(rest) if rest else value

    def setValue(self, name: str, value) -> None:
        """Set a parameter by name. Raises ValueError or TypeError as an assignment does."""
        self.dataType(name)
        first, _, rest = name.partition(".")
        if rest:
            self._read(first).setValue(rest, value)
        else:
            self._write(first, value)

    @classmethod
    def dataType(cls, name: str):
        """Annotation of a parameter. Raises ValueError for an unknown name."""
        return data_type(cls.allParameters, name)

    def default(self, name: str):
        """The parameter's Default."""
        self.dataType(name)
        return self.allParameters[name].default

    def isCached(self, name: str) -> bool:
        """Whether Slicer would keep a copy beside the node; here values are always read from the node."""
        self.dataType(name)
        return self.allParameters[name].serializer.supportsCaching()

    def connectGui(self, gui) -> int:
        """Bind every widget of `gui` (the object of childWidgetVariables) that names a parameter; gives a tag.

        Raises HeadlessUnavailableError without a connector factory, ValueError for an unknown parameter.
        """
        mapping = {}
        for widget in vars(gui).values():
            name = widget.property(SlicerParameterNamePropertyName) if hasattr(widget, "property") else None
            if name:
                mapping[name] = widget
        return self.connectParametersToGui(mapping)

    def connectParametersToGui(self, mapping: dict) -> int:
        """Bind {parameter name: widget or GuiConnector}; gives a tag for disconnectGui."""
        import vtk

        connectors = {name: self._connector(name, widget) for name, widget in mapping.items()}
        tag = self._next_tag
        self._next_tag += 1
        self._connectors[tag] = connectors
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(lambda name=name, connector=connector: self._gui_changed(name, connector))
        self._observers[tag] = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._update_gui())
        return tag

    def _connector(self, name: str, widget) -> GuiConnector:
        annotation = self.dataType(name)
        if isinstance(widget, GuiConnector):
            return widget
        if _connector_factory is None:
            raise unavailable("connectGui", "set and read the parameters as attributes, or give a GuiConnector")
        return _connector_factory(widget, annotation)

    def _gui_changed(self, name: str, connector: GuiConnector) -> None:
        if not self._is_updating_gui:
            with one_modification(self.parameterNode):
                self.setValue(name, connector.read())

    def _update_gui(self) -> None:
        if self._is_updating_gui:
            return
        self._is_updating_gui = True
        try:
            for connectors in self._connectors.values():
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._is_updating_gui = False

    def disconnectGui(self, tag: int | None) -> None:
        """Undo connectGui; an unknown tag is no error."""
        if tag is None:
            return
        for connector in self._connectors.pop(tag, {}).values():
            connector.onChanged(None)
        if tag in self._observers:
            self.RemoveObserver(self._observers.pop(tag))

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> int:
        return self.parameterNode.EndModify(wasModified)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def AddObserver(self, event, callback, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)


def isParameterNodeWrapper(classOrObject) -> bool:
    return bool(getattr(classOrObject, "_is_parameter_node_wrapper", False))


def parameterNodeWrapper(classtype=None):
    """Class decorator: annotated fields become properties kept on the node given to the constructor.

    Raises ValueError for a field whose name the wrapper itself uses, TypeError for a type that can't be stored.
    """
    if classtype is None:
        return parameterNodeWrapper
    parameters = collect_parameters(classtype)
    for name in parameters:
        if hasattr(ParameterNodeMethods, name) or name == "parameterNode":
            raise ValueError(f"{classtype.__name__}.{name}: the name is taken by the parameter node wrapper")
    for name in parameters:
        setattr(classtype, name, property(lambda self, name=name: self._read(name),
                                          lambda self, value, name=name: self._write(name, value)))
    for name, member in vars(ParameterNodeMethods).items():
        if name == "__init__" or not name.startswith("__"):
            setattr(classtype, name, member)
    classtype.allParameters = parameters
    return classtype
