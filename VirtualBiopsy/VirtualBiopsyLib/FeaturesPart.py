"""Step 2: features, how stable they are, where this patient lies among others."""

import qt
import slicer
from slicer.i18n import tr as _

from .Parameters import FILE, pathOf, segmentOf
from .Presenters import cohortText, featureRows, featuresView, stabilityText
from .Runs import Run

LIST_HEIGHT = 230
COLUMN_WIDTHS = (126, 84, 50)
UNSTABLE = "#b35900"


class FeaturesPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        for text, preset in ((_("CT: Hounsfield units"), "ct"), (_("MR: arbitrary intensities"), "mr"),
                             (_("PET: SUV"), "pet"), (_("My settings file"), FILE)):
            self.ui.presetSelector.addItem(text, preset)
        self.ui.presetSelector.connect("currentIndexChanged(int)", self.onPreset)
        self.ui.regionSelector.connect("currentIndexChanged(int)", self.onRegion)
        self.ui.extractButton.connect("clicked(bool)", lambda *_args: self.onRun("extract"))
        self.ui.stabilityButton.connect("clicked(bool)", lambda *_args: self.onRun("testStability"))
        self.ui.cohortButton.connect("clicked(bool)", self.onCompare)
        self.ui.featuresCancelButton.connect("clicked(bool)", lambda *_args: self.run.cancel())
        self.ui.openTableButton.connect("clicked(bool)", self.onOpenTable)
        self.run = Run(owner, self.ui.featuresProgressBar, self.ui.featuresProgressLabel)
        self._updating = False
        self._shown = None
        self.problem = ""
        self.ui.featureTable.setFixedHeight(LIST_HEIGHT)

    def update(self, parameters):
        ui, idle = self.ui, not self.owner.busy
        view, there = featuresView(parameters), parameters.features is not None
        self._updating = True
        try:
            ui.presetSelector.setCurrentIndex(max(ui.presetSelector.findData(parameters.preset), 0))
            self.fillRegions(parameters)
        finally:
            self._updating = False
        ui.configPathEdit.setEnabled(parameters.preset == FILE)
        ui.extractButton.setEnabled(view.ready and idle)
        ui.stabilityButton.setEnabled(view.ready and there and idle)
        ui.cohortButton.setEnabled(view.ready and there and idle and pathOf(parameters.cohortTable) is not None)
        ui.featuresCancelButton.setEnabled(self.run.running)
        ui.openTableButton.setEnabled(there)
        for widget in (ui.featureTable, ui.findLineEdit, ui.findLineEditLabel, ui.stableCheckBox, ui.openTableButton):
            self.owner.reveal(widget, there)
        self.fillTable(parameters)
        self.owner.say(ui.featuresNeedsLabel, self.problem or view.needs)
        self.owner.say(ui.featuresGaveLabel,
                       "\n".join(filter(None, [view.gave, stabilityText(parameters), cohortText(parameters)])))

    def fillRegions(self, parameters):
        """The lesion first, then the other segments of its segmentation but the organ."""
        lesion, organ = segmentOf(parameters, "lesion"), segmentOf(parameters, "organ")
        entries = []
        if lesion is not None:
            inside = lesion.node.GetSegmentation()
            others = [one for one in inside.GetSegmentIDs() if one != lesion.segment_id and not (
                organ is not None and organ.node is lesion.node and one == organ.segment_id)]
            entries = [(inside.GetSegment(one).GetName(), "" if one == lesion.segment_id else one)
                       for one in (lesion.segment_id, *others)]
        selector = self.ui.regionSelector
        if [(selector.itemText(n), selector.itemData(n)) for n in range(selector.count)] != entries:
            selector.clear()
            for text, segmentID in entries:
                selector.addItem(text, segmentID)
        selector.setCurrentIndex(max(selector.findData(parameters.region), 0) if entries else -1)

    def fillTable(self, parameters):
        """The list, drawn again only when it changed."""
        rows, unstable = featureRows(parameters, parameters.find)
        key = (tuple(rows), tuple(unstable))
        if key == self._shown:
            return
        self._shown = key
        table = self.ui.featureTable
        header = [_("Feature"), _("Value"), _("Varies"), _("Percentile")]
        table.setColumnCount(len(header))
        table.setHorizontalHeaderLabels(header)
        table.setRowCount(len(rows))
        table.verticalHeader().hide()
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        for row, texts in enumerate(rows):
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                if unstable[row]:
                    item.setForeground(qt.QBrush(qt.QColor(UNSTABLE)))
                table.setItem(row, column, item)
        table.horizontalHeader().setStretchLastSection(True)
        for column, width in enumerate(COLUMN_WIDTHS):
            table.setColumnWidth(column, width)

    def onPreset(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.preset = self.ui.presetSelector.itemData(index)

    def onRegion(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.region = self.ui.regionSelector.itemData(index) or ""

    def onRun(self, action):
        self.problem = ""
        with self.owner.attempt(_("The features could not be measured."), part=self), self.run as run:
            getattr(self.owner.logic, action)(self.owner.parameters, progress=run.progress, cancelled=run.cancelled)
        self.owner.refresh()

    def onCompare(self):
        self.problem = ""
        with self.owner.attempt(_("The comparison failed."), part=self, waitCursor=True):
            self.owner.logic.compare(self.owner.parameters)
        self.owner.refresh()

    def onOpenTable(self):
        from IRAILib.scene.biopsy_sources import Found, select_node
        from IRAILib.scene.changes import part_of

        table = part_of(self.owner.parameters.features, "table")
        if table is not None:
            select_node(Found(table, "", False))
            slicer.util.selectModule("Tables")
