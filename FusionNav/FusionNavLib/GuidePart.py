"""Step 5: the eyes, the numbers, the warning; record and save."""

import qt
from IRAIExtensionLib.Tables import fillTable
from slicer.i18n import tr as _

from .Parameters import BLEND, BULLSEYE, CHECKER, PATH, PROBE, SIDE, volumesOf
from .Presenters import LINE_STYLES, STATUS_STYLES, breachLine, guideNeeds, guideRows, sigmaText, statusWord
from .Runs import Run

TONE_EVERY_S = 1.5


class GuidePart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        for text, eye in ((_("Probe's eye"), PROBE), (_("Bull's eye"), BULLSEYE), (_("Down the path"), PATH)):
            self.ui.eyeSelector.addItem(text, eye)
        for text, mode in ((_("Side by side"), SIDE), (_("Blended"), BLEND), (_("Checkerboard"), CHECKER)):
            self.ui.modeSelector.addItem(text, mode)
        self.ui.eyeSelector.connect("currentIndexChanged(int)", self.onEyeChosen)
        self.ui.modeSelector.connect("currentIndexChanged(int)", self.onModeChosen)
        self.ui.guideVolumeSelector.connect("currentIndexChanged(int)", self.onVolumeChosen)
        self.ui.recordButton.connect("clicked(bool)", self.onRecord)
        self.ui.stopRecordButton.connect("clicked(bool)", self.onStop)
        self.ui.saveButton.connect("clicked(bool)", self.onSave)
        self.ui.sweepButton.connect("clicked(bool)", self.onSweep)
        self.run = Run(owner, self.ui.sweepProgressBar, self.ui.sweepProgressLabel)
        self._updating = False
        self._rows = self._style = self._lineStyle = self._volumes = None
        self._toned = float("-inf")
        self.tones = 0
        self.problem = self.recordProblem = self.gave = self.eyeProblem = ""

    def update(self, parameters, state):
        self.choose(parameters)
        self.showStatus(state)
        rows = guideRows(state)
        self.owner.reveal(self.ui.guideTable, bool(rows))
        if rows != self._rows:
            self._rows = rows
            fillTable(self.ui.guideTable, [_("Quantity"), _("Value")], rows, stretch=1)
        self.owner.say(self.ui.guideNeedsLabel, self.problem or state.problem or guideNeeds(parameters, state)
                       or self.eyeProblem)
        self.owner.say(self.ui.guideGaveLabel, sigmaText(state))
        self.ui.recordButton.setEnabled(state.connected and state.recording is None)
        self.ui.stopRecordButton.setEnabled(state.recording is not None)
        self.ui.saveButton.setEnabled(parameters.browser is not None)
        self.ui.sweepButton.setText(_("Cancel") if self.run.running else _("Volume of the session"))
        self.ui.sweepButton.setEnabled(self.run.running or (parameters.browser is not None and not self.owner.busy))
        text = self.gave if state.recording is None else _("Recording: {n} frames").format(n=state.recording)
        self.owner.say(self.ui.recordNeedsLabel, self.recordProblem)
        self.owner.say(self.ui.recordGaveLabel, text)
        self.sound(parameters, state)

    def note(self, text):
        """A refusal of record, save or volume: it stays until the next try, which the beat's own problems don't."""
        self.recordProblem = text

    def choose(self, parameters):
        volumes = [node.GetName() for node in volumesOf(parameters)]
        self._updating = True
        try:
            if volumes != self._volumes:
                self._volumes = volumes
                self.ui.guideVolumeSelector.clear()
                for number, name in enumerate(volumes):
                    self.ui.guideVolumeSelector.addItem(name, number)
            self.ui.guideVolumeSelector.setCurrentIndex(min(parameters.shownVolume, len(volumes) - 1))
            self.ui.eyeSelector.setCurrentIndex(max(self.ui.eyeSelector.findData(parameters.eye), 0))
            self.ui.modeSelector.setCurrentIndex(max(self.ui.modeSelector.findData(parameters.mode), 0))
        finally:
            self._updating = False

    def showStatus(self, state):
        word, kind = statusWord(state)
        self.owner.say(self.ui.statusLabel, word)
        if kind != self._style:
            self._style = kind
            self.ui.statusLabel.setStyleSheet(STATUS_STYLES[kind])
        self.owner.say(self.ui.treLabel, state.tre_text)
        text, kind = breachLine(state)
        self.owner.say(self.ui.breachLabel, text)
        if kind != self._lineStyle:
            self._lineStyle = kind
            self.ui.breachLabel.setStyleSheet(LINE_STYLES[kind])

    def sound(self, parameters, state):
        """A tone while a structure is near, two a beat while it is reached; silence where nothing is live."""
        _text, kind = breachLine(state)
        if not parameters.sound or kind not in ("warn", "bad"):
            return
        now = self.owner.logic.session.clock()
        if now - self._toned < (TONE_EVERY_S if kind == "warn" else TONE_EVERY_S / 3):
            return
        self._toned = now
        self.tones += 1
        qt.QApplication.beep()

    def follow(self, parameters):
        """Every beat: the views stand where the live slice and the path are."""
        if parameters.follow:
            self.eyeProblem = self.owner.logic.showEye(parameters)

    def onEyeChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.eye = self.ui.eyeSelector.itemData(index)

    def onModeChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.mode = self.ui.modeSelector.itemData(index)

    def onVolumeChosen(self, index):
        if not self._updating and self.owner.parameters is not None and index >= 0:
            self.owner.parameters.shownVolume = index

    def onRecord(self):
        self.recordProblem = self.gave = ""
        with self.owner.attempt(_("The recording can't begin."), part=self):
            self.owner.logic.session.start_recording()
        self.owner.refresh()

    def onStop(self):
        with self.owner.attempt(_("The recording could not be ended."), part=self):
            browser = self.owner.logic.session.stop_recording()
            if browser is not None:
                self.owner.parameters.browser = browser
            self.gave = (_("Recorded: {name}. Play it as a session in step 2.").format(name=browser.GetName())
                         if browser is not None else _("Nothing came while recording: nothing was kept."))
        self.owner.refresh()

    def onSweep(self):
        if self.run.running:
            self.run.cancel()
            return
        self.recordProblem = self.gave = ""
        with self.run, self.owner.attempt(_("The volume could not be made."), part=self):
            self.gave = self.owner.logic.reconstructSession(self.owner.parameters, self.run.progress,
                                                            self.run.cancelled)
        self.owner.refresh()

    def onSave(self):
        self.recordProblem = self.gave = ""
        with self.owner.attempt(_("The session could not be written."), part=self):
            count = self.owner.logic.saveSession(self.owner.parameters)
            self.gave = _("{n} frames written.").format(n=count)
        self.owner.refresh()

