"""The six steps as one panel: a timer beats, the session works, every part shows what it says."""

import contextlib

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from .CalibratePart import CalibratePart
from .CArmPart import CArmPart
from .GuidePart import GuidePart
from .LinkPart import LinkPart
from .PlanPart import PlanPart
from .RegisterPart import RegisterPart
from .VolumesPart import VolumesPart

BEAT_MS = 33
"""Thirty times a second: under the half second in which a lost tool must be seen as lost, over what an eye follows."""
SHOW_EVERY = 3
"""The texts are renewed every third beat; the live slice in the views every beat."""


class Panel:
    def __init__(self, ui, logic, notice):
        self.ui, self.logic = ui, logic
        self.parameters = None
        self.busy = False
        self.runs = []
        self._revealed = {}
        self._guiTag = self._observer = None
        self._refreshing = False
        self._beats = 0
        self.say(ui.noticeLabel, notice)
        self.volumes, self.link, self.calibrate = VolumesPart(self), LinkPart(self), CalibratePart(self)
        self.register, self.plan, self.guide = RegisterPart(self), PlanPart(self), GuidePart(self)
        self.carm = CArmPart(self)
        self.timer = qt.QTimer()
        self.timer.setInterval(BEAT_MS)
        self.timer.connect("timeout()", self.onBeat)
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
        """Bring every step up to date with the parameter node and the session."""
        if self._refreshing:
            return
        for section in (self.ui.volumesCollapsibleButton, self.ui.linkCollapsibleButton,
                        self.ui.registerCollapsibleButton, self.ui.planCollapsibleButton,
                        self.ui.guideCollapsibleButton, self.ui.carmCollapsibleButton):
            section.setEnabled(self.parameters is not None)
        if self.parameters is None:
            return
        self._refreshing = True
        try:
            try:
                self.logic.apply(self.parameters)
            except Exception as error:  # structures that can't be read: said, and the numbers go on being renewed
                self.guide.problem = str(error)
            state = self.logic.openSession().state()
            for part in (self.volumes, self.link, self.calibrate, self.register, self.plan, self.guide, self.carm):
                part.update(self.parameters, state)
        finally:
            self._refreshing = False

    def setBusy(self, busy):
        """A run begins or ends: its buttons wait meanwhile."""
        self.busy = busy
        self.refresh()

    def cancelRuns(self):
        """Whatever runs is asked to stop."""
        for run in self.runs:
            run.cancel()

    def run(self):
        """Begin to beat."""
        if not self.timer.active:
            self.timer.start()

    def halt(self):
        """Stop beating, and whatever runs."""
        self.timer.stop()
        self.cancelRuns()

    def onBeat(self):
        """One beat: whatever fails is said in the panel once, and the next beat comes anyway."""
        try:
            fresh = self.logic.pump()
            if self.parameters is not None:
                self.plan.beat(self.parameters)
                self.logic.drawRings(self.parameters)
                self.logic.renewPathOnXray(self.parameters)
                if fresh or self._beats % SHOW_EVERY == 0:
                    self.guide.follow(self.parameters)
            if fresh:
                self.guide.problem = ""
        except Exception as error:  # a beat that fails must not end the beating
            self.guide.problem = str(error)
        self._beats += 1
        if self._beats % SHOW_EVERY == 0:
            self.refresh()

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
        if hasattr(part, "note"):
            part.note(text)
        elif part is not None:
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
        """Show a text, and take no room when there is none. A text that stays is not set again."""
        if label.text != text:
            label.setText(text)
        label.setVisible(bool(text))
