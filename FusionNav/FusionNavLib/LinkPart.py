"""Step 2, first half: where pictures and poses come from."""

from slicer.i18n import tr as _

from .Parameters import CONNECT, REPLAY, SESSION
from .Presenters import linkView


class LinkPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        for text, source in ((_("OpenIGTLink server"), CONNECT), (_("Recorded file"), REPLAY),
                             (_("Session of this scene"), SESSION)):
            self.ui.sourceSelector.addItem(text, source)
        self.ui.sourceSelector.connect("currentIndexChanged(int)", self.onSourceChosen)
        self.ui.connectButton.connect("clicked(bool)", self.onConnect)
        self.ui.disconnectButton.connect("clicked(bool)", self.onDisconnect)
        self._updating = False
        self.problem = ""

    def update(self, parameters, state):
        source = parameters.source
        self._updating = True
        self.ui.sourceSelector.setCurrentIndex(max(self.ui.sourceSelector.findData(source), 0))
        self._updating = False
        ui = self.ui
        for widget, shown in ((ui.hostLineEdit, source == CONNECT), (ui.hostLineEditLabel, source == CONNECT),
                              (ui.portSpinBox, source == CONNECT), (ui.portSpinBoxLabel, source == CONNECT),
                              (ui.recordingPathEdit, source == REPLAY), (ui.recordingPathEditLabel, source == REPLAY),
                              (ui.browserSelector, source == SESSION), (ui.browserSelectorLabel, source == SESSION),
                              (ui.speedSlider, source != CONNECT), (ui.speedSliderLabel, source != CONNECT),
                              (ui.loopCheckBox, source != CONNECT), (ui.loopCheckBoxLabel, source != CONNECT)):
            widget.setVisible(shown)
        view = linkView(parameters, state, self.owner.logic.session)
        ui.connectButton.setEnabled(view.ready and not self.owner.busy)
        ui.connectButton.setText(_("Connect") if source == CONNECT else _("Play"))
        ui.disconnectButton.setEnabled(bool(view.live))
        self.owner.say(ui.linkNeedsLabel, self.problem or view.needs)
        self.owner.say(ui.linkGaveLabel, view.gave)

    def onSourceChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.source = self.ui.sourceSelector.itemData(index)

    def onConnect(self):
        self.problem = ""
        with self.owner.attempt(_("The connection could not be made."), part=self, waitCursor=True):
            self.owner.logic.connect(self.owner.parameters)
        self.owner.refresh()

    def onDisconnect(self):
        with self.owner.attempt(_("The connection could not be ended."), part=self):
            self.owner.logic.disconnect()
        self.owner.refresh()
