"""Step 4: the needle against its plan."""

from IRAIExtensionLib.Tables import fillTable
from slicer.i18n import tr as _

from .Presenters import planRows, planView


class PlanPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self._rows = None

    def update(self, parameters, state):
        view = planView(parameters, state)
        self.owner.say(self.ui.planNeedsLabel, view.needs)
        rows = planRows(state)
        if rows != self._rows:
            self._rows = rows
            fillTable(self.ui.planTable, [_("Quantity"), _("Value")], rows)
        self.ui.planTable.setVisible(bool(rows))
