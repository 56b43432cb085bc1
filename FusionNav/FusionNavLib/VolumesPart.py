"""Step 1: the volumes that the plan was made on, and what must not be hit."""

from slicer.i18n import tr as _

from .Presenters import volumesView


class VolumesPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.ui.sampleButton.connect("clicked(bool)", self.onSample)
        self.problem = ""

    def update(self, parameters, state):
        view = volumesView(parameters, self.owner.logic.session)
        self.ui.sampleButton.setEnabled(not self.owner.busy)
        self.owner.say(self.ui.volumesNeedsLabel, self.problem or view.needs)
        self.owner.say(self.ui.volumesGaveLabel, view.gave)

    def onSample(self):
        self.problem = ""
        with self.owner.attempt(_("The sample could not be made."), part=self, waitCursor=True):
            self.owner.logic.trySample(self.owner.parameters)
        self.owner.refresh()
