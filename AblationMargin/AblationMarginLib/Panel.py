"""The five steps as one panel: holds the parameter node, asks every part to update itself, shows what went wrong."""

import contextlib

import slicer
import vtk
from slicer.i18n import tr as _

from .CasePart import CasePart
from .MarginPart import MarginPart
from .RegisterPart import RegisterPart
from .ReportPart import ReportPart
from .ZonePart import ZonePart


class Panel:
    def __init__(self, ui, logic, notice):
        self.ui, self.logic = ui, logic
        self.parameters = None
        self.busy = False
        self._guiTag = self._observer = None
        self._refreshing = False
        self.say(ui.noticeLabel, notice)
        self.case, self.zone = CasePart(self), ZonePart(self)
        self.register, self.margin, self.report = RegisterPart(self), MarginPart(self), ReportPart(self)
        self.refresh()

    def setParameters(self, parameters):
        """Show another parameter node, or none (the scene closes, the module is left)."""
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
            self.parameters.RemoveObserver(self._observer)
        self.parameters = parameters
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            self._observer = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_args: self.refresh())
        self.refresh()

    def refresh(self):
        """Bring every step up to date with the parameter node."""
        if self._refreshing:
            return
        for section in (self.ui.caseCollapsibleButton, self.ui.zoneCollapsibleButton,
                        self.ui.registerCollapsibleButton, self.ui.marginCollapsibleButton,
                        self.ui.reportCollapsibleButton):
            section.setEnabled(self.parameters is not None)
        if self.parameters is None:
            return
        self._refreshing = True
        try:
            case = self.case.update(self.parameters)
            zone = self.zone.update(self.parameters)
            self.register.update(self.parameters, case, zone)
            self.margin.update(self.parameters, zone)
            self.report.update(self.parameters)
        finally:
            self._refreshing = False

    def setBusy(self, busy):
        """While a job runs only Cancel can be pressed."""
        self.busy = busy
        self.refresh()

    def cancel(self):
        """Stop the job that runs, if any."""
        self.register.cancel()

    @contextlib.contextmanager
    def attempt(self, failure, part=None, waitCursor=False):
        """What goes wrong in a button: a refusal or a cancel is said in the panel, the rest in Slicer's error box."""
        from IRAILib.geometry import CancelledError, RefusedError

        with slicer.util.tryWithErrorDisplay(failure, waitCursor=waitCursor):
            try:
                yield
            except CancelledError:
                self._note(part, _("Cancelled. The scene is as it was."))
            except RefusedError as refusal:
                self._note(part, str(refusal))

    def _note(self, part, text):
        if part is not None:
            part.status = text
        else:
            slicer.util.showStatusMessage(text, 5000)

    @staticmethod
    def say(label, text):
        """Show a text, and take no room when there is none."""
        label.setText(text)
        label.setVisible(bool(text))
