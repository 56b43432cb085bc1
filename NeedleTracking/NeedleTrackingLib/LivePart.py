"""Step 3: the needle now, in big letters that tell the truth."""

import slicer
from slicer.i18n import tr as _

from .Parameters import LIVE, MR_LIVE
from .Presenters import STATUS_STYLES, budgetText, liveView, planesText, rateText, sigmaText, statusWord, volumeText


class LivePart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.ui.startButton.connect("clicked(bool)", self.onStart)
        self.ui.stopButton.connect("clicked(bool)", self.onStop)
        self.problem = ""
        self.found = None
        self._style = None

    def update(self, parameters, state):
        live = parameters.modality in LIVE
        view = liveView(parameters, state, self.owner.logic)
        self.ui.startButton.setEnabled(view.ready)
        self.ui.startButton.setText(_("Start") if live else _("Find needles"))
        self.ui.startButton.setToolTip(view.needs or _("Follow the needle in the live pictures, or search the volume."))
        self.ui.stopButton.setVisible(live)
        self.ui.stopButton.setEnabled(state.tracking)
        self.ui.statusLabel.setVisible(live)
        if live:
            self.showStatus(state)
            self.owner.say(self.ui.sigmaLabel, sigmaText(state))
            self.owner.say(self.ui.ageLabel, rateText(state))
            self.owner.say(self.ui.budgetLabel, budgetText(state.budget))
        else:
            self.owner.say(self.ui.sigmaLabel, volumeText(self.found))
            self.owner.say(self.ui.ageLabel, "")
            self.owner.say(self.ui.budgetLabel, "")
        self.ui.planesCheckBox.setVisible(parameters.modality == MR_LIVE)
        self.owner.say(self.ui.planesLabel, planesText(state) if parameters.modality == MR_LIVE else "")
        self.owner.say(self.ui.liveNeedsLabel, self.problem or state.problem or view.needs)

    def showStatus(self, state):
        word, kind = statusWord(state)
        if self.ui.statusLabel.text != word:
            self.ui.statusLabel.setText(word)
        if kind != self._style:
            self._style = kind
            self.ui.statusLabel.setStyleSheet(STATUS_STYLES[kind])

    def onStart(self):
        self.problem = ""
        parameters = self.owner.parameters
        if parameters.modality in LIVE:
            with self.owner.attempt(_("The needle can't be followed."), part=self, waitCursor=True):
                self.owner.logic.startTracking(parameters)
        else:
            with self.owner.attempt(_("The volume could not be searched."), part=self, waitCursor=True):
                self.found = self.owner.logic.detectVolume(parameters, cancelled=self.keepAlive)
        self.owner.refresh()

    def onStop(self):
        self.owner.logic.stopTracking()
        self.owner.refresh()

    def keepAlive(self):
        """Asked by the job while it waits: keeps the window, and its stop button, alive."""
        slicer.app.processEvents()
        return False
