"""Step 4: what a model says of this patient, how sure it is, why, and when it refuses."""

import json

import qt
from IRAIExtensionLib.Tables import fillTable
from slicer.i18n import tr as _

from .Parameters import pathOf, typedValues
from .Presenters import GOOD, LINE_STYLES, NOTHING, WARN, modelView, predictionWords


class ModelPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.ui.predictButton.connect("clicked(bool)", self.onPredict)
        self.fields = {}
        self._built = None
        self._updating = False
        self._seen = (None, None, "")
        self.problem = ""
        self.ui.modelProgressBar.hide()
        self.ui.modelProgressLabel.hide()

    def update(self, parameters):
        from IRAILib.scene.ablation_results import read_record

        ui, idle = self.ui, not self.owner.busy
        model, wrong = self.open(parameters)
        view = modelView(parameters, model, wrong)
        self._updating = True
        try:
            self.build(model)
            self.fill(typedValues(parameters.modelValues))
        finally:
            self._updating = False
        document = read_record(parameters.prediction)
        ui.predictButton.setEnabled(view.ready and idle)
        self.owner.say(ui.modelTextLabel, model.text if model is not None else "")
        self.owner.say(ui.predictionLabel, predictionWords(document))
        ui.predictionLabel.setStyleSheet(LINE_STYLES[NOTHING if document.get("refused") else
                                                     WARN if view.stale or document.get("warnings") else GOOD])
        rows = [(row["label"], " ".join(filter(None, [row["value"], row.get("note", "")])))
                for row in ([] if document.get("refused") else document.get("figures") or [])]
        if document.get("similarity_text"):
            rows.append((_("Similarity to the training cohort"), " ".join(
                filter(None, [document["similarity_text"], document.get("similarity_note")]))))
        self.owner.reveal(ui.predictionTable, bool(rows))
        fillTable(ui.predictionTable, [_("Quantity"), _("Value")], rows, stretch=1)
        reasons = [] if document.get("refused") else [
            (reason["feature"], f"{reason['contribution']:+.3g}") for reason in (document.get("reasons") or [])[:8]]
        self.owner.reveal(ui.reasonsTable, bool(reasons))
        fillTable(ui.reasonsTable, [_("Pushed by"), document.get("reasons_unit") or _("Contribution")], reasons)
        self.owner.say(ui.modelNeedsLabel, self.problem or view.needs)
        self.owner.say(ui.modelGaveLabel, view.gave)

    def open(self, parameters):
        """(the chosen model, why it can't be used); read again only when its files changed."""
        from IRAILib.geometry import IRAIError

        folder = pathOf(parameters.modelFolder)
        file = None if folder is None else folder / "model.json"
        key = (str(folder), file.stat().st_mtime_ns if file is not None and file.is_file() else None)
        if self._seen[0] != key:
            try:
                self._seen = (key, None if folder is None else self.owner.logic.modelInputs(parameters), "")
            except IRAIError as error:
                self._seen = (key, None, str(error))
        return self._seen[1], self._seen[2]

    def build(self, model):
        """The form's rows: what the model asks for beside image features."""
        wanted = () if model is None else model.asked
        if wanted == self._built:
            return
        self._built, self.fields = wanted, {}
        form = self.ui.modelInputsWidget.layout()
        while form.rowCount():
            form.removeRow(0)
        for item in wanted:
            if item.choices:
                field = qt.QComboBox()
                field.addItem(_("not known"), "")
                for choice in item.choices:
                    field.addItem(choice, choice)
                field.connect("currentIndexChanged(int)", lambda _index: self.onTyped())
            else:
                field = qt.QLineEdit()
                field.connect("textChanged(QString)", lambda _text: self.onTyped())
            self.fields[item.name] = (item, field)
            form.addRow(qt.QLabel(item.label + ":"), field)

    def fill(self, typed):
        for item, field in self.fields.values():
            text = str(typed.get(item.name) or "")
            if item.choices:
                field.setCurrentIndex(max(field.findData(text), 0))
            elif field.text != text:
                field.setText(text)

    def onTyped(self):
        parameters = self.owner.parameters
        if self._updating or parameters is None:
            return
        typed = typedValues(parameters.modelValues)
        for item, field in self.fields.values():
            typed[item.name] = field.itemData(field.currentIndex) if item.choices else field.text.strip()
        self.problem = ""
        parameters.modelValues = json.dumps({key: value for key, value in typed.items() if value}, sort_keys=True)

    def onPredict(self):
        self.problem = ""
        with self.owner.attempt(_("The model could not be asked."), part=self, waitCursor=True):
            self.owner.logic.predict(self.owner.parameters)
        self.owner.refresh()
