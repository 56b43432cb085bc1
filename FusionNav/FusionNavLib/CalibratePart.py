"""Step 2, second half: probe, clocks, tip and shaft; and the chain of every transform."""

from IRAIExtensionLib.Tables import fillTable
from slicer.i18n import tr as _

from .Parameters import REPLAY
from .Presenters import calibrationText, chainText


class CalibratePart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.ui.useCalibrationButton.connect("clicked(bool)", self.onUse)
        self.ui.senderCalibrationButton.connect("clicked(bool)", self.onSender)
        self.ui.lagButton.connect("clicked(bool)", self.onLag)
        self.ui.collectButton.connect("toggled(bool)", self.onCollect)
        self.ui.pivotButton.connect("clicked(bool)", lambda *_args: self.onTool("pivot"))
        self.ui.spinButton.connect("clicked(bool)", lambda *_args: self.onTool("spin"))
        self.ui.toolSelector.connect("currentIndexChanged(int)", self.onToolChosen)
        self._tools = self._rows = None
        self._updating = False
        self.problem = self.gave = ""

    def update(self, parameters, state):
        session = self.owner.logic.session
        self.fillTools(parameters, session)
        collected, collecting = session.collected, session.collecting
        idle = not self.owner.busy
        self.ui.useCalibrationButton.setEnabled(str(parameters.calibration or ".") != "." and idle)
        self.ui.senderCalibrationButton.setEnabled(session.live.calibration is not None)
        self.ui.lagButton.setEnabled(parameters.source == REPLAY and str(parameters.recording or ".") != "." and idle)
        self.ui.collectButton.setEnabled(state.connected and bool(parameters.tool))
        self.ui.collectButton.setText(_("{n} poses, end").format(n=len(collected)) if collecting else
                                      _("Collect poses"))
        for button in (self.ui.pivotButton, self.ui.spinButton):
            button.setEnabled(bool(collected) and not collecting and idle)
        self.owner.say(self.ui.calibrateNeedsLabel, self.problem or state.calibration_problem)
        texts = (self.gave, calibrationText(state, session))
        self.owner.say(self.ui.calibrateGaveLabel, "\n".join(text for text in texts if text))
        self.showChain(state)

    def showChain(self, state):
        self.owner.reveal(self.ui.chainTable, bool(state.rows))
        if state.rows != self._rows:
            self._rows = state.rows
            verdicts = ["good" if row[4] == "OK" else "bad" for row in state.rows]
            fillTable(self.ui.chainTable, [_("From"), _("To"), _("Age"), _("Error"), _("Status")], state.rows, verdicts,
                      stretch=4)
        self.owner.say(self.ui.chainLabel, chainText(state) if state.rows else "")

    def fillTools(self, parameters, session):
        """List what is tracked now; the first entry is none."""
        names = session.tool_names()
        if parameters.tool and parameters.tool not in names:
            names = [*names, parameters.tool]
        self._updating = True
        try:
            if names != self._tools:
                self._tools = list(names)
                self.ui.toolSelector.clear()
                self.ui.toolSelector.addItem(_("None"), "")
                for name in names:
                    self.ui.toolSelector.addItem(name, name)
            self.ui.toolSelector.setCurrentIndex(max(self.ui.toolSelector.findData(parameters.tool), 0))
        finally:
            self._updating = False

    def onToolChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.tool = self.ui.toolSelector.itemData(index) or ""

    def onUse(self):
        self.problem = self.gave = ""
        with self.owner.attempt(_("The calibration can't be used."), part=self):
            self.owner.logic.useCalibration(self.owner.parameters)
        self.owner.refresh()

    def onSender(self):
        self.problem = self.gave = ""
        self.owner.logic.useSendersCalibration()
        self.owner.refresh()

    def onLag(self):
        self.problem = self.gave = ""
        with self.owner.attempt(_("The lag could not be found."), part=self, waitCursor=True):
            found = self.owner.logic.findLag(self.owner.parameters)
            self.gave = _("Lag {lag:.1f} ± {sigma:.1f} ms. Validated on: {on}.").format(
                lag=1000 * found.lag_s, sigma=1000 * found.sigma_s, on=found.validated_on)
        self.owner.refresh()

    def onCollect(self, checked):
        self.problem = ""
        session = self.owner.logic.session
        if session is None:
            return
        with self.owner.attempt(_("Poses can't be collected."), part=self):
            if checked:
                session.start_collecting()
            else:
                session.stop_collecting()
        self.owner.refresh()

    def onTool(self, what):
        self.problem = self.gave = ""
        with self.owner.attempt(_("The tool could not be calibrated."), part=self):
            self.gave = self.owner.logic.calibrateTool(what)
            self.owner.logic.session.forget_poses()
            self.ui.collectButton.setChecked(False)
        self.owner.refresh()
