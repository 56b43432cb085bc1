"""Stand-ins for the qMRML widgets that the panels use: real combo boxes that follow the real scene."""

from __future__ import annotations

import slicer
from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal


class qMRMLWidget(QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)
    SIGNATURES = {"mrmlSceneChanged": ["vtkMRMLScene*"]}

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self._scene = None

    def setMRMLScene(self, scene) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self):
        return self._scene


class qSlicerWidget(qMRMLWidget):
    pass


class qMRMLNodeComboBox(qMRMLWidget):
    """Lists the nodes of its types, none first; takes only nodes that are in its list, as the real one does."""

    currentNodeChanged = Signal(object)
    SIGNATURES = {"currentNodeChanged": ["vtkMRMLNode*", "bool", ""], "mrmlSceneChanged": ["vtkMRMLScene*"]}

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self._node, self._observers = None, []
        self._types: list[str] = []
        self._hidden: list[str] = []
        self._none = self._add = False
        self._base = ""
        self.combo = QtWidgets.QComboBox()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.combo)
        self.combo.activated.connect(lambda index: self.setCurrentNode(self._choices()[index]))
        self._fill()

    nodeTypes = Property("QStringList", lambda self: self._types, lambda self, v: self._configure("_types", v))
    hideChildNodeTypes = Property("QStringList", lambda self: self._hidden,
                                  lambda self, v: self._configure("_hidden", v))
    noneEnabled = Property(bool, lambda self: self._none, lambda self, v: self._configure("_none", v))
    addEnabled = Property(bool, lambda self: self._add, lambda self, v: self._configure("_add", v))
    baseName = Property(str, lambda self: self._base, lambda self, v: self._configure("_base", v))
    removeEnabled = Property(bool, lambda self: True, lambda self, v: None)
    renameEnabled = Property(bool, lambda self: True, lambda self, v: None)
    showChildNodeTypes = Property(bool, lambda self: True, lambda self, v: None)

    def _configure(self, name: str, value) -> None:
        setattr(self, name, value)
        self._fill()

    def setMRMLScene(self, scene) -> None:
        if scene is self._scene:
            return
        events = slicer.vtkMRMLScene
        for event, callback in ((events.NodeAddedEvent, self._changed), (events.NodeRemovedEvent, self._changed),
                                (events.EndImportEvent, self._changed), (events.EndCloseEvent, self._changed)):
            self._observers.append(scene.AddObserver(event, callback))
        super().setMRMLScene(scene)
        self._fill()

    def _changed(self, *_args) -> None:
        if self._node is not None and self._node not in self.nodes():
            self.setCurrentNode(None)
        self._fill()

    def _accepts(self, node) -> bool:
        return (node is not None and not node.GetHideFromEditors() and any(node.IsA(name) for name in self._types)
                and not any(node.IsA(name) for name in self._hidden))

    def nodes(self) -> list:
        if self._scene is None:
            return []
        every = (self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes()))
        return [node for node in every if self._accepts(node)]

    def _choices(self) -> list:
        return ([None] if self._none else []) + self.nodes()

    def _fill(self) -> None:
        choices = self._choices()
        self.combo.blockSignals(True)
        self.combo.clear()
        self.combo.addItems([node.GetName() if node else "None" for node in choices])
        self.combo.setCurrentIndex(choices.index(self._node) if self._node in choices else -1)
        self.combo.blockSignals(False)

    def currentNode(self):
        return self._node

    def setCurrentNode(self, node) -> None:
        if node is not None and not self._accepts(node):
            node = None
        if node is not self._node:
            self._node = node
            self._fill()
            self.currentNodeChanged.emit(node)

    def addNode(self):
        """What "Create new" of the menu does."""
        name = self._scene.GenerateUniqueName(self._base or "Node")
        node = self._scene.AddNewNodeByClass(self._types[0], name)
        self.setCurrentNode(node)
        return node


class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """A segmentation and one of its segments."""

    currentNodeChanged = Signal(object)
    currentSegmentChanged = Signal(str)
    SIGNATURES = {"currentNodeChanged": ["vtkMRMLNode*", "bool"], "currentSegmentChanged": ["QString"],
                  "mrmlSceneChanged": ["vtkMRMLScene*"]}

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self._segment = ""
        self.selector, self.combo = qMRMLNodeComboBox(), QtWidgets.QComboBox()
        self.selector.setProperty("nodeTypes", ["vtkMRMLSegmentationNode"])
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.selector, 1)
        row.addWidget(self.combo, 1)
        self.selector.currentNodeChanged.connect(self._node_changed)
        self.combo.activated.connect(lambda index: self.setCurrentSegmentID((["", *self.segmentIDs()])[index]))

    noneEnabled = Property(bool, lambda self: self.selector.noneEnabled,
                           lambda self, v: self.selector.setProperty("noneEnabled", v))
    horizontalLayout = Property(bool, lambda self: True, lambda self, v: None)

    def setMRMLScene(self, scene) -> None:
        super().setMRMLScene(scene)
        self.selector.setMRMLScene(scene)

    def _node_changed(self, node) -> None:
        self._segment = ""
        self._fill()
        self.currentNodeChanged.emit(node)

    def _fill(self) -> None:
        node, ids = self.currentNode(), self.segmentIDs()
        names = [node.GetSegmentation().GetSegment(i).GetName() for i in ids] if node else []
        self.combo.clear()
        self.combo.addItems(["Select a segment", *names])
        self.combo.setCurrentIndex(ids.index(self._segment) + 1 if self._segment in ids else 0)

    def currentNode(self):
        return self.selector.currentNode()

    def setCurrentNode(self, node) -> None:
        self.selector.setCurrentNode(node)
        self._fill()

    def segmentIDs(self) -> list[str]:
        node = self.currentNode()
        return list(node.GetSegmentation().GetSegmentIDs()) if node else []

    def currentSegmentID(self) -> str:
        return self._segment

    def setCurrentSegmentID(self, segment_id: str) -> None:
        segment_id = segment_id if segment_id in self.segmentIDs() else ""
        if segment_id != self._segment:
            self._segment = segment_id
            self._fill()
            self.currentSegmentChanged.emit(segment_id)


class qSlicerMarkupsPlaceWidget(qSlicerWidget):
    activeMarkupsPlaceModeChanged = Signal(bool)
    SIGNATURES = {"activeMarkupsPlaceModeChanged": ["bool"], "mrmlSceneChanged": ["vtkMRMLScene*"]}

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self._node = None
        self._button = QtWidgets.QToolButton()
        self._button.setText("+")
        self._button.setEnabled(False)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._button)

    def setCurrentNode(self, node) -> None:
        self._node = node
        self._button.setEnabled(node is not None)

    def currentNode(self):
        return self._node

    def placeButton(self):
        return self._button

    def setButtonsVisible(self, visible: bool) -> None:
        self._button.setVisible(visible)


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """What holds a scripted module's panel."""

    isEntered = Property(bool, lambda self: self.__dict__.get("_entered", False),
                         lambda self, v: self.__dict__.__setitem__("_entered", v))


MRML_WIDGETS = (qMRMLWidget, qSlicerWidget, qMRMLNodeComboBox, qMRMLSegmentSelectorWidget, qSlicerMarkupsPlaceWidget,
                qSlicerScriptedLoadableModuleWidget)
