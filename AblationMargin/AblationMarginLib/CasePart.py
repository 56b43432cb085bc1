"""Step 1: which scans."""

import slicer
from slicer.i18n import tr as _

from .Presenters import caseView


class CasePart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.ui.loadDicomButton.connect("clicked(bool)", self.onLoadDicom)
        self.ui.loadFilesButton.connect("clicked(bool)", self.onLoadFiles)
        self.ui.sampleButton.connect("clicked(bool)", self.onSample)
        self._shown = None

    def update(self, parameters):
        view = caseView(parameters)
        self.owner.say(self.ui.caseNeedsLabel, view.needs)
        self.owner.say(self.ui.caseGaveLabel, view.gave)
        for button in (self.ui.loadDicomButton, self.ui.loadFilesButton, self.ui.sampleButton):
            button.setEnabled(not self.owner.busy)
        return view

    def showScans(self, parameters):
        """Show both scans, once for each pair that is chosen."""
        pair = (parameters.preVolume, parameters.postVolume)
        if pair != self._shown and any(pair):
            from IRAILib.scene.ablation_views import show_case

            show_case(*pair)
        self._shown = pair

    def onLoadDicom(self):
        slicer.util.selectModule("DICOM")

    def onLoadFiles(self):
        slicer.util.openAddDataDialog()

    def onSample(self):
        with self.owner.attempt(_("The sample case could not be made.")):
            self.owner.logic.loadSample(self.owner.parameters)
            self.showScans(self.owner.parameters)
        self.owner.refresh()
