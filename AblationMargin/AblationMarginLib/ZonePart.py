"""Step 2: which segments, and how to make them from clicks."""

import slicer
from slicer.i18n import tr as _

from .Parameters import SEGMENTS, chooseSegment, segmentOf
from .Presenters import clicksView, zoneView


class ZonePart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.selectors = {name: getattr(self.ui, name + "Selector") for name in SEGMENTS}
        for name, selector in self.selectors.items():
            selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node, n=name: self.onSegmentChosen(n))
            selector.connect("currentSegmentChanged(QString)", lambda segment, n=name: self.onSegmentChosen(n))
        for text, target in ((_("Tumour, in the scan before"), "tumor"), (_("Zone, in the scan after"), "ablation")):
            self.ui.clicksTargetSelector.addItem(text, target)
        self.ui.clicksTargetSelector.connect("currentIndexChanged(int)", self.onTargetChosen)
        for selector, place in ((self.ui.insideSelector, self.ui.insidePlaceWidget),
                                (self.ui.outsideSelector, self.ui.outsidePlaceWidget)):
            place.setButtonsVisible(False)
            place.placeButton().show()
            selector.connect("currentNodeChanged(vtkMRMLNode*)", place.setCurrentNode)
        self.ui.segmentButton.connect("clicked(bool)", self.onSegment)
        self.ui.editorButton.connect("clicked(bool)", self.onEditor)
        self._updating = False
        self._volumes = {}

    def update(self, parameters):
        self._updating = True
        try:
            for name, selector in self.selectors.items():
                ref = segmentOf(parameters, name)
                node = ref.node if ref else parameters.getValue(name + "Segmentation")
                selector.setCurrentNode(node)
                selector.setCurrentSegmentID(ref.segment_id if ref else "")
            index = self.ui.clicksTargetSelector.findData(parameters.clicksTarget)
            self.ui.clicksTargetSelector.setCurrentIndex(max(index, 0))
        finally:
            self._updating = False
        clicks = clicksView(parameters)
        self.ui.segmentButton.setEnabled(clicks.ready and not self.owner.busy)
        self.owner.say(self.ui.clicksNeedsLabel, clicks.needs)
        view = zoneView(parameters, self.volumes(parameters))
        self.owner.say(self.ui.zoneNeedsLabel, view.needs)
        self.owner.say(self.ui.zoneGaveLabel, view.gave)
        return view

    def volumes(self, parameters):
        """ml of tumour and zone; measured again only when the segmentation changed."""
        out = {}
        for name in ("tumor", "ablation"):
            ref = segmentOf(parameters, name)
            if ref is None:
                continue
            key = (ref.node.GetID(), ref.segment_id, ref.node.GetSegmentation().GetMTime())
            if self._volumes.get(name, (None, None))[0] != key:
                self._volumes[name] = (key, self.owner.logic.segmentVolumeMl(ref))
            out[name] = self._volumes[name][1]
        return out

    def onSegmentChosen(self, name):
        parameters = self.owner.parameters
        if self._updating or parameters is None:
            return
        from IRAILib.scene.nodes import SegmentRef

        selector = self.selectors[name]
        node, segmentID = selector.currentNode(), selector.currentSegmentID()
        chooseSegment(parameters, name, SegmentRef(node, segmentID) if node else None)
        self.owner.refresh()

    def onTargetChosen(self, index):
        if not self._updating and self.owner.parameters is not None:
            self.owner.parameters.clicksTarget = self.ui.clicksTargetSelector.itemData(index)

    def onSegment(self):
        with self.owner.attempt(_("Segmentation from clicks failed."), waitCursor=True):
            self.owner.logic.segmentFromClicks(self.owner.parameters)
        self.owner.refresh()

    def onEditor(self):
        """Open the Segment Editor on the segmentation and the scan of the chosen target."""
        parameters = self.owner.parameters
        name = parameters.clicksTarget
        node = parameters.getValue(name + "Segmentation")
        volume = parameters.preVolume if name == "tumor" else parameters.postVolume
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.SegmentEditorWidget.editor
        if node is not None:
            editor.setSegmentationNode(node)
        if volume is not None:
            editor.setSourceVolumeNode(volume)
