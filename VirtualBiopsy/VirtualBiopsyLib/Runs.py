"""A run that takes a while: its bar, its text, its cancel. The window stays alive meanwhile."""

import slicer


class Run:
    """Context manager round a run: `progress` and `cancelled` are handed to it."""

    def __init__(self, owner, bar, label):
        self.owner, self.bar, self.label = owner, bar, label
        self.running = self._cancelled = False
        self.bar.hide()
        owner.runs.append(self)

    def __enter__(self):
        self._cancelled, self.running = False, True
        self.bar.setValue(0)
        self.bar.show()
        self.owner.setBusy(True)
        return self

    def __exit__(self, *_error):
        self.running = False
        self.bar.hide()
        self.owner.say(self.label, "")
        self.owner.setBusy(False)

    def progress(self, share, text):
        self.bar.setValue(round(100 * share))
        self.owner.say(self.label, text)
        slicer.app.processEvents()

    def cancelled(self):
        """Asked by the job while it waits: keeps the window alive, and says whether to stop."""
        slicer.app.processEvents()
        return self._cancelled

    def cancel(self):
        self._cancelled = True
