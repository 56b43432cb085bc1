"""Stand-ins for the CTK widgets that the panels use, drawn closely enough to judge a layout."""

from __future__ import annotations

from pathlib import Path

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

HEADER_HEIGHT = 26


class ctkCollapsibleButton(QtWidgets.QWidget):
    """A section with a header to fold it; folded, its children are hidden."""

    contentsCollapsed = Signal(bool)
    toggled = Signal(bool)
    SIGNATURES = {"contentsCollapsed": ["bool"], "toggled": ["bool"]}

    def __init__(self, *args) -> None:
        title = args[0] if args and isinstance(args[0], str) else ""
        super().__init__(*[a for a in args if isinstance(a, QtWidgets.QWidget)])
        self._text, self._collapsed = title, False
        self._folded: list[QtWidgets.QWidget] = []
        self.setContentsMargins(0, HEADER_HEIGHT, 0, 2)

    def _set_text(self, value: str) -> None:
        self._text = value
        self.update()

    def _set_collapsed(self, value: bool) -> None:
        if value == self._collapsed:
            return
        self._collapsed = value
        self.setMaximumHeight(HEADER_HEIGHT if value else 16777215)
        if value:
            children = self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly)
            self._folded = [child for child in children if not child.isHidden()]
        for child in self._folded:
            child.setVisible(not value)
        self.contentsCollapsed.emit(value)

    text = Property(str, lambda self: self._text, _set_text)
    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)

    def setCollapsed(self, value: bool) -> None:
        self._set_collapsed(value)

    def setText(self, value: str) -> None:
        self._set_text(value)

    def paintEvent(self, _event) -> None:
        painter = QtGui.QPainter(self)
        header = QtWidgets.QStyleOptionButton()
        header.initFrom(self)
        header.rect = QtCore.QRect(0, 0, self.width, HEADER_HEIGHT - 2)
        style = QtWidgets.QApplication.style()
        style.drawControl(QtWidgets.QStyle.CE_PushButtonBevel, header, painter, self)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, 6, 12, 12)
        style.drawPrimitive(QtWidgets.QStyle.PE_IndicatorArrowRight if self._collapsed
                            else QtWidgets.QStyle.PE_IndicatorArrowDown, arrow, painter, self)
        painter.drawText(24, 17, self._text)

    def mousePressEvent(self, event) -> None:
        if event.position().y() < HEADER_HEIGHT:
            self._set_collapsed(not self._collapsed)


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box that folds; its title carries the arrow."""

    SIGNATURES: dict[str, list[str]] = {}

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self._collapsed = False

    def _set_collapsed(self, value: bool) -> None:
        self._collapsed = value
        self.setMaximumHeight(24 if value else 16777215)
        self.setFlat(value)
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly):
            child.setVisible(not value)

    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)

    def paintEvent(self, event) -> None:
        if not self._collapsed:
            super().paintEvent(event)
            return
        painter = QtGui.QPainter(self)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(2, 6, 10, 10)
        style = QtWidgets.QApplication.style()
        style.drawPrimitive(QtWidgets.QStyle.PE_IndicatorArrowRight, arrow, painter, self)
        painter.drawText(18, 16, self.title)

    def mousePressEvent(self, event) -> None:
        if event.position().y() < 20:
            self._set_collapsed(not self._collapsed)


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box with one value."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    SIGNATURES = {"valueChanged": ["double"], "valueIsChanging": ["double"]}

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.slider, self.spin = QtWidgets.QSlider(QtCore.Qt.Horizontal), QtWidgets.QDoubleSpinBox()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.spin)
        self.slider.setRange(0, 1000)
        self.spin.setRange(0.0, 100.0)
        self.spin.valueChanged.connect(self._spin_changed)
        self.slider.valueChanged.connect(self._slider_changed)

    def _spin_changed(self, value: float) -> None:
        self._place_slider()
        self.valueChanged.emit(value)

    def _slider_changed(self, position: int) -> None:
        low, high = self.spin.minimum, self.spin.maximum
        self.spin.setValue(low + (high - low) * position / 1000.0)

    def _place_slider(self) -> None:
        low, high = self.spin.minimum, self.spin.maximum
        self.slider.blockSignals(True)
        self.slider.setValue(round(1000.0 * (self.spin.value - low) / max(high - low, 1e-9)))
        self.slider.blockSignals(False)

    def _limits(self, low: float, high: float) -> None:
        self.spin.setRange(low, high)
        self._place_slider()

    value = Property(float, lambda self: self.spin.value, lambda self, v: self.spin.setValue(v))
    minimum = Property(float, lambda self: self.spin.minimum, lambda self, v: self._limits(v, self.spin.maximum))
    maximum = Property(float, lambda self: self.spin.maximum, lambda self, v: self._limits(self.spin.minimum, v))
    singleStep = Property(float, lambda self: self.spin.singleStep, lambda self, v: self.spin.setSingleStep(v))
    decimals = Property(int, lambda self: self.spin.decimals, lambda self, v: self.spin.setDecimals(v))
    suffix = Property(str, lambda self: self.spin.suffix, lambda self, v: self.spin.setSuffix(v))

    def setValue(self, value: float) -> None:
        self.spin.setValue(value)


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path with a button to browse for it."""

    currentPathChanged = Signal(str)
    SIGNATURES = {"currentPathChanged": ["QString"]}

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.line, self.browse = QtWidgets.QLineEdit(), QtWidgets.QToolButton()
        self.browse.setText("...")
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line, 1)
        row.addWidget(self.browse)
        self.line.textChanged.connect(self.currentPathChanged)

    currentPath = Property(str, lambda self: self.line.text, lambda self, v: self.line.setText(v))

    def setCurrentPath(self, path: str) -> None:
        self.line.setText(str(Path(path)) if path else "")

    def addCurrentPathToHistory(self) -> None:
        """The history is kept by CTK's settings: nothing here."""


CTK_WIDGETS = (ctkCollapsibleButton, ctkCollapsibleGroupBox, ctkSliderWidget, ctkPathLineEdit)
