"""The six steps as one panel: holds the parameter node, asks every part to update itself, shows what went wrong."""

import contextlib

import slicer
import vtk
from slicer.i18n import tr as _

from .FeaturesPart import FeaturesPart
from .LesionPart import LesionPart
from .ModelPart import ModelPart
from .ReportPart import ReportPart
from .ScoresPart import ScoresPart
from .TrainPart import TrainPart


class Panel:
    def __init__(self, ui, logic, notice):
        self.ui, self.logic = ui, logic
        self.parameters = None
        self.busy = False
        self.runs = []
        self._guiTag = self._observer = None
        self._refreshing = False
        self._revealed = {}
        self.say(ui.noticeLabel, notice)
        ui.installButton.hide()
        ui.installButton.connect("clicked(bool)", lambda *_args: self.onInstall())
        self.lesion, self.features, self.scores = LesionPart(self), FeaturesPart(self), ScoresPart(self)
        self.model, self.train, self.report = ModelPart(self), TrainPart(self), ReportPart(self)
        self.refresh()

    @property
    def parts(self):
        return self.lesion, self.features, self.scores, self.model, self.train, self.report

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
        """Bring every step up to date with the parameter node and the scene."""
        if self._refreshing:
            return
        for section in (self.ui.lesionCollapsibleButton, self.ui.featuresCollapsibleButton,
                        self.ui.scoresCollapsibleButton, self.ui.modelCollapsibleButton,
                        self.ui.trainCollapsibleButton, self.ui.reportCollapsibleButton):
            section.setEnabled(self.parameters is not None)
        if self.parameters is None:
            return
        self._refreshing = True
        try:
            for part in self.parts:
                part.update(self.parameters)
        finally:
            self._refreshing = False

    def setBusy(self, busy):
        """While a job runs only Cancel can be pressed."""
        self.busy = busy
        self.refresh()

    def cancelRuns(self):
        """Whatever runs is asked to stop."""
        for run in self.runs:
            run.cancel()

    @contextlib.contextmanager
    def attempt(self, failure, part=None, waitCursor=False):
        """What goes wrong in a button: a refusal, a cancel or bad input is said in the panel, the rest in Slicer's
        error box."""
        from IRAILib.geometry import CancelledError, InputError, MissingPackageError, RefusedError

        with slicer.util.tryWithErrorDisplay(failure, waitCursor=waitCursor):
            try:
                yield
            except CancelledError:
                self._note(part, _("Cancelled. The scene is as it was."))
            except MissingPackageError as problem:
                self._note(part, str(problem) + " " + _("Or press 'Install what is missing' above."))
                self.ui.installButton.show()
            except (RefusedError, InputError) as problem:
                self._note(part, str(problem))

    def onInstall(self):
        """Get the packages; the step that missed one is pressed again by the user."""
        from .Packages import installPackages

        with slicer.util.tryWithErrorDisplay(_("The packages could not be installed."), waitCursor=True):
            installPackages()
            self.ui.installButton.hide()
            for part in self.parts:
                part.problem = ""
        self.refresh()

    @staticmethod
    def _note(part, text):
        if part is not None:
            part.problem = text
        else:
            slicer.util.showStatusMessage(text, 5000)

    def reveal(self, widget, shown):
        """Show a widget when that is to change (one that is folded away stays folded), hide it whenever it is there."""
        if not shown or self._revealed.get(id(widget)) != shown:
            widget.setVisible(shown)
        self._revealed[id(widget)] = shown

    @staticmethod
    def say(label, text):
        """Show a text, and take no room when there is none."""
        if label.text != text:
            label.setText(text)
        label.setVisible(bool(text))
