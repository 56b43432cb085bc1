"""Step 2: what kind of picture, and how large its pixels are."""

from slicer.i18n import tr as _

from .Parameters import CT, CT_LIVE, DETECTORS, FLUOROSCOPY, LIVE, MR, MR_LIVE, ULTRASOUND
from .Presenters import scaleView


class PicturePart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        for text, modality in ((_("Ultrasound, live"), ULTRASOUND), (_("MR slices, live"), MR_LIVE),
                               (_("CT slices, live"), CT_LIVE), (_("Fluoroscopy, live"), FLUOROSCOPY),
                               (_("CT volume"), CT), (_("MR volume"), MR)):
            self.ui.modalitySelector.addItem(text, modality)
        names = {"auto": _("Best that is installed"), "network": _("Network"), "classical": _("Classical (lines)")}
        for detector in DETECTORS:
            self.ui.detectorSelector.addItem(names[detector], detector)
        self.ui.modalitySelector.connect("currentIndexChanged(int)", self.onModalityChosen)
        self.ui.detectorSelector.connect("currentIndexChanged(int)", self.onDetectorChosen)
        self.ui.deviceSelector.connect("currentIndexChanged(int)", self.onDeviceChosen)
        self._updating = False
        self._devices = None

    def update(self, parameters, state):
        live, ultrasound = parameters.modality in LIVE, parameters.modality == ULTRASOUND
        scaled = parameters.modality in (ULTRASOUND, FLUOROSCOPY)  # MR and CT senders know their millimetres
        self._updating = True
        try:
            self.ui.modalitySelector.setCurrentIndex(max(self.ui.modalitySelector.findData(parameters.modality), 0))
            self.ui.detectorSelector.setCurrentIndex(max(self.ui.detectorSelector.findData(parameters.detector), 0))
            self.fillDevices(parameters)
        finally:
            self._updating = False
        for widget, shown in ((self.ui.deviceSelector, live), (self.ui.deviceSelectorLabel, live),
                              (self.ui.detectorSelector, ultrasound), (self.ui.detectorSelectorLabel, ultrasound),
                              (self.ui.scaleSpinBox, scaled), (self.ui.scaleSpinBoxLabel, scaled),
                              (self.ui.volumeSelector, not live), (self.ui.volumeSelectorLabel, not live)):
            widget.setVisible(shown)
        view = scaleView(parameters, state, self.owner.logic)
        self.owner.say(self.ui.scaleNeedsLabel, view.needs)
        self.owner.say(self.ui.scaleGaveLabel, view.gave)

    def fillDevices(self, parameters):
        """List the picture streams that come now; the first entry leaves the choice to the session."""
        devices = self.owner.logic.openSession().image_devices()
        if devices != self._devices:
            self._devices = list(devices)
            self.ui.deviceSelector.clear()
            self.ui.deviceSelector.addItem(_("The first that comes"), "")
            for device in devices:
                self.ui.deviceSelector.addItem(device, device)
        self.ui.deviceSelector.setCurrentIndex(max(self.ui.deviceSelector.findData(parameters.device), 0))

    def onModalityChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.logic.stopTracking()
            self.owner.parameters.modality = self.ui.modalitySelector.itemData(index)

    def onDetectorChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.detector = self.ui.detectorSelector.itemData(index)

    def onDeviceChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.device = self.ui.deviceSelector.itemData(index) or ""
