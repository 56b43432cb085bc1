"""Step 5: keep what comes, and the tips as a table."""

from slicer.i18n import tr as _

from .Presenters import recordView


class RecordPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.ui.recordButton.connect("clicked(bool)", self.onRecord)
        self.ui.stopRecordButton.connect("clicked(bool)", self.onStop)
        self.ui.saveTipsButton.connect("clicked(bool)", self.onSave)
        self.problem = self.gave = ""

    def update(self, parameters, state):
        view = recordView(parameters, state, self.owner.logic.session)
        self.ui.recordButton.setEnabled(view.ready and state.recording is None)
        self.ui.stopRecordButton.setEnabled(state.recording is not None)
        self.ui.saveTipsButton.setEnabled(bool(self.owner.logic.session.log))
        self.owner.say(self.ui.recordNeedsLabel, self.problem or view.needs)
        self.owner.say(self.ui.recordGaveLabel, view.gave or self.gave)

    def onRecord(self):
        self.problem = self.gave = ""
        with self.owner.attempt(_("The recording can't begin."), part=self):
            self.owner.logic.session.start_recording()
        self.owner.refresh()

    def onStop(self):
        with self.owner.attempt(_("The recording could not be ended."), part=self):
            browser = self.owner.logic.session.stop_recording()
            self.gave = (_("Recorded: {name}").format(name=browser.GetName()) if browser is not None
                         else _("Nothing came while recording: nothing was kept."))
        self.owner.refresh()

    def onSave(self):
        self.problem = self.gave = ""
        with self.owner.attempt(_("The tips could not be written."), part=self):
            count = self.owner.logic.saveTips(self.owner.parameters)
            self.gave = _("{n} tips written.").format(n=count)
        self.owner.refresh()
