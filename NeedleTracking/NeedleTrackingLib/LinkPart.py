"""Step 1: where the pictures come from."""

from slicer.i18n import tr as _

from .Parameters import CONNECT, REPLAY
from .Presenters import linkView


class LinkPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        for text, source in ((_("OpenIGTLink server"), CONNECT), (_("Recorded file"), REPLAY)):
            self.ui.sourceSelector.addItem(text, source)
        self.ui.sourceSelector.connect("currentIndexChanged(int)", self.onSourceChosen)
        self.ui.sampleButton.connect("clicked(bool)", self.onSample)
        self.ui.connectButton.connect("clicked(bool)", self.onConnect)
        self.ui.disconnectButton.connect("clicked(bool)", self.onDisconnect)
        self._updating = False
        self.problem = ""

    def update(self, parameters, state):
        replay = parameters.source == REPLAY
        self._updating = True
        self.ui.sourceSelector.setCurrentIndex(max(self.ui.sourceSelector.findData(parameters.source), 0))
        self._updating = False
        for widget, shown in ((self.ui.hostLineEdit, not replay), (self.ui.hostLineEditLabel, not replay),
                              (self.ui.portSpinBox, not replay), (self.ui.portSpinBoxLabel, not replay),
                              (self.ui.recordingPathEdit, replay), (self.ui.recordingPathEditLabel, replay),
                              (self.ui.speedSlider, replay), (self.ui.speedSliderLabel, replay),
                              (self.ui.loopCheckBox, replay), (self.ui.loopCheckBoxLabel, replay)):
            widget.setVisible(shown)
        view = linkView(parameters, state, self.owner.logic.session)
        self.ui.connectButton.setEnabled(view.ready)
        self.ui.connectButton.setText(_("Play") if replay else _("Connect"))
        self.ui.disconnectButton.setEnabled(bool(view.live))
        self.owner.say(self.ui.linkNeedsLabel, self.problem or view.needs)
        self.owner.say(self.ui.linkGaveLabel, view.gave)

    def onSourceChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.source = self.ui.sourceSelector.itemData(index)

    def onSample(self):
        self.problem = ""
        with self.owner.attempt(_("The sample could not be played."), part=self, waitCursor=True):
            self.owner.logic.trySample(self.owner.parameters)
        self.owner.refresh()

    def onConnect(self):
        self.problem = ""
        with self.owner.attempt(_("The connection could not be made."), part=self, waitCursor=True):
            self.owner.logic.connect(self.owner.parameters)
        self.owner.refresh()

    def onDisconnect(self):
        with self.owner.attempt(_("The connection could not be ended."), part=self):
            self.owner.logic.disconnect()
        self.owner.refresh()
