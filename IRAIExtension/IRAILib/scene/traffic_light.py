"""Red, yellow, green: the colours in which margins are read, as a discrete Slicer colour table with a legend."""

from __future__ import annotations

from typing import Any

from ..geometry import InputError
from .changes import SceneChange

RED, YELLOW, GREEN = (0.84, 0.15, 0.16), (0.98, 0.80, 0.18), (0.20, 0.63, 0.29)
SCALAR = "Margin_mm"
PROBABILITY = "ProbabilityBelowThreshold"
LEGEND_SIZE = (0.16, 0.34)


def traffic_light_table(change: SceneChange, threshold_mm: float) -> Any:
    """A colour table node of three colours: under 0, 0 to the threshold, over it.

    Three equal bins over `traffic_light_range` break exactly at 0 and at the threshold.
    Raises InputError for a threshold that is not positive.
    """
    if not threshold_mm > 0.0:
        raise InputError(f"a margin threshold of {threshold_mm:g} mm has no colours; choose one above 0 mm")
    node = change.add("vtkMRMLColorTableNode", f"Margin colours, {threshold_mm:g} mm", "margin.colors")
    node.SetTypeToUser()
    node.SetNumberOfColors(3)
    names = ["under 0 mm", f"0 to {threshold_mm:g} mm", f"over {threshold_mm:g} mm"]
    for index, (name, color) in enumerate(zip(names, (RED, YELLOW, GREEN), strict=True)):
        node.SetColor(index, name, *color, 1.0)
    if hasattr(node, "SetAllColorsDefined"):
        node.SetAllColorsDefined()
    node.GetLookupTable().SetTableRange(*traffic_light_range(threshold_mm))
    node.SetHideFromEditors(False)
    return node


def traffic_light_range(threshold_mm: float) -> tuple[float, float]:
    """Scalar range in mm over which three equal bins break at 0 and at the threshold."""
    return -threshold_mm, 2.0 * threshold_mm


def colour_model(model, colors, threshold_mm: float) -> Any:
    """Show a margin model's point scalars in traffic-light colours, with a legend. Returns the legend's node."""
    import slicer
    import vtk

    display = model.GetDisplayNode()
    display.SetActiveScalar(SCALAR, vtk.vtkAssignAttribute.POINT_DATA)
    display.SetAndObserveColorNodeID(colors.GetID())
    display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseManualScalarRange)
    display.SetScalarRange(*traffic_light_range(threshold_mm))
    display.SetScalarVisibility(True)
    display.SetVisibility2D(True)
    display.SetSliceIntersectionThickness(2)
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(model)
    legend.SetTitleText("Margin")
    legend.SetUseColorNamesForLabels(True)
    legend.SetMaxNumberOfColors(3)
    legend.SetNumberOfLabels(3)
    legend.SetSize(*LEGEND_SIZE)
    legend.SetVisibility2D(False)
    return legend
