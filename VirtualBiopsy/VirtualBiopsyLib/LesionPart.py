"""Step 1: which scan, which lesion; its size, the shell round it, its habitats."""

import slicer
from IRAIExtensionLib.Tables import fillTable
from slicer.i18n import tr as _

from .Parameters import SEGMENTS, caseFrom, chooseSegment, segmentOf
from .Presenters import clicksView, lesionView, regionsRows, regionsText, sizeText, staleText
from .Runs import Run


class LesionPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.selectors = {name: getattr(self.ui, name + "Selector") for name in SEGMENTS}
        for name, selector in self.selectors.items():
            selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node, n=name: self.onSegmentChosen(n))
            selector.connect("currentSegmentChanged(QString)", lambda segment, n=name: self.onSegmentChosen(n))
        for selector, place in ((self.ui.insideSelector, self.ui.insidePlaceWidget),
                                (self.ui.outsideSelector, self.ui.outsidePlaceWidget)):
            place.setButtonsVisible(False)
            place.placeButton().show()
            selector.connect("currentNodeChanged(vtkMRMLNode*)", place.setCurrentNode)
        self.ui.sampleButton.connect("clicked(bool)", self.onSample)
        self.ui.sampleCancelButton.connect("clicked(bool)", lambda *_args: self.sampleRun.cancel())
        self.ui.segmentButton.connect("clicked(bool)", self.onSegment)
        self.ui.editorButton.connect("clicked(bool)", self.onEditor)
        self.ui.measureButton.connect("clicked(bool)", self.onMeasure)
        self.ui.shellButton.connect("clicked(bool)", lambda *_args: self.onRegions("makeShell"))
        self.ui.habitatsButton.connect("clicked(bool)", lambda *_args: self.onRegions("findHabitats"))
        self.ui.regionsCancelButton.connect("clicked(bool)", lambda *_args: self.regionsRun.cancel())
        self.sampleRun = Run(owner, self.ui.sampleProgressBar, self.ui.sampleProgressLabel)
        self.regionsRun = Run(owner, self.ui.regionsProgressBar, self.ui.regionsProgressLabel)
        self._updating = False
        self.problem = self.regionsProblem = ""

    def update(self, parameters):
        from IRAILib.scene.ablation_results import read_record
        from IRAILib.scene.biopsy_lesion import size_rows

        self._updating = True
        try:
            for name, selector in self.selectors.items():
                ref = segmentOf(parameters, name)
                selector.setCurrentNode(ref.node if ref else parameters.getValue(name + "Segmentation"))
                selector.setCurrentSegmentID(ref.segment_id if ref else "")
        finally:
            self._updating = False
        ui, idle, view, clicks = self.ui, not self.owner.busy, lesionView(parameters), clicksView(parameters)
        ui.sampleButton.setEnabled(idle)
        ui.segmentButton.setEnabled(clicks.ready and idle)
        for button in (ui.measureButton, ui.shellButton, ui.habitatsButton):
            button.setEnabled(view.ready and idle)
        self.owner.reveal(ui.regionsCancelButton, self.regionsRun.running)
        self.owner.reveal(ui.sampleCancelButton, self.sampleRun.running)
        self.owner.say(ui.clicksNeedsLabel, clicks.needs)
        rows = size_rows(read_record(parameters.size))
        self.owner.reveal(ui.lesionTable, bool(rows))
        fillTable(ui.lesionTable, [_("Quantity"), _("Value")],
                  [(_(name), f"{value} {unit}".strip()) for name, value, unit in rows])
        regions = regionsRows(parameters)
        self.owner.reveal(ui.regionsTable, bool(regions))
        fillTable(ui.regionsTable, [_("Part"), _("Value")], regions)
        self.owner.say(ui.regionsNeedsLabel, self.regionsProblem)
        self.owner.say(ui.regionsGaveLabel, regionsText(parameters))
        self.owner.say(ui.lesionNeedsLabel, self.problem or view.needs or staleText(parameters.size, parameters))
        self.owner.say(ui.lesionGaveLabel, sizeText(parameters.size))

    def onSegmentChosen(self, name):
        parameters = self.owner.parameters
        if self._updating or parameters is None:
            return
        from IRAILib.scene.nodes import SegmentRef

        selector = self.selectors[name]
        node, segmentID = selector.currentNode(), selector.currentSegmentID()
        chooseSegment(parameters, name, SegmentRef(node, segmentID) if node else None)
        self.problem = ""
        self.owner.refresh()

    def onSample(self):
        self.problem, parameters = "", self.owner.parameters
        with self.owner.attempt(_("The sample could not be made."), part=self), self.sampleRun as run:
            self.owner.logic.trySample(parameters, progress=run.progress, cancelled=run.cancelled)
            self.owner.logic.measureLesion(parameters)
            self.showLesion(parameters)
        self.owner.refresh()

    def onSegment(self):
        self.problem = ""
        with self.owner.attempt(_("Segmentation from clicks failed."), part=self, waitCursor=True):
            self.owner.logic.segmentFromClicks(self.owner.parameters)
        self.owner.refresh()

    def onEditor(self):
        """Open the Segment Editor on the lesion's segmentation and the scan."""
        parameters = self.owner.parameters
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.SegmentEditorWidget.editor
        if parameters.lesionSegmentation is not None:
            editor.setSegmentationNode(parameters.lesionSegmentation)
        if parameters.volume is not None:
            editor.setSourceVolumeNode(parameters.volume)

    def onMeasure(self):
        self.problem = ""
        with self.owner.attempt(_("The lesion could not be measured."), part=self, waitCursor=True):
            self.owner.logic.measureLesion(self.owner.parameters)
            self.showLesion(self.owner.parameters)
        self.owner.refresh()

    def onRegions(self, action):
        self.regionsProblem, self.problem = "", ""
        with self.owner.attempt(_("The parts could not be made."), part=self), self.regionsRun as run:
            getattr(self.owner.logic, action)(self.owner.parameters, progress=run.progress, cancelled=run.cancelled)
        self.regionsProblem, self.problem = self.problem, ""
        self.owner.refresh()

    @staticmethod
    def showLesion(parameters):
        from IRAILib.scene.biopsy_pictures import show_lesion

        show_lesion(caseFrom(parameters))
