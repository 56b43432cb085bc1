"""PythonQt's calling habits on PySide6: properties as attributes, `connect("clicked(bool)", f)`, exact signatures.

In PythonQt a Q_PROPERTY is an attribute (`button.text`, never `button.text()`), a signal is named by its C++
signature, and a callable gets as many of the signal's arguments as it takes.
"""

from __future__ import annotations

import inspect
import re
import types

from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets
from PySide6.QtCore import QObject

MODULES = (QtCore, QtGui, QtWidgets, QtNetwork, QtUiTools)
KEPT_AS_METHODS = {"parent", "children", "sizeHint", "minimumSizeHint"}
"""The last two are virtual: Qt would call the attribute. A panel must not use them, PythonQt has them as properties."""


class SignatureError(ValueError):
    """A connect() that PythonQt would refuse."""


def apply_habits() -> None:
    """Give every QObject class of PySide6 the habits of PythonQt, once a process."""
    if getattr(QObject, "_habits_of_pythonqt", False):
        return
    seen: set[type] = set()
    for module in MODULES:
        for name in dir(module):
            found = getattr(module, name)
            if isinstance(found, type) and issubclass(found, QObject) and found not in seen:
                seen.add(found)
                _properties_as_attributes(found)
                _bound_on_construction(found)
    QObject.name = property(lambda self: QObject.property(self, "objectName"),
                            lambda self, value: self.setObjectName(value))
    QObject.className = lambda self: self.metaObject().className()
    QObject._habits_of_pythonqt = True


def bind(obj: QObject) -> QObject:
    """Give one object PythonQt's connect and disconnect: PySide6 finds its own before a class attribute."""
    obj.__dict__["connect"] = types.MethodType(connect, obj)
    obj.__dict__["disconnect"] = types.MethodType(disconnect, obj)
    return obj


def connect(self, signal: str, *receiver) -> bool:
    """`connect("signal(type)", callable)` or `connect("signal(type)", receiver, "slot(type)")`."""
    bound, count = _signal(self, signal)
    target = getattr(receiver[0], receiver[1].split("(")[0]) if len(receiver) == 2 else receiver[0]
    if not callable(target):
        raise TypeError(f"connect('{signal}'): {target!r} can't be called")
    callback = _taking(target, count)
    bound.connect(callback)
    self.__dict__.setdefault("_connections", []).append((signal, target, bound, callback))
    return True


def disconnect(self, signal: str, target=None) -> bool:
    """Take back a connect(); False when there was none."""
    for entry in list(self.__dict__.get("_connections", [])):
        if entry[0] == signal and target in (None, entry[1]):
            entry[2].disconnect(entry[3])
            self._connections.remove(entry)
            return True
    return False


def _properties_as_attributes(cls: type) -> None:
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name = meta.property(index).name()
        if name in KEPT_AS_METHODS or isinstance(cls.__dict__.get(name), property | QtCore.Property):
            continue
        setattr(cls, name, property(lambda self, n=name: QObject.property(self, n),
                                    lambda self, value, n=name: QObject.setProperty(self, n, value)))


def _bound_on_construction(cls: type) -> None:
    original = cls.__init__

    def initialise(self, *args, **kwargs) -> None:
        original(self, *args, **kwargs)
        bind(self)

    cls.__init__ = initialise


def _signal(obj: QObject, text: str):
    """(bound signal of that overload, number of its arguments). Raises SignatureError."""
    match = re.fullmatch(r"\s*(\w+)\s*\((.*)\)\s*", text)
    if match is None:
        raise SignatureError(f"connect: '{text}' is no full signature such as 'clicked(bool)'")
    name, types_text = match.group(1), match.group(2).replace(" ", "")
    declared = getattr(type(obj), "SIGNATURES", {}).get(name)
    if declared is not None:
        if types_text not in declared:
            raise SignatureError(f"{type(obj).__name__} has no signal '{text}', only {name}({' | '.join(declared)})")
        return getattr(obj, name), len([part for part in types_text.split(",") if part])
    known = _qt_signatures(obj, name)
    wanted = bytes(QtCore.QMetaObject.normalizedSignature(text)).decode()
    if not any(have == wanted or have.startswith(wanted[:-1]) for have in known):
        raise SignatureError(f"{obj.metaObject().className()} has no signal '{text}', only {known}")
    bound = getattr(obj, name)
    if types_text:
        try:
            bound = bound[types_text]
        except (KeyError, IndexError, TypeError):
            bound = getattr(obj, name)
    return bound, len([part for part in types_text.split(",") if part])


def _qt_signatures(obj: QObject, name: str) -> list[str]:
    meta = obj.metaObject()
    methods = [meta.method(index) for index in range(meta.methodCount())]
    return [bytes(method.methodSignature()).decode() for method in methods
            if method.methodType() == QtCore.QMetaMethod.MethodType.Signal
            and bytes(method.name()).decode() == name]


def _taking(target, count: int):
    """A callable that passes on as many of `count` arguments as the target takes."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return lambda *args: target(*args[:count])
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return lambda *args: target(*args[:count])
    free = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            and not (p.default is not p.empty and p.name.startswith("_"))]
    taken = min(count, len(free))
    return lambda *args: target(*args[:taken])
