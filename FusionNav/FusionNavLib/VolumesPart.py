"""Step 1: the volumes that the plan was made on, and what must not be hit."""

from slicer.i18n import tr as _

from .Presenters import volumesView
from .Runs import Run


class VolumesPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.ui.sampleButton.connect("clicked(bool)", self.onSample)
        self.run = Run(owner, self.ui.sampleProgressBar, self.ui.sampleProgressLabel)
        self.problem = ""

    def update(self, parameters, state):
        view = volumesView(parameters, self.owner.logic.session)
        self.ui.sampleButton.setEnabled(self.run.running or not self.owner.busy)
        self.ui.sampleButton.setText(_("Cancel") if self.run.running else _("Try the sample"))
        self.owner.say(self.ui.volumesNeedsLabel, self.problem or view.needs)
        self.owner.say(self.ui.volumesGaveLabel, view.gave)

    def onSample(self):
        if self.run.running:
            self.run.cancel()
            return
        self.problem = ""
        with self.run, self.owner.attempt(_("The sample could not be made."), part=self):
            self.owner.logic.trySample(self.owner.parameters, self.run.progress, self.run.cancelled)
        self.owner.refresh()
