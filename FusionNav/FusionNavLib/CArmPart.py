"""Step 6: the volume under the C-arm; every result with its verdict in words and colour."""

from IRAIExtensionLib.Tables import fillTable
from slicer.i18n import tr as _

from .Presenters import BAD, GOOD, LINE_STYLES
from .Runs import Run


class CArmPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.ui.loadRunButton.connect("clicked(bool)", self.onLoad)
        self.ui.takeFrameButton.connect("clicked(bool)", self.onTake)
        self.ui.bullsEyeAnglesButton.connect("clicked(bool)", self.onAngles)
        self.ui.drrButton.connect("clicked(bool)", self.onDrr)
        self.ui.xrayRegisterButton.connect("clicked(bool)", self.onRegister)
        self.ui.xrayCancelButton.connect("clicked(bool)", lambda *_args: self.run.cancel())
        self.ui.dsaButton.connect("clicked(bool)", self.onDsa)
        self.ui.vesselsButton.connect("clicked(bool)", self.onVessels)
        self.ui.frameSlider.connect("valueChanged(double)", self.onFrame)
        self.run = Run(owner, self.ui.xrayProgressBar, self.ui.xrayProgressLabel)
        self._updating = False
        self._rows = None
        self.rows = ()
        self.problem = self.gave = self.verdict = ""
        self.accepted = False

    def update(self, parameters, state):
        ui, idle = self.ui, not self.owner.busy
        frame, volume = parameters.xray is not None, parameters.volume1 is not None
        run = self.owner.logic.xrayRun
        own = run is not None and frame and parameters.xray.GetID() == run[0]
        ui.loadRunButton.setEnabled(idle and str(parameters.xrayFile or ".") != ".")
        ui.takeFrameButton.setEnabled(idle and state.connected)
        ui.bullsEyeAnglesButton.setEnabled(idle and parameters.plan is not None)
        ui.drrButton.setEnabled(idle and volume)
        ui.xrayRegisterButton.setEnabled(idle and volume and frame)
        ui.xrayCancelButton.setEnabled(self.run.running)
        ui.dsaButton.setEnabled(idle and own)
        ui.vesselsButton.setEnabled(idle and frame)
        self._updating = True
        last = len(run[1].frames) - 1 if own else 0
        if ui.frameSlider.maximum != max(last, 1):
            ui.frameSlider.maximum = max(last, 1)
        self._updating = False
        for widget in (ui.frameSlider, ui.frameSliderLabel):
            widget.setVisible(own and last > 0)
        self.owner.say(ui.verdictLabel, self.verdict)
        ui.verdictLabel.setStyleSheet(LINE_STYLES[GOOD if self.accepted else BAD])
        self.owner.reveal(ui.carmTable, bool(self.rows))
        if self.rows != self._rows:
            self._rows = self.rows
            fillTable(ui.carmTable, [_("Quantity"), _("Value")], [(_(a), b) for a, b in self.rows], stretch=1)
        needs = "" if volume or frame else _("Choose the CT in step 1, and an X-ray frame or a run here.")
        self.owner.say(ui.carmNeedsLabel, self.problem or needs)
        self.owner.say(ui.carmGaveLabel, self.gave)

    def begin(self):
        self.problem = self.gave = self.verdict = ""
        self.rows = ()

    def onLoad(self):
        self.begin()
        with self.owner.attempt(_("The run could not be loaded."), part=self, waitCursor=True):
            self.gave = "\n".join(self.owner.logic.loadRun(self.owner.parameters))
        self.owner.refresh()

    def onTake(self):
        self.begin()
        with self.owner.attempt(_("The C-arm's frame could not be taken."), part=self):
            self.gave = self.owner.logic.takeLiveFrame(self.owner.parameters)
            self.show(self.owner.parameters.xray)
        self.owner.refresh()

    def onAngles(self):
        self.begin()
        with self.owner.attempt(_("The angles could not be found."), part=self):
            self.rows = tuple(self.owner.logic.anglesForPath(self.owner.parameters))
        self.owner.refresh()

    def onDrr(self):
        self.begin()
        with self.run, self.owner.attempt(_("The DRR could not be computed."), part=self):
            logic, parameters = self.owner.logic, self.owner.parameters
            node = logic.drr(parameters, self.run.progress, self.run.cancelled)
            self.gave = " ".join((_("Computed: {name}.").format(name=node.GetName()),
                                  logic.drawPathOnXray(parameters, node))).strip()
            self.show(node)
        self.owner.refresh()

    def onRegister(self):
        self.begin()
        with self.run, self.owner.attempt(_("The X-ray frame could not be registered."), part=self):
            logic, parameters = self.owner.logic, self.owner.parameters
            found = logic.registerXray(parameters, self.run.progress, self.run.cancelled)
            self.verdict, self.accepted, self.rows = found.text, found.accepted, found.rows
            if found.accepted:
                self.gave = logic.drawPathOnXray(parameters, parameters.xray)
                self.show(parameters.xray)
        self.owner.refresh()

    def onDsa(self):
        self.begin()
        with self.run, self.owner.attempt(_("The run could not be subtracted."), part=self):
            number = int(self.ui.frameSlider.value)
            self.rows = tuple(self.owner.logic.subtractRun(self.owner.parameters, number, self.run.progress,
                                                           self.run.cancelled))
        self.owner.refresh()

    def onVessels(self):
        self.begin()
        with self.run, self.owner.attempt(_("Vessels could not be looked for."), part=self):
            self.rows = tuple(self.owner.logic.findVessels(self.owner.parameters, self.run.progress,
                                                           self.run.cancelled))
        self.owner.refresh()

    def onFrame(self, value):
        if not self._updating and self.owner.parameters is not None and not self.owner.busy:
            with self.owner.attempt(_("The frame can't be shown."), part=self):
                self.owner.logic.showFrame(self.owner.parameters, value)

    def show(self, node):
        """The frame in the green view, seen from the detector; the live slice keeps the others."""
        from IRAILib.scene.fusion_eyes import show_frame

        show_frame(node)
