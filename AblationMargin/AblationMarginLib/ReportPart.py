"""Step 5: the result as files."""

import pathlib

import qt
from slicer.i18n import tr as _

from .Presenters import reportView

REPORT = "report.html"


class ReportPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.ui.reportButton.connect("clicked(bool)", self.onReport)
        self.ui.openReportButton.connect("clicked(bool)", self.onOpen)
        self.written = ""
        self.status = ""

    def update(self, parameters):
        view = reportView(parameters)
        self.ui.reportButton.setEnabled(view.ready and not self.owner.busy)
        self.ui.reportButton.setToolTip(view.needs or _("Write the result and its pictures into the folder."))
        self.owner.say(self.ui.reportNeedsLabel, view.needs or self.status)
        self.owner.say(self.ui.reportGaveLabel, self.written)
        self.ui.openReportButton.setEnabled((pathlib.Path(parameters.reportFolder or ".") / REPORT).is_file())
        return view

    def onReport(self):
        self.written = self.status = ""
        with self.owner.attempt(_("The report could not be written."), part=self, waitCursor=True):
            files = self.owner.logic.writeReport(self.owner.parameters)
            self.written = _("Written: {files}").format(files=", ".join(path.name for path in files))
        self.owner.refresh()

    def onOpen(self):
        path = pathlib.Path(self.owner.parameters.reportFolder) / REPORT
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))
