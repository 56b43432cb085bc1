"""Colours that desktop reads from files which the slicer-core wheel doesn't hold."""

from __future__ import annotations

SEGMENT_COLORS_ID = "vtkMRMLColorTableNodeFileGenericAnatomyColors.txt"
"""Where Slicer looks for the colours of new segments; without that node every new segment gets a random colour."""

SEGMENT_COLORS = (
    (0.50, 0.68, 0.50), (0.95, 0.84, 0.57), (0.69, 0.48, 0.40), (0.44, 0.72, 0.82), (0.85, 0.40, 0.31),
    (0.87, 0.51, 0.40), (0.56, 0.93, 0.56), (0.75, 0.41, 0.35), (0.86, 0.96, 0.08), (0.30, 0.25, 0.83),
    (0.98, 0.98, 0.88), (0.78, 0.62, 0.90), (0.96, 0.60, 0.20), (0.20, 0.70, 0.65), (0.90, 0.55, 0.70),
    (0.35, 0.55, 0.90), (0.65, 0.80, 0.30), (0.60, 0.30, 0.50), (0.80, 0.75, 0.65), (0.25, 0.60, 0.35),
)


def add_segment_colors(scene) -> None:
    """Add the table that new segments take their colours from, where no share folder brought Slicer's own."""
    import slicer

    if scene.GetNodeByID(SEGMENT_COLORS_ID) is not None:
        return
    node = slicer.vtkMRMLColorTableNode()
    node.SetName("GenericAnatomyColors")
    node.SetTypeToUser()
    node.SetNumberOfColors(len(SEGMENT_COLORS) + 1)
    node.SetColor(0, "background", 0.0, 0.0, 0.0, 0.0)
    for index, color in enumerate(SEGMENT_COLORS, start=1):
        node.SetColor(index, f"color {index}", *color, 1.0)
    node.SetSaveWithScene(False)
    node.SetSingletonTag("FileGenericAnatomyColors.txt")
    scene.AddNode(node)
