"""Records what a link brings into a Sequences browser: pictures and poses together, by time.

Slicer's own recording is driven by the display and leaves frames out when the machine is busy; here every frame of
the leading node is an item, with all other nodes as they were at that moment, their status included.
"""

from __future__ import annotations

from typing import Any

from ..geometry import InputError

MAX_ITEMS = 20000
INDEX_NAME, INDEX_UNIT = "time", "s"
FOLDER = "Recordings"


class SequenceRecorder:
    """Records nodes of a scene by time.

    Args:
        nodes: to record; the first volume among them leads (an item for each of its frames), else the first node.
        scene: None is slicer.mrmlScene.
        name: of the browser node.
        max_items: recording stops by itself there and says so in `full`.
    Raises InputError without nodes.
    """

    def __init__(self, nodes: list[Any], scene=None, *, name: str = "Recording", max_items: int = MAX_ITEMS) -> None:
        import slicer

        if not nodes:
            raise InputError("nothing to record: no node comes over the link yet; connect or start the replay first")
        self.scene = scene if scene is not None else slicer.mrmlScene
        self.max_items, self.count, self.full = max_items, 0, False
        lead = next((node for node in nodes if node.IsA("vtkMRMLVolumeNode")), nodes[0])
        self.lead_id = lead.GetID()
        self.browser = self.scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", self.scene.GenerateUniqueName(name))
        self.browser.SetIndexDisplayMode(slicer.vtkMRMLSequenceBrowserNode.IndexDisplayAsIndexValue)
        self._sequences: dict[str, Any] = {}
        self._first_s: float | None = None
        self._last = ""
        for node in [lead, *[node for node in nodes if node is not lead]]:
            self.add(node)

    def add(self, node) -> None:
        """Record one more node from now on."""
        if node.GetID() in self._sequences:
            return
        sequence = self.scene.AddNewNodeByClass("vtkMRMLSequenceNode",
                                                f"{self.browser.GetName()}: {node.GetName()}")
        sequence.SetIndexName(INDEX_NAME)
        sequence.SetIndexUnit(INDEX_UNIT)
        sequence.SetIndexTypeFromString("numeric")
        self._sequences[node.GetID()] = sequence
        if len(self._sequences) == 1:
            self.browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        else:
            self.browser.AddSynchronizedSequenceNode(sequence)

    def take(self, time_s: float, renewed: set[str] | None = None) -> bool:
        """Keep every node as it is now. Returns whether an item was made.

        Args:
            time_s: of the leading node's data, any zero; the first item is at 0.
            renewed: IDs of the nodes that changed (PumpResult.nodes): without the leading one nothing is kept.
        """
        if self.full or (renewed is not None and self.lead_id not in renewed):
            return False
        if self._first_s is None:
            self._first_s = time_s
        index = f"{time_s - self._first_s:.3f}"
        if index == self._last or (self._last and float(index) <= float(self._last)):
            return False
        for node_id, sequence in self._sequences.items():
            node = self.scene.GetNodeByID(node_id)
            if node is not None:
                sequence.SetDataNodeAtValue(node, index)
        self._last = index
        self.count += 1
        self.full = self.count >= self.max_items
        return True

    def finish(self) -> Any:
        """End the recording and show its first item. Returns the browser node; None (all removed) without an item."""
        import slicer

        if not self.count:
            for node in [*self._sequences.values(), self.browser]:
                self.scene.RemoveNode(node)
            return None
        self.browser.SetSelectedItemNumber(0)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(self.browser)
        return self.browser

    @property
    def sequences(self) -> dict[str, Any]:
        """{node ID: vtkMRMLSequenceNode}."""
        return dict(self._sequences)


def sequence_times_s(browser) -> list[float]:
    """Times of a recording's items, seconds from its first."""
    master = browser.GetMasterSequenceNode()
    return [float(master.GetNthIndexValue(n)) for n in range(master.GetNumberOfDataNodes())] if master else []


def show_item(browser, number: int) -> None:
    """Show one item of a recording in its proxy nodes."""
    import slicer

    browser.SetSelectedItemNumber(int(number))
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
