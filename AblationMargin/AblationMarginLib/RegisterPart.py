"""Step 3: bring the scan before onto the one after; look at it; accept it or redo it."""

import slicer
from IRAIExtensionLib.Tables import fillTable
from slicer.i18n import tr as _

from .Parameters import DEFORMABLE, ENGINES, RIGID, SAME_FRAME
from .Presenters import registerView


class RegisterPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        for text, model in ((_("None: the scans share a frame"), SAME_FRAME), (_("Rigid"), RIGID),
                            (_("Deformable, inside the organ"), DEFORMABLE)):
            self.ui.modelSelector.addItem(text, model)
        names = {"auto": _("Best that is installed"), "convex": _("ConvexAdam (PyTorch)"),
                 "bspline": _("B-spline (SimpleITK)"), "greedy": _("Greedy (picsl-greedy)"),
                 "elastix": _("Elastix (itk-elastix)")}
        for engine in ENGINES:
            self.ui.engineSelector.addItem(names[engine], engine)
        self.ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        self.ui.engineSelector.connect("currentIndexChanged(int)", self.onEngineChosen)
        for selector, place in ((self.ui.landmarksPreSelector, self.ui.landmarksPrePlaceWidget),
                                (self.ui.landmarksPostSelector, self.ui.landmarksPostPlaceWidget)):
            place.setButtonsVisible(False)
            place.placeButton().show()
            selector.connect("currentNodeChanged(vtkMRMLNode*)", place.setCurrentNode)
        self.ui.registerButton.connect("clicked(bool)", self.onRegister)
        self.ui.cancelButton.connect("clicked(bool)", self.cancel)
        self.ui.sideBySideButton.connect("clicked(bool)", lambda *_args: self.show("show_side_by_side"))
        self.ui.checkerboardButton.connect("clicked(bool)", lambda *_args: self.show("show_checkerboard"))
        self.ui.fadeSlider.connect("valueChanged(double)", self.onFade)
        self.ui.acceptButton.connect("clicked(bool)", self.onAccept)
        self.ui.redoButton.connect("clicked(bool)", self.onRedo)
        self._updating = self._cancelled = False
        self.status = ""
        self.ui.progressBar.hide()

    def update(self, parameters, case, zone):
        from IRAILib.scene.ablation import is_accepted
        from IRAILib.scene.ablation_quality import quality_rows
        from IRAILib.scene.ablation_results import read_record

        self._updating = True
        self.ui.modelSelector.setCurrentIndex(max(self.ui.modelSelector.findData(parameters.model), 0))
        self.ui.engineSelector.setCurrentIndex(max(self.ui.engineSelector.findData(parameters.engine), 0))
        self._updating = False
        view = registerView(parameters, case, zone)
        busy, moving = self.owner.busy, parameters.model != SAME_FRAME
        document = read_record(parameters.registration) if moving else {}
        self.ui.engineSelector.setEnabled(parameters.model == DEFORMABLE and not busy)
        self.ui.modelSelector.setEnabled(not busy)
        self.ui.registerButton.setEnabled(view.ready and not busy)
        self.ui.registerButton.setToolTip(view.needs or _("Register the scan before to the one after."))
        self.ui.cancelButton.setEnabled(busy)
        done = bool(document) and not busy
        for widget in (self.ui.qualityTable, self.ui.checkWidget, self.ui.fadeSlider, self.ui.fadeSliderLabel,
                       self.ui.acceptWidget):
            widget.setVisible(bool(document))
        self.ui.acceptButton.setEnabled(done and not document.get("refused")
                                        and not is_accepted(parameters.registration))
        self.ui.redoButton.setEnabled(done)
        rows = quality_rows(document)
        fillTable(self.ui.qualityTable, [_("Quantity"), _("Value")], [row[:2] for row in rows],
                  [row[2] for row in rows], stretch=1)
        self.owner.say(self.ui.registerNeedsLabel, view.needs)
        self.owner.say(self.ui.registerGaveLabel, view.gave)
        self.owner.say(self.ui.progressLabel, self.status)
        return view

    def onModelChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.model = self.ui.modelSelector.itemData(index)

    def onEngineChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.engine = self.ui.engineSelector.itemData(index)

    def onRegister(self):
        self._cancelled = False
        self.ui.progressBar.setValue(0)
        self.ui.progressBar.show()
        self.owner.setBusy(True)
        self.status = ""
        try:
            with self.owner.attempt(_("Registration failed."), part=self):
                self.owner.logic.register(self.owner.parameters, progress=self.onProgress, cancelled=self.wasCancelled)
                self.status = ""
        finally:
            self.ui.progressBar.hide()
            self.owner.setBusy(False)
        if self.owner.parameters is not None and self.owner.parameters.registration is not None and not self.status:
            self.show("show_side_by_side")

    def onProgress(self, share, text):
        self.ui.progressBar.setValue(round(100 * share))
        self.status = text
        self.owner.say(self.ui.progressLabel, text)
        slicer.app.processEvents()

    def wasCancelled(self):
        """Asked by the job while it waits: keeps the window alive, and says whether to stop."""
        slicer.app.processEvents()
        return self._cancelled

    def cancel(self, *_args):
        self._cancelled = True

    def show(self, what):
        from IRAILib.scene import ablation_views

        with self.owner.attempt(_("The registration can't be shown."), waitCursor=True):
            getattr(ablation_views, what)(self.owner.parameters.registration)

    def onFade(self, value):
        if self.owner.parameters is None or self.owner.parameters.registration is None or self._updating:
            return
        from IRAILib.scene.ablation_views import show_fade

        with self.owner.attempt(_("The registration can't be shown.")):
            show_fade(self.owner.parameters.registration, value / 100.0)

    def onAccept(self):
        with self.owner.attempt(_("The registration can't be accepted."), part=self):
            self.owner.logic.accept(self.owner.parameters)
        self.owner.refresh()

    def onRedo(self):
        with self.owner.attempt(_("The registration can't be discarded.")):
            self.owner.logic.discardRegistration(self.owner.parameters)
        self.owner.refresh()
