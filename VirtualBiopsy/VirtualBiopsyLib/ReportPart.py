"""Step 6: the page for the tumour board, and the way back from a number to its node."""

import contextlib

import qt
import slicer
from slicer.i18n import tr as _

from .Parameters import pathOf
from .Presenters import caseOrNone, reportView

PAGE = "board.html"


class ReportPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.ui.reportButton.connect("clicked(bool)", self.onReport)
        self.ui.openReportButton.connect("clicked(bool)", self.onOpen)
        self.ui.showSourceButton.connect("clicked(bool)", self.onShow)
        self.written = self.problem = ""

    def update(self, parameters):
        view = reportView(parameters)
        self.ui.reportButton.setEnabled(view.ready and not self.owner.busy)
        self.ui.reportButton.setToolTip(view.needs or _("Write board.html and board.json into the folder."))
        folder = pathOf(parameters.reportFolder)
        self.ui.openReportButton.setEnabled(folder is not None and (folder / PAGE).is_file())
        self.fillSources(parameters)
        self.ui.showSourceButton.setEnabled(bool(self.ui.sourceSelector.count or parameters.link.strip()))
        self.owner.say(self.ui.reportNeedsLabel, self.problem or view.needs)
        self.owner.say(self.ui.reportGaveLabel, self.written)

    def fillSources(self, parameters):
        """The nodes that the page's numbers come from; none while nothing was made."""
        from IRAILib.geometry import IRAIError
        from IRAILib.scene.biopsy_board import board_sources

        entries, case = [], caseOrNone(parameters)
        if case is not None and not self.owner.busy:
            with contextlib.suppress(IRAIError):  # nothing made yet, or the lesion is empty: step 1 says so
                entries = [(f"{n}  {source.role}: {source.name}", source.link) for n, source in enumerate(
                    board_sources(case, self.owner.logic.records(parameters)), start=1)]
        selector = self.ui.sourceSelector
        if [(selector.itemText(n), selector.itemData(n)) for n in range(selector.count)] != entries:
            selector.clear()
            for text, link in entries:
                selector.addItem(text, link)

    def onReport(self):
        self.written = self.problem = ""
        with self.owner.attempt(_("The page could not be written."), part=self, waitCursor=True):
            files = self.owner.logic.writeBoard(self.owner.parameters)
            self.written = _("Written: {files}").format(files=", ".join(path.name for path in files))
        self.owner.refresh()

    def onOpen(self):
        path = pathOf(self.owner.parameters.reportFolder) / PAGE
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))

    def onShow(self):
        self.problem = ""
        selector = self.ui.sourceSelector
        link = self.owner.parameters.link.strip() or selector.itemData(selector.currentIndex)
        with self.owner.attempt(_("The node can't be shown."), part=self):
            found, item = self.owner.logic.findSource(link)
            self.written = _("Selected: {name}").format(name=found.node.GetName()) + (
                " " + _("(changed since that number)") if found.changed else "")
            self.showInData(item)
        self.owner.refresh()

    @staticmethod
    def showInData(item):
        """Open the Data module on that item, where there is a desktop."""
        from IRAILib.headless import is_desktop

        slicer.util.selectModule("Data")
        if is_desktop() and item:
            page = slicer.modules.data.widgetRepresentation()
            for tree in slicer.util.findChildren(page, className="qMRMLSubjectHierarchyTreeView"):
                tree.setCurrentItem(item)
