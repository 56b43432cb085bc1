"""The six steps as one panel: a timer beats, the session works, every part shows what it says."""

import contextlib

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from .LinkPart import LinkPart
from .LivePart import LivePart
from .PicturePart import PicturePart
from .PlanPart import PlanPart
from .RecordPart import RecordPart
from .RobotPart import RobotPart

BEAT_MS = 33
"""Thirty times a second: under the half second in which a lost tool must be seen as lost, over what an eye follows."""
SHOW_EVERY = 3
"""The texts are renewed every third beat; the needle in the views every beat."""


class Panel:
    def __init__(self, ui, logic, notice):
        self.ui, self.logic = ui, logic
        self.parameters = None
        self.busy = False
        self._guiTag = self._observer = None
        self._refreshing = False
        self._beats = 0
        self.say(ui.noticeLabel, notice)
        self.link, self.picture, self.live = LinkPart(self), PicturePart(self), LivePart(self)
        self.plan, self.record, self.robot = PlanPart(self), RecordPart(self), RobotPart(self)
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
        for section in (self.ui.linkCollapsibleButton, self.ui.modalityCollapsibleButton, self.ui.liveCollapsibleButton,
                        self.ui.planCollapsibleButton, self.ui.recordCollapsibleButton,
                        self.ui.robotCollapsibleButton):
            section.setEnabled(self.parameters is not None)
        self._refreshing = True
        try:
            self.robot.update(self.parameters)
            if self.parameters is None:
                return
            session = self.logic.openSession()
            session.plan = self.parameters.plan
            state = session.state()
            for part in (self.link, self.picture, self.live, self.plan, self.record):
                part.update(self.parameters, state)
        finally:
            self._refreshing = False

    def run(self):
        """Begin to beat."""
        if not self.timer.active:
            self.timer.start()

    def halt(self):
        """Stop beating, and let go of the robot's switch."""
        self.timer.stop()
        self.robot.letGo()

    def onBeat(self):
        """One beat: whatever fails is said in the panel once, and the next beat comes anyway."""
        self.robot.beat()
        try:
            self.logic.pump()
        except Exception as error:  # a beat that fails must not end the beating
            self.live.problem = str(error)
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
        if part is not None:
            part.problem = text
        else:
            slicer.util.showStatusMessage(text, 5000)

    @staticmethod
    def say(label, text):
        """Show a text, and take no room when there is none. A text that stays is not set again."""
        if label.text != text:
            label.setText(text)
        label.setVisible(bool(text))
