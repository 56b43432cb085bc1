"""Step 5: train and validate a model from a table, beside a clinical baseline."""

import qt
from IRAIExtensionLib.Tables import fillTable
from slicer.i18n import tr as _

from .Parameters import QUICK, THOROUGH, USUAL, pathOf
from .Presenters import GOOD, LINE_STYLES, WARN, trainView, trainWords
from .Runs import Run

REPORT = "report.html"
MOST_ROWS = 6
"""The table node and the report hold them all, and the differences."""


class TrainPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.selectors = {"target": self.ui.targetSelector, "time": self.ui.timeSelector,
                          "patient": self.ui.patientSelector, "site": self.ui.siteSelector}
        for name, selector in self.selectors.items():
            selector.connect("currentIndexChanged(int)", lambda index, n=name: self.onColumn(n, index))
        for text, effort in ((_("Quick look: 5 folds, once"), QUICK), (_("Usual: repeated, permuted"), USUAL),
                             (_("Thorough: ten times"), THOROUGH)):
            self.ui.effortSelector.addItem(text, effort)
        self.ui.effortSelector.connect("currentIndexChanged(int)", self.onEffort)
        self.ui.trainButton.connect("clicked(bool)", self.onTrain)
        self.ui.trainCancelButton.connect("clicked(bool)", lambda *_args: self.run.cancel())
        self.ui.openTrainReportButton.connect("clicked(bool)", self.onOpen)
        self.ui.useModelButton.connect("clicked(bool)", self.onUse)
        self.run = Run(owner, self.ui.trainProgressBar, self.ui.trainProgressLabel)
        self._updating = False
        self._seen = (None, (), "")
        self.problem = ""

    def update(self, parameters):
        from IRAILib.scene.ablation_results import read_record

        ui, idle = self.ui, not self.owner.busy
        columns, wrong = self.columns(parameters)
        self._updating = True
        try:
            for name, selector in self.selectors.items():
                self.fill(selector, columns, parameters.getValue(name))
            ui.effortSelector.setCurrentIndex(max(ui.effortSelector.findData(parameters.effort), 0))
        finally:
            self._updating = False
        view, document = trainView(parameters, columns, wrong), read_record(parameters.training)
        ui.trainButton.setEnabled(view.ready and idle)
        ui.trainCancelButton.setEnabled(self.run.running)
        folder = pathOf(parameters.trainFolder)
        ui.openTrainReportButton.setEnabled(folder is not None and (folder / REPORT).is_file())
        ui.useModelButton.setEnabled(folder is not None and (folder / "model.json").is_file())
        self.owner.say(ui.trainVerdictLabel, trainWords(document))
        ui.trainVerdictLabel.setStyleSheet(LINE_STYLES[WARN if not document.get("better") else GOOD])
        rows = [tuple(text.replace(" (", "\n(") for text in row[:3])
                for row in (document.get("rows") or [])[:MOST_ROWS]]
        self.owner.reveal(ui.trainTableWidget, bool(rows))
        fillTable(ui.trainTableWidget, [_("Held out (95 % interval)"), _("Model"), _("Baseline")], rows)
        self.owner.say(ui.trainNeedsLabel, self.problem or view.needs)
        self.owner.say(ui.trainGaveLabel, view.gave)

    def columns(self, parameters):
        """(names of the table's columns, why it can't be read); read again only when the file changed."""
        from IRAILib.geometry import IRAIError

        path = pathOf(parameters.trainTable)
        key = (str(path), path.stat().st_mtime_ns if path is not None and path.exists() else None)
        if self._seen[0] != key:
            self.problem = ""
            try:
                self._seen = (key, tuple(self.owner.logic.tableColumns(parameters)), "")
            except IRAIError as error:
                self._seen = (key, (), str(error))
        return self._seen[1], self._seen[2]

    def fill(self, selector, columns, chosen):
        wanted = [(_("none"), ""), *((name, name) for name in columns)]
        if [(selector.itemText(n), selector.itemData(n)) for n in range(selector.count)] != wanted:
            selector.clear()
            for text, data in wanted:
                selector.addItem(text, data)
        selector.setCurrentIndex(max(selector.findData(chosen), 0))

    def onColumn(self, name, index):
        if not self._updating and self.owner.parameters is not None:
            self.problem = ""
            self.owner.parameters.setValue(name, self.selectors[name].itemData(index) or "")

    def onEffort(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.effort = self.ui.effortSelector.itemData(index)

    def onTrain(self):
        self.problem = ""
        with self.owner.attempt(_("Training failed."), part=self), self.run as run:
            self.owner.logic.train(self.owner.parameters, progress=run.progress, cancelled=run.cancelled)
        self.owner.refresh()

    def onOpen(self):
        path = pathOf(self.owner.parameters.trainFolder) / REPORT
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))

    def onUse(self):
        self.owner.logic.useTrainedModel(self.owner.parameters)
        self.owner.refresh()
