"""Step 4: the margin, and where it is thinnest."""

import slicer
from IRAIExtensionLib.Tables import fillTable
from slicer.i18n import tr as _

from .Presenters import headline, marginView


class MarginPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.ui.marginButton.connect("clicked(bool)", self.onMeasure)
        self.ui.thinnestButton.connect("clicked(bool)", self.onThinnest)
        self.ui.plotButton.connect("clicked(bool)", self.onPlot)
        self.status = ""

    def update(self, parameters, zone):
        from IRAILib.scene.ablation_results import read_record, table_rows

        view = marginView(parameters, zone)
        document = read_record(parameters.margin)
        threshold = document.get("threshold_mm") or parameters.thresholdMm
        self.ui.marginButton.setEnabled(view.ready and not self.owner.busy)
        self.ui.marginButton.setToolTip(view.needs or _("Measure the margin over the whole tumour surface."))
        self.owner.say(self.ui.marginNeedsLabel, view.needs or self.status)
        self.owner.say(self.ui.marginHeadlineLabel, f"<b>{headline(document, threshold)}</b>" if document else "")
        self.owner.say(self.ui.marginGaveLabel, view.gave)
        self.showTrafficLight(document.get("surface_share"), threshold)
        rows = table_rows(document, threshold) if document else []
        self.ui.marginTable.setVisible(bool(rows))
        fillTable(self.ui.marginTable, [_("Quantity"), _("Value")],
                  [(name, f"{value} {unit}".strip()) for name, value, unit in rows])
        self.ui.showWidget.setVisible(bool(document))
        return view

    def showTrafficLight(self, share, threshold):
        """One bar in three colours: the share of the tumour surface under 0, up to the threshold, over it."""
        self.ui.trafficWidget.setVisible(bool(share))
        if not share:
            return
        labels = (self.ui.redLabel, self.ui.yellowLabel, self.ui.greenLabel)
        texts = (_("under 0 mm"), _("0 to {t:g} mm").format(t=threshold), _("over {t:g} mm").format(t=threshold))
        keys = ("below_0", f"0_to_{threshold:g}", f"above_{threshold:g}")
        for position, (label, text, key) in enumerate(zip(labels, texts, keys, strict=True)):
            value = float(share.get(key) or 0.0)
            label.setVisible(value > 0.0005)
            label.setText(f"{100 * value:.0f} %" if value > 0.08 else "")
            label.setToolTip(_("{percent:.1f} % of the tumour surface: {text}").format(percent=100 * value, text=text))
            self.ui.trafficWidget.layout().setStretch(position, max(1, round(1000 * value)))

    def onMeasure(self):
        self.status = ""
        with self.owner.attempt(_("The margin could not be measured."), part=self, waitCursor=True):
            self.owner.logic.measureMargin(self.owner.parameters)
            self.owner.logic.showMargin(self.owner.parameters)
        self.owner.refresh()

    def onThinnest(self):
        from IRAILib.scene.ablation_views import jump_to_thinnest

        jump_to_thinnest(self.owner.parameters.margin)

    def onPlot(self):
        from IRAILib.scene.changes import part_of

        chart = part_of(self.owner.parameters.margin, "chart")
        if chart is not None:
            slicer.modules.plots.logic().ShowChartInLayout(chart)
