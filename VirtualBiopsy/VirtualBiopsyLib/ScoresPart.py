"""Step 3: a form for the chosen score, made from what the score says that it needs."""

import json

import qt
from IRAIExtensionLib.Tables import fillTable
from slicer.i18n import tr as _

from .Actions import inputKey
from .Parameters import typedValues
from .Presenters import BAD, GOOD, LINE_STYLES, WARN, scoreView

LESIONS = "liver 42mm 30mm; node:hilum 18mm 9mm"


class ScoresPart:
    def __init__(self, owner):
        from IRAILib.biopsy.scores import SCORES

        self.owner, self.ui = owner, owner.ui
        self.ui.scoreSelector.addItem(_("Choose a score"), "")
        for name, score in SCORES.items():
            self.ui.scoreSelector.addItem(score.title, name)
        self.ui.scoreSelector.connect("currentIndexChanged(int)", self.onChosen)
        self.ui.scoreButton.connect("clicked(bool)", self.onScore)
        self.fields = {}
        self._built = None
        self._updating = False
        self._rows = None
        self.problem = ""

    def update(self, parameters):
        from IRAILib.scene.ablation_results import read_record
        from IRAILib.scene.biopsy_scores import score_record, score_rows, score_text

        self._updating = True
        try:
            self.ui.scoreSelector.setCurrentIndex(max(self.ui.scoreSelector.findData(parameters.score), 0))
            self.build(parameters.score)
            self.fill(typedValues(parameters.scoreValues))
        finally:
            self._updating = False
        inputs = self.owner.logic.scoreInputs(parameters) if parameters.score else {}
        view = scoreView(parameters, inputs)
        document = read_record(score_record(parameters.score)) if parameters.score else {}
        stale = bool(document) and document.get("typed") != inputs
        self.ui.scoreButton.setEnabled(view.ready and not self.owner.busy)
        self.owner.say(self.ui.scoreResultLabel, f"{document['title']}: {score_text(document)}" if document else "")
        style = BAD if stale else WARN if document.get("warnings") else GOOD
        self.ui.scoreResultLabel.setStyleSheet(LINE_STYLES[style])
        rows = [(row[0], f"{row[1]} {row[2]}".strip() + (f" ({row[3]})" if row[3] else ""))
                for row in score_rows(document)[1:-1]] if document else []
        self.owner.reveal(self.ui.scoreTable, bool(rows))
        if rows != self._rows:
            self._rows = rows
            fillTable(self.ui.scoreTable, [_("Quantity"), _("Value")], rows, stretch=1)
        self.owner.say(self.ui.scoreNeedsLabel, self.problem or view.needs)
        self.owner.say(self.ui.scoreGaveLabel, view.gave)

    def build(self, name):
        """The form's rows for a score: value and unit, a choice, or yes and no."""
        if name == self._built:
            return
        from IRAILib.biopsy.scores import find_score

        self._built, self.fields = name, {}
        form = self.ui.scoreInputsWidget.layout()
        while form.rowCount():
            form.removeRow(0)
        if not name:
            return
        score = find_score(name)
        either = {part: group for group in score.either for part in group}
        for item in score.inputs:
            needed = item.default is None and not item.optional
            text = item.name.replace("_", " ") + ("" if needed else _(" (optional)"))
            if item.name in either:
                text = item.name.replace("_", " ") + _(" (one of these)")
            label = qt.QLabel(text + ":")
            label.setToolTip(item.what)
            form.addRow(label, self.editor(item))

    def editor(self, item):
        """The widget of one input; its parts are kept in `fields`."""
        if item.kind in ("choice", "flag"):
            box = qt.QComboBox()
            box.addItem(_("default: {value}").format(value=item.default) if item.default is not None
                        else _("not given") if item.optional else _("choose"), "")
            for choice in item.choices or ("no", "yes"):
                box.addItem(choice, choice)
            box.setToolTip(item.what)
            box.connect("currentIndexChanged(int)", lambda _index: self.onTyped())
            self.fields[item.name] = (item, None, box)
            return box
        holder = qt.QWidget()
        row = qt.QHBoxLayout(holder)
        row.setContentsMargins(0, 0, 0, 0)
        line, units = qt.QLineEdit(), None
        line.setToolTip(item.what)
        line.setPlaceholderText(_("default: {value}").format(value=item.default) if item.default is not None
                                else LESIONS if item.kind == "lesions" else "")
        line.connect("textChanged(QString)", lambda _text: self.onTyped())
        row.addWidget(line, 1)
        if item.units:
            units = qt.QComboBox()
            if len(item.units) > 1:
                units.addItem(_("unit?"), "")
            for unit in item.units:
                units.addItem(unit, unit)
            units.connect("currentIndexChanged(int)", lambda _index: self.onTyped())
            row.addWidget(units)
        self.fields[item.name] = (item, line, units)
        return holder

    def fill(self, typed):
        """Show what was typed, also in another score that asks the same."""
        for item, line, box in self.fields.values():
            entry = typed.get(inputKey(item)) or {}
            if line is None:
                box.setCurrentIndex(max(box.findData(str(entry.get("value") or "")), 0))
                continue
            text = str(entry.get("value") or "")
            if line.text != text:
                line.setText(text)
            if box is not None:
                box.setCurrentIndex(max(box.findData(str(entry.get("unit") or "")), 0))

    def onTyped(self):
        parameters = self.owner.parameters
        if self._updating or parameters is None:
            return
        typed = typedValues(parameters.scoreValues)
        for item, line, box in self.fields.values():
            if line is None:
                entry = {"value": box.itemData(box.currentIndex)}
            else:
                entry = {"value": line.text.strip(), "unit": box.itemData(box.currentIndex) if box is not None else ""}
            typed[inputKey(item)] = entry
            if not entry["value"] and not (entry.get("unit") and len(item.units) > 1):
                typed.pop(inputKey(item))
        self.problem = ""
        parameters.scoreValues = json.dumps(typed, sort_keys=True)

    def onChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.problem = ""
            self.owner.parameters.score = self.ui.scoreSelector.itemData(index)

    def onScore(self):
        self.problem = ""
        with self.owner.attempt(_("The score could not be worked out."), part=self):
            self.owner.logic.workOutScore(self.owner.parameters)
        self.owner.refresh()
