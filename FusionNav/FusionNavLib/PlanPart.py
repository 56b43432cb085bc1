"""Step 4: paths to the target, and the robot."""

import slicer
from IRAIExtensionLib.Tables import fillTable
from slicer.i18n import tr as _

from .Presenters import planNeeds, robotText
from .Runs import Run

PHASES = ("START_UP", "PLANNING", "CALIBRATION", "TARGETING", "MOVE_TO_TARGET", "MANUAL", "STOP")


class PlanPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.ui.planButton.connect("clicked(bool)", self.onPlan)
        self.ui.pedicleButton.connect("clicked(bool)", self.onPedicles)
        self.ui.skinMapButton.connect("clicked(bool)", self.onSkinMap)
        self.ui.planCancelButton.connect("clicked(bool)", lambda *_args: self.run.cancel())
        self.ui.proposalSelector.connect("currentIndexChanged(int)", self.onProposalChosen)
        self.ui.robotConnectButton.connect("clicked(bool)", self.onRobotConnect)
        self.ui.robotSendButton.connect("clicked(bool)", self.onRobotSend)
        self.ui.robotStopButton.connect("clicked(bool)", self.onRobotStop)
        for phase in PHASES:
            self.ui.phaseSelector.addItem(phase, phase)
        self.ui.phaseButton.connect("clicked(bool)", self.onPhase)
        self.ui.robotFrameButton.connect("clicked(bool)", self.onRobotFrame)
        self.run = Run(owner, self.ui.planProgressBar, self.ui.planGaveLabel)
        self._titles = self._rows = None
        self._updating = False
        self._target = None
        self.problem = self.gave = ""
        self.pedicles = ()

    def update(self, parameters, state):
        needs = planNeeds(parameters)
        self.ui.planButton.setEnabled(not needs and not self.owner.busy)
        idle = not self.owner.busy
        spine = bool(parameters.vertebra.strip()) and parameters.structures is not None
        self.ui.pedicleButton.setEnabled(idle and spine)
        self.ui.skinMapButton.setEnabled(idle and self.owner.logic.planner is not None)
        self.ui.planCancelButton.setEnabled(self.run.running)
        self.showProposals()
        self.owner.say(self.ui.planNeedsLabel, self.problem or (needs if parameters.plan is None else ""))
        if not self.run.running:
            self.owner.say(self.ui.planGaveLabel, self.gave)
        robot = self.owner.logic.robot
        robotState = robot.state() if robot is not None else None
        connected = bool(robotState and robotState["connected"])
        self.ui.robotConnectButton.setText(_("Connect") if robot is None else _("Disconnect"))
        self.ui.robotSendButton.setEnabled(connected and parameters.plan is not None)
        why = robot.why_not(self.ui.phaseSelector.currentText) if connected else _("Connect the robot first.")
        self.ui.phaseButton.setEnabled(not why)
        self.ui.phaseButton.setToolTip(why or _("Ask the robot for this phase."))
        self.ui.robotFrameButton.setEnabled(connected and parameters.robotFrame is not None)
        texts = (robotText(robotState), self.owner.logic.robotSays()) if robot is not None else ()
        self.owner.say(self.ui.robotLabel, "\n".join(text for text in texts if text))

    def showProposals(self):
        from IRAILib.scene.fusion_plan import path_rows, path_title

        planner = self.owner.logic.planner
        paths = planner.plan.paths if planner is not None and planner.plan is not None else ()
        titles = [path_title(number, path) for number, path in enumerate(paths)]
        self._updating = True
        try:
            if titles != self._titles:
                self._titles = titles
                self.ui.proposalSelector.clear()
                for number, title in enumerate(titles):
                    self.ui.proposalSelector.addItem(title, number)
        finally:
            self._updating = False
        self.owner.reveal(self.ui.proposalSelector, bool(paths))
        index = self.ui.proposalSelector.currentIndex
        rows = path_rows(paths[index]) if paths and 0 <= index < len(paths) else []
        rows = list(self.pedicles) or rows
        self.owner.reveal(self.ui.pathTable, bool(rows))
        if rows != self._rows:
            self._rows = rows
            fillTable(self.ui.pathTable, [_("Quantity"), _("Value")], rows, stretch=1)

    def beat(self, parameters):
        """Rank again when the target has moved since the last beat."""
        from IRAILib.scene.nodes import points_from_markups

        points = points_from_markups(parameters.target)
        key = tuple(points[0].tolist()) if len(points) else None
        moved, self._target = key != self._target and self._target is not None, key
        if not moved or not parameters.liveRank or self.owner.busy:
            return
        with self.owner.attempt(_("The paths could not be ranked again."), part=self):
            self.problem = ""
            self.owner.logic.rankAgain(parameters)

    def onPlan(self):
        self.problem = self.gave = ""
        self.pedicles = ()
        with self.run, self.owner.attempt(_("No path was proposed."), part=self):
            plan = self.owner.logic.proposePaths(self.owner.parameters, self.run.progress, self.run.cancelled)
            self.gave = _("{n} paths that differ. Validated on: {on}.").format(n=len(plan.paths), on=plan.validated_on)
        self.owner.refresh()

    def onPedicles(self):
        self.problem = self.gave = ""
        with self.run, self.owner.attempt(_("No way through the pedicles was found."), part=self):
            self.pedicles = tuple(self.owner.logic.planPedicles(self.owner.parameters, self.run.progress,
                                                                self.run.cancelled))
        self.owner.refresh()

    def onSkinMap(self):
        self.problem = self.gave = ""
        with self.owner.attempt(_("The skin map can't be shown."), part=self, waitCursor=True):
            self.owner.logic.showSkinMap()
        self.owner.refresh()

    def onProposalChosen(self, index):
        if self._updating or index < 0 or self.owner.parameters is None:
            return
        with self.owner.attempt(_("The path can't be shown."), part=self):
            self.owner.logic.choosePath(self.owner.parameters, index)
        self.owner.refresh()

    def onRobotConnect(self):
        self.problem = ""
        with self.owner.attempt(_("The robot can't be connected."), part=self):
            if self.owner.logic.robot is None:
                self.owner.logic.connectRobot(self.owner.parameters)
            else:
                self.owner.logic.disconnectRobot()
        self.owner.refresh()

    def onPhase(self):
        self.problem = ""
        with self.owner.attempt(_("The robot can't be asked for this phase."), part=self):
            self.owner.logic.askRobot(self.ui.phaseSelector.currentText)
        self.owner.refresh()

    def onRobotFrame(self):
        self.problem = ""
        with self.owner.attempt(_("The robot's frame was not sent."), part=self):
            self.owner.logic.sendRobotFrame(self.owner.parameters)
        self.owner.refresh()

    def onRobotSend(self):
        """Checks first; the user confirms what the checks say; only then it goes out."""
        self.problem = self.gave = ""
        with self.owner.attempt(_("The path was not sent."), part=self):
            prepared = self.owner.logic.prepareRobot(self.owner.parameters)
            agreed = slicer.util.confirmOkCancelDisplay(prepared.question, windowTitle=_("Send the path to the robot?"))
            self.gave = _("Sent: {what}").format(what=self.owner.logic.sendRobot(prepared, bool(agreed)))
        self.owner.refresh()

    def onRobotStop(self):
        """No question, no error box: stop first, then say what became of it."""
        left = self.owner.logic.stopRobot()
        self.problem = "" if left or self.owner.logic.robot is None else _(
            "The stop did not reach the robot: there is no connection. Use the robot's own stop button.")
        self.owner.refresh()
