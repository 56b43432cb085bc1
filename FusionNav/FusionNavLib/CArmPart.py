"""Step 6: the volume under the C-arm."""


class CArmPart:
    def __init__(self, owner):
        self.owner, self.ui = owner, owner.ui
        self.problem = self.gave = ""
        self.ui.xrayProgressBar.hide()

    def update(self, parameters, state):
        self.owner.say(self.ui.carmNeedsLabel, self.problem)
        self.owner.say(self.ui.carmGaveLabel, self.gave)
