"""Step 3: the tracker in the volume, by landmarks or what else; its error is always on screen."""

from IRAIExtensionLib.Tables import fillTable
from slicer.i18n import tr as _

from .Parameters import GIVEN, LANDMARKS, REFINE, VOLUMES
from .Presenters import registerView
from .Runs import Run


class RegisterPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        for text, method in ((_("Landmarks"), LANDMARKS), (_("Transform of the scene"), GIVEN),
                             (_("Second volume into the first (CT, MR, PET)"), VOLUMES),
                             (_("Refine by the live slice"), REFINE)):
            self.ui.methodSelector.addItem(text, method)
        self.ui.methodSelector.connect("currentIndexChanged(int)", self.onMethodChosen)
        self.ui.registerButton.connect("clicked(bool)", self.onRegister)
        self.ui.registerCancelButton.connect("clicked(bool)", lambda *_args: self.run.cancel())
        self.ui.touchButton.connect("clicked(bool)", self.onTouch)
        self.run = Run(owner, self.ui.registerProgressBar, self.ui.registerProgressLabel)
        self._updating = False
        self._rows = None
        self.problem = self.gave = ""

    def update(self, parameters, state):
        ui, method = self.ui, parameters.method
        self._updating = True
        ui.methodSelector.setCurrentIndex(max(ui.methodSelector.findData(method), 0))
        self._updating = False
        points = method == LANDMARKS
        for widget in (ui.fixedPointsSelector, ui.fixedPointsSelectorLabel, ui.movingPointsSelector,
                       ui.movingPointsSelectorLabel, ui.excludeLineEdit, ui.excludeLineEditLabel, ui.holdOutLineEdit,
                       ui.holdOutLineEditLabel, ui.touchWidget):
            widget.setVisible(points)
        for widget in (ui.transformSelector, ui.transformSelectorLabel):
            widget.setVisible(method == GIVEN)
        view = registerView(parameters, self.owner.logic.session)
        ui.registerButton.setEnabled(view.ready and not self.owner.busy)
        ui.registerCancelButton.setEnabled(self.run.running)
        ui.touchButton.setEnabled(bool(parameters.tool) and parameters.movingPoints is not None)
        self.showResiduals(self.owner.logic.session.registration)
        self.owner.say(ui.registerNeedsLabel, self.problem or view.needs)
        self.owner.say(ui.registerGaveLabel, self.gave)

    def showResiduals(self, registration):
        from IRAILib.scene.fusion_registration import residual_rows

        rows = residual_rows(registration)
        self.owner.reveal(self.ui.residualTable, bool(rows))
        if rows != self._rows:
            self._rows = rows
            verdicts = ["bad" if "go with" in row[3] else "" for row in rows]
            fillTable(self.ui.residualTable, [_("Landmark"), _("Residual"), _("Left out"), _("Is")], rows, verdicts,
                      stretch=3)

    def onMethodChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.method = self.ui.methodSelector.itemData(index)

    def onRegister(self):
        self.problem = self.gave = ""
        with self.run, self.owner.attempt(_("Registration failed."), part=self):
            self.gave = self.owner.logic.register(self.owner.parameters, self.run.progress, self.run.cancelled)
        self.owner.refresh()

    def onTouch(self):
        self.problem = ""
        with self.owner.attempt(_("The tip can't be taken."), part=self):
            self.owner.logic.touch(self.owner.parameters)
        self.owner.refresh()
