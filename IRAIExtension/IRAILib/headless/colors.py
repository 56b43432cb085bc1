"""Colours that desktop reads from files which the slicer-core wheel doesn't hold."""

from __future__ import annotations

COLOR_FILES = ("GenericAnatomyColors", "GenericColors")
"""Slicer's tables for new segments and for label maps. Without the first every new segment gets a random colour."""

PALETTE = (
    (0.50, 0.68, 0.50), (0.95, 0.84, 0.57), (0.69, 0.48, 0.40), (0.44, 0.72, 0.82), (0.85, 0.40, 0.31),
    (0.87, 0.51, 0.40), (0.56, 0.93, 0.56), (0.75, 0.41, 0.35), (0.86, 0.96, 0.08), (0.30, 0.25, 0.83),
    (0.98, 0.98, 0.88), (0.78, 0.62, 0.90), (0.96, 0.60, 0.20), (0.20, 0.70, 0.65), (0.90, 0.55, 0.70),
    (0.35, 0.55, 0.90), (0.65, 0.80, 0.30), (0.60, 0.30, 0.50), (0.80, 0.75, 0.65), (0.25, 0.60, 0.35),
)
LABELS = 256
"""Length of the tables: the palette repeats, so that every label of a byte image has a colour."""


def add_default_tables(scene) -> None:
    """Add the tables that segments and label maps take their colours from, where no share folder brought Slicer's own.

    They have Slicer's node IDs and are not saved with the scene: desktop then uses its own.
    """
    import slicer

    for file_name in COLOR_FILES:
        if scene.GetNodeByID(f"vtkMRMLColorTableNodeFile{file_name}.txt") is not None:
            continue
        node = slicer.vtkMRMLColorTableNode()
        node.SetName(file_name)
        node.SetTypeToUser()
        node.SetNumberOfColors(LABELS)
        node.SetColor(0, "background", 0.0, 0.0, 0.0, 0.0)
        for label in range(1, LABELS):
            node.SetColor(label, f"label {label}", *PALETTE[(label - 1) % len(PALETTE)], 1.0)
        node.GetLookupTable().SetTableRange(0, LABELS - 1)
        node.SetSaveWithScene(False)
        node.SetSingletonTag(f"File{file_name}.txt")
        scene.AddNode(node)
