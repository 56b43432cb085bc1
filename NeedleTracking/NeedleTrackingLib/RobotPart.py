"""Step 6: the robot, its dead-man switch and its emergency stop."""

import qt
import slicer
from slicer.i18n import tr as _

from .Presenters import emergencyText, robotText

STOP_KEY = "F12"
PHASES = ("START_UP", "PLANNING", "CALIBRATION", "TARGETING", "MOVE_TO_TARGET", "MANUAL", "STOP")


class RobotPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        for phase in PHASES:
            self.ui.phaseSelector.addItem(phase, phase)
        self.ui.emergencyStopButton.connect("clicked(bool)", self.onEmergencyStop)
        self.ui.robotConnectButton.connect("clicked(bool)", self.onConnect)
        self.ui.robotDisconnectButton.connect("clicked(bool)", self.onDisconnect)
        self.ui.phaseButton.connect("clicked(bool)", self.onPhase)
        self.ui.resetEmergencyButton.connect("clicked(bool)", self.onReset)
        self.ui.deadManButton.connect("pressed()", self.onPressed)
        self.ui.deadManButton.connect("released()", self.onReleased)
        self.problem = ""
        self.shortcut = None

    def listen(self):
        """Make the key stop the robot, in every module and window."""
        if self.shortcut is None:
            parent = slicer.util.mainWindow() or self.ui.emergencyStopButton.window()
            self.shortcut = qt.QShortcut(qt.QKeySequence(STOP_KEY), parent)
            self.shortcut.setContext(qt.Qt.ApplicationShortcut)
            self.shortcut.connect("activated()", self.onEmergencyStop)

    def deafen(self):
        """The module goes: the key is free again."""
        if self.shortcut is not None:
            self.shortcut.disconnect("activated()", self.onEmergencyStop)
            self.shortcut.deleteLater()
            self.shortcut = None

    def update(self, parameters):
        robot = self.owner.logic.robot
        state = robot.state() if robot is not None else None
        connected = bool(state and state["connected"])
        self.ui.robotConnectButton.setEnabled(parameters is not None and robot is None)
        self.ui.robotDisconnectButton.setEnabled(robot is not None)
        why = robot.why_not(self.ui.phaseSelector.currentText) if connected else _("Connect the robot first.")
        self.ui.phaseButton.setEnabled(not why)
        self.ui.phaseButton.setToolTip(why or _("Ask the robot for this phase."))
        self.ui.resetEmergencyButton.setEnabled(bool(state and state["emergency"]))
        self.ui.deadManButton.setEnabled(connected)
        self.owner.say(self.ui.robotStateLabel, robotText(state))
        self.owner.say(self.ui.robotNeedsLabel, self.problem)
        self.owner.say(self.ui.emergencyLabel, emergencyText(state))

    def beat(self):
        """While the switch is down it is confirmed at every beat: a window that hangs lets go by itself."""
        robot = self.owner.logic.robot
        if robot is None:
            return
        if self.ui.deadManButton.down and self.ui.deadManButton.enabled:
            robot.hold()
        else:
            robot.release()

    def letGo(self):
        if self.owner.logic.robot is not None:
            self.owner.logic.robot.release()

    def onPressed(self):
        if self.owner.logic.robot is not None:
            self.owner.logic.robot.hold()

    def onReleased(self):
        self.letGo()

    def onEmergencyStop(self):
        """No question, no error box: stop first, then say what became of it."""
        left = self.owner.logic.emergencyStop()
        self.problem = "" if left or self.owner.logic.robot is None else _(
            "The stop did not reach the robot: there is no connection. Use the robot's own stop button.")
        self.owner.refresh()

    def onConnect(self):
        self.problem = ""
        with self.owner.attempt(_("The robot can't be connected."), part=self):
            self.owner.logic.connectRobot(self.owner.parameters)
        self.owner.refresh()

    def onDisconnect(self):
        self.problem = ""
        with self.owner.attempt(_("The robot can't be disconnected."), part=self):
            self.owner.logic.disconnectRobot()
        self.owner.refresh()

    def onPhase(self):
        self.problem = ""
        with self.owner.attempt(_("The robot can't be asked for this phase."), part=self):
            self.owner.logic.robot.request(self.ui.phaseSelector.currentText)
        self.owner.refresh()

    def onReset(self):
        self.problem = ""
        with self.owner.attempt(_("The robot stays locked."), part=self):
            self.owner.logic.robot.unlock()
        self.owner.refresh()
